"""The scan's inner loops for the CPU, on a run of channels of one image: the gradients.

The forward pass has kept the state before every SPAN steps. From the last span to the first, and in each for
one block of channels after the other, the kernel computes a few states again and walks the span backwards.
Layouts, and how loops are cut, are those of `cpu_forward`; dy and dx lie as x does, ddelta is (P, K, d).
"""

from collections.abc import Callable, Sequence

from .cpu_forward import SPAN, TOGETHER, cleared, in_groups, write_decays
from .lanes import FLOAT, LANES, WIDE, Integer, Trace, Vector, floats_per_register

NARROW = min(LANES, floats_per_register())  # lanes to which the gradients of B and C are folded
LN2 = 0.6931471805599453


def scratch_bytes(states: int, blocks: int) -> int:
    """Working memory of the kernel."""
    vectors = SPAN * (7 + 2 * TOGETHER) + TOGETHER + 1 + blocks * states
    return WIDE * vectors + 2 * SPAN * states * NARROW * FLOAT


def backward(states: int, softplus: bool, decaying: bool) -> Callable[..., None]:
    """The kernel of the gradients; writes dx, ddelta, dB and dC, adds to dA, dD and dbias.

    dB and dC are this run's share `(P, K, N)`: their sum over all runs of an image is the gradient.
    """

    def kernel(
        trace: Trace,
        dy: Integer,
        x: Integer,
        delta: Integer,
        A: Integer,
        B: Integer,
        C: Integer,
        D: Integer,
        bias: Integer,
        order: Integer,
        kept: Integer,
        dx: Integer,
        ddelta: Integer,
        dA: Integer,
        dB: Integer,
        dC: Integer,
        dD: Integer,
        dbias: Integer,
        scratch: Integer,
        pixels: Integer,
        blocks: Integer,
        directions: Integer,
        fresh: Integer,
        row: Integer,
        delta_step: Integer,
        delta_turn: Integer,
        B_step: Integer,
        B_turn: Integer,
        C_step: Integer,
        C_turn: Integer,
        x_step: Integer,
        x_turn: Integer,
        order_turn: Integer,
    ) -> None:
        line, narrow = SPAN * WIDE, NARROW * FLOAT
        spans = (pixels + (SPAN - 1)) // SPAN
        steps, drives, slopes, values, grads, inputs, to_steps = (scratch + i * line for i in range(7))
        h = scratch + 7 * line  # (SPAN + 1, size): some states in a span, the ones before it first
        decays = h + (SPAN + 1) * TOGETHER * WIDE  # (SPAN, size)
        carried = decays + SPAN * TOGETHER * WIDE  # (blocks, N): exp(delta A) times the next step's dh
        zeros = carried + blocks * (states * WIDE)
        lanes_B = zeros + WIDE  # (SPAN, N, NARROW): dB, not summed up to the end
        lanes_C = lanes_B + SPAN * states * narrow  # dC likewise
        cleared(trace, zeros, trace.integer(1))

        def direction(k: Integer) -> None:
            turn, x_k, k_row = order + k * order_turn, k * x_turn, k * row
            delta_k, b_k, c_k = delta + k * delta_turn, B + k * B_turn, C + k * C_turn
            ddelta_k, ddelta_step = ddelta + k_row, row * directions
            cleared(trace, carried, blocks * states)

            def span(back: Integer) -> None:
                i = spans - 1 - back
                walk, start = turn + i * (SPAN * 4), kept + (k * spans + i) * row * states
                count = (pixels - i * SPAN).minimum(SPAN)
                cleared(trace, lanes_B, trace.integer(2 * SPAN * states * NARROW // LANES))

                def block(j: Integer) -> None:
                    channel = j * WIDE
                    prepare(walk, channel, count)

                    def together(first: Integer, size: int) -> None:
                        rates_at, lane = k_row * states + channel + row * first, first * FLOAT
                        recompute(walk, A + rates_at, lane, start + row * first + channel, count, size)
                        retreat(walk, rates_at, first, carried + (j * states + first) * WIDE, count, size)

                    in_groups(trace, states, together)
                    finish(walk, channel, count)

                def reduce(t: Integer) -> None:
                    at = (trace.load_index(walk + t * 4) * directions + k) * (states * FLOAT)

                    def one(n: Integer) -> None:
                        for lanes, out in ((lanes_B, dB), (lanes_C, dC)):
                            lane = lanes + t * (states * narrow) + n * narrow
                            trace.store_sum(lane, NARROW, out + at + n * FLOAT)

                    trace.repeat(trace.integer(states), one)

                trace.repeat(blocks, block)
                trace.repeat(count, reduce)

            def prepare(walk: Integer, channel: Integer, count: Integer) -> None:
                """What does not depend on the state: steps and their slopes, x, dy; the sums set to zero."""
                shift = trace.load(bias + k_row + channel)
                delta_j, ddelta_j, at_x = delta_k + channel, ddelta_k + channel, x_k + channel
                # what will be read next: the same pixels of the next block, or the next span's of the first
                on = (channel + WIDE).below(blocks * WIDE, channel + WIDE, 0)
                shifted = on.below(1, -SPAN * 4, 0)

                def raw(t: Integer) -> None:
                    at = walk + t * 4
                    pixel, following = trace.load_index(at), trace.load_index(at + shifted)
                    trace.prefetch(delta_k + on + following * delta_step)
                    trace.prefetch(ddelta_j + pixel * ddelta_step)
                    step = trace.load(delta_j + pixel * delta_step) + shift
                    trace.store(step, steps + t * WIDE)
                    if softplus:
                        trace.store(trace.exp_of_minus_magnitude(step), slopes + t * WIDE)

                def rest(t: Integer) -> None:
                    at = walk + t * 4
                    pixel, following = trace.load_index(at), trace.load_index(at + shifted)
                    for place in (x, dy, dx):
                        trace.prefetch(place + x_k + on + following * x_step)
                    step, slope = trace.load(steps + t * WIDE), trace.vector(1.0)
                    if softplus:
                        small = trace.load(slopes + t * WIDE)
                        step, slope = trace.softplus(step, small), trace.logistic(step, small)
                    value, grad = (trace.load(place + at_x + pixel * x_step) for place in (x, dy))
                    places = (steps, drives, slopes, values, grads, inputs, to_steps)
                    zero = trace.vector(0.0)
                    known = (step, step * value, slope, value, grad, zero, zero)
                    for place, vector in zip(places, known, strict=True):
                        trace.store(vector, place + t * WIDE)

                trace.repeat(count, raw)
                trace.repeat(count, rest)

            def recompute(
                walk: Integer, a: Integer, lane: Integer, start: Integer, count: Integer, size: int
            ) -> None:
                """`size` states of the span, into `h`, and what they decay by, into `decays`."""

                def one(t: Integer, *old: Vector) -> Sequence[Vector]:
                    b = b_k + lane + trace.load_index(walk + t * 4) * B_step
                    drive, new = trace.load(drives + t * WIDE), []
                    for n, old_n in enumerate(old):
                        fading = trace.load(decays + (t * size + n) * WIDE)
                        new.append(trace.fma(fading, old_n, drive * trace.broadcast(b + n * FLOAT)))
                        trace.store(new[n], h + ((t + 1) * size + n) * WIDE)
                    return new

                write_decays(trace, steps, a, row, decays, count, size, decaying)
                first = [trace.load(start + row * n) for n in range(size)]
                for n in range(size):
                    trace.store(first[n], h + n * WIDE)
                trace.repeat(count, one, first)

            def retreat(
                walk: Integer, rates_at: Integer, first: Integer, later: Integer, count: Integer, size: int
            ) -> None:
                """Through the span backwards, with the gradients of `size` states."""
                a, da, lane, folded = A + rates_at, dA + rates_at, first * FLOAT, first * narrow
                decay_rates = [trace.load(a + row * n) for n in range(size)]

                def one(forwards: Integer, *old: Vector) -> Sequence[Vector]:
                    t = count - 1 - forwards
                    pixel = trace.load_index(walk + t * 4)
                    b, c = b_k + lane + pixel * B_step, c_k + lane + pixel * C_step
                    step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                    grad = trace.load(grads + t * WIDE)
                    to_input, to_step = trace.load(inputs + t * WIDE), trace.load(to_steps + t * WIDE)
                    following, rates = [], []
                    for n in range(size):
                        at, sums = (t * size + n) * WIDE, t * (states * narrow) + folded + n * narrow
                        g = trace.fma(grad, trace.broadcast(c + n * FLOAT), old[n])
                        trace.add_folded(grad, trace.load(h + size * WIDE + at), lanes_C + sums, NARROW)
                        trace.add_folded(g, drive, lanes_B + sums, NARROW)
                        to_input = trace.fma(g, trace.broadcast(b + n * FLOAT), to_input)
                        g = g * trace.load(decays + at)
                        s = g * trace.load(h + at)
                        following.append(g)
                        rates.append(trace.fma(s, step, old[size + n]))
                        to_step = trace.fma(s, decay_rates[n], to_step)
                    trace.store(to_input, inputs + t * WIDE)
                    trace.store(to_step, to_steps + t * WIDE)
                    return following + rates

                start = [trace.load(later + n * WIDE) for n in range(size)]
                start += [trace.load(da + row * n) for n in range(size)]
                end = trace.repeat(count, one, start)
                for n in range(size):
                    trace.store(end[n], later + n * WIDE)
                    trace.store(end[size + n], da + row * n)

            def finish(walk: Integer, channel: Integer, count: Integer) -> None:
                """From the sums over the states to dx, ddelta, dD and dbias."""
                skip, here = trace.load(D + k_row + channel), dx + x_k + channel
                before, before_step = k.below(fresh, zeros, here), k.below(fresh, 0, x_step)

                def one(t: Integer, skip_grad: Vector, bias_grad: Vector) -> Sequence[Vector]:
                    pixel = trace.load_index(walk + t * 4)
                    at = t * WIDE
                    grad, value, to_input = (trace.load(place + at) for place in (grads, values, inputs))
                    to_x = trace.fma(skip, grad, trace.load(before + pixel * before_step))
                    trace.store(trace.fma(trace.load(steps + at), to_input, to_x), here + pixel * x_step)
                    to_step = trace.fma(trace.load(to_steps + at), LN2, to_input * value)
                    to_step = to_step * trace.load(slopes + at)
                    trace.store(to_step, ddelta_k + channel + pixel * ddelta_step)
                    return trace.fma(grad, value, skip_grad), bias_grad + to_step

                places = [dD + k_row + channel, dbias + k_row + channel]
                sums = trace.repeat(count, one, [trace.load(place) for place in places])
                for place, value in zip(places, sums, strict=True):
                    trace.store(value, place)

            trace.repeat(spans, span)

        trace.repeat(directions, direction)

    return kernel
