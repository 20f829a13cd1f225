/* Blockwise levels in one pass over memory: the bits of quantize.py, for every CPU.
 *
 * A block of 128 values becomes a float16 peak and 128 levels; each value is touched once on its way from memory,
 * where the same in tensor operations is eight passes. Every step is one IEEE operation in the order in which it
 * is written in quantize.py: never build this file with contraction or fast-math.
 *
 * The functions exist once per instruction set (levels_isa.h is included several times) and are chosen by the
 * first argument. Nothing here keeps state, and no Python headers: levels.py opens the library by its path.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../native/native.h"

/* Changed with every change of a signature below: levels.py refuses a library of another version. */
enum { VERSION = 1 };
enum { PORTABLE = 0, AVX2 = 1, AVX512 = 2 };
enum { BLOCK = 128, NO_SUCH_ISA = -1 };
/* What a decoder finds in what nobody honest sends. */
enum { TOO_LOW = 1, NOT_FINITE = 2 };

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A float that is not negative, as float16, to nearest even; what is not a number stays none. */
static inline uint16_t half_of(uint32_t bits) {
    if (bits >= 0x47800000u) return bits > 0x7f800000u ? 0x7e00 : 0x7c00;
    /* Below 2^-14 a float16 counts in units of 2^-24, as a float does from .5 on. */
    if (bits < 0x38800000u) return (uint16_t)(bits_of(float_of(bits) + 0.5f) - 0x3f000000u);
    return (uint16_t)((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13);
}

/* A float16 that is not negative, as a float. */
static inline float float_of_half(uint16_t half) {
    uint32_t bits = (uint32_t)half << 13;
    if (half >= 0x7c00) return float_of(bits + 0x70000000u);
    if (half < 0x0400) return float_of(bits + 0x38800000u) - float_of(0x38800000u);
    return float_of(bits + 0x38000000u);
}

#define ISA portable
#include "levels_isa.h"
#undef ISA

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define HAS_X86 1
#include <immintrin.h>
#include "../../native/native_cpu.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#define ISA avx2
#include "levels_isa.h"
#undef ISA
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,prefer-vector-width=512")
#endif
#define ISA avx512
#include "levels_isa.h"
#undef ISA
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#include "../../native/native_entry.h"

EXPORT int levels_version(void) { return VERSION; }

/* Bit i is set when instruction set i was built and this CPU has it. */
EXPORT int levels_supported(void) {
    int found = 1 << PORTABLE;
#if defined(HAS_X86)
    int features = cpu_features();
    if (features & CPU_AVX2) found |= 1 << AVX2;
    if (features & CPU_AVX512) found |= 1 << AVX512;
#endif
    return found;
}

/* theta - anchor, plus residual where there is one, in blocks: peaks, and levels from -most to most. What the
 * levels do not say goes to left, where that is wanted. Answers 0. */
EXPORT int levels_encode(int isa, int64_t n, int most, const float *theta, const float *anchor,
                         const float *residual, uint16_t *peaks, int8_t *levels, float *left) {
#define CALL(which) encode_##which(n, most, theta, anchor, residual, peaks, levels, left)
    DISPATCH(CALL);
#undef CALL
}

/* anchor + level * step, a step for each block. Answers what was found of TOO_LOW (under -most) and NOT_FINITE. */
EXPORT int levels_decode(int isa, int64_t n, int most, const float *steps, const int8_t *levels,
                         const float *anchor, float *values) {
#define CALL(which) decode_##which(n, most, steps, levels, anchor, values)
    DISPATCH(CALL);
#undef CALL
}
