"""Phases of a 4D-CT, however they are told, and the structures that belong to them."""

from copy import deepcopy
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from nnunet_igtv.dicom.phases import moments_in
from nnunet_igtv.dicom.series import group_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import structure_set
from nnunet_igtv.studies.breath_ct import breath_ct, phase_meant
from nnunet_igtv.studies.choice import choose_ct
from nnunet_igtv.studies.grouping import Study
from nnunet_igtv.studies.known import ReadingOptions
from nnunet_igtv.studies.phase_structures import phase_structures
from nnunet_igtv.studies.phases import find_4d, the_4d
from nnunet_igtv.studies.projections import combined

TENTHS = range(0, 100, 10)


def breath(patient, told, one_series=False, counts=None):
    """The CT of a small study once for each of some phases; `told` sets what tells a phase: (image, number,
    percent). `counts`: how many images a phase has."""
    images, common = [], generate_uid()
    for number, percent in enumerate(counts or TENTHS):
        uid = common if one_series else generate_uid()
        for image in deepcopy(patient.ct):
            image.SeriesInstanceUID, image.SOPInstanceUID = uid, generate_uid()
            told(image, number, percent)
            images.append(image)
    return images


def series_of(images):
    return group_series((Path(f"{k}.dcm"), image) for k, image in enumerate(images))


def attribute(name, value=lambda number, percent: percent):
    return lambda image, number, percent: setattr(image, name, value(number, percent))


def told_in(name, form="Gated, {:.1f}%B"):
    return attribute(name, lambda number, percent: form.format(percent))


PERCENT = [f"{p} %" for p in TENTHS]
NUMBERS = [f"number {k}" for k in range(1, 11)]
WAYS = {
    "description": (told_in("SeriesDescription"), PERCENT),
    "Philips": (told_in("SeriesDescription", "T={:.0f}%"), PERCENT),
    "GE": (told_in("SeriesDescription", "CT T{:02.0f} iDose 40%"), PERCENT),
    "numbered": (attribute("SeriesDescription", lambda k, p: f"Phase {k + 1} of 10"), NUMBERS),
    "comments": (told_in("ImageComments", "4D, {:.0f} %"), PERCENT),
    "respiratory": (attribute("NominalPercentageOfRespiratoryPhase"), PERCENT),
    "identifier": (attribute("TemporalPositionIdentifier", lambda k, p: k + 1), NUMBERS),
    "index": (attribute("TemporalPositionIndex", lambda k, p: k + 1), NUMBERS),
    "acquisition": (attribute("AcquisitionNumber", lambda k, p: k + 1), NUMBERS),
    "trigger": (attribute("TriggerTime", lambda k, p: 400 * k), [f"{400 * k} ms" for k in range(10)]),
}


@pytest.mark.parametrize("one_series", [False, True], ids=["ten series", "one series"])
@pytest.mark.parametrize("way", WAYS)
def test_phases_are_found_however_they_are_told(patient, way, one_series):
    told, expected = WAYS[way]
    (found,) = find_4d(series_of(breath(patient(), told, one_series)))
    assert [str(phase) for phase in found.phases] == expected
    assert not found.twice
    assert not found.missing
    assert all(phase.series.fault is None and len(phase.series.headers) == 10 for phase in found.phases)
    assert found.grid.size == (24, 20, 10)


def test_amplitudes_go_in_and_out(patient):
    bins = ("0% In", "50% In", "100% In", "50% Ex", "0% Ex")
    told = attribute("SeriesDescription", lambda k, p: f"amplitude {bins[k]}")
    (found,) = find_4d(series_of(breath(patient(), told, counts=range(5))))
    expected = ["0 % In", "50 % In", "100 % In", "100 % Ex", "50 % Ex", "0 % Ex"]
    assert [str(p) for p in found.phases] == [name for name in expected if name != "100 % Ex"]
    assert not found.missing
    assert str(phase_meant(found, "50 In")) == "50 % In"
    with pytest.raises(IGTVError, match="no phase '50'"):  # of two
        phase_meant(found, "50")


@pytest.mark.parametrize(
    ("percents", "missing"),
    [
        ((0, 17, 33, 50, 67, 83), ()),
        ((0, 12.5, 25, 37.5, 50, 62.5, 75, 87.5), ()),
        ((0, 50), ()),
        ((0, 10, 20, 40, 50, 60, 70, 80, 90), ("30 %",)),
        ((0, 16, 33, 66, 83), ("50 %",)),
        ((30, 40, 50, 60, 70), ("0 %", "10 %", "20 %", "80 %", "90 %")),
        ((0, 7, 60), ()),  # no equal steps: nothing can be missed
    ],
)
def test_partial_sets(patient, percents, missing):
    images = breath(patient(), told_in("SeriesDescription", "{}%"), counts=percents)
    (found,) = find_4d(series_of(images))
    assert len(found.phases) == len(percents)
    assert tuple(map(str, found.missing)) == missing


def test_number_of_temporal_positions_tells_what_is_missing(patient):
    def told(image, number, percent):
        image.TemporalPositionIdentifier, image.NumberOfTemporalPositions = number + 1, 10

    (found,) = find_4d(series_of(breath(patient(), told, counts=range(8))))
    assert [str(m) for m in found.missing] == ["number 9", "number 10"]


def test_projections_are_no_phases(patient):
    """Also where their description holds percentages."""
    study = patient()
    images = breath(study, told_in("SeriesDescription"))
    for name in ("AveIP 0-90%", "MIP 0% to 90%", "MinIP", "planning"):
        images += breath(study, attribute("SeriesDescription", lambda k, p, n=name: n), counts=[0])
    (found,) = find_4d(series_of(images))
    assert len(found.phases) == 10
    assert [s.description for s in found.averages] == ["AveIP 0-90%"]
    assert [s.description for s in found.maxima] == ["MIP 0% to 90%"]


def test_what_is_no_4d_ct(patient):
    """Acquisitions, kernels and reconstructions have numbers and percentages too."""
    study = patient()

    def acquisition(image, number, percent):
        image.AcquisitionNumber, image.SeriesDescription = (
            number + 1,
            f"thorax {('native', 'venous')[number]}",
        )

    for images in (
        breath(study, acquisition, counts=range(2)),
        breath(study, told_in("SeriesDescription", "lung iDose {:.0f}%"), counts=(30, 50)),
        breath(study, told_in("SeriesDescription", "CT 40%"), counts=range(2)),
        breath(study, told_in("SeriesDescription", "CT"), one_series=True),
    ):
        assert not find_4d(series_of(images))
    with pytest.raises(IGTVError, match="no phases of the breath can be recognised"):
        the_4d(series_of(images))


def test_a_phase_twice_is_neither(patient):
    """In series of their own, and in one series: there the numbers of acquisitions do not settle it."""
    images = breath(patient(), told_in("SeriesDescription"), counts=[*TENTHS, 40])
    (found,) = find_4d(series_of(images))
    assert {str(m): len(s) for m, s in found.twice.items()} == {"40 %": 2}
    assert len(found.phases) == 9
    with pytest.raises(IGTVError, match="phase 40 % has 2 CT series"):
        breath_ct(found.series, found, "average")

    def told(image, number, percent):
        image.SeriesDescription, image.AcquisitionNumber = f"{percent}%", number + 1

    (found,) = find_4d(series_of(breath(patient(), told, True, counts=[*TENTHS, 40])))
    assert list(map(str, found.faulty)) == ["40 %"]
    assert len(found.phases) == 9
    with pytest.raises(IGTVError, match="9 of 10 phases can be used to make their average: phase 40 %: "):
        breath_ct(found.series, found, "average")
    assert len(breath_ct(found.series, found, "average", needed=9).series.parts) == 9


def test_grids_that_differ_are_refused(patient):
    def told(image, number, percent):
        image.SeriesDescription = f"{percent}%"
        if percent == 30:
            image.PixelSpacing = [2.5, 2.5]

    (found,) = find_4d(series_of(breath(patient(), told)))
    with pytest.raises(IGTVError, match=r"phase 30 % has spacing \(2.5, 2.5, 3\)"):
        _ = found.grid


def test_of_several_numbers_those_that_differ_count():
    assert [m.value for m in moments_in(["recon 80% at 0%", "recon 80% at 50%"])] == [0, 50]


# ---------------------------------------------------------------------------------------------- structures


GATED = told_in("SeriesDescription")


def study_of(patient, dicom, names, counts=TENTHS, drawn_on=None, told=GATED):
    """Phases, and one structure set with structures of these names, drawn on the series of a phase."""
    own = patient()
    series = series_of(breath(own, told, counts=counts))
    rt = own.rt[0]
    rt.StructureSetROISequence, contours = [], rt.ROIContourSequence[0].ContourSequence
    rt.ROIContourSequence = []
    for contour in contours:
        del contour.ContourImageSequence
    for name in names:
        dicom.add_roi(rt, name, contours)
    reference = rt.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    found = the_4d(series)
    uid = "1.9" if drawn_on is None else found.phases[drawn_on].series.uid
    reference.RTReferencedSeriesSequence[0].SeriesInstanceUID = uid
    study = Study(series, [structure_set(Path("rt.dcm"), rt)])
    return study, found


def test_structures_by_their_names(patient, dicom):
    names = [f"Tumor_c{p:02d}" for p in TENTHS]
    found = phase_structures(*study_of(patient, dicom, ["Lung_c40", *names]), "tumor-c{phase}")
    assert found.names == names
    assert [str(phase) for phase, _ in found.drawn] == PERCENT


@pytest.mark.parametrize(
    ("names", "counts", "what"),
    [
        ([f"GTV_{p}" for p in TENTHS if p != 30], TENTHS, "phase 30 % has no structure"),
        ([f"GTV_{p}" for p in (*TENTHS, 30)], TENTHS, "phase 30 % has 2 structures"),
        ([f"GTV_{p}" for p in TENTHS], [p for p in TENTHS if p != 30], "phase 30 % has no CT series"),
        ([f"GTV_{p}" for p in TENTHS], [*TENTHS, 30], "phase 30 % has 2 CT series"),
        ([f"GTV_{p}" for p in (*TENTHS, 95)], TENTHS, "structure 'GTV_95' is of no phase that is there"),
        ([f"GTV_{p}" for p in (*TENTHS, 33)], TENTHS, "structure 'GTV_33' is of no phase that is there"),
        ([f"GTV_{p}" for p in (*TENTHS, "20In")], TENTHS, "structure 'GTV_20In' is of no phase that is"),
    ],
)
def test_every_phase_that_is_missing_or_twice_is_named(patient, dicom, names, counts, what):
    study, found = study_of(patient, dicom, names, counts)
    with pytest.raises(IGTVError, match=what) as caught:
        phase_structures(study, found, "GTV_{phase}")
    assert "min_phases" in caught.value.settings
    enough = phase_structures(study, found, "GTV_{phase}", needed=9)
    assert len(enough.drawn) >= 9
    assert any(what in problem for problem in enough.problems)


def test_more_phases_than_there_are_is_never_enough(patient, dicom):
    """Of a whole breath, too."""
    study, found = study_of(patient, dicom, [f"GTV_{p}" for p in TENTHS], TENTHS)
    with pytest.raises(IGTVError, match=r"10 of 10 phases .*: at least 12 are needed"):
        phase_structures(study, found, "GTV_{phase}", needed=12)
    with pytest.raises(IGTVError, match=r"10 of 10 phases .*: at least 12 are needed"):
        combined(found, "average", needed=12)
    assert len(phase_structures(study, found, "GTV_{phase}", needed=10).drawn) == 10


def test_numbers_of_tumours_are_no_phases(patient, dicom):
    """They are named all the same."""
    study, found = study_of(patient, dicom, [*(f"GTV{p}" for p in TENTHS), "GTV1", "GTV2019"])
    drawn = phase_structures(study, found, "GTV{phase}")
    assert len(drawn.drawn) == 10
    assert [problem.split(":")[0] for problem in drawn.problems] == [
        "structure 'GTV1' is of no phase that is there",
        "structure 'GTV2019' is of no phase that is there",
    ]


@pytest.mark.parametrize("form", ["GTV_{}", "GTV_{:02d}", "GTV_{:03d}", "GTV_{:.1f}", "GTV_{} %"])
def test_however_percentages_are_written_each_phase_gets_its_own(patient, dicom, form):
    names = [form.format(p) for p in TENTHS]
    study, breath = study_of(patient, dicom, names)
    for pattern in ("GTV_{phase}", "GTV.*{phase}.*", "GTV_{phase}.*"):
        for unite in (False, True):
            found = phase_structures(study, breath, pattern, unite=unite)
            drawn = [(str(phase), *(roi.name for roi in rois)) for phase, rois in found.drawn]
            assert drawn == list(zip(PERCENT, names, strict=True))
            assert not found.problems


def test_decimals_are_read_whole(patient, dicom):
    eighths, told = [12.5 * k for k in range(8)], told_in("SeriesDescription", "{}%")
    names = [f"GTV_{value:g}" for value in eighths]
    found = phase_structures(*study_of(patient, dicom, names, eighths, told=told), "GTV.*{phase}")
    assert found.names == names
    rounded = study_of(patient, dicom, ["GTV_0", "GTV_12", *names[2:]], eighths, told=told)
    with pytest.raises(IGTVError, match=r"phase 12.5 % has no structure.*'GTV_12' is of no phase"):
        phase_structures(*rounded, "GTV_{phase}")


def test_a_name_that_could_be_of_two_phases_is_of_neither(patient, dicom):
    names = [f"GTV_{p:02d}" for p in TENTHS if p != 50]
    study, found = study_of(patient, dicom, [*names, "GTV_50Gy_10"])
    with pytest.raises(IGTVError, match="'GTV_50Gy_10' could be of phase 10 % or 50 %"):
        phase_structures(study, found, "GTV.*{phase}.*", unite=True)
    assert phase_structures(study, found, "GTV.*{phase}.*", needed=9, unite=True).names == names


def numbered(image, number, percent):
    image.TemporalPositionIdentifier = number + 1


@pytest.mark.parametrize("form", ["GTV_{}", "GTV_{:02d}", "GTV_{:03d}"])
def test_numbered_phases_take_structures_of_their_number(patient, dicom, form):
    names = [form.format(k) for k in range(1, 11)]
    found = phase_structures(*study_of(patient, dicom, names, told=numbered), "GTV_{phase}")
    assert [(str(phase), roi.name) for phase, (roi,) in found.drawn] == list(zip(NUMBERS, names, strict=True))
    assert not found.problems


@pytest.mark.parametrize(
    ("phases", "names", "strange"),
    [
        (10, [f"GTV_{p:02d}" for p in TENTHS], "'GTV_00', 'GTV_20'.* and phase number 1, number 2"),
        (10, [f"GTV_{p:03d}" for p in TENTHS], "'GTV_000', 'GTV_020'"),
        (10, [f"GTV_{p} %" for p in TENTHS], "'GTV_0 %', 'GTV_10 %'"),
        (20, [f"GTV_{p:02d}" for p in range(0, 100, 5)], "'GTV_00', 'GTV_25'.* and phase number 1, number 2"),
        (10, [f"GTV_{k}" for k in range(10)], "'GTV_0' is of no phase, and phase number 10 has no structure"),
        (10, [f"GTV_{k}.0" for k in range(1, 11)], "'GTV_1.0', 'GTV_2.0'"),
    ],
    ids=["tenths", "three digits", "per cent", "twentieths", "from 0", "decimals"],
)
def test_phases_and_structures_that_count_otherwise_are_never_matched_by_chance(
    patient, dicom, phases, names, strange
):
    """Some of these numbers agree. However few phases are said to be enough, nobody knows what that means."""
    study, found = study_of(patient, dicom, names, range(phases), told=numbered)
    for needed in (None, 2):
        with pytest.raises(IGTVError, match=strange) as caught:
            phase_structures(study, found, "GTV_{phase}", needed=needed)
    assert caught.value.what.startswith(f"the phases are number 1 to number {phases}, told by Temporal Pos")
    assert "name each structure after its phase as the headers tell it" in caught.value.remedy


def test_a_structure_beside_those_of_all_numbered_phases_is_named(patient, dicom):
    study, found = study_of(patient, dicom, [f"GTV_{k}" for k in range(1, 12)], told=numbered)
    with pytest.raises(IGTVError, match="structure 'GTV_11' is of no phase that is there"):
        phase_structures(study, found, "GTV_{phase}")
    enough = phase_structures(study, found, "GTV_{phase}", needed=10)
    assert enough.problems == ("structure 'GTV_11' is of no phase that is there",)


def test_without_a_name_the_series_tells(patient, dicom):
    study, found = study_of(patient, dicom, ["GTV"], drawn_on=4)
    with pytest.raises(IGTVError, match=r"1 of 10 phases .*phase 0 % has no structure"):
        phase_structures(study, found, "GTV")
    study, found = study_of(patient, dicom, ["GTV"])
    with pytest.raises(IGTVError, match="structure 'GTV' is of no phase that is there"):
        phase_structures(study, found, "GTV")
    with pytest.raises(IGTVError, match=r"no structure of a phase matches 'ITV'; there are: 'GTV'"):
        phase_structures(study, found, "ITV")


# ------------------------------------------------------------------------------------------------ averages


def test_the_average_is_named_and_computed_where_there_is_none(patient):
    """In every command that takes a CT selector; `maximum` too."""
    study = patient()
    images = breath(study, told_in("SeriesDescription"))
    with pytest.raises(IGTVError, match=r"10 CT series could serve.*`average` names the average"):
        choose_ct(series_of(images), ReadingOptions())
    chosen = choose_ct(series_of(images), ReadingOptions(ct="average"))
    assert len(chosen.series.parts) == 10
    assert chosen.series.description == "average of 10 phases, computed"
    assert "refers to those of phase 0 %" in chosen.warnings[0]
    assert choose_ct(series_of(images), ReadingOptions(ct="Maximum")).series.how == "maximum"
    images += breath(study, attribute("SeriesDescription", lambda k, p: "AveIP"), counts=[0])
    chosen = choose_ct(series_of(images), ReadingOptions(ct="average"))
    assert (chosen.series.description, chosen.warnings) == ("AveIP", ())


def test_no_average_over_frames_of_reference(patient):
    images = breath(patient(), told_in("SeriesDescription"))
    elsewhere = generate_uid()
    for image in images[-10:]:
        image.FrameOfReferenceUID = elsewhere
    series = series_of(images)
    with pytest.raises(IGTVError, match="another frame of reference than the others: 90 %"):
        breath_ct(series, the_4d(series))
    assert breath_ct(series, the_4d(series), options=ReadingOptions(trust_frames=True)).series.parts


def test_no_average_of_an_incomplete_breath(patient):
    images = breath(patient(), told_in("SeriesDescription"), counts=[p for p in TENTHS if p != 70])
    with pytest.raises(IGTVError, match="phase 70 % has no CT series"):
        choose_ct(series_of(images), ReadingOptions(ct="average"))
