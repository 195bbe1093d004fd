// The forward pass; follows common.cuh.

struct ForwardMemory {
  Vector B[STEPS * LANES], C[STEPS * LANES];
  float x[CHUNK_VALUES], steps[CHUNK_VALUES], y[CHUNK_VALUES];
};

static_assert(sizeof(ForwardMemory) == FORWARD_BYTES, "shared memory as the caller counts it");

// Writes y; or, with SAVE, only the state before each chunk but the first of a sequence.
template <bool SAVE>
__device__ inline void forward(const Arguments &p) {
  SHARED_MEMORY(memory);
  ForwardMemory &m = *(ForwardMemory *)memory;
  const Projection projection(memory + sizeof(ForwardMemory) / 4, p.rank);
  const Place at(p);
  const Vector A = parameter_row(p, at);
  const float D = at.computes ? p.D[at.parameters(p, at.channel)] : 0.f;
  const int chunks = (p.pixels + STEPS - 1) / STEPS;
  Loaded<false> loaded;
  Vector h;
  loaded.load(p, at, at.first_image, 0, !SAVE);
  load_projection(p, at, projection, nullptr);
  for (int image = at.first_image; image < at.last_image; image++)
    for (int chunk = 0; chunk < chunks; chunk++) {
      loaded.store(p, m, projection, !SAVE);
      if (RANK_LOADS) __syncthreads();
      loaded.store_steps(p, at, chunk * STEPS, projection, m.steps);
      __syncthreads();
      if (chunk + 1 < chunks)
        loaded.load(p, at, image, (chunk + 1) * STEPS, !SAVE);
      else if (image + 1 < at.last_image)
        loaded.load(p, at, image + 1, 0, !SAVE);
      if (chunk == 0)
        for (int i = 0; i < STATES; i++) h.n[i] = 0.f;
      else if (SAVE && at.computes)
        *saved_state(p, at, image, chunk) = h;
#pragma unroll 8
      for (int t = 0; t < STEPS; t++) {
        const float step = m.steps[t * CHANNELS + at.row], x = m.x[t * CHANNELS + at.row];
        const Vector B = m.B[t * LANES + at.lane];
        float y = 0.f;
#pragma unroll
        for (int i = 0; i < STATES; i++) {
          h.n[i] = exp2_approx(step * A.n[i]) * h.n[i] + step * x * B.n[i];
          if (!SAVE) y += h.n[i] * m.C[t * LANES + at.lane].n[i];
        }
        if (SAVE) continue;
        y = sum_of_lanes(y);
        if (at.lane == 0) m.y[t * CHANNELS + at.row] = y + D * x;
      }
      __syncthreads();
      if (SAVE) continue;
#pragma unroll
      for (int j = 0; j < CHANNEL_LOADS; j++) {
        const int i = j * THREADS + threadIdx.x, step = chunk * STEPS + i / CHANNELS;
        if (i >= CHUNK_VALUES || !at.stages || step >= p.pixels) continue;
        float *y = p.y + x_offset(p, at, image, pixel_at(p, at.direction, step));
        if (FOUR_DIRECTIONS)
          atomicAdd(y, m.y[i]);
        else
          *y = m.y[i];
      }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_forward(const Arguments p) { forward<false>(p); }

extern "C" __global__ void __launch_bounds__(THREADS) scan_states(const Arguments p) { forward<true>(p); }

