/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "lib/auto.h"
#include "lib/text.h"

#define VIEWS   "text|wide|name|json|yaml"
#define REPORTS "text|json|yaml"

static const struct command commands[] = {
	{ "status", "", OPERAND_NONE, 0, 0, OPT_WAIT, 0, cmd_status,
	  "whether the agent is well, what it holds and what it drops", REPORTS,
	  "0 all is well, 1 something is refused or not enforced, or there is no agent, 2 wrong "
	  "usage",
	  false },
	{ "connectivity test", "", OPERAND_NONE, 0, 0, OPT_EXTERNAL, 0, cmd_connectivity_test,
	  "wire two pods here, try whom they reach, and say what is broken; needs root", REPORTS,
	  "0 nothing failed, 1 something did, or the test could not run, 2 wrong usage", false },
	{ "get", "KIND [NAME]", OPERAND_KIND, 1, 2, OPT_NAMESPACES | OPT_WATCH, 0, cmd_get,
	  "stored objects: pods, services, policies, nodes, namespaces", VIEWS, NULL, false },
	{ "endpoint list", "", OPERAND_NONE, 0, 0, OPT_NAMESPACES | OPT_WATCH, 0, cmd_endpoint_list,
	  "pods that are wired on this node", VIEWS, NULL, false },
	{ "endpoint get", "POD", OPERAND_POD, 1, 1, OPT_NAMESPACE, 0, cmd_endpoint_get,
	  "one of them in full", REPORTS, NULL, false },
	{ "node list", "", OPERAND_NONE, 0, 0, OPT_WATCH | OPT_PROBE, 0, cmd_node_list,
	  "nodes, their ranges of pods, how these are reached, and whether they answer", VIEWS,
	  NULL, false },
	{ "node get", "NODE", OPERAND_NODE, 1, 1, OPT_PROBE, 0, cmd_node_get, "one of them in full",
	  REPORTS, NULL, false },
	{ "node rotate-key", "", OPERAND_NONE, 0, 0, 0, 0, cmd_node_rotate_key,
	  "make a new WireGuard key for this node, and print the public one", REPORTS, NULL,
	  false },
	{ "service list", "", OPERAND_NONE, 0, 0, OPT_NAMESPACES | OPT_WATCH, 0, cmd_service_list,
	  "services and how many backends they have", VIEWS, NULL, false },
	{ "service get", "SERVICE", OPERAND_SERVICE, 1, 1, OPT_NAMESPACE, 0, cmd_service_get,
	  "one service with its backends", REPORTS, NULL, false },
	{ "service explain", "", OPERAND_NONE, 0, 0, OPT_FROM | OPT_TO | OPT_NAMESPACE,
	  OPT_FROM | OPT_TO, cmd_service_explain,
	  "which service ADDRESS:PORT is, and which backends a client may get", REPORTS, NULL,
	  false },
	{ "identity list", "", OPERAND_NONE, 0, 0, OPT_WATCH, 0, cmd_identity_list,
	  "sets of labels and CIDRs that policies distinguish", "text|wide|json|yaml", NULL,
	  false },
	{ "policy validate", "[FILE...]", OPERAND_FILE, 0, CLI_FILES_MAX, OPT_OBJECTS | OPT_LENIENT,
	  0, cmd_policy_validate, "check files and report all problems; needs no agent", REPORTS,
	  "0 the files are valid, 1 they are not, 2 wrong usage", false },
	{ "policy apply", "[FILE...]", OPERAND_FILE, 0, CLI_FILES_MAX,
	  OPT_OBJECTS | OPT_DRY_RUN | OPT_CANARY | OPT_THEN_APPLY, 0, cmd_policy_apply,
	  "put the objects of files into the agent, or try them first", REPORTS, NULL, false },
	{ "policy delete", "[POLICY|FILE]", OPERAND_POLICY, 0, 1, OPT_OBJECTS | OPT_NAMESPACE, 0,
	  cmd_policy_delete, "remove a policy, or all objects of files", REPORTS, NULL, false },
	{ "policy list", "", OPERAND_NONE, 0, 0, OPT_NAMESPACES | OPT_WATCH, 0, cmd_policy_list,
	  "policies in force", VIEWS, NULL, false },
	{ "policy get", "POLICY", OPERAND_POLICY, 1, 1, OPT_NAMESPACE, 0, cmd_policy_get,
	  "one policy as it was given", REPORTS, NULL, false },
	{ "policy explain", "[FROM TO]", OPERAND_PEER, 0, 2,
	  OPT_FROM | OPT_TO | OPT_PORT | OPT_OBJECTS | OPT_NAMESPACE | OPT_CLUSTER, OPT_PORT,
	  cmd_policy_explain, "which rule decides about a connection; with -f offline", REPORTS,
	  "0 whatever the verdict, 1 there is no answer, 2 wrong usage", false },
	{ "policy matrix", "[FILE...]", OPERAND_FILE, 0, CLI_FILES_MAX,
	  OPT_OBJECTS | OPT_PORT | OPT_BY | OPT_HTML | OPT_SVG | OPT_CLUSTER, 0, cmd_policy_matrix,
	  "who reaches whom on which ports; of files, else of the agent", REPORTS, NULL, false },
	{ "policy test", "FILE...", OPERAND_FILE, 1, CLI_FILES_MAX, OPT_OBJECTS | OPT_JUNIT, 0,
	  cmd_policy_test, "compare verdicts with those that files expect; with -f offline",
	  "text|json|yaml|tap|junit",
	  "0 all verdicts are as expected, 1 some are not, 2 they could not be determined", true },
	{ "policy lint", "[FILE...]", OPERAND_FILE, 0, CLI_FILES_MAX, OPT_OBJECTS | OPT_CLUSTER, 0,
	  cmd_policy_lint, "find what is probably a mistake; in files, else in the agent", REPORTS,
	  "0 there are no findings, 1 there are some, 2 the objects could not be read", true },
	{ "policy diff", "[OLD] NEW", OPERAND_FILE, 1, 2, OPT_OBJECTS | OPT_CLUSTER, 0,
	  cmd_policy_diff, "which connections a change newly allows and denies; needs no agent",
	  REPORTS, "0 no connection changes, 1 some do, 2 they could not be compared", true },
	{ "policy record", "[POD...]", OPERAND_POD, 0, CLI_FILES_MAX,
	  OPT_FOR | OPT_NAMESPACE | OPT_CLUSTER, 0, cmd_policy_record,
	  "watch flows, and write the smallest policies that allow them", REPORTS, NULL, false },
	{ "policy unused", "", OPERAND_NONE, 0, 0, OPT_SINCE | OPT_NAMESPACES, 0, cmd_policy_unused,
	  "rules that decided about none of the flows that the agent keeps", REPORTS, NULL, false },
	{ "monitor", "", OPERAND_NONE, 0, 0,
	  OPT_TYPE | OPT_FROM | OPT_TO | OPT_PORT | OPT_POD | OPT_NAMESPACES | OPT_VERDICT |
		  OPT_PCAP | OPT_SNAPLEN,
	  0, cmd_monitor, "drops and verdicts as they happen", "text|json", NULL, false },
	{ "flows", "", OPERAND_NONE, 0, 0, OPT_FLOWS, 0, cmd_flows,
	  "the last flows of this node's pods, with the rules that decide",
	  "text|table|dict|json|jsonpb|pcapng", NULL, false },
	{ "tcp life", "", OPERAND_NONE, 0, 0, OPT_FLOWS, 0, cmd_tcp_life,
	  "TCP connections that have closed: bytes, duration, round trip", "text|json", NULL,
	  false },
	{ "tcp connect", "", OPERAND_NONE, 0, 0, OPT_FLOWS, 0, cmd_tcp_connect,
	  "TCP connections that pods opened, and how long the handshake took", "text|json", NULL,
	  false },
	{ "tcp retrans", "", OPERAND_NONE, 0, 0, OPT_FLOWS, 0, cmd_tcp_retrans,
	  "those in which segments were sent again", "text|json", NULL, false },
	{ "tcp rtt", "", OPERAND_NONE, 0, 0, OPT_FLOWS & ~OPT_FOLLOW, 0, cmd_tcp_rtt,
	  "their round trips as a histogram", REPORTS, NULL, false },
	{ "tcp drop", "", OPERAND_NONE, 0, 0,
	  OPT_FROM | OPT_TO | OPT_PORT | OPT_POD | OPT_NAMESPACES, 0, cmd_tcp_drop,
	  "TCP packets of pods as they are dropped, also by the kernel itself", "text|json", NULL,
	  false },
	{ "tcp state", "", OPERAND_NONE, 0, 0, OPT_POD | OPT_NAMESPACES | OPT_PORT | OPT_STATE, 0,
	  cmd_tcp_state, "TCP sockets that pods have now: their peers, queues and round trips",
	  "text|wide|json|yaml", NULL, false },
	{ "tcp top", "", OPERAND_NONE, 0, 0,
	  OPT_POD | OPT_NAMESPACES | OPT_PORT | OPT_BY | OPT_SORT | OPT_LIMIT | OPT_INTERVAL |
		  OPT_FOR,
	  0, cmd_tcp_top, "who sends and receives how much by TCP, again and again", "text|json",
	  NULL, false },
	{ "top", "", OPERAND_NONE, 0, 0,
	  (OPT_FLOWS & ~OPT_FOLLOW) | OPT_BY | OPT_LIMIT | OPT_SORT | OPT_WATCH | OPT_INTERVAL |
		  OPT_FOR,
	  0, cmd_top, "flows summed up: bytes, connections, retransmits and drops of each pod",
	  REPORTS, NULL, false },
	{ "observe", "", OPERAND_NONE, 0, 0, (OPT_FLOWS & ~OPT_FOLLOW) | OPT_HTML, OPT_HTML,
	  cmd_observe, "flows as a page for a browser: who talked to whom, drops, slow services",
	  "text", NULL, false },
	{ "drops", "", OPERAND_NONE, 0, 0, (OPT_FLOWS & ~OPT_FOLLOW) | OPT_LIMIT, 0, cmd_drops,
	  "drops summed up: why, who, how many, first and last", REPORTS, NULL, false },
	{ "conntrack list", "", OPERAND_NONE, 0, 0, OPT_LIMIT, 0, cmd_conntrack_list,
	  "connections whose state the agent keeps", "text|wide|json|yaml", NULL, false },
	{ "help", "[COMMAND]", OPERAND_COMMAND, 0, 2, 0, 0, cmd_help,
	  "this text, or that of a command", "text", NULL, false },
	{ "version", "", OPERAND_NONE, 0, 0, 0, 0, cmd_version, "print the version", "text", NULL,
	  false },
};

const struct command *command_at(size_t row)
{
	return row < ARRAY_SIZE(commands) ? &commands[row] : NULL;
}

const struct command *command_find(char **words, size_t count, size_t *ret_words)
{
	char two_words[64];

	for (size_t i = 0; count > 0 && i < ARRAY_SIZE(commands); i++) {
		snprintf(two_words, sizeof(two_words), "%s %s", words[0],
			 count > 1 ? words[1] : "");
		*ret_words = strchr(commands[i].name, ' ') ? 2 : 1;
		if (strcmp(commands[i].name, *ret_words == 1 ? words[0] : two_words) == 0)
			return &commands[i];
	}
	return NULL;
}

bool command_is_group(const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strncmp(commands[i].name, word, len) == 0 && commands[i].name[len] == ' ')
			return true;
	}
	return false;
}

bool command_guess(const char *group, const char *name, char *buf, size_t size)
{
	size_t skip = group ? strlen(group) + 1 : 0, best = 3;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const char *known = commands[i].name;
		size_t len, distance;
		char word[32];

		if (group && (strncmp(known, group, skip - 1) != 0 || known[skip - 1] != ' '))
			continue;
		len = strcspn(known + skip, " ");
		snprintf(word, sizeof(word), "%.*s", (int)len, known + skip);
		distance = text_distance(name, word);
		if (distance < best && distance < len) {
			best = distance;
			snprintf(buf, size, "%.*s", (int)(skip + len), known);
		}
	}
	return best < 3;
}
