/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's configuration: command line over file over defaults, and errors that say where. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/config.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define ARGS_MAX 8

static char file_path[64];

static int load(struct config *config, const char *const args[], struct errmsg *err)
{
	char *argv[ARGS_MAX + 2] = { (char *)"tendrild" };
	enum config_action action;
	int argc = 1;

	for (size_t i = 0; i < ARGS_MAX && args[i]; i++)
		argv[argc++] = (char *)args[i];
	return config_load(config, argc, argv, &action, err);
}

/* Loads with a file that holds text. */
static int load_file(struct config *config, const char *text, const char *option,
		     struct errmsg *err)
{
	const char *args[] = { "--config", file_path, option, NULL };
	FILE *file = fopen(file_path, "we");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return load(config, args, err);
}

static int setup(void **state)
{
	int fd;

	(void)state;
	snprintf(file_path, sizeof(file_path), "/tmp/test_config.XXXXXX");
	fd = mkostemp(file_path, O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(file_path);
	return 0;
}

static void defaults_serve_both_families(void **state)
{
	struct config config;
	struct errmsg err = {};
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(load_file(&config, "{}", NULL, &err), 0);
	assert_string_equal(config.run_dir, "/run/tendril");
	assert_string_equal(config.bpffs, "/sys/fs/bpf/tendril");
	assert_int_equal(config.pod_cidr_count, 2);
	assert_string_equal(prefix_format(&config.pod_cidrs[0], text), "10.127.0.0/24");
	assert_string_equal(prefix_format(&config.pod_cidrs[1], text), "fd00:10:127::/112");
	assert_true(config.socket_services);
	assert_true(config.accel);
	assert_false(config.big_tcp);
	assert_false(config.force_clsact);
	assert_string_equal(config.cni_bin_dir, "");
	assert_string_equal(config.cni_conf_dir, "");
	assert_int_equal(config.limits.endpoints, 0);
}

static void the_command_line_wins_over_the_file(void **state)
{
	static const char text[] = "{\"runDir\": \"/run/a\", \"podCIDRs\": [\"10.1.0.0/16\"],"
				   "\"mtu\": 1400, \"socketServices\": false, \"accel\": false,"
				   "\"maxConnections\": 1000, \"logLevel\": \"debug\"}";
	const char *const args[] = {
		"--config",   file_path,     "--run-dir=/run/b",     "--socket-services",
		"--pod-cidr", "10.2.0.0/16", "--pod-cidr=fd00::/64", "--log-level=warn"
	};
	struct config config;
	struct errmsg err = {};
	char buf[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(load_file(&config, text, NULL, &err), 0);
	assert_string_equal(config.run_dir, "/run/a");
	assert_int_equal(config.mtu, 1400);
	assert_int_equal(config.limits.connections, 1000);
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(load(&config, args, &err), 0);
	assert_string_equal(config.run_dir, "/run/b");
	assert_true(config.socket_services);
	assert_false(config.accel);
	assert_int_equal(config.pod_cidr_count, 2);
	assert_string_equal(prefix_format(&config.pod_cidrs[0], buf), "10.2.0.0/16");
	assert_int_equal(config.log_level, LOG_LEVEL_WARN);
}

static void an_option_replaces_the_ranges_of_the_file(void **state)
{
	static const char text[] = "{\"nodePortAddresses\": [\"192.0.2.0/24\", \"2001:db8::/32\"]}";
	struct config config, other;

	(void)state;
	assert_int_equal(load_file(&config, text, NULL, NULL), 0);
	assert_int_equal(config.node_port_addresses.count, 2);
	assert_int_equal(load_file(&other, text, "--node-port-address=198.51.100.0/24", NULL), 0);
	assert_int_equal(other.node_port_addresses.count, 1);
	assert_string_equal(config_difference(&config, &other), "nodePortAddresses");
}

static void bool_options_have_all_their_forms(void **state)
{
	struct config config;

	(void)state;
	assert_int_equal(load_file(&config, "{}", "--no-socket-services", NULL), 0);
	assert_false(config.socket_services);
	assert_int_equal(load_file(&config, "{}", "--socket-services=off", NULL), 0);
	assert_false(config.socket_services);
	assert_int_equal(load_file(&config, "{}", "--clsact", NULL), 0);
	assert_true(config.force_clsact);
	assert_int_equal(load_file(&config, "{}", "--big-tcp", NULL), 0);
	assert_true(config.big_tcp);
	assert_int_equal(load_file(&config, "{\"bigTcp\": true}", NULL, NULL), 0);
	assert_true(config.big_tcp);
	assert_int_equal(load_file(&config, "{\"bigTcp\": true}", "--no-big-tcp", NULL), 0);
	assert_false(config.big_tcp);
	assert_int_equal(load_file(&config, "{}", "--accel=false", NULL), 0);
	assert_false(config.accel);
}

static void an_empty_cgroup_turns_the_socket_layer_off(void **state)
{
	struct config config;

	(void)state;
	assert_int_equal(load_file(&config, "{\"cgroup\": \"\"}", NULL, NULL), 0);
	assert_string_equal(config.cgroup, "");
}

static const struct {
	const char *file; /* contents */
	const char *option;
	const char *parts[3]; /* of the error; %F stands for the file's path */
} refusals[] = {
	{ "{", NULL, { "%F: line 1", "not valid JSON" } },
	{ "[]", NULL, { "%F: document: a list, where an object is needed" } },
	{ "{\"mtu\": \"big\"}", NULL, { "%F: mtu: a string, where a number is needed" } },
	{ "{\"mtu\": 70000}", NULL, { "%F: mtu: 70000 is not between 0 and 65535" } },
	{ "{\"mtu\": 1.5}", NULL, { "%F: mtu: 1.5" } },
	{ "{\"mtu\": 100}", NULL, { "mtu: 100 is less than the 576 of IPv4" } },
	{ "{\"mtu\": 1000}", NULL, { "mtu: 1000 is less than the 1280 of IPv6" } },
	{ "{\"runDirr\": \"/x\"}", NULL, { "%F: runDirr: unknown field" } },
	{ "{\"config\": \"/x\"}", NULL, { "%F: config: unknown field" } },
	{ "{\"mtu\": 1500, \"mtu\": 1400}", NULL, { "%F: mtu: given twice" } },
	{ "{\"runDir\": \"run\"}", NULL, { "%F: runDir: \"run\" is not an absolute path" } },
	{ "{\"runDir\": \"\"}", NULL, { "%F: runDir: \"\"" } },
	{ "{\"accel\": 1}", NULL, { "%F: accel: a number, where a boolean is needed" } },
	{ "{\"logLevel\": \"loud\"}", NULL, { "%F: logLevel: \"loud\" is not error" } },
	{ "{\"podCIDRs\": \"10.0.0.0/8\"}",
	  NULL,
	  { "%F: podCIDRs: a string, where a list is needed" } },
	{ "{\"podCIDRs\": [\"10.0.0.0/8\", 5]}",
	  NULL,
	  { "%F: podCIDRs[1]: a number, where a string is needed" } },
	{ "{\"podCIDRs\": [\"10.0.0.0/8\", \"10.1.0.0/16\"]}",
	  NULL,
	  { "%F: podCIDRs[1]: \"10.1.0.0/16\" overlaps 10.0.0.0/8" } },
	{ "{\"podCIDRs\": [\"10.0.0.1/24\"]}",
	  NULL,
	  { "10.0.0.1/24", "did you mean 10.0.0.0/24?" } },
	{ "{\"nodePortAddresses\": [\"primary\"]}",
	  NULL,
	  { "%F: nodePortAddresses[0]: \"primary\" is not ADDRESS/LENGTH" } },
	{ "{\"podCIDRs\": [\"10.0.0.0\"]}", NULL, { "\"10.0.0.0\" is not ADDRESS/LENGTH" } },
	{ "{\"podCIDRs\": [\"10.0.0.0/31\"]}", NULL, { "has no room for a gateway" } },
	{ "{\"podCIDRs\": [\"fe80::/64\"]}", NULL, { "overlaps fe80::/10" } },
	{ "{}", "--pod-cidr=127.1.0.0/16", { "option --pod-cidr: \"127.1.0.0/16\" overlaps 127" } },
	{ "{}", "--mtu=-1", { "option --mtu: \"-1\" is not a number" } },
	{ "{}", "--mtu=99999", { "option --mtu: 99999 is not between 0 and 65535" } },
	{ "{}", "--accel=maybe", { "option --accel: \"maybe\" is not true or false" } },
	{ "{}", "--run-dir=tmp", { "option --run-dir: \"tmp\" is not an absolute path" } },
	{ "{}", "--max-endpoints=70000", { "option --max-endpoints: 70000" } },
	{ "{}", "--bogus", { "--bogus" } },
	{ "{}", "--mtu", { "option --mtu needs a value" } },
	{ "{}", "stray", { "unexpected argument stray" } },
};

static void each_error_names_file_field_or_option(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct config config = { .mtu = 77 };
		struct errmsg err = {};
		int code = load_file(&config, refusals[i].file, refusals[i].option, &err);

		assert_int_not_equal(code, 0);
		assert_int_equal(config.mtu, 77); /* untouched on failure */
		for (size_t p = 0; p < 3 && refusals[i].parts[p]; p++) {
			const char *part = refusals[i].parts[p];
			bool file = strncmp(part, "%F", 2) == 0;
			char expected[256];

			snprintf(expected, sizeof(expected), "%s%s", file ? file_path : "",
				 part + (file ? 2 : 0));
			if (!strstr(err.text, expected))
				fail_msg("%s %s: expected \"%s\" in \"%s\"", refusals[i].file,
					 refusals[i].option ? refusals[i].option : "", expected,
					 err.text);
		}
	}
}

static void a_named_file_must_exist(void **state)
{
	const char *const args[] = { "--config=/nonexistent/agent.json", NULL };
	struct config config;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(load(&config, args, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/agent.json"));
}

static void a_run_dir_too_long_for_a_socket_is_refused(void **state)
{
	struct config config;
	struct errmsg err = {};
	char option[160] = "--run-dir=/";

	(void)state;
	memset(option + 11, 'x', 100);
	assert_int_equal(load_file(&config, "{}", option, &err), -EINVAL);
	assert_non_null(strstr(err.text, "longer than 90"));
}

static void help_and_version_win_over_everything(void **state)
{
	char *argv[] = { (char *)"tendrild",
			 (char *)"--config=/none",
			 (char *)"--mtu=x",
			 (char *)"--version",
			 (char *)"--check-config",
			 (char *)"--help",
			 NULL };
	enum config_action action;
	struct config config;

	(void)state;
	assert_int_equal(config_load(&config, 6, argv, &action, NULL), 0);
	assert_int_equal(action, CONFIG_HELP);
	assert_int_equal(config_load(&config, 5, argv, &action, NULL), 0);
	assert_int_equal(action, CONFIG_VERSION);
	argv[3] = (char *)"-h";
	assert_int_equal(config_load(&config, 5, argv, &action, NULL), 0);
	assert_int_equal(action, CONFIG_HELP);
}

static void a_difference_names_the_setting(void **state)
{
	struct config a, b;

	(void)state;
	assert_int_equal(load_file(&a, "{\"logLevel\": \"warn\"}", NULL, NULL), 0);
	assert_int_equal(load_file(&b, "{}", NULL, NULL), 0);
	b.audit = true; /* follows a reload */
	assert_null(config_difference(&a, &b));
	assert_int_equal(load_file(&b, "{\"maxPolicies\": 1000}", NULL, NULL), 0);
	assert_string_equal(config_difference(&a, &b), "maxPolicies");
	assert_int_equal(load_file(&b, "{\"podCIDRs\": [\"10.0.0.0/8\"]}", NULL, NULL), 0);
	assert_string_equal(config_difference(&a, &b), "podCIDRs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_serve_both_families),
		cmocka_unit_test(the_command_line_wins_over_the_file),
		cmocka_unit_test(an_option_replaces_the_ranges_of_the_file),
		cmocka_unit_test(bool_options_have_all_their_forms),
		cmocka_unit_test(an_empty_cgroup_turns_the_socket_layer_off),
		cmocka_unit_test(each_error_names_file_field_or_option),
		cmocka_unit_test(a_named_file_must_exist),
		cmocka_unit_test(a_run_dir_too_long_for_a_socket_is_refused),
		cmocka_unit_test(help_and_version_win_over_everything),
		cmocka_unit_test(a_difference_names_the_setting),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
