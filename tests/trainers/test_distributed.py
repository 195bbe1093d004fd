"""The trainer in two processes of a gloo group; the commands under torchrun are in tests/end_to_end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import find_free_network_port
from torch import distributed, multiprocessing

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.cross_modal import BatchNorm
from nnunet_igtv.trainers.distributed import DistributedTrainer, _own
from nnunet_igtv.trainers.synced_norm import synchronise_norms


@pytest.fixture(scope="module")
def found(nnunet_world, tmp_path_factory):
    """What every check of two_ranks.py found: by its name, then by rank."""
    output, data = tmp_path_factory.mktemp("two_ranks"), nnunet_world.preprocessed(902)
    settings = {
        "nnUNet_results": str(output / "results"),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_igtv_seed": "",
        "OMP_NUM_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (nnunet_world.environment | settings).items():
            patch.setenv(name, value)
        patch.syspath_prepend(Path(__file__).parent)  # for the processes too
        import two_ranks

        arguments = (find_free_network_port(), data / "nnUNetPlans.json", data / "dataset.json", output)
        multiprocessing.spawn(two_ranks.main, args=arguments, nprocs=2)
    ranks = [json.loads((output / f"rank_{rank}.json").read_text()) for rank in (0, 1)]
    assert not list((output / "results").rglob("IGTVTrainerOdd*"))  # what was refused left nothing
    return {name.removeprefix("check_"): [rank[name] for rank in ranks] for name in ranks[0]}


def test_norms_over_two_processes_are_those_of_the_whole_batch(found):
    for rank in found["norms"]:
        assert rank.pop("keys")
        assert max(rank.values()) < 1e-5, rank


def test_a_trainer_on_the_cpu_is_set_up_for_its_share(found):
    zero, one = found["initialise"]
    for rank in (zero, one):
        assert rank["device"] == "cpu"
        assert rank["scaler"]
        assert rank["batch"] == 2  # of 4
        assert rank["dice over all"]
        assert rank["plain norms"] == 0
    assert (zero["oversample"], one["oversample"]) == (0.0, 0.5)  # together: the last third of the batch
    assert zero["digest"] == one["digest"]


def test_nan_in_one_process_stops_both_with_the_same_words(found):
    zero, one = found["nan_in_one_process"]
    assert zero == one
    assert zero["weights kept"]
    assert "case_00, case_01, case_10, case_11: the loss is NaN" in zero["error"]


def test_a_loss_that_overflowed_in_one_process_is_computed_again_in_both(found):
    zero, one = found["retry"]
    assert zero["calls"] == one["calls"] == 2
    assert zero["loss"] == one["loss"]
    assert zero["weights"] == one["weights"]
    assert zero["learned"]


def test_rank_0_alone_makes_the_split_and_sends_it(found):
    assert found["split"] == [[["case_000", "case_001", "case_002"], ["case_003"]]] * 2


def test_rank_0_alone_writes_the_results_folder(found):
    zero, one = found["start"]
    assert zero["writes elsewhere"] == [False]
    assert one["writes elsewhere"] == [True]
    for rank in (zero, one):
        assert rank["folder again"]
        assert rank["plans"]


@pytest.mark.parametrize("what", ["other_epoch", "other_weights"])
def test_processes_that_would_start_from_different_points_are_stopped(found, what):
    zero, one = found[what]
    assert zero == one
    assert "did not read the same checkpoint or weights" in zero


def test_a_batch_that_cannot_be_shared_is_refused(found):
    for message in found["odd_batch"]:
        assert "a batch of 3 stacks cannot be shared equally by 2 processes" in message
        assert "start 1 or 3" in message
        assert '"igtv": {"batch_size": 4}' in message


def test_deep_supervision_leaves_no_head_without_a_gradient(found):
    zero, one = found["deep_supervision"]
    assert zero["digest"] == one["digest"]
    assert np.isfinite(zero["losses"]).all()
    assert all(weight > 0 for weight in zero["weights when compiled"])


def test_processes_agree_on_the_device_of_the_trainer(monkeypatch):
    """A half-precision step has its flag on the CPU, and nccl talks between GPUs only."""
    trainer = object.__new__(DistributedTrainer)
    trainer.is_ddp, trainer.device = True, torch.device("meta")

    def asked(flag, operation):
        raise RuntimeError(f"{flag.dtype} on {flag.device}")

    monkeypatch.setattr(distributed, "all_reduce", asked)
    with pytest.raises(RuntimeError, match=r"torch\.int32 on meta"):
        trainer.everywhere(torch.tensor(True))


def test_the_first_to_fail_reports_and_a_lost_process_differs_from_an_error_of_ones_own(found):
    zero, one = found["failing"]
    assert sorted([zero["first"], one["first"]]) == [False, True]
    assert zero["lost"]
    assert zero["own"]


def test_on_gpus_the_norms_become_pytorchs_own():
    network = build_network("nano", 2)
    keys, parameters = list(network.state_dict()), list(network.parameters())
    norms = sum(isinstance(module, BatchNorm) for module in network.modules())
    synchronise_norms(network, torch.device("cuda"))
    assert sum(isinstance(module, torch.nn.SyncBatchNorm) for module in network.modules()) == norms > 0
    assert list(network.state_dict()) == keys
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))


def test_a_gpu_is_the_one_given_or_the_one_that_nnunet_has_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)  # set by nnUNetv2_train -num_gpus
    assert _own(torch.device("cuda")) == torch.device("cuda", 3)
    assert _own(torch.device("cuda", 1)) == torch.device("cuda", 1)  # by nnunet-igtv train
    assert _own(torch.device("cpu")) == torch.device("cpu")
