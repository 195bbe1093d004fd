"""The whole evaluation on folders: files written, means, report, refusals."""

import csv
import json
import re

import numpy as np
import pytest

from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation import evaluate


def test_evaluate(cohort):
    models = {"from scratch": cohort / "poor", "transferred": cohort / "good"}
    results = evaluate(cohort / "truth", models, cohort / "images", cohort / "out")
    assert results.models == ["from scratch", "transferred"]
    assert results.cases == ["CASE_0", "CASE_1", "CASE_2"]
    dices = [results.scores["transferred"][case]["dice"] for case in results.cases]
    assert results.means["transferred"]["dice"] == pytest.approx(np.mean(dices))
    assert results.means["transferred"]["dice"] > 0.85 > results.means["from scratch"]["dice"]
    assert results.best("dice") == {"transferred"}
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
    assert f"{np.mean(dices):.3f}" in table


def test_report_stands_alone(cohort):
    models = {"a <b>&": cohort / "poor", "transferred": cohort / "good"}
    evaluate(cohort / "truth", models, cohort / "images", cohort / "out", title="A & B")
    page = (cohort / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3 * 3 * 4  # cases, slices; CT, PET and two models
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert "A &amp; B" in page
    assert "a &lt;b&gt;&amp;" in page
    assert "a <b>" not in page
    assert "prefers-color-scheme: dark" in page
    assert str(cohort) not in page  # no paths of the machine
    for text in ("Dice peripheral", "HD95", "Empty masks", "CASE_2"):
        assert text in page


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
        ({"direction": (0.99996, -0.0087, 0, 0.0087, 0.99996, 0, 0, 0, 1)}, "axes turned by 0.50 degrees"),
    ],
)
def test_geometry_mismatch_is_refused(change, what, cohort, write_image, ball):
    voxels = ball()[1:] if change.pop("crop", False) else ball()
    write_image(cohort / "good" / "CASE_1.nii.gz", voxels, **change)
    with pytest.raises(IGTVError, match=f"CASE_1: another grid than the truth's: {what}"):
        evaluate(cohort / "truth", {"good": cohort / "good"}, None, cohort / "out")
    assert not (cohort / "out").exists()


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


def test_command(cohort, capsys):
    arguments = ["evaluate", "--truth", str(cohort / "truth"), "--output", str(cohort / "out")]
    models = [f"poor={cohort / 'poor'}", f"good={cohort / 'good'}"]
    assert main([*arguments, "--images", str(cohort / "images"), "--prediction", *models]) == 0
    printed = capsys.readouterr().out
    assert "means over 3 cases" in printed
    assert "report.html" in printed
    with pytest.raises(SystemExit):
        main([*arguments, "--prediction", models[0], models[0]])
