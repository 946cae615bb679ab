/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scoped cleanup and ownership hand-over.  Initialize at declaration; a function uses scoped
 * cleanup or goto, never both.
 */
#ifndef TENDRIL_LIB_AUTO_H
#define TENDRIL_LIB_AUTO_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void auto_free_fn(void *ptr)
{
	free(*(void **)ptr);
}

static inline void auto_close_fn(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void auto_fclose_fn(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define auto_free   __attribute__((cleanup(auto_free_fn)))
#define auto_close  __attribute__((cleanup(auto_close_fn)))
#define auto_fclose __attribute__((cleanup(auto_fclose_fn)))

/* Declares auto_(name) for a type with "void name_free(struct name *)", which must take NULL. */
#define DEFINE_AUTO(name)                                      \
	static inline void auto_##name##_fn(struct name **ptr) \
	{                                                      \
		name##_free(*ptr);                             \
	}
#define auto_(name) __attribute__((cleanup(auto_##name##_fn)))

/* Hands over an owned pointer or descriptor: the variable gives it up. */
#define take_ptr(ptr)                           \
	({                                      \
		__typeof__(ptr) taken_ = (ptr); \
		(ptr) = NULL;                   \
		taken_;                         \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#pragma GCC poison strcpy strcat atoi atol strtok gets

#endif
