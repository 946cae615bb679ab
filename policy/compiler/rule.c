/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of policies -> numbers: whom their peers match, which ports they open. */
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "policy/compiler/compiler.h"
#include "policy/objects/policy.h"

/* ---- what was written, as bytes ---- */

static int string_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void term_write(const struct selector_term *term, struct buffer *buffer)
{
	size_t count = term->value_count;
	const char **values = xmemdup(term->values, count * sizeof(*values));

	qsort(values, count, sizeof(*values), string_compare);
	buffer_text(buffer, term->key);
	buffer_number(buffer, term->op);
	buffer_number(buffer, (uint32_t)count);
	for (size_t i = 0; i < count; i++)
		buffer_text(buffer, values[i]);
	free(values);
}

static void selector_write(const struct selector *selector, struct buffer *buffer)
{
	if (!selector) {
		buffer_number(buffer, NONE);
		return;
	}
	buffer_number(buffer, (uint32_t)selector->count);
	for (size_t i = 0; i < selector->count; i++)
		term_write(&selector->terms[i], buffer);
}

static void prefix_write(const struct prefix *prefix, struct buffer *buffer)
{
	buffer_add(buffer, &prefix->addr, sizeof(prefix->addr));
	buffer_add(buffer, &prefix->len, sizeof(prefix->len));
}

/* A peer without namespaceSelector speaks of the policy's own namespace. */
static void peer_write(const struct policy_peer *peer, const char *namespace, struct buffer *buffer)
{
	buffer->len = 0;
	if (peer->is_block) {
		buffer_add(buffer, "b", 1);
		prefix_write(&peer->cidr, buffer);
		for (size_t i = 0; i < peer->except_count; i++)
			prefix_write(&peer->except[i], buffer);
		return;
	}
	if (peer->nodes) {
		buffer_add(buffer, "h", 1);
		selector_write(peer->nodes, buffer);
		return;
	}
	buffer_add(buffer, peer->namespaces ? "n" : "p", 1);
	if (peer->namespaces)
		selector_write(peer->namespaces, buffer);
	else
		buffer_text(buffer, namespace);
	selector_write(peer->pods, buffer);
}

/* ---- whom a peer matches ---- */

/* Adds the identities of the groups, and empties the list of groups. */
static void identities_of_groups(const struct allocator *allocator, struct id_list *groups,
				 struct id_list *identities)
{
	id_list_sort(groups);
	for (size_t i = 0; i < groups->count; i++) {
		uint32_t identity = allocator->groups[groups->items[i]].first_identity;

		for (; identity != NONE; identity = allocator->identities[identity].next_in_group) {
			if (allocator->identities[identity].refs > 0)
				id_list_add(identities, identity);
		}
	}
	id_list_done(groups);
}

/* Selectors: all pods of the selected namespaces that match. */
static void peer_find_pods(const struct allocator *allocator, const struct policy_peer *peer,
			   const char *own_namespace, struct id_list *identities)
{
	struct id_list namespaces = { 0 };
	struct id_list groups = { 0 };
	size_t own = intern_find(&allocator->namespaces, own_namespace, strlen(own_namespace) + 1);

	if (peer->namespaces)
		label_index_select(&allocator->index, SCOPE_NAMESPACES, peer->namespaces,
				   &namespaces);
	else if (own != INTERN_NONE)
		id_list_add(&namespaces, (uint32_t)own);
	for (size_t i = 0; i < namespaces.count; i++)
		label_index_select(&allocator->index, SCOPE_OF(namespaces.items[i]), peer->pods,
				   &groups);
	identities_of_groups(allocator, &groups, identities);
	id_list_done(&namespaces);
}

static void peer_find_nodes(const struct allocator *allocator, const struct policy_peer *peer,
			    struct id_list *identities)
{
	struct id_list groups = { 0 };

	label_index_select(&allocator->index, SCOPE_NODES, peer->nodes, &groups);
	identities_of_groups(allocator, &groups, identities);
}

static bool block_contains(const struct policy_peer *peer, const struct prefix *prefix)
{
	if (prefix->len < peer->cidr.len || !prefix_contains(&peer->cidr, &prefix->addr))
		return false;
	for (size_t i = 0; i < peer->except_count; i++) {
		if (prefix->len >= peer->except[i].len &&
		    prefix_contains(&peer->except[i], &prefix->addr))
			return false;
	}
	return true;
}

/* A block: every identity whose CIDR lies in it, pods included.  The CIDRs in a block follow it in
 * sorted order. */
static void peer_find_block(const struct allocator *allocator, const struct policy_peer *peer,
			    struct id_list *identities)
{
	const struct referenced *referenced = &allocator->referenced;

	for (size_t i = referenced_prefix(referenced, &peer->cidr); i < referenced->prefix_count;
	     i++) {
		const struct prefix *prefix = &referenced->prefixes[i];
		struct prefix around = prefix_of(&prefix->addr, peer->cidr.len);
		uint32_t identity = allocator->prefix_identities[i];

		if (!addr_equal(&around.addr, &peer->cidr.addr))
			break;
		if (!block_contains(peer, prefix))
			continue;
		for (; identity != NONE;
		     identity = allocator->identities[identity].next_in_prefix) {
			if (allocator->identities[identity].refs > 0)
				id_list_add(identities, identity);
		}
	}
}

bool peer_matches(const struct compiler *compiler, const struct peer *peer, uint32_t number)
{
	const struct allocator *allocator = &compiler->allocator;
	const struct identity_class *identity = &allocator->identities[number];
	const struct policy_peer *written = peer->written;
	const struct group *group;

	if (written->is_block)
		return identity->prefix != NONE &&
		       block_contains(written, &allocator->referenced.prefixes[identity->prefix]);
	if (identity->group == NONE || allocator->groups[identity->group].unknown)
		return false;
	group = &allocator->groups[identity->group];
	if (written->nodes || group->namespace == NONE)
		return written->nodes && group->namespace == NONE &&
		       selector_matches(written->nodes, &group->labels);
	return peer_selects(written, peer->namespace,
			    allocator_namespace(allocator, group->namespace),
			    allocator->namespace_labels[group->namespace], &group->labels);
}

/* ---- peers ---- */

static struct selector *selector_keep(struct arena *arena, const struct selector *selector)
{
	struct selector *kept;

	if (!selector)
		return NULL;
	kept = arena_copy(arena, selector, sizeof(*selector));
	kept->terms = arena_copy(arena, selector->terms, selector->count * sizeof(*kept->terms));
	for (size_t i = 0; i < kept->count; i++) {
		struct selector_term *term = &kept->terms[i];

		term->key = arena_string(arena, term->key);
		term->values = arena_copy(arena, term->values, term->value_count * sizeof(char *));
		for (size_t v = 0; v < term->value_count; v++)
			term->values[v] = arena_string(arena, term->values[v]);
	}
	return kept;
}

/* A copy, as what is compiled outlives the policy. */
static const struct policy_peer *peer_keep(struct arena *arena, const struct policy_peer *written)
{
	struct policy_peer *kept = arena_copy(arena, written, sizeof(*written));

	kept->except =
		arena_copy(arena, written->except, written->except_count * sizeof(*kept->except));
	kept->pods = selector_keep(arena, written->pods);
	kept->namespaces = selector_keep(arena, written->namespaces);
	kept->nodes = selector_keep(arena, written->nodes);
	return kept;
}

/* The number of a peer, new or known. */
static uint32_t compile_peer(struct compiler *compiler, const struct policy_peer *peer,
			     const char *namespace)
{
	size_t known = compiler->peer_keys.count;
	struct id_list identities = { 0 };
	size_t number;

	peer_write(peer, namespace, &compiler->key);
	number = intern_add(&compiler->peer_keys, compiler->key.data, compiler->key.len);
	if (number < known)
		return (uint32_t)number;
	if (peer->is_block)
		peer_find_block(&compiler->allocator, peer, &identities);
	else if (peer->nodes)
		peer_find_nodes(&compiler->allocator, peer, &identities);
	else
		peer_find_pods(&compiler->allocator, peer, namespace, &identities);
	id_list_sort(&identities);
	array_room(&compiler->peers, known, &compiler->peer_capacity, sizeof(*compiler->peers));
	compiler->peers[number] = (struct peer){
		.identities = identities,
		.written = peer_keep(compiler->arena, peer),
		.namespace = arena_string(compiler->arena, namespace),
		.hash = compiler->peer_keys.items[number].hash,
	};
	return (uint32_t)number;
}

/* ---- port sets ---- */

uint32_t ports_intern(struct compiler *compiler)
{
	struct port_list *scratch = &compiler->scratch;
	size_t count = ports_normalize(scratch->items, scratch->count);

	scratch->count = 0;
	return (uint32_t)intern_add(&compiler->port_sets, scratch->items,
				    count * sizeof(*scratch->items));
}

const struct port_rule *ports_get(const struct compiler *compiler, uint32_t ports,
				  size_t *ret_count)
{
	*ret_count = compiler->port_sets.items[ports].len / sizeof(struct port_rule);
	return compiler->port_sets.items[ports].key;
}

void ports_append(struct compiler *compiler, uint32_t ports)
{
	size_t count;
	const struct port_rule *rules = ports_get(compiler, ports, &count);

	for (size_t i = 0; i < count; i++)
		port_list_add(&compiler->scratch, rules[i].proto, rules[i].port_min,
			      rules[i].port_max);
}

/* Adds to scratch the ports that these names have on the pods of a group. */
static void ports_resolve(struct compiler *compiler, const struct port_name *names, size_t count,
			  const struct group *group)
{
	for (size_t i = 0; i < count; i++) {
		size_t proto_count;
		const uint8_t *protos = port_name_protos(names[i].proto, &proto_count);

		for (size_t p = 0; p < proto_count; p++) {
			uint16_t port = named_port_find(group->ports, group->port_count, protos[p],
							names[i].name);

			if (port)
				port_list_add(&compiler->scratch, protos[p], port, port);
		}
	}
}

uint32_t rule_ports_for(struct compiler *compiler, const struct rule *rule,
			const struct group *group)
{
	if (rule->name_count == 0)
		return rule->ports;
	ports_append(compiler, rule->ports);
	ports_resolve(compiler, rule->names, rule->name_count, group);
	return ports_intern(compiler);
}

bool rule_may_refuse_unknown(const struct compiler *compiler, const struct rule *rule)
{
	if (rule->action == ACTION_ACCEPT)
		return false;
	for (size_t p = 0; p < rule->peer_count; p++) {
		const struct policy_peer *written = compiler->peers[rule->peers[p]].written;

		if (!written->is_block && !written->nodes)
			return true;
	}
	return false;
}

uint32_t rule_ports_in_doubt(struct compiler *compiler, const struct rule *rule)
{
	ports_append(compiler, rule->ports);
	for (size_t i = 0; i < rule->name_count; i++) {
		size_t count;
		const uint8_t *protos = port_name_protos(rule->names[i].proto, &count);

		for (size_t p = 0; p < count; p++)
			port_list_add(&compiler->scratch, protos[p], 0, PORT_ANY_MAX);
	}
	return ports_intern(compiler);
}

/* ---- rules ---- */

int hash_compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a;
	uint64_t right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

/* The hash of a rule, from what it says alone: the numbers of peers and port sets depend on what
 * else is in the store.  content is the rule without its peers. */
static uint64_t rule_hash(const struct compiler *compiler, const struct rule *rule,
			  const struct buffer *content)
{
	auto_free uint64_t *hashes = xcalloc(rule->peer_count + 1, sizeof(*hashes));

	for (size_t i = 0; i < rule->peer_count; i++)
		hashes[i] = compiler->peers[rule->peers[i]].hash;
	qsort(hashes, rule->peer_count, sizeof(*hashes), hash_compare);
	hashes[rule->peer_count] = hash_bytes(content->data, content->len);
	return hash_bytes(hashes, (rule->peer_count + 1) * sizeof(*hashes));
}

/* The number of a rule, new or known.  The rule is copied. */
static uint32_t rule_intern(struct compiler *compiler, const struct rule *written)
{
	struct arena *arena = compiler->arena;
	size_t known = compiler->rule_keys.count;
	struct buffer *key = &compiler->key;
	struct rule rule = *written;
	struct port_name *names;
	size_t number;

	key->len = 0;
	buffer_number(key, rule.any);
	buffer_number(key, rule.action);
	buffer_add(key, compiler->port_sets.items[rule.ports].key,
		   compiler->port_sets.items[rule.ports].len);
	buffer_number(key, (uint32_t)rule.name_count);
	for (size_t i = 0; i < rule.name_count; i++) {
		buffer_text(key, rule.names[i].name);
		buffer_number(key, rule.names[i].proto);
	}
	rule.hash = rule_hash(compiler, &rule, key);
	buffer_add(key, rule.peers, rule.peer_count * sizeof(*rule.peers));
	number = intern_add(&compiler->rule_keys, key->data, key->len);
	if (number < known)
		return (uint32_t)number;
	names = arena_copy(arena, rule.names, rule.name_count * sizeof(*names));
	for (size_t i = 0; i < rule.name_count; i++)
		names[i].name = arena_string(arena, names[i].name);
	rule.names = names;
	rule.peers = arena_copy(arena, rule.peers, rule.peer_count * sizeof(*rule.peers));
	array_room(&compiler->rules, known, &compiler->rule_capacity, sizeof(*compiler->rules));
	compiler->rules[number] = rule;
	return (uint32_t)number;
}

uint32_t compile_rule(struct compiler *compiler, const struct policy_rule *written,
		      const char *namespace)
{
	struct rule rule = { .any = written->peer_count == 0, .action = written->action };
	auto_free struct port_name *names = xcalloc(written->port_count, sizeof(*names));
	struct id_list peers = { 0 };
	uint32_t number;

	if (written->port_count == 0)
		port_list_add(&compiler->scratch, 0, 0, PORT_ANY_MAX);
	for (size_t i = 0; i < written->port_count; i++) {
		if (written->ports[i].name)
			names[rule.name_count++] =
				(struct port_name){ .name = written->ports[i].name,
						    .proto = written->ports[i].proto };
		else
			port_list_add_policy_port(&compiler->scratch, &written->ports[i]);
	}
	rule.ports = ports_intern(compiler);
	rule.names = names;
	for (size_t i = 0; i < written->peer_count; i++)
		id_list_add(&peers, compile_peer(compiler, &written->peers[i], namespace));
	id_list_sort(&peers);
	rule.peers = peers.items;
	rule.peer_count = peers.count;
	number = rule_intern(compiler, &rule);
	id_list_done(&peers); /* NOLINT(*Malloc): rule.names are names, peers.items are done */
	return number;
}

uint32_t rule_for_group(struct compiler *compiler, uint32_t number, const struct group *group)
{
	struct rule rule = compiler->rules[number];

	if (rule.name_count == 0)
		return number;
	rule.ports = rule_ports_for(compiler, &rule, group);
	rule.name_count = 0;
	return rule_intern(compiler, &rule);
}
