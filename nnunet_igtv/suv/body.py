"""Body weight, and the measures that other SUVs are related to: what makes SUVbw of them."""

from typing import SupportsFloat

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.suv.headers import number, refuse

KG, GRAMS, HEIGHT_M = (1.0, 500.0), 1000.0, (0.3, 2.6)


def check_given(weight: object) -> None:
    """Raises IGTVError for a body weight that a person gave (None: nobody did) and no patient has."""
    if weight is None or (isinstance(weight, SupportsFloat) and KG[0] <= float(weight) <= KG[1]):
        return
    raise refuse(
        f"a body weight of {weight!r} kg was given, which no patient has",
        f"give it in kg, from {KG[0]:g} to {KG[1]:g}",
        ["weight_kg"],
    )


def weight_of(header: Dataset, given: float | None, warnings: list[str]) -> float:
    """The body weight in kg: that of the header, or where it has none of a patient, the one given."""
    weight = number(header, "PatientWeight")
    if weight == 0:
        if given is None:
            raise refuse("patient weight (0010,1030) is missing or 0", "give it in kg", ["weight_kg"])
        return float(given)
    if weight > GRAMS:
        warnings.append("patient weight over 1000: taken as grams")
        weight /= 1000
    if given is None:
        return _checked(weight)
    if not KG[0] <= weight <= KG[1]:
        warnings.append("patient weight (0010,1030) is not that of a patient: the given weight used")
        return float(given)
    if abs(weight / given - 1) > 0.001:
        warnings.append(f"the header has a weight (0010,1030): the given weight of {given:g} kg not used")
    return weight


def _checked(weight: float) -> float:
    if not KG[0] <= weight <= KG[1]:
        raise refuse(
            "patient weight (0010,1030) is not that of a patient in kg", "give it in kg", ["weight_kg"]
        )
    return weight


def per_body_weight(header: Dataset, kind: str, weight: float, warnings: list[str]) -> float:
    """The factor from an SUV of another kind (SUV Type (0054,1006)) to SUVbw.

    IBW, LBM, LBMJAMES128, LBMJANMA relate to g of another mass, BSA to cm2 of the body's surface. Sex O is
    the mean of M and F, as in the SUV manual of the IBSI.
    """
    height = _height_cm(header, warnings)
    if kind == "BSA":
        return 1000 * weight / _surface_cm2(weight, height)
    sex = text(header, "PatientSex").upper()
    if sex not in ("M", "F", "O"):
        raise refuse(f"SUV type {kind} needs the patient's sex (0010,0040)")
    if sex == "O":
        warnings.append(f"patient's sex is O: SUV type {kind} converted with the mean of man and woman")
    if kind == "LBM" and sex != "F":
        warnings.append("SUV type LBM (0054,1006): taken as James with the factor 120, not 128")
    masses = [_mass_kg(kind, s, weight, height) for s in ("M", "F") if sex in (s, "O")]
    mass = sum(masses) / len(masses)
    if mass <= 0:
        raise refuse(f"SUV type {kind}: no such mass for this weight and height")
    return weight / mass


def _mass_kg(kind: str, sex: str, weight: float, height: float) -> float:
    man = sex == "M"
    if kind == "IBW":  # Sugawara et al. 1999
        return 48.0 + 1.06 * (height - 152) if man else 45.5 + 0.91 * (height - 152)
    if kind == "LBMJANMA":  # Janmahasatian et al. 2005
        index = weight / (height / 100) ** 2
        return 9270 * weight / (6680 + 216 * index if man else 8780 + 244 * index)
    # James 1976, with 128 for men; LBM is what many programs make of it, with 120 (Sugawara et al. 1999)
    factor = 148 if not man else 128 if kind == "LBMJAMES128" else 120
    return (1.10 if man else 1.07) * weight - factor * (weight / height) ** 2


def _surface_cm2(weight: float, height: float) -> float:
    return 71.84 * weight**0.425 * height**0.725  # Du Bois and Du Bois 1916


def _height_cm(header: Dataset, warnings: list[str]) -> float:
    height = number(header, "PatientSize")
    if HEIGHT_M[0] * 100 <= height <= HEIGHT_M[1] * 100:
        warnings.append("patient size over 30: taken as cm")
        height /= 100
    if not HEIGHT_M[0] <= height <= HEIGHT_M[1]:
        raise refuse("patient size (0010,1020) is missing or not a height in m")
    return height * 100
