/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/analysis/subsume.h"

#include <string.h>

#include "policy/objects/policy.h"
#include "policy/objects/ports.h"

/* ---- selectors ---- */

static bool value_in(const struct selector_term *term, const char *value)
{
	for (size_t i = 0; i < term->value_count; i++) {
		if (strcmp(term->values[i], value) == 0)
			return true;
	}
	return false;
}

/* How many values of one term the other one has. */
static size_t values_shared(const struct selector_term *of, const struct selector_term *in)
{
	size_t shared = 0;

	for (size_t i = 0; i < of->value_count; i++)
		shared += value_in(in, of->values[i]);
	return shared;
}

/* Whether labels for which inner holds make outer hold; both ask about one key. */
static bool term_subsumes(const struct selector_term *outer, const struct selector_term *inner)
{
	switch (outer->op) {
	case SELECTOR_IN:
		return inner->op == SELECTOR_IN &&
		       values_shared(inner, outer) == inner->value_count;
	case SELECTOR_NOT_IN:
		if (inner->op == SELECTOR_IN)
			return values_shared(inner, outer) == 0;
		return inner->op == SELECTOR_NOT_EXISTS ||
		       (inner->op == SELECTOR_NOT_IN &&
			values_shared(outer, inner) == outer->value_count);
	case SELECTOR_EXISTS:
		return inner->op == SELECTOR_EXISTS || inner->op == SELECTOR_IN;
	case SELECTOR_NOT_EXISTS:
		return inner->op == SELECTOR_NOT_EXISTS;
	}
	return false;
}

bool selector_subsumes(const struct selector *outer, const struct selector *inner)
{
	for (size_t o = 0; o < outer->count; o++) {
		bool covered = false;

		for (size_t i = 0; i < inner->count && !covered; i++)
			covered = strcmp(outer->terms[o].key, inner->terms[i].key) == 0 &&
				  term_subsumes(&outer->terms[o], &inner->terms[i]);
		if (!covered)
			return false;
	}
	return true;
}

static bool terms_contradict(const struct selector_term *a, const struct selector_term *b)
{
	switch (a->op) {
	case SELECTOR_IN:
		if (b->op == SELECTOR_IN)
			return values_shared(a, b) == 0;
		return b->op == SELECTOR_NOT_EXISTS ||
		       (b->op == SELECTOR_NOT_IN && values_shared(a, b) == a->value_count);
	case SELECTOR_EXISTS:
		return b->op == SELECTOR_NOT_EXISTS;
	case SELECTOR_NOT_IN:
	case SELECTOR_NOT_EXISTS:
		return false; /* the other term says it */
	}
	return false;
}

const char *selector_contradiction(const struct selector *selector)
{
	for (size_t a = 0; a < selector->count; a++) {
		for (size_t b = 0; b < selector->count; b++) {
			if (a != b && strcmp(selector->terms[a].key, selector->terms[b].key) == 0 &&
			    terms_contradict(&selector->terms[a], &selector->terms[b]))
				return selector->terms[a].key;
		}
	}
	return NULL;
}

/* ---- subjects ---- */

bool policy_subsumes(const struct store *store, const struct object *outer,
		     const struct object *inner)
{
	const struct selector *pods = inner->kind == OBJECT_NETWORK_POLICY
					      ? &inner->policy.pods
					      : &inner->cluster_policy.pods;

	if (outer->kind == OBJECT_NETWORK_POLICY)
		return inner->kind == OBJECT_NETWORK_POLICY &&
		       strcmp(outer->namespace, inner->namespace) == 0 &&
		       selector_subsumes(&outer->policy.pods, pods);
	if (!selector_subsumes(&outer->cluster_policy.pods, pods))
		return false;
	if (inner->kind == OBJECT_NETWORK_POLICY)
		return namespace_selected(store, inner->namespace,
					  &outer->cluster_policy.namespaces);
	return selector_subsumes(&outer->cluster_policy.namespaces,
				 &inner->cluster_policy.namespaces);
}

/* ---- peers ---- */

static bool block_subsumes(const struct policy_peer *outer, const struct policy_peer *inner)
{
	if (outer->cidr.len > inner->cidr.len || !prefix_contains(&outer->cidr, &inner->cidr.addr))
		return false;
	for (size_t o = 0; o < outer->except_count; o++) {
		const struct prefix *hole = &outer->except[o];
		bool spared = !prefix_overlaps(hole, &inner->cidr);

		for (size_t i = 0; i < inner->except_count && !spared; i++)
			spared = inner->except[i].len <= hole->len &&
				 prefix_contains(&inner->except[i], &hole->addr);
		if (!spared)
			return false;
	}
	return true;
}

/* A selector that takes one namespace alone, by the label of its name. */
static bool selects_only(const struct selector *namespaces, const char *namespace)
{
	for (size_t i = 0; i < namespaces->count; i++) {
		const struct selector_term *term = &namespaces->terms[i];

		if (term->op == SELECTOR_IN && term->value_count == 1 &&
		    strcmp(term->key, "kubernetes.io/metadata.name") == 0 &&
		    strcmp(term->values[0], namespace) == 0)
			return true;
	}
	return false;
}

/* A peer without a namespaceSelector means its policy's own namespace. */
static bool namespaces_subsume(const struct store *store, const struct object *outer_policy,
			       const struct policy_peer *outer, const struct object *inner_policy,
			       const struct policy_peer *inner)
{
	if (!outer->namespaces)
		return inner->namespaces
			       ? selects_only(inner->namespaces, outer_policy->namespace)
			       : strcmp(outer_policy->namespace, inner_policy->namespace) == 0;
	if (!inner->namespaces)
		return namespace_selected(store, inner_policy->namespace, outer->namespaces);
	return selector_subsumes(outer->namespaces, inner->namespaces);
}

static bool peer_subsumes(const struct store *store, const struct object *outer_policy,
			  const struct policy_peer *outer, const struct object *inner_policy,
			  const struct policy_peer *inner)
{
	static const struct selector everyone = { 0 };

	if (outer->is_block || inner->is_block)
		return outer->is_block && inner->is_block && block_subsumes(outer, inner);
	if (outer->nodes || inner->nodes)
		return outer->nodes && inner->nodes &&
		       selector_subsumes(outer->nodes, inner->nodes);
	return namespaces_subsume(store, outer_policy, outer, inner_policy, inner) &&
	       selector_subsumes(outer->pods ? outer->pods : &everyone,
				 inner->pods ? inner->pods : &everyone);
}

/* ---- ports, and all of a rule ---- */

bool ports_subsume(const struct policy_port *outer, const struct policy_port *inner)
{
	if (outer->proto != inner->proto)
		return false;
	if (outer->name)
		return inner->name && strcmp(outer->name, inner->name) == 0;
	if (outer->port_min == 0 || (outer->port_min == 1 && outer->port_max == PORT_ANY_MAX))
		return true;
	return !inner->name && inner->port_min >= outer->port_min &&
	       inner->port_max <= outer->port_max;
}

bool rule_subsumes(const struct store *store, const struct object *outer_policy,
		   const struct policy_rule *outer, const struct object *inner_policy,
		   const struct policy_rule *inner)
{
	if ((outer->peer_count && !inner->peer_count) || (outer->port_count && !inner->port_count))
		return false;
	for (size_t i = 0; outer->port_count && i < inner->port_count; i++) {
		bool covered = false;

		for (size_t o = 0; o < outer->port_count && !covered; o++)
			covered = ports_subsume(&outer->ports[o], &inner->ports[i]);
		if (!covered)
			return false;
	}
	for (size_t i = 0; outer->peer_count && i < inner->peer_count; i++) {
		bool covered = false;

		for (size_t o = 0; o < outer->peer_count && !covered; o++)
			covered = peer_subsumes(store, outer_policy, &outer->peers[o], inner_policy,
						&inner->peers[i]);
		if (!covered)
			return false;
	}
	return true;
}

bool block_is_empty(const struct policy_peer *peer)
{
	/* Addresses less one, as 2^128 is too many. */
	unsigned __int128 left =
		peer->cidr.len == 128 ? 0 : ((unsigned __int128)0 - 1) >> peer->cidr.len;

	for (size_t i = 0; i < peer->except_count; i++) {
		const struct prefix *hole = &peer->except[i];
		unsigned __int128 size = (unsigned __int128)1
					 << (128 - hole->len); /* len > cidr's */
		bool within = false;

		/* Inside another hole, or the same as an earlier one: counted there. */
		for (size_t n = 0; n < peer->except_count && !within; n++)
			within = n != i && prefix_contains(&peer->except[n], &hole->addr) &&
				 (peer->except[n].len < hole->len ||
				  (peer->except[n].len == hole->len && n < i));
		if (within)
			continue;
		if (size > left)
			return true;
		left -= size;
	}
	return false;
}
