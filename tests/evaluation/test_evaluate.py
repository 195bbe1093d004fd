"""The whole evaluation on folders: files written, means, report, refusals."""

import csv
import errno
import json
import math
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from kills import completes_after_every_kill

from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation import evaluate
from nnunet_igtv.evaluation.by_position import dice
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.report import COMPARED, SHORT


def test_evaluate(cohort):
    models = {"from scratch": cohort / "poor", "transferred": cohort / "good"}
    results = evaluate(cohort / "truth", models, cohort / "images", cohort / "out")
    assert results.models == ["from scratch", "transferred"]
    assert results.cases == ["CASE_0", "CASE_1", "CASE_2"]
    dices = [results.scores["transferred"][case]["dice"] for case in results.cases]
    assert results.means["transferred"]["dice"] == pytest.approx(np.mean(dices))
    assert results.means["transferred"]["dice"] > 0.85 > results.means["from scratch"]["dice"]
    assert results.best("dice") == set()  # of three patients there is no interval
    assert results.best("truth_ml") == set()

    written = json.loads((cohort / "out" / "metrics.json").read_text())
    assert written["models"]["transferred"]["cases"]["CASE_1"]["dice"] == pytest.approx(dices[1])
    assert written["models"]["transferred"]["mean"]["dice"] == pytest.approx(np.mean(dices))
    with open(cohort / "out" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert float(rows[4]["dice"]) == pytest.approx(dices[1], rel=1e-5)
    table = results.table()
    assert "transferred" in table
    assert "no interval of fewer than 6 patients" in table
    assert f"{np.mean(dices):.3f}" in table


def test_report_stands_alone(cohort):
    models = {"a <b>&": cohort / "poor", "transferred": cohort / "good"}
    evaluate(cohort / "truth", models, cohort / "images", cohort / "out", title="A & B")
    page = (cohort / "out" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>\n")
    assert not re.search(r"https?://|<link|@import|url\(|src=\"(?!data:)|fetch\(|XMLHttp|WebSocket", page)
    assert "content=\"default-src 'none';" in page  # the browser refuses every request
    still = page[page.index("<noscript>") : page.index("</noscript>")]
    assert still.count("data:image/jpeg;base64,") == 3
    assert page.count('class="volume"') == 3
    assert "{{" not in page
    assert "{%" not in page
    assert "A &amp; B" in page
    assert "a &lt;b&gt;&amp;" in page
    assert "a <b>" not in page
    assert "prefers-color-scheme: dark" in page
    assert str(cohort) not in page  # no paths of the machine
    for text in ("Dice peripheral", "HD95", "Empty masks", "CASE_2"):
        assert text in page


def test_case_names_are_escaped_in_the_report(cohort):
    for folder, name in (("truth", "{}"), ("good", "{}"), ("images", "{}_0000"), ("images", "{}_0001")):
        old, new = (cohort / folder / f"{name.format(case)}.nii.gz" for case in ("CASE_1", "<i>&'\"{{ 7 }}"))
        old.rename(new)
    evaluate(cohort / "truth", {"m": cohort / "good"}, cohort / "images", cohort / "out")
    page = (cohort / "out" / "report.html").read_text(encoding="utf-8")
    assert "<i>&" not in page
    assert page.count("&lt;i&gt;&amp;&#39;&#34;{{ 7 }}") >= 2 + 4  # tables, pictures and plots


def test_of_many_cases_some_are_pictured_from_worst_to_best(cohort, write_image, ball, monkeypatch):
    monkeypatch.setattr("nnunet_igtv.evaluation.report.PICTURED", 2)
    evaluate(cohort / "truth", {"m": cohort / "poor"}, cohort / "images", cohort / "out")
    page = (cohort / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == page.count('class="volume"') == 2
    assert "2 of 3 cases, from worst to best" in page
    assert page.count('<tbody data-case="') == 2


# ------------------------------------------------------------------------------- runs, patients, comparisons


@pytest.fixture
def eight(tmp_path, write_image, ball):
    """Eight cases; `near` is always closer to the truth than `off`."""
    for i in range(8):
        name = f"CASE_{i}.nii.gz"
        write_image(tmp_path / "truth" / name, ball(radius=6))
        write_image(tmp_path / "near" / name, ball(radius=6.5 + 0.1 * (i % 3)))
        write_image(tmp_path / "off" / name, ball((10, 16, 18), 6 + 0.2 * (i % 2)))
    return tmp_path


def test_the_best_is_marked_where_the_difference_is_beyond_chance(eight, monkeypatch):
    models = {"off": eight / "off", "near": eight / "near", "same": eight / "copy"}
    shutil.copytree(eight / "near", eight / "copy")
    results = evaluate(eight / "truth", models, None, eight / "three")
    assert results.best("dice") == set()  # two are the same
    assert results.comparisons["off", "near"]["dice"].p_holm == pytest.approx(3 * 2 / 2**8)
    assert results.comparisons["near", "same"]["dice"].p_holm == 1
    two = replace(results, runs={model: results.runs[model] for model in ("off", "near")})
    assert two.best("dice") == {"near"}
    row = two.comparisons["off", "near"]["dice"]
    assert row.interval.low > 0
    assert row.p == row.p_holm == pytest.approx(2 / 2**8)
    against = replace(results, reference="near")
    assert list(against.comparisons) == [("near", "off"), ("near", "same")]
    assert against.comparisons["near", "off"]["dice"].mean == pytest.approx(-row.mean)
    page = (eight / "three" / "report.html").read_text()
    monkeypatch.setattr("nnunet_igtv.evaluation.results.MOST_SHOWN", 2)
    assert list(results.shown_comparisons) == [("off", "near"), ("near", "same")]  # of the best
    assert "Of 3 comparisons the 2" in results.table()
    rows = [row[metric] for row in results.comparisons.values() for metric in COMPARED]
    assert page.count('class="apart"') == sum(r.interval.low * r.interval.high > 0 for r in rows) > 0
    marked = sum(len(results.best(metric)) for metric in (*SHORT, *METRICS))  # two tables
    assert page.count('class="best"') == marked > 0
    with pytest.raises(IGTVError, match="no model is named 'x'"):
        evaluate(eight / "truth", models, None, eight / "x", reference="x")


def test_seeds_are_one_row_and_their_mean(eight):
    runs = {"m": [eight / "near", eight / "off"]}
    results = evaluate(eight / "truth", runs, None, eight / "out")
    first, second = (run["CASE_3"]["dice"] for run in results.runs["m"])
    assert results.scores["m"]["CASE_3"]["dice"] == pytest.approx((first + second) / 2)
    means = [m["dice"] for m in results.run_means("m")]
    assert results.spread_of_runs("m", "dice") == pytest.approx(np.std(means, ddof=1))
    written = json.loads((eight / "out" / "metrics.json").read_text())["models"]["m"]
    assert [m["dice"] for m in written["runs"]["means"]] == pytest.approx(means)
    assert [run["CASE_3"]["dice"] for run in written["runs"]["cases"]] == pytest.approx([first, second])
    assert written["summary"]["dice"]["mean_interval"]["low"] < written["mean"]["dice"]


def test_what_a_seed_does_not_define_is_left_out_of_every_mean_of_it(tmp_path, write_image, ball):
    """The last seed draws nothing anywhere and has no HD95; its Dice is 0, in the middle of the parts too,
    and counts. Between the two parts of a target there is no Dice of any seed."""
    for i in range(2):
        apart = ball((4, 16, 16), 3.0) | ball((16, 16, 16), 3.0)
        write_image(tmp_path / "truth" / f"CASE_{i}.nii.gz", apart)
        write_image(tmp_path / "seed0" / f"CASE_{i}.nii.gz", apart)
        write_image(tmp_path / "seed1" / f"CASE_{i}.nii.gz", ball(radius=8.0))
        write_image(tmp_path / "seed2" / f"CASE_{i}.nii.gz", np.zeros(apart.shape, bool))
    runs = {"m": [tmp_path / f"seed{seed}" for seed in range(3)]}
    results = evaluate(tmp_path / "truth", runs, None, tmp_path / "out")
    truth, second = ball((4, 16, 16), 3.0) | ball((16, 16, 16), 3.0), ball(radius=8.0)
    middle = dice(truth[[4, 16]], second[[4, 16]])
    assert results.mean_profile("m")[4] == pytest.approx((1 + middle + 0) / 3)
    means = [run["hd95_mm"] for run in results.run_means("m")]
    assert math.isnan(means[2])
    assert results.spread_of_runs("m", "hd95_mm") == pytest.approx(np.std(means[:2], ddof=1))
    one = replace(results, runs={"m": [results.runs["m"][i] for i in (0, 2)]})
    assert math.isnan(one.spread_of_runs("m", "hd95_mm"))


def test_folds_are_one_row(eight):
    for i in range(8):
        shutil.move(eight / ("off" if i % 2 else "near") / f"CASE_{i}.nii.gz", eight / "moved.nii.gz")
        (eight / "moved.nii.gz").unlink()
    results = evaluate(eight / "truth", {"m": [eight / "near", eight / "off"]}, None, eight / "out")
    assert len(results.values("m", "dice")) == 8
    assert results.spread_of_runs("m", "dice") is None
    with open(eight / "out" / "metrics.csv") as file:
        assert {row["runs"] for row in csv.DictReader(file)} == {"1"}
    (eight / "near" / "CASE_1.nii.gz").unlink()
    with pytest.raises(IGTVError, match="CASE_1: no prediction by m"):
        evaluate(eight / "truth", {"m": [eight / "near", eight / "off"]}, None, eight / "x")


def test_a_seed_that_lacks_a_case_is_named(eight):
    (eight / "off" / "CASE_5.nii.gz").unlink()
    with pytest.raises(IGTVError, match="CASE_5: 1 of the 2 runs of m predicted this case") as error:
        evaluate(eight / "truth", {"m": [eight / "near", eight / "off"]}, None, eight / "out")
    assert error.value.file == eight / "off"
    with pytest.raises(IGTVError, match="two runs of m are the same folder"):
        evaluate(eight / "truth", {"m": [eight / "near", eight / "near"]}, None, eight / "out")


def test_patients_and_not_cases_are_counted(eight):
    """Eight cases of two patients say as little as two patients."""
    rows = [f"CASE_{i},{'DOE^JOHN' if i < 6 else 'DOE^JANE'}" for i in range(8)]
    (eight / "patients.csv").write_text("\n".join(["case,patient", *rows]))
    models = {"off": eight / "off", "near": eight / "near"}
    results = evaluate(eight / "truth", models, None, eight / "out", patients=eight / "patients.csv")
    assert set(results.patients.values()) == {1, 2}
    cases = [results.scores["near"][f"CASE_{i}"]["dice"] for i in range(8)]
    assert results.means["near"]["dice"] == pytest.approx((np.mean(cases[:6]) + np.mean(cases[6:])) / 2)
    assert results.summaries["near"]["dice"].mean_interval is None
    assert results.best("dice") == set()
    assert "8 cases of 2 patients" in results.table()
    assert not any("DOE" in path.read_text() for path in (eight / "out").iterdir())
    (eight / "patients.csv").write_text("\n".join(["case,patient", *rows[:-1]]))
    with pytest.raises(IGTVError, match="CASE_7: the table of patients does not name this case"):
        evaluate(eight / "truth", models, None, eight / "x", patients=eight / "patients.csv")
    (eight / "patients.csv").write_text("\n".join(["case", *rows]))
    with pytest.raises(IGTVError, match="has no column 'patient'"):
        evaluate(eight / "truth", models, None, eight / "x", patients=eight / "patients.csv")


def test_the_manifest_of_the_dataset_says_who_is_who(eight):
    dataset = eight / "Dataset702_IGTV"
    shutil.copytree(eight / "truth", dataset / "labelsTs")
    rows = [f"CASE_{i},test,{i // 2}" for i in range(8)]
    manifest = eight / "Dataset702_IGTV_manifest.csv"
    manifest.write_text("\n".join(["case,split,patient", *rows]))
    results = evaluate(dataset / "labelsTs", {"m": eight / "near"}, None, eight / "out")
    assert len(set(results.patients.values())) == 4
    assert "known from the manifest" in (eight / "out" / "report.html").read_text()
    manifest.write_text("\n".join(["case,split,patient", *rows[1:]]))
    results = evaluate(dataset / "labelsTs", {"m": eight / "near"}, None, eight / "out")
    assert len(set(results.patients.values())) == 8
    assert "manifest of the dataset was not used" in results.table()


# --------------------------------------------------------------------------------------- the ignore label


IGNORE = {"labels": {"background": 0, "tumour": 1, "ignore": 7}}


def ignoring_the_left_half(cohort, write_image, ball):
    """Truths whose left half was not annotated."""
    for i, radius in enumerate((4.0, 6.0, 7.0)):
        voxels = ball(radius=radius).astype(np.uint8)
        voxels[:, :, :16] = 7
        write_image(cohort / "truth" / f"CASE_{i}.nii.gz", voxels)


@pytest.mark.parametrize("place", ["truth", ".", "good"])
def test_ignored_voxels_count_neither_way(cohort, write_image, ball, place):
    """nnU-Net keeps dataset.json with the truth, in its parent, and with the predictions."""
    ignoring_the_left_half(cohort, write_image, ball)
    for i, radius in enumerate((4.0, 6.0, 7.0)):  # right where annotated; whatever it says on the left
        write_image(cohort / "good" / f"CASE_{i}.nii.gz", ball(radius=radius))
    (cohort / place / "dataset.json").write_text(json.dumps(IGNORE))
    results = evaluate(cohort / "truth", {"m": cohort / "good"}, cohort / "images", cohort / "out")
    assert results.ignore_label == 7
    means = results.means["m"]
    assert (means["dice"], means["surface_dice_2mm"], means["hd95_mm"], means["difference_ml"]) == (
        1,
        1,
        0,
        0,
    )
    assert means["truth_ml"] == pytest.approx(
        np.mean([ball(radius=r)[:, :, 16:].sum() * 0.012 for r in (4.0, 6.0, 7.0)])
    )
    assert json.loads((cohort / "out" / "metrics.json").read_text())["ignore_label"] == 7
    assert "Ignored voxels" in (cohort / "out" / "report.html").read_text()


def test_without_an_ignore_label_every_value_but_0_is_the_structure(cohort, write_image, ball):
    (cohort / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1, "node": 7}}))
    for i in range(3):
        for folder in ("truth", "good"):
            write_image(cohort / folder / f"CASE_{i}.nii.gz", ball().astype(np.uint8) * (7 if i else 1))
    results = evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    assert results.means["m"]["dice"] == 1
    assert results.means["m"]["truth_ml"] > 0
    assert "Ignored voxels" not in (cohort / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"labels": 3}', "damaged"),
        ('{"labels": {"ignore": "2"}}', "'2' instead of a whole number"),
        ('{"labels": {"ignore": 2}}', "different values: 2 in .*, 7 in"),
        (
            '{"labels": {"tumour": 1, "node": 7}}',
            "label 7 is ignored by .*good.*, and a structure by .*truth",
        ),
        ('{"labels": {"both": [1, 7]}}', "label 7 is ignored by .*good.*, and a structure by .*truth"),
    ],
)
def test_a_damaged_or_contradicting_description_is_refused(cohort, text, message):
    (cohort / "truth" / "dataset.json").write_text(text)
    (cohort / "good" / "dataset.json").write_text(json.dumps(IGNORE))
    with pytest.raises(IGTVError, match=message):
        evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")


# --------------------------------------------------------------------------------------------- the output


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_evaluation_of_other_masks_is_not_replaced_unless_asked(cohort):
    evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    before = content(cohort / "out")
    with pytest.raises(IGTVError, match="holds another evaluation"):
        evaluate(cohort / "truth", {"m": cohort / "poor"}, None, cohort / "out")
    with pytest.raises(IGTVError, match="holds another evaluation"):
        evaluate(cohort / "truth", {"other": cohort / "good"}, None, cohort / "out")
    assert content(cohort / "out") == before
    evaluate(cohort / "truth", {"m": cohort / "poor"}, None, cohort / "out", overwrite=True)
    assert content(cohort / "out") != before


def test_the_same_evaluation_may_be_made_again_and_gives_the_same(cohort):
    """What a run that was killed at its end needs."""
    arguments = cohort / "truth", {"m": cohort / "good"}, cohort / "images", cohort / "out"
    evaluate(*arguments)
    before = content(cohort / "out")
    (cohort / "out" / "report.html").unlink()
    evaluate(*arguments)
    assert content(cohort / "out") == before


def test_files_that_are_no_evaluation_of_ours_are_not_replaced(cohort):
    (cohort / "out").mkdir()
    (cohort / "out" / "report.html").write_text("mine")
    with pytest.raises(IGTVError, match="holds another evaluation"):
        evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    assert (cohort / "out" / "report.html").read_text() == "mine"


@pytest.mark.parametrize(("before", "options"), [("poor", ["--overwrite"]), ("good", [])])
def test_killed_at_every_file_event_the_same_command_completes_it(cohort, capsys, before, options):
    """And no number is ever next to a report of other masks."""
    for case in ("CASE_1", "CASE_2"):
        (cohort / "truth" / f"{case}.nii.gz").unlink()
    out = cohort / "out"
    evaluate(cohort / "truth", {"m": cohort / before}, None, out, title="the one before")
    old = content(out)

    def left(out):
        whole = {name: data for name, data in content(out).items() if not name.startswith(".")}
        assert whole.items() <= old.items() or whole.items() <= content(cohort / "new").items()

    evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "new", title="IGTV segmentation")
    command = [
        "evaluate",
        "--truth",
        cohort / "truth",
        "--prediction",
        f"m={cohort / 'good'}",
        "--output",
        out,
    ]
    run = partial(main, [*map(str, command), *options])
    assert completes_after_every_kill(out, run, left=left) > (12, 8)


@pytest.mark.parametrize("fails_at", ["metrics.json", "metrics.csv", "report.html"])
def test_where_a_file_cannot_be_written_all_stay_as_they_were(cohort, monkeypatch, fails_at):
    evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    before = content(cohort / "out")
    write = Path.write_text

    def full(self, *arguments, **options):
        if fails_at in self.name:
            write(self, "half", encoding="utf-8")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        evaluate(cohort / "truth", {"m": cohort / "poor"}, None, cohort / "out", overwrite=True)
    assert content(cohort / "out") == before


def test_an_output_that_is_a_file_is_one_line(cohort, capsys):
    (cohort / "out").write_text("mine")
    arguments = [
        "--truth",
        cohort / "truth",
        "--prediction",
        f"m={cohort / 'good'}",
        "--output",
        cohort / "out",
    ]
    assert main(["evaluate", *map(str, arguments)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("nnunet-igtv evaluate: File exists [")


# -------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("side", ["truth", "good"])
def test_what_is_no_mask_is_refused(cohort, write_image, ball, side):
    probabilities = np.where(ball(), 0.9, 0.1)
    write_image(cohort / side / "CASE_1.nii.gz", probabilities)
    with pytest.raises(IGTVError, match="CASE_1: the image is no mask"):
        evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    assert not (cohort / "out").exists()


def test_masks_of_other_types_are_taken(cohort, write_image, ball):
    for i, voxels in enumerate((ball().astype(np.float32), ball() * np.uint8(255), ball())):
        for folder in ("truth", "good"):
            write_image(cohort / folder / f"CASE_{i}.nii.gz", voxels)
    assert evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out").means["m"]["dice"] == 1


# ----------------------------------------------------------------------------------- cases that do not fit


def test_undefined_values_stay_out_of_means(cohort, write_image):
    nothing = np.zeros((20, 32, 32), bool)
    write_image(cohort / "truth" / "CASE_9.nii.gz", nothing)
    write_image(cohort / "good" / "CASE_9.nii.gz", nothing)
    results = evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    assert len(results.values("m", "dice")) == 3
    assert len(results.values("m", "truth_ml")) == 4
    written = json.loads((cohort / "out" / "metrics.json").read_text())  # strict JSON: no NaN
    assert written["models"]["m"]["cases"]["CASE_9"]["dice"] is None
    assert written["models"]["m"]["cases_with_value"]["dice"] == 3
    assert "data:image" not in (cohort / "out" / "report.html").read_text()


def test_missing_prediction_is_found_before_any_work(cohort):
    (cohort / "good" / "CASE_2.nii.gz").unlink()
    with pytest.raises(IGTVError, match="CASE_2: no prediction by good"):
        evaluate(cohort / "truth", {"good": cohort / "good"}, None, cohort / "out")
    assert not (cohort / "out").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"spacing": (2.0, 2.0, 3.1)}, "spacing"),
        ({"origin": (1.0, -2.0, 33.0)}, "origin"),
        ({"crop": True}, "size"),
        ({"direction": (-1.0, 0, 0, 0, 1, 0, 0, 0, 1)}, "axes turned by 180.00 degrees"),  # at another place
        ({"direction": (0.99996, -0.0087, 0, 0.0087, 0.99996, 0, 0, 0, 1)}, "axes turned by 0.50 degrees"),
    ],
)
def test_geometry_mismatch_is_refused(change, what, cohort, write_image, ball):
    voxels = ball()[1:] if change.pop("crop", False) else ball()
    write_image(cohort / "good" / "CASE_1.nii.gz", voxels, **change)
    with pytest.raises(IGTVError, match=f"CASE_1: another grid than the truth's: {what}"):
        evaluate(cohort / "truth", {"good": cohort / "good"}, None, cohort / "out")
    assert not (cohort / "out").exists()


def test_masks_and_images_with_other_axes_are_the_same(cohort, ball):
    """As after software that reorients: the same voxels in another order, probabilities included."""
    for i, radius in enumerate((4.5, 6.5, 7.5)):
        tumour = np.where(ball(radius=radius), 0.9, 0.1)
        np.savez(cohort / "good" / f"CASE_{i}.npz", probabilities=np.stack([1 - tumour, tumour]))
    folders = {"good": cohort / "good", "poor": cohort / "poor"}
    straight = evaluate(cohort / "truth", folders, cohort / "images", cohort / "straight")
    shown = (cohort / "straight" / "report.html").read_text()
    for folder in ("good", "images"):
        for file in (cohort / folder).glob("*.nii.gz"):
            image = sitk.PermuteAxes(sitk.ReadImage(str(file)), (2, 0, 1))
            sitk.WriteImage(sitk.Flip(image, (True, False, True)), str(file))
    for file in (cohort / "good").glob("*.npz"):
        turned = np.load(file)["probabilities"].transpose(0, 2, 3, 1)[:, ::-1, :, ::-1]
        np.savez(file, probabilities=turned)
    turned = evaluate(cohort / "truth", folders, cohort / "images", cohort / "turned")
    assert turned.scores == straight.scores
    assert turned.calibration["good"].masks == 3
    assert turned.calibration["good"].error == straight.calibration["good"].error
    assert (cohort / "turned" / "report.html").read_text() == shown


@pytest.mark.parametrize("side", ["truth", "good", "images"])
def test_two_files_of_one_case_are_refused(cohort, write_image, ball, side):
    name = "CASE_1_0001" if side == "images" else "CASE_1"
    write_image(cohort / side / f"{name}.nii", ball(radius=1))
    with pytest.raises(IGTVError, match=rf"{name}: two files of one case: {name}\.nii and {name}\.nii\.gz"):
        evaluate(cohort / "truth", {"m": cohort / "good"}, cohort / "images", cohort / "out")
    assert not (cohort / "out").exists()


def test_predictions_without_a_truth_and_unknown_patients_are_said(cohort, ball, write_image):
    write_image(cohort / "good" / "CASE_9.nii.gz", ball())
    results = evaluate(cohort / "truth", {"m": cohort / "good"}, None, cohort / "out")
    assert results.notes == ["1 of the cases that m predicted have no truth: CASE_9, …"]
    page = (cohort / "out" / "report.html").read_text()
    assert "1 of the cases that m predicted" in page
    assert "Which cases are of one patient is not known" in page


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_a_surface_dice_is_the_same_in_every_format(tmp_path, write_image, ending):
    """Five slices of 0.6 mm are 3 mm, in NIfTI's single precision too."""
    slab = np.zeros((60, 20, 20), bool)
    slab[20:40, 3:17, 3:17] = True
    write_image(tmp_path / "truth" / f"X{ending}", slab, (1, 1, 0.6))
    write_image(tmp_path / "moved" / f"X{ending}", np.roll(slab, 5, 0), (1, 1, 0.6))
    results = evaluate(tmp_path / "truth", {"m": tmp_path / "moved"}, None, tmp_path / "out")
    assert results.scores["m"]["X"]["surface_dice_3mm"] == 1


def test_other_refusals(cohort, tmp_path):
    with pytest.raises(IGTVError, match="no such folder"):
        evaluate(cohort / "absent", {"good": cohort / "good"}, None, cohort / "out")
    (cohort / "empty").mkdir()
    with pytest.raises(IGTVError, match="no masks"):
        evaluate(cohort / "empty", {"good": cohort / "good"}, None, cohort / "out")
    with pytest.raises(IGTVError, match="CASE_0: no CT"):
        evaluate(cohort / "truth", {"good": cohort / "good"}, cohort / "empty", cohort / "out")
    (cohort / "good" / "CASE_0.nii.gz").write_text("no image")
    with pytest.raises(IGTVError, match="CASE_0: the image cannot be read"):
        evaluate(cohort / "truth", {"good": cohort / "good"}, None, cohort / "out")


def test_a_folder_without_a_name_may_have_an_equals_sign(cohort, capsys):
    arguments = ["evaluate", "--truth", str(cohort / "truth"), "--output", str(cohort / "out")]
    predicted = (cohort / "good").rename(cohort / "lr=0.01")
    assert main([*arguments, "--prediction", str(predicted)]) == 0
    assert main([*arguments, "--prediction", f"best={predicted}", "--overwrite"]) == 0
    assert "best" in capsys.readouterr().out


def test_command(cohort, capsys):
    arguments = ["evaluate", "--truth", str(cohort / "truth"), "--output", str(cohort / "out")]
    models = [f"poor={cohort / 'poor'}", f"good={cohort / 'good'}"]
    assert main([*arguments, "--images", str(cohort / "images"), "--prediction", *models]) == 0
    printed = capsys.readouterr().out
    assert "means over 3 cases" in printed
    assert "report.html" in printed
    for wrong, message in (
        (["=folder"], "--prediction takes NAME=DIR, not '=folder'"),
        (["name="], "--prediction takes NAME=DIR, not 'name='"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, "--prediction", *wrong])
        assert message in capsys.readouterr().err
    assert main([*arguments, "--prediction", models[1]]) == 1
    assert (
        "choose another folder, or overwrite what is there (--output, --overwrite)" in capsys.readouterr().err
    )
    assert main([*arguments, "--prediction", models[1], "--overwrite"]) == 0
    seeds = [f"m={cohort / name}" for name in ("good", "poor")]
    observers = [f"a={cohort / 'truth'}", f"b={cohort / 'good'}"]
    more = [
        "--prediction",
        *seeds,
        f"n={cohort / 'poor'}",
        "--reference",
        "m",
        "--output",
        str(cohort / "runs"),
    ]
    assert main(["evaluate", "--truth", *observers, *more]) == 0
    assert "n minus m: Dice" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["evaluate", "--truth", observers[0], str(cohort / "good"), *more])
    assert "--truth takes NAME=DIR" in capsys.readouterr().err
