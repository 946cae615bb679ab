/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service explain: which service an address is, which of its endpoints a client may get, and why
 * not the others.  The agent says what it programs (GET /v1/services); nothing is decided here.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/command.h"
#include "cli/output.h"
#include "lib/auto.h"
#include "lib/inet.h"

/* What is asked: a client, and where it connects to. */
struct service_question {
	struct addr addr;
	uint16_t port;
	uint8_t proto;
	bool outside; /* of the cluster: --from is an address */
	struct addr from[2];
	size_t from_count;
};

/* "10.96.0.1:80", "[fd96::1]:53/UDP". */
static int target_parse(const char *text, struct service_question *question, struct errmsg *err)
{
	const char *colon = strrchr(text, ':');
	bool bracket = *text == '[';
	char addr[ADDR_TEXT_MAX];

	snprintf(addr, sizeof(addr), "%.*s", colon ? (int)(colon - text) - (bracket ? 2 : 0) : 0,
		 text + bracket);
	if (!colon || (bracket && colon[-1] != ']') || addr_parse(addr, &question->addr))
		return misused(err, "--to: \"%s\" is not ADDRESS:PORT or [ADDRESS]:PORT/PROTOCOL",
			       text);
	return port_argument_parse(colon + 1, &question->port, &question->proto, err);
}

/* A pod of this node, or an address outside of the cluster. */
static int client_parse(const struct arguments *args, struct service_question *question,
			struct errmsg *err)
{
	struct object_name name;
	char path[sizeof(name) + 64];
	const cJSON *address;
	cJSON *row = NULL;
	int ret;

	question->outside = addr_parse(args->from, &question->from[0]) == 0;
	question->from_count = question->outside;
	if (question->outside)
		return 0;
	ret = object_name_parse(args->from, args->namespace, &name, err);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/v1/endpoints/%s/%s", name.namespace, name.name);
	ret = agent_call(args, "GET", path, NULL, &row, err);
	cJSON_ArrayForEach (address, member_get(row, "addresses")) {
		const char *text = cJSON_GetStringValue(address);

		if (text && question->from_count < ARRAY_SIZE(question->from) &&
		    addr_parse(text, &question->from[question->from_count]) == 0)
			question->from_count++;
	}
	cJSON_Delete(row);
	return ret;
}

static const cJSON *frontend_find(const cJSON *service, const struct service_question *question)
{
	const cJSON *frontend;

	cJSON_ArrayForEach (frontend, member_get(service, "frontends")) {
		struct addr addr;

		if (addr_parse(member_text(frontend, "address", ""), &addr) == 0 &&
		    addr_equal(&addr, &question->addr) &&
		    member_number(frontend, "port") == question->port &&
		    strcmp(member_text(frontend, "protocol", ""), proto_name(question->proto)) == 0)
			return frontend;
	}
	return NULL;
}

static bool is_local(const cJSON *service, const cJSON *frontend,
		     const struct service_question *question)
{
	bool internal = strcmp(member_text(frontend, "kind", ""), "ClusterIP") == 0;
	const char *policy = member_text(
		service, internal ? "internalTrafficPolicy" : "externalTrafficPolicy", "");

	return strcmp(policy, "Local") == 0 && (internal || question->outside);
}

static bool is_admitted(const cJSON *service, const cJSON *frontend,
			const struct service_question *question)
{
	const cJSON *ranges = member_get(service, "sourceRanges"), *range;

	if (strcmp(member_text(frontend, "kind", ""), "LoadBalancer") != 0 ||
	    !cJSON_GetArraySize(ranges))
		return true;
	cJSON_ArrayForEach (range, ranges) {
		struct prefix prefix;
		const char *text = cJSON_GetStringValue(range);

		if (!text || prefix_parse(text, &prefix))
			continue;
		for (size_t i = 0; i < question->from_count; i++) {
			if (addr_is_v4(&question->from[i]) == addr_is_v4(&question->addr) &&
			    prefix_contains(&prefix, &question->from[i]))
				return true;
		}
	}
	return false;
}

static bool has_use(const cJSON *backend, const char *wanted)
{
	const cJSON *use;

	cJSON_ArrayForEach (use, member_get(backend, "use")) {
		if (cJSON_IsString(use) && strcmp(use->valuestring, wanted) == 0)
			return true;
	}
	return false;
}

/* Whether a backend that may get new connections is ready: then none that terminates gets any. */
static bool any_is_ready(const cJSON *backends, const char *use)
{
	const cJSON *backend;

	cJSON_ArrayForEach (backend, backends) {
		if (has_use(backend, use) && cJSON_IsTrue(member_get(backend, "ready")))
			return true;
	}
	return false;
}

/* Why a backend gets no new connections of this client; NULL: it does. */
static const char *backend_fault(const cJSON *backends, const cJSON *backend, bool local)
{
	const char *use = local ? "local" : "cluster";
	bool terminating = cJSON_IsTrue(member_get(backend, "terminating"));

	if (has_use(backend, use))
		return NULL;
	if (!cJSON_IsTrue(member_get(backend, "ready"))) {
		if (!terminating)
			return "not ready";
		if (!cJSON_IsTrue(member_get(backend, "serving")))
			return "terminates and does not serve any more";
		if (any_is_ready(backends, use))
			return "terminates, and another one is ready";
	}
	return local ? "not on this node, and the traffic policy is Local"
		     : "its hints are for other nodes or zones";
}

/* Adds "eligible" and "why" to each backend; returns how many are eligible. */
static int backends_judge(cJSON *backends, bool local, bool admitted)
{
	cJSON *backend;
	int count = 0;

	cJSON_ArrayForEach (backend, backends) {
		const char *why = admitted ? backend_fault(backends, backend, local)
					   : "the client is not in loadBalancerSourceRanges";

		cJSON_AddBoolToObject(backend, "eligible", !why);
		cJSON_AddStringToObject(backend, "why", why ? why : "");
		count += !why;
	}
	return count;
}

static const char *outcome(const cJSON *backends, int eligible, bool admitted)
{
	const cJSON *backend;

	if (eligible)
		return "connects";
	if (!admitted)
		return "dropped";
	cJSON_ArrayForEach (backend, backends) {
		if (has_use(backend, "cluster") || has_use(backend, "local"))
			return "dropped";
	}
	return "refused";
}

static cJSON *explanation_make(const cJSON *service, const cJSON *frontend,
			       const struct service_question *question)
{
	bool local = is_local(service, frontend, question);
	bool admitted = is_admitted(service, frontend, question);
	cJSON *backends = cJSON_Duplicate(member_get(frontend, "backends"), true);
	int eligible = backends_judge(backends, local, admitted);
	cJSON *json = cJSON_CreateObject();
	char name[600];

	snprintf(name, sizeof(name), "%s/%s", member_text(service, "namespace", "-"),
		 member_text(service, "name", "-"));
	cJSON_AddStringToObject(json, "service", name);
	cJSON_AddStringToObject(json, "kind", member_text(frontend, "kind", "-"));
	cJSON_AddStringToObject(json, "port", member_text(frontend, "name", ""));
	cJSON_AddStringToObject(json, "trafficPolicy", local ? "Local" : "Cluster");
	cJSON_AddNumberToObject(json, "affinitySeconds", member_number(service, "affinitySeconds"));
	cJSON_AddStringToObject(json, "outcome", outcome(backends, eligible, admitted));
	cJSON_AddItemToObject(json, "backends", backends);
	return json;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void fill_backend(const cJSON *row, struct cell *cell)
{
	bool v6 = strchr(member_text(row, "address", ""), ':');

	cell_set(cell, COLOUR_NONE, v6 ? "[%s]:%.0f" : "%s:%.0f", member_text(row, "address", "-"),
		 member_number(row, "port"));
}

static void fill_why(const cJSON *row, struct cell *cell)
{
	const char *why = member_text(row, "why", "");

	cell_set(cell, *why ? COLOUR_FAINT : COLOUR_GOOD, "%s", *why ? why : "eligible");
}

static void explanation_print(const cJSON *json)
{
	static const struct column columns[] = {
		{ "BACKEND", .fill = fill_backend },
		{ "POD", .member = "pod" },
		{ "NODE", .member = "node" },
		{ "ZONE", .member = "zone" },
		{ "NEW CONNECTIONS", .fill = fill_why },
	};
	double affinity = member_number(json, "affinitySeconds");

	printf("%s: %s address of %s %s, traffic policy %s", member_text(json, "outcome", "-"),
	       member_text(json, "kind", "-"),
	       strcmp(member_text(json, "kind", "-"), "HostPort") ? "Service" : "Pod",
	       output_shown(member_text(json, "service", "-")),
	       member_text(json, "trafficPolicy", "-"));
	if (affinity > 0)
		printf(", a client keeps its backend for %.0f s", affinity);
	printf("\n");
	output_table(member_get(json, "backends"), columns, ARRAY_SIZE(columns), 0);
}

int cmd_service_explain(const struct arguments *args, struct errmsg *err)
{
	struct service_question question = { 0 };
	const cJSON *service, *frontend = NULL;
	cJSON *services = NULL, *json;
	int ret = target_parse(args->to, &question, err);

	if (!ret)
		ret = client_parse(args, &question, err);
	if (!ret)
		ret = agent_call(args, "GET", "/v1/services", NULL, &services, err);
	if (ret)
		return ret;
	cJSON_ArrayForEach (service, services) {
		frontend = frontend_find(service, &question);
		if (frontend)
			break;
	}
	if (!frontend) {
		cJSON_Delete(services);
		return fail_plain(err, -ENOENT, "%s is no address of a service on this node",
				  args->to);
	}
	json = explanation_make(service, frontend, &question);
	if (args->json)
		output_json(json);
	else
		explanation_print(json);
	cJSON_Delete(json);
	cJSON_Delete(services);
	return EXIT_OK;
}
