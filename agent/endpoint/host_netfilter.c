/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains of the forward hook whose policy is to drop: what no rule accepts, pods do not reach
 * beyond this node.  Both of netfilter's tables are asked, nf_tables by netlink and the legacy ones
 * by a socket option.  What their rules accept is not judged: a chain without rules drops
 * everything, and of one with rules nobody here can tell.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/file.h"

#define LEGACY_TABLE    "filter"
#define LEGACY_SIZE_MAX (16U << 20) /* bytes of rules; a larger table is not looked at */
#define TABLE_NAMES_MAX 4096

/* ---- nf_tables ------------------------------------------------------------------------------- */

struct chain {
	const char *table;
	const char *name;
	uint32_t hook;
	uint32_t policy;
	uint32_t rules;
};

static int hook_each(const struct nlattr *attr, void *arg)
{
	struct chain *chain = arg;

	if (mnl_attr_get_type(attr) == NFTA_HOOK_HOOKNUM && mnl_attr_get_payload_len(attr) == 4)
		chain->hook = ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

static void chain_read(const struct nlmsghdr *header, struct chain *ret)
{
	const struct nlattr *attr;

	*ret = (struct chain){ .hook = UINT32_MAX, .policy = NF_ACCEPT };
	mnl_attr_for_each (attr, header, sizeof(struct nfgenmsg)) {
		switch (mnl_attr_get_type(attr)) {
		case NFTA_CHAIN_TABLE:
			ret->table = mnl_attr_get_str(attr);
			break;
		case NFTA_CHAIN_NAME:
			ret->name = mnl_attr_get_str(attr);
			break;
		case NFTA_CHAIN_HOOK:
			mnl_attr_parse_nested(attr, hook_each, ret);
			break;
		case NFTA_CHAIN_POLICY:
			ret->policy = ntohl(mnl_attr_get_u32(attr));
			break;
		case NFTA_CHAIN_USE:
			ret->rules = ntohl(mnl_attr_get_u32(attr));
			break;
		default:
			break;
		}
	}
}

struct chain_search {
	const struct endpoints *endpoints;
	netfilter_found *found;
	void *arg;
};

static int chain_each(const struct nlmsghdr *header, void *arg)
{
	const struct nfgenmsg *family = mnl_nlmsg_get_payload(header);
	const struct chain_search *search = arg;
	struct chain chain;
	char what[200];

	chain_read(header, &chain);
	if (chain.hook != NF_INET_FORWARD || chain.policy != NF_DROP || !chain.table || !chain.name)
		return 0;
	if (family->nfgen_family != NFPROTO_INET && family->nfgen_family != NFPROTO_IPV4 &&
	    family->nfgen_family != NFPROTO_IPV6)
		return 0;
	if (family->nfgen_family != NFPROTO_INET &&
	    !ipam_has_family(search->endpoints->ipam, family->nfgen_family == NFPROTO_IPV4))
		return 0;
	snprintf(what, sizeof(what), "chain %.64s of nft's table %s %.64s", chain.name,
		 family->nfgen_family == NFPROTO_INET   ? "inet"
		 : family->nfgen_family == NFPROTO_IPV4 ? "ip"
							: "ip6",
		 chain.table);
	search->found(what, chain.rules > 0, search->arg);
	return 0;
}

static void nft_check(struct chain_search *search)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;

	if (netlink_open_protocol(&netlink, -1, NETLINK_NETFILTER, NULL) < 0)
		return;
	netlink_message_init(&message, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, 0,
			     sizeof(struct nfgenmsg));
	/* An error: this kernel has no nf_tables, so nobody uses them. */
	netlink_dump(&netlink, &message, chain_each, NULL, search, NULL);
}

/* ---- iptables-legacy ------------------------------------------------------------------------- */

/* Asking for a table that nobody uses would make one. */
static bool legacy_is_used(const char *names)
{
	auto_free char *text = NULL;
	size_t len = 0;

	return file_read(names, TABLE_NAMES_MAX, &text, &len, NULL) == 0 &&
	       strstr(text, LEGACY_TABLE);
}

/* The two families have the same structures but for an entry's fixed part. */
_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "one layout");
_Static_assert(sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries), "one layout");

/* The verdict at the end of the chain: its policy.  NF_ACCEPT if it cannot be told. */
static int legacy_policy(const struct ipt_get_entries *table, uint32_t at, bool v4)
{
	const size_t fixed = v4 ? sizeof(struct ipt_entry) : sizeof(struct ip6t_entry);
	const char *bytes = (const char *)table->entrytable;
	const struct xt_standard_target *target;
	uint32_t offset;

	if (at > table->size || table->size - at < fixed)
		return NF_ACCEPT;
	offset = v4 ? ((const struct ipt_entry *)(bytes + at))->target_offset
		    : ((const struct ip6t_entry *)(bytes + at))->target_offset;
	if (table->size - at < offset + sizeof(*target))
		return NF_ACCEPT;
	target = (const void *)(bytes + at + offset);
	return -target->verdict - 1;
}

/* Whether the table's FORWARD chain ends in a drop. */
static bool legacy_drops(int fd, int level, bool v4, bool *ret_has_rules)
{
	struct ipt_getinfo info = { .name = LEGACY_TABLE };
	auto_free struct ipt_get_entries *table = NULL;
	socklen_t len = sizeof(info);

	if (getsockopt(fd, level, v4 ? IPT_SO_GET_INFO : IP6T_SO_GET_INFO, &info, &len) < 0 ||
	    !(info.valid_hooks & 1U << NF_INET_FORWARD) || info.size > LEGACY_SIZE_MAX)
		return false;
	table = calloc(1, sizeof(*table) + info.size);
	if (!table)
		return false;
	snprintf(table->name, sizeof(table->name), LEGACY_TABLE);
	table->size = info.size;
	len = (socklen_t)(sizeof(*table) + info.size);
	if (getsockopt(fd, level, v4 ? IPT_SO_GET_ENTRIES : IP6T_SO_GET_ENTRIES, table, &len) < 0)
		return false;
	*ret_has_rules = info.hook_entry[NF_INET_FORWARD] != info.underflow[NF_INET_FORWARD];
	return legacy_policy(table, info.underflow[NF_INET_FORWARD], v4) == NF_DROP;
}

static void legacy_check(const struct chain_search *search, bool v4)
{
	auto_close int fd = -1;
	bool has_rules = false;

	if (!ipam_has_family(search->endpoints->ipam, v4) ||
	    !legacy_is_used(v4 ? "/proc/thread-self/net/ip_tables_names"
			       : "/proc/thread-self/net/ip6_tables_names"))
		return;
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && legacy_drops(fd, v4 ? SOL_IP : SOL_IPV6, v4, &has_rules))
		search->found(v4 ? "chain FORWARD of iptables-legacy"
				 : "chain FORWARD of ip6tables-legacy",
			      has_rules, search->arg);
}

void netfilter_check(const struct endpoints *endpoints, netfilter_found *found, void *arg)
{
	struct chain_search search = { endpoints, found, arg };

	nft_check(&search);
	legacy_check(&search, true);
	legacy_check(&search, false);
}
