"""Runs the Triton kernels in Triton's interpreter (TRITON_INTERPRET=1, set before Triton is imported).

Prints, for each case, the relative errors of y and the seven gradients against the definition in float64.
"""

import json

import torch

from nnunet_igtv.ops import reference, triton
from nnunet_igtv.ops.problem import Problem

torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN

CASES = {
    "chunks, channels and pixels that do not divide": ((3, 6), 4, 1, 3, 2, True, torch.float32),
    "two sequences, states that are no power of two": ((1, 5), 2, 2, 2, 3, False, torch.float32),
    "one pixel": ((1, 1), 1, 1, 1, 1, True, torch.float32),
    "states that decay to 0 in one step": ((1, 2), 2, 2, 1, 1, True, torch.float32, 1e4),
    "bfloat16": ((2, 2), 4, 1, 2, 2, True, torch.bfloat16),
    "float16": ((2, 2), 4, 1, 2, 2, True, torch.float16),
}


def errors(size, directions, shared, channels, states, softplus, dtype, longest_step=1.0):
    random = torch.Generator().manual_seed(3)
    pixels = (1 if states == 2 else 2, size[0] * size[1])
    shapes = [(*pixels, shared, channels), (*pixels, directions, channels), (directions, channels, states)]
    shapes += [(*pixels, directions, states)] * 2 + [(directions, channels)] * 2
    tensors = [torch.randn(shape, generator=random) for shape in shapes]
    tensors[1], tensors[2], tensors[6] = (
        longest_step * tensors[1].abs(),
        -0.1 - tensors[2].abs(),
        tensors[6].abs(),
    )
    tensors = [t.to(dtype) for t in tensors]
    grad = torch.randn(shapes[0], generator=random).to(dtype)
    options = (size[1], softplus)
    problem, exact = (Problem(*(t.to(kind) for t in tensors), *options) for kind in (dtype, torch.float64))
    found = [triton.forward(problem)[0], *triton.backward(grad, problem)]
    assert [t.dtype for t in found[1:]] == [t.dtype for t in tensors]
    right = [reference.forward(exact)[0], *reference.backward(grad.double(), exact)]
    differences = [float((a.double() - b).abs().max()) for a, b in zip(found, right, strict=True)]
    return [d / max(float(b.abs().max()), 1e-6) for d, b in zip(differences, right, strict=True)]


print(json.dumps({name: errors(*case) for name, case in CASES.items()}))
