// A device made of one host thread: the threads of a block are fibers that take turns at barriers, blocks are a loop.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define HOST_SHIM
#define __device__ static
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define LAUNCH_BOUNDS(threads)
#define __syncthreads() shim::barrier()

struct alignas(16) Bits128 { unsigned int word[4]; };
struct Index3 { unsigned int x, y, z; };
static Index3 threadIdx, blockIdx;
using std::exp; using std::expm1; using std::fabs; using std::floor; using std::log1p; using std::tanh;

static inline float half_to_float(unsigned short bits) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
}
static inline unsigned short float_to_half(float value) {
    const _Float16 half = static_cast<_Float16>(value);
    unsigned short bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}

namespace shim {
const size_t STACK = 64 * 1024;
static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<bool> done;
static unsigned int current;
static void (*body)();

static void barrier() { swapcontext(&fibers[current], &scheduler); }

static void fiber() {
    body();
    done[current] = true;
    swapcontext(&fibers[current], &scheduler);
}

// Runs one block; the fibers that are left after a round all stand at the same barrier, or the kernel is wrong.
static int run_block(unsigned int threads, std::vector<char>& stacks) {
    done.assign(threads, false);
    for (unsigned int i = 0; i < threads; ++i) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = stacks.data() + i * STACK;
        fibers[i].uc_stack.ss_size = STACK;
        fibers[i].uc_link = nullptr;
        makecontext(&fibers[i], fiber, 0);
    }
    for (unsigned int finished = 0; finished < threads;) {
        const unsigned int before = finished;
        for (current = 0; current < threads; ++current) {
            if (done[current]) continue;
            threadIdx.x = current;
            swapcontext(&scheduler, &fibers[current]);
            finished += done[current];
        }
        if (finished != before && finished != threads) return 1;  // some left, some wait: a barrier not all reach
    }
    return 0;
}

static int run(void (*kernel)(), unsigned int blocks, unsigned int threads) {
    body = kernel;
    fibers.resize(threads);
    static std::vector<char> stacks;
    stacks.resize(threads * STACK);
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        if (run_block(threads, stacks)) return 1;
    return 0;
}
}  // namespace shim
