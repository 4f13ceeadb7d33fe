/* What every kernel begins with, after WIDE has been defined: the elementary functions, in double if
   WIDE is 1 and in float if it is 0, and the conversions of bfloat16.

   No function has a branch or a table, so that the compiler makes vector code of a loop around it.
   They are off by less than 2 ulp, erf by less than 5e-7; the C library's own vector functions need
   glibc and are off by up to 4 ulp. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if WIDE
typedef double real;
typedef int64_t word;
typedef uint64_t unsigned_word;
#define F(name) name
#define DIGITS 52
#define BIAS 1023
#define LOWEST -746 /* below it eˣ is 0 */
#define HIGHEST 710 /* above it eˣ is infinite */
#define LOG2_HIGH 0x1.62e42fee00000p-1 /* log 2 in two parts; n times the first is exact */
#define LOG2_LOW 0x1.a39ef35793c76p-33
#define EXP_TERMS 13
#define LOG_TERMS 10
#else
typedef float real;
typedef int32_t word;
typedef uint32_t unsigned_word;
#define F(name) name##f
#define DIGITS 23
#define BIAS 127
#define LOWEST -104
#define HIGHEST 89
#define LOG2_HIGH 0x1.62e400p-1f
#define LOG2_LOW 0x1.7f7d1cp-20f
#define EXP_TERMS 7
#define LOG_TERMS 5
#endif

static inline word bits_of(real x) {
    word n;
    memcpy(&n, &x, sizeof n);
    return n;
}

static inline real from_bits(word n) {
    real x;
    memcpy(&x, &n, sizeof x);
    return x;
}

/* 1.5 · 2^DIGITS: the last digit of a number around it is 1. */
#define INTEGERS ((real)3 * ((word)1 << (DIGITS - 1)))

/* Without a sign: of numbers with one, C does not define what overflows. NaN and ∞ do. */
static inline unsigned_word exponent(word n) { return (unsigned_word)n << DIGITS; }

static inline real power_of_2(word n) { return from_bits((word)exponent(n + BIAS)); }

/* Both leave NaN as it is. */
static inline real at_most(real most, real x) { return x > most ? most : x; }
static inline real at_least(real least, real x) { return x < least ? least : x; }

/* c[from] + c[from + 1] x + … + c[to] x^(to − from): the even and the odd powers each for themselves,
   so that a processor can work on both at a time. */
static inline real polynomial(real x, const real *c, int from, int to) {
    const real square = x * x;
    real last = c[to], before = c[to - 1];
#pragma GCC unroll 16
    for (int k = to - 2; k > from; k -= 2) {
        last = last * square + c[k];
        before = before * square + c[k - 1];
    }
    if ((to - from) % 2 == 0) return last * square + c[from] + x * before;
    return before + x * last;
}

/* eʳ − 1 by Taylor's series, for x = n log 2 + r with |r| <= (log 2) / 2. */
static inline real reduced_expm1(real x, word *n) {
    static const real inverse_factorial[] = {
        1,           1,          1. / 2,      1. / 6,        1. / 24,        1. / 120,
        1. / 720,    1. / 5040,  1. / 40320,  1. / 362880,   1. / 3628800,   1. / 39916800,
        1. / 479001600, 1. / 6227020800,
    };
    const real shifted = x * (real)1.44269504088896340736 + INTEGERS, whole = shifted - INTEGERS;
    const real r = x - whole * LOG2_HIGH - whole * LOG2_LOW;
    *n = bits_of(shifted) - bits_of(INTEGERS);
    return r * r * polynomial(r, inverse_factorial, 2, EXP_TERMS) + r;
}

static inline real vector_exp(real x) {
    word n;
    const real y = reduced_expm1(at_least(LOWEST, at_most(HIGHEST, x)), &n) + 1;
    const word half = n >> 1; /* 2ⁿ itself may be too large or too small where eˣ is not */
    return y * power_of_2(half) * power_of_2(n - half);
}

static inline real vector_expm1(real x) {
    word n;
    const real y = reduced_expm1(at_least(-DIGITS - 2, at_most(HIGHEST, x)), &n);
    const real half = power_of_2(n - 1); /* 2ⁿ itself may be too large where eˣ is not */
    return F(copysign)(n == 0 ? y : 2 * (half * y + (half - (real)0.5)), x);
}

/* With u = 1 + x = 2ᵏ (1 + f), √½ <= 1 + f < √2, and what u has lost by its rounding:
   log(1 + x) = k log 2 + log(1 + f) + lost / u, where log(1 + f) = f − f²/2 + s (f²/2 + R) with
   s = f / (2 + f) and R = 2s²/3 + 2s⁴/5 + …, from the series of 2 artanh s. */
static inline real vector_log1p(real x) {
    static const real odd[] = {2,       2. / 3,  2. / 5,  2. / 7,  2. / 9, 2. / 11, 2. / 13,
                               2. / 15, 2. / 17, 2. / 19, 2. / 21};
    const real u = 1 + x, lost = x < 1 ? x - (u - 1) : 1 - (u - x);
    const unsigned_word bits = (unsigned_word)bits_of(u);
    const unsigned_word least = (unsigned_word)bits_of((real)0.70710678118654752440);
    const word n = (word)((bits - least + exponent(BIAS)) >> DIGITS) - BIAS;
    const real k = from_bits(bits_of(INTEGERS) + n) - INTEGERS; /* n: few processors convert it */
    const real f = from_bits((word)(bits - exponent(n))) - 1, s = f / (2 + f), square = s * s;
    const real half = (real)0.5 * f * f, rest = square * polynomial(square, odd, 1, LOG_TERMS);
    const real y = k * LOG2_HIGH + (f - (half - s * (half + rest) - (k * LOG2_LOW + lost / u)));
    const real limit = x < -1 ? NAN : -INFINITY;
    return x <= -1 ? limit : x < INFINITY ? y : x;
}

#if !WIDE
/* erf |x| = 1 − e^(−x²) Q(t) with t = 1 / (1 + 0.4 |x|), after Abramowitz & Stegun 7.1.26; this Q was
   found by reweighted least squares and errs by 3e-8. A density e^(−x²) beside it comes for free. */
static inline real vector_erf(real x) {
    static const real q[] = {0.231922298f, 0.161822286f,  0.468277355f,
                             -0.370911883f, 0.709149755f, -0.200259838f};
    const real t = 1 / (1 + (real)0.4 * fabsf(x));
    return copysignf(1 - vector_exp(-x * x) * (t * polynomial(t, q, 0, 5)), x);
}

static inline float from_bfloat16(uint16_t x) { return from_bits((int32_t)((uint32_t)x << 16)); }

static inline uint16_t to_bfloat16(float x) {
    const uint32_t bits = (uint32_t)bits_of(x);
    const uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return x != x ? 0x7fc0u : nearest;
}
#endif
