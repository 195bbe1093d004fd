// What only a GPU's compiler knows. Tests that run the kernels on a CPU put their own in its place.
#ifdef __CUDACC__
#define SHARED_MEMORY(name) extern __shared__ __align__(16) float name[]
#define SHARED(type) type         // a type of values in shared memory
#define READ(address) (*(address))  // from global memory

__device__ inline float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The half-precision number with these bits.
__device__ inline float half_value(unsigned short bits) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(bits));
  return result;
}
#endif
