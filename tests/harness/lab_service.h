/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services of the lab, written into the maps, and what becomes of packets to them.
 */
#ifndef TENDRIL_TESTS_HARNESS_LAB_SERVICE_H
#define TENDRIL_TESTS_HARNESS_LAB_SERVICE_H

#include "harness/lab.h"

#define SERVICE_ID 5

struct target {
	enum host host;
	uint16_t port;
};

/* Writes a port of a host, for TCP and UDP. */
void frontend_write(enum host host, uint16_t port, const struct service *service);
/* Backends from the index "first" on; the one behind them is deleted. */
void backends_write(uint32_t id, uint32_t first, const struct target *targets, uint32_t count);
/* A port of SERVICE with these backends. */
void service_set(uint16_t port, uint32_t id, const struct target *targets, uint32_t count);
#define SERVES(port, id, ...)                                         \
	service_set(port, id, (const struct target[]){ __VA_ARGS__ }, \
		    sizeof((const struct target[]){ __VA_ARGS__ }) / sizeof(struct target))

/* Sends a segment, and wants it to leave as between these ends, whole. */
void sent_as(const struct segment *segment, struct target from, struct target to, const char *file,
	     int line);
#define ENDS(host, port) ((struct target){ host, port })
#define SENT_AS(from, to, ...) \
	sent_as(&(struct segment){ __VA_ARGS__ }, from, to, __FILE__, __LINE__)

/* The entry of a direction in nat_map; false: none. */
bool translation(enum host from, uint16_t sport, enum host to, uint16_t dport, uint8_t proto,
		 struct nat_entry *ret);

#endif
