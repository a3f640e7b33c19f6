// What the compiled functions have in common: vectors, the exponential, products of matrices and the running softmax.
//
// Vectors are GCC's (gcc.gnu.org/onlinedocs/gcc/Vector-Extensions.html); on processors with shorter ones they become several.
// Sums are float32, and so is all between the loaded and the stored numbers but factors of products in pairs (`Factor`). What is no number stays none,
// so that damage is not hidden.
//
// Letters: E channels of a head, P keys, m queries that are computed together, rounded up to whole vectors.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t WIDTH = 16;          // numbers of a vector
constexpr float LOWEST = -std::numeric_limits<float>::infinity();

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef uint16_t half_vec __attribute__((vector_size(32)));

struct bf16 {
    uint16_t bits;
};

inline vec all(float x) { return vec{} + x; }

inline vec load(const float* from) {
    vec out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

inline vec load(const bf16* from) {
    half_vec bits;
    std::memcpy(&bits, from, sizeof bits);
    const uvec wide = __builtin_convertvector(bits, uvec) << 16;
    return (vec)wide;
}

inline void store(float* to, vec x) { std::memcpy(to, &x, sizeof x); }

inline void put(float* to, vec x) { store(to, x); }

// The nearest bfloat16, the even one between two, as torch rounds; processors that do it themselves take what is below the least normal number for 0.
inline half_vec half(vec x) {
#ifdef __AVX512BF16__
    return (half_vec)_mm512_cvtneps_pbh((__m512)x);
#else
    const uvec bits = (uvec)x, nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector(x == x ? nearest : uvec{} + 0x7FC0, half_vec);
#endif
}

inline void put(bf16* to, vec x) {
    const half_vec bits = half(x);
    std::memcpy(to, &bits, sizeof bits);
}

template <typename T>
inline vec rounded(vec x) {
    return std::is_same<T, float>::value ? x : (vec)(__builtin_convertvector(half(x), uvec) << 16);
}

inline vec greater(vec a, vec b) { return a > b ? a : b; }

// e^x for x <= 0 within 2 units of the last place: Cody and Waite's reduction, Cephes' polynomial (netlib.org/cephes, expf.c).
inline vec exponential(vec x) {
    x = x < -87.0f ? all(-87.0f) : x;  // written so that what is no number passes
    const vec shift = all(12582912.0f);  // 1.5 x 2^23: what is added to it loses its fraction
    const vec whole = (x * 1.44269504f + shift) - shift;
    const vec rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec sum = all(1.9875691500e-4f);
    for (const float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        sum = sum * rest + factor;
    sum = sum * rest * rest + rest + 1.0f;
    const ivec power = (__builtin_convertvector(whole, ivec) + 127) << 23;
    return sum * (vec)power;
}

inline float exponential(float x) { return exponential(all(x))[0]; }

// The sums of four vectors.
struct four {
    float sum[4];
};

inline four sums(vec a, vec b, vec c, vec d) {
    const ivec low = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, high = low + 8;
    const vec ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
    const vec cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
    const ivec even = {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27}, odd = even + 4;
    vec each = __builtin_shuffle(ab, cd, even) + __builtin_shuffle(ab, cd, odd);
    each += __builtin_shuffle(each, ivec{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
    each += __builtin_shuffle(each, ivec{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
    return {{each[0], each[4], each[8], each[12]}};
}

inline float maximum(vec x) {
    float out = x[0];
    for (int64_t i = 1; i < WIDTH; i++) out = std::max(out, float(x[i]));
    return out;
}

inline float sum(vec x) { return sums(x, x, x, x).sum[0]; }

// How numbers of type T enter a product of matrices: one by one as float32, or, where the processor multiplies them so, two bfloat16 at once
// (VDPBF16PS: the first of both in the lower half of 32 bits), which are neighbours along what is summed.
template <typename T>
struct Factor {
    typedef float of;
    typedef vec line;
    static constexpr int64_t EACH = 1;
};

inline vec add_product(vec sum, float left, vec right) { return sum + all(left) * right; }
inline vec load_line(const float* from) { return load(from); }

#ifdef __AVX512BF16__
template <>
struct Factor<bf16> {
    typedef uint32_t of;
    typedef uvec line;
    static constexpr int64_t EACH = 2;
};

inline vec add_product(vec sum, uint32_t left, uvec right) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(uvec{} + left), (__m512bh)right);
}

inline uvec load_line(const uint32_t* from) {
    uvec out;
    std::memcpy(&out, from, sizeof out);
    return out;
}
#endif

// out[i][m] (+)= sum over k of left[i * down + k * along] x right[k][m]; `right` and `out` have `m` numbers a line.
template <int64_t LINES, int64_t VECTORS, typename N>
inline void block(float* out, const N* left, int64_t down, int64_t along, const N* right, int64_t m, int64_t steps, bool add) {
    vec sum[LINES][VECTORS];
    for (int64_t i = 0; i < LINES; i++)
        for (int64_t v = 0; v < VECTORS; v++) sum[i][v] = add ? load(out + i * m + v * WIDTH) : vec{};
    for (int64_t k = 0; k < steps; k++) {
        decltype(load_line(right)) line[VECTORS];
        for (int64_t v = 0; v < VECTORS; v++) line[v] = load_line(right + k * m + v * WIDTH);
        for (int64_t i = 0; i < LINES; i++) {
            const N factor = left[i * down + k * along];
            for (int64_t v = 0; v < VECTORS; v++) sum[i][v] = add_product(sum[i][v], factor, line[v]);
        }
    }
    for (int64_t i = 0; i < LINES; i++)
        for (int64_t v = 0; v < VECTORS; v++) store(out + i * m + v * WIDTH, sum[i][v]);
}

template <int64_t VECTORS, typename N>
void strip(float* out, int64_t lines, const N* left, int64_t down, int64_t along, const N* right, int64_t m, int64_t steps, bool add) {
    constexpr int64_t DOWN = VECTORS == 4 ? 6 : 8;  // at most 24 sums stay in registers
    int64_t i = 0;
    for (; i + DOWN <= lines; i += DOWN) block<DOWN, VECTORS>(out + i * m, left + i * down, down, along, right, m, steps, add);
    for (; i + 2 <= lines; i += 2) block<2, VECTORS>(out + i * m, left + i * down, down, along, right, m, steps, add);
    if (i < lines) block<1, VECTORS>(out + i * m, left + i * down, down, along, right, m, steps, add);
}

template <typename N>
void product(float* out, int64_t lines, const N* left, int64_t down, int64_t along, const N* right, int64_t m, int64_t steps, bool add) {
    for (int64_t at = 0, vectors = m / WIDTH; vectors > 0;) {
        const int64_t some = (vectors + (vectors + 3) / 4 - 1) / ((vectors + 3) / 4);  // of like size, at most four
        const auto compute = some == 4 ? strip<4, N> : some == 3 ? strip<3, N> : some == 2 ? strip<2, N> : strip<1, N>;
        compute(out + at, lines, left, down, along, right + at, m, steps, add);
        at += some * WIDTH;
        vectors -= some;
    }
}

}  // namespace
