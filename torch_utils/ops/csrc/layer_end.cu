// What follows a convolution, y = clamp(gain * act(x * scale + strength * noise + b)), and its gradient with the sums over
// pixels that the gradients of scale, bias and strength are made of; channels last.
//
// A thread has a pack of channels of one image and goes through some of its pixels: those that lie p.slots apart, so
// that neighbouring threads read neighbouring memory. Its sums stay in registers and are written at its end, to be added
// over the slots; no two threads write the same number.
//
// Memory for one output of e bytes: the function reads and writes e + e; the gradient reads g, y and, where there is a
// scale, x, and writes dx: 3 e + e. The noise adds e / channels, the sums 12 bytes a channel for each SLOT_PIXELS pixels.
// Arithmetic is 5 operations an output, of the gradient 8: memory decides.
//
// Defined by whoever compiles:
//   GRADIENT         or the function
//   ACT_linear, ACT_lrelu
//   HAS_SCALE, HAS_NOISE, HAS_BIAS (of the function), HAS_CLAMP
//   THREADS, PACK, SCALAR_<dtype>
#include "scalar.cuh"

struct Params {
    scalar_t* y;             // result: y, or dx
    const scalar_t* x;       // [images, pixels, channels]; of the gradient null where there is no scale
    const scalar_t* scale;   // [images, channels]
    const scalar_t* noise;   // [images, pixels], or [1, pixels]
    const scalar_t* strength;
    const scalar_t* b;       // [channels]
    const scalar_t* g;       // gradient of y
    const scalar_t* of_y;    // y, whose sign and size tell the slope
    float* sums;             // [3, images, slots, channels]: of dz * x, dz and dz * noise, dz being that before act
    long long images, pixels, channels, slots;
    long long noise_step;    // pixels between the noise of two images; 0: they share one
    double alpha, gain, clamp;
};

__device__ __forceinline__ compute_t slope_at(compute_t y, const Params& p) {
#ifdef HAS_CLAMP
    const compute_t bound = to_compute(to_scalar(compute_t(p.clamp)));  // as it was stored
    if (y >= bound || y <= -bound) return 0;
#endif
#ifdef ACT_lrelu
    return y > 0 ? compute_t(p.gain) : compute_t(p.gain) * compute_t(p.alpha);
#else
    return compute_t(p.gain);
#endif
}

__device__ __forceinline__ Pack filled(compute_t value) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < PACK; ++i) pack.value[i] = value;
    return pack;
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS) layer_end(Params p) {
    const unsigned int packs = static_cast<unsigned int>(p.channels / PACK), slots = static_cast<unsigned int>(p.slots);
    const unsigned long long index = static_cast<unsigned long long>(blockIdx.x) * THREADS + threadIdx.x;
    const unsigned int c = static_cast<unsigned int>(index % packs) * PACK;
    const unsigned int slot = static_cast<unsigned int>(index / packs % slots);
    const long long image = static_cast<long long>(index / packs / slots);
    if (image >= p.images) return;
#ifdef HAS_SCALE
    const Pack scale = load_pack(p.scale + image * p.channels + c);
#endif
#ifdef HAS_NOISE
    const scalar_t* noise = p.noise + image * p.noise_step;
#endif
    const long long first = image * p.pixels;
#ifndef GRADIENT
#ifdef HAS_BIAS
    const Pack b = load_pack(p.b + c);
#endif
#ifdef HAS_NOISE
    const compute_t strength = to_compute(*p.strength);
#endif
    for (long long pixel = slot; pixel < p.pixels; pixel += slots) {
        const long long at = (first + pixel) * p.channels + c;
        Pack z = load_pack(p.x + at);
#ifdef HAS_NOISE
        const compute_t added = strength * to_compute(noise[pixel]);
#endif
#pragma unroll
        for (int i = 0; i < PACK; ++i) {
#ifdef HAS_SCALE
            z.value[i] *= scale.value[i];
#endif
#ifdef HAS_NOISE
            z.value[i] += added;
#endif
#ifdef HAS_BIAS
            z.value[i] += b.value[i];
#endif
#ifdef ACT_lrelu
            z.value[i] = z.value[i] > 0 ? z.value[i] : z.value[i] * compute_t(p.alpha);
#endif
            z.value[i] *= compute_t(p.gain);
#ifdef HAS_CLAMP
            const compute_t bound = compute_t(p.clamp);
            z.value[i] = z.value[i] > bound ? bound : (z.value[i] < -bound ? -bound : z.value[i]);
#endif
        }
        store_pack(p.y + at, z);
    }
#else
    Pack of_x = filled(0), of_all = filled(0), of_noise = filled(0);
    for (long long pixel = slot; pixel < p.pixels; pixel += slots) {
        const long long at = (first + pixel) * p.channels + c;
        Pack dz = load_pack(p.g + at);
#if defined(ACT_lrelu) || defined(HAS_CLAMP)
        const Pack y = load_pack(p.of_y + at);
#else
        const Pack y = dz;  // tells nothing that is asked for
#endif
#ifdef HAS_SCALE
        const Pack x = load_pack(p.x + at);
#endif
#ifdef HAS_NOISE
        const compute_t added = to_compute(noise[pixel]);
#endif
#pragma unroll
        for (int i = 0; i < PACK; ++i) {
            dz.value[i] *= slope_at(y.value[i], p);
            of_all.value[i] += dz.value[i];
#ifdef HAS_NOISE
            of_noise.value[i] += dz.value[i] * added;
#endif
#ifdef HAS_SCALE
            of_x.value[i] += dz.value[i] * x.value[i];
            dz.value[i] *= scale.value[i];
#endif
        }
        store_pack(p.y + at, dz);
    }
    const long long plane = p.images * p.slots * p.channels;
    float* sums = p.sums + (image * p.slots + slot) * p.channels + c;
#pragma unroll
    for (int i = 0; i < PACK; ++i) {
        sums[i] = float(of_x.value[i]);
        sums[plane + i] = float(of_all.value[i]);
        sums[2 * plane + i] = float(of_noise.value[i]);
    }
#endif
}
