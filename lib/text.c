/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/text.h"

#include <string.h>

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
