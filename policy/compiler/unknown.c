/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses in the pod CIDRs of nodes that no Pod object claims.  A pod that has just started on
 * another node may have one, so they are a group of their own, which is as closed as the most
 * closed of all pods could be.  Where no policy refuses pods, such an address is like any other
 * without a pod: no rule allows it for its labels.
 */
#include <stdlib.h>

#include "policy/compiler/identity.h"

static int prefix_order(const void *a, const void *b)
{
	const struct prefix *left = a;
	const struct prefix *right = b;
	int order = addr_compare(&left->addr, &right->addr);

	return order ? order : (left->len > right->len) - (left->len < right->len);
}

static bool are_halves(const struct prefix *a, const struct prefix *b, struct prefix *ret_whole)
{
	if (a->len != b->len || a->len == 0)
		return false;
	*ret_whole = prefix_of(&a->addr, (uint8_t)(a->len - 1));
	return prefix_contains(ret_whole, &b->addr);
}

/* Nodes usually have neighbouring ranges: what can be written as one prefix becomes one. */
static void pod_cidrs_merge(struct allocator *allocator)
{
	struct prefix *cidrs = allocator->pod_cidrs;
	size_t kept = 0;

	for (size_t i = 0; i < allocator->pod_cidr_count; i++) {
		struct prefix next = cidrs[i], whole;

		if (kept > 0 && prefix_contains(&cidrs[kept - 1], &next.addr))
			continue;
		for (; kept > 0 && are_halves(&cidrs[kept - 1], &next, &whole); kept--)
			next = whole;
		cidrs[kept++] = next;
	}
	allocator->pod_cidr_count = kept;
}

static void pod_cidrs_find(struct allocator *allocator)
{
	const struct store *store = allocator->store;
	size_t capacity = 0;

	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		for (size_t i = 0; i < node->node.pod_cidr_count; i++) {
			array_room(&allocator->pod_cidrs, allocator->pod_cidr_count, &capacity,
				   sizeof(*allocator->pod_cidrs));
			allocator->pod_cidrs[allocator->pod_cidr_count++] = node->node.pod_cidrs[i];
		}
	}
	if (allocator->pod_cidr_count == 0)
		return;
	qsort(allocator->pod_cidrs, allocator->pod_cidr_count, sizeof(*allocator->pod_cidrs),
	      prefix_order);
	pod_cidrs_merge(allocator);
}

bool allocator_pod_cidrs_contain(const struct allocator *allocator, const struct prefix *prefix)
{
	size_t low = 0;
	size_t high = allocator->pod_cidr_count;

	while (low < high) { /* the first one behind it */
		size_t middle = low + (high - low) / 2;

		if (addr_compare(&allocator->pod_cidrs[middle].addr, &prefix->addr) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && allocator->pod_cidrs[low - 1].len <= prefix->len &&
	       prefix_contains(&allocator->pod_cidrs[low - 1], &prefix->addr);
}

bool allocator_pod_cidrs_overlap(const struct allocator *allocator, const struct prefix *prefix)
{
	for (size_t i = 0; i < allocator->pod_cidr_count; i++) {
		if (prefix_overlaps(&allocator->pod_cidrs[i], prefix))
			return true;
	}
	return false;
}

uint32_t allocator_group_without_pod(const struct allocator *allocator, const struct addr *addr)
{
	const struct prefix whole = { .addr = *addr, .len = 128 };

	return allocator_pod_cidrs_contain(allocator, &whole) ? allocator->unknown_group : NONE;
}

/* group: NONE, or that of unknown pods. */
static void range_add(struct allocator *allocator, const struct prefix *prefix, uint32_t group,
		      size_t *capacity)
{
	uint32_t around = referenced_around(&allocator->referenced, &prefix->addr, prefix->len);
	struct unknown_range *range;

	array_room(&allocator->unknown, allocator->unknown_count, capacity,
		   sizeof(*allocator->unknown));
	range = &allocator->unknown[allocator->unknown_count++];
	*range = (struct unknown_range){ .prefix = *prefix, .identity = NONE };
	if (group != NONE || around != NONE)
		range->identity = allocator_hold_identity(allocator, group, around);
}

/* Whether one of the first ranges, those of nodes, is this one. */
static bool is_range_of_node(const struct allocator *allocator, size_t of_nodes,
			     const struct prefix *prefix)
{
	for (size_t i = 0; i < of_nodes; i++) {
		if (prefix_equal(&allocator->unknown[i].prefix, prefix))
			return true;
	}
	return false;
}

/* Nodes are known, whatever their addresses are. */
static void ranges_add_node(struct allocator *allocator, const struct object *node,
			    size_t *capacity)
{
	for (size_t i = 0; i < node->node.address_count; i++) {
		const struct prefix whole = { .addr = node->node.addresses[i], .len = 128 };

		if (allocator_pod_cidrs_contain(allocator, &whole) &&
		    !is_range_of_node(allocator, allocator->unknown_count, &whole))
			range_add(allocator, &whole, NONE, capacity);
	}
}

void allocator_find_unknown(struct allocator *allocator)
{
	const struct referenced *referenced = &allocator->referenced;
	size_t capacity = 0, of_nodes;

	allocator->unknown_group = NONE;
	if (!referenced->refuses_pods)
		return;
	pod_cidrs_find(allocator);
	if (allocator->pod_cidr_count == 0)
		return;
	allocator->unknown_group = allocator_add_unknown_group(allocator);
	for (const struct object *node = store_first(allocator->store, OBJECT_NODE); node;
	     node = store_next(allocator->store, node))
		ranges_add_node(allocator, node, &capacity);
	of_nodes = allocator->unknown_count;
	for (size_t i = 0; i < allocator->pod_cidr_count; i++) {
		const struct prefix *cidr = &allocator->pod_cidrs[i];

		/* A CIDR of a policy is added below. */
		if (!is_range_of_node(allocator, of_nodes, cidr) &&
		    referenced_prefix(referenced, cidr) == NONE)
			range_add(allocator, cidr, allocator->unknown_group, &capacity);
	}
	for (size_t i = 0; i < referenced->prefix_count; i++) {
		const struct prefix *prefix = &referenced->prefixes[i];

		if (allocator_pod_cidrs_contain(allocator, prefix) &&
		    !is_range_of_node(allocator, of_nodes, prefix))
			range_add(allocator, prefix, allocator->unknown_group, &capacity);
	}
}
