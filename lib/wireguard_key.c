/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/wireguard_key.h"

#include <errno.h>
#include <string.h>

#define DIGITS (WIREGUARD_KEY_TEXT_LEN - 1) /* and one '=' */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int wireguard_key_parse(const char *text, struct wireguard_key *ret_key)
{
	struct wireguard_key key = { 0 };
	uint32_t bits = 0;
	int have = 0;
	size_t at = 0;

	if (strlen(text) != WIREGUARD_KEY_TEXT_LEN || text[DIGITS] != '=')
		return -EINVAL;
	for (size_t i = 0; i < DIGITS; i++) {
		const char *digit = strchr(digits, text[i]);

		if (!digit)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)(digit - digits);
		have += 6;
		if (have >= 8) {
			have -= 8;
			key.bytes[at++] = (uint8_t)(bits >> have);
		}
	}
	if (bits & ((1U << have) - 1) || wireguard_key_is_zero(&key))
		return -EINVAL;
	*ret_key = key;
	return 0;
}

const char *wireguard_key_format(const struct wireguard_key *key, char *buf)
{
	uint32_t bits = 0;
	int have = 0;
	size_t at = 0;

	for (size_t i = 0; i < WIREGUARD_KEY_LEN; i++) {
		bits = bits << 8 | key->bytes[i];
		have += 8;
		while (have >= 6) {
			have -= 6;
			buf[at++] = digits[bits >> have & 63];
		}
	}
	buf[at++] = digits[bits << (6 - have) & 63];
	buf[at++] = '=';
	buf[at] = '\0';
	return buf;
}

bool wireguard_key_is_zero(const struct wireguard_key *key)
{
	static const struct wireguard_key zero;

	return wireguard_key_compare(key, &zero) == 0;
}

int wireguard_key_compare(const struct wireguard_key *a, const struct wireguard_key *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}
