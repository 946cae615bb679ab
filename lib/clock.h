/* SPDX-License-Identifier: Apache-2.0 */
/* Time that never goes back, for deadlines and pauses, and how it is shown.  The datapath uses the
 * same clock. */
#ifndef TENDRIL_LIB_CLOCK_H
#define TENDRIL_LIB_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC */
static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Signed, so that the time left until a deadline can be negative. */
static inline int64_t now_ms(void)
{
	return (int64_t)(now_ns() / 1000000);
}

/* What added to CLOCK_MONOTONIC gives the time of day, in nanoseconds. */
int64_t clock_real_offset(void);

/* The time of day as RFC 3339 has it, UTC with microseconds.  Returns buf. */
#define CLOCK_TEXT_MAX 40
const char *clock_format(int64_t real_ns, char buf[CLOCK_TEXT_MAX]);
/* Reads such a time.  -EINVAL: it is none; *ret_real_ns is unchanged. */
int clock_parse(const char *text, int64_t *ret_real_ns);

#endif
