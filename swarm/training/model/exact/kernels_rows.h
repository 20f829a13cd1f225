/* Everything that is no product, for one instruction set: element by element, and sums over rows. */

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

/* --- the sum of a step's gradients, in units of 2^-44 --- */

/* Nothing is added unless every value fits: one that is not finite, or past GRADIENT_MAX, does not. */
static int NAME(add_units)(int64_t n, const float *grad, int64_t *sum, int *fits) {
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= !(grad[i] >= -GRADIENT_MAX && grad[i] <= GRADIENT_MAX);
    *fits = !bad;
    if (bad) return OK;
    LANEWISE
    for (int64_t i = 0; i < n; i++) sum[i] += (int64_t)llrint((double)grad[i] * FIXED_POINT);
    return OK;
}

static int NAME(mean_units)(int64_t n, double count, const int64_t *sum, float *mean) {
    LANEWISE
    for (int64_t i = 0; i < n; i++) mean[i] = (float)((double)sum[i] * (1.0 / FIXED_POINT) / count);
    return OK;
}
