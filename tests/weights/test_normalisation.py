import json
from copy import deepcopy
from pathlib import Path

import pytest

from nnunet_igtv.weights.normalisation import PROPERTIES, differences

SCHEMES = ["CTNormalization", "CTNormalization"]
GTV = {"mean": -47.0, "std": 141.0, "percentile_00_5": -403.0, "percentile_99_5": 78.0}
IGTV = {"mean": -334.0, "std": 242.0, "percentile_00_5": -798.0, "percentile_99_5": 63.0}
PET = {"mean": 4.0, "std": 2.0, "percentile_00_5": 1.0, "percentile_99_5": 11.0}


def checkpoint(ct=GTV):
    return {"network_weights": {}, "init_args": {"plans": {PROPERTIES: {"0": ct, "1": PET}}}}


def test_another_normalisation_is_named_by_channel_with_both_sides():
    [sentence] = differences(checkpoint(), {PROPERTIES: {"0": IGTV, "1": PET}}, SCHEMES)
    assert sentence.startswith("channel 0: clipped to -403 … 78, mean -47, deviation 141 there")
    assert "-798 … 63" in sentence


@pytest.mark.parametrize("key", ["mean", "std", "percentile_00_5", "percentile_99_5"])
def test_what_counts_is_the_difference_in_deviations(key):
    for share, found in ((0.05, 0), (0.2, 1)):
        changed = GTV | {key: GTV[key] + share * GTV["std"]}
        assert len(differences(checkpoint(changed), {PROPERTIES: {"0": GTV, "1": PET}}, SCHEMES)) == found


def test_only_a_normalisation_by_data_set_can_differ():
    plans = {PROPERTIES: {"0": IGTV, "1": PET}}
    assert not differences(checkpoint(), plans, ["ZScoreNormalization", "CTNormalization"])


@pytest.mark.parametrize("content", [{}, {"network_weights": {}}, {"init_args": {"plans": {}}}, [1]])
def test_weights_that_say_nothing_of_their_plans_are_let_pass(content):
    assert differences(content, {PROPERTIES: {"0": IGTV, "1": PET}}, SCHEMES) == []


def test_the_plans_of_nnunet_are_understood():
    plans = json.loads((Path(__file__).parents[1] / "data" / "nnUNetPlans.json").read_text())
    assert not differences({"init_args": {"plans": plans}}, plans, SCHEMES)
    other = deepcopy(plans)
    other[PROPERTIES]["1"]["mean"] += other[PROPERTIES]["1"]["std"]
    assert len(differences({"init_args": {"plans": other}}, plans, SCHEMES)) == 1
