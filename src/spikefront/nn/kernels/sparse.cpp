// Synapses that only add, and only where a spike is: 1x1 and 3x3 convolutions of spikes, pooling and SDSA on bits.
//
// Spikes of a frame are rows of bits, a row a pixel, `words` 64-bit words a row (channels padded with zeros). A layer
// goes through its output pixels in blocks, all T steps of each. A block turns the bits that it reads into lists of the
// channels that spiked; then every output row is the sum of the weight rows listed. Weights are packed in tiles of
// output columns, STRIDE bytes a row; a tile is walked in chunks of input channels, or of taps of a 3x3 kernel, that
// stay in the cache while all rows of the block add what they list of it. With the last chunk's sums still in registers
// the tile's neurons go through their T steps. For the weights' gradient it is the other way round: every channel lists
// the places where it spiked, and adds the gradients of the outputs there.
// Vectors are GCC's: the compiler makes AVX-512, AVX2 or NEON of them.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <omp.h>
#include <vector>

#include "crew.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

constexpr int64_t TILE = 32, ROWS = 512;  // output columns a tile of float weights, rows a block
constexpr int64_t STRIDE = TILE * sizeof(float);  // bytes of a weight row in a tile
constexpr int64_t MOST = 511;             // weight rows walked at once: a list entry is 16 bits of distance in bytes
#ifdef __AVX512F__
constexpr int64_t LANES = 16;
#elif defined(__ARM_NEON)
constexpr int64_t LANES = 4;
#else
constexpr int64_t LANES = 8;
#endif
constexpr int64_t VECTORS = TILE / LANES;
typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4), aligned(4)));

constexpr int64_t SMALL = 4096;  // rows * words below which a second thread costs more than it brings

// Memory that a thread keeps from call to call.
template <typename Type> struct Kept {
    std::unique_ptr<Type[]> data;
    int64_t size = 0;
    Type *with(int64_t wanted, int64_t used = 0) {  // room for so many, the first `used` as they were
        if (size < wanted) {
            std::unique_ptr<Type[]> more(new Type[wanted + wanted / 2]);
            std::copy(data.get(), data.get() + used, more.get());
            data = std::move(more), size = wanted + wanted / 2;
        }
        return data.get();
    }
};

inline const float *at(const float *weights, uint16_t offset) {
    return reinterpret_cast<const float *>(reinterpret_cast<const char *>(weights) + offset);
}

// Weights in float32: 32 columns a tile.
struct Floats {
    static constexpr int64_t COLUMNS = STRIDE / 4;
    // The sum of the listed rows of `weights`, their first N vectors, onto `total`.
    template <int64_t N> static void add(const uint16_t *p, const uint16_t *end, const char *weights, Vector *total) {
        Vector a[N], b[N];
        for (int64_t v = 0; v < N; v++) a[v] = total[v], b[v] = Vector{};
        if ((end - p) % 2) {  // the odd one first: a second loop behind would cost a mispredicted branch a list
            const Vector *w = reinterpret_cast<const Vector *>(weights + *p++);
            for (int64_t v = 0; v < N; v++) b[v] = w[v];
        }
        for (; p < end; p += 2) {
            const Vector *w0 = reinterpret_cast<const Vector *>(weights + p[0]);
            const Vector *w1 = reinterpret_cast<const Vector *>(weights + p[1]);
            for (int64_t v = 0; v < N; v++) a[v] += w0[v];
            for (int64_t v = 0; v < N; v++) b[v] += w1[v];
        }
        for (int64_t v = 0; v < N; v++) total[v] = a[v] + b[v];
    }
};

// Weights in bfloat16: 64 columns a tile, two in a 32-bit word, sums in float32.
struct Halves {
    static constexpr int64_t COLUMNS = STRIDE / 2;
#ifdef __AVX512BF16__
    // Two rows are interleaved, and an instruction adds both weights of a pair. Word 8 l + j of a row's 64 bytes is
    // column 4 l + j for j < 4, and column 16 + 4 l + j - 4 for the others: what interleaving leaves in order.
    static int64_t column(int64_t word) {
        const int64_t l = word % 32 / 8, j = word % 8;
        return word / 32 * 32 + (j < 4 ? 4 * l + j : 12 + 4 * l + j);
    }
    template <int64_t N> static void add(const uint16_t *p, const uint16_t *end, const char *weights, Vector *total) {
        static_assert(N % 2 == 0);
        const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
        __m512 sums[N];
        for (int64_t v = 0; v < N; v++) sums[v] = reinterpret_cast<__m512>(total[v]);
        const auto two = [&](const char *w0, const char *w1) {
            for (int64_t v = 0; v < N; v += 2) {
                const __m512i x = _mm512_loadu_si512(w0 + v * 32), y = _mm512_loadu_si512(w1 + v * 32);
                const __m512i low = _mm512_unpacklo_epi16(x, y), high = _mm512_unpackhi_epi16(x, y);
                sums[v] = _mm512_dpbf16_ps(sums[v], reinterpret_cast<__m512bh>(low), ones);
                sums[v + 1] = _mm512_dpbf16_ps(sums[v + 1], reinterpret_cast<__m512bh>(high), ones);
            }
        };
        static const char zeros[STRIDE] = {};
        if ((end - p) % 2) two(zeros, weights + *p++);
        for (; p < end; p += 2) two(weights + p[0], weights + p[1]);
        for (int64_t v = 0; v < N; v++) total[v] = reinterpret_cast<Vector>(sums[v]);
    }
#else
    // The lower half of a vector's 32-bit words are its columns, the upper half those of the next vector.
    static int64_t column(int64_t word) {
        return word / (2 * LANES) * (2 * LANES) + word % (2 * LANES) / 2 + word % 2 * LANES;
    }
    template <int64_t N> static void add(const uint16_t *p, const uint16_t *end, const char *weights, Vector *total) {
        static_assert(N % 2 == 0);
        Vector sums[N];
        for (int64_t v = 0; v < N; v++) sums[v] = total[v];
        for (; p < end; p++) {
            const Words *w = reinterpret_cast<const Words *>(weights + *p);
            for (int64_t v = 0; v < N; v += 2) {
                sums[v] += reinterpret_cast<Vector>(w[v / 2] << 16);
                sums[v + 1] += reinterpret_cast<Vector>(w[v / 2] & 0xffff0000u);
            }
        }
        for (int64_t v = 0; v < N; v++) total[v] = sums[v];
    }
#endif
};

struct Neuron {
    float gain, leak, threshold;
    int32_t soft;
};

inline uint64_t fired(const Vector &h, float threshold) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(h), _mm512_set1_ps(threshold), _CMP_GE_OQ);
#elif defined(__AVX2__)
    const __m256 over = _mm256_cmp_ps(reinterpret_cast<__m256>(h), _mm256_set1_ps(threshold), _CMP_GE_OQ);
    return static_cast<uint32_t>(_mm256_movemask_ps(over));
#else
    uint64_t bits = 0;
    for (int64_t i = 0; i < LANES; i++) bits |= static_cast<uint64_t>(h[i] >= threshold) << i;
    return bits;
#endif
}

// One step of N vectors of potentials; returns the spikes, a bit each.
template <int64_t N> inline uint64_t fire(Vector *h, const Vector *current, const Neuron &p, bool first) {
    const Vector zero = {}, threshold = zero + p.threshold;
    uint64_t bits = 0;
    for (int64_t v = 0; v < N; v++) {
        const auto over = h[v] >= threshold;
        if (first) h[v] = current[v] * p.gain;
        else if (p.soft) h[v] = p.leak * (h[v] - (over ? threshold : zero)) + p.gain * current[v];
        else h[v] = p.leak * (over ? zero : h[v]) + p.gain * current[v];
        bits |= fired(h[v], p.threshold) << (v * LANES);
    }
    return bits;
}

inline void add_product(Vector &sum, const Vector &a, const Vector &b) {
#if defined(__AVX512F__)
    const __m512 x = reinterpret_cast<__m512>(a), y = reinterpret_cast<__m512>(b);
    sum = reinterpret_cast<Vector>(_mm512_fmadd_ps(x, y, reinterpret_cast<__m512>(sum)));
#elif defined(__FMA__)
    const __m256 x = reinterpret_cast<__m256>(a), y = reinterpret_cast<__m256>(b);
    sum = reinterpret_cast<Vector>(_mm256_fmadd_ps(x, y, reinterpret_cast<__m256>(sum)));
#elif defined(__ARM_NEON)
    sum = vfmaq_f32(sum, a, b);
#else
    sum += a * b;
#endif
}

// Real images (frames of them), convolved 3x3 with weights (9, in, columns), columns in sixteens; the neurons of the
// result go through T steps before it leaves the registers, or, if `moving`, through one for each of T frames.
struct Images {
    const float *x, *weights, *bias;
    const Neuron *neuron;
    uint64_t *spikes;
    int64_t T, samples, height, width, in, out;
    bool moving;
    int64_t columns = (out + 15) / 16 * 16, words = (out + 63) / 64;
};

// Of a line's pixels from x on the N vectors of currents from `column` on, P pixels at once; `lines`: three lines of
// the image, one behind the other, a pixel of zeros on both sides of each.
template <int64_t N, int64_t P>
inline void currents(const Images &m, const float *lines, int64_t x, int64_t column, Vector (*sums)[N]) {
    for (int64_t p = 0; p < P; p++)
        for (int64_t v = 0; v < N; v++) sums[p][v] = *reinterpret_cast<const Vector *>(m.bias + column + v * LANES);
    const float *w = m.weights + column;
    for (int64_t dy = 0; dy < 3; dy++) {
        const float *from = lines + (dy * (m.width + 2) + x) * m.in;
        for (int64_t i = 0; i < 3 * m.in; i++, w += m.columns) {
            Vector weight[N];
            for (int64_t v = 0; v < N; v++) weight[v] = *reinterpret_cast<const Vector *>(w + v * LANES);
            for (int64_t p = 0; p < P; p++)
                for (int64_t v = 0; v < N; v++) add_product(sums[p][v], Vector{} + from[p * m.in + i], weight[v]);
        }
    }
}

// P pixels of a line at step t (of all steps if the image stands), N vectors of columns; h: the line's potentials.
template <int64_t N, int64_t P>
void fire_pixels(const Images &m, const float *lines, float *h, int64_t t, int64_t row, int64_t x, int64_t column) {
    constexpr int64_t BYTES = N * LANES / 8;
    Vector sums[P][N];
    currents<N, P>(m, lines, x, column, sums);
    const int64_t step = m.samples * m.height * m.width;
    for (int64_t p = 0; p < P; p++) {
        Vector v[N] = {};
        float *kept = h + (x + p) * m.columns + column;
        if (m.moving && t > 0) std::memcpy(v, kept, sizeof v);
        for (int64_t s = m.moving ? t : 0; s < (m.moving ? t + 1 : m.T); s++) {
            const uint64_t bits = fire<N>(v, sums[p], *m.neuron, s == 0);
            uint64_t *to = m.spikes + (s * step + row + x + p) * m.words;
            std::memcpy(reinterpret_cast<char *>(to) + column / 8, &bits, BYTES);
        }
        if (m.moving) std::memcpy(kept, v, sizeof v);
    }
}

template <int64_t N>
void fire_line(const Images &m, const float *lines, float *h, int64_t t, int64_t row, int64_t column) {
    constexpr int64_t P = 6;
    int64_t x = 0;
    for (; x + P <= m.width; x += P) fire_pixels<N, P>(m, lines, h, t, row, x, column);
    for (; x < m.width; x++) fire_pixels<N, 1>(m, lines, h, t, row, x, column);
}

// A row's spikes with their neighbours among the channels of the same head: first and last mark the heads' edges.
void widen(const uint64_t *row, const uint64_t *first, const uint64_t *last, uint64_t *out, int64_t words) {
    for (int64_t i = 0; i < words; i++) {
        const uint64_t up = (row[i] << 1) | (i > 0 ? row[i - 1] >> 63 : 0);
        const uint64_t down = (row[i] >> 1) | (i + 1 < words ? row[i + 1] << 63 : 0);
        out[i] = row[i] | (up & ~first[i]) | (down & ~last[i]);
    }
}

// The edges of heads of `width` channels.
struct Heads {
    std::vector<uint64_t> first, last;
    Heads(int64_t words, int64_t width) : first(words), last(words) {
        for (int64_t c = 0; c < words * 64; c++) {
            if (c % width == 0) first[c / 64] |= uint64_t{1} << (c % 64);
            if (c % width == width - 1) last[c / 64] |= uint64_t{1} << (c % 64);
        }
    }
};

// A frame after the other with a line of zeros behind each, and a zero behind each line: there the neighbours that a
// 3x3 kernel sees are at constant distances. Without padding (1x1) plain rows.
struct Padded {
    int64_t frames, height, width, pad;
    int64_t pitch() const { return width + pad; }
    int64_t inside() const { return frames * (height + pad) * pitch(); }
    int64_t row(int64_t i) const {  // of a place, counted without padding; -1: a zero
        const int64_t x = i % pitch(), line = i / pitch(), y = line % (height + pad);
        return x < width && y < height ? (line / (height + pad) * height + y) * width + x : -1;
    }
};

// What is listed of `rows`, N vectors wide, onto `sum`.
template <int64_t N> inline void gather(const uint16_t *p, const uint16_t *end, const float *rows, float *sum) {
    Vector total[N];
    std::memcpy(total, sum, sizeof total);
    for (; p < end; p++) {
        const float *row = at(rows, *p);
        for (int64_t v = 0; v < N; v++) total[v] += *reinterpret_cast<const Vector *>(row + v * LANES);
    }
    std::memcpy(sum, total, sizeof total);
}

// One convolution: `taps` 1 or 9, input and output planes of equal size; of a 1x1 all pixels are one line.
struct Layer {
    int64_t T, frames, height, width, in, out, taps, span;  // span: input channels a chunk, whole words
    int64_t chunks = (in + span - 1) / span;
    int64_t group = chunks > 1 ? 1 : std::min(taps, std::max<int64_t>(1, MOST / in));  // taps at once
    int64_t passes = chunks > 1 ? taps * chunks : (taps + group - 1) / group;
    int64_t words = (in + 63) / 64, out_words = (out + 63) / 64;
    int64_t slice(int64_t pass) const {  // where a pass's weight rows begin
        return chunks > 1 ? pass / chunks * in + pass % chunks * span : pass * group * in;
    }
};

// A rectangle of pixels of a frame.
struct Block {
    int64_t frame, y, x, height, width;
    int64_t size() const { return height * width; }
    Block with_border(const Layer &layer) const {
        if (layer.taps == 1) return *this;
        const int64_t top = std::max<int64_t>(0, y - 1), left = std::max<int64_t>(0, x - 1);
        return {frame, top, left, std::min(layer.height, y + height + 1) - top,
                std::min(layer.width, x + width + 1) - left};
    }
    int64_t row(const Layer &layer, int64_t t, int64_t line) const {  // where a line begins
        return ((t * layer.frames + frame) * layer.height + y + line) * layer.width + x;
    }
};

// What a convolution reads: bits, or whole numbers, and what it gives.
struct Job {
    const uint64_t *bits;
    const float *numbers;
    const char *weights;
    const float *bias, *onto;
    float *out;
    const Neuron *neuron;
    uint64_t *spikes;
};

struct List {
    int32_t begin, end;
};
typedef uint16_t Entries __attribute__((vector_size(32), aligned(2)));

// What a thread needs for its blocks.
struct Scratch {
    Kept<uint16_t> entries;
    Kept<List> rows, passes;
    Kept<float> sums;
    Kept<uint64_t> fired;
    int64_t used = 0, longest = 0;  // entries
};
thread_local Scratch scratch;

enum { LISTING, MERGING, ADDING, KINDS };
std::atomic<int64_t> spent[KINDS];  // nanoseconds of all threads

struct Watch {
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
    void lap(int64_t kind) {
        const auto now = std::chrono::steady_clock::now();
        spent[kind].fetch_add((now - since) / std::chrono::nanoseconds(1), std::memory_order_relaxed);
        since = now;
    }
};

typedef uint16_t Eight __attribute__((vector_size(16), aligned(2)));

// Where a byte's bits are, times STRIDE, and how many.
struct Bytes {
    uint16_t places[256][8] = {};
    uint8_t count[256] = {};
    constexpr Bytes() {
        for (int byte = 0; byte < 256; byte++)
            for (int bit = 0; bit < 8; bit++)
                if (byte >> bit & 1) places[byte][count[byte]++] = static_cast<uint16_t>(bit * STRIDE);
    }
};

// Behind `out` the places of a word's spikes, from `first` on, times STRIDE. Writes up to 64 entries.
inline int64_t list(uint64_t word, int64_t first, uint16_t *out) {
#ifdef __AVX512VBMI2__
    const int64_t n = __builtin_popcountll(word);
    alignas(64) static constexpr uint8_t PLACES[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i found = _mm512_maskz_compress_epi8(word, _mm512_load_si512(PLACES));
    const __m512i base = _mm512_set1_epi16(static_cast<int16_t>(first * STRIDE));
    const __m512i low = _mm512_cvtepu8_epi16(_mm512_maskz_extracti64x4_epi64(255, found, 0));
    static_assert(STRIDE == 1 << 7);
    const __m512i begin = _mm512_add_epi16(_mm512_slli_epi16(low, 7), base);
    if (n <= 16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm512_maskz_extracti64x4_epi64(255, begin, 0));
        return n;
    }
    _mm512_storeu_si512(out, begin);
    if (n <= 32) return n;
    const __m512i high = _mm512_cvtepu8_epi16(_mm512_maskz_extracti64x4_epi64(255, found, 1));
    _mm512_storeu_si512(out + 32, _mm512_add_epi16(_mm512_slli_epi16(high, 7), base));
    return n;
#else
    static constexpr Bytes bytes;
    const uint16_t *const begin = out;
    for (int64_t i = 0; i < 8; i++, word >>= 8) {
        const Eight base = Eight{} + static_cast<uint16_t>((first + i * 8) * STRIDE);
        *reinterpret_cast<Eight *>(out) = *reinterpret_cast<const Eight *>(bytes.places[word & 255]) + base;
        out += bytes.count[word & 255];
    }
    return out - begin;
#endif
}

// A row's channels of a chunk, as often as they spiked.
List listed(const Layer &layer, const Job &job, int64_t row, int64_t chunk, Scratch &s) {
    const int64_t first = chunk * layer.span, last = std::min(layer.in, first + layer.span), begin = s.used;
    if (job.bits) {
        uint16_t *out = s.entries.with(s.used + layer.span + 64, s.used) + s.used;
        const uint64_t *words = job.bits + row * layer.words;
        for (int64_t c = first; c < last; c += 64) out += list(words[c / 64], c - first, out);
        s.used = out - s.entries.data.get();
    } else {
        for (int64_t c = first; c < last; c++) {
            const int64_t n = static_cast<int64_t>(job.numbers[row * layer.in + c]);
            uint16_t *out = s.entries.with(s.used + n, s.used) + s.used;
            std::fill(out, out + n, static_cast<uint16_t>((c - first) * STRIDE));
            s.used += n;
        }
    }
    s.longest = std::max(s.longest, s.used - begin);
    return {static_cast<int32_t>(begin), static_cast<int32_t>(s.used)};
}

// For every pixel of a block the lists of taps [first, end) around it, one behind the other; `rows`: those of the
// pixels of `near`, the block with its border.
void merge(const Layer &layer, const Block &block, const Block &near, const List *rows, List *merged, int64_t first,
           int64_t end, Scratch &s) {
    int64_t distance[9], dy[9], dx[9];
    for (int64_t tap = 0; tap < 9; tap++)
        dy[tap] = tap / 3 - 1, dx[tap] = tap % 3 - 1, distance[tap] = dy[tap] * near.width + dx[tap];
    for (int64_t y = block.y; y < block.y + block.height; y++)
        for (int64_t x = block.x; x < block.x + block.width; x++, merged++) {
            const bool inside = y > 0 && y + 1 < layer.height && x > 0 && x + 1 < layer.width;
            uint16_t *entries = s.entries.with(s.used + 9 * s.longest + 32, s.used), *out = entries + s.used;
            const List *here = rows + (y - near.y) * near.width + x - near.x;
            for (int64_t tap = first; tap < end; tap++) {
                const bool beside = !inside && (y + dy[tap] < 0 || y + dy[tap] >= layer.height || x + dx[tap] < 0 ||
                                                x + dx[tap] >= layer.width);
                const List list = beside ? List{0, 0} : here[distance[tap]];
                if (layer.group == 1) {
                    *merged = list;
                    break;
                }
                const Entries base = Entries{} + static_cast<uint16_t>((tap - first) * layer.in * STRIDE);
                const int64_t n = list.end - list.begin;
                int64_t i = 0;
                do {  // reads and writes up to 15 beyond
                    *reinterpret_cast<Entries *>(out + i) =
                        *reinterpret_cast<const Entries *>(entries + list.begin + i) + base;
                } while ((i += 16) < n);
                out += n;
            }
            if (layer.group == 1) continue;
            *merged = {static_cast<int32_t>(s.used), static_cast<int32_t>(out - entries)};
            s.used = out - entries;
        }
}

// Of a block's pixels the first N vectors of a tile's columns: onto bias, and onto `onto`, what the lists name, pass
// after pass; then the neurons.
template <typename Weights, int64_t N>
void walk(const Layer &layer, const Job &job, const Block &block, const List *lists, int64_t tile, Scratch &s) {
    const uint16_t *entries = s.entries.data.get();
    const int64_t column = tile * Weights::COLUMNS, width = std::min(layer.out - column, N * LANES);
    const int64_t words = layer.out_words, n = block.size();
    const bool whole = width == N * LANES, last_tile = column + Weights::COLUMNS >= layer.out;
    Vector bias[N] = {};
    if (job.bias) std::memcpy(bias, job.bias + column, width * sizeof(float));
    for (int64_t pass = 0; pass < layer.passes; pass++, lists += layer.T * n) {
        const char *weights = job.weights + (tile * layer.taps * layer.in + layer.slice(pass)) * STRIDE;
        const bool last = pass + 1 == layer.passes;
        // what is walked after this comes nearer meanwhile
        const int64_t after = last ? layer.taps * layer.in : layer.slice(pass + 1);
        const char *next = job.weights + (tile * layer.taps * layer.in + after) * STRIDE;
        const int64_t ahead = (layer.chunks > 1 ? layer.span : layer.group * layer.in) * STRIDE / (layer.T * n) + 63;
        for (int64_t i = 0, line = 0, x = 0; i < n; i++, x = x + 1 < block.width ? x + 1 : (line++, 0)) {
            Vector h[N] = {};
            for (int64_t t = 0; t < layer.T; t++) {
                const int64_t row = block.row(layer, t, line) + x, place = row * layer.out + column;
                float *sum = s.sums.data.get() + (t * n + i) * N * LANES;
                Vector total[N];
                if (pass > 0) {
                    std::memcpy(total, sum, sizeof total);
                } else if (job.onto) {
                    Vector before[N] = {};
                    if (whole) std::memcpy(before, job.onto + place, sizeof before);
                    else std::memcpy(before, job.onto + place, width * sizeof(float));
                    for (int64_t v = 0; v < N; v++) total[v] = before[v] + bias[v];
                } else {
                    std::memcpy(total, bias, sizeof total);
                }
                if (last && job.out)
                    for (int64_t v = 0; v < N * LANES * 4; v += 64)
                        __builtin_prefetch(reinterpret_cast<const char *>(job.out + place + 4 * layer.out) + v, 1);
                for (int64_t b = 0; b < ahead; b += 64) __builtin_prefetch(next + b, 0, 2);
                next += ahead / 64 * 64;
                const List list = lists[t * n + i];
                Weights::template add<N>(entries + list.begin, entries + list.end, weights, total);
                if (!last) std::memcpy(sum, total, sizeof total);
                if (last && job.out && whole) std::memcpy(job.out + place, total, sizeof total);
                if (last && job.out && !whole) std::memcpy(job.out + place, total, width * sizeof(float));
                if (last && job.neuron) s.fired.data[t * n + i] = fire<N>(h, total, *job.neuron, t == 0);
            }
        }
    }
    if (!job.neuron) return;
    constexpr int64_t BYTES = N * LANES / 8;
    const int64_t behind = last_tile ? words * 8 - column / 8 - BYTES : 0;
    const uint64_t *bits = s.fired.data.get();
    for (int64_t t = 0; t < layer.T; t++)  // step after step: places of several steps would share a set of the cache
        for (int64_t line = 0; line < block.height; line++) {
            char *to = reinterpret_cast<char *>(job.spikes + block.row(layer, t, line) * words) + column / 8;
            for (int64_t x = 0; x < block.width; x++, to += words * 8) {
                std::memcpy(to, bits++, BYTES);
                if (behind) std::memset(to + BYTES, 0, behind);
            }
        }
}

// All of a block: lists of what it reads, of what each output row adds in each pass, then tile after tile.
template <typename Weights> void convolve_block(const Layer &layer, const Job &job, const Block &block) {
    Scratch &s = scratch;
    Watch watch;
    const Block near = block.with_border(layer);
    const int64_t chunks = layer.chunks, T = layer.T, n = block.size(), m = near.size();
    List *rows = s.rows.with(chunks * T * m), *passes = rows, *next = rows;
    s.used = s.longest = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        for (int64_t t = 0; t < T; t++)
            for (int64_t line = 0; line < near.height; line++)
                for (int64_t x = 0; x < near.width; x++)
                    *next++ = listed(layer, job, near.row(layer, t, line) + x, chunk, s);
    watch.lap(LISTING);
    if (layer.taps > 1) {
        passes = s.passes.with(layer.passes * T * n);
        for (int64_t pass = 0; pass < layer.passes; pass++) {
            const int64_t tap = chunks > 1 ? pass / chunks : pass * layer.group, chunk = chunks > 1 ? pass % chunks : 0;
            for (int64_t t = 0; t < T; t++)
                merge(layer, block, near, rows + (chunk * T + t) * m, passes + (pass * T + t) * n, tap,
                      std::min(layer.taps, tap + layer.group), s);
        }
    }
    watch.lap(MERGING);
    s.sums.with(layer.passes > 1 ? T * n * Weights::COLUMNS : 0);
    s.fired.with(job.neuron ? T * n : 0);
    const int64_t tiles = (layer.out + Weights::COLUMNS - 1) / Weights::COLUMNS;
    for (int64_t tile = 0; tile < tiles; tile++) {
        constexpr int64_t N = Weights::COLUMNS / LANES;
        const bool narrow = layer.out - tile * Weights::COLUMNS <= Weights::COLUMNS / 2;
        (narrow ? walk<Weights, N / 2> : walk<Weights, N>)(layer, job, block, passes, tile, s);
    }
    watch.lap(ADDING);
}

// Parts of about `wanted` that `whole` falls into.
int64_t parts(int64_t whole, int64_t wanted) {
    return std::max<int64_t>(1, (whole + wanted / 2) / std::max<int64_t>(1, wanted));
}

}  // namespace

extern "C" {

int64_t tile_width() { return TILE; }

// Nanoseconds of all threads, since the library was loaded, that went into making lists, merging them, and adding.
void time_line(int64_t *nanoseconds) { std::copy(spent, spent + KINDS, nanoseconds); }

// Which of a tile's 64 columns each of a row's bfloat16 weights belongs to.
void halves_order(int64_t *columns) {
    for (int64_t word = 0; word < Halves::COLUMNS; word++) columns[word] = Halves::column(word);
}

// Eight zeros and ones a byte, rows padded to whole words. Returns 0 at another value, the bits then undefined.
int32_t encode(const float *x, uint64_t *bits, int64_t rows, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
    int32_t other = 0;
#pragma omp parallel for schedule(static) reduction(| : other) if (rows * words > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t word = 0; word < words; word++) {
            const float *v = x + row * channels + word * 64;
            const int64_t n = std::min<int64_t>(64, channels - word * 64);
            uint64_t b = 0;
            int64_t i = 0;
#ifdef __AVX2__
            const __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps();
            for (; i + 8 <= n; i += 8) {
                const __m256 part = _mm256_loadu_ps(v + i);
                const uint32_t ones = _mm256_movemask_ps(_mm256_cmp_ps(part, one, _CMP_EQ_OQ));
                other |= (ones | _mm256_movemask_ps(_mm256_cmp_ps(part, zero, _CMP_EQ_OQ))) != 255;
                b |= static_cast<uint64_t>(ones) << i;
            }
#endif
            for (; i < n; i++) {
                other |= v[i] != 0.0f && v[i] != 1.0f;
                b |= static_cast<uint64_t>(v[i] == 1.0f) << i;
            }
            bits[row * words + word] = b;
        }
    return !other;
}

// How many planes of bits are set, in float32.
void decode(const uint64_t *bits, float *x, int64_t planes, int64_t rows, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
#pragma omp parallel for schedule(static) if (rows * words > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t word = 0; word < words; word++) {
            float *v = x + row * channels + word * 64;
            const int64_t n = std::min<int64_t>(64, channels - word * 64);
            for (int64_t plane = 0; plane < planes; plane++) {
                const uint64_t b = bits[(plane * rows + row) * words + word];
                float one[64];
                for (int64_t i = 0; i < 64; i++) one[i] = static_cast<float>(static_cast<int32_t>((b >> i) & 1));
                for (int64_t i = 0; i < n; i++) v[i] = plane ? v[i] + one[i] : one[i];
            }
        }
}

// How many bits are set.
int64_t count_bits(const uint64_t *bits, int64_t words) {
    int64_t n = 0;
    for (int64_t i = 0; i < words; i++) n += __builtin_popcountll(bits[i]);
    return n;
}

// The sum of whole numbers 0 to 64, or -1 if there are other values.
int64_t count_numbers(const float *x, int64_t n) {
    int64_t total = 0;
    int32_t other = 0;
#pragma omp parallel for schedule(static) reduction(| : other) reduction(+ : total) if (n > 64 * SMALL)
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i];
        const bool whole = v >= 0.0f && v <= 64.0f && v == static_cast<float>(static_cast<int32_t>(v));
        other |= !whole;
        total += whole ? static_cast<int32_t>(v) : 0;
    }
    return other ? -1 : total;
}

// The places where each channel spiked, by chunks of `span` padded rows: starts[chunk * channels + channel] and where
// the last ends. Returns how many there are.
int64_t count_places(const uint64_t *bits, int64_t *starts, int64_t frames, int64_t height, int64_t width, int64_t pad,
                     int64_t channels, int64_t span) {
    const Padded plane{frames, height, width, pad};
    const int64_t words = (channels + 63) / 64, inside = plane.inside(), chunks = (inside + span - 1) / span;
#pragma omp parallel for schedule(static) if (inside * words > SMALL)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t *found = starts + k * channels;
        std::memset(found, 0, channels * sizeof *found);
        for (int64_t i = k * span; i < std::min(inside, (k + 1) * span); i++) {
            const int64_t row = plane.row(i);
            for (int64_t word = 0; row >= 0 && word < words; word++)
                for (uint64_t b = bits[row * words + word]; b; b &= b - 1) found[word * 64 + __builtin_ctzll(b)]++;
        }
    }
    int64_t total = 0;
    for (int64_t i = 0; i < chunks * channels; i++) {
        const int64_t n = starts[i];
        starts[i] = total, total += n;
    }
    return starts[chunks * channels] = total;
}

void list_places(const uint64_t *bits, const int64_t *starts, uint16_t *lists, int64_t frames, int64_t height,
                 int64_t width, int64_t pad, int64_t channels, int64_t span, int64_t columns) {
    const Padded plane{frames, height, width, pad};
    const int64_t words = (channels + 63) / 64, inside = plane.inside(), chunks = (inside + span - 1) / span;
#pragma omp parallel for schedule(static) if (inside * words > SMALL)
    for (int64_t k = 0; k < chunks; k++) {
        std::vector<int64_t> next(starts + k * channels, starts + (k + 1) * channels);
        for (int64_t i = k * span; i < std::min(inside, (k + 1) * span); i++) {
            const int64_t row = plane.row(i);
            const uint16_t offset = static_cast<uint16_t>((i - k * span) * columns * sizeof(float));
            for (int64_t word = 0; row >= 0 && word < words; word++)
                for (uint64_t b = bits[row * words + word]; b; b &= b - 1)
                    lists[next[word * 64 + __builtin_ctzll(b)]++] = offset;
        }
    }
}

// The weights' gradient (outputs, channels, k, k): for every channel and tap the rows of `grad` where it spiked, added.
// They gather in `sums` (tiles, k, channels, k * columns): a tile's two TILEs of columns, or of a line of a 3x3 kernel
// one of each tap, the last first. A tile's columns of a chunk's rows and their neighbours are copied side by side first.
void gather_gradient(const uint16_t *lists, const int64_t *starts, const float *grad, float *sums, float *out,
                     int64_t frames, int64_t height, int64_t width, int64_t pad, int64_t channels, int64_t span,
                     int64_t columns, int64_t outputs) {
    const Padded plane{frames, height, width, pad};
    const int64_t inside = plane.inside(), chunks = (inside + span - 1) / span, before = pad * (plane.pitch() + 1);
    const int64_t tiles = (outputs + columns - 1) / columns, k = 1 + 2 * pad, wide = k * columns;
#pragma omp parallel if (inside * outputs > SMALL)
    {
        const int64_t threads = omp_get_num_threads(), parts = threads > 1 ? (4 * threads + tiles - 1) / tiles : 1;
        std::vector<float> near((span + 2 * before) * columns);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tiles * parts; task++) {
            const int64_t tile = task / parts, n = std::min(columns, outputs - tile * columns);
            const int64_t begin = channels * (task % parts) / parts, end = channels * (task % parts + 1) / parts;
            float *sum = sums + tile * k * channels * wide;
            for (int64_t y = 0; y < k; y++)
                std::memset(sum + (y * channels + begin) * wide, 0, (end - begin) * wide * sizeof *sum);
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                for (int64_t i = 0; i < span + 2 * before; i++) {
                    const int64_t at = chunk * span + i - before, row = at < 0 || at >= inside ? -1 : plane.row(at);
                    float *to = near.data() + i * columns;
                    if (row < 0) std::memset(to, 0, columns * sizeof *to);
                    else std::memcpy(to, grad + row * outputs + tile * columns, n * sizeof *to);
                }
                for (int64_t y = 0; y < k; y++)
                    for (int64_t c = begin; c < end; c++) {
                        const int64_t *from = starts + chunk * channels + c;
                        const uint16_t *first = lists + from[0], *last = lists + from[1];
                        const float *rows = near.data() + (k - 1 - y) * plane.pitch() * columns;
                        float *total = sum + (y * channels + c) * wide;
                        if (pad) gather<3 * VECTORS>(first, last, rows, total);
                        else if (n > TILE) gather<2 * VECTORS>(first, last, rows, total);
                        else gather<VECTORS>(first, last, rows, total);
                    }
            }
        }
#pragma omp for schedule(static) collapse(2)
        for (int64_t tile = 0; tile < tiles; tile++)
            for (int64_t block = 0; block < (channels + 15) / 16; block++)
                for (int64_t o = tile * columns; o < std::min(outputs, (tile + 1) * columns); o++)
                    for (int64_t c = block * 16; c < std::min(channels, (block + 1) * 16); c++)
                        for (int64_t y = 0; y < k; y++)
                            for (int64_t x = 0; x < k; x++)
                                out[((o * channels + c) * k + y) * k + x] =
                                    sums[((tile * k + y) * channels + c) * wide + (k - 1 - x) * columns + o % columns];
    }
}

// out = bias + the weight rows of the channels that spiked, onto `onto` where that is given; spikes (bits, or whole
// numbers) of T times `frames` frames; weights: tiles of (taps, in, STRIDE bytes), in bfloat16 if `halves`. With
// `neuron` its spikes over the T steps are written as bits, and the sums only if `out` is given too.
void convolve(const uint64_t *bits, const float *numbers, const void *weights, const float *bias, const float *onto,
              float *out, const Neuron *neuron, uint64_t *spikes, int64_t halves, int64_t T, int64_t frames,
              int64_t height, int64_t width, int64_t in, int64_t channels, int64_t taps, int64_t span) {
    const bool line = taps == 1;
    const int64_t pixels = frames * height * width, threads = omp_get_max_threads();
    const Layer layer{T, line ? 1 : frames, line ? 1 : height, line ? pixels : width, in, channels, taps, span};
    const Job job{bits, numbers, static_cast<const char *>(weights), bias, onto, out, neuron, spikes};
    const int64_t each = threads > 1 ? (pixels + 4 * threads - 1) / (4 * threads) : pixels;
    const int64_t size = std::max<int64_t>(1, std::min(ROWS / T, each));
    // squares are what has the smallest border
    const int64_t across = parts(layer.width, line ? size : static_cast<int64_t>(std::ceil(std::sqrt(size))));
    const int64_t down = parts(layer.height, std::max<int64_t>(1, size * across / layer.width));
    const int64_t blocks = layer.frames * down * across;
    share(blocks, T * pixels * channels > 64 * TILE, [&](int64_t i) {
        const int64_t a = i % across, d = i / across % down;
        const int64_t x = layer.width * a / across, y = layer.height * d / down;
        const int64_t bottom = layer.height * (d + 1) / down, right = layer.width * (a + 1) / across;
        const Block block{i / across / down, y, x, bottom - y, right - x};
        (halves ? convolve_block<Halves> : convolve_block<Floats>)(layer, job, block);
    });
}

// 3x3 max-pooling of spikes with padding 1: an OR of neighbours.
void pool_bits(const uint64_t *bits, uint64_t *out, int64_t frames, int64_t words, int64_t height, int64_t width,
               int64_t stride) {
    const int64_t h = (height - 1) / stride + 1, w = (width - 1) / stride + 1, pitch = width * words;
    share_parts(frames * h, 16, frames * h * w * words > SMALL, [&](int64_t first, int64_t last) {
        std::vector<uint64_t> near(pitch + 2 * words);  // the OR of three lines, a zero on both sides
        for (int64_t line = first; line < last; line++) {
            const int64_t y = line % h * stride;
            const int64_t top = std::max<int64_t>(0, y - 1), bottom = std::min(height - 1, y + 1);
            const uint64_t *in = bits + line / h * height * pitch;
            uint64_t *middle = near.data() + words, *o = out + line * w * words;
            const uint64_t *a = in + top * pitch, *b = in + y * pitch, *c = in + bottom * pitch;
            for (int64_t i = 0; i < pitch; i++) middle[i] = a[i] | b[i] | c[i];
            for (int64_t x = 0; x < w; x++)
                for (int64_t i = 0; i < words; i++) {
                    const uint64_t *m = middle + x * stride * words + i;
                    o[x * words + i] = m[-words] | m[0] | m[words];
                }
        }
    });
}

// A leaky integrate-and-fire sequence of T frames of rows: spikes as bits. x_step 0: one frame shown T times.
void fire_bits(const float *x, uint64_t *bits, const Neuron *neuron, int64_t T, int64_t x_step, int64_t rows,
               int64_t channels) {
    constexpr int64_t N = 64 / LANES;
    const int64_t words = (channels + 63) / 64;
    share_parts(rows, 128, T * rows * words > SMALL / 4, [&](int64_t first, int64_t last) {
        for (int64_t i = first * words; i < last * words; i++) {
            const int64_t row = i / words, word = i % words, n = std::min<int64_t>(64, channels - word * 64);
            Vector h[N] = {}, current[N] = {};
            for (int64_t t = 0; t < T; t++) {
                const float *from = x + t * x_step + row * channels + word * 64;
                if (n == 64) std::memcpy(current, from, sizeof current);
                else std::memcpy(current, from, n * sizeof(float));
                bits[(t * rows + row) * words + word] = fire<N>(h, current, *neuron, t == 0);
            }
        }
    });
}

// The spikes of a neuron on 3x3 convolutions of real images, samples of them, each shown T times, or, if `moving`, T
// frames of each; as bits. Weights as above; bias: as many columns.
void fire_images(const float *x, const float *weights, const float *bias, const Neuron *neuron, uint64_t *spikes,
                 int64_t moving, int64_t T, int64_t samples, int64_t height, int64_t width, int64_t in, int64_t out) {
    const Images m{x, weights, bias, neuron, spikes, T, samples, height, width, in, out, moving != 0};
    constexpr int64_t MOST_VECTORS = 64 / LANES > 4 ? 2 : 4, pad = 1;
    std::memset(spikes, 0, out % 64 ? T * samples * height * width * m.words * sizeof *spikes : 0);
    share_parts(samples * height, 4, samples * height * width * out > 16 * SMALL, [&](int64_t first, int64_t last) {
        std::vector<float> lines(3 * (width + 2 * pad) * in), h(width * m.columns);
        for (int64_t i = first * (moving ? T : 1); i < last * (moving ? T : 1); i++) {
            const int64_t line = moving ? i / T : i, t = moving ? i % T : 0;
            const int64_t frame = t * samples + line / height, y = line % height;
            for (int64_t dy = -1; dy <= 1; dy++) {
                float *to = lines.data() + (dy + 1) * (width + 2 * pad) * in + pad * in;
                const float *from = x + (frame * height + y + dy) * width * in;
                if (y + dy < 0 || y + dy >= height) std::memset(to, 0, width * in * sizeof *to);
                else std::memcpy(to, from, width * in * sizeof *to);
            }
            for (int64_t column = 0; column < m.columns;) {
                const int64_t left = std::min(MOST_VECTORS, (m.columns - column) / LANES);
                const auto fire = left == 4   ? fire_line<4>
                                  : left == 3 ? fire_line<3>
                                  : left == 2 ? fire_line<2>
                                              : fire_line<1>;
                fire(m, lines.data(), h.data(), t, line * width, column);
                column += left * LANES;
            }
        }
    });
}

// SDSA's sum over tokens of k and v, from rows that hold q, k and v side by side, `words` each: sums (frames, channels).
// width: channels a head for the 3x3 pooling over (tokens, channels of a head), 0 for none.
void sdsa_sum(const uint64_t *k, const uint64_t *v, int64_t stride, float *sums, int64_t frames, int64_t tokens,
              int64_t words, int64_t width) {
    const Heads heads(width ? words : 0, width);
    share(frames, frames * tokens * words > SMALL, [&](int64_t f) {
        float *sum = sums + f * words * 64;
        std::memset(sum, 0, words * 64 * sizeof *sum);
        std::vector<uint64_t> both((width ? tokens : 1) * words), plane(words);
        for (int64_t n = 0; n < tokens; n++) {
            const uint64_t *kn = k + (f * tokens + n) * stride, *vn = v + (f * tokens + n) * stride;
            uint64_t *b = width ? plane.data() : both.data();
            for (int64_t i = 0; i < words; i++) b[i] = kn[i] & vn[i];
            if (width) {
                widen(b, heads.first.data(), heads.last.data(), &both[n * words], words);
                continue;
            }
            for (int64_t i = 0; i < words; i++)
                for (uint64_t w = b[i]; w; w &= w - 1) sum[i * 64 + __builtin_ctzll(w)] += 1.0f;
        }
        for (int64_t n = 0; width && n < tokens; n++)
            for (int64_t i = 0; i < words; i++) {
                uint64_t w = both[n * words + i];
                if (n > 0) w |= both[(n - 1) * words + i];
                if (n + 1 < tokens) w |= both[(n + 1) * words + i];
                for (; w; w &= w - 1) sum[i * 64 + __builtin_ctzll(w)] += 1.0f;
            }
    });
}

// q where the gate of its frame and channel is set, pooled as above.
void sdsa_mask(const uint64_t *q, int64_t stride, const uint64_t *gate, uint64_t *out, int64_t frames, int64_t tokens,
               int64_t words, int64_t width) {
    const Heads heads(width ? words : 0, width);
    share(frames, frames * tokens * words > SMALL, [&](int64_t f) {
        std::vector<uint64_t> kept(width ? tokens * words : 0), plane(words);
        for (int64_t n = 0; n < tokens; n++) {
            const uint64_t *qn = q + (f * tokens + n) * stride;
            uint64_t *b = width ? plane.data() : out + (f * tokens + n) * words;
            for (int64_t i = 0; i < words; i++) b[i] = qn[i] & gate[f * words + i];
            if (width) widen(b, heads.first.data(), heads.last.data(), &kept[n * words], words);
        }
        for (int64_t n = 0; width && n < tokens; n++)
            for (int64_t i = 0; i < words; i++)
                out[(f * tokens + n) * words + i] = kept[n * words + i] | (n > 0 ? kept[(n - 1) * words + i] : 0) |
                                                    (n + 1 < tokens ? kept[(n + 1) * words + i] : 0);
    });
}

}  // extern "C"
