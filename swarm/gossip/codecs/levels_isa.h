/* The functions of levels.c for one instruction set; loops over whole blocks, so that they become vectors. */

/* One block: the peak, the levels, and the rest. Values behind the last one are zeros. */
static inline uint16_t NAME(encode_block)(const float *delta, float most, int8_t *levels, float *left) {
    uint32_t peak = 0;
    for (int i = 0; i < BLOCK; i++) {
        /* As whole numbers the bits of magnitudes have the order of the magnitudes, and what is no number is largest. */
        uint32_t bits = bits_of(delta[i]) & 0x7fffffffu;
        peak = bits > peak ? bits : peak;
    }
    uint16_t half = half_of(peak);
    float step = float_of_half(half) / most;
    float divisor = step > 0.0f ? step : 1.0f; /* a block of zeros: any divisor gives level 0 */
    for (int i = 0; i < BLOCK; i++) {
        float level = delta[i] / divisor;
        level = level > most ? most : level;
        level = level < -most ? -most : level;
        /* Of 1.5 x 2^23 and a small number the sum is rounded to a whole one, which its lowest byte holds. */
        levels[i] = (int8_t)(bits_of(level + 12582912.0f) & 0xffu);
    }
    if (left)
        for (int i = 0; i < BLOCK; i++) {
            float said = (float)levels[i] * step;
            left[i] = delta[i] - said;
        }
    return half;
}

static int NAME(encode)(int64_t n, int most, const float *theta, const float *anchor, const float *residual,
                        uint16_t *peaks, int8_t *levels, float *left) {
    float delta[BLOCK], rest[BLOCK];
    int8_t short_levels[BLOCK];
    int64_t at = 0, block = 0;
    for (; at + BLOCK <= n; at += BLOCK, block++) {
        for (int i = 0; i < BLOCK; i++) delta[i] = theta[at + i] - anchor[at + i];
        if (residual)
            for (int i = 0; i < BLOCK; i++) delta[i] = delta[i] + residual[at + i];
        peaks[block] = NAME(encode_block)(delta, (float)most, levels + at, left ? left + at : NULL);
    }
    if (at < n) {
        int64_t count = n - at;
        for (int i = 0; i < BLOCK; i++) {
            delta[i] = i < count ? theta[at + i] - anchor[at + i] : 0.0f;
            if (residual && i < count) delta[i] = delta[i] + residual[at + i];
        }
        peaks[block] = NAME(encode_block)(delta, (float)most, short_levels, left ? rest : NULL);
        memcpy(levels + at, short_levels, (size_t)count);
        if (left) memcpy(left + at, rest, (size_t)count * sizeof *rest);
    }
    return 0;
}

static int NAME(decode)(int64_t n, int most, const float *steps, const int8_t *levels, const float *anchor,
                        float *values) {
    uint32_t largest = 0;
    int lowest = 0;
    for (int64_t at = 0, block = 0; at < n; at += BLOCK, block++) {
        float step = steps[block];
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        const int8_t *level = levels + at;
        const float *base = anchor + at;
        float *value = values + at;
        uint32_t top = 0;
        int8_t low = 0;
        if (count == BLOCK) {
            for (int i = 0; i < BLOCK; i++) {
                float difference = (float)level[i] * step;
                value[i] = difference + base[i];
            }
            for (int i = 0; i < BLOCK; i++) {
                uint32_t bits = bits_of(value[i]) & 0x7fffffffu;
                top = bits > top ? bits : top;
            }
            for (int i = 0; i < BLOCK; i++) low = level[i] < low ? level[i] : low;
        } else {
            for (int i = 0; i < count; i++) {
                float difference = (float)level[i] * step;
                value[i] = difference + base[i];
                uint32_t bits = bits_of(value[i]) & 0x7fffffffu;
                top = bits > top ? bits : top;
                low = level[i] < low ? level[i] : low;
            }
        }
        largest = top > largest ? top : largest;
        lowest = low < lowest ? low : lowest;
    }
    return (lowest < -most ? TOO_LOW : 0) | (largest >= 0x7f800000u ? NOT_FINITE : 0);
}
