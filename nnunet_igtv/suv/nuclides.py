"""The nuclides of PET: half-life, and what is usual for each; which one a header means.

Names and codes are those of DICOM CID 4020 (PS3.16). Half-lives are those of the literature; files differ
from them by their rounding (110 min for 109.77 min).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text
from nnunet_igtv.suv.headers import number, refuse

ROUNDING = 0.025  # share by which a stated half-life may differ
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MOST_HALF_LIVES = 10  # after these there is nothing left to see: 0.1 %
LONG_LIVED_S = 6 * HOUR  # from here on, scans on a later day than the injection are usual


@dataclass(frozen=True)
class Nuclide:
    """What is known of a nuclide.

    Attributes:
        mass, symbol, element: "18", "F", "Fluorine".
        half_life_s: half-life, s.
        uptake_min: usual time from injection to scan, minutes.
        mbq_per_kg: usual activity that is injected, MBq per kg of body weight.
        codes: SNOMED CT, SNOMED RT and DCM codes.
    """

    mass: str
    symbol: str
    element: str
    half_life_s: float
    uptake_min: tuple[float, float]
    mbq_per_kg: tuple[float, float]
    codes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.symbol}-{self.mass}"

    @property
    def long_lived(self) -> bool:
        return self.half_life_s > LONG_LIVED_S

    def has_half_life(self, seconds: float) -> bool:
        return abs(seconds / self.half_life_s - 1) <= ROUNDING

    def usual_uptake(self, seconds: float) -> bool:
        return self.uptake_min[0] * MINUTE <= seconds <= self.uptake_min[1] * MINUTE

    def is_named_in(self, words: str) -> bool:
        """Whether some words name this nuclide, as "18F-FDG", "F-18", "^18^Fluorine", "FDG F^18^" do."""
        kind = rf"(?:{self.symbol}|{self.element})"
        pattern = rf"(?<![0-9a-z])(?:{self.mass}[^0-9a-z]*{kind}|{kind}[^0-9a-z]*{self.mass}(?![0-9]))"
        return re.search(pattern, words, re.IGNORECASE) is not None


_DAY_MIN = 1440.0
NUCLIDES = tuple(
    Nuclide(*row)
    for row in (
        # mass, symbol, element, half-life s, usual uptake min, usual activity MBq/kg, codes
        ("18", "F", "Fluorine", 109.77 * MINUTE, (20, 240), (1, 20), ("77004003", "C-111A1")),
        ("68", "Ga", "Gallium", 67.71 * MINUTE, (20, 240), (0.5, 10), ("35337001", "C-131A3")),
        ("11", "C", "Carbon", 20.36 * MINUTE, (0, 90), (1, 20), ("40565003", "C-105A1")),
        ("13", "N", "Nitrogen", 9.965 * MINUTE, (0, 45), (2, 30), ("21576001", "C-107A1")),
        ("15", "O", "Oxygen", 122.2, (0, 15), (4, 60), ("129504001", "C-B1038")),
        ("82", "Rb", "Rubidium", 75.5, (0, 15), (4, 60), ("79197006", "C-159A2")),
        ("38", "K", "Potassium", 7.64 * MINUTE, (0, 40), (2, 30), ("423764008", "C-135A4")),
        ("62", "Cu", "Copper", 9.67 * MINUTE, (0, 45), (2, 30), ("422934004", "C-127A5")),
        ("60", "Cu", "Copper", 23.7 * MINUTE, (0, 120), (1, 20), ("425364008", "C-127A4")),
        ("61", "Cu", "Copper", 3.34 * HOUR, (20, 480), (0.5, 10), ("71425003", "C-127A1")),
        ("64", "Cu", "Copper", 12.7 * HOUR, (20, 3 * _DAY_MIN), (0.5, 15), ("3932008", "C-127A2")),
        ("66", "Ga", "Gallium", 9.49 * HOUR, (20, 2 * _DAY_MIN), (0.5, 10), ("79477007", "C-131A1")),
        ("43", "Sc", "Scandium", 3.89 * HOUR, (20, 720), (0.5, 10), ("126605",)),
        ("44", "Sc", "Scandium", 4.0 * HOUR, (20, 720), (0.5, 10), ("126600",)),
        ("45", "Ti", "Titanium", 3.08 * HOUR, (20, 720), (0.5, 10), ("75696008", "C-166A2")),
        ("75", "Br", "Bromine", 96.7 * MINUTE, (20, 240), (0.5, 10), ("17910003", "C-113A1")),
        ("76", "Br", "Bromine", 16.2 * HOUR, (20, 3 * _DAY_MIN), (0.3, 6), ("79523006", "C-113A2")),
        ("86", "Y", "Yttrium", 14.74 * HOUR, (20, 3 * _DAY_MIN), (0.3, 6), ("10738001", "C-162A3")),
        ("152", "Tb", "Terbium", 17.5 * HOUR, (20, 3 * _DAY_MIN), (0.3, 6), ("126606",)),
        ("90", "Y", "Yttrium", 64.1 * HOUR, (0, 10 * _DAY_MIN), (5, 100), ("14691008", "C-162A7")),
        ("89", "Zr", "Zirconium", 78.4 * HOUR, (20, 14 * _DAY_MIN), (0.2, 5), ("63360001", "C-168A4")),
        ("124", "I", "Iodine", 4.176 * DAY, (20, 14 * _DAY_MIN), (0.25, 6), ("40937006", "C-114A5")),
        ("52", "Mn", "Manganese", 5.59 * DAY, (20, 14 * _DAY_MIN), (0.2, 5), ("37225000", "C-149A1")),
    )
)
FDG = re.compile(r"\bfdg\b|fluorodeoxyglucose", re.IGNORECASE)


def nuclide_of(information: Dataset, warnings: list[str]) -> tuple[Nuclide, float]:
    """The nuclide and its half-life in s, from an item of the radiopharmaceutical sequence.

    Half-lives in minutes, hours or days are recognised by the nuclide that they belong to. Raises IGTVError
    for a half-life that is missing, that no PET nuclide has, or that is not that of the nuclide named.
    """
    stated = number(information, "RadionuclideHalfLife")
    if stated == 0:
        raise refuse("radionuclide half-life (0018,1075) is missing or 0")
    named = _named(information)
    candidates = NUCLIDES if named is None else (named,)
    found = _of_half_life(stated, candidates)
    if found:
        return found, stated
    other_units = [
        (nuclide, stated * factor, unit)
        for unit, factor in (("minutes", MINUTE), ("hours", HOUR), ("days", DAY))
        if (nuclide := _of_half_life(stated * factor, candidates))
    ]
    if len(other_units) == 1:
        found, seconds, unit = other_units[0]
        warnings.append(f"radionuclide half-life {stated:g} taken as {unit}, as of {found.name}")
        return found, seconds
    if named:
        raise refuse(
            f"a half-life of {stated:g} s (0018,1075) is not that of the nuclide named, {named.name} "
            f"({named.half_life_s:.5g} s)"
        )
    raise refuse(f"a half-life of {stated:g} s is not that of a PET nuclide (a SPECT stored as PET?)")


def check_uptake(nuclide: Nuclide, half_life_s: float, seconds: float, warnings: list[str]) -> None:
    """Warn of an unusual time from injection to scan; raise IGTVError for one that is too long. `injected`
    gives none that is after the scan."""
    minutes = f"{seconds / MINUTE:.0f} min"
    if seconds > MOST_HALF_LIVES * half_life_s:
        raise refuse(
            f"the scan is {minutes} after the injection, over {MOST_HALF_LIVES} half-lives of {nuclide.name}"
        )
    if not nuclide.usual_uptake(seconds):
        low, high = nuclide.uptake_min
        warnings.append(f"uptake time of {minutes}; usual for {nuclide.name} are {low:g} to {high:g} min")


def _of_half_life(seconds: float, candidates: Sequence[Nuclide]) -> Nuclide | None:
    fitting = [n for n in candidates if n.has_half_life(seconds)]
    return min(fitting, key=lambda n: abs(seconds / n.half_life_s - 1), default=None)


def _named(information: Dataset) -> Nuclide | None:
    """The nuclide that the header names: by its code, else by its words; None if it names none or several."""
    for sequence in ("RadionuclideCodeSequence", "RadiopharmaceuticalCodeSequence"):
        for item in attribute(information, sequence) or ():
            by_code = [n for n in NUCLIDES if text(item, "CodeValue") in n.codes]
            by_words = [n for n in NUCLIDES if n.is_named_in(text(item, "CodeMeaning"))]
            found = by_code or by_words
            if len(found) == 1:
                return found[0]
    words = text(information, "Radiopharmaceutical")
    found = [n for n in NUCLIDES if n.is_named_in(words)]
    if not found and FDG.search(words):
        found = [NUCLIDES[0]]
    return found[0] if len(found) == 1 else None
