/* Causal attention for one instruction set, one head at a time: its weights stay in a core's cache. */

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
