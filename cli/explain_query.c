/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/explain_query.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/argument.h"
#include "cli/command.h"
#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/arena.h"
#include "lib/auto.h"
#include "policy/objects/ports.h"
#include "policy/objects/service.h"

/* One end as it was asked for. */
struct asked_end {
	struct explain_end end;
	bool by_address; /* and so about that address alone */
};

/* ---- the ends ---- */

/* Whether a connection comes from the node that the other pod runs on.  The agent knows its own
 * addresses; without an agent, Node objects and pods in the host's network are used. */
static bool is_own_node(const struct cli_store *store, const struct explain_end *from,
			const struct object *pod)
{
	const struct store *objects = store->objects;
	const struct object *node;

	if (!pod || !from->has_addr || (from->pod && !from->pod->pod.host_network))
		return false;
	if (cli_store_is_node_address(store, &from->addr))
		return true;
	if (*pod->pod.node_name == '\0')
		return false;
	if (from->pod && strcmp(from->pod->pod.node_name, pod->pod.node_name) == 0)
		return true;
	node = store_find(objects, OBJECT_NODE, "", pod->pod.node_name);
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

static void end_of_address(const struct store *objects, const struct addr *addr,
			   struct asked_end *ret)
{
	const struct object *owner = store_owner(objects, addr);

	*ret = (struct asked_end){ .end = { .addr = *addr, .has_addr = true }, .by_address = true };
	if (owner && owner->kind == OBJECT_POD)
		ret->end.pod = owner;
}

/* Refuses what looks like an address and is none: a name has no ':', and a namespace has no '.'. */
static int address_check(const char *side, const char *text, struct errmsg *err)
{
	static const char mapped[] = "::ffff:";
	const char *slash = strchr(text, '/');
	size_t head = slash ? (size_t)(slash - text) : strlen(text);
	bool dotted = strspn(text, "0123456789.") == head && memchr(text, '.', head);
	struct prefix prefix;
	struct addr addr;

	if (!dotted && !memchr(text, ':', head))
		return 0;
	if (prefix_parse(text, &prefix) == 0)
		return misused(err, "%s %s: this is a CIDR; give a single address", side, text);
	if (strncasecmp(text, mapped, strlen(mapped)) == 0 &&
	    addr_parse(text + strlen(mapped), &addr) == 0)
		return misused(err, "%s %s: write the IPv4 address as %s", side, text,
			       text + strlen(mapped));
	return misused(err, "%s %s: not an IP address%s", side, text,
		       dotted ? " (four numbers without leading zeros)" : "");
}

static int end_parse(const struct store *objects, const char *side, const char *text,
		     const char *namespace, struct asked_end *ret_end, struct errmsg *err)
{
	struct object_name name;
	const struct object *pod;
	struct addr addr;
	int ret;

	if (addr_parse(text, &addr) == 0) {
		end_of_address(objects, &addr, ret_end);
		return 0;
	}
	if (strip_kind(text, "service") != text)
		return misused(err,
			       "%s %s: a service cannot be the sender; give a pod or an address",
			       side, text);
	ret = address_check(side, text, err);
	if (ret)
		return ret;
	ret = object_name_parse(strip_kind(text, "pod"), namespace, &name, err);
	if (ret)
		return wrap(err, "%s", side);
	pod = store_find(objects, OBJECT_POD, name.namespace, name.name);
	if (!pod)
		return fail_plain(err, -ENOENT, "%s %s: there is no such pod", side, text);
	if (pod->pod.terminated)
		return fail_plain(err, -ENOENT,
				  "%s %s: the pod has terminated and has no address any more", side,
				  text);
	*ret_end =
		(struct asked_end){ .end = { .pod = pod, .has_addr = pod->pod.address_count > 0 } };
	if (ret_end->end.has_addr)
		ret_end->end.addr = pod->pod.addresses[0];
	return 0;
}

/* The end with its address of one family; false if it has none. */
static bool end_in_family(const struct asked_end *asked, bool v4, struct explain_end *ret)
{
	const struct object *pod = asked->end.pod;

	*ret = asked->end;
	if (addr_is_v4(&ret->addr) == v4)
		return true;
	for (size_t i = 0; !asked->by_address && i < pod->pod.address_count; i++) {
		ret->addr = pod->pod.addresses[i];
		if (addr_is_v4(&ret->addr) == v4)
			return true;
	}
	return false;
}

/* The Service of this name or address, or NULL.  If a pod has the same name, the Service is only
 * meant with its kind in front. */
static int service_find(const struct store *objects, const char *text, const char *namespace,
			const struct object **ret_service, struct errmsg *err)
{
	const char *unmarked = strip_kind(text, "service");
	struct object_name name;
	struct errmsg ignored;
	struct addr addr;

	*ret_service = NULL;
	if (addr_parse(text, &addr) == 0) {
		const struct object *owner = store_owner(objects, &addr);

		if (owner && owner->kind == OBJECT_SERVICE)
			*ret_service = owner;
		return 0;
	}
	if (strip_kind(text, "pod") != text ||
	    object_name_parse(unmarked, namespace, &name, &ignored))
		return 0;
	*ret_service = store_find(objects, OBJECT_SERVICE, name.namespace, name.name);
	if (unmarked != text)
		return *ret_service
			       ? 0
			       : fail_plain(err, -ENOENT, "to %s: there is no such service", text);
	if (*ret_service && store_find(objects, OBJECT_POD, name.namespace, name.name)) {
		output_note("note: %s is a pod and a service; this is about the pod, service/%s "
			    "means the service",
			    text, text);
		*ret_service = NULL;
	}
	return 0;
}

/* ---- answers ---- */

static bool explanations_agree(const struct explanation *a, const struct explanation *b)
{
	return a->egress.verdict == b->egress.verdict && a->ingress.verdict == b->ingress.verdict;
}

static void answers_add(struct answers *answers, const struct answer *answer)
{
	bool denied = answer->explanation.verdict == VERDICT_DENY;

	answers->items = xreallocarray(answers->items, answers->count + 1, sizeof(*answers->items));
	if (denied && answers->verdict == VERDICT_ALLOW) {
		answers->verdict = VERDICT_DENY;
		answers->deciding = answers->count;
	}
	answers->items[answers->count++] = *answer;
}

/* Answers for one pair of addresses.  before: the answer of the other family, or NULL. */
static void answers_ask(struct answers *answers, struct answer *answer, const struct answer *before)
{
	answer->from.is_host = is_own_node(answers->store, &answer->from, answer->to.pod);
	answer->explanation = policy_explain(answers->store->objects, &answer->from, &answer->to,
					     answers->proto, answer->port);
	if (before && explanations_agree(&before->explanation, &answer->explanation))
		explanation_done(&answer->explanation);
	else
		answers_add(answers, answer);
}

/* One answer, or two if the two address families differ. */
static void answers_of_ends(struct answers *answers, const struct asked_end *from,
			    const struct asked_end *to, uint16_t port)
{
	static const bool families[] = { true, false };
	size_t first = answers->count;

	if (!from->end.has_addr || !to->end.has_addr) {
		answers_ask(answers,
			    &(struct answer){ .from = from->end, .to = to->end, .port = port },
			    NULL);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		struct answer answer = { .port = port };

		if (end_in_family(from, families[i], &answer.from) &&
		    end_in_family(to, families[i], &answer.to))
			answers_ask(answers, &answer,
				    answers->count > first ? &answers->items[first] : NULL);
	}
}

/* One answer for each backend, with the backend's own port. */
static void answers_of_service(struct answers *answers, const struct asked_end *from)
{
	const struct store *objects = answers->store->objects;
	const struct object *service = answers->service;
	struct service_frontends frontends = service_frontends(objects, service, NULL);
	bool known = false, served = false;

	for (size_t f = 0; f < frontends.count; f++) {
		const struct service_frontend *frontend = &frontends.items[f];

		if (frontend->kind != CLUSTER_IP || frontend->port != answers->port ||
		    frontend->proto != answers->proto)
			continue;
		known = true;
		for (size_t b = 0; b < frontend->pool->backend_count; b++) {
			const struct service_backend *backend = &frontend->pool->backends[b];
			struct asked_end to;

			if (!(backend->use & USE_CLUSTER))
				continue;
			served = true;
			end_of_address(objects, &backend->addr, &to);
			answers_of_ends(answers, from, &to, backend->port);
		}
	}
	service_frontends_done(&frontends);
	if (!served)
		snprintf(answers->refused, sizeof(answers->refused),
			 "Service %s/%s has no %s %u/%s: refused", service->namespace,
			 service->name, known ? "ready backend for port" : "port", answers->port,
			 proto_name(answers->proto));
}

/* The number of a port that is asked for by its name, which a Service or a pod gives it. */
static int port_resolve(const struct question *question, const char *name,
			const struct object *service, const struct object *pod,
			struct answers *answers, struct errmsg *err)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	bool any_proto = !strchr(question->port, '/');

	for (size_t i = 0; service && i < service->service.port_count; i++) {
		const struct service_port *port = &service->service.ports[i];

		if (strcmp(port->name, name) == 0 && (any_proto || port->proto == answers->proto)) {
			answers->port = port->port;
			answers->proto = port->proto;
			return 0;
		}
	}
	for (size_t i = 0; pod && i < ARRAY_SIZE(protos); i++) {
		if (!any_proto && protos[i] != answers->proto)
			continue;
		answers->port =
			named_port_find(pod->pod.ports, pod->pod.port_count, protos[i], name);
		answers->proto = protos[i];
		if (answers->port)
			return 0;
	}
	return fail_plain(err, -ENOENT, "port %s: %s has no port of this name", question->port,
			  question->to);
}

static int question_ask(const struct cli_store *store, const struct question *question,
			struct answers *answers, struct errmsg *err)
{
	const struct store *objects = store->objects;
	struct asked_end sender, receiver = { 0 };
	char name[64] = "";
	int ret = 0;

	answers->proto = question->proto;
	if (question->port)
		ret = port_name_parse(question->port, name, sizeof(name), &answers->port,
				      &answers->proto, err);
	if (!ret)
		ret = end_parse(objects, "from", question->from, question->namespace, &sender, err);
	if (!ret)
		ret = service_find(objects, question->to, question->namespace, &answers->service,
				   err);
	if (!ret && !answers->service)
		ret = end_parse(objects, "to", question->to, question->namespace, &receiver, err);
	if (!ret && *name)
		ret = port_resolve(question, name, answers->service, receiver.end.pod, answers,
				   err);
	if (ret)
		return ret;
	if (answers->service)
		answers_of_service(answers, &sender);
	else
		answers_of_ends(answers, &sender, &receiver, answers->port);
	return 0;
}

int explain_query(const struct cli_store *store, const struct question *question,
		  struct answers *ret_answers, struct errmsg *err)
{
	struct answers answers = { .store = store, .verdict = VERDICT_ALLOW };
	int ret = question_ask(store, question, &answers, err);

	if (ret) {
		answers_done(&answers);
		return ret;
	}
	if (answers.count == 0) {
		answers.verdict = VERDICT_DENY;
		if (!*answers.refused)
			snprintf(answers.refused, sizeof(answers.refused),
				 "%s and %s have no address family in common", question->from,
				 question->to);
	}
	*ret_answers = answers;
	return 0;
}

void answers_expect(struct answers *answers, enum verdict expected)
{
	for (size_t i = 0; i < answers->count; i++) {
		enum verdict verdict = answers->items[i].explanation.verdict;

		if (verdict == expected)
			continue;
		answers->verdict = verdict;
		answers->deciding = i;
		return;
	}
}

void answers_done(struct answers *answers)
{
	for (size_t i = 0; i < answers->count; i++)
		explanation_done(&answers->items[i].explanation);
	free(answers->items);
	*answers = (struct answers){ 0 };
}
