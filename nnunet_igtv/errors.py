"""The one error that users of this package meet: what is wrong, where, and what to do about it."""

import errno
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # too many open files, no memory


class IGTVError(Exception):
    """Bad input, described so that its owner can correct it.

    Args:
        what: what is wrong, in one sentence without the final full stop.
        case: the pseudonymous case or study concerned (never a patient's name or id).
        file: the file or folder concerned.
        remedy: what the user can do about it, in one sentence without the final full stop. It speaks of the
            thing ("name one structure"), not of a command's options.
        settings: the parameters that the remedy is about, by their names in Python ("structure"). The command
            line prints the options of these names.
        table: lines to print below the message, such as the series that could be meant.

    Examples:
        >>> from nnunet_igtv import IGTVError, read_ct
        >>> try:
        ...     read_ct("studies/IGTV-3-000/PET")
        ... except IGTVError as error:
        ...     print(error.what)
        no CT series
    """

    def __init__(
        self,
        what: str,
        *,
        case: str | None = None,
        file: str | Path | None = None,
        remedy: str | None = None,
        settings: Sequence[str] = (),
        table: str = "",
    ) -> None:
        self.what, self.case, self.file, self.remedy = what, case, file, remedy
        self.table = table
        self.settings = tuple(settings)
        rows = [" ".join(line.split()) for line in table.splitlines()]  # a traceback has one line
        super().__init__(" | ".join([self.sentence(), *rows]))

    def text(self, spelled: Callable[[str], str | None] = lambda name: f"`{name}`") -> str:
        """The message, with the table below it; see `sentence`."""
        return f"{self.sentence(spelled)}\n{self.table}" if self.table else self.sentence(spelled)

    def sentence(self, spelled: Callable[[str], str | None] = lambda name: f"`{name}`") -> str:
        """The message in one line.

        Args:
            spelled: how the caller's user writes a setting; None for one that the caller does not have.
        """
        text = f"{self.case}: {self.what}" if self.case else self.what
        if self.file is not None:
            text += f" [{self.file}]"
        names = [name for name in map(spelled, self.settings) if name]
        if self.remedy:
            text += f". Remedy: {self.remedy}"
            if names:
                text += f" ({', '.join(names)})"
        return text

    def but(self, **changes: object) -> "IGTVError":
        """The same error with other values of some arguments, such as the case in which it happened."""
        return IGTVError(**(vars(self) | changes))

    def __reduce__(self) -> tuple:
        """Errors cross process boundaries whole."""
        return partial(IGTVError, **vars(self)), ()


def blamed(error: Exception, damaged: IGTVError) -> IGTVError:
    """What a file that could not be read is blamed for: `damaged`, unless the system refused to read it.

    Raises `error` itself where it is this process that the system refuses: no file could be read then.
    """
    # a reader that the file's content sends to a place before its beginning gets EINVAL
    if not isinstance(error, OSError) or error.errno in (None, errno.EINVAL):
        return damaged
    if error.errno in OF_THE_PROCESS:
        raise error
    return damaged.but(
        what=f"cannot be read ({error.strerror})",
        remedy="check that it is there, and that you may read it",
    )
