/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles a store to the contents of the policy maps.  The same store gives the same bytes.
 *
 * An identity is everything that policies can tell apart about an address: its namespace, the
 * labels whose keys some policy reads, the ports that policies name, and the CIDRs of policies that
 * contain it.  So a label that differs on every replica costs nothing unless a policy reads it.
 * Numbers are derived from a hash of that content (with linear probing where two collide), so they
 * are the same after a restart.
 * A policy_id is derived from the rules that apply to an endpoint, with named ports resolved: a
 * changed NetworkPolicy gets a new id and endpoints switch to it in one write, while a peer that is
 * added or removed adds or removes a single entry.
 */
#ifndef TENDRIL_POLICY_COMPILER_COMPILE_H
#define TENDRIL_POLICY_COMPILER_COMPILE_H

#include "datapath/abi.h"
#include "policy/objects/store.h"

struct compiled_identity {
	uint32_t id;
	char *namespace; /* NULL: not a pod (a CIDR, a node) */
	struct labels labels;
	char *description; /* "shop/app=cart", "node/zone=a", "10.0.0.0/8", "host", "world" */
};

struct compiled_address { /* sorted by addr */
	struct addr addr;
	uint32_t identity;
	uint16_t slot;                          /* of the local endpoint, or 0 */
	uint16_t flags;                         /* IPCACHE_HOST */
	const struct compiled_subject *subject; /* the owner of the address, or NULL */
};

struct compiled_cidr { /* sorted by address and length; the longest match wins, compared bit by bit
			* (a short IPv6 prefix such as ::/0 therefore comes with 0.0.0.0/0) */
	struct prefix prefix;
	uint32_t identity;
	bool unknown_pods; /* a pod CIDR: only pods that are not known yet have addresses in it */
};

struct compiled_entry { /* sorted by policy_id, peer, direction */
	struct policy_key key;
	const struct port_rule *rules; /* disjoint within a protocol, sorted by (proto,
					* port_min); a rule of protocol 0 is the last one and
					* answers where none of the others matches */
	size_t rule_count;
	bool guarded; /* the policy has rules that deny: its entry of IDENTITY_ANY may allow what
		       * the entry of a peer denies, and must not be in the map without that one */
};

struct compiled_subject { /* one for each pod that has policy enforced: every endpoint, or, in a
			   * store that is not one node's, every pod */
	uint16_t slot;    /* 0 if the store has no endpoints */
	const struct object *pod; /* may be NULL: endpoint without a Pod object */
	uint32_t identity;        /* behind its IPv4 address, struct endpoint's identity */
	uint32_t identity_v6;     /* behind its IPv6 address */
	uint32_t policy_id;       /* 0: not isolated in any direction */
	bool ingress_isolated;    /* policy decides in this direction */
	bool egress_isolated;
	bool accel;
	bool audit;                /* packets that policy denies here are reported, and pass */
	uint64_t egress_bandwidth; /* bits a second; 0: no limit */
	uint64_t ingress_bandwidth;
};

struct arena;

struct compiled {
	struct compiled_identity *identities;
	size_t identity_count;
	struct compiled_address *addresses;
	size_t address_count;
	struct compiled_cidr *cidrs;
	size_t cidr_count;
	struct compiled_entry *entries;
	size_t entry_count;
	struct compiled_subject *subjects;
	size_t subject_count;
	struct arena *arena; /* has the memory of the above */
};

/* The caller frees the result. */
struct compiled *policy_compile(const struct store *store);
void compiled_free(struct compiled *compiled);

/* The index of the first entry of a policy, if it has any. */
size_t compiled_entries_first(const struct compiled *compiled, uint32_t policy_id);
const struct compiled_identity *compiled_identity_find(const struct compiled *compiled,
						       uint32_t id);

#endif
