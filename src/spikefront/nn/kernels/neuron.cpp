// Spiking neurons, max-pooling and bit-packing on the CPU. Plain C functions, called through ctypes, for tensors of
// float32 and of bfloat16, which is widened on reading: potentials and gradients are float32 inside.
//
// A sequence is T frames of N elements, dense in memory. With a per-channel affine map (a folded or running batch norm)
// the current is scale[c] * x + shift[c]; `inner` is the distance between an element and the next channel's: 1 in
// channels-last memory, H * W otherwise. Everything is one pass over memory; work is split into blocks of elements.
// Compiled without contraction into fused multiply-adds, so that spikes equal PyTorch's bit for bit.

#if defined(__AVX512F__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512")
#endif
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <omp.h>
#include <type_traits>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t SMALL = 32768;  // elements below which a second thread costs more than it brings
constexpr int64_t STRIP = 65536;  // potentials that stay in a core's second cache

enum class bf16 : uint16_t {};  // a scalar, so that loops of it become vectors

inline float wide(float x) { return x; }
inline float wide(bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float y;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

template <class E> inline E narrow(float x);
template <> inline float narrow<float>(float x) { return x; }
template <> inline bf16 narrow<bf16>(float x) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// What is larger where the numbers are.
inline float order(float x) { return x; }
inline int16_t order(bf16 x) {
    const int16_t bits = static_cast<int16_t>(x);
    return bits == INT16_MIN ? 0 : static_cast<int16_t>(bits ^ ((bits >> 15) & 0x7fff));
}

struct Shape {
    int64_t frame, channels, inner, block;

    Shape(int64_t n, int64_t c, int64_t in) : frame(n), channels(c), inner(in) {
        if (c == 0) block = 1024;                          // no affine map: any run of elements
        else if (in == 1) block = c * (c >= 512 ? 1 : 512 / c);  // whole rows of channels
        else block = in;                                   // a channel's plane
    }
    int64_t blocks() const { return (frame + block - 1) / block; }
    bool rows() const { return channels && inner == 1; }
};

// scale and shift of each element of one block: tiled once for rows of channels, filled a plane otherwise.
struct Affine {
    std::vector<float> scale, shift;
    const float *s, *b;
    const Shape &shape;

    Affine(const Shape &shape, const float *s, const float *b) : s(s), b(b), shape(shape) {
        if (!shape.channels) return;
        scale.resize(shape.block), shift.resize(shape.block);
        if (shape.rows())
            for (int64_t i = 0; i < shape.block; i++) scale[i] = s[i % shape.channels], shift[i] = b[i % shape.channels];
    }
    void at(int64_t block) {
        if (!shape.channels || shape.rows()) return;
        const int64_t c = block % shape.channels;
        for (int64_t i = 0; i < shape.block; i++) scale[i] = s[c], shift[i] = b[c];
    }
    const float *scales() const { return shape.channels ? scale.data() : nullptr; }
};

inline float mad(float x, float y, float z) {  // for gradients, which need not be PyTorch's to the last bit
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(x, y, z);
#else
    return x * y + z;
#endif
}

inline float exponential(float x) {  // of 0 or less: Cephes' expf, branch-free; relative error below 2e-7
    x = x < -87.0f ? -87.0f : x;
    const float n = mad(x, 1.44269504f, 12582912.0f) - 12582912.0f;
    const float r = mad(n, 2.12194440e-4f, mad(n, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = mad(p, r, 1.3981999507e-3f);
    p = mad(p, r, 8.3334519073e-3f);
    p = mad(p, r, 4.1665795894e-2f);
    p = mad(p, r, 1.6666665459e-1f);
    p = mad(p, r, 5.0000001201e-1f);
    const float e = mad(p * r, r, r + 1.0f);
    const int32_t power = (static_cast<int32_t>(n) + 127) << 23;
    float two;
    std::memcpy(&two, &power, sizeof two);
    return e * two;
}

// The surrogates of surrogates.py, in the order of their `kernel` numbers; u is the potential minus the threshold.
template <int KIND> inline float derivative(float u, float a, float b) {
    const float m = u < 0 ? -u : u;
    if (KIND == 0) {
        const float e = exponential(-a * m), s = 1.0f + e;  // s(x) (1 - s(x)) is that of -x
        return a * e / (s * s);
    }
    if (KIND == 1) {
        const float z = 1.57079633f * a * u;
        return a / 2 / (1.0f + z * z);
    }
    if (KIND == 2) {
        const float z = 1.0f - m / a;
        return z > 0 ? b * z : 0.0f;
    }
    if (KIND == 3) {
        const float z = 1.0f + a * m;
        return 1.0f / (z * z);
    }
    if (KIND == 4) return m < a / 2 ? 1.0f / a : 0.0f;
    return 1.0f;
}

struct Neuron {
    float gain, leak, threshold;
    int32_t soft, detach;
    float a, b;  // of the surrogate
};

template <bool SOFT> inline float reset(float h, float threshold) {
    const float f = h >= threshold ? 1.0f : 0.0f;
    return SOFT ? h - threshold * f : h * (1.0f - f);
}

// The potential h of n elements at one step, from the one before (null: at the first) and the current scale x + shift,
// or x where scale is null.
template <bool SOFT, bool AFFINE, class E>
void integrate(const E *x, const float *scale, const float *shift, const float *before, float *h, const Neuron &p,
               int64_t n) {
    const float gain = p.gain, leak = p.leak, threshold = p.threshold;
    if (!before) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) h[i] = (AFFINE ? wide(x[i]) * scale[i] + shift[i] : wide(x[i])) * gain;
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        h[i] = leak * reset<SOFT>(before[i], threshold) + gain * (AFFINE ? wide(x[i]) * scale[i] + shift[i] : wide(x[i]));
}

template <bool SOFT, class E>
void integrate(const E *x, const Affine &affine, const float *before, float *h, const Neuron &p, int64_t n) {
    (affine.shape.channels ? integrate<SOFT, true, E> : integrate<SOFT, false, E>)(x, affine.scale.data(),
                                                                                  affine.shift.data(), before, h, p, n);
}

template <bool SOFT, class E>
void forward(const E *x, E *spikes, int64_t T, int64_t x_step, const Shape &shape, const float *scale,
             const float *shift, const Neuron &p) {
#pragma omp parallel if (T * shape.frame > SMALL)
    {
        Affine affine(shape, scale, shift);
        std::vector<float> potential(shape.block);
        const E one = narrow<E>(1.0f), none = narrow<E>(0.0f);
        const float threshold = p.threshold;
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * shape.block, n = std::min(shape.block, shape.frame - at);
            float *h = potential.data();
            affine.at(k);
            for (int64_t t = 0; t < T; t++) {
                integrate<SOFT>(x + t * x_step + at, affine, t ? h : nullptr, h, p, n);
                E *s = spikes + t * shape.frame + at;
#pragma omp simd
                for (int64_t i = 0; i < n; i++) s[i] = h[i] >= threshold ? one : none;
            }
        }
    }
}

// One step back: gh, the gradient of the potential one step later, becomes that of h. `grad` receives the gradient of
// the current, `sum` gathers it over the steps, and `product` that times x.
template <bool SOFT, int KIND, bool LAST, class E>
void step_back(const float *__restrict h, const E *__restrict gs, const E *__restrict x, float *__restrict gh,
               E *__restrict grad, float *__restrict sum, float *__restrict product, int64_t n, const Neuron &p) {
    const float threshold = p.threshold, a = p.a, b = p.b, leak = p.leak, gain = p.gain;
    const float attached = p.detach ? 0.0f : 1.0f;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float step = derivative<KIND>(h[i] - threshold, a, b);
        float g = wide(gs[i]) * step;
        if (!LAST) {
            const float kept = SOFT ? 1.0f : (h[i] < threshold ? 1.0f : 0.0f);
            g = g + gh[i] * leak * (kept - attached * ((SOFT ? threshold : h[i]) * step));
        }
        gh[i] = g;
        const float of_current = g * gain;
        sum[i] = LAST ? of_current : sum[i] + of_current;
        product[i] = LAST ? of_current * wide(x[i]) : product[i] + of_current * wide(x[i]);
        grad[i] = narrow<E>(of_current);
    }
}

// Back-propagation through the T steps; potentials are recomputed from x. grad is that of the current, summed over
// time where x_step is 0; sums[c] and sums[C + c] gather grad and grad * x a channel, for the batch norm's gradient.
template <bool SOFT, int KIND, class E>
void backward(const E *x, const E *grad_spikes, E *grad, double *grad_gain, double *sums, int64_t T, int64_t x_step,
              const Shape &shape, const float *scale, const float *shift, const Neuron &p) {
    double total = 0;
#pragma omp parallel reduction(+ : total) if (T * shape.frame > SMALL)
    {
        const int64_t L = shape.block;
        Affine affine(shape, scale, shift);
        std::vector<float> h(L * T), gh(L), once(L), twice(L);
        std::vector<double> sum(shape.channels ? 2 * L : 0);
        std::vector<double> plane(shape.channels && !shape.rows() ? 2 * shape.channels : 0);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * L, n = std::min(L, shape.frame - at);
            affine.at(k);
            for (int64_t t = 0; t < T; t++)
                integrate<SOFT>(x + t * x_step + at, affine, t ? &h[(t - 1) * L] : nullptr, &h[t * L], p, n);
            for (int64_t t = T - 1; t >= 0; t--) {
                (t == T - 1 ? step_back<SOFT, KIND, true, E> : step_back<SOFT, KIND, false, E>)(
                    &h[t * L], grad_spikes + t * shape.frame + at, x + t * x_step + at, gh.data(),
                    grad + (x_step ? t * shape.frame : 0) + at, once.data(), twice.data(), n, p);
                if (!grad_gain) continue;
                for (int64_t i = 0; i < n; i++) {
                    const float value = wide(x[t * x_step + at + i]);
                    const float current = shape.channels ? value * affine.scale[i] + affine.shift[i] : value;
                    const float before = t ? reset<SOFT>(h[(t - 1) * L + i], p.threshold) : 0.0f;
                    total += static_cast<double>(gh[i]) * (current - before);
                }
            }
            if (!x_step) {
#pragma omp simd
                for (int64_t i = 0; i < n; i++) grad[at + i] = narrow<E>(once[i]);
            }
            if (!shape.channels) continue;
            if (shape.rows()) {
                double *s0 = sum.data(), *s1 = s0 + L;
#pragma omp simd
                for (int64_t i = 0; i < n; i++) s0[i] += once[i], s1[i] += twice[i];
            } else {
                double a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
                for (int64_t i = 0; i < n; i++) a += once[i], b += twice[i];
                plane[k % shape.channels] += a, plane[shape.channels + k % shape.channels] += b;
            }
        }
        if (shape.channels) {
#pragma omp critical
            for (int64_t half = 0; half < 2; half++)
                for (int64_t i = 0; i < (shape.rows() ? L : shape.channels); i++)
                    sums[half * shape.channels + i % shape.channels] +=
                        shape.rows() ? sum[half * L + i] : plane[half * shape.channels + i];
        }
    }
    if (grad_gain) *grad_gain = total;
}

template <class E>
void neuron_forward(const E *x, E *spikes, int64_t T, int64_t x_step, int64_t frame, int64_t channels,
                    int64_t inner, const float *scale, const float *shift, const Neuron *p) {
    const Shape shape(frame, channels, inner);
    (p->soft ? forward<true, E> : forward<false, E>)(x, spikes, T, x_step, shape, scale, shift, *p);
}

template <class E>
void neuron_backward(const E *x, const E *grad_spikes, E *grad, double *grad_gain, double *sums, int64_t T,
                     int64_t x_step, int64_t frame, int64_t channels, int64_t inner, const float *scale,
                     const float *shift, const Neuron *p, int32_t kind) {
    const Shape shape(frame, channels, inner);
#define KIND(k) \
    case k: \
        (p->soft ? backward<true, k, E> : backward<false, k, E>)(x, grad_spikes, grad, grad_gain, sums, T, x_step, shape, \
                                                           scale, shift, *p); \
        break;
    switch (kind) { KIND(0) KIND(1) KIND(2) KIND(3) KIND(4) KIND(5) }
#undef KIND
}

// sums[c], sums[C + c] over `frames` frames: of x and its square or, given a gradient, of that and of its product with x.
template <class E, bool GRADIENT>
void norm_sums(const E *x, const E *grad, double *sums, int64_t frames, int64_t frame, int64_t channels, int64_t inner) {
    const Shape shape(frame * frames, channels, inner);
#pragma omp parallel if (shape.frame > SMALL)
    {
        const int64_t L = shape.rows() ? shape.block : channels;
        std::vector<double> sum(2 * L);
        double *s0 = sum.data(), *s1 = s0 + L;
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const E *row = x + k * shape.block;
            const E *g = grad + (GRADIENT ? k * shape.block : 0);
            const int64_t n = std::min(shape.block, shape.frame - k * shape.block);
            if (shape.rows()) {
#pragma omp simd
                for (int64_t i = 0; i < n; i++) {
                    const double v = wide(row[i]), u = GRADIENT ? static_cast<double>(wide(g[i])) : v;
                    s0[i] += u, s1[i] += u * v;
                }
            } else {
                double a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
                for (int64_t i = 0; i < n; i++) {
                    const double v = wide(row[i]), u = GRADIENT ? static_cast<double>(wide(g[i])) : v;
                    a += u, b += u * v;
                }
                s0[k % channels] += a, s1[k % channels] += b;
            }
        }
#pragma omp critical
        for (int64_t half = 0; half < 2; half++)
            for (int64_t i = 0; i < L; i++) sums[half * channels + i % channels] += sum[half * L + i];
    }
}

template <class E>
void norm_sums(const E *x, const E *grad, double *sums, int64_t frames, int64_t frame, int64_t channels, int64_t inner) {
    (grad ? norm_sums<E, true> : norm_sums<E, false>)(x, grad, sums, frames, frame, channels, inner);
}

// y = scale[c] * x + shift[c]: a batch norm whose statistics are known.
template <class E>
void norm_apply(const E *x, E *y, const float *scale, const float *shift, int64_t frames, int64_t frame,
                int64_t channels, int64_t inner) {
    const Shape shape(frame * frames, channels, inner);
#pragma omp parallel if (shape.frame > SMALL)
    {
        Affine affine(shape, scale, shift);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            affine.at(k);
            const float *a = affine.scale.data(), *b = affine.shift.data();
            const E *from = x + k * shape.block;
            E *to = y + k * shape.block;
            const int64_t n = std::min(shape.block, shape.frame - k * shape.block);
#pragma omp simd
            for (int64_t i = 0; i < n; i++) to[i] = narrow<E>(wide(from[i]) * a[i] + b[i]);
        }
    }
}

// out = a[c] * grad + b[c] * x + d[c], which may be grad itself: the last step of the batch norm's gradient.
template <class E>
void norm_combine(const E *grad, const E *x, E *out, const float *a, const float *b, const float *d,
                  int64_t frames, int64_t frame, int64_t channels, int64_t inner) {
    const Shape shape(frame * frames, channels, inner);
#pragma omp parallel if (shape.frame > SMALL)
    {
        Affine one(shape, a, b), two(shape, d, d);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * shape.block, n = std::min(shape.block, shape.frame - at);
            one.at(k), two.at(k);
            const float *pa = one.scale.data(), *pb = one.shift.data(), *pd = two.scale.data();
            const E *row = x + at, *g = grad + at;
            E *o = out + at;
#pragma omp simd
            for (int64_t i = 0; i < n; i++) o[i] = narrow<E>(pa[i] * wide(g[i]) + pb[i] * wide(row[i]) + pd[i]);
        }
    }
}

// 3x3 max-pooling with padding 1 in channels-last memory; `which` is the winning tap, the first among equals.
template <class E>
void pool_forward(const E *x, E *out, uint8_t *which, int64_t frames, int64_t C, int64_t H, int64_t W,
                  int64_t stride) {
    const int64_t h = (H - 1) / stride + 1, w = (W - 1) / stride + 1;
#pragma omp parallel for schedule(static) if (frames * H * W * C > SMALL)
    for (int64_t row = 0; row < frames * h; row++) {
        const int64_t f = row / h, oy = row % h;
        for (int64_t ox = 0; ox < w; ox++) {
            E *o = out + (row * w + ox) * C;
            uint8_t *best = which ? which + (row * w + ox) * C : nullptr;
            bool first = true;
            for (int64_t tap = 0; tap < 9; tap++) {
                const int64_t y = oy * stride - 1 + tap / 3, z = ox * stride - 1 + tap % 3;
                if (y < 0 || y >= H || z < 0 || z >= W) continue;
                const E *in = x + ((f * H + y) * W + z) * C;
                const uint8_t label = static_cast<uint8_t>(tap);
                if (first) {
                    std::memcpy(o, in, C * sizeof(E));
                    if (best) std::memset(best, label, C);
                } else if (best) {
#pragma omp simd
                    for (int64_t c = 0; c < C; c++) best[c] = order(in[c]) > order(o[c]) ? label : best[c];
#pragma omp simd
                    for (int64_t c = 0; c < C; c++) o[c] = order(in[c]) > order(o[c]) ? in[c] : o[c];
                } else {
#pragma omp simd
                    for (int64_t c = 0; c < C; c++) o[c] = order(in[c]) > order(o[c]) ? in[c] : o[c];
                }
                first = false;
            }
        }
    }
}

// Adds the gradients of n windows of which `tap` won.
template <class E>
void collect(const E *grad_out, const uint8_t *which, uint8_t tap, float *sum, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += which[i] == tap ? wide(grad_out[i]) : 0.0f;
}

template <class E>
void pool_backward(const E *grad_out, const uint8_t *which, E *grad, int64_t frames, int64_t C, int64_t H, int64_t W,
                   int64_t stride) {
    const int64_t h = (H - 1) / stride + 1, w = (W - 1) / stride + 1;
#pragma omp parallel if (frames * H * W * C > SMALL)
    {
        std::vector<float> sum(C);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < frames * H; row++) {
            const int64_t f = row / H, y = row % H;
            const int64_t top = std::max<int64_t>(0, (y + stride - 2) / stride), bottom = std::min(h - 1, (y + 1) / stride);
            for (int64_t z = 0; z < W; z++) {
                const int64_t left = std::max<int64_t>(0, (z + stride - 2) / stride);
                const int64_t right = std::min(w - 1, (z + 1) / stride);
                std::fill(sum.begin(), sum.end(), 0.0f);
                for (int64_t oy = top; oy <= bottom; oy++)
                    for (int64_t ox = left; ox <= right; ox++) {
                        const int64_t from = ((f * h + oy) * w + ox) * C, tap = (y - oy * stride + 1) * 3 + z - ox * stride + 1;
                        collect(grad_out + from, which + from, static_cast<uint8_t>(tap), sum.data(), C);
                    }
                E *g = grad + (row * W + z) * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) g[c] = narrow<E>(sum[c]);
            }
        }
    }
}

// The neuron and 3x3 max-pooling of its spikes, padding 1, in channels-last memory: what would be written for the pool
// to read stays in the cache, as bytes. A strip of output rows at a time goes through all T steps.
template <bool SOFT, class E>
void fire_pool(const E *x, E *out, int64_t T, int64_t x_step, int64_t B, int64_t C, int64_t H, int64_t W, int64_t stride,
               const float *scale, const float *shift, const Neuron &p) {
    const int64_t h = (H - 1) / stride + 1, w = (W - 1) / stride + 1, row = W * C;
    const int64_t rows = std::max<int64_t>(1, std::min(h, (STRIP / row - 1) / stride)), strips = (h + rows - 1) / rows;
    const Shape shape(row, scale ? C : 0, 1);
#pragma omp parallel if (T * B * H * row > SMALL)
    {
        const int64_t most = (rows - 1) * stride + 3, L = shape.block;
        Affine affine(shape, scale, shift);
        std::vector<float> potential(most * row);
        std::vector<uint8_t> spikes(most * row), column(row);
        const E one = narrow<E>(1.0f), none = narrow<E>(0.0f);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < B * strips; k++) {
            const int64_t b = k / strips, first = k % strips * rows, last = std::min(h, first + rows);
            const int64_t top = std::max<int64_t>(0, first * stride - 1), bottom = std::min(H, (last - 1) * stride + 2);
            const int64_t n = (bottom - top) * row;
            for (int64_t t = 0; t < T; t++) {
                const E *in = x + t * x_step + (b * H + top) * row;
                for (int64_t at = 0; at < n; at += L) {
                    const int64_t m = std::min(L, n - at);
                    float *v = &potential[at];
                    uint8_t *s = &spikes[at];
                    integrate<SOFT>(in + at, affine, t ? v : nullptr, v, p, m);
#pragma omp simd
                    for (int64_t i = 0; i < m; i++) s[i] = v[i] >= p.threshold ? 1 : 0;
                }
                for (int64_t oy = first; oy < last; oy++) {
                    const int64_t from = std::max(top, oy * stride - 1), to = std::min(bottom, oy * stride + 2);
                    std::memcpy(column.data(), &spikes[(from - top) * row], row);
                    for (int64_t y = from + 1; y < to; y++) {
                        const uint8_t *s = &spikes[(y - top) * row];
#pragma omp simd
                        for (int64_t i = 0; i < row; i++) column[i] |= s[i];
                    }
                    E *o = out + ((t * B + b) * h + oy) * w * C;
                    for (int64_t ox = 0; ox < w; ox++, o += C) {
                        const uint8_t *middle = &column[ox * stride * C];
                        const uint8_t *left = ox ? middle - C : middle;
                        const uint8_t *right = ox * stride + 1 < W ? middle + C : middle;
#pragma omp simd
                        for (int64_t c = 0; c < C; c++) o[c] = left[c] | middle[c] | right[c] ? one : none;
                    }
                }
            }
        }
    }
}

// The widest of three neighbours in each head's row of `width` channels, and which it is, the first among equals.
template <class E>
void widest(const E *x, float *best, int32_t *which, float *padded, int64_t heads, int64_t width) {
    for (int64_t head = 0; head < heads; head++, x += width, best += width, which += width) {
        for (int64_t i = 0; i < width; i++) padded[i + 1] = wide(x[i]);
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            const float left = padded[i], middle = padded[i + 1], right = padded[i + 2];
            const float most = middle > left ? middle : left;
            const int32_t index = middle > left ? 1 : 0;
            best[i] = right > most ? right : most;
            which[i] = right > most ? 2 : index;
        }
    }
}

// The same pooling of planes (token, channel of a head), which lie as rows of heads x width channels a token.
template <class E>
void pool_planes_forward(const E *x, E *out, uint8_t *which, int64_t frames, int64_t heads, int64_t tokens,
                         int64_t width) {
    const int64_t C = heads * width, rows = 32, chunks = (tokens + rows - 1) / rows;
    const float lowest = -std::numeric_limits<float>::infinity();
#pragma omp parallel if (frames * tokens * C > SMALL)
    {
        std::vector<float> best(3 * C), padded(width + 2, lowest);
        std::vector<int32_t> index(3 * C);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < frames * chunks; k++) {
            const int64_t f = k / chunks, start = k % chunks * rows, end = std::min(tokens, start + rows);
            for (int64_t n = start - 1; n <= end; n++) {
                float *into = &best[(n + 3) % 3 * C];
                if (n < 0 || n >= tokens) std::fill(into, into + C, lowest);
                else widest(x + (f * tokens + n) * C, into, &index[(n + 3) % 3 * C], padded.data(), heads, width);
                if (n <= start) continue;
                const int64_t up = (n + 1) % 3 * C, here = (n + 2) % 3 * C, down = (n + 3) % 3 * C;
                const float *b0 = &best[up], *b1 = &best[here], *b2 = &best[down];
                const int32_t *i0 = &index[up], *i1 = &index[here], *i2 = &index[down];
                E *o = out + (f * tokens + n - 1) * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) {
                    const float most = b1[c] > b0[c] ? b1[c] : b0[c];
                    o[c] = narrow<E>(b2[c] > most ? b2[c] : most);
                }
                if (!which) continue;
                uint8_t *w = which + (f * tokens + n - 1) * C;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) {
                    const float most = b1[c] > b0[c] ? b1[c] : b0[c];
                    const int32_t first = b1[c] > b0[c] ? i1[c] + 3 : i0[c];
                    w[c] = static_cast<uint8_t>(b2[c] > most ? i2[c] + 6 : first);
                }
            }
        }
    }
}

// What a head's windows won of another head's is none, so that rows can be gone through whole.
template <class E>
void pool_planes_backward(const E *grad_out, const uint8_t *which, E *grad, int64_t frames, int64_t heads,
                          int64_t tokens, int64_t width) {
    const int64_t C = heads * width;
#pragma omp parallel if (frames * tokens * C > SMALL)
    {
        std::vector<float> sum(C);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < frames * tokens; row++) {
            const int64_t n = row % tokens;
            std::fill(sum.begin(), sum.end(), 0.0f);
            for (int64_t down = n ? -1 : 0; down <= (n + 1 < tokens ? 1 : 0); down++)
                for (int64_t along = -1; along <= 1; along++) {  // of the window's middle
                    const int64_t first = std::max<int64_t>(0, -along), count = C - std::abs(along);
                    const int64_t from = (row + down) * C + first + along;
                    const uint8_t tap = static_cast<uint8_t>((1 - down) * 3 + 1 - along);
                    collect(grad_out + from, which + from, tap, sum.data() + first, count);
                }
            E *g = grad + row * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) g[c] = narrow<E>(sum[c]);
        }
    }
}

// Eight zeros and ones a byte. Returns 0, leaving `bits` undefined, at the first other value.
template <class E>
int32_t pack(const E *x, uint8_t *bits, int64_t n) {
    int32_t other = 0;
#pragma omp parallel for schedule(static) reduction(| : other) if (n > SMALL)
    for (int64_t chunk = 0; chunk < (n + 4095) / 4096; chunk++) {
        const int64_t end = std::min(n, (chunk + 1) * 4096);
        for (int64_t i = chunk * 4096; i < end && !other; i += 8) {
            uint32_t byte = 0;
#ifdef __AVX2__
            if (std::is_same<E, float>::value && i + 8 <= end) {
                const __m256 v = _mm256_loadu_ps(reinterpret_cast<const float *>(x + i)), one = _mm256_set1_ps(1.0f);
                const int ones = _mm256_movemask_ps(_mm256_cmp_ps(v, one, _CMP_EQ_OQ));
                const int zeros = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_EQ_OQ));
                other |= (ones | zeros) != 255;
                bits[i / 8] = static_cast<uint8_t>(ones);
                continue;
            }
            if (std::is_same<E, bf16>::value && i + 8 <= end) {
                const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i *>(x + i));
                const __m128i one = _mm_cmpeq_epi16(v, _mm_set1_epi16(0x3f80));
                const __m128i none = _mm_cmpeq_epi16(_mm_add_epi16(v, v), _mm_setzero_si128());  // of either sign
                other |= _mm_movemask_epi8(_mm_or_si128(one, none)) != 0xffff;
                bits[i / 8] = static_cast<uint8_t>(_mm_movemask_epi8(_mm_packs_epi16(one, one)));
                continue;
            }
#endif
            for (int64_t j = i; j < std::min(end, i + 8); j++) {
                other |= wide(x[j]) != 0.0f && wide(x[j]) != 1.0f;
                byte |= (wide(x[j]) == 1.0f ? 1u : 0u) << (j - i);
            }
            bits[i / 8] = static_cast<uint8_t>(byte);
        }
    }
    return !other;
}

template <class E>
void unpack(const uint8_t *bits, E *x, int64_t n) {
#pragma omp parallel for schedule(static) if (n > SMALL)
    for (int64_t byte = 0; byte < (n + 7) / 8; byte++) {
#ifdef __AVX2__
        if (std::is_same<E, float>::value && byte * 8 + 8 <= n) {
            const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits[byte]), each), each);
            const __m256 ones = _mm256_and_ps(_mm256_castsi256_ps(set), _mm256_set1_ps(1.0f));
            _mm256_storeu_ps(reinterpret_cast<float *>(x + byte * 8), ones);
            continue;
        }
        if (std::is_same<E, bf16>::value && byte * 8 + 8 <= n) {
            const __m128i each = _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128);
            const __m128i set = _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16(bits[byte]), each), each);
            _mm_storeu_si128(reinterpret_cast<__m128i *>(x + byte * 8), _mm_and_si128(set, _mm_set1_epi16(0x3f80)));
            continue;
        }
#endif
        for (int64_t j = 0; j < std::min<int64_t>(8, n - byte * 8); j++)
            x[byte * 8 + j] = narrow<E>((bits[byte] >> j) & 1 ? 1.0f : 0.0f);
    }
}

}  // namespace

extern "C" {

#define EXPORT(E, NAME) \
    void NAME(neuron_forward)(const E *x, E *spikes, int64_t T, int64_t x_step, int64_t frame, int64_t channels, \
                              int64_t inner, const float *scale, const float *shift, const Neuron *p) { \
        neuron_forward<E>(x, spikes, T, x_step, frame, channels, inner, scale, shift, p); \
    } \
    void NAME(neuron_backward)(const E *x, const E *grad_spikes, E *grad, double *grad_gain, double *sums, \
                               int64_t T, int64_t x_step, int64_t frame, int64_t channels, int64_t inner, \
                               const float *scale, const float *shift, const Neuron *p, int64_t kind) { \
        neuron_backward<E>(x, grad_spikes, grad, grad_gain, sums, T, x_step, frame, channels, inner, scale, shift, p, \
                           kind); \
    } \
    void NAME(norm_sums)(const E *x, const E *grad, double *sums, int64_t frames, int64_t frame, \
                         int64_t channels, int64_t inner) { \
        norm_sums<E>(x, grad, sums, frames, frame, channels, inner); \
    } \
    void NAME(norm_apply)(const E *x, E *y, const float *scale, const float *shift, int64_t frames, int64_t frame, \
                          int64_t channels, int64_t inner) { \
        norm_apply<E>(x, y, scale, shift, frames, frame, channels, inner); \
    } \
    void NAME(norm_combine)(const E *grad, const E *x, E *out, const float *a, const float *b, \
                            const float *d, int64_t frames, int64_t frame, int64_t channels, int64_t inner) { \
        norm_combine<E>(grad, x, out, a, b, d, frames, frame, channels, inner); \
    } \
    void NAME(pool_forward)(const E *x, E *out, uint8_t *which, int64_t frames, int64_t C, int64_t H, int64_t W, \
                            int64_t stride) { \
        pool_forward<E>(x, out, which, frames, C, H, W, stride); \
    } \
    void NAME(fire_pool)(const E *x, E *out, int64_t T, int64_t x_step, int64_t B, int64_t C, int64_t H, int64_t W, \
                         int64_t stride, const float *scale, const float *shift, const Neuron *p) { \
        (p->soft ? fire_pool<true, E> : fire_pool<false, E>)(x, out, T, x_step, B, C, H, W, stride, scale, shift, *p); \
    } \
    void NAME(pool_backward)(const E *grad_out, const uint8_t *which, E *grad, int64_t frames, int64_t C, \
                             int64_t H, int64_t W, int64_t stride) { \
        pool_backward<E>(grad_out, which, grad, frames, C, H, W, stride); \
    } \
    void NAME(pool_planes_forward)(const E *x, E *out, uint8_t *which, int64_t frames, int64_t heads, \
                                   int64_t tokens, int64_t width) { \
        pool_planes_forward<E>(x, out, which, frames, heads, tokens, width); \
    } \
    void NAME(pool_planes_backward)(const E *grad_out, const uint8_t *which, E *grad, int64_t frames, \
                                    int64_t heads, int64_t tokens, int64_t width) { \
        pool_planes_backward<E>(grad_out, which, grad, frames, heads, tokens, width); \
    } \
    int32_t NAME(pack)(const E *x, uint8_t *bits, int64_t n) { return pack<E>(x, bits, n); } \
    void NAME(unpack)(const uint8_t *bits, E *x, int64_t n) { unpack<E>(bits, x, n); }

#define FLOAT(name) name##_float32
#define BF16(name) name##_bfloat16
EXPORT(float, FLOAT)
EXPORT(bf16, BF16)

}  // extern "C"
