/* Products of matrices for one instruction set: packed panels, tiles in registers, k ascending. */

static void NAME(pack_panels)(int64_t depth, int64_t columns, const float *b, int64_t b_depth,
                              int64_t b_column, float *to) {
    for (int64_t j = 0; j < columns; j += NR, to += depth * NR) {
        int64_t width = smaller(NR, columns - j);
        const float *from = b + j * b_column;
        if (width < NR) memset(to, 0, (size_t)(depth * NR) * sizeof(float));
        if (b_column == 1 && width == NR) {
            for (int64_t k = 0; k < depth; k++)
                for (int64_t t = 0; t < NR; t++) to[k * NR + t] = from[k * b_depth + t];
            continue;
        }
        int64_t t = 0;
#if defined(HAS_X86)
        if (b_depth == 1) {
            for (; t + 4 <= width; t += 4) {
                const float *f = from + t * b_column;
                int64_t k = 0;
                for (; k + 4 <= depth; k += 4) {
                    __m128 r0 = _mm_loadu_ps(f + k), r1 = _mm_loadu_ps(f + b_column + k);
                    __m128 r2 = _mm_loadu_ps(f + 2 * b_column + k), r3 = _mm_loadu_ps(f + 3 * b_column + k);
                    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
                    _mm_storeu_ps(to + k * NR + t, r0);
                    _mm_storeu_ps(to + (k + 1) * NR + t, r1);
                    _mm_storeu_ps(to + (k + 2) * NR + t, r2);
                    _mm_storeu_ps(to + (k + 3) * NR + t, r3);
                }
                for (; k < depth; k++)
                    for (int s = 0; s < 4; s++) to[k * NR + t + s] = f[s * b_column + k];
            }
        }
#endif
        for (; t < width; t++)
            for (int64_t k = 0; k < depth; k++) to[k * NR + t] = from[k * b_depth + t * b_column];
    }
}

/* MR rows of c over one panel; a_depth is the distance between two values of one row of a. */
static void NAME(tile)(int64_t depth, const float *const *a, int64_t a_depth, const float *b, float *c,
                       int64_t c_row, int first) {
    V sum[MR][NV];
    if (first) {
        UNROLL for (int r = 0; r < MR; r++)
            UNROLL for (int s = 0; s < NV; s++) sum[r][s] = V_FILL(0.0f);
    } else {
        UNROLL for (int r = 0; r < MR; r++)
            UNROLL for (int s = 0; s < NV; s++) sum[r][s] = V_LOAD(c + r * c_row + s * VL);
    }
    for (int64_t k = 0, at = 0; k < depth; k++, at += a_depth, b += NR) {
        V row[NV];
        UNROLL for (int s = 0; s < NV; s++) row[s] = V_LOAD(b + s * VL);
        UNROLL for (int r = 0; r < MR; r++) {
            V x = V_FILL(a[r][at]);
            UNROLL for (int s = 0; s < NV; s++) sum[r][s] = V_FMA(x, row[s], sum[r][s]);
        }
    }
    UNROLL for (int r = 0; r < MR; r++)
        UNROLL for (int s = 0; s < NV; s++) V_STORE(c + r * c_row + s * VL, sum[r][s]);
}

/* One block of rows over all packed panels of one block of columns and depth. */
static void NAME(rows_block)(const Product *p, int64_t i0, int64_t rows, int64_t j0, int64_t columns,
                             int64_t k0, int64_t depth) {
    int packed = p->a_depth != 1;
    float edge[MR_MAX * NR_MAX];
    if (packed)
        for (int64_t i = 0; i < rows; i += MR) {
            const float *from = p->a + (i0 + i) * p->a_row + k0 * p->a_depth;
            float *to = pack_a + i * depth;
            int64_t high = smaller(MR, rows - i);
            if (high == MR && p->a_row == 1) {
                for (int64_t k = 0; k < depth; k++)
                    for (int64_t r = 0; r < MR; r++) to[k * MR + r] = from[k * p->a_depth + r];
                continue;
            }
            for (int64_t k = 0; k < depth; k++)
                for (int64_t r = 0; r < MR; r++)
                    to[k * MR + r] = r < high ? from[k * p->a_depth + r * p->a_row] : 0.0f;
        }
    for (int64_t j = 0; j < columns; j += NR) {
        int64_t width = smaller(NR, columns - j);
        const float *panel = pack_b + j * depth;
        for (int64_t i = 0; i < rows; i += MR) {
            int64_t high = smaller(MR, rows - i), last = i0 + i + high - 1, from = 0, upto = depth;
            if (p->shape == LOWER && j0 + j > last + p->offset) continue;
            if (p->shape == UPTO_DIAGONAL) upto = smaller(depth, last + p->offset + 1 - k0);
            if (p->shape == FROM_DIAGONAL) from = larger(0, i0 + i - p->offset - k0);
            if (from >= upto) {
                if (k0 != 0) continue;
                from = upto = 0;
            }
            const float *a[MR];
            for (int r = 0; r < MR; r++) /* rows past the edge repeat the first and are thrown away */
                a[r] = packed ? pack_a + i * depth + r + from * MR
                              : p->a + (i0 + i + (r < high ? r : 0)) * p->a_row + k0 + from;
            float *c = p->c + (i0 + i) * p->c_row + j0 + j;
            int64_t a_depth = packed ? MR : 1;
            if (high == MR && width == NR) {
                NAME(tile)(upto - from, a, a_depth, panel + from * NR, c, p->c_row, k0 == 0);
                continue;
            }
            if (k0 != 0)
                for (int64_t r = 0; r < high; r++)
                    for (int64_t t = 0; t < width; t++) edge[r * NR + t] = c[r * p->c_row + t];
            NAME(tile)(upto - from, a, a_depth, panel + from * NR, edge, NR, k0 == 0);
            for (int64_t r = 0; r < high; r++)
                for (int64_t t = 0; t < width; t++) c[r * p->c_row + t] = edge[r * NR + t];
        }
    }
}

static void NAME(product)(const Product *p) {
    for (int64_t j = 0; j < p->columns; j += NC) {
        int64_t columns = smaller(NC, p->columns - j);
        for (int64_t k = 0; k < p->depth; k += KC) {
            int64_t depth = smaller(KC, p->depth - k);
            NAME(pack_panels)(depth, columns, p->b + k * p->b_depth + j * p->b_column, p->b_depth,
                              p->b_column, pack_b);
            for (int64_t i = 0; i < p->rows; i += MC / MR * MR)
                NAME(rows_block)(p, i, smaller(MC / MR * MR, p->rows - i), j, columns, k, depth);
        }
    }
    if (p->depth == 0)
        for (int64_t i = 0; i < p->rows; i++)
            memset(p->c + i * p->c_row, 0, (size_t)p->columns * sizeof(float));
}

static int NAME(matmul)(const int64_t *n, const float *a, const float *b, float *c) {
    for (int64_t outer = 0; outer < n[0]; outer++)
        for (int64_t inner = 0; inner < n[1]; inner++) {
            Product p = {n[2], n[3], n[4],
                         a + outer * n[5] + inner * n[6], n[7], n[8],
                         b + outer * n[9] + inner * n[10], n[11], n[12],
                         c + outer * n[13] + inner * n[14], n[15], WHOLE, 0};
            NAME(product)(&p);
        }
    return OK;
}

/* --- the gradient of a weight: a tree over products of GRADIENT_ROWS rows each --- */

typedef struct {
    int64_t rows, outputs, inputs;
    const float *grad, *x;
} NAME(Chunks);

static void NAME(chunk)(const void *of, int64_t chunk, float *to) {
    const NAME(Chunks) *all = of;
    int64_t first = chunk * GRADIENT_ROWS, rows = smaller(GRADIENT_ROWS, all->rows - first);
    Product p = {all->outputs, all->inputs, rows, all->grad + first * all->outputs, 1, all->outputs,
                 all->x + first * all->inputs, all->inputs, 1, to, all->inputs, WHOLE, 0};
    NAME(product)(&p);
}

static int NAME(weight_gradient)(int64_t rows, int64_t outputs, int64_t inputs, const float *grad,
                                 const float *x, float *out) {
    int64_t chunks = (rows + GRADIENT_ROWS - 1) / GRADIENT_ROWS, levels = 0;
    while ((int64_t)1 << levels < chunks) levels++;
    float *scratch = malloc((size_t)(levels * outputs * inputs + 1) * sizeof(float));
    if (scratch == NULL) return NO_MEMORY;
    NAME(Chunks) of = {rows, outputs, inputs, grad, x};
    NAME(rows_tree)(NAME(chunk), &of, 0, 1, (int64_t)1 << levels, chunks, outputs * inputs, out, scratch);
    free(scratch);
    return OK;
}

/* --- Muon: the nearest orthogonal matrix, nearly, by steps of Newton and Schulz --- */

/* to = from^T, in squares that stay in the first-level cache. */
static void NAME(transposed)(int64_t rows, int64_t columns, const float *from, float *to) {
    enum { SIDE = 32 };
    for (int64_t i0 = 0; i0 < rows; i0 += SIDE)
        for (int64_t j0 = 0; j0 < columns; j0 += SIDE)
            for (int64_t i = i0; i < smaller(i0 + SIDE, rows); i++)
                for (int64_t j = j0; j < smaller(j0 + SIDE, columns); j++)
                    to[j * rows + i] = from[i * columns + j];
}

/* c = a b where the product is symmetric: what lies above the diagonal is copied from below it. */
static void NAME(symmetric)(int64_t side, int64_t depth, const float *a, const float *b, int64_t b_depth,
                            int64_t b_column, float *c) {
    enum { SIDE = 32 };
    Product p = {side, side, depth, a, depth, 1, b, b_depth, b_column, c, side, LOWER, 0};
    NAME(product)(&p);
    for (int64_t i0 = 0; i0 < side; i0 += SIDE)
        for (int64_t j0 = 0; j0 <= i0; j0 += SIDE)
            for (int64_t i = i0; i < smaller(i0 + SIDE, side); i++)
                for (int64_t j = j0; j < smaller(j0 + SIDE, i); j++) c[j * side + i] = c[i * side + j];
}

static int NAME(sum_of_squares)(int64_t n, const float *x, float *total);

/* numbers: the coefficients a, b, c of a step, and what keeps a matrix of zeros finite. A step is
 * X = B X with B = a I + b G + c G^2 and G = X X^T. All B are polynomials of the first G and commute, so
 * only G and the product q of all B are carried along, on the short side; X is multiplied once. */
static int NAME(orthogonal)(int64_t rows, int64_t columns, int64_t steps, const float *numbers,
                            const float *x, float *out) {
    int64_t side = smaller(rows, columns), depth = larger(rows, columns), count = rows * columns;
    int64_t square = side * side;
    float total, *scratch = malloc((size_t)(2 * count + 5 * square + 1) * sizeof(float));
    if (scratch == NULL || NAME(sum_of_squares)(count, x, &total) != OK) {
        free(scratch);
        return NO_MEMORY;
    }
    float *wide = scratch, *last = wide + count, *g = last + count, *bend = g + square;
    float *q = bend + square, *spare = q + square, *turned = spare + square;
    float a = numbers[0], b = numbers[1], c = numbers[2], scale = 1.0f / (sqrtf(total) + numbers[3]);
    if (rows > columns)
        NAME(transposed)(rows, columns, x, wide);
    else
        memcpy(wide, x, (size_t)count * sizeof(float));
    LANEWISE
    for (int64_t i = 0; i < count; i++) wide[i] = wide[i] * scale;
    NAME(symmetric)(side, depth, wide, wide, 1, depth, g);
    for (int64_t step = 0; step < steps; step++) {
        NAME(symmetric)(side, side, g, g, side, 1, bend);
        LANEWISE
        for (int64_t i = 0; i < square; i++) bend[i] = g[i] * b + bend[i] * c;
        for (int64_t i = 0; i < side; i++) bend[i * side + i] = bend[i * side + i] + a;
        if (step == 0) {
            memcpy(q, bend, (size_t)square * sizeof(float));
        } else {
            NAME(symmetric)(side, side, bend, q, side, 1, spare);
            float *old = q;
            q = spare, spare = old;
        }
        if (step + 1 < steps) {
            NAME(symmetric)(side, side, bend, g, side, 1, turned);
            NAME(symmetric)(side, side, turned, bend, side, 1, g);
        }
    }
    Product p = {side, depth, side, q, side, 1, wide, depth, 1, last, depth, WHOLE, 0};
    if (rows <= columns) p.c = out;
    NAME(product)(&p);
    if (rows > columns) NAME(transposed)(columns, rows, last, out);
    free(scratch);
    return OK;
}
