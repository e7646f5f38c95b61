// Convolutions and linear layers whose input is mostly zeros, as spikes are: only what fired costs time.
//
// Of every input pixel the channels that are not zero are listed once. An output pixel then adds up the rows of weights
// of those channels. Its sum starts with the bias and runs over the kernel's taps and the channels, always in this order,
// so it depends on nothing but the pixels below the kernel: not on other frames, nor on the number of threads.
//
// x (frames, pixels, in) and y (frames, pixels, out) are channels last. Rows of weights (tap, in, out) and the bias are
// padded to `row` numbers, a multiple of LANES.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

using Size = int64_t;

#if defined(__AVX512F__)
constexpr Size LANES = 16;
#elif defined(__AVX__)
constexpr Size LANES = 8;
#else
constexpr Size LANES = 4;  // NEON, SSE, or what the compiler makes of it
#endif
constexpr int VECTORS = 8;      // sums of output channels that stay in registers
constexpr Size PIXELS = 64;     // of a group of frames, at least, for which a block of weights stays in the cache
constexpr Size SMALL = 1 << 14;  // numbers of input that are not worth a second thread

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

inline Vector load(const float* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }

struct Shape {
    Size frames, height, width, in, out_height, out_width, out, row, kernel, stride, padding, transposed;

    Size pixels() const { return height * width; }
    Size out_pixels() const { return out_height * out_width; }

    // Row or column of the input, one of `size`, that a tap finds below row or column `at` of the output; -1: none.
    Size source(Size at, Size tap, Size size) const {
        Size from = transposed ? at + padding - tap : at * stride + tap - padding;
        if (transposed) from = from % stride ? -1 : from / stride;
        return from < size ? std::max<Size>(from, -1) : -1;
    }
};

// What is not zero in the pixels of some frames.
struct Fired {
    Size in;
    std::vector<uint16_t> channels;
    std::vector<float> values;
    std::vector<Size> counts;
    bool ones = true;  // whether all of it is 1

    Fired(const float* x, Size pixels, Size in) : in(in), channels(pixels * in + 1), counts(pixels) {
        for (Size p = 0; p < pixels; p++) {
            uint16_t* list = &channels[p * in];
            const float* pixel = x + p * in;
            Size n = 0;
            for (Size c = 0; c < in; c++) {
                list[n] = c;
                n += pixel[c] != 0;
            }
            counts[p] = n;
            for (Size i = 0; i < n; i++) ones &= pixel[list[i]] == 1;
        }
        if (ones) return;
        values.resize(pixels * in);
        for (Size p = 0; p < pixels; p++)
            for (Size i = 0; i < counts[p]; i++) values[p * in + i] = x[p * in + channels[p * in + i]];
    }
};

// Adds the rows of weights of a pixel's channels to the sums.
template <int V, bool ONES>
inline void gather(Vector* sums, const Fired& fired, Size pixel, const float* weights, Size row) {
    const uint16_t* channels = &fired.channels[pixel * fired.in];
    const float* values = ONES ? nullptr : &fired.values[pixel * fired.in];
    const Size count = fired.counts[pixel];
    for (Size i = 0; i < count; i++) {
        const float* from = weights + channels[i] * row;
        for (int v = 0; v < V; v++) {
            if (ONES)
                sums[v] += load(from + v * LANES);
            else
                sums[v] += values[i] * load(from + v * LANES);
        }
    }
}

// V vectors of output channels from `first` on, of all wanted pixels of one frame, whose pixels begin at `start`.
template <int V, bool ONES>
void convolve(const Fired& fired, Size start, const float* weights, const float* bias, const uint8_t* wanted, float* y,
              Size first, const Shape& s) {
    const Size kept = std::min<Size>(V * LANES, s.out - first) * sizeof(float);
    for (Size r = 0; r < s.out_height; r++)
        for (Size c = 0; c < s.out_width; c++) {
            const Size pixel = r * s.out_width + c;
            if (wanted && !wanted[pixel]) continue;
            Vector sums[V];
            for (int v = 0; v < V; v++) sums[v] = load(bias + first + v * LANES);
            for (Size i = 0; i < s.kernel; i++) {
                const Size from_row = s.source(r, i, s.height);
                for (Size j = 0; j < s.kernel && from_row >= 0; j++) {
                    const Size from_column = s.source(c, j, s.width);
                    if (from_column < 0) continue;
                    const float* tap = weights + (i * s.kernel + j) * s.in * s.row + first;
                    gather<V, ONES>(sums, fired, start + from_row * s.width + from_column, tap, s.row);
                }
            }
            float made[V * LANES];  // a copy, so that the sums themselves stay in registers
            for (int v = 0; v < V; v++) store(made + v * LANES, sums[v]);
            std::memcpy(y + pixel * s.out + first, made, kept);
        }
}

template <bool ONES>
void convolve_block(int vectors, const Fired& fired, Size start, const float* weights, const float* bias,
                    const uint8_t* wanted, float* y, Size first, const Shape& s) {
    auto run = vectors == 8 ? convolve<8, ONES> : vectors == 4 ? convolve<4, ONES> : vectors == 2 ? convolve<2, ONES> : convolve<1, ONES>;
    run(fired, start, weights, bias, wanted, y, first, s);
}

extern "C" {

Size lanes() { return LANES; }

void sparse_forward(const float* x, const float* weights, const float* bias, const uint8_t* wanted, float* y,
                    const Shape* shape, Size threads) {
    const Shape s = *shape;
    const Size share = (s.frames + threads - 1) / threads;  // of a thread
    const Size together = std::clamp<Size>(PIXELS / s.pixels(), 1, std::max<Size>(share, 1));
    const Size groups = (s.frames + together - 1) / together;
#pragma omp parallel for schedule(static) num_threads(threads) if (s.frames * s.pixels() * s.in > SMALL)
    for (Size group = 0; group < groups; group++) {
        const Size begin = group * together, end = std::min(begin + together, s.frames);
        const Fired fired(x + begin * s.pixels() * s.in, (end - begin) * s.pixels(), s.in);
        for (Size first = 0, vectors; first < s.row; first += vectors * LANES) {
            for (vectors = VECTORS; first + vectors * LANES > s.row;) vectors /= 2;
            for (Size frame = begin; frame < end; frame++) {
                const Size start = (frame - begin) * s.pixels();
                (fired.ones ? convolve_block<true> : convolve_block<false>)(
                    vectors, fired, start, weights, bias, wanted, y + frame * s.out_pixels() * s.out, first, s);
            }
        }
    }
}
}
