/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/verdict.h"

#include <arpa/inet.h>
#include <stdlib.h>

static int address_compare(const void *a, const void *b)
{
	return addr_compare(&((const struct compiled_address *)a)->addr,
			    &((const struct compiled_address *)b)->addr);
}

static const struct compiled_address *address_find(const struct compiled *compiled,
						   const struct addr *addr)
{
	const struct compiled_address key = { .addr = *addr };

	return bsearch(&key, compiled->addresses, compiled->address_count, sizeof(key),
		       address_compare);
}

uint32_t verdict_identity(const struct compiled *compiled, const struct addr *addr)
{
	const struct compiled_address *address = address_find(compiled, addr);
	uint32_t identity = IDENTITY_WORLD;
	int longest = -1;

	if (address)
		return address->identity;
	for (size_t i = 0; i < compiled->cidr_count; i++) {
		const struct prefix *prefix = &compiled->cidrs[i].prefix;
		struct prefix around = prefix_of(addr, prefix->len);

		if (prefix->len > longest && addr_equal(&around.addr, &prefix->addr)) {
			longest = prefix->len;
			identity = compiled->cidrs[i].identity;
		}
	}
	return identity;
}

static int entry_order(const struct policy_key *left, const struct policy_key *right)
{
	if (left->policy_id != right->policy_id)
		return left->policy_id < right->policy_id ? -1 : 1;
	if (left->peer != right->peer)
		return left->peer < right->peer ? -1 : 1;
	return (left->direction > right->direction) - (left->direction < right->direction);
}

static int entry_compare(const void *a, const void *b)
{
	return entry_order(&((const struct compiled_entry *)a)->key,
			   &((const struct compiled_entry *)b)->key);
}

static const struct compiled_entry *entry_find(const struct compiled *compiled, uint32_t policy_id,
					       enum direction direction, uint32_t peer)
{
	const struct compiled_entry key = {
		.key = { .policy_id = policy_id, .peer = peer, .direction = (uint8_t)direction }
	};

	if (compiled->entry_count == 0)
		return NULL;
	return bsearch(&key, compiled->entries, compiled->entry_count, sizeof(key), entry_compare);
}

const struct compiled_entry *verdict_entry(const struct compiled *compiled, uint32_t policy_id,
					   enum direction direction, uint32_t peer)
{
	const struct compiled_entry *entry = entry_find(compiled, policy_id, direction, peer);

	return entry ? entry : entry_find(compiled, policy_id, direction, IDENTITY_ANY);
}

enum verdict verdict_policy(const struct compiled *compiled, uint32_t policy_id,
			    enum direction direction, uint32_t peer, uint8_t proto, uint16_t port)
{
	const struct compiled_entry *entry = verdict_entry(compiled, policy_id, direction, peer);

	if (!entry)
		return VERDICT_DENY;
	for (size_t i = 0; i < entry->rule_count; i++) {
		const struct port_rule *rule = &entry->rules[i];

		if (rule->proto == 0 ||
		    (rule->proto == proto && rule->port_min <= port && port <= rule->port_max))
			return (enum verdict)rule->verdict;
	}
	return VERDICT_DENY;
}

static bool same_pod(const struct compiled_address *source,
		     const struct compiled_address *destination, const struct flow *flow)
{
	if (addr_equal(&flow->saddr, &flow->daddr))
		return true;
	return source && destination && source->subject && source->subject == destination->subject;
}

enum drop_reason verdict_flow(const struct compiled *compiled, const struct flow *flow)
{
	const struct compiled_address *source = address_find(compiled, &flow->saddr);
	const struct compiled_address *destination = address_find(compiled, &flow->daddr);
	const struct compiled_subject *sender = source ? source->subject : NULL;
	const struct compiled_subject *receiver = destination ? destination->subject : NULL;
	uint16_t port = ntohs(flow->dport);

	if (same_pod(source, destination, flow))
		return DROP_NONE;
	if (sender && sender->egress_isolated &&
	    verdict_policy(compiled, sender->policy_id, DIR_EGRESS,
			   verdict_identity(compiled, &flow->daddr), flow->proto,
			   port) == VERDICT_DENY)
		return DROP_EGRESS_DENIED;
	if (source && source->flags & IPCACHE_HOST)
		return DROP_NONE;
	if (receiver && receiver->ingress_isolated &&
	    verdict_policy(compiled, receiver->policy_id, DIR_INGRESS,
			   verdict_identity(compiled, &flow->saddr), flow->proto,
			   port) == VERDICT_DENY)
		return DROP_INGRESS_DENIED;
	return DROP_NONE;
}
