/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cni/spool.h"
#include "lib/auto.h"
#include "lib/file.h"

#include <cmocka.h> /* last: its macro fail() hides ours */

static const struct cni_environ env = { .container_id = "c-1", .ifname = "eth0" };

static char dir[64];
static char socket_path[128];
static char file_path[128];

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/tendril-spool-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(socket_path, sizeof(socket_path), "%s/tendril.sock", dir);
	snprintf(file_path, sizeof(file_path), "%s/deleted/c-1-eth0.json", dir);
	return 0;
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	unlink(file_path);
	snprintf(path, sizeof(path), "%s/deleted", dir);
	if (rmdir(path) < 0)
		unlink(path);
	rmdir(dir);
	return 0;
}

static void note_names_the_endpoint(void **state)
{
	auto_free char *text = NULL;
	struct cni_error err = {};
	struct errmsg fault;
	struct stat st;
	bool left;
	size_t len;

	(void)state;
	for (int round = 0; round < 2; round++) { /* a repeated DEL replaces its note */
		assert_int_equal(spool_put(socket_path, &env, &left, &err), 0);
		assert_true(left);
	}
	assert_int_equal(file_read(file_path, 4096, &text, &len, &fault), 0);
	assert_string_equal(text, "{\"containerId\":\"c-1\",\"ifname\":\"eth0\"}");
	assert_int_equal(stat(file_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	spool_remove(socket_path, &env);
	assert_int_not_equal(stat(file_path, &st), 0);
	spool_remove(socket_path, &env); /* nothing there: fine */
}

static void no_run_directory_is_no_failure(void **state)
{
	struct cni_error err = {};
	bool left = true;

	(void)state;
	assert_int_equal(spool_put("/tmp/tendril-spool-nowhere/t.sock", &env, &left, &err), 0);
	assert_false(left);
	spool_remove("/tmp/tendril-spool-nowhere/t.sock", &env);
}

static void unwritable_spool_is_reported(void **state)
{
	struct cni_error err = {};
	struct errmsg fault;
	char path[128];
	bool left;

	(void)state;
	snprintf(path, sizeof(path), "%s/deleted", dir);
	assert_int_equal(file_write(path, "", 0, 0600, FILE_FAST, &fault), 0);
	assert_int_equal(spool_put(socket_path, &env, &left, &err), CNI_IO_FAILURE);
	assert_false(left);
	assert_non_null(strstr(err.msg, path));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(note_names_the_endpoint),
		TEST(no_run_directory_is_no_failure),
		TEST(unwritable_spool_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
