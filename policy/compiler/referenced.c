/* SPDX-License-Identifier: Apache-2.0 */
/* What the policies of a store read about their subjects and peers. */
#include "policy/compiler/referenced.h"

#include <stdlib.h>
#include <string.h>

#include "policy/objects/policy.h"
#include "policy/objects/ports.h"

/* ---- what one policy reads ---- */

struct term_visitor {
	void (*each)(const struct term *term, void *arg);
	void *arg;
};

static void visit(const struct term_visitor *visitor, const struct term *term)
{
	visitor->each(term, visitor->arg);
}

/* NULL: there is no such selector. */
static void visit_selector(const struct term_visitor *visitor, enum term_kind kind,
			   const struct selector *selector)
{
	for (size_t i = 0; selector && i < selector->count; i++)
		visit(visitor, &(struct term){ .kind = kind, .text = selector->terms[i].key });
}

static void visit_peer(const struct term_visitor *visitor, const struct policy_peer *peer)
{
	if (peer->nodes)
		visit(visitor, &(struct term){ .kind = TERM_NODES });
	visit_selector(visitor, TERM_POD_KEY, peer->pods);
	visit_selector(visitor, TERM_NODE_KEY, peer->nodes);
	if (peer->is_block)
		visit(visitor, &(struct term){ .kind = TERM_PREFIX, .prefix = peer->cidr });
	for (size_t i = 0; i < peer->except_count; i++)
		visit(visitor, &(struct term){ .kind = TERM_PREFIX, .prefix = peer->except[i] });
}

static void visit_port(const struct term_visitor *visitor, const struct policy_port *port)
{
	size_t count;
	const uint8_t *protos = port_name_protos(port->proto, &count);

	for (size_t i = 0; port->name && i < count; i++)
		visit(visitor,
		      &(struct term){ .kind = TERM_PORT, .text = port->name, .proto = protos[i] });
}

static void visit_rules(const struct term_visitor *visitor, const struct policy_rule *rules,
			size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (rule_refuses_pods(&rules[i]))
			visit(visitor, &(struct term){ .kind = TERM_REFUSED_PODS });
		for (size_t p = 0; p < rules[i].peer_count; p++)
			visit_peer(visitor, &rules[i].peers[p]);
		for (size_t p = 0; p < rules[i].port_count; p++)
			visit_port(visitor, &rules[i].ports[p]);
	}
}

void policy_terms(const struct object *object, void (*each)(const struct term *term, void *arg),
		  void *arg)
{
	const struct term_visitor visitor = { .each = each, .arg = arg };
	bool cluster = object->kind == OBJECT_CLUSTER_POLICY;

	visit_selector(&visitor, TERM_POD_KEY,
		       cluster ? &object->cluster_policy.pods : &object->policy.pods);
	for (int direction = 0; direction < 2; direction++) {
		struct policy_rules rules = policy_rules(object, (enum direction)direction);

		if (rules.in_force)
			visit_rules(&visitor, rules.items, rules.count);
	}
}

/* ---- what all of them read ---- */

struct port_name_list {
	struct port_name *items;
	size_t count;
	size_t capacity;
};

struct prefix_list {
	struct prefix *items;
	size_t count;
	size_t capacity;
};

struct term_collector {
	struct referenced *referenced;
	struct port_name_list ports;
	struct prefix_list prefixes;
};

static void collect_term(const struct term *term, void *arg)
{
	struct term_collector *collector = arg;

	switch (term->kind) {
	case TERM_POD_KEY:
		intern_add(&collector->referenced->keys, term->text, strlen(term->text));
		break;
	case TERM_NODE_KEY:
		intern_add(&collector->referenced->node_keys, term->text, strlen(term->text));
		break;
	case TERM_NODES:
		collector->referenced->nodes = true;
		break;
	case TERM_REFUSED_PODS:
		collector->referenced->refuses_pods = true;
		break;
	case TERM_PORT:
		*array_add(&collector->ports) =
			(struct port_name){ .name = term->text, .proto = term->proto };
		break;
	case TERM_PREFIX:
		*array_add(&collector->prefixes) = term->prefix;
		break;
	}
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

static void collect_policies(struct term_collector *collector, const struct store *store,
			     enum object_kind kind)
{
	const struct object *const *policies;
	size_t count = store_objects(store, kind, &policies);

	for (size_t i = 0; i < count; i++)
		policy_terms(policies[i], collect_term, collector);
}

void referenced_build(struct referenced *referenced, const struct store *store)
{
	struct term_collector collector = { .referenced = referenced };
	unsigned char key[17];

	referenced->arena = arena_new();
	referenced->keys.arena = referenced->arena;
	referenced->node_keys.arena = referenced->arena;
	referenced->prefix_keys.arena = referenced->arena;
	collect_policies(&collector, store, OBJECT_NETWORK_POLICY);
	collect_policies(&collector, store, OBJECT_CLUSTER_POLICY);

	referenced->ports = collector.ports.items;
	referenced->port_count = sort_unique(collector.ports.items, collector.ports.count,
					     sizeof(struct port_name), port_name_compare);
	for (size_t i = 0; i < referenced->port_count; i++) /* so far they are the policies' */
		referenced->ports[i].name =
			arena_string(referenced->arena, referenced->ports[i].name);
	referenced->prefixes = collector.prefixes.items;
	referenced->prefix_count = sort_unique(collector.prefixes.items, collector.prefixes.count,
					       sizeof(struct prefix), prefix_compare);
	for (size_t i = 0; i < referenced->prefix_count; i++) {
		referenced->lengths[referenced->prefixes[i].len] = true;
		intern_add(&referenced->prefix_keys, key,
			   prefix_key(&referenced->prefixes[i], key));
	}
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
	return referenced_around(referenced, addr, 128);
}

uint32_t referenced_around(const struct referenced *referenced, const struct addr *addr,
			   uint8_t max_len)
{
	/* ::/0 and its like do not speak of IPv4. */
	int shortest = addr_is_v4(addr) ? 96 : 0;

	for (int len = max_len; len >= shortest; len--) {
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
