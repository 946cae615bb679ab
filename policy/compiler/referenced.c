/* SPDX-License-Identifier: Apache-2.0 */
/* What the policies of a store read about their subjects and peers. */
#include "policy/compiler/referenced.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/objects/ports.h"

/* ---- what one policy reads ---- */

struct reading {
	int (*each)(const struct term *term, void *arg);
	void *arg;
};

static int read_selector(const struct reading *reading, enum term_kind kind,
			 const struct selector *selector)
{
	int ret = 0;

	for (size_t i = 0; selector && i < selector->count && ret == 0; i++) {
		struct term term = { .kind = kind, .text = selector->terms[i].key };

		ret = reading->each(&term, reading->arg);
	}
	return ret;
}

static int read_prefix(const struct reading *reading, const struct prefix *prefix)
{
	struct term term = { .kind = TERM_PREFIX, .prefix = *prefix };

	return reading->each(&term, reading->arg);
}

static int read_port(const struct reading *reading, const struct policy_port *port)
{
	size_t count;
	const uint8_t *protos = port_name_protos(port->proto, &count);
	int ret = 0;

	for (size_t i = 0; port->name && i < count && ret == 0; i++) {
		struct term term = { .kind = TERM_PORT, .text = port->name, .proto = protos[i] };

		ret = reading->each(&term, reading->arg);
	}
	return ret;
}

static int read_peer(const struct reading *reading, const struct policy_peer *peer)
{
	const struct term nodes = { .kind = TERM_NODES };
	int ret = peer->nodes ? reading->each(&nodes, reading->arg) : 0;

	if (ret == 0)
		ret = read_selector(reading, TERM_POD_KEY, peer->pods);
	if (ret == 0)
		ret = read_selector(reading, TERM_NODE_KEY, peer->nodes);
	if (ret == 0 && peer->is_block)
		ret = read_prefix(reading, &peer->cidr);
	for (size_t i = 0; i < peer->except_count && ret == 0; i++)
		ret = read_prefix(reading, &peer->except[i]);
	return ret;
}

static int read_rules(const struct reading *reading, const struct policy_rule *rules, size_t count)
{
	int ret = 0;

	for (size_t i = 0; i < count; i++) {
		for (size_t p = 0; p < rules[i].peer_count && ret == 0; p++)
			ret = read_peer(reading, &rules[i].peers[p]);
		for (size_t p = 0; p < rules[i].port_count && ret == 0; p++)
			ret = read_port(reading, &rules[i].ports[p]);
	}
	return ret;
}

static int read_cluster_policy(const struct reading *reading,
			       const struct cluster_policy_object *policy)
{
	int ret = read_selector(reading, TERM_POD_KEY, &policy->pods);

	if (ret == 0)
		ret = read_rules(reading, policy->ingress_rules, policy->ingress_rule_count);
	if (ret == 0)
		ret = read_rules(reading, policy->egress_rules, policy->egress_rule_count);
	return ret;
}

int policy_terms(const struct object *object, int (*each)(const struct term *term, void *arg),
		 void *arg)
{
	const struct reading reading = { .each = each, .arg = arg };
	const struct network_policy_object *policy = &object->policy;
	int ret;

	if (object->kind == OBJECT_CLUSTER_POLICY)
		return read_cluster_policy(&reading, &object->cluster_policy);
	ret = read_selector(&reading, TERM_POD_KEY, &policy->pods);
	if (ret == 0 && policy->ingress)
		ret = read_rules(&reading, policy->ingress_rules, policy->ingress_rule_count);
	if (ret == 0 && policy->egress)
		ret = read_rules(&reading, policy->egress_rules, policy->egress_rule_count);
	return ret;
}

/* ---- what all of them read ---- */

/* Room while collecting. */
struct collector {
	struct referenced *referenced;
	size_t port_capacity;
	size_t prefix_capacity;
};

static int collect_prefix(struct collector *collector, const struct prefix *prefix)
{
	struct referenced *referenced = collector->referenced;

	if (array_room(&referenced->prefixes, referenced->prefix_count, &collector->prefix_capacity,
		       sizeof(*referenced->prefixes)) < 0)
		return -ENOMEM;
	referenced->prefixes[referenced->prefix_count++] = *prefix;
	return 0;
}

static int collect_port(struct collector *collector, const struct term *term)
{
	struct referenced *referenced = collector->referenced;

	if (array_room(&referenced->ports, referenced->port_count, &collector->port_capacity,
		       sizeof(*referenced->ports)) < 0)
		return -ENOMEM;
	referenced->ports[referenced->port_count++] =
		(struct port_name){ .name = term->text, .proto = term->proto };
	return 0;
}

static int collect_key(struct intern *keys, const char *key)
{
	return intern_add(keys, key, strlen(key)) == INTERN_NONE ? -ENOMEM : 0;
}

static int collect_term(const struct term *term, void *arg)
{
	struct collector *collector = arg;

	switch (term->kind) {
	case TERM_POD_KEY:
		return collect_key(&collector->referenced->keys, term->text);
	case TERM_NODE_KEY:
		return collect_key(&collector->referenced->node_keys, term->text);
	case TERM_NODES:
		collector->referenced->nodes = true;
		return 0;
	case TERM_PORT:
		return collect_port(collector, term);
	case TERM_PREFIX:
		return collect_prefix(collector, &term->prefix);
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

static int collect_policies(struct collector *collector, const struct store *store,
			    enum object_kind kind)
{
	const struct object *const *policies;
	size_t count = store_objects(store, kind, &policies);

	for (size_t i = 0; i < count; i++) {
		if (policy_terms(policies[i], collect_term, collector) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Sorts what was collected; port names are the policies' until then. */
static int referenced_settle(struct referenced *referenced)
{
	unsigned char key[17];

	referenced->port_count = sort_unique(referenced->ports, referenced->port_count,
					     sizeof(*referenced->ports), port_name_compare);
	for (size_t i = 0; i < referenced->port_count; i++)
		referenced->ports[i].name =
			arena_string(referenced->arena, referenced->ports[i].name);
	referenced->prefix_count = sort_unique(referenced->prefixes, referenced->prefix_count,
					       sizeof(*referenced->prefixes), prefix_compare);
	for (size_t i = 0; i < referenced->prefix_count; i++) {
		referenced->lengths[referenced->prefixes[i].len] = true;
		if (intern_add(&referenced->prefix_keys, key,
			       prefix_key(&referenced->prefixes[i], key)) == INTERN_NONE)
			return -ENOMEM;
	}
	return arena_failed(referenced->arena) ? -ENOMEM : 0;
}

int referenced_build(struct referenced *referenced, const struct store *store)
{
	struct collector collector = { .referenced = referenced };

	referenced->arena = arena_new();
	if (!referenced->arena)
		return -ENOMEM;
	referenced->keys.arena = referenced->arena;
	referenced->node_keys.arena = referenced->arena;
	referenced->prefix_keys.arena = referenced->arena;
	if (collect_policies(&collector, store, OBJECT_NETWORK_POLICY) < 0 ||
	    collect_policies(&collector, store, OBJECT_CLUSTER_POLICY) < 0)
		return -ENOMEM;
	return referenced_settle(referenced);
}

void referenced_done(struct referenced *referenced)
{
	intern_done(&referenced->keys);
	intern_done(&referenced->node_keys);
	intern_done(&referenced->prefix_keys);
	free(referenced->ports);
	free(referenced->prefixes);
	arena_free(referenced->arena);
}

uint32_t referenced_prefix(const struct referenced *referenced, const struct prefix *prefix)
{
	unsigned char key[17];
	size_t found = intern_find(&referenced->prefix_keys, key, prefix_key(prefix, key));

	return found == INTERN_NONE ? REFERENCED_NONE : (uint32_t)found;
}

uint32_t referenced_longest(const struct referenced *referenced, const struct addr *addr)
{
	/* ::/0 and its like do not speak of IPv4. */
	int shortest = addr_is_v4(addr) ? 96 : 0;

	for (int len = 128; len >= shortest; len--) {
		struct prefix prefix;
		uint32_t found;

		if (!referenced->lengths[len])
			continue;
		prefix = prefix_of(addr, (uint8_t)len);
		found = referenced_prefix(referenced, &prefix);
		if (found != REFERENCED_NONE)
			return found;
	}
	return REFERENCED_NONE;
}
