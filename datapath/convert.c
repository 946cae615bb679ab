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

/* The recipe is in README.md. */
static const struct map_rule rules[] = {
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
