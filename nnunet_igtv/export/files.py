"""Writing DICOM files: whole or not at all, and never over another file unasked."""

from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from nnunet_igtv.atomic import refuse_existing, written_once
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def refuse_other(output: Path, modality: str, overwrite: bool) -> None:
    """Raises IGTVError where a file already has this name.

    With `overwrite`, a DICOM file of the same modality is no hindrance; an image or a folder is.
    """
    refuse_existing(output, overwrite=overwrite)
    if not output.exists():
        return
    header = read_header(output) if output.is_file() else None
    if header is None or text(header, "Modality") != modality:
        what = f"the output exists, is no {modality}, and is not overwritten"
        raise IGTVError(what, file=output, remedy="choose another name", settings=["output"])


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


def write_dicom(dataset: Dataset, output: Path, overwrite: bool = False) -> None:
    """Write `dataset`; with `overwrite`, over a file that has this name: `refuse_other` says whether it may.

    Raises IGTVError where the name is taken by now.
    """
    with written_once(output, overwrite) as beside:
        with_file_meta(dataset).save_as(beside, enforce_file_format=True)
