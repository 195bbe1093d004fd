"""Machine code for this processor, written as Python functions over vectors of neighbouring channels.

A kernel is a Python function that is run once, on symbols: each operation on a `Vector` or an `Integer`
appends an LLVM instruction, `Trace.repeat` a loop, and a plain Python loop unrolls. llvmlite, a wheel on
every platform of PyTorch's, turns the result into machine code in memory within a fraction of a second: no
compiler on the user's machine, no files to cache, no threads of its own. LLVM splits a vector where the
processor's registers are narrower than `LANES` floats.

Addresses are integers (bytes); the caller answers for what they point to.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from inspect import signature

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

LANES = 16
FLOAT = 4  # bytes of a float
WIDE = LANES * FLOAT  # bytes of a vector

_i32, _i64, _f32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_floats, _ints = ir.VectorType(_f32, LANES), ir.VectorType(_i32, LANES)


@cache
def _splat(element: ir.Type, value: float) -> ir.Constant:
    """LANES times the same constant; kept, for writing it out takes longer than compiling it."""
    return ir.Constant(ir.VectorType(element, LANES), [value] * LANES)


class Integer:
    """A 64-bit integer or address."""

    def __init__(self, trace: "Trace", value: ir.Value) -> None:
        self.trace, self.value = trace, value

    def _apply(self, operation: str, other: "Integer | int") -> "Integer":
        instruction = getattr(self.trace.builder, operation)
        return Integer(self.trace, instruction(self.value, self.trace.integer(other).value))

    def __add__(self, other: "Integer | int") -> "Integer":
        return self._apply("add", other)

    def __sub__(self, other: "Integer | int") -> "Integer":
        return self._apply("sub", other)

    def __mul__(self, other: "Integer | int") -> "Integer":
        return self._apply("mul", other)

    def __floordiv__(self, other: "Integer | int") -> "Integer":
        return self._apply("sdiv", other)

    def minimum(self, other: "Integer | int") -> "Integer":
        return self.below(other, self, other)

    def below(self, bound: "Integer | int", then: "Integer | int", otherwise: "Integer | int") -> "Integer":
        """One of two integers: the first where this one is smaller than the bound."""
        trace = self.trace
        smaller = trace.builder.icmp_signed("<", self.value, trace.integer(bound).value)
        choices = (trace.integer(then).value, trace.integer(otherwise).value)
        return Integer(trace, trace.builder.select(smaller, *choices))


class Vector:
    """LANES float32 values."""

    def __init__(self, trace: "Trace", value: ir.Value) -> None:
        self.trace, self.value = trace, value

    def _apply(self, operation: str, other: "Vector | float") -> "Vector":
        instruction = getattr(self.trace.builder, operation)
        return Vector(self.trace, instruction(self.value, self.trace.vector(other).value))

    def __add__(self, other: "Vector | float") -> "Vector":
        return self._apply("fadd", other)

    def __sub__(self, other: "Vector | float") -> "Vector":
        return self._apply("fsub", other)

    def __rsub__(self, other: float) -> "Vector":
        return self.trace.vector(other) - self

    def __mul__(self, other: "Vector | float") -> "Vector":
        return self._apply("fmul", other)

    def __truediv__(self, other: "Vector | float") -> "Vector":
        return self._apply("fdiv", other)

    def _bounded(self, comparison: str, bound: float) -> "Vector":
        builder, limit = self.trace.builder, self.trace.vector(bound).value
        beyond = builder.fcmp_ordered(comparison, limit, self.value)
        return Vector(self.trace, builder.select(beyond, limit, self.value))

    def at_least(self, bound: float) -> "Vector":
        """The larger of each value and the bound; NaN stays NaN."""
        return self._bounded(">", bound)

    def at_most(self, bound: float) -> "Vector":
        """The smaller of each value and the bound; NaN stays NaN."""
        return self._bounded("<", bound)


class Trace:
    """Where a kernel is being written: constants, memory, loops and elementary functions."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def integer(self, value: Integer | int) -> Integer:
        return value if isinstance(value, Integer) else Integer(self, ir.Constant(_i64, value))

    def vector(self, value: Vector | float) -> Vector:
        if isinstance(value, Vector):
            return value
        return Vector(self, _splat(_f32, float(np.float32(value))))

    def _pointer(self, address: Integer, kind: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address.value, kind.as_pointer())

    def load(self, address: Integer) -> Vector:
        return Vector(self, self.builder.load(self._pointer(address, _floats), align=FLOAT))

    def store(self, value: Vector, address: Integer) -> None:
        self.builder.store(value.value, self._pointer(address, _floats), align=FLOAT)

    def prefetch(self, address: Integer) -> None:
        """Brings what lies at an address nearer; the address need not be valid."""
        module, byte = self.builder.module, ir.IntType(8)
        function = module.globals.get("llvm.prefetch.p0i8") or ir.Function(
            module,
            ir.FunctionType(ir.VoidType(), [byte.as_pointer(), _i32, _i32, _i32]),
            "llvm.prefetch.p0i8",
        )
        kind = (ir.Constant(_i32, option) for option in (0, 3, 1))  # to be read, into the nearest cache, data
        self.builder.call(function, [self._pointer(address, byte), *kind])

    def load_index(self, address: Integer) -> Integer:
        """A 32-bit integer."""
        index = self.builder.load(self._pointer(address, _i32), align=4)
        return Integer(self, self.builder.sext(index, _i64))

    def broadcast(self, address: Integer) -> Vector:
        """One float in all lanes."""
        scalar = self.builder.load(self._pointer(address, _f32), align=FLOAT)
        empty = ir.Constant(_floats, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(_i32, 0))
        return Vector(self, self.builder.shuffle_vector(first, empty, _splat(_i32, 0)))

    def _fma(self, kind: ir.Type, lanes: int, values: Sequence[ir.Value]) -> ir.Value:
        module, name = self.builder.module, f"llvm.fmuladd.v{lanes}f32"
        function = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(function, values)

    def fma(self, a: Vector, b: Vector | float, c: Vector | float) -> Vector:
        """a * b + c, fused where the processor can."""
        return Vector(self, self._fma(_floats, LANES, [self.vector(v).value for v in (a, b, c)]))

    def _part(self, value: ir.Value, first: int, lanes: int) -> ir.Value:
        places = ir.Constant(ir.VectorType(_i32, lanes), list(range(first, first + lanes)))
        return self.builder.shuffle_vector(value, value, places)

    def add_folded(self, a: Vector, b: Vector, address: Integer, lanes: int) -> None:
        """Adds the products of a and b to so many floats in memory, each the sum of every `lanes`th lane."""
        kind = ir.VectorType(_f32, lanes)
        pointer = self._pointer(address, kind)
        total = self.builder.load(pointer, align=FLOAT)
        for first in range(0, LANES, lanes):
            total = self._fma(kind, lanes, [*(self._part(v.value, first, lanes) for v in (a, b)), total])
        self.builder.store(total, pointer, align=FLOAT)

    def store_sum(self, source: Integer, lanes: int, target: Integer) -> None:
        """The sum of so many floats in memory, in halves, as one float."""
        total = self.builder.load(self._pointer(source, ir.VectorType(_f32, lanes)), align=FLOAT)
        while lanes > 1:
            lanes //= 2
            total = self.builder.fadd(self._part(total, 0, lanes), self._part(total, lanes, lanes))
        scalar = self.builder.extract_element(total, ir.Constant(_i32, 0))
        self.builder.store(scalar, self._pointer(target, _f32), align=FLOAT)

    def polynomial(self, x: Vector, coefficients: Sequence[float]) -> Vector:
        """Horner's rule; coefficients lowest first."""
        *lower, value = (self.vector(c) for c in coefficients)
        for coefficient in reversed(lower):
            value = self.fma(value, x, coefficient)
        return value

    def exp2(self, x: Vector, rate: Vector | float = 1.0, decaying: bool = False) -> Vector:
        """2**(x rate) to 2e-7 (of the product), at least 2**-126 and at most 2**127.

        Args:
            x, rate: factors of the exponent.
            decaying: the caller knows that the product lies between -2**38 and 0, or is NaN.
        """
        if decaying:
            rounded = self.fma(x, rate, _SHIFT)
            rest = self.fma(x, rate, _SHIFT - rounded)
            bits, least = self._bits(rounded), _splat(_i32, _SHIFT_BITS - 126)
            smaller = self.builder.icmp_signed(">", least, bits)
            return self._scaled(rest, self.builder.select(smaller, least, bits))
        x = (x * rate).at_least(-126.0).at_most(127.0)
        rounded = x + _SHIFT
        return self._scaled(x - (rounded - _SHIFT), self._bits(rounded))

    def _bits(self, x: Vector) -> ir.Value:
        return self.builder.bitcast(x.value, _ints)

    def _scaled(self, rest: Vector, rounded: ir.Value) -> Vector:
        """2**rest times 2 to the integer in the low bits of `rounded`, which is added to the exponent."""
        exponent = self.builder.shl(rounded, _splat(_i32, 23))
        bits = self.builder.add(self._bits(self.polynomial(rest, _EXP2)), exponent)
        return Vector(self, self.builder.bitcast(bits, _floats))

    def exp_of_minus_magnitude(self, x: Vector) -> Vector:
        """e**-|x|, of which `softplus` and `logistic` are made; no exponent is too large."""
        sign = _splat(_i32, -(2**31))
        magnitude = Vector(self, self.builder.bitcast(self.builder.or_(self._bits(x), sign), _floats))
        magnitude = magnitude.at_least(-87.0)  # -|x|
        rounded = self.fma(magnitude, _LOG2E, _SHIFT)
        return self._scaled(self.fma(magnitude, _LOG2E, _SHIFT - rounded), self._bits(rounded))

    def softplus(self, x: Vector, small: Vector) -> Vector:
        """log(1 + e**x) = max(x, 0) + log(1 + s) of s = e**-|x|; log(1 + s) = 2 artanh(s / (2 + s))."""
        ratio = small / (small + 2.0)
        return self.fma(ratio, self.polynomial(ratio * ratio, _ARTANH), x.at_least(0.0))

    def logistic(self, x: Vector, small: Vector) -> Vector:
        """1 / (1 + e**-x), which is the derivative of softplus, of small = e**-|x|."""
        above = self.builder.fcmp_ordered(">", x.value, self.vector(0.0).value)
        numerator = Vector(self, self.builder.select(above, self.vector(1.0).value, small.value))
        return numerator / (small + 1.0)

    def repeat(
        self, count: Integer, body: Callable[..., Sequence[Vector] | None], carried: Sequence[Vector] = ()
    ) -> list[Vector]:
        """Runs body(index, *carried), which returns the next values of what it carries, count times."""
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(_i64)
        phis = [builder.phi(_floats) for _ in carried]
        builder.cbranch(builder.icmp_signed("<", index, count.value), inside, after)
        builder.position_at_end(inside)
        inner = [Vector(self, phi) for phi in phis]
        following = body(Integer(self, index), *inner) or ()
        one_more = builder.add(index, ir.Constant(_i64, 1))
        last = builder.block
        builder.branch(head)
        index.add_incoming(ir.Constant(_i64, 0), before)
        index.add_incoming(one_more, last)
        for phi, start, following_value in zip(phis, carried, following, strict=True):
            phi.add_incoming(start.value, before)
            phi.add_incoming(following_value.value, last)
        builder.position_at_end(after)
        return inner


def _fitted(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int
) -> list[float]:
    """Coefficients, lowest first, of the polynomial through the Chebyshev nodes of an interval."""
    fit = np.polynomial.chebyshev.Chebyshev.interpolate(function, degree, [low, high])
    return [float(np.float32(c)) for c in fit.convert(kind=np.polynomial.Polynomial).coef]


_LOG2E = float(np.log2(np.e))
# added to a float within 2**22, it leaves the float's integer part in the low bits of the sum, rounded
_SHIFT = 1.5 * 2**23
_SHIFT_BITS = int(np.float32(_SHIFT).view(np.int32))
# 2**x = 1 + x (...): exactly 1 at 0, for an error there would compound over thousands of steps
_EXP2 = [1.0, *_fitted(lambda x: np.expm1(np.log(2) * (x + 1e-30)) / (x + 1e-30), -0.5, 0.5, 4)]
# 2 artanh(r) / r as a polynomial in r**2, for r up to 1/3; no node lies at 0
_ARTANH = _fitted(lambda s: 2 * np.arctanh(np.sqrt(s)) / np.sqrt(s), 0.0, 1 / 9, 3)


@contextmanager
def _tiny_values_as_zero(builder: ir.IRBuilder) -> Iterator[None]:
    """Takes values below 1e-38 as zero between its entry and its exit, on x86.

    A state that decays over an empty background ends there, and arithmetic on such values is far slower.
    """
    if not llvm.get_process_triple().startswith("x86_64"):
        yield
        return
    nothing, pointer = ir.VoidType(), ir.IntType(8).as_pointer()
    store, load = (
        ir.Function(builder.module, ir.FunctionType(nothing, [pointer]), f"llvm.x86.sse.{name}")
        for name in ("stmxcsr", "ldmxcsr")
    )
    before, during = builder.alloca(_i32), builder.alloca(_i32)
    builder.call(store, [builder.bitcast(before, pointer)])
    builder.store(builder.or_(builder.load(before), ir.Constant(_i32, 0x8040)), during)
    builder.call(load, [builder.bitcast(during, pointer)])
    yield
    builder.call(load, [builder.bitcast(before, pointer)])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection.

    Writing a kernel makes so many objects that Python looks through all of PyTorch's, which takes longer.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_engines: list[llvm.ExecutionEngine] = []  # code lives as long as its engine


@cache
def processor() -> tuple[str, str]:
    """LLVM's name and features of the processor at hand."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def floats_per_register() -> int:
    """How many floats this processor's vector registers hold."""
    features = processor()[1].split(",")
    return 16 if "+avx512f" in features else 8 if "+avx" in features else 4


def compiled(
    kernel: Callable[..., None], cpu: str | None = None, features: str | None = None
) -> Callable[..., None]:
    """Machine code of a kernel.

    Args:
        kernel: a function of a `Trace` and any number of `Integer`s, called once.
        cpu, features: the processor to compile for, in LLVM's words; None is the one at hand.

    Returns:
        A function of as many Python integers; it lets go of the interpreter's lock while it runs.
    """
    arguments = len(signature(kernel).parameters) - 1
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    with _no_collection():
        module = ir.Module()
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_i64] * arguments), "kernel")
        builder = ir.IRBuilder(function.append_basic_block())
        trace = Trace(builder)
        with _tiny_values_as_zero(builder):
            kernel(trace, *(Integer(trace, argument) for argument in function.args))
        builder.ret_void()
        text = str(module)
    name, own = processor()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=name if cpu is None else cpu, features=own if features is None else features, opt=3, jit=True
    )
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(engine.get_function_address("kernel"))
    _engines.append(engine)
    return call
