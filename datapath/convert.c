/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What takeover.c must know of single maps: how an entry of an earlier ABI becomes one of today,
 * and what the old programs may have added to an entry that was copied already.
 */
#include <string.h>

#include "datapath/state.h"
#include "lib/auto.h"

/* The old programs have seen the next packet of the handshake, or the first of its end. */
static bool ct_merge(void *now, const void *value)
{
	const struct ct_entry *old = value;
	struct ct_entry *entry = now;
	uint32_t before = entry->flags;

	entry->flags |= old->flags;
	return entry->flags != before;
}

static bool endpoint_merge(void *now, const void *value)
{
	const struct endpoint_entry *old = value;
	struct endpoint_entry *endpoint = now;
	uint32_t before = endpoint->translated;

	endpoint->translated |= old->translated;
	return endpoint->translated != before;
}

static bool sock_bucket_merge(void *now, const void *value)
{
	struct sock_bucket *bucket = now;

	if (bucket->cookie)
		return false;
	memcpy(bucket, value, sizeof(*bucket));
	return true;
}

/* ---- nat_map until ABI 8 --------------------------------------------------------------------- */

enum { NAT_8_REQUEST, NAT_8_REPLY };
#define NAT_8_HAIRPIN (1u << 0)

struct nat_key_8 {
	struct addr client;
	struct addr peer; /* the service, or the backend */
	__be16 client_port;
	__be16 peer_port;
	uint8_t proto;
	uint8_t side;
	uint8_t pad[2];
};

struct nat_entry_8 {
	struct addr addr; /* the backend, or the service */
	__be16 port;
	uint16_t pad;
	uint32_t flags; /* bits 1 and 2 as today */
	uint32_t backend;
	uint32_t seen_jiffies;
	uint64_t last_seen_ns;
};

static void nat_convert(const void *old_key, const void *old_value, void *key, void *value)
{
	const struct nat_entry_8 *old = old_value;
	const struct nat_key_8 *from = old_key;
	bool hairpin = old->flags & NAT_8_HAIRPIN, request = from->side == NAT_8_REQUEST;
	struct flow flow = {
		.saddr = request ? from->client : from->peer,
		.daddr = request ? from->peer : from->client,
		.sport = request ? from->client_port : from->peer_port,
		.dport = request ? from->peer_port : from->client_port,
		.proto = from->proto,
	};
	struct nat_entry entry = {
		.flow = flow,
		.flags = (old->flags & ~NAT_8_HAIRPIN) | (request ? NAT_REQUEST : 0),
		.backend = old->backend,
		.seen_jiffies = old->seen_jiffies,
		.last_seen_ns = old->last_seen_ns,
	};

	if (request) {
		entry.flow.daddr = old->addr;
		entry.flow.dport = old->port;
		if (hairpin)
			entry.flow.saddr = from->peer;
	} else {
		entry.flow.saddr = old->addr;
		entry.flow.sport = old->port;
		if (hairpin)
			flow.daddr = old->addr;
	}
	memcpy(key, &flow, sizeof(flow));
	memcpy(value, &entry, sizeof(entry));
}

/* ---- passed_map until ABI 15 ----------------------------------------------------------------- */

struct passed_flow_15 {
	struct flow flow;
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t bytes[2];
	uint32_t packets[2];
	uint32_t state;
	uint8_t icmp_type;
	uint8_t pad[3];
};

static void passed_convert(const void *old_key, const void *old_value, void *key, void *value)
{
	const struct passed_flow_15 *old = old_value;
	struct passed_set set = { 0 };

	for (int i = 0; i < PASSED_WAYS; i++)
		memcpy(&set.ways[i], &old[i], sizeof(*old)); /* without a service: nobody knew */
	memcpy(key, old_key, sizeof(uint32_t));
	memcpy(value, &set, sizeof(set));
}

/* The recipe is in README.md. */
static const struct map_rule rules[] = {
	{ "nat_map", .since = 9, .convert = nat_convert },
	{ "passed_map", .since = 16, .convert = passed_convert },
	{ "nat_place_map", .hints = true },
	{ "ct_map", .merge = ct_merge },
	{ "endpoint_map", .merge = endpoint_merge },
	{ "sock_bucket_map", .merge = sock_bucket_merge },
};

const struct map_rule *map_rule_find(const char *map)
{
	static const struct map_rule none = { .map = "" };

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		if (!strcmp(map, rules[i].map))
			return &rules[i];
	}
	return &none;
}
