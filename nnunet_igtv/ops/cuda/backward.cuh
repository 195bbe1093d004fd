// The backward pass; follows common.cuh and segments.cuh.
//
// With g = dLoss/dh and s = g * exp(delta A) * h_before: a block first takes its segment's steps forwards and keeps the
// state before each chunk in shared memory. Then it takes the chunks from the last to the first: a chunk's states are
// computed again into registers, and its steps are taken from the last to the first.

constexpr int DSTEP_ROW = CHANNELS + 1;  // padded: threads that differ in the step use different banks

struct BackwardMemory {
  SharedVector B[STEPS * LANES], C[STEPS * LANES];
  SharedFloat x[CHUNK_VALUES], steps[CHUNK_VALUES], dy[CHUNK_VALUES], dx[CHUNK_VALUES], dsteps[STEPS * DSTEP_ROW];
  SharedFloat dB[WARPS * STEPS * PADDED], dC[WARPS * STEPS * PADDED];
};

static_assert(sizeof(BackwardMemory) == BACKWARD_BYTES, "shared memory as the caller counts it");

// Two sums over a channel's lanes: that of `a` for even lanes, that of `b` for odd ones (for LANES > 1).
__device__ inline float two_sums_of_lanes(float a, float b, int lane) {
  const bool odd = lane & 1;
  float kept = (odd ? b : a) + __shfl_xor_sync(~0u, odd ? a : b, 1);
#pragma unroll
  for (int other = 2; other < LANES; other *= 2) kept += __shfl_xor_sync(~0u, kept, other);
  return kept;
}

// Adds up each of a warp's PADDED states over its channels and stores the sums at `target`. Lanes that hold the
// same states exchange halves of them: each keeps fewer sums, of more channels.
__device__ inline void store_sums_of_channels(float *v, int lane, SharedFloat *target) {
  const int thread = threadIdx.x % 32;
  int count = STATES, first = lane * STATES;
  bool stores = true;
#pragma unroll
  for (int other = LANES; other < 32; other *= 2) {
    const bool upper = thread & other;
    if (count > 1) {
      count /= 2;
#pragma unroll
      for (int i = 0; i < STATES / 2; i++)
        if (i < count) {
          const float sent = upper ? v[i] : v[i + count], kept = upper ? v[i + count] : v[i];
          v[i] = kept + __shfl_xor_sync(~0u, sent, other);
        }
      if (upper) first += count;
    } else {
      v[0] += __shfl_xor_sync(~0u, v[0], other);
      stores = stores && !upper;
    }
  }
#pragma unroll
  for (int i = 0; i < STATES; i++)
    if (i < count && stores) target[first + i] = v[i];
}

// The gradients of one chunk's steps, from the last to the first; h is the state before the first.
__device__ inline void steps_backwards(BackwardMemory &m, const Place &at, const Vector &A, float D, Vector h,
                                       Vector &next_g, Vector &dA) {
  const int warp = threadIdx.x / 32;
  Vector before[STEPS];  // in registers: both loops are unrolled
#pragma unroll
  for (int t = 0; t < STEPS; t++) {
    before[t] = h;
    advance(h, A, m.B[t * LANES + at.lane], m.steps[t * CHANNELS + at.row], m.x[t * CHANNELS + at.row]);
  }
#pragma unroll
  for (int t = STEPS - 1; t >= 0; t--) {
    const int i = t * CHANNELS + at.row;
    const float step = m.steps[i], x = m.x[i], dy = m.dy[i];
    const Vector B = m.B[t * LANES + at.lane], C = m.C[t * LANES + at.lane];
    float dB[STATES], dC[STATES], input_grad = 0.f, exponent_grad = 0.f;
#pragma unroll
    for (int n = 0; n < STATES; n++) {
      const float decay = exp2_approx(step * A.n[n]), decayed = decay * before[t].n[n];
      const float g = fmaf(dy, C.n[n], next_g.n[n]), s = g * decayed;
      dB[n] = g * (step * x);
      dC[n] = dy * fmaf(step * x, B.n[n], decayed);
      input_grad = fmaf(g, B.n[n], input_grad);
      exponent_grad = fmaf(s, A.n[n], exponent_grad);
      dA.n[n] = fmaf(s, step, dA.n[n]);
      next_g.n[n] = g * decay;
    }
    const float step_grad = fmaf(exponent_grad, LN2, x * input_grad);
    if (LANES == 1) {
      m.dx[i] = fmaf(step, input_grad, D * dy);
      m.dsteps[t * DSTEP_ROW + at.row] = step_grad;
    } else {
      const float sum = two_sums_of_lanes(input_grad, step_grad, at.lane);
      if (at.lane == 0) m.dx[i] = fmaf(step, sum, D * dy);
      if (at.lane == 1) m.dsteps[t * DSTEP_ROW + at.row] = sum;
    }
    store_sums_of_channels(dB, at.lane, m.dB + (warp * STEPS + t) * PADDED);
    store_sums_of_channels(dC, at.lane, m.dC + (warp * STEPS + t) * PADDED);
  }
}

// Adds the gradients of x, and those of the channels' steps where delta is given; else these stay in m.dsteps.
__device__ inline void add_channel_gradients(const Arguments &p, const Place &at, BackwardMemory &m, int image,
                                             int first_step, float &dD, float &dbias) {
  float *dx = sum_of_directions(p, at, p.dx, image);
#pragma unroll
  for (int j = 0; j < CHANNEL_LOADS; j++) {
    const int i = j * THREADS + threadIdx.x, row = i / CHANNELS, step = first_step + row;
    if (i >= CHUNK_VALUES) continue;
    const bool valid = at.stages && step < p.pixels;
    SharedFloat &dstep = m.dsteps[row * DSTEP_ROW + at.staged_row];
    const float slope = SOFTPLUS ? -expm1f(-m.steps[i]) : 1.f;  // of softplus: 1 - e**-softplus
    const float ddelta = valid ? dstep * slope : 0.f;
    if (RANK_LOADS) dstep = ddelta;
    if (!valid) continue;
    const int pixel = pixel_at(p, at.direction, step), target = x_at(p, at, pixel);
    if (FOUR_DIRECTIONS)
      atomicAdd(dx + target, m.dx[i]);
    else
      dx[target] = m.dx[i];
    if (!RANK_LOADS)
      p.ddelta[(offset_t)image * p.pixels * p.directions * p.channels + row_at(p, at, pixel, p.channels) +
               at.staged_channel] = ddelta;
    dbias += ddelta;
    dD = fmaf(m.dy[i], m.x[i], dD);
  }
}

// Adds the gradients of B and C of one chunk, from the sums of each warp.
__device__ inline void add_state_gradients(const Arguments &p, const Place &at, const BackwardMemory &m, int image,
                                           int first_step) {
  float *dB_image = sum_of_channels(p, p.dB, image, p.states), *dC_image = sum_of_channels(p, p.dC, image, p.states);
  for (int i = threadIdx.x; i < STEPS * PADDED; i += THREADS) {
    const int step = first_step + i / PADDED, n = i % PADDED;
    if (step >= p.pixels || n >= p.states) continue;
    const int target = row_at(p, at, pixel_at(p, at.direction, step), p.states) + n;
    float dB = 0.f, dC = 0.f;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) {
      dB += m.dB[warp * STEPS * PADDED + i];
      dC += m.dC[warp * STEPS * PADDED + i];
    }
    atomicAdd(dB_image + target, dB);
    atomicAdd(dC_image + target, dC);
  }
}

// Adds the gradients of the values that delta is projected from, and (in shared memory) of the weight.
__device__ inline void add_projection_gradients(const Arguments &p, const Place &at, const SharedFloat *ddelta,
                                                const Projection &projection, int image, int first_step) {
  float *ranks = sum_of_channels(p, p.ddelta, image, p.rank);
  for (int i = threadIdx.x; i < STEPS * p.rank; i += THREADS) {
    const int row = i / p.rank, step = first_step + row, r = i - row * p.rank;
    if (step >= p.pixels) continue;
    float sum = 0.f;
    for (int c = 0; c < CHANNELS; c++)
      sum = fmaf(ddelta[row * DSTEP_ROW + c], projection.weight[r * WEIGHT_ROW + c], sum);
    atomicAdd(ranks + row_at(p, at, pixel_at(p, at.direction, step), p.rank) + r, sum);
  }
  for (int i = threadIdx.x; i < p.rank * CHANNELS; i += THREADS) {
    const int r = i / CHANNELS;
    float sum = 0.f;
    for (int row = 0; row < STEPS; row++)
      sum = fmaf(ddelta[row * DSTEP_ROW + at.staged_row], projection.ranks[row * p.rank + r], sum);
    projection.dweight[r * WEIGHT_ROW + at.staged_row] += sum;
  }
}

// Adds the gradients of the parameters of this block's channels; a block adds to each once.
__device__ inline void add_parameter_gradients(const Arguments &p, const Place &at, BackwardMemory &m,
                                               const Projection &projection, const Vector &dA, float dD, float dbias) {
  if (at.computes)
    for (int i = 0; i < STATES; i++) {
      const int n = at.lane * STATES + i;
      if (n < p.states) atomicAdd(p.dA + at.gradients(p, at.channel) * p.states + n, dA.n[i]);
    }
  if (LANES > 1) {  // as many threads stage the same channel
    m.dB[threadIdx.x] = dD;
    m.dC[threadIdx.x] = dbias;
    __syncthreads();
    if (threadIdx.x < CHANNELS)
      for (int other = threadIdx.x + CHANNELS; other < THREADS; other += CHANNELS) {
        dD += m.dB[other];
        dbias += m.dC[other];
      }
  }
  if (at.stages && threadIdx.x < CHANNELS) {
    atomicAdd(p.dD + at.gradients(p, at.staged_channel), dD);
    atomicAdd(p.ddelta_bias + at.gradients(p, at.staged_channel), dbias);
  }
  if (RANK_LOADS)
    for (int i = threadIdx.x; i < p.rank * CHANNELS; i += THREADS) {
      const int row = i / p.rank, r = i - row * p.rank, channel = blockIdx.y * CHANNELS + row;
      if (channel < p.channels)
        atomicAdd(p.ddelta_weight + at.gradients(p, channel) * p.rank + r, projection.dweight[r * WEIGHT_ROW + row]);
    }
}

// What a block does with a chunk: the states only, forwards through all chunks but the last; then, from the last to the
// first, the gradients.
struct Task {
  int image, chunk;
  bool gradients;

  __device__ Task(int image, int last) : image(image), chunk(0), gradients(last == 0) {}

  __device__ Task next(int last) const {
    if (gradients && chunk == 0) return Task(image + 1, last);
    Task task = *this;
    task.chunk = gradients ? chunk - 1 : chunk + 1;
    task.gradients = gradients || task.chunk == last;
    return task;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS) scan_backward(const Arguments p) {
  SHARED_MEMORY(memory);
  BackwardMemory &m = *(BackwardMemory *)memory;
  float *behind = memory + sizeof(BackwardMemory) / 4;
  SharedVector *chunk_states = (SharedVector *)behind + threadIdx.x;  // (segment_chunks - 1, THREADS)
  const Projection projection(behind + (p.segment_chunks - 1) * THREADS * STATES, p.rank);
  const Place at(p);
  const int last = at.chunks - 1;
  const Vector A = parameter_row(p, at);
  const float D = at.computes ? READ(p.D + at.parameters(p, at.channel)) : 0.f;
  Loaded<FOR_GRADIENTS> loaded;
  Vector dA = zeros(), h, next_g;
  float dD = 0.f, dbias = 0.f;
  Task task(at.first_image, last);
  loaded.load(p, at, task.image, task.chunk, task.gradients);
  load_projection(p, at, projection, projection.dweight);
  while (task.image < at.last_image) {
    loaded.stage(p, at, task.chunk, m, projection);
    const Task next = task.next(last);
    if (next.image < at.last_image) loaded.load(p, at, next.image, next.chunk, next.gradients);
    if (task.chunk == 0 && task.gradients == (last == 0)) h = carried_in(p, at, p.states_before, task.image);
    if (task.gradients) {
      if (task.chunk == last)
        next_g = carried_in(p, at, p.gradients_behind, task.image);
      else
        h = chunk_states[task.chunk * THREADS];
      steps_backwards(m, at, A, D, h, next_g, dA);
      __syncthreads();
      const int first_step = at.first_step + task.chunk * STEPS;
      add_channel_gradients(p, at, m, task.image, first_step, dD, dbias);
      add_state_gradients(p, at, m, task.image, first_step);
      if (RANK_LOADS) {
        __syncthreads();
        add_projection_gradients(p, at, m.dsteps, projection, task.image, first_step);
      }
    } else {
      chunk_states[task.chunk * THREADS] = h;
#pragma unroll 4
      for (int t = 0; t < STEPS; t++)
        advance(h, A, m.B[t * LANES + at.lane], m.steps[t * CHANNELS + at.row], m.x[t * CHANNELS + at.row]);
    }
    __syncthreads();
    task = next;
  }
  add_parameter_gradients(p, at, m, projection, dA, dD, dbias);
}
