/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril-http: serves probes, metrics and health checks of services over TCP.  It reads what comes
 * over a network, so it has no privileges: it asks the agent over a unix socket on which nothing
 * can be changed.
 */
#define LOG_MODULE "http"
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "http/check_server.h"
#include "http/checks.h"
#include "http/server.h"
#include "lib/health.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/program.h"
#include "lib/sandbox.h"

#define SOCKET_DEFAULT "/run/tendril/http/http.sock"
#define HEALTH_DEFAULT "127.0.0.1:9879"
/* Beside the ports of health checks and their connections there is room for probes and the agent.
 * Whoever connects cannot take more memory. */
#define FILES_MAX (HEALTH_LISTENERS_MAX + CHECK_CONNECTIONS_MAX + 256)

static const char usage[] =
	"usage: tendril-http [OPTION]...\n"
	"Serves probes, metrics and health checks of services over HTTP.\n\n"
	"  --health ADDRESS     where to serve /healthz and /readyz (" HEALTH_DEFAULT ")\n"
	"  --metrics ADDRESS    where to serve /metrics, too (nowhere)\n"
	"  --proxy ADDRESS      where load balancers find /healthz and /livez of the service "
	"proxy\n"
	"                       (nowhere)\n"
	"  --socket PATH        of the agent (" SOCKET_DEFAULT ")\n"
	"  --log-level LEVEL    error, warn, info or debug (info)\n"
	"  --version            print the version and exit\n"
	"  --help               print this and exit\n\n"
	"An ADDRESS is written as 127.0.0.1:9879 or [::1]:9879.\n"
	"Exit status: 0 after SIGTERM or SIGINT, 1 if it cannot go on, 2 for a wrong command "
	"line.\n";

struct arguments {
	const char *health;
	const char *metrics;
	const char *proxy;
	const char *socket_path;
};

static int serve(const struct arguments *arguments, struct server *server, struct errmsg *err)
{
	if (server_listen(server, arguments->health, SERVER_HEALTH, err) < 0)
		return wrap(err, "--health");
	if (arguments->metrics &&
	    server_listen(server, arguments->metrics, SERVER_METRICS, err) < 0)
		return wrap(err, "--metrics");
	if (arguments->proxy && server_listen(server, arguments->proxy, SERVER_PROXY, err) < 0)
		return wrap(err, "--proxy");
	return sandbox_enter(true, err);
}

int main(int argc, char **argv)
{
	struct arguments arguments = { .health = HEALTH_DEFAULT, .socket_path = SOCKET_DEFAULT };
	const struct program program = {
		.name = "tendril-http",
		.usage = usage,
		.options =
			(const struct program_option[]){
				{ "health", .values = &arguments.health },
				{ "metrics", .values = &arguments.metrics },
				{ "proxy", .values = &arguments.proxy },
				{ "socket", .values = &arguments.socket_path },
				{ 0 },
			},
	};
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	struct program_signals signals = { 0 };
	struct errmsg err = { 0 };
	struct event_base *base;
	struct checks *checks;
	struct server *server;
	int ret;

	if (!program_options(&program, argc, argv, &ret))
		return ret;
	json_init();
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	base = event_base_new();
	if (!base || program_signals_watch(&signals, base) < 0)
		return EXIT_FAILURE;
	checks = checks_new(base, arguments.socket_path);
	server = server_new(base, arguments.socket_path, checks);
	ret = serve(&arguments, server, &err);
	if (!ret)
		event_base_dispatch(base);
	else
		log_error("%s", err.text);
	server_free(server);
	checks_free(checks);
	program_signals_done(&signals);
	event_base_free(base);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
