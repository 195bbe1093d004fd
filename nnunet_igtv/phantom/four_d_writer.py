"""A 4D-CT as files: phases, average, a structure set each, and a PET/CT with the registration that joins it.

The phases are ten series as in TCIA's 4D-Lung (one Series Number, "Gated, 40.0%B" in Series Description), or
one series in which Image Comments and Temporal Position Identifier tell the images of the phases apart.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import SpatialRegistrationStorage

from nnunet_igtv.export.files import write_dicom
from nnunet_igtv.export.patient import patient_and_study
from nnunet_igtv.export.references import ReferencedImage
from nnunet_igtv.export.rtstruct import structure_set
from nnunet_igtv.export.uids import derived_uid
from nnunet_igtv.phantom.dicom_writer import (
    STUDY_START,
    Administration,
    ct_images,
    date_time,
    grid_of,
    pet_images,
)
from nnunet_igtv.phantom.four_d import BreathScan
from nnunet_igtv.phantom.scanner import Acquisition
from nnunet_igtv.phantom.shapes import Centres

PET_CT_EARLIER = timedelta(days=3)


def write_4d(
    scan: BreathScan, administration: Administration, patient: str, key: str, folder: Path, one_series: bool
) -> None:
    """Write folder/{4DCT,AVERAGE,RTSTRUCT,REG,PETCT}/…; arguments as in `dicom_writer.write_study`.

    Args:
        one_series: all phases in one series, instead of one series each.
    """
    own = patient, key, administration
    per_phase: dict[int, list[Dataset]] = {}
    for number, phase in enumerate(scan.phases):
        headers = []
        for image in _ct(phase.ct, scan.grid, *own, f"phase {phase.percent}"):
            if one_series:
                image.SeriesInstanceUID = derived_uid(key, "4D-CT", "series")
                image.SeriesDescription, image.ImageComments = "4D-CT", f"{phase.percent} %"
                image.TemporalPositionIdentifier = number + 1
                image.NumberOfTemporalPositions = len(scan.phases)
                image.InstanceNumber += number * len(phase.ct)
            else:
                image.SeriesDescription = f"Gated, {phase.percent}.0%B"
            headers.append(_write(image, folder / "4DCT" / f"{phase.percent:02d}"))
        per_phase[phase.percent] = headers
    average = []
    for image in _ct(scan.average, scan.grid, *own, "average"):
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE"]
        image.SeriesNumber, image.SeriesDescription = 2, "AveIP"
        average.append(_write(image, folder / "AVERAGE"))
    for phase in scan.phases:
        name = f"GTV_{phase.percent:02d}"
        _write_structure(phase.structure, scan.grid, per_phase[phase.percent], name, key, folder)
    _write_structure(scan.structure, scan.grid, average, "IGTV", key, folder)
    other = f"{key}/PET/CT"
    for kind, images in (("CT", ct_images), ("PET", pet_images)):
        for image in images(scan.pet_ct, administration, patient, other):
            for name in ("Study", "Series", "Acquisition", "Content"):
                moment = STUDY_START - PET_CT_EARLIER
                setattr(image, f"{name}Date", date_time(moment)[0])
            for item in image.get("RadiopharmaceuticalInformationSequence", []):
                item.RadiopharmaceuticalStartDateTime = (
                    date_time(STUDY_START - PET_CT_EARLIER)[0] + item.RadiopharmaceuticalStartDateTime[8:]
                )
            image.SeriesDescription = f"PET/CT: {kind}"
            _write(image, folder / "PETCT" / kind)
    source = derived_uid(other, "frame of reference")
    registration = spatial_registration(scan.placed, source, average[0], key)
    write_dicom(registration, folder / "REG" / "REG.dcm")


def spatial_registration(matrix: np.ndarray, source: str, target: Dataset, key: str) -> Dataset:
    """A DICOM Spatial Registration (PS3.3, A.39.1).

    Args:
        matrix: (4, 4) rigid, mm: coordinates in the frame of reference `source` -> in that of `target`
            (PS3.3, C.20.2.1.1).
        source: UID of the frame of reference.
        target: header of an image.
        key: what its identifiers are derived from.
    """
    dataset = patient_and_study(target)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = SpatialRegistrationStorage
    dataset.SOPInstanceUID = derived_uid(key, "REG", "instance")
    dataset.SeriesInstanceUID = derived_uid(key, "REG", "series")
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "REG", 9, 1
    dataset.SeriesDescription = "PET/CT to 4D-CT"
    dataset.Manufacturer, dataset.ManufacturerModelName = "nnunet-igtv", "phantom"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "0", "phantom"
    dataset.ContentDate, dataset.ContentTime = date_time(STUDY_START + timedelta(hours=2))
    dataset.SeriesDate, dataset.SeriesTime = dataset.ContentDate, dataset.ContentTime
    dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = "REGISTRATION", "", ""
    dataset.FrameOfReferenceUID = target.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    frames = ((target.FrameOfReferenceUID, np.eye(4)), (source, matrix))
    dataset.RegistrationSequence = DicomSequence(_registered(uid, values) for uid, values in frames)
    return dataset


def _registered(frame: str, matrix: np.ndarray) -> Dataset:
    values, steps, item = Dataset(), Dataset(), Dataset()
    values.FrameOfReferenceTransformationMatrixType = "RIGID"
    values.FrameOfReferenceTransformationMatrix = [
        f"{value:.10f}".rstrip("0").rstrip(".") for value in matrix.ravel()
    ]
    steps.RegistrationTypeCodeSequence = DicomSequence()
    steps.MatrixSequence = DicomSequence([values])
    item.FrameOfReferenceUID = frame
    item.MatrixRegistrationSequence = DicomSequence([steps])
    return item


def _ct(
    voxels: np.ndarray, grid: Centres, patient: str, key: str, administration: Administration, name: str
) -> list[Dataset]:
    """The images of one CT series of the 4D-CT's study."""
    empty = np.zeros(voxels.shape, bool)
    scan = Acquisition(voxels, grid, voxels, grid, empty, phase=0.0, fwhm=0.0)
    images = list(ct_images(scan, administration, patient, f"{key}/{name}"))
    for image in images:
        image.StudyInstanceUID = derived_uid(key, "study")
        image.FrameOfReferenceUID = derived_uid(key, "frame of reference")
        image.StudyDescription = "4D-CT of the breathing thorax phantom"
    return images


def _write(image: Dataset, folder: Path) -> Dataset:
    write_dicom(image, folder / f"{image.Modality}_{image.InstanceNumber:04d}.dcm")
    del image.PixelData
    return image


def _write_structure(
    mask: np.ndarray, grid: Centres, headers: Sequence[Dataset], name: str, key: str, folder: Path
) -> None:
    identifiers = (derived_uid(key, "RTSTRUCT", name, level) for level in ("instance", "series"))
    structures = structure_set(
        grid_of(grid).image(mask.astype(np.uint8)),
        headers[0],
        [ReferencedImage.of(header) for header in reversed(headers)],  # files run from head to feet
        name,
        uid=lambda: next(identifiers),
        now=STUDY_START + timedelta(hours=3),
    )
    structures.SeriesDescription = f"phantom truth {name}"
    write_dicom(structures, folder / "RTSTRUCT" / f"{name}.dcm")
