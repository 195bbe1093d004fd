"""What a GPU's host has to start in a training step: the operators that launch a kernel.

    python benchmarks/launches.py [--presets nano tiny]

No GPU is needed. One step (forward, Dice + cross-entropy, backward, clipping, AdamW; 4 stacks of 3x96x96,
autocast) is traced with fake tensors, and every operator counts that computes: not those that give a view or
memory only. A scan counts as often as its CUDA backend starts a kernel or fills memory. Writes
results/launches.csv.
"""

import argparse
import collections
from typing import Any

import torch
from network import norms_as_on_gpu
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from record import write
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS

SHAPE = (4, 3, 96, 96)
MEMORY_ONLY = ("empty", "new_empty", "_unsafe_view", "_reshape_alias", "lift_fresh", "is_same_size", "detach")
NOT_ON_A_GPU = ("prim::device", "aten::_local_scalar_dense")  # of the tracing
# of one call on a small map: zeros for all sums, and the kernel. The network gives it float32 only
OWN = {"nnunet_igtv::scan": 2, "nnunet_igtv::scan_backward": 2}


def launches(func: Any) -> int:
    """How many kernels an operator starts on a GPU, at the least."""
    schema = func._schema
    if schema.name in OWN:
        return OWN[schema.name]
    if schema.name in NOT_ON_A_GPU:
        return 0
    name = schema.name.removeprefix("aten::")
    aliases = [result.alias_info for result in schema.returns]
    views = aliases and all(alias is not None and not alias.is_write for alias in aliases)
    return 0 if views or name.startswith(MEMORY_ONLY) else 1


class Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func._schema.name] += launches(func)
        return func(*args, **(kwargs or {}))


def step(preset: str, optimizer_options: dict[str, bool]) -> collections.Counter[str]:
    """Launches by operator, of one step without a compiler."""
    B, S, H, W = SHAPE
    loss = DC_and_CE_loss({"batch_dice": True, "do_bg": False, "smooth": 1e-5, "ddp": False}, {})
    counter = Counter()
    with FakeTensorMode(allow_non_fake_inputs=True):
        net = IGTVNet(2, 2, **PRESETS[preset].kwargs()).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, **optimizer_options)
        for parameter in net.parameters():  # the first step makes the optimiser's moments
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        x, target = torch.empty(B, 2, S, H, W), torch.zeros(B, 1, S, H, W)
        with norms_as_on_gpu(), counter:
            with torch.autocast("cpu", dtype=torch.float16):
                value = loss(net(x), target)
            value.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0, foreach=True)
            optimizer.step()
    return counter.found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["nano", "tiny"], choices=list(PRESETS))
    parser.add_argument("--optimizer", default="fused", choices=("fused", "foreach"))
    parser.add_argument("--most", type=int, default=0, help="print that many operators, most frequent first")
    options = parser.parse_args()
    rows = []
    for preset in options.presets:
        found = step(preset, {options.optimizer: True})
        rows.append({"preset": preset, "eager launches": found.total()})
        for name, count in found.most_common(options.most):
            print(f"{count:6d} {name}")
    write("launches", rows, "cpu")


if __name__ == "__main__":
    main()
