"""The still pictures: one tumour looks the same however its image is stored, and the sides are named."""

import base64
import io

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.image import imread

from nnunet_igtv.evaluation.cases import Case, read_content
from nnunet_igtv.evaluation.pictures import picture
from nnunet_igtv.evaluation.volumes import volume


def asymmetric(folder, turn=lambda image: image):
    """A tumour at the left and front that grows towards the head, as any software might store it."""
    truth = np.zeros((24, 40, 48), bool)  # stored in LPS: slices to the head, rows to the back, columns left
    truth[8:16, 6:13, 30:42] = True
    truth[13:16, 6:16, 26:44] = True
    prediction = np.roll(truth, (1, 2, -3), (0, 1, 2))
    ct = np.full(truth.shape, -850.0) + 4 * np.arange(48) + 2 * np.arange(40)[:, None]
    ct[:, 28:] = 200  # the back
    images = {
        "t": truth.astype(np.uint8),
        "p": prediction.astype(np.uint8),
        "ct": np.where(truth, 40, ct).astype(np.float32),
        "pet": np.where(truth, 8, 0.5).astype(np.float32),
    }
    paths = {}
    for name, voxels in images.items():
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((2.0, 2.5, 3.0))
        image.SetOrigin((10.0, -20.0, 30.0))
        folder.mkdir(exist_ok=True)
        paths[name] = folder / f"{name}.nii.gz"
        sitk.WriteImage(turn(image), str(paths[name]))
    return Case("Z9", {"truth": paths["t"]}, {"m": [(0, paths["p"])]}, (paths["ct"], paths["pet"]))


def pixels(uri):
    return imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))), "jpeg") / 255


@pytest.mark.parametrize(
    "turn",
    [
        lambda image: sitk.DICOMOrient(image, "RAS"),
        lambda image: sitk.DICOMOrient(image, "LAS"),
        lambda image: sitk.DICOMOrient(image, "LPI"),
        lambda image: sitk.PermuteAxes(image, (2, 0, 1)),
        lambda image: sitk.Flip(sitk.PermuteAxes(image, (1, 2, 0)), (True, False, True)),
    ],
    ids=["RAS", "LAS", "LPI", "slices first", "rows first and turned"],
)
def test_one_tumour_is_one_picture_however_it_is_stored(tmp_path, turn):
    straight = picture(read_content(asymmetric(tmp_path / "straight")))
    turned = picture(read_content(asymmetric(tmp_path / "turned", turn)))
    assert np.abs(pixels(turned) - pixels(straight)).max() < 0.1
    assert turned == straight


@pytest.mark.parametrize("code", ["LPS", "RAS"])
def test_the_patients_left_is_on_the_right_and_the_front_above(tmp_path, code):
    """The CT rises towards the patient's left, and its back is bright."""
    case = asymmetric(tmp_path / "x", lambda image: sitk.DICOMOrient(image, code))
    grey = pixels(picture(read_content(case)))[:260, :260].mean(2)  # the CT of the first slice
    assert grey[100:140, 220:245].mean() > grey[100:140, 5:30].mean() + 0.05
    assert grey[-12:].mean() > grey[30:60].mean() + 0.2


def test_the_sides_are_named_in_every_slice(tmp_path, monkeypatch):
    said = []
    text = Axes.text
    monkeypatch.setattr(
        Axes,
        "text",
        lambda axes, x, y, words, **k: said.append((x, y, words)) or text(axes, x, y, words, **k),
    )
    picture(read_content(asymmetric(tmp_path / "x")))
    places = {words: (x, y) for x, y, words in said if len(words) == 1}
    assert places.keys() == {"R", "L", "A", "P"}
    assert places["R"][0] < 0.1 < 0.9 < places["L"][0]
    assert places["P"][1] < 0.1 < 0.85 < places["A"][1]
    assert sum(words == "R" for _, _, words in said) == 6  # three slices of a CT and of a PET
    numbers = [words for _, _, words in said if "slice" in words]
    assert numbers == ["slice 15 of 24", "slice 13 of 24", "slice 10 of 24"]  # the head is on the left


@pytest.mark.parametrize("drawn", [True, False], ids=["truth", "no truth"])
def test_a_pet_is_as_bright_as_in_the_viewer(tmp_path, monkeypatch, drawn):
    case = asymmetric(tmp_path / "x")
    if not drawn:
        truth = case.truths["truth"]
        sitk.WriteImage(sitk.ReadImage(str(truth)) * 0, str(truth))
    content, tops = read_content(case), []
    imshow = Axes.imshow
    monkeypatch.setattr(
        Axes,
        "imshow",
        lambda axes, plane, **k: tops.append((k["cmap"], k["vmax"])) or imshow(axes, plane, **k),
    )
    picture(content)
    assert (
        {top for look, top in tops if look == "inferno"}
        == {volume(content)["pet_top"]}
        == {8 if drawn else 5}
    )
