/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large the programs are, held against tests/bpf/insns.txt: more than a tenth above is a
 * failure, to be answered by a smaller program or by a new number in that file, which a reviewer
 * sees.  Loaded instructions differ a little between kernels (what is inlined), verified ones a lot
 * (how paths are pruned): the verified ones are compared on the kernel release of the file's first
 * line only.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "harness/scratch.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define LOADED_MAX 52000 /* all programs together */

static struct datapath *datapath;

static int group_setup(void **state)
{
	struct datapath_options options = scratch_options();
	struct errmsg err = { 0 };

	(void)state;
	options.accel = true;
	options.socket_services = true;
	if (scratch_init(&err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	options.cgroup = scratch_cgroup();
	if (datapath_open(&options, &datapath, &err) ||
	    datapath_load_uplinks(datapath, &options, &err) ||
	    datapath_load_xdp(datapath, &options, XDP_NATIVE, &err) ||
	    datapath_load_tunnel(datapath, &options, &err) ||
	    datapath_load_tcp(datapath, &options, &err) ||
	    datapath_load_freed(datapath, &options, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	datapath_close(datapath);
	scratch_done();
	return 0;
}

static FILE *table_open(void)
{
	static const char *const paths[] = { "tests/bpf/insns.txt", "/tests/source/insns.txt" };
	FILE *file;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		file = fopen(paths[i], "re");
		if (file)
			return file;
	}
	fail_msg("run from the top of the tree: no %s", paths[0]);
	return NULL;
}

/* The numbers of a program; false: it is not in the table. */
static bool table_find(const char *name, char release[64], struct program_size *ret)
{
	auto_fclose FILE *file = table_open();
	char line[128], found[32];

	assert_non_null(fgets(line, sizeof(line), file));
	assert_int_equal(sscanf(line, "# loaded and verified instructions, Linux %63s", release),
			 1);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%31s %u %u", found, &ret->instructions, &ret->verified) == 3 &&
		    !strcmp(found, name))
			return true;
	}
	return false;
}

static bool within(uint32_t now, uint32_t then)
{
	return now <= then + then / 10 + 5;
}

static void test_no_program_has_grown(void **state)
{
	struct program_size size, known;
	struct utsname kernel;
	char release[64];
	const char *name;
	bool good = true;

	(void)state;
	assert_int_equal(uname(&kernel), 0);
	for (size_t i = 0; (name = datapath_program_name(datapath, i)); i++) {
		assert_int_equal(datapath_program_size(datapath, name, &size), 0);
		print_message("%-14s %6u %6u\n", name, size.instructions, size.verified);
		if (!table_find(name, release, &known)) {
			print_error("%s is not in tests/bpf/insns.txt\n", name);
			good = false;
			continue;
		}
		if (!within(size.instructions, known.instructions) ||
		    (!strncmp(kernel.release, release, strlen(release)) &&
		     !within(size.verified, known.verified))) {
			print_error("%s had %u and %u instructions\n", name, known.instructions,
				    known.verified);
			good = false;
		}
	}
	assert_true(good);
}

static void test_all_together_stay_small(void **state)
{
	struct program_size size;
	uint32_t sum = 0;
	const char *name;

	(void)state;
	for (size_t i = 0; (name = datapath_program_name(datapath, i)); i++) {
		assert_int_equal(datapath_program_size(datapath, name, &size), 0);
		sum += size.instructions;
	}
	print_message("%u instructions loaded\n", sum);
	assert_true(sum > 0 && sum < LOADED_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_program_has_grown),
		cmocka_unit_test(test_all_together_stay_small),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
