/* SHA-256 (FIPS 180-4) and HMAC over it (RFC 2104). */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_BLOCK_BYTES = 64 };

/* An HMAC whose key is prepared once for any number of messages. */
struct keyed_digest {
    uint32_t inner[8];
    uint32_t outer[8];
};

void digest(const uint8_t *message, size_t length, uint8_t result[DIGEST_BYTES]);
void keyed_digest_prepare(struct keyed_digest *keyed, const uint8_t *key, size_t length);
void keyed_digest(const struct keyed_digest *keyed, const uint8_t *message, size_t length, uint8_t result[DIGEST_BYTES]);

#endif
