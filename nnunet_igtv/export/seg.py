"""Mask -> DICOM segmentation object (DICOM PS3.3, A.51), by highdicom (optional: the extra `seg`)."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import format_number_as_ds

from nnunet_igtv import __version__
from nnunet_igtv.dicom.attributes import attribute, text
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.dicom.frames import flat_headers
from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.anonymous import anonymised
from nnunet_igtv.export.ct_series import reference_series
from nnunet_igtv.export.files import refuse_other, write_dicom
from nnunet_igtv.export.patient import patient_and_study
from nnunet_igtv.export.references import referenced_images
from nnunet_igtv.export.text import Copied, set_character_set, structure_name
from nnunet_igtv.export.uids import new_uid
from nnunet_igtv.studies.known import ReadingOptions

_IDENTIFIERS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPClassUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
)


@quiet()
def write_seg(
    mask: sitk.Image,
    ct_folder: str | Path | Series,
    output: str | Path,
    name: str = "IGTV",
    *,
    anonymous: str | None = None,
    ct: str | None = None,
    study: str | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write `mask` as the one segment `name` of a new binary DICOM-SEG file.

    Args:
        mask: nonzero voxels are the segment; on the CT's voxels, its axes in any order and direction.
        ct_folder: holds the CT series that the mask belongs to; or the series itself.
        output: the file to write.
        name: the segment's label, at most 64 characters of any script, no backslash.
        anonymous: an ID to write in place of the patient's identity; all identifiers are fresh then.
        ct: which CT series, where several lie on the mask's grid: see `nnunet_igtv.studies.selectors`.
        study: of which study.
        overwrite: replace the output if it is a SEG; without it, an existing file is refused.
        tell: called with the CT that was chosen of several on the mask's grid, and what to know of it.

    Raises:
        IGTVError: highdicom is missing, a CT of several multi-frame files, or as `write_rtstruct`.

    Examples:
        >>> from pydicom import dcmread
        >>> from nnunet_igtv import read_ct, write_seg
        >>> mask = read_ct("studies/IGTV-3-000/CT") > 30
        >>> written = write_seg(mask, "studies/IGTV-3-000/CT", "dense_seg.dcm", "dense")
        >>> dcmread(written).SegmentSequence[0].SegmentLabel
        'dense'
    """
    output = Path(output)
    refuse_other(output, "SEG", overwrite)
    require_highdicom()
    with naming_nobody(ct_folder):
        options = ReadingOptions(ct=ct, study=study)
        series, mask = reference_series(ct_folder, mask, options, tell=tell)
        if anonymous is not None:
            series = anonymised(series, anonymous)
        made = segmentation(mask, series, name)
    write_dicom(made, output, overwrite)
    return output


def segmentation(mask: sitk.Image, ct: Series, name: str) -> Dataset:
    """The segmentation object of a mask on the grid of a CT series; see `write_seg`."""
    highdicom = require_highdicom()
    name = structure_name(name)
    referenced_images(ct)
    voxels = sitk.GetArrayFromImage(mask)
    if not voxels.any():
        raise IGTVError("the mask is empty: there is nothing to write")
    sources = _source_images(ct)
    positions = [
        highdicom.PlanePositionSequence("PATIENT", [float(v) for v in header.ImagePositionPatient])
        for header in ct.headers
    ]
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
    try:
        dataset = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=voxels,
            plane_positions=positions,
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
    except Exception as error:  # whatever highdicom finds in a CT that our own checks let pass
        raise IGTVError(
            f"highdicom cannot write a segmentation of this CT ({type(error).__name__})",
            file=ct.folder,
            remedy="write an RTSTRUCT instead",
        ) from error
    owner = patient_and_study(ct.headers[0])
    dataset.update(owner)
    set_character_set(dataset, [Copied.of(owner, ct.headers[0])], own=[name])
    return dataset


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


def _source_images(ct: Series) -> list[Dataset]:
    """The images as highdicom wants them.

    highdicom copies whole modules of the images that it is given, free text included, and does not take
    images that lack attributes or have odd values. So it gets headers of identifiers and geometry alone.
    """
    if ct.frames[0] is None:
        images = []
        for header in ct.headers:
            image = _bare(header)
            image.update(_measures(ct))
            image.ImageOrientationPatient = _decimals(ct.headers[0].ImageOrientationPatient)
            image.ImagePositionPatient = _decimals(header.ImagePositionPatient)
            images.append(image)
        return images
    if len(set(ct.files)) > 1:
        raise IGTVError("a CT of several multi-frame files cannot be referenced", file=ct.folder)
    frames = [frame for _, frame in flat_headers(read_header(ct.files[0]) or Dataset())]
    shared, orientation = Dataset(), Dataset()
    orientation.ImageOrientationPatient = _decimals(ct.headers[0].ImageOrientationPatient)
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    shared.PixelMeasuresSequence = DicomSequence([_measures(ct)])
    source = _bare(ct.headers[0])
    source.NumberOfFrames = len(frames)
    source.SharedFunctionalGroupsSequence = DicomSequence([shared])
    source.PerFrameFunctionalGroupsSequence = DicomSequence(_position(frame) for frame in frames)
    return [source]


def _bare(header: Dataset) -> Dataset:
    """Identifiers of an image, with patient and study left blank: these are written afterwards."""
    bare = patient_and_study(Dataset())
    for keyword in _IDENTIFIERS:
        setattr(bare, keyword, header.get(keyword))
    if text(header, "LossyImageCompression") == "01":
        bare.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in header:
                setattr(bare, keyword, header.get(keyword))
    return bare


def _measures(ct: Series) -> Dataset:
    """Pixel spacing and slice thickness; where the CT does not say how thick, as thick as they are apart."""
    measures = Dataset()
    columns, rows, slices = ct.grid.spacing
    measures.PixelSpacing = _decimals((rows, columns))
    try:
        stated = float(attribute(ct.headers[0], "SliceThickness"))
    except (TypeError, ValueError):
        stated = 0.0
    measures.SliceThickness = format_number_as_ds(stated if 0 < stated < math.inf else slices)
    return measures


def _position(frame: Dataset) -> Dataset:
    position, groups = Dataset(), Dataset()
    position.ImagePositionPatient = _decimals(frame.ImagePositionPatient)
    groups.PlanePositionSequence = DicomSequence([position])
    return groups


def _decimals(values: Iterable[Any]) -> list[str]:
    return [format_number_as_ds(float(value)) for value in values]
