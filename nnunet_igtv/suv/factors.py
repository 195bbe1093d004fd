"""The rule: which units and which decay correction give which factor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text, words_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.suv.activity import dose_bq
from nnunet_igtv.suv.body import check_given, per_body_weight, weight_of
from nnunet_igtv.suv.headers import PHILIPS, number, private_number, refuse, same_text
from nnunet_igtv.suv.injection import injected
from nnunet_igtv.suv.nuclides import MOST_HALF_LIVES, check_uptake, nuclide_of
from nnunet_igtv.suv.reference import corrected_to_nothing, start_of_scan
from nnunet_igtv.suv.sources import CONTRADICT

PHILIPS_SUV, PHILIPS_ACTIVITY = "Philips SUV factor (7053,1000)", "Philips activity (7053,1009)"
PHILIPS_FACTORS = {PHILIPS_SUV: 0x00, PHILIPS_ACTIVITY: 0x09}  # name -> element, in the order of use
OTHER_SUVS = ("IBW", "LBM", "LBMJAMES128", "LBMJANMA")  # those in g/ml
# what belongs to the injection or the patient, and must be the same on all slices
OF_THE_SERIES = ("PatientWeight", "PatientSize", "PatientSex")
OF_THE_INJECTION = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)


@dataclass(frozen=True)
class SUVResult:
    """What turns rescaled PET values into SUVbw.

    `factors` (slices) multiply the rescaled values of each slice; `rule` names how they were found;
    `warnings` say what in the headers was corrected, is unusual or contradicts itself. No part of it
    identifies the patient.
    """

    factors: np.ndarray
    rule: str
    warnings: tuple[str, ...] = ()

    @property
    def factor(self) -> float:
        """The factor of the series; the median where the slices differ."""
        return float(np.median(self.factors))


def suv_factors(headers: Sequence[Dataset], weight_kg: float | None = None) -> SUVResult:
    """The SUVbw factors of a PET series from its headers, one per slice.

    Args:
        headers: the headers of all slices of one series.
        weight_kg: body weight for headers that have none.

    Raises IGTVError, naming the attribute, where the headers do not determine the factor, and for a weight
    that no patient has.
    """
    check_given(weight_kg)
    warnings: list[str] = []
    units = same_text(headers, "Units").upper()
    if not units:
        raise refuse("units are missing (0054,1001)")
    decay = same_text(headers, "DecayCorrection").upper()
    for name in OF_THE_SERIES:
        same_text(headers, name)
    _check_corrections(headers[0], decay)
    _check_rescale(headers)
    if units in ("GML", "CM2ML"):
        factor, rule = _from_suv(headers[0], units, weight_kg, warnings)
        return SUVResult(np.full(len(headers), factor), rule, tuple(warnings))
    scale, name = _activity_scale(headers, units)
    if name.endswith(PHILIPS_SUV):
        return SUVResult(scale, name, _compared(scale, headers, decay, weight_kg))
    factors, source = _from_activity(headers, decay, weight_kg, warnings)
    return SUVResult(scale * factors, f"{name}, {source}", tuple(warnings))


def _check_corrections(header: Dataset, decay: str) -> None:
    corrections = words_of(header, "CorrectedImage")
    if not corrections:
        raise refuse("Corrected Image (0028,0051) is missing: attenuation correction is unknown")
    if "ATTN" not in corrections:
        raise refuse("the PET is not attenuation corrected (no ATTN in (0028,0051))")
    if "DECY" not in corrections and decay != "NONE":
        raise refuse(f"decay correction is {decay or 'missing'} but (0028,0051) does not list DECY")


def _check_rescale(headers: Sequence[Dataset]) -> None:
    """A PET is a positive multiple of what is stored; whether it is stored at all is for who reads pixels."""
    for header in headers:
        if number(header, "RescaleIntercept") != 0:
            raise refuse("the rescale intercept (0028,1052) of a PET slice is not 0")
        if number(header, "RescaleSlope") < 0:
            raise refuse("the rescale slope (0028,1053) of a PET slice is negative")


def _from_suv(header: Dataset, units: str, given: float | None, warnings: list[str]) -> tuple[float, str]:
    """Values that are SUVs: of body weight, unless SUV Type (0054,1006) says otherwise."""
    kind = text(header, "SUVType").upper()
    if units == "GML" and kind in ("", "BW"):
        return 1.0, "units GML (SUVbw)"
    if (units == "GML" and kind not in OTHER_SUVS) or (units == "CM2ML" and kind not in ("", "BSA")):
        raise refuse(f"units {units} with SUV type {kind} (0054,1006), which cannot be turned into SUVbw")
    weight = weight_of(header, given, warnings)
    rule = f"units GML ({kind})" if units == "GML" else "units CM2ML (SUVbsa)"
    return per_body_weight(header, kind or "BSA", weight, warnings), rule


def _activity_scale(headers: Sequence[Dataset], units: str) -> tuple[np.ndarray, str]:
    """What makes Bq/ml of the rescaled values of each slice (or SUVs, of Philips' counts), and its name."""
    if units == "BQML":
        return np.ones(len(headers)), "units BQML"
    if units != "CNTS":
        raise refuse(f"units {units} (0054,1001): only BQML, CNTS with a Philips factor, GML and CM2ML")
    for name, element in PHILIPS_FACTORS.items():
        scale = np.array([private_number(h, PHILIPS, element) for h in headers])
        if (scale > 0).all():
            return scale, f"units CNTS, {name}"
    raise refuse("units are counts (CNTS) and neither Philips factor (7053,1000) or (7053,1009) is given")


def _compared(
    scale: np.ndarray, headers: Sequence[Dataset], decay: str, given: float | None
) -> tuple[str, ...]:
    """A warning where Philips' factors of SUV and of activity give different SUVs, if both can be used."""
    activity = np.array([private_number(h, PHILIPS, PHILIPS_FACTORS[PHILIPS_ACTIVITY]) for h in headers])
    try:
        factors = activity * _from_activity(headers, decay, given, [])[0]
    except IGTVError:
        return ()
    if not (factors > 0).all() or np.abs(scale / factors - 1).max() <= CONTRADICT:
        return ()
    share = float(np.median(scale / factors))
    return (
        f"{PHILIPS_SUV}, which is used, gives {share:.3g} times the SUV of {PHILIPS_ACTIVITY} with dose, "
        "weight and times",
    )


def _from_activity(
    headers: Sequence[Dataset], decay: str, given: float | None, warnings: list[str]
) -> tuple[np.ndarray, str]:
    """Weight over the activity that was left at the reference time, per slice, in g/Bq."""
    first, information = headers[0], _radiopharmaceutical(headers)
    weight = weight_of(first, given, warnings)
    nuclide, half_life = nuclide_of(information, warnings)
    dose = dose_bq(information, nuclide, weight, warnings)
    if decay == "ADMIN":
        return np.full(len(headers), weight * 1000 / dose), "decay corrected to injection (ADMIN)"
    if decay not in ("START", "NONE"):
        raise refuse(f"decay correction {decay or 'missing'} (0054,1102): only START, ADMIN and NONE")
    constant = float(np.log(2)) / half_life
    reference_of = start_of_scan if decay == "START" else corrected_to_nothing
    try:
        reference = reference_of(headers, constant, warnings)
        start = injected(first, information, reference.began, nuclide, constant, warnings)
    except OverflowError as error:  # such as a Frame Reference Time of 1e30
        raise refuse("a date, time or duration that no scan can have") from error
    check_uptake(nuclide, half_life, (reference.began - start).total_seconds(), warnings)
    elapsed = np.array([(t - start).total_seconds() for t in reference.times])
    if elapsed.min() < 0 or elapsed.max() > MOST_HALF_LIVES * half_life:
        raise refuse(
            f"the decay was corrected to {elapsed.min() / 60:.0f} min after the injection, by the "
            f"{reference.source}"
        )
    return weight * 1000 / (dose * np.exp(-constant * elapsed)), reference.source


def _radiopharmaceutical(headers: Sequence[Dataset]) -> Dataset:
    """The one item of the radiopharmaceutical sequence; the same injection on all slices."""
    found = []
    for header in headers:
        items = attribute(header, "RadiopharmaceuticalInformationSequence")
        if not items:
            raise refuse("no Radiopharmaceutical Information Sequence (0054,0016)")
        if len(items) > 1:
            raise refuse("more than one radiopharmaceutical (0054,0016)")
        found.append(items[0])
    for name in OF_THE_INJECTION:
        same_text(found, name)
    return found[0]
