// The backward pass; follows common.cuh.
//
// With g = dLoss/dh and s = g * exp(delta A) * h_before, a chunk's states are computed again from the one before
// it, kept in shared memory, and its steps are taken from the last to the first.

struct BackwardMemory {
  Vector h[STEPS * THREADS];  // the state before each step
  Vector B[STEPS * LANES], C[STEPS * LANES];
  float x[CHUNK_VALUES], steps[CHUNK_VALUES], dy[CHUNK_VALUES], dx[CHUNK_VALUES], dsteps[CHUNK_VALUES];
  float dB[WARPS * STEPS * PADDED], dC[WARPS * STEPS * PADDED];
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
__device__ inline void store_sums_of_channels(float *v, int lane, float *target) {
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

// The gradients of one chunk's steps, from the last to the first.
__device__ inline void steps_backwards(BackwardMemory &m, const Place &at, const Vector &A, float D, Vector &next_g,
                                       Vector &dA) {
  const int warp = threadIdx.x / 32;
#pragma unroll 2
  for (int t = STEPS - 1; t >= 0; t--) {
    const int i = t * CHANNELS + at.row;
    const float step = m.steps[i], x = m.x[i], dy = m.dy[i];
    const Vector B = m.B[t * LANES + at.lane], C = m.C[t * LANES + at.lane], before = m.h[t * THREADS + threadIdx.x];
    float dB[STATES], dC[STATES], input_grad = 0.f, exponent_grad = 0.f;
#pragma unroll
    for (int n = 0; n < STATES; n++) {
      const float decay = exp2_approx(step * A.n[n]), decayed = decay * before.n[n];
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
      m.dsteps[i] = step_grad;
    } else {
      const float sum = two_sums_of_lanes(input_grad, step_grad, at.lane);
      if (at.lane == 0) m.dx[i] = fmaf(step, sum, D * dy);
      if (at.lane == 1) m.dsteps[i] = sum;
    }
    store_sums_of_channels(dB, at.lane, m.dB + (warp * STEPS + t) * PADDED);
    store_sums_of_channels(dC, at.lane, m.dC + (warp * STEPS + t) * PADDED);
  }
}

// Adds the gradients of B and C of one chunk, from the sums of each warp.
__device__ inline void add_state_gradients(const Arguments &p, const Place &at, const BackwardMemory &m, int image,
                                           int first_step) {
  for (int i = threadIdx.x; i < STEPS * PADDED; i += THREADS) {
    const int step = first_step + i / PADDED, n = i % PADDED;
    if (step >= p.pixels || n >= p.states) continue;
    const offset_t target = row_offset(p, at, image, pixel_at(p, at.direction, step), p.states) + n;
    float dB = 0.f, dC = 0.f;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) {
      dB += m.dB[warp * STEPS * PADDED + i];
      dC += m.dC[warp * STEPS * PADDED + i];
    }
    atomicAdd(p.dB + target, dB);
    atomicAdd(p.dC + target, dC);
  }
}

// Adds the gradients of the values that delta is projected from, and (in shared memory) of the weight.
__device__ inline void add_projection_gradients(const Arguments &p, const Place &at, const float *ddelta,
                                                const Projection &projection, int image, int first_step) {
  for (int i = threadIdx.x; i < STEPS * p.rank; i += THREADS) {
    const int row = i / p.rank, step = first_step + row, r = i % p.rank;
    if (step >= p.pixels) continue;
    float sum = 0.f;
    for (int c = 0; c < CHANNELS; c++) sum = fmaf(ddelta[row * CHANNELS + c], projection.weight[r * WEIGHT_ROW + c], sum);
    atomicAdd(p.ddelta + row_offset(p, at, image, pixel_at(p, at.direction, step), p.rank) + r, sum);
  }
  for (int i = threadIdx.x; i < p.rank * CHANNELS; i += THREADS) {
    const int r = i / CHANNELS;
    float sum = 0.f;
    for (int row = 0; row < STEPS; row++)
      sum = fmaf(ddelta[row * CHANNELS + at.staged_row], projection.ranks[row * p.rank + r], sum);
    projection.dweight[r * WEIGHT_ROW + at.staged_row] += sum;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_backward(const Arguments p) {
  SHARED_MEMORY(memory);
  BackwardMemory &m = *(BackwardMemory *)memory;
  const Projection projection(memory + sizeof(BackwardMemory) / 4, p.rank);
  const Place at(p);
  const Vector A = parameter_row(p, at);
  const float D = at.computes ? p.D[at.parameters(p, at.channel)] : 0.f;
  const int chunks = (p.pixels + STEPS - 1) / STEPS;
  Loaded<true> loaded;
  Vector dA, next_g;
  float dD = 0.f, dbias = 0.f;
  for (int n = 0; n < STATES; n++) dA.n[n] = 0.f;
  loaded.load(p, at, at.first_image, (chunks - 1) * STEPS, true);
  load_projection(p, at, projection, projection.dweight);
  for (int image = at.first_image; image < at.last_image; image++)
    for (int chunk = chunks - 1; chunk >= 0; chunk--) {
      loaded.store(p, m, projection, true);
#pragma unroll
      for (int j = 0; j < CHANNEL_LOADS; j++)
        if (j * THREADS + threadIdx.x < CHUNK_VALUES) m.dy[j * THREADS + threadIdx.x] = loaded.dy[j];
      if (RANK_LOADS) __syncthreads();
      loaded.store_steps(p, at, chunk * STEPS, projection, m.steps);
      __syncthreads();
      if (chunk > 0)
        loaded.load(p, at, image, (chunk - 1) * STEPS, true);
      else if (image + 1 < at.last_image)
        loaded.load(p, at, image + 1, (chunks - 1) * STEPS, true);
      if (chunk == chunks - 1)
        for (int n = 0; n < STATES; n++) next_g.n[n] = 0.f;

      Vector h;
      for (int n = 0; n < STATES; n++) h.n[n] = 0.f;
      if (chunk > 0 && at.computes) h = *saved_state(p, at, image, chunk);
#pragma unroll 4
      for (int t = 0; t < STEPS; t++) {
        const float step = m.steps[t * CHANNELS + at.row], x = m.x[t * CHANNELS + at.row];
        const Vector B = m.B[t * LANES + at.lane];
        m.h[t * THREADS + threadIdx.x] = h;
#pragma unroll
        for (int n = 0; n < STATES; n++) h.n[n] = exp2_approx(step * A.n[n]) * h.n[n] + step * x * B.n[n];
      }
      steps_backwards(m, at, A, D, next_g, dA);
      __syncthreads();
#pragma unroll
      for (int j = 0; j < CHANNEL_LOADS; j++) {
        const int i = j * THREADS + threadIdx.x, step = chunk * STEPS + i / CHANNELS;
        if (i >= CHUNK_VALUES) continue;
        const bool valid = at.stages && step < p.pixels;
        const float slope = SOFTPLUS ? -expm1f(-m.steps[i]) : 1.f;  // of softplus: 1 - e**-softplus
        const float ddelta = valid ? m.dsteps[i] * slope : 0.f;
        if (RANK_LOADS) m.dsteps[i] = ddelta;
        if (!valid) continue;
        const int pixel = pixel_at(p, at.direction, step);
        float *dx = p.dx + x_offset(p, at, image, pixel);
        if (FOUR_DIRECTIONS)
          atomicAdd(dx, m.dx[i]);
        else
          *dx = m.dx[i];
        if (!RANK_LOADS) p.ddelta[row_offset(p, at, image, pixel, p.channels) + at.staged_channel] = ddelta;
        dbias += ddelta;
        dD += m.dy[i] * m.x[i];
      }
      add_state_gradients(p, at, m, image, chunk * STEPS);
      if (RANK_LOADS) {
        __syncthreads();
        add_projection_gradients(p, at, m.dsteps, projection, image, chunk * STEPS);
      }
      __syncthreads();
    }
  if (at.computes)
    for (int i = 0; i < STATES; i++) {
      const int n = at.lane * STATES + i;
      if (n < p.states) atomicAdd(p.dA + at.parameters(p, at.channel) * p.states + n, dA.n[i]);
    }
  if (!at.stages) return;
  atomicAdd(p.dD + at.parameters(p, at.staged_channel), dD);
  atomicAdd(p.ddelta_bias + at.parameters(p, at.staged_channel), dbias);
  if (RANK_LOADS)
    for (int r = threadIdx.x / CHANNELS; r < p.rank; r += LANES)
      atomicAdd(p.ddelta_weight + at.parameters(p, at.staged_channel) * p.rank + r,
                projection.dweight[r * WEIGHT_ROW + at.staged_row]);
}
