// Images read under affine maps between the samples of their upsampled selves, or the adjoint of that.
//
// Along each axis, of a signal x of `size` samples, reflected once at either end and 0 beyond, upsampled by 2:
//     fine[j] = 2 sum_s f[TAPS / 2 - 1 + j - 2 s] x[s]     for -2 (size - 1) <= j < 2 (2 size - 1), else 0,
// which is read at the place u as (1 - a) fine[i] + a fine[i + 1] with i = floor(u) and a = u - i. Nothing of `fine` is
// stored: a sample x[s] has a weight in what is read at u, which `weight` returns.
//
// For one output of e bytes and 12 taps: of memory e read and e written, as images have few channels and stay in the
// cache, which is asked for 7 x 7 samples; 56 multiplications and 14 weights. The adjoint asks for the places within
// REACH + 2 of a sample, of each with two weights.
//
// Defined by whoever compiles: TAPS (even), ADJOINT or not, THREADS, SCALAR_<dtype>.
#define PACK 1
#include "scalar.cuh"

struct Params {
    scalar_t* y;             // result: [images, channels, rows, columns], of the adjoint [.., height, width]
    const scalar_t* x;       // the other of the two
    const scalar_t* f;       // [TAPS]
    const scalar_t* maps;    // [images, 2, 3]: (u, v) = map (column, row, 1)
    long long images, channels, height, width, rows, columns;
};

const int REACH = TAPS / 2;  // of a fine sample, in fine samples

struct Place { compute_t u, v; };

__device__ __forceinline__ Place place_of(const scalar_t* map, int column, int row) {
    Place at;
    at.u = to_compute(map[0]) * column + to_compute(map[1]) * row + to_compute(map[2]);
    at.v = to_compute(map[3]) * column + to_compute(map[4]) * row + to_compute(map[5]);
    return at;
}

__device__ __forceinline__ compute_t tap(const compute_t* taps, int j, int s, int size) {
    const int k = REACH - 1 + j - 2 * s;
    return k >= 0 && k < TAPS && j >= -2 * (size - 1) && j < 2 * (2 * size - 1) ? 2 * taps[k] : compute_t(0);
}

__device__ __forceinline__ compute_t weight(const compute_t* taps, int i, compute_t a, int s, int size) {
    return (1 - a) * tap(taps, i, s, size) + a * tap(taps, i + 1, s, size);
}

// The first sample that has a weight at a place between i and i + 1; REACH further ones may have.
__device__ __forceinline__ int first_sample(int i) {
    const int lowest = i - REACH;  // 2 s >= j + REACH - TAPS
    return lowest >= 0 ? (lowest + 1) / 2 : -(-lowest / 2);
}

#ifndef ADJOINT
extern "C" __global__ void LAUNCH_BOUNDS(THREADS) warp2d(Params p) {
    __shared__ compute_t taps[TAPS];
    for (int k = threadIdx.x; k < TAPS; k += THREADS) taps[k] = to_compute(p.f[k]);
    __syncthreads();
    const int height = int(p.height), width = int(p.width), rows = int(p.rows), columns = int(p.columns);
    const long long index = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (index >= p.images * rows * columns) return;
    const int column = int(index % columns), row = int(index / columns % rows);
    const long long image = index / columns / rows;
    const Place at = place_of(p.maps + image * 6, column, row);
    // Far out there is nothing to read, nor a whole number to hold the place.
    const bool inside = at.u > -2 * width && at.u < 4 * width && at.v > -2 * height && at.v < 4 * height;
    const int i = inside ? int(floor(at.u)) : 4 * width, j = inside ? int(floor(at.v)) : 4 * height;
    const int s = first_sample(i), t = first_sample(j);
    compute_t along_x[REACH + 1];
    int from[REACH + 1];
#pragma unroll
    for (int k = 0; k <= REACH; ++k) {
        const int sample = s + k;
        const bool known = sample > -width && sample < 2 * width - 1;
        along_x[k] = known ? weight(taps, i, at.u - i, sample, width) : compute_t(0);
        from[k] = !known ? 0 : sample < 0 ? -sample : sample < width ? sample : 2 * (width - 1) - sample;
    }
    for (int c = 0; c < int(p.channels); ++c) {
        const scalar_t* plane = p.x + (image * p.channels + c) * height * width;
        compute_t sum = 0;
#pragma unroll 1  // unrolled, the weights of all rows would take half of the registers of a block
        for (int l = 0; l <= REACH; ++l) {
            const int sample = t + l;
            if (sample <= -height || sample >= 2 * height - 1) continue;
            const int y = sample < 0 ? -sample : sample < height ? sample : 2 * (height - 1) - sample;
            compute_t along_row = 0;
#pragma unroll
            for (int k = 0; k <= REACH; ++k) along_row += along_x[k] * to_compute(plane[y * width + from[k]]);
            sum += weight(taps, j, at.v - j, sample, height) * along_row;
        }
        p.y[((image * p.channels + c) * rows + row) * columns + column] = to_scalar(inside ? sum : compute_t(0));
    }
}

#else
// A sample gathers from the places at which it, or its mirror image, has a weight: no two threads write the same number.
// These places fill a square of the fine plane, whose image under the inverse map lies in a box of rows and columns.
const int NOWHERE = -2147483647;

// The sample itself, or its image in the first or the last sample; one on a mirror has none there.
__device__ __forceinline__ int mirrored(int x, int mirror, int size) {
    if (mirror == 0) return x;
    if (mirror == 1) return x == 0 ? NOWHERE : -x;
    return x == size - 1 ? NOWHERE : 2 * (size - 1) - x;
}

struct Box { int first_column, last_column, first_row, last_row; };

__device__ __forceinline__ int clamped(compute_t value, int most) {
    return value < 0 ? 0 : value > most ? most : int(value);
}

__device__ __forceinline__ Box box_of(const scalar_t* map, compute_t u, compute_t v, int rows, int columns) {
    const compute_t a = to_compute(map[0]), b = to_compute(map[1]), c = to_compute(map[3]), d = to_compute(map[4]);
    const compute_t factor = 1 / (a * d - b * c), half = REACH + compute_t(1.5);
    const compute_t du = u - to_compute(map[2]), dv = v - to_compute(map[5]);
    const compute_t column = (d * du - b * dv) * factor, row = (a * dv - c * du) * factor;
    const compute_t wide = (fabs(d) + fabs(b)) * fabs(factor) * half, high = (fabs(a) + fabs(c)) * fabs(factor) * half;
    Box box = {0, columns - 1, 0, rows - 1};
    if (wide < columns && high < rows) {  // not so for maps onto a line: then any place may be one
        if (column + wide < -1 || column - wide > columns || row + high < -1 || row - high > rows) {
            box.last_column = -1;
        } else {
            box.first_column = clamped(column - wide - 1, columns - 1);
            box.last_column = clamped(column + wide + 2, columns - 1);
            box.first_row = clamped(row - high - 1, rows - 1);
            box.last_row = clamped(row + high + 2, rows - 1);
        }
    }
    return box;
}

extern "C" __global__ void LAUNCH_BOUNDS(THREADS) warp2d(Params p) {
    __shared__ compute_t taps[TAPS];
    for (int k = threadIdx.x; k < TAPS; k += THREADS) taps[k] = to_compute(p.f[k]);
    __syncthreads();
    const int height = int(p.height), width = int(p.width), rows = int(p.rows), columns = int(p.columns);
    const long long index = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (index >= p.images * height * width) return;
    const int x = int(index % width), y = int(index / width % height);
    const long long image = index / width / height;
    const scalar_t* map = p.maps + image * 6;
    for (int c = 0; c < int(p.channels); ++c) {
        const scalar_t* plane = p.x + (image * p.channels + c) * rows * columns;
        compute_t sum = 0;
        for (int mirror = 0; mirror < 9; ++mirror) {
            const int s = mirrored(x, mirror % 3, width), t = mirrored(y, mirror / 3, height);
            if (s == NOWHERE || t == NOWHERE) continue;
            const Box box = box_of(map, 2 * s + compute_t(0.5), 2 * t + compute_t(0.5), rows, columns);
            for (int row = box.first_row; row <= box.last_row && box.last_column >= 0; ++row)
                for (int column = box.first_column; column <= box.last_column; ++column) {
                    const Place at = place_of(map, column, row);
                    if (!(fabs(at.u - 2 * s) < REACH + 2 && fabs(at.v - 2 * t) < REACH + 2)) continue;
                    const int i = int(floor(at.u)), j = int(floor(at.v));
                    sum += weight(taps, i, at.u - i, s, width) * weight(taps, j, at.v - j, t, height)
                        * to_compute(plane[row * columns + column]);
                }
        }
        p.y[((image * p.channels + c) * height + y) * width + x] = to_scalar(sum);
    }
}
#endif
