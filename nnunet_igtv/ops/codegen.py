"""Compiles vector kernels for this processor with LLVM.

A kernel is a Python function. It is called once, with symbolic values (`Vector`, `Integer`). Each operation
on them appends an LLVM instruction, `Trace.repeat` appends a loop, and a plain Python loop is unrolled.
llvmlite, which has a wheel for every platform of PyTorch, compiles the result in memory within 0.1 s. No
compiler is needed on the user's machine, and no file is written. LLVM splits a vector where the processor's
registers hold fewer than `LANES` floats.

A kernel takes one `Arguments` dataclass with integer fields. The caller fills it with Python integers, and
the kernel reads the same fields as `Integer`s, so both sides use names and never positions.

Addresses are in bytes. They are not checked: the caller must pass valid ones.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

import llvmlite.binding as llvm
from llvmlite import ir

LANES = 16  # floats in a vector
FLOAT_BYTES = 4
INDEX_BYTES = 4  # of the 32-bit integers that `load_index` reads
VECTOR_BYTES = LANES * FLOAT_BYTES

Arguments = TypeVar("Arguments")  # a dataclass with integer fields

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, INTS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


@cache
def splat(element: ir.Type, value: float) -> ir.Constant:
    """A vector constant with LANES equal elements, cached: to print one takes longer than to compile it."""
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
        """`then` if this integer is smaller than the bound, else `otherwise`."""
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
    """Appends instructions to a kernel: constants, memory access and loops. `vector_math` has functions."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def integer(self, value: Integer | int) -> Integer:
        return value if isinstance(value, Integer) else Integer(self, ir.Constant(I64, value))

    def vector(self, value: Vector | float) -> Vector:
        if isinstance(value, Vector):
            return value
        return Vector(self, splat(F32, ctypes.c_float(value).value))

    def _pointer(self, address: Integer, kind: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address.value, kind.as_pointer())

    def load(self, address: Integer) -> Vector:
        return Vector(self, self.builder.load(self._pointer(address, FLOATS), align=FLOAT_BYTES))

    def store(self, value: Vector, address: Integer) -> None:
        self.builder.store(value.value, self._pointer(address, FLOATS), align=FLOAT_BYTES)

    def prefetch(self, address: Integer) -> None:
        """Asks the processor to load an address into its caches; the address need not be valid."""
        module, byte = self.builder.module, ir.IntType(8)
        function = module.globals.get("llvm.prefetch.p0i8") or ir.Function(
            module,
            ir.FunctionType(ir.VoidType(), [byte.as_pointer(), I32, I32, I32]),
            "llvm.prefetch.p0i8",
        )
        read, every_cache_level, data = (ir.Constant(I32, option) for option in (0, 3, 1))
        self.builder.call(function, [self._pointer(address, byte), read, every_cache_level, data])

    def load_index(self, address: Integer) -> Integer:
        """Loads a 32-bit integer."""
        index = self.builder.load(self._pointer(address, I32), align=INDEX_BYTES)
        return Integer(self, self.builder.sext(index, I64))

    def broadcast(self, address: Integer) -> Vector:
        """Loads one float into all lanes."""
        scalar = self.builder.load(self._pointer(address, F32), align=FLOAT_BYTES)
        empty = ir.Constant(FLOATS, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(I32, 0))
        return Vector(self, self.builder.shuffle_vector(first, empty, splat(I32, 0)))

    def _fma(self, kind: ir.Type, lanes: int, values: Sequence[ir.Value]) -> ir.Value:
        module, name = self.builder.module, f"llvm.fmuladd.v{lanes}f32"
        function = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(function, values)

    def fma(self, a: Vector, b: Vector | float, c: Vector | float) -> Vector:
        """a * b + c, fused where the processor can."""
        return Vector(self, self._fma(FLOATS, LANES, [self.vector(v).value for v in (a, b, c)]))

    def _part(self, value: ir.Value, first: int, lanes: int) -> ir.Value:
        places = ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))
        return self.builder.shuffle_vector(value, value, places)

    def add_folded(self, a: Vector, b: Vector, address: Integer, lanes: int) -> None:
        """Adds a * b to `lanes` floats in memory: to float i, the products of lanes i, i + lanes, ...

        The horizontal sum that is left is taken once, by `store_sum`, and not at every step.
        """
        kind = ir.VectorType(F32, lanes)
        pointer = self._pointer(address, kind)
        total = self.builder.load(pointer, align=FLOAT_BYTES)
        for first in range(0, LANES, lanes):
            total = self._fma(kind, lanes, [*(self._part(v.value, first, lanes) for v in (a, b)), total])
        self.builder.store(total, pointer, align=FLOAT_BYTES)

    def store_sum(self, source: Integer, lanes: int, target: Integer) -> None:
        """Stores the sum of `lanes` floats at `source` as one float at `target`; lanes is a power of two."""
        total = self.builder.load(self._pointer(source, ir.VectorType(F32, lanes)), align=FLOAT_BYTES)
        while lanes > 1:
            lanes //= 2
            total = self.builder.fadd(self._part(total, 0, lanes), self._part(total, lanes, lanes))
        scalar = self.builder.extract_element(total, ir.Constant(I32, 0))
        self.builder.store(scalar, self._pointer(target, F32), align=FLOAT_BYTES)

    def repeat(
        self, count: Integer, body: Callable[..., Sequence[Vector] | None], carried: Sequence[Vector] = ()
    ) -> list[Vector]:
        """Appends a loop: calls body(index, *values) once, for `count` iterations at run time.

        Args:
            count: number of iterations.
            body: returns the values for the next iteration, as many as `carried`.
            carried: the values for the first iteration.

        Returns:
            The values after the last iteration.
        """
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(I64)
        phis = [builder.phi(FLOATS) for _ in carried]
        builder.cbranch(builder.icmp_signed("<", index, count.value), inside, after)
        builder.position_at_end(inside)
        inner = [Vector(self, phi) for phi in phis]
        following = body(Integer(self, index), *inner) or ()
        one_more = builder.add(index, ir.Constant(I64, 1))
        last = builder.block
        builder.branch(head)
        index.add_incoming(ir.Constant(I64, 0), before)
        index.add_incoming(one_more, last)
        for phi, start, following_value in zip(phis, carried, following, strict=True):
            phi.add_incoming(start.value, before)
            phi.add_incoming(following_value.value, last)
        builder.position_at_end(after)
        return inner


_DENORMALS_ARE_ZERO = 0x8040  # the bits "flush to zero" and "denormals are zero" of x86's MXCSR


@contextmanager
def _denormals_as_zero(builder: ir.IRBuilder) -> Iterator[None]:
    """Treats denormal values (below 1e-38) as zero in the enclosed code, on x86.

    A state that decays over an empty background becomes denormal, and arithmetic on such values is slow.
    """
    if not llvm.get_process_triple().startswith("x86_64"):
        yield
        return
    nothing, pointer = ir.VoidType(), ir.IntType(8).as_pointer()
    store, load = (
        ir.Function(builder.module, ir.FunctionType(nothing, [pointer]), f"llvm.x86.sse.{name}")
        for name in ("stmxcsr", "ldmxcsr")
    )
    before, during = builder.alloca(I32), builder.alloca(I32)
    builder.call(store, [builder.bitcast(before, pointer)])
    builder.store(builder.or_(builder.load(before), ir.Constant(I32, _DENORMALS_ARE_ZERO)), during)
    builder.call(load, [builder.bitcast(during, pointer)])
    yield
    builder.call(load, [builder.bitcast(before, pointer)])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disables garbage collection.

    A trace creates so many objects that Python's collector would scan all of PyTorch's, which takes longer
    than the trace itself.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_engines: list[llvm.ExecutionEngine] = []  # a kernel's code is freed with its engine


@cache
def processor() -> tuple[str, str]:
    """LLVM's name and features of this processor."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def floats_per_register() -> int:
    """Floats in one vector register of this processor."""
    features = processor()[1].split(",")
    return 16 if "+avx512f" in features else 8 if "+avx" in features else 4


def compiled(
    kernel: Callable[[Trace, Any], None],
    arguments: type[Arguments],
    cpu: str | None = None,
    features: str | None = None,
) -> Callable[[Arguments], None]:
    """Compiles a kernel.

    Args:
        kernel: a function of a `Trace` and of an instance of `arguments` whose fields are `Integer`s.
        arguments: a dataclass. All its fields are integers.
        cpu, features: the processor to compile for, in LLVM's terms; None is this processor.

    Returns:
        A function of an instance of `arguments` whose fields are Python integers. It releases the
        interpreter's lock while it runs.
    """
    names = [field.name for field in fields(arguments)]  # type: ignore[arg-type]
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    with _no_collection():
        module = ir.Module()
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), "kernel")
        builder = ir.IRBuilder(function.append_basic_block())
        trace = Trace(builder)
        places = (builder.gep(function.args[0], [ir.Constant(I64, i)]) for i in range(len(names)))
        values = (Integer(trace, builder.load(place)) for place in places)
        with _denormals_as_zero(builder):
            kernel(trace, arguments(**dict(zip(names, values, strict=True))))
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
    _engines.append(engine)
    block = ctypes.c_int64 * len(names)
    machine_code = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int64))(
        engine.get_function_address("kernel")
    )

    def call(given: Arguments) -> None:
        machine_code(block(*(getattr(given, name) for name in names)))

    return call
