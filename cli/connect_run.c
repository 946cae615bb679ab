/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of the connectivity test, in an order in which each is a smaller step than the next:
 * inside the node, policy, other nodes, outside.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/connect_test.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define TIMEOUT_MS  2000 /* TCP asks again after 1 s */
#define DENIED_MS   700  /* a drop is the answer that is hoped for */
#define SEARCH_MS   500
#define HEALTH_PORT 4240 /* where the agent asks, too: nobody listens */
#define SIZE_MIN    576
#define FAMILIES    2 /* IPv4, IPv6 */

static volatile sig_atomic_t interrupted;

void connect_interrupt(int number)
{
	interrupted = number;
}

/* ---- one row --------------------------------------------------------------------------------- */

static struct connect_row *row_add(struct connect_test *test, enum connect_about about,
				   const char *from, const char *protocol)
{
	struct connect_row *row;

	test->rows = xreallocarray(test->rows, test->row_count + 1, sizeof(*test->rows));
	row = &test->rows[test->row_count++];
	*row = (struct connect_row){ .about = about, .protocol = protocol };
	snprintf(row->from, sizeof(row->from), "%s", from);
	return row;
}

/* "pod server 10.0.0.2" */
static void row_to(struct connect_row *row, const char *what, const struct addr *address)
{
	char text[ADDR_TEXT_MAX];

	row->address = *address;
	snprintf(row->to, sizeof(row->to), "%s %s", what, addr_format(address, text));
}

static void row_skip(struct connect_test *test, enum connect_about about, const char *from,
		     const char *to, const char *why)
{
	struct connect_row *row = row_add(test, about, from, "-");

	row->result = CONNECT_SKIPPED;
	snprintf(row->to, sizeof(row->to), "%s", to);
	snprintf(row->why, sizeof(row->why), "%s", why);
}

static void row_fail(struct connect_row *row, int error)
{
	row->result = CONNECT_FAILED;
	row->error = error;
	snprintf(row->why, sizeof(row->why), "%s",
		 error == ETIMEDOUT ? "no answer" : strerror(error));
}

/* Runs the probe of a row whose destination is set. */
static int row_run(struct connect_test *test, struct connect_row *row, const struct prober *prober,
		   struct probe_request request, struct errmsg *err)
{
	struct probe_result result = {};
	int ret;

	if (interrupted)
		return fail_plain(err, -EINTR, "interrupted");
	request.address = row->address;
	request.timeout_ms = request.timeout_ms ? request.timeout_ms : TIMEOUT_MS;
	connect_drops_forget(&test->drops);
	ret = prober_run(prober, &request, &result, err);
	if (ret)
		return ret;
	row->time_us = result.time_us;
	if (result.error) {
		row_fail(row, result.error);
		connect_drops_last(&test->drops, row->drop, sizeof(row->drop));
	}
	return 0;
}

/* ---- this node ------------------------------------------------------------------------------- */

static int pods_run(struct connect_test *test, struct errmsg *err)
{
	static const struct {
		const char *name;
		struct probe_request request;
	} probes[] = { { "TCP", { .kind = PROBE_TCP, .port = PROBER_PORT } },
		       { "UDP", { .kind = PROBE_UDP, .port = PROBER_PORT } },
		       { "ICMP", { .kind = PROBE_ECHO } } };
	int ret = 0;

	for (size_t family = 0; family < FAMILIES; family++) {
		const struct addr *address = &test->server.addresses[family];

		for (size_t i = 0; !ret && i < ARRAY_SIZE(probes); i++) {
			struct connect_row *row;

			if (addr_is_zero(address))
				continue;
			row = row_add(test, ABOUT_POD, "pod client", probes[i].name);
			row_to(row, "pod server", address);
			ret = row_run(test, row, &test->client.prober, probes[i].request, err);
		}
	}
	return ret;
}

static bool address_choose(const cJSON *texts, size_t family, struct addr *ret)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, texts) {
		const char *text = cJSON_GetStringValue(item);

		if (text && addr_parse(text, ret) == 0 && addr_is_v4(ret) == (family == 0) &&
		    !addr_is_special(ret))
			return true;
	}
	return false;
}

/* Of this node: of its Node object, else any that it has. */
static bool node_address(const struct connect_test *test, size_t family, struct addr *ret)
{
	const cJSON *node;

	cJSON_ArrayForEach (node, test->nodes) {
		if (cJSON_IsTrue(member_get(node, "local")) &&
		    address_choose(member_get(node, "addresses"), family, ret))
			return true;
	}
	return address_choose(member_get(test->status, "nodeAddresses"), family, ret);
}

static int host_run(struct connect_test *test, struct errmsg *err)
{
	const struct probe_request touch = { .kind = PROBE_TOUCH, .port = HEALTH_PORT };
	const struct probe_request tcp = { .kind = PROBE_TCP, .port = PROBER_PORT };
	int ret = 0;

	for (size_t family = 0; !ret && family < FAMILIES; family++) {
		struct connect_row *row;
		struct addr address;

		if (addr_is_zero(&test->client.addresses[family]))
			continue;
		if (node_address(test, family, &address)) {
			row = row_add(test, ABOUT_HOST, "pod client", "TCP");
			row_to(row, "this node", &address);
			ret = row_run(test, row, &test->client.prober, touch, err);
		}
		if (ret)
			return ret;
		row = row_add(test, ABOUT_HOST, "this node", "TCP");
		row_to(row, "pod server", &test->server.addresses[family]);
		ret = row_run(test, row, &test->host, tcp, err);
	}
	return ret;
}

static int service_run(struct connect_test *test, struct errmsg *err)
{
	static const char *const vips[] = { CONNECT_SERVICE_V4, CONNECT_SERVICE_V6 };
	const struct probe_request request = { .kind = PROBE_TCP, .port = 80 };
	int ret = connect_service_put(test->args, &test->server, err);

	for (size_t family = 0; !ret && family < FAMILIES; family++) {
		struct connect_row *row;
		struct addr address;

		if (addr_is_zero(&test->server.addresses[family]) ||
		    addr_parse(vips[family], &address))
			continue;
		row = row_add(test, ABOUT_SERVICE, "pod client", "TCP");
		row_to(row, "service", &address);
		ret = row_run(test, row, &test->client.prober, request, err);
	}
	return ret;
}

/* ---- policy ---------------------------------------------------------------------------------- */

/* A connection to the pod, which is to be dropped or not. */
static int policy_probe(struct connect_test *test, size_t family, bool denied, struct errmsg *err)
{
	struct connect_row *row = row_add(test, ABOUT_POLICY, "pod client", "TCP");
	const struct probe_request request = { .kind = PROBE_TCP,
					       .port = PROBER_PORT,
					       .timeout_ms = denied ? DENIED_MS : 0 };
	int ret;

	row_to(row, denied ? "isolated pod server" : "pod server, no longer isolated",
	       &test->server.addresses[family]);
	ret = row_run(test, row, &test->client.prober, request, err);
	if (ret || !denied)
		return ret;
	if (row->error == ETIMEDOUT) {
		row->result = CONNECT_OK;
		snprintf(row->why, sizeof(row->why), "dropped, as it should be");
	} else {
		row->result = CONNECT_FAILED;
		row->drop[0] = '\0';
		snprintf(row->why, sizeof(row->why), "not dropped");
	}
	return 0;
}

static bool reached(const struct connect_test *test, size_t family)
{
	for (size_t i = 0; i < test->row_count; i++) {
		const struct connect_row *row = &test->rows[i];

		if (row->about == ABOUT_POD && strcmp(row->protocol, "TCP") == 0 &&
		    addr_equal(&row->address, &test->server.addresses[family]))
			return row->result == CONNECT_OK;
	}
	return false;
}

static int policy_run(struct connect_test *test, struct errmsg *err)
{
	bool denied = true;
	int ret = 0;

	if (!reached(test, 0) && !reached(test, 1)) {
		row_skip(test, ABOUT_POLICY, "pod client", "isolated pod server",
			 "the pod is not reached without a policy either");
		return 0;
	}
	for (int turn = 0; !ret && turn < 2; turn++, denied = false) {
		ret = denied ? connect_policy_put(test->args, &test->server, err)
			     : connect_policy_delete(test->args, err);
		for (size_t family = 0; !ret && family < FAMILIES; family++) {
			if (reached(test, family))
				ret = policy_probe(test, family, denied, err);
		}
	}
	return ret;
}

/* ---- other nodes ----------------------------------------------------------------------------- */

/* What the agent has measured just now. */
static void measured_add(struct connect_test *test, enum connect_about about, const cJSON *node,
			 const cJSON *answer, const char *to)
{
	struct connect_row *row;
	struct addr address;

	if (addr_parse(member_text(answer, "address", ""), &address))
		return;
	row = row_add(test, about, "this node", "TCP");
	row_to(row, to, &address);
	row->node = member_text(node, "name", "");
	row->time_us = (uint32_t)member_number(answer, "latencyMicroseconds");
	if (strcmp(member_text(answer, "status", ""), "reachable") != 0) {
		row->result = CONNECT_FAILED;
		snprintf(row->why, sizeof(row->why), "%s", member_text(answer, "error", "unknown"));
	}
}

static bool passes(struct connect_test *test, const struct addr *address, uint16_t size,
		   struct errmsg *err)
{
	const struct probe_request request = {
		.kind = PROBE_ECHO, .address = *address, .size = size, .timeout_ms = SEARCH_MS
	};
	struct probe_result result = {};

	return prober_run(&test->client.prober, &request, &result, err) == 0 && !result.error;
}

/* The largest packet that passes; 0: none does. */
static uint32_t size_search(struct connect_test *test, const struct addr *address, uint32_t lost,
			    struct errmsg *err)
{
	uint32_t low = SIZE_MIN;

	if (!passes(test, address, SIZE_MIN, err))
		return 0;
	while (lost - low > 1) {
		uint32_t middle = low + (lost - low) / 2;

		if (passes(test, address, (uint16_t)middle, err))
			low = middle;
		else
			lost = middle;
	}
	return low;
}

/* One that is too large for the path is no loss if the path says so: then senders adapt. */
static int size_run(struct connect_test *test, const char *node, const char *to,
		    const struct addr *address, struct errmsg *err)
{
	const struct probe_request request = { .kind = PROBE_ECHO,
					       .size = (uint16_t)test->client.mtu };
	struct connect_row *row;
	int ret;

	if (!passes(test, address, 0, err)) {
		row_skip(test, ABOUT_SIZE, "pod client", to,
			 "it answers no ICMP echo, so no packet size can be tested");
		return 0;
	}
	row = row_add(test, ABOUT_SIZE, "pod client", "ICMP");
	row_to(row, to, address);
	row->node = node;
	ret = row_run(test, row, &test->client.prober, request, err);
	if (ret)
		return ret;
	if (row->error == EMSGSIZE) {
		row->result = CONNECT_OK;
		snprintf(row->why, sizeof(row->why),
			 "the path takes less than %u bytes, and says so", test->client.mtu);
	} else if (row->result == CONNECT_FAILED) {
		row->passing = size_search(test, address, test->client.mtu, err);
		snprintf(row->why, sizeof(row->why),
			 "packets of %u bytes are lost, of %u bytes pass", test->client.mtu,
			 row->passing);
	} else {
		snprintf(row->why, sizeof(row->why), "%u bytes, not fragmented", test->client.mtu);
	}
	return 0;
}

static int node_touch(struct connect_test *test, enum connect_about about, const cJSON *node,
		      const char *to, const struct addr *address, struct errmsg *err)
{
	const struct probe_request touch = { .kind = PROBE_TOUCH, .port = HEALTH_PORT };
	struct connect_row *row;
	int ret;

	if (addr_is_zero(&test->client.addresses[!addr_is_v4(address)]))
		return 0; /* the pod does not have this family */
	row = row_add(test, about, "pod client", "TCP");
	row_to(row, to, address);
	row->node = member_text(node, "name", "");
	ret = row_run(test, row, &test->client.prober, touch, err);
	if (!ret && about == ABOUT_POD_RANGE && row->result == CONNECT_OK)
		ret = size_run(test, member_text(node, "name", ""), to, address, err);
	return ret;
}

static int node_run(struct connect_test *test, const cJSON *node, struct errmsg *err)
{
	const cJSON *health = member_get(node, "health"), *item;
	char to[300], pods[320];
	struct addr address;
	int ret = 0;

	snprintf(to, sizeof(to), "node %s", member_text(node, "name", ""));
	snprintf(pods, sizeof(pods), "pods of %s", to);
	measured_add(test, ABOUT_NODE, node, member_get(health, "node"), to);
	measured_add(test, ABOUT_RANGE, node, member_get(health, "pods"), pods);
	if (addr_parse(member_text(member_get(health, "node"), "address", ""), &address) == 0)
		ret = node_touch(test, ABOUT_POD_NODE, node, to, &address, err);
	cJSON_ArrayForEach (item, member_get(node, "podCIDRs")) {
		struct prefix range;

		if (ret || prefix_parse(cJSON_GetStringValue(item), &range))
			continue;
		address = addr_add(&range.addr, 1);
		ret = node_touch(test, ABOUT_POD_RANGE, node, pods, &address, err);
	}
	return ret;
}

static int nodes_run(struct connect_test *test, struct errmsg *err)
{
	const cJSON *node;
	size_t others = 0;
	int ret = 0;

	cJSON_ArrayForEach (node, test->nodes) {
		if (ret || cJSON_IsTrue(member_get(node, "local")))
			continue;
		ret = node_run(test, node, err);
		others++;
	}
	if (!others)
		row_skip(test, ABOUT_NODE, "this node", "other nodes", "no Node object of another");
	return ret;
}

/* ---- outside --------------------------------------------------------------------------------- */

static int dns_run(struct connect_test *test, struct errmsg *err)
{
	static const char name[] = "kubernetes.default";
	const struct probe_request request = { .kind = PROBE_DNS, .port = 53 };
	cJSON *service = NULL;
	const cJSON *item;
	int ret = agent_call(test->args, "GET", "/v1/services/kube-system/kube-dns", NULL, &service,
			     err);

	if (ret) {
		row_skip(test, ABOUT_DNS, "pod client", name,
			 "there is no Service kube-system/kube-dns");
		return ret == -ENOENT ? 0 : ret;
	}
	cJSON_ArrayForEach (item, member_get(service, "clusterIPs")) {
		struct connect_row *row;
		struct addr address;

		if (ret || !cJSON_IsString(item) || addr_parse(item->valuestring, &address) ||
		    addr_is_zero(&test->client.addresses[!addr_is_v4(&address)]))
			continue;
		row = row_add(test, ABOUT_DNS, "pod client", "DNS");
		row_to(row, "kubernetes.default at", &address);
		ret = row_run(test, row, &test->client.prober, request, err);
	}
	cJSON_Delete(service);
	return ret;
}

static int external_run(struct connect_test *test, struct errmsg *err)
{
	const struct probe_request request = { .kind = PROBE_ECHO };
	struct connect_row *row;
	struct addr address;

	if (!test->args->external) {
		row_skip(test, ABOUT_EXTERNAL, "pod client", "outside",
			 "no --external ADDRESS was given");
		return 0;
	}
	addr_parse(test->args->external, &address);
	row = row_add(test, ABOUT_EXTERNAL, "pod client", "ICMP");
	row_to(row, "outside", &address);
	return row_run(test, row, &test->client.prober, request, err);
}

/* Those of others that select the pod. */
static int policies_read(struct connect_test *test, struct errmsg *err)
{
	cJSON *endpoint = NULL;
	int ret = agent_call(test->args, "GET", "/v1/endpoints/" CONNECT_NAMESPACE "/server", NULL,
			     &endpoint, err);

	if (!ret)
		test->policies = cJSON_DetachItemFromObjectCaseSensitive(
			cJSON_GetObjectItemCaseSensitive(endpoint, "policy"), "policies");
	cJSON_Delete(endpoint);
	return ret;
}

int connect_run(struct connect_test *test, struct errmsg *err)
{
	int ret = policies_read(test, err);

	if (!ret)
		ret = pods_run(test, err);
	if (!ret)
		ret = host_run(test, err);
	if (!ret)
		ret = service_run(test, err);
	if (!ret)
		ret = policy_run(test, err);
	if (!ret)
		ret = nodes_run(test, err);
	if (!ret)
		ret = dns_run(test, err);
	if (!ret)
		ret = external_run(test, err);
	return interrupted ? fail_plain(err, -EINTR, "interrupted") : ret;
}
