/* SPDX-License-Identifier: Apache-2.0 */
/* What the policies of a world read about their subjects and peers. */
#include "policy/vocabulary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/ports.h"

/* Room while collecting. */
struct collector {
	struct vocabulary *vocabulary;
	size_t port_capacity;
	size_t prefix_capacity;
};

static int collect_selector(struct intern *keys, const struct selector *selector)
{
	for (size_t i = 0; selector && i < selector->count; i++) {
		const char *key = selector->terms[i].key;

		if (intern_add(keys, key, strlen(key)) == INTERN_NONE)
			return -ENOMEM;
	}
	return 0;
}

static int collect_prefix(struct collector *collector, const struct prefix *prefix)
{
	struct vocabulary *vocabulary = collector->vocabulary;

	if (array_room(&vocabulary->prefixes, vocabulary->prefix_count, &collector->prefix_capacity,
		       sizeof(*vocabulary->prefixes)) < 0)
		return -ENOMEM;
	vocabulary->prefixes[vocabulary->prefix_count++] = *prefix;
	return 0;
}

static int collect_port_name(struct collector *collector, const char *name, uint8_t proto)
{
	struct vocabulary *vocabulary = collector->vocabulary;

	if (array_room(&vocabulary->ports, vocabulary->port_count, &collector->port_capacity,
		       sizeof(*vocabulary->ports)) < 0)
		return -ENOMEM;
	vocabulary->ports[vocabulary->port_count++] =
		(struct port_name){ .name = name, .proto = proto };
	return 0;
}

static int collect_port(struct collector *collector, const struct policy_port *port)
{
	size_t count;
	const uint8_t *protos = port_name_protos(port->proto, &count);

	for (size_t i = 0; port->name && i < count; i++) {
		if (collect_port_name(collector, port->name, protos[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int collect_peer(struct collector *collector, const struct policy_peer *peer)
{
	struct vocabulary *vocabulary = collector->vocabulary;

	vocabulary->nodes |= peer->nodes != NULL;
	if (collect_selector(&vocabulary->keys, peer->pods) < 0 ||
	    collect_selector(&vocabulary->node_keys, peer->nodes) < 0 ||
	    (peer->is_block && collect_prefix(collector, &peer->cidr) < 0))
		return -ENOMEM;
	for (size_t i = 0; i < peer->except_count; i++) {
		if (collect_prefix(collector, &peer->except[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int collect_rules(struct collector *collector, const struct policy_rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t p = 0; p < rules[i].peer_count; p++) {
			if (collect_peer(collector, &rules[i].peers[p]) < 0)
				return -ENOMEM;
		}
		for (size_t p = 0; p < rules[i].port_count; p++) {
			if (collect_port(collector, &rules[i].ports[p]) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static int port_name_compare(const void *a, const void *b)
{
	const struct port_name *left = a;
	const struct port_name *right = b;
	int order = strcmp(left->name, right->name);

	return order ? order : (left->proto > right->proto) - (left->proto < right->proto);
}

static int prefix_compare(const void *a, const void *b)
{
	const struct prefix *left = a;
	const struct prefix *right = b;
	int order = addr_compare(&left->addr, &right->addr);

	return order ? order : (left->len > right->len) - (left->len < right->len);
}

/* Sorts and drops duplicates; returns the new count. */
static size_t sort_unique(void *items, size_t count, size_t size,
			  int (*compare)(const void *a, const void *b))
{
	char *bytes = items;
	size_t kept = 0;

	if (count < 2)
		return count;
	qsort(items, count, size, compare);
	for (size_t i = 1; i < count; i++) {
		if (compare(bytes + i * size, bytes + kept * size) != 0)
			memmove(bytes + ++kept * size, bytes + i * size, size);
	}
	return kept + 1;
}

static size_t prefix_key(const struct prefix *prefix, unsigned char key[17])
{
	memcpy(key, &prefix->addr, 16);
	key[16] = prefix->len;
	return 17;
}

static int collect_policies(struct collector *collector, const struct world *world)
{
	struct intern *keys = &collector->vocabulary->keys;

	for (const struct object *object = world_first(world, OBJECT_NETWORK_POLICY); object;
	     object = world_next(world, object)) {
		const struct network_policy_object *policy = &object->policy;

		if (collect_selector(keys, &policy->pods) < 0 ||
		    (policy->ingress && collect_rules(collector, policy->ingress_rules,
						      policy->ingress_rule_count) < 0) ||
		    (policy->egress &&
		     collect_rules(collector, policy->egress_rules, policy->egress_rule_count) < 0))
			return -ENOMEM;
	}
	for (const struct object *object = world_first(world, OBJECT_CLUSTER_POLICY); object;
	     object = world_next(world, object)) {
		const struct cluster_policy_object *policy = &object->cluster_policy;

		if (collect_selector(keys, &policy->pods) < 0 ||
		    collect_rules(collector, policy->ingress_rules, policy->ingress_rule_count) <
			    0 ||
		    collect_rules(collector, policy->egress_rules, policy->egress_rule_count) < 0)
			return -ENOMEM;
	}
	return 0;
}

int vocabulary_build(struct vocabulary *vocabulary, const struct world *world, struct arena *arena)
{
	struct collector collector = { .vocabulary = vocabulary };
	unsigned char key[17];

	vocabulary->keys.arena = arena;
	vocabulary->node_keys.arena = arena;
	vocabulary->prefix_keys.arena = arena;
	if (collect_policies(&collector, world) < 0)
		return -ENOMEM;
	vocabulary->port_count = sort_unique(vocabulary->ports, vocabulary->port_count,
					     sizeof(*vocabulary->ports), port_name_compare);
	vocabulary->prefix_count = sort_unique(vocabulary->prefixes, vocabulary->prefix_count,
					       sizeof(*vocabulary->prefixes), prefix_compare);
	for (size_t i = 0; i < vocabulary->prefix_count; i++) {
		vocabulary->lengths[vocabulary->prefixes[i].len] = true;
		if (intern_add(&vocabulary->prefix_keys, key,
			       prefix_key(&vocabulary->prefixes[i], key)) == INTERN_NONE)
			return -ENOMEM;
	}
	return 0;
}

void vocabulary_done(struct vocabulary *vocabulary)
{
	intern_done(&vocabulary->keys);
	intern_done(&vocabulary->node_keys);
	intern_done(&vocabulary->prefix_keys);
	free(vocabulary->ports);
	free(vocabulary->prefixes);
}

uint32_t vocabulary_prefix(const struct vocabulary *vocabulary, const struct prefix *prefix)
{
	unsigned char key[17];
	size_t found = intern_find(&vocabulary->prefix_keys, key, prefix_key(prefix, key));

	return found == INTERN_NONE ? VOCABULARY_NONE : (uint32_t)found;
}

uint32_t vocabulary_longest(const struct vocabulary *vocabulary, const struct addr *addr)
{
	/* ::/0 and its like do not speak of IPv4. */
	int shortest = addr_is_v4(addr) ? 96 : 0;

	for (int len = 128; len >= shortest; len--) {
		struct prefix prefix;
		uint32_t found;

		if (!vocabulary->lengths[len])
			continue;
		prefix = prefix_of(addr, (uint8_t)len);
		found = vocabulary_prefix(vocabulary, &prefix);
		if (found != VOCABULARY_NONE)
			return found;
	}
	return VOCABULARY_NONE;
}
