"""Patients' names and ids taken out of errors before they reach records, messages or logs."""

from nnunet_igtv.dicom.identity import redact
from nnunet_igtv.errors import IGTVError


def redacted(error: IGTVError, secrets: frozenset[str]) -> IGTVError:
    """An error that names no patient."""
    file = None if error.file is None else redact(str(error.file), secrets)
    return error.but(what=redact(error.what, secrets), file=file, table=redact(error.table, secrets))
