// The selective scan on a GPU, forward and backward; all directions of a map read the same memory.
//
// A block computes CHANNELS channels of one direction of some images, a chunk of STEPS steps at a time. LANES
// neighbouring threads share a channel; each holds STATES of its states in registers and takes the steps one by
// one. What a chunk reads is staged in shared memory; the next chunk is loaded into registers meanwhile.
// A long sequence is split into segments, each of which is a block's: see segments.cuh.
// Sums over directions (y, dx) and over blocks (all other gradients) are atomic additions; with p.separate every
// addend gets its own memory, and the caller adds them up in a fixed order.
//
// `struct Arguments` (arguments.py) precedes this file. Macros that the caller defines: LANES, STATES, THREADS,
// STEPS, RANK_LOADS (values that a thread loads for a chunk to project delta from; 0 where delta is given),
// X_TYPE and PROJECTED_TYPE (of x and dy, and of delta, B and C: 0 float, 1 half, 2 bfloat16), SOFTPLUS,
// FOUR_DIRECTIONS.

typedef long long offset_t;

constexpr int WARPS = THREADS / 32;
constexpr int CHANNELS = THREADS / LANES;
constexpr int PADDED = LANES * STATES;  // states of a channel; those beyond N stay zero
constexpr int CHUNK_VALUES = STEPS * CHANNELS;
constexpr int CHANNEL_LOADS = (CHUNK_VALUES + THREADS - 1) / THREADS;
constexpr int STATE_LOADS = (STEPS * PADDED + THREADS - 1) / THREADS;
constexpr int WEIGHT_ROW = CHANNELS + 1;  // padded: threads that differ in the rank use different banks
constexpr float LN2 = 0.69314718f, LOG2E = 1.44269504f;

struct alignas(4 * STATES) Vector {  // the states of one thread
  float n[STATES];
};

typedef SHARED(float) SharedFloat;
typedef SHARED(Vector) SharedVector;

// Where the values for a projected delta are, behind the memory of a pass.
struct Projection {
  SharedFloat *ranks;    // (STEPS, rank)
  SharedFloat *weight;   // (rank, WEIGHT_ROW)
  SharedFloat *dweight;  // (rank, WEIGHT_ROW), in the backward pass
  __device__ Projection(float *memory, int rank)
      : ranks((SharedFloat *)memory), weight(ranks + STEPS * rank), dweight(weight + rank * WEIGHT_ROW) {}
};

// What a thread of a block works on.
struct Place {
  int direction, segment, first_image, last_image;
  int first_step, chunks;         // of the segment
  int lane, row, channel;         // this thread's channel: `row` of the block, and which of its lanes
  int staged_row, staged_channel; // the channel for which it loads and stores
  bool computes, stages;          // whether these channels exist
  int part;                       // among blocks that add to the same parameters' gradients
  float bias;                     // of the staged channel

  __device__ explicit Place(const Arguments &p) {
    const int first_channel = blockIdx.y * CHANNELS;
    part = blockIdx.x / p.directions;
    direction = blockIdx.x % p.directions;
    segment = part % p.segments;
    first_image = part / p.segments * p.images_per_block;
    last_image = min(first_image + p.images_per_block, p.images);
    first_step = segment * p.segment_chunks * STEPS;
    chunks = min(p.segment_chunks, (p.pixels - first_step + STEPS - 1) / STEPS);
    lane = threadIdx.x % LANES;
    row = threadIdx.x / LANES;
    channel = first_channel + row;
    computes = channel < p.channels;
    staged_row = threadIdx.x % CHANNELS;
    staged_channel = first_channel + staged_row;
    stages = staged_channel < p.channels;
    bias = stages ? READ(p.delta_bias + direction * p.channels + staged_channel) : 0.f;
  }

  // Index of a channel's parameters.
  __device__ offset_t parameters(const Arguments &p, int of) const { return (offset_t)direction * p.channels + of; }

  // Index of the gradients of a channel's parameters.
  __device__ offset_t gradients(const Arguments &p, int of) const {
    return (offset_t)(part * p.separate * p.directions + direction) * p.channels + of;
  }
};

// The pixel that a direction reads at a step. The upper half of t * p.by_height is t / height.
__device__ inline int pixel_at(const Arguments &p, int direction, int step) {
  if (!FOUR_DIRECTIONS) return step;
  const unsigned t = direction >= 2 ? p.pixels - 1 - step : step;
  if (direction % 2 == 0 || p.height == 1) return t;
  const unsigned column = __umulhi(t, p.by_height);
  return (t - column * p.height) * p.width + column;
}

// Indices of a pixel within an image of x, and within a contiguous (pixels, directions, width) tensor. Within an image,
// 32 bits suffice; the caller checks it.
__device__ inline int x_at(const Arguments &p, const Place &at, int pixel) {
  return pixel * p.x_pixel_stride + at.direction * p.x_direction_stride + at.staged_channel;
}

__device__ inline int row_at(const Arguments &p, const Place &at, int pixel, int width) {
  return (pixel * p.directions + at.direction) * width;
}

// The images of y or dx.
__device__ inline float *sum_of_directions(const Arguments &p, const Place &at, float *tensor, int image) {
  return tensor + (offset_t)(p.separate * FOUR_DIRECTIONS * at.direction * p.images + image) * p.pixels * p.x_pixel_stride;
}

// The images of a contiguous (images, pixels, directions, width) tensor of sums over all channels' blocks.
__device__ inline float *sum_of_channels(const Arguments &p, float *tensor, int image, int width) {
  return tensor + (offset_t)(p.separate * blockIdx.y * p.images + image) * p.pixels * p.directions * width;
}

// An input tensor from some element on.
template <int TYPE>
struct Input {
  const void *first;
  __device__ Input(const void *tensor, offset_t offset) : first((const char *)tensor + offset * (TYPE == 0 ? 4 : 2)) {}

  // An element, as float.
  __device__ float operator[](int i) const {
    if (TYPE == 0) return READ((const float *)first + i);
    const unsigned short bits = READ((const unsigned short *)first + i);
    if (TYPE == 1) return half_value(bits);
    return __uint_as_float((unsigned)bits << 16);
  }
};

// What a kernel needs of a chunk: for the states only, with C for y, with dy for gradients.
enum Needs { STATES_ONLY, FOR_Y, FOR_GRADIENTS };

// A chunk's inputs in this thread's registers.
template <Needs NEEDS>
struct Loaded {
  float x[CHANNEL_LOADS], dy[CHANNEL_LOADS], delta[CHANNEL_LOADS], B[STATE_LOADS], C[STATE_LOADS];
  float ranks[RANK_LOADS + 1];

  // `all`: else without dy and C
  __device__ void load(const Arguments &p, const Place &at, int image, int chunk, bool all = true) {
    const offset_t x_offset = (offset_t)image * p.pixels * p.x_pixel_stride;
    const Input<X_TYPE> x_image(p.x, x_offset), dy_image(p.dy, x_offset);
    const Input<PROJECTED_TYPE> delta_image(p.delta, image * p.delta_image_stride + at.direction * p.delta_direction_stride),
        B_image(p.B, image * p.B_image_stride + at.direction * p.B_direction_stride),
        C_image(p.C, image * p.C_image_stride + at.direction * p.C_direction_stride);
    const int first_step = at.first_step + chunk * STEPS;
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++) {
      const int row = (j * THREADS + threadIdx.x) / CHANNELS, step = first_step + row;
      const bool valid = at.stages && row < STEPS && step < p.pixels;
      const int pixel = valid ? pixel_at(p, at.direction, step) : 0, i = x_at(p, at, pixel);
      x[j] = valid ? x_image[i] : 0.f;
      if (NEEDS == FOR_GRADIENTS) dy[j] = valid && all ? dy_image[i] : 0.f;
      if (!RANK_LOADS) delta[j] = valid ? delta_image[pixel * p.delta_pixel_stride + at.staged_channel] : 0.f;
    }
#pragma unroll
    for (int j = 0; j < STATE_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x, step = first_step + i / PADDED, n = i % PADDED;
      const bool valid = i < STEPS * PADDED && n < p.states && step < p.pixels;
      const int pixel = valid ? pixel_at(p, at.direction, step) : 0;
      B[j] = valid ? B_image[pixel * p.B_pixel_stride + n] : 0.f;
      if (NEEDS != STATES_ONLY) C[j] = valid && all ? C_image[pixel * p.C_pixel_stride + n] : 0.f;
    }
#pragma unroll
    for (int j = 0; j < RANK_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x, row = i / p.rank, step = first_step + row;
      const bool valid = i < STEPS * p.rank && step < p.pixels;
      const int pixel = valid ? pixel_at(p, at.direction, step) : 0;
      ranks[j] = valid ? delta_image[pixel * p.delta_pixel_stride + i - row * p.rank] : 0.f;
    }
  }

  template <class Memory>
  __device__ void store(const Arguments &p, Memory &m, const Projection &projection) const {
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++)
      if (j * THREADS + threadIdx.x < CHUNK_VALUES) {
        m.x[j * THREADS + threadIdx.x] = x[j];
        if constexpr (NEEDS == FOR_GRADIENTS) m.dy[j * THREADS + threadIdx.x] = dy[j];
      }
#pragma unroll
    for (int j = 0; j < STATE_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x;
      if (i < STEPS * PADDED) {
        ((SharedFloat *)m.B)[i] = B[j];
        if (NEEDS != STATES_ONLY) ((SharedFloat *)m.C)[i] = C[j];
      }
    }
#pragma unroll
    for (int j = 0; j < RANK_LOADS; j++)
      if (j * THREADS + threadIdx.x < STEPS * p.rank) projection.ranks[j * THREADS + threadIdx.x] = ranks[j];
  }

  // The steps' lengths, 0 outside the sequence. Projects delta, once `ranks` are in shared memory.
  __device__ void store_steps(const Arguments &p, const Place &at, int chunk, const Projection &projection,
                              SharedFloat *steps) const {
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
      const int i = j * THREADS + threadIdx.x, step = at.first_step + chunk * STEPS + i / CHANNELS;
      if (i >= CHUNK_VALUES) continue;
      const float softplus = raw[j] > 20.f ? raw[j] : log1pf(expf(raw[j]));
      steps[i] = at.stages && step < p.pixels ? (SOFTPLUS ? softplus : raw[j]) : 0.f;
    }
  }

  // Stages a chunk that was loaded; all threads see it afterwards.
  template <class Memory>
  __device__ void stage(const Arguments &p, const Place &at, int chunk, Memory &m, const Projection &projection) const {
    store(p, m, projection);
    if (RANK_LOADS) __syncthreads();
    store_steps(p, at, chunk, projection, m.steps);
    __syncthreads();
  }
};

__device__ inline Vector zeros() {
  Vector v;
  for (int n = 0; n < STATES; n++) v.n[n] = 0.f;
  return v;
}

// h after a step.
__device__ inline void advance(Vector &h, const Vector &A, const Vector &B, float step, float x) {
#pragma unroll
  for (int n = 0; n < STATES; n++) h.n[n] = exp2_approx(step * A.n[n]) * h.n[n] + step * x * B.n[n];
}

// This thread's part of A, times log2(e): the kernels compute with powers of 2.
__device__ inline Vector parameter_row(const Arguments &p, const Place &at) {
  Vector A;
  for (int i = 0; i < STATES; i++) {
    const int n = at.lane * STATES + i;
    const bool given = at.computes && n < p.states;
    A.n[i] = given ? LOG2E * READ(p.A + at.parameters(p, at.channel) * p.states + n) : 0.f;
  }
  return A;
}

// The weight's rows for this block's channels; `dweight` is set to zero, if given.
__device__ inline void load_projection(const Arguments &p, const Place &at, const Projection &projection,
                                       SharedFloat *dweight) {
  if (!RANK_LOADS) return;
  for (int i = threadIdx.x; i < p.rank * CHANNELS; i += THREADS) {
    const int row = i / p.rank, r = i - row * p.rank, channel = blockIdx.y * CHANNELS + row;
    projection.weight[r * WEIGHT_ROW + row] =
        channel < p.channels ? READ(p.delta_weight + at.parameters(p, channel) * p.rank + r) : 0.f;
    if (dweight) dweight[r * WEIGHT_ROW + row] = 0.f;
  }
}

// This thread's states at the start of a segment: h before its first step, or g behind its last one.
__device__ inline Vector *carried(const Arguments &p, const Place &at, float *tensor, int image) {
  const offset_t sequence = (offset_t)image * p.directions + at.direction;
  return (Vector *)tensor + ((sequence * p.segments + at.segment) * p.channels + at.channel) * LANES + at.lane;
}

__device__ inline Vector carried_in(const Arguments &p, const Place &at, float *tensor, int image) {
  return p.segments > 1 && at.computes ? *carried(p, at, tensor, image) : zeros();
}

__device__ inline float sum_of_lanes(float value) {
#pragma unroll
  for (int other = 1; other < LANES; other *= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}
