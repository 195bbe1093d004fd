"""Voxels that no CT or PET has, and the same warnings of them in every command that reads images."""

import json
from copy import deepcopy

import numpy as np
import pytest

from nnunet_igtv import read_ct, read_pet
from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion.pet_channel import pet_channel
from nnunet_igtv.dicom.series import find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.prediction import write_input
from nnunet_igtv.studies.choice import Chosen
from nnunet_igtv.studies.images import ct_volume, pet_volume
from nnunet_igtv.studies.inventory import inspect
from nnunet_igtv.studies.plausibility import (
    body_suv,
    refuse_no_suv,
    remarks_on_ct,
    remarks_on_pet,
    remarks_on_rescale,
    remarks_on_structure,
)


def chest(suv=1.0, tumour=8.0, size=48):
    """A body that fills a third of the field of view, with noise, lungs and a tumour."""
    rng = np.random.default_rng(0)
    voxels = np.abs(rng.normal(0, 0.01, (size,) * 3))
    body = slice(size // 6, -size // 6)
    voxels[:, body, body] = rng.normal(suv, 0.2 * suv, voxels[:, body, body].shape)
    voxels[:, size // 3 : size // 2, size // 3 : -size // 3] = 0.4 * suv
    voxels[size // 2 : size // 2 + 4, size // 2 : size // 2 + 4, size // 2 : size // 2 + 4] = tumour * suv
    return voxels.astype(np.float32)


@pytest.mark.parametrize("suv", [0.4, 1.0, 1.5, 6.0])
def test_the_background_of_a_body(suv):
    assert body_suv(chest(suv)) == pytest.approx(suv, rel=0.2)
    assert not remarks_on_pet(chest(suv))


@pytest.mark.parametrize("wrong", [37, 1e3, 1e6, 1 / 37, 1e-3, 1e-6])
def test_a_wrong_unit_shows(wrong):
    assert any("median SUV of the body" in remark for remark in remarks_on_pet(chest() * np.float32(wrong)))


def test_single_hot_voxels_are_warned_of_and_activity_is_refused():
    voxels = chest()
    voxels[0, 0, 0] = 900
    assert remarks_on_pet(voxels) == ["the PET has SUVs up to 900: check dose, weight and units"]
    refuse_no_suv(voxels)
    with pytest.raises(IGTVError, match="too high for SUV"):
        refuse_no_suv(voxels * 5000)


def test_a_ct_is_not_taken_for_a_pet():
    with pytest.raises(IGTVError, match=r"too low for SUV .* is it the CT"):
        refuse_no_suv(chest() * 1000 - 1000)
    refuse_no_suv(chest() - 5)  # noise of a scan with few counts


def test_a_ct_without_air_has_another_rescale():
    hounsfield = chest() * 1000 - 1000
    assert not remarks_on_ct(hounsfield)
    assert "check the rescale intercept" in remarks_on_ct(hounsfield + 1024)[0]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("added", "says"), [(1024, "no air"), (-1024, "no soft tissue")])
def test_a_ct_whose_intercept_is_lost_or_added_twice(added, says, padded):
    """What is outside of the reconstruction is -1024 HU whatever the rescale: it hides neither."""
    hounsfield = chest() * 1000 - 1000

    def read(hounsfield):
        voxels = np.maximum(hounsfield, -1024)
        if padded:
            voxels[:, :6] = -1024
        return voxels

    assert not remarks_on_ct(read(hounsfield))
    assert [says in remark for remark in remarks_on_ct(read(hounsfield + added))] == [True]


def test_a_ct_of_nothing_but_what_is_outside_of_it():
    assert "no soft tissue" in remarks_on_ct(np.array([-1024.0, -1025.0]))[0]


@pytest.mark.parametrize(("added", "is_odd"), [(24, False), (1024, True), (-1024, True)])
def test_a_slice_of_a_ct_with_a_rescale_of_its_own(added, is_odd):
    hounsfield = chest() * 1000 - 1000
    hounsfield[3] = np.maximum(hounsfield[3] + added, -1024)
    if added < 0:
        hounsfield[3] = -1024  # all of it outside of the reconstruction
    rescales = [(1.0, -1024.0)] * len(hounsfield)
    rescales[3] = (1.0, -1024.0 + added)
    assert bool(remarks_on_rescale(hounsfield, rescales)) == is_odd


def test_images_that_hold_nothing():
    assert remarks_on_pet(np.zeros((4, 4, 4))) == ["the PET is zero everywhere"]
    assert remarks_on_pet(np.full((4, 4, 4), 2.0)) == ["the PET is constant (SUV 2)"]
    assert remarks_on_pet(np.linspace(-2, 0, 64)) == ["the PET has no positive value"]
    assert remarks_on_ct(np.zeros((4, 4, 4))) == ["the CT is constant (0 HU)"]
    assert "beyond" in remarks_on_ct(np.array([-1000.0, 62512.0]))[0]
    assert not remarks_on_ct(np.array([-1024.0, -1000.0, 30710.0]))


def test_a_structure_that_fills_slices():
    mask = np.zeros((5, 4, 4))
    mask[1:3] = 1
    assert remarks_on_structure(mask) == ["the structure fills 2 whole slice(s) of the image"]
    mask[:, 0, 0] = 0
    assert not remarks_on_structure(mask)


@pytest.mark.parametrize("missing", [0, 3])
@pytest.mark.parametrize("phases", [1, 2])
def test_slices_of_a_pet_that_are_missing_at_an_end(phases, missing, patient, tmp_path):
    """Number of Slices is that of one volume, where a series has several."""
    study = patient()
    whole = study.pet
    study.pet = []
    for phase in range(phases):
        for dataset in deepcopy(whole[: len(whole) - missing]):
            dataset.NumberOfSlices = len(whole)
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.{phase}"
            if phases > 1:
                dataset.NominalPercentageOfRespiratoryPhase = 50.0 * phase
                dataset.RescaleSlope = 1 + 0.01 * phase  # else the images of the second are duplicates
            study.pet.append(dataset)
    study.write(tmp_path)
    series = find_series(tmp_path, "PT")
    assert len(series) == phases
    says = "the header says 9 slices (0054,0081) of the PET, 6 are here: export it again"
    for volume in map(pet_volume, series):
        assert volume.warnings == ((says,) if missing else ())


@pytest.fixture
def study(patient, tmp_path):
    """A study whose dose is 30 times too low: its SUVs are 30 times too high."""
    study = patient()
    for item in study.injection:
        item.RadionuclideTotalDose = 370e6 / 30
    return study.write(tmp_path / "study")


SAYS = ("MBq per kg", "median SUV of the body")


def test_every_command_passes_the_warnings_on(study, raw, capsys, tmp_path):
    with pytest.warns(UserWarning, match="MBq per kg") as warned:
        read_pet(study)
    read = " ".join(str(w.message) for w in warned)
    inspected = " ".join(w for s in inspect(study)["series"] for w in s.get("suv_warnings", ()))
    ct, pet = (find_series(study, modality)[0] for modality in ("CT", "PT"))
    channel = pet_channel(Chosen(pet, "the only one"))
    predicted = " ".join(write_input(ct_volume(ct), channel, tmp_path / "input", ".nii.gz"))
    assert main(["convert", "lucid", str(study), "-d", "7", "-j", "1"]) == 0
    printed = capsys.readouterr().err
    record = json.loads((raw / "Dataset007_LUCID" / "conversion.json").read_text())
    recorded = " ".join(record["cases"]["LUCID_0001"]["warnings"])
    for words in (read, inspected, predicted, printed, recorded):
        assert all(says in words for says in SAYS)
    assert "warning: LUCID_0001: " in printed


def test_a_warning_is_one_of_the_file_that_reads(patient, tmp_path):
    study = patient()
    for item in study.injection:
        item.RadionuclideTotalDose = 370e6 / 30
    for image in study.ct:
        image.PixelData = bytes(len(image.PixelData))
    folder = study.write(tmp_path)
    for read, says in ((read_ct, "the CT is constant"), (read_pet, "MBq per kg")):
        with pytest.warns(UserWarning, match=says) as warned:
            read(folder)
        assert {w.filename for w in warned} == {__file__}


def test_a_sound_study_has_no_warnings(patient, tmp_path, recwarn):
    study = patient().write(tmp_path)
    read_ct(study)
    read_pet(study)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
