"""Who a DICOM object is about, and how that is taken out of text that people will read."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text as text_of
from nnunet_igtv.dicom.attributes import values_of
from nnunet_igtv.dicom.dates import Date, dates_in, may_hold, written

Secret = str | Date

NAMES_AND_IDS = ("PatientID", "PatientName", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName")
SHORTEST_NAME, SHORTEST_NUMBER = 3, 4  # letters and digits of a part that is a secret by itself
_BETWEEN = r"[\W_]*"  # "QP-77-4411", "qp774411" and "QP 77_4411" are one id


def secrets_of(header: Dataset) -> frozenset[Secret]:
    """The patient's names, ids and date of birth, where they are given."""
    known: set[Secret] = {str(value) for keyword in NAMES_AND_IDS for value in values_of(header, keyword)}
    return frozenset(known - {""}) | dates_in(text_of(header, "PatientBirthDate"))


def redact(text: str, secrets: frozenset[Secret]) -> str:
    """`text` without a patient's names and ids: whole, in parts, in any case, with any separators; and
    without dates, in the ways that people write them."""
    dates = frozenset(s for s in secrets if isinstance(s, Date) and may_hold(text, s))
    if dates and (when := written(dates)):
        text = when.sub("<date>", text)
    tight = _tight(text)
    parts = frozenset(part for part in _all_parts(secrets) if _tight(part) in tight)
    return _pattern(parts).sub("<patient>", text) if parts else text


@lru_cache(maxsize=64)
def _all_parts(secrets: frozenset[Secret]) -> frozenset[str]:
    return frozenset(part for secret in secrets if isinstance(secret, str) for part in _parts(secret))


def _tight(text: str) -> str:
    """Letters and digits alone, in one case."""
    return "".join(filter(str.isalnum, text.casefold()))


@lru_cache(maxsize=64)
def _pattern(parts: frozenset[str]) -> re.Pattern[str]:
    """One expression for all parts of all secrets, the longest first."""
    spellings = []
    for part in sorted(parts, key=lambda p: (-len(p), p)):
        spelled = _BETWEEN.join(map(re.escape, part))
        # a number is not looked for within a longer one
        spellings.append(rf"(?<!\d){spelled}(?!\d)" if part.isdigit() else spelled)
    return re.compile("|".join(spellings), re.IGNORECASE)


def without_secrets(found: Mapping[str, object], secrets: frozenset[Secret]) -> dict[str, object]:
    """Values with secrets taken out of all their texts (structures may be named after patients and days)."""
    return {key: _clean(value, secrets) for key, value in found.items()}


def _clean(value: object, secrets: frozenset[Secret]) -> object:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list | tuple):
        return [_clean(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: _clean(item, secrets) for key, item in value.items()}
    return value


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
