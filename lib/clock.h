/* SPDX-License-Identifier: Apache-2.0 */
/* Time that only goes forward: for deadlines and pauses, the same as the datapath's. */
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

/* Signed, so that what is left until a deadline may be less than nothing. */
static inline int64_t now_ms(void)
{
	return (int64_t)(now_ns() / 1000000);
}

#endif
