/* SPDX-License-Identifier: Apache-2.0 */
/* Files read whole and replaced whole. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/arena.h"
#include "lib/auto.h"
#include "lib/file.h"

#include <cmocka.h> /* last: its fail() is a macro */

static char folder[64];

static int group_setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/test_file.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static int group_teardown(void **state)
{
	static const char *const names[] = { "file", "large", "fifo", "a/b/c/file" };
	static const char *const folders[] = { "a/b/c", "a/b", "a" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlink(path_of(names[i]));
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		rmdir(path_of(folders[i]));
	return rmdir(folder);
}

static void test_written_file_reads_back(void **state)
{
	static const enum file_durability durabilities[] = { FILE_FAST, FILE_DURABLE };
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(durabilities); i++) {
		auto_free char *text = NULL;
		struct errmsg err = {};
		size_t len = 0;

		assert_int_equal(
			file_write(path_of("file"), "hello", 5, 0600, durabilities[i], &err), 0);
		assert_int_equal(file_read(path_of("file"), 100, &text, &len, &err), 0);
		assert_int_equal(len, 5);
		assert_string_equal(text, "hello");
		assert_int_equal(stat(path_of("file"), &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
		assert_int_not_equal(access(path_of("file.tmp"), F_OK), 0);
	}
}

static void test_bound_is_exact(void **state)
{
	auto_free char *big = calloc(1, 70000);
	auto_free char *text = NULL;
	struct errmsg err = {};
	size_t len = 0;

	(void)state;
	memset(big, 'x', 70000);
	assert_int_equal(file_write(path_of("large"), big, 70000, 0600, FILE_FAST, &err), 0);
	assert_int_equal(file_read(path_of("large"), 69999, &text, &len, &err), -EFBIG);
	assert_null(text);
	assert_int_equal(file_read(path_of("large"), 70000, &text, &len, &err), 0);
	assert_int_equal(len, 70000);
	assert_memory_equal(text, big, 70000);
}

static void test_file_that_says_it_is_empty_is_read(void **state)
{
	auto_free char *text = NULL;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(file_read("/proc/self/maps", 1 << 20, &text, NULL, &err), 0);
	assert_non_null(strstr(text, "[stack]"));
}

static void test_what_is_no_file_is_refused(void **state)
{
	struct errmsg err = {};
	char *text = NULL;

	(void)state;
	assert_int_equal(file_read(folder, 100, &text, NULL, &err), -EINVAL);
	assert_int_equal(file_read(path_of("none"), 100, &text, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none"));
	assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
	assert_int_equal(file_read(path_of("fifo"), 100, &text, NULL, &err), -EINVAL);
}

static void test_failed_write_leaves_the_old_content(void **state)
{
	auto_free char *text = NULL;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(file_write(path_of("file"), "old", 3, 0600, FILE_FAST, &err), 0);
	/* A folder of the temporary name: the write cannot begin. */
	assert_int_equal(mkdir(path_of("file.tmp"), 0700), 0);
	assert_true(file_write(path_of("file"), "new", 3, 0600, FILE_FAST, &err) < 0);
	assert_int_equal(rmdir(path_of("file.tmp")), 0);
	assert_int_equal(file_read(path_of("file"), 100, &text, NULL, &err), 0);
	assert_string_equal(text, "old");
}

static void test_folder_is_not_replaced(void **state)
{
	struct errmsg err = {};
	struct stat st;

	(void)state;
	assert_int_equal(file_make_dir(path_of("a"), 0700, &err), 0);
	assert_int_equal(file_write(path_of("a"), "text", 4, 0600, FILE_FAST, &err), -EISDIR);
	assert_int_equal(stat(path_of("a"), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(access(path_of("a.tmp"), F_OK), -1);
}

/* Every moment there is a file, old or new, and none beside it in the end. */
static void test_replaced_file_is_never_missing(void **state)
{
	struct errmsg err = {};
	pid_t writer;
	int status;

	(void)state;
	assert_int_equal(file_write(path_of("file"), "0", 1, 0600, FILE_FAST, &err), 0);
	writer = fork();
	if (writer == 0) {
		for (int i = 0; i < 2000; i++) {
			if (file_write(path_of("file"), "1", 1, 0600, FILE_FAST, &err) < 0)
				_exit(1);
		}
		_exit(0);
	}
	while (waitpid(writer, &status, WNOHANG) == 0) {
		auto_free char *text = NULL;
		size_t len = 0;

		assert_int_equal(file_read(path_of("file"), 10, &text, &len, &err), 0);
		assert_int_equal(len, 1);
	}
	assert_int_equal(status, 0);
	assert_int_equal(access(path_of("file.tmp"), F_OK), -1);
}

/* Files of earlier versions have it, too: of pieces of 256 KiB. */
static void test_checksum_of_a_large_text(void **state)
{
	const size_t piece = 256 << 10, max = 9 * piece;
	char *text = malloc(max);
	struct errmsg err = {};

	(void)state;
	for (size_t i = 0; i < max; i++)
		text[i] = (char)(i * 2654435761U >> 24);
	for (size_t len = max - 1; len > piece / 2; len -= piece / 2) {
		uint64_t expected = len;

		for (size_t at = 0; at < len; at += piece)
			expected = expected * 0x9e3779b97f4a7c15 +
				   hash_bytes(text + at, len - at < piece ? len - at : piece);
		assert_int_equal(file_checksum(text, len), expected);
	}
	assert_int_equal(file_write_checked(path_of("sum"), text, max, 0600, FILE_FAST, &err), 0);
	assert_true(file_has_checksum(path_of("sum"), max, file_checksum(text, max)));
	assert_false(file_has_checksum(path_of("sum"), max, 1 ^ file_checksum(text, max)));
	assert_false(file_has_checksum(path_of("sum"), max - 1, file_checksum(text, max)));
	assert_false(file_has_checksum(path_of("none"), 0, 0));
	free(text);
}

static void test_checksum_tells_damage(void **state)
{
	static const char body[] = "{\"a\": 1}\n";
	struct errmsg err = {};
	char *text = NULL, *raw = NULL;
	size_t len = 0, raw_len = 0;
	bool checked = false;

	(void)state;
	for (size_t size = 0; size < sizeof(body); size += sizeof(body) - 1) {
		assert_int_equal(
			file_write_checked(path_of("sum"), body, size, 0600, FILE_DURABLE, &err),
			0);
		assert_int_equal(file_read_checked(path_of("sum"), 20, &text, &len, &checked, &err),
				 0);
		assert_true(checked);
		assert_int_equal(len, size);
		assert_memory_equal(text, body, size);
		assert_int_equal(text[size], 0);
		free(text);
	}
	assert_int_equal(
		file_read_checked(path_of("sum"), sizeof(body) - 2, &text, &len, NULL, &err),
		-EFBIG);
	/* Each bit of it, and each length. */
	assert_int_equal(file_read(path_of("sum"), 1000, &raw, &raw_len, &err), 0);
	for (size_t bit = 0; bit < raw_len * 8; bit++) {
		raw[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(file_write(path_of("bad"), raw, raw_len, 0600, FILE_FAST, &err),
				 0);
		raw[bit / 8] ^= (char)(1 << bit % 8);
		if (file_read_checked(path_of("bad"), 1000, &text, &len, NULL, &err) == 0) {
			/* The last line is none any more: whoever reads the text meets it. */
			assert_int_equal(len, raw_len);
			free(text);
		} else {
			assert_int_equal(err.code, -EBADMSG);
		}
	}
	for (size_t cut = 0; cut < raw_len; cut++) {
		assert_int_equal(file_write(path_of("bad"), raw, cut, 0600, FILE_FAST, &err), 0);
		assert_int_equal(
			file_read_checked(path_of("bad"), 1000, &text, &len, &checked, &err), 0);
		assert_false(checked);
		assert_int_equal(len, cut); /* as it is, for there is no checksum */
		free(text);
	}
	free(raw);
	unlink(path_of("sum"));
	unlink(path_of("bad"));
}

static void test_folders_are_made_with_those_above(void **state)
{
	struct errmsg err = {};

	(void)state;
	assert_int_equal(file_make_dir(path_of("a/b/c"), 0700, &err), 0);
	assert_int_equal(file_make_dir(path_of("a/b/c"), 0700, &err), 0);
	assert_int_equal(file_write(path_of("a/b/c/file"), "", 0, 0600, FILE_FAST, &err), 0);
	assert_true(file_make_dir(path_of("a/b/c/file/d"), 0700, &err) < 0);
}

static void test_kernel_settings_read_as_numbers(void **state)
{
	struct errmsg err = {};
	long value = -1;

	(void)state;
	assert_int_equal(sysctl_read("kernel/pid_max", &value, &err), 0);
	assert_true(value > 0);
	assert_int_equal(sysctl_read("kernel/no_such_setting", &value, &err), -ENOENT);
	assert_int_equal(sysctl_read("kernel/hostname", &value, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_file_reads_back),
		cmocka_unit_test(test_bound_is_exact),
		cmocka_unit_test(test_file_that_says_it_is_empty_is_read),
		cmocka_unit_test(test_what_is_no_file_is_refused),
		cmocka_unit_test(test_failed_write_leaves_the_old_content),
		cmocka_unit_test(test_folder_is_not_replaced),
		cmocka_unit_test(test_replaced_file_is_never_missing),
		cmocka_unit_test(test_checksum_of_a_large_text),
		cmocka_unit_test(test_checksum_tells_damage),
		cmocka_unit_test(test_folders_are_made_with_those_above),
		cmocka_unit_test(test_kernel_settings_read_as_numbers),
	};

	return cmocka_run_group_tests_name("file", tests, group_setup, group_teardown);
}
