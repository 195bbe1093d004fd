"""Who a DICOM object is about, and how that is taken out of text that people will read."""

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text as text_of

SHORTEST_NAME, SHORTEST_NUMBER = 3, 4  # letters and digits of a part that is a secret by itself
_BETWEEN = r"[\W_]*"  # "QP-77-4411", "qp774411" and "QP 77_4411" are one id


def secrets_of(header: Dataset) -> frozenset[str]:
    """The patient's id and name, where they are given."""
    return frozenset({text_of(header, "PatientID"), text_of(header, "PatientName")} - {""})


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
