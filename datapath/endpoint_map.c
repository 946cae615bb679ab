/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's state and its endpoints, which are written through shared memory so that a change of
 * policy is one store, the entries of netns_map that go with them, and the per-CPU counters.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "datapath/maps.h"
#include "datapath/state.h"

struct node_state *maps_node(struct datapath *datapath)
{
	return datapath->node;
}

void maps_bump_revision(struct datapath *datapath)
{
	__atomic_add_fetch(&datapath->node->revision, 1, __ATOMIC_RELEASE);
}

static bool slot_valid(const struct datapath *datapath, uint16_t slot)
{
	return slot && slot < datapath->capacity[MAP_ENDPOINT];
}

static struct endpoint_entry *endpoint_at(const struct datapath *datapath, uint16_t slot)
{
	_Static_assert(sizeof(struct endpoint_entry) % 8 == 0,
		       "elements of an array map are 8-aligned");
	return &datapath->endpoints[slot];
}

/* Flags and policy_id change in one store: no packet sees one without the other. */
static void endpoint_set_policy(struct endpoint_entry *endpoint, uint32_t flags, uint32_t policy_id)
{
	const union {
		struct {
			uint32_t flags;
			uint32_t policy_id;
		};
		uint64_t word;
	} policy = { { flags, policy_id } };

	_Static_assert(offsetof(struct endpoint_entry, policy_id) == 4,
		       "flags and policy_id: one word");
	__atomic_store_n((uint64_t *)endpoint, policy.word, __ATOMIC_RELEASE);
}

/* Takes a slot out of netns_map; another interface in the same namespace inherits the entry. */
static int netns_map_release(struct datapath *datapath, uint64_t cookie, uint16_t slot)
{
	uint32_t holder;

	if (map_get(datapath, MAP_NETNS, &cookie, &holder) || holder != slot)
		return 0;
	for (uint32_t i = 1; i < datapath->capacity[MAP_ENDPOINT]; i++) {
		const struct endpoint_entry *other = &datapath->endpoints[i];

		if (i != slot && other->flags & ENDPOINT_VALID && other->netns_cookie == cookie)
			return map_set(datapath, MAP_NETNS, &cookie, &i);
	}
	return map_del(datapath, MAP_NETNS, &cookie);
}

int endpoint_map_set(struct datapath *datapath, uint16_t slot,
		     const struct endpoint_entry *endpoint)
{
	const size_t rest = offsetof(struct endpoint_entry, netns_cookie);
	struct endpoint_entry *entry;
	uint32_t value = slot;
	uint64_t old_cookie;
	int ret;

	if (!slot_valid(datapath, slot))
		return -E2BIG;
	entry = endpoint_at(datapath, slot);
	old_cookie = entry->netns_cookie;
	if (endpoint->netns_cookie && old_cookie != endpoint->netns_cookie) {
		ret = map_set(datapath, MAP_NETNS, &endpoint->netns_cookie, &value);
		if (ret)
			return ret;
	}
	entry->identity = endpoint->identity;
	memcpy((char *)entry + rest, (const char *)endpoint + rest, sizeof(*entry) - rest);
	endpoint_set_policy(entry, endpoint->flags, endpoint->policy_id);
	if (old_cookie && old_cookie != endpoint->netns_cookie)
		return netns_map_release(datapath, old_cookie, slot);
	return 0;
}

int endpoint_map_get(struct datapath *datapath, uint16_t slot, struct endpoint_entry *ret_endpoint)
{
	if (!slot_valid(datapath, slot))
		return -ENOENT;
	*ret_endpoint = *endpoint_at(datapath, slot);
	return 0;
}

int endpoint_map_del(struct datapath *datapath, uint16_t slot)
{
	struct endpoint_entry *entry;
	uint32_t key = slot;
	uint64_t cookie;
	int ret;

	if (!slot_valid(datapath, slot))
		return 0;
	entry = endpoint_at(datapath, slot);
	cookie = entry->netns_cookie;
	endpoint_set_policy(entry, 0, 0); /* not valid from here on */
	memset(entry, 0, sizeof(*entry));
	/* What is left in ct_map and nat_map goes with the next sweep. */
	datapath->ct_counts[slot] = datapath->nat_counts[slot] = 0;
	ret = netns_map_release(datapath, cookie, slot);
	if (!ret)
		ret = map_set(datapath, MAP_BANDWIDTH, &key, &(struct bandwidth){ 0 });
	if (ret)
		return ret;
	memset(datapath->percpu, 0, datapath->cpus * sizeof(struct endpoint_stats));
	return map_set(datapath, MAP_ENDPOINT_STATS, &key, datapath->percpu);
}

int endpoint_map_limit(struct datapath *datapath, uint16_t slot, const uint64_t bytes_per_s[2])
{
	struct bandwidth bandwidth;
	bool changed = false;
	uint32_t key = slot;
	int ret = map_get(datapath, MAP_BANDWIDTH, &key, &bandwidth);

	if (ret)
		return ret;
	for (int i = 0; i < 2; i++) {
		struct bandwidth_limit *limit = &bandwidth.limits[i];

		changed = changed || limit->bytes_per_s != bytes_per_s[i];
		*limit = (struct bandwidth_limit){ .bytes_per_s = bytes_per_s[i] };
	}
	return changed ? map_set(datapath, MAP_BANDWIDTH, &key, &bandwidth) : 0;
}

int chained_map_set(struct datapath *datapath, int ifindex, uint16_t slot)
{
	uint32_t key = (uint32_t)ifindex, value = slot;

	datapath->node->flags |= NODE_CHAINED;
	return map_set(datapath, MAP_CHAINED, &key, &value);
}

int chained_map_get(struct datapath *datapath, int ifindex, uint16_t *ret_slot)
{
	uint32_t key = (uint32_t)ifindex, value = 0;
	int ret = map_get(datapath, MAP_CHAINED, &key, &value);

	*ret_slot = (uint16_t)value;
	return ret;
}

int chained_map_del(struct datapath *datapath, int ifindex)
{
	uint32_t key = (uint32_t)ifindex;

	return map_del(datapath, MAP_CHAINED, &key);
}

void chained_map_prune(struct datapath *datapath,
		       bool (*is_kept)(int ifindex, uint16_t slot, void *arg), void *arg)
{
	uint32_t key = 0, next = 0;
	bool more = !map_next(datapath, MAP_CHAINED, NULL, &next);
	uint16_t slot = 0;
	bool kept = false;

	while (more) {
		key = next;
		more = !map_next(datapath, MAP_CHAINED, &key, &next);
		if (chained_map_get(datapath, (int)key, &slot))
			continue;
		if (is_kept((int)key, slot, arg))
			kept = true;
		else
			chained_map_del(datapath, (int)key);
	}
	if (!kept)
		datapath->node->flags &= ~(uint32_t)NODE_CHAINED;
}

int uplink_map_set(struct datapath *datapath, int ifindex, const struct uplink_entry *entry)
{
	uint32_t key = (uint32_t)ifindex;

	return map_set(datapath, MAP_UPLINK, &key, entry);
}

void uplink_map_keep(struct datapath *datapath, const int *ifindexes, size_t count)
{
	uint32_t key = 0, next = 0;
	bool more = !map_next(datapath, MAP_UPLINK, NULL, &next);

	while (more) {
		bool kept = false;

		key = next;
		more = !map_next(datapath, MAP_UPLINK, &key, &next);
		for (size_t i = 0; i < count; i++)
			kept |= ifindexes[i] == (int)key;
		if (!kept)
			map_del(datapath, MAP_UPLINK, &key);
	}
}

int endpoint_stats_get(struct datapath *datapath, uint16_t slot, struct endpoint_stats *ret_stats)
{
	const struct endpoint_stats *cpu = datapath->percpu;
	struct endpoint_stats sum = { 0 };
	uint32_t key = slot;
	int ret;

	ret = map_get(datapath, MAP_ENDPOINT_STATS, &key, datapath->percpu);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < datapath->cpus; i++, cpu++) {
		sum.tx_packets += cpu->tx_packets;
		sum.tx_bytes += cpu->tx_bytes;
		sum.rx_packets += cpu->rx_packets;
		sum.rx_bytes += cpu->rx_bytes;
		sum.drops += cpu->drops;
		sum.accel_connections += cpu->accel_connections;
		sum.accel_bytes += cpu->accel_bytes;
		sum.accel_fallbacks += cpu->accel_fallbacks;
		sum.would_drops += cpu->would_drops;
	}
	*ret_stats = sum;
	return 0;
}

int metric_get(struct datapath *datapath, unsigned int metric, uint64_t *ret_value)
{
	const uint64_t *cpu = datapath->percpu;
	uint64_t sum = 0;
	int ret;

	ret = map_get(datapath, MAP_METRIC, &metric, datapath->percpu);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < datapath->cpus; i++)
		sum += cpu[i];
	*ret_value = sum;
	return 0;
}
