"""The injected activity in Bq, in whatever unit it was typed in.

DICOM asks for Bq (0018,1074). Other units differ from it by factors of 1000 and more, so that what is usual
for the nuclide and the body weight tells them apart; where it does not, the study is refused.
"""

from pydicom.dataset import Dataset

from nnunet_igtv.suv.headers import number, refuse
from nnunet_igtv.suv.nuclides import Nuclide

UNITS = {"kBq": 1e3, "MBq": 1e6, "GBq": 1e9, "uCi": 3.7e4, "mCi": 3.7e7, "Ci": 3.7e10}
COMMON = ("MBq", "mCi")  # they compete already where a value is only possible
IN_BQ = (0.1, 5.0)  # times the usual range: far from it Bq are believed, with a warning
POSSIBLE = (0.25, 1.5)  # times the usual range: what may be meant by a value in MBq or mCi


def dose_bq(information: Dataset, nuclide: Nuclide, weight_kg: float, warnings: list[str]) -> float:
    """The injected activity in Bq. Raises IGTVError if it is missing, implausible, or of doubtful unit."""
    stated = number(information, "RadionuclideTotalDose")
    if stated <= 0:
        raise refuse(f"injected activity (0018,1074) is {'missing or 0' if stated == 0 else 'negative'}")
    low, high = (1e6 * weight_kg * limit for limit in nuclide.mbq_per_kg)
    if IN_BQ[0] * low <= stated <= IN_BQ[1] * high:
        if not low <= stated <= high:
            warnings.append(
                f"injected activity of {stated / 1e6 / weight_kg:.2g} MBq per kg; usual for {nuclide.name} "
                f"are {nuclide.mbq_per_kg[0]:g} to {nuclide.mbq_per_kg[1]:g}"
            )
        return stated
    usual = [unit for unit, factor in UNITS.items() if low <= stated * factor <= high]
    possible = [u for u in COMMON if POSSIBLE[0] * low <= stated * UNITS[u] <= POSSIBLE[1] * high]
    units = list(dict.fromkeys(usual + possible))
    if len(units) > 1:
        readings = " or ".join(f"{u} ({stated * UNITS[u] / 1e6:.3g} MBq)" for u in units)
        raise refuse(f"injected activity {stated:g} (0018,1074) is not in Bq; it may be in {readings}")
    if not usual:
        raise refuse(
            f"injected activity {stated:g} (0018,1074) is not plausible in Bq or another unit for "
            f"{nuclide.name} and {weight_kg:g} kg"
        )
    (unit,) = usual
    warnings.append(f"injected activity {stated:g} taken as {unit} ({stated * UNITS[unit] / 1e6:.3g} MBq)")
    return stated * UNITS[unit]
