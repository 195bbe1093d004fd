// Runs a CUDA kernel's source on a CPU, one block after the other, to test it where there is no GPU.
//
// The threads of a block are fibres. They change at every barrier and every shuffle, each time in a new random
// order, so that a missing barrier changes the result. Shared memory starts as NaN. Threads that wait for different
// barriers, or shuffles that not all threads of a warp reach, abort the process.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define SHARED_MEMORY(name) float *name = emulation::shared_memory()

struct Index {
  unsigned x, y;
};
inline Index threadIdx, blockIdx;
using std::min;

namespace emulation {
enum Wait { NOTHING, WARP, BLOCK };
struct Fibre {
  ucontext_t context;
  std::vector<char> stack;
  bool done = false;
  Wait waits = NOTHING;
};
inline std::vector<Fibre> fibres;
inline std::vector<float> offered;  // what each thread gives to its warp in a shuffle
inline std::vector<float> shared;
inline std::function<void()> body;
inline std::mt19937 random_order(0);
inline ucontext_t scheduler;
inline int current;

inline void wait(Wait kind) {
  fibres[current].waits = kind;
  swapcontext(&fibres[current].context, &scheduler);
}

inline void run() {
  body();
  fibres[current].done = true;
  swapcontext(&fibres[current].context, &scheduler);
}

// Lets the threads [from, to) continue once all of them that are not done wait for `kind`.
inline bool release(int from, int to, Wait kind) {
  bool any = false;
  for (int i = from; i < to; i++) {
    if (fibres[i].done) continue;
    if (fibres[i].waits != kind) return false;
    any = true;
  }
  for (int i = from; i < to; i++) fibres[i].waits = NOTHING;
  return any;
}

inline void block(int threads) {
  if ((int)fibres.size() != threads) {
    fibres.assign(threads, Fibre());
    for (Fibre &fibre : fibres) fibre.stack.resize(64 << 10);
  }
  offered.assign(threads, NAN);
  std::vector<int> order(threads);
  for (int i = 0; i < threads; i++) {
    order[i] = i;
    Fibre &fibre = fibres[i];
    fibre.done = false;
    fibre.waits = NOTHING;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.data();
    fibre.context.uc_stack.ss_size = fibre.stack.size();
    makecontext(&fibre.context, run, 0);
  }
  for (int left = threads; left;) {
    bool moved = false;
    std::shuffle(order.begin(), order.end(), random_order);
    for (int i : order) {
      if (fibres[i].done || fibres[i].waits) continue;
      current = i;
      threadIdx = {(unsigned)i, 0};
      swapcontext(&scheduler, &fibres[i].context);
      left -= fibres[i].done;
      moved = true;
    }
    for (int warp = 0; warp < threads; warp += 32) moved |= release(warp, std::min(warp + 32, threads), WARP);
    moved |= release(0, threads, BLOCK);
    if (!moved) {
      std::fprintf(stderr, "block (%u, %u): its threads wait for different barriers\n", blockIdx.x, blockIdx.y);
      std::abort();
    }
  }
}

// 16-byte aligned, as the shared memory of a GPU.
inline float *shared_memory() { return (float *)(((uintptr_t)shared.data() + 15) & ~(uintptr_t)15); }

// Runs all blocks. Returns false where a block wrote behind its shared memory.
template <class Kernel>
bool launch(int grid_x, int grid_y, int threads, int shared_bytes, Kernel kernel) {
  const int size = shared_bytes / 4, guard = 64;
  body = kernel;
  for (int y = 0; y < grid_y; y++)
    for (int x = 0; x < grid_x; x++) {
      blockIdx = {(unsigned)x, (unsigned)y};
      shared.assign(size + guard + 4, NAN);
      block(threads);
      for (int i = 0; i < guard; i++)
        if (!std::isnan(shared_memory()[size + i])) return false;
    }
  return true;
}
}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::BLOCK); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  const int thread = emulation::current;
  emulation::offered[thread] = value;
  emulation::wait(emulation::WARP);
  value = emulation::offered[thread ^ mask];
  emulation::wait(emulation::WARP);
  return value;
}

inline void atomicAdd(float *target, float value) { *target += value; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
