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

/* --- matmul --- */

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

/* --- attention --- */

/* Row t of the causal weights: softmax of scale x scores over the first `reach` of `keys` positions. */
static void NAME(weigh)(float *row, int64_t reach, int64_t keys, float scale, float *buffer) {
    int finite = NAME(all_finite)(row, reach);
    for (int64_t s = 0; s < reach; s++) row[s] = row[s] * scale;
    float peak = NAME(largest)(row, reach);
    for (int64_t s = 0; s < reach; s++) row[s] = NAME(exp_of)(row[s] - peak);
    for (int64_t s = reach; s < keys; s++) row[s] = 0.0f;
    float total = NAME(tree_sum)(row, keys, NAME(half_tree)(keys), buffer);
    if (!finite) total = NAN;
    for (int64_t s = 0; s < reach; s++) row[s] = row[s] / total;
}

static Heads NAME(heads)(const int64_t *n, float scale) {
    Heads h = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8],
               n[9], n[10], n[11], n[12], n[13], n[14], scale};
    return h;
}

static void NAME(weights_of_head)(const Heads *h, const float *q, const float *k, float *weights,
                                  float *buffer) {
    int64_t offset = h->keys - h->times;
    Product scores = {h->times, h->keys, h->width, q, h->q_time, 1, k, 1, h->k_time,
                      weights, h->keys, LOWER, offset};
    NAME(product)(&scores);
    for (int64_t t = 0; t < h->times; t++)
        NAME(weigh)(weights + t * h->keys, t + offset + 1, h->keys, h->scale, buffer);
}

/* -0 becomes +0: leaving out the masked terms, whose product is a zero of either sign, changes nothing. */
static void NAME(plus_zero)(int64_t rows, int64_t width, float *x, int64_t x_row) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t e = 0; e < width; e++) x[i * x_row + e] = x[i * x_row + e] + 0.0f;
}

static int NAME(attention)(const int64_t *n, float scale, const float *q, const float *k, const float *v,
                           float *out) {
    Heads h = NAME(heads)(n, scale);
    int64_t copies = h.heads / h.groups, stride = h.heads * h.width;
    float *weights = malloc((size_t)(h.times * h.keys + h.keys + 1) * sizeof(float));
    if (weights == NULL) return NO_MEMORY;
    for (int64_t b = 0; b < h.batch; b++)
        for (int64_t head = 0; head < h.heads; head++) {
            int64_t group = head / copies;
            float *mixed = out + b * h.times * stride + head * h.width;
            NAME(weights_of_head)(&h, q + b * h.q_batch + head * h.q_head,
                                  k + b * h.k_batch + group * h.k_head, weights,
                                  weights + h.times * h.keys);
            Product mix = {h.times, h.width, h.keys, weights, h.keys, 1,
                           v + b * h.v_batch + group * h.v_head, h.v_time, 1,
                           mixed, stride, UPTO_DIAGONAL, h.keys - h.times};
            NAME(product)(&mix);
            NAME(plus_zero)(h.times, h.width, mixed, stride);
        }
    free(weights);
    return OK;
}

/* slope <- (weights x slope - weights x total) x scale, masked positions 0. */
static void NAME(softmax_backward)(const Heads *h, const float *weights, float *slope, float *buffer) {
    int64_t offset = h->keys - h->times;
    for (int64_t t = 0; t < h->times; t++) {
        const float *w = weights + t * h->keys;
        float *s = slope + t * h->keys;
        int64_t reach = t + offset + 1;
        LANEWISE
        for (int64_t i = 0; i < reach; i++) s[i] = w[i] * s[i];
        for (int64_t i = reach; i < h->keys; i++) s[i] = 0.0f;
        float total = NAME(tree_sum)(s, h->keys, NAME(half_tree)(h->keys), buffer);
        LANEWISE
        for (int64_t i = 0; i < reach; i++) s[i] = (s[i] - w[i] * total) * h->scale;
    }
}

/* The copies of a group lie behind each other; out (rows strided) gets their tree sum. */
static void NAME(sum_copies)(int64_t copies, int64_t keys, int64_t width, float *parts, float *out,
                             int64_t out_row) {
    int64_t size = keys * width;
    for (int64_t p = power_of_two_at_least(copies) / 2; p >= 1; p /= 2)
        for (int64_t copy = 0; copy < p; copy++) {
            float *to = parts + copy * size;
            const float *from = parts + (copy + p) * size;
            if (copy + p < copies) {
                LANEWISE
                for (int64_t i = 0; i < size; i++) to[i] = to[i] + from[i];
            }
        }
    for (int64_t s = 0; s < keys; s++)
        memcpy(out + s * out_row, parts + s * width, (size_t)width * sizeof(float));
}

static int NAME(attention_backward)(const int64_t *n, float scale, const float *grad, const float *q,
                                    const float *k, const float *v, float *grad_q, float *grad_k,
                                    float *grad_v) {
    Heads h = NAME(heads)(n, scale);
    int64_t copies = h.heads / h.groups, offset = h.keys - h.times, size = h.keys * h.width;
    int64_t q_row = h.heads * h.width, k_row = h.groups * h.width, square = h.times * h.keys;
    float *weights = malloc((size_t)(2 * square + h.keys + 1 + 2 * copies * size) * sizeof(float));
    if (weights == NULL) return NO_MEMORY;
    float *slope = weights + square, *parts_k = slope + square, *parts_v = parts_k + copies * size;
    float *buffer = parts_v + copies * size;
    for (int64_t b = 0; b < h.batch; b++)
        for (int64_t group = 0; group < h.groups; group++) {
            const float *kg = k + b * h.k_batch + group * h.k_head;
            const float *vg = v + b * h.v_batch + group * h.v_head;
            for (int64_t copy = 0; copy < copies; copy++) {
                int64_t head = group * copies + copy;
                const float *qh = q + b * h.q_batch + head * h.q_head;
                const float *gh = grad + b * h.times * q_row + head * h.width;
                float *gq = grad_q + b * h.times * q_row + head * h.width;
                NAME(weights_of_head)(&h, qh, kg, weights, buffer);
                Product to_v = {h.keys, h.width, h.times, weights, 1, h.keys, gh, q_row, 1,
                                parts_v + copy * size, h.width, FROM_DIAGONAL, offset};
                NAME(product)(&to_v);
                Product to_slope = {h.times, h.keys, h.width, gh, q_row, 1, vg, 1, h.v_time,
                                    slope, h.keys, LOWER, offset};
                NAME(product)(&to_slope);
                NAME(softmax_backward)(&h, weights, slope, buffer);
                Product to_q = {h.times, h.width, h.keys, slope, h.keys, 1, kg, h.k_time, 1,
                                gq, q_row, UPTO_DIAGONAL, offset};
                NAME(product)(&to_q);
                NAME(plus_zero)(h.times, h.width, gq, q_row);
                Product to_k = {h.keys, h.width, h.times, slope, 1, h.keys, qh, h.q_time, 1,
                                parts_k + copy * size, h.width, FROM_DIAGONAL, offset};
                NAME(product)(&to_k);
            }
            NAME(plus_zero)(1, 2 * copies * size, parts_k, 0);
            NAME(sum_copies)(copies, h.keys, h.width, parts_k,
                             grad_k + b * h.keys * k_row + group * h.width, k_row);
            NAME(sum_copies)(copies, h.keys, h.width, parts_v,
                             grad_v + b * h.keys * k_row + group * h.width, k_row);
        }
    free(weights);
    return OK;
}

/* --- element by element --- */

static int NAME(swiglu)(int64_t n, const float *gate, const float *up, float *out) {
    LANEWISE
    for (int64_t i = 0; i < n; i++) {
        float share = 1.0f / (1.0f + NAME(exp_of)(-gate[i]));
        out[i] = (gate[i] * share) * up[i];
    }
    return OK;
}

static int NAME(swiglu_backward)(int64_t n, const float *grad, const float *gate, const float *up,
                                 float *grad_gate, float *grad_up) {
    LANEWISE
    for (int64_t i = 0; i < n; i++) {
        float share = 1.0f / (1.0f + NAME(exp_of)(-gate[i]));
        float bend = 1.0f + gate[i] * (1.0f - share);
        grad_gate[i] = (grad[i] * up[i]) * (share * bend);
        grad_up[i] = grad[i] * (gate[i] * share);
    }
    return OK;
}

static int NAME(rotate)(int64_t rows, int64_t times, int64_t heads, int64_t width, int64_t x_row,
                        const float *x, const float *cosine, const float *sine, float *out) {
    int64_t half = width / 2;
    for (int64_t row = 0; row < rows; row++) {
        const float *c = cosine + row % times * width, *s = sine + row % times * width;
        for (int64_t head = 0; head < heads; head++) {
            const float *from = x + row * x_row + head * width;
            float *to = out + (row * heads + head) * width;
            LANEWISE
            for (int64_t e = 0; e < half; e++) {
                float left = from[e], right = from[e + half];
                to[e] = left * c[e] - right * s[e];
                to[e + half] = right * c[e + half] + left * s[e + half];
            }
        }
    }
    return OK;
}

static int NAME(adamw)(int64_t n, const float *scalars, float *params, float *m, float *v,
                       const float *grad) {
    float rate = scalars[0], keep1 = scalars[1], new1 = scalars[2], keep2 = scalars[3];
    float new2 = scalars[4], eps = scalars[5], correction1 = scalars[6], correction2 = scalars[7];
    LANEWISE
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i];
        float m_i = m[i] * keep1 + g * new1;
        float v_i = v[i] * keep2 + (g * g) * new2;
        float below = sqrtf(v_i * correction2) + eps;
        m[i] = m_i;
        v[i] = v_i;
        params[i] = params[i] - (m_i * correction1 / below) * rate;
    }
    return OK;
}

/* --- sums over rows --- */

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

static int NAME(rms_norm)(int64_t rows, int64_t width, float eps, const float *x, const float *weight,
                          float *out, float *scale) {
    int64_t half = NAME(half_tree)(width);
    float *squares = malloc((size_t)(width + half + 1) * sizeof(float)), *buffer = squares + width;
    if (squares == NULL) return NO_MEMORY;
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * width;
        float *to = out + row * width;
        LANEWISE
        for (int64_t i = 0; i < width; i++) squares[i] = from[i] * from[i];
        float mean = NAME(tree_sum)(squares, width, half, buffer) / (float)width;
        float s = 1.0f / sqrtf(mean + eps);
        LANEWISE
        for (int64_t i = 0; i < width; i++) to[i] = (from[i] * s) * weight[i];
        scale[row] = s;
    }
    free(squares);
    return OK;
}

typedef struct {
    int64_t width;
    const float *grad, *x, *scale;
} NAME(Pull);

static void NAME(pull)(const void *of, int64_t row, float *to) {
    const NAME(Pull) *p = of;
    const float *grad = p->grad + row * p->width, *x = p->x + row * p->width;
    float s = p->scale[row];
    LANEWISE
    for (int64_t i = 0; i < p->width; i++) to[i] = grad[i] * (x[i] * s);
}

static int NAME(rms_norm_backward)(int64_t rows, int64_t width, const float *grad, const float *x,
                                   const float *scale, const float *weight, float *grad_x,
                                   float *grad_weight) {
    int64_t half = NAME(half_tree)(width), levels = 2;
    while ((int64_t)1 << levels < 4 * rows) levels++;
    size_t size = (size_t)larger(levels * width, width + half + 1);
    float *scratch = malloc(size * sizeof(float)), *buffer = scratch + width;
    if (scratch == NULL) return NO_MEMORY;
    for (int64_t row = 0; row < rows; row++) {
        const float *g = grad + row * width, *from = x + row * width;
        float *to = grad_x + row * width, s = scale[row];
        LANEWISE
        for (int64_t i = 0; i < width; i++) scratch[i] = (g[i] * (from[i] * s)) * weight[i];
        float mean = NAME(tree_sum)(scratch, width, half, buffer) / (float)width;
        LANEWISE
        for (int64_t i = 0; i < width; i++) to[i] = (g[i] * weight[i] - (from[i] * s) * mean) * s;
    }
    NAME(Pull) of = {width, grad, x, scale};
    NAME(rows_tree)(NAME(pull), &of, 0, 1, power_of_two_at_least(rows), rows, width, grad_weight, scratch);
    free(scratch);
    return OK;
}

enum { NAME(SQUARES_WIDTH) = 1024 };

typedef struct {
    int64_t n;
    const float *x;
} NAME(Flat);

static void NAME(squares)(const void *of, int64_t row, float *to) {
    const NAME(Flat) *flat = of;
    const float *x = flat->x + row * NAME(SQUARES_WIDTH);
    int64_t there = smaller(flat->n - row * NAME(SQUARES_WIDTH), NAME(SQUARES_WIDTH));
    for (int64_t i = 0; i < there; i++) to[i] = x[i] * x[i];
    for (int64_t i = there; i < NAME(SQUARES_WIDTH); i++) to[i] = 0.0f;
}

static int NAME(sum_of_squares)(int64_t n, const float *x, float *total) {
    enum { WIDTH = NAME(SQUARES_WIDTH) };
    NAME(Flat) of = {n, x};
    int64_t rows = (n + WIDTH - 1) / WIDTH, levels = 2;
    while ((int64_t)1 << levels < 4 * rows) levels++;
    float *scratch = malloc((size_t)((levels + 1) * WIDTH) * sizeof(float));
    if (scratch == NULL) return NO_MEMORY;
    NAME(rows_tree)(NAME(squares), &of, 0, 1, power_of_two_at_least(rows), rows, WIDTH, scratch,
                    scratch + WIDTH);
    int64_t padded = smaller(power_of_two_at_least(n), WIDTH);
    *total = NAME(tree_sum)(scratch, padded, padded / 2, scratch);
    free(scratch);
    return OK;
}

/* --- tables and labels --- */

/* Row v of out is the sum of the rows of grad whose token is v, in 64-bit fixed point: exact in any order.
 * An element past GRADIENT_MAX, or not finite, makes its row NaN. */
static int NAME(gather_rows)(int64_t rows, int64_t width, int64_t vocabulary, const float *grad,
                             const int64_t *tokens, float *out) {
    int64_t *first = malloc((size_t)(vocabulary + rows + width) * sizeof(int64_t));
    if (first == NULL) return NO_MEMORY;
    int64_t *next = first + vocabulary;
    uint64_t *sum = (uint64_t *)(next + rows); /* unsigned: overflow wraps, as int64 tensors do */
    for (int64_t v = 0; v < vocabulary; v++) first[v] = -1;
    for (int64_t i = 0; i < rows; i++) {
        next[i] = first[tokens[i]];
        first[tokens[i]] = i;
    }
    for (int64_t v = 0; v < vocabulary; v++) {
        float *to = out + v * width;
        int bad = 0;
        memset(sum, 0, (size_t)width * sizeof(uint64_t));
        for (int64_t i = first[v]; i >= 0; i = next[i])
            for (int64_t e = 0; e < width; e++) {
                float g = grad[i * width + e];
                int fits = g >= -GRADIENT_MAX && g <= GRADIENT_MAX;
                bad |= !fits;
                sum[e] += (uint64_t)llrint((fits ? (double)g : 0.0) * FIXED_POINT);
            }
        for (int64_t e = 0; e < width; e++)
            to[e] = bad ? NAN : (float)((double)(int64_t)sum[e] * (1.0 / FIXED_POINT));
    }
    free(first);
    return OK;
}

/* shares <- softmax(logits); loss <- log(sum) - (logit of the label - peak). Not finite: the row is NaN. */
static int NAME(cross_entropy)(int64_t rows, int64_t width, const float *logits, const int64_t *labels,
                               float *loss, float *shares) {
    int64_t half = NAME(half_tree)(width);
    float *buffer = malloc((size_t)(half + 1) * sizeof(float));
    if (buffer == NULL) return NO_MEMORY;
    for (int64_t row = 0; row < rows; row++) {
        const float *z = logits + row * width;
        float *p = shares + row * width, peak = NAME(largest)(z, width);
        LANEWISE
        for (int64_t i = 0; i < width; i++) p[i] = NAME(exp_of)(z[i] - peak);
        float total = NAME(tree_sum)(p, width, half, buffer);
        loss[row] = (float)log_of((double)total) - (z[labels[row]] - peak);
        if (!NAME(all_finite)(z, width)) loss[row] = total = NAN;
        LANEWISE
        for (int64_t i = 0; i < width; i++) p[i] = p[i] / total;
    }
    free(buffer);
    return OK;
}

static int NAME(cross_entropy_backward)(int64_t rows, int64_t width, float factor, const float *shares,
                                        const int64_t *labels, float *grad) {
    for (int64_t row = 0; row < rows; row++) {
        const float *p = shares + row * width;
        float *g = grad + row * width;
        LANEWISE
        for (int64_t i = 0; i < width; i++) g[i] = p[i] * factor;
        g[labels[row]] = (p[labels[row]] - 1.0f) * factor;
    }
    return OK;
}

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
