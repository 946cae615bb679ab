/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/objects/interest.h"

#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"
#include "policy/objects/policy.h"

static void namespaces_drop(struct interest *interest)
{
	for (size_t i = 0; i < interest->count; i++)
		free(interest->namespaces[i]);
	free(interest->namespaces);
	interest->namespaces = NULL;
	interest->count = 0;
}

void interest_done(struct interest *interest)
{
	namespaces_drop(interest);
	*interest = (struct interest){ 0 };
}

/* Where the name is or belongs. */
static size_t position(const struct interest *interest, const char *namespace, bool *ret_found)
{
	size_t at = 0;
	int order = 1;

	while (at < interest->count && (order = strcmp(namespace, interest->namespaces[at])) > 0)
		at++;
	*ret_found = at < interest->count && order == 0;
	return at;
}

static void add_all(struct interest *interest)
{
	namespaces_drop(interest);
	interest->all_pods = true;
}

static void add_namespace(struct interest *interest, const char *namespace)
{
	bool found;
	size_t at = position(interest, namespace, &found);

	if (found || interest->all_pods)
		return;
	if (interest->count == INTEREST_NAMESPACES_MAX) {
		add_all(interest);
		return;
	}
	/* NOLINTNEXTLINE(*Malloc): nobody copies an interest to itself */
	interest->namespaces = xreallocarray(interest->namespaces, interest->count + 1,
					     sizeof(*interest->namespaces));
	memmove(&interest->namespaces[at + 1], &interest->namespaces[at],
		(interest->count - at) * sizeof(*interest->namespaces));
	interest->namespaces[at] = xstrdup(namespace);
	interest->count++;
}

static void add_peer(struct interest *interest, const struct store *store,
		     const struct object *policy, const struct policy_peer *peer)
{
	interest->nodes |= peer->nodes != NULL;
	if (peer->is_block || peer->nodes || interest->all_pods)
		return;
	if (!peer->namespaces) {
		add_namespace(interest, policy->namespace);
		return;
	}
	if (peer->namespaces->count == 0) {
		add_all(interest);
		return;
	}
	for (const struct object *o = store_first(store, OBJECT_NAMESPACE); o;
	     o = store_next(store, o)) {
		if (selector_matches(peer->namespaces, &o->ns.labels))
			add_namespace(interest, o->name);
	}
}

/* A named port of egress is another number with each pod. */
static bool has_named_port(const struct policy_rule *rule)
{
	for (size_t i = 0; i < rule->port_count; i++) {
		if (rule->ports[i].name)
			return true;
	}
	return false;
}

void interest_add(struct interest *interest, const struct store *store, const struct object *policy)
{
	static const enum direction directions[] = { DIR_INGRESS, DIR_EGRESS };

	for (size_t d = 0; d < ARRAY_SIZE(directions); d++) {
		struct policy_rules rules = policy_rules(policy, directions[d]);

		for (size_t i = 0; rules.in_force && i < rules.count; i++) {
			const struct policy_rule *rule = &rules.items[i];

			/* Where pods are refused, one that is not known counts as refused. */
			if (rule_refuses_pods(rule)) {
				add_all(interest);
				interest->nodes = true;
			}
			if (directions[d] == DIR_EGRESS && rule->peer_count == 0 &&
			    has_named_port(rule))
				add_all(interest);
			for (size_t k = 0; k < rule->peer_count; k++)
				add_peer(interest, store, policy, &rule->peers[k]);
		}
	}
}

bool policy_refuses_peers(const struct object *policy)
{
	static const enum direction directions[] = { DIR_INGRESS, DIR_EGRESS };

	for (size_t d = 0; d < ARRAY_SIZE(directions); d++) {
		struct policy_rules rules = policy_rules(policy, directions[d]);

		for (size_t i = 0; i < rules.count; i++) {
			if (rules.items[i].action != ACTION_ACCEPT && rules.items[i].peer_count)
				return true;
		}
	}
	return false;
}

void interest_intersect(struct interest *interest, const struct interest *other)
{
	size_t kept = 0;

	interest->nodes &= other->nodes;
	if (other->all_pods)
		return;
	if (interest->all_pods) {
		bool nodes = interest->nodes;

		interest_copy(interest, other);
		interest->nodes = nodes;
		return;
	}
	for (size_t i = 0; i < interest->count; i++) {
		bool found;

		position(other, interest->namespaces[i], &found);
		if (found)
			interest->namespaces[kept++] = interest->namespaces[i];
		else
			free(interest->namespaces[i]);
	}
	interest->count = kept;
}

void interest_copy(struct interest *interest, const struct interest *other)
{
	interest_done(interest);
	interest->all_pods = other->all_pods;
	interest->nodes = other->nodes;
	for (size_t i = 0; i < other->count; i++)
		add_namespace(interest, other->namespaces[i]);
}

bool interest_covers(const struct interest *interest, const struct interest *needed)
{
	if ((needed->nodes && !interest->nodes) || (needed->all_pods && !interest->all_pods))
		return false;
	for (size_t i = 0; i < needed->count && !interest->all_pods; i++) {
		bool found;

		position(interest, needed->namespaces[i], &found);
		if (!found)
			return false;
	}
	return true;
}
