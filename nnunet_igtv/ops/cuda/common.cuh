// The selective scan on a GPU, forward and backward; all directions of a map read the same memory.
//
// A block computes one direction of some images for CHANNELS channels, a chunk of STEPS steps at a time. LANES
// neighbouring threads share a channel; each holds STATES of its states in registers and takes the steps one by
// one. What a chunk reads is staged in shared memory; the next chunk is loaded into registers meanwhile.
// Sums over directions (y, dx) and over blocks (all other gradients) are atomic additions.
//
// `struct Arguments` (arguments.py) precedes this file. Macros that the caller defines: LANES, STATES, STEPS,
// RANK_LOADS (values that a thread loads for a chunk to project delta from; 0 where delta is given), SOFTPLUS,
// FOUR_DIRECTIONS, FORWARD_BYTES and BACKWARD_BYTES (shared memory without that of the projection).

#ifndef SHARED_MEMORY  // tests that run this source on a CPU define it
#define SHARED_MEMORY(name) extern __shared__ __align__(16) float name[]
#endif

typedef long long offset_t;

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr int CHANNELS = THREADS / LANES;
constexpr int PADDED = LANES * STATES;  // states of a channel; those beyond N stay zero
constexpr int CHUNK_VALUES = STEPS * CHANNELS;
constexpr int CHANNEL_LOADS = (CHUNK_VALUES + THREADS - 1) / THREADS;
constexpr int STATE_LOADS = (STEPS * PADDED + THREADS - 1) / THREADS;
constexpr int WEIGHT_ROW = CHANNELS + 1;  // padded: threads that differ in the rank use different banks
constexpr float LN2 = 0.69314718f;

struct alignas(4 * STATES) Vector {  // the states of one thread
  float n[STATES];
};

// Where the values for a projected delta are, behind the memory of a pass.
struct Projection {
  float *ranks;    // (STEPS, rank)
  float *weight;   // (rank, WEIGHT_ROW)
  float *dweight;  // (rank, WEIGHT_ROW), in the backward pass
  __device__ Projection(float *memory, int rank)
      : ranks(memory), weight(memory + STEPS * rank), dweight(weight + rank * WEIGHT_ROW) {}
};

// What a thread of a block works on.
struct Place {
  int direction, first_image, last_image;
  int lane, row, channel;         // this thread's channel: `row` of the block, and which of its lanes
  int staged_row, staged_channel; // the channel for which it loads and stores
  bool computes, stages;          // whether these channels exist
  float bias;                     // of the staged channel

  __device__ explicit Place(const Arguments &p) {
    const int group = blockIdx.x / p.directions, first_channel = blockIdx.y * CHANNELS;
    direction = blockIdx.x % p.directions;
    first_image = group * p.images_per_block;
    last_image = min(first_image + p.images_per_block, p.images);
    lane = threadIdx.x % LANES;
    row = threadIdx.x / LANES;
    channel = first_channel + row;
    computes = channel < p.channels;
    staged_row = threadIdx.x % CHANNELS;
    staged_channel = first_channel + staged_row;
    stages = staged_channel < p.channels;
    bias = stages ? p.delta_bias[direction * p.channels + staged_channel] : 0.f;
  }

  // Offset of a channel's parameters.
  __device__ offset_t parameters(const Arguments &p, int of) const { return (offset_t)direction * p.channels + of; }
};

// The pixel that a direction reads at a step. The upper half of t * p.by_height is t / height.
__device__ inline int pixel_at(const Arguments &p, int direction, int step) {
  if (!FOUR_DIRECTIONS) return step;
  const unsigned t = direction >= 2 ? p.pixels - 1 - step : step;
  if (direction % 2 == 0 || p.height == 1) return t;
  const unsigned column = __umulhi(t, p.by_height);
  return (t - column * p.height) * p.width + column;
}

__device__ inline offset_t x_offset(const Arguments &p, const Place &at, int image, int pixel) {
  return ((offset_t)image * p.pixels + pixel) * p.x_pixel_stride + at.direction * p.x_direction_stride +
         at.staged_channel;
}

// Offset in a contiguous (images, pixels, directions, width) tensor.
__device__ inline offset_t row_offset(const Arguments &p, const Place &at, int image, int pixel, int width) {
  return (((offset_t)image * p.pixels + pixel) * p.directions + at.direction) * width;
}

// A chunk's inputs in this thread's registers.
template <bool BACKWARD>
struct Loaded {
  float x[CHANNEL_LOADS], dy[CHANNEL_LOADS], delta[CHANNEL_LOADS], B[STATE_LOADS], C[STATE_LOADS];
  float ranks[RANK_LOADS + 1];

  __device__ void load(const Arguments &p, const Place &at, int image, int first_step, bool with_C) {
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++) {
      const int row = (j * THREADS + threadIdx.x) / CHANNELS, step = first_step + row;
      const bool valid = at.stages && row < STEPS && step < p.pixels;
      const int pixel = valid ? pixel_at(p, at.direction, step) : 0;
      const offset_t x_at = x_offset(p, at, image, pixel);
      x[j] = valid ? p.x[x_at] : 0.f;
      if (BACKWARD) dy[j] = valid ? p.dy[x_at] : 0.f;
      if (!RANK_LOADS)
        delta[j] = valid ? p.delta[image * p.delta_image_stride + pixel * p.delta_pixel_stride +
                                   at.direction * p.delta_direction_stride + at.staged_channel]
                         : 0.f;
    }
#pragma unroll
    for (int j = 0; j < STATE_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x, step = first_step + i / PADDED, n = i % PADDED;
      const bool valid = i < STEPS * PADDED && n < p.states && step < p.pixels;
      const int pixel = valid ? pixel_at(p, at.direction, step) : 0;
      B[j] = valid ? p.B[image * p.B_image_stride + pixel * p.B_pixel_stride + at.direction * p.B_direction_stride + n]
                   : 0.f;
      if (with_C)
        C[j] = valid ? p.C[image * p.C_image_stride + pixel * p.C_pixel_stride + at.direction * p.C_direction_stride + n]
                     : 0.f;
    }
#pragma unroll
    for (int j = 0; j < RANK_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x, step = first_step + i / p.rank;
      const bool valid = i < STEPS * p.rank && step < p.pixels;
      const int pixel = valid ? pixel_at(p, at.direction, step) : 0;
      ranks[j] = valid ? p.delta[image * p.delta_image_stride + pixel * p.delta_pixel_stride +
                                 at.direction * p.delta_direction_stride + i % p.rank]
                       : 0.f;
    }
  }

  template <class Memory>
  __device__ void store(const Arguments &p, Memory &m, const Projection &projection, bool with_C) const {
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++)
      if (j * THREADS + threadIdx.x < CHUNK_VALUES) m.x[j * THREADS + threadIdx.x] = x[j];
#pragma unroll
    for (int j = 0; j < STATE_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x;
      if (i < STEPS * PADDED) {
        m.B[i / STATES].n[i % STATES] = B[j];
        if (with_C) m.C[i / STATES].n[i % STATES] = C[j];
      }
    }
#pragma unroll
    for (int j = 0; j < RANK_LOADS; j++)
      if (j * THREADS + threadIdx.x < STEPS * p.rank) projection.ranks[j * THREADS + threadIdx.x] = ranks[j];
  }

  // The steps' lengths, 0 outside the sequence. Projects delta, once `ranks` are in shared memory.
  __device__ void store_steps(const Arguments &p, const Place &at, int first_step, const Projection &projection,
                              float *steps) const {
    float raw[CHANNEL_LOADS];
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++) raw[j] = at.bias + (RANK_LOADS ? 0.f : delta[j]);
    if (RANK_LOADS)
      for (int r = 0; r < p.rank; r++) {
        const float weight = projection.weight[r * WEIGHT_ROW + at.staged_row];
#pragma unroll
        for (int j = 0; j < CHANNEL_LOADS; j++) {
          const int row = (j * THREADS + threadIdx.x) / CHANNELS;
          if (row < STEPS) raw[j] = fmaf(projection.ranks[row * p.rank + r], weight, raw[j]);
        }
      }
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x, step = first_step + i / CHANNELS;
      if (i >= CHUNK_VALUES) continue;
      const float softplus = raw[j] > 20.f ? raw[j] : log1pf(expf(raw[j]));
      steps[i] = at.stages && step < p.pixels ? (SOFTPLUS ? softplus : raw[j]) : 0.f;
    }
  }
};

__device__ inline float exp2_approx(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return exp2f(x);
#endif
}

__device__ inline Vector parameter_row(const Arguments &p, const Place &at) {
  Vector A;
  for (int i = 0; i < STATES; i++) {
    const int n = at.lane * STATES + i;
    A.n[i] = at.computes && n < p.states ? p.A[at.parameters(p, at.channel) * p.states + n] : 0.f;
  }
  return A;
}

// The weight's rows for this block's channels; `dweight` is set to zero, if given.
__device__ inline void load_projection(const Arguments &p, const Place &at, const Projection &projection, float *dweight) {
  if (!RANK_LOADS) return;
  for (int i = threadIdx.x; i < p.rank * CHANNELS; i += THREADS) {
    const int r = i / CHANNELS, at_weight = r * WEIGHT_ROW + at.staged_row;  // i % CHANNELS is the staged row
    projection.weight[at_weight] = at.stages ? p.delta_weight[at.parameters(p, at.staged_channel) * p.rank + r] : 0.f;
    if (dweight) dweight[at_weight] = 0.f;
  }
}

__device__ inline Vector *saved_state(const Arguments &p, const Place &at, int image, int chunk) {
  const int saved = (p.pixels + STEPS - 1) / STEPS - 1;  // none before the first chunk, where it is zero
  const offset_t sequence = (offset_t)image * p.directions + at.direction;
  return (Vector *)p.saved_states + ((sequence * saved + chunk - 1) * p.channels + at.channel) * LANES + at.lane;
}

__device__ inline float sum_of_lanes(float value) {
#pragma unroll
  for (int other = 1; other < LANES; other *= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}

