/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kube-proxy and other pod networks leave on a node: it goes on working beside Tendril, on the
 * same packets.  It is named and not removed; doc/kubernetes.md has the commands.  Beside pods that
 * another plugin wired (policy-only mode) all of it is in its place.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <stdio.h>
#include <string.h>

/* kubelets make some chains KUBE-* themselves; KUBE-SERVICES is kube-proxy's, in all its modes that
 * use iptables. */
static const struct {
	const char *prefix;
	const char *owner;
	const char *cure;
} chains[] = {
	{ "KUBE-SERVICES", "kube-proxy",
	  "it translates addresses of services, too; end kube-proxy on this node and run "
	  "\"kube-proxy --cleanup\"" },
	{ "KUBE-ROUTER-", "kube-router", "run \"kube-router --cleanup-config\"" },
	{ "cali-", "Calico", "restart the node once Calico is gone" },
	{ "CILIUM_", "Cilium", "run \"cilium-dbg post-uninstall-cleanup\" or restart the node" },
	{ "FLANNEL-", "flannel", "restart the node once flannel is gone" },
};

static const struct {
	const char *name;
	const char *owner;
} links[] = {
	{ "kube-ipvs0", "kube-proxy in IPVS mode" },
	{ "cni0", "the bridge plugin, which flannel and k3s use" },
	{ "flannel.1", "flannel" },
	{ "flannel-v6.1", "flannel" },
	{ "flannel-wg", "flannel" },
	{ "cilium_host", "Cilium" },
	{ "cilium_vxlan", "Cilium" },
	{ "vxlan.calico", "Calico" },
	{ "kube-bridge", "kube-router" },
	{ "weave", "Weave Net" },
	{ "antrea-gw0", "Antrea" },
};

static bool has_chained(const struct endpoints *endpoints)
{
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		if (endpoints->slots[slot] && endpoints->slots[slot]->chained)
			return true;
	}
	return false;
}

void leftovers_chain(struct leftovers *leftovers, const char *tool, const char *table,
		     const char *chain)
{
	char text[400];

	if (leftovers->expected)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
		if (leftovers->chains_seen & 1U << i ||
		    strncmp(chain, chains[i].prefix, strlen(chains[i].prefix)) != 0)
			continue;
		leftovers->chains_seen |= 1U << i;
		snprintf(text, sizeof(text),
			 "chain %.64s of %s's table %.64s is of %s: %s (doc/kubernetes.md)", chain,
			 tool, table, chains[i].owner, chains[i].cure);
		leftovers->found(text, PROBLEM_POSSIBLE, leftovers->arg);
	}
	if (strcmp(table, "kube-proxy") == 0 && !leftovers->table_seen) {
		leftovers->table_seen = true;
		snprintf(text, sizeof(text),
			 "%s's table kube-proxy is of kube-proxy: %s (doc/kubernetes.md)", tool,
			 chains[0].cure);
		leftovers->found(text, PROBLEM_POSSIBLE, leftovers->arg);
	}
}

static int link_each(const struct nlmsghdr *header, void *arg)
{
	const struct leftovers *leftovers = arg;
	struct host_link link = {};
	char text[400];

	host_link_parse(header, &link);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (strcmp(link.name, links[i].name) != 0)
			continue;
		snprintf(
			text, sizeof(text),
			"interface %s is of %s: once nothing uses it any more, restart the node or "
			"run \"ip link delete %s\" (doc/kubernetes.md)",
			links[i].name, links[i].owner, links[i].name);
		leftovers->found(text, PROBLEM_POSSIBLE, leftovers->arg);
	}
	return 0;
}

void leftovers_begin(struct endpoints *endpoints, endpoints_problem *found, void *arg,
		     struct leftovers *ret)
{
	struct netlink_message message;

	*ret = (struct leftovers){ .found = found, .arg = arg };
	ret->expected = has_chained(endpoints);
	if (ret->expected)
		return;
	netlink_message_init(&message, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	netlink_dump(&endpoints->netlink, &message, link_each, NULL, ret, NULL);
}
