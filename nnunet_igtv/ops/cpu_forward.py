"""The forward kernel of the CPU backend: y of one image and a range of its channels.

Each direction is computed in chunks of steps, and each chunk in blocks of `LANES` channels. Memory is then
read in address order, and the data of a chunk stay in the first-level cache. The pixels of a chunk are far
apart in memory, so the next chunk's are prefetched. Softplus, exp and the recurrence are separate loops over
the chunk: out-of-order execution looks ahead a few hundred instructions, and only a short loop has enough
independent ones among them.

`cpu_arguments` describes the memory layouts.
"""

from collections.abc import Callable, Sequence

from .codegen import FLOAT_BYTES, INDEX_BYTES, VECTOR_BYTES, Integer, Trace, Vector
from .cpu_arguments import ForwardArguments
from .vector_math import exp2, exp_of_minus_magnitude, softplus

# steps between two saved states; the backward pass recomputes the states of one segment at a time
SEGMENT = 64
CHUNK = 8  # steps
STATE_GROUP = 4  # states computed side by side, to hide the latency of the recurrence
PROJECTED_STEPS = 4  # steps projected side by side: they and their weights fit into 16 registers of 8 floats
MAX_RATE = 2.0**8  # of -A log2(e) in a `decaying` kernel
# a `decaying` kernel limits steps to it: a state decays to 0 by it unless -A log2(e) < 1e-7
MAX_STEP = 2.0**30


def scratch_bytes(states: int, channel_blocks: int) -> int:
    """Size of the kernel's working memory."""
    return VECTOR_BYTES * (CHUNK * (3 + STATE_GROUP) + 1 + channel_blocks * states)


def in_state_groups(trace: Trace, states: int, body: Callable[[Integer, int], None]) -> None:
    """Calls body(first state, how many), in a loop for groups of STATE_GROUP states, then for the rest."""
    groups, rest = divmod(states, STATE_GROUP)
    if groups:
        trace.repeat(trace.integer(groups), lambda i: body(i * STATE_GROUP, STATE_GROUP))
    if rest:
        body(trace.integer(groups * STATE_GROUP), rest)


def write_zeros(trace: Trace, address: Integer, vectors: Integer | int) -> None:
    """Sets `vectors` vectors to zero."""
    zero = trace.vector(0.0)
    trace.repeat(trace.integer(vectors), lambda i: trace.store(zero, address + i * VECTOR_BYTES))


def write_decays(
    trace: Trace,
    *,
    steps: Integer,
    A: Integer,
    row_bytes: Integer,
    decays: Integer,
    count: Integer,
    size: int,
    decaying: bool,
) -> None:
    """Writes exp(step * A) as (count, size) vectors, for `count` steps and `size` states of a block."""

    def one_step(t: Integer) -> None:
        step = trace.load(steps + t * VECTOR_BYTES)
        step = step.at_most(MAX_STEP) if decaying else step
        for n in range(size):
            value = exp2(step, trace.load(A + row_bytes * n), decaying)
            trace.store(value, decays + (t * size + n) * VECTOR_BYTES)

    trace.repeat(count, one_step)


def forward(
    states: int, delta_softplus: bool, decaying: bool, project_delta: bool
) -> Callable[[Trace, ForwardArguments[Integer]], None]:
    """The forward kernel.

    Args:
        states: N.
        delta_softplus: apply softplus to delta + delta_bias.
        decaying: the kernel may rely on softplus and on 0 <= -A log2(e) <= MAX_RATE, so that no exponent is
            positive.
        project_delta: `delta_weight` is given.
    """

    def kernel(trace: Trace, p: ForwardArguments[Integer]) -> None:
        # (CHUNK) vectors each: delta after softplus; delta * x; partial sums of y
        steps, step_x, y_sums, decays = (p.scratch + i * (CHUNK * VECTOR_BYTES) for i in range(4))
        zeros = decays + CHUNK * STATE_GROUP * VECTOR_BYTES
        state = zeros + VECTOR_BYTES  # (channel_blocks, N)
        segments = (p.pixels + (SEGMENT - 1)) // SEGMENT
        row = p.row_bytes
        write_zeros(trace, zeros, 1)

        def direction(k: Integer) -> None:
            write_zeros(trace, state, p.channel_blocks * states)
            order_k, x_k, k_row = p.order + k * p.order_direction_stride, k * p.x_direction_stride, k * row
            delta_k = p.delta + k * p.delta_direction_stride
            B_k, C_k = p.B + k * p.B_direction_stride, p.C + k * p.C_direction_stride

            def segment(s: Integer) -> None:
                target = p.saved_states + (k * segments + s) * row * states

                def save(j: Integer) -> None:
                    def one_state(n: Integer) -> None:
                        h = trace.load(state + (j * states + n) * VECTOR_BYTES)
                        trace.store(h, target + n * row + j * VECTOR_BYTES)

                    trace.repeat(trace.integer(states), one_state)

                trace.repeat(p.saved_blocks, save)
                chunks = ((p.pixels - s * SEGMENT).minimum(SEGMENT) + (CHUNK - 1)) // CHUNK
                trace.repeat(chunks, lambda i: chunk(s * SEGMENT + i * CHUNK))

            def chunk(first_step: Integer) -> None:
                count = (p.pixels - first_step).minimum(CHUNK)
                order = order_k + first_step * INDEX_BYTES

                def block(j: Integer) -> None:
                    channel = j * VECTOR_BYTES
                    bias = trace.load(p.delta_bias + k_row + channel)
                    skip = trace.load(p.D + k_row + channel)
                    x_j, y_j, delta_j = p.x + x_k + channel, p.y + x_k + channel, delta_k + channel
                    # what is added to: y of the directions before, or zeros
                    overwrites = p.overwriting_directions
                    y_before, y_before_stride = (
                        k.below(overwrites, zeros, y_j),
                        k.below(overwrites, 0, p.x_pixel_stride),
                    )

                    def project(part: Integer) -> None:
                        """PROJECTED_STEPS steps: delta_weight * delta + delta_bias."""
                        first = part * PROJECTED_STEPS
                        rows = [
                            delta_k
                            + trace.load_index(order + (first + m) * INDEX_BYTES) * p.delta_pixel_stride
                            for m in range(PROJECTED_STEPS)
                        ]
                        weights = p.delta_weight + k_row * p.delta_rank + channel

                        def one_rank(r: Integer, *sums: Vector) -> Sequence[Vector]:
                            weight = trace.load(weights + r * row)
                            return [
                                trace.fma(weight, trace.broadcast(at + r * FLOAT_BYTES), total)
                                for at, total in zip(rows, sums, strict=True)
                            ]

                        for m, raw in enumerate(
                            trace.repeat(p.delta_rank, one_rank, [bias] * PROJECTED_STEPS)
                        ):
                            trace.store(raw, steps + (first + m) * VECTOR_BYTES)

                    def load_step(t: Integer) -> None:
                        """delta + delta_bias; and, where softplus follows, its exponential."""
                        if project_delta:
                            raw = trace.load(steps + t * VECTOR_BYTES)
                        else:
                            pixel, next_pixel = (
                                trace.load_index(order + (t + ahead) * INDEX_BYTES) for ahead in (0, CHUNK)
                            )
                            raw = trace.load(delta_j + pixel * p.delta_pixel_stride) + bias
                            trace.prefetch(delta_j + next_pixel * p.delta_pixel_stride)
                            trace.store(raw, steps + t * VECTOR_BYTES)
                        if delta_softplus:
                            trace.store(exp_of_minus_magnitude(raw), step_x + t * VECTOR_BYTES)

                    def finish_step(t: Integer) -> None:
                        """The step, its product with x, and D * x plus what y is added to."""
                        pixel, next_pixel = (
                            trace.load_index(order + (t + ahead) * INDEX_BYTES) for ahead in (0, CHUNK)
                        )
                        step = trace.load(steps + t * VECTOR_BYTES)
                        if delta_softplus:
                            step = softplus(step, trace.load(step_x + t * VECTOR_BYTES))
                        x = trace.load(x_j + pixel * p.x_pixel_stride)
                        trace.prefetch(x_j + next_pixel * p.x_pixel_stride)
                        trace.prefetch(y_j + next_pixel * p.x_pixel_stride)
                        trace.store(step, steps + t * VECTOR_BYTES)
                        trace.store(step * x, step_x + t * VECTOR_BYTES)
                        y = trace.fma(skip, x, trace.load(y_before + pixel * y_before_stride))
                        trace.store(y, y_sums + t * VECTOR_BYTES)

                    if project_delta:
                        trace.repeat(trace.integer(CHUNK // PROJECTED_STEPS), project)
                    if delta_softplus or not project_delta:
                        trace.repeat(count, load_step)
                    trace.repeat(count, finish_step)
                    A_j, state_j = p.A + k_row * states + channel, state + j * (states * VECTOR_BYTES)

                    def state_group(first: Integer, size: int) -> None:
                        h_at, first_byte = state_j + first * VECTOR_BYTES, first * FLOAT_BYTES
                        last = first + size  # `states` in the last group, which writes y itself

                        def one_step(t: Integer, *h: Vector) -> Sequence[Vector]:
                            pixel = trace.load_index(order + t * INDEX_BYTES)
                            scaled_x = trace.load(step_x + t * VECTOR_BYTES)
                            b = B_k + first_byte + pixel * p.B_pixel_stride
                            c = C_k + first_byte + pixel * p.C_pixel_stride
                            y, new = trace.load(y_sums + t * VECTOR_BYTES), []
                            for n, h_n in enumerate(h):
                                decay = trace.load(decays + (t * size + n) * VECTOR_BYTES)
                                h_n = trace.fma(decay, h_n, scaled_x * trace.broadcast(b + n * FLOAT_BYTES))
                                y = trace.fma(h_n, trace.broadcast(c + n * FLOAT_BYTES), y)
                                new.append(h_n)
                            target = last.below(
                                states, y_sums + t * VECTOR_BYTES, y_j + pixel * p.x_pixel_stride
                            )
                            trace.store(y, target)
                            return new

                        write_decays(
                            trace,
                            steps=steps,
                            A=A_j + row * first,
                            row_bytes=row,
                            decays=decays,
                            count=count,
                            size=size,
                            decaying=decaying,
                        )
                        before = [trace.load(h_at + n * VECTOR_BYTES) for n in range(size)]
                        for n, h_n in enumerate(trace.repeat(count, one_step, before)):
                            trace.store(h_n, h_at + n * VECTOR_BYTES)

                    in_state_groups(trace, states, state_group)

                trace.repeat(p.channel_blocks, block)

            trace.repeat(segments, segment)

        trace.repeat(p.directions, direction)

    return kernel
