"""The evaluation as one self-contained HTML file: no script, no font, nothing fetched."""

import math
from html import escape
from importlib.resources import files
from pathlib import Path

from tqdm import tqdm

from nnunet_igtv import __version__
from nnunet_igtv.atomic import write_text
from nnunet_igtv.evaluation.by_position import BINS
from nnunet_igtv.evaluation.cases import Case
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.pictures import MODEL_COLOURS, TRUTH_COLOUR, Row, pictures
from nnunet_igtv.evaluation.results import Results, shown

PICTURED = 16  # cases; of more, as many from the worst to the best


def write_report(results: Results, cases: list[Case], output: Path, title: str) -> None:
    """Write the report, whole or not at all."""
    pictured = _choose(results, cases)
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{_count(len(cases), "case")}, {_count(len(results.models), "model")}. '
        "Research use only, not a medical device.</p>",
        "<h2>Means</h2>",
        f'<div class="card scroll">{_means(results)}</div>',
        "<h2>Dice along the target</h2>",
        f'<div class="card">{_key(results.models)}{_profile_chart(results)}'
        '<p class="soft">From the first slice of the target to its last. '
        "The ends are where motion makes the PET fade.</p>"
        "</div>",
        "<h2>Every case</h2>",
        f'<div class="card scroll">{_every_case(results)}</div>',
    ]
    if any(case.images for case in cases):
        some = "" if len(pictured) == len(cases) else f" {len(pictured)} of {len(cases)}, from worst to best."
        sections.append(
            f'<h2>Pictures</h2><p class="soft">Contours: {_key(results.models, truth=True)}{some}</p>'
        )
        sections += [_case(results, case) for case in tqdm(pictured, desc="pictures", unit="case")]
    sections.append(f'<h2>What the numbers mean</h2><div class="card">{_definitions()}</div>')
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>\n"
        + "\n".join(sections)
        + f'\n<p class="soft foot">nnunet-igtv {__version__}</p>\n</body></html>\n'
    )
    write_text(output, page)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _colour(model_index: int) -> str:
    return MODEL_COLOURS[model_index % len(MODEL_COLOURS)]


def _key(models: list[str], truth: bool = False) -> str:
    entries = [("truth", TRUTH_COLOUR)] if truth else []
    entries += [(model, _colour(i)) for i, model in enumerate(models)]
    return "".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in entries
    )


def _head(first: list[str]) -> str:
    cells = [f'<th class="name">{text}</th>' for text in first]
    cells += [
        f'<th title="{escape(m.definition)}">{m.label}{f" {m.unit}" if m.unit else ""}</th>'
        for m in METRICS.values()
    ]
    return "<thead><tr>" + "".join(cells) + "</tr></thead>"


def _means(results: Results) -> str:
    best = {metric: results.best(metric) for metric in METRICS}
    rows = []
    for model in results.models:
        cells = [f"<td>{escape(model)}</td>"]
        for metric, mean in results.mean(model).items():
            values = results.values(model, metric)
            spread = (
                f"<small>±{values.std(ddof=1):.{METRICS[metric].digits}f}</small>" if len(values) > 1 else ""
            )
            mark = ' class="best"' if model in best[metric] else ""
            cells.append(f"<td{mark}>{shown(mean, metric)}{spread}</td>")
        rows.append("<tr>" + "".join(cells) + "</tr>")
    return f"<table>{_head(['Model'])}<tbody>{''.join(rows)}</tbody></table>"


def _every_case(results: Results) -> str:
    rows = []
    for case in results.cases:
        for i, model in enumerate(results.models):
            cells = [f"<td>{escape(case) if i == 0 else ''}</td>", f'<td class="name">{escape(model)}</td>']
            cells += [f"<td>{shown(v, metric)}</td>" for metric, v in results.scores[model][case].items()]
            rows.append("<tr>" + "".join(cells) + "</tr>")
    return f"<table>{_head(['Case', 'Model'])}<tbody>{''.join(rows)}</tbody></table>"


def _profile_chart(results: Results) -> str:
    """Mean Dice by position, one line per model."""
    width, height, left, right, top, bottom = 1080, 300, 40, 12, 14, 34

    def x(b: float) -> float:
        return left + (width - left - right) * (b + 0.5) / BINS

    def y(value: float) -> float:
        return top + (height - top - bottom) * (1 - value)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="mean Dice along the target">']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<line class="axis" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for edge in (BINS / 3 - 0.5, 2 * BINS / 3 - 0.5):  # the central third
        parts.append(
            f'<line class="axis" x1="{x(edge):.1f}" x2="{x(edge):.1f}" y1="{top}" y2="{height - bottom}" '
            'stroke-dasharray="3 4"/>'
        )
    for middle, text in (
        (BINS / 6, "outer third"),
        (BINS / 2, "central third"),
        (5 * BINS / 6, "outer third"),
    ):
        parts.append(f'<text x="{x(middle - 0.5):.1f}" y="{height - 12}" text-anchor="middle">{text}</text>')
    for i, model in enumerate(results.models):
        values = enumerate(results.mean_profile(model))
        points = [(x(b), y(value)) for b, value in values if math.isfinite(value)]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_colour(i)}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{_colour(i)}"/>' for px, py in points]
    return "".join(parts) + "</svg>"


def _choose(results: Results, cases: list[Case]) -> list[Case]:
    """The cases to picture: all, or the last model's worst, best and some between."""
    if len(cases) <= PICTURED:
        return cases
    scores = results.scores[results.models[-1]]
    ranked = sorted(
        cases, key=lambda case: (math.isnan(scores[case.name]["dice"]), scores[case.name]["dice"])
    )
    return [ranked[round(i * (len(ranked) - 1) / (PICTURED - 1))] for i in range(PICTURED)]


def _case(results: Results, case: Case) -> str:
    dices = [f"{escape(m)} {shown(results.scores[m][case.name]['dice'], 'dice')}" for m in results.models]
    volume = shown(results.scores[results.models[0]][case.name]["truth_ml"], "truth_ml")
    return (
        f'<div class="card"><h3>{escape(case.name)} '
        f'<span class="soft">&nbsp;{volume} ml &nbsp; Dice: {"; ".join(dices)}</span></h3>'
        f"{_picture_grid(case.name, pictures(case))}</div>"
    )


def _picture_grid(case: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    columns = list(rows[0].panels)
    cells = ['<div class="side"></div>', *(f'<div class="head">{escape(title)}</div>' for title in columns)]
    for row in rows:
        cells.append(f'<div class="side">{row.title}<br>slice {row.number} of {row.of}</div>')
        for title, uri in row.panels.items():
            text = escape(f"{case}, {title}, slice {row.number}")
            cells.append(f'<figure><img alt="{text}" src="{uri}"></figure>')
    style = f"--columns:{len(columns)}; grid-template-columns: 6.5rem repeat({len(columns)}, minmax(0, 1fr))"
    return f'<div class="grid" style="{style}">{"".join(cells)}</div>'


def _definitions() -> str:
    entries = {m.label + (f", {m.unit}" if m.unit else ""): m.definition for m in METRICS.values()}
    entries["Empty masks"] = (
        "Where truth and prediction are both empty, overlaps and distances are undefined (n/a) and left out "
        "of the means; where one of them is empty, overlaps are 0 and distances undefined."
    )
    entries["±"] = "Standard deviation over the cases."
    return "<dl>" + "".join(f"<dt>{t}</dt><dd>{escape(text)}</dd>" for t, text in entries.items()) + "</dl>"
