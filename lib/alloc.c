/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/alloc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void out_of_memory(size_t size)
{
	char line[128];
	int len = snprintf(line, sizeof(line), "%.64s: out of memory (%zu bytes wanted)\n",
			   program_invocation_short_name, size);

	/* stdio might allocate its buffer. */
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		abort();
	abort();
}

void *xmalloc(size_t size)
{
	void *data = malloc(size ? size : 1);

	if (!data)
		out_of_memory(size);
	return data;
}

void *xcalloc(size_t count, size_t size)
{
	void *data = calloc(count ? count : 1, size ? size : 1);

	if (!data)
		out_of_memory(count * size);
	return data;
}

void *xrealloc(void *data, size_t size)
{
	return xreallocarray(data, size, 1);
}

void *xreallocarray(void *data, size_t count, size_t size)
{
	void *grown = reallocarray(data, count ? count : 1, size ? size : 1);

	if (!grown)
		out_of_memory(count * size);
	return grown;
}

char *xstrdup(const char *text)
{
	return xmemdup(text, strlen(text) + 1);
}

char *xstrndup(const char *text, size_t len)
{
	char *copy;

	len = strnlen(text, len);
	copy = xmalloc(len + 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

void *xmemdup(const void *data, size_t size)
{
	void *copy = xmalloc(size);

	if (size)
		memcpy(copy, data, size);
	return copy;
}

char *xasprintf(const char *fmt, ...)
{
	va_list args;
	char *text;
	int len;

	va_start(args, fmt);
	len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len < 0)
		out_of_memory(strlen(fmt));
	return text;
}
