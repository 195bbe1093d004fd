"""The report's viewer in a real browser: it scrolls, switches and opens cases, and we read what is drawn.

Runs where Chromium is installed. A script at the end of the page does what a reader does, and writes what it
saw to the browser's console.
"""

import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv.evaluation import colours, evaluate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: the viewer was not tried"
)

READER = """
<script>
(async () => {
const seen = {errors: []};
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
const $ = (id) => document.getElementById(id);
const waitFor = async (done) => {
  for (let i = 0; i < 400 && !done(); i++) await new Promise((r) => setTimeout(r, 10));
};
const opened = (i) => waitFor(() => $("viewer").dataset.case === String(i));
const pixel = (id, x, y) => [...$(id).getContext("2d").getImageData(x, y, 1, 1).data.slice(0, 3)];
const centre = (id) => pixel(id, $(id).width / 2, $(id).height / 2);
const near = (id, colour) => { // pixels of about this colour
  const data = $(id).getContext("2d").getImageData(0, 0, $(id).width, $(id).height).data;
  let count = 0;
  const alike = (p) => [0, 1, 2].every((c) => Math.abs(data[p + c] - colour[c]) < 12);
  for (let p = 0; p < data.length; p += 4) count += alike(p);
  return count;
};
const slices = () => ["axial", "coronal", "sagittal"].map((id) => Number($(id).dataset.slice));
const choose = (selector, value) => {
  const control = document.querySelector(selector);
  if (control.type === "radio" || control.type === "checkbox") return control.click();
  control.value = value;
  control.dispatchEvent(new Event("input", {bubbles: true}));
  control.dispatchEvent(new Event("change", {bubbles: true}));
};
const clickAt = (id, x, y) => {
  const frame = $(id).getBoundingClientRect();
  const [clientX, clientY] = [frame.left + x * frame.width, frame.top + y * frame.height];
  $(id).dispatchEvent(new MouseEvent("click", {bubbles: true, clientX, clientY}));
};
const [TRUTH, MODEL] = COLOURS;

await opened(0);
seen.first = $("case").selectedOptions[0].textContent;
seen.start = slices();
seen.words = $("readout").textContent;

choose("input[value=ct]");
seen.ctLung = centre("axial");
choose("#window", "40,400");
seen.ctSoft = centre("axial");
choose("input[value=pet]");
seen.pet = centre("axial");
choose("#pet-colours", "grey");
seen.petGrey = centre("axial");
choose("#pet-top", "12");
seen.petGreyDarker = centre("axial");
choose("input[value=ct]");

seen.swatches = document.querySelectorAll("#layers label svg.swatch line[stroke]").length;
seen.truth = near("axial", TRUTH);
seen.model = near("coronal", MODEL);
choose("#layers input[value=truth]");
seen.truthOff = near("axial", TRUTH);
choose("#layers input[value='a model']");
seen.modelOff = near("coronal", MODEL);
choose("#layers input[value=truth]");
seen.truthAgain = near("axial", TRUTH);

$("axial").dispatchEvent(new WheelEvent("wheel", {deltaY: -100, cancelable: true}));
seen.wheel = slices();
choose("#coronal-slice", "3");
seen.slider = slices();
$("viewer").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown"}));
$("viewer").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown"}));
seen.keys = slices();
choose("#zoom", "1");
clickAt("coronal", 0.5, 0.3);
seen.click = slices();
clickAt("by-slice", 0.97, 0.5);
seen.curve = slices();
seen.above = near("axial", TRUTH);

document.querySelector(".point[data-case='2']").dispatchEvent(new MouseEvent("click", {bubbles: true}));
await opened(2);
choose("input[value=pet]");
seen.withoutPet = [centre("axial"), $("readout").textContent];
seen.byPoint = $("case").selectedOptions[0].textContent;
document.querySelector("tbody[data-case='1'] td.name").click();
await opened(1);
seen.byRow = $("case").selectedOptions[0].textContent;
$("next").click();
await opened(2);
$("next").click();
await opened(0);
seen.wrapped = $("case").selectedOptions[0].textContent;
seen.requests = performance.getEntriesByType("resource").length;
console.log("SEEN " + JSON.stringify(seen));
})();
</script>
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the reader saw of three cases: a box of 40 HU and SUV 6, off the middle, nearer to the head."""
    folder = tmp_path_factory.mktemp("report")
    index = np.indices((24, 32, 40))
    for case in range(3):
        truth = np.all(
            [abs(index[a] - c) <= r for a, c, r in zip(range(3), (14, 12, 24), (4, 5, 6), strict=True)], 0
        )
        prediction = np.roll(truth, case + 1, 2)
        images = {
            "truth/C{}": truth.astype(np.uint8),
            "model/C{}": prediction.astype(np.uint8),
            "images/C{}_0000": np.where(truth, 40, -800).astype(np.float32),
            "images/C{}_0001": (np.where(truth, 6, 0.5) * (case > 0)).astype(np.float32),
        }
        for name, voxels in images.items():
            path = folder / (name.format(case) + ".nii.gz")
            path.parent.mkdir(exist_ok=True)
            image = sitk.GetImageFromArray(voxels)
            image.SetSpacing((2.0, 2.0, 3.0))
            sitk.WriteImage(image, str(path))
    evaluate(folder / "truth", {"a model": folder / "model"}, folder / "images", folder / "out")
    page = (folder / "out" / "report.html").read_text()
    used = [line.colour for line in (colours.TRUTH, colours.of_model(0))]
    rgb = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in used]
    reader = READER.replace("COLOURS", json.dumps(rgb))
    (folder / "read.html").write_text(page.replace("</body>", reader + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1250,1400"]
    running = ["--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}"]  # until we end it
    page = (folder / "read.html").as_uri()
    browser = subprocess.Popen(
        [CHROMIUM, *options, *running, "--enable-logging=stderr", page], stderr=subprocess.PIPE, text=True
    )
    end = threading.Timer(90, browser.terminate)
    end.start()
    try:
        said = []
        for line in browser.stderr:
            said.append(line)
            if found := re.search(r'"SEEN (\{.*\})", source', line):
                return json.loads(found[1])
        pytest.fail(f"the reader did not finish: {''.join(said[-20:])}")
    finally:
        end.cancel()
        browser.terminate()
        browser.wait()


def test_nothing_fails_and_nothing_is_fetched(seen):
    assert seen["errors"] == []
    assert seen["requests"] == 0


def test_the_worst_case_is_open_at_the_middle_of_its_truth(seen):
    assert seen["first"] == "C2"
    assert seen["start"] == [15, 13, 25]  # of the whole image
    assert re.search("CT ≈ (39|40|41) HU", seen["words"])  # in steps of 3 HU
    assert "PET 6.0 SUV" in seen["words"]
    assert "in truth, a model" in seen["words"]


def test_windows_and_colours_are_what_they_say(seen):
    assert seen["ctLung"] == pytest.approx([255 * (40 + 1350) / 1500] * 3, abs=2)
    assert seen["ctSoft"] == pytest.approx([127.5] * 3, abs=2)
    assert seen["pet"] == pytest.approx([252, 255, 164], abs=6)  # the top of inferno: the PET reaches 6
    assert seen["petGrey"] == pytest.approx([0] * 3, abs=6)
    assert seen["petGreyDarker"] == pytest.approx([127.5] * 3, abs=6)


def test_a_case_without_a_pet_shows_its_ct(seen):
    colour, words = seen["withoutPet"]
    assert colour == pytest.approx([127.5] * 3, abs=2)
    assert "no PET" in words


def test_contours_are_switched(seen):
    assert seen["swatches"] == 2
    assert seen["truth"] > 300
    assert seen["model"] > 300
    assert seen["truthOff"] == seen["modelOff"] == 0
    assert seen["truthAgain"] >= seen["truth"]  # no longer covered by the model's


def test_planes_scroll_in_step(seen):
    assert seen["wheel"] == [16, 13, 25]
    assert seen["slider"] == [16, 4, 25]
    assert seen["keys"] == [14, 4, 25]
    axial, coronal, sagittal = seen["click"]
    assert (coronal, sagittal) == (
        4,
        pytest.approx(22, abs=1),
    )  # the middle of what is shown, columns 4 to 40
    assert axial > 14  # above the middle is towards the head
    assert seen["curve"][0] >= 23
    assert seen["above"] == 0  # no contour up there


def test_cases_are_opened_by_a_row_a_point_and_the_buttons(seen):
    assert [seen[name] for name in ("byPoint", "byRow", "wrapped")] == ["C0", "C1", "C2"]
