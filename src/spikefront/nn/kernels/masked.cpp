// The gradient of what entered a convolution, only at places that are asked for: one product of two rows each. GCC's
// vector types; measured with AVX-512 alone.

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")  // a gradient need not be PyTorch's to the last bit
#endif
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t SMALL = 512;           // rows below which a second thread costs more than it brings
constexpr int64_t ROWS = 64;             // a block
constexpr int64_t WEIGHTS = 128 * 1024;  // that stay in a core's second cache while a block is gone through

typedef float Vector __attribute__((vector_size(64)));
typedef int32_t Order __attribute__((vector_size(64)));

// Adds the sums of four vectors' numbers to `sums`: within each quarter of a vector first, which processors shuffle.
inline void add_sums(const Vector *v, float *sums) {
    const Order low{0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29}, high = low + 2;
    const Order even{0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}, odd = even + 2;
    const Vector first = __builtin_shuffle(v[0], v[1], low) + __builtin_shuffle(v[0], v[1], high);
    const Vector second = __builtin_shuffle(v[2], v[3], low) + __builtin_shuffle(v[2], v[3], high);
    const Vector all = __builtin_shuffle(first, second, even) + __builtin_shuffle(first, second, odd);
    for (int k = 0; k < 4; k++) sums[k] += (all[k] + all[k + 4]) + (all[k + 8] + all[k + 12]);
}

// Adds to `sums` the products of a row with COUNT (at most 4) of `weights`' rows, n numbers each, a multiple of 16.
template <int COUNT>
inline void products(const float *row, const float *weights, int64_t stride, const uint16_t *list, int64_t n, float *sums) {
    const float *w[COUNT];
    Vector total[4] = {};
    for (int k = 0; k < COUNT; k++) w[k] = weights + list[k] * stride;
    for (int64_t i = 0; i < n; i += 16) {
        Vector r, each;
        std::memcpy(&r, row + i, sizeof r);
        for (int k = 0; k < COUNT; k++) {
            std::memcpy(&each, w[k] + i, sizeof each);
            total[k] += r * each;
        }
    }
    add_sums(total, sums);
}

void products(const float *row, const float *weights, int64_t stride, const uint16_t *list, int64_t count, int64_t n,
              float *sums) {
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) products<4>(row, weights, stride, list + k, n, sums + k);
    switch (count - k) {
        case 3: products<3>(row, weights, stride, list + k, n, sums + k); break;
        case 2: products<2>(row, weights, stride, list + k, n, sums + k); break;
        case 1: products<1>(row, weights, stride, list + k, n, sums + k); break;
    }
}
}  // namespace

extern "C" {

// The bits of what was max-pooled, 3x3 with padding 1: those of the winners, `which` of nine taps they are.
void pool_places(const uint64_t *bits, const uint8_t *which, uint64_t *out, int64_t frames, int64_t H, int64_t W,
                 int64_t C, int64_t stride) {
    const int64_t h = (H - 1) / stride + 1, w = (W - 1) / stride + 1, words = (C + 63) / 64;
#pragma omp parallel for schedule(static) if (frames * h * w > SMALL)
    for (int64_t pixel = 0; pixel < frames * h * w; pixel++) {
        const int64_t y = pixel / w % h * stride - 1, x = pixel % w * stride - 1, f = pixel / (h * w);
        int64_t taps[9];
        for (int64_t tap = 0; tap < 9; tap++) taps[tap] = ((f * H + y + tap / 3) * W + x + tap % 3) * words;
        for (int64_t word = 0; word < words; word++) {
            uint64_t all = 0;
            for (int64_t c = word * 64; c < std::min(C, word * 64 + 64); c++)
                all |= (bits[taps[which[pixel * C + c]] + word] >> (c % 64) & 1) << (c % 64);
            out[pixel * words + word] = all;
        }
    }
}

int64_t count_places_asked(const uint64_t *bits, int64_t words) {
    int64_t total = 0;
    for (int64_t i = 0; i < words; i++) total += __builtin_popcountll(bits[i]);
    return total;
}

// out (pixels, C): the gradient of what entered a convolution of `kernel` 1 or 3 (padded to the same size), 0 but where
// bits (pixels, 64 channels a word) ask for it. grad (pixels, D), D a multiple of 16; weights (taps, C, D).
void masked_gradient(const float *grad, const float *weights, const uint64_t *bits, float *out, int64_t frames,
                     int64_t H, int64_t W, int64_t C, int64_t D, int64_t kernel) {
    const int64_t pixels = frames * H * W, words = (C + 63) / 64, pad = kernel / 2;
    const int64_t chunk = std::min(D, std::max<int64_t>(16, WEIGHTS / C / 16 * 16));
#pragma omp parallel if (pixels > SMALL)
    {
        std::vector<uint16_t> list(ROWS * C);
        std::vector<float> sums(ROWS * C + 4);  // four at a time: what lies past a row's gets 0 added
        int64_t starts[ROWS + 1] = {0};
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < pixels; first += ROWS) {
            const int64_t rows = std::min(ROWS, pixels - first);
            int64_t n = 0;
            for (int64_t r = 0; r < rows; r++) {
                for (int64_t word = 0; word < words; word++)
                    for (uint64_t b = bits[(first + r) * words + word]; b; b &= b - 1)
                        list[n++] = static_cast<uint16_t>(word * 64 + __builtin_ctzll(b));
                starts[r + 1] = n;
            }
            std::fill(sums.begin(), sums.begin() + n, 0.0f);
            for (int64_t tap = 0; tap < kernel * kernel; tap++)
                for (int64_t from = 0; from < D; from += chunk)
                    for (int64_t r = 0; r < rows; r++) {
                        const int64_t pixel = first + r, y = pixel / W % H + pad - tap / kernel;
                        const int64_t x = pixel % W + pad - tap % kernel;
                        if (y < 0 || y >= H || x < 0 || x >= W || starts[r] == starts[r + 1]) continue;
                        const float *row = grad + ((pixel / (H * W) * H + y) * W + x) * D + from;
                        products(row, weights + tap * C * D + from, D, &list[starts[r]], starts[r + 1] - starts[r],
                                 std::min(chunk, D - from), &sums[starts[r]]);
                    }
            for (int64_t r = 0; r < rows; r++) {
                float *to = out + (first + r) * C;
                std::fill(to, to + C, 0.0f);
                for (int64_t k = starts[r]; k < starts[r + 1]; k++) to[list[k]] = sums[k];
            }
        }
    }
}

}  // extern "C"
