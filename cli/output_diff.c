/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output_diff.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/diff_why.h"
#include "cli/output.h"
#include "cli/output_explain.h"
#include "lib/auto.h"

#define NAMES_MAX        8 /* of one list in a line for people */
#define WHYS_PRINTED_MAX 2 /* of one change */

/* ---- lists of peer groups ---- */

struct name_list {
	struct buffer *text;
	size_t count;
	size_t hidden;
};

static void name_add(struct name_list *list, const char *before, const char *name)
{
	if (list->count++ >= NAMES_MAX) {
		list->hidden++;
		return;
	}
	buffer_string(list->text, list->count > 1 ? ", " : "");
	buffer_string(list->text, before);
	buffer_string(list->text, name);
}

/* Peer groups of pods are in order of their namespaces.  Returns the end of the namespace that
 * begins at first. */
static size_t namespace_end(const struct peer_group *peer_groups, const size_t *numbers,
			    size_t first, size_t count)
{
	size_t end = first;

	while (end < count && peer_groups[numbers[end]].pod_count &&
	       strcmp(peer_groups[numbers[end]].pods[0]->namespace,
		      peer_groups[numbers[first]].pods[0]->namespace) == 0)
		end++;
	return end;
}

static size_t peer_groups_in_namespace(const struct peer_group *peer_groups, size_t count,
				       const char *namespace)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++)
		found += peer_groups[i].pod_count &&
			 strcmp(peer_groups[i].pods[0]->namespace, namespace) == 0;
	return found;
}

void peer_groups_text(const struct reach *reach, const size_t *numbers, size_t count,
		      struct buffer *text)
{
	struct name_list list = { .text = text };
	size_t peer_group_count, pods = 0, all_pods = 0, first = 0;
	const struct peer_group *peer_groups = reach_peer_groups(reach, &peer_group_count);
	char more[64];

	for (size_t i = 0; i < peer_group_count; i++)
		all_pods += peer_groups[i].pod_count > 0;
	while (pods < count && peer_groups[numbers[pods]].pod_count)
		pods++;
	if (pods > 1 && pods == all_pods) {
		name_add(&list, "", "every pod");
		first = pods;
	}
	while (first < pods) {
		const char *namespace = peer_groups[numbers[first]].pods[0]->namespace;
		size_t end = namespace_end(peer_groups, numbers, first, pods);

		if ((end - first > 1 || peer_groups[numbers[first]].pod_count > 1) &&
		    end - first ==
			    peer_groups_in_namespace(peer_groups, peer_group_count, namespace))
			name_add(&list, "every pod of ", namespace);
		else
			for (size_t i = first; i < end; i++)
				name_add(&list, "", peer_groups[numbers[i]].name);
		first = end;
	}
	for (size_t i = pods; i < count; i++)
		name_add(&list, "", peer_groups[numbers[i]].name);
	if (list.hidden == 0)
		return;
	snprintf(more, sizeof(more), " and %zu more", list.hidden);
	buffer_string(text, more);
}

cJSON *peer_groups_json(const struct reach *reach, const size_t *numbers, size_t count)
{
	cJSON *array = cJSON_CreateArray();
	size_t peer_group_count;
	const struct peer_group *peer_groups = reach_peer_groups(reach, &peer_group_count);
	char text[600];

	for (size_t i = 0; i < count; i++) {
		const struct peer_group *peer_group = &peer_groups[numbers[i]];
		cJSON *json = cJSON_CreateObject(), *pods;

		cJSON_AddItemToArray(array, json);
		if (peer_group->pod_count == 0) {
			cJSON_AddStringToObject(json, "cidr",
						prefix_format(&peer_group->outside, text));
			continue;
		}
		pods = cJSON_AddArrayToObject(json, "pods");
		for (size_t p = 0; p < peer_group->pod_count; p++) {
			snprintf(text, sizeof(text), "%s/%s", peer_group->pods[p]->namespace,
				 peer_group->pods[p]->name);
			cJSON_AddItemToArray(pods, cJSON_CreateString(text));
		}
	}
	return array;
}

static const char *span_name(uint8_t proto)
{
	return proto ? proto_name(proto) : "other";
}

cJSON *ports_json(const struct port_pool *pool, uint32_t set)
{
	cJSON *array = cJSON_CreateArray();
	struct port_span span;

	for (size_t n = 0; ports_span(pool, set, n, &span); n++) {
		cJSON *json = cJSON_CreateObject();

		cJSON_AddItemToArray(array, json);
		cJSON_AddStringToObject(json, "protocol", span_name(span.proto));
		if (span.proto)
			cJSON_AddNumberToObject(json, "port", span.min);
		if (span.max != span.min)
			cJSON_AddNumberToObject(json, "endPort", span.max);
	}
	return array;
}

/* ---- differences ---- */

#define ENDS_MAX 600

static const char *end_name(const struct explain_end *end, char *buf)
{
	if (!end->pod)
		return addr_format(&end->addr, buf);
	snprintf(buf, ENDS_MAX, "%s/%s", end->pod->namespace, end->pod->name);
	return buf;
}

/* The family in which the change is, or NULL: in both, or there is only one. */
static const char *change_family(const struct diff_change *change)
{
	if (change->families[FAMILY_V4] && change->families[FAMILY_V6])
		return NULL;
	return change->families[FAMILY_V4] ? "IPv4" : "IPv6";
}

/* "why": connections that stand for all of them, each as explain tells it before and after. */
static void whys_add_json(const struct policy_diff *diff, const struct diff_change *change,
			  uint32_t ports, const struct cli_store *const *stores, cJSON *array)
{
	struct diff_whys whys = diff_whys_of(diff, change, ports, stores);

	for (size_t i = 0; i < whys.count; i++) {
		cJSON *json = cJSON_CreateObject();

		cJSON_AddItemToArray(array, json);
		for (size_t k = 0; k < DIFF_VERSIONS; k++)
			cJSON_AddItemToObject(json, k == DIFF_BEFORE ? "before" : "after",
					      answer_json(stores[k], span_name(whys.items[i].proto),
							  &whys.items[i].answers[k]));
	}
	diff_whys_done(&whys);
}

cJSON *diff_json(const struct policy_diff *diff, const struct cli_store *const *stores)
{
	const struct port_pool *pool = reach_pool(diff->reach);
	cJSON *json = cJSON_CreateObject();
	cJSON *array;

	cJSON_AddBoolToObject(json, "same", diff->change_count == 0);
	cJSON_AddNumberToObject(json, "pairsNewlyAllowed", (double)diff->allowed_pairs);
	cJSON_AddNumberToObject(json, "pairsNewlyDenied", (double)diff->denied_pairs);
	array = cJSON_AddArrayToObject(json, "changes");
	for (size_t i = 0; i < diff->change_count; i++) {
		const struct diff_change *change = &diff->changes[i];
		const char *family = change_family(change);
		cJSON *row = cJSON_CreateObject(), *why;

		cJSON_AddItemToArray(array, row);
		cJSON_AddItemToObject(
			row, "from",
			peer_groups_json(diff->reach, change->from, change->from_count));
		cJSON_AddItemToObject(row, "to",
				      peer_groups_json(diff->reach, change->to, change->to_count));
		cJSON_AddItemToObject(row, "allowed", ports_json(pool, change->allowed));
		cJSON_AddItemToObject(row, "denied", ports_json(pool, change->denied));
		cJSON_AddItemToObject(row, "family",
				      family ? cJSON_CreateString(family) : cJSON_CreateNull());
		why = cJSON_AddArrayToObject(row, "why");
		whys_add_json(diff, change, change->denied, stores, why);
		whys_add_json(diff, change, change->allowed, stores, why);
	}
	return json;
}

/* Both ends of a connection that stands for others, where there are several. */
static void example_print(const struct diff_why *why)
{
	const struct answer *answer = &why->answers[DIFF_AFTER];
	char from[ENDS_MAX], to[ENDS_MAX];

	printf("    such as %s -> %s ", end_name(&answer->from, from), end_name(&answer->to, to));
	if (why->proto)
		printf("%u/%s\n", answer->port, proto_name(why->proto));
	else
		printf("by other protocols\n");
}

/* The sides that another rule decides than before. */
static void why_print(const struct diff_why *why, const struct cli_store *const *stores)
{
	for (enum direction direction = DIR_EGRESS; direction <= DIR_INGRESS; direction++) {
		auto_buffer struct buffer before = { 0 };
		auto_buffer struct buffer after = { 0 };

		explanation_side_text(NULL, &why->answers[DIFF_BEFORE].explanation, direction,
				      &before);
		explanation_side_text(NULL, &why->answers[DIFF_AFTER].explanation, direction,
				      &after);
		if (!strcmp(before.data, after.data))
			continue;
		for (size_t i = 0; i < DIFF_VERSIONS; i++) {
			auto_buffer struct buffer text = { 0 };

			explanation_side_text(stores[i], &why->answers[i].explanation, direction,
					      &text);
			printf("    %-8s %s", i == DIFF_BEFORE ? "before:" : "after:", text.data);
		}
	}
}

static void whys_print(const struct policy_diff *diff, const struct diff_change *change,
		       uint32_t ports, const struct cli_store *const *stores)
{
	struct diff_whys whys = diff_whys_of(diff, change, ports, stores);

	for (size_t i = 0; i < whys.count && i < WHYS_PRINTED_MAX; i++) {
		if (whys.count > 1)
			example_print(&whys.items[i]);
		why_print(&whys.items[i], stores);
	}
	if (whys.count > WHYS_PRINTED_MAX)
		printf("    other pairs are decided by other rules; -o json names more\n");
	diff_whys_done(&whys);
}

/* "- deny   FROM -> TO: 5432/TCP", and what decides. */
static void change_print(const struct policy_diff *diff, const struct diff_change *change,
			 bool allowed, const struct cli_store *const *stores)
{
	uint32_t ports = allowed ? change->allowed : change->denied;
	auto_buffer struct buffer text = { 0 };
	const char *family = change_family(change);

	if (ports == PORTS_NONE)
		return;
	peer_groups_text(diff->reach, change->from, change->from_count, &text);
	buffer_string(&text, " -> ");
	peer_groups_text(diff->reach, change->to, change->to_count, &text);
	buffer_string(&text, ": ");
	ports_text(reach_pool(diff->reach), ports, &text);
	printf("%s%c %s%s  %s%s%s\n", output_colour(allowed ? COLOUR_GOOD : COLOUR_BAD),
	       allowed ? '+' : '-', allowed ? "allow" : "deny ", output_colour_end(), text.data,
	       family ? ", only " : "", family ? family : "");
	whys_print(diff, change, ports, stores);
}

void diff_print(const struct policy_diff *diff, const struct cli_store *const *stores)
{
	for (size_t i = 0; i < diff->change_count; i++) {
		change_print(diff, &diff->changes[i], false, stores);
		change_print(diff, &diff->changes[i], true, stores);
	}
	if (diff->change_count == 0)
		printf("no connection changes\n");
	else
		printf("pairs that lose ports: %" PRIu64 "; pairs that gain ports: %" PRIu64 "\n",
		       diff->denied_pairs, diff->allowed_pairs);
}
