"""The slice interactions by name: what a plan or a trainer may hold, and what each name gives."""

import pytest
import torch

from nnunet_igtv.architectures.memory import training_bytes
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.architectures.slice_interactions import (
    DEFAULT,
    SLICE_INTERACTIONS,
    build_slice_interaction,
    interaction_name,
)
from nnunet_igtv.errors import IGTVError

WIDTHS = [16, 32, 64, 128]


def test_true_and_false_of_the_first_plans_keep_their_meaning():
    assert interaction_name(True) == "stages"
    assert interaction_name(False) == "none"
    assert all(interaction_name(name) == name for name in SLICE_INTERACTIONS)
    assert DEFAULT == "before_head"


@pytest.mark.parametrize("value", ["stage", "", None, 1, ["stages"]])
def test_unknown_names_are_refused_with_those_that_exist(value):
    existing = "before_head, stages, cross_slice_attention, csam, none"
    with pytest.raises(IGTVError, match=rf"no slice interaction named .*{existing}"):
        interaction_name(value)


@pytest.mark.law
@pytest.mark.parametrize("auxiliary_heads", [False, True])
@pytest.mark.parametrize("name", SLICE_INTERACTIONS)
def test_every_fresh_interaction_is_the_identity(noise, name, auxiliary_heads):
    interaction = build_slice_interaction(name, WIDTHS, auxiliary_heads).eval()
    maps = [noise(2, 3, 16 // 2**i, 8 // 2**i, width).float() for i, width in enumerate(WIDTHS)]
    features = [maps[0], *maps[:3]] if auxiliary_heads else maps[:1]
    for before, after in (
        (maps, interaction.after_fusion(maps)),
        (features, interaction.before_heads(features)),
    ):
        assert len(before) == len(after)
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("name", SLICE_INTERACTIONS)
def test_the_memory_of_an_interaction_follows_its_maps(name):
    fields = PRESETS["nano"].kwargs() | {"slice_interaction": name}

    def extra(batch, slices, side, **changes):
        without = fields | changes | {"slice_interaction": "none"}
        shape = (batch, slices, side, side)
        return training_bytes(fields | changes, *shape) - training_bytes(without, *shape)

    one = extra(2, 3, 96)
    assert extra(4, 3, 96) == pytest.approx(2 * one)
    assert extra(2, 3, 192) == pytest.approx(4 * one)
    assert (one > 0) == (name != "none")
    assert extra(2, 3, 96, auxiliary_heads=True) >= one
