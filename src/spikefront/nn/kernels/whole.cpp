// Convolutions of spikes with weights of 8 bits, added only where a spike is, in whole numbers.
//
// As in sparse.cpp spikes are rows of bits, a row a pixel, and become lists of the channels that spiked. Weights stand
// in tiles of 64 output columns, a byte each: a tile's spikes are one word. A list's rows are added in 16 bits, at most
// MOST of them, which can't overflow, and those sums in 32. A tile's neurons go through their T steps in registers, so
// that nothing between two layers is ever written but bits. Vectors are GCC's: the compiler makes AVX-512, AVX2 or NEON
// of them.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#include "crew.h"

namespace {

#if defined(__AVX512BW__)
constexpr int64_t BYTES = 64;
#elif defined(__AVX2__)
constexpr int64_t BYTES = 32;
#else
constexpr int64_t BYTES = 16;
#endif
typedef uint16_t Words __attribute__((vector_size(BYTES)));
typedef uint16_t LooseWords __attribute__((vector_size(BYTES), aligned(1), may_alias));
typedef int16_t Shorts __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef int32_t LooseInts __attribute__((vector_size(BYTES), aligned(4)));
typedef uint32_t Unsigned __attribute__((vector_size(BYTES)));
typedef float Floats __attribute__((vector_size(BYTES)));
typedef float LooseFloats __attribute__((vector_size(BYTES), aligned(4)));

constexpr int64_t TILE = 64;               // output columns: one word of spikes
constexpr int64_t GROUPS = TILE / BYTES;   // vectors of weights a tile
constexpr int64_t INTS = BYTES / 4, N32 = TILE / INTS;
constexpr int64_t MOST = 256;              // numbers of 8 bits that 16 bits can hold the sum of
constexpr int64_t ROWS = 256;              // frames' pixels a block, all T steps of each
constexpr int32_t LARGEST = 1 << 30;       // that a potential may be: the sum of two is a number still
constexpr int64_t SMALL = 4096;            // words below which a second thread costs more than it brings

// Memory that a thread keeps from call to call.
template <typename Type> Type *scratch(std::unique_ptr<Type[]> &kept, int64_t &size, int64_t wanted) {
    if (size < wanted) kept.reset(new Type[wanted]), size = wanted;
    return kept.get();
}

// The sum of the listed rows of `weights` in 32 bits. A word of 16 bits holds two weights, the lower one plus 128.
// Added up are the words, modulo 2^16, and their upper halves: the sum of the lower halves, below 2^16, is what is
// left. Byte q of the words' lane l is column q * INTS + l of BYTES columns, so that nothing has to be moved.
inline void add(const uint16_t *p, const uint16_t *end, const uint8_t *weights, Ints *total) {
    const int32_t lower = -128 * static_cast<int32_t>(end - p);
    for (int64_t v = 0; v < N32; v++) total[v] = Ints{} + (v % 2 ? 0 : lower);
    do {
        const uint16_t *stop = end - p > MOST ? p + MOST : end;
        Words both[GROUPS] = {};
        Shorts upper[GROUPS] = {};
        const auto one = [&](uint16_t entry) {
            const LooseWords *row = reinterpret_cast<const LooseWords *>(weights + static_cast<int64_t>(entry) * TILE);
            for (int64_t v = 0; v < GROUPS; v++) {
                const Words own = row[v];
                both[v] += own, upper[v] += reinterpret_cast<Shorts>(own) >> 8;
            }
        };
        if ((stop - p) % 2) one(*p++);
        for (; p < stop; p += 2) one(p[0]), one(p[1]);
        for (int64_t v = 0; v < GROUPS; v++) {
            const Unsigned low = reinterpret_cast<Unsigned>(both[v] - (reinterpret_cast<Words>(upper[v]) << 8));
            const Ints high = reinterpret_cast<Ints>(upper[v]);
            total[4 * v] += reinterpret_cast<Ints>(low & 0xffff);
            total[4 * v + 1] += reinterpret_cast<Ints>(reinterpret_cast<Unsigned>(high) << 16) >> 16;
            total[4 * v + 2] += reinterpret_cast<Ints>(low >> 16);
            total[4 * v + 3] += high >> 16;
        }
    } while (p < end);
}

inline uint64_t bits_of(Ints mask) {  // of a comparison
#if defined(__AVX512BW__)
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
    return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#else
    uint64_t bits = 0;
    for (int64_t i = 0; i < INTS; i++) bits |= static_cast<uint64_t>(mask[i] & 1) << i;
    return bits;
#endif
}

// A neuron: whole numbers, `levels` thresholds a channel (and, of a soft reset, what a spike takes), in whole tiles;
// leak and gain in parts of 256.
struct Neuron {
    int32_t leak, gain, soft, levels;
    const int32_t *thresholds, *drop;
};

// One step of N32 vectors of membranes at channel `c` of `width` on currents `x`; the spikes of level n are added to
// `bits[n * apart]`.
inline void step(Ints *v, const Ints *x, const Neuron &n, int64_t c, int64_t width, bool first, uint64_t *bits,
                 int64_t apart) {
    for (int64_t level = 0; level < n.levels; level++) bits[level * apart] = 0;
    for (int64_t i = 0; i < N32; i++) {
        Ints h;
        if (n.leak == 128 && n.gain == 128)
            h = (first ? x[i] : v[i] + x[i]) >> 1;
        else {  // (leak v + gain x) >> 8, whose products need more than 32 bits
            h = n.gain * (x[i] >> 8);
            Ints low = n.gain * (x[i] & 255);
            if (!first) h += n.leak * (v[i] >> 8), low += n.leak * (v[i] & 255);
            h += low >> 8;
        }
        Ints any = {}, taken = {};
        for (int64_t level = 0; level < n.levels; level++) {
            const int64_t at = c + i * INTS;
            const Ints fired = h >= *reinterpret_cast<const LooseInts *>(n.thresholds + level * width + at);
            bits[level * apart] |= bits_of(fired) << (i * INTS);
            any |= fired;
            if (n.soft) taken += fired & *reinterpret_cast<const LooseInts *>(n.drop + at);
        }
        v[i] = n.soft ? h - taken : h & ~any;
    }
}

// The channels that are set in `words` words, `base` added; writes up to 32 entries beyond. Returns the end.
inline uint16_t *list(const uint64_t *words, int64_t n, uint16_t base, uint16_t *out) {
#if defined(__AVX512VBMI2__) && defined(__AVX512BW__)
    alignas(64) static const uint16_t counting[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                                      16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    __m512i index = _mm512_add_epi16(_mm512_load_si512(counting), _mm512_set1_epi16(static_cast<int16_t>(base)));
    const __m512i further = _mm512_set1_epi16(32);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t b = words[i];
        _mm512_storeu_si512(out, _mm512_maskz_compress_epi16(static_cast<__mmask32>(b), index));
        out += __builtin_popcountll(b & 0xffffffffu);
        index = _mm512_add_epi16(index, further);
        _mm512_storeu_si512(out, _mm512_maskz_compress_epi16(static_cast<__mmask32>(b >> 32), index));
        out += __builtin_popcountll(b >> 32);
        index = _mm512_add_epi16(index, further);
    }
#else
    for (int64_t i = 0; i < n; i++)
        for (uint64_t b = words[i]; b; b &= b - 1)
            *out++ = static_cast<uint16_t>(base + i * 64 + __builtin_ctzll(b));
#endif
    return out;
}

// Where spikes lie: a bit a channel, `words` words a pixel, planes (whole numbers: how many of them are set) outermost.
struct Source {
    const uint64_t *bits;
    int64_t planes, rows, height, width, words, taps;

    // What is set at `row` and, for a 3x3 kernel, around it, as rows of weights; writes up to 32 entries beyond.
    uint16_t *listed(int64_t row, uint16_t *out) const {
        const int64_t y = row % (height * width) / width, x = row % width, far = taps > 1;
        const int64_t left = std::max<int64_t>(-far, -x), right = std::min(far, width - 1 - x);
        for (int64_t plane = 0; plane < planes; plane++)
            for (int64_t dy = std::max<int64_t>(-far, -y); dy <= std::min(far, height - 1 - y); dy++) {
                const int64_t first = plane * rows + row + dy * width + left;  // neighbours are one run of words
                const int64_t tap = far ? (dy + 1) * 3 + left + 1 : 0, n = (right - left + 1) * words;
                out = list(bits + first * words, n, static_cast<uint16_t>(tap * words * 64), out);
            }
        return out;
    }
};

template <typename Type> void pick(const Type *from, int64_t n, void *to) {  // up to TILE numbers
    if (n == TILE) std::memcpy(to, from, TILE * sizeof *from);
    else std::memcpy(to, from, n * sizeof *from);
}

// Sums at `column` as currents of integers.
inline void to_currents(Ints *x, const int32_t *gain, const int32_t *offset, int64_t column) {
    for (int64_t k = 0; k < N32; k++)
        x[k] = x[k] * *reinterpret_cast<const LooseInts *>(gain + column + k * INTS) +
               *reinterpret_cast<const LooseInts *>(offset + column + k * INTS);
}

inline uint64_t first_bits(int64_t n) { return n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

struct Sizes {
    int64_t T, pixels, channels;
    int64_t tiles() const { return (channels + TILE - 1) / TILE; }
    int64_t filled(int64_t tile) const { return std::min(TILE, channels - tile * TILE); }
};

// What becomes of a tile's sums at step t of a row: sum * gain + offset, added to `onto`, or a neuron's spikes.
struct Whole {
    typedef Ints Vector;
    const int32_t *gain, *offset, *onto;
    int32_t *out;
    const Neuron *neuron;
    uint64_t *spikes;

    bool operator()(Ints *v, Ints *x, const Sizes &sizes, int64_t row, int64_t tile, int64_t t) const {
        const int64_t column = tile * TILE, filled = sizes.filled(tile), tiles = sizes.tiles();
        to_currents(x, gain, offset, column);
        if (neuron) {
            step(v, x, *neuron, column, tiles * TILE, t == 0, spikes + row * tiles + tile,
                 sizes.T * sizes.pixels * tiles);
            return false;
        }
        const int64_t at = row * sizes.channels + column;
        Ints before[N32] = {}, far = {};
        if (onto) {
            pick(onto + at, filled, before);
            for (int64_t k = 0; k < N32; k++) x[k] += before[k], far |= (x[k] > LARGEST) | (x[k] < -LARGEST);
        }
        pick(reinterpret_cast<const int32_t *>(x), filled, out + at);
        return bits_of(far) != 0;
    }
};

// A leaky integrate-and-fire neuron of real potentials, as in sparse.cpp.
struct RealNeuron {
    float gain, leak, threshold;
    int32_t soft;
};

// The same for layers whose weights alone are whole: sum * scale + bias.
struct Scaled {
    typedef Floats Vector;
    const float *scale, *bias, *onto;
    float *out;
    const RealNeuron *neuron;
    uint64_t *spikes;

    bool operator()(Floats *v, const Ints *total, const Sizes &sizes, int64_t row, int64_t tile, int64_t t) const {
        const int64_t column = tile * TILE, filled = sizes.filled(tile), at = row * sizes.channels + column;
        Floats x[N32], before[N32] = {};
        for (int64_t k = 0; k < N32; k++)
            x[k] = __builtin_convertvector(total[k], Floats) *
                       *reinterpret_cast<const LooseFloats *>(scale + column + k * INTS) +
                   *reinterpret_cast<const LooseFloats *>(bias + column + k * INTS);
        if (!neuron) {
            if (onto) pick(onto + at, filled, before);
            for (int64_t k = 0; onto && k < N32; k++) x[k] += before[k];
            pick(reinterpret_cast<const float *>(x), filled, out + at);
            return false;
        }
        uint64_t bits = 0;
        for (int64_t k = 0; k < N32; k++) {
            const Floats h = t == 0 ? x[k] * neuron->gain : neuron->leak * v[k] + neuron->gain * x[k];
            const Ints fired = h >= neuron->threshold;
            bits |= bits_of(fired) << (k * INTS);
            const Floats one = -__builtin_convertvector(fired, Floats);
            v[k] = neuron->soft ? h - neuron->threshold * one : h * (1.0f - one);
        }
        spikes[row * sizes.tiles() + tile] = bits & first_bits(filled);
        return false;
    }
};

// The sums of T times `frames` frames' rows of weights where spikes are, each handed to `finish`; weights: tiles of
// (taps, whole words of channels, TILE), interleaved. Returns whether `finish` ever said so.
template <typename Finish>
bool convolve(const uint64_t *bits, const uint8_t *weights, const Finish &finish, int64_t planes, int64_t T,
              int64_t frames, int64_t height, int64_t width, int64_t in, int64_t channels, int64_t taps) {
    const Sizes sizes{T, frames * height * width, channels};
    const int64_t words = (in + 63) / 64;
    const Source source{bits, planes, T * sizes.pixels, height, width, words, taps};
    const bool worth = T * sizes.pixels * sizes.tiles() > SMALL / 64;
    const int64_t shares = worth ? 4 * omp_get_max_threads() : 1;  // small ones: a thread that is late holds up none
    const int64_t size = std::max<int64_t>(1, std::min((ROWS + T - 1) / T, (sizes.pixels + shares - 1) / shares));
    std::atomic<bool> said{false};
    share_parts(sizes.pixels, size, worth, [&](int64_t block, int64_t end) {
        static thread_local std::unique_ptr<uint16_t[]> entries;
        static thread_local std::unique_ptr<const uint16_t *[]> lists;
        static thread_local int64_t room = 0, seats = 0;
        const int64_t n = end - block;
        const uint16_t **begin = scratch(lists, seats, T * size + 1);
        const uint16_t *next = begin[0] = scratch(entries, room, n * T * planes * taps * words * 64 + 64);
        for (int64_t i = 0; i < n * T; i++)
            next = begin[i + 1] = source.listed(i % T * sizes.pixels + block + i / T, const_cast<uint16_t *>(next));
        bool found = false;
        for (int64_t tile = 0; tile < sizes.tiles(); tile++)
            for (int64_t pixel = 0; pixel < n; pixel++) {
                typename Finish::Vector v[N32] = {};
                for (int64_t t = 0; t < T; t++) {
                    const uint16_t **list = begin + pixel * T + t;
                    Ints total[N32];
                    add(list[0], list[1], weights + tile * taps * words * 64 * TILE, total);
                    found |= finish(v, total, sizes, t * sizes.pixels + block + pixel, tile, t);
                }
            }
        if (found) said = true;
    });
    return said;
}

}  // namespace

extern "C" {

// Of how many columns the bytes of weights are interleaved.
int64_t interleaved() { return BYTES; }

// Whole numbers from 0 to `most` as planes of bits, plane n set where the number is above n. Returns -1 at
// a value that is not such a number, else 0.
int64_t encode_whole(const float *x, uint64_t *bits, int64_t most, int64_t rows, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
    std::atomic<bool> other{false};
    share_parts(rows, ROWS, rows * words > SMALL, [&](int64_t first, int64_t last) {
        bool strange = false;
        for (int64_t row = first; row < last; row++)
            for (int64_t word = 0; word < words; word++) {
                const int64_t n = std::min<int64_t>(64, channels - word * 64);
                for (int64_t plane = 0; plane < most; plane++) bits[(plane * rows + row) * words + word] = 0;
                for (int64_t i = 0; i < n; i++) {
                    const float v = x[row * channels + word * 64 + i];
                    const bool near = v >= 0.0f && v <= static_cast<float>(most);
                    const int32_t count = near ? static_cast<int32_t>(v) : 0;
                    strange |= !near || v != static_cast<float>(count);
                    for (int64_t plane = 0; plane < count; plane++)
                        bits[(plane * rows + row) * words + word] |= uint64_t{1} << i;
                }
            }
        if (strange) other = true;
    });
    return other ? -1 : 0;
}

// A layer of whole numbers (see Whole and convolve). Returns whether all that was added to `onto` is within LARGEST, if
// what it was added to is.
int32_t convolve_whole(const uint64_t *bits, const uint8_t *weights, const int32_t *gain, const int32_t *offset,
                       const int32_t *onto, int32_t *out, const Neuron *neuron, uint64_t *spikes, int64_t planes,
                       int64_t T, int64_t frames, int64_t height, int64_t width, int64_t in, int64_t channels,
                       int64_t taps) {
    const Whole finish{gain, offset, onto, out, neuron, spikes};
    return !convolve(bits, weights, finish, planes, T, frames, height, width, in, channels, taps);
}

// A layer whose weights are whole numbers times a real scale a column (see Scaled and convolve).
void convolve_scaled(const uint64_t *bits, const uint8_t *weights, const float *scale, const float *bias,
                     const float *onto, float *out, const RealNeuron *neuron, uint64_t *spikes, int64_t planes,
                     int64_t T, int64_t frames, int64_t height, int64_t width, int64_t in, int64_t channels,
                     int64_t taps) {
    const Scaled finish{scale, bias, onto, out, neuron, spikes};
    convolve(bits, weights, finish, planes, T, frames, height, width, in, channels, taps);
}

// A neuron's T steps on whole currents (T, rows, channels): spikes as bits. x_step 0: one frame shown T times. Currents
// are `x`, or with `totals` these (whole numbers in float32) * gain + offset, a number a column of all tiles.
void fire_whole(const int32_t *x, const float *totals, const int32_t *gain, const int32_t *offset, uint64_t *bits,
                const Neuron *neuron, int64_t T, int64_t x_step, int64_t rows, int64_t channels) {
    const int64_t words = (channels + 63) / 64, plane = T * rows * words;
    share_parts(rows, ROWS / 4, T * rows * words > SMALL / 4, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++)
            for (int64_t word = 0; word < words; word++) {
                const int64_t column = word * TILE, filled = std::min(TILE, channels - column);
                const uint64_t real = first_bits(filled);
                Ints v[N32], current[N32] = {};
                Floats total[N32] = {};
                for (int64_t t = 0; t < T; t++) {
                    uint64_t *to = bits + (t * rows + row) * words + word;
                    const int64_t at = t * x_step + row * channels + column;
                    if (totals) pick(totals + at, filled, total);
                    else pick(x + at, filled, current);
                    for (int64_t k = 0; totals && k < N32; k++) current[k] = __builtin_convertvector(total[k], Ints);
                    if (totals) to_currents(current, gain, offset, column);
                    step(v, current, *neuron, column, words * TILE, t == 0, to, plane);
                    for (int64_t level = 0; level < neuron->levels; level++) to[level * plane] &= real;
                }
            }
    });
}

// 3x3 max-pooling of whole numbers with padding 1, channels last.
void pool_whole(const int32_t *x, int32_t *out, int64_t frames, int64_t channels, int64_t height, int64_t width,
                int64_t stride) {
    const int64_t h = (height - 1) / stride + 1, w = (width - 1) / stride + 1;
    share(frames * h, frames * h * w * channels > SMALL, [&](int64_t line) {
        const int64_t f = line / h, y = line % h * stride;
        for (int64_t ox = 0; ox < w; ox++) {
            int32_t *o = out + (line * w + ox) * channels;
            bool first = true;
            for (int64_t ny = std::max<int64_t>(0, y - 1); ny <= std::min(height - 1, y + 1); ny++)
                for (int64_t nx = std::max<int64_t>(0, ox * stride - 1); nx <= std::min(width - 1, ox * stride + 1);
                     nx++) {
                    const int32_t *from = x + ((f * height + ny) * width + nx) * channels;
                    if (first) std::memcpy(o, from, channels * sizeof *o);
                    else
#pragma omp simd
                        for (int64_t c = 0; c < channels; c++) o[c] = std::max(o[c], from[c]);
                    first = false;
                }
        }
    });
}

}  // extern "C"
