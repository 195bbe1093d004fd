"""Who a DICOM object is about, and how that is taken out of text that people will read."""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from unicodedata import normalize

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, values_of
from nnunet_igtv.dicom.attributes import text as text_of
from nnunet_igtv.dicom.dates import Date, dates_in, may_hold, written
from nnunet_igtv.dicom.spellings import Spelling, spellings, tight

Secret = str | Date

NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName")
IDS = (
    "PatientID",
    "OtherPatientIDs",
    "AccessionNumber",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
)
# what names are written in by programs that do not say so (Specific Character Set is absent or another's)
ENCODINGS = ("utf-8", "cp1252", "cp1250", "cp1251", "gb18030", "euc-kr", "shift-jis")
OTHER_IDS = "OtherPatientIDsSequence"  # its items have an id each


def secrets_of(header: Dataset) -> frozenset[Secret]:
    """The patient's names, ids and date of birth, where they are given.

    A name may be written in up to three scripts, with "=" between: each is a name of its own.
    """
    values = [value for keyword in NAMES for value in values_of(header, keyword)]
    known: set[Secret] = {name for value in values for text in _readings(value) for name in text.split("=")}
    for each in (header, *(attribute(header, OTHER_IDS) or ())):
        known |= {str(value) for keyword in IDS for value in values_of(each, keyword)}
    return frozenset(known - {""}) | dates_in(text_of(header, "PatientBirthDate"))


def _readings(value: object) -> set[str]:
    """A name as its file says that it is written, and as it may be written where bytes are beyond ASCII."""
    raw = getattr(value, "original_string", b"")
    found = {str(value)}
    for encoding in ENCODINGS if isinstance(raw, bytes) and not raw.isascii() else ():
        with suppress(UnicodeDecodeError):
            found.add(raw.decode(encoding))
    return found


def redact(text: str, secrets: frozenset[Secret]) -> str:
    """`text` without a patient's names and ids: whole, in parts, in any case, with any separators
    (`spellings`); and without dates, in the ways that people write them."""
    dates = frozenset(s for s in secrets if isinstance(s, Date) and may_hold(text, s))
    if dates and (when := written(dates)):
        text = when.sub("<date>", text)
    composed = normalize("NFC", text)  # file names may hold the letter u and its dots as two characters
    letters = tight(composed)
    found = frozenset(s for s in _all_spellings(secrets) if s.may_be_in(letters))
    return _pattern(found).sub("<patient>", composed) if found else text


@lru_cache(maxsize=64)
def _all_spellings(secrets: frozenset[Secret]) -> frozenset[Spelling]:
    return frozenset(s for secret in secrets if isinstance(secret, str) for s in spellings(secret))


@lru_cache(maxsize=64)
def _pattern(found: frozenset[Spelling]) -> re.Pattern[str]:
    """One expression for all spellings of all secrets, the longest first."""
    ordered = sorted(found, key=lambda s: (-sum(map(len, s.words)), s.needed, s.expression))
    return re.compile("|".join(s.expression for s in ordered), re.IGNORECASE)


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
