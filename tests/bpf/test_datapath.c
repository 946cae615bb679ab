/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: pins, what is taken over, what is refused, cleaning up.  Attaching is test_links.c.
 */
#include <errno.h>
#include <linux/capability.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/entry.h"
#include "harness/loader.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

/* ---- taking over ---------------------------------------------------------------------------- */

static void test_second_open_keeps_what_the_maps_hold(void **state)
{
	const struct service_key key = { .port = 1, .proto = 6 };
	const struct addr addr = { { 0, 0, 0, 1 } };
	struct ipcache_entry entry = { .identity = 77 }, got = { 0 };
	struct service service = { .id = 5 }, got_service = { 0 };
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
	struct endpoint_entry endpoint = { .flags = ENDPOINT_VALID, .netns_cookie = 12 },
			      got_endpoint;

	(void)state;
	assert_int_equal(ipcache_map_set(datapath, &addr, &entry), 0);
	assert_int_equal(service_map_set(datapath, &key, &service), 0);
	assert_int_equal(endpoint_map_set(datapath, SLOT, &endpoint), 0);
	maps_bump_revision(datapath);
	datapath_close(datapath);

	datapath = loader_open(&options);
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
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);

	(void)state;
	assert_int_equal(ipcache_map_set(datapath, &addr, &entry), 0);
	datapath_close(datapath);
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/maps/ct_map"), 0);
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/maps/endpoint_map"), 0);
	assert_int_equal(rmdir(SCRATCH_PIN_DIR "/links"), 0);
	datapath = loader_open(&options);
	assert_int_equal(ipcache_map_get(datapath, &addr, &got), 0);
	assert_int_equal(got.identity, 77);
	assert_true(is_pinned("maps/ct_map"));
	datapath_close(datapath);
}

static void version_write(uint32_t version)
{
	auto_close int fd = bpf_obj_get(SCRATCH_PIN_DIR "/version");
	uint32_t zero = 0;

	assert_true(fd >= 0);
	assert_int_equal(bpf_map_update_elem(fd, &zero, &version, BPF_ANY), 0);
}

static void test_other_versions_are_refused(void **state)
{
	struct datapath_options options = loader_options();

	(void)state;
	datapath_close(loader_open(&options));
	version_write(ABI_VERSION + 1);
	loader_refuses(&options, -EPROTO, "was made by a later version");
	loader_refuses(&options, -EPROTO, "run tendrild --cleanup first");
	version_write(ABI_OLDEST - 1);
	loader_refuses(&options, -EPROTO, "was made by a version that is too old");
	loader_refuses(&options, -EPROTO, "run tendrild --cleanup first");
	version_write(ABI_VERSION);
	datapath_close(loader_open(&options));
	/* Maps, and nothing that says whose they are. */
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/version"), 0);
	loader_refuses(&options, -EPROTO, "another version");
}

static void test_maps_of_another_shape_are_refused_by_name(void **state)
{
	struct datapath_options options = loader_options();
	auto_close int fd = -1;

	(void)state;
	datapath_close(loader_open(&options));
	options.limits.connections = 128;
	loader_refuses(&options, -EPROTO, "ct_map was made for 64 entries, now 128 are wanted");
	options.limits.connections = 64;
	datapath_close(loader_open(&options));
	assert_int_equal(unlink(SCRATCH_PIN_DIR "/maps/frag_map"), 0);
	fd = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "frag_map", 4, 4, 2048, NULL);
	assert_true(fd >= 0);
	assert_int_equal(bpf_obj_pin(fd, SCRATCH_PIN_DIR "/maps/frag_map"), 0);
	loader_refuses(&options, -EPROTO, "frag_map was made by another version");
}

/* A flood on all CPUs must not push an entry out while the datagram's fragments are on their way.
 */
static void test_the_fragment_table_grows_with_the_cpus(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	auto_close int fd = bpf_obj_get(SCRATCH_PIN_DIR "/maps/frag_map");

	(void)state;
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	assert_true(info.max_entries >= 2048);
	assert_true(info.max_entries >= 1024 * (uint32_t)libbpf_num_possible_cpus());
	datapath_close(datapath);
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
	struct datapath_options options = loader_options();
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
	datapath = loader_open(&options);
	assert_int_equal(
		maps_set_batch(datapath, MAP_SERVICE, keys, values, ARRAY_SIZE(keys), NULL), 0);
	assert_int_equal(cidr_map_set(datapath, &cidr, 7), 0);
	datapath_close(datapath);

	options.limits.services = 1000;
	options.limits.cidrs = 128;
	datapath = loader_open(&options);
	assert_int_equal(capacity_of(datapath, MAP_SERVICE, ARRAY_SIZE(keys)), 1000);
	assert_int_equal(capacity_of(datapath, MAP_CIDR, 1), 128);
	assert_int_equal(service_map_get(datapath, &keys[59], &service), 0);
	assert_int_equal(service.id, 60);
	datapath_close(datapath);

	options.limits.cidrs = 64;
	options.limits.services = 59;
	loader_refuses(&options, -ENOSPC, "service_map holds more than the 59 entries now wanted");
	options.limits.services = 60;
	datapath = loader_open(&options);
	assert_int_equal(capacity_of(datapath, MAP_SERVICE, ARRAY_SIZE(keys)), 60);
	assert_int_equal(capacity_of(datapath, MAP_CIDR, 1), 64);
	datapath_close(datapath);
}

static void test_pins_need_a_bpffs(void **state)
{
	struct datapath_options options = loader_options();
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/tendril-test-%d", getpid());
	options.pin_dir = path;
	loader_refuses(&options, -EINVAL, "is not on a bpffs");
	assert_int_not_equal(access(path, F_OK), 0);
	options.pin_dir = SCRATCH_PIN_DIR "/deep/er/";
	datapath_close(loader_open(&options));
	assert_true(is_pinned("deep/er/maps/ct_map"));
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR "/deep/er", NULL), 0);
	assert_int_equal(rmdir(SCRATCH_PIN_DIR "/deep"), 0);
}

static void test_limits_are_checked(void **state)
{
	struct datapath_options options = loader_options();

	(void)state;
	options.limits.endpoints = 65536;
	loader_refuses(&options, -EINVAL, "65536");
	options.limits.endpoints = 1;
	loader_refuses(&options, -EINVAL, "endpoints");
}

static void test_missing_privilege_is_named(void **state)
{
	struct datapath_options options = loader_options();
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
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
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

/* ---- cleaning up ---------------------------------------------------------------------------- */

static void test_cleanup_leaves_nothing(void **state)
{
	const int host = (int)if_nametoindex(HOST_DEVICE);
	struct datapath_options options = loader_options();
	auto_close int foreign = foreign_program();
	auto_close int accel_map = -1;
	struct errmsg err = { 0 };
	struct datapath *datapath;
	uint32_t ids[32];
	size_t count = 0;

	(void)state;
	options.cgroup = scratch_cgroup();
	options.socket_services = options.accel = true;
	datapath = loader_open(&options);
	while (datapath_program_name(datapath, count)) {
		const char *name = datapath_program_name(datapath, count);

		ids[count++] = program_id(datapath_program_fd(datapath, name));
	}
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	if (datapath_uses_tcx(datapath))
		tcx_attach(datapath);
	filter_add(ENDPOINT_IFINDEX_BASE + SLOT, BPF_TC_INGRESS, OTHER_PLACE, foreign);
	assert_int_equal(datapath_attach_host(datapath, host, &err), 0);
	filter_add(host, BPF_TC_INGRESS, 0x7e0d, foreign); /* our place, not our program */
	datapath_close(datapath);
	accel_map = bpf_obj_get(SCRATCH_PIN_DIR "/maps/accel_map"); /* somebody is looking at it */

	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
	assert_false(is_pinned(""));
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
	assert_false(is_pinned(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOADER_CASE(test_second_open_keeps_what_the_maps_hold),
		LOADER_CASE(test_half_made_pins_are_completed),
		LOADER_CASE(test_other_versions_are_refused),
		LOADER_CASE(test_maps_of_another_shape_are_refused_by_name),
		LOADER_CASE(test_the_fragment_table_grows_with_the_cpus),
		LOADER_CASE(test_maps_change_their_size_with_a_restart),
		LOADER_CASE(test_pins_need_a_bpffs),
		LOADER_CASE(test_limits_are_checked),
		LOADER_CASE(test_missing_privilege_is_named),
		LOADER_CASE(test_programs_are_named_and_measured),
		LOADER_CASE(test_cleanup_leaves_nothing),
		LOADER_CASE(test_cleanup_of_half_made_pins),
	};

	return cmocka_run_group_tests(tests, loader_setup, loader_teardown);
}
