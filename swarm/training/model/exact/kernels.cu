/* Kernels of the numerics profile seq-f32/1 for CUDA: the same bits as reference.py.
 *
 * The two rules of kernels.c hold here as well.
 *   1. A product of matrices is, for each element, acc = fma(a[i,k], b[k,j], acc) for k ascending from acc = 0.
 *      Each element belongs to one thread. Tiles are cut over i, j and k; no term is padded, because a sum
 *      that is -0 would become +0.
 *   2. Everything else is single IEEE operations in the order in which they are written here: cuda.py builds
 *      this file without contraction, without flushing to zero, with division and roots rounded correctly.
 *
 * No atomics, no tensor cores, no library: a result does not depend on how blocks are scheduled. The text is
 * compiled when a device is first used, and has no headers, because that compiler has none.
 */

typedef long long Index;

enum { THREADS = 256, TILE = 128, DEPTH = 8, PAD = 4, LEVELS_MAX = 40 };

/* Which part of a product with a causal matrix is needed; row i reaches column i + offset. */
enum { WHOLE = 0, LOWER = 1, UPTO_DIAGONAL = 2, FROM_DIAGONAL = 3 };

/* device.py has the same fields in the same order. The matrix of a batch is (batch / inner, batch % inner);
 * `copies` neighbours of the inner axis share one b. */
struct Product {
    Index batches, inner, rows, columns, depth;
    Index a_outer, a_inner, a_row, a_depth;
    Index b_outer, b_inner, b_depth, b_column;
    Index c_outer, c_inner, c_row;
    Index copies, shape, offset, plus_zero;
};

__device__ inline Index smaller(Index a, Index b) { return a < b ? a : b; }
__device__ inline Index larger(Index a, Index b) { return a > b ? a : b; }

/* --- products of matrices --- */

/* What one thread moves of each DEPTH x TILE part of a matrix: four values at (side, deep + value * step), from
 * `at` on. Threads run along whichever axis is contiguous in memory. */
struct Mover {
    const float *at;
    Index x_deep;
    int side, deep, step;
    bool is_in;
};

__device__ inline Mover mover(const float *x, Index x_side, Index x_deep, Index side0, Index sides) {
    Mover m;
    bool is_along_depth = x_deep == 1;
    m.side = is_along_depth ? threadIdx.x / 2 : threadIdx.x % TILE;
    m.deep = is_along_depth ? threadIdx.x % 2 * 4 : threadIdx.x / TILE;
    m.step = is_along_depth ? 1 : 2;
    m.is_in = side0 + m.side < sides;
    m.x_deep = x_deep;
    m.at = x + (side0 + m.side) * x_side + m.deep * x_deep;
    return m;
}

/* Read the part that begins at deep0; what lies outside of the matrix is 0, and never part of a sum. */
__device__ inline void fetch(const Mover &m, float held[4], Index deep0, Index deeps) {
    const float *at = m.at + deep0 * m.x_deep;
    int left = (int)smaller(DEPTH, larger(0, deeps - deep0)) - m.deep;
#pragma unroll
    for (int value = 0; value < 4; value++)
        held[value] = m.is_in && value * m.step < left ? at[value * m.step * m.x_deep] : 0.0f;
}

__device__ inline void stow(const Mover &m, float (*to)[TILE + PAD], const float held[4]) {
#pragma unroll
    for (int value = 0; value < 4; value++) to[m.deep + value * m.step][m.side] = held[value];
}

/* One term of every sum of this thread: rows ty 4 + (0..3) and 64 more, columns likewise. */
__device__ inline void term(float sum[8][8], const float *left, const float *right) {
    int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    float a[8], b[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        a[i] = left[row + i % 4 + i / 4 * 64];
        b[i] = right[column + i % 4 + i / 4 * 64];
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
}

/* c = a b of one batch, one tile of TILE x TILE: k from `from` up to, but not with, `upto`. */
__device__ inline void tile(const Product &p, const float *a, const float *b, float *c, Index i0, Index j0,
                            Index from, Index upto) {
    alignas(16) __shared__ float left[DEPTH][TILE + PAD], right[DEPTH][TILE + PAD];
    float sum[8][8], next_a[4], next_b[4];
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = 0.0f;
    Mover of_a = mover(a, p.a_row, p.a_depth, i0, p.rows), of_b = mover(b, p.b_column, p.b_depth, j0, p.columns);
    fetch(of_a, next_a, from, upto);
    fetch(of_b, next_b, from, upto);
    for (Index k0 = from; k0 < upto; k0 += DEPTH) {
        stow(of_a, left, next_a);
        stow(of_b, right, next_b);
        __syncthreads();
        fetch(of_a, next_a, k0 + DEPTH, upto);
        fetch(of_b, next_b, k0 + DEPTH, upto);
        if (k0 + DEPTH <= upto) {
#pragma unroll
            for (int k = 0; k < DEPTH; k++) term(sum, left[k], right[k]);
        } else {
            for (int k = 0; k < (int)(upto - k0); k++) term(sum, left[k], right[k]);
        }
        __syncthreads();
    }
    Index row0 = i0 + threadIdx.x / 16 * 4, column0 = j0 + threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        Index row = row0 + i % 4 + i / 4 * 64;
        float *to = c + row * p.c_row;
        if (row >= p.rows) continue;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            Index column = column0 + j % 4 + j / 4 * 64;
            if (column < p.columns) to[column] = p.plus_zero ? sum[i][j] + 0.0f : sum[i][j];
        }
    }
}

/* Grid: tiles of c in x, batches in z. At most 128 registers, so that two blocks share a multiprocessor. */
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    product(Product p, const float *a, const float *b, float *c) {
    Index wide = (p.columns + TILE - 1) / TILE;
    Index i0 = blockIdx.x / wide * TILE, j0 = blockIdx.x % wide * TILE;
    Index last = smaller(i0 + TILE, p.rows) - 1, from = 0, upto = p.depth;
    if (p.shape == LOWER && j0 > last + p.offset) return;
    if (p.shape == UPTO_DIAGONAL) upto = smaller(upto, last + p.offset + 1);
    if (p.shape == FROM_DIAGONAL) from = larger(0, i0 - p.offset);
    for (Index batch = blockIdx.z; batch < p.batches; batch += gridDim.z) {
        Index outer = batch / p.inner, inner = batch % p.inner;
        tile(p, a + outer * p.a_outer + inner * p.a_inner,
             b + outer * p.b_outer + inner / p.copies * p.b_inner,
             c + outer * p.c_outer + inner * p.c_inner, i0, j0, from, upto);
    }
}

/* --- sums: binary trees over contiguous halves, padded with +0 to a power of two --- */

__device__ inline int levels_of(Index count) {
    int levels = 0;
    while ((Index)1 << levels < count) levels++;
    return levels;
}

/* The tree of the leaves first + step j, j < 2^levels, those from `count` on +0. Read from the last level up,
 * the halves of a padded list are its even and its odd places: so the leaves come in bit-reversed order, and
 * one value a level is held. */
template <class Leaf>
__device__ inline float subtree(Leaf leaf, Index first, Index step, int levels, Index count) {
    float held[LEVELS_MAX];
    for (Index j = 0; j < (Index)1 << levels; j++) {
        Index turned = 0;
        for (int bit = 0; bit < levels; bit++) turned |= (j >> bit & 1) << (levels - 1 - bit);
        Index at = first + step * turned;
        float x = at < count ? leaf(at) : 0.0f;
        int level = 0;
        for (; j >> level & 1; level++) x = held[level] + x;
        held[level] = x;
    }
    return held[levels];
}

/* The tree of leaf(0) .. leaf(count - 1) by all threads of a block: each has the places that are the same
 * modulo the number of threads, and reads no other. */
template <class Leaf>
__device__ inline float block_tree(Leaf leaf, Index count) {
    __shared__ float part[THREADS];
    int levels = levels_of(count), wide = levels < 8 ? levels : 8, t = threadIdx.x;
    if (t < 1 << wide) part[t] = subtree(leaf, t, (Index)1 << wide, levels - wide, count);
    __syncthreads();
    for (int half = 1 << wide >> 1; half >= 1; half /= 2) {
        if (t < half) part[t] = part[t] + part[t + half];
        __syncthreads();
    }
    float total = part[0];
    __syncthreads();
    return total;
}

/* out[batch][r][e] = tree over the rows r, r + residues, ... of x[batch][count][size]; `squared`: of x^2. With
 * one residue it is the sum of all rows; with more, their sum is the tree over them. A value past `total` is
 * +0. Grid: elements in x, residues in y, batches in z. */
extern "C" __global__ void __launch_bounds__(THREADS)
    tree_rows(Index batches, Index count, Index size, Index residues, Index total, int squared,
              const float *x, float *out) {
    Index e = (Index)blockIdx.x * THREADS + threadIdx.x, r = blockIdx.y;
    if (e >= size) return;
    int levels = levels_of(count) - levels_of(residues);
    for (Index batch = blockIdx.z; batch < batches; batch += gridDim.z) {
        const float *from = x + batch * count * size;
        auto leaf = [=](Index row) {
            if (row * size + e >= total) return 0.0f;
            float value = from[row * size + e];
            return squared ? value * value : value;
        };
        out[(batch * residues + r) * size + e] = subtree(leaf, r, residues, levels, count);
    }
}

/* --- functions --- */

/* exp by a fixed polynomial: about one unit in the last place, between -87 and 88. */
__device__ inline float exp_of(float x) {
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
    return p * __int_as_float((int)(((unsigned)__float_as_int(t) + 127u) << 23));
}

/* Natural logarithm of a positive normal double: exponent, then the series of atanh. */
__device__ inline double log_of(double x) {
    unsigned long long bits = (unsigned long long)__double_as_longlong(x);
    double exponent = (double)((Index)((bits >> 52) & 0x7ff) - 1022);
    double m = __longlong_as_double((Index)((bits & 0x000fffffffffffffULL) | 0x3fe0000000000000ULL));
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

__device__ inline bool is_finite(float x) { return (__float_as_int(x) & 0x7f800000) != 0x7f800000; }

__device__ inline float not_a_number() { return __int_as_float(0x7fc00000); }

/* The largest of count values, to all threads of a block; *finite is 0 if one of them is not. Which of two
 * zeros is found makes no difference to what is computed from it. */
__device__ inline float largest(const float *x, Index count, int *finite) {
    __shared__ float best[THREADS];
    __shared__ int sound[THREADS];
    int t = threadIdx.x, all = 1;
    float peak = x[0];
    for (Index i = t; i < count; i += THREADS) {
        all &= is_finite(x[i]);
        peak = peak > x[i] ? peak : x[i];
    }
    best[t] = peak, sound[t] = all;
    __syncthreads();
    for (int half = THREADS / 2; half >= 1; half /= 2) {
        if (t < half) {
            best[t] = best[t] > best[t + half] ? best[t] : best[t + half];
            sound[t] &= sound[t + half];
        }
        __syncthreads();
    }
    peak = best[0], *finite = sound[0];
    __syncthreads();
    return peak;
}

/* --- a block a row --- */

/* Row t of the causal weights: softmax of scale x scores over the first t + offset + 1 of `keys` places. */
extern "C" __global__ void __launch_bounds__(THREADS)
    weigh(Index times, Index keys, float scale, float *weights) {
    float *row = weights + blockIdx.x * keys;
    Index reach = blockIdx.x % times + keys - times + 1;
    int finite, unused;
    largest(row, reach, &finite);
    for (Index s = threadIdx.x; s < reach; s += THREADS) row[s] = row[s] * scale;
    __syncthreads();
    float peak = largest(row, reach, &unused);
    for (Index s = threadIdx.x; s < keys; s += THREADS) row[s] = s < reach ? exp_of(row[s] - peak) : 0.0f;
    __syncthreads();
    float total = block_tree([=](Index s) { return row[s]; }, keys);
    if (!finite) total = not_a_number();
    for (Index s = threadIdx.x; s < reach; s += THREADS) row[s] = row[s] / total;
}

/* slope <- (weights x slope - weights x total) x scale, masked places 0. */
extern "C" __global__ void __launch_bounds__(THREADS)
    weigh_backward(Index times, Index keys, float scale, const float *weights, float *slope) {
    const float *w = weights + blockIdx.x * keys;
    float *s = slope + blockIdx.x * keys;
    Index reach = blockIdx.x % times + keys - times + 1;
    for (Index i = threadIdx.x; i < keys; i += THREADS) s[i] = i < reach ? w[i] * s[i] : 0.0f;
    __syncthreads();
    float total = block_tree([=](Index i) { return s[i]; }, keys);
    for (Index i = threadIdx.x; i < reach; i += THREADS) s[i] = (s[i] - w[i] * total) * scale;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    rms_norm(Index width, float eps, const float *x, const float *weight, float *out, float *scale) {
    const float *from = x + blockIdx.x * width;
    float *to = out + blockIdx.x * width;
    float mean = block_tree([=](Index i) { return from[i] * from[i]; }, width) / (float)width;
    float s = 1.0f / sqrtf(mean + eps);
    for (Index i = threadIdx.x; i < width; i += THREADS) to[i] = (from[i] * s) * weight[i];
    if (threadIdx.x == 0) scale[blockIdx.x] = s;
}

/* The gradient of x, and of each row what is summed to that of the weight. */
extern "C" __global__ void __launch_bounds__(THREADS)
    rms_norm_backward(Index width, const float *grad, const float *x, const float *scale,
                      const float *weight, float *grad_x, float *pull) {
    const float *g = grad + blockIdx.x * width, *from = x + blockIdx.x * width;
    float *to = grad_x + blockIdx.x * width, *pulled = pull + blockIdx.x * width, s = scale[blockIdx.x];
    float mean = block_tree([=](Index i) { return (g[i] * (from[i] * s)) * weight[i]; }, width) / (float)width;
    for (Index i = threadIdx.x; i < width; i += THREADS) {
        pulled[i] = g[i] * (from[i] * s);
        to[i] = (g[i] * weight[i] - (from[i] * s) * mean) * s;
    }
}

/* shares <- softmax(logits); loss <- log(sum) - (logit of the label - peak). Not finite: the row is NaN. */
extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy(Index width, const float *logits, const Index *labels, float *loss, float *shares) {
    const float *z = logits + blockIdx.x * width;
    float *p = shares + blockIdx.x * width;
    int finite;
    float peak = largest(z, width, &finite);
    for (Index i = threadIdx.x; i < width; i += THREADS) p[i] = exp_of(z[i] - peak);
    __syncthreads();
    float total = block_tree([=](Index i) { return p[i]; }, width);
    if (threadIdx.x == 0) {
        float found = (float)log_of((double)total) - (z[labels[blockIdx.x]] - peak);
        loss[blockIdx.x] = finite ? found : not_a_number();
    }
    if (!finite) total = not_a_number();
    for (Index i = threadIdx.x; i < width; i += THREADS) p[i] = p[i] / total;
}

/* --- element by element: a thread each --- */

extern "C" __global__ void __launch_bounds__(THREADS)
    swiglu(Index n, const float *gate, const float *up, float *out) {
    Index i = (Index)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float share = 1.0f / (1.0f + exp_of(-gate[i]));
    out[i] = (gate[i] * share) * up[i];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    swiglu_backward(Index n, const float *grad, const float *gate, const float *up, float *grad_gate,
                    float *grad_up) {
    Index i = (Index)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float share = 1.0f / (1.0f + exp_of(-gate[i]));
    float bend = 1.0f + gate[i] * (1.0f - share);
    grad_gate[i] = (grad[i] * up[i]) * (share * bend);
    grad_up[i] = grad[i] * (gate[i] * share);
}

/* Scalars in the order of reference.adamw. */
struct AdamW {
    float rate, keep1, new1, keep2, new2, eps, correction1, correction2;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(Index n, AdamW s, float *params, float *m, float *v, const float *grad) {
    Index i = (Index)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float g = grad[i];
    float m_i = m[i] * s.keep1 + g * s.new1;
    float v_i = v[i] * s.keep2 + (g * g) * s.new2;
    float below = sqrtf(v_i * s.correction2) + s.eps;
    m[i] = m_i;
    v[i] = v_i;
    params[i] = params[i] - (m_i * s.correction1 / below) * s.rate;
}
