/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril-http: serves probes and metrics over TCP.  It reads what comes over a network, so it has
 * no privileges: it asks the agent over a unix socket on which nothing can be changed.
 */
#define LOG_MODULE "http"
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "http/server.h"
#include "lib/log.h"
#include "lib/program.h"
#include "lib/sandbox.h"

#define SOCKET_DEFAULT "/run/tendril/http/http.sock"
#define HEALTH_DEFAULT "127.0.0.1:9879"
#define FILES_MAX      256 /* open connections, nearly: whoever connects cannot take more memory */

static const char usage[] =
	"usage: tendril-http [OPTION]...\n"
	"Serves probes and metrics of the agent over HTTP.\n\n"
	"  --health ADDRESS     where to serve /healthz and /readyz (" HEALTH_DEFAULT ")\n"
	"  --metrics ADDRESS    where to serve /metrics, too (nowhere)\n"
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
	const char *socket_path;
};

static int serve(const struct arguments *arguments, struct server *server, struct errmsg *err)
{
	if (server_listen(server, arguments->health, SERVER_HEALTH, err) < 0)
		return wrap(err, "--health");
	if (arguments->metrics &&
	    server_listen(server, arguments->metrics, SERVER_METRICS, err) < 0)
		return wrap(err, "--metrics");
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
				{ "socket", .values = &arguments.socket_path },
				{ 0 },
			},
	};
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	struct program_signals signals = { 0 };
	struct errmsg err = { 0 };
	struct event_base *base;
	struct server *server;
	int ret;

	if (!program_options(&program, argc, argv, &ret))
		return ret;
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	base = event_base_new();
	if (!base || program_signals_watch(&signals, base) < 0)
		return EXIT_FAILURE;
	server = server_new(base, arguments.socket_path);
	ret = serve(&arguments, server, &err);
	if (!ret)
		event_base_dispatch(base);
	else
		log_error("%s", err.text);
	server_free(server);
	program_signals_done(&signals);
	event_base_free(base);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
