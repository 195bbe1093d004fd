"""The backward kernel of the CPU backend: the gradients of one image and a range of its channels.

The forward pass has saved the state before every SEGMENT steps. The kernel takes the segments from the last
to the first, and in each segment one block of channels after the other. It recomputes the states of a group
within the segment, then takes the segment's steps backwards.

With g_t = dLoss/dh_t, s_t = exp(delta_t A) h_{t-1} g_t and a sum over the states n:
ddelta_t = sum(A s_t) + x_t sum(B_t g_t), before the derivative of softplus (see `reference.backward`).

`cpu_arguments` describes the memory layouts.
"""

from collections.abc import Callable, Sequence

from .codegen import (
    FLOAT_BYTES,
    INDEX_BYTES,
    LANES,
    VECTOR_BYTES,
    Integer,
    Trace,
    Vector,
    floats_per_register,
)
from .cpu_arguments import BackwardArguments
from .cpu_forward import SEGMENT, STATE_GROUP, in_state_groups, write_decays, write_zeros
from .vector_math import exp_of_minus_magnitude, logistic, softplus

# dB and dC are sums over channels; within a segment, a vector is folded to this number of partial sums only
PARTIAL_SUMS = min(LANES, floats_per_register())
LN2 = 0.6931471805599453


def scratch_bytes(states: int, channel_blocks: int) -> int:
    """Size of the kernel's working memory."""
    vectors = SEGMENT * (7 + 2 * STATE_GROUP) + STATE_GROUP + 1 + channel_blocks * states
    return VECTOR_BYTES * vectors + 2 * SEGMENT * states * PARTIAL_SUMS * FLOAT_BYTES


def backward(
    states: int, delta_softplus: bool, decaying: bool
) -> Callable[[Trace, BackwardArguments[Integer]], None]:
    """The backward kernel; the options are those of `cpu_forward.forward`."""

    def kernel(trace: Trace, p: BackwardArguments[Integer]) -> None:
        # (SEGMENT) vectors each. input_grads: sum(B g). exponent_grads: sum(A log2(e) s)
        steps, step_x, slopes, x_values, dy_values, input_grads, exponent_grads = (
            p.scratch + i * (SEGMENT * VECTOR_BYTES) for i in range(7)
        )
        # (SEGMENT + 1, size): a group's states, from the one before
        h = p.scratch + 7 * SEGMENT * VECTOR_BYTES
        decays = h + (SEGMENT + 1) * STATE_GROUP * VECTOR_BYTES  # (SEGMENT, size)
        # (channel_blocks, N): s / h, the next step's
        next_grads = decays + SEGMENT * STATE_GROUP * VECTOR_BYTES
        zeros = next_grads + p.channel_blocks * (states * VECTOR_BYTES)
        partial = PARTIAL_SUMS * FLOAT_BYTES
        dB_sums = zeros + VECTOR_BYTES  # (SEGMENT, N, PARTIAL_SUMS)
        dC_sums = dB_sums + SEGMENT * states * partial  # likewise
        row, directions = p.row_bytes, p.directions
        segments = (p.pixels + (SEGMENT - 1)) // SEGMENT
        write_zeros(trace, zeros, 1)

        def direction(k: Integer) -> None:
            order_k, x_k, k_row = p.order + k * p.order_direction_stride, k * p.x_direction_stride, k * row
            delta_k = p.delta + k * p.delta_direction_stride
            B_k, C_k = p.B + k * p.B_direction_stride, p.C + k * p.C_direction_stride
            ddelta_k, ddelta_pixel_stride = p.ddelta + k_row, row * directions
            write_zeros(trace, next_grads, p.channel_blocks * states)

            def segment(after: Integer) -> None:
                i = segments - 1 - after
                order = order_k + i * (SEGMENT * INDEX_BYTES)
                saved = p.saved_states + (k * segments + i) * row * states
                count = (p.pixels - i * SEGMENT).minimum(SEGMENT)
                write_zeros(trace, dB_sums, 2 * SEGMENT * states * PARTIAL_SUMS // LANES)

                def block(j: Integer) -> None:
                    channel = j * VECTOR_BYTES
                    prepare(order, channel, count)

                    def state_group(first: Integer, size: int) -> None:
                        A_at, first_byte = k_row * states + channel + row * first, first * FLOAT_BYTES
                        recompute(order, p.A + A_at, first_byte, saved + row * first + channel, count, size)
                        next_at = next_grads + (j * states + first) * VECTOR_BYTES
                        steps_backwards(order, A_at, first, next_at, count, size)

                    in_state_groups(trace, states, state_group)
                    write_gradients(order, channel, count)

                def write_channel_sums(t: Integer) -> None:
                    """dB and dC of a step, from their partial sums."""
                    pixel = trace.load_index(order + t * INDEX_BYTES)
                    target = (pixel * directions + k) * (states * FLOAT_BYTES)

                    def one_state(n: Integer) -> None:
                        for sums, gradient in ((dB_sums, p.dB), (dC_sums, p.dC)):
                            at = sums + t * (states * partial) + n * partial
                            trace.store_sum(at, PARTIAL_SUMS, gradient + target + n * FLOAT_BYTES)

                    trace.repeat(trace.integer(states), one_state)

                trace.repeat(p.channel_blocks, block)
                trace.repeat(count, write_channel_sums)

            def prepare(order: Integer, channel: Integer, count: Integer) -> None:
                """Writes what does not depend on the state, and zeros for the sums over states."""
                bias = trace.load(p.delta_bias + k_row + channel)
                delta_j, ddelta_j, x_j = delta_k + channel, ddelta_k + channel, x_k + channel
                # prefetched: the next block at the same pixels; after the last block, the first block at the
                # pixels of the segment before
                following = channel + VECTOR_BYTES
                next_channel = following.below(p.channel_blocks * VECTOR_BYTES, following, 0)
                next_order = next_channel.below(1, -SEGMENT * INDEX_BYTES, 0)

                def pixels(t: Integer) -> tuple[Integer, Integer]:
                    at = order + t * INDEX_BYTES
                    return trace.load_index(at), trace.load_index(at + next_order)

                def load_step(t: Integer) -> None:
                    pixel, next_pixel = pixels(t)
                    trace.prefetch(delta_k + next_channel + next_pixel * p.delta_pixel_stride)
                    trace.prefetch(ddelta_j + pixel * ddelta_pixel_stride)
                    raw = trace.load(delta_j + pixel * p.delta_pixel_stride) + bias
                    trace.store(raw, steps + t * VECTOR_BYTES)
                    if delta_softplus:
                        trace.store(exp_of_minus_magnitude(raw), slopes + t * VECTOR_BYTES)

                def finish_step(t: Integer) -> None:
                    pixel, next_pixel = pixels(t)
                    for tensor in (p.x, p.dy, p.dx):
                        trace.prefetch(tensor + x_k + next_channel + next_pixel * p.x_pixel_stride)
                    step, slope = trace.load(steps + t * VECTOR_BYTES), trace.vector(1.0)
                    if delta_softplus:
                        small = trace.load(slopes + t * VECTOR_BYTES)
                        step, slope = softplus(step, small), logistic(step, small)
                    x, dy = (trace.load(tensor + x_j + pixel * p.x_pixel_stride) for tensor in (p.x, p.dy))
                    zero = trace.vector(0.0)
                    for target, value in (
                        (steps, step),
                        (step_x, step * x),
                        (slopes, slope),
                        (x_values, x),
                        (dy_values, dy),
                        (input_grads, zero),
                        (exponent_grads, zero),
                    ):
                        trace.store(value, target + t * VECTOR_BYTES)

                trace.repeat(count, load_step)
                trace.repeat(count, finish_step)

            def recompute(
                order: Integer, A: Integer, first_byte: Integer, saved: Integer, count: Integer, size: int
            ) -> None:
                """Writes `h` and `decays` of `size` states within the segment."""

                def one_step(t: Integer, *before: Vector) -> Sequence[Vector]:
                    b = B_k + first_byte + trace.load_index(order + t * INDEX_BYTES) * p.B_pixel_stride
                    scaled_x, new = trace.load(step_x + t * VECTOR_BYTES), []
                    for n, h_n in enumerate(before):
                        decay = trace.load(decays + (t * size + n) * VECTOR_BYTES)
                        new.append(trace.fma(decay, h_n, scaled_x * trace.broadcast(b + n * FLOAT_BYTES)))
                        trace.store(new[n], h + ((t + 1) * size + n) * VECTOR_BYTES)
                    return new

                write_decays(
                    trace,
                    steps=steps,
                    A=A,
                    row_bytes=row,
                    decays=decays,
                    count=count,
                    size=size,
                    decaying=decaying,
                )
                start = [trace.load(saved + row * n) for n in range(size)]
                for n in range(size):
                    trace.store(start[n], h + n * VECTOR_BYTES)
                trace.repeat(count, one_step, start)

            def steps_backwards(
                order: Integer, A_at: Integer, first: Integer, next_at: Integer, count: Integer, size: int
            ) -> None:
                """Takes the segment's steps from the last to the first, for `size` states."""
                A, dA, first_byte, first_sum = p.A + A_at, p.dA + A_at, first * FLOAT_BYTES, first * partial
                rates = [trace.load(A + row * n) for n in range(size)]

                def one_step(after: Integer, *carried: Vector) -> Sequence[Vector]:
                    next_g, dA_sums = carried[:size], carried[size:]
                    t = count - 1 - after
                    pixel = trace.load_index(order + t * INDEX_BYTES)
                    b = B_k + first_byte + pixel * p.B_pixel_stride
                    c = C_k + first_byte + pixel * p.C_pixel_stride
                    step, scaled_x, dy, input_grad, exponent_grad = (
                        trace.load(place + t * VECTOR_BYTES)
                        for place in (steps, step_x, dy_values, input_grads, exponent_grads)
                    )
                    new_g, new_dA = [], []
                    for n in range(size):
                        at, sums = (
                            (t * size + n) * VECTOR_BYTES,
                            t * (states * partial) + first_sum + n * partial,
                        )
                        g = trace.fma(dy, trace.broadcast(c + n * FLOAT_BYTES), next_g[n])
                        h_after = trace.load(h + size * VECTOR_BYTES + at)
                        trace.add_folded(dy, h_after, dC_sums + sums, PARTIAL_SUMS)
                        trace.add_folded(g, scaled_x, dB_sums + sums, PARTIAL_SUMS)
                        input_grad = trace.fma(g, trace.broadcast(b + n * FLOAT_BYTES), input_grad)
                        g = g * trace.load(decays + at)
                        s = g * trace.load(h + at)
                        new_g.append(g)
                        new_dA.append(trace.fma(s, step, dA_sums[n]))
                        exponent_grad = trace.fma(s, rates[n], exponent_grad)
                    trace.store(input_grad, input_grads + t * VECTOR_BYTES)
                    trace.store(exponent_grad, exponent_grads + t * VECTOR_BYTES)
                    return new_g + new_dA

                start = [trace.load(next_at + n * VECTOR_BYTES) for n in range(size)]
                start += [trace.load(dA + row * n) for n in range(size)]
                end = trace.repeat(count, one_step, start)
                for n in range(size):
                    trace.store(end[n], next_at + n * VECTOR_BYTES)
                    trace.store(end[size + n], dA + row * n)

            def write_gradients(order: Integer, channel: Integer, count: Integer) -> None:
                """dx, ddelta, dD and ddelta_bias, from the sums over states."""
                skip, dx_j = trace.load(p.D + k_row + channel), p.dx + x_k + channel
                overwrites = p.overwriting_directions
                dx_before, dx_before_stride = (
                    k.below(overwrites, zeros, dx_j),
                    k.below(overwrites, 0, p.x_pixel_stride),
                )

                def one_step(t: Integer, dD_sum: Vector, bias_sum: Vector) -> Sequence[Vector]:
                    pixel = trace.load_index(order + t * INDEX_BYTES)
                    step, slope, x, dy, input_grad, exponent_grad = (
                        trace.load(place + t * VECTOR_BYTES)
                        for place in (steps, slopes, x_values, dy_values, input_grads, exponent_grads)
                    )
                    dx = trace.fma(skip, dy, trace.load(dx_before + pixel * dx_before_stride))
                    trace.store(trace.fma(step, input_grad, dx), dx_j + pixel * p.x_pixel_stride)
                    ddelta = trace.fma(exponent_grad, LN2, input_grad * x) * slope
                    trace.store(ddelta, ddelta_k + channel + pixel * ddelta_pixel_stride)
                    return trace.fma(dy, x, dD_sum), bias_sum + ddelta

                places = [p.dD + k_row + channel, p.ddelta_bias + k_row + channel]
                sums = trace.repeat(count, one_step, [trace.load(place) for place in places])
                for place, value in zip(places, sums, strict=True):
                    trace.store(value, place)

            trace.repeat(segments, segment)

        trace.repeat(directions, direction)

    return kernel
