"""The scan's inner loops for the CPU, forward and backward, on a run of channels of one image.

Both walk each direction in chunks of `CHUNK` steps and, inside a chunk, the channels in blocks of `LANES`, so
that memory is read in the order it lies in and what a chunk needs stays in the nearest caches. The state of a
block stays in registers through a chunk and in memory between chunks. The backward pass first walks forward
and keeps the state at the start of each chunk, then takes the chunks from the last to the first and computes
each again: its memory is the inputs' times N / CHUNK, not times N.

Layouts (float32, dense, channels padded to a multiple of LANES), for one image: x, y and their gradients
(P, Kx, d); delta (P, K, d); A times log2(e) (K, N, d); B, C (P, K, N); D, bias (K, d); order (K, P) int32.
Addresses point at the run's first channel; `blocks` says how many blocks of LANES channels it has. Distances
in memory are in bytes: `row` = d floats, `…_step` from pixel to pixel, `…_turn` from direction to direction
(0 where all directions share).
"""

from collections.abc import Callable, Sequence

from .lanes import FLOAT, WIDE, Integer, Trace, Vector

CHUNK = 8  # what a chunk of the backward pass needs at N = 16 fits into a first-level cache of 32 KiB
TOGETHER = 4  # states that the backward pass takes side by side, to hide the latency of their recurrences
LN2 = 0.6931471805599453

FORWARD_ARGUMENTS = 19
BACKWARD_ARGUMENTS = 26


def forward_scratch(states: int, blocks: int) -> int:
    """Bytes of working memory of `forward`."""
    return WIDE * (2 * CHUNK + blocks * states)


def backward_scratch(states: int, blocks: int, chunks: int) -> int:
    """Bytes of working memory of `backward`."""
    return WIDE * (CHUNK * (7 + 2 * TOGETHER + 2 * states) + TOGETHER + blocks * states * (1 + chunks))


def _groups(states: int, size: int) -> list[range]:
    return [range(first, min(first + size, states)) for first in range(0, states, size)]


def _cleared(trace: Trace, address: Integer, vectors: Integer) -> None:
    zero = trace.vector(0.0)
    trace.repeat(vectors, lambda i: trace.store(zero, address + i * WIDE))


def forward(states: int, softplus: bool) -> Callable[..., None]:
    """The kernel that adds the scan of x to y."""

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
        y: Integer,
        scratch: Integer,
        pixels: Integer,
        blocks: Integer,
        directions: Integer,
        row: Integer,
        delta_step: Integer,
        delta_turn: Integer,
        x_step: Integer,
        x_turn: Integer,
        order_turn: Integer,
    ) -> None:
        drives = scratch
        steps = drives + CHUNK * WIDE
        state = steps + CHUNK * WIDE
        b_turn, b_step = states * FLOAT, directions * (states * FLOAT)

        def direction(k: Integer) -> None:
            _cleared(trace, state, blocks * states)
            delta_k, b_k, turn = delta + k * delta_turn, k * b_turn, order + k * order_turn
            x_k = k * x_turn

            def chunk(i: Integer) -> None:
                count = (pixels - i * CHUNK).minimum(CHUNK)
                walk = turn + i * (CHUNK * 4)

                def block(j: Integer) -> None:
                    channel = j * WIDE
                    shift, skip = trace.load(bias + k * row + channel), trace.load(D + k * row + channel)

                    def prepare(t: Integer) -> None:
                        pixel = trace.load_index(walk + t * 4)
                        step = trace.load(delta_k + channel + pixel * delta_step) + shift
                        if softplus:
                            step = trace.softplus(step)[0]
                        value = trace.load(x + x_k + channel + pixel * x_step)
                        trace.store(step, steps + t * WIDE)
                        trace.store(step * value, drives + t * WIDE)
                        trace.add_to(y + x_k + channel + pixel * x_step, skip * value)

                    trace.repeat(count, prepare)
                    here = state + j * (states * WIDE)
                    a = A + k * (row * states) + channel

                    for group in _groups(states, 16):

                        def step_(t: Integer, *h: Vector, group: range = group) -> Sequence[Vector]:
                            pixel = trace.load_index(walk + t * 4)
                            step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                            b, c = B + b_k + pixel * b_step, C + b_k + pixel * b_step
                            total, following = trace.vector(0.0), []
                            for n, h_n in zip(group, h, strict=True):
                                decay = trace.exp2(step * trace.load(a + row * n))
                                h_n = trace.fma(decay, h_n, drive * trace.broadcast(b + n * FLOAT))
                                total = trace.fma(h_n, trace.broadcast(c + n * FLOAT), total)
                                following.append(h_n)
                            trace.add_to(y + x_k + channel + pixel * x_step, total)
                            return following

                        start = [trace.load(here + n * WIDE) for n in group]
                        for n, h_n in zip(group, trace.repeat(count, step_, start), strict=True):
                            trace.store(h_n, here + n * WIDE)

                trace.repeat(blocks, block)

            trace.repeat((pixels + (CHUNK - 1)) // CHUNK, chunk)

        trace.repeat(directions, direction)

    return kernel


def backward(states: int, softplus: bool) -> Callable[..., None]:
    """The kernel of the gradients; adds to dx, dA, dD and dbias, writes ddelta, dB and dC.

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
        row: Integer,
        delta_step: Integer,
        delta_turn: Integer,
        x_step: Integer,
        x_turn: Integer,
        order_turn: Integer,
    ) -> None:
        line, wide = CHUNK * WIDE, states * WIDE
        steps, drives, slopes, values, grads, inputs, decays_ = (scratch + i * line for i in range(7))
        some = TOGETHER * WIDE
        h = scratch + 7 * line  # (CHUNK + 1, TOGETHER): some states in a chunk, the one before it first
        decay = h + (CHUNK + 1) * some  # (CHUNK, TOGETHER)
        lanes_B = decay + CHUNK * some  # (CHUNK, N): dB lane by lane
        lanes_C = lanes_B + CHUNK * wide  # (CHUNK, N): dC lane by lane
        carried = lanes_C + CHUNK * wide  # (blocks, N): exp(delta A) times the next step's dh
        kept = carried + blocks * wide  # (chunks, blocks, N): the states at the start of each chunk
        b_turn, b_step = states * FLOAT, directions * (states * FLOAT)
        chunks = (pixels + (CHUNK - 1)) // CHUNK

        def direction(k: Integer) -> None:
            turn, b_k, x_k, k_row = order + k * order_turn, k * b_turn, k * x_turn, k * row
            _cleared(trace, carried, blocks * states)
            _cleared(trace, kept, blocks * states)

            def prepare(walk: Integer, channel: Integer, count: Integer, everything: bool) -> None:
                shift = trace.load(bias + k_row + channel)

                def one(t: Integer) -> None:
                    pixel = trace.load_index(walk + t * 4)
                    step = trace.load(delta + k * delta_turn + channel + pixel * delta_step) + shift
                    slope = trace.vector(1.0)
                    if softplus:
                        step, slope = trace.softplus(step)
                    value = trace.load(x + x_k + channel + pixel * x_step)
                    trace.store(step, steps + t * WIDE)
                    trace.store(step * value, drives + t * WIDE)
                    if everything:
                        trace.store(slope, slopes + t * WIDE)
                        trace.store(value, values + t * WIDE)
                        trace.store(trace.load(dy + x_k + channel + pixel * x_step), grads + t * WIDE)

                trace.repeat(count, one)

            def advance(
                walk: Integer, a: Integer, start: Integer, count: Integer, group: range, end: Integer | None
            ) -> None:
                """From the states at `start`: keeps the last at `end`, or every step's in `h` and `decay`."""

                def one(t: Integer, *old: Vector) -> Sequence[Vector]:
                    b = B + b_k + trace.load_index(walk + t * 4) * b_step
                    step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                    new = []
                    for m, n in enumerate(group):
                        decay_n = trace.exp2(step * trace.load(a + row * n))
                        new.append(trace.fma(decay_n, old[m], drive * trace.broadcast(b + n * FLOAT)))
                        if end is None:
                            trace.store(decay_n, decay + t * some + m * WIDE)
                            trace.store(new[m], h + (t + 1) * some + m * WIDE)
                    return new

                first = [trace.load(start + n * WIDE) for n in group]
                last = trace.repeat(count, one, first)
                for m, n in enumerate(group):
                    if end is None:
                        trace.store(first[m], h + m * WIDE)
                    else:
                        trace.store(last[m], end + n * WIDE)

            def keep(i: Integer) -> None:
                walk, here = turn + i * (CHUNK * 4), kept + i * blocks * wide

                def block(j: Integer) -> None:
                    channel, start = j * WIDE, here + j * wide
                    prepare(walk, channel, trace.integer(CHUNK), False)
                    a = A + k_row * states + channel
                    for group in _groups(states, 16):
                        advance(walk, a, start, trace.integer(CHUNK), group, start + blocks * wide)

                trace.repeat(blocks, block)

            trace.repeat(chunks - 1, keep)

            def chunk(back: Integer) -> None:
                i = chunks - 1 - back
                walk, here = turn + i * (CHUNK * 4), kept + i * blocks * wide
                count = (pixels - i * CHUNK).minimum(CHUNK)
                _cleared(trace, lanes_B, trace.integer(2 * CHUNK * states))

                def block(j: Integer) -> None:
                    channel = j * WIDE
                    a = A + k_row * states + channel
                    prepare(walk, channel, count, True)
                    for group in _groups(states, TOGETHER):
                        advance(walk, a, here + j * wide, count, group, None)
                        retreat(walk, a, carried + j * wide, dA + k_row * states + channel, group)
                    finish(walk, channel)

                def retreat(walk: Integer, a: Integer, later: Integer, da: Integer, group: range) -> None:
                    decay_rates = [trace.load(a + row * n) for n in group]

                    def one(forwards: Integer, *old: Vector) -> Sequence[Vector]:
                        t = count - 1 - forwards
                        pixel = trace.load_index(walk + t * 4)
                        b, c = B + b_k + pixel * b_step, C + b_k + pixel * b_step
                        step, drive = trace.load(steps + t * WIDE), trace.load(drives + t * WIDE)
                        grad, zero = trace.load(grads + t * WIDE), trace.vector(0.0)
                        first = group[0] == 0
                        to_input = zero if first else trace.load(inputs + t * WIDE)
                        to_decay = zero if first else trace.load(decays_ + t * WIDE)
                        following, rates = [], []
                        for m, n in enumerate(group):
                            at, lane = t * some + m * WIDE, t * wide + n * WIDE
                            g = trace.fma(grad, trace.broadcast(c + n * FLOAT), old[m])
                            to_c = trace.fma(grad, trace.load(h + some + at), trace.load(lanes_C + lane))
                            trace.store(to_c, lanes_C + lane)
                            trace.store(trace.fma(g, drive, trace.load(lanes_B + lane)), lanes_B + lane)
                            to_input = trace.fma(g, trace.broadcast(b + n * FLOAT), to_input)
                            g = g * trace.load(decay + at)
                            s = g * trace.load(h + at)
                            following.append(g)
                            rates.append(trace.fma(s, step, old[len(group) + m]))
                            to_decay = trace.fma(s, decay_rates[m], to_decay)
                        trace.store(to_input, inputs + t * WIDE)
                        trace.store(to_decay, decays_ + t * WIDE)
                        return following + rates

                    start = [trace.load(later + n * WIDE) for n in group]
                    start += [trace.load(da + row * n) for n in group]
                    end = trace.repeat(count, one, start)
                    for m, n in enumerate(group):
                        trace.store(end[m], later + n * WIDE)
                        trace.store(end[len(group) + m], da + row * n)

                def finish(walk: Integer, channel: Integer) -> None:
                    skip = trace.load(D + k_row + channel)

                    def one(t: Integer, skip_grad: Vector, bias_grad: Vector) -> Sequence[Vector]:
                        pixel = trace.load_index(walk + t * 4)
                        at = t * WIDE
                        grad, value, to_input = (trace.load(p + at) for p in (grads, values, inputs))
                        here = dx + x_k + channel + pixel * x_step
                        trace.add_to(here, trace.fma(trace.load(steps + at), to_input, skip * grad))
                        to_step = trace.fma(trace.load(decays_ + at), LN2, to_input * value)
                        to_step = to_step * trace.load(slopes + at)
                        trace.store(to_step, ddelta + k_row + channel + pixel * (row * directions))
                        return trace.fma(grad, value, skip_grad), bias_grad + to_step

                    places = [dD + k_row + channel, dbias + k_row + channel]
                    sums = trace.repeat(count, one, [trace.load(place) for place in places])
                    for place, value in zip(places, sums, strict=True):
                        trace.store(value, place)

                def reduce(t: Integer) -> None:
                    at = b_k + trace.load_index(walk + t * 4) * b_step

                    def one(n: Integer) -> None:
                        for lanes, out in ((lanes_B, dB), (lanes_C, dC)):
                            trace.store_sum(trace.load(lanes + t * wide + n * WIDE), out + at + n * FLOAT)

                    trace.repeat(trace.integer(states), one)

                trace.repeat(blocks, block)
                trace.repeat(count, reduce)

            trace.repeat(chunks, chunk)

        trace.repeat(directions, direction)

    return kernel
