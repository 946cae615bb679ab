/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of policies -> numbers: whom their peers match, which ports they open. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/compiler.h"

/* ---- what was written, as bytes ---- */

static int string_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void term_write(const struct selector_term *term, struct buffer *buffer)
{
	size_t count = term->value_count;
	const char **values = calloc(count + 1, sizeof(*values));

	if (!values) {
		buffer->failed = true;
		return;
	}
	for (size_t i = 0; i < count; i++)
		values[i] = term->values[i];
	qsort(values, count, sizeof(*values), string_compare);
	buffer_text(buffer, term->key);
	buffer_number(buffer, term->operator);
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

static int peer_add_groups(const struct compiler *compiler, const struct id_list *groups,
			   struct id_list *identities)
{
	const struct allocator *allocator = &compiler->allocator;

	for (size_t i = 0; i < groups->count; i++) {
		uint32_t identity = allocator->groups[groups->items[i]].first_identity;

		for (; identity != NONE; identity = allocator->identities[identity].next_in_group) {
			if (allocator->identities[identity].refs > 0 &&
			    id_list_add(identities, identity) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* Selectors: all pods of the selected namespaces that match. */
static int peer_select(const struct compiler *compiler, const struct policy_peer *peer,
		       const char *namespace, struct id_list *identities)
{
	const struct allocator *allocator = &compiler->allocator;
	struct id_list namespaces = { 0 };
	struct id_list groups = { 0 };
	size_t own = intern_find(&allocator->namespaces, namespace, strlen(namespace) + 1);
	int ret = 0;

	if (peer->namespaces)
		ret = label_index_select(&allocator->index, SCOPE_NAMESPACES, peer->namespaces,
					 &namespaces);
	else if (own != INTERN_NONE)
		ret = id_list_add(&namespaces, (uint32_t)own);
	for (size_t i = 0; i < namespaces.count && ret == 0; i++)
		ret = label_index_select(&allocator->index, SCOPE_OF(namespaces.items[i]),
					 peer->pods, &groups);
	id_list_sort(&groups);
	if (ret == 0)
		ret = peer_add_groups(compiler, &groups, identities);
	id_list_done(&namespaces);
	id_list_done(&groups);
	return ret;
}

static int peer_nodes(const struct compiler *compiler, const struct policy_peer *peer,
		      struct id_list *identities)
{
	struct id_list groups = { 0 };
	int ret = label_index_select(&compiler->allocator.index, SCOPE_NODES, peer->nodes, &groups);

	id_list_sort(&groups);
	if (ret == 0)
		ret = peer_add_groups(compiler, &groups, identities);
	id_list_done(&groups);
	return ret;
}

static bool block_subsumes(const struct policy_peer *peer, const struct prefix *prefix)
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

/* A block: everybody whose CIDR lies in it, pods included.  The CIDRs in a block follow it in
 * sorted order. */
static int peer_block(const struct compiler *compiler, const struct policy_peer *peer,
		      struct id_list *identities)
{
	const struct allocator *allocator = &compiler->allocator;
	const struct referenced *referenced = &allocator->referenced;

	for (size_t i = referenced_prefix(referenced, &peer->cidr); i < referenced->prefix_count;
	     i++) {
		const struct prefix *prefix = &referenced->prefixes[i];
		struct prefix around = prefix_of(&prefix->addr, peer->cidr.len);
		uint32_t identity = allocator->prefix_identities[i];

		if (!addr_equal(&around.addr, &peer->cidr.addr))
			break;
		if (!block_subsumes(peer, prefix))
			continue;
		for (; identity != NONE;
		     identity = allocator->identities[identity].next_in_prefix) {
			if (allocator->identities[identity].refs > 0 &&
			    id_list_add(identities, identity) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* ---- single identities ---- */

static bool peer_is_of_namespace(const struct compiler *compiler, const struct peer *peer,
				 uint32_t namespace)
{
	const struct allocator *allocator = &compiler->allocator;

	if (peer->written->namespaces)
		return selector_matches(peer->written->namespaces,
					allocator->namespace_labels[namespace]);
	return strcmp(allocator_namespace(allocator, namespace), peer->namespace) == 0;
}

bool peer_matches(const struct compiler *compiler, const struct peer *peer, uint32_t number)
{
	const struct allocator *allocator = &compiler->allocator;
	const struct identity_class *identity = &allocator->identities[number];
	const struct policy_peer *written = peer->written;
	const struct group *group;

	if (written->is_block)
		return identity->prefix != NONE &&
		       block_subsumes(written, &allocator->referenced.prefixes[identity->prefix]);
	if (identity->group == NONE)
		return false;
	group = &allocator->groups[identity->group];
	if (written->nodes || group->namespace == NONE)
		return written->nodes && group->namespace == NONE &&
		       selector_matches(written->nodes, &group->labels);
	return peer_is_of_namespace(compiler, peer, group->namespace) &&
	       (!written->pods || selector_matches(written->pods, &group->labels));
}

/* ---- peers ---- */

static struct selector *selector_keep(struct arena *arena, const struct selector *selector)
{
	struct selector *kept = selector ? arena_copy(arena, selector, sizeof(*selector)) : NULL;

	if (!kept)
		return NULL;
	kept->terms = arena_copy(arena, selector->terms, selector->count * sizeof(*kept->terms));
	for (size_t i = 0; kept->terms && i < kept->count; i++) {
		struct selector_term *term = &kept->terms[i];

		term->key = arena_string(arena, term->key);
		term->values = arena_copy(arena, term->values, term->value_count * sizeof(char *));
		for (size_t v = 0; term->values && v < term->value_count; v++)
			term->values[v] = arena_string(arena, term->values[v]);
	}
	return kept;
}

/* What is compiled outlives the policy that wrote it. */
static const struct policy_peer *peer_keep(struct arena *arena, const struct policy_peer *written)
{
	struct policy_peer *kept = arena_copy(arena, written, sizeof(*written));

	if (!kept)
		return NULL;
	kept->except =
		arena_copy(arena, written->except, written->except_count * sizeof(*kept->except));
	kept->pods = selector_keep(arena, written->pods);
	kept->namespaces = selector_keep(arena, written->namespaces);
	kept->nodes = selector_keep(arena, written->nodes);
	return kept;
}

static int compile_peer(struct compiler *compiler, const struct policy_peer *peer,
			const char *namespace, uint32_t *ret_peer)
{
	size_t known = compiler->peer_keys.count;
	struct id_list identities = { 0 };
	size_t number;
	int ret;

	peer_write(peer, namespace, &compiler->key);
	if (compiler->key.failed)
		return -ENOMEM;
	number = intern_add(&compiler->peer_keys, compiler->key.data, compiler->key.len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_peer = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&compiler->peers, known, &compiler->peer_capacity,
		       sizeof(*compiler->peers)) < 0)
		return -ENOMEM;
	if (peer->is_block)
		ret = peer_block(compiler, peer, &identities);
	else if (peer->nodes)
		ret = peer_nodes(compiler, peer, &identities);
	else
		ret = peer_select(compiler, peer, namespace, &identities);
	id_list_sort(&identities);
	compiler->peers[number] = (struct peer){
		.identities = identities,
		.written = peer_keep(compiler->arena, peer),
		.namespace = arena_string(compiler->arena, namespace),
		.hash = compiler->peer_keys.items[number].hash,
	};
	return arena_failed(compiler->arena) ? -ENOMEM : ret;
}

/* ---- port sets ---- */

/* The number of the set in scratch, which is left empty. */
int ports_intern(struct compiler *compiler, size_t *ret_ports)
{
	struct port_list *scratch = &compiler->scratch;
	size_t count = ports_normalize(scratch->items, scratch->count);

	*ret_ports =
		intern_add(&compiler->port_sets, scratch->items, count * sizeof(*scratch->items));
	scratch->count = 0;
	return *ret_ports == INTERN_NONE ? -ENOMEM : 0;
}

const struct port_rule *ports_get(const struct compiler *compiler, size_t ports, size_t *ret_count)
{
	*ret_count = compiler->port_sets.items[ports].len / sizeof(struct port_rule);
	return compiler->port_sets.items[ports].key;
}

/* Adds a port set to scratch. */
int ports_append(struct compiler *compiler, size_t ports)
{
	size_t count;
	const struct port_rule *rules = ports_get(compiler, ports, &count);

	return port_list_add_all(&compiler->scratch, rules, count);
}

/* Adds to scratch what port names mean on the pods of a group. */
int ports_resolve(struct compiler *compiler, const struct port_name *names, size_t count,
		  const struct group *group)
{
	for (size_t i = 0; i < count; i++) {
		size_t proto_count;
		const uint8_t *protos = port_name_protos(names[i].proto, &proto_count);

		for (size_t p = 0; p < proto_count; p++) {
			uint16_t port = named_port_find(group->ports, group->port_count, protos[p],
							names[i].name);

			if (port && port_list_add(&compiler->scratch, protos[p], port, port) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* ---- rules ---- */

int hash_compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a;
	uint64_t right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

/* What a rule points to is the policy's and the caller's; what is compiled outlives them. */
static int rule_keep(struct arena *arena, struct rule *rule)
{
	struct port_name *names = arena_copy(arena, rule->names, rule->name_count * sizeof(*names));

	for (size_t i = 0; names && i < rule->name_count; i++)
		names[i].name = arena_string(arena, names[i].name);
	rule->names = names;
	rule->peers = arena_copy(arena, rule->peers, rule->peer_count * sizeof(*rule->peers));
	return arena_failed(arena) ? -ENOMEM : 0;
}

/* Whether the rule is known; else adds it, with a hash of its content: the numbers of peers and
 * port sets depend on what else is in the store, the hash must not. */
static int rule_intern(struct compiler *compiler, struct rule *rule, uint32_t *ret_rule)
{
	size_t known = compiler->rule_keys.count;
	struct buffer *key = &compiler->key;
	uint64_t *hashes = calloc(rule->peer_count + 1, sizeof(*hashes));
	size_t number;

	if (!hashes)
		return -ENOMEM;
	key->len = 0;
	buffer_number(key, rule->any);
	buffer_number(key, rule->action);
	buffer_add(key, compiler->port_sets.items[rule->ports].key,
		   compiler->port_sets.items[rule->ports].len);
	buffer_number(key, (uint32_t)rule->name_count);
	for (size_t i = 0; i < rule->name_count; i++) {
		buffer_text(key, rule->names[i].name);
		buffer_number(key, rule->names[i].proto);
	}
	rule->hash = hash_bytes(key->data, key->len);
	buffer_add(key, rule->peers, rule->peer_count * sizeof(*rule->peers));
	for (size_t i = 0; i < rule->peer_count; i++)
		hashes[i] = compiler->peers[rule->peers[i]].hash;
	qsort(hashes, rule->peer_count, sizeof(*hashes), hash_compare);
	hashes[rule->peer_count] = rule->hash;
	rule->hash = hash_bytes(hashes, (rule->peer_count + 1) * sizeof(*hashes));
	free(hashes);
	if (key->failed)
		return -ENOMEM;
	number = intern_add(&compiler->rule_keys, key->data, key->len);
	if (number == INTERN_NONE)
		return -ENOMEM;
	*ret_rule = (uint32_t)number;
	if (number < known)
		return 0;
	if (array_room(&compiler->rules, known, &compiler->rule_capacity,
		       sizeof(*compiler->rules)) < 0)
		return -ENOMEM;
	compiler->rules[number] = *rule;
	return rule_keep(compiler->arena, &compiler->rules[number]);
}

/* names has room for all ports. */
static int compile_rule_ports(struct compiler *compiler, const struct policy_rule *written,
			      struct port_name *names, struct rule *rule)
{
	rule->names = names;
	if (written->port_count == 0 && port_list_add(&compiler->scratch, 0, 0, PORT_ANY_MAX) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < written->port_count; i++) {
		if (written->ports[i].name)
			names[rule->name_count++] =
				(struct port_name){ .name = written->ports[i].name,
						    .proto = written->ports[i].proto };
		else if (port_list_add_policy_port(&compiler->scratch, &written->ports[i]) < 0)
			return -ENOMEM;
	}
	return ports_intern(compiler, &rule->ports);
}

int compile_rule(struct compiler *compiler, const struct policy_rule *written,
		 const char *namespace, uint32_t *ret_rule)
{
	struct rule rule = { .any = written->peer_count == 0, .action = written->action };
	auto_free struct port_name *names = calloc(written->port_count + 1, sizeof(*names));
	struct id_list peers = { 0 };
	uint32_t peer;
	int ret = names ? compile_rule_ports(compiler, written, names, &rule) : -ENOMEM;

	for (size_t i = 0; i < written->peer_count && ret == 0; i++) {
		ret = compile_peer(compiler, &written->peers[i], namespace, &peer);
		if (ret == 0)
			ret = id_list_add(&peers, peer);
	}
	id_list_sort(&peers);
	rule.peers = peers.items;
	rule.peer_count = peers.count;
	if (ret == 0)
		ret = rule_intern(compiler, &rule, ret_rule);
	id_list_done(&peers); /* NOLINT(*Malloc): rule.names are names, peers.items are done */
	return ret;
}

int rule_for_group(struct compiler *compiler, uint32_t number, const struct group *group,
		   uint32_t *ret_rule)
{
	struct rule rule = compiler->rules[number];

	if (rule.name_count == 0) {
		*ret_rule = number;
		return 0;
	}
	if (ports_append(compiler, rule.ports) < 0 ||
	    ports_resolve(compiler, rule.names, rule.name_count, group) < 0 ||
	    ports_intern(compiler, &rule.ports) < 0)
		return -ENOMEM;
	rule.name_count = 0;
	return rule_intern(compiler, &rule, ret_rule);
}
