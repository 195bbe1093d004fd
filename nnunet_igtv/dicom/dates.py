"""Dates of headers, and the ways in which people write them into names."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from nnunet_igtv.dicom.attributes import attribute, text

_BIRTH = tag_for_keyword("PatientBirthDate")
# elements that hold a date, or a date and a time
_TAGS = frozenset(tag for tag, (vr, *_) in DicomDictionary.items() if vr in ("DA", "DT") and tag != _BIRTH)
_INJECTION = ("RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStopDateTime")
_MONTHS = (  # English and German, short or in full
    *("jan", "feb", "(?:mar|mär|maer|mrz)", "apr", "ma[iy]", "jun"),
    *("jul", "aug", "sep", "o[ck]t", "nov", "de[cz]"),
)
_BETWEEN = r"[\W_]"  # what may separate the parts of a date
_TIME = r"(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"  # may follow without a separator


class Date(NamedTuple):
    """A day; month and day may be 0 where they are not known."""

    year: int
    month: int
    day: int


def dates_in(value: str) -> frozenset[Date]:
    """The dates that a value of the kind DA or DT begins with; several values have a backslash between."""
    found = (re.match(r"\s*(\d{4})[.-]?(\d\d)[.-]?(\d\d)", one) for one in value.split("\\"))
    return frozenset(Date(*map(int, match.groups())) for match in found if match)


def dates_of(header: Dataset) -> frozenset[Date]:
    """Every date in a header but that of birth: of the study, series and acquisition, of structures and
    injection."""
    values = {_raw(header, tag) for tag in _TAGS.intersection(header.keys())}
    for item in attribute(header, "RadiopharmaceuticalInformationSequence") or []:
        values |= {text(item, keyword) for keyword in _INJECTION}
    return _dates(frozenset(values))


@lru_cache(maxsize=64)  # the files of a series have the same
def _dates(values: frozenset[str]) -> frozenset[Date]:
    return frozenset().union(*map(dates_in, values))


def _raw(header: Dataset, tag: int) -> str:
    """An element's value as text, without the cost of decoding it."""
    value = getattr(header.get_item(tag), "value", None)
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")


def may_hold(text: str, date: Date) -> bool:
    """Whether a text holds the digits of a date's year and day at all; quick."""
    return f"{date.year % 100:02d}" in text and str(date.day) in text


@lru_cache(maxsize=64)
def written(dates: frozenset[Date]) -> re.Pattern[str] | None:
    """An expression for the ways to write one of the dates; None where there are none.

    The year comes first or last, the month is a number or a name, and the year may lack its century:
    20260131, 2026-01-31, 31.01.2026, 1/31/26, 260131, 31 January 2026. Day and month may lack their zeros
    where there are separators. A time may follow.
    """
    numbers = count()
    spellings = [spelling for date in sorted(dates) for spelling in _spellings(date, numbers)]
    if not spellings:
        return None
    return re.compile(rf"(?<!\d)(?:{'|'.join(spellings)})(?:{_TIME})?(?!\d)", re.IGNORECASE)


def _spellings(date: Date, numbers: Iterator[int]) -> Iterator[str]:
    for year in (f"{date.year:04d}", f"{date.year % 100:02d}"):
        month, day = f"{date.month:02d}", f"{date.day:02d}"
        for padded in ((year, month, day), (day, month, year), (month, day, year)):
            yield f"{_BETWEEN}{{0,3}}".join(padded) if len(year) == 4 else "".join(padded)
        month, day = f"0?{date.month}", f"0?{date.day}"
        for first, second, third in ((year, month, day), (day, month, year), (month, day, year)):
            if len(year) == 4:
                yield f"{_BETWEEN}{{1,3}}".join((first, second, third))
                continue
            alike = f"between{next(numbers)}"  # 1.2.26, and not the 1.2 and the 26 of two numbers
            yield (  # not in 3.1.2.26, which is a version or a part of a UID
                rf"(?<!\d\.){first}(?P<{alike}>{_BETWEEN}{{1,3}}){second}(?P={alike}){third}(?!\.\d)"
            )
        if 1 <= date.month <= 12:
            name, nth = rf"{_MONTHS[date.month - 1]}[^\W\d_]*", f"{day}(?:st|nd|rd|th)?"
            for named in ((nth, name, year), (name, nth, year), (year, name, nth)):
                yield f"{_BETWEEN}{{0,3}}".join(named)
