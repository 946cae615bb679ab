/* SPDX-License-Identifier: Apache-2.0 */
/* A key of WireGuard, and its form for people: 44 characters of base64. */
#ifndef TENDRIL_LIB_WIREGUARD_KEY_H
#define TENDRIL_LIB_WIREGUARD_KEY_H

#include <stdbool.h>
#include <stdint.h>

#define WIREGUARD_KEY_LEN      32
#define WIREGUARD_KEY_TEXT_LEN 44

struct wireguard_key {
	uint8_t bytes[WIREGUARD_KEY_LEN];
};

/* Accepts exactly what wireguard_key_format() writes.  -EINVAL: another length or character, bits
 * behind the last byte, or all zero, which is no key. */
int wireguard_key_parse(const char *text, struct wireguard_key *ret_key);
/* Writes the text and a NUL into buf, at least WIREGUARD_KEY_TEXT_LEN + 1 bytes; returns buf. */
const char *wireguard_key_format(const struct wireguard_key *key, char *buf);

bool wireguard_key_is_zero(const struct wireguard_key *key);
int wireguard_key_compare(const struct wireguard_key *a, const struct wireguard_key *b);

#endif
