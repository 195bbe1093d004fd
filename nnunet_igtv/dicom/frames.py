"""Multi-frame objects (enhanced, legacy-converted) seen as what they replace: one flat header per slice."""

from collections.abc import Iterator

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# units of the real world values (PS3.16 CID 84, 85) -> Units (0054,1001), SUV Type (0054,1006)
_UNITS = {
    "Bq/ml": ("BQML", ""),
    "{counts}": ("CNTS", ""),
    "{counts}/s": ("CPS", ""),
    "g/ml{SUVbw}": ("GML", "BW"),
    "g/ml{SUVlbm}": ("GML", "LBM"),
    "g/ml{SUVlbm(James128)}": ("GML", "LBMJAMES128"),
    "g/ml{SUVlbm(Janma)}": ("GML", "LBMJANMA"),
    "g/ml{SUVibw}": ("GML", "IBW"),
    "cm2/ml{SUVbsa}": ("CM2ML", "BSA"),
}


def flat_headers(header: Dataset) -> Iterator[tuple[int | None, Dataset]]:
    """(frame index, header) per slice of a file.

    Single-frame headers pass through with index None. A frame's header holds the attributes of the file, then
    those of its functional groups (DICOM PS3.3 C.7.6.16), per frame before shared, lifted to the top level;
    for PET also the classic attributes (Units, CorrectedImage, DecayCorrection, …) that the enhanced ones
    replace.
    """
    if not header.get("PerFrameFunctionalGroupsSequence"):
        yield None, header
        return
    common = Dataset()
    for element in header:
        if element.keyword not in _GROUPS:
            common.add(element)
    for shared in header.get("SharedFunctionalGroupsSequence") or []:
        _lift(shared, common)
    for index, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        flat = Dataset()
        flat.update(common)
        _lift(groups, flat)
        if header.get("Modality") == "PT":
            _classic_pet(flat, common)
        yield index, flat


def _lift(groups: Dataset, target: Dataset) -> None:
    """Write the attributes of every functional group's first item into `target`."""
    for group in groups:
        if group.VR == "SQ" and group.value:
            items = group.value
            if group.keyword == "RealWorldValueMappingSequence":  # one item per unit: take one that we know
                items = [i for i in items if _unit(i) in _UNITS] or items
            for element in items[0]:
                target.add(element)


def _unit(mapping: Dataset) -> str:
    codes = mapping.get("MeasurementUnitsCodeSequence")
    value = str(codes[0].get("CodeValue", "")) if codes else ""
    before, brace, after = value.partition("}")
    return after + before + brace if before.startswith("{SUV") else value  # both orders are written


def _classic_pet(flat: Dataset, common: Dataset) -> None:
    """Enhanced PET (PS3.3 A.56) in the words of the PET image module (C.8.9), where those are absent.

    Frame Acquisition DateTime (0018,9074; C.7.6.16.2.2) counts more than the acquisition time of the file,
    which is that of its first frame.
    """
    if "Units" not in flat and _unit(flat) in _UNITS and "RealWorldValueSlope" in flat:
        for name, value in zip(("Units", "SUVType"), _UNITS[_unit(flat)], strict=True):
            _put(flat, name, value)
        for name in ("Slope", "Intercept"):
            flat.pop(f"Rescale{name}", None)
            if f"RealWorldValue{name}" in flat:
                _put(flat, f"Rescale{name}", flat[f"RealWorldValue{name}"].value)
    if "Units" not in flat and str(flat.get("RescaleType", "")).upper() in ("BQML", "GML", "CNTS", "CM2ML"):
        _put(flat, "Units", str(flat.RescaleType).upper())
    if "CorrectedImage" not in flat:
        done = (("ATTN", "AttenuationCorrected"), ("DECY", "DecayCorrected"))
        _put(flat, "CorrectedImage", [short for short, name in done if flat.get(name) == "YES"])
    if "DecayCorrection" not in flat and flat.get("DecayCorrected") == "NO":
        _put(flat, "DecayCorrection", "NONE")
    elif "DecayCorrection" not in flat and flat.get("DecayCorrectionDateTime"):
        _put(flat, "DecayCorrection", "START")  # whichever moment it is, the attribute states it
    if flat.get("FrameAcquisitionDateTime") and flat.get("AcquisitionTime") == common.get("AcquisitionTime"):
        for name in ("AcquisitionDate", "AcquisitionTime"):
            flat.pop(name, None)
        _put(flat, "AcquisitionDateTime", flat.FrameAcquisitionDateTime)
    if "ActualFrameDuration" not in flat and "FrameAcquisitionDuration" in flat:
        _put(flat, "ActualFrameDuration", int(flat.FrameAcquisitionDuration))


def _put(flat: Dataset, name: str, value: object) -> None:
    """Write an attribute as a new element. Frames share the elements of the file: an assignment to one that
    is there would change it in all of them."""
    flat.add(DataElement(name, dictionary_VR(name), value))
