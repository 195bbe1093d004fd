"""The scan's inner loops for the CPU, forward and backward, on a run of channels of one image.

Both walk each direction in chunks of steps and, inside a chunk, the channels in blocks of `LANES`, so that
memory is read in the order it lies in and what a chunk needs stays in the nearest caches; the rows of the
next chunk are asked for while one is computed, for they lie too far apart for a processor to guess. The
state of a block stays in registers through a chunk and in memory between chunks. The backward pass first
walks forward and keeps the state at the start of each chunk, then takes the chunks from the last to the first
and computes each again: its memory is the inputs' times N / CHUNK_BACK, not times N.

Layouts (float32, channels dense and padded to a multiple of LANES), for one image: x, y and their gradients
(P, Kx, d); delta (P, K, d), or (P, K, R) and a weight (K, R, d) that widens it; A times log2(e) (K, N, d);
B, C (P, K, N); D, bias (K, d); order (K, P) int32, with FARTHEST more pixels, any, before it and after it.
Addresses point at the run's first channel; `blocks` says how many blocks of LANES channels it has. Distances
in memory are in bytes: `row` = d floats, `..._step` from pixel to pixel, `..._turn` from direction to
direction (0 where all directions share). The first `fresh` directions write y (in the backward pass dx), the
others add.

`decaying` kernels may rely on softplus and on -BOUND <= A log2(e) <= 0: their exponents are never positive.
"""

from collections.abc import Callable, Sequence

from .lanes import FLOAT, LANES, WIDE, Integer, Trace, Vector, floats_per_register

NARROW = min(LANES, floats_per_register())  # lanes to which the gradients of B and C are folded
CHUNK = 8
# what a chunk of the backward pass needs at N = 16 fits into a first-level cache of 32 KiB
CHUNK_BACK = 16 if NARROW < LANES else 8
FARTHEST = 16  # steps that either pass may look beyond a direction's ends
TOGETHER = 8  # states that the backward pass takes side by side, to hide the latency of their recurrences
IN_REGISTERS = 8  # states that the forward pass takes side by side
WIDENED = 4  # steps widened side by side: with two registers to a vector, they and their weights fit into 16
BOUND = 2.0**8
LONGEST_STEP = 2.0**30  # longer steps decay as this one does: to nothing, unless A log2(e) > -1e-7
LN2 = 0.6931471805599453

FORWARD_ARGUMENTS = 26
BACKWARD_ARGUMENTS = 31


def forward_scratch(states: int, blocks: int) -> int:
    """Bytes of working memory of `forward`."""
    return WIDE * (3 * CHUNK + 1 + blocks * states)


def backward_scratch(states: int, blocks: int, chunks: int) -> int:
    """Bytes of working memory of `backward`."""
    vectors = CHUNK_BACK * (7 + 2 * TOGETHER) + TOGETHER + 1 + blocks * states * (1 + chunks)
    return WIDE * vectors + 2 * CHUNK_BACK * states * NARROW * FLOAT


def _in_groups(
    trace: Trace, states: int, size: int, body: Callable[[Integer, int], Sequence[Vector] | None]
) -> None:
    """Calls body(first state, number of states) for groups of `size` states, in a loop, and for the rest."""
    whole, left = divmod(states, size)
    if whole:
        trace.repeat(trace.integer(whole), lambda i: body(i * size, size))
    if left:
        body(trace.integer(whole * size), left)


def _cleared(trace: Trace, address: Integer, vectors: Integer) -> None:
    zero = trace.vector(0.0)
    trace.repeat(vectors, lambda i: trace.store(zero, address + i * WIDE))


def forward(states: int, softplus: bool, decaying: bool, widened: bool) -> Callable[..., None]:
    """The kernel of y."""

    def kernel(
        trace: Trace,
        x: Integer,
        delta: Integer,
        A: Integer,
        B: Integer,
        C: Integer,
        D: Integer,
        bias: Integer,
        order: Integer,
        weight: Integer,
        y: Integer,
        scratch: Integer,
        pixels: Integer,
        blocks: Integer,
        directions: Integer,
        fresh: Integer,
        rank: Integer,
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
        drives, steps, totals, zeros, state = (scratch + i * (CHUNK * WIDE) for i in (0, 1, 2, 3, 3))
        state = state + WIDE
        _cleared(trace, zeros, trace.integer(1))

        def direction(k: Integer) -> None:
            _cleared(trace, state, blocks * states)
            turn, x_k, k_row = order + k * order_turn, k * x_turn, k * row
            delta_k, b_k, c_k = delta + k * delta_turn, B + k * B_turn, C + k * C_turn

            def chunk(i: Integer) -> None:
                count = (pixels - i * CHUNK).minimum(CHUNK)
                walk = turn + i * (CHUNK * 4)

                def block(j: Integer) -> None:
                    channel = j * WIDE
                    shift, skip = trace.load(bias + k_row + channel), trace.load(D + k_row + channel)
                    x_j, y_j, delta_j = x + x_k + channel, y + x_k + channel, delta_k + channel
                    # what y holds before: nothing, where this direction is the first
                    before, before_step = k.below(fresh, zeros, y_j), k.below(fresh, 0, x_step)

                    def widen(part: Integer) -> None:
                        first = part * WIDENED
                        rows = [
                            delta_k + trace.load_index(walk + (first + m) * 4) * delta_step
                            for m in range(WIDENED)
                        ]
                        columns = weight + k_row * rank + channel

                        def one(r: Integer, *sums: Vector) -> Sequence[Vector]:
                            column = trace.load(columns + r * row)
                            each = zip(rows, sums, strict=True)
                            return [trace.fma(column, trace.broadcast(at + r * FLOAT), s) for at, s in each]

                        for m, raw in enumerate(trace.repeat(rank, one, [shift] * WIDENED)):
                            trace.store(raw, steps + (first + m) * WIDE)

                    def prepare(t: Integer) -> None:
                        pixel, following = (trace.load_index(walk + (t + ahead) * 4) for ahead in (0, CHUNK))
                        if widened:
                            step = trace.load(steps + t * WIDE)
                        else:
                            step = trace.load(delta_j + pixel * delta_step) + shift
                            trace.prefetch(delta_j + following * delta_step)
                        if softplus:
                            step = trace.softplus(step)[0]
                        value = trace.load(x_j + pixel * x_step)
                        trace.prefetch(x_j + following * x_step)
                        trace.prefetch(y_j + following * x_step)
                        trace.store(step.at_most(LONGEST_STEP) if decaying else step, steps + t * WIDE)
                        trace.store(step * value, drives + t * WIDE)
                        total = trace.fma(skip, value, trace.load(before + pixel * before_step))
                        trace.store(total, totals + t * WIDE)

                    if widened:
                        trace.repeat(trace.integer(CHUNK // WIDENED), widen)
                    trace.repeat(count, prepare)
                    rates, now = A + k_row * states + channel, state + j * (states * WIDE)

                    def together(first: Integer, size: int) -> None:
                        a, here, lane = rates + row * first, now + first * WIDE, first * FLOAT
                        goes_on = first + size  # below `states` while other states are to be added to y

                        def one(t: Integer, *h: Vector) -> Sequence[Vector]:
                            pixel = trace.load_index(walk + t * 4)
                            step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                            b, c = b_k + lane + pixel * B_step, c_k + lane + pixel * C_step
                            total, new = trace.load(totals + t * WIDE), []
                            for n, h_n in enumerate(h):
                                decay = trace.exp2(step, trace.load(a + row * n), decaying)
                                h_n = trace.fma(decay, h_n, drive * trace.broadcast(b + n * FLOAT))
                                total = trace.fma(h_n, trace.broadcast(c + n * FLOAT), total)
                                new.append(h_n)
                            target = goes_on.below(states, totals + t * WIDE, y_j + pixel * x_step)
                            trace.store(total, target)
                            return new

                        start = [trace.load(here + n * WIDE) for n in range(size)]
                        for n, h_n in enumerate(trace.repeat(count, one, start)):
                            trace.store(h_n, here + n * WIDE)

                    _in_groups(trace, states, IN_REGISTERS, together)

                trace.repeat(blocks, block)

            trace.repeat((pixels + (CHUNK - 1)) // CHUNK, chunk)

        trace.repeat(directions, direction)

    return kernel


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
        line, wide = CHUNK_BACK * WIDE, states * WIDE
        chunks = (pixels + (CHUNK_BACK - 1)) // CHUNK_BACK
        steps, drives, slopes, values, grads, inputs, decays_ = (scratch + i * line for i in range(7))
        some = TOGETHER * WIDE
        h = scratch + 7 * line  # (CHUNK_BACK + 1, TOGETHER): some states in a chunk, the one before it first
        decay = h + (CHUNK_BACK + 1) * some  # (CHUNK_BACK, TOGETHER)
        carried = decay + CHUNK_BACK * some  # (blocks, N): exp(delta A) times the next step's dh
        zeros = carried + blocks * wide
        kept = zeros + WIDE  # (chunks, blocks, N): the states at the start of each chunk
        narrow = NARROW * FLOAT
        lanes_B = kept + chunks * blocks * wide  # (CHUNK_BACK, N, NARROW): dB, not summed up to the end
        lanes_C = lanes_B + CHUNK_BACK * states * narrow  # dC likewise
        _cleared(trace, zeros, trace.integer(1))

        def direction(k: Integer) -> None:
            turn, x_k, k_row = order + k * order_turn, k * x_turn, k * row
            delta_k, b_k, c_k = delta + k * delta_turn, B + k * B_turn, C + k * C_turn
            _cleared(trace, carried, blocks * states)
            _cleared(trace, kept, blocks * states)

            def prepare(walk: Integer, channel: Integer, count: Integer, everything: bool) -> None:
                shift = trace.load(bias + k_row + channel)
                delta_j, at_x = delta_k + channel, x_k + channel
                ahead = -CHUNK_BACK if everything else CHUNK_BACK

                def one(t: Integer) -> None:
                    pixel, following = (trace.load_index(walk + (t + i) * 4) for i in (0, ahead))
                    for place in (x, dy, dx) if everything else (x,):
                        trace.prefetch(place + at_x + following * x_step)
                    trace.prefetch(delta_j + following * delta_step)
                    step = trace.load(delta_j + pixel * delta_step) + shift
                    slope = trace.vector(1.0)
                    if softplus:
                        step, slope = trace.softplus(step)
                    value = trace.load(x + at_x + pixel * x_step)
                    trace.store(step, steps + t * WIDE)
                    trace.store(step * value, drives + t * WIDE)
                    if everything:
                        for sum_ in (inputs, decays_):
                            trace.store(trace.vector(0.0), sum_ + t * WIDE)
                        trace.store(slope, slopes + t * WIDE)
                        trace.store(value, values + t * WIDE)
                        trace.store(trace.load(dy + at_x + pixel * x_step), grads + t * WIDE)

                trace.repeat(count, one)

            def advance(
                walk: Integer,
                a: Integer,
                lane: Integer,
                start: Integer,
                count: Integer,
                size: int,
                end: Integer | None,
            ) -> None:
                """From `size` states at `start`: keeps the last at `end`, or each in `h` and `decay`."""

                def one(t: Integer, *old: Vector) -> Sequence[Vector]:
                    b = b_k + lane + trace.load_index(walk + t * 4) * B_step
                    step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                    step = step.at_most(LONGEST_STEP) if decaying else step
                    new = []
                    for n, old_n in enumerate(old):
                        decay_n = trace.exp2(step, trace.load(a + row * n), decaying)
                        new.append(trace.fma(decay_n, old_n, drive * trace.broadcast(b + n * FLOAT)))
                        if end is None:
                            trace.store(decay_n, decay + t * some + n * WIDE)
                            trace.store(new[n], h + (t + 1) * some + n * WIDE)
                    return new

                first = [trace.load(start + n * WIDE) for n in range(size)]
                last = trace.repeat(count, one, first)
                for n in range(size):
                    if end is None:
                        trace.store(first[n], h + n * WIDE)
                    else:
                        trace.store(last[n], end + n * WIDE)

            def keep(i: Integer) -> None:
                walk, here = turn + i * (CHUNK_BACK * 4), kept + i * blocks * wide

                def block(j: Integer) -> None:
                    channel, start = j * WIDE, here + j * wide
                    prepare(walk, channel, trace.integer(CHUNK_BACK), False)
                    rates = A + k_row * states + channel

                    def together(first: Integer, size: int) -> None:
                        a, lane, begin = rates + row * first, first * FLOAT, start + first * WIDE
                        advance(walk, a, lane, begin, trace.integer(CHUNK_BACK), size, begin + blocks * wide)

                    _in_groups(trace, states, TOGETHER, together)

                trace.repeat(blocks, block)

            trace.repeat(chunks - 1, keep)

            def chunk(back: Integer) -> None:
                i = chunks - 1 - back
                walk, here = turn + i * (CHUNK_BACK * 4), kept + i * blocks * wide
                count = (pixels - i * CHUNK_BACK).minimum(CHUNK_BACK)
                _cleared(trace, lanes_B, trace.integer(2 * CHUNK_BACK * states * NARROW // LANES))

                def block(j: Integer) -> None:
                    channel = j * WIDE
                    prepare(walk, channel, count, True)

                    def together(first: Integer, size: int) -> None:
                        at, lane = k_row * states + channel + row * first, first * FLOAT
                        advance(walk, A + at, lane, here + j * wide + first * WIDE, count, size, None)
                        retreat(walk, at, first, carried + j * wide + first * WIDE, size)

                    _in_groups(trace, states, TOGETHER, together)
                    finish(walk, channel)

                def retreat(
                    walk: Integer, rates_at: Integer, first: Integer, later: Integer, size: int
                ) -> None:
                    a, da, lane, folded = A + rates_at, dA + rates_at, first * FLOAT, first * narrow
                    decay_rates = [trace.load(a + row * n) for n in range(size)]

                    def one(forwards: Integer, *old: Vector) -> Sequence[Vector]:
                        t = count - 1 - forwards
                        pixel = trace.load_index(walk + t * 4)
                        b, c = b_k + lane + pixel * B_step, c_k + lane + pixel * C_step
                        step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                        grad = trace.load(grads + t * WIDE)
                        to_input, to_decay = trace.load(inputs + t * WIDE), trace.load(decays_ + t * WIDE)
                        following, rates = [], []
                        for n in range(size):
                            at, sums = t * some + n * WIDE, t * (states * narrow) + folded + n * narrow
                            g = trace.fma(grad, trace.broadcast(c + n * FLOAT), old[n])
                            trace.add_folded(grad, trace.load(h + some + at), lanes_C + sums, NARROW)
                            trace.add_folded(g, drive, lanes_B + sums, NARROW)
                            to_input = trace.fma(g, trace.broadcast(b + n * FLOAT), to_input)
                            g = g * trace.load(decay + at)
                            s = g * trace.load(h + at)
                            following.append(g)
                            rates.append(trace.fma(s, step, old[size + n]))
                            to_decay = trace.fma(s, decay_rates[n], to_decay)
                        trace.store(to_input, inputs + t * WIDE)
                        trace.store(to_decay, decays_ + t * WIDE)
                        return following + rates

                    start = [trace.load(later + n * WIDE) for n in range(size)]
                    start += [trace.load(da + row * n) for n in range(size)]
                    end = trace.repeat(count, one, start)
                    for n in range(size):
                        trace.store(end[n], later + n * WIDE)
                        trace.store(end[size + n], da + row * n)

                def finish(walk: Integer, channel: Integer) -> None:
                    skip, here = trace.load(D + k_row + channel), dx + x_k + channel
                    before, before_step = k.below(fresh, zeros, here), k.below(fresh, 0, x_step)

                    def one(t: Integer, skip_grad: Vector, bias_grad: Vector) -> Sequence[Vector]:
                        pixel = trace.load_index(walk + t * 4)
                        at = t * WIDE
                        grad, value, to_input = (trace.load(p + at) for p in (grads, values, inputs))
                        to_x = trace.fma(skip, grad, trace.load(before + pixel * before_step))
                        trace.store(trace.fma(trace.load(steps + at), to_input, to_x), here + pixel * x_step)
                        to_step = trace.fma(trace.load(decays_ + at), LN2, to_input * value)
                        to_step = to_step * trace.load(slopes + at)
                        trace.store(to_step, ddelta + k_row + channel + pixel * (row * directions))
                        return trace.fma(grad, value, skip_grad), bias_grad + to_step

                    places = [dD + k_row + channel, dbias + k_row + channel]
                    sums = trace.repeat(count, one, [trace.load(place) for place in places])
                    for place, value in zip(places, sums, strict=True):
                        trace.store(value, place)

                def reduce(t: Integer) -> None:
                    at = (trace.load_index(walk + t * 4) * directions + k) * (states * FLOAT)

                    def one(n: Integer) -> None:
                        for lanes, out in ((lanes_B, dB), (lanes_C, dC)):
                            lane = lanes + t * (states * narrow) + n * narrow
                            trace.store_sum(lane, NARROW, out + at + n * FLOAT)

                    trace.repeat(trace.integer(states), one)

                trace.repeat(blocks, block)
                trace.repeat(count, reduce)

            trace.repeat(chunks, chunk)

        trace.repeat(directions, direction)

    return kernel
