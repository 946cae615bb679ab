/* SPDX-License-Identifier: Apache-2.0 */
/* What the rows of a connectivity test say together: the one sentence, and the advice. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cli/connect_test.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define FAILED(about, to, ...)                                                                     \
	{                                                                                          \
		about, "pod client", to, .result = CONNECT_FAILED, .why = "no answer", __VA_ARGS__ \
	}
#define NODE(routing) \
	"[{\"name\":\"n1\",\"local\":true},{\"name\":\"n2\",\"routing\":\"" routing "\"}]"

static const struct answer_case {
	const char *name;
	struct connect_row rows[3];
	const char *nodes;
	const char *status;
	const char *policies;
	const char *what; /* NULL: nothing is broken */
	const char *advice;
} cases[] = {
	{ "nothing failed", { { ABOUT_POD, .result = CONNECT_OK } }, NULL, NULL, NULL, NULL, NULL },
	{ "what is skipped is not broken",
	  { { ABOUT_DNS, .result = CONNECT_SKIPPED } },
	  NULL,
	  NULL,
	  NULL,
	  NULL,
	  NULL },
	{ "of the steps inside the node the first is told",
	  { FAILED(ABOUT_POD, "pod server 10.0.0.2"), FAILED(ABOUT_HOST, "this node 192.0.2.1"),
	    FAILED(ABOUT_SERVICE, "service 198.18.255.254") },
	  NULL,
	  NULL,
	  NULL,
	  "pod client to pod server 10.0.0.2: no answer.",
	  "tendril monitor" },
	{ "a rule of netfilter",
	  { FAILED(ABOUT_HOST, "this node 192.0.2.1", .drop = "NETFILTER_DROP (by the kernel)") },
	  NULL,
	  NULL,
	  NULL,
	  "pod client to this node 192.0.2.1: a netfilter rule of this node drops",
	  "nft list ruleset" },
	{ "a policy has its name",
	  { FAILED(ABOUT_POD, "pod server 10.0.0.2", .drop = "INGRESS_DENIED (no)") },
	  NULL,
	  NULL,
	  "[\"a/b\",\"/guard\"]",
	  "pod client to pod server 10.0.0.2: a policy denies it: a/b, /guard.",
	  "tendril policy list" },
	{ "another drop",
	  { FAILED(ABOUT_POD, "pod server 10.0.0.2", .drop = "SPOOFED (source address)") },
	  NULL,
	  NULL,
	  NULL,
	  "pod client to pod server 10.0.0.2: dropped: SPOOFED (source address).",
	  "tendril status" },
	{ "the reason why the host's stack is taken",
	  { FAILED(ABOUT_HOST, "this node 192.0.2.1") },
	  NULL,
	  "{\"hostRouting\":{\"mode\":\"legacy\",\"reason\":\"nf_tables has rules\"}}",
	  NULL,
	  "pod client to this node 192.0.2.1: no answer.",
	  "Packets take the host's stack: nf_tables has rules." },
	{ "policy that does not hold",
	  { { ABOUT_POLICY, .result = CONNECT_FAILED, .why = "not dropped" } },
	  NULL,
	  NULL,
	  NULL,
	  "Policy is not enforced: a pod that a NetworkPolicy isolates was reached.",
	  "tendril status" },
	{ "policy that stays",
	  { { ABOUT_POLICY, .result = CONNECT_FAILED, .why = "no answer" } },
	  NULL,
	  NULL,
	  NULL,
	  "A pod is not reached though the policy that isolated it is gone",
	  "systemctl restart tendrild" },
	{ "a problem that the agent knows comes first",
	  { FAILED(ABOUT_NODE, "node n2 192.0.2.2", .node = "n2") },
	  "[{\"name\":\"n2\",\"problem\":\"Node n2: no InternalIP\"}]",
	  NULL,
	  NULL,
	  "Node n2: no InternalIP.",
	  "Node object" },
	{ "of a silent node only that it is silent",
	  { FAILED(ABOUT_NODE, "node n2 192.0.2.2", .node = "n2"),
	    FAILED(ABOUT_RANGE, "pods of node n2 10.0.2.1", .node = "n2"),
	    FAILED(ABOUT_POD_RANGE, "pods of node n2 10.0.2.1", .node = "n2") },
	  NODE("direct"),
	  NULL,
	  NULL,
	  "Node n2 does not answer at its own address: node n2 192.0.2.2: no answer.",
	  "ip -br link" },
	{ "only the pods of a node",
	  { FAILED(ABOUT_POD_RANGE, "pods of node n2 10.0.2.1", .node = "n2") },
	  NODE("direct"),
	  NULL,
	  NULL,
	  "Pods of this node do not reach pods of node n2 10.0.2.1 (no answer), though the node "
	  "itself does.",
	  "net.ipv4.ip_forward" },
	{ "large packets",
	  { FAILED(ABOUT_SIZE, "pods of node n2 10.0.2.1", .node = "n2", .passing = 1400) },
	  NODE("direct"),
	  NULL,
	  NULL,
	  "MTU: pods of node n2 10.0.2.1",
	  "\"mtu\": 1400" },
	{ "a row of one node is not that of another",
	  { FAILED(ABOUT_SIZE, "pods of node n3 10.0.3.1", .node = "n3", .passing = 1400) },
	  NODE("direct"),
	  NULL,
	  NULL,
	  NULL,
	  NULL },
	{ "outside",
	  { FAILED(ABOUT_EXTERNAL, "outside 198.51.100.1") },
	  NULL,
	  NULL,
	  NULL,
	  "Pods do not reach outside 198.51.100.1: no answer.",
	  "\"masquerade\": true" },
};

static void case_check(const struct answer_case *each)
{
	struct connect_row rows[ARRAY_SIZE(each->rows)];
	struct connect_test test = { .rows = rows, .row_count = ARRAY_SIZE(rows) };
	cJSON *broken = cJSON_CreateArray();
	const cJSON *told;

	memcpy(rows, each->rows, sizeof(rows));
	test.nodes = each->nodes ? cJSON_Parse(each->nodes) : NULL;
	test.status = each->status ? cJSON_Parse(each->status) : NULL;
	test.policies = each->policies ? cJSON_Parse(each->policies) : NULL;
	connect_answer(&test, broken);
	print_message("%s\n", each->name);
	assert_int_equal(cJSON_GetArraySize(broken), each->what ? 1 : 0);
	told = cJSON_GetArrayItem(broken, 0);
	if (each->what) {
		const char *what = cJSON_GetObjectItem(told, "what")->valuestring;
		const char *advice = cJSON_GetObjectItem(told, "advice")->valuestring;

		assert_int_equal(strncmp(what, each->what, strlen(each->what)), 0);
		assert_non_null(strstr(advice, each->advice));
	}
	cJSON_Delete(broken);
	cJSON_Delete(test.nodes);
	cJSON_Delete(test.status);
	cJSON_Delete(test.policies);
}

static void test_each_fault_is_told_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		case_check(&cases[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_fault_is_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
