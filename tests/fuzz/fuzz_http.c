/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from a socket -> request head, query, answer head, chunks.  Whatever comes, a parser takes
 * no more than it was given and leaves what it returns terminated. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void fuzz_request(const char *text, size_t len)
{
	struct http_head head;
	char value[32];
	ssize_t n = http_head_parse(text, len, &head, NULL);

	check(n <= (ssize_t)len);
	if (n <= 0)
		return;
	check(memchr(head.method, '\0', sizeof(head.method)));
	check(memchr(head.path, '\0', sizeof(head.path)) && head.path[0] == '/');
	check(memchr(head.query, '\0', sizeof(head.query)));
	if (http_query_get(head.query, "type", value, sizeof(value)) == 0)
		check(memchr(value, '\0', sizeof(value)));
	/* A parser that sees less must not come to another end. */
	check(http_head_parse(text, (size_t)n - 1, &head, NULL) == 0);
}

static void fuzz_chunks(const char *text, size_t len)
{
	size_t used = 0, start, part = 1;

	while (part) {
		ssize_t n = http_chunk_parse(text + used, len - used, &start, &part);

		if (n <= 0)
			break;
		check(used + (size_t)n <= len && start + part <= (size_t)n);
		used += (size_t)n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_response_head head;
	char *text = malloc(size + 1); /* exactly as long as told: a read beyond it is seen */

	if (!text)
		return 0;
	memcpy(text, data, size);
	text = realloc(text, size ? size : 1);
	fuzz_request(text, size);
	check(http_response_head_parse(text, size, &head, NULL) <= (ssize_t)size);
	fuzz_chunks(text, size);
	free(text);
	return 0;
}
