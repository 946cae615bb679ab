/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ADD with each step made to fail in turn: everything is as it was before.  The real steps, maps
 * and links; what is compared is all of the node's and the pod's links, addresses and routes, the
 * maps, the pins and the files.
 */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/sync/sync.h"
#include "harness/agent_node.h"
#include "harness/scratch.h"
#include "policy/objects/parse.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define STEPS_MAX 16
#define CONTAINER "rollback"

static struct agent_node agent;
static struct endpoint_step steps[STEPS_MAX];

static int failing_run(struct endpoint_add *add, struct errmsg *err)
{
	(void)add;
	return (fail)(err, -EIO, "made to fail");
}

static int group_setup(void **state)
{
	struct errmsg err = {};

	(void)state;
	snprintf(agent.run_dir, sizeof(agent.run_dir), "/tmp/test_rollback.XXXXXX");
	if (!mkdtemp(agent.run_dir) || scratch_init(&err) < 0 ||
	    agent_node_start(&agent, &err) < 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	assert_true(endpoint_step_count <= STEPS_MAX && chained_step_count <= STEPS_MAX);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	agent_node_stop(&agent);
	scratch_done();
	return scratch_dir_remove(agent.run_dir);
}

/* ---- the cases ----------------------------------------------------------------------------------
 */

static const char embedded_request[] =
	"{\"containerId\":\"" CONTAINER "\",\"ifname\":\"eth0\",\"netns\":\"/nowhere\"}";
static const char delegated_request[] =
	"{\"containerId\":\"" CONTAINER "\",\"ifname\":\"eth0\",\"netns\":\"/nowhere\","
	"\"ipam\":{\"ips\":[{\"address\":\"10.88.0.9/16\",\"gateway\":\"10.88.0.1\"},"
	"{\"address\":\"fd88::9/64\",\"gateway\":\"fd88::1\"}],"
	"\"routes\":[{\"dst\":\"192.0.2.0/24\"}]}}";

static int add(const char *text, int pod_fd, struct endpoint_error *error)
{
	return agent_node_add(&agent, text, pod_fd, error);
}

static int pod_new(void)
{
	struct errmsg err = {};
	int fd = -1;

	assert_int_equal(netns_new(&fd, &err), 0);
	return fd;
}

struct counted_links {
	int running;
};

static int count_running(const struct nlmsghdr *header, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	struct counted_links *links = arg;

	links->running += (info->ifi_flags & IFF_RUNNING) != 0;
	return 0;
}

/* "lo" is set up by ADD and need not go down again. */
static void lo_up(int pod_fd)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	assert_int_equal(link_set_up(&netlink, 1, NULL), 0);
}

static void every_step_fails_once(const char *request)
{
	auto_close int pod_fd = pod_new();

	lo_up(pod_fd);
	for (size_t i = 0; i < endpoint_step_count; i++) {
		auto_(listing) struct listing *before = listing_take(&agent, pod_fd);
		auto_(listing) struct listing *after = NULL;
		struct endpoint_error error = {};

		memcpy(steps, endpoint_steps, endpoint_step_count * sizeof(*steps));
		steps[i].run = failing_run;
		agent.endpoints->steps = steps;
		assert_int_equal(add(request, pod_fd, &error), -EIO);
		agent.endpoints->steps = endpoint_steps;
		assert_string_equal(error.step, endpoint_steps[i].name);
		assert_int_equal(error.cni_code, CNI_KERNEL_FAILED);
		assert_non_null(strstr(error.text.text, "made to fail"));
		after = listing_take(&agent, pod_fd);
		if (!listings_equal(before, after)) {
			print_error("after a failure to %s\n", endpoint_steps[i].name);
			assert_true(false);
		}
	}
}

static void test_failure_at_every_step_leaves_nothing(void **state)
{
	(void)state;
	every_step_fails_once(embedded_request);
}

static const char chained_request[] =
	"{\"containerId\":\"" CONTAINER "\",\"ifname\":\"eth0\",\"netns\":\"/nowhere\","
	"\"chained\":true,\"ipam\":{\"ips\":[{\"address\":\"10.88.0.9/16\"}]}}";

/* A pair as another plugin makes it; the index of the host's end. */
static int foreign_pair(int pod_fd)
{
	struct endpoint wanted = { .chained = true,
				   .host_ifindex = 4321,
				   .mtu = 1500,
				   .mac = { 2, 0, 0, 0, 0, 1 },
				   .host_mac = { 2, 0, 0, 0, 0, 2 },
				   .host_ifname = "veth4321",
				   .ifname = "eth0" };
	struct errmsg err = {};

	assert_int_equal(veth_add(&agent.endpoints->netlink, &wanted, pod_fd, false, &err), 0);
	return wanted.host_ifindex;
}

/* Behind another plugin the program stays: the device is closed until that plugin removes it. */
static void test_failure_at_every_step_behind_another_plugin(void **state)
{
	auto_close int pod_fd = pod_new();
	int ifindex = foreign_pair(pod_fd);

	(void)state;
	for (size_t i = 0; i < chained_step_count; i++) {
		auto_(listing) struct listing *before = listing_take(&agent, pod_fd);
		auto_(listing) struct listing *after = NULL;
		struct endpoint_error error = {};

		memcpy(steps, chained_steps, chained_step_count * sizeof(*steps));
		steps[i].run = failing_run;
		agent.endpoints->chained_steps = steps;
		assert_int_equal(add(chained_request, pod_fd, &error), -EIO);
		agent.endpoints->chained_steps = chained_steps;
		assert_string_equal(error.step, chained_steps[i].name);
		after = listing_take(&agent, pod_fd);
		if (!listings_equal(before, after)) {
			print_error("after a failure to %s\n", chained_steps[i].name);
			assert_true(false);
		}
		assert_int_equal(datapath_endpoint_attached(agent.datapath, ifindex), i > 1);
	}
	assert_int_equal(veth_del(&agent.endpoints->netlink, ifindex, NULL), 0);
}

static bool guarded; /* when the interface was about to go */

static const struct endpoint_step *step_named(const char *name)
{
	for (size_t i = 0; i < endpoint_step_count; i++) {
		if (strcmp(endpoint_steps[i].name, name) == 0)
			return &endpoint_steps[i];
	}
	return NULL;
}

static void watched_undo(struct endpoint_add *add)
{
	guarded = datapath_endpoint_attached(agent.datapath, endpoint_ifindex(add->endpoint));
	step_named("create the interface")->undo(add);
}

/* What the pod sends until its interface is gone must not reach the node's own stack. */
static void test_interface_is_guarded_until_it_is_gone(void **state)
{
	auto_close int pod_fd = pod_new();
	struct endpoint_error error = {};

	(void)state;
	memcpy(steps, endpoint_steps, endpoint_step_count * sizeof(*steps));
	steps[step_named("create the interface") - endpoint_steps].undo = watched_undo;
	steps[step_named("mark it ready") - endpoint_steps].run = failing_run;
	agent.endpoints->steps = steps;
	assert_int_equal(add(embedded_request, pod_fd, &error), -EIO);
	agent.endpoints->steps = endpoint_steps;
	assert_true(guarded);
}

static void test_failure_at_every_step_with_delegated_addresses(void **state)
{
	(void)state;
	every_step_fails_once(delegated_request);
}

static void add_then_del(const char *request)
{
	auto_json struct cJSON *names = NULL;
	auto_(listing) struct listing *before = NULL;
	auto_(listing) struct listing *during = NULL;
	auto_(listing) struct listing *after = NULL;
	auto_close int pod_fd = pod_new();
	struct endpoint_error error = {};
	struct errmsg err = {};

	lo_up(pod_fd);
	before = listing_take(&agent, pod_fd);
	if (add(request, pod_fd, &error) < 0)
		print_error("%s: %s\n", error.step, error.text.text);
	assert_int_equal(error.cni_code, 0);
	during = listing_take(&agent, pod_fd);
	assert_true(listing_count(during) > listing_count(before) + 10);
	/* Again: the same, nothing new. */
	assert_int_equal(add(request, pod_fd, &error), 0);
	after = listing_take(&agent, pod_fd);
	assert_true(listings_equal(during, after));
	listing_free(take_ptr(after));
	assert_int_equal(json_parse(request, strlen(request), &names, &err), 0);
	for (int i = 0; i < 2; i++) /* the second one is of something unknown */
		assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
	assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
	after = listing_take(&agent, pod_fd);
	assert_true(listings_equal(before, after));
}

static void test_del_undoes_add(void **state)
{
	(void)state;
	add_then_del(embedded_request);
	add_then_del(delegated_request);
}

static void test_packets_pass_as_soon_as_add_returns(void **state)
{
	auto_json struct cJSON *names = NULL;
	struct endpoint_error error = {};
	struct errmsg err = {};

	(void)state;
	assert_int_equal(json_parse(embedded_request, strlen(embedded_request), &names, &err), 0);
	for (int i = 0; i < 10; i++) {
		auto_close int pod_fd = pod_new();
		auto_netlink struct netlink netlink = NETLINK_INIT;
		struct counted_links links = {};
		struct netlink_message message;

		assert_int_equal(netlink_open(&netlink, pod_fd, &err), 0);
		assert_int_equal(add(embedded_request, pod_fd, &error), 0);
		/* A dump, because a question for one link makes the kernel finish its work. */
		netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
		assert_int_equal(
			netlink_dump(&netlink, &message, count_running, NULL, &links, &err), 0);
		assert_int_equal(links.running, 2); /* lo, eth0 */
		assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
		assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
	}
}

static void test_add_waits_for_the_former_interface(void **state)
{
	auto_json struct cJSON *names = NULL;
	auto_close int pod_fd = pod_new();
	struct endpoint_error error = {};
	struct errmsg err = {};

	(void)state;
	assert_int_equal(json_parse(embedded_request, strlen(embedded_request), &names, &err), 0);
	for (int i = 0; i < 3; i++) {
		if (add(embedded_request, pod_fd, &error) < 0)
			print_error("%s: %s\n", error.step, error.text.text);
		assert_int_equal(error.cni_code, 0);
		assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
	}
	assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
}

static void test_known_container_in_another_namespace_replaces_the_old(void **state)
{
	auto_json struct cJSON *names = NULL;
	auto_close int first_fd = pod_new(), second_fd = pod_new();
	struct endpoint_error error = {};
	struct host_link link = {};
	struct endpoint *endpoint;
	struct errmsg err = {};
	struct netns_id second;

	(void)state;
	assert_int_equal(add(embedded_request, first_fd, &error), 0);
	assert_int_equal(add(embedded_request, second_fd, &error), 0);
	endpoint = endpoint_find(agent.endpoints, CONTAINER, "eth0");
	assert_non_null(endpoint);
	assert_int_equal(netns_identify(second_fd, &second, &err), 0);
	assert_true(endpoint->netns.cookie == second.cookie);
	assert_int_equal(pod_link_get(endpoint, first_fd, &link, &err), -ENODEV);
	assert_int_equal(pod_link_get(endpoint, second_fd, &link, &err), 0);
	assert_int_equal(json_parse(embedded_request, strlen(embedded_request), &names, &err), 0);
	assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
	assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
}

static void test_wrong_namespaces_and_addresses_are_refused(void **state)
{
	static const char foreign_ip[] =
		"{\"containerId\":\"c\",\"ifname\":\"eth0\",\"netns\":\"\",\"ips\":[\"10.1.1.1\"]}";
	auto_close int pod_fd = pod_new();
	auto_close int file_fd = open("/dev/null", O_RDONLY);
	auto_close int own_fd = open("/proc/self/ns/net", O_RDONLY);
	struct endpoint_error error = {};

	(void)state;
	assert_true(add(embedded_request, file_fd, &error) < 0);
	assert_int_equal(error.cni_code, CNI_INVALID_ENVIRONMENT);
	assert_true(add(embedded_request, own_fd, &error) < 0);
	assert_int_equal(error.cni_code, CNI_INVALID_ENVIRONMENT);
	assert_non_null(strstr(error.text.text, "own network namespace"));
	assert_true(add(foreign_ip, pod_fd, &error) < 0);
	assert_int_equal(error.cni_code, CNI_INVALID_CONFIG);
	assert_non_null(strstr(error.text.text, "10.1.1.1 is in no pod CIDR"));
}

static void test_full_node_says_so(void **state)
{
	int fds[8] = {};
	struct endpoint_error error = {};
	struct errmsg err = {};
	char text[200];

	(void)state;
	for (int i = 0; i < 8; i++) { /* slots 1 to 7 */
		fds[i] = pod_new();
		snprintf(text, sizeof(text),
			 "{\"containerId\":\"c%d\",\"ifname\":\"eth0\",\"netns\":\"\"}", i);
		assert_int_equal(add(text, fds[i], &error) == 0, i < 7);
	}
	assert_int_equal(error.cni_code, CNI_ADDRESSES_EXHAUSTED);
	assert_non_null(strstr(error.text.text, "max-endpoints"));
	assert_true(endpoints_cni_status(agent.endpoints, &error) < 0);
	assert_int_equal(error.cni_code, CNI_NOT_AVAILABLE);
	for (int i = 0; i < 8; i++) {
		auto_json struct cJSON *names = NULL;

		snprintf(text, sizeof(text), "{\"containerId\":\"c%d\",\"ifname\":\"eth0\"}", i);
		assert_int_equal(json_parse(text, strlen(text), &names, &err), 0);
		assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
		close(fds[i]);
	}
	/* A node whose endpoints are all on their way out is full for a moment only. */
	fds[0] = pod_new();
	assert_int_equal(add(embedded_request, fds[0], &error), 0);
	close(fds[0]);
	assert_int_equal(endpoints_cni_status(agent.endpoints, &error), 0);
}

/* Pods elsewhere, until ipcache_map is more than full; or takes them away again. */
static void store_crowd(bool crowded)
{
	char text[200], name[16];

	for (int i = 0; i < 2 * AGENT_NODE_ADDRESSES; i++) {
		struct object_list list = {};
		struct problems problems = {};
		struct errmsg err = {};

		snprintf(name, sizeof(name), "p%d", i);
		if (!crowded) {
			assert_int_equal(store_del(agent.store, OBJECT_POD, "x", name), 0);
			continue;
		}
		snprintf(text, sizeof(text),
			 "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\","
			 "\"namespace\":\"x\"},\"status\":{\"podIPs\":[{\"ip\":\"10.99.0.%d\"}]}}",
			 name, i + 1);
		assert_int_equal(objects_parse(text, strlen(text), 0, &list, &problems), 0);
		assert_int_equal(store_put(agent.store, take_ptr(list.items[0]), &err), 0);
		object_list_done(&list);
		problems_done(&problems);
	}
}

static void mac_set(const struct endpoint *endpoint, int pod_fd, const uint8_t mac[6])
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct ifinfomsg *info;

	assert_int_equal(netlink_open(&netlink, pod_fd, NULL), 0);
	info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = endpoint->pod_ifindex;
	mnl_attr_put(&message.header, IFLA_ADDRESS, 6, mac);
	assert_int_equal(netlink_request(&netlink, &message, NULL), 0);
}

/* While maps are full, who changes its MAC is followed, and stays what it is to policy. */
static void test_mac_is_followed_while_maps_are_full(void **state)
{
	static const uint8_t mac[] = { 2, 0, 0, 0, 0, 7 };
	auto_json struct cJSON *names = NULL;
	auto_close int pod_fd = pod_new();
	struct endpoint_error error = {};
	struct endpoint *endpoint;
	struct endpoint_entry entry = {};
	struct errmsg err = {};
	char request[200];

	(void)state;
	snprintf(request, sizeof(request),
		 "{\"containerId\":\"" CONTAINER "\",\"ifname\":\"eth0\","
		 "\"netns\":\"/proc/self/fd/%d\"}",
		 pod_fd);
	assert_int_equal(add(request, pod_fd, &error), 0);
	endpoint = endpoint_find(agent.endpoints, CONTAINER, "eth0");
	store_crowd(true);
	assert_int_equal(sync_policies(agent.sync, &err), -ENOSPC);
	mac_set(endpoint, pod_fd, mac);
	assert_false(endpoint_reconcile(agent.endpoints, endpoint));
	assert_string_equal(endpoint->broken, "");
	assert_int_equal(endpoint_map_get(agent.datapath, endpoint->slot, &entry), 0);
	assert_true(entry.flags & ENDPOINT_VALID);
	assert_memory_equal(entry.mac, mac, sizeof(mac));
	store_crowd(false);
	assert_int_equal(sync_policies(agent.sync, &err), 0);
	assert_int_equal(json_parse(request, strlen(request), &names, &err), 0);
	assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
	assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
}

/* No process can be had for one (here: no descriptor for its socket). */
static void test_links_go_without_a_link_worker_too(void **state)
{
	auto_json struct cJSON *names = NULL;
	auto_close int pod_fd = pod_new();
	struct rlimit before, none;
	struct endpoint_error error = {};
	struct errmsg err = {};
	pid_t link_worker;
	int result;

	(void)state;
	assert_int_equal(json_parse(embedded_request, strlen(embedded_request), &names, &err), 0);
	assert_int_equal(add(embedded_request, pod_fd, &error), 0);
	link_worker = link_worker_pid(agent.endpoints->link_worker);
	assert_int_equal(kill(link_worker, SIGSTOP), 0);
	assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
	assert_int_equal(kill(link_worker, SIGKILL), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ .rlim_cur = 1, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	result = endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(result, 0);
	assert_null(agent.endpoints->link_worker);
	assert_null(endpoint_find(agent.endpoints, CONTAINER, "eth0"));
	/* The next one gets a link worker again. */
	assert_int_equal(add(embedded_request, pod_fd, &error), 0);
	assert_int_equal(endpoints_del(agent.endpoints, names, &error), 0);
	assert_non_null(agent.endpoints->link_worker);
	assert_int_equal(endpoints_wait_deleted(agent.endpoints, NULL, NULL, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failure_at_every_step_leaves_nothing),
		cmocka_unit_test(test_failure_at_every_step_behind_another_plugin),
		cmocka_unit_test(test_failure_at_every_step_with_delegated_addresses),
		cmocka_unit_test(test_interface_is_guarded_until_it_is_gone),
		cmocka_unit_test(test_del_undoes_add),
		cmocka_unit_test(test_packets_pass_as_soon_as_add_returns),
		cmocka_unit_test(test_add_waits_for_the_former_interface),
		cmocka_unit_test(test_known_container_in_another_namespace_replaces_the_old),
		cmocka_unit_test(test_wrong_namespaces_and_addresses_are_refused),
		cmocka_unit_test(test_mac_is_followed_while_maps_are_full),
		cmocka_unit_test(test_links_go_without_a_link_worker_too),
		cmocka_unit_test(test_full_node_says_so),
	};

	return cmocka_run_group_tests_name("endpoint rollback", tests, group_setup, group_teardown);
}
