"""Which moment of the breath images show, as their headers say it: the one place where that is read.

Scanners and archives say it in different ways. They are tried in this order:

    Nominal Percentage of Respiratory Phase (0020,9245)     a percentage
    Series Description, Image Comments                       "Gated, 40.0%B", "phase 40", "T40", "20 % In"
    Nominal Percentage of Cardiac Phase (0020,9241)          a percentage, where a scanner has no other field
    Temporal Position Identifier (0020,0100), Index (0020,9128)
    Trigger Time (0018,1060)                                 ms
    Acquisition Number (0020,0012)

The last three number images for other reasons too. They count only where they divide the images into volumes
at the same places, which `dicom.series` and `studies.phases` check.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text

PERCENT, NUMBER, MILLISECONDS = "%", "number", "ms"

_DIRECTION = r"(?:in(?:sp?|h|spir\w*|hal\w*)?|ex(?:p|h|pir\w*|hal\w*)?)"
_PHASE = re.compile(
    rf"(?:(?<![a-z])(?P<before>{_DIRECTION})[\s_-]*)?(?P<percent>\d{{1,3}}(?:\.\d+)?)\s*%"
    rf"(?:\s*(?P<after>{_DIRECTION})(?![a-z]))?"
    r"|(?<![a-z])phase[\s_-]*(?:(?P<number>\d{1,2})\s*(?:of|/)\s*\d{1,2}(?![\d.])|(?P<phase>\d{1,3}(?:\.\d+)?))"
    r"|(?<![a-z\d])T\s*=?\s*(?P<tenth>\d0)(?!\d)"
    rf"|(?<![\d.])(?P<bare>\d{{1,3}})\s*(?P<bare_after>in|ex)(?![a-z])",
    re.IGNORECASE,
)
# percentages that are no phases: strengths of iterative reconstruction, and ranges of phases
_OTHER = re.compile(
    r"(?:asi?r|idose|safire|admire|dlir|veo)[\w\s-]{0,6}?\d{1,3}\s*%|\d{1,3}\s*%?\s*(?:-|to)\s*\d{1,3}\s*%",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Moment:
    """A moment of the breath as it is told.

    Attributes:
        direction: "In" or "Ex" where percentages are amplitudes of inhaling and exhaling; else "".
        value: a percentage, a number in a sequence, or ms after the trigger.
        unit: which of these.
    """

    direction: str
    value: float
    unit: str = PERCENT

    def __str__(self) -> str:
        if self.unit == NUMBER:
            return f"number {self.value:g}"
        return f"{self.value:g} {self.unit}{f' {self.direction}' if self.direction else ''}"

    @property
    def key(self) -> tuple[bool, float]:
        """Inhaling upwards, then exhaling downwards."""
        is_exhale = self.direction == "Ex"
        return is_exhale, -self.value if is_exhale else self.value


Moments = list[Moment | None]  # of some headers; None where a header says nothing


@dataclass(frozen=True)
class Teller:
    """One way in which headers tell the moment. `is_percent`: it means the breath, and nothing else."""

    name: str
    read: Callable[[Sequence[Dataset]], Moments]
    is_percent: bool = True


def _number(name: str, unit: str, *others: str) -> Callable[[Sequence[Dataset]], Moments]:
    def read(headers: Sequence[Dataset]) -> Moments:
        return [next(filter(None, (_value(h, n, unit) for n in (name, *others))), None) for h in headers]

    return read


def _value(header: Dataset, name: str, unit: str) -> Moment | None:
    try:
        value = float(attribute(header, name))
    except (TypeError, ValueError):
        return None
    return Moment("", value, unit) if value >= 0 and (unit != PERCENT or value <= 100) else None


def _words(name: str) -> Callable[[Sequence[Dataset]], Moments]:
    return lambda headers: moments_in([text(header, name) for header in headers])


def moments_in(texts: Sequence[str]) -> Moments:
    """The moment in each of some descriptions. Of several numbers in each, those that differ most count."""
    unique = list(dict.fromkeys(texts))
    found = {words: _moments(words) for words in unique}
    columns = max(map(len, found.values()), default=0)
    told = [
        {words: moments[min(k, len(moments) - 1)] for words, moments in found.items() if moments}
        for k in range(columns)
    ]
    best = max(told, key=lambda column: len(set(column.values())), default={})
    return [best.get(words) for words in texts]


def _moments(words: str) -> list[Moment]:
    moments = []
    for match in _PHASE.finditer(_OTHER.sub(" ", words)):
        groups = match.groupdict()
        if groups["number"]:  # "phase 3 of 10"
            moments.append(Moment("", float(groups["number"]), NUMBER))
            continue
        number = next(groups[name] for name in ("percent", "phase", "tenth", "bare") if groups[name])
        way = next((groups[name] for name in ("before", "after", "bare_after") if groups[name]), "")
        if float(number) <= 100:
            moments.append(Moment(way[:2].capitalize(), float(number)))
    return moments


TELLERS = (
    Teller(
        "Nominal Percentage of Respiratory Phase", _number("NominalPercentageOfRespiratoryPhase", PERCENT)
    ),
    Teller("Series Description", _words("SeriesDescription")),
    Teller("Image Comments", _words("ImageComments")),
    Teller("Nominal Percentage of Cardiac Phase", _number("NominalPercentageOfCardiacPhase", PERCENT)),
    Teller(
        "Temporal Position",
        _number("TemporalPositionIdentifier", NUMBER, "TemporalPositionIndex"),
        is_percent=False,
    ),
    Teller("Trigger Time", _number("TriggerTime", MILLISECONDS), is_percent=False),
    Teller("Acquisition Number", _number("AcquisitionNumber", NUMBER), is_percent=False),
)


def percent(header: Dataset) -> Moment | None:
    """The phase in per cent that one header tells; None if it tells none."""
    for teller in TELLERS:
        if teller.is_percent and (moment := teller.read([header])[0]) is not None:
            return moment
    return None


def divided(headers: Sequence[Dataset], heights: Sequence[float]) -> tuple[Teller, list[Moment]] | None:
    """How the images of one series divide into the volumes of several moments.

    Args:
        headers: of its images.
        heights: the position of each along the normal, mm.

    Returns:
        What tells the moments, and the moment of each image; None if nothing tells them. A percentage is
        believed where every image has one; a number, where it gives each moment one image at every place.
    """
    for teller in TELLERS:
        told = [moment for moment in teller.read(headers) if moment is not None]
        moments = set(told)
        if len(told) < len(headers) or len(moments) < 2 or len(headers) < 2 * len(moments):
            continue
        if teller.is_percent or _is_clean(told, heights):
            return teller, told
    return None


def _is_clean(told: Sequence[Moment], heights: Sequence[float]) -> bool:
    places: dict[Moment, list[float]] = {}
    for moment, height in zip(told, heights, strict=True):
        places.setdefault(moment, []).append(round(height, 2))
    first = sorted(next(iter(places.values())))
    return len(set(first)) == len(first) > 1 and all(sorted(found) == first for found in places.values())
