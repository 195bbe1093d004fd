"""Patients' names and ids taken out of errors before they reach records, messages or logs."""

from nnunet_igtv.dicom.identity import Secret, redact
from nnunet_igtv.errors import IGTVError


def redacted(error: IGTVError, secrets: frozenset[Secret]) -> IGTVError:
    """An error that names no patient."""
    file = None if error.file is None else redact(str(error.file), secrets)
    remedy = None if error.remedy is None else redact(error.remedy, secrets)
    table = redact(error.table, secrets)
    return error.but(what=redact(error.what, secrets), file=file, remedy=remedy, table=table)
