"""Patients' names and ids taken out of errors before they reach records, messages or logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_igtv.dicom.files import find_files, read_header
from nnunet_igtv.dicom.identity import Secret, redact, secrets_of
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError


def redacted(error: IGTVError, secrets: frozenset[Secret]) -> IGTVError:
    """An error that names no patient."""
    file = None if error.file is None else redact(str(error.file), secrets)
    remedy = None if error.remedy is None else redact(error.remedy, secrets)
    table = redact(error.table, secrets)
    return error.but(what=redact(error.what, secrets), file=file, remedy=remedy, table=table)


@contextmanager
def naming_nobody(*places: str | Path | Series | None) -> Iterator[None]:
    """Whatever is refused meanwhile, the error names no patient of the files, folders and series given.

    Their headers are read again then: a refusal is rare, and may have come before the first header.
    """
    try:
        yield
    except IGTVError as error:
        known = frozenset[Secret]().union(*(_secrets_in(place) for place in places if place is not None))
        raise redacted(error, known) from None  # a traceback would show the other one


def _secrets_in(place: str | Path | Series) -> Iterator[Secret]:
    """Of the patients of all files there, as far as they can be read."""
    try:
        files, _ = find_files(place.folder if isinstance(place, Series) else place)
    except IGTVError:
        return
    for file in files:
        try:
            header = read_header(file)
        except IGTVError:
            continue
        if header is not None:
            yield from secrets_of(header)
