"""How a person names a series or a study: `2`, `CT thorax`, `2024-03-05`, `phase:40`, `uid:…1234`.

A selector is KEY:VALUE. Without a key, a whole number is a series number, a date a date, a UID a UID, and
anything else a description.

    number:2            Series Number
    description:TEXT    the description is TEXT; else holds TEXT, or TEXT is a regular expression for all of
                        it (case does not count)
    date:2024-03-05     acquired on that day; a time may follow (2024-03-05 13); or `date:first`, `date:last`
    phase:40            breathing phase in per cent, or its number where phases are numbered
    uid:1.2.840…        the UID, or how it ends
    average, maximum    of the CT: that of the phases of a 4D-CT, computed where there is no such series

For a study, description, date and UID are the study's own; it has no number and no phase.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.series import AVERAGE, MAXIMUM, Series
from nnunet_igtv.dicom.traits import moment, projection, study_date, taken
from nnunet_igtv.errors import IGTVError

PROJECTIONS = (AVERAGE, MAXIMUM)
KEYS = {
    "study": ("description", "date", "uid"),
    "ct": ("number", "description", "date", "phase", "uid"),
    "pet": ("number", "description", "date", "phase", "uid"),
}


@dataclass(frozen=True)
class Selector:
    """What a person gave for one of the settings `study`, `ct` and `pet`."""

    setting: str
    key: str
    value: str

    @classmethod
    def parse(cls, given: str, setting: str) -> "Selector":
        """Raises IGTVError for a selector that cannot mean anything."""
        key, separator, value = given.partition(":")
        key, value = key.strip().lower(), value.strip()
        if not separator or key not in KEYS["ct"]:
            key, value = _meant(given.strip(), setting), given.strip()
        if key not in KEYS[setting]:
            raise _unusable(given, f"a study has no {key}", setting)
        if not value:
            raise _unusable(given, "it says nothing", setting)
        if key == "uid":
            value = value.lstrip("….")
            if not re.fullmatch(r"[\d.]+", value):
                raise _unusable(given, "a UID holds digits and dots", setting)
        if key == "number" and not re.fullmatch(r"\d+", value):
            raise _unusable(given, "a series number is a whole number", setting)
        if key == "phase" and not re.fullmatch(r"\d{1,3}(\.\d+)?\s*%?", value):
            raise _unusable(given, "a phase is a number of per cent", setting)
        if key == "date" and value.lower() not in ("first", "last"):
            digits = re.sub(r"[-.:\sT]", "", value)
            if not re.fullmatch(r"\d{8}(\d\d){0,3}", digits):
                raise _unusable(given, "a date is written 2024-03-05", setting)
            value = digits
        return cls(setting, key, value)

    @property
    def anonymous(self) -> str:
        """The selector as it may be kept: without a date or a UID, which may identify a patient."""
        named = self.key in ("date", "uid") and self.value.lower() not in ("first", "last")
        return f"{self.key}:{'…' if named else self.value}"

    @property
    def is_projection(self) -> bool:
        """Whether it means the average or the maximum of the phases of a 4D-CT."""
        return self.setting == "ct" and self.key == "description" and self.value.casefold() in PROJECTIONS

    def pick(self, series: Sequence[Series]) -> list[Series]:
        """The series that are meant (for a study: all of it), in their order."""
        if self.key == "description":
            return self._by_description(series)
        if self.key == "date" and self.value.lower() in ("first", "last"):
            dated = [s for s in series if self._date(s)]
            wanted = (min if self.value.lower() == "first" else max)(map(self._date, dated), default="")
            return [s for s in dated if self._date(s) == wanted]
        return [s for s in series if self._means(s)]

    def _means(self, series: Series) -> bool:
        if self.key == "number":
            return series.number == int(self.value)
        if self.key == "phase":
            found = moment(series)
            return found is not None and abs(found.value - float(self.value.rstrip("% "))) < 0.5
        if self.key == "date":
            return self._date(series).startswith(self.value)
        return (series.study_uid if self.setting == "study" else series.uid).endswith(self.value)

    def _date(self, series: Series) -> str:
        if self.setting == "study":
            return study_date(series)
        return taken(series)

    def _by_description(self, series: Sequence[Series]) -> list[Series]:
        name = "StudyDescription" if self.setting == "study" else "SeriesDescription"
        texts = [text(s.headers[0], name).casefold() for s in series]
        wanted = self.value.casefold()
        if self.is_projection and (made := [s for s in series if projection(s) == wanted]):
            return made
        exact = [s for s, described in zip(series, texts, strict=True) if described == wanted]
        try:
            pattern = re.compile(self.value, re.IGNORECASE)
        except re.error:  # text that is no expression, such as "WB (AC"
            pattern = re.compile(re.escape(self.value))
        return exact or [
            s
            for s, described in zip(series, texts, strict=True)
            if wanted in described or pattern.fullmatch(described)
        ]


def anonymous(given: str | None, setting: str) -> str | None:
    """What is recorded of a selector."""
    return None if given is None else Selector.parse(given, setting).anonymous


def _meant(given: str, setting: str) -> str:
    """The key of a selector without one."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T\s].*)?|\d{8}", given):
        return "date"
    if re.fullmatch(r"\d+", given) and setting != "study":
        return "number"
    return "uid" if re.fullmatch(r"[0-2](\.\d+){3,}", given) else "description"


def _unusable(given: str, why: str, setting: str) -> IGTVError:
    return IGTVError(
        f"{given!r} cannot choose a {'study' if setting == 'study' else 'series'}: {why}",
        remedy=f"write a text of the description, or KEY:VALUE with a KEY of {', '.join(KEYS[setting])}",
        settings=[setting],
    )
