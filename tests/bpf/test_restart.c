/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restart of a node with many pods: before the event loop has run once, CHECK finds each of them
 * as it was made, and a repeated ADD gives what it gave before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness/agent_node.h"
#include "harness/scratch.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define PODS 150

struct pod {
	int netns_fd;
	char id[16];
	char request[200];
	uint16_t slot;
	struct addr addresses[2];
};

static struct pod pods[PODS];
static struct agent_node agent = { .max = PODS + 1, .addresses = 4 * PODS };

static const struct endpoint *pod_find(const struct pod *pod)
{
	const struct endpoint *endpoint = endpoint_find(agent.endpoints, pod->id, "eth0");

	if (!endpoint)
		fail_msg("%s is gone", pod->id);
	return endpoint;
}

static void pod_add(const struct pod *pod)
{
	struct endpoint_error error = {};

	if (agent_node_add(&agent, pod->request, pod->netns_fd, &error) < 0)
		fail_msg("%s: %s", pod->id, error.text.text);
}

static void agent_begin(void)
{
	struct errmsg err = {};

	if (agent_node_start(&agent, &err) < 0)
		fail_msg("%s", err.text);
}

static void check_is_same(const struct pod *pod)
{
	const struct endpoint *endpoint = pod_find(pod);

	assert_int_equal(endpoint->slot, pod->slot);
	for (size_t i = 0; i < ARRAY_SIZE(pod->addresses); i++)
		assert_true(addr_equal(&endpoint->addresses[i].address.addr, &pod->addresses[i]));
}

static void test_many_pods_are_right_from_the_first_moment(void **state)
{
	struct errmsg err = {};

	(void)state;
	agent_begin();
	for (size_t i = 0; i < PODS; i++) {
		const struct endpoint *endpoint;

		pod_add(&pods[i]);
		endpoint = pod_find(&pods[i]);
		pods[i].slot = endpoint->slot;
		for (size_t j = 0; j < endpoint->address_count; j++)
			pods[i].addresses[j] = endpoint->addresses[j].address.addr;
	}
	agent_node_stop(&agent);
	agent_begin();
	/* The loop has not run yet. */
	for (size_t i = 0; i < PODS; i++) {
		if (endpoint_compare(agent.endpoints, pod_find(&pods[i]), pods[i].netns_fd, &err) <
		    0)
			fail_msg("%s: %s", pods[i].id, err.text);
		pod_add(&pods[i]);
		check_is_same(&pods[i]);
	}
	agent_node_stop(&agent);
}

static int group_setup(void **state)
{
	static char run_dir[] = "/tmp/test_restart.XXXXXX";
	struct errmsg err = {};

	(void)state;
	if (!mkdtemp(run_dir) || scratch_init(&err) < 0)
		return -1;
	snprintf(agent.run_dir, sizeof(agent.run_dir), "%s", run_dir);
	for (size_t i = 0; i < PODS; i++) {
		struct pod *pod = &pods[i];

		if (netns_new(&pod->netns_fd, &err) < 0)
			return -1;
		snprintf(pod->id, sizeof(pod->id), "pod%zu", i);
		snprintf(pod->request, sizeof(pod->request),
			 "{\"containerId\":\"%s\",\"ifname\":\"eth0\","
			 "\"netns\":\"/proc/%d/fd/%d\"}",
			 pod->id, getpid(), pod->netns_fd);
	}
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	scratch_done();
	return scratch_dir_remove(agent.run_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_pods_are_right_from_the_first_moment),
	};

	return cmocka_run_group_tests_name("restart", tests, group_setup, group_teardown);
}
