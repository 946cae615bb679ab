/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port sets: too many rules for a policy_map value, stored in port_map as prefixes.  Equal rules
 * share a set.  Its id is derived from its content, so a later agent derives the same id.
 */
#ifndef TENDRIL_AGENT_SYNC_PORT_SET_H
#define TENDRIL_AGENT_SYNC_PORT_SET_H

#include "agent/sync/map_cache.h"

struct port_prefix {   /* every byte named: compared as memory */
	uint16_t port; /* host order; bits after len are zero */
	uint8_t proto;
	uint8_t len; /* bits of port, 0..16 */
	uint8_t verdict;
	uint8_t pad;
};

/* Splits rules into prefixes, sorted; owned by the caller. */
struct port_prefix *port_prefixes_make(const struct port_rule *rules, size_t count,
				       size_t *ret_count);

struct port_sets {
	struct map_cache *ports;
	struct table sets; /* id -> struct port_set */
	uint32_t generation;
};

/* Reads the sets that are in port_map already. */
void port_sets_init(struct port_sets *sets, struct map_cache *ports);
void port_sets_done(struct port_sets *sets);

void port_sets_begin(struct port_sets *sets);
/* Wants the set of these rules, and queues its prefixes that are not in port_map.  Returns its id.
 */
uint32_t port_sets_want(struct port_sets *sets, const struct port_rule *rules, size_t count);
/* Whether every prefix of a set is in port_map; call it after map_cache_flush(). */
bool port_set_is_whole(const struct port_sets *sets, uint32_t id);
/* Wants a set as it is, if there is one of this id. */
void port_sets_keep(struct port_sets *sets, uint32_t id);
/* Deletes the sets that this generation did not want. */
int port_sets_sweep(struct port_sets *sets);

#endif
