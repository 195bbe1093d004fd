"""Writing DICOM files: whole or not at all, and never over another file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from nnunet_igtv.atomic import written_whole
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


@contextmanager
def quiet() -> Iterator[None]:
    """Silences warnings: those of pydicom and highdicom quote headers, the patient's name included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refuse_existing(output: Path) -> None:
    """Raises IGTVError where a file already has this name."""
    if output.exists():
        raise IGTVError("the output exists already", file=output, remedy="choose another name")


def write_dicom(dataset: Dataset, output: Path) -> None:
    """Write `dataset` as explicit VR little endian under a name that does not exist yet."""
    refuse_existing(output)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as beside:
        dataset.save_as(beside, enforce_file_format=True)
