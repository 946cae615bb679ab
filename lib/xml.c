/* SPDX-License-Identifier: Apache-2.0 */
/* Names and reasons come from outside and stand in pictures, pages and test reports. */
#include "lib/xml.h"

#include <string.h>

#include "lib/text.h"

void xml_add(struct buffer *buffer, const char *text, size_t max)
{
	size_t len;

	for (size_t done = 0; *text; text += len, done += len) {
		bool shown;

		len = text_char(text, &shown);
		if (len > max - done) {
			buffer_string(buffer, "\xe2\x80\xa6");
			return;
		}
		switch (*text) {
		case '<':
			buffer_string(buffer, "&lt;");
			break;
		case '>':
			buffer_string(buffer, "&gt;");
			break;
		case '&':
			buffer_string(buffer, "&amp;");
			break;
		case '"':
			buffer_string(buffer, "&quot;");
			break;
		default: /* XML has no way to write the other control characters */
			if (shown || *text == '\n')
				buffer_add(buffer, text, len);
			else
				buffer_string(buffer, "?");
		}
	}
}
