/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports of a protocol are cut into segments where some rule begins or ends.  Then the rules are
 * applied from the last one to the first, each overwriting the verdicts of its segments, so that
 * the first rule wins.  Pass restores the verdicts of the tiers after its own.
 */
#include "policy/compiler/layer.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
#include "lib/auto.h"

/* The ports of one protocol. */
struct segments {
	uint8_t proto;    /* 0: the protocols that no rule names */
	uint32_t *starts; /* of each segment, ascending; the last element is where the ports end */
	uint8_t *verdicts;
	uint8_t *next_tier; /* what the tiers after the current one decided */
	size_t count;
};

static void segments_done(struct segments *segments)
{
	free(segments->starts);
	free(segments->verdicts);
	free(segments->next_tier);
}

static int start_compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a;
	uint32_t right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static size_t rules_count(const struct layer_tier *tiers, size_t tier_count)
{
	size_t count = 0;

	for (size_t t = 0; t < tier_count; t++) {
		for (size_t i = 0; i < tiers[t].count; i++)
			count += tiers[t].layers[i].count;
	}
	return count;
}

static void segments_cut(struct segments *segments, const struct layer *layer)
{
	for (size_t i = 0; i < layer->count; i++) {
		if (!segments->proto || layer->ports[i].proto != segments->proto)
			continue;
		segments->starts[segments->count++] = layer->ports[i].port_min;
		segments->starts[segments->count++] = (uint32_t)layer->ports[i].port_max + 1;
	}
}

static void segments_init(struct segments *segments, uint8_t proto, const struct layer_tier *tiers,
			  size_t tier_count)
{
	size_t room = 2 * rules_count(tiers, tier_count) + 2;
	size_t kept = 0;

	*segments = (struct segments){
		.proto = proto,
		.starts = xcalloc(room, sizeof(*segments->starts)),
		.verdicts = xmalloc(room),
		.next_tier = xmalloc(room),
	};
	segments->starts[segments->count++] = 0;
	segments->starts[segments->count++] = PORT_ANY_MAX + 1;
	for (size_t t = 0; t < tier_count; t++) {
		for (size_t i = 0; i < tiers[t].count; i++)
			segments_cut(segments, &tiers[t].layers[i]);
	}
	qsort(segments->starts, segments->count, sizeof(*segments->starts), start_compare);
	for (size_t i = 1; i < segments->count; i++) {
		if (segments->starts[i] != segments->starts[kept])
			segments->starts[++kept] = segments->starts[i];
	}
	segments->count = kept;
	memset(segments->verdicts, VERDICT_ALLOW, room);
}

/* The segment that begins at a port where a rule begins. */
static size_t segments_find(const struct segments *segments, uint16_t port)
{
	uint32_t start = port;
	const uint32_t *found = bsearch(&start, segments->starts, segments->count,
					sizeof(*segments->starts), start_compare);

	return (size_t)(found - segments->starts);
}

static void segments_apply(struct segments *segments, const struct port_rule *ports,
			   const struct layer *layer)
{
	bool whole = ports->proto == 0;
	uint32_t end = whole ? PORT_ANY_MAX : ports->port_max;

	if (!whole && ports->proto != segments->proto)
		return;
	for (size_t i = whole ? 0 : segments_find(segments, ports->port_min);
	     i < segments->count && segments->starts[i] <= end; i++) {
		if (layer->action == ACTION_ACCEPT)
			segments->verdicts[i] = VERDICT_ALLOW;
		else if (layer->action == ACTION_DENY)
			segments->verdicts[i] = VERDICT_DENY;
		else if (!layer->in_doubt || segments->verdicts[i] == VERDICT_ALLOW)
			segments->verdicts[i] = segments->next_tier[i];
	}
}

static void segments_apply_tiers(struct segments *segments, const struct layer_tier *tiers,
				 size_t tier_count)
{
	for (size_t t = tier_count; t-- > 0;) {
		memcpy(segments->next_tier, segments->verdicts, segments->count);
		for (size_t i = tiers[t].count; i-- > 0;) {
			const struct layer *layer = &tiers[t].layers[i];

			for (size_t p = 0; p < layer->count; p++)
				segments_apply(segments, &layer->ports[p], layer);
		}
	}
}

/* Appends the segments whose verdict is not the common one; neighbours become one rule. */
static void segments_append(const struct segments *segments, enum verdict common,
			    struct port_list *list)
{
	for (size_t i = 0; i < segments->count; i++) {
		size_t first = i;

		if (segments->verdicts[i] == common)
			continue;
		while (i + 1 < segments->count && segments->verdicts[i + 1] != common)
			i++;
		port_list_add(list, segments->proto, (uint16_t)segments->starts[first],
			      (uint16_t)(segments->starts[i + 1] - 1));
		list->items[list->count - 1].verdict = segments->verdicts[first];
	}
}

static void flatten_protocol(uint8_t proto, const struct layer_tier *tiers, size_t tier_count,
			     enum verdict common, struct port_list *list)
{
	struct segments segments;

	segments_init(&segments, proto, tiers, tier_count);
	segments_apply_tiers(&segments, tiers, tier_count);
	segments_append(&segments, common, list);
	segments_done(&segments);
}

void layers_flatten(const struct layer_tier *tiers, size_t tier_count, struct port_list *list)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	struct port_list others = { 0 };
	enum verdict common;

	flatten_protocol(0, tiers, tier_count, VERDICT_DENY, &others);
	common = others.count ? VERDICT_ALLOW : VERDICT_DENY;
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++)
		flatten_protocol(protos[i], tiers, tier_count, common, list);
	if (common == VERDICT_ALLOW)
		port_list_add(list, 0, 0, PORT_ANY_MAX);
	port_list_done(&others);
}
