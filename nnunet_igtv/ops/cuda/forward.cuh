// The forward pass; follows common.cuh.

struct ForwardMemory {
  SharedVector B[STEPS * LANES], C[STEPS * LANES];
  SharedFloat x[CHUNK_VALUES], steps[CHUNK_VALUES], y[CHUNK_VALUES];
};

static_assert(sizeof(ForwardMemory) == FORWARD_BYTES, "shared memory as the caller counts it");

extern "C" __global__ void __launch_bounds__(THREADS) scan_forward(const Arguments p) {
  SHARED_MEMORY(memory);
  ForwardMemory &m = *(ForwardMemory *)memory;
  const Projection projection(memory + sizeof(ForwardMemory) / 4, p.rank);
  const Place at(p);
  const Vector A = parameter_row(p, at);
  const float D = at.computes ? READ(p.D + at.parameters(p, at.channel)) : 0.f;
  Loaded<FOR_Y> loaded;
  Vector h;
  int image = at.first_image, chunk = 0;
  loaded.load(p, at, image, chunk);
  load_projection(p, at, projection, nullptr);
  while (image < at.last_image) {
    if (chunk == 0) h = carried_in(p, at, p.states_before, image);
    loaded.stage(p, at, chunk, m, projection);
    const int next_image = chunk + 1 < at.chunks ? image : image + 1, next_chunk = chunk + 1 < at.chunks ? chunk + 1 : 0;
    if (next_image < at.last_image) loaded.load(p, at, next_image, next_chunk);
#pragma unroll 8
    for (int t = 0; t < STEPS; t++) {
      const float step = m.steps[t * CHANNELS + at.row], x = m.x[t * CHANNELS + at.row];
      const Vector B = m.B[t * LANES + at.lane], C = m.C[t * LANES + at.lane];
      advance(h, A, B, step, x);
      float y = 0.f;
#pragma unroll
      for (int n = 0; n < STATES; n++) y = fmaf(h.n[n], C.n[n], y);
      y = sum_of_lanes(y);
      if (at.lane == 0) m.y[t * CHANNELS + at.row] = fmaf(D, x, y);
    }
    __syncthreads();
    float *y = sum_of_directions(p, at, p.y, image);
#pragma unroll
    for (int j = 0; j < CHANNEL_LOADS; j++) {
      const int i = j * THREADS + threadIdx.x, step = at.first_step + chunk * STEPS + i / CHANNELS;
      if (i >= CHUNK_VALUES || !at.stages || step >= p.pixels) continue;
      const int target = x_at(p, at, pixel_at(p, at.direction, step));
      if (FOUR_DIRECTIONS)
        atomicAdd(y + target, m.y[i]);
      else
        y[target] = m.y[i];
    }
    image = next_image;
    chunk = next_chunk;
  }
}
