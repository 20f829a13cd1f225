/* The kernels of kernels.c for one instruction set: ISA, V, VL, NV, MR and the V_ macros are given. */

#define NR (VL * NV)

/* exp by a fixed polynomial: about one unit in the last place, between -87 and 88. */
static inline float NAME(exp_of)(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504f + 12582912.0f; /* 1.5 x 2^23: the sum is rounded to a whole number */
    float k = t - 12582912.0f;
    float r = x - k * 0.693145751953125f; /* ln 2 in two parts; the first product is exact */
    r = r - k * 1.42860677e-06f;
    float p = (float)(1.0 / 5040.0);
    p = p * r + (float)(1.0 / 720.0);
    p = p * r + (float)(1.0 / 120.0);
    p = p * r + (float)(1.0 / 24.0);
    p = p * r + (float)(1.0 / 6.0);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * float_of((bits_of(t) + 127u) << 23); /* the low bits of t are the exponent */
}

/* A binary tree over contiguous halves of x, padded with +0 to 2 h values; x may be the buffer itself. */
static float NAME(tree_sum)(const float *x, int64_t n, int64_t h, float *buffer) {
    if (h == 0) return x[0];
    int64_t both = larger(n - h, 0);
    LANEWISE
    for (int64_t i = 0; i < both; i++) buffer[i] = x[i] + x[i + h];
    for (int64_t i = both; i < h; i++) buffer[i] = (i < n ? x[i] : 0.0f) + 0.0f;
    for (; h > 16; h /= 2) {
        int64_t half = h / 2;
        LANEWISE
        for (int64_t i = 0; i < half; i++) buffer[i] = buffer[i] + buffer[i + half];
    }
    if (h == 16) {
        for (int i = 0; i < 8; i++) buffer[i] = buffer[i] + buffer[i + 8];
        h = 8;
    }
    if (h == 8) {
        for (int i = 0; i < 4; i++) buffer[i] = buffer[i] + buffer[i + 4];
        h = 4;
    }
    for (; h > 1; h /= 2)
        for (int64_t i = 0; i < h / 2; i++) buffer[i] = buffer[i] + buffer[i + h / 2];
    return buffer[0];
}

static inline int64_t NAME(half_tree)(int64_t n) { return power_of_two_at_least(n) / 2; }

/* The largest of n values; NaN is found by NAME(all_finite). */
static float NAME(largest)(const float *x, int64_t n) {
    float best[16], all;
    int64_t i = 0;
    for (int lane = 0; lane < 16; lane++) best[lane] = x[0];
    for (; i + 16 <= n; i += 16)
        for (int lane = 0; lane < 16; lane++) best[lane] = best[lane] > x[i + lane] ? best[lane] : x[i + lane];
    for (; i < n; i++) best[0] = best[0] > x[i] ? best[0] : x[i];
    all = best[0];
    for (int lane = 1; lane < 16; lane++) all = all > best[lane] ? all : best[lane];
    return all;
}

static int NAME(all_finite)(const float *x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= (bits_of(x[i]) & 0x7f800000u) == 0x7f800000u;
    return !bad;
}

/* A tree over rows start, start + step, ...: the halves of the padded list are its even and odd rows,
 * read from the last level up, so this walks the tree depth first with one row of scratch per level. */
typedef void (*NAME(Leaf))(const void *of, int64_t row, float *to);

static void NAME(rows_tree)(NAME(Leaf) leaf, const void *of, int64_t start, int64_t step, int64_t padded,
                            int64_t rows, int64_t width, float *to, float *scratch) {
    if (start >= rows) {
        memset(to, 0, (size_t)width * sizeof(float));
    } else if (step == padded) {
        leaf(of, start, to);
    } else {
        NAME(rows_tree)(leaf, of, start, 2 * step, padded, rows, width, to, scratch + width);
        NAME(rows_tree)(leaf, of, start + step, 2 * step, padded, rows, width, scratch, scratch + width);
        LANEWISE
        for (int64_t i = 0; i < width; i++) to[i] = to[i] + scratch[i];
    }
}

#include "kernels_product.h"
#include "kernels_attention.h"
#include "kernels_rows.h"

#undef NR
#undef ISA
#undef V
#undef VL
#undef NV
#undef MR
#undef V_LOAD
#undef V_STORE
#undef V_FILL
#undef V_FMA
