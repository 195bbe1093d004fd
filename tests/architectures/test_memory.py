"""The memory formula follows what it stands for."""

import pytest

from nnunet_igtv.architectures.memory import training_bytes
from nnunet_igtv.architectures.presets import PRESETS

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
