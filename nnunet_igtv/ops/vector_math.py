"""Elementary functions of the CPU kernels, as instructions on vectors."""

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir

from .codegen import FLOATS, I32, INTS, Vector, splat


def _interpolation(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int
) -> list[float]:
    """The polynomial that interpolates a function at an interval's Chebyshev nodes, lowest degree first."""
    fit = np.polynomial.chebyshev.Chebyshev.interpolate(function, degree, [low, high])
    return [float(np.float32(c)) for c in fit.convert(kind=np.polynomial.Polynomial).coef]


_LOG2E = float(np.log2(np.e))
# x + _SHIFT, for |x| < 2**22, has x rounded to an integer in the low bits of its mantissa
_SHIFT = 1.5 * 2**23
_SHIFT_BITS = int(np.float32(_SHIFT).view(np.int32))
_MANTISSA_BITS = 23
# 2**x = 1 + x * p(x) is exactly 1 at 0: an error there would grow over thousands of steps
_EXP2 = [1.0, *_interpolation(lambda x: np.expm1(np.log(2) * (x + 1e-30)) / (x + 1e-30), -0.5, 0.5, 4)]
# 2 artanh(r) / r as a polynomial in r**2, for r up to 1/3; no Chebyshev node is at 0
_ARTANH = _interpolation(lambda s: 2 * np.arctanh(np.sqrt(s)) / np.sqrt(s), 0.0, 1 / 9, 3)


def polynomial(x: Vector, coefficients: Sequence[float]) -> Vector:
    """A polynomial by Horner's rule; coefficients from the lowest degree up."""
    *lower, value = (x.trace.vector(c) for c in coefficients)
    for coefficient in reversed(lower):
        value = x.trace.fma(value, x, coefficient)
    return value


def exp2(x: Vector, rate: Vector | float = 1.0, decaying: bool = False) -> Vector:
    """2**(x * rate), limited to [2**-126, 2**127], with a relative error of 2e-7 for the rounded product.

    Args:
        x, rate: factors of the exponent.
        decaying: the product is known to be between -2**38 and 0, or NaN. This needs fewer instructions.
    """
    trace = x.trace
    if decaying:
        rounded = trace.fma(x, rate, _SHIFT)
        rest = trace.fma(x, rate, _SHIFT - rounded)
        bits, lowest = _bits(rounded), splat(I32, _SHIFT_BITS - 126)
        too_low = trace.builder.icmp_signed(">", lowest, bits)
        return _exp2_of_sum(rest, trace.builder.select(too_low, lowest, bits))
    x = (x * rate).at_least(-126.0).at_most(127.0)
    rounded = x + _SHIFT
    return _exp2_of_sum(x - (rounded - _SHIFT), _bits(rounded))


def exp_of_minus_magnitude(x: Vector) -> Vector:
    """e**-|x|, the input of `softplus` and `logistic`; it cannot overflow."""
    trace = x.trace
    negative = trace.builder.or_(_bits(x), splat(I32, -(2**31)))  # the sign bit set
    magnitude = _from_bits(x, negative).at_least(-87.0)
    rounded = trace.fma(magnitude, _LOG2E, _SHIFT)
    return _exp2_of_sum(trace.fma(magnitude, _LOG2E, _SHIFT - rounded), _bits(rounded))


def softplus(x: Vector, small: Vector) -> Vector:
    """log(1 + e**x) = max(x, 0) + log(1 + s), with s = `small` = e**-|x|.

    log(1 + s) = 2 artanh(s / (2 + s)).
    """
    ratio = small / (small + 2.0)
    return x.trace.fma(ratio, polynomial(ratio * ratio, _ARTANH), x.at_least(0.0))


def logistic(x: Vector, small: Vector) -> Vector:
    """1 / (1 + e**-x), the derivative of softplus; `small` = e**-|x|."""
    builder = x.trace.builder
    positive = builder.fcmp_ordered(">", x.value, x.trace.vector(0.0).value)
    numerator = Vector(x.trace, builder.select(positive, x.trace.vector(1.0).value, small.value))
    return numerator / (small + 1.0)


def _bits(x: Vector) -> ir.Value:
    return x.trace.builder.bitcast(x.value, INTS)


def _from_bits(x: Vector, bits: ir.Value) -> Vector:
    """Integers reinterpreted as floats, in the trace of x."""
    return Vector(x.trace, x.trace.builder.bitcast(bits, FLOATS))


def _exp2_of_sum(rest: Vector, rounded: ir.Value) -> Vector:
    """2**(rest + i), with i the integer in the low bits of `rounded`; i is added to the exponent bits."""
    builder = rest.trace.builder
    exponent = builder.shl(rounded, splat(I32, _MANTISSA_BITS))
    return _from_bits(rest, builder.add(_bits(polynomial(rest, _EXP2)), exponent))
