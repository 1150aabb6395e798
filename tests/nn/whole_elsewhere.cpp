// What Python does with whole.cpp, on numbers from stdin: to run the kernels as compiled for another processor.
//   whole_elsewhere FRAMES HEIGHT WIDTH IN OUT KERNEL: reads weights (out, in, k k) and counts up to 2 (pixels, in),
//   both as floats; writes the convolution of those counts (pixels, out), its spikes over two timesteps with threshold 40,
//   leak and gain a half, and the convolution again with a scale of 1 and no bias.
#include "whole.cpp"

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int, char **arguments) {
    int64_t n[6];
    for (int i = 0; i < 6; i++) n[i] = atoll(arguments[i + 1]);
    const int64_t frames = n[0], height = n[1], width = n[2], in = n[3], out = n[4], taps = n[5] * n[5];
    const int64_t rows = frames * height * width, words = (in + 63) / 64, tiles = (out + TILE - 1) / TILE;
    std::vector<float> weights(out * in * taps), x(rows * in);
    for (auto *v : {&weights, &x})
        if (fread(v->data(), sizeof(float), v->size(), stdin) != v->size()) return 2;
    std::vector<uint8_t> packed(tiles * taps * words * 64 * TILE);
    for (int64_t row = 0; row < taps * words * 64; row++)
        for (int64_t place = 0; place < tiles * TILE; place++) {
            const int64_t lane = place % BYTES / 4, of = place % 4;  // byte `of` of a lane of 32 bits
            const int64_t column = place / BYTES * BYTES + of * INTS + lane;
            const int64_t c = row % (words * 64), tap = row / (words * 64);
            const bool real = column < out && c < in;
            const int64_t weight = real ? static_cast<int64_t>(weights[(column * in + c) * taps + tap]) : 0;
            packed[(place / TILE * taps * words * 64 + row) * TILE + place % TILE] =
                static_cast<uint8_t>(of % 2 ? weight : weight + 128);
        }
    std::vector<uint64_t> bits(2 * rows * words), spikes(rows * tiles);
    if (encode_whole(x.data(), bits.data(), 2, rows, in) < 0) return 3;
    const std::vector<int32_t> one(tiles * TILE, 1), zero(tiles * TILE, 0), threshold(tiles * TILE, 40);
    const std::vector<float> scale(tiles * TILE, 1.0f), bias(tiles * TILE, 0.0f);
    std::vector<int32_t> sums(rows * out);
    std::vector<float> fired(rows * out), scaled(rows * out), written(rows * out);
    const Neuron neuron{128, 128, 0, 1, threshold.data(), nullptr};
    convolve_whole(bits.data(), packed.data(), one.data(), zero.data(), nullptr, sums.data(), nullptr, nullptr, 2, 1,
                   frames, height, width, in, out, taps);
    convolve_whole(bits.data(), packed.data(), one.data(), zero.data(), nullptr, nullptr, &neuron, spikes.data(), 2, 2,
                   frames / 2, height, width, in, out, taps);
    convolve_scaled(bits.data(), packed.data(), scale.data(), bias.data(), nullptr, scaled.data(), nullptr, nullptr, 2,
                    1, frames, height, width, in, out, taps);
    for (int64_t i = 0; i < rows * out; i++) {
        written[i] = static_cast<float>(sums[i]);
        fired[i] = static_cast<float>(spikes[i / out * tiles + i % out / 64] >> (i % out % 64) & 1);
    }
    for (const auto &v : {written, fired, scaled}) fwrite(v.data(), sizeof(float), v.size(), stdout);
}
