/* SPDX-License-Identifier: Apache-2.0 */
/* The two namespaces of the self-test, which accel_selftest.c makes and accel_checks.c uses. */
#ifndef TENDRIL_AGENT_ACCEL_ACCEL_SELFTEST_INTERNAL_H
#define TENDRIL_AGENT_ACCEL_ACCEL_SELFTEST_INTERNAL_H

#include "agent/accel/accel_selftest.h"
#include "datapath/maps.h"

#define SELFTEST_BUF_SIZE  65536UL
#define SELFTEST_SLOT(end) ((uint16_t)((end) + 1))

struct end {
	int netns_fd;
	struct addr addr[2]; /* IPv4, IPv6 */
};

struct selftest {
	struct end end[2];
	struct datapath *datapath;
	size_t next; /* check */
	char *buf;   /* SELFTEST_BUF_SIZE bytes */
};

/* Sets whether messages may go from socket to socket. */
static inline void selftest_allow(const struct selftest *selftest, bool allow)
{
	maps_node(selftest->datapath)->flags = allow ? NODE_ACCEL : 0;
}

#endif
