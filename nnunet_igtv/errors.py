"""The one error that users of this package meet: what is wrong, where, and what to do about it."""

from functools import partial
from pathlib import Path


class IGTVError(Exception):
    """Bad input, named so that its owner can mend it.

    Args:
        what: what is wrong, in one sentence without the final full stop.
        case: the pseudonymous case or study concerned (never a patient's name or id).
        file: the file or folder concerned.
        remedy: what the user can do about it, in one sentence without the final full stop.
    """

    def __init__(
        self, what: str, *, case: str | None = None, file: str | Path | None = None, remedy: str | None = None
    ) -> None:
        self.what, self.case, self.file, self.remedy = what, case, file, remedy
        text = f"{case}: {what}" if case else what
        if file is not None:
            text += f" [{file}]"
        if remedy:
            text += f". Remedy: {remedy}"
        super().__init__(text)

    def __reduce__(self) -> tuple:
        """Errors cross process boundaries whole."""
        return partial(IGTVError, self.what, case=self.case, file=self.file, remedy=self.remedy), ()

    def in_case(self, case: str) -> "IGTVError":
        """The same error, naming the case it happened in."""
        return IGTVError(self.what, case=case, file=self.file, remedy=self.remedy)
