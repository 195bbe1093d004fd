"""CT series of any orientation, and a reader of structure sets that shares nothing with ours."""

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage

from nnunet_igtv.export.files import write_dicom
from nnunet_igtv.export.uids import derived_uid
from nnunet_igtv.grids import Grid


@pytest.fixture
def write_ct():
    """write_ct(folder, geometry): a CT series of zeros on a grid, files named against the slice order.

    Attributes of the images may be given by keyword, None to leave one out; `change` may alter each image.
    """

    def write(folder, geometry, study="study", series="series", change=None, **attributes):
        axes = np.array(geometry.direction).reshape(3, 3)
        for k in range(geometry.size[2]):
            image = Dataset()
            image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, derived_uid(study, series, k)
            image.StudyInstanceUID, image.SeriesInstanceUID = derived_uid(study), derived_uid(study, series)
            image.FrameOfReferenceUID = derived_uid(study, "frame")
            image.Modality, image.PatientName, image.PatientID = "CT", "Doe^Jane", "P1"
            image.PatientBirthDate, image.PatientSex = "19500101", "F"
            image.StudyDate, image.StudyTime, image.StudyID = "20200101", "100000", "1"
            image.AccessionNumber, image.ReferringPhysicianName = "", ""
            image.SeriesNumber, image.InstanceNumber = 1, k + 1
            position = np.array(geometry.origin) + axes[:, 2] * geometry.spacing[2] * k
            image.ImagePositionPatient = [f"{value:.6f}" for value in position]
            image.ImageOrientationPatient = [f"{value:.10f}" for value in axes[:, :2].T.ravel()]
            image.PixelSpacing = [geometry.spacing[1], geometry.spacing[0]]
            image.SliceThickness = geometry.spacing[2]
            image.Columns, image.Rows = geometry.size[:2]
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.BitsAllocated = image.BitsStored = 16
            image.HighBit, image.PixelRepresentation = 15, 0
            image.RescaleSlope, image.RescaleIntercept = 1, 0
            image.PixelData = bytes(2 * image.Rows * image.Columns)
            for keyword, value in attributes.items():
                if value is not None:
                    setattr(image, keyword, value)
                elif keyword in image:
                    delattr(image, keyword)
            if change:
                change(image)
            write_dicom(image, folder / f"{geometry.size[2] - k:03d}.dcm")
        return folder

    return write


@pytest.fixture
def read_independently():
    """read(file, name, geometry, ct_folder) -> bool mask.

    By matplotlib's point-in-polygon, SimpleITK's map to the patient, and ContourImageSequence's images, each
    where it says that it lies: its contours must be in its plane.
    """

    def read(file, name, geometry, ct_folder):
        dataset = dcmread(file)
        slice_of, position_of = {}, {}
        image = geometry.image(np.zeros(geometry.size[::-1], np.uint8))
        for path in ct_folder.iterdir():
            header = dcmread(path, stop_before_pixels=True)
            position_of[header.SOPInstanceUID] = [float(v) for v in header.ImagePositionPatient]
            index = image.TransformPhysicalPointToIndex(position_of[header.SOPInstanceUID])
            slice_of[header.SOPInstanceUID] = index[2]
        (number,) = [r.ROINumber for r in dataset.StructureSetROISequence if r.ROIName == name]
        (roi,) = [r for r in dataset.ROIContourSequence if r.ReferencedROINumber == number]
        mask = np.zeros(geometry.size[::-1], bool)
        rows, columns = np.mgrid[: mask.shape[1], : mask.shape[2]]
        centres = np.stack([columns.ravel(), rows.ravel()], 1)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            drawn_on = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            k = slice_of[drawn_on]
            image.SetOrigin(position_of[drawn_on])
            index = np.array([image.TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()])
            assert np.abs(index[:, 2]).max() < 0.01
            inside = Polygon(index[:, :2]).contains_points(centres)
            mask[k] ^= inside.reshape(mask.shape[1:])
        return mask

    return read


@pytest.fixture
def ring():
    """A ring with a hole (7, 11, 14)."""
    mask = np.zeros((7, 11, 14), np.uint8)
    mask[2:5, 2:9, 3:12] = 1
    mask[2:5, 4:7, 5:10] = 0
    return mask


@pytest.fixture
def upright():
    return Grid((14, 11, 7), (1.5, 2.0, 3.0), (-12.0, 30.5, -100.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
