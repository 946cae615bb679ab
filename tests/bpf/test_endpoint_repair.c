/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others change on a wired interface, and a restart: nothing of a living pod is taken away,
 * and what can be put back is.  The agent's real modules on a scratch node; the loop runs until the
 * expected state is there.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "agent/sync/sync.h"
#include "harness/agent_node.h"
#include "harness/scratch.h"
#include "lib/file.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define DEADLINE_SECONDS 60 /* only what is broken takes that long */

static struct agent_node agent;
static int pod_fd;
static char request[200];
static struct endpoint_error error;

/* ---- the pod --------------------------------------------------------------------------------- */

static void agent_begin(void)
{
	struct errmsg err = {};

	if (agent_node_start(&agent, &err) < 0)
		fail_msg("%s", err.text);
}

static struct endpoint *pod(void)
{
	return endpoint_find(agent.endpoints, "repaired", "eth0");
}

static bool is_past(time_t deadline)
{
	return time(NULL) > deadline;
}

#define WAIT(condition)                                                          \
	do {                                                                     \
		time_t deadline_ = time(NULL) + DEADLINE_SECONDS;                \
		while (!(condition)) {                                           \
			const struct timeval tick_ = { .tv_usec = 10000 };       \
			event_base_loopexit(agent.base, &tick_);                 \
			event_base_dispatch(agent.base);                         \
			if (is_past(deadline_))                                  \
				fail_msg("never: %s (%s)", #condition,           \
					 pod() ? pod()->broken : "no endpoint"); \
		}                                                                \
	} while (0)

static bool is_ready(void)
{
	return pod() && pod()->state == ENDPOINT_READY && pod()->dirty == 0;
}

static bool is_broken(const char *why)
{
	return pod() && pod()->state == ENDPOINT_BROKEN && strcmp(pod()->broken, why) == 0;
}

static int is_as_made(void)
{
	struct errmsg err = {};

	return endpoint_compare(agent.endpoints, pod(), pod_fd, &err) == 0;
}

static int setup(void **state)
{
	struct errmsg err = {};

	(void)state;
	agent_begin();
	assert_int_equal(netns_new(&pod_fd, &err), 0);
	snprintf(request, sizeof(request),
		 "{\"containerId\":\"repaired\",\"ifname\":\"eth0\","
		 "\"netns\":\"/proc/%d/fd/%d\"}",
		 getpid(), pod_fd);
	assert_int_equal(agent_node_add(&agent, request, pod_fd, &error), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(agent_node_del(&agent, request, &error), 0);
	agent_node_stop(&agent);
	if (pod_fd >= 0)
		close(take_fd(&pod_fd));
	return 0;
}

/* ---- what others do -------------------------------------------------------------------------- */

static void pod_mtu_set(unsigned int mtu)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct ifinfomsg *info;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = pod()->pod_ifindex;
	mnl_attr_put_u32(&message.header, IFLA_MTU, mtu);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

static void pod_mac_set(const uint8_t mac[6])
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct ifinfomsg *info;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = pod()->pod_ifindex;
	mnl_attr_put(&message.header, IFLA_ADDRESS, 6, mac);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

static void pod_address_del(const struct prefix *address)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct ifaddrmsg *info;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	info = netlink_message_init(&message, RTM_DELADDR, 0, sizeof(*info));
	info->ifa_family = addr_family(&address->addr);
	info->ifa_prefixlen = prefix_family_len(address);
	info->ifa_index = (unsigned int)pod()->pod_ifindex;
	netlink_put_addr(&message.header, IFA_LOCAL, &address->addr);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

static int address_count(const struct nlmsghdr *header, void *arg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);

	*(int *)arg += (int)info->ifa_index == pod()->pod_ifindex;
	return 0;
}

static int pod_addresses(void)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	int count = 0;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	netlink_message_init(&message, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
	assert_int_equal(netlink_dump(&netlink, &message, address_count, NULL, &count, NULL), 0);
	return count;
}

static void host_end_rename(const char *name)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;

	assert_int_equal(netlink_open(&netlink, -1, NULL), 0);
	link_rename(&netlink, endpoint_ifindex(pod()), name);
}

static bool has_name(const char *name)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct host_link link = {};

	assert_int_equal(netlink_open(&netlink, -1, NULL), 0);
	return host_link_get(&netlink, endpoint_ifindex(pod()), &link, NULL) == 0 &&
	       strcmp(link.name, name) == 0;
}

/* ---- the cases ------------------------------------------------------------------------------- */

/* The kernel takes IPv6 off such a device, with its settings: that is no namespace gone. */
static void mtu_costs_ipv6_alone(unsigned int mtu)
{
	char why[100];

	snprintf(why, sizeof(why), "eth0 has MTU %u: IPv6 needs 1280", mtu);
	WAIT(is_ready());
	pod_mtu_set(mtu);
	WAIT(is_broken(why));
	for (int i = 0; i < 50; i++) /* what the agent does is no news to itself */
		event_base_loop(agent.base, EVLOOP_NONBLOCK);
	assert_in_range(pod()->looks, 1, 20);
	pod_address_del(&pod()->addresses[0].address);
	WAIT(pod_addresses() == 1);
	assert_true(is_broken(why));
	pod_mtu_set(1500);
	WAIT(is_ready() && is_as_made());
}

static void test_mtu_below_that_of_ipv6_costs_ipv6_alone(void **state)
{
	(void)state;
	mtu_costs_ipv6_alone(1200);
	mtu_costs_ipv6_alone(68);
}

static void test_host_end_that_was_renamed_gets_its_name_back(void **state)
{
	(void)state;
	WAIT(is_ready());
	host_end_rename("stolen0");
	WAIT(is_ready() && has_name(pod()->host_ifname) && is_as_made());
	host_end_rename("stolen0");
	agent_node_stop(&agent);
	agent_begin();
	assert_non_null(pod());
	WAIT(is_ready() && has_name(pod()->host_ifname) && is_as_made());
}

/* No name and no process leads to the namespace, and its interface was deleted: it lives on. */
static void test_namespace_that_only_a_descriptor_holds_is_not_gone(void **state)
{
	int hidden = dup(pod_fd);
	int named = pod_fd; /* the request's path has it */

	(void)state;
	WAIT(is_ready());
	assert_true(hidden >= 0);
	close(take_fd(&pod_fd));
	assert_int_equal(veth_del(&agent.endpoints->netlink, endpoint_ifindex(pod()), NULL), 0);
	WAIT(is_broken("the interface was removed, and its namespace cannot be found"));
	/* It is found again by its path. */
	assert_int_equal(dup2(hidden, named), named);
	pod_fd = named;
	pod()->dirty = DIRT_ALL;
	endpoint_watch_settle(agent.endpoints->watch);
	WAIT(is_ready() && is_as_made());
	/* And when it ends, its endpoint does. */
	close(hidden);
	close(take_fd(&pod_fd));
	WAIT(!pod());
}

static void test_restart_is_invisible_from_the_first_moment(void **state)
{
	struct addr address;

	(void)state;
	address = pod()->addresses[0].address.addr;
	for (int i = 0; i < 3; i++) {
		agent_node_stop(&agent);
		agent_begin();
		/* The loop has not run yet. */
		assert_true(is_as_made());
		assert_int_equal(agent_node_add(&agent, request, pod_fd, &error), 0);
		assert_int_equal(pod()->slot, 1);
		assert_true(addr_equal(&pod()->addresses[0].address.addr, &address));
	}
}

static const char *state_file(char path[200])
{
	snprintf(path, 200, "%s/endpoints/1.json", agent.run_dir);
	return path;
}

enum seal { SEALED, AS_IT_IS, UNSEALED };

/* The pod's state file with one text in place of another: with the right checksum, with the former
 * one, or without any. */
static void state_edit(const char *from, const char *to, enum seal seal)
{
	char path[200], edited[8192];
	auto_free char *text = NULL;
	struct errmsg err = {};
	size_t len = 0;
	char *at;
	int ret;

	if (seal == AS_IT_IS)
		ret = file_read(state_file(path), sizeof(edited), &text, &len, &err);
	else
		ret = file_read_checked(state_file(path), sizeof(edited), &text, &len, NULL, &err);
	assert_int_equal(ret, 0);
	at = strstr(text, from);
	assert_non_null(at);
	len = (size_t)snprintf(edited, sizeof(edited), "%.*s%s%s", (int)(at - text), text, to,
			       at + strlen(from));
	if (seal == SEALED)
		ret = file_write_checked(path, edited, len, 0600, FILE_FAST, &err);
	else
		ret = file_write(path, edited, len, 0600, FILE_FAST, &err);
	assert_int_equal(ret, 0);
}

static bool state_is_sealed(void)
{
	char path[200];
	auto_free char *text = NULL;
	struct errmsg err = {};
	bool checked = false;
	size_t len = 0;

	assert_int_equal(file_read_checked(state_file(path), 8192, &text, &len, &checked, &err), 0);
	return checked;
}

static bool is_up_and_guarded(uint16_t slot)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct host_link link = {};

	assert_int_equal(netlink_open(&netlink, -1, NULL), 0);
	return host_link_get(&netlink, ENDPOINT_IFINDEX_BASE + slot, &link, NULL) == 0 &&
	       link.flags & IFF_UP && link.carrier;
}

/* Refuses to start, and takes nothing away. */
static void check_refused(const char *why)
{
	struct errmsg err = {};

	assert_true(agent_node_start(&agent, &err) < 0);
	if (!strstr(err.text, why))
		fail_msg("%s", err.text);
	agent_node_stop(&agent);
	assert_true(is_up_and_guarded(1));
}

static void test_state_of_another_version_is_refused_and_pods_keep_their_network(void **state)
{
	(void)state;
	agent_node_stop(&agent);
	state_edit("\"version\":2", "\"version\":3", SEALED);
	check_refused("endpoints/1.json: version 3 of this file, but this agent reads version 2");
	state_edit("\"version\":3", "\"version\":2", SEALED);
	agent_begin();
	assert_true(is_as_made());
}

/* The previous version wrote no checksum. */
static void test_state_of_the_previous_version_is_read_once(void **state)
{
	(void)state;
	assert_true(state_is_sealed());
	agent_node_stop(&agent);
	state_edit("\"version\":2", "\"version\":1", UNSEALED);
	agent_begin();
	assert_true(is_as_made());
	assert_true(state_is_sealed());
	agent_node_stop(&agent);
	state_edit("\"version\":2", "\"version\":2", SEALED);
	agent_begin();
	assert_true(is_as_made());
}

/* What nobody can trust is kept for a person to look at. */
static void check_set_aside(const char *from, const char *to, enum seal seal)
{
	char path[200], aside[220];

	agent_node_stop(&agent);
	state_edit(from, to, seal);
	agent_begin();
	assert_null(pod());
	snprintf(aside, sizeof(aside), "%s.corrupt", state_file(path));
	assert_int_equal(unlink(aside), 0);
}

static void test_damage_that_still_parses_is_noticed(void **state)
{
	(void)state;
	check_set_aside("\"mtu\":1", "\"mtu\":2", AS_IT_IS);
}

static void test_state_without_its_checksum_is_damaged(void **state)
{
	(void)state;
	check_set_aside("\"version\":2", "\"version\":2", UNSEALED);
}

/* Of an agent that had more of them. */
static void test_slot_beyond_the_limit_is_refused_and_pods_keep_their_network(void **state)
{
	(void)state;
	agent_node_stop(&agent);
	agent.max = 1;
	check_refused("slot 1 is in use, but max-endpoints leaves room for 0");
	agent.max = 0;
	agent_begin();
	assert_true(is_as_made());
}

/* Fills the run directory; the caller removes the file. */
static void run_dir_fill(char path[200])
{
	static const char zeros[4096];
	FILE *file;

	snprintf(path, 200, "%s/filler", agent.run_dir);
	file = fopen(path, "w");
	assert_non_null(file);
	setbuf(file, NULL);
	while (fwrite(zeros, sizeof(zeros), 1, file) == 1)
		;
	fclose(file);
}

static void test_full_run_directory_is_reported_and_del_frees_it(void **state)
{
	static const uint8_t mac[] = { 2, 0, 0, 0, 0, 7 };
	struct endpoint_entry entry = {};
	char filler[200];

	(void)state;
	WAIT(is_ready());
	assert_int_equal(endpoints_cni_status(agent.endpoints, &error), 0);
	run_dir_fill(filler);
	assert_int_equal(endpoints_cni_status(agent.endpoints, &error), -ENOSPC);
	assert_int_equal(error.cni_code, CNI_NOT_AVAILABLE);
	assert_non_null(strstr(error.text.text, "is full: no pod can be added"));
	/* What is written on the side does not stop what counts. */
	pod_mac_set(mac);
	WAIT(memcmp(pod()->mac, mac, 6) == 0 && is_ready());
	assert_int_equal(endpoint_map_get(agent.datapath, pod()->slot, &entry), 0);
	assert_memory_equal(entry.mac, mac, 6);
	assert_int_equal(agent_node_del(&agent, request, &error), 0);
	assert_null(pod());
	assert_int_equal(remove(filler), 0);
	assert_int_equal(endpoints_cni_status(agent.endpoints, &error), 0);
	/* Nothing comes back. */
	agent_node_stop(&agent);
	agent_begin();
	assert_null(pod());
}

static void test_reverse_path_filter_of_the_host_end_is_put_back(void **state)
{
	char setting[80];
	long value = 0;

	(void)state;
	WAIT(is_ready());
	snprintf(setting, sizeof(setting), "net/ipv4/conf/%s/rp_filter", pod()->host_ifname);
	assert_int_equal(sysctl_write(setting, 1, NULL), 0);
	WAIT(sysctl_read(setting, &value, NULL) == 0 && value == 2);
}

static void pod_address_add(const struct prefix *address)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct ifaddrmsg *info;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	info = netlink_message_init(&message, RTM_NEWADDR, NLM_F_CREATE, sizeof(*info));
	info->ifa_family = addr_family(&address->addr);
	info->ifa_prefixlen = prefix_family_len(address);
	info->ifa_index = (unsigned int)pod()->pod_ifindex;
	netlink_put_addr(&message.header, IFA_LOCAL, &address->addr);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

/* A process with NET_ADMIN in the pod adds and deletes an address as fast as it can. */
static void test_pod_that_flips_an_address_is_looked_at_within_a_budget(void **state)
{
	struct prefix address;

	(void)state;
	WAIT(is_ready());
	assert_int_equal(prefix_parse("192.0.2.7/32", &address), 0);
	for (int i = 0; i < 300; i++) {
		pod_address_add(&address);
		pod_address_del(&address);
		event_base_loop(agent.base, EVLOOP_NONBLOCK);
		event_base_loop(agent.base, EVLOOP_NONBLOCK);
	}
	assert_in_range(pod()->looks, 20, 100);
	assert_int_equal(pod()->state, ENDPOINT_READY);
	/* What it does wrong meanwhile is put right when the next period begins. */
	pod_address_del(&pod()->addresses[0].address);
	event_base_loop(agent.base, EVLOOP_NONBLOCK);
	event_base_loop(agent.base, EVLOOP_NONBLOCK);
	assert_int_equal(pod_addresses(), 1);
	pod()->repairs_since_ns = 0;
	endpoint_watch_settle(agent.endpoints->watch);
	WAIT(pod_addresses() == 2 && is_ready());
}

/* ---- what is an administrator's, and is reported --------------------------------------------- */

static char problem[400]; /* the last one */
static enum problem_scope problem_scope;
static unsigned int problems;

static void problem_note(const char *text, enum problem_scope scope, void *arg)
{
	(void)arg;
	problem_scope = scope;
	snprintf(problem, sizeof(problem), "%s", text);
	problems++;
}

/* Exactly one, which says this, in status; and to CNI STATUS, unless it is one pod's. */
static void check_problem_of(enum problem_scope scope, const char *says)
{
	problems = 0;
	endpoints_problems(agent.endpoints, problem_note, NULL);
	assert_int_equal(problems, says ? 1 : 0);
	error = (struct endpoint_error){};
	if (!says) {
		assert_int_equal(endpoints_cni_status(agent.endpoints, &error), 0);
		return;
	}
	if (!strstr(problem, says))
		fail_msg("%s", problem);
	assert_int_equal(problem_scope, scope);
	if (scope == PROBLEM_OF_POD) {
		assert_int_equal(endpoints_cni_status(agent.endpoints, &error), 0);
		return;
	}
	assert_true(endpoints_cni_status(agent.endpoints, &error) < 0);
	assert_int_equal(error.cni_code, CNI_LIMITED_CONNECTIVITY);
	assert_string_equal(error.text.text, problem);
}

static void check_problem(const char *says)
{
	check_problem_of(PROBLEM_OF_NODE, says);
}

static void test_forwarding_that_was_switched_off_is_reported(void **state)
{
	(void)state;
	check_problem(NULL);
	assert_int_equal(sysctl_write("net/ipv4/ip_forward", 0, NULL), 0);
	check_problem("net/ipv4/ip_forward is 0: pods reach nothing beyond this node by IPv4");
	assert_int_equal(sysctl_write("net/ipv4/ip_forward", 1, NULL), 0);
	assert_int_equal(sysctl_write("net/ipv6/conf/all/forwarding", 0, NULL), 0);
	check_problem("net/ipv6/conf/all/forwarding is 0");
	assert_int_equal(sysctl_write("net/ipv6/conf/all/forwarding", 1, NULL), 0);
	check_problem(NULL);
}

static void pod_route_change(uint16_t type, uint16_t flags, const struct addr *addr)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct rtmsg *route;

	assert_int_equal(netlink_open(&netlink, -1, NULL), 0);
	route = netlink_message_init(&message, type, flags, sizeof(*route));
	route->rtm_family = addr_family(addr);
	route->rtm_dst_len = addr_is_v4(addr) ? 32 : 128;
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = RTPROT_STATIC;
	route->rtm_scope = addr_is_v4(addr) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	netlink_put_addr(&message.header, RTA_DST, addr);
	mnl_attr_put_u32(&message.header, RTA_OIF, (uint32_t)endpoint_ifindex(pod()));
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

static void test_route_of_somebody_else_to_a_pod_is_reported(void **state)
{
	(void)state;
	WAIT(is_ready());
	for (size_t i = 0; i < 2; i++) {
		const struct addr *addr = &pod()->addresses[i].address.addr;

		pod_route_change(RTM_NEWROUTE, NLM_F_CREATE, addr);
		check_problem_of(PROBLEM_OF_POD, "its route leads to tdl1 instead of tendril0");
		pod_route_change(RTM_DELROUTE, 0, addr);
		check_problem(NULL);
	}
}

/* The rule that leads to the main table: "ip rule flush". */
static void main_rule_change(uint16_t type, uint16_t flags)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct fib_rule_hdr *rule;

	assert_int_equal(netlink_open(&netlink, -1, NULL), 0);
	rule = netlink_message_init(&message, type, flags, sizeof(*rule));
	rule->family = AF_INET;
	rule->table = RT_TABLE_MAIN;
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(&message.header, FRA_PRIORITY, 32766);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

static void test_routing_rules_that_were_flushed_are_reported(void **state)
{
	(void)state;
	WAIT(is_ready());
	main_rule_change(RTM_DELRULE, 0);
	check_problem("pods in 10.77.0.0/24: there is no route (Network is unreachable) instead of "
		      "tendril0");
	main_rule_change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
	check_problem(NULL);
}

static int group_setup(void **state)
{
	struct errmsg err = {};

	(void)state;
	snprintf(agent.run_dir, sizeof(agent.run_dir), "/tmp/test_repair.XXXXXX");
	if (!mkdtemp(agent.run_dir) || scratch_init(&err) < 0 ||
	    mount("tmpfs", agent.run_dir, "tmpfs", 0, "size=512k") < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	scratch_done();
	umount(agent.run_dir);
	return scratch_dir_remove(agent.run_dir);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_restart_is_invisible_from_the_first_moment),
		CASE(test_mtu_below_that_of_ipv6_costs_ipv6_alone),
		CASE(test_host_end_that_was_renamed_gets_its_name_back),
		CASE(test_namespace_that_only_a_descriptor_holds_is_not_gone),
		CASE(test_state_of_another_version_is_refused_and_pods_keep_their_network),
		CASE(test_state_of_the_previous_version_is_read_once),
		CASE(test_damage_that_still_parses_is_noticed),
		CASE(test_state_without_its_checksum_is_damaged),
		CASE(test_full_run_directory_is_reported_and_del_frees_it),
		CASE(test_pod_that_flips_an_address_is_looked_at_within_a_budget),
		CASE(test_reverse_path_filter_of_the_host_end_is_put_back),
		CASE(test_forwarding_that_was_switched_off_is_reported),
		CASE(test_route_of_somebody_else_to_a_pod_is_reported),
		CASE(test_routing_rules_that_were_flushed_are_reported),
		CASE(test_slot_beyond_the_limit_is_refused_and_pods_keep_their_network),
	};

	return cmocka_run_group_tests_name("endpoint repair", tests, group_setup, group_teardown);
}
