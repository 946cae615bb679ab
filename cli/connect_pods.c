/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/connect_pods.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "lib/arena.h"
#include "lib/auto.h"

#define ADD_TIMEOUT_MS 15000 /* the agent may wait for what policies refer to */
#define OBJECTS        "/v1/objects"
#define DENY           "NetworkPolicy/" CONNECT_NAMESPACE "/deny"

static int object_put(const struct arguments *args, const char *text, struct errmsg *err)
{
	return agent_call(args, "PUT", OBJECTS, text, NULL, err);
}

/* ---- pods ------------------------------------------------------------------------------------ */

/* Its labels come from here, and where an API server is followed, the agent wires only pods that
 * have an object. */
static int pod_put(const struct arguments *args, const struct connect_pod *pod, struct errmsg *err)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":"
		 "\"" CONNECT_NAMESPACE "\",\"name\":\"%s\",\"labels\":{\"pod\":\"%s\"}},"
		 "\"spec\":{\"containers\":[{\"name\":\"prober\"}]},"
		 "\"status\":{\"phase\":\"Running\"}}",
		 pod->name, pod->name);
	return object_put(args, text, err);
}

static void result_read(const cJSON *result, struct connect_pod *pod)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, member_get(result, "interfaces"))
		pod->mtu = (unsigned int)member_number(item, "mtu"); /* the pod's is the last */
	cJSON_ArrayForEach (item, member_get(result, "ips")) {
		struct prefix prefix;
		char text[ADDR_TEXT_MAX];
		struct addr addr;

		snprintf(text, sizeof(text), "%s", member_text(item, "address", ""));
		text[strcspn(text, "/")] = '\0';
		if (prefix_parse(member_text(item, "address", ""), &prefix) == 0 &&
		    addr_parse(text, &addr) == 0)
			pod->addresses[!addr_is_v4(&addr)] = addr;
	}
}

int connect_pod_add(const struct arguments *args, struct connect_pod *pod, struct errmsg *err)
{
	char path[64], body[512];
	auto_close int netns_fd = -1;
	cJSON *result = NULL;
	int ret = prober_start(&pod->prober, pod->name, true, err);

	if (!ret)
		ret = pod_put(args, pod, err);
	if (ret)
		return ret;
	prober_netns(&pod->prober, path, sizeof(path));
	netns_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (netns_fd < 0)
		return fail(err, -errno, "open %s", path);
	snprintf(body, sizeof(body),
		 "{\"containerId\":\"%s-%s-%d\",\"ifname\":\"eth0\",\"netns\":\"%s\","
		 "\"network\":\"%s\",\"pod\":{\"namespace\":\"%s\",\"name\":\"%s\"},"
		 "\"labels\":{\"pod\":\"%s\"}}",
		 CONNECT_NAMESPACE, pod->name, (int)pod->prober.pid, path, CONNECT_NAMESPACE,
		 CONNECT_NAMESPACE, pod->name, pod->name);
	ret = agent_call_fd(args, "/v1/cni/add", body, netns_fd, ADD_TIMEOUT_MS, &result, err);
	if (ret)
		return wrap(err, "the agent does not wire a pod");
	result_read(result, pod);
	cJSON_Delete(result);
	return 0;
}

/* ---- objects --------------------------------------------------------------------------------- */

static void slice_print(struct buffer *out, const struct addr *addr)
{
	const char *family = addr_is_v4(addr) ? "IPv4" : "IPv6";
	char text[ADDR_TEXT_MAX];

	buffer_print(
		out,
		",{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\","
		"\"metadata\":{\"namespace\":\"" CONNECT_NAMESPACE "\",\"name\":\"server-%c\","
		"\"labels\":{\"kubernetes.io/service-name\":\"server\"}},\"addressType\":\"%s\","
		"\"ports\":[{\"port\":%d,\"protocol\":\"TCP\"}],\"endpoints\":[{\"addresses\":"
		"[\"%s\"],\"conditions\":{\"ready\":true}}]}",
		family[3], family, PROBER_PORT, addr_format(addr, text));
}

int connect_service_put(const struct arguments *args, const struct connect_pod *pod,
			struct errmsg *err)
{
	static const char *const vips[] = { CONNECT_SERVICE_V4, CONNECT_SERVICE_V6 };
	auto_buffer struct buffer out = { 0 };
	const char *first = NULL;

	buffer_print(&out, "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":"
			   "\"v1\",\"kind\":\"Service\",\"metadata\":{\"namespace\":"
			   "\"" CONNECT_NAMESPACE "\",\"name\":\"server\"},\"spec\":{\"type\":"
			   "\"ClusterIP\",\"clusterIPs\":[");
	for (size_t i = 0; i < ARRAY_SIZE(vips); i++) {
		if (addr_is_zero(&pod->addresses[i]))
			continue;
		buffer_print(&out, "%s\"%s\"", first ? "," : "", vips[i]);
		first = first ? first : vips[i];
	}
	buffer_print(&out, "],\"clusterIP\":\"%s\",\"ports\":[{\"port\":80,\"targetPort\":%d}]}}",
		     first ? first : "None", PROBER_PORT);
	for (size_t i = 0; i < ARRAY_SIZE(vips); i++) {
		if (!addr_is_zero(&pod->addresses[i]))
			slice_print(&out, &pod->addresses[i]);
	}
	buffer_print(&out, "]}");
	return object_put(args, out.data, err);
}

int connect_policy_put(const struct arguments *args, const struct connect_pod *pod,
		       struct errmsg *err)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\",\"metadata\":"
		 "{\"namespace\":\"" CONNECT_NAMESPACE "\",\"name\":\"deny\"},\"spec\":"
		 "{\"podSelector\":{\"matchLabels\":{\"pod\":\"%s\"}},\"policyTypes\":[\"Ingress\"]"
		 "}}",
		 pod->name);
	return object_put(args, text, err);
}

int connect_policy_delete(const struct arguments *args, struct errmsg *err)
{
	return agent_call(args, "DELETE", OBJECTS "/" DENY, NULL, NULL, err);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* By the names alone: what somebody else has in this namespace stays. */
static bool endpoint_is_ours(const cJSON *row)
{
	static const char prefix[] = CONNECT_NAMESPACE "-";

	return strncmp(member_text(row, "containerId", ""), prefix, sizeof(prefix) - 1) == 0;
}

static bool object_is_ours(const cJSON *row)
{
	static const char *const names[] = { "client", "server", "server-4", "server-6", "deny" };

	if (strcmp(member_text(row, "namespace", ""), CONNECT_NAMESPACE) != 0 ||
	    strcmp(member_text(row, "source", ""), "api") != 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(member_text(row, "name", ""), names[i]) == 0)
			return true;
	}
	return false;
}

static int endpoints_clean(const struct arguments *args, struct errmsg *err)
{
	cJSON *rows = NULL;
	const cJSON *row;
	int ret = agent_call(args, "GET", "/v1/endpoints", NULL, &rows, err);

	cJSON_ArrayForEach (row, rows) {
		char body[300];

		if (ret || !endpoint_is_ours(row))
			continue;
		snprintf(body, sizeof(body), "{\"containerId\":\"%s\",\"ifname\":\"%s\"}",
			 member_text(row, "containerId", ""), member_text(row, "ifname", ""));
		ret = agent_call(args, "POST", "/v1/cni/del", body, NULL, err);
	}
	cJSON_Delete(rows);
	return ret;
}

static int objects_clean(const struct arguments *args, struct errmsg *err)
{
	cJSON *rows = NULL;
	const cJSON *row;
	int ret = agent_call(args, "GET", OBJECTS, NULL, &rows, err);

	cJSON_ArrayForEach (row, rows) {
		char path[600];

		if (ret || !object_is_ours(row))
			continue;
		snprintf(path, sizeof(path), OBJECTS "/%s/%s/%s", member_text(row, "kind", ""),
			 CONNECT_NAMESPACE, member_text(row, "name", ""));
		ret = agent_call(args, "DELETE", path, NULL, NULL, err);
	}
	cJSON_Delete(rows);
	return ret;
}

int connect_clean(const struct arguments *args, struct errmsg *err)
{
	int ret = endpoints_clean(args, err);

	if (!ret)
		ret = objects_clean(args, err);
	return ret;
}
