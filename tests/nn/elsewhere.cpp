// What Python does with sparse.cpp, on numbers from stdin: to run the kernels as compiled for another processor.
//   elsewhere FRAMES HEIGHT WIDTH IN OUT KERNEL: reads spikes (pixels, in), weights as packed, gradients (pixels, out);
//   writes the convolution, the same added to it with weights cut to bfloat16, its neuron's spikes over two timesteps,
//   of a 3x3 kernel those of the spikes taken as an image (all pixels, out), and the weights' gradient.
#include "sparse.cpp"

#include <cstdio>
#include <cstdlib>

std::vector<float> read(int64_t n) {
    std::vector<float> x(n);
    if (static_cast<int64_t>(fread(x.data(), sizeof(float), n, stdin)) != n) exit(2);
    return x;
}

void write(const std::vector<float> &x) { fwrite(x.data(), sizeof(float), x.size(), stdout); }

// The same weights cut to bfloat16, in the order in which they are added.
std::vector<uint16_t> halved_weights(const std::vector<float> &weights, int64_t out, int64_t rows) {
    const int64_t columns = Halves::COLUMNS, tiles = (out + columns - 1) / columns;
    std::vector<uint16_t> halves(tiles * rows * columns);
    for (int64_t tile = 0; tile < tiles; tile++)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t word = 0; word < columns; word++) {
                const int64_t column = tile * columns + Halves::column(word);
                if (column >= (out + TILE - 1) / TILE * TILE) continue;
                uint32_t bits;
                std::memcpy(&bits, &weights[(column / TILE * rows + row) * TILE + column % TILE], sizeof bits);
                halves[(tile * rows + row) * columns + word] = static_cast<uint16_t>(bits >> 16);
            }
    return halves;
}

int main(int, char **arguments) {
    int64_t n[6];
    for (int i = 0; i < 6; i++) n[i] = atoll(arguments[i + 1]);
    const int64_t frames = n[0], height = n[1], width = n[2], in = n[3], out = n[4], k = n[5], pad = k / 2;
    const int64_t rows = frames * height * width, tiles = (out + TILE - 1) / TILE;
    const int64_t chunk = 64 * ((in + 63) / 64);
    const std::vector<float> x = read(rows * in), weights = read(tiles * TILE * in * k * k), grad = read(rows * out);
    const std::vector<uint16_t> halves = halved_weights(weights, out, k * k * in);

    std::vector<uint64_t> bits(rows * ((in + 63) / 64)), fired(rows * ((out + 63) / 64));
    if (!encode(x.data(), bits.data(), rows, in)) return 3;
    std::vector<float> y(rows * out), halved(rows * out), spikes(rows * out), gradient(out * in * k * k);
    const Neuron neuron{0.5f, 0.5f, 1.0f, 0};
    convolve(bits.data(), nullptr, weights.data(), nullptr, nullptr, y.data(), nullptr, nullptr, 0, 1, frames, height,
             width, in, out, k * k, chunk);
    convolve(bits.data(), nullptr, weights.data(), nullptr, nullptr, nullptr, &neuron, fired.data(), 0, 2, frames / 2,
             height, width, in, out, k * k, chunk);
    convolve(bits.data(), nullptr, halves.data(), nullptr, y.data(), halved.data(), nullptr, nullptr, 1, 1, frames,
             height, width, in, out, k * k, chunk);
    decode(fired.data(), spikes.data(), 1, rows, out);
    std::vector<float> of_images(rows * out);
    if (k == 3) {  // the spikes as an image
        const int64_t columns = (out + 15) / 16 * 16;
        std::vector<float> plain(9 * in * columns), bias(columns);
        for (int64_t row = 0; row < 9 * in; row++)
            for (int64_t o = 0; o < out; o++)
                plain[row * columns + o] = weights[(o / TILE * 9 * in + row) * TILE + o % TILE];
        fire_images(x.data(), plain.data(), bias.data(), &neuron, fired.data(), 1, 2, frames / 2, height, width, in,
                    out);
        decode(fired.data(), of_images.data(), 1, rows, out);
    }

    const int64_t columns = TILE * (pad ? 1 : 2), span = 64, inside = frames * (height + pad) * (width + pad);
    std::vector<int64_t> places((inside + span - 1) / span * in + 1);
    std::vector<uint16_t> entries(count_places(bits.data(), places.data(), frames, height, width, pad, in, span));
    list_places(bits.data(), places.data(), entries.data(), frames, height, width, pad, in, span, columns);
    std::vector<float> sums((out + columns - 1) / columns * k * in * k * columns);
    gather_gradient(entries.data(), places.data(), grad.data(), sums.data(), gradient.data(), frames, height, width,
                    pad, in, span, columns, out);
    write(y), write(halved), write(spikes), write(of_images), write(gradient);
}
