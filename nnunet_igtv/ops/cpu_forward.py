"""The scan's inner loops for the CPU, on a run of channels of one image: y.

Each direction is walked in chunks of steps and, inside a chunk, the channels in blocks of `LANES`, so that
memory is read in the order it lies in and what a chunk needs stays in the nearest cache; the rows of the next
chunk are asked for while one is computed, for they lie too far apart for a processor to guess. Within a
block, softplus, exp and the recurrence are loops of their own over the chunk: a processor looks a few hundred
instructions ahead, and finds independent ones only in short loops.

Layouts (float32, channels dense and padded to a multiple of LANES), for one image: x, y (P, Kx, d);
delta (P, K, d), or (P, K, R) and a weight (K, R, d) that widens it; A times log2(e) (K, N, d); B, C
(P, K, N); D, bias (K, d); kept (K, spans, N, d), the states before every SPAN steps; order (K, P) int32, with
SPAN more pixels, any, before it and after it. Addresses point at the run's first channel; `blocks` says how
many blocks of LANES channels it has. Distances in memory are in bytes: `row` = d floats, `..._step` from
pixel to pixel, `..._turn` from direction to direction (0 where all directions share). The first `fresh`
directions write y, the others add.

`decaying` kernels may rely on softplus and on -BOUND <= A log2(e) <= 0: their exponents are never positive.
"""

from collections.abc import Callable, Sequence

from .lanes import FLOAT, WIDE, Integer, Trace, Vector

SPAN = 64  # steps from one kept state to the next: what the backward pass computes again at once
CHUNK = 8
TOGETHER = 4  # states side by side, whose recurrences hide each other's latency
WIDENED = 4  # steps widened side by side: with two registers to a vector, they and their weights fit into 16
BOUND = 2.0**8
LONGEST_STEP = 2.0**30  # longer steps decay as this one does: to nothing, unless A log2(e) > -1e-7


def scratch_bytes(states: int, blocks: int) -> int:
    """Working memory of the kernel."""
    return WIDE * (CHUNK * (3 + TOGETHER) + 1 + blocks * states)


def in_groups(trace: Trace, states: int, body: Callable[[Integer, int], None]) -> None:
    """Calls body(first state, how many) for TOGETHER states at a time, in a loop, and for the rest."""
    whole, left = divmod(states, TOGETHER)
    if whole:
        trace.repeat(trace.integer(whole), lambda i: body(i * TOGETHER, TOGETHER))
    if left:
        body(trace.integer(whole * TOGETHER), left)


def cleared(trace: Trace, address: Integer, vectors: Integer) -> None:
    """Sets so many vectors to zero."""
    zero = trace.vector(0.0)
    trace.repeat(vectors, lambda i: trace.store(zero, address + i * WIDE))


def write_decays(
    trace: Trace,
    steps: Integer,
    rates: Integer,
    row: Integer,
    decays: Integer,
    count: Integer,
    size: int,
    decaying: bool,
) -> None:
    """What `size` states decay by in each of `count` steps, (count, size); their rates lie `row` apart."""

    def one(t: Integer) -> None:
        step = trace.load(steps + t * WIDE)
        step = step.at_most(LONGEST_STEP) if decaying else step
        for n in range(size):
            value = trace.exp2(step, trace.load(rates + row * n), decaying)
            trace.store(value, decays + (t * size + n) * WIDE)

    trace.repeat(count, one)


def forward(states: int, softplus: bool, decaying: bool, widened: bool) -> Callable[..., None]:
    """The kernel of y, and of the states that the backward pass starts from, of `keeping` blocks."""

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
        kept: Integer,
        scratch: Integer,
        pixels: Integer,
        blocks: Integer,
        keeping: Integer,
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
        steps, drives, totals, decays = (scratch + i * (CHUNK * WIDE) for i in range(4))
        zeros = decays + CHUNK * TOGETHER * WIDE
        state = zeros + WIDE  # (blocks, N)
        spans = (pixels + (SPAN - 1)) // SPAN
        cleared(trace, zeros, trace.integer(1))

        def direction(k: Integer) -> None:
            cleared(trace, state, blocks * states)
            turn, x_k, k_row = order + k * order_turn, k * x_turn, k * row
            delta_k, b_k, c_k = delta + k * delta_turn, B + k * B_turn, C + k * C_turn

            def span(s: Integer) -> None:
                target = kept + (k * spans + s) * row * states

                def keep(j: Integer) -> None:
                    def one(n: Integer) -> None:
                        trace.store(trace.load(state + (j * states + n) * WIDE), target + n * row + j * WIDE)

                    trace.repeat(trace.integer(states), one)

                trace.repeat(keeping, keep)
                chunks = ((pixels - s * SPAN).minimum(SPAN) + (CHUNK - 1)) // CHUNK
                trace.repeat(chunks, lambda i: chunk(s * SPAN + i * CHUNK))

            def chunk(first_step: Integer) -> None:
                count = (pixels - first_step).minimum(CHUNK)
                walk = turn + first_step * 4

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
                        if widened:
                            raw = trace.load(steps + t * WIDE)
                        else:
                            pixel, following = (
                                trace.load_index(walk + (t + ahead) * 4) for ahead in (0, CHUNK)
                            )
                            raw = trace.load(delta_j + pixel * delta_step) + shift
                            trace.prefetch(delta_j + following * delta_step)
                            trace.store(raw, steps + t * WIDE)
                        if softplus:
                            trace.store(trace.exp_of_minus_magnitude(raw), drives + t * WIDE)

                    def drive(t: Integer) -> None:
                        pixel, following = (trace.load_index(walk + (t + ahead) * 4) for ahead in (0, CHUNK))
                        step = trace.load(steps + t * WIDE)
                        if softplus:
                            step = trace.softplus(step, trace.load(drives + t * WIDE))
                        value = trace.load(x_j + pixel * x_step)
                        trace.prefetch(x_j + following * x_step)
                        trace.prefetch(y_j + following * x_step)
                        trace.store(step, steps + t * WIDE)
                        trace.store(step * value, drives + t * WIDE)
                        total = trace.fma(skip, value, trace.load(before + pixel * before_step))
                        trace.store(total, totals + t * WIDE)

                    if widened:
                        trace.repeat(trace.integer(CHUNK // WIDENED), widen)
                    if softplus or not widened:
                        trace.repeat(count, prepare)
                    trace.repeat(count, drive)
                    rates, now = A + k_row * states + channel, state + j * (states * WIDE)

                    def together(first: Integer, size: int) -> None:
                        here, lane = now + first * WIDE, first * FLOAT
                        goes_on = first + size  # below `states` while other states are to be added to y

                        def one(t: Integer, *h: Vector) -> Sequence[Vector]:
                            pixel = trace.load_index(walk + t * 4)
                            input_ = trace.load(drives + t * WIDE)
                            b, c = b_k + lane + pixel * B_step, c_k + lane + pixel * C_step
                            total, new = trace.load(totals + t * WIDE), []
                            for n, h_n in enumerate(h):
                                fading = trace.load(decays + (t * size + n) * WIDE)
                                h_n = trace.fma(fading, h_n, input_ * trace.broadcast(b + n * FLOAT))
                                total = trace.fma(h_n, trace.broadcast(c + n * FLOAT), total)
                                new.append(h_n)
                            target = goes_on.below(states, totals + t * WIDE, y_j + pixel * x_step)
                            trace.store(total, target)
                            return new

                        a = rates + row * first
                        write_decays(trace, steps, a, row, decays, count, size, decaying)
                        start = [trace.load(here + n * WIDE) for n in range(size)]
                        for n, h_n in enumerate(trace.repeat(count, one, start)):
                            trace.store(h_n, here + n * WIDE)

                    in_groups(trace, states, together)

                trace.repeat(blocks, block)

            trace.repeat(spans, span)

        trace.repeat(directions, direction)

    return kernel
