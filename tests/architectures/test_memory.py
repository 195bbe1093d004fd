"""The memory formula follows what it stands for."""

import csv
from pathlib import Path

import pytest

from nnunet_igtv.architectures.memory import planned_bytes, training_bytes
from nnunet_igtv.architectures.presets import PRESETS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TINY = PRESETS["tiny"].kwargs()


def test_it_meets_measurements_of_traced_training_steps():
    """Peaks in GB from benchmarks/results/network-memory.csv."""
    measured = {
        ("nano", "before_head", 2, 3, 512, 512): 1.92,
        ("tiny", "before_head", 2, 3, 320, 320): 8.34,
        ("tiny", "before_head", 2, 3, 512, 512): 19.79,
        ("small", "before_head", 2, 3, 320, 320): 11.14,
        ("base", "before_head", 2, 3, 320, 320): 15.21,
        ("tiny", "stages", 2, 3, 512, 512): 19.92,
        ("base", "stages", 4, 3, 256, 256): 19.11,
        ("tiny", "none", 2, 3, 320, 320): 8.17,
    }
    for (name, interaction, *shape), gigabytes in measured.items():
        fields = PRESETS[name].kwargs() | {"slice_interaction": interaction}
        assert training_bytes(fields, *shape) / 1e9 == pytest.approx(gigabytes, rel=0.05)


def test_in_half_precision_and_with_checkpointing_it_is_never_below_a_measurement():
    """All peaks of traced training steps in benchmarks/results; plans rely on it."""
    errors = []
    for half, name in ((True, "network-half.csv"), (False, "network-memory.csv")):
        for row in csv.DictReader((RESULTS / name).read_text().splitlines()):
            if half or row["checkpointing"] == "True":
                fields = PRESETS[row["preset"]].kwargs() | {
                    "mixer": row.get("mixer", "scan"),
                    "slice_interaction": row["slice interaction"],
                    "checkpointing": not half,
                }
                shape = map(int, row["shape (B, S, H, W)"].split("x"))
                bytes_ = (
                    training_bytes(fields, *shape, half=True)
                    if half
                    else planned_bytes(fields, *shape, half=False)
                )
                errors.append(bytes_ / 1e9 / float(row["measured GB"]) - 1)
    assert len(errors) > 80
    assert -0.005 < min(errors) < max(errors) < 0.25


def test_a_plan_has_room_for_a_step_that_is_repeated_in_single_precision():
    for name, mixer in (("nano", "scan"), ("tiny", "scan"), ("tiny", "convolution")):
        fields = PRESETS[name].kwargs() | {"mixer": mixer}
        for shape in ((2, 3, 96, 96), (4, 3, 512, 512)):
            half, single = (planned_bytes(fields, *shape, half=half) for half in (True, False))
            assert half >= training_bytes(fields, *shape, half=True)
            assert half >= training_bytes(fields | {"checkpointing": True}, *shape)
            assert half < single == training_bytes(fields, *shape)


def test_activations_grow_with_slices_and_pixels_and_weights_do_not():
    one, two, three = (training_bytes(TINY, batch, 3, 256, 256) for batch in (1, 2, 3))
    assert three - two == pytest.approx(two - one)
    assert training_bytes(TINY, 3, 2, 256, 256) == training_bytes(TINY, 2, 3, 256, 256)
    weights = 2 * one - two
    assert training_bytes(TINY, 1, 3, 512, 256) == pytest.approx(2 * one - weights)
    assert weights > 4 * 4 * 54e6  # weights, gradients and two moments in float32


def test_sizes_are_those_that_the_network_pads_to():
    assert training_bytes(TINY, 1, 1, 33, 64) == training_bytes(TINY, 1, 1, 64, 64)


def test_options_count():
    plain = training_bytes(TINY, 2, 3, 256, 256)
    assert training_bytes(TINY | {"checkpointing": True}, 2, 3, 256, 256) < 0.5 * plain
    assert training_bytes(TINY | {"slice_interaction": "none"}, 2, 3, 256, 256) < plain
