/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compiler/verdict.h"

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

enum verdict verdict_policy(const struct compiled *compiled, uint32_t policy_id,
			    enum direction direction, uint32_t peer, uint8_t proto, uint16_t port)
{
	const struct compiled_entry *entry = entry_find(compiled, policy_id, direction, peer);

	if (!entry)
		entry = entry_find(compiled, policy_id, direction, IDENTITY_ANY);
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

/* The ends of a flow, and what they say to it each for itself. */
struct ends {
	const struct compiled_subject *sender; /* NULL: nothing is enforced there */
	const struct compiled_subject *receiver;
	bool egress_denied;
	bool ingress_denied;
};

static struct ends ends_ask(const struct compiled *compiled, const struct flow *flow)
{
	const struct compiled_address *source = address_find(compiled, &flow->saddr);
	const struct compiled_address *destination = address_find(compiled, &flow->daddr);
	struct ends ends = { source ? source->subject : NULL,
			     destination ? destination->subject : NULL, false, false };
	uint16_t port = ntohs(flow->dport);

	if (same_pod(source, destination, flow))
		return ends;
	if (ends.sender && ends.sender->egress_isolated)
		ends.egress_denied = verdict_policy(compiled, ends.sender->policy_id, DIR_EGRESS,
						    verdict_identity(compiled, &flow->daddr),
						    flow->proto, port) == VERDICT_DENY;
	if (ends.receiver && ends.receiver->ingress_isolated &&
	    !(source && source->flags & IPCACHE_HOST))
		ends.ingress_denied =
			verdict_policy(compiled, ends.receiver->policy_id, DIR_INGRESS,
				       verdict_identity(compiled, &flow->saddr), flow->proto,
				       port) == VERDICT_DENY;
	return ends;
}

enum drop_reason verdict_flow(const struct compiled *compiled, const struct flow *flow)
{
	struct ends ends = ends_ask(compiled, flow);

	if (ends.egress_denied)
		return DROP_EGRESS_DENIED;
	return ends.ingress_denied ? DROP_INGRESS_DENIED : DROP_NONE;
}

enum drop_reason verdict_audited(const struct compiled *compiled, const struct flow *flow,
				 bool all_audited, enum drop_reason *ret_would)
{
	struct ends ends = ends_ask(compiled, flow);

	*ret_would = DROP_NONE;
	if (ends.egress_denied && !all_audited && !ends.sender->audit)
		return DROP_EGRESS_DENIED;
	if (ends.ingress_denied && !all_audited && !ends.receiver->audit)
		return DROP_INGRESS_DENIED;
	if (ends.egress_denied)
		*ret_would = DROP_EGRESS_DENIED;
	else if (ends.ingress_denied)
		*ret_would = DROP_INGRESS_DENIED;
	return DROP_NONE;
}
