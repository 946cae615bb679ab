/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendril-http: serves probes and metrics over TCP.  It reads what comes over a network, so it has
 * no privileges: it asks the agent over a unix socket on which nothing can be changed.
 */
#define LOG_MODULE "http"
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "http/server.h"
#include "lib/auto.h"
#include "lib/log.h"
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

/* 0: go on; another value is the exit status, plus one. */
static int arguments_parse(int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{ "health", required_argument, NULL, 'e' },
		{ "metrics", required_argument, NULL, 'm' },
		{ "socket", required_argument, NULL, 's' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	enum log_level level;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'e':
			ret->health = optarg;
			break;
		case 'm':
			ret->metrics = optarg;
			break;
		case 's':
			ret->socket_path = optarg;
			break;
		case 'l':
			if (log_level_parse(optarg, &level) < 0) {
				fprintf(stderr, "tendril-http: --log-level: \"%s\" is none\n",
					optarg);
				return 3;
			}
			log_set_level(level);
			break;
		case 'v':
			printf("tendril-http " TENDRIL_VERSION "\n");
			return 1;
		case 'h':
			fputs(usage, stdout);
			return 1;
		default:
			return 3;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "tendril-http: unexpected \"%s\"\n", argv[optind]);
		return 3;
	}
	return 0;
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	(void)signal;
	(void)what;
	event_base_loopbreak(arg);
}

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
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	const int signals[] = { SIGINT, SIGTERM };
	struct event *ends[ARRAY_SIZE(signals)];
	struct server *server;
	struct event_base *base;
	struct errmsg err = { 0 };
	int ret = arguments_parse(argc, argv, &arguments);

	if (ret)
		return ret - 1;
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	base = event_base_new();
	if (!base)
		return EXIT_FAILURE;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		ends[i] = evsignal_new(base, signals[i], on_signal, base);
		event_add(ends[i], NULL);
	}
	server = server_new(base, arguments.socket_path);
	ret = serve(&arguments, server, &err);
	if (!ret)
		event_base_dispatch(base);
	else
		log_error("%s", err.text);
	server_free(server);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		event_free(ends[i]);
	event_base_free(base);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
