"""Multi-frame objects (enhanced, legacy-converted) seen as what they replace: one flat header per slice."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_UNITS = {"Bq/ml": ("BQML", ""), "g/ml{SUVbw}": ("GML", "BW"), "cm2/ml{SUVbsa}": ("CM2ML", "BSA")}
_UNITS |= {"{counts}": ("CNTS", ""), "{counts}/s": ("CPS", "")}
_UNITS |= {"g/ml{SUVlbm(James128)}": ("GML", "LBMJAMES128"), "g/ml{SUVlbm(Janma)}": ("GML", "LBMJANMA")}


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
            _classic_pet(flat)
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
    return str(codes[0].get("CodeValue", "")) if codes else ""


def _classic_pet(flat: Dataset) -> None:
    """Enhanced PET (PS3.3 A.56) in the words of the PET image module (C.8.9), where those are absent."""
    if "Units" not in flat and _unit(flat) in _UNITS:
        flat.Units, flat.SUVType = _UNITS[_unit(flat)]
        if "RealWorldValueSlope" in flat:
            for name in (
                "Slope",
                "Intercept",
            ):  # new elements: those of shared groups are shared by the frames
                flat.pop(f"Rescale{name}", None)
                setattr(flat, f"Rescale{name}", flat.get(f"RealWorldValue{name}", 0))
    if "Units" not in flat and str(flat.get("RescaleType", "")).upper() in ("BQML", "GML", "CNTS", "CM2ML"):
        flat.Units = str(flat.RescaleType).upper()
    if "CorrectedImage" not in flat:
        done = (("ATTN", "AttenuationCorrected"), ("DECY", "DecayCorrected"))
        flat.CorrectedImage = [short for short, name in done if flat.get(name) == "YES"]
    if "DecayCorrection" not in flat and "DecayCorrected" in flat:
        flat.DecayCorrection = "START" if flat.DecayCorrected == "YES" else "NONE"
    if "AcquisitionTime" not in flat and "FrameAcquisitionDateTime" in flat:
        flat.AcquisitionDateTime = flat.FrameAcquisitionDateTime
    if "ActualFrameDuration" not in flat and "FrameAcquisitionDuration" in flat:
        flat.ActualFrameDuration = int(flat.FrameAcquisitionDuration)
