// Zero insertion, padding, FIR filter and decimation in one pass. Along each axis, with h the taps in the order of a
// correlation and u[j * UP] = x[j], 0 elsewhere:
//     y[i] = gain * sum_k h[k] * u[i * DOWN + k - pad]
//
// Of a run of OUT outputs that begins at a multiple of the thread's block, tap k of output j meets input t exactly when
//     k = PHASE + t * UP - j * DOWN,    0 <= k < F,    PHASE = pad mod UP,
// with t counted from the first input that any of them sees. All of that is known to the compiler, which unrolls the
// loops into the multiplications that are needed and no others: no inserted zero is multiplied.
//
// Defined by whoever compiles:
//   UP_X, UP_Y, DOWN_X, DOWN_Y, FILTER_W, FILTER_H, PHASE_X, PHASE_Y
//   LAYOUT_planes    contiguous images, a tile of them in shared memory
//   LAYOUT_channels  channels last, a pack of channels a thread; where SEPARABLE a thread marches down its columns
//   LAYOUT_any       any strides and sizes, an output a thread
//   SEPARABLE        f holds FILTER_W taps for x and then for y (FILTER_H = FILTER_W)
//   RUN_X, RUN_Y     outputs of a thread along each axis, multiples of UP_X and UP_Y
//   LEAD, CHUNK      of a march: rows that an output sees before its last, and rows between two turns of its loop
//   LANES_X, LANES_Y, LANES_P   threads of a block along x, y and planes; LAYOUT_planes
//   THREADS, PACK, INDEX (a type that counts the elements), SCALAR_<dtype>
#include "scalar.cuh"

struct Params {
    scalar_t* y;
    const scalar_t* x;
    const float* f;         // [FILTER_H, FILTER_W], or [FILTER_W] where SEPARABLE
    long long images, channels, height, width, out_height, out_width;
    long long x_stride[4];  // elements, of [N, C, H, W]; LAYOUT_any
    long long y_stride[4];
    long long pad_x, pad_y; // before
    double gain;
    int correlate;          // 0: the filter is turned round
    int chunks;             // turns of a march
};

__device__ __forceinline__ compute_t tap(const Params& p, int ky, int kx) {
    const int row = p.correlate ? ky : FILTER_H - 1 - ky, column = p.correlate ? kx : FILTER_W - 1 - kx;
    return compute_t(p.f[row * FILTER_W + column]);
}

#ifndef LAYOUT_any
// Inputs that RUN outputs see.
#define SEEN(run, up, down, filter, phase) (((run) - 1) * (down) + (filter) - 1 - (phase) >= 0 ? \
                                            (((run) - 1) * (down) + (filter) - 1 - (phase)) / (up) + 1 : 0)
const int SEEN_X = SEEN(RUN_X, UP_X, DOWN_X, FILTER_W, PHASE_X);
const int SEEN_Y = SEEN(RUN_Y, UP_Y, DOWN_Y, FILTER_H, PHASE_Y);

// The first input that the output `out`, a multiple of the run, sees.
__device__ __forceinline__ long long first_x(const Params& p, long long out) {
    return (out * DOWN_X - p.pad_x + PHASE_X) / UP_X;
}
__device__ __forceinline__ long long first_y(const Params& p, long long out) {
    return (out * DOWN_Y - p.pad_y + PHASE_Y) / UP_Y;
}
#endif

#if defined(LAYOUT_any)
__device__ __forceinline__ long long floor_div(long long a, long long b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

extern "C" __global__ void LAUNCH_BOUNDS(THREADS) upfirdn2d(Params p) {
    const long long total = p.images * p.channels * p.out_height * p.out_width;
    long long rest = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (rest >= total) return;
    const bool last = p.y_stride[1] == 1;  // neighbours in memory go to neighbouring threads
    long long n, c, oy, ox;
    if (last) { c = rest % p.channels; rest /= p.channels; }
    ox = rest % p.out_width; rest /= p.out_width;
    oy = rest % p.out_height; rest /= p.out_height;
    if (!last) { c = rest % p.channels; rest /= p.channels; }
    n = rest;
    const long long u_x = ox * DOWN_X - p.pad_x, u_y = oy * DOWN_Y - p.pad_y;  // of the first tap, among inserted zeros
    const long long x0 = -floor_div(-u_x, UP_X), y0 = -floor_div(-u_y, UP_Y);
    const scalar_t* base = p.x + n * p.x_stride[0] + c * p.x_stride[1];
    compute_t sum = 0;
    for (long long iy = y0; iy * UP_Y - u_y < FILTER_H; ++iy) {
        if (iy < 0 || iy >= p.height) continue;
        for (long long ix = x0; ix * UP_X - u_x < FILTER_W; ++ix) {
            if (ix < 0 || ix >= p.width) continue;
            sum += tap(p, int(iy * UP_Y - u_y), int(ix * UP_X - u_x))
                 * to_compute(base[iy * p.x_stride[2] + ix * p.x_stride[3]]);
        }
    }
    p.y[n * p.y_stride[0] + c * p.y_stride[1] + oy * p.y_stride[2] + ox * p.y_stride[3]]
        = to_scalar(sum * compute_t(p.gain));
}

#elif defined(LAYOUT_channels) && defined(SEPARABLE)
// A march: each row of inputs is read once, filtered along x, and kept in registers for the outputs that see it, of
// which each is the sum of FILTER_H / UP_Y kept rows. All but the loop over CHUNK rows is unrolled, so that the place of
// a row among those that are kept is known to the compiler.
//
// For one output of e bytes, 4 taps, long strips (a strip reads LEAD rows more than it needs):
//              memory read + written   asked of the cache   multiplications (x + y)
//     blur     e + e                   4 e                  4 + 4
//     up 2     e / 4 + e               3/4 e                1 + 2
//     down 2   4 e + e                 8 e                  8 + 4
// Neighbouring threads have neighbouring channels and then columns: what the cache is asked for more than once is what
// the SEEN_X columns of neighbours share, within a block.
const int WINDOW = LEAD + 1;
const int CHUNK_OUT = CHUNK * UP_Y / DOWN_Y;

struct Row { Pack at[RUN_X]; };

__device__ __forceinline__ Row filtered_row(const scalar_t* row, bool inside_y, const bool* inside, unsigned int step,
                                            const compute_t* taps) {
    Row result;
#pragma unroll
    for (int jx = 0; jx < RUN_X; ++jx)
#pragma unroll
        for (int i = 0; i < PACK; ++i) result.at[jx].value[i] = 0;
    if (!inside_y) return result;
#pragma unroll
    for (int tx = 0; tx < SEEN_X; ++tx) {
        if (!inside[tx]) continue;
        const Pack pack = load_pack(row + tx * step);
#pragma unroll
        for (int jx = 0; jx < RUN_X; ++jx) {
            const int kx = PHASE_X + tx * UP_X - jx * DOWN_X;
            if (kx < 0 || kx >= FILTER_W) continue;
#pragma unroll
            for (int i = 0; i < PACK; ++i) result.at[jx].value[i] += taps[kx] * pack.value[i];
        }
    }
    return result;
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS) upfirdn2d(Params p) {
    const unsigned int channels = p.channels, packs = channels / PACK, width = p.width, height = p.height;
    const unsigned int out_width = p.out_width, out_height = p.out_height, strip = p.chunks * CHUNK_OUT;
    const unsigned int runs = (out_width + RUN_X - 1) / RUN_X, strips = (out_height + strip - 1) / strip;
    unsigned int rest = blockIdx.x * THREADS + threadIdx.x;
    const unsigned int c = rest % packs * PACK; rest /= packs;
    const unsigned int ox = rest % runs * RUN_X; rest /= runs;
    unsigned int oy = rest % strips * strip; rest /= strips;
    if (rest >= p.images) return;
    const int ix = int(first_x(p, ox));
    int iy = int(first_y(p, oy));
    bool inside[SEEN_X > 0 ? SEEN_X : 1];
#pragma unroll
    for (int tx = 0; tx < SEEN_X; ++tx) inside[tx] = ix + tx >= 0 && ix + tx < int(width);
    compute_t taps[FILTER_W];
#pragma unroll
    for (int k = 0; k < FILTER_W; ++k) taps[k] = compute_t(p.f[p.correlate ? k : FILTER_W - 1 - k]);
    const long long step_y = static_cast<long long>(width) * channels;
    const scalar_t* from = p.x + ((static_cast<long long>(rest) * height + iy) * width + ix) * channels + c;
    scalar_t* to = p.y + ((static_cast<long long>(rest) * out_height + oy) * out_width + ox) * channels + c;
    Row rows[WINDOW];
#pragma unroll
    for (int t = 0; t < LEAD; ++t) {
        rows[t] = filtered_row(from, iy >= 0 && iy < int(height), inside, channels, taps);
        from += step_y;
        ++iy;
    }
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks && oy < out_height; ++chunk) {
#pragma unroll
        for (int t = 0; t < CHUNK; ++t) {  // row LEAD + t of this chunk; an output is made when all that it sees is there
            rows[(LEAD + t) % WINDOW] = filtered_row(from, iy >= 0 && iy < int(height), inside, channels, taps);
            from += step_y;
            ++iy;
#pragma unroll
            for (int jy = 0; jy < CHUNK_OUT; ++jy) {
                if (jy * DOWN_Y / UP_Y != t || oy + jy >= out_height) continue;
#pragma unroll
                for (int jx = 0; jx < RUN_X; ++jx) {
                    if (ox + jx >= out_width) continue;
                    Pack sum;
#pragma unroll
                    for (int i = 0; i < PACK; ++i) sum.value[i] = 0;
#pragma unroll
                    for (int seen = t; seen <= t + LEAD; ++seen) {
                        const int ky = PHASE_Y + seen * UP_Y - jy * DOWN_Y;
                        if (ky < 0 || ky >= FILTER_H) continue;
#pragma unroll
                        for (int i = 0; i < PACK; ++i) sum.value[i] += taps[ky] * rows[seen % WINDOW].at[jx].value[i];
                    }
#pragma unroll
                    for (int i = 0; i < PACK; ++i) sum.value[i] *= compute_t(p.gain);
                    store_pack(to + (jy * out_width + jx) * channels, sum);
                }
            }
        }
        oy += CHUNK_OUT;
        to += CHUNK_OUT * static_cast<long long>(out_width) * channels;
    }
}

#elif defined(LAYOUT_channels)
extern "C" __global__ void LAUNCH_BOUNDS(THREADS) upfirdn2d(Params p) {
    const long long packs = p.channels / PACK;
    const long long runs_x = (p.out_width + RUN_X - 1) / RUN_X, runs_y = (p.out_height + RUN_Y - 1) / RUN_Y;
    long long rest = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    const long long c = rest % packs * PACK; rest /= packs;
    const long long ox = rest % runs_x * RUN_X; rest /= runs_x;
    const long long oy = rest % runs_y * RUN_Y; rest /= runs_y;
    if (rest >= p.images) return;
    compute_t taps[FILTER_H][FILTER_W];
#pragma unroll
    for (int ky = 0; ky < FILTER_H; ++ky)
#pragma unroll
        for (int kx = 0; kx < FILTER_W; ++kx) taps[ky][kx] = tap(p, ky, kx);
    Pack sum[RUN_Y][RUN_X];
#pragma unroll
    for (int jy = 0; jy < RUN_Y; ++jy)
#pragma unroll
        for (int jx = 0; jx < RUN_X; ++jx)
#pragma unroll
            for (int i = 0; i < PACK; ++i) sum[jy][jx].value[i] = 0;
    const long long ix0 = first_x(p, ox), iy0 = first_y(p, oy);
#pragma unroll
    for (int ty = 0; ty < SEEN_Y; ++ty) {
        const long long iy = iy0 + ty;
        if (iy < 0 || iy >= p.height) continue;
        Pack row[SEEN_X > 0 ? SEEN_X : 1];
#pragma unroll
        for (int tx = 0; tx < SEEN_X; ++tx) {
            const long long ix = ix0 + tx;
            if (ix >= 0 && ix < p.width) {
                row[tx] = load_pack(p.x + ((rest * p.height + iy) * p.width + ix) * p.channels + c);
            } else {
#pragma unroll
                for (int i = 0; i < PACK; ++i) row[tx].value[i] = 0;
            }
        }
#pragma unroll
        for (int jy = 0; jy < RUN_Y; ++jy) {
            const int ky = PHASE_Y + ty * UP_Y - jy * DOWN_Y;
            if (ky < 0 || ky >= FILTER_H) continue;
#pragma unroll
            for (int jx = 0; jx < RUN_X; ++jx)
#pragma unroll
                for (int tx = 0; tx < SEEN_X; ++tx) {
                    const int kx = PHASE_X + tx * UP_X - jx * DOWN_X;
                    if (kx < 0 || kx >= FILTER_W) continue;
#pragma unroll
                    for (int i = 0; i < PACK; ++i) sum[jy][jx].value[i] += taps[ky][kx] * row[tx].value[i];
                }
        }
    }
#pragma unroll
    for (int jy = 0; jy < RUN_Y; ++jy)
#pragma unroll
        for (int jx = 0; jx < RUN_X; ++jx) {
            if (oy + jy >= p.out_height || ox + jx >= p.out_width) continue;
#pragma unroll
            for (int i = 0; i < PACK; ++i) sum[jy][jx].value[i] *= compute_t(p.gain);
            store_pack(p.y + ((rest * p.out_height + oy + jy) * p.out_width + ox + jx) * p.channels + c, sum[jy][jx]);
        }
}

#elif defined(LAYOUT_planes)
const int TILE_W = LANES_X * RUN_X, TILE_H = LANES_Y * RUN_Y;  // outputs of a block, of each of LANES_P planes
const int IN_W = SEEN(TILE_W, UP_X, DOWN_X, FILTER_W, PHASE_X), IN_H = SEEN(TILE_H, UP_Y, DOWN_Y, FILTER_H, PHASE_Y);
// Columns are kept by their remainder modulo DOWN_X, so that neighbouring threads read neighbouring words.
const int BIN_W = (IN_W + DOWN_X - 1) / DOWN_X;
const int ROW_W = BIN_W * DOWN_X;
__device__ __forceinline__ int column_of(int x) { return x % DOWN_X * BIN_W + x / DOWN_X; }

// Reads the tile of LANES_P planes whose upper left input is (x0, y0); 0 outside of the images.
__device__ __forceinline__ void load_tile(const Params& p, compute_t* tile, long long plane, long long y0, long long x0) {
    const long long planes = p.images * p.channels;
    const int shift = int((x0 % PACK + PACK) % PACK);      // from the pack that holds x0
    const int packs = (IN_W + PACK - 1) / PACK + (PACK > 1);
    for (int i = threadIdx.x; i < LANES_P * IN_H * packs; i += THREADS) {
        const int row = i / packs, left = i % packs * PACK - shift;
        const long long iy = y0 + row % IN_H, ix = x0 + left, member = plane + row / IN_H;
        Pack pack;
        if (iy >= 0 && iy < p.height && ix >= 0 && ix < p.width && member < planes) {
            pack = load_pack(p.x + (member * p.height + iy) * p.width + ix);
        } else {
#pragma unroll
            for (int k = 0; k < PACK; ++k) pack.value[k] = 0;
        }
#pragma unroll
        for (int k = 0; k < PACK; ++k)
            if (left + k >= 0 && left + k < IN_W) tile[row * ROW_W + column_of(left + k)] = pack.value[k];
    }
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS) upfirdn2d(Params p) {
    __shared__ compute_t tile[LANES_P * IN_H * ROW_W > 0 ? LANES_P * IN_H * ROW_W : 1];
    const long long tiles_x = (p.out_width + TILE_W - 1) / TILE_W, tiles_y = (p.out_height + TILE_H - 1) / TILE_H;
    long long rest = blockIdx.x;
    const long long tile_x = rest % tiles_x * TILE_W; rest /= tiles_x;
    const long long tile_y = rest % tiles_y * TILE_H; rest /= tiles_y;
    const long long plane = rest * LANES_P;
    load_tile(p, tile, plane, first_y(p, tile_y), first_x(p, tile_x));
    const int lane_x = threadIdx.x % LANES_X, lane_y = threadIdx.x / LANES_X % LANES_Y;
    const int lane_p = threadIdx.x / (LANES_X * LANES_Y);
    compute_t sum[RUN_Y][RUN_X];
#pragma unroll
    for (int jy = 0; jy < RUN_Y; ++jy)
#pragma unroll
        for (int jx = 0; jx < RUN_X; ++jx) sum[jy][jx] = 0;
#ifdef SEPARABLE
    __shared__ compute_t rows[LANES_P * IN_H * TILE_W > 0 ? LANES_P * IN_H * TILE_W : 1];  // filtered along x
    compute_t taps[FILTER_W];
#pragma unroll
    for (int k = 0; k < FILTER_W; ++k) taps[k] = compute_t(p.f[p.correlate ? k : FILTER_W - 1 - k]);
    __syncthreads();
    for (int i = threadIdx.x; i < LANES_P * IN_H * LANES_X; i += THREADS) {
        const int row = i / LANES_X, lane = i % LANES_X;
        const compute_t* from = tile + row * ROW_W;
#pragma unroll
        for (int jx = 0; jx < RUN_X; ++jx) {
            compute_t one = 0;
#pragma unroll
            for (int tx = 0; tx < SEEN_X; ++tx) {
                const int kx = PHASE_X + tx * UP_X - jx * DOWN_X;
                if (kx >= 0 && kx < FILTER_W)
                    one += taps[kx] * from[tx % DOWN_X * BIN_W + tx / DOWN_X + lane * (RUN_X / UP_X)];
            }
            rows[row * TILE_W + jx * LANES_X + lane] = one;
        }
    }
    __syncthreads();
    const compute_t* from = rows + (lane_p * IN_H + lane_y * (RUN_Y * DOWN_Y / UP_Y)) * TILE_W + lane_x;
#pragma unroll
    for (int ty = 0; ty < SEEN_Y; ++ty)
#pragma unroll
        for (int jy = 0; jy < RUN_Y; ++jy) {
            const int ky = PHASE_Y + ty * UP_Y - jy * DOWN_Y;
            if (ky < 0 || ky >= FILTER_H) continue;
#pragma unroll
            for (int jx = 0; jx < RUN_X; ++jx) sum[jy][jx] += taps[ky] * from[ty * TILE_W + jx * LANES_X];
        }
#else
    compute_t taps[FILTER_H][FILTER_W];
#pragma unroll
    for (int ky = 0; ky < FILTER_H; ++ky)
#pragma unroll
        for (int kx = 0; kx < FILTER_W; ++kx) taps[ky][kx] = tap(p, ky, kx);
    __syncthreads();
    // A thread's first column is lane_x * RUN_X * DOWN_X / UP_X, a multiple of DOWN_X: one bin, one column on.
    const compute_t* from = tile + (lane_p * IN_H + lane_y * (RUN_Y * DOWN_Y / UP_Y)) * ROW_W + lane_x * (RUN_X / UP_X);
#pragma unroll
    for (int ty = 0; ty < SEEN_Y; ++ty) {
        compute_t row[SEEN_X > 0 ? SEEN_X : 1];
#pragma unroll
        for (int tx = 0; tx < SEEN_X; ++tx) row[tx] = from[ty * ROW_W + tx % DOWN_X * BIN_W + tx / DOWN_X];
#pragma unroll
        for (int jy = 0; jy < RUN_Y; ++jy) {
            const int ky = PHASE_Y + ty * UP_Y - jy * DOWN_Y;
            if (ky < 0 || ky >= FILTER_H) continue;
#pragma unroll
            for (int jx = 0; jx < RUN_X; ++jx)
#pragma unroll
                for (int tx = 0; tx < SEEN_X; ++tx) {
                    const int kx = PHASE_X + tx * UP_X - jx * DOWN_X;
                    if (kx >= 0 && kx < FILTER_W) sum[jy][jx] += taps[ky][kx] * row[tx];
                }
        }
    }
#endif
    if (plane + lane_p >= p.images * p.channels) return;
    const long long ox = tile_x + lane_x * RUN_X;
#pragma unroll
    for (int jy = 0; jy < RUN_Y; ++jy) {
        const long long oy = tile_y + lane_y * RUN_Y + jy;
        if (oy >= p.out_height) continue;
        scalar_t* to = p.y + ((plane + lane_p) * p.out_height + oy) * p.out_width + ox;
#pragma unroll
        for (int jx = 0; jx < RUN_X; ++jx)
            if (ox + jx < p.out_width) to[jx] = to_scalar(sum[jy][jx] * compute_t(p.gain));
    }
}
#endif
