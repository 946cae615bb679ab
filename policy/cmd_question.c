/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/lib/auto.h"
#include "policy/arena.h"
#include "policy/cli_question.h"
#include "policy/service.h"

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

static int end_parse(const struct world *objects, const char *side, const char *text,
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
		return wrap(err, "%s", side);
	pod = world_find(objects, OBJECT_POD, namespace, name);
	if (!pod)
		return fail_plain(err, -ENOENT, "%s %s: there is no such pod", side, text);
	if (pod->pod.terminated)
		return fail_plain(err, -ENOENT,
				  "%s %s: the pod has terminated, its address is no longer its "
				  "own",
				  side, text);
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

/* The Service that is meant, or NULL: by name, or by one of its addresses.  A name that a pod
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
		return *ret_service
			       ? 0
			       : fail_plain(err, -ENOENT, "to %s: there is no such service", text);
	if (*ret_service && world_find(objects, OBJECT_POD, namespace, name)) {
		fprintf(stderr,
			"note: %s is a pod and a service, this is the pod; service/%s asks "
			"about the other\n",
			text, text);
		*ret_service = NULL;
	}
	return 0;
}

/* ---- answers ----------------------------------------------------------------------------------
 */

static int answers_add(struct cli_answers *answers, const struct explain_end *from,
		       const struct explain_end *to, uint16_t port, struct errmsg *err)
{
	struct cli_answer *items = reallocarray(answers->items, answers->count + 1, sizeof(*items));
	struct cli_answer answer = { .from = *from, .to = *to, .port = port };
	int ret;

	if (!items)
		return fail(err, -ENOMEM, "explain");
	answers->items = items;
	ends_match_family(&answer.from, &answer.to);
	answer.from.is_host = is_own_node(answers->world, &answer.from, answer.to.pod);
	ret = policy_explain(cli_world_objects(answers->world), &answer.from, &answer.to,
			     answers->proto, port, &answer.explanation, err);
	if (ret)
		return ret;
	if (answers->verdict == VERDICT_ALLOW && answer.explanation.verdict == VERDICT_DENY) {
		answers->verdict = VERDICT_DENY;
		answers->deciding = answers->count;
	}
	items[answers->count++] = answer;
	return 0;
}

/* One answer for each backend, by the backend's own port. */
static int answers_of_service(struct cli_answers *answers, const struct explain_end *from,
			      struct errmsg *err)
{
	const struct world *objects = cli_world_objects(answers->world);
	const struct object *service = answers->service;
	struct service_frontends frontends = { 0 };
	bool known = false;
	int ret = service_frontends(objects, service, &frontends);

	if (ret)
		return fail(err, ret, "Service %s/%s", service->namespace, service->name);
	for (size_t f = 0; f < frontends.count && !ret; f++) {
		const struct service_frontend *frontend = &frontends.items[f];

		if (frontend->port != answers->port || frontend->proto != answers->proto)
			continue;
		known = true;
		for (size_t b = 0; b < frontend->backend_count && !ret; b++) {
			struct explain_end to;

			end_of_address(objects, &frontend->backends[b].addr, &to);
			ret = answers_add(answers, from, &to, frontend->backends[b].port, err);
		}
	}
	service_frontends_done(&frontends);
	if (ret || answers->count)
		return ret;
	answers->verdict = VERDICT_DENY;
	snprintf(answers->refused, sizeof(answers->refused),
		 "Service %s/%s has no %s %u/%s: refused", service->namespace, service->name,
		 known ? "ready backend for port" : "port", answers->port,
		 proto_name(answers->proto));
	return 0;
}

int cli_question_ask(const struct cli_world *world, const char *from, const char *to,
		     const char *port, struct cli_answers *ret_answers, struct errmsg *err)
{
	const struct world *objects = cli_world_objects(world);
	struct cli_answers answers = { .world = world, .verdict = VERDICT_ALLOW };
	struct explain_end sender, receiver;
	int ret = cli_port_parse(port, &answers.port, &answers.proto, err);

	if (!ret)
		ret = end_parse(objects, "from", from, &sender, err);
	if (!ret)
		ret = service_find(objects, to, &answers.service, err);
	if (!ret && answers.service)
		ret = answers_of_service(&answers, &sender, err);
	else if (!ret && !(ret = end_parse(objects, "to", to, &receiver, err)))
		ret = answers_add(&answers, &sender, &receiver, answers.port, err);
	if (ret) {
		cli_answers_done(&answers);
		return ret;
	}
	*ret_answers = answers;
	return 0;
}

void cli_answers_done(struct cli_answers *answers)
{
	for (size_t i = 0; i < answers->count; i++)
		explanation_done(&answers->items[i].explanation);
	free(answers->items);
	*answers = (struct cli_answers){ 0 };
}
