"""Files that hold one object: copies count once, and contradicting ones not at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.errors import IGTVError

CONTOURS = ("ReferencedFrameOfReferenceSequence", "StructureSetROISequence", "ROIContourSequence")
TRANSFORMATIONS = ("FrameOfReferenceUID", "RegistrationSequence", "DeformableRegistrationSequence")


def one_of_each(
    objects: Iterable[tuple[Path, Dataset]], content: Sequence[str]
) -> list[tuple[Path, Dataset]]:
    """Objects without the copies of others.

    Args:
        content: the attributes that copies have in common.

    Raises:
        IGTVError: two files have one SOP Instance UID and other contents, such as a file that somebody
            corrected and the one before: which of them is meant, nothing tells.
    """
    kept: dict[str, tuple[Path, Dataset]] = {}
    for path, header in objects:
        first_path, first = kept.setdefault(text(header, "SOPInstanceUID") or str(path), (path, header))
        if first is not header and any(first.get(name) != header.get(name) for name in content):
            raise IGTVError(
                f"it has the SOP Instance UID (0008,0018) of {first_path.name} in "
                f"{first_path.parent.name or '.'}/, and other content",
                file=path,
                remedy="take the one that does not count out of the folder",
            )
    return list(kept.values())
