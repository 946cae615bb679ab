/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports are cut where some rule begins or ends.  Then the rules paint the pieces from the last one
 * to the first, so that the first has the last word; Pass paints what the tiers after its own left.
 */
#include "policy/compiler/layer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"

/* The ports of one protocol, in pieces. */
struct canvas {
	uint8_t proto;    /* 0: the protocols that no rule names */
	uint32_t *starts; /* of each piece, ascending; the last element is where the ports end */
	uint8_t *verdicts;
	uint8_t *next_tier; /* verdicts as they were before the tier at hand */
	size_t count;
};

static void canvas_done(struct canvas *canvas)
{
	free(canvas->starts);
	free(canvas->verdicts);
	free(canvas->next_tier);
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

static void canvas_cut(struct canvas *canvas, const struct layer *layer)
{
	for (size_t i = 0; i < layer->count; i++) {
		if (!canvas->proto || layer->ports[i].proto != canvas->proto)
			continue;
		canvas->starts[canvas->count++] = layer->ports[i].port_min;
		canvas->starts[canvas->count++] = (uint32_t)layer->ports[i].port_max + 1;
	}
}

static int canvas_init(struct canvas *canvas, uint8_t proto, const struct layer_tier *tiers,
		       size_t tier_count)
{
	size_t room = 2 * rules_count(tiers, tier_count) + 2;
	size_t kept = 0;

	*canvas = (struct canvas){
		.proto = proto,
		.starts = calloc(room, sizeof(*canvas->starts)),
		.verdicts = malloc(room),
		.next_tier = malloc(room),
	};
	if (!canvas->starts || !canvas->verdicts || !canvas->next_tier)
		return -ENOMEM;
	canvas->starts[canvas->count++] = 0;
	canvas->starts[canvas->count++] = PORT_ANY_MAX + 1;
	for (size_t t = 0; t < tier_count; t++) {
		for (size_t i = 0; i < tiers[t].count; i++)
			canvas_cut(canvas, &tiers[t].layers[i]);
	}
	qsort(canvas->starts, canvas->count, sizeof(*canvas->starts), start_compare);
	for (size_t i = 1; i < canvas->count; i++) {
		if (canvas->starts[i] != canvas->starts[kept])
			canvas->starts[++kept] = canvas->starts[i];
	}
	canvas->count = kept;
	memset(canvas->verdicts, VERDICT_ALLOW, room);
	return 0;
}

/* The piece that begins at a port where a rule begins. */
static size_t canvas_piece(const struct canvas *canvas, uint16_t port)
{
	uint32_t start = port;
	const uint32_t *found = bsearch(&start, canvas->starts, canvas->count,
					sizeof(*canvas->starts), start_compare);

	return (size_t)(found - canvas->starts);
}

static void canvas_paint(struct canvas *canvas, const struct port_rule *ports,
			 enum policy_action action)
{
	bool whole = ports->proto == 0;
	uint32_t end = whole ? PORT_ANY_MAX : ports->port_max;

	if (!whole && ports->proto != canvas->proto)
		return;
	for (size_t i = whole ? 0 : canvas_piece(canvas, ports->port_min);
	     i < canvas->count && canvas->starts[i] <= end; i++) {
		if (action == ACTION_PASS)
			canvas->verdicts[i] = canvas->next_tier[i];
		else
			canvas->verdicts[i] =
				action == ACTION_ACCEPT ? VERDICT_ALLOW : VERDICT_DENY;
	}
}

static void canvas_paint_tiers(struct canvas *canvas, const struct layer_tier *tiers,
			       size_t tier_count)
{
	for (size_t t = tier_count; t-- > 0;) {
		memcpy(canvas->next_tier, canvas->verdicts, canvas->count);
		for (size_t i = tiers[t].count; i-- > 0;) {
			const struct layer *layer = &tiers[t].layers[i];

			for (size_t p = 0; p < layer->count; p++)
				canvas_paint(canvas, &layer->ports[p], layer->action);
		}
	}
}

/* Appends the pieces whose verdict is not the common one; neighbours become one rule. */
static int canvas_append(const struct canvas *canvas, enum verdict common, struct port_list *list)
{
	for (size_t i = 0; i < canvas->count; i++) {
		size_t first = i;

		if (canvas->verdicts[i] == common)
			continue;
		while (i + 1 < canvas->count && canvas->verdicts[i + 1] != common)
			i++;
		if (port_list_add(list, canvas->proto, (uint16_t)canvas->starts[first],
				  (uint16_t)(canvas->starts[i + 1] - 1)) < 0)
			return -ENOMEM;
		list->items[list->count - 1].verdict = canvas->verdicts[first];
	}
	return 0;
}

static int flatten_protocol(uint8_t proto, const struct layer_tier *tiers, size_t tier_count,
			    enum verdict common, struct port_list *list)
{
	struct canvas canvas;
	int ret = canvas_init(&canvas, proto, tiers, tier_count);

	if (ret == 0) {
		canvas_paint_tiers(&canvas, tiers, tier_count);
		ret = canvas_append(&canvas, common, list);
	}
	canvas_done(&canvas);
	return ret;
}

int layers_flatten(const struct layer_tier *tiers, size_t tier_count, struct port_list *list)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	struct port_list others = { 0 };
	int ret = flatten_protocol(0, tiers, tier_count, VERDICT_DENY, &others);
	enum verdict common = others.count ? VERDICT_ALLOW : VERDICT_DENY;

	for (size_t i = 0; i < ARRAY_SIZE(protos) && ret == 0; i++)
		ret = flatten_protocol(protos[i], tiers, tier_count, common, list);
	if (ret == 0 && common == VERDICT_ALLOW)
		ret = port_list_add(list, 0, 0, PORT_ANY_MAX);
	port_list_done(&others);
	return ret;
}
