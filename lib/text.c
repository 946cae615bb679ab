/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/text.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define DISTANCE_LEN_MAX 64

/* Bytes of the UTF-8 sequence at text, 0 if it is none (RFC 3629, table in section 4). */
static size_t utf8_length(const unsigned char *text)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (text[0] < 0x80)
		return 1;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	len = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

size_t text_char(const char *text, bool *ret_shown)
{
	const unsigned char *bytes = (const unsigned char *)text;
	size_t len = utf8_length(bytes);
	bool c0 = bytes[0] < ' ' || bytes[0] == 0x7f;
	bool c1 = len == 2 && bytes[0] == 0xc2 && bytes[1] < 0xa0;

	*ret_shown = len && !c0 && !c1;
	return len ? len : 1;
}

void text_make_utf8(char *text)
{
	while (*text) {
		size_t len = utf8_length((const unsigned char *)text);

		if (!len)
			*text = '?';
		text += len ? len : 1;
	}
}

void text_make_shown(char *text)
{
	while (*text) {
		bool shown;
		size_t len = text_char(text, &shown);

		if (!shown)
			memset(text, '?', len);
		text += len;
	}
}

size_t text_distance(const char *a, const char *b)
{
	size_t rows[3][DISTANCE_LEN_MAX + 1], a_len = strlen(a), b_len = strlen(b);

	if (a_len > DISTANCE_LEN_MAX || b_len > DISTANCE_LEN_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			bool same = strncasecmp(&a[i - 1], &b[j - 1], 1) == 0;
			size_t best = above[j - 1] + !same;

			best = above[j] + 1 < best ? above[j] + 1 : best;
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			if (i > 1 && j > 1 && strncasecmp(&a[i - 1], &b[j - 2], 1) == 0 &&
			    strncasecmp(&a[i - 2], &b[j - 1], 1) == 0 && second[j - 2] + 1 < best)
				best = second[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[a_len % 3][b_len];
}

int text_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}
