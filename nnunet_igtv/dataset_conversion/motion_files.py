"""The motion report as files: JSON for programs, a picture for people. Neither names the patient."""

import json
from pathlib import Path
from typing import Any

from nnunet_igtv.atomic import written_together
from nnunet_igtv.dataset_conversion.motion import AXES

FOLDER = "motion"  # in a raw dataset: motion/CASE.json, motion/CASE.png
_COLOURS = {"R-L": "#0072b2", "A-P": "#009e73", "S-I": "#d55e00"}  # told apart by the colour-blind too
_MARKERS = {"R-L": "o", "A-P": "s", "S-I": "^"}
_FLAGGED = "#c00000"


def motion_files(base: Path) -> tuple[Path, Path]:
    """base.json and base.png."""
    return base.with_name(f"{base.name}.json"), base.with_name(f"{base.name}.png")


def write_motion(report: dict[str, Any], base: Path, title: str, overwrite: bool = False) -> None:
    """Write base.json and base.png, both whole or none.

    Args:
        report: by `motion_report`.
        base: the files' path without an ending.
        title: what the picture is called: a case, not a patient.
        overwrite: replace an older pair.

    Raises IGTVError where one of the names is taken.
    """
    with written_together(motion_files(base), overwrite) as (text, picture):
        text.write_text(json.dumps(report, indent=1) + "\n")
        _draw(report, picture, title)


def _draw(report: dict[str, Any], file: Path, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    phases = report["phases"]
    names = [phase["phase"].removesuffix(" %") for phase in phases]
    flagged = [any(f"phase {p['phase']}" in flag for flag in report["flags"]) for p in phases]
    at = range(len(names))
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    moved, volumes = figure.subplots(1, 2, width_ratios=(3, 2))
    for axis in AXES:
        values = [phase["displacement_mm"][axis] for phase in phases]
        span = report["peak_to_peak_mm"][axis]
        moved.plot(at, values, color=_COLOURS[axis], marker=_MARKERS[axis], label=f"{axis}: {span:.1f} mm")
    for k in (k for k in at if flagged[k]):
        moved.axvspan(k - 0.4, k + 0.4, color=_FLAGGED, alpha=0.15, linewidth=0)
    moved.axhline(0, color="0.6", linewidth=0.8)
    moved.set_ylabel(f"displacement from {report['reference_phase']}, mm\n(left, back, head positive)")
    moved.legend(title="peak to peak", frameon=False)
    bars = volumes.bar(at, [phase["volume_ml"] for phase in phases], color="#7f9fbf")
    for bar, odd in zip(bars, flagged, strict=True):
        bar.set_color(_FLAGGED if odd else "#7f9fbf")
    volumes.axhline(report["igtv_ml"], color="0.2", linestyle="--", linewidth=1)
    ratio = report["igtv_over_largest_gtv"]
    said = f"IGTV {report['igtv_ml']:.1f} ml (dashed),\n{ratio:.2f} times the largest GTV"
    volumes.set_title(said, fontsize=10)
    volumes.set_ylabel("volume of the GTV, ml")
    volumes.set_ylim(0, 1.1 * max([report["igtv_ml"], *(phase["volume_ml"] for phase in phases)]))
    for axes in (moved, volumes):
        axes.set_xticks(at, names)
        axes.set_xlabel("phase, %" if phases[0]["phase"].endswith("%") else "phase")
        axes.spines[["top", "right"]].set_visible(False)
    far = report["peak_to_peak_mm"]["3D"]
    heading = f"{title}: {far:.1f} mm between the farthest phases"
    figure.suptitle("\n".join([heading, *report["flags"]]), fontsize=11)
    figure.savefig(file, format="png", metadata={"Software": None})
