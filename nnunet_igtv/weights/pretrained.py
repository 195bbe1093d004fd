"""Transfer of weights into a network, with an account of every parameter. Never a silent partial load."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nnunet_igtv.architectures.weight_grids import resample_grid
from nnunet_igtv.channels import Channel, values_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.mapping import rename
from nnunet_igtv.weights.reading import channels_in, load_checkpoint, state_dict_of
from nnunet_igtv.weights.wrappers import bare

TAKEN, RESAMPLED, INITIAL = "taken", "resampled", "initial"
HEAD = "decoder.seg_layers."
LEAST_ENCODER_SHARE = 0.5  # of the encoder's parameters; below it the source belongs to another network
# rows of the report's table, by prefix of the key
MODULES = {
    "encoder": ("encoder.",),
    "cross-modal rectification": tuple(f"cross_modal.{i}.rectification." for i in range(4)),
    "cross-modal interaction": tuple(f"cross_modal.{i}.interaction." for i in range(4)),
    "slice interaction": ("slice_interaction.",),
    "segmentation head": (HEAD,),
    "decoder": ("decoder.",),
}


@dataclass(frozen=True)
class Entry:
    """What became of one tensor of the network.

    Attributes:
        key: its name in the network's state_dict.
        size: its number of elements.
        status: `taken`, `resampled` or `initial`.
        note: the conversion, or the reason why it was not taken.
    """

    key: str
    size: int
    status: str
    note: str = ""


@dataclass(frozen=True)
class TransferReport:
    """What a network got from a source.

    Attributes:
        kind: what the source was recognised as: `CIPA`, `VMamba` or `nnunet-igtv`.
        entries: one per tensor of the network.
        ignored: the source's keys that the network has no place for.
        channels: what the source was trained on; None where it does not say.
    """

    kind: str
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...]
    channels: tuple[Channel, ...] | None = None

    def keys(self, status: str) -> list[str]:
        """Names of the network's tensors with that status."""
        return [entry.key for entry in self.entries if entry.status == status]

    def share(self, module: str) -> float:
        """Share of a module's elements that came from the source, 0 to 1."""
        sizes = [(e.size, e.status != INITIAL) for e in self.entries if e.key.startswith(MODULES[module])]
        total = sum(size for size, _ in sizes)
        return sum(size for size, transferred in sizes if transferred) / total if total else 0.0

    def table(self) -> str:
        """The report for people: elements by module and status, then the reasons."""
        counts: dict[str, Counter[str]] = {module: Counter() for module in MODULES}
        for entry in self.entries:
            counts[_module_of(entry.key)][entry.status] += entry.size
        columns = (TAKEN, RESAMPLED, INITIAL)
        lines = [f"{'source: ' + self.kind:<26}" + "".join(f"{column:>12}" for column in columns)]
        for module, count in counts.items():
            if count:
                lines.append(f"{module:<26}" + "".join(f"{count[column]:>12,}" for column in columns))
        notes = Counter(f"{entry.status}: {entry.note}" for entry in self.entries if entry.note)
        lines += [f"  {note}" + (f" ({n} tensors)" if n > 1 else "") for note, n in notes.items()]
        if self.ignored:
            shown = ", ".join(self.ignored[:4]) + (", …" if len(self.ignored) > 4 else "")
            lines.append(f"  ignored in the source: {len(self.ignored)} tensors ({shown})")
        if self.channels:
            lines.append(f"  the source was trained on {values_of(self.channels)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able data."""
        return asdict(self)


def _module_of(key: str) -> str:
    return next(module for module, prefixes in MODULES.items() if key.startswith(prefixes))


def load_pretrained(network: nn.Module, source: str | Path | Mapping[str, Any]) -> TransferReport:
    """Load what fits from a source into the network, and say what became of every tensor.

    Tensors of another shape stay at their initial value and are named, except for the rectification's grids,
    which are resampled. The head is taken where the classes agree.

    Args:
        network: an `IGTVNet`, also inside DistributedDataParallel or torch.compile.
        source: a checkpoint (of CIPA, VMamba or this package's trainers) or its contents.

    Raises:
        IGTVError: the source cannot be read or recognised, was not trained on CT then PET, or fits less than
            half of the encoder. The network is then unchanged.

    Examples:
        >>> from nnunet_igtv import build_network, load_pretrained
        >>> gtv, igtv = build_network("nano", 2), build_network("nano", 2)
        >>> report = load_pretrained(igtv, {"network_weights": gtv.state_dict()})  # or a checkpoint's path
        >>> report.kind, report.share("encoder")
        ('nnunet-igtv', 1.0)
    """
    path = source if isinstance(source, str | Path) else None
    checkpoint = load_checkpoint(path) if path is not None else source
    channels = channels_in(checkpoint, path)
    renamed = rename(state_dict_of(checkpoint, path), path)
    network = bare(network)
    state = network.state_dict()
    entries = []
    for key, target in state.items():
        given = renamed.state.get(key)
        if given is not None and target.is_floating_point() and not given.is_floating_point():
            raise IGTVError(f"{key} holds {given.dtype} instead of {target.dtype}", file=path)
        value, entry = _fitted(key, target, given, renamed.notes.get(key, ""))
        entries.append(entry)
        state[key] = value.to(target.dtype)
    unused = [key for key in renamed.state if key not in state]
    report = TransferReport(renamed.kind, tuple(entries), (*renamed.ignored, *unused), channels)
    if report.share("encoder") < LEAST_ENCODER_SHARE:
        raise _misfit(report, renamed.state, state, path)
    network.load_state_dict(state)
    return report


def _fitted(key: str, target: Tensor, value: Tensor | None, note: str) -> tuple[Tensor, Entry]:
    """What the network gets at one key: the source's tensor, a resampled one, or what it had."""
    if value is None:
        return target, Entry(key, target.numel(), INITIAL)
    if value.shape == target.shape:
        return value, Entry(key, target.numel(), TAKEN, note)
    sides = f"{tuple(value.shape)} to {tuple(target.shape)}"
    is_grid = ".rectification.norm_" in key or key.endswith(".rectification.embed_weight")
    if is_grid and value.shape[:-2] == target.shape[:-2]:
        return _resampled(key, value, target), Entry(key, target.numel(), RESAMPLED, f"grid {sides}")
    if key.startswith(HEAD):
        return target, Entry(key, target.numel(), INITIAL, f"other classes: {sides}")
    return target, Entry(key, target.numel(), INITIAL, f"shape of {key} {sides}")


def _resampled(key: str, grid: Tensor, target: Tensor) -> Tensor:
    """A rectification grid at another side; templates keep their sum, norms their values."""
    rows, columns = target.shape[-2:]
    resampled = resample_grid(grid.float(), rows, columns)
    if key.endswith(".embed_weight"):
        resampled = resampled * (grid[0].numel() / (rows * columns))
    return resampled


def _misfit(
    report: TransferReport, source: dict[str, Tensor], state: dict[str, Tensor], path: str | Path | None
) -> IGTVError:
    key = "encoder.patch_embed.conv.weight"
    theirs, ours = (weights[key].shape[0] if key in weights else None for weights in (source, state))
    why = f"its width is {theirs}, the network's {ours}" if theirs != ours else "depths or shapes differ"
    return IGTVError(
        f"only {report.share('encoder'):.0%} of the encoder matches this {report.kind} source ({why})",
        file=path,
        remedy="choose the trainer or preset of the source's size; `nnunet-igtv import-weights` names it",
    )
