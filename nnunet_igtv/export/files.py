"""Writing DICOM files: whole or not at all, and never over another file."""

from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from nnunet_igtv.atomic import written_whole
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def refuse_existing(output: Path) -> None:
    """Raises IGTVError where a file already has this name."""
    if output.exists():
        raise IGTVError("the output exists already", file=output, remedy="choose another name")


def with_file_meta(dataset: Dataset) -> Dataset:
    """`dataset` with its file meta information.

    Structure sets are written as implicit VR little endian, as planning systems do: with explicit VR, contour
    data of more than 64 KiB would have to become values of unknown representation (PS3.5, 6.2.2), which many
    readers do not take. All else is explicit VR little endian.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    is_structure_set = dataset.SOPClassUID == RTStructureSetStorage
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_structure_set else ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    return dataset


def write_dicom(dataset: Dataset, output: Path) -> None:
    """Write `dataset` under a name that does not exist yet."""
    refuse_existing(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as beside:
        with_file_meta(dataset).save_as(beside, enforce_file_format=True)
