// y = clamp(gain * act(x + b)), and the gradient of order n: g * gain * act^(n)(x + b) where y is inside the clamp.
//
// Memory for one output of e bytes: e read and e written, of a gradient 2 e and e.
//
// Defined by whoever compiles:
//   ORDER        0 for the function, n for the gradient of order n
//   ACT_<name>   linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus or swish
//   SIGMOID_N    for ORDER n >= 1: { coefficients, lowest first } of the n-th derivative of the logistic function as a
//   SIGMOID_N1   polynomial of it, and of the derivative of order n - 1
//   BIAS         0 none; 1 one for a whole pack; 2 a pack of biases for a pack; 3 looked up for every element
//   HAS_CLAMP, PACK, THREADS, INDEX (a type that counts the elements), SCALAR_<dtype>
#include "scalar.cuh"

struct Params {
    scalar_t* y;
    const scalar_t* x;     // for a gradient: what the activation is rebuilt from; x, or y of two straight lines
    const scalar_t* b;
    const scalar_t* g;     // incoming gradient
    long long size;        // elements
    long long step;        // elements between neighbours along the axis of the bias
    long long channels;    // biases
    double alpha, gain, clamp;
};

#if defined(ACT_linear) || defined(ACT_relu) || defined(ACT_lrelu)
#define STRAIGHT_LINES
#endif
const int UNROLL = 4;      // packs of a thread, all of them read before the first is used

__device__ __forceinline__ compute_t sigmoid(compute_t x) { return compute_t(1) / (compute_t(1) + exp(-x)); }

#if ORDER > 0 && !defined(STRAIGHT_LINES)
__device__ __forceinline__ compute_t polynomial(compute_t s, const double* factors, int count) {
    compute_t y = 0;
    for (int i = count - 1; i >= 0; --i) y = y * s + compute_t(factors[i]);
    return y;
}
__device__ __forceinline__ compute_t sigmoid_n(compute_t x) {
    const double factors[] = SIGMOID_N;
    return polynomial(sigmoid(x), factors, sizeof(factors) / sizeof(double));
}
__device__ __forceinline__ compute_t sigmoid_n1(compute_t x) {
    const double factors[] = SIGMOID_N1;
    return polynomial(sigmoid(x), factors, sizeof(factors) / sizeof(double));
}
#endif

#define SELU_SCALE 1.0507009873554804934  // Klambauer et al. 2017, Eq. 14
#define SELU_ALPHA 1.6732632423543772848

__device__ __forceinline__ compute_t activation(compute_t x, compute_t alpha) {
#if defined(ACT_linear)
    return x;
#elif defined(ACT_relu)
    return x > 0 ? x : compute_t(0);
#elif defined(ACT_lrelu)
    return x > 0 ? x : x * alpha;
#elif defined(ACT_tanh)
    return tanh(x);
#elif defined(ACT_sigmoid)
    return sigmoid(x);
#elif defined(ACT_elu)
    return x > 0 ? x : expm1(x);
#elif defined(ACT_selu)
    return compute_t(SELU_SCALE) * (x > 0 ? x : compute_t(SELU_ALPHA) * expm1(x));
#elif defined(ACT_softplus)
    return x > 20 ? x : log1p(exp(x));
#elif defined(ACT_swish)
    return x * sigmoid(x);
#endif
}

#if ORDER > 0 && !defined(STRAIGHT_LINES)
__device__ __forceinline__ compute_t derivative(compute_t x) {  // of order ORDER
#if defined(ACT_tanh)  // tanh(x) = 2 s(2x) - 1
    return compute_t(double(1ll << (ORDER + 1))) * sigmoid_n(2 * x);
#elif defined(ACT_sigmoid)
    return sigmoid_n(x);
#elif defined(ACT_elu)
    return x > 0 ? compute_t(ORDER == 1) : exp(x);
#elif defined(ACT_selu)
    return compute_t(SELU_SCALE) * (x > 0 ? compute_t(ORDER == 1) : compute_t(SELU_ALPHA) * exp(x));
#elif defined(ACT_softplus)
    return sigmoid_n1(x);
#elif defined(ACT_swish)
    return x * sigmoid_n(x) + compute_t(ORDER) * sigmoid_n1(x);
#endif
}
#endif

__device__ __forceinline__ compute_t result_of(compute_t x, compute_t b, compute_t g, const Params& p) {
    const compute_t alpha = compute_t(p.alpha), gain = compute_t(p.gain), clamp = compute_t(p.clamp);
#if ORDER == 0
    compute_t y = gain * activation(x + b, alpha);
#ifdef HAS_CLAMP
    y = y > clamp ? clamp : (y < -clamp ? -clamp : y);
#endif
    return y;
#elif defined(STRAIGHT_LINES)  // x is y, whose sign tells the slope
    compute_t slope = gain;
#if defined(ACT_relu)
    slope = x > 0 ? gain : compute_t(0);
#elif defined(ACT_lrelu)
    slope = x > 0 ? gain : gain * alpha;
#endif
#ifdef HAS_CLAMP
    const compute_t bound = to_compute(to_scalar(clamp));  // as it was stored
    if (x >= bound || x <= -bound) return 0;
#endif
    return g * slope;
#else
    x += b;
#ifdef HAS_CLAMP
    const compute_t y = gain * activation(x, alpha);
    if (y >= clamp || y <= -clamp) return 0;
#endif
    return g * gain * derivative(x);
#endif
}

// Everything of one pack that is read from memory.
struct Inputs { Pack x, b, g; };

__device__ __forceinline__ Inputs load_inputs(const Params& p, INDEX element) {
    Inputs in;
#if ORDER > 0
    in.g = load_pack(p.g + element);
    if (p.x == nullptr) {  // a line of constant slope: nothing was kept
#pragma unroll
        for (int i = 0; i < PACK; ++i) in.x.value[i] = 0;
    } else
#endif
        in.x = load_pack(p.x + element);
#if BIAS == 2
    in.b = load_pack(p.b + element % static_cast<INDEX>(p.channels));
#else
#if BIAS == 1
    const compute_t one = to_compute(p.b[element / static_cast<INDEX>(p.step) % static_cast<INDEX>(p.channels)]);
#endif
#pragma unroll
    for (int i = 0; i < PACK; ++i) {
#if BIAS == 0
        in.b.value[i] = 0;
#elif BIAS == 1
        in.b.value[i] = one;
#else
        in.b.value[i] = to_compute(p.b[(element + i) / static_cast<INDEX>(p.step) % static_cast<INDEX>(p.channels)]);
#endif
    }
#endif
    return in;
}

// A thread takes UNROLL packs, THREADS packs apart. The size is a multiple of PACK.
extern "C" __global__ void LAUNCH_BOUNDS(THREADS) bias_act(Params p) {
    const INDEX packs = static_cast<INDEX>(p.size / PACK);
    const INDEX first = static_cast<INDEX>(blockIdx.x) * (UNROLL * THREADS) + threadIdx.x;
    Inputs in[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u)
        if (first + u * THREADS < packs) in[u] = load_inputs(p, (first + u * THREADS) * PACK);
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
        if (first + u * THREADS >= packs) continue;
        Pack out;
#pragma unroll
        for (int i = 0; i < PACK; ++i)
#if ORDER > 0
            out.value[i] = result_of(in[u].x.value[i], in[u].b.value[i], in[u].g.value[i], p);
#else
            out.value[i] = result_of(in[u].x.value[i], in[u].b.value[i], 0, p);
#endif
        store_pack(p.y + (first + u * THREADS) * PACK, out);
    }
}
