// Splits sequences, so that a few long ones fill the GPU, and so that the backward pass keeps little; follows
// common.cuh.
//
// scan_segments takes each segment alone, as if nothing came before or after it. scan_carry then goes through the
// segments of a sequence, forwards for the states and backwards for their gradients: what one hands on is what it
// was handed, times exp(A * the sum of its steps), plus its own.

struct SegmentMemory {
  SharedVector B[STEPS * LANES], C[STEPS * LANES];
  SharedFloat x[CHUNK_VALUES], steps[CHUNK_VALUES], dy[CHUNK_VALUES];
};

static_assert(sizeof(SegmentMemory) == SEGMENT_BYTES, "shared memory as the caller counts it");

// Writes the state behind each segment, the sum of its steps, and (GRADIENTS) the gradient dLoss/dh that the steps
// before it get from it: sum_t C_t dy_t times the decays of all steps up to t.
template <bool GRADIENTS>
__device__ inline void segments(const Arguments &p) {
  constexpr Needs NEEDS = GRADIENTS ? FOR_GRADIENTS : STATES_ONLY;
  SHARED_MEMORY(memory);
  SegmentMemory &m = *(SegmentMemory *)memory;
  const Projection projection(memory + sizeof(SegmentMemory) / 4, p.rank);
  const Place at(p);
  const int image = at.first_image;
  const Vector A = parameter_row(p, at);
  Loaded<NEEDS> loaded;
  Vector h = zeros(), g = zeros(), decays;
  for (int n = 0; n < STATES; n++) decays.n[n] = 1.f;
  float length = 0.f;
  loaded.load(p, at, image, 0);
  load_projection(p, at, projection, nullptr);
  for (int chunk = 0; chunk < at.chunks; chunk++) {
    loaded.stage(p, at, chunk, m, projection);
    if (chunk + 1 < at.chunks) loaded.load(p, at, image, chunk + 1);
#pragma unroll 4
    for (int t = 0; t < STEPS; t++) {
      const int i = t * CHANNELS + at.row;
      const float step = m.steps[i], drive = step * m.x[i];
      const Vector B = m.B[t * LANES + at.lane];
      length += step;
      if (GRADIENTS) {
        const float dy = m.dy[i];
        const Vector C = m.C[t * LANES + at.lane];
#pragma unroll
        for (int n = 0; n < STATES; n++) {
          const float decay = exp2_approx(step * A.n[n]);
          h.n[n] = fmaf(decay, h.n[n], drive * B.n[n]);
          decays.n[n] *= decay;
          g.n[n] = fmaf(decays.n[n], C.n[n] * dy, g.n[n]);
        }
      } else {
#pragma unroll
        for (int n = 0; n < STATES; n++) h.n[n] = fmaf(exp2_approx(step * A.n[n]), h.n[n], drive * B.n[n]);
      }
    }
    __syncthreads();
  }
  if (!at.computes) return;
  *carried(p, at, p.states_before, image) = h;
  if (GRADIENTS) *carried(p, at, p.gradients_behind, image) = g;
  if (at.lane == 0) p.lengths[(((offset_t)image * p.directions + at.direction) * p.segments + at.segment) * p.channels + at.channel] = length;
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_segments(const Arguments p) {
  segments<SEGMENT_GRADIENTS>(p);
}

// Turns what scan_segments wrote, in place, into the states before each segment and the gradients behind it.
extern "C" __global__ void __launch_bounds__(THREADS) scan_carry(const Arguments p) {
  const offset_t i = (offset_t)blockIdx.x * THREADS + threadIdx.x;
  const int n = i % PADDED;
  const offset_t sequence = i / PADDED / p.channels;
  const int channel = i / PADDED % p.channels, direction = sequence % p.directions;
  if (sequence >= (offset_t)p.images * p.directions || n >= p.states) return;
  const float A = LOG2E * p.A[((offset_t)direction * p.channels + channel) * p.states + n];
  const offset_t first = sequence * p.segments;
  float carry = 0.f;
#pragma unroll 4
  for (int s = 0; s < p.segments; s++) {
    const offset_t at = (first + s) * p.channels + channel;
    float &state = p.states_before[at * PADDED + n];
    const float own = state;
    state = carry;
    carry = carry == 0.f ? own : fmaf(exp2_approx(A * p.lengths[at]), carry, own);  // 0 stays 0, whatever the growth
  }
  if (!SEGMENT_GRADIENTS) return;
  carry = 0.f;
#pragma unroll 4
  for (int s = p.segments - 1; s >= 0; s--) {
    const offset_t at = (first + s) * p.channels + channel;
    float &gradient = p.gradients_behind[at * PADDED + n];
    const float own = gradient;
    gradient = carry;
    carry = carry == 0.f ? own : fmaf(exp2_approx(A * p.lengths[at]), carry, own);
  }
}
