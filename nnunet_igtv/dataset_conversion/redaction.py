"""Patients' names and ids taken out of text before it reaches records, messages or logs."""

import re

from nnunet_igtv.errors import IGTVError


def redact(text: str, secrets: frozenset[str]) -> str:
    """`text` without a patient's name or id, whole or in parts."""
    parts = {
        part for secret in secrets for part in [secret, *re.split(r"[\^=,\s]+", secret)] if len(part) > 2
    }
    for part in sorted(parts, key=len, reverse=True):
        text = re.sub(re.escape(part), "<patient>", text, flags=re.IGNORECASE)
    return text


def redacted(error: IGTVError, secrets: frozenset[str]) -> IGTVError:
    """An error that names no patient."""
    file = None if error.file is None else redact(str(error.file), secrets)
    return error.but(what=redact(error.what, secrets), file=file)


def without_secrets(provenance: dict[str, object], secrets: frozenset[str]) -> dict[str, object]:
    """Provenance with names and ids taken out of its free text (structures may be named after patients)."""
    clean = dict(provenance)
    for key in ("structure", "warnings"):
        texts = clean.get(key)
        if isinstance(texts, list):
            clean[key] = [redact(text, secrets) for text in texts]
    return clean
