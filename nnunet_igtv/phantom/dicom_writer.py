"""A scan as the files of a study: CT series, PET series in Bq/ml, and the structure set drawn on the CT."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, PositronEmissionTomographyImageStorage

from nnunet_igtv import __version__
from nnunet_igtv.export.files import write_dicom
from nnunet_igtv.export.references import ReferencedImage
from nnunet_igtv.export.rtstruct import structure_set
from nnunet_igtv.export.uids import derived_uid
from nnunet_igtv.grids import Grid
from nnunet_igtv.phantom.scanner import Acquisition
from nnunet_igtv.phantom.shapes import Centres

HALF_LIFE = 6586.2  # s, fluorine-18
STUDY_START = datetime(2020, 1, 1, 10, 0, 0)
FRAME_DURATION = 180.0  # s
_CT_OFFSET = 1024  # stored = HU + 1024


@dataclass(frozen=True)
class Administration:
    """What the SUV is computed from."""

    weight: float  # kg
    dose: float  # Bq at injection
    uptake: timedelta  # from injection to scan

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Administration":
        weight = round(rng.uniform(48, 96), 1)
        return cls(
            weight,
            round(weight * rng.uniform(3.5, 4.5)) * 1e6,
            timedelta(seconds=int(rng.integers(3000, 4800))),
        )

    @property
    def bq_per_ml_per_suv(self) -> float:
        """Activity concentration at the start of the scan that corresponds to SUV 1 (1 ml weighs 1 g)."""
        return self.dose * 0.5 ** (self.uptake.total_seconds() / HALF_LIFE) / (self.weight * 1000)


def write_study(
    acquisition: Acquisition, administration: Administration, patient: str, key: str, folder: Path
) -> None:
    """Write folder/{CT,PET,RTSTRUCT}/*.dcm.

    Args:
        acquisition: the images and the structure.
        administration: dose, weight and uptake time to write.
        patient: patient ID, also part of the name.
        key: what all identifiers are derived from: the same key gives the same bytes.
        folder: exists.
    """
    ct_headers = []
    for number, image in enumerate(ct_images(acquisition, administration, patient, key), 1):
        write_dicom(image, folder / "CT" / f"CT_{number:04d}.dcm")
        del image.PixelData
        ct_headers.append(image)
    for number, image in enumerate(pet_images(acquisition, administration, patient, key), 1):
        write_dicom(image, folder / "PET" / f"PET_{number:04d}.dcm")
    identifiers = (derived_uid(key, "RTSTRUCT", level) for level in ("instance", "series"))
    structures = structure_set(
        grid_of(acquisition.ct_grid).image(acquisition.structure.astype(np.uint8)),
        ct_headers[0],
        # files are numbered from head to feet, slices of the grid from feet to head
        [ReferencedImage.of(header) for header in reversed(ct_headers)],
        "GTV" if acquisition.phase is not None else "IGTV",
        uid=lambda: next(identifiers),
        now=STUDY_START + timedelta(hours=3),
    )
    structures.SeriesDescription = "phantom truth"
    write_dicom(structures, folder / "RTSTRUCT" / "RTSTRUCT.dcm")


def grid_of(coordinates: Centres) -> Grid:
    x, y, z = (axis.ravel() for axis in coordinates)
    return Grid(
        size=(x.size, y.size, z.size),
        spacing=(float(x[1] - x[0]), float(y[1] - y[0]), float(z[1] - z[0])),
        origin=(float(x[0]), float(y[0]), float(z[0])),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )


def ct_images(
    acquisition: Acquisition, administration: Administration, patient: str, key: str
) -> Iterator[Dataset]:
    start = STUDY_START
    for number, k in enumerate(reversed(range(len(acquisition.ct))), 1):
        image = _image(acquisition.ct_grid, k, administration, patient, key, "CT", number, start)
        image.SOPClassUID = CTImageStorage
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.SeriesNumber = 1
        image.SeriesDescription = "CT average" if acquisition.phase is None else "CT gated"
        image.PatientPosition = "HFS"
        image.KVP = 120
        image.AcquisitionNumber = 1
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, -_CT_OFFSET, "HU"
        image.WindowCenter, image.WindowWidth = 40, 400
        image.PixelRepresentation = 0
        image.PixelData = (acquisition.ct[k] + _CT_OFFSET).astype("<u2").tobytes()
        yield image


def pet_images(
    acquisition: Acquisition, administration: Administration, patient: str, key: str
) -> Iterator[Dataset]:
    start = STUDY_START + timedelta(minutes=2)
    decay = np.log(2) / HALF_LIFE
    loss = decay * FRAME_DURATION
    # s after the start, when the activity is the frame's mean
    mean_time = np.log(loss / (1 - np.exp(-loss))) / decay
    activity = acquisition.pet * administration.bq_per_ml_per_suv
    for number, k in enumerate(reversed(range(len(activity))), 1):
        image = _image(acquisition.pet_grid, k, administration, patient, key, "PT", number, start)
        image.SOPClassUID = PositronEmissionTomographyImageStorage
        image.ImageType = ["ORIGINAL", "PRIMARY"]
        image.SeriesNumber = 2
        image.SeriesDescription = "PET average" if acquisition.phase is None else "PET gated"
        image.SeriesType = ["STATIC", "IMAGE"]
        image.NumberOfSlices = len(activity)
        image.ImageIndex = number
        image.Units = "BQML"
        image.CountsSource = "EMISSION"
        image.CorrectedImage = ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"]
        image.DecayCorrection = "START"
        image.RandomsCorrectionMethod = "DLYD"
        image.CollimatorType = "NONE"
        image.ActualFrameDuration = round(FRAME_DURATION * 1000)
        image.FrameReferenceTime = f"{mean_time * 1000:.3f}"
        image.DecayFactor = f"{np.exp(decay * mean_time):.6f}"
        image.RadiopharmaceuticalInformationSequence = DicomSequence(
            [_radiopharmaceutical(administration, start)]
        )
        image.PatientOrientationCodeSequence = _code("102538003", "SCT", "recumbent")
        image.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = _code(
            "40199007", "SCT", "supine"
        )
        image.PatientGantryRelationshipCodeSequence = _code("102540008", "SCT", "headfirst")
        # scanners scale every slice to its own maximum
        slope = float(f"{max(float(activity[k].max()), 1.0) / 32767:.8g}")
        image.RescaleSlope, image.RescaleIntercept = slope, 0
        image.PixelRepresentation = 1
        image.PixelData = np.clip(np.rint(activity[k] / slope), 0, 32767).astype("<i2").tobytes()
        yield image


def _image(
    coordinates: Centres,
    k: int,
    administration: Administration,
    patient: str,
    key: str,
    modality: str,
    number: int,
    start: datetime,
) -> Dataset:
    """The attributes that CT and PET images share, for slice `k` of the grid."""
    grid = grid_of(coordinates)
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID = f"Phantom^{patient}", patient
    image.PatientBirthDate, image.PatientSex = "", ""
    image.PatientWeight = administration.weight
    image.StudyInstanceUID = derived_uid(key, "study")
    image.StudyDate, image.StudyTime = date_time(STUDY_START)
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
    image.StudyDescription = "breathing thorax phantom"
    image.Modality = modality
    image.SeriesInstanceUID = derived_uid(key, modality)
    image.SeriesDate, image.SeriesTime = date_time(start)
    image.AcquisitionDate, image.AcquisitionTime = date_time(start)
    image.ContentDate, image.ContentTime = date_time(start)
    image.BodyPartExamined = "CHEST"
    image.Manufacturer = "nnunet-igtv"
    image.ManufacturerModelName = "phantom"
    image.SoftwareVersions = __version__
    image.FrameOfReferenceUID = derived_uid(key, "frame of reference")
    image.PositionReferenceIndicator = ""
    image.SOPInstanceUID = derived_uid(key, modality, number)
    image.InstanceNumber = number
    x, y, z = grid.origin
    image.ImagePositionPatient = [_decimal(value) for value in (x, y, z + k * grid.spacing[2])]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [_decimal(grid.spacing[1]), _decimal(grid.spacing[0])]
    image.SliceThickness = _decimal(grid.spacing[2])
    image.Columns, image.Rows = grid.size[:2]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    return image


def _radiopharmaceutical(administration: Administration, start: datetime) -> Dataset:
    injection = start - administration.uptake
    item = Dataset()
    item.Radiopharmaceutical = "Fluorodeoxyglucose"
    item.RadiopharmaceuticalStartTime = date_time(injection)[1]
    item.RadiopharmaceuticalStartDateTime = "".join(date_time(injection))
    item.RadionuclideTotalDose = administration.dose
    item.RadionuclideHalfLife = HALF_LIFE
    item.RadionuclidePositronFraction = 0.967
    item.RadionuclideCodeSequence = _code("77004003", "SCT", "^18^Fluorine")
    item.RadiopharmaceuticalCodeSequence = _code("35321007", "SCT", "Fluorodeoxyglucose F^18^")
    item.AdministrationRouteCodeSequence = _code("47625008", "SCT", "Intravenous route")
    return item


def _code(value: str, scheme: str, meaning: str) -> DicomSequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return DicomSequence([item])


def date_time(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")


def _decimal(value: float) -> str:
    """A number within the 16 characters of a DICOM decimal string, to a thousandth of a micrometre."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
