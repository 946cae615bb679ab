/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent is asked once a second and never because somebody asks here.  While it is restarted, or
 * does not know all objects yet, the datapath goes on, so what it said last counts for a while.
 */
#define LOG_MODULE "http"
#include "http/checks.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/agent_call.h"
#include "http/check_server.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/health.h"
#include "lib/inet.h"
#include "lib/json.h"
#include "lib/log.h"

#define AGENT_PATH  "/v1/healthchecks"
#define HEALTHY_NS  (30 * 1000000000ULL) /* after the agent's last answer */
#define TIME_TEXT   32
#define BODY_LENGTH 1024

static const struct timeval poll_period = { .tv_sec = 1 };

struct check {
	char *namespace;
	char *name;
	uint16_t port;
	unsigned int local_v4;
	unsigned int local_v6;
	/* One for each address; NULL: not to be had (yet). */
	struct check_port *open[HEALTH_ADDRESSES_MAX];
	bool refused; /* and that was logged */
};

struct checks {
	struct event_base *base;
	const char *socket_path;
	struct check_server *server;
	struct event *timer;
	struct check *items; /* by port */
	size_t count;
	/* Where the ports are; one that is all zero: at all addresses of the node. */
	struct addr addresses[HEALTH_ADDRESSES_MAX];
	size_t address_count;
	bool node_eligible;
	uint64_t answered_ns; /* 0: never */
	time_t answered;
	bool asked;
};

static bool proxy_is_healthy(const struct checks *checks)
{
	return checks->answered_ns && now_ns() - checks->answered_ns < HEALTHY_NS;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void send_json(struct evhttp_request *request, bool ok, const char *json)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct evbuffer *body = evbuffer_new();

	if (!body)
		out_of_memory(0);
	evbuffer_add(body, json, strlen(json));
	evhttp_add_header(headers, "Content-Type", "application/json");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_send_reply(request, ok ? 200 : 503, NULL, body);
	evbuffer_free(body);
}

static int check_compare(const void *a, const void *b)
{
	const struct check *left = a, *right = b;

	return (left->port > right->port) - (left->port < right->port);
}

static struct check *check_find(struct check *items, size_t count, uint16_t port)
{
	const struct check key = { .port = port };

	return count ? bsearch(&key, items, count, sizeof(key), check_compare) : NULL;
}

static void on_check(uint16_t port, bool v6, struct check_page *ret, void *arg)
{
	const struct checks *checks = arg;
	bool healthy = proxy_is_healthy(checks);
	const struct check *check = check_find(checks->items, checks->count, port);

	if (!check) /* a connection from before the service went */
		return;
	ret->found = true;
	ret->weight = v6 ? check->local_v6 : check->local_v4;
	ret->ok = ret->weight && healthy;
	snprintf(ret->body, sizeof(ret->body),
		 "{\n\t\"service\": {\n\t\t\"namespace\": \"%s\",\n\t\t\"name\": \"%s\"\n\t},\n"
		 "\t\"localEndpoints\": %u,\n\t\"serviceProxyHealthy\": %s\n}\n",
		 check->namespace, check->name, ret->weight, healthy ? "true" : "false");
}

static const char *time_text(time_t time, char buf[TIME_TEXT])
{
	struct tm utc;

	gmtime_r(&time, &utc);
	strftime(buf, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &utc);
	return buf;
}

/* KEP-3836: a node that is about to be deleted gets no new traffic, but is not restarted. */
bool checks_proxy_page(const struct checks *checks, struct evhttp_request *request,
		       const char *path)
{
	bool live = strcmp(path, "/livez") == 0, healthy = proxy_is_healthy(checks);
	char body[BODY_LENGTH], then[TIME_TEXT], now[TIME_TEXT], eligible[32] = "";

	if (!live && strcmp(path, "/healthz") != 0)
		return false;
	if (!live)
		snprintf(eligible, sizeof(eligible), ",\"nodeEligible\": %s",
			 checks->node_eligible ? "true" : "false");
	snprintf(body, sizeof(body), "{\"lastUpdated\": \"%s\",\"currentTime\": \"%s\"%s}",
		 time_text(checks->answered, then), time_text(time(NULL), now), eligible);
	send_json(request, healthy && (live || checks->node_eligible), body);
	return true;
}

/* ---- which ports ----------------------------------------------------------------------------- */

static bool name_is_plain(const char *name)
{
	return name && *name &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == strlen(name);
}

static bool check_read(const cJSON *json, struct check *ret)
{
	const struct json_node node = json_root(json);
	const char *namespace = cJSON_GetStringValue(json_member(&node, "namespace").value);
	const char *name = cJSON_GetStringValue(json_member(&node, "name").value);
	double port = cJSON_GetNumberValue(json_member(&node, "port").value);
	double v4 = cJSON_GetNumberValue(json_member(&node, "localEndpointsIPv4").value);
	double v6 = cJSON_GetNumberValue(json_member(&node, "localEndpointsIPv6").value);

	if (!name_is_plain(namespace) || !name_is_plain(name) || !(port >= 1 && port <= 65535) ||
	    !(v4 >= 0 && v4 <= 1e6) || !(v6 >= 0 && v6 <= 1e6))
		return false;
	*ret = (struct check){ .namespace = xstrdup(namespace),
			       .name = xstrdup(name),
			       .port = (uint16_t)port,
			       .local_v4 = (unsigned int)v4,
			       .local_v6 = (unsigned int)v6 };
	return true;
}

static void check_listen(struct checks *checks, struct check *check)
{
	int ret = 0;

	for (size_t i = 0; i < checks->address_count; i++) {
		int one = check->open[i] ? 0
					 : check_port_open(checks->server, &checks->addresses[i],
							   check->port, &check->open[i]);

		ret = ret ? ret : one;
	}
	if (ret < 0 && !check->refused)
		log_warn("healthCheckNodePort %u of Service %s/%s: %s", check->port,
			 check->namespace, check->name, strerror(-ret));
	check->refused = ret < 0;
}

static void check_close(struct check *check)
{
	for (size_t i = 0; i < ARRAY_SIZE(check->open); i++)
		check_port_close(take_ptr(check->open[i]));
	check->refused = false;
}

static void check_done(struct check *check)
{
	check_close(check);
	free(check->namespace);
	free(check->name);
}

/* Ports that stay keep their sockets; of two services with one port the first has it. */
static void checks_replace(struct checks *checks, struct check *items, size_t count)
{
	size_t kept = 0;

	qsort(items, count, sizeof(*items), check_compare);
	for (size_t i = 0; i < count; i++) {
		struct check *old = check_find(checks->items, checks->count, items[i].port);

		if (kept && items[kept - 1].port == items[i].port) {
			check_done(&items[i]);
			continue;
		}
		if (old) {
			memcpy(items[i].open, old->open, sizeof(old->open));
			memset(old->open, 0, sizeof(old->open));
			items[i].refused = old->refused;
		}
		items[kept++] = items[i];
	}
	for (size_t i = 0; i < checks->count; i++)
		check_done(&checks->items[i]);
	free(checks->items);
	checks->items = items;
	checks->count = kept;
	for (size_t i = 0; i < kept; i++)
		check_listen(checks, &items[i]);
}

/* null: all addresses of the node.  Where they change, every port is opened anew. */
static void addresses_read(struct checks *checks, const cJSON *json)
{
	struct addr addresses[HEALTH_ADDRESSES_MAX] = { 0 };
	size_t count = !cJSON_IsArray(json);
	const cJSON *item;

	cJSON_ArrayForEach (item, json) {
		const char *text = cJSON_GetStringValue(item);

		if (text && count < ARRAY_SIZE(addresses) &&
		    addr_parse(text, &addresses[count]) == 0)
			count++;
	}
	if (count == checks->address_count &&
	    memcmp(addresses, checks->addresses, sizeof(addresses)) == 0)
		return;
	for (size_t i = 0; i < checks->count; i++)
		check_close(&checks->items[i]);
	memcpy(checks->addresses, addresses, sizeof(addresses));
	checks->address_count = count;
}

static void on_answer(int status, const char *body, void *arg)
{
	auto_json cJSON *json = NULL;
	struct checks *checks = arg;
	struct json_node root, services;
	struct check *items;
	size_t count = 0;
	const cJSON *item;

	checks->asked = false;
	if (status != 200 || json_parse(body, strlen(body), &json, NULL))
		return;
	root = json_root(json);
	services = json_member(&root, "services");
	checks->node_eligible = cJSON_IsTrue(json_member(&root, "nodeEligible").value);
	checks->answered_ns = now_ns();
	checks->answered = time(NULL);
	addresses_read(checks, json_member(&root, "addresses").value);
	items = xcalloc(HEALTH_CHECKS_MAX, sizeof(*items));
	cJSON_ArrayForEach (item, services.value) {
		if (count < HEALTH_CHECKS_MAX && check_read(item, &items[count]))
			count++;
	}
	checks_replace(checks, items, count);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct checks *checks = arg;

	(void)fd;
	(void)what;
	if (!checks->asked)
		agent_get(checks->base, checks->socket_path, AGENT_PATH, on_answer, checks);
	checks->asked = true;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct checks *checks_new(struct event_base *base, const char *socket_path)
{
	struct checks *checks = xcalloc(1, sizeof(*checks));

	checks->base = base;
	checks->socket_path = socket_path;
	checks->server = check_server_new(base, on_check, checks);
	checks->timer = event_new(base, -1, EV_PERSIST, on_timer, checks);
	if (!checks->timer || event_add(checks->timer, &poll_period) < 0)
		out_of_memory(0);
	on_timer(-1, 0, checks);
	return checks;
}

void checks_free(struct checks *checks)
{
	if (!checks)
		return;
	checks_replace(checks, NULL, 0);
	check_server_free(checks->server);
	event_free(checks->timer);
	free(checks);
}
