// Attention in training, along a token tree or within packed rows, with its gradients.
//
// A segment's tokens see the spans of its ancestors and their own segment up to themselves. A piece of a segment is computed at once, all query heads
// that share a key head as one matrix: its scores are made tile by tile, forward and backward, and never kept (Dao et al. 2022, arXiv 2205.14135).
// Products add up in float32; where the processor multiplies pairs of bfloat16, shares and their gradients are rounded to it before they are multiplied.
// What a piece sends back to the keys that it sees is added up in float32.
//
// Letters: E channels of a head, P keys of a tile, m queries of a piece, rounded up to whole vectors.

#include "native.h"

namespace {

// Of a tile, so that what they need stays in a core's cache: queries, and keys, an even number.
constexpr int64_t QUERIES = 96, KEYS = 64;

// Write `what` over the scores, m of one key, that lie out of its queries' sight. There are `group` queries of a token; it is seen by those from token
// `first` on, itself among them, `window` tokens in all.
inline void hide(float* score, int64_t first, int64_t group, int64_t window, int64_t m, float what) {
    const int64_t from = std::clamp<int64_t>(first * group, 0, m), to = std::clamp<int64_t>((first + window) * group, 0, m);
    std::fill(score, score + from, what);
    std::fill(score + to, score + m, what);
}

// x[i][j] becomes x[j][i], by blocks of 8, 4, 2 and 1.
template <int STEP>
inline void exchange(uvec* x) {
    ivec low, high;
    for (int i = 0; i < WIDTH; i++) low[i] = i & STEP ? WIDTH + i - STEP : i, high[i] = i & STEP ? WIDTH + i : i + STEP;
    for (int i = 0; i < WIDTH; i++)
        if (!(i & STEP)) {
            const uvec a = x[i], b = x[i + STEP];
            x[i] = __builtin_shuffle(a, b, low);
            x[i + STEP] = __builtin_shuffle(a, b, high);
        }
}

inline void transpose(uvec* x) {
    exchange<8>(x);
    exchange<4>(x);
    exchange<2>(x);
    exchange<1>(x);
}

// The factors of a line of float32, and of one of bfloat16.
inline uvec line_of(const float* from) { return (uvec)load(from); }
inline uvec half_of(const float* from) { return line_of(from); }  // channels come in whole vectors

#ifdef __AVX512BF16__
inline uvec line_of(const bf16* from) {
    uvec out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

inline uvec half_of(const bf16* from) {
    uvec out{};
    std::memcpy(&out, from, sizeof out / 2);
    return out;
}
#else
inline uvec line_of(const bf16* from) { return (uvec)load(from); }
inline uvec half_of(const bf16* from) { return line_of(from); }
#endif

// What two lines of numbers give as one of factors: from float32 the first line, as it is; from bfloat16 pairs of both.
inline const float* factors(const float* line, float*, int64_t) { return line; }
inline void join(float* to, vec first, vec) { store(to, first); }
inline void join(float* to, const float* first, const float*) { store(to, load(first)); }
inline void join(float* to, const bf16* first, const bf16*) { store(to, load(first)); }

#ifdef __AVX512BF16__
inline void join(uint32_t* to, vec first, vec second) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first)));
}

inline void join(uint32_t* to, const bf16* first, const bf16* second) {
    const uvec both = (uvec)load(second) | (uvec)load(first) >> 16;
    std::memcpy(to, &both, sizeof both);
}

// A line of numbers as factors.
inline const uint32_t* factors(const float* line, uint32_t* room, int64_t m) {
    for (int64_t q = 0; q < m; q += WIDTH) {
        const __m256bh some = _mm512_cvtneps_pbh((__m512)load(line + q));
        std::memcpy(room + q / 2, &some, sizeof some);
    }
    return room;
}
#endif

// Tensors of tokens and heads, whose channels lie side by side.
template <typename T>
struct States {
    T* at;
    int64_t token, head;
    T* of(int64_t n, int64_t h) const { return at + n * token + h * head; }
};

struct Piece {
    int64_t segment, from, to;  // tokens of the segment
    int64_t work;
};

template <typename T>
struct Tree {
    typedef typename Factor<T>::of N;
    static constexpr int64_t EACH = Factor<T>::EACH;

    States<const T> query, key, value;
    int64_t tokens, heads, group, channels;  // key heads, and query heads of each
    const int64_t* segments;  // start, length and first span of each, and one more for the end
    int64_t num_segments;
    const int64_t* spans;  // start and end of each
    int64_t num_spans;
    float scale;
    int64_t window;
    std::vector<T> zeros = std::vector<T>(channels);

    int64_t start(int64_t s) const { return segments[3 * s]; }
    int64_t length(int64_t s) const { return segments[3 * s + 1]; }
    int64_t first_span(int64_t s) const { return segments[3 * s + 2]; }

    // Whether the segments follow each other to the end, and see only what stands before them.
    bool fits() const {
        int64_t token = 0, span = 0;
        for (int64_t s = 0; s < num_segments; s++) {
            if (start(s) != token || length(s) <= 0 || first_span(s) != span || first_span(s + 1) < span || first_span(s + 1) > num_spans) return false;
            for (; span < first_span(s + 1); span++)
                if (spans[2 * span] < 0 || spans[2 * span + 1] <= spans[2 * span] || spans[2 * span + 1] > token) return false;
            token += length(s);
        }
        return token == tokens && channels % WIDTH == 0 && window > 0;
    }

    std::vector<Piece> pieces() const {
        const int64_t most = std::max<int64_t>(1, QUERIES / group);
        std::vector<Piece> out;
        for (int64_t s = 0; s < num_segments; s++) {
            int64_t depth = 0;
            for (int64_t i = first_span(s); i < first_span(s + 1); i++) depth += spans[2 * i + 1] - spans[2 * i];
            const int64_t parts = (length(s) + most - 1) / most;
            for (int64_t part = 0; part < parts; part++) {
                const int64_t from = length(s) * part / parts, to = length(s) * (part + 1) / parts;
                out.push_back({s, from, to, (to - from) * std::min(window + to - from, depth + to)});
            }
        }
        return out;
    }

    // Call `see(first token, how many, at)` for each span that a piece sees; counted from the span's first key, key number `at` is what the first query itself is.
    template <typename F>
    void seen(const Piece& piece, F see) const {
        int64_t depth = 0, before = 0;
        for (int64_t i = first_span(piece.segment); i < first_span(piece.segment + 1); i++) depth += spans[2 * i + 1] - spans[2 * i];
        for (int64_t i = first_span(piece.segment); i < first_span(piece.segment + 1); i++) {
            const int64_t some = spans[2 * i + 1] - spans[2 * i];
            see(spans[2 * i], some, depth + piece.from - before);
            before += some;
        }
        see(start(piece.segment), piece.to, piece.from);
    }

    // The queries of a piece, or what is like them, as E x m, of factors along E, and unless `lines` is null as m x E, of factors along m.
    void gather(const States<const T>& from, const Piece& piece, int64_t head, int64_t m, N* columns, N* lines) const {
        const int64_t queries = (piece.to - piece.from) * group, first = start(piece.segment) + piece.from, factors = channels / EACH;
        const T* at[WIDTH];
        for (int64_t q = 0; q < m; q += WIDTH) {
            for (int64_t i = 0; i < WIDTH; i++) at[i] = q + i < queries ? from.of(first + (q + i) / group, head * group + (q + i) % group) : zeros.data();
            for (int64_t e = 0; e < factors; e += WIDTH) {
                uvec x[WIDTH];
                const int64_t some = std::min(WIDTH, factors - e);  // all of them, or half
                for (int64_t i = 0; i < WIDTH; i++) x[i] = some == WIDTH ? line_of(at[i] + EACH * e) : half_of(at[i] + EACH * e);
                transpose(x);
                for (int64_t i = 0; i < some; i++) std::memcpy(columns + (e + i) * m + q, &x[i], sizeof x[i]);
            }
            if (lines)
                for (int64_t i = 0; i < WIDTH; i += EACH)
                    for (int64_t e = 0; e < channels; e += WIDTH) join(lines + (q + i) / EACH * channels + e, at[i] + e, at[i + EACH - 1] + e);
        }
    }

    // The keys or values of a tile as P x E: `plain` of factors along E, `joined` of factors along P; what is null is not wanted.
    void tile(const States<const T>& from, int64_t first, int64_t some, int64_t head, N* plain, N* joined) const {
        for (int64_t p = 0; p < some && plain; p++)
            for (int64_t e = 0; e < channels; e += WIDTH)
                if constexpr (EACH * sizeof(T) == 4) {
                    std::memcpy(plain + (p * channels + e) / EACH, from.of(first + p, head) + e, WIDTH * sizeof(T));
                } else {
                    store(plain + p * channels + e, load(from.of(first + p, head) + e));
                }
        for (int64_t p = 0; p < some && joined; p += EACH)
            for (int64_t e = 0; e < channels; e += WIDTH)
                join(joined + p / EACH * channels + e, from.of(first + p, head) + e,
                     p + EACH - 1 < some ? from.of(first + p + EACH - 1, head) + e : zeros.data());
    }

    // Rows of a piece's queries to where they belong, times `by[query]`.
    void put_lines(const float* lines, const float* by, const States<T>& to, const Piece& piece, int64_t head) const {
        const int64_t queries = (piece.to - piece.from) * group, first = start(piece.segment) + piece.from;
        for (int64_t q = 0; q < queries; q++)
            for (int64_t e = 0; e < channels; e += WIDTH)
                put(to.of(first + q / group, head * group + q % group) + e, load(lines + q * channels + e) * by[q]);
    }

    struct Room {
        std::vector<N> query, query_lines, grad, grad_lines, key, value, joined, share_row, score_row, weight;
        std::vector<float> result, share, score_grad, greatest, total, less, log_total, product, by;
    };

    // The result of a piece, and in `log_total`, H x N, the logarithm of each query's sum of exponentials.
    void forward_of(const Piece& piece, int64_t head, const States<T>& out, float* log_total, Room& room) const {
        const int64_t queries = (piece.to - piece.from) * group, m = (queries + WIDTH - 1) / WIDTH * WIDTH;
        room.query.resize(m * channels / EACH);
        for (auto* some : {&room.key, &room.joined}) some->resize(KEYS * channels / EACH);
        room.weight.resize(KEYS * m / EACH);
        room.share.assign(KEYS * m, 0.0f);
        room.result.assign(m * channels, 0.0f);
        room.greatest.assign(m, LOWEST);
        for (auto* some : {&room.total, &room.less}) some->assign(m, 0.0f);
        gather(query, piece, head, m, room.query.data(), nullptr);
        seen(piece, [&](int64_t first, int64_t number, int64_t at) {
            for (int64_t from = std::max<int64_t>(0, at - window + 1); from < number; from += KEYS) {
                const int64_t some = std::min(KEYS, number - from), steps = (some + EACH - 1) / EACH;
                tile(key, first + from, some, head, room.key.data(), nullptr);
                tile(value, first + from, some, head, nullptr, room.joined.data());
                product(room.share.data(), some, room.key.data(), channels / EACH, 1, room.query.data(), m, channels / EACH, false);
                for (int64_t p = 0; p < some; p++) hide(&room.share[p * m], from + p - at, group, window, m, LOWEST);
                if (some % EACH) std::fill_n(&room.share[some * m], m, LOWEST);
                shares(steps, m, room);
                product(room.result.data(), m, room.weight.data(), 1, m, room.joined.data(), channels, steps, true);
            }
        });
        for (int64_t q = 0; q < queries; q++) {
            const int64_t token = start(piece.segment) + piece.from + q / group;
            log_total[(head * group + q % group) * tokens + token] = room.greatest[q] + std::log(room.total[q]);
            room.less[q] = 1.0f / room.total[q];
        }
        put_lines(room.result.data(), room.less.data(), out, piece, head);
    }

    // Turn the scores of a tile into shares of the greatest so far, and bring what was found before to the same measure.
    void shares(int64_t steps, int64_t m, Room& room) const {
        for (int64_t q = 0; q < m; q += WIDTH) {
            const float* score = &room.share[q];
            const vec before = load(&room.greatest[q]);
            vec most = all(LOWEST), total{};
            for (int64_t p = 0; p < steps * EACH; p++) most = greater(most, load(score + p * m));
            most = greater(before, greater(all(std::numeric_limits<float>::lowest()), most * scale));  // a number, though all be hidden
            for (int64_t step = 0; step < steps; step++) {
                vec part[EACH];
                for (int64_t i = 0; i < EACH; i++) {
                    part[i] = exponential(load(score + (step * EACH + i) * m) * scale - most);
                    total += part[i];
                }
                join(&room.weight[step * m + q], part[0], part[EACH - 1]);
            }
            const vec less = exponential(before - most);
            store(&room.greatest[q], most);
            store(&room.total[q], load(&room.total[q]) * less + total);
            store(&room.less[q], less);
        }
        for (int64_t q = 0; q < m; q++)
            for (int64_t e = 0; e < channels; e += WIDTH) store(&room.result[q * channels + e], load(&room.result[q * channels + e]) * room.less[q]);
    }

    void forward(const States<T>& out, float* log_total, int threads) const {
        const std::vector<Piece> all_pieces = pieces();
        const int64_t number = int64_t(all_pieces.size());
#pragma omp parallel num_threads(threads)
        {
            Room room;
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < heads * number; task++) forward_of(all_pieces[task % number], task / number, out, log_total, room);
        }
    }

    // The gradients of a piece's queries, and what it adds to those of its keys and values, N x E of one head.
    void backward_of(const Piece& piece, int64_t head, const States<const T>& out, const States<const T>& grad, const float* log_total,
                     const States<T>& query_grad, float* key_grad, float* value_grad, Room& room) const {
        const int64_t queries = (piece.to - piece.from) * group, m = (queries + WIDTH - 1) / WIDTH * WIDTH;
        for (auto* some : {&room.query, &room.query_lines, &room.grad, &room.grad_lines}) some->resize(m * channels / EACH);
        for (auto* some : {&room.share, &room.score_grad}) some->resize(m * KEYS);
        for (auto* some : {&room.share_row, &room.score_row, &room.weight}) some->resize(m * KEYS / EACH);
        for (auto* some : {&room.key, &room.value, &room.joined}) some->resize(KEYS * channels / EACH);
        room.result.assign(m * channels, 0.0f);
        room.by.assign(m, scale);
        for (auto* some : {&room.log_total, &room.product}) some->assign(m, 0.0f);
        gather(query, piece, head, m, room.query.data(), room.query_lines.data());
        gather(grad, piece, head, m, room.grad.data(), room.grad_lines.data());
        for (int64_t q = 0; q < queries; q += 4) {
            vec both[4] = {};
            for (int64_t i = 0; i < 4 && q + i < queries; i++) {
                const int64_t token = start(piece.segment) + piece.from + (q + i) / group, h = head * group + (q + i) % group;
                room.log_total[q + i] = log_total[h * tokens + token];
                for (int64_t e = 0; e < channels; e += WIDTH) both[i] += load(grad.of(token, h) + e) * load(out.of(token, h) + e);
            }
            const four found = sums(both[0], both[1], both[2], both[3]);
            std::memcpy(&room.product[q], found.sum, sizeof found.sum);
        }
        seen(piece, [&](int64_t first, int64_t number, int64_t at) {
            for (int64_t from = std::max<int64_t>(0, at - window + 1); from < number; from += KEYS) {
                const int64_t some = std::min(KEYS, number - from), steps = (some + EACH - 1) / EACH, place = (first + from) * channels;
                tile(key, first + from, some, head, room.key.data(), room.joined.data());
                tile(value, first + from, some, head, room.value.data(), nullptr);
                product(room.share.data(), some, room.key.data(), channels / EACH, 1, room.query.data(), m, channels / EACH, false);
                product(room.score_grad.data(), some, room.value.data(), channels / EACH, 1, room.grad.data(), m, channels / EACH, false);
                for (int64_t p = 0; p < some; p++) {
                    float *share = &room.share[p * m], *score_grad = &room.score_grad[p * m];
                    for (int64_t q = 0; q < m; q += WIDTH) store(share + q, exponential(load(share + q) * scale - load(&room.log_total[q])));
                    hide(share, from + p - at, group, window, m, 0.0f);
                    for (int64_t q = 0; q < m; q += WIDTH) store(score_grad + q, load(share + q) * (load(score_grad + q) - load(&room.product[q])));
                }
                if (some % EACH) std::fill_n(&room.score_grad[some * m], m, 0.0f);
                const N *share = factors(room.share.data(), room.share_row.data(), some * m),
                        *score_grad = factors(room.score_grad.data(), room.score_row.data(), some * m);
                product(value_grad + place, some, share, m / EACH, 1, room.grad_lines.data(), channels, m / EACH, true);
                product(key_grad + place, some, score_grad, m / EACH, 1, room.query_lines.data(), channels, m / EACH, true);
                for (int64_t step = 0; step < steps; step++)
                    for (int64_t q = 0; q < m; q += WIDTH) {
                        const float* line = &room.score_grad[step * EACH * m + q];
                        join(&room.weight[step * m + q], load(line), load(line + (EACH - 1) * m));
                    }
                product(room.result.data(), m, room.weight.data(), 1, m, room.joined.data(), channels, steps, true);
            }
        });
        put_lines(room.result.data(), room.by.data(), query_grad, piece, head);
    }

    // Heads are dealt to groups of threads, and a head's pieces to the threads of its group: each adds up for itself, and then they are added in
    // order, so that the sums are always the same.
    void backward(const States<const T>& out, const States<const T>& grad, const float* log_total, const States<T>& query_grad,
                  const States<T>& key_grad, const States<T>& value_grad, int threads) const {
        int64_t groups = std::min<int64_t>(heads, threads);
        while (heads % groups || threads % groups) groups--;
        const int64_t parts = threads / groups, heads_each = heads / groups;
        struct Task {
            int64_t piece, head;
        };
        const std::vector<Piece> all_pieces = pieces();
        std::vector<std::vector<Task>> tasks(threads);
        for (int64_t one = 0; one < groups; one++) {
            std::vector<int64_t> busy(parts, 0);
            for (int64_t head = one * heads_each; head < (one + 1) * heads_each; head++)
                for (int64_t i = 0; i < int64_t(all_pieces.size()); i++) {
                    const int64_t part = std::min_element(busy.begin(), busy.end()) - busy.begin();
                    busy[part] += all_pieces[i].work;
                    tasks[one * parts + part].push_back({i, head});
                }
        }
        const int64_t size = tokens * channels;
        std::vector<float> sums_of(2 * parts * heads * size);  // keys, values; each part's of each head
        const auto sum_of = [&](int64_t which, int64_t part, int64_t head) { return &sums_of[((which * parts + part) * heads + head) * size]; };
#pragma omp parallel num_threads(threads)
        {
            Room room;
#pragma omp for schedule(static, 1)
            for (int64_t thread = 0; thread < threads; thread++)
                for (const Task& task : tasks[thread])
                    backward_of(all_pieces[task.piece], task.head, out, grad, log_total, query_grad, sum_of(0, thread % parts, task.head),
                                sum_of(1, thread % parts, task.head), room);
#pragma omp for
            for (int64_t task = 0; task < 2 * heads * tokens; task++) {
                const int64_t which = task / (heads * tokens), head = task / tokens % heads, n = task % tokens;
                for (int64_t e = 0; e < channels; e += WIDTH) {
                    vec total{};
                    for (int64_t part = 0; part < parts; part++) total += load(sum_of(which, part, head) + n * channels + e);
                    put((which ? value_grad : key_grad).of(n, head) + e, which ? total : total * scale);
                }
            }
        }
    }
};

}  // namespace

#define EXPORT(NAME, T)                                                                                                                        \
    extern "C" bool luthier_along_##NAME(const T* query, int64_t query_token, int64_t query_head, const T* key, int64_t key_token,             \
                                         int64_t key_head, const T* value, int64_t value_token, int64_t value_head, int64_t tokens,            \
                                         int64_t heads, int64_t group, int64_t channels, const int64_t* segments, int64_t num_segments,        \
                                         const int64_t* spans, int64_t num_spans, float scale, int64_t window, T* out, float* log_total,       \
                                         int threads) {                                                                                        \
        const Tree<T> tree{{query, query_token, query_head}, {key, key_token, key_head}, {value, value_token, value_head}, tokens, heads,      \
                           group, channels, segments, num_segments, spans, num_spans, scale, window};                                          \
        if (!tree.fits()) return false;                                                                                                        \
        tree.forward({out, heads * group * channels, channels}, log_total, threads);                                                           \
        return true;                                                                                                                           \
    }                                                                                                                                          \
    extern "C" bool luthier_along_backward_##NAME(const T* query, int64_t query_token, int64_t query_head, const T* key, int64_t key_token,    \
                                                  int64_t key_head, const T* value, int64_t value_token, int64_t value_head, int64_t tokens,   \
                                                  int64_t heads, int64_t group, int64_t channels, const int64_t* segments,                     \
                                                  int64_t num_segments, const int64_t* spans, int64_t num_spans, float scale, int64_t window,  \
                                                  const T* out, const float* log_total, const T* grad, int64_t grad_token, int64_t grad_head,  \
                                                  T* query_grad, T* key_grad, T* value_grad, int threads) {                                    \
        const Tree<T> tree{{query, query_token, query_head}, {key, key_token, key_head}, {value, value_token, value_head}, tokens, heads,      \
                           group, channels, segments, num_segments, spans, num_spans, scale, window};                                          \
        if (!tree.fits()) return false;                                                                                                        \
        const int64_t key_line = heads * channels, line = group * key_line;                                                                    \
        tree.backward({out, line, channels}, {grad, grad_token, grad_head}, log_total, {query_grad, line, channels},                           \
                      {key_grad, key_line, channels}, {value_grad, key_line, channels}, threads);                                              \
        return true;                                                                                                                           \
    }

EXPORT(bf16, bf16)
EXPORT(f32, float)
