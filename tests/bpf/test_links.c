/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching: to endpoints, beside other people's programs, to tendril0, and to the cgroup. */
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "harness/loader.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

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

static void qdisc_remove(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = (enum bpf_tc_attach_point)(BPF_TC_INGRESS | BPF_TC_EGRESS));

	assert_int_equal(bpf_tc_hook_destroy(&hook), 0);
}

/* ---- endpoints ------------------------------------------------------------------------------ */

static void test_endpoint_is_attached_beside_others(void **state)
{
	const int ifindex = ENDPOINT_IFINDEX_BASE + SLOT;
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
	auto_close int foreign = foreign_program();
	struct errmsg err = { 0 };
	uint32_t id;

	(void)state;
	assert_false(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	assert_true(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));
	filter_add(ifindex, BPF_TC_INGRESS, OTHER_PLACE, foreign);
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err),
			 0); /* idempotent */
	assert_true(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));

	/* The next agent's program takes the place. */
	id = program_id(datapath_program_fd(datapath, "from_pod"));
	datapath_close(datapath);
	datapath = loader_open(&options);
	assert_false(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE +
								  SLOT)); /* the old one still is */
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	assert_true(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));
	assert_true(program_gone(id));

	assert_int_equal(filter_at(ifindex, BPF_TC_INGRESS, OTHER_PLACE), program_id(foreign));
	qdisc_remove(ifindex);
	datapath_close(datapath);
}

static void test_removal_of_the_filter_is_noticed(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	qdisc_remove(ENDPOINT_IFINDEX_BASE + SLOT);
	assert_false(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	assert_true(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));
	datapath_close(datapath);
}

/* In front of the filter, replaced with it, gone where it is not wanted. */
static void test_tcx_program_stands_before_the_filter(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
	struct errmsg err = { 0 };
	uint32_t id;

	(void)state;
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
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
	assert_true(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));

	id = tcx_program();
	datapath_close(datapath);
	datapath = loader_open(&options);
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	assert_int_equal(tcx_program(), program_id(datapath_program_fd(datapath, "from_pod")));
	assert_true(program_gone(id));
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	tcx_attach(datapath);

	/* The next agent is told to do without. */
	datapath_close(datapath);
	options.force_clsact = true;
	datapath = loader_open(&options);
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + SLOT, &err), 0);
	assert_int_equal(tcx_program(), 0);
	assert_true(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + SLOT));
	datapath_close(datapath);
}

static void test_device_that_is_gone_is_no_obstacle(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(scratch_veth("shortlived", ENDPOINT_IFINDEX_BASE + 4, &err), 0);
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + 4, &err), 0);
	assert_int_equal(scratch_link_del("shortlived", &err), 0);
	assert_false(datapath_endpoint_attached(datapath, ENDPOINT_IFINDEX_BASE + 4));
	assert_int_equal(datapath_attach_endpoint(datapath, ENDPOINT_IFINDEX_BASE + 4, &err),
			 -ENODEV);
	assert_non_null(strstr(err.text, "device 1409286148"));
	datapath_close(datapath);
}

/* ---- tendril0 ------------------------------------------------------------------------------- */

static void host_attached_once(struct datapath *datapath, int ifindex)
{
	assert_true(datapath_host_attached(datapath, ifindex));
	assert_int_equal(is_pinned("links/host"), datapath_uses_tcx(datapath));
	assert_int_equal(filter_at(ifindex, BPF_TC_EGRESS, 0x7e0d) != 0,
			 !datapath_uses_tcx(datapath));
}

static void test_host_device_changes_its_way_of_attaching(void **state)
{
	const int ifindex = (int)if_nametoindex(HOST_DEVICE);
	struct errmsg err = { 0 };

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct datapath_options options = loader_options();
		struct datapath *datapath;

		options.force_clsact = i == 1 || i == 2;
		datapath = loader_open(&options);
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
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
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
	datapath = loader_open(&options);
	after = link_info("host");
	assert_int_equal(after.id, before.id);
	assert_int_equal(after.prog_id, program_id(datapath_program_fd(datapath, "to_pod")));
	assert_int_not_equal(after.prog_id, before.prog_id);
	assert_true(datapath_host_attached(datapath, ifindex));
	datapath_close(datapath);
}

static void test_host_device_may_be_made_anew(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath = loader_open(&options);
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
	datapath = loader_open(&options);
	assert_false(is_pinned("links/host"));
	assert_int_equal(scratch_veth(HOST_DEVICE, 0, &err), 0);
	datapath_close(datapath);
}

/* ---- the cgroup ----------------------------------------------------------------------------- */

static void test_cgroup_links_are_replaced_moved_and_removed(void **state)
{
	struct datapath_options options = loader_options();
	struct bpf_link_info before, after;
	struct datapath *datapath;
	struct errmsg err = { 0 };
	char other[64];

	(void)state;
	options.cgroup = scratch_cgroup();
	options.socket_services = options.accel = true;
	datapath = loader_open(&options);
	assert_true(datapath_socket_services(datapath));
	before = link_info("connect4");
	datapath_close(datapath);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_INET4_CONNECT), 1);

	datapath = loader_open(&options);
	after = link_info("connect4");
	assert_int_equal(after.id, before.id);
	assert_int_equal(after.prog_id, program_id(datapath_program_fd(datapath, "connect4")));
	assert_int_not_equal(after.prog_id, before.prog_id);
	datapath_close(datapath);

	assert_int_equal(scratch_cgroup_child("other", other, &err), 0);
	options.cgroup = other;
	datapath = loader_open(&options);
	assert_int_equal(programs_on(other, BPF_CGROUP_UDP6_RECVMSG), 1);
	assert_int_equal(programs_on(other, BPF_CGROUP_SOCK_OPS), 1);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_UDP6_RECVMSG), 0);
	datapath_close(datapath);

	options.socket_services = options.accel = false;
	datapath = loader_open(&options);
	assert_false(datapath_socket_services(datapath));
	assert_int_equal(programs_on(other, BPF_CGROUP_INET4_CONNECT), 0);
	assert_int_equal(programs_on(other, BPF_CGROUP_SOCK_OPS), 0);
	assert_false(is_pinned("links/connect4"));
	datapath_close(datapath);

	options.socket_services = true;
	options.cgroup = "/sys/fs/cgroup/none";
	loader_refuses(&options, -ENOENT, "cgroup /sys/fs/cgroup/none");
}

static uint32_t sk_msg_on_accel_map(void)
{
	auto_close int fd = bpf_obj_get(SCRATCH_PIN_DIR "/maps/accel_map");

	return sk_msg_on(fd);
}

static void test_acceleration_is_attached_only_when_asked_for(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath;
	uint32_t id;

	(void)state;
	options.cgroup = scratch_cgroup();
	options.accel = true;
	datapath = loader_open(&options);
	id = sk_msg_on_accel_map();
	assert_int_equal(id, program_id(datapath_program_fd(datapath, "msg_redirect")));
	datapath_close(datapath);
	assert_int_equal(sk_msg_on_accel_map(), id); /* the map keeps it */
	datapath = loader_open(&options);
	assert_int_not_equal(sk_msg_on_accel_map(), id);
	datapath_close(datapath);
	options.accel = false;
	datapath = loader_open(&options);
	assert_int_equal(sk_msg_on_accel_map(), 0);
	datapath_close(datapath);
}

static void test_acceleration_left_for_later(void **state)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath;
	struct errmsg err = { 0 };
	uint32_t id;

	(void)state;
	options.cgroup = scratch_cgroup();
	options.accel = options.accel_later = true;
	datapath = loader_open(&options);
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
	datapath = loader_open(&options);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 1);
	assert_int_equal(sk_msg_on_accel_map(), id);
	if (datapath_load_accel(datapath, &options, &err))
		fail_msg("%s", err.text);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 1);
	assert_int_not_equal(sk_msg_on_accel_map(), id);
	datapath_close(datapath);
	datapath = loader_open(&options);
	datapath_drop_accel(datapath);
	assert_int_equal(programs_on(scratch_cgroup(), BPF_CGROUP_SOCK_OPS), 0);
	assert_int_equal(sk_msg_on_accel_map(), 0);
	datapath_close(datapath);
}

/* ---- XDP ------------------------------------------------------------------------------------- */

#define XDP_INDEX 7

static struct datapath *xdp_open(const struct datapath_options *options, enum xdp_mode mode)
{
	struct datapath *datapath = loader_open(options);
	struct errmsg err = { 0 };

	if (datapath_load_xdp(datapath, options, mode, &err) ||
	    datapath_attach_xdp(datapath, XDP_INDEX, mode, &err))
		fail_msg("%s", err.text);
	return datapath;
}

/* What the program of a link says of any packet. */
static uint32_t xdp_verdict(const char *link)
{
	uint8_t frame[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame));
	auto_close int fd = bpf_prog_get_fd_by_id(link_info(link).prog_id);

	assert_true(fd >= 0);
	assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
	return opts.retval;
}

/* The old program would go on with the old maps, and nothing of theirs is brought over later. */
static void xdp_waits_while_maps_are_copied(enum xdp_mode mode, const char *link)
{
	struct datapath_options options = loader_options();
	struct datapath *datapath = xdp_open(&options, mode);
	uint32_t program = program_id(datapath_program_fd(datapath, "uplink_xdp"));
	uint32_t id = link_info(link).id;

	/* The same maps: it goes on. */
	datapath_close(datapath);
	datapath_close(loader_open(&options));
	assert_int_equal(link_info(link).prog_id, program);

	/* Others: the agent could die before it comes to its uplinks. */
	options.limits.translations *= 2;
	datapath_close(loader_open(&options));
	assert_true(program_gone(program));
	assert_int_equal(xdp_verdict(link), XDP_PASS);

	datapath = xdp_open(&options, mode);
	assert_int_equal(link_info(link).prog_id,
			 program_id(datapath_program_fd(datapath, "uplink_xdp")));
	assert_int_equal(link_info(link).id, id); /* the driver has noticed nothing */
	datapath_keep_xdp(datapath, XDP_INDEX, XDP_OFF);
	datapath_close(datapath);
}

static void test_xdp_waits_while_maps_are_copied(void **state)
{
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(scratch_veth("uplink0", XDP_INDEX, &err), 0);
	xdp_waits_while_maps_are_copied(XDP_NATIVE, "uplink-7-native");
	xdp_waits_while_maps_are_copied(XDP_GENERIC, "uplink-7-generic");
	assert_int_equal(scratch_link_del("uplink0", &err), 0);
}

static uint32_t xdp_of_uplink(int flags)
{
	uint32_t id = 0;

	assert_int_equal(bpf_xdp_query_id(XDP_INDEX, flags, &id), 0);
	return id;
}

static void test_xdp_of_others_stays_and_ours_goes_with_a_cleanup(void **state)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	auto_close int foreign = bpf_prog_load(BPF_PROG_TYPE_XDP, "foreign", "GPL", code, 2, NULL);
	struct datapath_options options = loader_options();
	struct datapath *datapath;
	struct errmsg err = { 0 };

	(void)state;
	assert_int_equal(scratch_veth("uplink0", XDP_INDEX, &err), 0);
	datapath = xdp_open(&options, XDP_NATIVE);
	assert_int_not_equal(xdp_of_uplink(XDP_FLAGS_DRV_MODE), 0);
	datapath_close(datapath);
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
	assert_int_equal(xdp_of_uplink(XDP_FLAGS_DRV_MODE), 0);

	assert_int_equal(bpf_xdp_attach(XDP_INDEX, foreign, XDP_FLAGS_DRV_MODE, NULL), 0);
	datapath = loader_open(&options);
	assert_int_equal(datapath_load_xdp(datapath, &options, XDP_NATIVE, &err), 0);
	assert_int_equal(datapath_attach_xdp(datapath, XDP_INDEX, XDP_NATIVE, &err), -EBUSY);
	assert_int_equal(datapath_attach_xdp(datapath, XDP_INDEX, XDP_GENERIC, &err), -EEXIST);
	datapath_keep_xdp(datapath, XDP_INDEX, XDP_OFF);
	datapath_close(datapath);
	assert_int_equal(datapath_cleanup(SCRATCH_PIN_DIR, &err), 0);
	assert_int_equal(xdp_of_uplink(XDP_FLAGS_DRV_MODE), program_id(foreign));
	assert_int_equal(scratch_link_del("uplink0", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOADER_CASE(test_endpoint_is_attached_beside_others),
		LOADER_CASE(test_removal_of_the_filter_is_noticed),
		LOADER_CASE(test_tcx_program_stands_before_the_filter),
		LOADER_CASE(test_device_that_is_gone_is_no_obstacle),
		LOADER_CASE(test_host_device_changes_its_way_of_attaching),
		LOADER_CASE(test_host_link_is_given_the_new_program_at_open),
		LOADER_CASE(test_host_device_may_be_made_anew),
		LOADER_CASE(test_cgroup_links_are_replaced_moved_and_removed),
		LOADER_CASE(test_acceleration_is_attached_only_when_asked_for),
		LOADER_CASE(test_acceleration_left_for_later),
		LOADER_CASE(test_xdp_waits_while_maps_are_copied),
		LOADER_CASE(test_xdp_of_others_stays_and_ours_goes_with_a_cleanup),
	};

	return cmocka_run_group_tests(tests, loader_setup, loader_teardown);
}
