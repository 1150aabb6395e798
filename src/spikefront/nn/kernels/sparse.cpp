// Synapses that only add, and only where a spike is: 1x1 and 3x3 convolutions of spikes, pooling and SDSA on bits.
//
// Spikes of a frame are rows of bits, a row a pixel, `words` 64-bit words a row (channels padded with zeros). A layer
// first turns them into lists of the channels that spiked; then every output row is the sum of the weight rows listed.
// Weights are packed in tiles of TILE output columns; a tile is walked in chunks of input channels, or of the taps of a
// 3x3 kernel, that stay in the cache while all rows of a block add what they list of it. For the weights' gradient it is
// the other way round: every channel lists the places where it spiked, and adds the gradients of the outputs there.
// Vectors are GCC's: the compiler makes AVX-512, AVX2 or NEON of them.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t TILE = 32, ROWS = 512;  // output columns a tile, rows a block
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


constexpr int64_t SMALL = 4096;  // rows * words below which a second thread costs more than it brings

// One convolution: `taps` 1 or 9, input and output planes of equal size.
struct Layer {
    int64_t frames, height, width, in, out, taps, span;  // span: input channels a chunk
    int64_t group() const { return chunks() > 1 ? 1 : std::min(taps, std::max<int64_t>(1, MOST / in)); }  // taps at once
    int64_t chunks() const { return (in + span - 1) / span; }
    int64_t tiles() const { return (out + TILE - 1) / TILE; }
    int64_t rows() const { return frames * height * width; }
};

inline const float *at(const float *weights, uint16_t offset) {
    return reinterpret_cast<const float *>(reinterpret_cast<const char *>(weights) + offset);
}

// The sum of the listed rows of `weights`, TILE wide, onto `total`.
inline void add(const uint16_t *p, const uint16_t *end, const float *weights, Vector *total) {
    Vector a[VECTORS], b[VECTORS];
    for (int64_t v = 0; v < VECTORS; v++) a[v] = total[v], b[v] = Vector{};
    if ((end - p) % 2) {  // the odd one first: a second loop behind would cost a mispredicted branch a list
        const float *w = at(weights, *p++);
        for (int64_t v = 0; v < VECTORS; v++) b[v] = *reinterpret_cast<const Vector *>(w + v * LANES);
    }
    for (; p < end; p += 2) {
        const float *w0 = at(weights, p[0]), *w1 = at(weights, p[1]);
        for (int64_t v = 0; v < VECTORS; v++) a[v] += *reinterpret_cast<const Vector *>(w0 + v * LANES);
        for (int64_t v = 0; v < VECTORS; v++) b[v] += *reinterpret_cast<const Vector *>(w1 + v * LANES);
    }
    for (int64_t v = 0; v < VECTORS; v++) total[v] = a[v] + b[v];
}

// The lists of taps [tap0, tap1) around every output row of [first, last), one after the other, as lists of their own,
// behind the first `used` entries; returns how many are then used. Reads and writes up to 16 entries beyond.
int64_t merge(const Layer &layer, const uint16_t *lists, const int64_t *begin, int64_t tap0, int64_t tap1,
              int64_t first, int64_t last, std::vector<uint16_t> &merged, int64_t *starts, int64_t used) {
    const int64_t plane = layer.height * layer.width;
    for (int64_t row = first; row < last; row++) {
        *starts++ = used;
        const int64_t y = row % plane / layer.width, x = row % layer.width;
        for (int64_t tap = tap0; tap < tap1; tap++) {
            const int64_t dy = tap / 3 - 1, dx = tap % 3 - 1;
            if (y + dy < 0 || y + dy >= layer.height || x + dx < 0 || x + dx >= layer.width) continue;
            const int64_t from = row + dy * layer.width + dx, size = begin[from + 1] - begin[from];
            if (static_cast<int64_t>(merged.size()) < used + size + 16) merged.resize(2 * (used + size + 16));
            const uint16_t base = static_cast<uint16_t>((tap - tap0) * layer.in * TILE * sizeof(float));
            const uint16_t *in = lists + begin[from];
            uint16_t *out = merged.data() + used;
            for (int64_t i = 0; i < size; i += 16)
                for (int64_t j = 0; j < 16; j++) out[i + j] = static_cast<uint16_t>(in[i + j] + base);
            used += size;
        }
    }
    *starts = used;
    return used;
}

// One tile's columns [column, column + TILE) of `rows` output rows: what the lists name, onto bias where `fresh`, or
// onto what is there.
void walk(const Layer &layer, const uint16_t *lists, const int64_t *begin, const float *weights, const float *bias,
          float *out, int64_t rows, int64_t column, bool fresh) {
    const int64_t n = std::min(TILE, layer.out - column);
    Vector start[VECTORS] = {};
    if (bias) std::memcpy(start, bias + column, n * sizeof(float));
    for (int64_t row = 0; row < rows; row++) {
        Vector total[VECTORS] = {};
        float *o = out + row * layer.out + column;
        if (fresh) std::memcpy(total, start, sizeof total);
        else if (n == TILE) std::memcpy(total, o, sizeof total);
        else std::memcpy(total, o, n * sizeof(float));
        add(lists + begin[row], lists + begin[row + 1], weights, total);
        if (n == TILE) std::memcpy(o, total, sizeof total);
        else std::memcpy(o, total, n * sizeof(float));
    }
}

struct Neuron {
    float gain, leak, threshold;
    int32_t soft;
};

// One step of a row's potentials and the spikes they give.
void fire_row(const float *current, float *h, uint64_t *bits, int64_t channels, const Neuron &p, bool first) {
    const float threshold = p.threshold, gain = p.gain, leak = p.leak;
    if (first) {
#pragma omp simd
        for (int64_t i = 0; i < channels; i++) h[i] = current[i] * gain;
    } else if (p.soft) {
#pragma omp simd
        for (int64_t i = 0; i < channels; i++)
            h[i] = leak * (h[i] - threshold * (h[i] >= threshold ? 1.0f : 0.0f)) + gain * current[i];
    } else {
#pragma omp simd
        for (int64_t i = 0; i < channels; i++)
            h[i] = leak * (h[i] * (1.0f - (h[i] >= threshold ? 1.0f : 0.0f))) + gain * current[i];
    }
    for (int64_t word = 0; word < (channels + 63) / 64; word++) {
        const int64_t n = std::min<int64_t>(64, channels - word * 64);
        const float *v = h + word * 64;
        uint64_t b = 0;
        int64_t i = 0;
#ifdef __AVX2__
        for (; i + 8 <= n; i += 8) {
            const __m256 fired = _mm256_cmp_ps(_mm256_loadu_ps(v + i), _mm256_set1_ps(threshold), _CMP_GE_OQ);
            b |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_ps(fired))) << i;
        }
#endif
        for (; i < n; i++) b |= static_cast<uint64_t>(v[i] >= threshold) << i;
        bits[word] = b;
    }
}

inline int64_t count(const uint64_t *bits, int64_t from, int64_t to) {  // set bits among channels [from, to)
    int64_t n = 0;
    for (int64_t word = from / 64; word * 64 < to; word++) {
        uint64_t b = bits[word];
        if (word * 64 < from) b &= ~uint64_t{0} << (from - word * 64);
        if (to < (word + 1) * 64) b &= (uint64_t{1} << (to - word * 64)) - 1;
        n += __builtin_popcountll(b);
    }
    return n;
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

// Turns the counts of every chunk's rows into where each list begins and the chunk ends; returns all of them.
int64_t place(int64_t *starts, int64_t rows, int64_t chunks) {
    int64_t total = 0;
    for (int64_t k = 0; k < chunks; k++) {
        for (int64_t row = 0; row < rows; row++) {
            const int64_t n = starts[k * (rows + 1) + row];
            starts[k * (rows + 1) + row] = total, total += n;
        }
        starts[k * (rows + 1) + rows] = total;
    }
    return total;
}

}  // namespace

extern "C" {

int64_t tile_width() { return TILE; }

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

void decode(const uint64_t *bits, float *x, int64_t rows, int64_t channels) {
    const int64_t words = (channels + 63) / 64;
#pragma omp parallel for schedule(static) if (rows * words > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++)
            x[row * channels + c] = static_cast<float>((bits[row * words + c / 64] >> (c % 64)) & 1);
}

// Where each row's list begins, chunk by chunk: starts[chunk * (rows + 1) + row]. Returns how many entries there are.
int64_t count_bits(const uint64_t *bits, int64_t *starts, int64_t rows, int64_t channels, int64_t span) {
    const int64_t words = (channels + 63) / 64, chunks = (channels + span - 1) / span;
#pragma omp parallel for schedule(static) if (rows * words > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < chunks; k++)
            starts[k * (rows + 1) + row] = count(bits + row * words, k * span, std::min(channels, (k + 1) * span));
    return place(starts, rows, chunks);
}

void list_bits(const uint64_t *bits, const int64_t *starts, uint16_t *lists, int64_t rows, int64_t channels,
               int64_t span) {
    const int64_t words = (channels + 63) / 64, chunks = (channels + span - 1) / span;
#pragma omp parallel for schedule(static) if (rows * words > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < chunks; k++) {
            uint16_t *list = lists + starts[k * (rows + 1) + row];
            const int64_t from = k * span, to = std::min(channels, from + span);
            for (int64_t word = from / 64; word * 64 < to; word++) {
                uint64_t b = bits[row * words + word];
                if (word * 64 < from) b &= ~uint64_t{0} << (from - word * 64);
                if (to < (word + 1) * 64) b &= (uint64_t{1} << (to - word * 64)) - 1;
                for (; b; b &= b - 1)
                    *list++ = static_cast<uint16_t>((word * 64 + __builtin_ctzll(b) - from) * TILE * sizeof(float));
            }
        }
}

// The same two for whole numbers: a channel is listed as often as it spiked. Returns -1 at a value that is not one.
int64_t count_integers(const float *x, int64_t *starts, int64_t rows, int64_t channels, int64_t span) {
    const int64_t chunks = (channels + span - 1) / span;
    int32_t other = 0;
#pragma omp parallel for schedule(static) reduction(| : other) if (rows * channels > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < chunks; k++) {
            int64_t n = 0;
            for (int64_t c = k * span; c < std::min(channels, (k + 1) * span); c++) {
                const float v = x[row * channels + c];
                const bool whole = v >= 0.0f && v <= 64.0f && v == static_cast<float>(static_cast<int32_t>(v));
                other |= !whole;
                n += whole ? static_cast<int32_t>(v) : 0;
            }
            starts[k * (rows + 1) + row] = n;
        }
    if (other) return -1;
    return place(starts, rows, chunks);
}

void list_integers(const float *x, const int64_t *starts, uint16_t *lists, int64_t rows, int64_t channels,
                   int64_t span) {
    const int64_t chunks = (channels + span - 1) / span;
#pragma omp parallel for schedule(static) if (rows * channels > SMALL)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < chunks; k++) {
            uint16_t *list = lists + starts[k * (rows + 1) + row];
            for (int64_t c = k * span; c < std::min(channels, (k + 1) * span); c++)
                for (int32_t n = static_cast<int32_t>(x[row * channels + c]); n > 0; n--)
                    *list++ = static_cast<uint16_t>((c - k * span) * TILE * sizeof(float));
        }
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

// out = bias + the listed weight rows, of T times `frames` frames; weights: tiles of (taps, in, TILE); bias: or null.
// With `neuron` its spikes over the T steps are written as bits instead, and the sums never leave the cache.
void convolve(const uint16_t *lists, const int64_t *starts, const float *weights, const float *bias, float *out,
              const Neuron *neuron, uint64_t *bits, int64_t T, int64_t frames, int64_t height, int64_t width,
              int64_t in, int64_t channels, int64_t taps, int64_t span) {
    const Layer layer{T * frames, height, width, in, channels, taps, span};
    const int64_t rows = layer.rows(), group = layer.group(), step = rows / T, words = (channels + 63) / 64;
    const int64_t size = std::max<int64_t>(1, ROWS / T);  // pixels a block, all T steps of each
#pragma omp parallel if (rows * layer.tiles() > 64)
    {
        const int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
        const int64_t first = step * me / threads, last = step * (me + 1) / threads;
        std::vector<uint16_t> merged;
        std::vector<int64_t> own(T * (size + 1));
        std::vector<float> sums(neuron ? T * std::min(size, std::max<int64_t>(1, last - first)) * channels : 0);
        std::vector<float> h(neuron ? channels : 0);
        for (int64_t block = first; block < last; block += size) {
            const int64_t n = std::min(last - block, size);
            const auto at = [&](int64_t t) {
                return neuron ? sums.data() + t * n * channels : out + (t * step + block) * channels;
            };
            for (int64_t tap = 0; tap < taps; tap += group)
                for (int64_t chunk = 0; chunk < layer.chunks(); chunk++) {
                    const int64_t *begin = starts + chunk * (rows + 1);
                    const float *w = weights + (tap * in + chunk * span) * TILE;
                    for (int64_t t = 0, used = 0; taps > 1 && t < T; t++)
                        used = merge(layer, lists, begin, tap, std::min(taps, tap + group), t * step + block,
                                     t * step + block + n, merged, &own[t * (n + 1)], used);
                    for (int64_t tile = 0; tile < layer.tiles(); tile++)
                        for (int64_t t = 0; t < T; t++)
                            walk(layer, taps > 1 ? merged.data() : lists,
                                 taps > 1 ? &own[t * (n + 1)] : begin + t * step + block, w + tile * taps * in * TILE,
                                 bias, at(t), n, tile * TILE, tap == 0 && chunk == 0);
                }
            for (int64_t row = 0; neuron && row < n; row++)
                for (int64_t t = 0; t < T; t++)
                    fire_row(at(t) + row * channels, h.data(), bits + (t * step + block + row) * words, channels,
                             *neuron, t == 0);
        }
    }
}

// 3x3 max-pooling of spikes with padding 1: an OR of neighbours.
void pool_bits(const uint64_t *bits, uint64_t *out, int64_t frames, int64_t words, int64_t height, int64_t width,
               int64_t stride) {
    const int64_t h = (height - 1) / stride + 1, w = (width - 1) / stride + 1;
#pragma omp parallel for schedule(static) if (frames * h * w * words > SMALL)
    for (int64_t line = 0; line < frames * h; line++) {
        const int64_t f = line / h, y = line % h * stride;
        for (int64_t ox = 0; ox < w; ox++) {
            uint64_t *o = out + (line * w + ox) * words;
            std::memset(o, 0, words * sizeof *o);
            for (int64_t ny = std::max<int64_t>(0, y - 1); ny <= std::min(height - 1, y + 1); ny++)
                for (int64_t nx = std::max<int64_t>(0, ox * stride - 1); nx <= std::min(width - 1, ox * stride + 1); nx++)
                    for (int64_t i = 0; i < words; i++) o[i] |= bits[((f * height + ny) * width + nx) * words + i];
        }
    }
}

// A leaky integrate-and-fire sequence of T frames of rows: spikes as bits. x_step 0: one frame shown T times.
void fire_bits(const float *x, uint64_t *bits, const Neuron *neuron, int64_t T, int64_t x_step, int64_t rows,
               int64_t channels) {
    const int64_t words = (channels + 63) / 64;
#pragma omp parallel if (T * rows * words > SMALL / 4)
    {
        std::vector<float> h(channels);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t t = 0; t < T; t++)
                fire_row(x + t * x_step + row * channels, h.data(), bits + (t * rows + row) * words, channels, *neuron,
                         t == 0);
    }
}

// SDSA's sum over tokens of k and v, from rows that hold q, k and v side by side, `words` each: sums (frames, channels).
// width: channels a head for the 3x3 pooling over (tokens, channels of a head), 0 for none.
void sdsa_sum(const uint64_t *k, const uint64_t *v, int64_t stride, float *sums, int64_t frames, int64_t tokens,
              int64_t words, int64_t width) {
    const Heads heads(width ? words : 0, width);
#pragma omp parallel for schedule(static) if (frames * tokens * words > SMALL)
    for (int64_t f = 0; f < frames; f++) {
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
    }
}

// q where the gate of its frame and channel is set, pooled as above.
void sdsa_mask(const uint64_t *q, int64_t stride, const uint64_t *gate, uint64_t *out, int64_t frames, int64_t tokens,
               int64_t words, int64_t width) {
    const Heads heads(width ? words : 0, width);
#pragma omp parallel for schedule(static) if (frames * tokens * words > SMALL)
    for (int64_t f = 0; f < frames; f++) {
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
    }
}

}  // extern "C"
