// Kernels for CPUs, compiled by `cpu.py` once on each machine.
//
// A tile of neurons, neighbours in memory, runs through all time steps while its float32 membranes stay in the nearest
// cache: every current is read once, every spike written once. The backward pass runs the steps again, stores the
// membranes, and goes back through time. Sums over rows are kept for each part, a fixed share of the tiles, and added up
// afterwards, so their order does not depend on the number of threads.
//
// Arrays are contiguous (T, M, C), X is float or bfloat16. A null pointer means that an argument is not given.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using Size = int64_t;
constexpr Size TILE = 1024;    // neurons
constexpr Size PARTS = 64;     // of the rows, at most
constexpr Size SMALL = 16384;  // elements that are not worth a second thread

struct bf16 {
    uint16_t bits;
};

inline float wide(float x) { return x; }

inline float wide(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

inline void put(float& to, float x) { to = x; }

inline void put(bf16& to, float x) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    to.bits = x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// The rows of a matrix (rows, width), cut into tiles: some whole rows, or a piece of one.
struct Tiles {
    Size rows, width, high, pieces, groups, parts;

    Tiles(Size rows, Size width)
        : rows(rows),
          width(width),
          high(std::max<Size>(TILE / width, 1)),
          pieces((width + TILE - 1) / TILE),
          groups((rows + high - 1) / high),
          parts(std::min(groups, PARTS)) {}

    // Calls part(index, first column, columns, first row, last row + 1) for every part, in parallel.
    template <class Part>
    void each(Size steps, Size threads, Part part) const {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (steps * rows * width > SMALL)
        for (Size piece = 0; piece < pieces; piece++)
            for (Size p = 0; p < parts; p++) {
                Size column = piece * TILE, columns = std::min(TILE, width - column);
                part(p, column, columns, groups * p / parts * high, std::min(groups * (p + 1) / parts * high, rows));
            }
    }
};

// A value for each column, repeated for every neuron of a tile.
struct Columns {
    float values[TILE];

    Columns(const float* of, float otherwise, Size column, Size columns, Size high) {
        for (Size r = 0; r < high; r++)
            for (Size c = 0; c < columns; c++) values[r * columns + c] = of ? of[column + c] : otherwise;
    }
    float operator[](Size j) const { return values[j]; }
};

// Sums over the rows of a tile.
struct Sums {
    float values[TILE] = {};

    float& operator[](Size j) { return values[j]; }
    void to(float* out, Size columns, Size high) const {
        for (Size c = 0; c < columns; c++) {
            float sum = 0;
            for (Size r = 0; r < high; r++) sum += values[r * columns + c];
            out[c] = sum;
        }
    }
};

enum Surrogate { ATAN, TRIANGLE, BOX, BOX_ZERO };

struct Neuron {
    float tau, leak, v_threshold, v_reset, alpha;
    int decay_input, strict, detach_reset, surrogate;

    float fires_from() const { return strict ? std::nextafterf(v_threshold, INFINITY) : v_threshold; }
};

template <bool DECAY_INPUT>
inline float charge(float h, float x, const Neuron& n) {
    return DECAY_INPUT ? h + (x - (h - n.v_reset)) / n.tau : h * n.leak + (x + n.v_reset / n.tau);
}

// dS/dV of a tile
void surrogate(const float* v, float* ds, Size length, const Neuron& n) {
    const float alpha = n.alpha, threshold = n.v_threshold, half = 0.5f / alpha;
    const float scale = float(1.5707963267948966 * alpha), top = alpha / 2, slope = alpha * alpha;
    switch (n.surrogate) {
        case ATAN:
            for (Size j = 0; j < length; j++) {
                float x = scale * (v[j] - threshold);
                ds[j] = top / (1 + x * x);
            }
            break;
        case TRIANGLE:
            for (Size j = 0; j < length; j++) ds[j] = std::max(alpha - slope * std::abs(v[j] - threshold), 0.0f);
            break;
        default:
            const float centre = n.surrogate == BOX ? threshold : 0;
            for (Size j = 0; j < length; j++) ds[j] = std::abs(v[j] - centre) < half ? alpha : 0;
    }
}

template <typename X, bool DECAY_INPUT>
void run_forward(const X* x, const float* a, const float* b, const float* v0, X* out, float* v_end, Size rows, Size width,
                 Size steps, Size frames, const Neuron& n, Size threads) {
    const Tiles tiles(rows, width);
    const Size frame = rows * width;
    const float from = n.fires_from();
    tiles.each(steps, threads, [&](Size, Size column, Size columns, Size first, Size last) {
        const Columns A(a, 1, column, columns, tiles.high), B(b, 0, column, columns, tiles.high);
        float h[TILE];
        for (Size row = first; row < last; row += tiles.high) {
            const Size at = row * width + column, length = std::min(tiles.high, last - row) * columns;
            for (Size j = 0; j < length; j++) h[j] = v0 ? v0[at + j] : n.v_reset;
            for (Size t = 0; t < steps; t++) {
                const X* current = x + at + (frames == 1 ? 0 : t * frame);
                X* spikes = out + at + t * frame;
                for (Size j = 0; j < length; j++) {
                    const float v = charge<DECAY_INPUT>(h[j], A[j] * wide(current[j]) + B[j], n);
                    const bool fired = v >= from;
                    h[j] = fired ? n.v_reset : v;
                    put(spikes[j], fired ? 1 : 0);
                }
            }
            if (v_end) std::copy(h, h + length, v_end + at);
        }
    });
}

template <typename X, bool DECAY_INPUT, bool STATIC>
void run_backward(const X* x, const float* a, const float* b, const float* v0, const X* grad, const float* mean,
                  const float* rstd, X* gx, float* gv, float* sums, float* products, Size rows, Size width, Size steps,
                  const Neuron& n, Size threads) {
    const Tiles tiles(rows, width);
    const Size frame = rows * width;
    const float from = n.fires_from(), gain = DECAY_INPUT ? 1 / n.tau : 1, through = n.detach_reset ? 0 : 1;
    tiles.each(steps, threads, [&](Size p, Size column, Size columns, Size first, Size last) {
        const Columns A(a, 1, column, columns, tiles.high), B(b, 0, column, columns, tiles.high);
        const Columns MEAN(mean, 0, column, columns, tiles.high);
        Sums total, product;  // of dL/dI, and of dL/dI (x - mean)
        std::vector<float> membranes(steps * TILE);
        float h[TILE], ds[TILE], carry[TILE], still[TILE];  // carry: dL/dH_t; still: dL/dI of a static frame
        for (Size row = first; row < last; row += tiles.high) {
            const Size at = row * width + column, length = std::min(tiles.high, last - row) * columns;
            for (Size j = 0; j < length; j++) h[j] = v0 ? v0[at + j] : n.v_reset;
            for (Size t = 0; t < steps; t++) {
                const X* current = x + at + (STATIC ? 0 : t * frame);
                float* v = &membranes[t * TILE];
                for (Size j = 0; j < length; j++) {
                    v[j] = charge<DECAY_INPUT>(h[j], A[j] * wide(current[j]) + B[j], n);
                    h[j] = v[j] >= from ? n.v_reset : v[j];
                }
            }
            std::fill(carry, carry + length, 0.0f);
            std::fill(still, still + length, 0.0f);
            for (Size t = steps - 1; t >= 0; t--) {
                const float* v = &membranes[t * TILE];
                const X *current = x + at + (STATIC ? 0 : t * frame), *g = grad + at + t * frame;
                X* out = gx + at + (STATIC ? 0 : t * frame);
                surrogate(v, ds, length, n);
                for (Size j = 0; j < length; j++) {
                    const float kept = v[j] >= from ? 0 : carry[j];
                    const float dv = wide(g[j]) * ds[j] + kept + through * carry[j] * (n.v_reset - v[j]) * ds[j];
                    carry[j] = dv * n.leak;
                    const float di = dv * gain;
                    if (STATIC) {
                        still[j] += di;
                    } else {
                        put(out[j], di);
                        total[j] += di;
                        product[j] += di * (wide(current[j]) - MEAN[j]);
                    }
                }
            }
            if (STATIC)
                for (Size j = 0; j < length; j++) {
                    put(gx[at + j], still[j]);
                    total[j] += still[j];
                    product[j] += still[j] * (wide(x[at + j]) - MEAN[j]);
                }
            if (gv) std::copy(carry, carry + length, gv + at);
        }
        if (!sums) return;
        total.to(sums + p * width + column, columns, tiles.high);
        product.to(products + p * width + column, columns, tiles.high);
        for (Size c = 0; c < columns; c++) products[p * width + column + c] *= rstd[column + c];
    });
}

template <typename X>
void run_squared_deviations(const X* x, const float* mean, float* out, Size rows, Size width, Size threads) {
    const Tiles tiles(rows, width);
    tiles.each(1, threads, [&](Size p, Size column, Size columns, Size first, Size last) {
        const Columns MEAN(mean, 0, column, columns, tiles.high);
        Sums sums;
        for (Size row = first; row < last; row += tiles.high) {
            const X* values = x + row * width + column;
            const Size length = std::min(tiles.high, last - row) * columns;
            for (Size j = 0; j < length; j++) {
                const float d = wide(values[j]) - MEAN[j];
                sums[j] += d * d;
            }
        }
        sums.to(out + p * width + column, columns, tiles.high);
    });
}

template <typename X>
void run_batch_norm_backward(X* g, const X* x, const float* a, const float* mean, const float* rstd, const float* mean_g,
                const float* mean_gx, Size rows, Size width, Size threads) {
    const Tiles tiles(rows, width);
    tiles.each(1, threads, [&](Size, Size column, Size columns, Size first, Size last) {
        const Size high = tiles.high;
        const Columns A(a, 1, column, columns, high), MEAN(mean, 0, column, columns, high);
        const Columns RSTD(rstd, 1, column, columns, high), G(mean_g, 0, column, columns, high);
        const Columns GX(mean_gx, 0, column, columns, high);
        for (Size row = first; row < last; row += high) {
            const Size at = row * width + column, length = std::min(high, last - row) * columns;
            for (Size j = 0; j < length; j++) {
                const float y = (wide(x[at + j]) - MEAN[j]) * RSTD[j];
                put(g[at + j], A[j] * (wide(g[at + j]) - G[j] - y * GX[j]));
            }
        }
    });
}

// For both types of X, and for neurons of both kinds of input.
#define TYPED(call_float, call_bf16) \
    if (half) {                      \
        call_bf16;                   \
    } else {                         \
        call_float;                  \
    }

extern "C" {

Size parts(Size rows, Size width) { return Tiles(rows, width).parts; }

#define FORWARD(X, DECAY) \
    run_forward<X, DECAY>((const X*)x, a, b, v0, (X*)out, v_end, rows, width, steps, frames, *n, threads)
void forward(const void* x, const float* a, const float* b, const float* v0, void* out, float* v_end, Size rows,
             Size width, Size steps, Size frames, const Neuron* n, int half, Size threads) {
    if (n->decay_input) {
        TYPED(FORWARD(float, true), FORWARD(bf16, true))
    } else {
        TYPED(FORWARD(float, false), FORWARD(bf16, false))
    }
}

#define BACKWARD(X, DECAY)                                                                                   \
    (frames == 1 && steps > 1 ? run_backward<X, DECAY, true> : run_backward<X, DECAY, false>)(               \
        (const X*)x, a, b, v0, (const X*)grad, mean, rstd, (X*)gx, gv, sums, products, rows, width, steps, *n, \
        threads)
void backward(const void* x, const float* a, const float* b, const float* v0, const void* grad, const float* mean,
              const float* rstd, void* gx, float* gv, float* sums, float* products, Size rows, Size width, Size steps,
              Size frames, const Neuron* n, int half, Size threads) {
    if (n->decay_input) {
        TYPED(BACKWARD(float, true), BACKWARD(bf16, true))
    } else {
        TYPED(BACKWARD(float, false), BACKWARD(bf16, false))
    }
}

void squared_deviations(const void* x, const float* mean, float* out, Size rows, Size width, int half, Size threads) {
    TYPED(run_squared_deviations((const float*)x, mean, out, rows, width, threads),
          run_squared_deviations((const bf16*)x, mean, out, rows, width, threads))
}

void batch_norm_backward(void* g, const void* x, const float* a, const float* mean, const float* rstd, const float* mean_g,
            const float* mean_gx, Size rows, Size width, int half, Size threads) {
    TYPED(run_batch_norm_backward((float*)g, (const float*)x, a, mean, rstd, mean_g, mean_gx, rows, width, threads),
          run_batch_norm_backward((bf16*)g, (const bf16*)x, a, mean, rstd, mean_g, mean_gx, rows, width, threads))
}
}
