/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness/scratch.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define TIMEOUT_MS  10000
#define TCX_INGRESS ((enum bpf_attach_type)46) /* Debian 12's headers do not know it */

struct datapath_options loader_options(void)
{
	struct datapath_options options = scratch_options();

	options.limits = (struct datapath_limits){
		.endpoints = 8, .connections = 64, .addresses = 64, .translations = 64
	};
	return options;
}

struct datapath *loader_open(const struct datapath_options *options)
{
	struct datapath *datapath = NULL;
	struct errmsg err = { 0 };

	if (datapath_open(options, &datapath, &err))
		fail_msg("%s", err.text);
	return datapath;
}

void loader_refuses(const struct datapath_options *options, int code, const char *text)
{
	struct datapath *datapath = NULL;
	struct errmsg err = { 0 };

	assert_int_equal(datapath_open(options, &datapath, &err), code);
	assert_null(datapath);
	if (!strstr(err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

int loader_setup(void **state)
{
	struct errmsg err = { 0 };

	(void)state;
	if (scratch_init(&err) || scratch_veth("endpoint", ENDPOINT_IFINDEX_BASE + SLOT, &err) ||
	    scratch_veth(HOST_DEVICE, 0, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

int loader_teardown(void **state)
{
	(void)state;
	scratch_done();
	return 0;
}

int loader_reset(void **state)
{
	struct errmsg err = { 0 };

	(void)state;
	if (datapath_cleanup(SCRATCH_PIN_DIR, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

/* ---- the kernel's view ---------------------------------------------------------------------- */

bool is_pinned(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), SCRATCH_PIN_DIR "/%s", name);
	return !access(path, F_OK);
}

uint32_t program_id(int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	return info.id;
}

bool program_gone(uint32_t id)
{
	for (int ms = 0; ms < TIMEOUT_MS; ms++) {
		int fd = bpf_prog_get_fd_by_id(id);

		if (fd < 0)
			return errno == ENOENT;
		close(fd);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return false;
}

uint32_t filter_at(int ifindex, enum bpf_tc_attach_point point, uint32_t handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = 1);

	return bpf_tc_query(&hook, &opts) ? 0 : opts.prog_id;
}

void filter_add(int ifindex, enum bpf_tc_attach_point point, uint32_t handle, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = 1, .prog_fd = prog_fd);
	int ret = bpf_tc_hook_create(&hook);

	assert_true(!ret || ret == -EEXIST);
	assert_int_equal(bpf_tc_attach(&hook, &opts), 0);
}

int foreign_program(void)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", code, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

uint32_t tcx_program(void)
{
	uint32_t ids[4] = { 0 }, count = ARRAY_SIZE(ids), flags = 0;

	assert_int_equal(
		bpf_prog_query(ENDPOINT_IFINDEX_BASE + SLOT, TCX_INGRESS, 0, &flags, ids, &count),
		0);
	assert_in_range(count, 0, 1);
	return count ? ids[0] : 0;
}

void tcx_attach(struct datapath *datapath)
{
	int fd = datapath_program_fd(datapath, "from_pod");

	assert_int_equal(datapath_attach_tcx(fd, ENDPOINT_IFINDEX_BASE + SLOT), 0);
	assert_int_equal(tcx_program(), program_id(fd));
}

uint32_t programs_on(const char *cgroup, enum bpf_attach_type type)
{
	auto_close int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t ids[8], count = 8;

	assert_true(fd >= 0);
	assert_int_equal(bpf_prog_query(fd, type, 0, NULL, ids, &count), 0);
	return count;
}

uint32_t sk_msg_on(int map_fd)
{
	uint32_t flags = 0, id = 0, count = 1;

	assert_true(map_fd >= 0);
	assert_int_equal(bpf_prog_query(map_fd, BPF_SK_MSG_VERDICT, 0, &flags, &id, &count), 0);
	return count ? id : 0;
}
