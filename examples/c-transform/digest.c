#include "digest.h"

#include <string.h>

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static uint32_t rotate(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void absorb(uint32_t state[8], const uint8_t block[DIGEST_BLOCK_BYTES]) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t low = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t high = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + low + w[i - 7] + high;
    }
    uint32_t s[8];
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t first = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + ROUND[i] + w[i];
        uint32_t second = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + second;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

/* The rest of a message whose first `before` bytes, whole blocks, are in `state`. */
static void finish(uint32_t state[8], size_t before, const uint8_t *message, size_t length, uint8_t result[DIGEST_BYTES]) {
    uint64_t bits = ((uint64_t)before + length) * 8;
    for (; length >= DIGEST_BLOCK_BYTES; message += DIGEST_BLOCK_BYTES, length -= DIGEST_BLOCK_BYTES)
        absorb(state, message);
    uint8_t tail[2 * DIGEST_BLOCK_BYTES] = {0};
    if (length > 0)
        memcpy(tail, message, length);
    tail[length] = 0x80;
    size_t size = length + 9 <= DIGEST_BLOCK_BYTES ? DIGEST_BLOCK_BYTES : 2 * DIGEST_BLOCK_BYTES;
    for (int i = 0; i < 8; i++)
        tail[size - 1 - i] = (uint8_t)(bits >> 8 * i);
    for (size_t at = 0; at < size; at += DIGEST_BLOCK_BYTES)
        absorb(state, tail + at);
    for (int i = 0; i < DIGEST_BYTES; i++)
        result[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

void digest(const uint8_t *message, size_t length, uint8_t result[DIGEST_BYTES]) {
    uint32_t state[8];
    memcpy(state, START, sizeof state);
    finish(state, 0, message, length, result);
}

void keyed_digest_prepare(struct keyed_digest *keyed, const uint8_t *key, size_t length) {
    uint8_t block[DIGEST_BLOCK_BYTES] = {0};
    if (length > DIGEST_BLOCK_BYTES)
        digest(key, length, block);
    else if (length > 0)
        memcpy(block, key, length);
    for (int i = 0; i < DIGEST_BLOCK_BYTES; i++)
        block[i] ^= 0x36;
    memcpy(keyed->inner, START, sizeof START);
    absorb(keyed->inner, block);
    for (int i = 0; i < DIGEST_BLOCK_BYTES; i++)
        block[i] ^= 0x36 ^ 0x5c;
    memcpy(keyed->outer, START, sizeof START);
    absorb(keyed->outer, block);
}

void keyed_digest(const struct keyed_digest *keyed, const uint8_t *message, size_t length, uint8_t result[DIGEST_BYTES]) {
    uint32_t state[8];
    uint8_t inner[DIGEST_BYTES];
    memcpy(state, keyed->inner, sizeof state);
    finish(state, DIGEST_BLOCK_BYTES, message, length, inner);
    memcpy(state, keyed->outer, sizeof state);
    finish(state, DIGEST_BLOCK_BYTES, inner, sizeof inner, result);
}
