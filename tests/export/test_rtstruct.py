"""Mask -> RTSTRUCT -> mask loses no voxel, whoever reads and however the axes run."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from nnunet_igtv import read_structure
from nnunet_igtv.commands.main import main
from nnunet_igtv.dicom.series import find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export import write_rtstruct
from nnunet_igtv.export.uids import ROOT
from nnunet_igtv.grids import Grid
from nnunet_igtv.phantom.cohort import simulate, write_cohort


def shapes():
    """Name -> mask (7, 11, 14)."""
    empty = np.zeros((7, 11, 14), bool)

    def filled(*boxes):
        mask = empty.copy()
        for box in boxes:
            mask[box] = True
        return mask

    ring = filled(np.s_[2:5, 2:9, 3:12])
    ring[2:5, 4:7, 5:10] = False
    island = ring.copy()
    island[3, 5, 7] = True
    touching = ring.copy()
    touching[3, 3, 4] = touching[3, 2, 3] = False  # the hole meets the outside at a corner
    checkers = np.indices(empty.shape).sum(0) % 2 == 0
    return {
        "ring with hole": ring,
        "ring with island": island,
        "hole touching the outside": touching,
        "single voxel": filled(np.s_[3, 5, 6]),
        "diagonal pair": filled(np.s_[3, 5, 6], np.s_[3, 6, 7]),
        "bar of two": filled(np.s_[3, 5, 6:8]),
        "all corners": filled(*(np.s_[k, j, i] for k in (0, 6) for j in (0, 10) for i in (0, 13))),
        "whole image": ~empty,
        "checkerboard": checkers,
        "two lesions": filled(np.s_[1:3, 1:4, 1:4], np.s_[5:7, 7:10, 8:13]),
        "missing slice": filled(np.s_[1, 2:6, 2:6], np.s_[3, 2:6, 2:6]),
        "every second slice": filled(*(np.s_[k, 2:6, 2:6] for k in (0, 2, 4, 6))),
        "every third slice": filled(*(np.s_[k, 2:6, 2:6] for k in (0, 3, 6))),
        "an island on every second slice": filled(np.s_[:, 1:4, 1:4], np.s_[::2, 6, 9]),
    }


def proper_orientations():
    """The 24 right-handed ways in which a CT's axes can run along the patient's, and two oblique ones."""
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            matrix = np.eye(3)[:, order] * signs
            if np.linalg.det(matrix) > 0:
                yield pytest.param(matrix, id=f"{order}{signs}")
    for angles in ((20, -35, 50), (3, 2, -4)):
        turn = sitk.Euler3DTransform((0, 0, 0), *np.radians(angles))
        yield pytest.param(np.array(turn.GetMatrix()).reshape(3, 3), id=f"oblique{angles}")


def check(mask, geometry, ct, output, read_independently):
    write_rtstruct(geometry.image(mask.astype(np.uint8)), ct, output)
    ours = sitk.GetArrayFromImage(read_structure(output, "IGTV", geometry.image(mask.astype(np.uint8))))
    assert np.count_nonzero(ours != mask) == 0
    assert np.count_nonzero(read_independently(output, "IGTV", geometry, ct) != mask) == 0


@pytest.mark.parametrize("name", shapes())
def test_round_trip_of_shapes(name, upright, write_ct, read_independently, tmp_path):
    check(
        shapes()[name], upright, write_ct(tmp_path / "ct", upright), tmp_path / "rs.dcm", read_independently
    )


@pytest.mark.parametrize("direction", list(proper_orientations()))
def test_round_trip_in_every_orientation(direction, upright, write_ct, read_independently, tmp_path):
    geometry = Grid(upright.size, upright.spacing, upright.origin, tuple(direction.ravel()))
    ct = write_ct(tmp_path / "ct", geometry)
    check(shapes()["ring with island"], geometry, ct, tmp_path / "rs.dcm", read_independently)


@pytest.mark.law
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    density=st.floats(0.02, 0.98),
    empty=st.sampled_from([(), (1, 3, 5), (0, 2, 4, 6), (1, 2, 4, 5), (2, 3), (0, 1, 3, 4, 5)]),
)
def test_round_trip_of_random_masks(
    seed, density, empty, upright, write_ct, read_independently, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("random")
    mask = np.random.default_rng(seed).random((7, 11, 14)) < density
    mask[list(empty)] = False
    if mask.any():
        check(mask, upright, write_ct(folder / "ct", upright), folder / "rs.dcm", read_independently)


def steps_that_grow(k):
    return 0, 0, 3 * k + 0.09 * max(0, k - 30)


def one_decimal(k):
    return 0, 0, round(0.625 * k, 1)


def drift(k):
    return 0, 0.48 * k / 59, 3 * k


def drift_in_both(k):
    return 0.24 * k / 59, -0.24 * k / 59, 3 * k


@pytest.mark.parametrize(
    ("position", "step"), [(steps_that_grow, 3.0), (one_decimal, 0.625), (drift, 3.0), (drift_in_both, 3.0)]
)
def test_contours_lie_on_the_images_of_an_irregular_ct(
    position, step, write_ct, read_independently, tmp_path
):
    """As the tolerances of the grid let pass, not where a regular grid would have the slices."""
    stated = Grid((14, 11, 60), (1.0, 1.0, step), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))

    def place(image):
        image.ImagePositionPatient = [f"{value:.4f}" for value in position(image.InstanceNumber - 1)]

    ct = write_ct(tmp_path / "ct", stated, change=place)
    (series,) = find_series(ct, "CT")
    mask = np.random.default_rng(3).random((60, 11, 14)) < 0.4
    mask[::7] = False
    check(mask, series.grid, ct, tmp_path / "rs.dcm", read_independently)
    of_image = {h.SOPInstanceUID: np.array(h.ImagePositionPatient, float) for h in series.headers}
    for contour in dcmread(tmp_path / "rs.dcm").ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        own = points - of_image[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert np.abs(own[:, 2]).max() < 0.001
        assert np.abs(2 * own - np.round(2 * own)).max() < 0.002  # halfway between voxels of that image


@pytest.mark.parametrize("kind", ["gtv", "igtv"])
def test_round_trip_of_phantoms(kind, read_independently, tmp_path):
    (study,) = write_cohort(kind, 1, 4, 48, 24, tmp_path)
    _, _, scan = simulate(kind, 4, 0, 48, 24)
    from nnunet_igtv import read_ct

    ct = read_ct(study / "CT")
    read_back = read_structure(study / "RTSTRUCT" / "RTSTRUCT.dcm", kind.upper(), ct)
    assert (sitk.GetArrayFromImage(read_back) == scan.structure).all()
    geometry = Grid(ct.GetSize(), ct.GetSpacing(), ct.GetOrigin(), ct.GetDirection())
    check(scan.structure, geometry, study / "CT", tmp_path / "again.dcm", read_independently)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(False, False, True), (True, True, False), (True, True, True)])
def test_mask_whose_axes_run_otherwise(axes, flips, upright, write_ct, read_independently, tmp_path):
    """As after a detour through software that reorients images; the patient's voxels stay the same."""
    mask = shapes()["two lesions"]
    ct = write_ct(tmp_path / "ct", upright)
    turned = sitk.Flip(sitk.PermuteAxes(upright.image(mask.astype(np.uint8)), axes), flips)
    write_rtstruct(turned, ct, tmp_path / "rs.dcm")
    assert (read_independently(tmp_path / "rs.dcm", "IGTV", upright, ct) == mask).all()


def test_cropped_mask_through_a_nifti_file(upright, write_ct, read_independently, tmp_path):
    mask = shapes()["ring with hole"]
    ct = write_ct(tmp_path / "ct", upright)
    sitk.WriteImage(upright.image(mask.astype(np.uint8))[2:, 1:, 1:6], str(tmp_path / "crop.nii.gz"))
    write_rtstruct(sitk.ReadImage(str(tmp_path / "crop.nii.gz")), ct, tmp_path / "rs.dcm")
    assert (read_independently(tmp_path / "rs.dcm", "IGTV", upright, ct) == mask).all()


def test_contours_lie_on_the_half_voxel_boundary(upright, write_ct, tmp_path):
    mask = np.zeros((7, 11, 14), bool)
    mask[3, 2:9, 3:12] = True
    write_rtstruct(
        upright.image(mask.astype(np.uint8)), write_ct(tmp_path / "ct", upright), tmp_path / "rs.dcm"
    )
    (contour,) = dcmread(tmp_path / "rs.dcm").ROIContourSequence[0].ContourSequence
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    assert points[:, 0].min() == pytest.approx(-12 + 1.5 * 2.5)
    assert points[:, 0].max() == pytest.approx(-12 + 1.5 * 11.5)
    assert points[:, 1].min() == pytest.approx(30.5 + 2.0 * 1.5)
    assert set(points[:, 2]) == {-91.0}


def test_what_the_file_says(upright, write_ct, tmp_path):
    ct = write_ct(tmp_path / "ct", upright)
    mask = upright.image(shapes()["ring with hole"].astype(np.uint8))
    dataset = dcmread(write_rtstruct(mask, ct, tmp_path / "rs.dcm", colour=(1, 2, 3)))
    header = dcmread(next(ct.iterdir()))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert dataset[keyword].value == header[keyword].value
    assert dataset.SOPInstanceUID.startswith(ROOT)
    assert dataset.SeriesInstanceUID.startswith(ROOT)
    assert dataset.file_meta.ImplementationClassUID.startswith(ROOT)
    (structure,), (roi,) = dataset.StructureSetROISequence, dataset.ROIContourSequence
    assert (structure.ROIName, structure.ROIGenerationAlgorithm) == ("IGTV", "AUTOMATIC")
    assert list(roi.ROIDisplayColor) == [1, 2, 3]
    assert {contour.ContourGeometricType for contour in roi.ContourSequence} == {"CLOSED_PLANAR"}
    assert len(roi.ContourSequence) == 6  # outline and hole in each of three slices
    assert dataset.RTROIObservationsSequence[0].RTROIInterpretedType == "GTV"
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    assert len(series.ContourImageSequence) == 7
    other = dcmread(write_rtstruct(mask, ct, tmp_path / "rs2.dcm"))
    assert other.SOPInstanceUID != dataset.SOPInstanceUID


def test_refusals_leave_nothing_behind(upright, write_ct, tmp_path):
    ct = write_ct(tmp_path / "ct", upright)
    mask = upright.image(shapes()["single voxel"].astype(np.uint8))
    output = tmp_path / "out" / "rs.dcm"

    def refused(match, mask=mask, ct=ct, **more):
        with pytest.raises(IGTVError, match=match):
            write_rtstruct(mask, ct, output, **more)
        assert not output.exists()

    refused("mask is empty", upright.image(np.zeros((7, 11, 14), np.uint8)))
    (tmp_path / "nothing").mkdir()
    refused("no CT series", ct=tmp_path / "nothing")
    refused("no such file or folder", ct=tmp_path / "absent")
    shifted = upright.image(shapes()["single voxel"].astype(np.uint8))
    shifted.SetOrigin((-12.6, 30.5, -100.0))
    refused("are not those of the CT", shifted)
    coarse = upright.image(shapes()["single voxel"].astype(np.uint8))
    coarse.SetSpacing((1.6, 2.0, 3.0))
    refused("are not those of the CT", coarse)
    beyond = upright.image(shapes()["all corners"].astype(np.uint8))
    beyond.SetOrigin((-12.0, 30.5, -103.0))  # a slice lower
    refused("reaches outside", beyond)
    other = write_ct(tmp_path / "other" / "ct", upright, study="another")
    foreign = write_rtstruct(mask, other, tmp_path / "foreign.dcm")
    refused("another patient or study", extend=foreign)
    refused("no such file", extend=tmp_path / "absent.dcm")
    refused("is no RTSTRUCT", extend=next(ct.iterdir()))


def test_what_exists_is_replaced_when_asked_for_only(upright, write_ct, tmp_path):
    ct = write_ct(tmp_path / "ct", upright)
    mask = upright.image(shapes()["single voxel"].astype(np.uint8))
    output = write_rtstruct(mask, ct, tmp_path / "rs.dcm", "old")
    before = output.read_bytes()
    with pytest.raises(IGTVError, match="exists already") as error:
        write_rtstruct(mask, ct, output, "new")
    assert "overwrite" in error.value.settings
    assert output.read_bytes() == before
    write_rtstruct(mask, ct, output, "new", overwrite=True)
    assert dcmread(output).StructureSetROISequence[0].ROIName == "new"
    image = next(ct.iterdir())
    before = image.read_bytes()
    with pytest.raises(IGTVError, match="is no RTSTRUCT, and is not overwritten"):
        write_rtstruct(mask, ct, image, overwrite=True)
    assert image.read_bytes() == before


def series_named(dataset):
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    return [series.SeriesInstanceUID for series in study.RTReferencedSeriesSequence]


def uid_of(folder):
    return dcmread(next(folder.iterdir())).SeriesInstanceUID


def test_two_series_on_one_grid_are_not_guessed_between(upright, write_ct, tmp_path, capsys):
    first, second = (write_ct(tmp_path / "study" / name, upright, series=name) for name in "ab")
    mask = upright.image(shapes()["single voxel"].astype(np.uint8))
    with pytest.raises(IGTVError, match="2 CT series could serve") as refused:
        write_rtstruct(mask, tmp_path / "study", tmp_path / "rs.dcm")
    assert len(refused.value.table.splitlines()) == 3
    named = write_rtstruct(mask, tmp_path / "study", tmp_path / "named.dcm", ct=uid_of(second))
    assert series_named(dcmread(named)) == [uid_of(second)]
    with pytest.raises(IGTVError, match="no CT series is meant by"):
        write_rtstruct(mask, first, tmp_path / "rs.dcm", ct="contrast")
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    output = tmp_path / "rs.dcm"
    inputs = [tmp_path / "mask.nii.gz", "--ct", tmp_path / "study", "-o", output]
    command = ["export", "rtstruct", *map(str, inputs)]
    assert main(command) == 1
    assert "(--series)" in capsys.readouterr().err
    assert main([*command, "--series", f"uid:{uid_of(first)[-8:]}"]) == 0
    assert series_named(dcmread(output)) == [uid_of(first)]


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_the_choice_between_two_series_is_said(kind, upright, write_ct, tmp_path, capsys):
    """As predict-dicom says it: the average that was predicted on may not be the CT that the rules take."""
    if kind == "seg":
        pytest.importorskip("highdicom")
    for name, image_type in (("free", "ORIGINAL"), ("average", "DERIVED")):
        labels = {"ImageType": [image_type, "PRIMARY", "AXIAL"], "SeriesDescription": name}
        write_ct(tmp_path / "study" / name, upright, series=name, **labels)
    sitk.WriteImage(upright.image(shapes()["single voxel"].astype(np.uint8)), str(tmp_path / "mask.nii.gz"))
    output = tmp_path / "out.dcm"
    command = [
        "export",
        kind,
        *map(str, [tmp_path / "mask.nii.gz", "--ct", tmp_path / "study", "-o", output]),
    ]
    assert main(command) == 0
    said, written = capsys.readouterr().out.splitlines()
    assert said.startswith("CT: series 1 'free' of 2020-01-01")
    assert said.endswith("; ORIGINAL, not DERIVED (of 2 CT series)")
    assert written == str(output)
    assert main([*command, "--overwrite", "--series", "average"]) == 0
    assert capsys.readouterr().out.startswith("CT: series 1 'average' of 2020-01-01")


def test_the_structure_set_to_extend_tells_the_series(upright, write_ct, tmp_path):
    first, _ = (write_ct(tmp_path / "study" / name, upright, series=name) for name in "ab")
    mask = upright.image(shapes()["single voxel"].astype(np.uint8))
    old = write_rtstruct(mask, first, tmp_path / "old.dcm")
    extended = write_rtstruct(mask, tmp_path / "study", tmp_path / "new.dcm", "more", extend=old)
    assert series_named(dcmread(extended)) == [uid_of(first)]


def test_two_visits_on_one_grid_are_not_told_apart_by_image_type(upright, write_ct, tmp_path):
    """The table was at the same place: the voxels coincide, the frames of reference differ."""
    first, second = (write_ct(tmp_path / "patient" / name, upright, study=name) for name in "ab")
    for path in first.iterdir():
        dataset = dcmread(path)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.save_as(path)
    mask = upright.image(shapes()["single voxel"].astype(np.uint8))
    with pytest.raises(IGTVError, match="in 2 studies and 2 frames of reference"):
        write_rtstruct(mask, tmp_path / "patient", tmp_path / "rs.dcm")
    study = dcmread(next(second.iterdir())).StudyInstanceUID
    named = write_rtstruct(mask, tmp_path / "patient", tmp_path / "rs.dcm", study=study)
    assert series_named(dcmread(named)) == [uid_of(second)]


def test_series_on_another_grid_is_passed_over(upright, write_ct, tmp_path):
    other = Grid((8, 8, 5), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0), upright.direction)
    write_ct(tmp_path / "study" / "scout", other, series="scout")
    ct = write_ct(tmp_path / "study" / "ct", upright)
    mask = upright.image(shapes()["single voxel"].astype(np.uint8))
    dataset = dcmread(write_rtstruct(mask, tmp_path / "study", tmp_path / "rs.dcm"))
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == dcmread(next(ct.iterdir())).SeriesInstanceUID
