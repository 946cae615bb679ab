/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril-kube: follows the objects of a Kubernetes API server and hands what Tendril acts on to
 * the agent.  It parses what comes over the network, so it has no privileges; the agent, which has,
 * checks what it is handed like any other input.
 */
#define LOG_MODULE "kube"
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "kube/ask.h"
#include "kube/feed.h"
#include "kube/interest.h"
#include "kube/listing.h"
#include "kube/reflector.h"
#include "kube/report.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/program.h"
#include "lib/sandbox.h"

#define HEARTBEAT_S    5
#define SOCKET_DEFAULT "/run/tendril/kube/kube.sock"

struct client {
	struct kubeconfig config;
	const char *socket_path;
	const char *node; /* its name; NULL: everything is followed, whatever the node */
	char *node_query; /* of the Node object, and of the pods that run there */
	char *pod_query;
	struct event_base *base;
	struct program_signals signals;
	struct event *heartbeat;
	struct apiserver *apiserver;
	struct feed *feed;
	struct reflector **reflectors; /* by resource */
	struct reflector *pods;        /* one of them */
	struct interest *interest;     /* NULL without a node's name */
	struct asks *asks;
	struct reports *reports; /* NULL without a node's name */
	bool failed;
};

/* ---- objects on their way -------------------------------------------------------------------- */

static void on_changed(const struct resource *resource, const struct cJSON *object, void *arg)
{
	struct client *client = arg;

	if (client->reports && resource_is_node(resource))
		reports_node(client->reports, object);
	feed_put(client->feed, resource, object);
}

static void on_other_changed(const struct resource *resource, const struct cJSON *object, void *arg)
{
	struct client *client = arg;

	feed_put(client->feed, resource, object);
}

/* A pod that gets a node goes from one reflector to another, in any order. */
static void on_deleted(const struct resource *resource, const char *namespace, const char *name,
		       void *arg)
{
	struct client *client = arg;

	if (resource_is_pod(resource))
		asks_forget(client->asks, namespace, name);
	if (!client->interest || !interest_has(client->interest, resource, namespace, name))
		feed_delete(client->feed, resource, namespace, name);
}

static void on_other_deleted(const struct resource *resource, const char *namespace,
			     const char *name, void *arg)
{
	struct client *client = arg;

	if (!resource_is_pod(resource) || !reflector_has(client->pods, namespace, name))
		feed_delete(client->feed, resource, namespace, name);
}

static void on_synced(const struct resource *resource, void *arg)
{
	struct client *client = arg;

	(void)resource;
	for (size_t i = 0; i < resource_count; i++) {
		if (!client->reflectors[i] || !reflector_is_synced(client->reflectors[i]))
			return;
	}
	log_info("all objects of %s were listed", apiserver_address(client->apiserver));
	feed_synced(client->feed);
}

/* The agent says in its status when this stays away. */
static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct client *client = arg;
	const char *problem = "";

	(void)fd;
	(void)what;
	for (size_t i = 0; i < resource_count && !*problem; i++)
		problem = reflector_problem(client->reflectors[i]);
	if (client->interest && !*problem)
		problem = interest_problem(client->interest);
	feed_status(client->feed, problem);
	if (client->reports)
		reports_tick(client->reports);
}

static const struct reflector_ops reflector_ops = {
	.changed = on_changed,
	.deleted = on_deleted,
	.synced = on_synced,
};

static const struct reflector_ops interest_ops = {
	.changed = on_other_changed,
	.deleted = on_other_deleted,
};

static void on_known(double number, void *arg)
{
	struct client *client = arg;

	feed_known(client->feed, number);
}

/* ---- what the agent asks --------------------------------------------------------------------- */

static void on_found(const struct cJSON *pod, void *arg)
{
	struct client *client = arg;
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(pod, "spec");
	const char *node = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "nodeName"));

	if (!client->node || (node && strcmp(node, client->node) == 0))
		reflector_offer(client->pods, pod);
}

static void on_asked(const struct cJSON *question, void *arg)
{
	struct client *client = arg;
	const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(question, "type"));
	struct errmsg err = { 0 };

	if (type && strcmp(type, "POD") == 0) {
		asks_pod(client->asks, metadata_text(question, "namespace"),
			 metadata_text(question, "name"));
	} else if (type && strcmp(type, "INTEREST") == 0 && client->interest) {
		if (interest_set(client->interest, question, &err) < 0)
			log_error("%s", err.text);
	} else if (type && strcmp(type, "READY") == 0 && client->reports) {
		reports_ready(client->reports);
	} else if (type && strcmp(type, "KEY") == 0 && client->reports) {
		const char *key =
			cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(question, "key"));

		reports_key(client->reports, key ? key : "");
	} else if (type && strcmp(type, "REFUSED") == 0 && client->reports) {
		reports_refused(client->reports, question);
	}
}

/* Whoever starts this again begins with everything. */
static void on_lost(const char *why, void *arg)
{
	struct client *client = arg;

	log_error("%s: %s", client->socket_path, why);
	client->failed = true;
	event_base_loopbreak(client->base);
}

/* ---- start and end --------------------------------------------------------------------------- */

static int reflectors_start(struct client *client, struct errmsg *err)
{
	client->reflectors = xcalloc(resource_count, sizeof(struct reflector *));
	if (client->node) {
		client->pod_query = xasprintf("fieldSelector=spec.nodeName%%3D%s", client->node);
		client->node_query = xasprintf("fieldSelector=metadata.name%%3D%s", client->node);
		client->interest = interest_new(&(struct interest_options){
			.base = client->base,
			.apiserver = client->apiserver,
			.node = client->node,
			.ops = &interest_ops,
			.known = on_known,
			.arg = client,
		});
	}
	for (size_t i = 0; i < resource_count; i++) {
		const struct resource *resource = &resources[i];
		const struct reflector_scope scope = {
			.resource = resource,
			.query = resource_is_pod(resource)    ? client->pod_query
				 : resource_is_node(resource) ? client->node_query
							      : NULL,
		};

		if (reflector_new(client->base, client->apiserver, &scope, &reflector_ops, client,
				  &client->reflectors[i], err) < 0)
			return err->code;
		if (resource_is_pod(resource))
			client->pods = client->reflectors[i];
	}
	return 0;
}

static bool agent_answers(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return fd >= 0 && connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
}

/* Both are started at once in a pod, and a kubelet waits longer each time one of them ends. */
static void agent_await(const char *path)
{
	static const struct timespec pause = { .tv_nsec = 100000000 };

	if (agent_answers(path))
		return;
	log_info("waiting for the agent at %s", path);
	while (!agent_answers(path))
		nanosleep(&pause, NULL);
}

static int client_start(struct client *client, struct errmsg *err)
{
	const struct timeval interval = { .tv_sec = HEARTBEAT_S };
	const struct feed_options feed_options = {
		.socket_path = client->socket_path,
		.node = client->node,
		.lost = on_lost,
		.asked = on_asked,
		.arg = client,
	};

	client->base = event_base_new();
	if (!client->base)
		return fail(err, -ENOMEM, "event loop");
	if (program_signals_watch(&client->signals, client->base) < 0)
		return fail(err, -ENOMEM, "signals");
	if (apiserver_new(client->base, &client->config, &client->apiserver, err) < 0 ||
	    reflectors_start(client, err) < 0)
		return err->code;
	client->asks = asks_new(client->apiserver, on_found, client);
	if (client->node)
		client->reports = reports_new(client->apiserver, client->node);
	if (feed_new(client->base, &feed_options, &client->feed, err) < 0)
		return err->code;
	client->heartbeat = event_new(client->base, -1, EV_PERSIST, on_heartbeat, client);
	if (!client->heartbeat || event_add(client->heartbeat, &interval) < 0)
		return fail(err, -ENOMEM, "heartbeat");
	return 0;
}

static void client_stop(struct client *client)
{
	feed_free(client->feed);
	asks_free(client->asks);
	reports_free(client->reports);
	interest_free(client->interest);
	for (size_t i = 0; client->reflectors && i < resource_count; i++)
		reflector_free(client->reflectors[i]);
	free(client->reflectors);
	free(client->pod_query);
	free(client->node_query);
	apiserver_free(client->apiserver);
	program_signals_done(&client->signals);
	if (client->heartbeat)
		event_free(client->heartbeat);
	if (client->base)
		event_base_free(client->base);
}

/* ---- command line ---------------------------------------------------------------------------- */

static const char usage[] =
	"usage: tendril-kube [OPTION]...\n"
	"Follows the objects of a Kubernetes API server and hands them to the agent.\n\n"
	"  --kubeconfig FILE    how to reach the API server (default: the pod's service account)\n"
	"  --api-server URL     its address, in place of the configuration's; repeatable: others\n"
	"                       are tried where one does not answer\n"
	"  --node NAME          of this node: of other nodes only what it needs is followed\n"
	"                       (default: everything)\n"
	"  --print              print everything that is followed as a v1 List, and exit\n"
	"  --socket PATH        of the agent (" SOCKET_DEFAULT ")\n"
	"  --log-level LEVEL    error, warn, info or debug (info)\n"
	"  --version            print the version and exit\n"
	"  --help               print this and exit\n\n"
	"Exit status: 0 after SIGTERM or SIGINT, 1 if it cannot go on, 2 for a wrong command "
	"line.\n";

struct arguments {
	const char *kubeconfig;
	const char *servers[KUBE_SERVERS_MAX];
	size_t server_count;
	const char *node;
	const char *socket_path;
	bool print;
};

/* It goes into queries as it is. */
static bool node_is_valid(const char *name)
{
	return *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

static bool arguments_parse(int argc, char **argv, struct arguments *ret, int *ret_status)
{
	const struct program program = {
		.name = "tendril-kube",
		.usage = usage,
		.options =
			(const struct program_option[]){
				{ "kubeconfig", .values = &ret->kubeconfig },
				{ "api-server", .values = ret->servers, .count = &ret->server_count,
				  .max = KUBE_SERVERS_MAX },
				{ "node", .values = &ret->node },
				{ "print", .given = &ret->print },
				{ "socket", .values = &ret->socket_path },
				{ 0 },
			},
	};

	if (!program_options(&program, argc, argv, ret_status))
		return false;
	if (!ret->node || node_is_valid(ret->node))
		return true;
	fprintf(stderr, "tendril-kube: --node: \"%s\" is no node's name\n", ret->node);
	return false;
}

static int configure(const struct arguments *arguments, struct kubeconfig *config,
		     struct errmsg *err)
{
	int ret = arguments->kubeconfig ? kubeconfig_read(arguments->kubeconfig, config, err)
					: kubeconfig_in_cluster(KUBE_SERVICE_ACCOUNT, config, err);

	if (ret < 0 || arguments->server_count == 0)
		return ret;
	kubeconfig_drop_servers(config);
	for (size_t i = 0; i < arguments->server_count; i++) {
		if (kubeconfig_add_server(config, arguments->servers[i], err) < 0)
			return wrap(err, "--api-server");
	}
	return 0;
}

static int print_all(const struct kubeconfig *config, struct errmsg *err)
{
	struct event_base *base = event_base_new();
	struct apiserver *apiserver = NULL;
	int ret = base ? apiserver_new(base, config, &apiserver, err)
		       : fail(err, -ENOMEM, "event loop");

	if (!ret)
		ret = listing_print(base, apiserver, stdout, err);
	apiserver_free(apiserver);
	if (base)
		event_base_free(base);
	return ret;
}

static int follow(struct client *client, struct errmsg *err)
{
	int ret;

	agent_await(client->socket_path);
	ret = client_start(client, err);
	if (!ret)
		event_base_dispatch(client->base);
	client_stop(client);
	return ret;
}

int main(int argc, char **argv)
{
	struct arguments arguments = { .socket_path = SOCKET_DEFAULT };
	struct client client = { 0 };
	struct errmsg err = { 0 };
	int ret;

	if (!arguments_parse(argc, argv, &arguments, &ret))
		return ret;
	json_init();
	client.socket_path = arguments.socket_path;
	client.node = arguments.node;
	signal(SIGPIPE, SIG_IGN);
	curl_global_init(CURL_GLOBAL_DEFAULT); /* before the sandbox: OpenSSL reads its settings */
	ret = configure(&arguments, &client.config, &err);
	if (!ret)
		ret = sandbox_enter(false, &err);
	if (!ret)
		ret = arguments.print ? print_all(&client.config, &err) : follow(&client, &err);
	if (ret)
		log_error("%s", err.text);
	kubeconfig_done(&client.config);
	curl_global_cleanup();
	return ret || client.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
