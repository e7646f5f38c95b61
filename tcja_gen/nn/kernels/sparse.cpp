// Convolutions and linear layers of spikes: a neuron that does not fire costs nothing.
//
// Spikes are kept as bits, 64 channels a word. For every output pixel the rows of weights are listed whose neurons fired
// below its kernel, and the forward pass adds these rows up. For the gradient of the weights, bits are turned round, so that
// every row adds up the gradients of those pixels below which its neuron fired. With gates, a spike counts by its value, or by
// the factor of its frame and channel.
//
// In evaluation the neurons behind the weights are part of the forward pass: the sums of a group of pixels go through all
// time steps while they stay in the nearest cache, and no current is written.
//
// A sum starts with the bias and runs over the kernel's taps and the channels, always in this order, so that it depends
// on nothing but the pixels below the kernel. The gradient is summed up in parts, whose number follows from the shape.
// Hence neither depends on the number of threads.
//
// x (frames, pixels or 1, in), y and its gradient (frames, pixels, out) are channels last. Rows of weights (tap, in) are cut
// into blocks of WIDTH outputs, which lie one after the other; bias and rows are padded to `row`, a multiple of NARROW.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "neuron.h"

#if defined(__AVX512F__)
constexpr Size LANES = 16;
#elif defined(__AVX__)
constexpr Size LANES = 8;
#else
constexpr Size LANES = 4;  // NEON, SSE, or what the compiler makes of it
#endif
constexpr Size WIDTH = 64, NARROW = 16;  // outputs whose sums stay in registers, at most and at least
constexpr Size WORD = 64;                // channels of a word
constexpr Size CACHED = 1 << 14;         // weights that stay in a near cache while the pixels of a group are added up
constexpr Size GROUP = 128;              // output pixels whose rows are listed together
constexpr Size NEAR = 256;               // output pixels whose gradients stay in a near cache while each tap adds them up
constexpr Size TASKS = 8;                // at least, where there are as many, for threads to share
constexpr Size SUMS = 1 << 20;           // numbers in all partial sums of the gradient, unless one sum is larger
constexpr Size SMALL = 1 << 14;          // numbers that are not worth a second thread

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

inline Vector load(const float* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }

constexpr Size words_of(Size channels) { return (channels + WORD - 1) / WORD; }

struct Shape {
    Size frames, height, width, in, out_height, out_width, out, row, kernel, stride, padding, transposed;
    Size values;  // rows of values of a frame: one for each pixel, or one for all

    Size pixels() const { return height * width; }
    Size out_pixels() const { return out_height * out_width; }
    Size taps() const { return kernel * kernel; }
    Size words() const { return words_of(in); }

    // Pixel of the input that a tap finds below a pixel of the output; -1: none.
    Size below(Size pixel, Size tap) const {
        const Size row = source(pixel / out_width, tap / kernel, height), column = source(pixel % out_width, tap % kernel, width);
        return row >= 0 && column >= 0 ? row * width + column : -1;
    }

    // Row or column of the input, one of `size`, that a tap finds below row or column `at` of the output; -1: none.
    Size source(Size at, Size tap, Size size) const {
        Size from = transposed ? at + padding - tap : at * stride + tap - padding;
        if (transposed) from = from % stride ? -1 : from / stride;
        return from < size ? std::max<Size>(from, -1) : -1;
    }
};

// A word of the input that an output pixel sees, and the row of weights of its first channel.
struct Seen {
    Size pixel, word;
    uint32_t row;
};

// What every wanted pixel of an output frame sees, in tiles of taps and words whose weights fit into a near cache.
struct Windows {
    const Shape& s;
    std::vector<Size> wanted;
    Size tile, tiles;  // taps times words
    std::vector<Seen> seen;
    std::vector<Size> begin;  // in `seen`, of tile t and the i-th wanted pixel: begin[t * (wanted.size() + 1) + i]

    Windows(const Shape& s, const uint8_t* mask) : s(s) {
        for (Size p = 0; p < s.out_pixels(); p++)
            if (!mask || mask[p]) wanted.push_back(p);
        const Size all = s.taps() * s.words();
        tile = std::clamp<Size>(CACHED / (std::min(s.in, WORD) * std::min(s.row, WIDTH)), 1, all);
        tiles = (all + tile - 1) / tile;
        for (Size t = 0; t < tiles; t++) {
            for (Size pixel : wanted) {
                begin.push_back(seen.size());
                for (Size u = t * tile; u < std::min(all, (t + 1) * tile); u++) look(pixel, u / s.words(), u % s.words());
            }
            begin.push_back(seen.size());
        }
    }

    void look(Size pixel, Size tap, Size word) {
        const Size below = s.below(pixel, tap);
        if (below >= 0) seen.push_back({below, word, uint32_t(tap * s.in + word * WORD)});
    }

    Size pixels() const { return s.frames * wanted.size(); }  // of all frames
};

// Lists the numbers of the bits of a word of so many channels, counted from `first`; with x, the channels' values, too.
// Returns how many. May write up to 15 numbers more.
inline Size list_bits(uint64_t word, Size channels, uint32_t first, uint32_t* to, const float* x, float* values) {
    Size n = 0;
    if (!word) return n;
#ifdef __AVX512F__
    const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (Size c = 0; c < channels; c += 16) {  // also where none fires: what cannot be predicted takes longer
        const __mmask16 fired = word >> c;
        const __m512i numbers = _mm512_add_epi32(count, _mm512_set1_epi32(first + c));
        _mm512_storeu_si512(to + n, _mm512_maskz_compress_epi32(fired, numbers));
        if (x) _mm512_storeu_ps(values + n, _mm512_maskz_compress_ps(fired, _mm512_maskz_loadu_ps(fired, x + c)));
        n += __builtin_popcount(fired);
    }
#else
    for (; word; word &= word - 1) {
        const Size c = __builtin_ctzll(word);
        if (x) values[n] = x[c];
        to[n++] = first + c;
    }
#endif
    return n;
}

// What a row of weights counts by.
enum Count { ONE, VALUE, FACTOR };

// Rows of weights of the neurons that fired, for a group of output pixels.
struct Rows {
    const Windows& windows;
    const uint64_t* bits;
    const float* x;  // null: all spikes are 1
    const Count count;
    std::vector<uint32_t> rows;
    std::vector<float> values;          // of the listed rows
    std::vector<float> factors;         // of some frames, for every row of weights
    Size from = 0, to = 0;              // these frames
    std::vector<Size> begin, output;    // of every pixel in the lists, and where its outputs are in y
    std::vector<const float*> factor;   // where the factors of its frame are

    Rows(const Windows& w, const uint64_t* bits, const float* x)
        : windows(w), bits(bits), x(x), count(!x ? ONE : w.s.values == 1 ? FACTOR : VALUE),
          rows(GROUP * w.tile * std::min(w.s.in, WORD) + LANES), values(count == VALUE ? rows.size() : 0),
          begin(GROUP + 1), output(GROUP), factor(GROUP) {}

    // Lists the rows of pixels first to last - 1. apart: y has these pixels alone
    void find(Size tile, Size first, Size last, bool apart) {
        const Shape& s = windows.s;
        const Size wanted = windows.wanted.size(), weights = s.taps() * s.in;
        const Size* seen = &windows.begin[tile * (wanted + 1)];
        Size frame = first / wanted, i = first % wanted, n = 0;
        if (count == FACTOR) repeat_factors(frame, (last - 1) / wanted + 1);
        for (Size p = 0; p < last - first; p++) {
            begin[p] = n;
            output[p] = (apart ? p : frame * s.out_pixels() + windows.wanted[i]) * s.out;
            if (count == FACTOR) factor[p] = &factors[(frame - from) * weights];
            for (Size j = seen[i]; j < seen[i + 1]; j++) n = add(frame * s.pixels() + windows.seen[j].pixel, windows.seen[j], n);
            if (++i == wanted) {
                i = 0;
                frame++;
            }
        }
        begin[last - first] = n;
    }

    Size add(Size pixel, const Seen& seen, Size n) {
        const Shape& s = windows.s;
        const Size channel = seen.word * WORD;
        const bool valued = count == VALUE;
        return n + list_bits(bits[pixel * s.words() + seen.word], std::min(WORD, s.in - channel), seen.row, &rows[n],
                             valued ? x + pixel * s.in + channel : nullptr, valued ? &values[n] : nullptr);
    }

    // Writes down the factors of frames first to last - 1 for every tap.
    void repeat_factors(Size first, Size last) {
        const Size in = windows.s.in, taps = windows.s.taps();
        if (first == from && last == to) return;
        from = first, to = last;
        factors.resize((to - from) * taps * in);
        for (Size i = 0; i < (to - from) * taps; i++) std::copy_n(x + (from + i / taps) * in, in, &factors[i * in]);
    }

    // What the i-th row, of pixel p, counts by.
    template <Count COUNT>
    float share(Size p, Size i) const {
        return COUNT == ONE ? 1 : COUNT == VALUE ? values[i] : factor[p][rows[i]];
    }
};

// Calls add(the count as a constant).
template <class Add>
void by_count(Count count, Add add) {
    if (count == ONE) add(std::integral_constant<Count, ONE>());
    if (count == VALUE) add(std::integral_constant<Count, VALUE>());
    if (count == FACTOR) add(std::integral_constant<Count, FACTOR>());
}

// The outputs, cut into pieces where there are less than TASKS other tasks.
struct Pieces {
    Size row, blocks, count;

    Pieces(Size row, Size others)
        : row(row), blocks((row + WIDTH - 1) / WIDTH), count(std::clamp<Size>(TASKS / std::max<Size>(others, 1), 1, blocks)) {}

    // The first output of a piece; of the one behind the last, the end.
    Size first(Size piece) const { return std::min(blocks * piece / count * WIDTH, row); }

    // Calls block(its first output, its width as a constant) for every block of a piece.
    template <class Block>
    void each_block(Size piece, Block block) const {
        Size first = this->first(piece);
        const Size last = this->first(piece + 1);
        for (; last - first >= WIDTH; first += WIDTH) block(first, std::integral_constant<Size, WIDTH>());
        for (; last - first >= WIDTH / 2; first += WIDTH / 2) block(first, std::integral_constant<Size, WIDTH / 2>());
        for (; first < last; first += NARROW) block(first, std::integral_constant<Size, NARROW>());
    }
};

// What follows on the sums: y = scale sums + shift + current, of which `current` may have fewer frames, for equal parts
// of y.
struct Finish {
    const float *scale, *shift, *current;
    Size numbers;  // in `current`
};

// V vectors, of which only the first `kept` numbers are there.
template <Size W>
inline void load_block(Vector* to, const float* from, Size kept) {
    float edge[W];
    if (kept < W) from = (const float*)std::memcpy(edge, from, kept * sizeof(float));
    for (Size v = 0; v < W / LANES; v++) to[v] = load(from + v * LANES);
}

template <Size W>
inline void store_block(float* to, const Vector* from, Size kept) {
    float edge[W];
    float* made = kept < W ? edge : to;
    for (Size v = 0; v < W / LANES; v++) store(made + v * LANES, from[v]);
    if (kept < W) std::memcpy(to, edge, kept * sizeof(float));
}

// Adds a block's weights to y, which is `bias` before, or null for what y is; then what follows, or null.
template <Size W, Count COUNT>
void add_weights(const Rows& list, Size pixels, Size at, const float* weights, const float* bias, const Finish* finish,
                 float* y) {
    constexpr Size V = W / LANES;
    const Size kept = std::min(W, list.windows.s.out - at);
    for (Size p = 0; p < pixels; p++) {
        if (!bias && !finish && list.begin[p] == list.begin[p + 1]) continue;
        float* to = y + list.output[p] + at;
        Vector sums[V], other[V];
        if (bias)
            load_block<W>(sums, bias + at, W);
        else
            load_block<W>(sums, to, kept);
        for (Size i = list.begin[p]; i < list.begin[p + 1]; i++) {
            const float* row = weights + list.rows[i] * W;
            const float share = list.share<COUNT>(p, i);
            for (Size v = 0; v < V; v++) sums[v] += COUNT == ONE ? load(row + v * LANES) : share * load(row + v * LANES);
        }
        if (finish) {
            for (Size v = 0; v < V; v++) sums[v] = load(finish->scale + at + v * LANES) * sums[v] + load(finish->shift + at + v * LANES);
            load_block<W>(other, finish->current + list.output[p] % finish->numbers + at, kept);
            for (Size v = 0; v < V; v++) sums[v] += other[v];
        }
        store_block<W>(to, sums, kept);
    }
}

// Adds the weights of a piece to pixels first to last - 1 of y, for which `bias` and `finish` are meant.
void add_group(Rows& list, const Pieces& pieces, Size piece, Size first, Size last, bool apart, const float* weights,
               const float* bias, const Finish* finish, float* y) {
    const Size rows = list.windows.s.taps() * list.windows.s.in, tiles = list.windows.tiles;
    for (Size tile = 0; tile < tiles; tile++) {
        list.find(tile, first, last, apart);
        pieces.each_block(piece, [&](Size at, auto width) {
            constexpr Size W = decltype(width)::value;
            by_count(list.count, [&](auto by) {
                add_weights<W, decltype(by)::value>(list, last - first, at, weights + at * rows, tile ? nullptr : bias,
                                                    tile + 1 < tiles ? nullptr : finish, y);
            });
        });
    }
}

// The neurons behind a layer: their currents are scale y + shift. Where w is given, they give the sum over time of w_t times
// their spikes.
struct Neurons {
    const float *scale, *shift, *w;
    const Neuron* kind;
    Size steps;
};

// Step t of the neurons of so many pixels and `width` channels, the first of which is number `at`: sums y, membranes h, and
// what they give, all `row` numbers a pixel apart.
template <bool DECAY_INPUT, bool SUM>
void fire(const float* y, float* h, float* out, Size pixels, Size row, Size width, const Neurons& n, Size at, Size t) {
    const Neuron kind = *n.kind;
    const float from = kind.fires_from(), share = SUM ? n.w[t] : 1;
    const float *scale = n.scale + at, *shift = n.shift + at;
    for (Size p = 0; p < pixels; p++) {
        const float* __restrict Y = y + p * row;
        float *__restrict H = h + p * row, *__restrict OUT = out + p * row;
        for (Size c = 0; c < width; c++) {
            const float v = charge<DECAY_INPUT>(H[c], scale[c] * Y[c] + shift[c], kind);
            const float spike = v >= from ? 1.0f : 0.0f;
            H[c] = v >= from ? kind.v_reset : v;
            OUT[c] = SUM ? (t ? OUT[c] : 0) + share * spike : spike;
        }
    }
}

// Exchanges rows and columns of 64 x 64 bits, from blocks of J x J on.
template <Size J = WORD / 2>
void transpose(uint64_t* rows) {
    constexpr uint64_t MASK = ~uint64_t(0) / ((uint64_t(1) << J) + 1);  // every other J bits
    for (Size k = 0; k < WORD; k += 2 * J)
        for (Size i = k; i < k + J; i++) {
            const uint64_t other = (rows[i] >> J ^ rows[i + J]) & MASK;
            rows[i] ^= other << J;
            rows[i + J] ^= other;
        }
    if constexpr (J > 1) transpose<J / 2>(rows);
}

// Up to 64 pairs of an output pixel and a word of the input that one tap joins, in which a neuron fired.
struct Pairs {
    uint64_t fired[WORD], any = 0;    // bits of the channels that fired for each pair; then of the pairs, for each channel
    const float* gradient[WORD + 1];  // of the output pixel
    const float* value[WORD + 1];     // of the first channel's spike, or its factor
    Size n = 0;

    explicit Pairs(const float* zeros) { gradient[WORD] = value[WORD] = zeros; }  // behind the last pair

    void add(uint64_t word, const float* g, const float* x) {
        fired[n] = word, gradient[n] = g, value[n] = x;
        any |= word;
        n += word != 0;
    }

    void turn() {
        std::fill(fired + n, fired + WORD, 0);
        transpose(fired);
    }
};

// Adds the gradients of the pairs to a block's weights, of which `kept` outputs are there.
template <Size W, bool VALUED>
void add_gradients(const Pairs& pairs, Size at, float* weights, Size kept) {
    constexpr Size V = W / LANES;
    for (uint64_t left = pairs.any; left; left &= left - 1) {
        const Size c = __builtin_ctzll(left);
        Vector sums[2][V] = {}, g[V] = {};  // of two pairs at a time
        for (Size v = 0; v < V; v++) sums[0][v] = load(weights + c * W + v * LANES);
        for (uint64_t fired = pairs.fired[c]; fired;)
            for (Size turn = 0; turn < 2; turn++, fired &= fired - 1) {
                const Size i = fired ? __builtin_ctzll(fired) : WORD;
                load_block<W>(g, pairs.gradient[i] + at, kept);
                const float value = VALUED ? pairs.value[i][c] : 1;
                for (Size v = 0; v < V; v++) sums[turn][v] += VALUED ? value * g[v] : g[v];
            }
        for (Size v = 0; v < V; v++) store(weights + c * W + v * LANES, sums[0][v] + sums[1][v]);
    }
}

// Pixels of an output frame that each tap joins with a pixel of the input, in ascending order.
struct Taps {
    struct Joined {
        Size out, in;
    };
    std::vector<std::vector<Joined>> joined;

    explicit Taps(const Shape& s) : joined(s.taps()) {
        for (Size p = 0; p < s.out_pixels(); p++)
            for (Size tap = 0; tap < s.taps(); tap++)
                if (const Size below = s.below(p, tap); below >= 0) joined[tap].push_back({p, below});
    }

    // The first of what a tap joins from an output pixel on.
    const Joined* from(Size tap, Size pixel) const {
        const auto before = [](const Joined& j, Size pixel) { return j.out < pixel; };
        const Joined* first = joined[tap].data();
        return std::lower_bound(first, first + joined[tap].size(), pixel, before);
    }
};

// A part of the gradient of the weights, of a piece of the outputs.
struct Gradient {
    const Shape& s;
    const uint64_t* bits;
    const float *x, *gy;
    const Pieces& pieces;
    const Size piece;
    float* sums;
    const std::vector<float> zeros;
    Pairs pairs;

    Gradient(const Shape& s, const uint64_t* bits, const float* x, const float* gy, const Pieces& pieces, Size piece, float* sums)
        : s(s), bits(bits), x(x), gy(gy), pieces(pieces), piece(piece), sums(sums), zeros(std::max(s.row, WORD)),
          pairs(zeros.data()) {}

    // Adds what output pixels first to last - 1 of all frames give to every weight.
    void add(const Taps& taps, Size first, Size last) {
        const Size all = s.taps() * s.words(), next = std::min(last - first, s.frames * s.out_pixels() - last) * s.out;
        for (Size i = 0; i < all; i++) {
            const Size tap = i / s.words(), word = i % s.words(), row = tap * s.in + word * WORD;
            read_ahead(gy + last * s.out, next * i / all, next * (i + 1) / all);
            for (Size frame = first / s.out_pixels(); frame * s.out_pixels() < last; frame++) {
                const Size start = frame * s.out_pixels();
                look(frame, word, row, taps.from(tap, first - start), taps.from(tap, last - start));
            }
            add_pairs(row);
        }
    }

    // Collects the pairs of a frame for a word of the input, whose first row of weights is `row`.
    void look(Size frame, Size word, Size row, const Taps::Joined* at, const Taps::Joined* end) {
        const uint64_t* words = bits + frame * s.pixels() * s.words() + word;
        const float* values = x ? x + frame * s.values * s.in + word * WORD : nullptr;
        const Size apart = x && s.values > 1 ? s.in : 0;
        while (at < end) {
            for (const auto* stop = at + std::min<Size>(WORD - pairs.n, end - at); at < stop; at++)
                pairs.add(words[at->in * s.words()], gy + (frame * s.out_pixels() + at->out) * s.out, values + at->in * apart);
            if (pairs.n == WORD) add_pairs(row);
        }
    }

    void add_pairs(Size row) {
        if (!pairs.n) return;
        pairs.turn();
        pieces.each_block(piece, [&](Size at, auto width) {
            constexpr Size W = decltype(width)::value;
            float* weights = sums + at * s.taps() * s.in + row * W;
            (x ? add_gradients<W, true> : add_gradients<W, false>)(pairs, at, weights, std::min(W, s.out - at));
        });
        pairs.n = pairs.any = 0;
    }

    // Fetches numbers first to last - 1 into the second cache.
    static void read_ahead(const float* numbers, Size first, Size last) {
        for (; first < last; first += 64 / sizeof(float)) __builtin_prefetch(numbers + first, 0, 2);
    }
};

// A sum for each of up to W channels of a word, of the numbers of those that fired.
template <Size W>
struct FiredSum {
#ifdef __AVX512F__
    __m512 sums[W / 16] = {};

    void add(uint64_t word, const float* numbers) {
        for (Size v = 0; v < W / 16; v++)
            sums[v] = _mm512_add_ps(sums[v], _mm512_maskz_loadu_ps(__mmask16(word >> 16 * v), numbers + 16 * v));
    }
#else
    float sums[W] = {};

    void add(uint64_t word, const float* numbers) {
        for (; word; word &= word - 1) sums[__builtin_ctzll(word)] += numbers[__builtin_ctzll(word)];
    }
#endif
    void to(float* out, Size channels) const { std::memcpy(out, sums, channels * sizeof(float)); }
};

// Sums of the numbers of n words of bits and of numbers, which lie so far apart.
template <Size W = NARROW>
void sum_fired(const uint64_t* bits, Size apart, const float* numbers, Size numbers_apart, Size n, float* out, Size channels) {
    if (W < channels && W < WORD) return sum_fired<std::min(2 * W, WORD)>(bits, apart, numbers, numbers_apart, n, out, channels);
    FiredSum<W> sum;
    for (Size i = 0; i < n; i++) sum.add(bits[i * apart], numbers + i * numbers_apart);
    sum.to(out, channels);
}

// The bits of up to 64 channels; `cpu.cpp` uses it, too.
uint64_t word_of(const float* x, Size channels) {
    uint64_t word = 0;
    Size c = 0;
#if defined(__AVX512F__)
    for (; c + 16 <= channels; c += 16)
        word |= uint64_t(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + c), _mm512_setzero_ps(), _CMP_NEQ_UQ)) << c;
#elif defined(__AVX2__)
    for (; c + 8 <= channels; c += 8) {
        const __m256 fired = _mm256_cmp_ps(_mm256_loadu_ps(x + c), _mm256_setzero_ps(), _CMP_NEQ_UQ);
        word |= uint64_t(uint8_t(_mm256_movemask_ps(fired))) << c;
    }
#endif
    for (; c < channels; c++) word |= uint64_t(x[c] != 0) << c;
    return word;
}

// Bits (pixels, words) of x (pixels, out): those of so many channels from the first on, which begins a word.
inline void pack_rows(const float* x, uint64_t* bits, Size pixels, Size out, Size first, Size channels) {
    const Size words = words_of(out);
    for (Size p = 0; p < pixels; p++)
        for (Size c = first; c < first + channels; c += WORD)
            bits[p * words + c / WORD] = word_of(x + p * out + c, std::min(WORD, first + channels - c));
}

extern "C" {

Size narrow() { return NARROW; }

Size wide() { return WIDTH; }

// Partial sums of the gradient of so many weights.
Size gradient_parts(Size weights) { return std::clamp<Size>(SUMS / weights, 1, TASKS); }

// Bits (pixels, words) of x (pixels, in). Returns whether x is only 0 and 1.
int pack(const float* x, uint64_t* bits, Size pixels, Size in, Size threads) {
    const Size words = words_of(in);
    int ones = 1;
#pragma omp parallel for reduction(& : ones) num_threads(threads) if (pixels * in > SMALL)
    for (Size p = 0; p < pixels; p++) {
        const float* pixel = x + p * in;
        pack_rows(pixel, bits + p * words, 1, in, 0, in);
        int binary = 1;
        for (Size c = 0; c < in; c++) binary &= (pixel[c] == 0) | (pixel[c] == 1);
        ones &= binary;
    }
    return ones;
}

// out (frames, in): the sums over a frame's pixels of g where a neuron fired, g (frames, pixels, in) or for fewer frames,
// which are used in turn; null: of 1.
void sums_over_pixels(const uint64_t* bits, const float* g, float* out, Size frames, Size pixels, Size in, Size g_frames,
                      Size threads) {
    const Size words = words_of(in);
    const std::vector<float> ones(WORD, 1.0f);
#pragma omp parallel for num_threads(threads) if (frames * pixels * in > SMALL)
    for (Size frame = 0; frame < frames; frame++)
        for (Size w = 0; w < words; w++) {
            const float* numbers = g ? g + frame % g_frames * pixels * in + w * WORD : ones.data();
            sum_fired(bits + frame * pixels * words + w, words, numbers, g ? in : 0, pixels, out + frame * in + w * WORD,
                      std::min(WORD, in - w * WORD));
        }
}

// out (images, pixels, in): the sum over time of the factors f (steps, images, in) of those neurons that fired.
void sums_over_time(const uint64_t* bits, const float* f, float* out, Size steps, Size images, Size pixels, Size in,
                    Size threads) {
    const Size words = words_of(in);
#pragma omp parallel for num_threads(threads) if (steps * images * pixels * in > SMALL)
    for (Size row = 0; row < images * pixels; row++)
        for (Size w = 0; w < words; w++)
            sum_fired(bits + row * words + w, images * pixels * words, f + row / pixels * in + w * WORD, images * in, steps,
                      out + row * in + w * WORD, std::min(WORD, in - w * WORD));
}

// x: null if all spikes are 1. mask (out_pixels): the pixels to compute, the others are 0; null: all. finish: or null.
void sparse_forward(const uint64_t* bits, const float* x, const float* weights, const float* bias, const Finish* finish,
                    const uint8_t* mask, float* y, const Shape* shape, Size threads) {
    const Shape s = *shape;
    const Windows windows(s, mask);
    const Size pixels = windows.pixels(), groups = (pixels + GROUP - 1) / GROUP;
    const Pieces pieces(s.row, groups);
#pragma omp parallel num_threads(threads) if (pixels * s.out > SMALL)
    {
#pragma omp for schedule(static) nowait
        for (Size frame = 0; frame < (mask ? s.frames : 0); frame++)
            for (Size p = 0; p < s.out_pixels(); p++)
                if (!mask[p]) std::fill_n(y + (frame * s.out_pixels() + p) * s.out, s.out, 0.0f);
        Rows list(windows, bits, x);
#pragma omp for collapse(2) schedule(static)
        for (Size group = 0; group < groups; group++)
            for (Size piece = 0; piece < pieces.count; piece++)
                add_group(list, pieces, piece, group * GROUP, std::min((group + 1) * GROUP, pixels), false, weights, bias,
                          finish, y);
    }
}

// The spikes of the neurons behind the layer, out (steps, images, out_pixels, out), or the sums over time of them, (images,
// out_pixels, out), or the spikes as bits, fired (steps, images, out_pixels, words). The rest as of sparse_forward, but for
// `bits` of steps * images frames.
void sparse_fire(const uint64_t* bits, const float* x, const float* weights, const float* bias, const Neurons* neurons,
                 float* out, uint64_t* fired, const Shape* shape, Size threads) {
    const Shape s = *shape;
    const Neurons n = *neurons;
    const Windows windows(s, nullptr);
    const Size pixels = windows.pixels() / n.steps, groups = (pixels + GROUP - 1) / GROUP, words = words_of(s.out);
    const Pieces pieces(s.row, groups);
    const auto step = n.kind->decay_input ? n.w ? fire<true, true> : fire<true, false>
                                          : n.w ? fire<false, true> : fire<false, false>;
#pragma omp parallel num_threads(threads) if (pixels * n.steps * s.out > SMALL)
    {
        Rows list(windows, bits, x);
        std::vector<float> y(GROUP * s.out), membranes(GROUP * s.out), spikes(fired ? GROUP * s.out : 0);
#pragma omp for collapse(2) schedule(static)
        for (Size group = 0; group < groups; group++)
            for (Size piece = 0; piece < pieces.count; piece++) {
                const Size first = group * GROUP, last = std::min(first + GROUP, pixels), left = pieces.first(piece);
                const Size width = std::min(pieces.first(piece + 1), s.out) - left;
                std::fill(membranes.begin(), membranes.end(), n.kind->v_reset);
                for (Size t = 0; t < n.steps; t++) {
                    add_group(list, pieces, piece, t * pixels + first, t * pixels + last, true, weights, bias, nullptr, y.data());
                    float* to = fired ? spikes.data() : out + ((n.w ? 0 : t * pixels) + first) * s.out;
                    step(&y[left], &membranes[left], to + left, last - first, s.out, width, n, left, t);
                    if (fired) pack_rows(to, fired + (t * pixels + first) * words, last - first, s.out, left, width);
                }
            }
    }
}

// weights (parts, ...): zeros at first, whose sum over the parts is the gradient. gy (frames, out_pixels, out).
void sparse_gradient(const uint64_t* bits, const float* x, const float* gy, float* weights, const Shape* shape,
                     Size threads) {
    const Shape s = *shape;
    const Taps taps(s);
    const Size pixels = s.frames * s.out_pixels(), size = s.taps() * s.in * s.row, groups = (pixels + NEAR - 1) / NEAR;
    const Size parts = gradient_parts(size);
    const Pieces pieces(s.row, parts);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (pixels * s.out > SMALL)
    for (Size part = 0; part < parts; part++)
        for (Size piece = 0; piece < pieces.count; piece++) {
            Gradient gradient(s, bits, x, gy, pieces, piece, weights + part * size);
            for (Size group = groups * part / parts; group < groups * (part + 1) / parts; group++)
                gradient.add(taps, group * NEAR, std::min((group + 1) * NEAR, pixels));
        }
}
}
