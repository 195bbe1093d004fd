"""Sizes of the network's maps: strides in pixels of the slice, padding, slices at once (no torch)."""

STAGE_STRIDES = (4, 8, 16, 32)  # of the maps of the four stages, finest first
STRIDE = STAGE_STRIDES[-1]  # slices are padded to multiples of it
OUTPUT_STRIDES = (1, *STAGE_STRIDES[:3])  # of the logits: the result, then the auxiliary heads
LARGEST_MAP = 2**25  # elements of full size made at once in half precision: those of a slice of 512x512x96


def padded(side: int) -> int:
    """Rows or columns of a slice after padding: the next multiple of `STRIDE`."""
    return side + -side % STRIDE


def slices_at_once(elements: int) -> int:
    """Slices of which the maps of full size, with this many elements each, are made at once."""
    return max(1, LARGEST_MAP // elements)
