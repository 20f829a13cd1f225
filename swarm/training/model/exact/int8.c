/* The product of the study int8/1: the same bits as int8.py, in any order of its terms. docs/spec/int8.md.
 *
 * Levels are in [-127, 127]; a product of a block is a sum of int32, the blocks are added as int64, and only the
 * last line rounds to float. So nothing here depends on the order of loops, the width of vectors or the blocking.
 *
 * No Python headers: the library is opened by its path and called with pointers.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../../native/native.h"

/* Changed with every change of a signature below: int8.py refuses a library of another version. */
enum { VERSION = 1 };
enum { PORTABLE = 0, VNNI = 1 };
enum { OK = 0, NO_MEMORY = 1, NO_SUCH_ISA = 2 };

enum { UNIT_BITS = 24 };                   /* bits below the last one of the largest block */
enum { LANES = 16, COLUMNS = 32, ROWS = 8 }; /* of a tile */

/* total += sum x 2^24 / 2^s, to the nearest, halves upwards; s = how far the block lies below the largest ones. */
static inline void add_block(const int32_t *sum, int row_below, const int32_t *below, int64_t *total) {
    for (int c = 0; c < COLUMNS; c++) {
        int64_t s = row_below + below[c];
        s = s > 62 ? 62 : s;
        int64_t half = ((int64_t)1 << s) >> 1;
        total[c] += (((int64_t)sum[c] * ((int64_t)1 << UNIT_BITS)) + half) >> s;
    }
}

/* One tile of a block: sum[r][c] is the product of row r and column c. Where a column is behind the last one,
 * its panel is of zeros. panel: depth / 4 times COLUMNS times 4 levels; depth is a multiple of 4. */
typedef void (*Tile)(int64_t depth, const int8_t *const *a, const int8_t *panel, int32_t sum[ROWS][COLUMNS]);
typedef void (*AddBlock)(const int32_t *sum, int row_below, const int32_t *below, int64_t *total);

static void tile_portable(int64_t depth, const int8_t *const *a, const int8_t *panel,
                          int32_t sum[ROWS][COLUMNS]) {
    memset(sum, 0, sizeof(int32_t) * ROWS * COLUMNS);
    for (int64_t k = 0; k < depth; k += 4, panel += 4 * COLUMNS)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++)
                for (int i = 0; i < 4; i++) sum[r][c] += (int32_t)a[r][k + i] * panel[4 * c + i];
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAS_VNNI 1
#include <immintrin.h>
#include "../../../native/native_cpu.h"

/* The instruction multiplies bytes without a sign by bytes with one: 128 is added to each level of a, and 128
 * times the sum of the column subtracted. */
__attribute__((target("avx512f,avx512bw,avx512vnni"))) static void tile_vnni(
    int64_t depth, const int8_t *const *a, const int8_t *panel, int32_t sum[ROWS][COLUMNS]) {
    __m512i total[ROWS][2], bias[2], ones = _mm512_set1_epi8((char)128);
    for (int r = 0; r < ROWS; r++) total[r][0] = total[r][1] = _mm512_setzero_si512();
    bias[0] = bias[1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < depth; k += 4, panel += 4 * COLUMNS) {
        __m512i left = _mm512_loadu_si512(panel), right = _mm512_loadu_si512(panel + 4 * LANES);
        bias[0] = _mm512_dpbusd_epi32(bias[0], ones, left);
        bias[1] = _mm512_dpbusd_epi32(bias[1], ones, right);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            uint32_t four;
            memcpy(&four, a[r] + k, 4);
            __m512i x = _mm512_set1_epi32((int)(four ^ 0x80808080u)); /* + 128, byte by byte */
            total[r][0] = _mm512_dpbusd_epi32(total[r][0], x, left);
            total[r][1] = _mm512_dpbusd_epi32(total[r][1], x, right);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int half = 0; half < 2; half++)
            _mm512_storeu_si512(sum[r] + LANES * half, _mm512_sub_epi32(total[r][half], bias[half]));
}

/* The same text, as vectors. */
__attribute__((target("avx512f,avx512dq,avx512vl"))) static void add_block_vnni(
    const int32_t *sum, int row_below, const int32_t *below, int64_t *total) {
    add_block(sum, row_below, below, total);
}
#endif

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static double power_of_two(int exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

typedef struct {
    int64_t rows, columns, depth, block;
    const int8_t *a;
    const int32_t *a_below, *a_most; /* of each row and block; of each row */
    const int8_t *b;
    const int32_t *b_below, *b_most;
    float *c;
} Product;

/* A block of COLUMNS columns as `Tile` reads it. */
static void pack(const Product *p, int64_t j0, int64_t k0, int64_t deep, int8_t *panel) {
    for (int64_t c = 0; c < COLUMNS; c++) {
        int64_t there = j0 + c < p->columns ? smaller(deep, p->depth - k0) : 0, k = 0;
        const int8_t *from = p->b + (j0 + c) * p->depth + k0;
        for (; k + 4 <= there; k += 4) memcpy(panel + k * COLUMNS + 4 * c, from + k, 4);
        for (; k < deep; k++) panel[k / 4 * 4 * COLUMNS + 4 * c + k % 4] = k < there ? from[k] : 0;
    }
}

static int product(const Product *p, Tile tile, AddBlock add) {
    int64_t blocks = (p->depth + p->block - 1) / p->block, deep_max = (smaller(p->block, p->depth) + 3) / 4 * 4;
    int64_t padded = (p->rows + ROWS - 1) / ROWS * ROWS;
    int8_t *panel = malloc((size_t)(deep_max * (COLUMNS + ROWS)) + 1), *edge = panel + deep_max * COLUMNS;
    int64_t *total = malloc((size_t)(padded * COLUMNS + 1) * sizeof(int64_t));
    if (panel == NULL || total == NULL) {
        free(panel), free(total);
        return NO_MEMORY;
    }
    for (int64_t j0 = 0; j0 < p->columns; j0 += COLUMNS) {
        int64_t wide = smaller(COLUMNS, p->columns - j0);
        memset(total, 0, (size_t)(padded * COLUMNS) * sizeof(int64_t));
        for (int64_t n = 0; n < blocks; n++) {
            int64_t k0 = n * p->block, there = smaller(p->block, p->depth - k0), deep = (there + 3) / 4 * 4;
            int32_t below[COLUMNS] = {0}, sum[ROWS][COLUMNS];
            for (int64_t c = 0; c < wide; c++) below[c] = p->b_below[(j0 + c) * blocks + n];
            pack(p, j0, k0, deep, panel);
            for (int64_t i = 0; i < p->rows; i += ROWS) {
                const int8_t *a[ROWS];
                for (int64_t r = 0; r < ROWS; r++) {
                    a[r] = p->a + smaller(i + r, p->rows - 1) * p->depth + k0;
                    if (there < deep) { /* whole fours, and nothing behind the end of the matrix */
                        memset(edge + r * deep, 0, (size_t)deep);
                        a[r] = memcpy(edge + r * deep, a[r], (size_t)there);
                    }
                }
                tile(deep, a, panel, sum);
                for (int64_t r = 0; r < smaller(ROWS, p->rows - i); r++)
                    add(sum[r], p->a_below[(i + r) * blocks + n], below, total + (i + r) * COLUMNS);
            }
        }
        for (int64_t i = 0; i < p->rows; i++)
            for (int64_t c = 0; c < wide; c++)
                p->c[i * p->columns + j0 + c] = (float)((double)total[i * COLUMNS + c] *
                                                        power_of_two(p->a_most[i] + p->b_most[j0 + c] - UNIT_BITS));
    }
    free(panel), free(total);
    return OK;
}

EXPORT int int8_version(void) { return VERSION; }

/* Bit i is set when instruction set i was built and this CPU has it. */
EXPORT int int8_supported(void) {
    int found = 1 << PORTABLE;
#if defined(HAS_VNNI)
    if (cpu_features() & CPU_VNNI) found |= 1 << VNNI;
#endif
    return found;
}

/* n: rows, columns, depth, block. The columns of b lie one after another. */
EXPORT int int8_product(int isa, const int64_t *n, const int8_t *a, const int32_t *a_below,
                        const int32_t *a_most, const int8_t *b, const int32_t *b_below, const int32_t *b_most,
                        float *c) {
    Product p = {n[0], n[1], n[2], n[3], a, a_below, a_most, b, b_below, b_most, c};
    if (isa == PORTABLE) return product(&p, tile_portable, add_block);
#if defined(HAS_VNNI)
    if (isa == VNNI) return product(&p, tile_vnni, add_block_vnni);
#endif
    return NO_SUCH_ISA;
}

/* Some linkers insist on the entry point that a Python module would have; nobody imports this as one. */
EXPORT void *PyInit__int8(void) { return NULL; }
