/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/program.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "lib/auto.h"
#include "lib/log.h"

#define OPTIONS_MAX  16
#define OPTION_VALUE 256 /* getopt_long() returns this plus the row */

enum { EXIT_USAGE = 2 };

static bool option_store(const struct program *program, const struct program_option *option)
{
	if (option->given) {
		*option->given = true;
		return true;
	}
	if (option->count && *option->count == option->max) {
		fprintf(stderr, "%s: more than %zu --%s\n", program->name, option->max,
			option->name);
		return false;
	}
	option->values[option->count ? (*option->count)++ : 0] = optarg;
	return true;
}

static bool log_level_store(const struct program *program)
{
	enum log_level level;

	if (log_level_parse(optarg, &level) < 0) {
		fprintf(stderr, "%s: --log-level: \"%s\" is no level\n", program->name, optarg);
		return false;
	}
	log_set_level(level);
	return true;
}

bool program_options(const struct program *program, int argc, char **argv, int *ret_status)
{
	struct option longs[OPTIONS_MAX] = {
		{ "log-level", required_argument, NULL, 'l' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
	};
	const struct program_option *rows = program->options;
	int found;

	for (int i = 0; rows[i].name; i++)
		longs[3 + i] = (struct option){ rows[i].name,
						rows[i].given ? no_argument : required_argument,
						NULL, OPTION_VALUE + i };
	*ret_status = EXIT_USAGE;
	while ((found = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (found == 'v' || found == 'h') {
			if (found == 'v')
				printf("%s " TENDRIL_VERSION "\n", program->name);
			else
				fputs(program->usage, stdout);
			*ret_status = EXIT_SUCCESS;
			return false;
		}
		if (found == '?' || (found == 'l' && !log_level_store(program)) ||
		    (found >= OPTION_VALUE && !option_store(program, &rows[found - OPTION_VALUE])))
			return false;
	}
	if (optind < argc)
		fprintf(stderr, "%s: unexpected \"%s\"\n", program->name, argv[optind]);
	return optind == argc;
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	(void)signal;
	(void)what;
	event_base_loopbreak(arg);
}

int program_signals_watch(struct program_signals *signals, struct event_base *base)
{
	static const int numbers[] = { SIGINT, SIGTERM };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		signals->events[i] = evsignal_new(base, numbers[i], on_signal, base);
		if (!signals->events[i] || event_add(signals->events[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

void program_signals_done(struct program_signals *signals)
{
	for (size_t i = 0; i < ARRAY_SIZE(signals->events); i++) {
		if (signals->events[i])
			event_free(signals->events[i]);
	}
}
