/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: pins, what is taken over, what is refused, attaching, cleaning up. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/lib/auto.h"
#include "datapath/maps.h"
#include "harness/scratch.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define SLOT        3
#define TIMEOUT_MS  5000
#define OTHER_PLACE 7                          /* handle of somebody else's filter */
#define TCX_INGRESS ((enum bpf_attach_type)46) /* Debian 12's headers do not know it */

static struct datapath_options small(void)
{
	struct datapath_options options = scratch_options();

	options.limits = (struct datapath_limits){
		.endpoints = 8, .connections = 64, .addresses = 64, .translations = 64
	};
	return options;
}

static struct datapath *open_or_fail(const struct datapath_options *options)
{
	struct datapath *datapath = NULL;
	struct errmsg err = { 0 };

	if (datapath_open(options, &datapath, &err))
		fail_msg("%s", err.text);
	return datapath;
}

static void assert_refused(const struct datapath_options *options, int code, const char *text)
{
	struct datapath *datapath = NULL;
	struct errmsg err = { 0 };

	assert_int_equal(datapath_open(options, &datapath, &err), code);
	assert_null(datapath);
	if (!strstr(err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static int group_setup(void **state)
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

static int group_teardown(void **state)
{
	(void)state;
	scratch_done();
	return 0;
}

/* Every test starts from nothing. */
static int test_setup(void **state)
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

static bool pinned(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), SCRATCH_PIN_DIR "/%s", name);
	return !access(path, F_OK);
}

static uint32_t program_id(int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	return info.id;
}

static struct bpf_link_info link_info(const char *name)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	auto_close int fd = -1;
	char path[128];

	snprintf(path, sizeof(path), SCRATCH_PIN_DIR "/links/%s", name);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	return info;
}

/* How many filters of any handle the kernel knows at our places: ours, and "OTHER_PLACE". */
static uint32_t filter_at(int ifindex, enum bpf_tc_attach_point point, uint32_t handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = 1);

	return bpf_tc_query(&hook, &opts) ? 0 : opts.prog_id;
}

static void filter_add(int ifindex, enum bpf_tc_attach_point point, uint32_t handle, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = handle, .priority = 1, .prog_fd = prog_fd);
	int ret = bpf_tc_hook_create(&hook);

	assert_true(!ret || ret == -EEXIST);
	assert_int_equal(bpf_tc_attach(&hook, &opts), 0);
}

static void qdisc_remove(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = (enum bpf_tc_attach_point)(BPF_TC_INGRESS | BPF_TC_EGRESS));

	assert_int_equal(bpf_tc_hook_destroy(&hook), 0);
}

/* A program that is none of ours. */
static int foreign_program(void)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", code, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Waits until the kernel has no program with this id; it frees them a little later. */
static bool program_gone(uint32_t id)
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

/* ---- taking over ---------------------------------------------------------------------------- */

static void test_second_open_keeps_what_the_maps_hold(void **state)
{
	const struct service_key key = { .port = 1, .proto = 6 };
	const struct addr addr = { { 0, 0, 0, 1 } };
	struct ipcache_entry entry = { .identity = 77 }, got = { 0 };
	struct service service = { .id = 5 }, got_service = { 0 };
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct endpoint endpoint = { .flags = ENDPOINT_VALID, .netns_cookie = 12 }, got_endpoint;

	(void)state;
	assert_int_equal(ipcache_map_set(datapath, &addr, &entry), 0);
	assert_int_equal(service_map_set(datapath, &key, &service), 0);
	assert_int_equal(endpoint_map_set(datapath, SLOT, &endpoint), 0);
	maps_bump_revision(datapath);
	datapath_close(datapath);

	datapath = open_or_fail(&options);
	assert_int_equal(ipcache_map_get(datapath, &addr, &got), 0);
	assert_int_equal(got.identity, 77);
	assert_int_equal(service_map_get(datapath, &key, &got_service), 0);
	assert_int_equal(got_service.id, 5);
	assert_int_equal(endpoint_map_get(datapath, SLOT, &got_endpoint), 0);
	assert_int_equal(got_endpoint.netns_cookie, 12);
	assert_int_equal(maps_node(datapath)->revision, 1);
	datapath_close(datapath);
}

static void test_half_made_pins_are_completed(void **state)
{
	const struct addr addr = { { 0, 0, 0, 1 } };
	struct ipcache_entry entry = { .identity = 77 }, got = { 0 };
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);

	(void)state;
	assert_int_equal(ipcache_map_set(datapath, &addr, &entry), 0);
	datapath_close(datapath);
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/maps/ct_map"), 0);
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/maps/endpoint_map"), 0);
	assert_int_equal(rmdir(SCRATCH_PIN_DIR "/links"), 0);
	datapath = open_or_fail(&options);
	assert_int_equal(ipcache_map_get(datapath, &addr, &got), 0);
	assert_int_equal(got.identity, 77);
	assert_true(pinned("maps/ct_map"));
	datapath_close(datapath);
}

static void test_other_versions_are_refused(void **state)
{
	struct datapath_options options = small();
	uint32_t zero = 0, version = ABI_VERSION + 1;
	auto_close int fd = -1;

	(void)state;
	datapath_close(open_or_fail(&options));
	fd = bpf_obj_get(SCRATCH_PIN_DIR "/version");
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_update_elem(fd, &zero, &version, BPF_ANY), 0);
	assert_refused(&options, -EPROTO, "another version");
	version = ABI_VERSION;
	assert_int_equal(bpf_map_update_elem(fd, &zero, &version, BPF_ANY), 0);
	datapath_close(open_or_fail(&options));
	/* Maps, and nothing that says whose they are. */
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/version"), 0);
	assert_refused(&options, -EPROTO, "another version");
}

static void test_maps_of_another_shape_are_refused_by_name(void **state)
{
	struct datapath_options options = small();
	auto_close int fd = -1;

	(void)state;
	datapath_close(open_or_fail(&options));
	options.limits.connections = 128;
	assert_refused(&options, -EPROTO, "ct_map was made for 64 entries, now 128 are wanted");
	options.limits.connections = 64;
	datapath_close(open_or_fail(&options));
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/maps/frag_map"), 0);
	fd = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "frag_map", 4, 4, 2048, NULL);
	assert_true(fd >= 0);
	assert_int_equal(bpf_obj_pin(fd, SCRATCH_PIN_DIR "/maps/frag_map"), 0);
	assert_refused(&options, -EPROTO, "frag_map was made by another version");
}

static uint32_t capacity_of(struct datapath *datapath, enum map_id map, uint32_t used)
{
	uint32_t have, capacity;

	assert_int_equal(maps_usage(datapath, map, &have, &capacity), 0);
	assert_int_equal(have, used);
	return capacity;
}

/* What the agent alone writes keeps what it holds; a size that is too small is refused and leaves
 * everything as it was. */
static void test_maps_change_their_size_with_a_restart(void **state)
{
	struct datapath_options options = small();
	struct service_key keys[60] = { 0 };
	struct service values[60] = { 0 }, service;
	struct cidr_key cidr = { .prefixlen = 96 + 8 };
	struct datapath *datapath;

	(void)state;
	options.limits.services = options.limits.cidrs = 64;
	for (uint16_t i = 0; i < ARRAY_SIZE(keys); i++) {
		keys[i] = (struct service_key){ .port = i, .proto = 6 };
		values[i] = (struct service){ .id = i + 1U };
	}
	datapath = open_or_fail(&options);
	assert_int_equal(
		maps_set_batch(datapath, MAP_SERVICE, keys, values, ARRAY_SIZE(keys), NULL), 0);
	assert_int_equal(cidr_map_set(datapath, &cidr, 7), 0);
	datapath_close(datapath);

	options.limits.services = 1000;
	options.limits.cidrs = 128;
	datapath = open_or_fail(&options);
	assert_int_equal(capacity_of(datapath, MAP_SERVICE, ARRAY_SIZE(keys)), 1000);
	assert_int_equal(capacity_of(datapath, MAP_CIDR, 1), 128);
	assert_int_equal(service_map_get(datapath, &keys[59], &service), 0);
	assert_int_equal(service.id, 60);
	datapath_close(datapath);

	options.limits.cidrs = 64;
	options.limits.services = 59;
	assert_refused(&options, -ENOSPC, "service_map holds more than the 59 entries now wanted");
	options.limits.services = 60;
	datapath = open_or_fail(&options);
	assert_int_equal(capacity_of(datapath, MAP_SERVICE, ARRAY_SIZE(keys)), 60);
	assert_int_equal(capacity_of(datapath, MAP_CIDR, 1), 64);
	datapath_close(datapath);
}

static void test_pins_need_a_bpffs(void **state)
{
	struct datapath_options options = small();
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/tendril-test-%d", getpid());
	options.pin_dir = path;
	assert_refused(&options, -EINVAL, "is not on a bpffs");
	assert_int_not_equal(access(path, F_OK), 0);
	options.pin_dir = SCRATCH_PIN_DIR "/deep/er/";
	datapath_close(open_or_fail(&options));
	assert_true(pinned("deep/er/maps/ct_map"));
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR "/deep/er", NULL), 0);
	assert_int_equal(rmdir(SCRATCH_PIN_DIR "/deep"), 0);
}

static void test_limits_are_checked(void **state)
{
	struct datapath_options options = small();

	(void)state;
	options.limits.endpoints = 65536;
	assert_refused(&options, -EINVAL, "65536");
	options.limits.endpoints = 1;
	assert_refused(&options, -EINVAL, "endpoints");
}

static void test_missing_privilege_is_named(void **state)
{
	struct datapath_options options = small();
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (!pid) {
		cap_value_t caps[] = { CAP_BPF, CAP_SYS_ADMIN, CAP_PERFMON, CAP_NET_ADMIN };
		struct datapath *datapath = NULL;
		struct errmsg err = { 0 };
		cap_t set = cap_get_proc();

		cap_set_flag(set, CAP_EFFECTIVE, 4, caps, CAP_CLEAR);
		cap_set_flag(set, CAP_PERMITTED, 4, caps, CAP_CLEAR);
		if (cap_set_proc(set))
			_exit(1);
		if (datapath_open(&options, &datapath, &err) != -EPERM)
			_exit(2);
		_exit(strstr(err.text, "CAP_BPF") ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_programs_are_named_and_measured(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct program_size size = { 0 };
	size_t count = 0;

	(void)state;
	while (datapath_program_name(datapath, count)) {
		const char *name = datapath_program_name(datapath, count++);

		assert_true(datapath_program_fd(datapath, name) >= 0);
		assert_int_equal(datapath_program_size(datapath, name, &size), 0);
		assert_true(size.instructions > 0 && size.verified > 0);
	}
	assert_true(count >= 2);
	assert_int_equal(datapath_program_fd(datapath, "connect4"), -ENOENT); /* not asked for */
	assert_int_equal(datapath_program_size(datapath, "none", &size), -ENOENT);
	datapath_close(datapath);
}

/* ---- endpoints ------------------------------------------------------------------------------ */

static void test_endpoint_is_attached_beside_others(void **state)
{
	const int ifindex = ENDPOINT_IFINDEX_BASE + SLOT;
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	auto_close int foreign = foreign_program();
	struct errmsg err = { 0 };
	uint32_t id;

	(void)state;
	assert_false(datapath_endpoint_attached(datapath, SLOT));
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	assert_true(datapath_endpoint_attached(datapath, SLOT));
	filter_add(ifindex, BPF_TC_INGRESS, OTHER_PLACE, foreign);
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0); /* idempotent */
	assert_true(datapath_endpoint_attached(datapath, SLOT));

	/* The next agent's program takes the place. */
	id = program_id(datapath_program_fd(datapath, "from_pod"));
	datapath_close(datapath);
	datapath = open_or_fail(&options);
	assert_false(datapath_endpoint_attached(datapath, SLOT)); /* the old one still is */
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	assert_true(datapath_endpoint_attached(datapath, SLOT));
	assert_true(program_gone(id));

	assert_int_equal(filter_at(ifindex, BPF_TC_INGRESS, OTHER_PLACE), program_id(foreign));
	qdisc_remove(ifindex);
	datapath_close(datapath);
}

static void test_removal_of_the_filter_is_noticed(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	qdisc_remove(ENDPOINT_IFINDEX_BASE + SLOT);
	assert_false(datapath_endpoint_attached(datapath, SLOT));
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	assert_true(datapath_endpoint_attached(datapath, SLOT));
	datapath_close(datapath);
}

/* Id of the TCX program on the endpoint's ingress; 0: there is none. */
static uint32_t tcx_program(void)
{
	uint32_t ids[4] = { 0 }, count = ARRAY_SIZE(ids), flags = 0;

	assert_int_equal(
		bpf_prog_query(ENDPOINT_IFINDEX_BASE + SLOT, TCX_INGRESS, 0, &flags, ids, &count),
		0);
	assert_in_range(count, 0, 1);
	return count ? ids[0] : 0;
}

static void tcx_attach(struct datapath *datapath)
{
	int fd = datapath_program_fd(datapath, "from_pod");

	assert_int_equal(datapath_attach_tcx(fd, ENDPOINT_IFINDEX_BASE + SLOT), 0);
	assert_int_equal(tcx_program(), program_id(fd));
}

/* In front of the filter, replaced with it, gone where it is not wanted. */
static void test_tcx_program_stands_before_the_filter(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct errmsg err = { 0 };
	uint32_t id;

	(void)state;
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	if (!datapath_uses_tcx(datapath)) {
		assert_int_not_equal(datapath_attach_tcx(datapath_program_fd(datapath, "from_pod"),
							 ENDPOINT_IFINDEX_BASE + SLOT),
				     0);
		datapath_close(datapath);
		return;
	}
	assert_int_equal(tcx_program(), 0);
	tcx_attach(datapath);
	tcx_attach(datapath); /* idempotent */
	assert_true(datapath_endpoint_attached(datapath, SLOT));

	id = tcx_program();
	datapath_close(datapath);
	datapath = open_or_fail(&options);
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	assert_int_equal(tcx_program(), program_id(datapath_program_fd(datapath, "from_pod")));
	assert_true(program_gone(id));
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	tcx_attach(datapath);

	/* The next agent is told to do without. */
	datapath_close(datapath);
	options.force_clsact = true;
	datapath = open_or_fail(&options);
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	assert_int_equal(tcx_program(), 0);
	assert_true(datapath_endpoint_attached(datapath, SLOT));
	datapath_close(datapath);
}

static void test_device_that_is_gone_is_no_obstacle(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(scratch_veth("shortlived", ENDPOINT_IFINDEX_BASE + 4, &err), 0);
	assert_int_equal(datapath_attach_endpoint(datapath, 4, &err), 0);
	assert_int_equal(scratch_link_del("shortlived", &err), 0);
	assert_false(datapath_endpoint_attached(datapath, 4));
	assert_int_equal(datapath_attach_endpoint(datapath, 4, &err), -ENODEV);
	assert_non_null(strstr(err.text, "device 1409286148"));
	datapath_close(datapath);
}

/* ---- tendril0 ------------------------------------------------------------------------------- */

static void host_attached_once(struct datapath *datapath, int ifindex)
{
	assert_true(datapath_host_attached(datapath, ifindex));
	assert_int_equal(pinned("links/host"), datapath_uses_tcx(datapath));
	assert_int_equal(filter_at(ifindex, BPF_TC_EGRESS, 0x7e0d) != 0,
			 !datapath_uses_tcx(datapath));
}

static void test_host_device_changes_its_way_of_attaching(void **state)
{
	const int ifindex = (int)if_nametoindex(HOST_DEVICE);
	struct errmsg err = { 0 };

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct datapath_options options = small();
		struct datapath *datapath;

		options.force_clsact = i == 1 || i == 2;
		datapath = open_or_fail(&options);
		if (options.force_clsact)
			assert_false(datapath_uses_tcx(datapath));
		assert_int_equal(datapath_attach_host(datapath, ifindex, &err), 0);
		host_attached_once(datapath, ifindex);
		datapath_close(datapath);
	}
}

static void test_host_link_is_given_the_new_program_at_open(void **state)
{
	const int ifindex = (int)if_nametoindex(HOST_DEVICE);
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct bpf_link_info before, after;
	struct errmsg err = { 0 };

	(void)state;
	if (!datapath_uses_tcx(datapath)) {
		datapath_close(datapath);
		skip(); /* before Linux 6.6 there is no link */
	}
	assert_int_equal(datapath_attach_host(datapath, ifindex, &err), 0);
	before = link_info("host");
	datapath_close(datapath);
	assert_int_equal(link_info("host").prog_id, before.prog_id); /* nobody is there */
	datapath = open_or_fail(&options);
	after = link_info("host");
	assert_int_equal(after.id, before.id);
	assert_int_equal(after.prog_id, program_id(datapath_program_fd(datapath, "to_pod")));
	assert_int_not_equal(after.prog_id, before.prog_id);
	assert_true(datapath_host_attached(datapath, ifindex));
	datapath_close(datapath);
}

static void test_host_device_may_be_made_anew(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath = open_or_fail(&options);
	struct errmsg err = { 0 };
	int ifindex;

	(void)state;
	assert_int_equal(datapath_attach_host(datapath, (int)if_nametoindex(HOST_DEVICE), &err), 0);
	assert_int_equal(scratch_link_del(HOST_DEVICE, &err), 0);
	assert_int_equal(scratch_veth(HOST_DEVICE, 0, &err), 0);
	ifindex = (int)if_nametoindex(HOST_DEVICE);
	assert_false(datapath_host_attached(datapath, ifindex));
	assert_int_equal(datapath_attach_host(datapath, ifindex, &err), 0);
	assert_true(datapath_host_attached(datapath, ifindex));
	/* A link whose device went is swept at open. */
	assert_int_equal(scratch_link_del(HOST_DEVICE, &err), 0);
	datapath_close(datapath);
	datapath = open_or_fail(&options);
	assert_false(pinned("links/host"));
	assert_int_equal(scratch_veth(HOST_DEVICE, 0, &err), 0);
	datapath_close(datapath);
}

/* ---- the cgroup ----------------------------------------------------------------------------- */

static uint32_t programs_on(const char *cgroup, enum bpf_attach_type type)
{
	auto_close int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t ids[8], count = 8;

	assert_true(fd >= 0);
	assert_int_equal(bpf_prog_query(fd, type, 0, NULL, ids, &count), 0);
	return count;
}

static void test_cgroup_links_are_replaced_moved_and_removed(void **state)
{
	struct datapath_options options = small();
	struct bpf_link_info before, after;
	struct datapath *datapath;
	struct errmsg err = { 0 };
	char other[64];

	(void)state;
	options.cgroup = scratch_cgroup();
	options.socket_services = options.accel = true;
	datapath = open_or_fail(&options);
	assert_true(datapath_socket_services(datapath));
	before = link_info("connect4");
	datapath_close(datapath);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_INET4_CONNECT), 1);

	datapath = open_or_fail(&options);
	after = link_info("connect4");
	assert_int_equal(after.id, before.id);
	assert_int_equal(after.prog_id, program_id(datapath_program_fd(datapath, "connect4")));
	assert_int_not_equal(after.prog_id, before.prog_id);
	datapath_close(datapath);

	assert_int_equal(scratch_cgroup_child("other", other, &err), 0);
	options.cgroup = other;
	datapath = open_or_fail(&options);
	assert_int_equal(programs_on(other, BPF_CGROUP_UDP6_RECVMSG), 1);
	assert_int_equal(programs_on(other, BPF_CGROUP_SOCK_OPS), 1);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_UDP6_RECVMSG), 0);
	datapath_close(datapath);

	options.socket_services = options.accel = false;
	datapath = open_or_fail(&options);
	assert_false(datapath_socket_services(datapath));
	assert_int_equal(programs_on(other, BPF_CGROUP_INET4_CONNECT), 0);
	assert_int_equal(programs_on(other, BPF_CGROUP_SOCK_OPS), 0);
	assert_false(pinned("links/connect4"));
	datapath_close(datapath);

	options.socket_services = true;
	options.cgroup = "/sys/fs/cgroup/none";
	assert_refused(&options, -ENOENT, "cgroup /sys/fs/cgroup/none");
}

static uint32_t sk_msg_on(int map_fd)
{
	uint32_t flags = 0, id = 0, count = 1;

	assert_true(map_fd >= 0);
	assert_int_equal(bpf_prog_query(map_fd, BPF_SK_MSG_VERDICT, 0, &flags, &id, &count), 0);
	return count ? id : 0;
}

static uint32_t sk_msg_on_accel_map(void)
{
	auto_close int fd = bpf_obj_get(SCRATCH_PIN_DIR "/maps/accel_map");

	return sk_msg_on(fd);
}

static void test_acceleration_is_attached_only_when_asked_for(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath;
	uint32_t id;

	(void)state;
	options.cgroup = scratch_cgroup();
	options.accel = true;
	datapath = open_or_fail(&options);
	id = sk_msg_on_accel_map();
	assert_int_equal(id, program_id(datapath_program_fd(datapath, "msg_redirect")));
	datapath_close(datapath);
	assert_int_equal(sk_msg_on_accel_map(), id); /* the map keeps it */
	datapath = open_or_fail(&options);
	assert_int_not_equal(sk_msg_on_accel_map(), id);
	datapath_close(datapath);
	options.accel = false;
	datapath = open_or_fail(&options);
	assert_int_equal(sk_msg_on_accel_map(), 0);
	datapath_close(datapath);
}

static void test_acceleration_left_for_later(void **state)
{
	struct datapath_options options = small();
	struct datapath *datapath;
	struct errmsg err = { 0 };
	uint32_t id;

	(void)state;
	options.cgroup = scratch_cgroup();
	options.accel = options.accel_later = true;
	datapath = open_or_fail(&options);
	assert_false(datapath_accel(datapath));
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 0);
	if (datapath_load_accel(datapath, &options, &err))
		fail_msg("%s", err.text);
	assert_true(datapath_accel(datapath));
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 1);
	id = sk_msg_on_accel_map();
	assert_int_equal(id, program_id(datapath_program_fd(datapath, "msg_redirect")));
	datapath_close(datapath);

	/* The next one: what the first attached stays until it is replaced, or taken off. */
	datapath = open_or_fail(&options);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 1);
	assert_int_equal(sk_msg_on_accel_map(), id);
	if (datapath_load_accel(datapath, &options, &err))
		fail_msg("%s", err.text);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 1);
	assert_int_not_equal(sk_msg_on_accel_map(), id);
	datapath_close(datapath);
	datapath = open_or_fail(&options);
	datapath_drop_accel(datapath);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 0);
	assert_int_equal(sk_msg_on_accel_map(), 0);
	datapath_close(datapath);
}

/* ---- cleaning up ---------------------------------------------------------------------------- */

static void test_cleanup_leaves_nothing(void **state)
{
	const int host = (int)if_nametoindex(HOST_DEVICE);
	struct datapath_options options = small();
	auto_close int foreign = foreign_program();
	auto_close int accel_map = -1;
	struct errmsg err = { 0 };
	struct datapath *datapath;
	uint32_t ids[32];
	size_t count = 0;

	(void)state;
	options.cgroup = scratch_cgroup();
	options.socket_services = options.accel = true;
	datapath = open_or_fail(&options);
	while (datapath_program_name(datapath, count)) {
		const char *name = datapath_program_name(datapath, count);

		ids[count++] = program_id(datapath_program_fd(datapath, name));
	}
	assert_int_equal(datapath_attach_endpoint(datapath, SLOT, &err), 0);
	if (datapath_uses_tcx(datapath))
		tcx_attach(datapath);
	filter_add(ENDPOINT_IFINDEX_BASE + SLOT, BPF_TC_INGRESS, OTHER_PLACE, foreign);
	assert_int_equal(datapath_attach_host(datapath, host, &err), 0);
	filter_add(host, BPF_TC_INGRESS, 0x7e0d, foreign); /* our place, not our program */
	datapath_close(datapath);
	accel_map = bpf_obj_get(SCRATCH_PIN_DIR "/maps/accel_map"); /* somebody is looking at it */

	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
	assert_false(pinned(""));
	assert_int_equal(sk_msg_on(accel_map), 0);
	for (size_t i = 0; i < count; i++)
		assert_true(program_gone(ids[i]));
	assert_int_equal(filter_at(ENDPOINT_IFINDEX_BASE + SLOT, BPF_TC_INGRESS, OTHER_PLACE),
			 program_id(foreign));
	assert_int_equal(filter_at(host, BPF_TC_INGRESS, 0x7e0d), program_id(foreign));
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_INET4_CONNECT), 0);
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0); /* nothing is fine, too */
	assert_int_equal(datapath_cleanup("/nowhere/at/all", &err), 0);
}

static void test_cleanup_of_half_made_pins(void **state)
{
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(mkdir(SCRATCH_PIN_DIR, 0700), 0);
	assert_int_equal(mkdir(SCRATCH_PIN_DIR "/links", 0700), 0);
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
	assert_false(pinned(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_second_open_keeps_what_the_maps_hold, test_setup),
		cmocka_unit_test_setup(test_half_made_pins_are_completed, test_setup),
		cmocka_unit_test_setup(test_other_versions_are_refused, test_setup),
		cmocka_unit_test_setup(test_maps_of_another_shape_are_refused_by_name, test_setup),
		cmocka_unit_test_setup(test_maps_change_their_size_with_a_restart, test_setup),
		cmocka_unit_test_setup(test_pins_need_a_bpffs, test_setup),
		cmocka_unit_test_setup(test_limits_are_checked, test_setup),
		cmocka_unit_test_setup(test_missing_privilege_is_named, test_setup),
		cmocka_unit_test_setup(test_programs_are_named_and_measured, test_setup),
		cmocka_unit_test_setup(test_endpoint_is_attached_beside_others, test_setup),
		cmocka_unit_test_setup(test_removal_of_the_filter_is_noticed, test_setup),
		cmocka_unit_test_setup(test_tcx_program_stands_before_the_filter, test_setup),
		cmocka_unit_test_setup(test_device_that_is_gone_is_no_obstacle, test_setup),
		cmocka_unit_test_setup(test_host_device_changes_its_way_of_attaching, test_setup),
		cmocka_unit_test_setup(test_host_link_is_given_the_new_program_at_open, test_setup),
		cmocka_unit_test_setup(test_host_device_may_be_made_anew, test_setup),
		cmocka_unit_test_setup(test_cgroup_links_are_replaced_moved_and_removed,
				       test_setup),
		cmocka_unit_test_setup(test_acceleration_is_attached_only_when_asked_for,
				       test_setup),
		cmocka_unit_test_setup(test_acceleration_left_for_later, test_setup),
		cmocka_unit_test_setup(test_cleanup_leaves_nothing, test_setup),
		cmocka_unit_test_setup(test_cleanup_of_half_made_pins, test_setup),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
