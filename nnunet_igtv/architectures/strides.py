"""Strides of the network's maps, in pixels of the slice, and the padding that they need (no torch)."""

STAGE_STRIDES = (4, 8, 16, 32)  # of the maps of the four stages, finest first
STRIDE = STAGE_STRIDES[-1]  # slices are padded to multiples of it
OUTPUT_STRIDES = (1, *STAGE_STRIDES[:3])  # of the logits: the result, then the auxiliary heads


def padded(side: int) -> int:
    """Rows or columns of a slice after padding: the next multiple of `STRIDE`."""
    return side + -side % STRIDE
