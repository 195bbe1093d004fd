"""The source `lucid` writes the CT that the structure was drawn on, but for that of a breath."""

import json
from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from nnunet_igtv.dataset_conversion.convert import convert

HU = 300  # of the second CT above the first


def second(patient, **values):
    """The CT once more, brighter, in a series of its own, unless `values` say otherwise."""
    images = deepcopy(patient.ct)
    uid = generate_uid()
    for image in images:
        image.SeriesInstanceUID, image.SOPInstanceUID, image.SeriesNumber = uid, generate_uid(), 5
        image.PixelData = (np.frombuffer(image.PixelData, "<u2") + HU).astype("<u2").tobytes()
        for name, value in values.items():
            setattr(image, name, value)
    patient.ct += images


def voxels(images):
    return np.stack([np.frombuffer(i.PixelData, "<u2").reshape(20, 24).astype(float) for i in images]) - 1024


def converted(folder, raw, source="lucid", **options):
    raw.mkdir(exist_ok=True)
    done = convert(source, folder, 711, name="L", jobs=1, **options)
    assert not done.failures, [str(f) for f in done.failures]
    (case,) = done.converted
    ct = sitk.GetArrayFromImage(sitk.ReadImage(str(done.dataset / "imagesTr" / f"{case}_0000.nii.gz")))
    return ct, json.loads((done.dataset / "conversion.json").read_text())["cases"][case]


@pytest.mark.parametrize(
    ("drawn_on", "other"),
    [
        ("Thorax art. Phase 30s", "Thorax ven. Phase 70s"),
        ("Thorax ART phase 25 s 1.5 B31f", "Thorax PV phase 60 s 1.5 B31f"),
        ("CT 100% dose", "CT 50% dose"),
        ("Thorax FBP 0%", "Thorax IR 60%"),
        ("Thorax ven. Phase 1.0 Br40", "Thorax ven. Phase 2.0 Br40"),
        ("Thorax BestDiast 70%", "Thorax BestSyst 40%"),
        ("Spine T10", "Lung T20"),
    ],
    ids=["seconds", "seconds and kernels", "doses", "iterations", "slices", "heart", "vertebrae"],
)
def test_the_ct_drawn_on_is_taken(patient, raw, tmp_path, drawn_on, other):
    study = patient()
    for image in study.ct:
        image.SeriesDescription = drawn_on
    first = voxels(study.ct)
    second(study, SeriesDescription=other)
    ct, record = converted(study.write(tmp_path / "in"), raw)
    assert (ct == first).all()
    assert record["warnings"] == []


def test_native_and_contrast_in_one_series(patient, raw, tmp_path):
    """As `dicom-rt` does: the images that the contours refer to."""
    study = patient()
    for image in study.ct:
        image.AcquisitionNumber = 1
    first = voxels(study.ct)
    second(study, AcquisitionNumber=2, SeriesInstanceUID=study.ct[0].SeriesInstanceUID, SeriesNumber=1)
    ct, record = converted(study.write(tmp_path / "in"), raw)
    assert (ct == first).all()
    assert record["warnings"] == []


def test_a_sound_study_of_two_thicknesses_is_converted(patient, raw, tmp_path):
    study = patient()
    for image in study.ct:
        image.SeriesDescription = "Thorax ven. Phase  3.0  Br40"
    first, uid = voxels(study.ct), generate_uid()
    for k in range(19):
        thin = deepcopy(study.ct[k // 2])
        thin.SeriesInstanceUID, thin.SOPInstanceUID, thin.SeriesNumber = uid, generate_uid(), 4
        thin.ImagePositionPatient, thin.SliceThickness = [0, 0, 1.5 * k], 1.5
        thin.SeriesDescription = "Thorax ven. Phase  1.5  Br60"
        study.ct.append(thin)
    ct, _ = converted(study.write(tmp_path / "in"), raw)
    assert (ct == first).all()


def test_the_average_of_a_breath_is_taken_and_said(patient, raw, tmp_path):
    study = patient()
    for image in study.ct:
        image.SeriesDescription = "Gated, 0%"
    first = voxels(study.ct)
    second(study, SeriesDescription="Gated, 50%")
    ct, record = converted(study.write(tmp_path / "in"), raw)
    assert (ct == first + HU / 2).all()
    said = "the CT channel is the average of 2 phases, not the CT that the structure was drawn on"
    assert said in record["warnings"]
