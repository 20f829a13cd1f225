/* The hashes inside of a BLAKE3 digest: those of its chunks of 1 KiB, and of the pairs above them.
 *
 * One compression after another, for any CPU. The library that computes digests is faster, and has no way to
 * ask it for what lies inside of them. Nothing here keeps state, and no Python headers: blake3_tree.py opens the
 * library by its path, and has the same hashes without it.
 *
 * Source: BLAKE3, version 20211102, sections 2.1 to 2.5.
 */

#include <stdint.h>
#include <string.h>

#include "../native/native.h"

/* Changed with every change of a signature below: blake3_tree.py refuses a library of another version. */
enum { VERSION = 1 };
enum { BLOCK_BYTES = 64, LEAF_BYTES = 1024, HASH_BYTES = 32, ROUNDS = 7 };
enum { START = 1, END = 2 };

static const uint32_t IV[8] = {0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au,
                               0x510E527Fu, 0x9B05688Cu, 0x1F83D9ABu, 0x5BE0CD19u};
/* The permutation of the sixteen words of a block between two rounds. */
static const uint8_t ORDER[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};

static inline uint32_t load(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void store(uint8_t *at, uint32_t word) {
    for (int byte = 0; byte < 4; byte++) at[byte] = (uint8_t)(word >> (8 * byte));
}

static inline uint32_t turned(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static inline void mix(uint32_t *v, int a, int b, int c, int d, uint32_t x, uint32_t y) {
    v[a] += v[b] + x;
    v[d] = turned(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = turned(v[b] ^ v[c], 12);
    v[a] += v[b] + y;
    v[d] = turned(v[d] ^ v[a], 8);
    v[c] += v[d];
    v[b] = turned(v[b] ^ v[c], 7);
}

/* Compress one block into the key. */
static void compress(uint32_t key[8], const uint8_t *block, uint64_t counter, uint32_t length, uint32_t flags) {
    uint32_t v[16], m[16], next[16];
    for (int at = 0; at < 16; at++) m[at] = load(block + 4 * at);
    memcpy(v, key, 8 * sizeof *v);
    memcpy(v + 8, IV, 4 * sizeof *v);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = length;
    v[15] = flags;
    for (int round = 0; round < ROUNDS; round++) {
        mix(v, 0, 4, 8, 12, m[0], m[1]);
        mix(v, 1, 5, 9, 13, m[2], m[3]);
        mix(v, 2, 6, 10, 14, m[4], m[5]);
        mix(v, 3, 7, 11, 15, m[6], m[7]);
        mix(v, 0, 5, 10, 15, m[8], m[9]);
        mix(v, 1, 6, 11, 12, m[10], m[11]);
        mix(v, 2, 7, 8, 13, m[12], m[13]);
        mix(v, 3, 4, 9, 14, m[14], m[15]);
        for (int at = 0; at < 16; at++) next[at] = m[ORDER[at]];
        memcpy(m, next, sizeof m);
    }
    for (int at = 0; at < 8; at++) key[at] = v[at] ^ v[at + 8];
}

EXPORT int tree_version(void) { return VERSION; }

/* Write the hashes of consecutive chunks; the last may be shorter, the first has number `first`. */
EXPORT void tree_leaves(const uint8_t *data, int64_t num_bytes, uint64_t first, uint8_t *hashes) {
    int64_t at = 0;
    do {
        int64_t left = num_bytes - at < LEAF_BYTES ? num_bytes - at : LEAF_BYTES, done = 0;
        uint32_t key[8];
        memcpy(key, IV, sizeof key);
        do {
            uint8_t block[BLOCK_BYTES] = {0};
            int64_t length = left - done < BLOCK_BYTES ? left - done : BLOCK_BYTES;
            memcpy(block, data + at + done, (size_t)length);
            uint32_t flags = (done == 0 ? START : 0) | (left - done <= BLOCK_BYTES ? END : 0);
            compress(key, block, first, (uint32_t)length, flags);
            done += BLOCK_BYTES;
        } while (done < left);
        for (int word = 0; word < 8; word++) store(hashes + 4 * word, key[word]);
        hashes += HASH_BYTES;
        at += LEAF_BYTES;
        first++;
    } while (at < num_bytes);
}

/* Write the hashes above `count` pairs of hashes that follow one another. */
EXPORT void tree_parents(const uint8_t *pairs, int64_t count, uint32_t flags, uint8_t *hashes) {
    for (int64_t at = 0; at < count; at++) {
        uint32_t key[8];
        memcpy(key, IV, sizeof key);
        compress(key, pairs + BLOCK_BYTES * at, 0, BLOCK_BYTES, flags);
        for (int word = 0; word < 8; word++) store(hashes + HASH_BYTES * at + 4 * word, key[word]);
    }
}
