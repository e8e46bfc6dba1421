// What a tensor stores, what it is computed in, and 16-byte accesses. No header is included, so that NVRTC alone
// compiles it. SCALAR_float32, _float64, _float16 or _bfloat16 is defined by whoever compiles.
#pragma once

#ifndef HOST_SHIM  // a C++ compiler takes the place of the device in the tests
#pragma nv_diag_suppress 177  // variables that some of the kernels made of a source do not need
#define LAUNCH_BOUNDS(threads) __launch_bounds__(threads)
struct alignas(16) Bits128 { unsigned int word[4]; };
#endif

#if defined(SCALAR_float64)
typedef double scalar_t;
typedef double compute_t;
__device__ __forceinline__ compute_t to_compute(scalar_t v) { return v; }
__device__ __forceinline__ scalar_t to_scalar(compute_t v) { return v; }
#elif defined(SCALAR_float32)
typedef float scalar_t;
typedef float compute_t;
__device__ __forceinline__ compute_t to_compute(scalar_t v) { return v; }
__device__ __forceinline__ scalar_t to_scalar(compute_t v) { return v; }
#elif defined(SCALAR_float16)
typedef unsigned short scalar_t;
typedef float compute_t;
#ifdef HOST_SHIM
__device__ __forceinline__ compute_t to_compute(scalar_t v) { return half_to_float(v); }
__device__ __forceinline__ scalar_t to_scalar(compute_t v) { return float_to_half(v); }
#else
__device__ __forceinline__ compute_t to_compute(scalar_t v) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(v));
    return result;
}
__device__ __forceinline__ scalar_t to_scalar(compute_t v) {
    scalar_t result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(v));
    return result;
}
#endif
#elif defined(SCALAR_bfloat16)
typedef unsigned short scalar_t;
typedef float compute_t;
union FloatBits { float value; unsigned int bits; };
__device__ __forceinline__ compute_t to_compute(scalar_t v) {
    FloatBits u;
    u.bits = static_cast<unsigned int>(v) << 16;
    return u.value;
}
__device__ __forceinline__ scalar_t to_scalar(compute_t v) {  // to nearest, ties to even
    FloatBits u;
    u.value = v;
    if (v != v) return 0x7fc0;
    return static_cast<scalar_t>((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
}
#else
#error "define SCALAR_float32, SCALAR_float64, SCALAR_float16 or SCALAR_bfloat16"
#endif

// PACK consecutive elements: 16 bytes, or a single element where addresses or sizes are not multiples of that.
struct Pack { compute_t value[PACK]; };

__device__ __forceinline__ Pack load_pack(const scalar_t* address) {
    Pack result;
#if PACK == 1
    result.value[0] = to_compute(*address);
#else
    union { Bits128 bits; scalar_t element[PACK]; } raw;
    raw.bits = *reinterpret_cast<const Bits128*>(address);
#pragma unroll
    for (int i = 0; i < PACK; ++i) result.value[i] = to_compute(raw.element[i]);
#endif
    return result;
}

__device__ __forceinline__ void store_pack(scalar_t* address, const Pack& pack) {
#if PACK == 1
    *address = to_scalar(pack.value[0]);
#else
    union { Bits128 bits; scalar_t element[PACK]; } raw;
#pragma unroll
    for (int i = 0; i < PACK; ++i) raw.element[i] = to_scalar(pack.value[i]);
    *reinterpret_cast<Bits128*>(address) = raw.bits;
#endif
}
