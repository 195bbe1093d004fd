"""Patients' names and ids taken out of errors and provenance before they reach records, messages or logs."""

from nnunet_igtv.dicom.identity import redact
from nnunet_igtv.errors import IGTVError


def redacted(error: IGTVError, secrets: frozenset[str]) -> IGTVError:
    """An error that names no patient."""
    file = None if error.file is None else redact(str(error.file), secrets)
    return error.but(what=redact(error.what, secrets), file=file, table=redact(error.table, secrets))


def without_secrets(provenance: dict[str, object], secrets: frozenset[str]) -> dict[str, object]:
    """Provenance with names and ids taken out of all its texts (structures may be named after patients)."""
    return {key: _clean(value, secrets) for key, value in provenance.items()}


def _clean(value: object, secrets: frozenset[str]) -> object:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list | tuple):
        return [_clean(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: _clean(item, secrets) for key, item in value.items()}
    return value
