"""A small study whose PET/CT is another examination than its planning CT, and the object that joins them."""

from copy import deepcopy

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.3"


def rigid(x=4.0, y=-3.0, z=5.0, degrees=(4.0, -3.0, 6.0)):
    """(4, 4): a rotation about each axis in turn, then a shift in mm."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(4)
        i, j = (k for k in range(3) if k != axis)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i] = np.sin(angle)
        turn[i, j] = -turn[j, i]
        matrix = turn @ matrix
    matrix[:3, 3] = x, y, z
    return matrix


def moved_examination(patient, matrix, day="20200120"):
    """Move the PET of a patient, in place, to a study, a day and a frame of reference of its own, from where
    `matrix` brings it back; a CT goes with it. Returns that CT."""
    own_ct = deepcopy(patient.ct)
    study, frame, series = (generate_uid(entropy_srcs=[patient.ct[0].PatientID, n]) for n in "sfc")
    back = np.linalg.inv(matrix)
    for image in [*patient.pet, *own_ct]:
        image.StudyInstanceUID, image.FrameOfReferenceUID = study, frame
        position = back[:3, :3] @ np.array(image.ImagePositionPatient, float) + back[:3, 3]
        axes = np.array(image.ImageOrientationPatient, float).reshape(2, 3) @ back[:3, :3].T
        image.ImagePositionPatient = [f"{v:.8f}" for v in position]
        image.ImageOrientationPatient = [f"{v:.10f}" for v in axes.ravel()]
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = day
        if image.Modality == "PT":
            item = image.RadiopharmaceuticalInformationSequence[0]
            item.RadiopharmaceuticalStartDateTime = f"{day}100000"
    for k, image in enumerate(own_ct):
        image.SeriesInstanceUID, image.SeriesNumber = series, 3
        image.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(k)])
    return own_ct


def registration(reference, frame, *sources, study=None, kind="1.2.840.10008.5.1.4.1.1.66.1"):
    """A registration object as PS3.3 C.20.2 has it.

    Args:
        reference: an image of the patient.
        frame: the registered frame of reference.
        sources: (frame of reference or images, type, matrix, …), the first matrix being applied first.
        study: its Study Instance UID; a new one if None.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = kind, generate_uid(), "REG"
    dataset.PatientID, dataset.PatientName = reference.PatientID, reference.PatientName
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study or generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID = frame
    items = []
    for source, matrix_type, *matrices in sources:
        item = Dataset()
        if isinstance(source, str):
            item.FrameOfReferenceUID = source
        else:
            item.ReferencedImageSequence = [_reference(image) for image in source]
            refers = Dataset()
            refers.SeriesInstanceUID = source[0].SeriesInstanceUID
            dataset.ReferencedSeriesSequence = [refers]
        holder = Dataset()
        holder.MatrixSequence = []
        for matrix in matrices:
            step = Dataset()
            step.FrameOfReferenceTransformationMatrixType = matrix_type
            step.FrameOfReferenceTransformationMatrix = [f"{v:.10f}"[:16] for v in np.ravel(matrix)]
            holder.MatrixSequence.append(step)
        item.MatrixRegistrationSequence = [holder]
        items.append(item)
    if kind == DEFORMABLE:
        for item in items:
            item.SourceFrameOfReferenceUID = item.FrameOfReferenceUID
        dataset.DeformableRegistrationSequence = items
    else:
        dataset.RegistrationSequence = items
    return dataset


def _reference(image):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item
