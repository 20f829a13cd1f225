/* Fast kernels of the numerics profile seq-f32/1: the same bits as referee.py, on every CPU.
 *
 * Two rules make the bits equal everywhere.
 *   1. A product of matrices is, for each element, acc = fma(a[i,k], b[k,j], acc) for k ascending from acc = 0.
 *      SIMD lanes run over j and tiles over i, j and k; the order over k never changes, and a partial sum
 *      that is stored and loaded again is the same float.
 *   2. Everything else is single IEEE operations in the order in which they are written here. Never build
 *      this file with contraction or fast-math: see the checks below.
 *
 * Each function exists once per instruction set (kernels_isa.h is included several times) and is chosen by
 * the first argument of the exported functions, so that any of them can be tested on one machine. Nothing
 * here keeps state, so calls from several threads are independent.
 *
 * No Python headers: the library is opened by its path and called with pointers (compiled.py).
 */

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../../native/native.h"

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float arithmetic must be done in float: this target widens it"
#endif
#if defined(_MSC_VER)
#define PER_THREAD static __declspec(thread) __declspec(align(64))
#define UNROLL
#define LANEWISE
#else
#define PER_THREAD static __thread __attribute__((aligned(64)))
#define LANEWISE _Pragma("GCC ivdep")
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif

/* Changed with every change of a signature below: compiled.py refuses a library of another version. */
enum { VERSION = 3 };
enum { PORTABLE = 0, AVX2 = 1, AVX512 = 2, NEON = 3 };
enum { OK = 0, NO_MEMORY = 1, NO_SUCH_ISA = 2 };

/* A block of b is packed into panels that stay in the second-level cache, a panel of it in the first. */
enum { KC = 256, NC = 512, MC = 256, MR_MAX = 8, NR_MAX = 32 };
PER_THREAD float pack_a[MC * KC];
PER_THREAD float pack_b[KC * NC];

/* Which part of a product with a causal matrix is needed; row i reaches column i + offset. */
enum { WHOLE = 0, LOWER = 1, UPTO_DIAGONAL = 2, FROM_DIAGONAL = 3 };

typedef struct {
    int64_t rows, columns, depth;
    const float *a;
    int64_t a_row, a_depth;
    const float *b;
    int64_t b_depth, b_column;
    float *c;
    int64_t c_row;
    int shape;
    int64_t offset;
} Product;

/* Where the heads of one attention lie; the features of a head are contiguous. */
typedef struct {
    int64_t batch, times, keys, heads, groups, width;
    int64_t q_batch, q_time, q_head;
    int64_t k_batch, k_time, k_head;
    int64_t v_batch, v_time, v_head;
    float scale;
} Heads;

/* Sums over all rows of a micro-batch are cut into products of this many: half the rounding error. */
enum { GRADIENT_ROWS = 128 };

#define FIXED_POINT 17592186044416.0 /* 2^44: the unit in which gradients are summed */
#define GRADIENT_MAX 1024.0f

static inline uint32_t bits_of(float x) {
    union { float f; uint32_t u; } cast = {x};
    return cast.u;
}

static inline float float_of(uint32_t u) {
    union { uint32_t u; float f; } cast = {u};
    return cast.f;
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static inline int64_t power_of_two_at_least(int64_t n) {
    int64_t p = 1;
    while (p < n) p *= 2;
    return p;
}

/* Natural logarithm of a positive normal double: exponent, then the series of atanh. */
static double log_of(double x) {
    union { double d; uint64_t u; } cast = {x};
    double exponent = (double)((int64_t)((cast.u >> 52) & 0x7ff) - 1022);
    cast.u = (cast.u & 0x000fffffffffffffULL) | 0x3fe0000000000000ULL;
    double m = cast.d;
    if (m < 0.7071067811865476) {
        m = m * 2.0;
        exponent = exponent - 1.0;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 1.0 / 25.0;
    for (int c = 23; c >= 1; c -= 2) {
        p = p * z;
        p = p + 1.0 / (double)c;
    }
    return exponent * 0.6931471805599453 + 2.0 * (s * p);
}

/* --- the instruction sets --- */

#define ISA portable
#define V float
#define VL 1
#define NV 8
#define MR 4
#define V_LOAD(p) (*(p))
#define V_STORE(p, x) (*(p) = (x))
#define V_FILL(x) (x)
#define V_FMA(a, b, c) fmaf(a, b, c)
#include "kernels_isa.h"

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define HAS_X86 1
#include <immintrin.h>
#include "../../../native/native_cpu.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define ISA avx2
#define V __m256
#define VL 8
#define NV 2
#define MR 6
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, x) _mm256_storeu_ps(p, x)
#define V_FILL(x) _mm256_set1_ps(x)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#include "kernels_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define ISA avx512
#define V __m512
#define VL 16
#define NV 2
#define MR 8
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, x) _mm512_storeu_ps(p, x)
#define V_FILL(x) _mm512_set1_ps(x)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "kernels_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if defined(__aarch64__) && defined(__ARM_NEON)
#define HAS_NEON 1
#include <arm_neon.h>
#define ISA neon
#define V float32x4_t
#define VL 4
#define NV 2
#define MR 8
#define V_LOAD(p) vld1q_f32(p)
#define V_STORE(p, x) vst1q_f32(p, x)
#define V_FILL(x) vdupq_n_f32(x)
#define V_FMA(a, b, c) vfmaq_f32(c, a, b)
#include "kernels_isa.h"
#endif

/* --- the way in --- */

#include "../../../native/native_entry.h"

EXPORT int repops_version(void) { return VERSION; }

/* Bit i is set when instruction set i was built and this CPU has it. */
EXPORT int repops_supported(void) {
    int found = 1 << PORTABLE;
#if defined(HAS_X86)
    int features = cpu_features();
    if (features & CPU_AVX2) found |= 1 << AVX2;
    if (features & CPU_AVX512) found |= 1 << AVX512;
#endif
#if defined(HAS_NEON)
    found |= 1 << NEON;
#endif
    return found;
}

EXPORT int repops_matmul(int isa, const int64_t *n, const float *a, const float *b, float *c) {
    /* n: outer, inner, rows, columns, depth, then the strides of a, b (four each) and c (three). */
#define CALL(which) matmul_##which(n, a, b, c)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_weight_gradient(int isa, int64_t rows, int64_t outputs, int64_t inputs,
                                  const float *grad, const float *x, float *out) {
#define CALL(which) weight_gradient_##which(rows, outputs, inputs, grad, x, out)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_swiglu(int isa, int64_t n, const float *gate, const float *up, float *out) {
#define CALL(which) swiglu_##which(n, gate, up, out)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_swiglu_backward(int isa, int64_t n, const float *grad, const float *gate,
                                  const float *up, float *grad_gate, float *grad_up) {
#define CALL(which) swiglu_backward_##which(n, grad, gate, up, grad_gate, grad_up)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_attention(int isa, const int64_t *shape, float scale, const float *q, const float *k,
                            const float *v, float *out) {
#define CALL(which) attention_##which(shape, scale, q, k, v, out)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_attention_backward(int isa, const int64_t *shape, float scale, const float *grad,
                                     const float *q, const float *k, const float *v, float *grad_q,
                                     float *grad_k, float *grad_v) {
#define CALL(which) attention_backward_##which(shape, scale, grad, q, k, v, grad_q, grad_k, grad_v)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_rms_norm(int isa, int64_t rows, int64_t width, float eps, const float *x,
                           const float *weight, float *out, float *scale) {
#define CALL(which) rms_norm_##which(rows, width, eps, x, weight, out, scale)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_rms_norm_backward(int isa, int64_t rows, int64_t width, const float *grad,
                                    const float *x, const float *scale, const float *weight,
                                    float *grad_x, float *grad_weight) {
#define CALL(which) rms_norm_backward_##which(rows, width, grad, x, scale, weight, grad_x, grad_weight)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_rotate(int isa, int64_t rows, int64_t times, int64_t heads, int64_t width,
                         int64_t x_row, const float *x, const float *cosine, const float *sine,
                         float *out) {
#define CALL(which) rotate_##which(rows, times, heads, width, x_row, x, cosine, sine, out)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_gather_rows(int isa, int64_t rows, int64_t width, int64_t vocabulary, const float *grad,
                              const int64_t *tokens, float *out) {
#define CALL(which) gather_rows_##which(rows, width, vocabulary, grad, tokens, out)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_cross_entropy(int isa, int64_t rows, int64_t width, const float *logits,
                                const int64_t *labels, float *loss, float *shares) {
#define CALL(which) cross_entropy_##which(rows, width, logits, labels, loss, shares)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_cross_entropy_backward(int isa, int64_t rows, int64_t width, float factor,
                                         const float *shares, const int64_t *labels, float *grad) {
#define CALL(which) cross_entropy_backward_##which(rows, width, factor, shares, labels, grad)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_sum_of_squares(int isa, int64_t n, const float *x, float *total) {
#define CALL(which) sum_of_squares_##which(n, x, total)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_adamw(int isa, int64_t n, const float *scalars, float *params, float *m, float *v,
                        const float *grad) {
#define CALL(which) adamw_##which(n, scalars, params, m, v, grad)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_orthogonal(int isa, int64_t rows, int64_t columns, int64_t steps, const float *numbers,
                             const float *x, float *out) {
#define CALL(which) orthogonal_##which(rows, columns, steps, numbers, x, out)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_add_units(int isa, int64_t n, const float *grad, int64_t *sum, int *fits) {
#define CALL(which) add_units_##which(n, grad, sum, fits)
    DISPATCH(CALL);
#undef CALL
}

EXPORT int repops_mean_units(int isa, int64_t n, double count, const int64_t *sum, float *mean) {
#define CALL(which) mean_units_##which(n, count, sum, mean)
    DISPATCH(CALL);
#undef CALL
}

/* Some linkers insist on the entry point that a Python module would have; nobody imports this as one. */
EXPORT void *PyInit__kernels(void) { return NULL; }
