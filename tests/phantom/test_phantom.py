"""The phantom: physics, determinism, and files that other readers open."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from nnunet_igtv.commands.main import main
from nnunet_igtv.dicom.series import find_series, read_voxels
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.breathing import Breathing, phases
from nnunet_igtv.phantom.cohort import simulate, write_cohort

MATRIX, SLICES = 48, 24


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return {kind: next(iter(write_cohort(kind, 1, 3, MATRIX, SLICES, folder))) for kind in ("gtv", "igtv")}


def test_breath_rests_at_end_exhale():
    breathing = Breathing(amplitude=20, forward=0.2, lag=0.05, power=2, tumour_height=10)
    down = np.array([-breathing.tumour_shift(phase)[2] for phase in phases()])
    assert down.min() >= 0
    assert down.max() == pytest.approx(20, abs=0.6)
    assert (down < 10).mean() > 0.55  # most of the time in the upper half of the way
    assert breathing.descent(10.0, 0.5) == pytest.approx(20)
    assert breathing.descent(1000.0, 0.5) == 0


@pytest.mark.parametrize("index", range(12))
def test_every_patient_fits_the_scan(index):
    """The tumour stays within the scan over the whole breath, so no structure is cut off."""
    patient, _, scan = simulate("igtv", 11, index, 32, 36)
    assert 5 <= patient.breathing.amplitude <= 25
    touched = np.flatnonzero(scan.structure.any((1, 2)))
    assert touched[0] > 0
    assert touched[-1] < 35
    edge = np.concatenate([scan.structure[:, [0, -1]].ravel(), scan.structure[:, :, [0, -1]].ravel()])
    assert not edge.any()


def test_igtv_holds_every_gtv():
    """The IGTV is the union of the tumour over the breath: as long as tumour and motion together."""
    patient, _, scan = simulate("igtv", 5, 0, 64, 54)
    from nnunet_igtv.phantom.anatomy import Thorax

    thorax = Thorax(patient, scan.ct_grid, np.random.default_rng(0))
    phase_masks = [thorax.tumour_at(phase) for phase in phases()]
    assert (np.logical_or.reduce(phase_masks) == scan.structure).all()
    length = scan.structure.any((1, 2)).sum() * 2.0
    tumour = max(mask.any((1, 2)).sum() for mask in phase_masks) * 2.0
    assert length == pytest.approx(tumour + patient.breathing.amplitude, abs=5)


def test_pet_fades_in_the_periphery_and_no_threshold_finds_the_igtv():
    """What makes the task worth learning: the outer slices are fainter, and the heart may be hotter."""
    dice, ratio = [], []
    for index in range(10):
        _, _, scan = simulate("igtv", 21, index, 64, 36)
        grid, pet_grid = scan.ct_grid, scan.pet_grid
        nearest = [
            np.abs(t.ravel()[:, None] - s.ravel()).argmin(1) for t, s in zip(grid, pet_grid, strict=True)
        ]
        pet = scan.pet[np.ix_(*nearest[::-1])]
        slices = np.flatnonzero(scan.structure.any((1, 2)))
        outer = max(1, len(slices) // 6)
        uptake = [pet[k][scan.structure[k]].mean() for k in slices]
        ratio.append(np.mean(uptake[:outer] + uptake[-outer:]) / max(uptake))
        best = 0.0
        for threshold in np.linspace(0.5, 8, 40):  # chosen by the truth, which nobody has
            found = pet > threshold
            best = max(best, 2 * (found & scan.structure).sum() / (found.sum() + scan.structure.sum()))
        dice.append(best)
    assert np.mean(ratio) < 0.5
    assert np.mean(dice) < 0.6


def test_same_seed_same_bytes_and_other_seed_other_patient(tmp_path):
    def content(folder):
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    first, second = (list(write_cohort("igtv", 2, 7, 32, 12, tmp_path / name)) for name in "ab")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(first[0]) != content(first[1])
    alone = next(iter(write_cohort("igtv", 1, 7, 32, 12, tmp_path / "c")))
    assert content(alone) == content(first[0])  # a patient does not depend on how many there are
    assert len(second) == 2


def test_ct_in_hu_and_pet_in_suv(cohort):
    for folder in cohort.values():
        (ct,), (pet,) = find_series(folder, "CT"), find_series(folder, "PT")
        hu, activity = (read_voxels(series)[0] for series in (ct, pet))
        assert hu.shape == (SLICES, MATRIX, MATRIX)
        assert hu[0, 0, 0] == pytest.approx(-1000, abs=80)
        assert 300 < hu.max() < 1500
        assert ct.grid.spacing == pytest.approx((8, 8, 4.5))
        assert pet.grid.spacing[0] > ct.grid.spacing[0]  # a grid of its own, so resampling is needed
        assert ct.frame_of_reference == pet.frame_of_reference
        header = pet.headers[0]
        item = header.RadiopharmaceuticalInformationSequence[0]
        hours, minutes, seconds = (
            int(header.SeriesTime[i : i + 2]) - int(item.RadiopharmaceuticalStartTime[i : i + 2])
            for i in (0, 2, 4)
        )
        elapsed = 3600 * hours + 60 * minutes + seconds
        dose = item.RadionuclideTotalDose * 0.5 ** (elapsed / item.RadionuclideHalfLife)
        suv = activity * header.PatientWeight * 1000 / dose
        kind, seed, index = folder.name.split("-")
        _, _, scan = simulate(kind.lower(), int(seed), int(index), MATRIX, SLICES)
        assert np.abs(suv - scan.pet).max() < 1e-3 * scan.pet.max()
        assert len({str(h.RescaleSlope) for h in pet.headers}) > 1  # as scanners do


def test_files_open_in_simpleitk_and_hold_one_structure(cohort):
    for kind, folder in cohort.items():
        for modality in ("CT", "PET"):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / modality)))
            assert reader.Execute().GetDimension() == 3
        structures = dcmread(folder / "RTSTRUCT" / "RTSTRUCT.dcm")
        assert [roi.ROIName for roi in structures.StructureSetROISequence] == [kind.upper()]


def test_resume_keeps_whole_patients_and_discards_halves(tmp_path):
    first = next(iter(write_cohort("gtv", 1, 0, 32, 12, tmp_path)))
    before = (first / "phantom.json").stat().st_mtime_ns
    (tmp_path / ".GTV-0-001.partial" / "CT").mkdir(parents=True)  # what an interruption leaves behind
    (tmp_path / ".GTV-0-001.partial" / "CT" / "CT_0001.dcm").write_bytes(b"half")
    folders = list(write_cohort("gtv", 2, 0, 32, 12, tmp_path))
    assert (first / "phantom.json").stat().st_mtime_ns == before
    assert sorted(os.listdir(tmp_path)) == [folder.name for folder in folders]
    assert len(list(folders[1].rglob("CT_*.dcm"))) == 12


def test_other_settings_are_refused_not_mixed(tmp_path):
    list(write_cohort("gtv", 1, 0, 32, 12, tmp_path))
    with pytest.raises(IGTVError, match="other settings \\(matrix\\)"):
        list(write_cohort("gtv", 1, 0, 40, 12, tmp_path))


def test_command(tmp_path, capsys):
    arguments = [
        "phantom",
        "--kind",
        "igtv",
        "--patients",
        "1",
        "--seed",
        "9",
        "--matrix",
        "32",
        "--slices",
        "12",
    ]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert "igtv studies, 1 in all" in capsys.readouterr().out
    parameters = json.loads((tmp_path / "IGTV-9-000" / "phantom.json").read_text())
    assert parameters["settings"]["matrix"] == 32
    with pytest.raises(SystemExit):
        main(["phantom", "--kind", "igtv", "--patients", "0", "--output", str(tmp_path)])


def test_satellites_take_up_fdg_in_the_lung_near_the_tumour_and_change_nothing_else():
    plain, _, without = simulate("igtv", 5, 2, 48, 24)
    patient, _, scan = simulate("igtv", 5, 2, 48, 24, satellites=3)
    assert patient.tumour is not plain.tumour
    assert replace(patient, satellites=(), tumour=plain.tumour) == plain
    np.testing.assert_array_equal(scan.structure, without.structure)
    assert len(patient.satellites) == 3
    for satellite in patient.satellites:
        assert 0.3 <= satellite.suv / patient.tumour.suv <= 0.8
        away = np.linalg.norm(np.subtract(satellite.centre, patient.tumour.centre))
        assert 0 <= away - patient.tumour.radius - max(satellite.axes) <= 15
    volumes = [4 / 3 * np.pi * np.prod(satellite.axes) for satellite in patient.satellites]
    expected = sum(v * each.suv for v, each in zip(volumes, patient.satellites, strict=True))
    grid = scan.pet_grid
    voxel = grid.voxel**2 * (grid.z[1, 0, 0] - grid.z[0, 0, 0])
    assert 0.8 < (scan.pet - without.pet).sum() * voxel / expected < 1.2
    again = simulate("igtv", 5, 2, 48, 24, satellites=3)[2]
    np.testing.assert_array_equal(again.pet, scan.pet)
