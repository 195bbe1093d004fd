"""A tiny PET/CT study as pydicom datasets, to be mutated and written; and the real files, where they are."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
DOSE, HALF_LIFE, WEIGHT = 370e6, 6586.2, 70.0


@dataclass
class Patient:
    """CT 24x20x10 (2 x 2 x 3 mm), PET 14x12x9 (4 x 4 x 4 mm), and an IGTV of 6x5 voxels on slices 3 to 6."""

    ct: list[Dataset] = field(default_factory=list)
    pet: list[Dataset] = field(default_factory=list)
    rt: list[Dataset] = field(default_factory=list)

    @property
    def all(self):
        return self.ct + self.pet + self.rt

    @property
    def rois(self):
        return self.rt[0].StructureSetROISequence

    @property
    def contours(self):
        return self.rt[0].ROIContourSequence[0].ContourSequence

    @property
    def injection(self):
        """Radiopharmaceutical items of all PET slices."""
        return [d.RadiopharmaceuticalInformationSequence[0] for d in self.pet]

    def write(self, folder):
        for kind in ("ct", "pet", "rt"):
            for k, dataset in enumerate(getattr(self, kind)):
                path = folder / kind.upper() / f"{k:03d}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                dataset.save_as(path, enforce_file_format=True)
        return folder


def new(modality, key, name):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    storage = {"CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
    dataset.SOPClassUID = storage.get(modality, "1.2.840.10008.5.1.4.1.1.481.3")
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[key, modality, name])
    dataset.Modality = modality
    dataset.PatientID, dataset.PatientName = f"MRN{key}77", f"Muster{key}^Erika"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[key, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[key, modality, "series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[key, "frame"])
    dataset.SeriesDate = dataset.StudyDate = dataset.AcquisitionDate = "20200102"
    dataset.SeriesTime = dataset.AcquisitionTime = "110000"
    return dataset


def image(modality, key, k, pixels, spacing, origin):
    dataset = new(modality, key, str(k))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber, dataset.InstanceNumber = 1, k + 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = [spacing[1], spacing[0]]
    dataset.SliceThickness = spacing[2]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [origin[0], origin[1], origin[2] + k * spacing[2]]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    return dataset


def square(left, top, right, bottom, z):
    """Corner points in mm of a rectangle, as ContourData."""
    return [v for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)) for v in (x, y, z)]


def contour(points, kind="CLOSED_PLANAR"):
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points) // 3
    item.ContourData = [f"{v:.4f}" for v in points]
    return item


def add_roi(rt, name, contours, frame=None):
    number = len(rt.StructureSetROISequence) + 1
    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, name
    roi.ReferencedFrameOfReferenceUID = frame or rt.FrameOfReferenceUID
    drawn = Dataset()
    drawn.ReferencedROINumber, drawn.ContourSequence = number, contours
    rt.StructureSetROISequence.append(roi)
    rt.ROIContourSequence.append(drawn)


def tumour_contours():
    # columns 8..13 and rows 7..11 of slices 3..6; the outline runs half-way between voxel centres
    return [contour(square(15, 13, 27, 23, 3 * k)) for k in range(3, 7)]


def make_patient(key="a"):
    rng = np.random.default_rng(len(key))
    patient = Patient()
    for k in range(10):
        pixels = rng.integers(0, 2000, (20, 24))
        patient.ct.append(image("CT", key, k, pixels, (2, 2, 3), (0, 0, 0)))
        patient.ct[-1].RescaleIntercept = -1024
    for k in range(9):
        pet = image("PT", key, k, rng.integers(0, 30000, (12, 14)), (4, 4, 4), (-2, -2, -2))
        pet.SeriesNumber = 2
        pet.Units, pet.DecayCorrection = "BQML", "START"
        pet.CorrectedImage = ["DECY", "ATTN", "SCAT"]
        pet.PatientWeight, pet.ActualFrameDuration, pet.FrameReferenceTime = WEIGHT, 180000, 89500
        information = Dataset()
        information.RadionuclideTotalDose, information.RadionuclideHalfLife = DOSE, HALF_LIFE
        information.RadiopharmaceuticalStartTime = "100000"
        information.RadiopharmaceuticalStartDateTime = "20200102100000"
        pet.RadiopharmaceuticalInformationSequence = [information]
        patient.pet.append(pet)
    rt = new("RTSTRUCT", key, "rt")
    rt.StructureSetLabel, rt.StructureSetDate, rt.StructureSetTime = "plan", "20200103", "120000"
    rt.StructureSetROISequence, rt.ROIContourSequence = [], []
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = patient.ct[0].SeriesInstanceUID
    study.ReferencedSOPInstanceUID, study.RTReferencedSeriesSequence = rt.StudyInstanceUID, [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = rt.FrameOfReferenceUID, [study]
    rt.ReferencedFrameOfReferenceSequence = [frame]
    add_roi(rt, "IGTV", tumour_contours())
    for item, source in zip(rt.ROIContourSequence[0].ContourSequence, patient.ct[3:7], strict=True):
        reference = Dataset()
        reference.ReferencedSOPClassUID = source.SOPClassUID
        reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
        item.ContourImageSequence = [reference]
    patient.rt.append(rt)
    return patient


@pytest.fixture
def patient():
    """make_patient(key): a fresh study."""
    return make_patient


@pytest.fixture
def dicom():
    """The helpers of this file, for tests that alter studies."""
    from types import SimpleNamespace

    return SimpleNamespace(
        square=square, contour=contour, add_roi=add_roi, image=image, new=new, pydicom=pydicom
    )


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """nnU-Net's folders, empty."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "raw"


@pytest.fixture
def read():
    """read(file): voxels (slices, rows, columns)."""
    return lambda file: sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.fixture
def real():
    """The folder of real files; skips where it is absent."""
    if not REAL.is_dir():
        pytest.skip("the real files are not here")
    return REAL
