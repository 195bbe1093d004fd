"""What contour items mean: geometric types, offsets, damage; the right mask with a note, or a refusal."""

import json
import warnings
from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv import read_ct, read_structure
from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import read_structure_set

WHOLE = 4 * 6 * 5  # voxels of the study's structure


@pytest.fixture
def read(tmp_path, patient):
    """read(change): the mask, and the warnings about the structure, after `change(study)`."""

    def read(change):
        study = patient()
        change(study)
        folder = study.write(tmp_path / "study")
        file = folder / "RT" / "000.dcm"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mask = sitk.GetArrayFromImage(read_structure(file, "IGTV", read_ct(folder)))
        said = [str(warning.message) for warning in caught]
        return mask, [text.removeprefix("structure 'IGTV': ") for text in said if "'IGTV'" in text]

    return read


def with_type(kind, which=slice(1, 3)):
    def change(study):
        for item in study.contours[which]:
            if kind is None:
                del item.ContourGeometricType
            else:
                item.ContourGeometricType = kind

    return change


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR", "closed_planar ", "INTERPOLATED_PLANAR"])
def test_closed_types_need_no_remark(kind, read):
    mask, notes = read(with_type(kind))
    assert mask.sum() == WHOLE
    assert not notes


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (None, "no geometric type"),
        ("", "no geometric type"),
        *((kind, kind) for kind in ("OPEN_PLANAR", "OPEN_NONPLANAR", "SPLINE")),
    ],
)
def test_outlines_of_other_types_are_taken_as_closed_and_reported(kind, said, read):
    mask, notes = read(with_type(kind))
    assert mask.sum() == WHOLE
    assert len(notes) == 1
    assert f"2 contour(s) with {'the geometric type ' if kind else ''}{said}" in notes[0]


def arc(study, dicom, k):
    """An open line around three quarters of a circle on slice `k`."""
    angle = np.linspace(0, 1.5 * np.pi, 20)
    points = np.column_stack([21 + 5 * np.cos(angle), 18 + 5 * np.sin(angle), np.full(20, 3.0 * k)])
    return dicom.contour(points.ravel(), "OPEN_PLANAR")


def test_a_line_where_an_outline_is_missing_is_refused(read, dicom):
    def change(study):
        study.contours[1] = arc(study, dicom, 4)

    with pytest.raises(IGTVError, match=r"'IGTV': contours of the geometric type OPEN_PLANAR .* no outlines"):
        read(change)


def test_a_line_beside_an_outline_is_left_out(read, dicom, tmp_path, capsys):
    mask, _ = read(lambda study: study.contours.append(arc(study, dicom, 4)))
    assert mask.sum() == WHOLE
    assert main(["inspect", str(tmp_path / "study"), "--json"]) == 0
    (structures,) = json.loads(capsys.readouterr().out)["structure_sets"]
    assert structures["structures"][0]["notes"] == [
        "structure 'IGTV': 1 contour(s) of the geometric type OPEN_PLANAR are no outlines: left out"
    ]
    assert main(["inspect", str(tmp_path / "study")]) == 0
    assert "are no outlines: left out" in capsys.readouterr().out


def test_single_clicks_are_left_out_and_counted(read, dicom):
    def change(study):
        study.contours.append(dicom.contour([20, 18, 12], "POINT"))
        study.contours.append(dicom.contour([20, 18, 12, 24, 18, 12]))

    mask, notes = read(change)
    assert mask.sum() == WHOLE
    assert len(notes) == 1
    assert "2 contour(s) of fewer than three points (geometric type CLOSED_PLANAR, POINT)" in notes[0]


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR"])
def test_a_structure_of_points_or_lines_alone_is_refused(kind, read, dicom):
    def change(study):
        for k, item in enumerate(study.contours):
            item.ContourGeometricType = kind
            if kind == "OPEN_PLANAR":
                item.ContourData = arc(study, dicom, k + 3).ContourData

    with pytest.raises(IGTVError, match=rf"'IGTV' has no closed contours .*geometric type {kind}"):
        read(change)


def test_the_offset_vector_moves_the_contours(read):
    def change(study):
        for item in study.contours:
            item.add_new(0x30060045, "DS", ["2", "0", "-3"])

    mask, notes = read(change)
    plain, _ = read(lambda study: None)
    assert np.array_equal(mask, np.roll(plain, (-1, 1), axis=(0, 2)))
    assert notes == ["4 contour(s) were moved by their Contour Offset Vector (3006,0045), by up to 3.0 mm"]


def test_an_offset_of_zero_is_none(read):
    mask, notes = read(lambda study: study.contours[0].add_new(0x30060045, "DS", ["0", "0", "0"]))
    assert mask.sum() == WHOLE
    assert not notes


def damage_triples(item):
    item.ContourData = list(item.ContourData)[:-1]


def damage_number(item):
    item.ContourData = ["inf", *list(item.ContourData)[1:]]


def damage_offset(item):
    item.add_new(0x30060045, "DS", ["0", "6"])


@pytest.mark.parametrize("damage", [damage_triples, damage_offset])
def test_damage_counts_where_it_is(damage, read, dicom):
    """A structure that cannot be read does not keep others from being used."""

    def other(study):
        dicom.add_roi(study.rt[0], "LUNG", deepcopy(list(study.contours)))
        damage(study.rt[0].ROIContourSequence[1].ContourSequence[2])

    assert read(other)[0].sum() == WHOLE
    with pytest.raises(IGTVError, match=r"'IGTV': contour data|'IGTV': a Contour Offset Vector"):
        read(lambda study: damage(study.contours[2]))


def test_other_numbers_of_points_are_counted(read):
    def change(study):
        study.contours[0].NumberOfContourPoints = 12

    mask, notes = read(change)
    assert mask.sum() == WHOLE
    assert notes == ["1 contour(s) have another number of points than their header says"]


def test_structures_that_share_a_number_are_refused(read, dicom):
    def change(study):
        dicom.add_roi(study.rt[0], "LUNG", [])
        study.rois[1].ROINumber = 1

    with pytest.raises(IGTVError, match="2 structures have the number 1"):
        read(change)


def test_empty_numbers_do_no_harm_to_the_other_structures(read, dicom):
    def change(study):
        dicom.add_roi(study.rt[0], "LUNG", [])
        study.rois[1].ROINumber = None
        study.rt[0].ROIContourSequence[1].ReferencedROINumber = None

    mask, notes = read(change)
    assert mask.sum() == WHOLE
    assert notes == []


def test_a_structure_without_a_number_is_refused(read):
    def change(study):
        study.rois[0].ROINumber = study.rt[0].ROIContourSequence[0].ReferencedROINumber = None

    with pytest.raises(IGTVError, match=r"structure 'IGTV' has no ROI Number \(3006,0022\)"):
        read(change)


@pytest.mark.parametrize(
    ("description", "filled"),
    [("nnunet-igtv: contours on every slice of 3 mm", [2, 4, 6]), ("by hand, 3 mm", [2, 3, 4, 5, 6, 7])],
)
def test_only_our_files_say_that_slices_between_contours_are_empty(description, filled, read, dicom):
    """A prediction may have parts on every second slice; people who draw so mean slabs."""

    def change(study):
        drawn = [dicom.contour(dicom.square(15, 13, 27, 23, 3 * k)) for k in (2, 4, 6)]
        study.rt[0].ROIContourSequence[0].ContourSequence = drawn
        study.rois[0].ROIGenerationDescription = description

    mask, _ = read(change)
    assert np.flatnonzero(mask.any((1, 2))).tolist() == filled


def test_many_names_are_listed_in_part(tmp_path, patient, dicom):
    study = patient()
    for number in range(500):
        dicom.add_roi(study.rt[0], f"optimisation {number:04d}", [])
    file = study.write(tmp_path) / "RT" / "000.dcm"
    with pytest.raises(IGTVError, match="'optimisation 0028' and 471 more") as error:
        read_structure_set(file).select("absent")
    assert len(str(error.value)) < 1500
