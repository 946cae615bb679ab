/* SPDX-License-Identifier: Apache-2.0 */
/* How many health checks of services tendril-http answers; the agent names them, and tells in
 * status how many more there are. */
#ifndef TENDRIL_LIB_HEALTH_H
#define TENDRIL_LIB_HEALTH_H

#include <stddef.h>

#define HEALTH_CHECKS_MAX    1024 /* services with a port of their own */
#define HEALTH_ADDRESSES_MAX 16   /* at which it listens, if not at all of them */
#define HEALTH_LISTENERS_MAX 4096 /* sockets: ports times addresses */

/* How many services have room; address_count 0: one socket serves all addresses. */
static inline size_t health_checks_max(size_t address_count)
{
	size_t max = address_count ? HEALTH_LISTENERS_MAX / address_count : HEALTH_CHECKS_MAX;

	return max < HEALTH_CHECKS_MAX ? max : HEALTH_CHECKS_MAX;
}

#endif
