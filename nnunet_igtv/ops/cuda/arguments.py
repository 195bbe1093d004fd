"""The arguments of the CUDA kernels: one list of fields, for Python and for the kernels' source.

N is the number of states, K of directions, P of pixels, d of channels, R of values from which delta is
projected, S of segments of a sequence. Tensors are float32 but for x, dy, delta, B and C. Strides are in
elements. With `separate`, the outputs that several blocks add to have a leading axis, of one entry for each
block that adds to the same element: directions for y and dx, blocks of channels for dB, dC and a projected
ddelta, and blocks of images and segments for the gradients of the parameters.
"""

import ctypes

_INPUTS = (
    "x",  # (B, P, 1 or K, d), contiguous
    "delta",  # (B, P, K, d), or (B, P, K, R) where it is projected; the last axis dense
    "B",  # (B, P, K, N), the last axis dense
    "C",  # likewise
    "dy",  # as x
)
_PARAMETERS = (
    "A",  # (K, d, N)
    "D",  # (K, d)
    "delta_bias",  # (K, d)
    "delta_weight",  # (K, d, R)
)
_OUTPUTS = (
    "y",  # as x; added to where four directions share it
    "states_before",  # (B, K, S, d, padded N): the state before each segment
    "gradients_behind",  # likewise: the gradient of the state behind each segment
    "lengths",  # (B, K, S, d): the sum of each segment's steps
    "dx",  # as x; added to where four directions share it
    "ddelta",  # (B, P, K, d), or (B, P, K, R), then added to
    "dA",  # this and all following are added to
    "dB",
    "dC",
    "dD",
    "ddelta_bias",
    "ddelta_weight",
)
_IMAGE_STRIDES = ("delta_image_stride", "B_image_stride", "C_image_stride")
_SIZES = (
    "images",
    "images_per_block",
    "segments",
    "segment_chunks",
    "pixels",
    "height",
    "width",
    "directions",
    "channels",
    "states",
    "rank",
    "separate",  # 0 or 1
    "x_pixel_stride",
    "x_direction_stride",
    "delta_pixel_stride",
    "delta_direction_stride",
    "B_pixel_stride",
    "B_direction_stride",
    "C_pixel_stride",
    "C_direction_stride",
)
_FIELDS = (
    ("const void *", ctypes.c_void_p, _INPUTS),
    ("const float *", ctypes.c_void_p, _PARAMETERS),
    ("float *", ctypes.c_void_p, _OUTPUTS),
    ("long long ", ctypes.c_longlong, _IMAGE_STRIDES),
    ("int ", ctypes.c_int, _SIZES),
    ("unsigned ", ctypes.c_uint, ("by_height",)),  # 2**32 / height, rounded up
)


class Arguments(ctypes.Structure):
    """All kernels take this structure. A pointer that a kernel does not use may be null."""

    _fields_ = [(name, kind) for _, kind, names in _FIELDS for name in names]


DECLARATION = "\n".join(
    ["struct Arguments {", *(f"  {kind}{name};" for kind, _, names in _FIELDS for name in names), "};", ""]
)
