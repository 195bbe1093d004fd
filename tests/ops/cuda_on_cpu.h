// Runs a CUDA kernel's source on a CPU, one block after the other, to test it where there is no GPU.
//
// The threads of a block are fibres. They change at every barrier and every shuffle, each time in a new random
// order, so that a missing barrier changes the result; blocks run in random order, too. Shared memory starts as NaN.
// Threads that wait for different barriers, or shuffles that not all threads of a warp reach, abort the process.
//
// With COUNT, each access of a warp to shared memory and to global inputs is recorded: bank conflicts, and the
// 32-byte sectors that are read against the bytes that are needed.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#ifdef COUNT
#include <map>
#include <set>
#include <vector>
#endif

#define __global__
#define __device__
#define __launch_bounds__(...)
#define SHARED_MEMORY(name) float *name = emulation::shared

struct Index {
  unsigned x, y;
};
static Index threadIdx, blockIdx;
static inline int min(int a, int b) { return a < b ? a : b; }

namespace emulation {
enum Wait { NOTHING, WARP, BLOCK };
constexpr int MOST_THREADS = 128, STACK = 64 << 10, GUARD = 64;
struct Fibre {
  ucontext_t start;  // entered once; afterwards setjmp, which makes no system call
  jmp_buf at;
  bool started, done;
  Wait waits;
};
static Fibre fibres[MOST_THREADS];
static char stacks[MOST_THREADS][STACK];
static float offered[MOST_THREADS];  // what each thread gives to its warp in a shuffle
static float *shared;
static void (*body)();
static jmp_buf scheduler;
static int current;
static uint64_t random_state = 1;

static unsigned random_below(unsigned bound) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (random_state >> 33) % bound;
}

static void shuffle(int *values, int count) {
  for (int i = count - 1; i > 0; i--) {
    const int j = random_below(i + 1), value = values[i];
    values[i] = values[j];
    values[j] = value;
  }
}

#ifdef COUNT
struct Access {
  const char *address;
  int bytes;
  bool in_shared;
};
// Accesses of the threads of each warp since its threads last met: by the place in the code, and how often a
// thread has been there.
static std::map<std::pair<void *, int>, std::vector<Access>> accesses[MOST_THREADS / 32];
static std::map<void *, int> visits[MOST_THREADS];
static long shared_cycles, conflicts, sectors, needed_bytes;

__attribute__((noinline)) static void record(const void *address, int bytes, bool in_shared) {
  void *site = __builtin_return_address(0);
  accesses[current / 32][{site, visits[current][site]++}].push_back({(const char *)address, bytes, in_shared});
}

static void summarise(int warp) {
  for (auto &[key, threads] : accesses[warp]) {
    if (!threads[0].in_shared) {
      std::set<uintptr_t> touched, bytes;
      for (Access &a : threads)
        for (int i = 0; i < a.bytes; i++) touched.insert((uintptr_t)(a.address + i) / 32), bytes.insert((uintptr_t)a.address + i);
      sectors += touched.size();
      needed_bytes += bytes.size();
      continue;
    }
    const size_t group = 128 / threads[0].bytes;  // threads that are served together
    for (size_t first = 0; first < threads.size(); first += group) {
      std::set<uintptr_t> words[32];
      for (size_t i = first; i < first + group && i < threads.size(); i++)
        for (int b = 0; b < threads[i].bytes; b += 4) {
          const uintptr_t word = (uintptr_t)(threads[i].address + b) / 4;
          words[word % 32].insert(word);
        }
      size_t cycles = 1;
      for (auto &bank : words) cycles = bank.size() > cycles ? bank.size() : cycles;
      shared_cycles += cycles;
      conflicts += cycles - 1;
    }
  }
  accesses[warp].clear();
  for (int i = 32 * warp; i < 32 * warp + 32; i++) visits[i].clear();
}

template <class T>
struct Counted {
  T value;
  __attribute__((always_inline)) operator T() const { return record(this, sizeof(T), true), value; }
  __attribute__((always_inline)) void operator=(const T &v) { record(this, sizeof(T), true), value = v; }
  __attribute__((always_inline)) void operator+=(const T &v) { record(this, sizeof(T), true), value += v; }
};
#define SHARED(type) emulation::Counted<type>
#define READ(address) (emulation::record(address, sizeof(*(address)), false), *(address))
#else
static void summarise(int) {}
#define SHARED(type) type
#define READ(address) (*(address))
#endif

static inline void change() {
  if (!_setjmp(fibres[current].at)) _longjmp(scheduler, 1);
}

static inline void wait(Wait kind) {
  fibres[current].waits = kind;
  change();
}

static void run() {
  body();
  fibres[current].done = true;
  change();
}

static void resume(int i) {
  current = i;
  threadIdx = {(unsigned)i, 0};
  if (_setjmp(scheduler)) return;
  if (fibres[i].started) _longjmp(fibres[i].at, 1);
  fibres[i].started = true;
  setcontext(&fibres[i].start);
}

// Lets the threads [from, to) continue once all of them that are not done wait for `kind`.
static bool release(int from, int to, Wait kind) {
  bool any = false;
  for (int i = from; i < to; i++) {
    if (fibres[i].done) continue;
    if (fibres[i].waits != kind) return false;
    any = true;
  }
  for (int i = from; i < to; i++) fibres[i].waits = NOTHING;
  return any;
}

static void block(int threads) {
  int order[MOST_THREADS];
  for (int i = 0; i < threads; i++) {
    order[i] = i;
    offered[i] = NAN;
    Fibre &fibre = fibres[i];
    fibre.done = fibre.started = false;
    fibre.waits = NOTHING;
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = stacks[i];
    fibre.start.uc_stack.ss_size = STACK;
    makecontext(&fibre.start, run, 0);
  }
  for (int left = threads; left;) {
    bool moved = false;
    shuffle(order, threads);
    for (int k = 0; k < threads; k++) {
      const int i = order[k];
      if (fibres[i].done || fibres[i].waits) continue;
      resume(i);
      left -= fibres[i].done;
      moved = true;
    }
    for (int warp = 0; warp < threads; warp += 32)
      if (release(warp, warp + 32, WARP)) summarise(warp / 32), moved = true;
    if (release(0, threads, BLOCK) || !left) {
      for (int warp = 0; warp < threads / 32; warp++) summarise(warp);
      moved = true;
    }
    if (!moved) {
      fprintf(stderr, "block (%u, %u): its threads wait for different barriers\n", blockIdx.x, blockIdx.y);
      abort();
    }
  }
}

// Runs all blocks. Returns false where a block wrote behind its shared memory.
static bool launch(int grid_x, int grid_y, int threads, int shared_bytes, void (*kernel)()) {
  const int size = shared_bytes / 4, blocks = grid_x * grid_y;
  bool inside = threads <= MOST_THREADS;
  shared = (float *)aligned_alloc(128, (shared_bytes + 4 * GUARD + 127) / 128 * 128);
  int *order = (int *)malloc(blocks * sizeof(int));
  for (int i = 0; i < blocks; i++) order[i] = i;
  shuffle(order, blocks);
  body = kernel;
  for (int k = 0; k < blocks && inside; k++) {
    blockIdx = {(unsigned)(order[k] % grid_x), (unsigned)(order[k] / grid_x)};
    for (int i = 0; i < size + GUARD; i++) shared[i] = NAN;
    block(threads);
    for (int i = 0; i < GUARD; i++) inside = inside && isnan(shared[size + i]);
  }
  free(order);
  free(shared);
  return inside;
}
}  // namespace emulation

// The line of a barrier that is left out, to see that the tests notice it.
extern "C" int barrier_left_out;
int barrier_left_out = 0;
#define __syncthreads() (__LINE__ == barrier_left_out ? (void)0 : emulation::wait(emulation::BLOCK))

static inline float __shfl_xor_sync(unsigned, float value, int mask) {
  const int thread = emulation::current;
  emulation::offered[thread] = value;
  emulation::wait(emulation::WARP);
  value = emulation::offered[thread ^ mask];
  emulation::wait(emulation::WARP);
  return value;
}

static inline void atomicAdd(float *target, float value) { *target += value; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
static inline float exp2_approx(float x) { return exp2f(x); }

static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// Half precision: 5 bits of exponent, 10 of mantissa.
static inline float half_value(unsigned short bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float value = exponent == 31 ? (mantissa ? NAN : INFINITY)
                      : exponent     ? ldexpf(1024 + mantissa, exponent - 25)
                                     : ldexpf(mantissa, -24);
  return bits >> 15 ? -value : value;
}
