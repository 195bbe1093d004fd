"""Patients' names and ids taken out of text before it reaches records, messages or logs."""

import re
from collections.abc import Iterator

from nnunet_igtv.errors import IGTVError

SHORTEST_NAME, SHORTEST_NUMBER = 3, 4  # letters and digits of a part that is a secret by itself
_BETWEEN = r"[\W_]*"  # "QP-77-4411", "qp774411" and "QP 77_4411" are one id


def redact(text: str, secrets: frozenset[str]) -> str:
    """`text` without a patient's name or id: whole, in parts, in any case and with any separators."""
    parts = sorted({part for secret in secrets for part in _parts(secret)}, key=len, reverse=True)
    for part in parts:
        spelled = _BETWEEN.join(map(re.escape, part))
        # a number is not looked for within a longer one
        pattern = rf"(?<!\d){spelled}(?!\d)" if part.isdigit() else spelled
        text = re.sub(pattern, "<patient>", text, flags=re.IGNORECASE)
    return text


def _parts(secret: str) -> Iterator[str]:
    """A secret as a whole, the words of a name, and the longer numbers in an id; separators left out.

    The words of an id are no secrets: ids are often made of what is being studied ("LUNG-GTV-0042").
    """
    words = [word for word in re.split(r"[\W_]+", secret) if word]
    yield from (whole for whole in ["".join(words)] if len(whole) >= SHORTEST_NAME)
    is_name = not any(character.isdigit() for character in secret)
    for word in words:
        if len(word) >= (SHORTEST_NUMBER if word.isdigit() else SHORTEST_NAME) and (
            is_name or word.isdigit()
        ):
            yield word


def redacted(error: IGTVError, secrets: frozenset[str]) -> IGTVError:
    """An error that names no patient."""
    file = None if error.file is None else redact(str(error.file), secrets)
    return error.but(what=redact(error.what, secrets), file=file)


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
