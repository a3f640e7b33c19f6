// What a CPU does beside the large matrix products: norms and gates, with their gradients, and the loss; and when rows are decoded attention, new columns, the greatest
// logit and the sum behind its probability.
//
// The rows of a batch begin alike. Their queries meet the keys and values of what they share as one matrix product a head; then each row meets
// those of its own. Both keep a running softmax (Milakov and Gimelshein 2018, arXiv 1805.02867), so that no scores are kept and none are
// rounded: everything is float32 from the loaded keys to the stored result. What is no number stays none, so that damage is not hidden.
//
// Vectors are GCC's (gcc.gnu.org/onlinedocs/gcc/Vector-Extensions.html); on processors with shorter ones they become several.
// `native.py` compiles this file, says what its functions give, and holds it to plain torch before it is used.
//
// Letters: E channels of a head, P tokens of a beginning, m queries that are computed together, rounded up to whole vectors.

#include "native.h"

namespace {

constexpr int64_t TOGETHER = 4;        // queries that meet their row's own keys at once
constexpr int64_t MOST_QUERIES = 192;  // computed together, and
constexpr int64_t TILE = 256;          // tokens of a beginning at once: what they need stays in a core's cache

// What many queries have found among the same keys: for every query the greatest score, the sum of the shares of it and the mixed values.
struct Found {
    std::vector<float> query, score, mixed, greatest, total, key, value;
    int64_t m = 0;

    void begin(int64_t queries, int64_t channels) {
        m = (queries + WIDTH - 1) / WIDTH * WIDTH;
        query.assign(channels * m, 0.0f);
        mixed.assign(channels * m, 0.0f);
        score.resize(TILE * m);
        greatest.assign(m, LOWEST);
        total.assign(m, 0.0f);
        key.resize(TILE * channels);
        value.resize(TILE * channels);
    }

    // `query` is E x m; `keys` and `values` are P x E. Key p is hidden from the first (p - seen) * group queries, in which they go up.
    template <typename T>
    void see(const T* keys, const T* values, int64_t tokens, int64_t channels, int64_t seen, int64_t group) {
        for (int64_t from = 0; from < tokens; from += TILE) {
            const int64_t some = std::min(TILE, tokens - from);
            for (int64_t i = 0; i < some * channels; i += WIDTH) {
                store(&key[i], load(keys + from * channels + i));
                store(&value[i], load(values + from * channels + i));
            }
            product(score.data(), some, key.data(), channels, 1, query.data(), m, channels, false);
            for (int64_t p = std::max<int64_t>(0, seen + 1 - from); p < some; p++)
                std::fill_n(&score[p * m], (from + p - seen) * group, LOWEST);
            share(some, channels);
            product(mixed.data(), channels, value.data(), 1, channels, score.data(), m, some, true);
        }
    }

  private:
    // Turn scores, `some` x m, into shares of the greatest so far, and bring what was found before to the same measure.
    void share(int64_t some, int64_t channels) {
        for (int64_t at = 0; at < m; at += WIDTH) {
            const vec before = load(&greatest[at]);
            vec most = before, sum{};
            for (int64_t p = 0; p < some; p++) most = greater(most, load(&score[p * m + at]));
            for (int64_t p = 0; p < some; p++) {
                const vec part = exponential(load(&score[p * m + at]) - most);
                store(&score[p * m + at], part);
                sum += part;
            }
            const vec less = exponential(before - most);
            store(&greatest[at], most);
            store(&total[at], load(&total[at]) * less + sum);
            for (int64_t e = 0; e < channels; e++) store(&mixed[e * m + at], load(&mixed[e * m + at]) * less);
        }
    }
};

// The same of one query, without the mixed values.
struct Own {
    float greatest, total;
};

// Mix values by their shares, `VECTORS` vectors of each at a time.
template <int64_t QUERIES, int64_t VECTORS, typename T>
inline void mix(float* mixed, const float* share, int64_t room, const T* values, int64_t columns, int64_t channels) {
    vec sum[QUERIES][VECTORS] = {};
    for (int64_t c = 0; c < columns; c++) {
        vec value[VECTORS];
        for (int64_t v = 0; v < VECTORS; v++) value[v] = load(values + c * channels + v * WIDTH);
        for (int64_t q = 0; q < QUERIES; q++) {
            const vec part = all(share[q * room + c]);
            for (int64_t v = 0; v < VECTORS; v++) sum[q][v] += part * value[v];
        }
    }
    for (int64_t q = 0; q < QUERIES; q++)
        for (int64_t v = 0; v < VECTORS; v++) store(mixed + q * channels + v * WIDTH, sum[q][v]);
}

// Attention of `QUERIES` queries over their row's `columns` keys. `score` has room for `room` scores of each query, a multiple of the
// width and at least the columns; the mixed values are written to `mixed`.
template <int64_t QUERIES, typename T>
void own(Own* out, float* mixed, float* score, int64_t room, const float* query, const T* keys, const T* values, int64_t columns, int64_t channels,
         int64_t next) {
    for (int64_t c = 0; c < columns; c += 4) {
        for (int64_t i = 0; i < 4 * channels; i += int64_t(64 / sizeof(T))) {
            __builtin_prefetch(keys + next + c * channels + i, 0, 2);
            __builtin_prefetch(values + next + c * channels + i, 0, 2);
        }
        vec part[QUERIES][4] = {};
        const T* key[4];
        for (int64_t i = 0; i < 4; i++) key[i] = keys + std::min(c + i, columns - 1) * channels;
        for (int64_t e = 0; e < channels; e += WIDTH) {
            vec some[4];
            for (int64_t i = 0; i < 4; i++) some[i] = load(key[i] + e);
            for (int64_t q = 0; q < QUERIES; q++)
                for (int64_t i = 0; i < 4; i++) part[q][i] += load(query + q * channels + e) * some[i];
        }
        for (int64_t q = 0; q < QUERIES; q++) {
            const four found = sums(part[q][0], part[q][1], part[q][2], part[q][3]);
            std::memcpy(score + q * room + c, found.sum, sizeof found.sum);
        }
    }
    for (int64_t q = 0; q < QUERIES; q++) {
        float* line = score + q * room;
        std::fill(line + columns, line + (columns + WIDTH - 1) / WIDTH * WIDTH, LOWEST);
        vec most = all(LOWEST), total{};
        for (int64_t c = 0; c < columns; c += WIDTH) most = greater(most, load(line + c));
        const float greatest = maximum(most);
        for (int64_t c = 0; c < columns; c += WIDTH) {
            const vec part = exponential(load(line + c) - greatest);
            store(line + c, part);
            total += part;
        }
        out[q] = {greatest, sum(total)};
    }
    int64_t e = 0;
    for (; e + 4 * WIDTH <= channels; e += 4 * WIDTH) mix<QUERIES, 4>(mixed + e, score, room, values + e, columns, channels);
    for (; e < channels; e += WIDTH) mix<QUERIES, 1>(mixed + e, score, room, values + e, columns, channels);
}

// Tokens of a row that are computed together.
struct Piece {
    int64_t row, from, to;
};

template <typename T>
struct Call {
    const T* input;  // the queries of all tokens
    int64_t num_tokens, token_stride, head_stride;
    const T *keys, *values;
    int64_t lines;
    const int64_t *line, *first, *count, *start, *seen;  // of each row: its line, first token in the pass, tokens, columns before, beginning
    int64_t rows;
    const T* const* beginning_keys;
    const T* const* beginning_values;
    const int64_t* beginning_tokens;
    int64_t beginnings;
    T* out;
    int64_t heads, group, channels, columns;
    float scale;

    // Some pieces of one key-value head.
    void run(int64_t head, const Piece* from, const Piece* to, Found& found) const {
        int64_t queries = 0;
        for (const Piece* piece = from; piece < to; piece++) queries += (piece->to - piece->from) * group;
        int64_t longest = columns;
        for (int64_t b = 0; b < beginnings; b++) longest = std::max(longest, beginning_tokens[b]);
        const int64_t room = (longest + WIDTH - 1) / WIDTH * WIDTH;
        std::vector<float> query(queries * channels), mixed(queries * channels), score(TOGETHER * room);
        std::vector<Own> own_of(queries);
        std::vector<int64_t> seen_of(queries, -1), token_of(queries), members;
        int64_t q = 0;
        for (const Piece* piece = from; piece < to; piece++) {
            const int64_t row = piece->row, here = (piece->to - piece->from) * group;
            for (int64_t i = 0; i < here; i++) {
                token_of[q + i] = first[row] + piece->from + i / group;
                const T* asked = input + token_of[q + i] * token_stride + (head * group + i % group) * head_stride;
                for (int64_t e = 0; e < channels; e += WIDTH) store(&query[(q + i) * channels + e], load(asked + e) * scale);
            }
            const int64_t place = (line[row] * heads + head) * columns * channels;
            if (here < 2 * WIDTH) {
                each(*piece, place, &query[q * channels], &mixed[q * channels], score.data(), room, &own_of[q]);
                std::fill_n(&seen_of[q], here, seen[row]);
            } else {
                together(*piece, head, place, &query[q * channels], &mixed[q * channels], &own_of[q], found);
            }
            q += here;
        }
        for (int64_t b = 0; b < beginnings; b++) {
            members.clear();
            for (q = 0; q < queries; q++)
                if (seen_of[q] == b) members.push_back(q);
            if (!members.empty()) behind(b, head, members, query.data(), mixed.data(), own_of.data(), score.data(), room, found);
        }
        for (q = 0; q < queries; q++) {
            T* to_here = out + ((token_of[q] * heads + head) * group + q % group) * channels;
            for (int64_t e = 0; e < channels; e += WIDTH) put(to_here + e, load(&mixed[q * channels + e]) / own_of[q].total);
        }
    }

    // A piece's few queries with their row's own keys, token by token.
    void each(const Piece& piece, int64_t place, const float* query, float* mixed, float* score, int64_t room, Own* found) const {
        for (int64_t q = 0, some = 0; q < (piece.to - piece.from) * group; q += some) {
            some = std::min(TOGETHER, group - q % group);
            const int64_t visible = start[piece.row] + piece.from + q / group + 1, next = heads * columns * channels;
            among(some)(found + q, mixed + q * channels, score, room, query + q * channels, keys + place, values + place, visible, channels, next);
        }
    }

    // A piece's many queries, as matrix products with what their row begins with and with its own keys.
    void together(const Piece& piece, int64_t head, int64_t place, const float* query, float* mixed, Own* out_of, Found& found) const {
        const int64_t queries = (piece.to - piece.from) * group, before = start[piece.row], b = seen[piece.row];
        found.begin(queries, channels);
        for (int64_t q = 0; q < queries; q++)
            for (int64_t e = 0; e < channels; e++) found.query[e * found.m + q] = query[q * channels + e];
        if (b >= 0) {
            const int64_t tokens = beginning_tokens[b], at = head * tokens * channels;
            found.see(beginning_keys[b] + at, beginning_values[b] + at, tokens, channels, tokens, group);
        }
        found.see(keys + place, values + place, before + piece.to, channels, before + piece.from, group);
        for (int64_t q = 0; q < queries; q++) {
            out_of[q] = {found.greatest[q], found.total[q]};
            for (int64_t e = 0; e < channels; e++) mixed[q * channels + e] = found.mixed[e * found.m + q];
        }
    }

    // The few queries of several rows that stand behind a beginning with its keys, joined to what they found among their own.
    void behind(int64_t b, int64_t head, const std::vector<int64_t>& members, const float* query, float* mixed, Own* own_of, float* score,
                int64_t room, Found& found) const {
        const int64_t queries = int64_t(members.size()), tokens = beginning_tokens[b];
        const T *first_key = beginning_keys[b] + head * tokens * channels, *first_value = beginning_values[b] + head * tokens * channels;
        if (queries <= 2 * TOGETHER) {  // a product would be for a whole vector of them
            std::vector<float> more(TOGETHER * channels);
            Own theirs[TOGETHER];
            for (int64_t at = 0, some = 0; at < queries; at += some) {
                for (some = 1; some < TOGETHER && at + some < queries && members[at + some] == members[at] + some;) some++;
                const int64_t q = members[at];
                among(some)(theirs, more.data(), score, room, query + q * channels, first_key, first_value, tokens, channels, 0);
                for (int64_t i = 0; i < some; i++) join(own_of[q + i], mixed + (q + i) * channels, theirs[i], &more[i * channels], 1);
            }
            return;
        }
        found.begin(queries, channels);
        for (int64_t at = 0; at < queries; at++)
            for (int64_t e = 0; e < channels; e++) found.query[e * found.m + at] = query[members[at] * channels + e];
        found.see(first_key, first_value, tokens, channels, tokens, group);
        for (int64_t at = 0; at < queries; at++)
            join(own_of[members[at]], mixed + members[at] * channels, {found.greatest[at], found.total[at]}, &found.mixed[at], found.m);
    }

    // What a query found in one place and in another, together.
    void join(Own& own, float* mixed, Own other, const float* more, int64_t stride) const {
        const float most = std::max(own.greatest, other.greatest);
        const float ours = exponential(own.greatest - most), theirs = exponential(other.greatest - most);
        own = {most, own.total * ours + other.total * theirs};
        for (int64_t e = 0; e < channels; e++) mixed[e] = mixed[e] * ours + more[e * stride] * theirs;
    }

    static auto among(int64_t queries) { return queries == 4 ? own<4, T> : queries == 3 ? own<3, T> : queries == 2 ? own<2, T> : own<1, T>; }

    // Whether all that is told lies inside of what is given.
    bool fits() const {
        for (int64_t row = 0; row < rows; row++) {
            const bool line_fits = line[row] >= 0 && line[row] < lines && seen[row] >= -1 && seen[row] < beginnings;
            const bool token_fits = count[row] > 0 && first[row] >= 0 && first[row] + count[row] <= num_tokens;
            if (!line_fits || !token_fits || start[row] < 0 || start[row] + count[row] > columns) return false;
        }
        return channels % WIDTH == 0;
    }

    void run_all(int threads) const {
        // Each head's tokens are dealt into tasks of like size, of which every thread gets as many as the others.
        int64_t common = std::min<int64_t>(heads, threads), all_tokens = 0;
        while (heads % common || threads % common) common--;
        for (int64_t row = 0; row < rows; row++) all_tokens += count[row];
        const int64_t share = (all_tokens * common + threads - 1) / threads;
        const int64_t most = std::max<int64_t>(1, std::min(MOST_QUERIES / group, share));
        std::vector<Piece> pieces;
        std::vector<int64_t> begins;  // of tasks, among the pieces
        int64_t left = 0;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t from = 0; from < count[row];) {
                if (left == 0 || (count[row] - from > left && count[row] <= most)) {  // short rows stay whole
                    begins.push_back(int64_t(pieces.size()));
                    left = most;
                }
                const int64_t to = std::min(count[row], from + left);
                pieces.push_back({row, from, to});
                left -= to - from;
                from = to;
            }
        const int64_t tasks = int64_t(begins.size());
        begins.push_back(int64_t(pieces.size()));
#pragma omp parallel num_threads(threads)
        {
            Found found;
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < heads * tasks; task++) {
                const int64_t some = task % tasks;
                run(task / tasks, pieces.data() + begins[some], pieces.data() + begins[some + 1], found);
            }
        }
    }
};

// The logarithm of the sum of e^x over each line.
template <typename T>
void log_sum_exp(const T* lines, int64_t stride, float* out, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const T* line = lines + row * stride;
        const int64_t whole = width / WIDTH * WIDTH;
        float rest[WIDTH];
        std::fill(rest, rest + WIDTH, LOWEST);
        for (int64_t i = whole; i < width; i++) {
            T padded[WIDTH] = {};
            padded[0] = line[i];
            rest[i - whole] = load(padded)[0];
        }
        vec most = load(rest);
        for (int64_t i = 0; i < whole; i += WIDTH) most = greater(most, load(line + i));
        const float greatest = maximum(most);
        vec total = exponential(load(rest) - greatest);
        for (int64_t i = 0; i < whole; i += WIDTH) total += exponential(load(line + i) - greatest);
        out[row] = greatest + std::log(sum(total));
    }
}

// The greatest number of each line and its place, the first among equals; no number where the line has one that is none.
template <typename T>
void greatest_of(const T* lines, int64_t stride, float* value, int64_t* place, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const T* line = lines + row * stride;
        vec most = all(LOWEST), fault{};
        ivec at{}, here = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        for (int64_t i = 0; i < width; i += WIDTH, here += int32_t(WIDTH)) {
            T padded[WIDTH] = {};
            if (i + WIDTH > width) std::copy(line + i, line + width, padded);
            const vec read = load(i + WIDTH > width ? padded : line + i), x = here < int32_t(width) ? read : all(LOWEST);
            at = x > most ? here : at;
            most = x > most ? x : most;
            fault = x == x ? fault : x;
        }
        float best = most[0];
        int32_t first = at[0];
        for (int64_t i = 1; i < WIDTH; i++)
            if (most[i] > best || (most[i] == best && at[i] < first)) best = most[i], first = at[i];
        for (int64_t i = 0; i < WIDTH; i++) best = fault[i] == fault[i] ? best : fault[i];
        value[row] = best;
        place[row] = first;
    }
}

// The log-probability of each line's target; and in the line's place the gradient of its negative, times the line's weight: weight x (e^(x - lse) - 1 for the
// target, 0 for others). False, and nothing is written, where a target is none of the words.
template <typename T>
bool nll_gradient(T* lines, const int64_t* target, const float* weight, float* logp, int64_t rows, int64_t width, int threads) {
    for (int64_t row = 0; row < rows; row++)
        if (target[row] < 0 || target[row] >= width) return false;
    log_sum_exp(lines, width, logp, rows, width, threads);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        T* line = lines + row * width;
        const float all_of_it = logp[row], by = weight[row];
        T own[WIDTH] = {line[target[row]]};
        const float of_target = load(own)[0] - all_of_it;
        for (int64_t i = 0; i < width; i += WIDTH) {
            if (i + WIDTH <= width) {
                put(line + i, exponential(load(line + i) - all_of_it) * by);
            } else {
                T padded[WIDTH] = {};
                std::copy(line + i, line + width, padded);
                put(padded, exponential(load(padded) - all_of_it) * by);
                std::copy(padded, padded + width - i, line + i);
            }
        }
        put(own, all((exponential(of_target) - 1.0f) * by));
        line[target[row]] = own[0];
        logp[row] = of_target;
    }
    return true;
}

// x / sqrt(mean of x^2 + epsilon), times the weights (Zhang and Sennrich 2019, arXiv 1910.07467); rounded to the type before the weights, as Llama's is.
// `factor` takes what each line was multiplied with, unless it is null.
template <typename T>
void rms_norm(const T* lines, const T* weight, T* out, float* factor, int64_t rows, int64_t width, float epsilon, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        const T* line = lines + row * width;
        vec squares{};
        for (int64_t i = 0; i < width; i += WIDTH) {
            const vec x = load(line + i);
            squares += x * x;
        }
        const float by = 1.0f / std::sqrt(sum(squares) / float(width) + epsilon);
        for (int64_t i = 0; i < width; i += WIDTH) put(out + row * width + i, rounded<T>(load(line + i) * by) * load(weight + i));
        if (factor) factor[row] = by;
    }
}

// The gradients of its input and, unless `weight_grad` is null, of its weights: with g the gradient times the weights and f the factor,
// f (g - x f^2 mean(g x)), and the sum over lines of the gradient times the normalized input. Lines are dealt evenly, so that the sum is always the same.
template <typename T>
void rms_norm_backward(const T* grad, const T* lines, const T* weight, const float* factor, T* line_grad, float* weight_grad, int64_t rows, int64_t width,
                       int threads) {
    std::vector<float> sums_of(weight_grad ? threads * width : 0);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t part = 0; part < threads; part++)
        for (int64_t row = rows * part / threads; row < rows * (part + 1) / threads; row++) {
            const T *line = lines + row * width, *given = grad + row * width;
            const float by = factor[row];
            vec both{};
            for (int64_t i = 0; i < width; i += WIDTH) both += load(given + i) * load(weight + i) * load(line + i);
            const float mean = sum(both) / float(width) * by * by;
            for (int64_t i = 0; i < width; i += WIDTH) {
                const vec x = load(line + i), g = load(given + i);
                put(line_grad + row * width + i, (g * load(weight + i) - x * mean) * by);
                if (weight_grad) {
                    float* place = &sums_of[part * width + i];
                    store(place, load(place) + g * rounded<T>(x * by));
                }
            }
        }
    if (weight_grad)
        for (int64_t i = 0; i < width; i += WIDTH) {
            vec total{};
            for (int64_t part = 0; part < threads; part++) total += load(&sums_of[part * width + i]);
            store(weight_grad + i, total);
        }
}

inline vec sigmoid(vec x) {
    const vec small = exponential(x < 0.0f ? x : -x);
    return (x < 0.0f ? small : all(1.0f)) / (1.0f + small);
}

// x times sigmoid(x) of one line, times the other; rounded in between.
template <typename T>
void gated(const T* gate, const T* up, int64_t gate_stride, int64_t up_stride, T* out, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i += WIDTH) {
            const vec x = load(gate + row * gate_stride + i);
            put(out + row * width + i, rounded<T>(x * sigmoid(x)) * load(up + row * up_stride + i));
        }
}

// The gradients of both lines: with s the sigmoid of the gate x, the gradient times up s (1 + x (1 - s)), and the gradient times x s.
template <typename T>
void gated_backward(const T* grad, const T* gate, const T* up, int64_t gate_stride, int64_t up_stride, T* gate_grad, T* up_grad, int64_t rows, int64_t width,
                    int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i += WIDTH) {
            const vec x = load(gate + row * gate_stride + i), g = load(grad + row * width + i), s = sigmoid(x);
            put(gate_grad + row * width + i, g * load(up + row * up_stride + i) * s * (1.0f + x * (1.0f - s)));
            put(up_grad + row * width + i, g * rounded<T>(x * s));
        }
}

// Token i's states of all heads to line[i] and column[i] of a block; false, and nothing is written, where one lies outside of it.
template <typename T>
bool write(T* block, int64_t lines, int64_t columns, const T* states, int64_t token, int64_t head, const int64_t* line, const int64_t* column, int64_t tokens,
           int64_t heads, int64_t channels) {
    for (int64_t i = 0; i < tokens; i++)
        if (line[i] < 0 || line[i] >= lines || column[i] < 0 || column[i] >= columns) return false;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t h = 0; h < heads; h++)
            std::memcpy(block + ((line[i] * heads + h) * columns + column[i]) * channels, states + i * token + h * head, channels * sizeof(T));
    return true;
}

}  // namespace

#define EXPORT(NAME, T)                                                                                                                       \
    extern "C" bool luthier_attend_##NAME(const T* query, int64_t tokens, int64_t query_token, int64_t query_head, const T* keys,             \
                                          const T* values, int64_t lines, const int64_t* line, const int64_t* first, const int64_t* count,    \
                                          const int64_t* start, const int64_t* seen, int64_t rows, const T* const* beginning_keys,            \
                                          const T* const* beginning_values, const int64_t* beginning_tokens, int64_t beginnings, T* out,      \
                                          int64_t heads, int64_t group, int64_t channels, int64_t columns, float scale, int threads) {        \
        const Call<T> call{query, tokens, query_token, query_head, keys, values, lines, line, first, count, start, seen, rows,                \
                           beginning_keys, beginning_values, beginning_tokens, beginnings, out, heads, group, channels, columns, scale};      \
        if (!call.fits()) return false;                                                                                                       \
        call.run_all(threads);                                                                                                                \
        return true;                                                                                                                          \
    }                                                                                                                                         \
    extern "C" void luthier_log_sum_exp_##NAME(const T* lines, int64_t stride, float* out, int64_t rows, int64_t width, int threads) {        \
        log_sum_exp(lines, stride, out, rows, width, threads);                                                                                \
    }                                                                                                                                         \
    extern "C" void luthier_greatest_##NAME(const T* lines, int64_t stride, float* value, int64_t* place, int64_t rows, int64_t width,        \
                                            int threads) {                                                                                    \
        greatest_of(lines, stride, value, place, rows, width, threads);                                                                       \
    }                                                                                                                                         \
    extern "C" bool luthier_nll_gradient_##NAME(T* lines, const int64_t* target, const float* weight, float* logp, int64_t rows,              \
                                                int64_t width, int threads) {                                                                 \
        return nll_gradient(lines, target, weight, logp, rows, width, threads);                                                               \
    }                                                                                                                                         \
    extern "C" void luthier_rms_norm_##NAME(const T* lines, const T* weight, T* out, float* factor, int64_t rows, int64_t width,              \
                                            float epsilon, int threads) {                                                                     \
        rms_norm(lines, weight, out, factor, rows, width, epsilon, threads);                                                                  \
    }                                                                                                                                         \
    extern "C" void luthier_rms_norm_backward_##NAME(const T* grad, const T* lines, const T* weight, const float* factor, T* line_grad,       \
                                                     float* weight_grad, int64_t rows, int64_t width, int threads) {                          \
        rms_norm_backward(grad, lines, weight, factor, line_grad, weight_grad, rows, width, threads);                                         \
    }                                                                                                                                         \
    extern "C" void luthier_gated_backward_##NAME(const T* grad, const T* gate, const T* up, int64_t gate_stride, int64_t up_stride,          \
                                                  T* gate_grad, T* up_grad, int64_t rows, int64_t width, int threads) {                       \
        gated_backward(grad, gate, up, gate_stride, up_stride, gate_grad, up_grad, rows, width, threads);                                     \
    }                                                                                                                                         \
    extern "C" void luthier_gated_##NAME(const T* gate, const T* up, int64_t gate_stride, int64_t up_stride, T* out, int64_t rows,            \
                                         int64_t width, int threads) {                                                                        \
        gated(gate, up, gate_stride, up_stride, out, rows, width, threads);                                                                   \
    }                                                                                                                                         \
    extern "C" bool luthier_write_##NAME(T* block, int64_t lines, int64_t columns, const T* states, int64_t token, int64_t head,              \
                                         const int64_t* line, const int64_t* column, int64_t tokens, int64_t heads, int64_t channels) {       \
        return write(block, lines, columns, states, token, head, line, column, tokens, heads, channels);                                      \
    }

EXPORT(bf16, bf16)
EXPORT(f32, float)
