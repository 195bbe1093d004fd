"""Lines identify models: by colour for all readers, from the seventh on by dashes and marks too."""

import re
from itertools import combinations

import numpy as np
import pytest

from nnunet_igtv.evaluation import colours, evaluate

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
SEEN = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}


def lab(colour, seen):
    """CIE L*a*b* of a colour, as such a reader sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    xyz = to_xyz @ np.clip(np.array(seen) @ linear, 0, 1) / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("reader", SEEN)
def test_truth_and_six_models_are_told_apart_by_every_reader(reader):
    used = [colours.TRUTH.colour, *(colours.of_model(i).colour for i in range(6))]
    assert {colour.lower() for colour in used} == OKABE_ITO
    seen = [lab(colour, SEEN[reader]) for colour in used]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15
    assert min(np.linalg.norm(seen[0] - model) for model in seen[1:3]) > 30  # the first two and the truth


def test_no_two_models_have_one_line():
    lines = [colours.of_model(i) for i in range(24)]
    assert len({(line.colour, line.dash) for line in lines}) == 24
    assert len({(line.colour, line.mark) for line in lines}) == 24
    assert {line.dash for line in lines[:6]} == {()}
    assert all(line.dash for line in lines[6:])
    assert len({(line.colour, line.dash) for line in map(colours.of_observer, range(8))}) == 8


def test_the_truth_is_the_thickest():
    others = [colours.of_model(i) for i in range(24)] + [colours.of_observer(i) for i in range(8)]
    assert all(colours.TRUTH.width > 1.4 * other.width for other in others)


def test_the_seventh_model_is_dashed_wherever_it_is_drawn(cohort):
    models = {f"m{i}": cohort / "copies" / str(i) for i in range(8)}
    for folder in models.values():
        folder.mkdir(parents=True)
        for file in (cohort / "good").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    evaluate(cohort / "truth", models, cohort / "images", cohort / "out")
    page = (cohort / "out" / "report.html").read_text()
    first, seventh = colours.of_model(0), colours.of_model(6)
    assert first.colour == seventh.colour
    dashes = " ".join(map(str, seventh.dash))
    along = page[page.index("mean Dice along the target") :]
    lines = re.findall(r"<polyline[^>]*>", along[: along.index("</svg>")])
    assert [dashes in line for line in lines] == [i >= 6 for i in range(8)]
    keys = re.findall(
        r'<span class="key">(.*?)</span>', page[page.index("mean Dice along") - 9000 :], re.DOTALL
    )
    named = {re.sub(r"<.*?>|\s", "", key): key for key in keys}
    assert f'stroke-dasharray="{dashes}"' in named["m6"]
    assert "stroke-dasharray" not in named["m0"]
    scatter = page[page.index("predicted against true volumes") :]
    scatter = scatter[: scatter.index("</svg>")]
    assert len(re.findall(r"<circle class=\"point\"", scatter)) == 6 * 3
    assert len(re.findall(r"<path class=\"point\"", scatter)) == 2 * 3
