/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/html_page.h"

#include <string.h>

static const char placeholder[] = "/*DATA*/null";

void html_page_fill(struct buffer *page, const char *document, const char *json)
{
	const char *hole = strstr(document, placeholder);

	buffer_add(page, document, (size_t)(hole - document));
	/* Inside of a script the text must not contain "</script>" or "<!--".  These three
	 * characters are in JSON only within strings. */
	while (*json) {
		size_t plain = strcspn(json, "<>&");

		buffer_add(page, json, plain);
		json += plain;
		if (*json)
			buffer_print(page, "\\u%04x", (unsigned int)*json++);
	}
	buffer_string(page, hole + strlen(placeholder));
}
