/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation that cannot fail: out of memory prints one line and aborts.  It is for sizes that our
 * own code chooses.  Where a size comes from outside (a request body, a file), the caller uses
 * malloc() and checks the result, so that nobody can end a program with a large number.
 */
#ifndef TENDRIL_LIB_ALLOC_H
#define TENDRIL_LIB_ALLOC_H

#include <stdlib.h>

/* Each is the libc function of the same name; none returns NULL.  free() takes what they return. */
void *xmalloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, alloc_size(1, 2), returns_nonnull));
void *xrealloc(void *data, size_t size)
	__attribute__((alloc_size(2), returns_nonnull, warn_unused_result));
void *xreallocarray(void *data, size_t count, size_t size)
	__attribute__((alloc_size(2, 3), returns_nonnull, warn_unused_result));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull, nonnull));
char *xstrndup(const char *text, size_t len) __attribute__((malloc, returns_nonnull, nonnull));
void *xmemdup(const void *data, size_t size) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), malloc, returns_nonnull));

/* Reports that size bytes could not be allocated, and aborts.  It is for libraries that allocate
 * memory themselves (cJSON, libmnl, ...) and return NULL. */
void out_of_memory(size_t size) __attribute__((noreturn, cold));

#endif
