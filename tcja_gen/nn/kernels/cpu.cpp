// Kernels for CPUs, compiled by `cpu.py` once on each machine.
//
// A tile of neurons, neighbours in memory, runs through all time steps while its float32 membranes stay in the nearest
// cache: every current is read once, every spike written once. The backward pass runs the steps again, stores the
// membranes, and goes back through time. Sums over rows are kept for each part, a fixed share of the tiles, and added up
// afterwards, so their order does not depend on the number of threads.
//
// Arrays are contiguous (T, M, C), X is float or bfloat16. A null pointer means that an argument is not given. Factors f
// (T, N, C) gate the currents of N images, each of which has `pixels` = M / N rows. With weights w (T,) the spikes are not
// written, only the sum over time of w_t times the spikes, (M, C); the gradient is that of the sum. With `bits` the spikes
// are written as bits, 64 columns a word; with a scale u and a shift z, both (T, N, C), the gradient of a spike is u times
// that of row and column, (M, C), plus z.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "neuron.h"

uint64_t word_of(const float* x, Size channels);  // in sparse.cpp
constexpr Size WORD = 64;      // columns of a word of bits
constexpr Size TILE = 512;     // neurons
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

// Begins to read what a tile needs in its next step, which is far from this one, so that no processor foresees it.
template <typename X>
inline void prefetch(const X* x, Size length) {
    for (Size j = 0; j < length; j += Size(64 / sizeof(X))) __builtin_prefetch(x + j);
}

// The rows of a matrix (rows, width), cut into tiles: some whole rows, or a piece of one. A tile has rows of one image, or
// whole images, and a part has whole images.
struct Tiles {
    Size rows, width, pixels, high, pieces, group, groups, parts;

    Tiles(Size rows, Size width, Size pixels = 1)
        : rows(rows),
          width(width),
          pixels(pixels),
          high(std::max<Size>(TILE / width, 1)),
          pieces((width + TILE - 1) / TILE),
          group(std::max<Size>(high / pixels, 1) * pixels),
          groups((rows + group - 1) / group),
          parts(std::min(groups, PARTS)) {}

    // Rows of the tile that begins at a row, of a part that ends before `last`.
    Size count(Size row, Size last) const {
        return pixels > high ? std::min(high, pixels - row % pixels) : std::min(group, last - row);
    }

    // Calls part(index, first column, columns, first row, last row + 1) for every part, in parallel. What `part` captures
    // by value is known not to change by what it writes, which makes its loops faster.
    template <class Part>
    void each(Size steps, Size threads, Part part) const {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (steps * rows * width > SMALL)
        for (Size piece = 0; piece < pieces; piece++)
            for (Size p = 0; p < parts; p++) {
                Size column = piece * TILE, columns = std::min(TILE, width - column);
                part(p, column, columns, groups * p / parts * group, std::min(groups * (p + 1) / parts * group, rows));
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

// Values of each image and column, for the neurons of a tile. All tiles of an image that fills several share them.
struct Planes {
    const Tiles& tiles;
    Size column, columns;

    // Where an array (images, width) has the values of a row.
    Size at(Size row) const { return row / tiles.pixels * tiles.width + column; }

    // Repeats them for every neuron, unless the tile before, of the same image, has done so.
    void read(float* to, const float* of, Size row, Size count) const {
        if (tiles.pixels > tiles.high) {
            if (row % tiles.pixels) return;
            count = tiles.high;
        }
        for (Size r = 0; r < count; r++) std::copy(of + at(row + r), of + at(row + r) + columns, to + r * columns);
    }

    // After the last tile of an image: adds the sum over its rows to `of`, and begins anew.
    void close(float* sum, float* of, Size row, Size count) const {
        if (tiles.pixels > tiles.high) {
            if ((row + count) % tiles.pixels) return;
            count = tiles.high;
            row -= row % tiles.pixels;
        }
        for (Size r = 0; r < count; r++)
            for (Size c = 0; c < columns; c++) of[at(row + r) + c] += sum[r * columns + c];
        std::fill(sum, sum + count * columns, 0.0f);
    }
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

template <typename X, bool DECAY_INPUT, bool GATED>
void run_forward(const X* x, const float* a, const float* b, const float* f, const float* v0, const float* w, X* out,
                 uint64_t* bits, float* v_end, Size rows, Size width, Size pixels, Size steps, Size frames, const Neuron n,
                 Size threads) {
    const Tiles tiles(rows, width, pixels);
    const Size frame = rows * width;
    const float from = n.fires_from();
    tiles.each(steps, threads, [=](Size, Size column, Size columns, Size first, Size last) {
        const Columns A(a, 1, column, columns, tiles.high), B(b, 0, column, columns, tiles.high);
        const Planes planes{tiles, column, columns};
        std::vector<float> factors(GATED ? steps * TILE : 0);
        float h[TILE], sum[TILE], fired[TILE];  // sum: of the weighted spikes
        for (Size row = first, count; row < last; row += count) {
            count = tiles.count(row, last);
            const Size at = row * width + column, length = count * columns;
            for (Size j = 0; j < length; j++) h[j] = v0 ? v0[at + j] : n.v_reset;
            std::fill(sum, sum + length, 0.0f);
            for (Size t = 0; t < steps; t++) {
                const X* current = x + at + (frames == 1 ? 0 : t * frame);
                float* F = GATED ? &factors[t * TILE] : nullptr;
                if (GATED) planes.read(F, f + t * frame / pixels, row, count);
                if (frames > 1 && t + 1 < steps) prefetch(current + frame, length);
                auto run = [&](auto use) {
                    for (Size j = 0; j < length; j++) {
                        const float i = A[j] * wide(current[j]) + B[j];
                        const float v = charge<DECAY_INPUT>(h[j], GATED ? F[j] * i : i, n);
                        h[j] = v >= from ? n.v_reset : v;
                        use(j, v >= from ? 1.0f : 0.0f);
                    }
                };
                if (w) {
                    const float share = w[t];
                    run([&](Size j, float spike) { sum[j] += share * spike; });
                } else if (bits) {
                    run([&](Size j, float spike) { fired[j] = spike; });
                    for (Size r = 0; r < count; r++)
                        for (Size c = 0; c < columns; c += WORD)
                            bits[(t * rows + row + r) * ((width + WORD - 1) / WORD) + (column + c) / WORD] =
                                word_of(fired + r * columns + c, std::min(WORD, columns - c));
                } else {
                    X* spikes = out + at + t * frame;
                    run([&](Size j, float spike) { put(spikes[j], spike); });
                }
            }
            for (Size j = 0; w && j < length; j++) put(out[at + j], sum[j]);
            if (v_end) std::copy(h, h + length, v_end + at);
        }
    });
}

// gx is dL/d(a x + b). sums, products: (parts, C) of that and of its products with x - mean over rstd; if gated, (T, N, C)
// of dL/dI and of dL/dI (x - mean) for the gated current I, and they start at 0. gx may be x. cost: added to the gradient
// of every spike
template <typename X, bool DECAY_INPUT, bool STATIC, bool GATED>
void run_backward(const X* x, const float* a, const float* b, const float* f, const float* v0, const float* w,
                  const float* u, const float* z, const X* grad, const float* mean, const float* rstd, X* gx, float* gv,
                  float* sums, float* products, Size rows, Size width, Size pixels, Size steps, float cost, const Neuron n,
                  Size threads) {
    const Tiles tiles(rows, width, pixels);
    const Size frame = rows * width;
    const float from = n.fires_from(), gain = DECAY_INPUT ? 1 / n.tau : 1, through = n.detach_reset ? 0 : 1;
    tiles.each(steps, threads, [=](Size p, Size column, Size columns, Size first, Size last) {
        const Columns A(a, 1, column, columns, tiles.high), B(b, 0, column, columns, tiles.high);
        const Columns MEAN(mean, 0, column, columns, tiles.high);
        Sums total, product;  // of dL/dI, and of dL/dI (x - mean)
        std::vector<float> membranes(steps * TILE);
        float h[TILE], ds[TILE], carry[TILE], still[TILE];  // carry: dL/dH_t; still: dL/dI of a static frame
        float dg[TILE];                                     // dL/dS
        X before[TILE];                                     // currents that gx takes the place of
        const Planes planes{tiles, column, columns};
        std::vector<float> factors(GATED ? steps * TILE : 0), all_d(factors), all_dx(factors);  // dL/dI, dL/dI (x - mean)
        std::vector<float> scales(u ? steps * TILE : 0), shifts(scales);
        for (Size row = first, count; row < last; row += count) {
            count = tiles.count(row, last);
            const Size at = row * width + column, length = count * columns;
            for (Size j = 0; j < length; j++) h[j] = v0 ? v0[at + j] : n.v_reset;
            for (Size t = 0; t < steps; t++) {
                const X* current = x + at + (STATIC ? 0 : t * frame);
                float* v = &membranes[t * TILE];
                float* F = GATED ? &factors[t * TILE] : nullptr;
                if (GATED) planes.read(F, f + t * frame / pixels, row, count);
                if (!STATIC && t + 1 < steps) prefetch(current + frame, length);
                for (Size j = 0; j < length; j++) {
                    const float i = A[j] * wide(current[j]) + B[j];
                    v[j] = charge<DECAY_INPUT>(h[j], GATED ? F[j] * i : i, n);
                    h[j] = v[j] >= from ? n.v_reset : v[j];
                }
            }
            std::fill(carry, carry + length, 0.0f);
            std::fill(still, still + length, 0.0f);
            for (Size t = steps - 1; t >= 0; t--) {
                const float* v = &membranes[t * TILE];
                const X *current = x + at + (STATIC ? 0 : t * frame), *g = grad + at + (w || u ? 0 : t * frame);
                const float share = w ? w[t] : 1;  // of the gradient
                float *U = u ? &scales[t * TILE] : nullptr, *Z = u ? &shifts[t * TILE] : nullptr;
                if (u) planes.read(U, u + t * frame / pixels, row, count);
                if (u) planes.read(Z, z + t * frame / pixels, row, count);
                X* out = gx + at + (STATIC ? 0 : t * frame);
                if (!STATIC && t) prefetch(current - frame, length);
                if (!(w || u) && t) prefetch(g - frame, length);
                if (gx == x) current = (X*)std::memcpy(before, current, length * sizeof(X));
                surrogate(v, ds, length, n);
                for (Size j = 0; j < length; j++) dg[j] = (u ? U[j] * wide(g[j]) + Z[j] : share * wide(g[j])) + cost;
                const float* F = GATED ? &factors[t * TILE] : nullptr;
                float *d = GATED ? &all_d[t * TILE] : nullptr, *dx = GATED ? &all_dx[t * TILE] : nullptr;
                for (Size j = 0; j < length; j++) {
                    const float kept = v[j] >= from ? 0 : carry[j];
                    const float dv = dg[j] * ds[j] + kept + through * carry[j] * (n.v_reset - v[j]) * ds[j];
                    carry[j] = dv * n.leak;
                    float di = dv * gain;
                    if (GATED) {
                        d[j] += di;
                        dx[j] += di * (wide(current[j]) - MEAN[j]);
                        di *= F[j];
                    }
                    if (STATIC) {
                        still[j] += di;
                    } else {
                        put(out[j], di);
                        if (!GATED) {
                            total[j] += di;
                            product[j] += di * (wide(current[j]) - MEAN[j]);
                        }
                    }
                }
                if (GATED) {
                    planes.close(d, sums + t * frame / pixels, row, count);
                    planes.close(dx, products + t * frame / pixels, row, count);
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
        if (!sums || GATED) return;
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

// shift: (images, width), added to g for every pixel of an image; null: nothing is
template <typename X>
void run_batch_norm_backward(X* g, const X* x, const float* a, const float* mean, const float* rstd, const float* mean_g,
                const float* mean_gx, const float* shift, Size rows, Size width, Size pixels, Size threads) {
    const Tiles tiles(rows, width, pixels);
    tiles.each(1, threads, [&](Size, Size column, Size columns, Size first, Size last) {
        const Size high = tiles.high;
        const Columns A(a, 1, column, columns, high), MEAN(mean, 0, column, columns, high);
        const Columns RSTD(rstd, 1, column, columns, high), G(mean_g, 0, column, columns, high);
        const Columns GX(mean_gx, 0, column, columns, high);
        const Planes planes{tiles, column, columns};
        float shifts[TILE] = {};
        for (Size row = first, count; row < last; row += count) {
            count = tiles.count(row, last);
            const Size at = row * width + column, length = count * columns;
            if (shift) planes.read(shifts, shift, row, count);
            for (Size j = 0; j < length; j++) {
                const float y = (wide(x[at + j]) - MEAN[j]) * RSTD[j];
                put(g[at + j], A[j] * (wide(g[at + j]) - (G[j] - shifts[j]) - y * GX[j]));
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

Size parts(Size rows, Size width, Size pixels) { return Tiles(rows, width, pixels).parts; }

#define FORWARD(X, DECAY)                                                                                            \
    (f ? run_forward<X, DECAY, true> : run_forward<X, DECAY, false>)((const X*)x, a, b, f, v0, w, (X*)out, bits, v_end, \
                                                                     rows, width, pixels, steps, frames, *n, threads)
void forward(const void* x, const float* a, const float* b, const float* f, const float* v0, const float* w, void* out,
             uint64_t* bits, float* v_end, Size rows, Size width, Size pixels, Size steps, Size frames, const Neuron* n,
             int half, Size threads) {
    if (n->decay_input) {
        TYPED(FORWARD(float, true), FORWARD(bf16, true))
    } else {
        TYPED(FORWARD(float, false), FORWARD(bf16, false))
    }
}

#define BACKWARD(X, DECAY)                                                                                            \
    (frames == 1 && steps > 1 ? f ? run_backward<X, DECAY, true, true> : run_backward<X, DECAY, true, false>          \
     : f                      ? run_backward<X, DECAY, false, true>                                                   \
                              : run_backward<X, DECAY, false, false>)((const X*)x, a, b, f, v0, w, u, z, (const X*)grad, \
                                                                      mean, rstd, (X*)gx, gv, sums, products, rows, width,  \
                                                                      pixels, steps, cost, *n, threads)
void backward(const void* x, const float* a, const float* b, const float* f, const float* v0, const float* w,
              const float* u, const float* z, const void* grad, const float* mean, const float* rstd, void* gx, float* gv,
              float* sums, float* products, Size rows, Size width, Size pixels, Size steps, Size frames, float cost,
              const Neuron* n, int half, Size threads) {
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
            const float* mean_gx, const float* shift, Size rows, Size width, Size pixels, int half, Size threads) {
    TYPED(run_batch_norm_backward((float*)g, (const float*)x, a, mean, rstd, mean_g, mean_gx, shift, rows, width, pixels,
                                  threads),
          run_batch_norm_backward((bf16*)g, (const bf16*)x, a, mean, rstd, mean_g, mean_gx, shift, rows, width, pixels,
                                  threads))
}
}
