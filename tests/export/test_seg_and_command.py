"""DICOM-SEG, and both exports from the command line."""

import copy

import numpy as np
import pytest
import SimpleITK as sitk
from kills import completes_after_every_kill, files
from pydicom import dcmread

from nnunet_igtv import read_structure
from nnunet_igtv.commands.main import main
from nnunet_igtv.dicom.series import find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export import check_export, write_rtstruct, write_seg
from nnunet_igtv.grids import Grid


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
    file = write_seg(upright.image(ring), ct, tmp_path / "seg.dcm")
    dataset = dcmread(file)
    assert (read_seg(file, ring.shape, upright) == ring).all()
    assert dataset.SegmentSequence[0].SegmentLabel == "IGTV"
    assert dataset.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert dataset.FrameOfReferenceUID == dcmread(next(ct.iterdir())).FrameOfReferenceUID


def test_commands(ring, upright, write_ct, tmp_path, capsys):
    ct = write_ct(tmp_path / "ct", upright)
    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(upright.image(ring), str(mask))
    rs, extended, seg = (tmp_path / "out" / name for name in ("rs.dcm", "more.dcm", "seg.dcm"))
    assert main(["export", "rtstruct", str(mask), "--ct", str(ct), "-o", str(rs)]) == 0
    assert capsys.readouterr().out.strip() == str(rs)
    arguments = ["--ct", str(ct), "--name", "IGTV_2", "--colour", "0,0,255", "--extend", str(rs)]
    assert main(["export", "rtstruct", str(mask), *arguments, "-o", str(extended)]) == 0
    image = upright.image(ring)
    for name in ("IGTV", "IGTV_2"):
        assert (sitk.GetArrayFromImage(read_structure(extended, name, image)) == ring).all()
    assert main(["export", "seg", str(mask), "--ct", str(ct), "-o", str(seg)]) == 0
    assert (read_seg(seg, ring.shape, upright) == ring).all()


def but_uids_and_times(folder):
    """What DICOM files hold apart from what is new in every file."""
    return {
        file.name: [str(e) for e in dcmread(file).iterall() if e.VR not in ("SQ", "UI", "DA", "TM", "DT")]
        for file in files(folder)
    }


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_killed_at_every_file_event_the_same_command_completes_it(
    kind, ring, upright, write_ct, tmp_path, capsys
):
    mask, output = tmp_path / "mask.nii.gz", tmp_path / "new" / "object.dcm"
    sitk.WriteImage(upright.image(ring), str(mask))
    command = ["export", kind, mask, "--ct", write_ct(tmp_path / "ct", upright), "-o", output]
    output.parent.mkdir()
    events = completes_after_every_kill(output.parent, lambda: main([*map(str, command)]), but_uids_and_times)
    assert events > (12, 6)
    assert main([*map(str, command)]) == 1  # it is there to stay


def test_command_refuses_clearly(upright, write_ct, tmp_path, capsys):
    ct = write_ct(tmp_path / "ct", upright)
    text = tmp_path / "mask.nii.gz"
    text.write_text("no image")
    assert main(["export", "rtstruct", str(text), "--ct", str(ct), "-o", str(tmp_path / "rs.dcm")]) == 1
    error = capsys.readouterr().err
    assert "cannot be read" in error
    assert "Traceback" not in error
    assert not (tmp_path / "rs.dcm").exists()


@pytest.fixture
def write_multi_frame(write_ct, tmp_path):
    """write_multi_frame(geometry, change): a CT of one file, frames against the slice order; its folder."""
    highdicom = pytest.importorskip("highdicom")
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    def write(geometry, change=lambda enhanced: None):
        single = write_ct(tmp_path / "single", geometry)
        slices = [dcmread(path) for path in sorted(single.iterdir())]
        for image in slices:
            image.ImageType, image.LossyImageCompression = ["ORIGINAL", "PRIMARY", "AXIAL"], "00"
            image.StudyDescription, image.SeriesDescription, image.Manufacturer = "", "", ""
        enhanced = LegacyConvertedEnhancedCTImage(
            slices, highdicom.UID(), series_number=2, sop_instance_uid=highdicom.UID(), instance_number=1
        )
        change(enhanced)
        (tmp_path / "multi").mkdir()
        enhanced.save_as(tmp_path / "multi" / "ct.dcm")
        return tmp_path / "multi"

    return write


def referenced_heights(file, ct):
    """Where the frames lie that the contours of a structure set refer to, mm."""
    groups = dcmread(ct / "ct.dcm").PerFrameFunctionalGroupsSequence
    frames = {
        contour.ContourImageSequence[0].ReferencedFrameNumber
        for contour in dcmread(file).ROIContourSequence[0].ContourSequence
    }
    return sorted(groups[k - 1].PlanePositionSequence[0].ImagePositionPatient[2] for k in frames)


@pytest.mark.parametrize("anonymous", [None, "A17"])
def test_multi_frame_ct(anonymous, ring, upright, write_multi_frame, tmp_path):
    """References name the frame, and both objects read back."""
    ct, image = write_multi_frame(upright), upright.image(ring)
    rs = write_rtstruct(image, ct, tmp_path / "rs.dcm", anonymous=anonymous)
    assert (sitk.GetArrayFromImage(read_structure(rs, "IGTV", image)) == ring).all()
    assert referenced_heights(rs, ct) == [-94.0, -91.0, -88.0]
    seg = write_seg(image, ct, tmp_path / "seg.dcm", anonymous=anonymous)
    assert (read_seg(seg, ring.shape, upright) == ring).all()


def test_contours_lie_on_the_frames_of_an_irregular_multi_frame_ct(
    ring, upright, write_multi_frame, tmp_path
):
    def move(enhanced):
        for groups in enhanced.PerFrameFunctionalGroupsSequence:
            place = groups.PlanePositionSequence[0]
            x, y, z = (float(value) for value in place.ImagePositionPatient)
            place.ImagePositionPatient = [x, y, round(z + 0.08 * max(0, (z + 94) / 3), 2)]

    ct = write_multi_frame(upright, move)
    (series,) = find_series(ct, "CT")
    rs = write_rtstruct(series.grid.image(ring), ct, tmp_path / "rs.dcm")
    groups = dcmread(ct / "ct.dcm").PerFrameFunctionalGroupsSequence
    heights = set()
    for contour in dcmread(rs).ROIContourSequence[0].ContourSequence:
        frame = groups[contour.ContourImageSequence[0].ReferencedFrameNumber - 1]
        height = frame.PlanePositionSequence[0].ImagePositionPatient[2]
        assert set(contour.ContourData[2::3]) == {height}
        heights.add(float(height))
    assert heights == {-94.0, -90.92, -87.84}
    assert (sitk.GetArrayFromImage(read_structure(rs, "IGTV", series.grid.image(ring))) == ring).all()


def test_multi_frame_ct_with_a_frame_twice(ring, upright, write_multi_frame, tmp_path):
    """The duplicate is left out; frames keep the numbers that they have in the file."""

    def repeat_the_third(enhanced):
        pixels = enhanced.pixel_array
        order = [0, 1, 2, 2, 3, 4, 5, 6]
        groups = enhanced.PerFrameFunctionalGroupsSequence
        enhanced.PerFrameFunctionalGroupsSequence = [copy.deepcopy(groups[k]) for k in order]
        enhanced.NumberOfFrames = len(order)
        enhanced.PixelData = pixels[order].tobytes()

    ct, image = write_multi_frame(upright, repeat_the_third), upright.image(ring)
    rs = write_rtstruct(image, ct, tmp_path / "rs.dcm")
    assert referenced_heights(rs, ct) == [-94.0, -91.0, -88.0]
    seg = write_seg(image, ct, tmp_path / "seg.dcm")
    assert (read_seg(seg, ring.shape, upright) == ring).all()


def test_ct_of_several_multi_frame_files(ring, upright, write_multi_frame, tmp_path):
    """A structure set can refer to them, a segmentation cannot, which is known before there is a mask."""
    ct = write_multi_frame(upright)
    whole = dcmread(ct / "ct.dcm")
    groups, pixels = whole.PerFrameFunctionalGroupsSequence, whole.pixel_array
    for name, part in (("a", slice(0, 4)), ("b", slice(4, 7))):
        whole.PerFrameFunctionalGroupsSequence, whole.NumberOfFrames = groups[part], len(groups[part])
        whole.PixelData = pixels[part].tobytes()
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = f"1.2.{ord(name)}"
        whole.save_as(tmp_path / "multi" / f"{name}.dcm")
    (ct / "ct.dcm").unlink()
    (series,) = find_series(ct, "CT")
    check_export(series, "IGTV")
    with pytest.raises(IGTVError, match="several multi-frame files"):
        check_export(series, "IGTV", seg=True)
    image = upright.image(ring)
    rs = write_rtstruct(image, ct, tmp_path / "rs.dcm")
    assert (sitk.GetArrayFromImage(read_structure(rs, "IGTV", image)) == ring).all()
    uids = [
        c.ContourImageSequence[0].ReferencedSOPInstanceUID
        for c in dcmread(rs).ROIContourSequence[0].ContourSequence
    ]
    assert set(uids) == {"1.2.97", "1.2.98"}


@pytest.mark.parametrize("angles", [(20, -35, 50), (0, 90, 0)])
def test_seg_of_an_oblique_ct(angles, ring, upright, write_ct, tmp_path):
    pytest.importorskip("highdicom")
    turn = sitk.Euler3DTransform((0, 0, 0), *np.radians(angles))
    geometry = Grid(upright.size, upright.spacing, upright.origin, tuple(turn.GetMatrix()))
    seg = write_seg(geometry.image(ring), write_ct(tmp_path / "ct", geometry), tmp_path / "seg.dcm")
    assert (read_seg(seg, ring.shape, geometry) == ring).all()


def test_no_warning_quotes_the_patient(ring, upright, write_ct, tmp_path, recwarn):
    """Libraries complain about odd names and quote them; logs must not."""
    pytest.importorskip("highdicom")
    ct = write_ct(tmp_path / "ct", upright)
    for path in ct.iterdir():
        dataset = dcmread(path)
        dataset.PatientName = "Onlyonename"
        dataset.save_as(path)
    mask = upright.image(ring)
    write_seg(mask, ct, tmp_path / "seg.dcm")
    write_rtstruct(mask, ct, tmp_path / "rs.dcm")
    assert dcmread(tmp_path / "seg.dcm").PatientName == "Onlyonename"
    assert not [w for w in recwarn if "Onlyonename" in str(w.message)]
