/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diff_why.h"

#include <netinet/in.h>
#include <string.h>

#include "cli/output_explain.h"
#include "lib/auto.h"

#define FLOWS_MAX 256 /* of a change that are looked at */

/* The address behind the last one of a prefix; false: there is none. */
static bool addr_behind(const struct prefix *prefix, struct addr *ret)
{
	struct addr addr = prefix->addr;
	int bit = prefix->len - 1;

	for (; bit >= 0; bit--) { /* add 1 to the bits of the prefix */
		uint32_t mask = 1U << (31 - bit % 32);
		uint32_t word = ntohl(addr.w[bit / 32]);

		addr.w[bit / 32] = htonl(word ^ mask);
		if (!(word & mask))
			break;
	}
	*ret = addr;
	return bit >= 0;
}

/* An address of the peer group that is in no longer CIDR of a policy; false: they cover it. */
static bool outside_address(const struct reach *reach, const struct peer_group *group,
			    struct addr *ret)
{
	size_t count;
	const struct peer_group *groups = reach_peer_groups(reach, &count);
	struct addr addr = group->outside.addr;

	/* CIDRs are in the order of their addresses, and those in it come behind it. */
	for (const struct peer_group *other = group + 1; other < groups + count; other++) {
		if (other->outside.len > group->outside.len &&
		    prefix_contains(&other->outside, &addr) && !addr_behind(&other->outside, &addr))
			return false;
	}
	*ret = addr;
	return prefix_contains(&group->outside, &addr);
}

/* The pod that stands for a group, with an address of the family; index counts its pods. */
static bool end_of(const struct reach *reach, size_t number, size_t index, enum family family,
		   const struct cli_store *store, struct explain_end *ret)
{
	size_t count;
	const struct peer_group *group = &reach_peer_groups(reach, &count)[number];

	*ret = (struct explain_end){ 0 };
	if (!group->pod_count) {
		ret->has_addr = outside_address(reach, group, &ret->addr);
		return ret->has_addr;
	}
	if (index >= group->pod_count)
		return false;
	ret->pod = store_find(store->objects, OBJECT_POD, group->pods[index]->namespace,
			      group->pods[index]->name);
	if (!ret->pod)
		return false;
	for (size_t i = 0; i < ret->pod->pod.address_count && !ret->has_addr; i++) {
		ret->addr = ret->pod->pod.addresses[i];
		ret->has_addr = addr_is_v4(&ret->addr) == (family == FAMILY_V4);
	}
	return ret->has_addr;
}

/* A connection that is asked about, by numbers of the sides in reach. */
struct asked {
	size_t from;
	size_t to;
	enum family family;
	uint8_t proto;
	uint16_t port;
};

static bool answer_make(const struct reach *reach, const struct cli_store *store,
			const struct asked *asked, struct answer *ret)
{
	struct answer answer = { .port = asked->port };

	if (!end_of(reach, asked->from, 0, asked->family, store, &answer.from) ||
	    !end_of(reach, asked->to, asked->from == asked->to, asked->family, store, &answer.to))
		return false;
	answer.explanation = policy_explain(store->objects, &answer.from, &answer.to,
					    asked->proto ? asked->proto : IPPROTO_GRE, answer.port);
	*ret = answer;
	return true;
}

/* What decides, without files: equal ones are told once. */
static void why_text(const struct diff_why *why, struct buffer *text)
{
	for (size_t i = 0; i < DIFF_VERSIONS; i++)
		explanation_text(NULL, &why->answers[i].explanation, text);
}

static bool whys_have(const struct diff_whys *whys, const struct diff_why *why)
{
	auto_buffer struct buffer wanted = { 0 };

	why_text(why, &wanted);
	for (size_t i = 0; i < whys->count; i++) {
		auto_buffer struct buffer text = { 0 };

		why_text(&whys->items[i], &text);
		if (!strcmp(text.data, wanted.data))
			return true;
	}
	return false;
}

static void why_done(struct diff_why *why)
{
	for (size_t i = 0; i < DIFF_VERSIONS; i++)
		explanation_done(&why->answers[i].explanation);
}

struct why_search {
	const struct policy_diff *diff;
	const struct cli_store *const *stores; /* by version */
	size_t looked;
	struct diff_whys whys;
};

static void asked_add(struct why_search *search, const struct asked *asked)
{
	struct diff_why why = { .proto = asked->proto };
	size_t made = 0;

	while (made < DIFF_VERSIONS &&
	       answer_make(search->diff->reach, search->stores[made], asked, &why.answers[made]))
		made++;
	/* Compiler and explanation agree; else nothing is said rather than something wrong. */
	if (made == DIFF_VERSIONS &&
	    why.answers[DIFF_BEFORE].explanation.verdict !=
		    why.answers[DIFF_AFTER].explanation.verdict &&
	    !whys_have(&search->whys, &why))
		search->whys.items[search->whys.count++] = why;
	else
		why_done(&why);
}

/* The first and the last port of each range: rules for ports side by side are one range. */
static void pair_add(struct why_search *search, struct asked *asked, uint32_t ports)
{
	struct port_pool *pool = reach_pool(search->diff->reach);
	struct port_span span;

	for (size_t n = 0; ports_span(pool, ports, n, &span); n++) {
		for (size_t k = 0; k < (span.min == span.max ? 1 : 2); k++) {
			if (search->whys.count == DIFF_WHYS_MAX || ++search->looked > FLOWS_MAX)
				return;
			asked->proto = span.proto;
			asked->port = k ? span.max : span.min;
			asked_add(search, asked);
		}
	}
}

struct diff_whys diff_whys_of(const struct policy_diff *diff, const struct diff_change *change,
			      uint32_t ports, const struct cli_store *const *stores)
{
	struct why_search search = { .diff = diff, .stores = stores };

	for (size_t i = 0; i < change->from_count; i++) {
		for (size_t k = 0; k < change->to_count; k++) {
			struct asked asked = { .from = change->from[i], .to = change->to[k] };

			asked.family = FAMILY_V4;
			if (!change->families[FAMILY_V4] ||
			    !reach_meets(diff->reach, FAMILY_V4, asked.from, asked.to))
				asked.family = FAMILY_V6;
			if (search.whys.count == DIFF_WHYS_MAX || search.looked > FLOWS_MAX)
				return search.whys;
			pair_add(&search, &asked, ports);
		}
	}
	return search.whys;
}

void diff_whys_done(struct diff_whys *whys)
{
	for (size_t i = 0; i < whys->count; i++)
		why_done(&whys->items[i]);
}
