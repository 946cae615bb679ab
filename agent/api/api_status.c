/* SPDX-License-Identifier: Apache-2.0 */
/* API: the status of the agent. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/accel/accel.h"
#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/flow/flow_log.h"
#include "agent/monitor/gc.h"
#include "agent/nodes/health.h"
#include "agent/nodes/nodes.h"
#include "agent/objects/objects.h"
#include "agent/sockets/listeners.h"
#include "agent/sync/sync.h"
#include "agent/uplink/host_routing.h"
#include "agent/uplink/uplink.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/file.h"

#define CNI_CONFIG_MAX 65536

static void datapath_add(cJSON *status, struct agent *agent)
{
	cJSON *json = cJSON_AddObjectToObject(status, "datapath");
	cJSON *programs = cJSON_CreateArray();
	uint32_t total = 0;
	const char *name;

	for (size_t i = 0; (name = datapath_program_name(agent->datapath, i)); i++) {
		struct program_size size = {};
		cJSON *program = cJSON_CreateObject();

		datapath_program_size(agent->datapath, name, &size); /* zeros if it fails */
		cJSON_AddStringToObject(program, "name", name);
		cJSON_AddNumberToObject(program, "instructions", size.instructions);
		cJSON_AddNumberToObject(program, "verified", size.verified);
		cJSON_AddItemToArray(programs, program);
		total += size.instructions;
	}
	cJSON_AddStringToObject(json, "attach",
				datapath_uses_tcx(agent->datapath) ? "tcx" : "clsact");
	cJSON_AddBoolToObject(json, "socketServices", datapath_socket_services(agent->datapath));
	cJSON_AddNumberToObject(json, "instructions", total);
	cJSON_AddItemToObject(json, "programs", programs);
}

static void host_routing_add(cJSON *status, const struct agent *agent)
{
	cJSON *json = cJSON_AddObjectToObject(status, "hostRouting");
	const char *why;
	bool bypasses = host_routing_bypasses(agent->host_routing, &why);

	cJSON_AddStringToObject(json, "mode", bypasses ? "bpf" : "legacy");
	cJSON_AddStringToObject(json, "reason", why);
}

/* All of them, with this one, which reaches itself. */
static void nodes_add(cJSON *status, const struct agent *agent)
{
	cJSON *json = cJSON_AddObjectToObject(status, "nodes");
	struct health_counts counts;

	health_count(agent->health, &counts);
	for (int i = HEALTH_UNKNOWN; i <= HEALTH_UNREACHABLE; i++)
		cJSON_AddNumberToObject(json, health_status_name((enum health_status)i),
					(double)counts.all[i] + (i == HEALTH_REACHABLE));
}

/* Of each uplink. */
static void xdp_add(cJSON *status, const struct agent *agent)
{
	char names[UPLINKS_MAX][IFNAMSIZ];
	size_t count = uplinks_attached(agent->uplinks, names);
	cJSON *uplinks = cJSON_AddArrayToObject(status, "uplinks");

	for (size_t i = 0; i < count; i++) {
		cJSON *uplink = cJSON_CreateObject();
		const char *why, *mode = uplinks_xdp(agent->uplinks, i, &why);

		cJSON_AddStringToObject(uplink, "device", names[i]);
		cJSON_AddStringToObject(uplink, "xdp", mode);
		cJSON_AddStringToObject(uplink, "reason", why);
		cJSON_AddItemToArray(uplinks, uplink);
	}
}

/* What is done now: without its tunnel device a node of mode dsr does SNAT. */
static void load_balancer_add(cJSON *status, const struct agent *agent)
{
	bool dsr = maps_node(agent->datapath)->flags & NODE_DSR;

	cJSON_AddStringToObject(status, "loadBalancerMode", dsr ? "dsr" : "snat");
}

uint64_t api_rss_bytes(void)
{
	auto_fclose FILE *file = fopen("/proc/self/statm", "re");
	char line[128], *resident;

	/* "size resident shared ...", in pages */
	if (!file || !fgets(line, sizeof(line), file))
		return 0;
	resident = strchr(line, ' ');
	return resident ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void memory_add(cJSON *status, struct agent *agent)
{
	cJSON *json = cJSON_AddObjectToObject(status, "memory");
	uint64_t maps = 0;

	cJSON_AddNumberToObject(json, "rssBytes", (double)api_rss_bytes());
	if (maps_memory(agent->datapath, &maps) == 0)
		cJSON_AddNumberToObject(json, "mapBytes", (double)maps);
}

static void counts_add(cJSON *status, const struct agent *agent)
{
	const struct compiled *compiled = sync_compiled(agent->sync);
	struct endpoint_info info;
	size_t endpoints = 0, broken = 0;

	for (uint16_t slot = 0; endpoints_next(agent->endpoints, slot, &info); slot = info.slot) {
		endpoints++;
		broken += strcmp(info.state, "broken") == 0;
	}
	cJSON_AddNumberToObject(status, "brokenEndpoints", (double)broken);
	cJSON_AddNumberToObject(status, "endpoints", (double)endpoints);
	cJSON_AddNumberToObject(status, "services",
				(double)store_count(agent->store, OBJECT_SERVICE));
	cJSON_AddNumberToObject(status, "policies",
				(double)store_count(agent->store, OBJECT_NETWORK_POLICY) +
					(double)store_count(agent->store, OBJECT_CLUSTER_POLICY));
	cJSON_AddNumberToObject(status, "identities",
				compiled ? (double)compiled->identity_count : 0);
	cJSON_AddNumberToObject(status, "revision", maps_node(agent->datapath)->revision);
}

/* Where policy is reported and not enforced. */
static void audit_add(cJSON *status, const struct agent *agent)
{
	const struct compiled *compiled = sync_compiled(agent->sync);
	cJSON *json = cJSON_AddObjectToObject(status, "audit");
	bool audit = sync_audit(agent->sync);
	size_t audited = 0;

	for (size_t i = 0; compiled && i < compiled->subject_count; i++) {
		const struct compiled_subject *subject = &compiled->subjects[i];

		audited += subject->slot && (subject->audit || audit);
	}
	cJSON_AddBoolToObject(json, "node", audit);
	cJSON_AddNumberToObject(json, "endpoints", (double)audited);
}

static void cidrs_add(cJSON *status, const struct agent *agent)
{
	cJSON *array = cJSON_AddArrayToObject(status, "podCIDRs");
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < agent->pod_cidr_count; i++)
		cJSON_AddItemToArray(array,
				     cJSON_CreateString(prefix_format(&agent->pod_cidrs[i], text)));
}

static void node_addresses_add(cJSON *status, const struct store *store)
{
	cJSON *array = cJSON_AddArrayToObject(status, "nodeAddresses");
	const struct addr *addresses;
	size_t count = store_host_addresses(store, &addresses);
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < count; i++)
		cJSON_AddItemToArray(array, cJSON_CreateString(addr_format(&addresses[i], text)));
}

/* Maps that fill up also become warnings. */
static void maps_add(cJSON *status, cJSON *warnings, struct agent *agent)
{
	cJSON *array = cJSON_AddArrayToObject(status, "maps");
	char text[GC_TEXT_MAX];

	for (int map = 0; map < MAP_COUNT; map++) {
		uint32_t used, capacity;
		cJSON *json;

		if (maps_usage(agent->datapath, (enum map_id)map, &used, &capacity) < 0)
			continue;
		json = cJSON_CreateObject();
		cJSON_AddStringToObject(json, "name", map_name((enum map_id)map));
		cJSON_AddNumberToObject(json, "used", used);
		cJSON_AddNumberToObject(json, "capacity", capacity);
		cJSON_AddNumberToObject(json, "fullInSeconds",
					(double)gc_map_full_in(agent->gc, (enum map_id)map));
		cJSON_AddItemToArray(array, json);
		if (gc_map_pressure((enum map_id)map, used, capacity, text))
			cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
	}
}

static void metric_add(cJSON *array, struct agent *agent, unsigned int metric, const char *key,
		       const char *name, const char *text)
{
	uint64_t count = 0;
	cJSON *json;

	if (metric_get(agent->datapath, metric, &count) < 0 || count == 0)
		return;
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, key, name);
	cJSON_AddStringToObject(json, "text", text);
	cJSON_AddNumberToObject(json, "count", (double)count);
	cJSON_AddItemToArray(array, json);
}

static void metrics_add(cJSON *status, struct agent *agent)
{
	cJSON *drops = cJSON_AddArrayToObject(status, "drops");
	cJSON *notices = cJSON_AddArrayToObject(status, "notices");

#define X(num, name, text) metric_add(drops, agent, num, "reason", #name, text);
	DROP_REASONS(X)
#undef X
#define X(num, name, text) metric_add(notices, agent, METRIC_NOTICES + (num), "name", #name, text);
	NOTICES(X)
#undef X
}

/* A warning that means that something is refused or not enforced. */
static void failure_add(cJSON *warnings, cJSON *failures, const char *text)
{
	cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
	cJSON_AddItemToArray(failures, cJSON_CreateString(text));
}

/* What the API client has to say, and what it would say if it were there. */
static void kube_add(cJSON *status, cJSON *warnings, cJSON *failures, const struct agent *agent)
{
	cJSON *json = objects_kube_status(agent->objects);
	const char *state, *problem;
	double closed;
	char text[600];

	if (!json)
		return;
	cJSON_AddItemToObject(status, "kubernetes", json);
	state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "state"));
	problem = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "problem"));
	closed = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(json, "closedPolicies"));
	if (strcmp(state, "silent") == 0 || strcmp(state, "waiting") == 0) {
		snprintf(text, sizeof(text),
			 "Kubernetes: tendril-kube is %s; everything in force stays",
			 *state == 's' ? "silent" : "awaited");
		failure_add(warnings, failures, text);
	}
	if (problem) {
		snprintf(text, sizeof(text), "Kubernetes: %s", problem);
		failure_add(warnings, failures, text);
	}
	if (closed > 0) {
		snprintf(text, sizeof(text),
			 "Kubernetes: %.0f policies are not understood and deny everything; "
			 "the log names them",
			 closed);
		failure_add(warnings, failures, text);
	}
}

#define UNGUARDED_MAX 5 /* pods that are named */

/* Pods that run on this node and that another plugin, or nobody, has wired: they have no policy. */
static void unguarded_add(cJSON *warnings, cJSON *failures, const struct agent *agent)
{
	const struct object *node = objects_own_node(agent->objects);
	char names[UNGUARDED_MAX * 330] = "", text[sizeof(names) + 160];
	struct endpoint_info info;
	size_t count = 0, len = 0;

	for (const struct object *object = node ? store_first(agent->store, OBJECT_POD) : NULL;
	     object; object = store_next(agent->store, object)) {
		const struct pod_object *pod = &object->pod;

		if (strcmp(pod->node_name, node->name) != 0 || !pod->address_count ||
		    pod->host_network || pod->terminated || pod->deleting ||
		    endpoints_by_pod(agent->endpoints, object->namespace, object->name, &info))
			continue;
		if (count++ < UNGUARDED_MAX && len < sizeof(names))
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s/%s",
						len ? ", " : "", object->namespace, object->name);
	}
	if (!count)
		return;
	snprintf(text, sizeof(text),
		 "%zu pods of this node are not wired by Tendril and have no policy; delete them, "
		 "so that "
		 "they are made anew: %s%s",
		 count, names, count > UNGUARDED_MAX ? ", ..." : "");
	failure_add(warnings, failures, text);
}

#define GAPS_MAX 20 /* objects of a kind that are named */

struct gaps {
	cJSON *array;
	const struct object *service;
};

static void gap_add(const char *field, const char *text, void *arg)
{
	const struct gaps *gaps = arg;
	char line[700];

	snprintf(line, sizeof(line), "Service %s/%s: spec.%s: %s", gaps->service->namespace,
		 gaps->service->name, field, text);
	cJSON_AddItemToArray(gaps->array, cJSON_CreateString(line));
}

static void more_add(cJSON *array, size_t count, size_t named, const char *what)
{
	char line[96];

	if (count == named)
		return;
	snprintf(line, sizeof(line), "%zu more %s", count - named, what);
	cJSON_AddItemToArray(array, cJSON_CreateString(line));
}

/* EndpointSlices whose Service is not there: it may come later, or the label is wrong. */
static void lost_slices_add(cJSON *array, const struct store *store)
{
	size_t named = 0, count = 0;
	char line[1200];

	for (const struct object *slice = store_first(store, OBJECT_ENDPOINT_SLICE); slice;
	     slice = store_next(store, slice)) {
		if (store_find(store, OBJECT_SERVICE, slice->namespace, slice->slice.service_name))
			continue;
		count++;
		if (named == GAPS_MAX)
			continue;
		named++;
		snprintf(line, sizeof(line),
			 "EndpointSlice %s/%s: label kubernetes.io/service-name: no Service \"%s\"",
			 slice->namespace, slice->name, slice->slice.service_name);
		cJSON_AddItemToArray(array, cJSON_CreateString(line));
	}
	more_add(array, count, named, "EndpointSlices without a Service");
}

/* What Services ask for in vain. */
static void gaps_add(cJSON *status, const struct store *store)
{
	struct gaps gaps = { .array = cJSON_AddArrayToObject(status, "notCarriedOut") };
	size_t named = 0, count = 0;

	for (const struct object *service = store_first(store, OBJECT_SERVICE); service;
	     service = store_next(store, service)) {
		if (!service->service.gaps)
			continue;
		count++;
		if (named == GAPS_MAX)
			continue;
		named++;
		gaps.service = service;
		service_gaps_each(service->service.gaps, gap_add, &gaps);
	}
	more_add(gaps.array, count, named, "Services have such fields");
	lost_slices_add(gaps.array, store);
}

struct problems_add {
	cJSON *warnings;
	cJSON *failures;
};

static void problem_add(const char *text, void *arg)
{
	const struct problems_add *add = arg;

	failure_add(add->warnings, add->failures, text);
}

static void endpoint_problem_add(const char *text, enum problem_scope scope, void *arg)
{
	const struct problems_add *add = arg;

	if (scope == PROBLEM_POSSIBLE)
		cJSON_AddItemToArray(add->warnings, cJSON_CreateString(text));
	else
		problem_add(text, arg);
}

static int is_cni_config(const struct dirent *entry)
{
	const char *ending = strrchr(entry->d_name, '.');

	return ending && (strcmp(ending, ".conflist") == 0 || strcmp(ending, ".conf") == 0 ||
			  strcmp(ending, ".json") == 0);
}

/* Runtimes take the first file by name: another CNI's would leave the node's new pods to that. */
static void rival_add(cJSON *warnings, const char *dir)
{
	auto_free char *text = NULL;
	struct dirent **entries;
	int count = *dir ? scandir(dir, &entries, is_cni_config, alphasort) : -1;
	char path[PATH_MAX], warning[PATH_MAX + 128];
	size_t len;

	if (count < 0)
		return;
	if (count > 0) {
		snprintf(path, sizeof(path), "%s/%s", dir, entries[0]->d_name);
		if (file_read(path, CNI_CONFIG_MAX, &text, &len, NULL) == 0 &&
		    !strstr(text, "\"tendril\"")) {
			snprintf(warning, sizeof(warning),
				 "new pods do not get Tendril's network: container runtimes take "
				 "%s first",
				 path);
			cJSON_AddItemToArray(warnings, cJSON_CreateString(warning));
		}
	}
	while (count > 0)
		free(entries[--count]);
	free(entries);
}

static void warning_add(const char *text, void *arg)
{
	cJSON_AddItemToArray(arg, cJSON_CreateString(text));
}

static void warnings_fill(cJSON *warnings, cJSON *failures, const struct agent *agent)
{
	const char *sync = sync_warning(agent->sync);
	unsigned long slow = api_slow_readers(agent);
	const char *unknown = objects_unknown(agent->objects);
	char text[128];
	struct problems_add add = { .warnings = warnings, .failures = failures };

	if (unknown) {
		char reason[sizeof(((struct errmsg *)NULL)->text) + 64];

		snprintf(reason, sizeof(reason),
			 "policies may be missing: the maps stay as they are, and no pod can be "
			 "added: %s",
			 unknown);
		failure_add(warnings, failures, reason);
	}
	if (*sync)
		failure_add(warnings, failures, sync);
	rival_add(warnings, agent->cni_conf_dir);
	if (*agent->cni_problem)
		failure_add(warnings, failures, agent->cni_problem);
	endpoints_problems(agent->endpoints, endpoint_problem_add, &add);
	nodes_problems(agent->nodes, problem_add, &add);
	if (uplinks_problem(agent->uplinks))
		failure_add(warnings, failures, uplinks_problem(agent->uplinks));
	if (uplinks_unpaced(agent->uplinks))
		warning_add(uplinks_unpaced(agent->uplinks), warnings);
	if (sync_audit(agent->sync))
		cJSON_AddItemToArray(warnings,
				     cJSON_CreateString("audit mode: policy is reported, not "
							"enforced, on this node"));
	if (agent->socket_services && !datapath_socket_services(agent->datapath))
		cJSON_AddItemToArray(warnings,
				     cJSON_CreateString("services are translated per packet: the "
							"socket layer is not attached"));
	listeners_problems(agent->listening, warning_add, warnings);
	listeners_check_soon(agent->listening); /* a process that came later is in the next one */
	if (api_health_checks_left_out(agent)) {
		snprintf(text, sizeof(text),
			 "%zu Services have a healthCheckNodePort for which tendril-http has no "
			 "room",
			 api_health_checks_left_out(agent));
		failure_add(warnings, failures, text);
	}
	if (slow) {
		snprintf(text, sizeof(text),
			 "%lu event streams were disconnected: their readers were too slow", slow);
		cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
	}
}

static void flows_add(cJSON *status, cJSON *warnings, const struct agent *agent)
{
	const char *problem = flow_log_problem(agent->flow_log);
	char text[600];

	cJSON_AddItemToObject(status, "flows", flow_log_status(agent->flow_log));
	if (!*problem)
		return;
	snprintf(text, sizeof(text), "TCP connections are not reported: %s", problem);
	cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
}

void api_status_get(struct api_call *call)
{
	struct agent *agent = call->agent;
	cJSON *status = cJSON_CreateObject();
	cJSON *warnings = cJSON_CreateArray();
	cJSON *failures = cJSON_AddArrayToObject(status, "failures");
	uint64_t uptime = (now_ns() - agent->start_ns) / NS_PER_SEC;
	uint64_t start_us = (agent->ready_ns - agent->start_ns) / 1000;

	cJSON_AddStringToObject(status, "version", TENDRIL_VERSION);
	cJSON_AddNumberToObject(status, "pid", getpid());
	cJSON_AddNumberToObject(status, "uptimeSeconds", (double)uptime);
	cJSON_AddBoolToObject(status, "ready", agent->ready);
	cJSON_AddNumberToObject(status, "startMilliseconds", (double)start_us / 1000);
	datapath_add(status, agent);
	host_routing_add(status, agent);
	nodes_add(status, agent);
	xdp_add(status, agent);
	load_balancer_add(status, agent);
	cJSON_AddItemToObject(status, "acceleration", accel_status(agent->accel));
	memory_add(status, agent);
	counts_add(status, agent);
	audit_add(status, agent);
	cidrs_add(status, agent);
	node_addresses_add(status, agent->store);
	maps_add(status, warnings, agent);
	metrics_add(status, agent);
	flows_add(status, warnings, agent);
	cJSON_AddItemToObject(status, "objects", objects_status(agent->objects));
	kube_add(status, warnings, failures, agent);
	unguarded_add(warnings, failures, agent);
	gaps_add(status, agent->store);
	warnings_fill(warnings, failures, agent);
	cJSON_AddItemToObject(status, "warnings", warnings);
	api_reply(call, status);
}
