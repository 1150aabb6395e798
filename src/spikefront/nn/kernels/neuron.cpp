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
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <omp.h>
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

// Sixteen channels at once, or one: what the pools are written for. Bytes are whole numbers here.
constexpr int64_t LANES = 16;
typedef uint8_t Bytes __attribute__((vector_size(LANES)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));

struct Many {
    typedef float Real __attribute__((vector_size(LANES * 4)));
    typedef int32_t Whole __attribute__((vector_size(LANES * 4)));
};
struct Single {
    using Real = float;
    using Whole = int32_t;
};

template <class E> inline void load(const E *from, float &x) { x = wide(*from); }
inline void load(const uint8_t *from, int32_t &x) { x = *from; }
inline void load(const float *from, Many::Real &x) { std::memcpy(&x, from, sizeof x); }
inline void load(const bf16 *from, Many::Real &x) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    x = reinterpret_cast<Many::Real>(__builtin_convertvector(halves, Words) << 16);
}
inline void load(const uint8_t *from, Many::Whole &x) {
    Bytes bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    x = __builtin_convertvector(__builtin_convertvector(bytes, Halves), Many::Whole);  // GCC 12 doubles widths alone
}

template <class E> inline void store(E *to, const float &x) { *to = narrow<E>(x); }
inline void store(uint8_t *to, const int32_t &x) { *to = static_cast<uint8_t>(x); }
inline void store(float *to, const Many::Real &x) { std::memcpy(to, &x, sizeof x); }
inline void store(bf16 *to, const Many::Real &x) {
    const Words bits = reinterpret_cast<Words>(x);
    const Halves halves = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}
inline void store(uint8_t *to, const Many::Whole &x) {
    const Bytes bytes = __builtin_convertvector(__builtin_convertvector(x, Halves), Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
}

// run(from, Many{}) or run(from, Single{}) until all channels are done, some of them twice.
template <class Run> inline void over_channels(int64_t channels, Run run) {
    if (channels < LANES)
        for (int64_t c = 0; c < channels; c++) run(c, Single{});
    else
        for (int64_t c = 0; c < channels; c += LANES) run(std::min(c, channels - LANES), Many{});
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

// What a neuron's kernel adds: to the current, or to the spikes that it then gives.
enum Other { NOTHING, BEFORE, AFTER };

// The potential after a step whose current is scale x + shift + other.
template <bool SOFT, class E>
void integrate_both(const E *x, const E *other, const Affine &affine, float *current, const float *before, float *h,
                    const Neuron &p, int64_t n) {
    const float *scale = affine.scale.data(), *shift = affine.shift.data();
    if (affine.shape.channels) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) current[i] = wide(x[i]) * scale[i] + shift[i] + wide(other[i]);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) current[i] = wide(x[i]) + wide(other[i]);
    }
    integrate<SOFT, false, float>(current, nullptr, nullptr, before, h, p, n);
}

template <bool SOFT, class E>
void forward(const E *x, const E *other, int64_t where, E *spikes, int64_t T, int64_t x_step, const Shape &shape,
             const float *scale, const float *shift, const Neuron &p) {
#pragma omp parallel if (T * shape.frame > SMALL)
    {
        Affine affine(shape, scale, shift);
        std::vector<float> potential(shape.block), current(where == BEFORE ? shape.block : 0);
        const E one = narrow<E>(1.0f), none = narrow<E>(0.0f);
        const float threshold = p.threshold;
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * shape.block, n = std::min(shape.block, shape.frame - at);
            float *h = potential.data();
            affine.at(k);
            for (int64_t t = 0; t < T; t++) {
                E *s = spikes + t * shape.frame + at;
                const E *o = other + (where == NOTHING ? 0 : t * shape.frame + at), *in = x + t * x_step + at;
                if (where == BEFORE)
                    integrate_both<SOFT>(in, o, affine, current.data(), t ? h : nullptr, h, p, n);
                else
                    integrate<SOFT>(in, affine, t ? h : nullptr, h, p, n);
                if (where == AFTER) {
#pragma omp simd
                    for (int64_t i = 0; i < n; i++) s[i] = narrow<E>(wide(o[i]) + (h[i] >= threshold ? 1.0f : 0.0f));
                } else {
#pragma omp simd
                    for (int64_t i = 0; i < n; i++) s[i] = h[i] >= threshold ? one : none;
                }
            }
        }
    }
}

// Bits, 64 channels a word and a row a pixel, of where a potential is nearer to the threshold than `reach`. The frames are
// rows of C channels.
template <bool SOFT, class E>
void near(const E *x, uint64_t *bits, int64_t T, int64_t x_step, int64_t frame, int64_t C, const float *scale,
          const float *shift, const Neuron &p, float reach) {
    const Shape shape(frame, scale ? C : 0, 1);
    const int64_t rows = frame / C, words = (C + 63) / 64;
#pragma omp parallel if (T * frame > SMALL)
    {
        Affine affine(shape, scale, shift);
        std::vector<float> potential(C);
        std::vector<uint8_t> flags(words * 64);
        float *h = potential.data();
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t t = 0; t < T; t++) {
                integrate<SOFT>(x + t * x_step + row * C, affine, t ? h : nullptr, h, p, C);
#pragma omp simd
                for (int64_t c = 0; c < C; c++) {
                    const float u = h[c] - p.threshold;
                    flags[c] = (u < 0 ? -u : u) < reach ? 1 : 0;
                }
                uint64_t *to = bits + (t * rows + row) * words;
                for (int64_t word = 0; word < words; word++) {
                    uint64_t all = 0, eight;
                    for (int64_t k = 0; k < 8; k++) {  // eight bytes of 0 or 1 become the product's highest one
                        std::memcpy(&eight, &flags[word * 64 + k * 8], sizeof eight);
                        all |= ((eight * 0x0102040810204080) >> 56) << (k * 8);
                    }
                    to[word] = all;
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
void backward(const E *x, const E *other, const E *grad_spikes, E *grad, double *grad_gain, double *sums, int64_t T,
              int64_t x_step, const Shape &shape, const float *scale, const float *shift, const Neuron &p) {
    double total = 0;
#pragma omp parallel reduction(+ : total) if (T * shape.frame > SMALL)
    {
        const int64_t L = shape.block;
        Affine affine(shape, scale, shift);
        std::vector<float> h(L * T), gh(L), once(L), twice(L), current(other ? L : 0);
        std::vector<double> sum(shape.channels ? 2 * L : 0);
        std::vector<double> plane(shape.channels && !shape.rows() ? 2 * shape.channels : 0);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * L, n = std::min(L, shape.frame - at);
            affine.at(k);
            for (int64_t t = 0; t < T; t++) {
                const float *before = t ? &h[(t - 1) * L] : nullptr;
                if (other)
                    integrate_both<SOFT>(x + t * x_step + at, other + t * shape.frame + at, affine, current.data(), before,
                                         &h[t * L], p, n);
                else
                    integrate<SOFT>(x + t * x_step + at, affine, before, &h[t * L], p, n);
            }
            for (int64_t t = T - 1; t >= 0; t--) {
                (t == T - 1 ? step_back<SOFT, KIND, true, E> : step_back<SOFT, KIND, false, E>)(
                    &h[t * L], grad_spikes + t * shape.frame + at, x + t * x_step + at, gh.data(),
                    grad + (x_step ? t * shape.frame : 0) + at, once.data(), twice.data(), n, p);
                if (!grad_gain) continue;
                for (int64_t i = 0; i < n; i++) {
                    const float value = wide(x[t * x_step + at + i]);
                    const float mapped = shape.channels ? value * affine.scale[i] + affine.shift[i] : value;
                    const float drive = other ? mapped + wide(other[t * shape.frame + at + i]) : mapped;
                    const float before = t ? reset<SOFT>(h[(t - 1) * L + i], p.threshold) : 0.0f;
                    total += static_cast<double>(gh[i]) * (drive - before);
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
void neuron_forward(const E *x, const E *other, int64_t where, E *spikes, int64_t T, int64_t x_step, int64_t frame,
                    int64_t channels, int64_t inner, const float *scale, const float *shift, const Neuron *p) {
    const Shape shape(frame, channels, inner);
    (p->soft ? forward<true, E> : forward<false, E>)(x, other, where, spikes, T, x_step, shape, scale, shift, *p);
}

template <class E>
void neuron_backward(const E *x, const E *other, const E *grad_spikes, E *grad, double *grad_gain, double *sums,
                     int64_t T, int64_t x_step, int64_t frame, int64_t channels, int64_t inner, const float *scale,
                     const float *shift, const Neuron *p, int32_t kind) {
    const Shape shape(frame, channels, inner);
#define KIND(k) \
    case k: \
        (p->soft ? backward<true, k, E> : backward<false, k, E>)(x, other, grad_spikes, grad, grad_gain, sums, T, x_step, \
                                                           shape, scale, shift, *p); \
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

// What a batch norm in training is, from the sums: rows of scale, shift, mean and unbiased variance, and exactly of the
// mean and one by the deviation.
template <class E>
void norm_moments(const E *x, const float *weight, const float *bias, double eps, float *factors, double *exact,
                  int64_t frames, int64_t frame, int64_t channels, int64_t inner) {
    std::vector<double> sums(2 * channels);
    norm_sums<E>(x, nullptr, sums.data(), frames, frame, channels, inner);
    const double count = static_cast<double>(frames * frame / channels);
    for (int64_t c = 0; c < channels; c++) {
        const double mean = sums[c] / count, variance = std::max(0.0, sums[channels + c] / count - mean * mean);
        const double inverse = 1.0 / std::sqrt(variance + eps), scale = weight[c] * inverse;
        factors[c] = static_cast<float>(scale);
        factors[channels + c] = static_cast<float>(bias[c] - mean * scale);
        factors[2 * channels + c] = static_cast<float>(mean);
        factors[3 * channels + c] = static_cast<float>(variance * count / (count - 1));
        exact[c] = mean, exact[channels + c] = inverse;
    }
}

// y = scale[c] * x + shift[c], and `other` if there is one: a batch norm whose statistics are known.
template <class E>
void norm_apply(const E *x, const E *other, E *y, const float *scale, const float *shift, int64_t frames, int64_t frame,
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
            if (other) {
                const E *o = other + k * shape.block;
#pragma omp simd
                for (int64_t i = 0; i < n; i++) to[i] = narrow<E>(wide(from[i]) * a[i] + b[i] + wide(o[i]));
            } else {
#pragma omp simd
                for (int64_t i = 0; i < n; i++) to[i] = narrow<E>(wide(from[i]) * a[i] + b[i]);
            }
        }
    }
}

// A batch norm's gradient a[c] * grad + b[c] * x + d[c], given the sums of its output's and of that times x; writes those of
// its weight and bias. count is 0 for running estimates.
struct Combined {
    std::vector<float> a, b, d;

    Combined(const double *sums, const float *weight, const double *mean, const double *inverse, int64_t count,
             float *grad_weight, float *grad_bias, int64_t channels)
        : a(channels), b(channels), d(channels) {
        for (int64_t c = 0; c < channels; c++) {
            const double of_bias = sums[c], of_weight = inverse[c] * (sums[channels + c] - mean[c] * sums[c]);
            const double scale = weight[c] * inverse[c], share = count ? scale / static_cast<double>(count) : 0;
            grad_weight[c] = static_cast<float>(of_weight), grad_bias[c] = static_cast<float>(of_bias);
            a[c] = static_cast<float>(scale), b[c] = static_cast<float>(-share * inverse[c] * of_weight);
            d[c] = static_cast<float>(share * (mean[c] * inverse[c] * of_weight - of_bias));
        }
    }
};

// The last step of a batch norm's gradient; out may be grad itself.
template <class E>
void norm_combine(const E *grad, const E *x, E *out, const double *sums, const float *weight, const double *mean,
                  const double *inverse, int64_t count, float *grad_weight, float *grad_bias, int64_t frames,
                  int64_t frame, int64_t channels, int64_t inner) {
    const Shape shape(frame * frames, channels, inner);
    const Combined by(sums, weight, mean, inverse, count, grad_weight, grad_bias, channels);
#pragma omp parallel if (shape.frame > SMALL)
    {
        Affine one(shape, by.a.data(), by.b.data()), two(shape, by.d.data(), by.d.data());
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

// A neuron of several spikes at once, without memory: clip(round(h / threshold), 0, levels) / per, halves to even or `up`.
// Its gradient is 1 / (threshold per) where the potential h is in that range; the ends are part of a `closed` one.
struct Levels {
    float threshold, levels, per;
    int32_t up, closed;
};

constexpr float WHOLE = 12582912.0f;  // added and taken off again it rounds what is below 2^22, ties to even

template <bool UP> inline float rounded(float u, float levels) {
    const float most = u > levels ? levels : u, v = (most < 0 ? 0.0f : most) + (UP ? 0.5f : 0.0f);
    const float r = (v + WHOLE) - WHOLE;
    return UP && r > v ? r - 1.0f : r;
}

template <bool UP, bool AFFINE, class E>
void levels_row(const E *x, E *out, const float *scale, const float *shift, int64_t n, const Levels &p) {
    const float threshold = p.threshold, levels = p.levels, per = p.per, by = 1.0f / per;
    int power;
    if (threshold == 1 && std::frexp(per, &power) == 0.5f) {  // the same without a division
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            out[i] = narrow<E>(rounded<UP>(AFFINE ? wide(x[i]) * scale[i] + shift[i] : wide(x[i]), levels) * by);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float h = AFFINE ? wide(x[i]) * scale[i] + shift[i] : wide(x[i]);
        out[i] = narrow<E>(rounded<UP>(h / threshold, levels) / per);
    }
}

// What a potential's spikes pass of their gradient, of 1: `by` or nothing.
template <bool CLOSED> inline float passed(float u, float levels, float by) {
    const float above = (CLOSED ? u >= 0 : u > 0) ? by : 0.0f;
    return (CLOSED ? u <= levels : u < levels) ? above : 0.0f;
}

template <bool CLOSED, class E> void inside_row(const E *x, uint8_t *inside, int64_t n, const Levels &p) {
    const float threshold = p.threshold, levels = p.levels;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) inside[i] = passed<CLOSED>(wide(x[i]) / threshold, levels, 1.0f) > 0 ? 1 : 0;
}

// The gradient of the potential scale x + shift.
template <bool CLOSED, class E>
void levels_row_back(const E *x, const E *grad, const float *scale, const float *shift, float *out, int64_t n,
                     const Levels &p) {
    const float threshold = p.threshold, levels = p.levels, by = 1.0f / (p.threshold * p.per);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = wide(grad[i]) * passed<CLOSED>((wide(x[i]) * scale[i] + shift[i]) / threshold, levels, by);
}

// Its spikes and, where `inside` is wanted, whether they pass a gradient.
template <class E>
void levels_forward(const E *x, E *out, uint8_t *inside, int64_t frames, int64_t frame, int64_t channels, int64_t inner,
                    const float *scale, const float *shift, const Levels &p) {
    const Shape shape(frame * frames, channels, inner);
    const auto row = p.up ? (channels ? levels_row<true, true, E> : levels_row<true, false, E>)
                          : (channels ? levels_row<false, true, E> : levels_row<false, false, E>);
    const auto passes = p.closed ? inside_row<true, E> : inside_row<false, E>;
#pragma omp parallel if (shape.frame > SMALL)
    {
        Affine affine(shape, scale, shift);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * shape.block, n = std::min(shape.block, shape.frame - at);
            affine.at(k);
            row(x + at, out + at, affine.scale.data(), affine.shift.data(), n, p);
            if (inside) passes(x + at, inside + at, n, p);
        }
    }
}

// The gradient of what levels_forward read without a map.
template <class E>
void levels_backward(const E *grad, const uint8_t *inside, E *out, int64_t n, const Levels &p) {
#pragma omp parallel for schedule(static) if (n > SMALL)
    for (int64_t start = 0; start < n; start += 4096) {
        const int64_t end = std::min(n, start + 4096);
        const float by = 1.0f / (p.threshold * p.per);
#pragma omp simd
        for (int64_t i = start; i < end; i++) out[i] = narrow<E>(inside[i] ? wide(grad[i]) * by : 0.0f);
    }
}

// The gradient of what levels_forward read through a batch norm. It is found twice, which is cheaper than to write and
// read it in between.
template <class E>
void levels_norm_backward(const E *grad, const E *x, E *out, const float *scale, const float *shift, const float *weight,
                          const double *mean, const double *inverse, int64_t count, float *grad_weight,
                          float *grad_bias, int64_t frames, int64_t frame, int64_t channels, int64_t inner,
                          const Levels &p) {
    const Shape shape(frame * frames, channels, inner);
    const auto back = p.closed ? levels_row_back<true, E> : levels_row_back<false, E>;
    std::vector<double> sums(2 * channels);
#pragma omp parallel if (shape.frame > SMALL)
    {
        const int64_t L = shape.rows() ? shape.block : channels;
        Affine affine(shape, scale, shift);
        std::vector<float> of(shape.block);
        std::vector<double> sum(2 * L);
        double *s0 = sum.data(), *s1 = s0 + L;
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * shape.block, n = std::min(shape.block, shape.frame - at);
            const E *row = x + at;
            const float *g = of.data();
            affine.at(k);
            back(row, grad + at, affine.scale.data(), affine.shift.data(), of.data(), n, p);
            if (shape.rows()) {
#pragma omp simd
                for (int64_t i = 0; i < n; i++) s0[i] += g[i], s1[i] += g[i] * wide(row[i]);
            } else {
                double first = 0, second = 0;
#pragma omp simd reduction(+ : first, second)
                for (int64_t i = 0; i < n; i++) first += g[i], second += g[i] * wide(row[i]);
                s0[k % channels] += first, s1[k % channels] += second;
            }
        }
#pragma omp critical
        for (int64_t half = 0; half < 2; half++)
            for (int64_t i = 0; i < L; i++) sums[half * channels + i % channels] += sum[half * L + i];
    }
    const Combined by(sums.data(), weight, mean, inverse, count, grad_weight, grad_bias, channels);
#pragma omp parallel if (shape.frame > SMALL)
    {
        Affine affine(shape, scale, shift), one(shape, by.a.data(), by.b.data()), two(shape, by.d.data(), by.d.data());
        std::vector<float> of(shape.block);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < shape.blocks(); k++) {
            const int64_t at = k * shape.block, n = std::min(shape.block, shape.frame - at);
            affine.at(k), one.at(k), two.at(k);
            const float *pa = one.scale.data(), *pb = one.shift.data(), *pd = two.scale.data(), *g = of.data();
            const E *row = x + at;
            E *o = out + at;
            back(row, grad + at, affine.scale.data(), affine.shift.data(), of.data(), n, p);
#pragma omp simd
            for (int64_t i = 0; i < n; i++) o[i] = narrow<E>(pa[i] * g[i] + pb[i] * wide(row[i]) + pd[i]);
        }
    }
}

// 3x3 max-pooling with padding 1 in channels-last memory of x, or of scale x + shift; `which` is the winning tap, the
// first among equals.
template <bool AFFINE, class E>
void pool_forward(const E *x, E *out, uint8_t *which, int64_t frames, int64_t C, int64_t H, int64_t W, int64_t stride,
                  const float *scale, const float *shift) {
    const int64_t h = (H - 1) / stride + 1, w = (W - 1) / stride + 1;
#pragma omp parallel for schedule(static) if (frames * H * W * C > SMALL)
    for (int64_t row = 0; row < frames * h; row++) {
        const int64_t f = row / h, top = row % h * stride - 1;
        for (int64_t ox = 0; ox < w; ox++) {
            const int64_t left = ox * stride - 1;
            const E *taps[9];
            int32_t labels[9], count = 0;
            for (int32_t tap = 0; tap < 9; tap++) {
                const int64_t y = top + tap / 3, z = left + tap % 3;
                if (y < 0 || y >= H || z < 0 || z >= W) continue;
                taps[count] = x + ((f * H + y) * W + z) * C, labels[count++] = tap;
            }
            const int64_t at = (row * w + ox) * C;
            over_channels(C, [&](int64_t c, auto width) {
                typename decltype(width)::Real best, now, by{}, more_by{};
                typename decltype(width)::Whole none{}, index = none + labels[0];
                if (AFFINE) load(scale + c, by), load(shift + c, more_by);
                load(taps[0] + c, best);
                if (AFFINE) best = best * by + more_by;
                for (int32_t k = 1; k < count; k++) {
                    load(taps[k] + c, now);
                    if (AFFINE) now = now * by + more_by;
                    const auto more = now > best;
                    best = more ? now : best;
                    index = more ? none + labels[k] : index;
                }
                store(out + at + c, best);
                if (which) store(which + at + c, index);
            });
        }
    }
}

// The gradients that one value gets from ROWS x COLUMNS windows around it; it is `tap` of the first of these.
template <int ROWS, int COLUMNS, class E>
void collect(const E *grad_out, const uint8_t *which, E *grad, int64_t C, int64_t row, int32_t tap, int32_t stride) {
    over_channels(C, [=](int64_t c, auto width) {
        typename decltype(width)::Real none{}, sum{}, g;
        typename decltype(width)::Whole won;
        for (int r = 0; r < ROWS; r++)
            for (int q = 0; q < COLUMNS; q++) {
                load(grad_out + r * row + q * C + c, g), load(which + r * row + q * C + c, won);
                sum = sum + (won == tap - stride * (3 * r + q) ? g : none);
            }
        store(grad + c, sum);
    });
}

// The gradients of one row of values, each the sum over the windows that it won. Strides 1 and 2.
template <class E>
void unpool_row(const E *grad_out, const uint8_t *which, E *grad, int64_t row, int64_t C, int64_t H, int64_t W,
                int64_t stride) {
    const int64_t h = (H - 1) / stride + 1, w = (W - 1) / stride + 1;
    const auto first = [=](int64_t at) { return stride == 2 ? at >> 1 : std::max<int64_t>(0, at - 1); };
    const auto last = [=](int64_t at, int64_t size) { return std::min(size - 1, (at + 1) >> (stride - 1)); };
    constexpr decltype(&collect<1, 1, E>) collects[3][3] = {
        {collect<1, 1, E>, collect<1, 2, E>, collect<1, 3, E>},
        {collect<2, 1, E>, collect<2, 2, E>, collect<2, 3, E>},
        {collect<3, 1, E>, collect<3, 2, E>, collect<3, 3, E>},
    };
    const int64_t f = row / H, y = row % H, top = first(y), more = last(y, h) - top;
    for (int64_t z = 0; z < W; z++) {
        const int64_t left = first(z), from = ((f * h + top) * w + left) * C;
        const int64_t tap = (y - top * stride + 1) * 3 + z - left * stride + 1;
        collects[more][last(z, w) - left](grad_out + from, which + from, grad + z * C, C, w * C,
                                          static_cast<int32_t>(tap), static_cast<int32_t>(stride));
    }
}

template <class E>
void pool_backward(const E *grad_out, const uint8_t *which, E *grad, int64_t frames, int64_t C, int64_t H, int64_t W,
                   int64_t stride) {
#pragma omp parallel for schedule(static) if (frames * H * W * C > SMALL)
    for (int64_t row = 0; row < frames * H; row++)
        unpool_row(grad_out, which, grad + row * W * C, row, C, H, W, stride);
}

// The gradient of a pool's input through the batch norm before it, row by row: the pool's own, of which there are several
// times as many, is not written.
template <class E>
void norm_pool_backward(const E *grad_out, const uint8_t *which, const E *x, E *out, const float *weight,
                        const double *mean, const double *inverse, int64_t count, float *grad_weight, float *grad_bias,
                        int64_t frames, int64_t C, int64_t H, int64_t W, int64_t stride) {
    const int64_t row = W * C, L = std::min(row, C * std::max<int64_t>(1, 512 / C));
    std::vector<double> sums(2 * C);
#pragma omp parallel if (frames * H * row > SMALL)
    {
        std::vector<E> grad(row);
        std::vector<double> sum(2 * L);
        double *s0 = sum.data(), *s1 = s0 + L;
#pragma omp for schedule(static)
        for (int64_t k = 0; k < frames * H; k++) {
            unpool_row(grad_out, which, grad.data(), k, C, H, W, stride);
            for (int64_t at = 0; at < row; at += L) {
                const int64_t n = std::min(L, row - at);
                const E *g = grad.data() + at, *v = x + k * row + at;
#pragma omp simd
                for (int64_t i = 0; i < n; i++) s0[i] += wide(g[i]), s1[i] += wide(g[i]) * wide(v[i]);
            }
        }
#pragma omp critical
        for (int64_t half = 0; half < 2; half++)
            for (int64_t i = 0; i < L; i++) sums[half * C + i % C] += sum[half * L + i];
    }
    const Combined by(sums.data(), weight, mean, inverse, count, grad_weight, grad_bias, C);
    const Shape shape(row, C, 1);
#pragma omp parallel if (frames * H * row > SMALL)
    {
        std::vector<E> grad(row);
        const Affine one(shape, by.a.data(), by.b.data()), two(shape, by.d.data(), by.d.data());
        const float *pa = one.scale.data(), *pb = one.shift.data(), *pd = two.scale.data();
#pragma omp for schedule(static)
        for (int64_t k = 0; k < frames * H; k++) {
            unpool_row(grad_out, which, grad.data(), k, C, H, W, stride);
            for (int64_t at = 0; at < row; at += shape.block) {
                const int64_t n = std::min(shape.block, row - at);
                const E *g = grad.data() + at, *v = x + k * row + at;
                E *o = out + k * row + at;
#pragma omp simd
                for (int64_t i = 0; i < n; i++) o[i] = narrow<E>(pa[i] * wide(g[i]) + pb[i] * wide(v[i]) + pd[i]);
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

// A head's windows win nothing of another head's, so a token's row can be gone through whole.
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
                for (int64_t along = -1; along <= 1; along++) {  // from here to the window's middle
                    const int64_t first = along < 0 ? 1 : 0, from = (row + down) * C + first + along;
                    const uint8_t tap = static_cast<uint8_t>((1 - down) * 3 + 1 - along), *won = which + from;
                    const E *g = grad_out + from;
                    float *into = sum.data() + first;
#pragma omp simd
                    for (int64_t i = 0; i < C - std::abs(along); i++) into[i] += won[i] == tap ? wide(g[i]) : 0.0f;
                }
            E *to = grad + row * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) to[c] = narrow<E>(sum[c]);
        }
    }
}

// Bits of eight values, of which `other` are neither 0 nor 1.
template <class E> inline uint8_t eight_bits(const E *x, int64_t n, int32_t &other) {
    uint32_t byte = 0;
    for (int64_t j = 0; j < n; j++) {
        other |= wide(x[j]) != 0.0f && wide(x[j]) != 1.0f;
        byte |= (wide(x[j]) == 1.0f ? 1u : 0u) << j;
    }
    return static_cast<uint8_t>(byte);
}

// Of whole multiples of GROUP values, as many as a processor takes at once.
#ifdef __AVX512BW__
constexpr int64_t GROUP = 32;
inline void group_bits(const float *x, uint8_t *bits, int32_t &other) {
    const __m512 one = _mm512_set1_ps(1.0f), low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    const __mmask16 a = _mm512_cmpeq_ps_mask(low, one), b = _mm512_cmpeq_ps_mask(high, one);
    const __mmask16 none_a = _mm512_cmpeq_ps_mask(low, _mm512_setzero_ps());
    const __mmask16 none_b = _mm512_cmpeq_ps_mask(high, _mm512_setzero_ps());
    other |= ((a | none_a) & (b | none_b)) != 0xffff;
    const uint32_t ones = a | static_cast<uint32_t>(b) << 16;
    std::memcpy(bits, &ones, sizeof ones);
}
inline void group_bits(const bf16 *x, uint8_t *bits, int32_t &other) {
    const __m512i v = _mm512_loadu_si512(x);
    const __mmask32 ones = _mm512_cmpeq_epi16_mask(v, _mm512_set1_epi16(0x3f80));
    other |= (ones | _mm512_testn_epi16_mask(v, _mm512_set1_epi16(0x7fff))) != 0xffffffff;  // zeros of either sign
    std::memcpy(bits, &ones, sizeof ones);
}
inline void group_values(const uint8_t *bits, float *x) {
    __mmask16 ones[2];
    std::memcpy(ones, bits, sizeof ones);
    for (int64_t half = 0; half < 2; half++)
        _mm512_storeu_ps(x + half * 16, _mm512_maskz_mov_ps(ones[half], _mm512_set1_ps(1.0f)));
}
inline void group_values(const uint8_t *bits, bf16 *x) {
    __mmask32 ones;
    std::memcpy(&ones, bits, sizeof ones);
    _mm512_storeu_si512(x, _mm512_maskz_set1_epi16(ones, 0x3f80));
}
#elif defined(__AVX2__)
constexpr int64_t GROUP = 8;
inline void group_bits(const float *x, uint8_t *bits, int32_t &other) {
    const __m256 v = _mm256_loadu_ps(x);
    const int ones = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(1.0f), _CMP_EQ_OQ));
    const int zeros = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_EQ_OQ));
    other |= (ones | zeros) != 255;
    *bits = static_cast<uint8_t>(ones);
}
inline void group_bits(const bf16 *x, uint8_t *bits, int32_t &other) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i *>(x));
    const __m128i one = _mm_cmpeq_epi16(v, _mm_set1_epi16(0x3f80));
    const __m128i none = _mm_cmpeq_epi16(_mm_add_epi16(v, v), _mm_setzero_si128());  // of either sign
    other |= _mm_movemask_epi8(_mm_or_si128(one, none)) != 0xffff;
    *bits = static_cast<uint8_t>(_mm_movemask_epi8(_mm_packs_epi16(one, one)));
}
inline void group_values(const uint8_t *bits, float *x) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(*bits), each), each);
    _mm256_storeu_ps(x, _mm256_and_ps(_mm256_castsi256_ps(set), _mm256_set1_ps(1.0f)));
}
inline void group_values(const uint8_t *bits, bf16 *x) {
    const __m128i each = _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128);
    const __m128i set = _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16(*bits), each), each);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(x), _mm_and_si128(set, _mm_set1_epi16(0x3f80)));
}
#else
constexpr int64_t GROUP = 8;
template <class E> inline void group_bits(const E *x, uint8_t *bits, int32_t &other) { *bits = eight_bits(x, 8, other); }
template <class E> inline void group_values(const uint8_t *bits, E *x) {
    for (int64_t j = 0; j < 8; j++) x[j] = narrow<E>((*bits >> j) & 1 ? 1.0f : 0.0f);
}
#endif

// Eight zeros and ones a byte. Returns 0, leaving `bits` undefined, at the first other value.
template <class E>
int32_t pack(const E *x, uint8_t *bits, int64_t n) {
    int32_t other = 0;
#pragma omp parallel for schedule(static) reduction(| : other) if (n > SMALL)
    for (int64_t chunk = 0; chunk < (n + 4095) / 4096; chunk++) {
        const int64_t end = std::min(n, (chunk + 1) * 4096);
        int64_t i = chunk * 4096;
        for (; i + GROUP <= end && !other; i += GROUP) group_bits(x + i, bits + i / 8, other);
        for (; i < end && !other; i += 8) bits[i / 8] = eight_bits(x + i, std::min<int64_t>(8, end - i), other);
    }
    return !other;
}

template <class E>
void unpack(const uint8_t *bits, E *x, int64_t n) {
    const int64_t whole = n / GROUP * GROUP;
#pragma omp parallel for schedule(static) if (n > SMALL)
    for (int64_t i = 0; i < whole; i += GROUP) group_values(bits + i / 8, x + i);
    for (int64_t i = whole; i < n; i++) x[i] = narrow<E>((bits[i / 8] >> (i % 8)) & 1 ? 1.0f : 0.0f);
}

}  // namespace

extern "C" {

#define EXPORT(E, NAME) \
    void NAME(neuron_forward)(const E *x, const E *other, int64_t where, E *spikes, int64_t T, int64_t x_step, \
                              int64_t frame, int64_t channels, int64_t inner, const float *scale, const float *shift, \
                              const Neuron *p) { \
        neuron_forward<E>(x, other, where, spikes, T, x_step, frame, channels, inner, scale, shift, p); \
    } \
    void NAME(neuron_near)(const E *x, uint64_t *bits, int64_t T, int64_t x_step, int64_t frame, int64_t C, \
                           const float *scale, const float *shift, const Neuron *p, double reach) { \
        (p->soft ? near<true, E> : near<false, E>)(x, bits, T, x_step, frame, C, scale, shift, *p, \
                                                   static_cast<float>(reach)); \
    } \
    void NAME(neuron_backward)(const E *x, const E *other, const E *grad_spikes, E *grad, double *grad_gain, \
                               double *sums, int64_t T, int64_t x_step, int64_t frame, int64_t channels, int64_t inner, \
                               const float *scale, const float *shift, const Neuron *p, int64_t kind) { \
        neuron_backward<E>(x, other, grad_spikes, grad, grad_gain, sums, T, x_step, frame, channels, inner, scale, \
                           shift, p, kind); \
    } \
    void NAME(norm_sums)(const E *x, const E *grad, double *sums, int64_t frames, int64_t frame, \
                         int64_t channels, int64_t inner) { \
        norm_sums<E>(x, grad, sums, frames, frame, channels, inner); \
    } \
    void NAME(norm_apply)(const E *x, const E *other, E *y, const float *scale, const float *shift, int64_t frames, \
                          int64_t frame, int64_t channels, int64_t inner) { \
        norm_apply<E>(x, other, y, scale, shift, frames, frame, channels, inner); \
    } \
    void NAME(norm_moments)(const E *x, const float *weight, const float *bias, double eps, float *factors, \
                            double *exact, int64_t frames, int64_t frame, int64_t channels, int64_t inner) { \
        norm_moments<E>(x, weight, bias, eps, factors, exact, frames, frame, channels, inner); \
    } \
    void NAME(norm_combine)(const E *grad, const E *x, E *out, const double *sums, const float *weight, \
                            const double *mean, const double *inverse, int64_t count, float *grad_weight, \
                            float *grad_bias, int64_t frames, int64_t frame, int64_t channels, int64_t inner) { \
        norm_combine<E>(grad, x, out, sums, weight, mean, inverse, count, grad_weight, grad_bias, frames, frame, \
                        channels, inner); \
    } \
    void NAME(levels_forward)(const E *x, E *out, uint8_t *inside, int64_t frames, int64_t frame, int64_t channels, \
                              int64_t inner, const float *scale, const float *shift, const Levels *p) { \
        levels_forward<E>(x, out, inside, frames, frame, channels, inner, scale, shift, *p); \
    } \
    void NAME(levels_backward)(const E *grad, const uint8_t *inside, E *out, int64_t n, const Levels *p) { \
        levels_backward<E>(grad, inside, out, n, *p); \
    } \
    void NAME(levels_norm_backward)(const E *grad, const E *x, E *out, const float *scale, const float *shift, \
                                    const float *weight, const double *mean, const double *inverse, int64_t count, \
                                    float *grad_weight, float *grad_bias, int64_t frames, int64_t frame, \
                                    int64_t channels, int64_t inner, const Levels *p) { \
        levels_norm_backward<E>(grad, x, out, scale, shift, weight, mean, inverse, count, grad_weight, grad_bias, \
                                frames, frame, channels, inner, *p); \
    } \
    void NAME(pool_forward)(const E *x, E *out, uint8_t *which, int64_t frames, int64_t C, int64_t H, int64_t W, \
                            int64_t stride, const float *scale, const float *shift) { \
        (scale ? pool_forward<true, E> : pool_forward<false, E>)(x, out, which, frames, C, H, W, stride, scale, shift); \
    } \
    void NAME(norm_pool_backward)(const E *grad_out, const uint8_t *which, const E *x, E *out, const float *weight, \
                                  const double *mean, const double *inverse, int64_t count, float *grad_weight, \
                                  float *grad_bias, int64_t frames, int64_t C, int64_t H, int64_t W, int64_t stride) { \
        norm_pool_backward<E>(grad_out, which, x, out, weight, mean, inverse, count, grad_weight, grad_bias, frames, C, \
                              H, W, stride); \
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
