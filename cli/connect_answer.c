/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rows say together: one sentence for each thing that is broken, not for each row, and
 * what to do about it.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/agent_call.h"
#include "cli/connect_test.h"
#include "lib/auto.h"
#include "lib/netlink.h"

static void answer_add(cJSON *broken, const char *advice, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void answer_add(cJSON *broken, const char *advice, const char *fmt, ...)
{
	cJSON *item = cJSON_CreateObject();
	char what[700];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	cJSON_AddStringToObject(item, "what", what);
	cJSON_AddStringToObject(item, "advice", advice);
	cJSON_AddItemToArray(broken, item);
}

/* The first row about this, and this node (NULL: any), that failed. */
static const struct connect_row *failed(const struct connect_test *test, enum connect_about about,
					const char *node)
{
	for (size_t i = 0; i < test->row_count; i++) {
		const struct connect_row *row = &test->rows[i];

		if (row->about == about && row->result == CONNECT_FAILED &&
		    (!node || (row->node && strcmp(row->node, node) == 0)))
			return row;
	}
	return NULL;
}

/* ---- this node ------------------------------------------------------------------------------- */

/* "Policies on it: default/deny, /guard", or "". */
static const char *policies_of(const struct connect_test *test, char *buf, size_t size)
{
	const cJSON *item;
	size_t len = 0;

	buf[0] = '\0';
	cJSON_ArrayForEach (item, test->policies) {
		if (cJSON_IsString(item) && len < size)
			len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
						item->valuestring);
	}
	return buf;
}

/* By what the packets were dropped. */
static void dropped_answer(const struct connect_test *test, const struct connect_row *row,
			   cJSON *broken)
{
	char policies[300];
	bool denied = strstr(row->drop, "_DENIED") != NULL;

	if (strncmp(row->drop, "NETFILTER_DROP", strlen("NETFILTER_DROP")) == 0)
		answer_add(broken,
			   "Find the rule and allow packets from and to pods: nft list ruleset; "
			   "iptables-save; ip6tables-save.",
			   "%s to %s: a netfilter rule of this node drops the packets.", row->from,
			   row->to);
	else if (denied && *policies_of(test, policies, sizeof(policies)))
		answer_add(broken,
			   "The test's pods are in the namespace " CONNECT_NAMESPACE
			   ": let the policy not select them, or allow them (tendril policy list).",
			   "%s to %s: a policy denies it: %s.", row->from, row->to, policies);
	else
		answer_add(broken, "Look at tendril status and, while you try, at tendril monitor.",
			   "%s to %s: dropped: %s.", row->from, row->to, row->drop);
}

/* A rule of others in the host's stack: the agent knows where such are. */
static void lost_answer(const struct connect_test *test, const struct connect_row *row,
			cJSON *broken)
{
	const cJSON *routing = member_get(test->status, "hostRouting");
	const char *reason = member_text(routing, "reason", "");
	char advice[500];

	snprintf(advice, sizeof(advice),
		 "%s%s%sLook for a rule that drops (nft list ruleset; iptables-save), at the "
		 "warnings "
		 "of tendril status, and at tendril monitor.",
		 *reason ? "Packets take the host's stack: " : "", reason, *reason ? ". " : "");
	answer_add(broken, advice, "%s to %s: %s.", row->from, row->to, row->why);
}

static void row_answer(const struct connect_test *test, const struct connect_row *row,
		       cJSON *broken)
{
	if (*row->drop)
		dropped_answer(test, row, broken);
	else
		lost_answer(test, row, broken);
}

static void policy_answer(const struct connect_test *test, const struct connect_row *row,
			  cJSON *broken)
{
	bool audit = cJSON_IsTrue(member_get(member_get(test->status, "audit"), "node"));

	if (strcmp(row->why, "not dropped") != 0)
		answer_add(
			broken, "Start the agent again: systemctl restart tendrild.",
			"A pod is not reached though the policy that isolated it is gone: %s%s%s.",
			row->why, *row->drop ? ": " : "", row->drop);
	else if (audit)
		answer_add(broken, "Set \"audit\": false in agent.json: systemctl reload tendrild.",
			   "Policy is not enforced: this node is in audit mode.");
	else
		answer_add(
			broken,
			"See the failures of tendril status; start the agent again: systemctl "
			"restart tendrild.",
			"Policy is not enforced: a pod that a NetworkPolicy isolates was reached.");
}

static void local_answers(const struct connect_test *test, cJSON *broken)
{
	static const enum connect_about abouts[] = { ABOUT_POD, ABOUT_HOST, ABOUT_SERVICE };
	const struct connect_row *row = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(abouts) && !row; i++) { /* the smallest step */
		row = failed(test, abouts[i], NULL);
		if (row)
			row_answer(test, row, broken);
	}
	row = failed(test, ABOUT_POLICY, NULL);
	if (row)
		policy_answer(test, row, broken);
}

/* ---- other nodes ----------------------------------------------------------------------------- */

struct found_route {
	bool found;
	bool is_default;
	uint32_t ifindex;
};

static int route_read(const struct nlmsghdr *header, void *arg)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(header);
	struct found_route *found = arg;
	const struct nlattr *attr;

	found->found = route->rtm_type == RTN_UNICAST;
	found->is_default = route->rtm_dst_len == 0;
	mnl_attr_for_each (attr, header, sizeof(*route)) {
		if (mnl_attr_get_type(attr) == RTA_OIF)
			found->ifindex = mnl_attr_get_u32(attr);
	}
	return 0;
}

/* What this node's routes say about the address. */
static struct found_route route_of(const struct addr *address)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;
	struct found_route found = {};
	struct errmsg err;
	struct rtmsg *header = netlink_message_init(&message, RTM_GETROUTE, 0, sizeof(*header));

	header->rtm_family = addr_family(address);
	header->rtm_dst_len = addr_is_v4(address) ? 32 : 128;
	header->rtm_flags = RTM_F_FIB_MATCH;
	netlink_put_addr(&message.header, RTA_DST, address);
	if (netlink_open(&netlink, -1, &err) < 0 ||
	    netlink_get(&netlink, &message, route_read, &found, &err) < 0)
		found.found = false;
	return found;
}

/* The node answers, its range does not. */
static void range_answer(const cJSON *node, const struct connect_row *row, cJSON *broken)
{
	const char *routing = member_text(node, "routing", "");
	const char *name = member_text(node, "name", "");
	struct found_route route = route_of(&row->address);
	char device[IF_NAMESIZE] = "";

	if (!route.found || (route.is_default && strcmp(routing, "host") == 0)) {
		answer_add(broken,
			   "Make one to its pod CIDR by its address, or set "
			   "\"autoDirectNodeRoutes\": true (nodes on one link) or \"routingMode\": "
			   "\"tunnel\" in agent.json.",
			   "Node %s answers, its pods do not: this node has no route to them "
			   "(ip route get: %s).",
			   name, route.found ? "only the default route" : "unreachable");
		return;
	}
	if_indextoname(route.ifindex, device);
	if (strcmp(routing, "vxlan") == 0 || strcmp(routing, "geneve") == 0)
		answer_add(broken,
			   "Let UDP to the tunnel's port (\"tunnelPort\"; VXLAN 8472, Geneve 6081) "
			   "pass between the nodes, and compare the agents' settings: the protocol "
			   "and the port must be the same.",
			   "Node %s answers, its pods do not answer through the tunnel (%s).", name,
			   device);
	else if (strcmp(routing, "wireguard") == 0)
		answer_add(
			broken,
			"Let UDP to WireGuard's port pass between the nodes; on both, compare the "
			"keys: tendril node get NODE.",
			"Node %s answers, its pods do not answer through WireGuard.", name);
	else
		answer_add(broken,
			   "On that node: tendril status (is its agent installed, has tendril0 the "
			   "address?), nft list ruleset, and its route back to this node's pods.",
			   "Node %s answers, its pods do not, though there is a route to them (dev "
			   "%s).",
			   name, device);
}

static void silent_answer(const cJSON *node, const struct connect_row *row, cJSON *broken)
{
	struct found_route route = route_of(&row->address);
	char device[IF_NAMESIZE] = "", advice[400];

	if (route.found)
		if_indextoname(route.ifindex, device);
	snprintf(advice, sizeof(advice),
		 "Is it up, and its link (on it: ip -br link)? On this node: ip -br link show %s; "
		 "ip "
		 "neigh; does a firewall between them drop TCP to port 4240?",
		 device);
	answer_add(broken, advice, "Node %s does not answer at its own address: %s: %s.",
		   member_text(node, "name", ""), row->to, row->why);
}

/* The node reaches it, its pods do not. */
static void pods_only_answer(const struct connect_test *test, const struct connect_row *row,
			     cJSON *broken)
{
	if (*row->drop) {
		dropped_answer(test, row, broken);
		return;
	}
	answer_add(
		broken,
		"Does a rule drop what is forwarded (nft list ruleset; iptables -S FORWARD), on "
		"this "
		"node or on that one? Is net.ipv4.ip_forward 1? Has that node a route back to this "
		"node's pods (on it: tendril node list)?",
		"Pods of this node do not reach %s (%s), though the node itself does.", row->to,
		row->why);
}

static void size_answer(const struct connect_row *row, cJSON *broken)
{
	char advice[300];

	snprintf(advice, sizeof(advice),
		 "The network between the nodes loses large packets without a word. Raise its MTU, "
		 "or "
		 "set \"mtu\": %u in agent.json on all nodes.",
		 row->passing);
	answer_add(broken, advice, "MTU: %s: %s.", row->to, row->why);
}

static void node_answers(const struct connect_test *test, const cJSON *node, cJSON *broken)
{
	const char *name = member_text(node, "name", ""),
		   *problem = member_text(node, "problem", "");
	const struct connect_row *row;

	if (*problem)
		answer_add(broken, "Correct its Node object, or this node's routes.", "%s.",
			   problem);
	else if ((row = failed(test, ABOUT_NODE, name)))
		silent_answer(node, row, broken);
	else if ((row = failed(test, ABOUT_RANGE, name)))
		range_answer(node, row, broken);
	else if ((row = failed(test, ABOUT_POD_RANGE, name)) ||
		 (row = failed(test, ABOUT_POD_NODE, name)))
		pods_only_answer(test, row, broken);
	else if ((row = failed(test, ABOUT_SIZE, name)))
		size_answer(row, broken);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void outside_answers(const struct connect_test *test, cJSON *broken)
{
	const struct connect_row *row = failed(test, ABOUT_DNS, NULL);

	if (row)
		answer_add(
			broken,
			"tendril service get kube-system/kube-dns: has it ready backends? Are its "
			"nodes reached?",
			"Pods get no answer from the cluster's DNS: %s: %s.", row->to, row->why);
	row = failed(test, ABOUT_EXTERNAL, NULL);
	if (row)
		answer_add(
			broken,
			"Set \"masquerade\": true in agent.json, or let routers outside know the "
			"pods; is there a default route (ip route)?",
			"Pods do not reach %s: %s%s%s.", row->to, row->why, *row->drop ? ": " : "",
			row->drop);
}

void connect_answer(const struct connect_test *test, cJSON *broken)
{
	const cJSON *node;

	local_answers(test, broken);
	cJSON_ArrayForEach (node, test->nodes) {
		if (!cJSON_IsTrue(member_get(node, "local")))
			node_answers(test, node, broken);
	}
	outside_answers(test, broken);
}
