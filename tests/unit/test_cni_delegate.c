/* SPDX-License-Identifier: Apache-2.0 */
/* IPAM plugins as shell scripts: each writes what it was called with, and answers as told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "cni/delegate.h"
#include "lib/auto.h"
#include "lib/file.h"

#include <cmocka.h> /* last: its macro fail() hides ours */

struct fixture {
	char dir[64];
	char path[256]; /* CNI_PATH */
	struct cni_environ env;
	struct netconf conf;
};

static char *path_of(const struct fixture *f, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return path;
}

/* The script finds its own folder in $dir and its input in $input. */
static void plugin_write(const struct fixture *f, const char *name, const char *script)
{
	auto_free char *text = NULL;
	struct errmsg err;

	assert_true(asprintf(&text,
			     "#!/bin/sh\ndir=%s\ninput=$(cat)\n"
			     "echo \"$CNI_COMMAND $input\" >> $dir/log\n%s\n",
			     f->dir, script) > 0);
	assert_int_equal(file_write(path_of(f, name), text, strlen(text), 0755, FILE_FAST, &err),
			 0);
	assert_int_equal(chmod(path_of(f, name), 0755), 0);
}

static void conf_set(struct fixture *f, const char *text)
{
	struct cni_error err = {};

	netconf_done(&f->conf);
	if (netconf_parse(text, strlen(text), &f->conf, &err))
		fail_msg("%s: %s", text, err.msg);
}

#define CONF(version, more)                                                    \
	"{\"cniVersion\":\"" version "\",\"name\":\"n\",\"type\":\"tendril\"," \
	"\"ipam\":{\"type\":\"ipam\"}" more "}"

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "/tmp/tendril-delegate-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "/nowhere::%s", f->dir);
	f->env = (struct cni_environ){ .container_id = "c", .ifname = "eth0", .path = f->path };
	conf_set(f, CONF("1.0.0", ""));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "ipam", "log" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlink(path_of(f, names[i]));
	rmdir(f->dir);
	netconf_done(&f->conf);
	free(f);
	return 0;
}

static void assert_log(const struct fixture *f, const char *want)
{
	auto_free char *text = NULL;
	struct errmsg err;
	size_t len;

	assert_int_equal(file_read(path_of(f, "log"), 1 << 20, &text, &len, &err), 0);
	assert_string_equal(text, want);
}

static void add_expect(const struct fixture *f, int want, const char *text)
{
	struct cni_error err = {};
	cJSON *result = NULL;
	int code = delegate_add(&f->conf, &f->env, &result, &err);
	auto_free char *printed = result ? cJSON_PrintUnformatted(result) : strdup(err.msg);

	cJSON_Delete(result);
	if (code != want || !strstr(printed, text))
		fail_msg("code %d, \"%s\" (%s), not %d with \"%s\"", code, printed, err.details,
			 want, text);
}

static void result_of_any_version_is_read(void **state)
{
	struct fixture *f = *state;

	plugin_write(f, "ipam", "echo '{\"ips\":[{\"address\":\"10.0.0.2/24\"}]}'");
	add_expect(f, 0, "\"ips\":[{\"address\":\"10.0.0.2/24\"}]");
	plugin_write(f, "ipam",
		     "echo '{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.0.0.3/24\"}}'");
	add_expect(f, 0, "\"ips\":[{\"address\":\"10.0.0.3/24\"}]");
}

static void plugin_gets_our_configuration_and_environment(void **state)
{
	struct fixture *f = *state;

	setenv("CNI_COMMAND", "ADD", 1);
	setenv("CNI_CONTAINERID", "cid", 1);
	plugin_write(f, "ipam", "echo \"$CNI_CONTAINERID\" >> $dir/log");
	assert_int_equal(delegate_run(&f->conf, &f->env, "DEL", &(struct cni_error){}), 0);
	assert_log(f, "DEL " CONF("1.0.0", "") "\ncid\n");
}

static void failures_carry_the_plugins_words(void **state)
{
	struct fixture *f = *state;

	plugin_write(f, "ipam", "echo '{\"code\":11,\"msg\":\"full\",\"details\":\"d\"}'; exit 1");
	add_expect(f, 11, "IPAM plugin ipam: full");
	/* Its own codes would be taken for ours. */
	plugin_write(f, "ipam", "echo '{\"code\":101,\"msg\":\"odd\"}'; exit 1");
	add_expect(f, CNI_IPAM_FAILED, "odd");
	plugin_write(f, "ipam", "exit 3");
	add_expect(f, CNI_IPAM_FAILED, "ended with status 3");
	plugin_write(f, "ipam", "kill -9 $$");
	add_expect(f, CNI_IPAM_FAILED, "killed by signal 9");
	plugin_write(f, "ipam", "echo nonsense");
	add_expect(f, CNI_IPAM_FAILED, "result of IPAM plugin ipam: not an object");
	plugin_write(f, "ipam", "echo '{}'");
	add_expect(f, CNI_IPAM_FAILED, "no address");
	plugin_write(f, "ipam", "head -c 1100000 /dev/zero");
	add_expect(f, CNI_IPAM_FAILED, "too long");
}

static void missing_plugin_is_named(void **state)
{
	struct fixture *f = *state;

	add_expect(f, CNI_INVALID_CONFIG, "no plugin ipam in CNI_PATH");
	plugin_write(f, "ipam", "");
	assert_int_equal(chmod(path_of(f, "ipam"), 0644), 0);
	add_expect(f, CNI_INVALID_CONFIG, "no plugin ipam in CNI_PATH");
}

/* A plugin of 2021 under a configuration of 2024. */
#define OLD_PLUGIN                                                                     \
	"case $CNI_COMMAND$input in\n"                                                 \
	"VERSION*) echo '{\"supportedVersions\":[\"0.4.0\",\"1.0.0\",\"0.3.1\"]}';;\n" \
	"*1.1.0*) echo '{\"code\":1,\"msg\":\"incompatible\"}'; exit 1;;\n"            \
	"*) echo '{\"ips\":[{\"address\":\"10.0.0.2/24\"}]}';;\nesac"

static void old_plugin_is_called_in_its_version(void **state)
{
	struct fixture *f = *state;

	conf_set(f, CONF("1.1.0", ",\"prevResult\":{\"interfaces\":[{\"name\":\"a\",\"mtu\":9}]}"));
	plugin_write(f, "ipam", OLD_PLUGIN);
	assert_int_equal(delegate_run(&f->conf, &f->env, "CHECK", &(struct cni_error){}), 0);
	assert_log(f,
		   "CHECK " CONF("1.1.0",
				 ",\"prevResult\":{\"interfaces\":[{\"name\":\"a\",\"mtu\":9}"
				 "]}") "\n"
				       "VERSION {\"cniVersion\":\"1.1.0\"}\n"
				       "CHECK " CONF("1.0.0",
						     ",\"prevResult\":{\"cniVersion\":\"1.0.0\","
						     "\"interfaces\":[{\"name\":\"a\"}],\"ips\":[]"
						     "}") "\n");
	add_expect(f, 0, "10.0.0.2/24");
}

static void commands_of_1_1_spare_an_old_plugin(void **state)
{
	struct fixture *f = *state;

	conf_set(f, CONF("1.1.0", ""));
	plugin_write(f, "ipam", OLD_PLUGIN);
	assert_int_equal(delegate_run(&f->conf, &f->env, "GC", &(struct cni_error){}), 0);
	assert_int_equal(delegate_run(&f->conf, &f->env, "STATUS", &(struct cni_error){}), 0);
	assert_log(f, "VERSION {\"cniVersion\":\"1.1.0\"}\nVERSION {\"cniVersion\":\"1.1.0\"}\n");
}

static void status_of_a_new_plugin_counts(void **state)
{
	struct fixture *f = *state;
	struct cni_error err = {};

	conf_set(f, CONF("1.1.0", ""));
	plugin_write(f, "ipam",
		     "case $CNI_COMMAND in\n"
		     "VERSION) echo '{\"supportedVersions\":[\"1.1.0\"]}';;\n"
		     "*) echo '{\"code\":50,\"msg\":\"no lease server\"}'; exit 1;;\nesac");
	assert_int_equal(delegate_run(&f->conf, &f->env, "STATUS", &err), CNI_NOT_AVAILABLE);
	assert_string_equal(err.msg, "IPAM plugin ipam: no lease server");
}

static void big_configuration_does_not_block(void **state)
{
	struct fixture *f = *state;
	auto_free char *text = NULL;
	auto_free char *filler = malloc(900001);

	assert_non_null(filler);
	memset(filler, 'x', 900000);
	filler[900000] = '\0';
	assert_true(asprintf(&text, CONF("1.0.0", ",\"filler\":\"%s\""), filler) > 0);
	conf_set(f, text);
	/* Answers before it reads: with two pipes both sides would wait. */
	plugin_write(f, "ipam",
		     "head -c 500000 /dev/zero | tr '\\0' ' '; "
		     "echo '{\"ips\":[{\"address\":\"10.0.0.2/24\"}]}'");
	add_expect(f, 0, "10.0.0.2/24");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(result_of_any_version_is_read),
		TEST(plugin_gets_our_configuration_and_environment),
		TEST(failures_carry_the_plugins_words),
		TEST(missing_plugin_is_named),
		TEST(old_plugin_is_called_in_its_version),
		TEST(commands_of_1_1_spare_an_old_plugin),
		TEST(status_of_a_new_plugin_counts),
		TEST(big_configuration_does_not_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
