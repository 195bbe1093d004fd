"""DICOM-SEG, and both exports from the command line."""

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from nnunet_igtv.commands.main import main
from nnunet_igtv.dicom import read_structure
from nnunet_igtv.export import write_rtstruct, write_seg


def read_seg(file, shape, geometry):
    """By positions, since frames without voxels are not stored."""
    dataset = dcmread(file)
    frames = dataset.pixel_array.reshape(-1, *shape[1:])
    mask = np.zeros(shape, bool)
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
        mask[geometry.image(np.zeros(shape, np.uint8)).TransformPhysicalPointToIndex(position)[2]] |= (
            frame > 0
        )
    return mask


def test_seg_round_trip(ring, upright, write_ct, tmp_path):
    pytest.importorskip("highdicom")
    ct = write_ct(tmp_path / "ct", upright)
    file = write_seg(upright.image(ring.astype(np.uint8)), ct, tmp_path / "seg.dcm")
    dataset = dcmread(file)
    assert (read_seg(file, ring.shape, upright) == ring).all()
    assert dataset.SegmentSequence[0].SegmentLabel == "IGTV"
    assert dataset.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert dataset.FrameOfReferenceUID == dcmread(next(ct.iterdir())).FrameOfReferenceUID


def test_commands(ring, upright, write_ct, tmp_path, capsys):
    ct = write_ct(tmp_path / "ct", upright)
    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(upright.image(ring.astype(np.uint8)), str(mask))
    rs, extended, seg = (tmp_path / "out" / name for name in ("rs.dcm", "more.dcm", "seg.dcm"))
    assert main(["export", "rtstruct", str(mask), "--ct", str(ct), "-o", str(rs)]) == 0
    assert capsys.readouterr().out.strip() == str(rs)
    arguments = ["--ct", str(ct), "--name", "IGTV_2", "--colour", "0,0,255", "--extend", str(rs)]
    assert main(["export", "rtstruct", str(mask), *arguments, "-o", str(extended)]) == 0
    image = upright.image(ring.astype(np.uint8))
    for name in ("IGTV", "IGTV_2"):
        assert (sitk.GetArrayFromImage(read_structure(extended, name, image)) == ring).all()
    assert main(["export", "seg", str(mask), "--ct", str(ct), "-o", str(seg)]) == 0
    assert (read_seg(seg, ring.shape, upright) == ring).all()


def test_command_refuses_clearly(upright, write_ct, tmp_path, capsys):
    ct = write_ct(tmp_path / "ct", upright)
    text = tmp_path / "mask.nii.gz"
    text.write_text("no image")
    assert main(["export", "rtstruct", str(text), "--ct", str(ct), "-o", str(tmp_path / "rs.dcm")]) == 1
    error = capsys.readouterr().err
    assert "cannot be read" in error
    assert "Traceback" not in error
    assert not (tmp_path / "rs.dcm").exists()


def test_multi_frame_ct(ring, upright, write_ct, tmp_path):
    """References name the frame, and both objects read back."""
    highdicom = pytest.importorskip("highdicom")
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    single = write_ct(tmp_path / "single", upright)
    slices = [dcmread(path) for path in sorted(single.iterdir())]  # against the order of positions
    for image in slices:
        image.ImageType, image.LossyImageCompression = ["ORIGINAL", "PRIMARY", "AXIAL"], "00"
        image.StudyDescription, image.SeriesDescription, image.Manufacturer = "", "", ""
    enhanced = LegacyConvertedEnhancedCTImage(
        slices, highdicom.UID(), series_number=2, sop_instance_uid=highdicom.UID(), instance_number=1
    )
    ct = tmp_path / "multi"
    ct.mkdir()
    enhanced.save_as(ct / "ct.dcm")
    image = upright.image(ring.astype(np.uint8))
    rs = write_rtstruct(image, ct, tmp_path / "rs.dcm")
    assert (sitk.GetArrayFromImage(read_structure(rs, "IGTV", image)) == ring).all()
    contours = dcmread(rs).ROIContourSequence[0].ContourSequence
    frames = {contour.ContourImageSequence[0].ReferencedFrameNumber for contour in contours}
    positions = [
        float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        for groups in enhanced.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(positions[frame - 1] for frame in frames) == [-94.0, -91.0, -88.0]
    assert (read_seg(write_seg(image, ct, tmp_path / "seg.dcm"), ring.shape, upright) == ring).all()


def test_no_warning_quotes_the_patient(ring, upright, write_ct, tmp_path, recwarn):
    """Libraries complain about odd names and quote them; logs must not."""
    pytest.importorskip("highdicom")
    ct = write_ct(tmp_path / "ct", upright)
    for path in ct.iterdir():
        dataset = dcmread(path)
        dataset.PatientName = "Onlyonename"
        dataset.save_as(path)
    mask = upright.image(ring.astype(np.uint8))
    write_seg(mask, ct, tmp_path / "seg.dcm")
    write_rtstruct(mask, ct, tmp_path / "rs.dcm")
    assert dcmread(tmp_path / "seg.dcm").PatientName == "Onlyonename"
    assert not [w for w in recwarn if "Onlyonename" in str(w.message)]
