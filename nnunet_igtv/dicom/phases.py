"""Which moment of the breath images show, as their headers say it: the one place where that is read.

Scanners and archives say it in different ways. They are tried in this order:

    Nominal Percentage of Respiratory Phase (0020,9245)     a percentage
    Series Description, Image Comments                       "Gated, 40.0%B", "phase 40", "T40", "20 % In"
    Nominal Percentage of Cardiac Phase (0020,9241)          a percentage, where a scanner has no other field
    Temporal Position Identifier (0020,0100), Index (0020,9128)
    Trigger Time (0018,1060)                                 ms
    Acquisition Number (0020,0012)

The last three number images for other reasons too. They count only where they divide the images into volumes
at the same places, which `dicom.series` and `studies.phases` check. Whether moments that were told are those
of a breath is asked in `studies.breath_evidence`; words that tell it are in `breath_words`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text
from nnunet_igtv.dicom.breath_words import tells_breath, tells_contrast, tells_heart, without_other_numbers

PERCENT, NUMBER, MILLISECONDS = "%", "number", "ms"
ALWAYS, BY_NUMBERS, BY_OTHERS = "always", "by numbers", "by others"

_DIRECTION = r"(?:in(?:sp?|h|spir\w*|hal\w*)?|ex(?:p|h|pir\w*|hal\w*|sp|spir\w*)?|espir\w*)"
# what a number is of, if this follows it: seconds, thickness, energy, volume of a contrast medium
_UNIT = r"(?![\s_-]*(?:(?:s|se[ckg]\w*|min\w*|mm|cm|ml|kvp?|kev|mas?|hu)(?![a-z\d])|['\"\u2032\u2033]))"
_PHASE = re.compile(
    rf"(?:(?<![a-z])(?P<before>{_DIRECTION})[\s_-]*)?(?P<percent>\d{{1,3}}(?:\.\d+)?)\s*%"
    rf"(?:\s*(?P<after>{_DIRECTION})(?![a-z]))?"
    r"|(?<![a-z])phase[\s_-]*(?:(?P<number>\d{1,2})\s*(?:of|/)\s*\d{1,2}(?![\d.])"
    rf"|(?P<phase>\d{{1,3}}(?:\.\d+)?)(?!\d|\.\d|\s*%){_UNIT}(?P<kernel>[\s_-]*[a-z]{{1,2}}\d\d[a-z]?\b)?)"
    rf"|(?<![a-z\d])T\s*=?\s*(?P<tenth>\d0)(?!\d|\.\d|\s*%){_UNIT}"
    rf"|(?<![\d.])(?P<bare>\d{{1,3}})(?:(?P<bare_after>in|ex)|\s+(?P<apart>in|ex)(?!\s+[a-z]{{3}}))(?![a-z])",
    re.IGNORECASE,
)
THICKEST = 10  # mm of a slice: what is less may be a thickness


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
    """One way in which headers tell the moment.

    Attributes:
        name: the attribute.
        read: the moments that headers tell.
        is_percent: images are told apart by it wherever all of them have it.
        believed: `ALWAYS`: it is made for the breath; `BY_NUMBERS`: if its numbers are those of a breath, or
            anything else speaks of breathing; `BY_OTHERS`: in that case only.
    """

    name: str
    read: Callable[[Sequence[Dataset]], Moments]
    is_percent: bool = True
    believed: str = BY_NUMBERS


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
    if tells_heart(words):
        return []
    moments = []
    has_contrast, breathes = tells_contrast(words), tells_breath(words)
    for match in _PHASE.finditer(without_other_numbers(words)):
        groups = match.groupdict()
        if (groups["number"] or groups["phase"]) and has_contrast:
            continue
        if groups["number"]:  # "phase 3 of 10"
            moments.append(Moment("", float(groups["number"]), NUMBER))
            continue
        if groups["phase"] and _is_thickness(groups["phase"], bool(groups["kernel"]) and not breathes):
            continue
        number = next(groups[name] for name in ("percent", "phase", "tenth", "bare") if groups[name])
        ways = (groups[name] for name in ("before", "after", "bare_after", "apart"))
        if float(number) <= 100:
            moments.append(Moment(_direction(next(filter(None, ways), "")), float(number)))
    return moments


def _is_thickness(number: str, before_a_kernel: bool) -> bool:
    """Whether the number in "ven. Phase 1.5 Br40" is the thickness of the slices: 0.0 and 12.5 are none."""
    return ("." in number or before_a_kernel) and 0 < float(number) < THICKEST


def _direction(word: str) -> str:
    return "" if not word else "In" if word[0] in "iI" else "Ex"


TELLERS = (
    Teller(
        "Nominal Percentage of Respiratory Phase",
        _number("NominalPercentageOfRespiratoryPhase", PERCENT),
        believed=ALWAYS,
    ),
    Teller("Series Description", _words("SeriesDescription")),
    Teller("Image Comments", _words("ImageComments")),
    Teller(
        "Nominal Percentage of Cardiac Phase",
        _number("NominalPercentageOfCardiacPhase", PERCENT),
        believed=BY_OTHERS,
    ),
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
