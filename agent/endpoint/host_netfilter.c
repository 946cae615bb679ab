/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains of the forward hook whose policy is to drop: what no rule accepts, pods do not reach
 * beyond this node.  And all chains that forwarded packets pass and that have rules: packets must
 * not bypass them.  Both of netfilter's tables are asked, nf_tables by netlink and the legacy ones
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

/* Its name for people. */
static void chain_format(const struct chain *chain, int family, char *buf, size_t size)
{
	snprintf(buf, size, "chain %.64s of nft's table %s %.64s", chain->name,
		 family == NFPROTO_INET     ? "inet"
		 : family == NFPROTO_IPV4   ? "ip"
		 : family == NFPROTO_NETDEV ? "netdev"
					    : "ip6",
		 chain->table);
}

struct chain_search {
	const struct endpoints *endpoints;
	netfilter_found *found;
	void *arg;
	struct leftovers *leftovers;
};

static int chain_each(const struct nlmsghdr *header, void *arg)
{
	const struct nfgenmsg *family = mnl_nlmsg_get_payload(header);
	const struct chain_search *search = arg;
	struct chain chain;
	char what[200];

	chain_read(header, &chain);
	if (chain.table && chain.name)
		leftovers_chain(search->leftovers, "nft", chain.table, chain.name);
	if (chain.hook != NF_INET_FORWARD || chain.policy != NF_DROP || !chain.table || !chain.name)
		return 0;
	if (family->nfgen_family != NFPROTO_INET && family->nfgen_family != NFPROTO_IPV4 &&
	    family->nfgen_family != NFPROTO_IPV6)
		return 0;
	if (family->nfgen_family != NFPROTO_INET &&
	    !ipam_has_family(search->endpoints->ipam, family->nfgen_family == NFPROTO_IPV4))
		return 0;
	chain_format(&chain, family->nfgen_family, what, sizeof(what));
	search->found(what, chain.rules > 0, search->arg);
	return 0;
}

/* Calls each() for every chain of nf_tables. */
static void nft_chains(netlink_each each, void *arg)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	struct netlink_message message;

	if (netlink_open_protocol(&netlink, -1, NETLINK_NETFILTER, NULL) < 0)
		return;
	netlink_message_init(&message, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, 0,
			     sizeof(struct nfgenmsg));
	/* An error: this kernel has no nf_tables, so nobody uses them. */
	netlink_dump(&netlink, &message, each, NULL, arg, NULL);
}

/* The first chain with rules that forwarded packets pass. */
struct forward_search {
	char *text; /* its name; "": none yet */
	size_t size;
};

/* NF_NETDEV_INGRESS, before all others, has the number of NF_INET_PRE_ROUTING. */
static bool is_on_the_way(int family, uint32_t hook)
{
	if (family == NFPROTO_NETDEV)
		return hook == NF_NETDEV_INGRESS;
	if (family != NFPROTO_INET && family != NFPROTO_IPV4 && family != NFPROTO_IPV6)
		return false;
	return hook == NF_INET_PRE_ROUTING || hook == NF_INET_FORWARD ||
	       hook == NF_INET_POST_ROUTING || hook == NF_INET_INGRESS;
}

static int forward_each(const struct nlmsghdr *header, void *arg)
{
	const struct nfgenmsg *family = mnl_nlmsg_get_payload(header);
	const struct forward_search *search = arg;
	struct chain chain;

	chain_read(header, &chain);
	if (!*search->text && chain.table && chain.name &&
	    is_on_the_way(family->nfgen_family, chain.hook) &&
	    (chain.rules || chain.policy == NF_DROP))
		chain_format(&chain, family->nfgen_family, search->text, search->size);
	return 0;
}

/* ---- iptables-legacy ------------------------------------------------------------------------- */

/* Asking for a table that nobody uses would make one. */
static bool legacy_is_used(bool v4, const char *table)
{
	auto_free char *text = NULL;
	size_t len = 0;
	char *rest, *line;

	if (file_read(v4 ? "/proc/thread-self/net/ip_tables_names"
			 : "/proc/thread-self/net/ip6_tables_names",
		      TABLE_NAMES_MAX, &text, &len, NULL) < 0)
		return false;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		if (strcmp(line, table) == 0)
			return true;
	}
	return false;
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

/* Its hooks and size, and a socket to read it by; -1: there is no such table. */
static int legacy_open(bool v4, const char *name, struct ipt_getinfo *ret_info)
{
	socklen_t len = sizeof(*ret_info);
	auto_close int fd = -1;

	if (!legacy_is_used(v4, name))
		return -1;
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	*ret_info = (struct ipt_getinfo){ 0 };
	snprintf(ret_info->name, sizeof(ret_info->name), "%s", name);
	if (fd < 0 || getsockopt(fd, v4 ? SOL_IP : SOL_IPV6,
				 v4 ? IPT_SO_GET_INFO : IP6T_SO_GET_INFO, ret_info, &len) < 0)
		return -1;
	return take_fd(&fd);
}

/* The whole table; NULL if there is none.  The caller frees it. */
static struct ipt_get_entries *legacy_read(bool v4, const char *name, struct ipt_getinfo *ret_info)
{
	const int level = v4 ? SOL_IP : SOL_IPV6;
	auto_close int fd = legacy_open(v4, name, ret_info);
	auto_free struct ipt_get_entries *table = NULL;
	socklen_t len;

	if (fd < 0 || ret_info->size > LEGACY_SIZE_MAX)
		return NULL;
	table = calloc(1, sizeof(*table) + ret_info->size);
	if (!table)
		return NULL;
	snprintf(table->name, sizeof(table->name), "%s", name);
	table->size = ret_info->size;
	len = (socklen_t)(sizeof(*table) + ret_info->size);
	if (getsockopt(fd, level, v4 ? IPT_SO_GET_ENTRIES : IP6T_SO_GET_ENTRIES, table, &len) < 0)
		return NULL;
	return take_ptr(table);
}

/* The name of the chain that begins with this entry; NULL: none does. */
static const char *legacy_chain_at(const char *entry, size_t left, bool v4, size_t *ret_size)
{
	const size_t fixed = v4 ? sizeof(struct ipt_entry) : sizeof(struct ip6t_entry);
	const struct xt_error_target *target;
	uint32_t offset;

	*ret_size = 0;
	if (left < fixed)
		return NULL;
	offset = v4 ? ((const struct ipt_entry *)entry)->target_offset
		    : ((const struct ip6t_entry *)entry)->target_offset;
	*ret_size = v4 ? ((const struct ipt_entry *)entry)->next_offset
		       : ((const struct ip6t_entry *)entry)->next_offset;
	if (*ret_size > left || *ret_size < fixed || offset + sizeof(*target) > *ret_size)
		return NULL;
	target = (const void *)(entry + offset);
	if (strncmp(target->target.u.user.name, XT_ERROR_TARGET, XT_EXTENSION_MAXNAMELEN) != 0 ||
	    !memchr(target->errorname, '\0', sizeof(target->errorname)))
		return NULL;
	return target->errorname;
}

static void legacy_chains(const struct chain_search *search, const struct ipt_get_entries *table,
			  bool v4)
{
	const char *bytes = (const char *)table->entrytable;
	size_t size;

	for (size_t at = 0; at < table->size; at += size) {
		const char *chain = legacy_chain_at(bytes + at, table->size - at, v4, &size);

		if (chain)
			leftovers_chain(search->leftovers,
					v4 ? "iptables-legacy" : "ip6tables-legacy", table->name,
					chain);
		if (size == 0 || size > table->size - at)
			break;
	}
}

static void legacy_check(const struct chain_search *search, bool v4)
{
	const uint32_t hook = NF_INET_FORWARD;
	struct ipt_getinfo info;
	auto_free struct ipt_get_entries *nat = legacy_read(v4, "nat", &info);
	auto_free struct ipt_get_entries *filter = legacy_read(v4, "filter", &info);

	if (nat)
		legacy_chains(search, nat, v4);
	if (!filter)
		return;
	legacy_chains(search, filter, v4);
	if (info.valid_hooks & 1U << hook && ipam_has_family(search->endpoints->ipam, v4) &&
	    legacy_policy(filter, info.underflow[hook], v4) == NF_DROP)
		search->found(v4 ? "chain FORWARD of iptables-legacy"
				 : "chain FORWARD of ip6tables-legacy",
			      info.hook_entry[hook] != info.underflow[hook], search->arg);
}

/* The first chain with rules, or whose policy is to drop, that forwarded packets pass. */
static void legacy_forward(bool v4, const struct forward_search *search)
{
	static const struct {
		uint32_t hook;
		const char *name;
	} hooks[] = { { NF_INET_PRE_ROUTING, "PREROUTING" },
		      { NF_INET_FORWARD, "FORWARD" },
		      { NF_INET_POST_ROUTING, "POSTROUTING" } };
	static const char *const tables[] = { "raw", "mangle", "nat", "filter", "security" };

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		struct ipt_getinfo info;
		auto_close int fd = legacy_open(v4, tables[i], &info);

		for (size_t k = 0; fd >= 0 && k < ARRAY_SIZE(hooks); k++) {
			const uint32_t hook = hooks[k].hook;
			auto_free struct ipt_get_entries *table = NULL;

			if (!(info.valid_hooks & 1U << hook))
				continue;
			if (info.hook_entry[hook] == info.underflow[hook]) {
				table = legacy_read(v4, tables[i], &info);
				if (table &&
				    legacy_policy(table, info.underflow[hook], v4) != NF_DROP)
					continue;
			}
			snprintf(search->text, search->size, "chain %s of %s's table %s",
				 hooks[k].name, v4 ? "iptables-legacy" : "ip6tables-legacy",
				 tables[i]);
			return;
		}
	}
}

bool netfilter_forwards(char *ret_chain, size_t size)
{
	struct forward_search search = { ret_chain, size };

	*ret_chain = '\0';
	nft_chains(forward_each, &search);
	if (!*ret_chain)
		legacy_forward(true, &search);
	if (!*ret_chain)
		legacy_forward(false, &search);
	return *ret_chain;
}

void netfilter_check(const struct endpoints *endpoints, netfilter_found *found, void *arg,
		     struct leftovers *leftovers)
{
	struct chain_search search = { endpoints, found, arg, leftovers };

	nft_chains(chain_each, &search);
	legacy_check(&search, true);
	legacy_check(&search, false);
}
