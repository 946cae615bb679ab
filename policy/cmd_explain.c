/* SPDX-License-Identifier: Apache-2.0 */
/* tendril policy explain: which rule of which object decides, in both directions. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/lib/auto.h"
#include "policy/cli.h"
#include "policy/cli_world.h"
#include "policy/output.h"
#include "policy/service.h"
#include "policy/verdict.h"

struct question {
	const struct cli_world *world;
	struct explain_end from;
	struct explain_end to;
	uint8_t proto;
	uint16_t port;
};

/* ---- who is meant -----------------------------------------------------------------------------
 */

/* Whether a connection comes from the node that the other pod runs on: the agent knows its own
 * addresses; offline, Node objects and pods in the host's network tell. */
static bool is_own_node(const struct cli_world *world, const struct explain_end *from,
			const struct object *pod)
{
	const struct world *objects = cli_world_objects(world);
	const struct object *node;

	if (!pod || !from->has_addr || (from->pod && !from->pod->pod.host_network))
		return false;
	if (cli_world_is_node_address(world, &from->addr))
		return true;
	if (*pod->pod.node_name == '\0')
		return false;
	if (from->pod && strcmp(from->pod->pod.node_name, pod->pod.node_name) == 0)
		return true;
	node = world_find(objects, OBJECT_NODE, "", pod->pod.node_name);
	for (size_t i = 0; node && i < node->node.address_count; i++) {
		if (addr_equal(&node->node.addresses[i], &from->addr))
			return true;
	}
	return false;
}

/* "pod/NAMESPACE/NAME" without its kind; other texts as they are. */
static const char *strip_kind(const char *text, const char *kind)
{
	size_t len = strlen(kind);
	const char *slash = strchr(text, '/');

	return slash && strchr(slash + 1, '/') && strncmp(text, kind, len) == 0 && text[len] == '/'
		       ? text + len + 1
		       : text;
}

static void end_of_address(const struct world *objects, const struct addr *addr,
			   struct explain_end *ret)
{
	const struct object *owner = world_owner(objects, addr);

	*ret = (struct explain_end){ .addr = *addr, .has_addr = true };
	if (owner && owner->kind == OBJECT_POD)
		ret->pod = owner;
}

static int end_parse(const struct world *objects, const char *option, const char *text,
		     struct explain_end *ret, struct errmsg *err)
{
	char namespace[254], name[254];
	const struct object *pod;
	struct addr addr;
	int code;

	if (addr_parse(text, &addr) == 0) {
		end_of_address(objects, &addr, ret);
		return 0;
	}
	code = cli_split_name(strip_kind(text, "pod"), namespace, name, sizeof(name), err);
	if (code)
		return wrap(err, "--%s", option);
	pod = world_find(objects, OBJECT_POD, namespace, name);
	if (!pod)
		return fail_plain(err, -ENOENT, "--%s %s: there is no such pod", option, text);
	if (pod->pod.terminated)
		return fail_plain(err, -ENOENT,
				  "--%s %s: the pod has terminated, its address is no longer its "
				  "own",
				  option, text);
	*ret = (struct explain_end){ .pod = pod, .has_addr = pod->pod.address_count > 0 };
	if (ret->has_addr)
		ret->addr = pod->pod.addresses[0];
	return 0;
}

/* Of two pods, the addresses that are of one family. */
static void ends_match_family(struct explain_end *from, struct explain_end *to)
{
	if (!from->has_addr || !to->has_addr || addr_is_v4(&from->addr) == addr_is_v4(&to->addr))
		return;
	for (size_t i = 0; from->pod && i < from->pod->pod.address_count; i++) {
		if (addr_is_v4(&from->pod->pod.addresses[i]) == addr_is_v4(&to->addr)) {
			from->addr = from->pod->pod.addresses[i];
			return;
		}
	}
	for (size_t i = 0; to->pod && i < to->pod->pod.address_count; i++) {
		if (addr_is_v4(&to->pod->pod.addresses[i]) == addr_is_v4(&from->addr)) {
			to->addr = to->pod->pod.addresses[i];
			return;
		}
	}
}

/* ---- the answer -------------------------------------------------------------------------------
 */

static const char *const reasons[] = {
	[EXPLAIN_NO_POLICY] = "no policy selects this pod in this direction",
	[EXPLAIN_RULE] = "a rule allows it",
	[EXPLAIN_NO_RULE] = "isolated, and no rule allows it",
	[EXPLAIN_NO_MATCH] = "no rule decides, and no NetworkPolicy selects this pod",
	[EXPLAIN_NOT_A_POD] = "not a pod: nothing is enforced at this end",
	[EXPLAIN_SELF] = "a pod always reaches itself",
	[EXPLAIN_OWN_NODE] = "a node always reaches its own pods",
};

static const char *verdict_name(enum verdict verdict)
{
	return verdict == VERDICT_ALLOW ? "allow" : "deny";
}

static cJSON *policy_ref(const struct cli_world *world, const struct object *policy)
{
	cJSON *json = cJSON_CreateObject();
	char source[SOURCE_MAX];

	cJSON_AddStringToObject(json, "kind", object_kind_name(policy->kind));
	cJSON_AddStringToObject(json, "namespace", policy->namespace);
	cJSON_AddStringToObject(json, "name", policy->name);
	if (policy->kind == OBJECT_CLUSTER_POLICY) {
		cJSON_AddStringToObject(json, "tier",
					policy_tier_name(policy->cluster_policy.tier));
		cJSON_AddNumberToObject(json, "priority", policy->cluster_policy.priority);
	}
	cJSON_AddStringToObject(json, "source",
				cli_world_source(world, policy, "", source, sizeof(source)));
	return json;
}

static const char *direction_name(enum direction direction)
{
	return direction == DIR_INGRESS ? "ingress" : "egress";
}

/* Where a rule is written. */
static const char *rule_source(const struct cli_world *world, enum direction direction,
			       const struct explain_rule *rule, char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "spec.%s[%zu]", direction_name(direction), rule->rule);
	return cli_world_source(world, rule->policy, path, buf, size);
}

/* "policy", "rule", "ruleName", "source" */
static void rule_add_json(const struct cli_world *world, enum direction direction,
			  const struct explain_rule *rule, cJSON *json)
{
	const char *name = explain_rule_get(rule, direction)->name;
	char source[SOURCE_MAX];

	cJSON_AddItemToObject(json, "policy", policy_ref(world, rule->policy));
	cJSON_AddNumberToObject(json, "rule", (double)rule->rule);
	if (name)
		cJSON_AddStringToObject(json, "ruleName", name);
	cJSON_AddStringToObject(json, "source",
				rule_source(world, direction, rule, source, sizeof(source)));
}

static const char *side_reason(const struct explain_side *side)
{
	if (side->reason == EXPLAIN_RULE && side->verdict == VERDICT_DENY)
		return "a rule denies it";
	return reasons[side->reason];
}

static bool side_names_policies(const struct explain_side *side)
{
	return side->reason == EXPLAIN_NO_RULE || side->reason == EXPLAIN_NO_MATCH;
}

static cJSON *side_json(const struct cli_world *world, enum direction direction,
			const struct explain_side *side)
{
	cJSON *json = cJSON_CreateObject();
	cJSON *array;

	cJSON_AddStringToObject(json, "verdict", verdict_name(side->verdict));
	cJSON_AddStringToObject(json, "reason", side_reason(side));
	if (side->reason == EXPLAIN_RULE)
		rule_add_json(world, direction, &side->decided, json);
	if (side_names_policies(side)) {
		array = cJSON_AddArrayToObject(json, "policies");
		for (size_t i = 0; i < side->selecting_count; i++)
			cJSON_AddItemToArray(array, policy_ref(world, side->selecting[i]));
	}
	if (side->passed_count == 0)
		return json;
	array = cJSON_AddArrayToObject(json, "passed");
	for (size_t i = 0; i < side->passed_count; i++) {
		cJSON *passed = cJSON_CreateObject();

		rule_add_json(world, direction, &side->passed[i], passed);
		cJSON_AddItemToArray(array, passed);
	}
	return json;
}

static void end_text(const struct explain_end *end, char *buf, size_t size)
{
	char addr[ADDR_TEXT_MAX] = "no address yet";

	if (end->has_addr)
		addr_format(&end->addr, addr);
	if (end->pod)
		snprintf(buf, size, "%s/%s (%s)", end->pod->namespace, end->pod->name, addr);
	else
		snprintf(buf, size, "%s", addr);
}

static cJSON *end_json(const struct explain_end *end)
{
	char text[ADDR_TEXT_MAX];
	cJSON *json = cJSON_CreateObject();

	if (end->pod) {
		cJSON_AddStringToObject(json, "namespace", end->pod->namespace);
		cJSON_AddStringToObject(json, "name", end->pod->name);
	}
	if (end->has_addr)
		cJSON_AddStringToObject(json, "address", addr_format(&end->addr, text));
	return json;
}

static cJSON *answer_json(const struct question *question, const struct explanation *answer)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "verdict", verdict_name(answer->verdict));
	cJSON_AddItemToObject(json, "from", end_json(&question->from));
	cJSON_AddItemToObject(json, "to", end_json(&question->to));
	cJSON_AddNumberToObject(json, "port", question->port);
	cJSON_AddStringToObject(json, "protocol", proto_name(question->proto));
	cJSON_AddItemToObject(json, "egress",
			      side_json(question->world, DIR_EGRESS, &answer->egress));
	cJSON_AddItemToObject(json, "ingress",
			      side_json(question->world, DIR_INGRESS, &answer->ingress));
	return json;
}

/* "NetworkPolicy shop/cart", "ClusterNetworkPolicy guard (Admin tier, priority 5)" */
static void print_policy(const struct object *policy)
{
	printf("%s %s%s%s", object_kind_name(policy->kind), policy->namespace,
	       *policy->namespace ? "/" : "", policy->name);
	if (policy->kind == OBJECT_CLUSTER_POLICY)
		printf(" (%s tier, priority %u)", policy_tier_name(policy->cluster_policy.tier),
		       policy->cluster_policy.priority);
}

static void print_rule(const struct cli_world *world, enum direction direction,
		       const struct explain_rule *rule)
{
	const char *name = explain_rule_get(rule, direction)->name;
	char source[SOURCE_MAX];

	print_policy(rule->policy);
	printf(", %s rule %zu", direction_name(direction), rule->rule);
	if (name)
		printf(" \"%s\"", name);
	printf(" (%s)", rule_source(world, direction, rule, source, sizeof(source)));
}

static void print_side(const struct cli_world *world, enum direction direction,
		       const struct explain_side *side)
{
	bool allow = side->verdict == VERDICT_ALLOW;
	char source[SOURCE_MAX];

	printf("  %-8s %s%-5s%s  %s", direction_name(direction),
	       output_colour(allow ? COLOUR_GOOD : COLOUR_BAD), verdict_name(side->verdict),
	       output_colour_end(), side_reason(side));
	if (side->reason == EXPLAIN_RULE) {
		printf(": ");
		print_rule(world, direction, &side->decided);
	}
	for (size_t i = 0; side_names_policies(side) && i < side->selecting_count; i++) {
		printf("%s ", i ? "," : ":");
		print_policy(side->selecting[i]);
		printf(" (%s)",
		       cli_world_source(world, side->selecting[i], "", source, sizeof(source)));
	}
	putchar('\n');
	for (size_t i = 0; i < side->passed_count; i++) {
		printf("%18spassed on by ", "");
		print_rule(world, direction, &side->passed[i]);
		putchar('\n');
	}
}

static void print_answer(const struct question *question, const struct explanation *answer)
{
	char from[700], to[700];
	bool allow = answer->verdict == VERDICT_ALLOW;

	end_text(&question->from, from, sizeof(from));
	end_text(&question->to, to, sizeof(to));
	printf("%s%s%s  %s -> %s port %u/%s\n", output_colour(allow ? COLOUR_GOOD : COLOUR_BAD),
	       verdict_name(answer->verdict), output_colour_end(), from, to, question->port,
	       proto_name(question->proto));
	print_side(question->world, DIR_EGRESS, &answer->egress);
	print_side(question->world, DIR_INGRESS, &answer->ingress);
}

/* Answers one question; *ret_json is its answer as JSON, for -o json. */
static int question_answer(struct question *question, bool json, cJSON **ret_json,
			   struct errmsg *err)
{
	const struct world *objects = cli_world_objects(question->world);
	struct explanation answer = { 0 };
	int ret;

	ends_match_family(&question->from, &question->to);
	question->from.is_host = is_own_node(question->world, &question->from, question->to.pod);
	ret = policy_explain(objects, &question->from, &question->to, question->proto,
			     question->port, &answer, err);
	if (ret)
		return ret;
	if (json)
		*ret_json = answer_json(question, &answer);
	else
		print_answer(question, &answer);
	explanation_done(&answer);
	return 0;
}

/* ---- services ---------------------------------------------------------------------------------
 */

/* The Service that --to means, or NULL: by name, or by one of its addresses.  A name that a pod
 * has, too, needs its kind in front. */
static int service_find(const struct world *objects, const char *text,
			const struct object **ret_service, struct errmsg *err)
{
	const char *unmarked = strip_kind(text, "service");
	char namespace[254], name[254];
	struct errmsg ignored;
	struct addr addr;

	*ret_service = NULL;
	if (addr_parse(text, &addr) == 0) {
		const struct object *owner = world_owner(objects, &addr);

		if (owner && owner->kind == OBJECT_SERVICE)
			*ret_service = owner;
		return 0;
	}
	if (strip_kind(text, "pod") != text ||
	    cli_split_name(unmarked, namespace, name, sizeof(name), &ignored))
		return 0;
	*ret_service = world_find(objects, OBJECT_SERVICE, namespace, name);
	if (unmarked != text)
		return *ret_service ? 0
				    : fail_plain(err, -ENOENT, "--to %s: there is no such service",
						 text);
	if (*ret_service && world_find(objects, OBJECT_POD, namespace, name)) {
		fprintf(stderr,
			"note: %s is a pod and a service, this is the pod; service/%s asks "
			"about the other\n",
			text, text);
		*ret_service = NULL;
	}
	return 0;
}

/* A service is as reachable as its backends: one answer for each, by the backend's own port. */
static int service_answer(const struct question *question, const struct object *service, bool json,
			  cJSON *ret_array, struct errmsg *err)
{
	const struct world *objects = cli_world_objects(question->world);
	struct service_frontends frontends = { 0 };
	size_t asked = 0;
	bool known = false;
	int ret = service_frontends(objects, service, &frontends);

	if (ret)
		return fail(err, ret, "Service %s/%s", service->namespace, service->name);
	for (size_t f = 0; f < frontends.count && !ret; f++) {
		const struct service_frontend *frontend = &frontends.items[f];

		if (frontend->port != question->port || frontend->proto != question->proto)
			continue;
		known = true;
		for (size_t b = 0; b < frontend->backend_count && !ret; b++) {
			struct question one = *question;
			cJSON *answer = NULL;

			end_of_address(objects, &frontend->backends[b].addr, &one.to);
			one.port = frontend->backends[b].port;
			ret = question_answer(&one, json, &answer, err);
			if (answer)
				cJSON_AddItemToArray(ret_array, answer);
			asked++;
		}
	}
	service_frontends_done(&frontends);
	if (!ret && asked == 0)
		return fail_plain(err, -ENOENT, "Service %s/%s has no %s %u/%s: refused",
				  service->namespace, service->name,
				  known ? "ready backend for port" : "port", question->port,
				  proto_name(question->proto));
	return ret;
}

/* One verdict for a service: deny if any backend is denied, with that backend's answer. */
static void print_service_json(cJSON *answers)
{
	const cJSON *answer, *deciding = cJSON_GetArrayItem(answers, 0);
	cJSON *whole;

	cJSON_ArrayForEach (answer, answers) {
		const char *verdict =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "verdict"));

		if (verdict && strcmp(verdict, "deny") == 0) {
			deciding = answer;
			break;
		}
	}
	whole = cJSON_Duplicate(deciding, true);
	cJSON_AddItemToObject(whole, "backends", cJSON_Duplicate(answers, true));
	output_json(whole);
	cJSON_Delete(whole);
}

static int explain_service(const struct arguments *args, const struct question *question,
			   const struct object *service, struct errmsg *err)
{
	cJSON *answers = cJSON_CreateArray();
	int ret = service_answer(question, service, args->json, answers, err);

	if (!ret && args->json)
		print_service_json(answers);
	cJSON_Delete(answers);
	return ret ? ret : EXIT_OK;
}

int cmd_policy_explain(const struct arguments *args, struct errmsg *err)
{
	auto_(cli_world) struct cli_world *world = NULL;
	struct question question = { 0 };
	const struct object *service;
	const struct world *objects;
	cJSON *json = NULL;
	int ret;

	ret = cli_port_parse(args->port, &question.port, &question.proto, err);
	if (!ret)
		ret = cli_world_load(args, &world, err);
	if (ret)
		return ret;
	question.world = world;
	objects = cli_world_objects(world);
	ret = end_parse(objects, "from", args->from, &question.from, err);
	if (ret)
		return ret;
	ret = service_find(objects, args->to, &service, err);
	if (ret)
		return ret;
	if (service)
		return explain_service(args, &question, service, err);
	ret = end_parse(objects, "to", args->to, &question.to, err);
	if (!ret)
		ret = question_answer(&question, args->json, &json, err);
	if (ret)
		return ret;
	if (json)
		output_json(json);
	cJSON_Delete(json);
	return EXIT_OK;
}
