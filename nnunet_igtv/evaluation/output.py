"""The three files of an evaluation: written together or not at all, never over another one unasked."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from nnunet_igtv.atomic import locked, made, written_whole
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.cases import Case

FILES = ("metrics.json", "metrics.csv", "report.html")


def digest_of(cases: list[Case]) -> str:
    """A SHA-256 over the names and the contents of all masks."""
    digest = sha256()
    for case in cases:
        for name, path in case.masks():
            content = sha256(path.read_bytes()).hexdigest()
            digest.update(json.dumps([case.name, name, content, case.ignore]).encode())
    return digest.hexdigest()


def refuse_another(output: Path, inputs: str) -> None:
    """Refuses a folder that holds an evaluation of other masks; the same one may be made again."""
    if not any((output / name).exists() for name in FILES):
        return
    try:
        found = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != inputs:
        raise IGTVError(
            "the output folder holds another evaluation",
            file=output,
            remedy="choose another folder, or overwrite what is there",
            settings=["output", "overwrite"],
        )


def write_all(output: Path, files: Mapping[str, str], inputs: str, overwrite: bool) -> None:
    """Write all files or none, and never leave a new one among those of an earlier evaluation.

    metrics.json is the last to go and the first to appear, so that an evaluation that was killed here is
    recognised as the same. Of two evaluations that end at the same time, the second waits.

    Raises IGTVError where the folder holds another evaluation by now, unless `overwrite` is given.
    """
    with made(output), locked(output), ExitStack() as renamed_on_exit:  # the last first
        if not overwrite:
            refuse_another(output, inputs)
        for name, text in reversed(list(files.items())):
            unfinished = renamed_on_exit.enter_context(written_whole(output / name))
            unfinished.write_text(text, encoding="utf-8", newline="")
        for name in reversed(list(files)):
            (output / name).unlink(missing_ok=True)
