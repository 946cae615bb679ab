/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink requests, batches and dumps, and steps into other namespaces, against the kernel. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/netlink.h"
#include "lib/netlink_watch.h"
#include "lib/netns.h"

#include <cmocka.h> /* last: its fail() is a macro */

static struct netlink netlink = NETLINK_INIT;

static int group_setup(void **state)
{
	struct errmsg err = {};

	(void)state;
	if (unshare(CLONE_NEWNET) < 0 || netlink_open(&netlink, -1, &err) < 0) {
		print_error("root is needed: %s\n", err.text);
		return -1;
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	netlink_close(&netlink);
	return 0;
}

static void link_fill(struct nlmsghdr *header, const char *name, const char *kind)
{
	struct nlattr *nest;

	mnl_attr_put_strz(header, IFLA_IFNAME, name);
	nest = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(header, nest);
}

static int veth_add(const char *name, struct errmsg *err)
{
	struct netlink_message message;

	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
			     sizeof(struct ifinfomsg));
	link_fill(&message.header, name, "veth");
	return netlink_request(&netlink, &message, err);
}

static void veth_del(const char *name)
{
	struct netlink_message message;

	netlink_message_init(&message, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(&message.header, IFLA_IFNAME, name);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

static void test_request_reports_the_kernels_verdict(void **state)
{
	struct netlink_message message;
	struct ifinfomsg *info;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(veth_add("one", &err), 0);
	assert_int_equal(veth_add("one", &err), -EEXIST);
	assert_non_null(strstr(err.text, strerror(EEXIST)));
	info = netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	info->ifi_index = 0x7fffffff;
	assert_int_equal(netlink_request(&netlink, &message, &err), -ENODEV);
	veth_del("one");
}

static void test_errors_carry_the_kernels_words(void **state)
{
	struct netlink_message message;
	struct errmsg err = {};

	(void)state;
	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE, sizeof(struct ifinfomsg));
	link_fill(&message.header, "two", "no-such-kind");
	assert_int_equal(netlink_request(&netlink, &message, &err), -EOPNOTSUPP);
	assert_string_equal(err.text, "kernel: Unknown device type: Operation not supported");
}

static bool ignore_exists(size_t index, int code)
{
	(void)index;
	return code == -EEXIST;
}

static void batch_of_three(struct netlink_batch *batch)
{
	static const char *const names[] = { "three", "three", "four" };

	netlink_batch_init(batch);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct ifinfomsg *info;
		struct nlmsghdr *header =
			netlink_batch_next(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
					   sizeof(*info), (void **)&info);

		assert_non_null(header);
		link_fill(header, names[i], "veth");
	}
}

static void test_batch_names_the_request_that_failed_and_does_the_rest(void **state)
{
	struct netlink_batch batch;
	struct errmsg err = {};
	size_t failed = 99;

	(void)state;
	batch_of_three(&batch);
	assert_int_equal(netlink_batch_run(&netlink, &batch, NULL, &failed, &err), -EEXIST);
	assert_int_equal(failed, 1);
	assert_true(if_nametoindex("four") > 0);
	veth_del("four");
	veth_del("three");
	batch_of_three(&batch);
	assert_int_equal(netlink_batch_run(&netlink, &batch, ignore_exists, &failed, &err), 0);
	veth_del("four");
	veth_del("three");
}

static void test_full_batch_takes_no_more_and_still_runs(void **state)
{
	struct netlink_batch batch;
	struct ifinfomsg *info;
	struct errmsg err = {};
	size_t count = 0;

	(void)state;
	netlink_batch_init(&batch);
	while (netlink_batch_next(&batch, RTM_NEWLINK, 0, sizeof(*info), (void **)&info)) {
		info->ifi_index = 1;
		info->ifi_flags = info->ifi_change = IFF_UP;
		count++;
	}
	assert_in_range(count, 100, 10000);
	assert_int_equal(netlink_batch_run(&netlink, &batch, NULL, NULL, &err), 0);
}

struct counting {
	size_t count;
	size_t begun;
	bool interfere;
};

static void counting_begin(void *arg)
{
	struct counting *counting = arg;

	counting->count = 0;
	counting->begun++;
	counting->interfere = false;
}

static int counting_each(const struct nlmsghdr *header, void *arg)
{
	struct counting *counting = arg;

	(void)header;
	counting->count++;
	return 0;
}

static void test_dump_counts_every_link(void **state)
{
	struct counting counting = {};
	struct netlink_message message;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(veth_add("five", &err), 0);
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	assert_int_equal(
		netlink_dump(&netlink, &message, counting_each, counting_begin, &counting, &err),
		0);
	assert_true(counting.count >= 3); /* lo, five, its peer */
	veth_del("five");
}

static void address_add(struct netlink *through, unsigned int number)
{
	uint8_t bytes[4] = { 10, 1, (uint8_t)(number >> 8), (uint8_t)number };
	struct netlink_message message;
	struct ifaddrmsg *address;
	struct addr addr;

	addr_from_bytes(bytes, sizeof(bytes), &addr);
	address = netlink_message_init(&message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE,
				       sizeof(*address));
	address->ifa_family = AF_INET;
	address->ifa_prefixlen = 32;
	address->ifa_index = 1;
	netlink_put_addr(&message.header, IFA_LOCAL, &addr);
	assert_int_equal(netlink_request(through, &message, NULL), 0);
}

/* Adds an address behind the dump's back: the kernel then marks the rest as interrupted. */
static int interfering_each(const struct nlmsghdr *header, void *arg)
{
	struct counting *counting = arg;
	auto_netlink struct netlink other = NETLINK_INIT;

	counting_each(header, arg);
	if (!counting->interfere || counting->count != 1)
		return 0;
	assert_int_equal(netlink_open(&other, -1, NULL), 0);
	address_add(&other, 0);
	return 0;
}

static void test_interrupted_dump_starts_over(void **state)
{
	struct counting counting = { .interfere = true };
	struct netlink_message message;
	struct ifaddrmsg *address;
	struct errmsg err = {};
	size_t complete;

	(void)state;
	/* More addresses than one answer of the kernel holds, so that the dump takes several. */
	for (unsigned int i = 1; i <= 2000; i++)
		address_add(&netlink, i);
	netlink_message_init(&message, RTM_GETADDR, 0, sizeof(*address));
	assert_int_equal(
		netlink_dump(&netlink, &message, interfering_each, counting_begin, &counting, &err),
		0);
	assert_true(counting.begun >= 1);
	complete = counting.count;
	counting = (struct counting){};
	netlink_message_init(&message, RTM_GETADDR, 0, sizeof(*address));
	assert_int_equal(netlink_dump(&netlink, &message, counting_each, NULL, &counting, &err), 0);
	assert_int_equal(complete, counting.count);
}

/* ---- notifications --------------------------------------------------------------------------- */

struct heard {
	struct event_base *base;
	struct netlink_watch *watch;
	size_t count, turns, lost;
	size_t at_tick; /* heard when the timer came */
};

static void heard_notice(const struct nlmsghdr *notice, int netns_id, void *arg)
{
	struct heard *heard = arg;

	assert_int_equal(notice->nlmsg_type, RTM_NEWADDR);
	assert_int_equal(netns_id, -1);
	heard->count++;
}

static void heard_turn(bool lost, void *arg)
{
	struct heard *heard = arg;

	heard->turns++;
	heard->lost += lost;
}

static void heard_open(struct heard *heard)
{
	static const unsigned int groups[] = { RTNLGRP_IPV4_IFADDR };
	const struct netlink_watch_options options = { .base = event_base_new(),
						       .groups = groups,
						       .group_count = ARRAY_SIZE(groups),
						       .notice = heard_notice,
						       .turn = heard_turn,
						       .arg = heard };

	*heard = (struct heard){ .base = options.base };
	assert_int_equal(netlink_watch_new(&options, &heard->watch, NULL), 0);
}

static void heard_close(struct heard *heard)
{
	netlink_watch_free(heard->watch);
	event_base_free(heard->base);
}

/* A process with rights may send to any netlink socket. */
static void test_only_the_kernel_is_heard(void **state)
{
	struct netlink_message message;
	struct sockaddr_nl watch;
	socklen_t len = sizeof(watch);
	struct heard heard;

	(void)state;
	heard_open(&heard);
	assert_int_equal(
		getsockname(netlink_watch_fd(heard.watch), (struct sockaddr *)&watch, &len), 0);
	netlink_message_init(&message, RTM_NEWADDR, 0, sizeof(struct ifaddrmsg));
	assert_int_equal(sendto(netlink.fd, &message, message.header.nlmsg_len, 0,
				(struct sockaddr *)&watch, sizeof(watch)),
			 message.header.nlmsg_len);
	event_base_loop(heard.base, EVLOOP_ONCE);
	assert_int_equal(heard.turns, 1);
	assert_int_equal(heard.count, 0);
	address_add(&netlink, 1);
	event_base_loop(heard.base, EVLOOP_ONCE);
	assert_int_equal(heard.count, 1);
	heard_close(&heard);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct heard *heard = arg;

	(void)fd;
	(void)what;
	heard->at_tick = heard->count;
}

/* After the budget others in the loop have a pause of its time; then reading goes on. */
static void test_a_flood_of_notifications_leaves_the_loop_to_others(void **state)
{
	static const struct timeval soon = { .tv_usec = NETLINK_WATCH_PAUSE_MS * 1000 / 4 };
	const size_t flood = NETLINK_WATCH_BUDGET * 2 + 10;
	struct heard heard;
	struct event *tick;

	(void)state;
	heard_open(&heard);
	for (unsigned int i = 1; i <= flood; i++)
		address_add(&netlink, i);
	tick = evtimer_new(heard.base, on_tick, &heard);
	evtimer_add(tick, &soon);
	while (heard.count < flood)
		event_base_loop(heard.base, EVLOOP_ONCE);
	assert_int_equal(heard.at_tick, NETLINK_WATCH_BUDGET);
	assert_int_equal(heard.turns, 3);
	assert_int_equal(heard.lost, 0);
	event_free(tick);
	heard_close(&heard);
}

static void test_lost_notifications_are_told(void **state)
{
	struct heard heard;
	int bytes = 4096;

	(void)state;
	heard_open(&heard);
	assert_int_equal(setsockopt(netlink_watch_fd(heard.watch), SOL_SOCKET, SO_RCVBUF, &bytes,
				    sizeof(bytes)),
			 0);
	for (unsigned int i = 1; i <= 100; i++)
		address_add(&netlink, i);
	event_base_loop(heard.base, EVLOOP_ONCE);
	assert_int_equal(heard.lost, 1);
	assert_in_range(heard.count, 1, 99);
	heard_close(&heard);
}

static void test_socket_in_another_namespace_works_from_home(void **state)
{
	auto_netlink struct netlink inside = NETLINK_INIT;
	struct netns_id home = {}, other = {}, after = {};
	struct netlink_message message;
	struct ifinfomsg *info;
	auto_close int home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	auto_close int other_fd = -1;
	struct errmsg err = {};

	(void)state;
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	other_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(home_fd, CLONE_NEWNET), 0);
	assert_int_equal(netns_identify(-1, &home, &err), 0);
	assert_int_equal(netns_identify(other_fd, &other, &err), 0);
	assert_true(home.cookie != other.cookie && home.inode != other.inode);
	assert_int_equal(netlink_open(&inside, other_fd, &err), 0);
	netlink_message_init(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*info));
	link_fill(&message.header, "inside", "veth");
	assert_int_equal(netlink_request(&inside, &message, &err), 0);
	assert_int_equal(if_nametoindex("inside"), 0);
	assert_int_equal(netns_identify(-1, &after, &err), 0);
	assert_true(home.cookie == after.cookie);
}

static void test_namespace_is_found_by_path_or_by_process_only_if_the_same(void **state)
{
	auto_close int home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct netns_id id = {}, found_id = {}, gone = {};
	auto_close int by_path = -1, by_process = -1;
	struct errmsg err = {};
	int none = -1;

	(void)state;
	assert_int_equal(netns_identify(-1, &id, &err), 0);
	assert_int_equal(netns_find("/proc/self/ns/net", &id, &by_path, &err), 0);
	assert_int_equal(netns_find("/nowhere", &id, &by_process, &err), 0);
	assert_int_equal(netns_identify(by_process, &found_id, &err), 0);
	assert_true(found_id.cookie == id.cookie);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	assert_int_equal(netns_identify(-1, &gone, &err), 0);
	assert_int_equal(setns(home_fd, CLONE_NEWNET), 0); /* the other one has no holder now */
	assert_int_equal(netns_find("/proc/self/ns/net", &gone, &none, &err), -ENOENT);
	assert_int_equal(none, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_reports_the_kernels_verdict),
		cmocka_unit_test(test_errors_carry_the_kernels_words),
		cmocka_unit_test(test_batch_names_the_request_that_failed_and_does_the_rest),
		cmocka_unit_test(test_full_batch_takes_no_more_and_still_runs),
		cmocka_unit_test(test_dump_counts_every_link),
		cmocka_unit_test(test_interrupted_dump_starts_over),
		cmocka_unit_test(test_only_the_kernel_is_heard),
		cmocka_unit_test(test_a_flood_of_notifications_leaves_the_loop_to_others),
		cmocka_unit_test(test_lost_notifications_are_told),
		cmocka_unit_test(test_socket_in_another_namespace_works_from_home),
		cmocka_unit_test(test_namespace_is_found_by_path_or_by_process_only_if_the_same),
	};

	return cmocka_run_group_tests_name("netlink", tests, group_setup, group_teardown);
}
