"""Mask -> DICOM segmentation object (DICOM PS3.3, A.51), by highdicom (optional: the extra `seg`)."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, dcmread

from nnunet_igtv import __version__
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.ct_series import reference_series
from nnunet_igtv.export.files import quiet, refuse_existing, write_dicom
from nnunet_igtv.export.uids import new_uid


@quiet()
def write_seg(
    mask: sitk.Image, ct_folder: str | Path | Series, output: str | Path, name: str = "IGTV"
) -> Path:
    """Write `mask` as the one segment `name` of a new binary DICOM-SEG file.

    Args:
        mask: nonzero voxels are the segment; on the CT's voxels, its axes in any order and direction.
        ct_folder: holds the CT series that the mask belongs to; or the series itself.
        output: the file to write; must not exist.
        name: the segment's label.

    Raises:
        IGTVError: highdicom is missing, or as `write_rtstruct`.

    Examples:
        >>> from pydicom import dcmread
        >>> from nnunet_igtv import read_ct, write_seg
        >>> mask = read_ct("studies/IGTV-3-000/CT") > 30
        >>> written = write_seg(mask, "studies/IGTV-3-000/CT", "dense_seg.dcm", "dense")
        >>> dcmread(written).SegmentSequence[0].SegmentLabel
        'dense'
    """
    output = Path(output)
    refuse_existing(output)
    highdicom = require_highdicom()
    series, mask = reference_series(ct_folder, mask)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise IGTVError("the mask is empty: there is nothing to write")
    sources, planes = _source_images(series, sitk.GetArrayFromImage(mask))
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=name,
        segmented_property_category=highdicom.sr.CodedConcept(
            "49755003", "SCT", "Morphologically Abnormal Structure"
        ),
        segmented_property_type=highdicom.sr.CodedConcept("108369006", "SCT", "Neoplasm"),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="nnunet-igtv",
            version=__version__,
            family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ),
    )
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=new_uid(),
        series_number=1001,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer="nnunet-igtv",
        manufacturer_model_name="nnunet-igtv",
        software_versions=__version__,
        device_serial_number="0",
        content_label="IGTV",
        series_description="nnU-Net IGTV",
    )
    write_dicom(segmentation, output)
    return output


def require_highdicom() -> Any:
    """The module highdicom. Raises IGTVError where it is not installed."""
    try:
        import highdicom
        import highdicom.seg
        import highdicom.sr
    except ImportError as error:
        raise IGTVError(
            "DICOM-SEG needs highdicom, which is not installed", remedy="pip install 'nnunet-igtv[seg]'"
        ) from error
    return highdicom


def _source_images(series: Series, voxels: np.ndarray) -> tuple[list[Dataset], np.ndarray]:
    """The images as highdicom wants them, and the mask's planes in the same order."""
    if series.frames[0] is None:
        return series.headers, voxels
    if len(set(series.files)) > 1:
        raise IGTVError("a CT of several multi-frame files cannot be referenced", file=series.folder)
    source = dcmread(series.files[0])
    planes = np.zeros((int(source.NumberOfFrames), *voxels.shape[1:]), voxels.dtype)
    planes[[frame for frame in series.frames if frame is not None]] = voxels
    return [source], planes
