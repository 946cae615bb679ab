/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kubernetes objects with the fields that Tendril uses, checked and typed.  It makes no difference
 * whether an object comes from a file or from an API server.
 *
 * Parsed objects are immutable; one object owns everything it points to.
 */
#ifndef TENDRIL_POLICY_OBJECTS_OBJECT_H
#define TENDRIL_POLICY_OBJECTS_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/inet.h"
#include "lib/wireguard_key.h"

enum object_kind {
	OBJECT_NAMESPACE,
	OBJECT_NODE,
	OBJECT_POD,
	OBJECT_SERVICE,
	OBJECT_ENDPOINT_SLICE,
	OBJECT_NETWORK_POLICY,
	OBJECT_CLUSTER_POLICY, /* ClusterNetworkPolicy */
	OBJECT_KIND_COUNT,
};

struct label {
	char *key;
	char *value;
};

struct labels { /* sorted by key, keys unique */
	struct label *items;
	size_t count;
};

enum selector_operator { SELECTOR_IN, SELECTOR_NOT_IN, SELECTOR_EXISTS, SELECTOR_NOT_EXISTS };

struct selector_term {
	char *key;
	enum selector_operator op;
	char **values;
	size_t value_count;
};

struct selector { /* all terms must hold; no terms: everything.  matchLabels become In terms */
	struct selector_term *terms;
	size_t count;
};

struct named_port {
	char *name;
	uint16_t port;
	uint8_t proto;
};

struct namespace_object {
	struct labels labels; /* kubernetes.io/metadata.name is always there */
};

#define NODE_POD_CIDRS_MAX  8
#define NODE_KEY_ANNOTATION "tendril.io/wireguard-key"

struct node_object {
	struct labels labels;
	struct addr *addresses; /* status.addresses of type InternalIP and ExternalIP */
	size_t address_count;
	struct addr internal_v4; /* the first InternalIP of the family; zero if there is none */
	struct addr internal_v6;
	bool leaving; /* about to be deleted: by its deletionTimestamp, or the autoscaler's taint */
	/* Annotation NODE_KEY_ANNOTATION, by which others encrypt for it; all zero: none. */
	struct wireguard_key wireguard_key;
	struct prefix *pod_cidrs; /* spec.podCIDRs, or spec.podCIDR; at most NODE_POD_CIDRS_MAX */
	size_t pod_cidr_count;
};

#define HOST_PORTS_MAX 256 /* of a pod */

/* A port of the node that leads to a port of a pod. */
struct host_port {
	struct addr host_ip; /* all zero: every address of the node */
	uint16_t host_port;
	uint16_t port;
	uint8_t proto;
};

struct pod_object {
	struct labels labels;
	struct addr addresses[4]; /* status.podIPs, or status.podIP */
	size_t address_count;
	struct named_port *ports; /* of all containers, init containers that restart included */
	size_t port_count;
	struct host_port *host_ports; /* of the same containers; none where host_network */
	size_t host_port_count;
	char *node_name;
	bool host_network;
	bool terminated; /* Succeeded or Failed: it no longer owns its address */
	bool ready;      /* condition Ready; without that condition: it is not Pending */
	bool deleting;   /* metadata.deletionTimestamp is set */
	int64_t created; /* metadata.creationTimestamp, in seconds since 1970; 0 if not known */
	bool accel;      /* annotation tendril.io/accelerate: "true" */
	bool audit;      /* annotation tendril.io/policy-audit: "true" */
	/* Annotations kubernetes.io/egress-bandwidth and ingress-bandwidth, in bits a second.  0:
	 * no limit. */
	uint64_t egress_bandwidth;
	uint64_t ingress_bandwidth;
};

struct service_port {
	char *name; /* "" if unnamed */
	uint16_t port;
	uint16_t node_port; /* 0: none */
	uint8_t proto;
	char *target_name; /* targetPort by name, or NULL */
	uint16_t target_port;
};

/* Fields of a Service that are accepted without full effect: bit, name in spec, what that means. */
#define SERVICE_GAPS(X)                   \
	X(0, EXTERNAL_IPS, "externalIPs", \
	  "served only where the agent's setting externalIPs is true")
#define X(num, name, field, text) SERVICE_GAP_##name = 1 << (num),
enum service_gap { SERVICE_GAPS(X) };
#undef X

enum service_type { TYPE_CLUSTER_IP, TYPE_NODE_PORT, TYPE_LOAD_BALANCER, TYPE_EXTERNAL_NAME };

enum lb_algorithm { LB_DEFAULT, LB_RANDOM, LB_MAGLEV };

struct service_object {
	enum service_type type;
	enum lb_algorithm algorithm; /* by annotation */
	struct addr cluster_ips[2];
	size_t cluster_ip_count;   /* 0: headless, ExternalName, or none assigned */
	struct addr *balancer_ips; /* status.loadBalancer, ipMode VIP */
	size_t balancer_ip_count;
	struct addr *external_ips;
	size_t external_ip_count;
	struct prefix *source_ranges; /* loadBalancerSourceRanges */
	size_t source_range_count;
	struct service_port *ports;
	size_t port_count;
	uint32_t affinity_s;        /* sessionAffinity ClientIP: its timeout in seconds; 0: None */
	uint16_t health_check_port; /* healthCheckNodePort; 0: none */
	bool internal_local;        /* internalTrafficPolicy: Local */
	bool external_local;
	bool publish_not_ready;
	struct labels selector; /* of its pods, used if there is no EndpointSlice; or empty */
	bool foreign;      /* labelled service.kubernetes.io/service-proxy-name or .../headless */
	unsigned int gaps; /* enum service_gap: fields without full effect */
};

struct endpoint_hints { /* the zones and nodes that should use an endpoint */
	char **zones;
	size_t zone_count;
	char **nodes;
	size_t node_count;
};

struct slice_endpoint { /* one with several addresses becomes several */
	struct addr addr;
	bool ready; /* conditions absent: ready */
	bool serving;
	bool terminating;
	char *pod_namespace; /* targetRef of kind Pod, or NULL */
	char *pod_name;
	char *node_name;              /* or NULL */
	char *zone;                   /* or NULL */
	struct endpoint_hints *hints; /* or NULL */
};

struct slice_port {
	char *name;
	uint16_t port; /* 0: all ports, which no Service uses */
	uint8_t proto;
};

struct endpoint_slice_object {
	char *service_name; /* label kubernetes.io/service-name */
	bool v6;            /* addressType */
	bool fqdn;          /* ignored */
	bool foreign;       /* labelled as a foreign Service: ignored */
	struct slice_endpoint *endpoints;
	size_t endpoint_count;
	struct slice_port *ports;
	size_t port_count;
};

struct policy_port {
	uint8_t proto; /* 0, with a name alone: TCP, UDP and SCTP */
	char *name;    /* named port, or NULL */
	uint16_t port_min;
	uint16_t port_max; /* min == max == 0 and no name: every port of proto */
	bool ranged;       /* endPort is written */
};

struct policy_peer {
	/* Either an ipBlock ... */
	bool is_block;
	struct prefix cidr;
	bool host_bits; /* the CIDR or an except is written with bits beyond its length */
	struct prefix *except;
	size_t except_count;
	/* ... or selectors; NULL where absent. */
	struct selector *pods;
	struct selector *namespaces;
	struct selector *nodes; /* of Node objects; then without the other selectors */
};

enum policy_action { ACTION_ACCEPT, ACTION_DENY, ACTION_PASS };

struct policy_rule {               /* no peers: everyone; no ports: everything */
	char *name;                /* of a ClusterNetworkPolicy's rule, or NULL */
	enum policy_action action; /* of a NetworkPolicy's rule: always Accept */
	struct policy_peer *peers;
	size_t peer_count;
	struct policy_port *ports;
	size_t port_count;
};

struct network_policy_object {
	struct selector pods;
	bool ingress; /* policyTypes, defaulted */
	bool egress;
	struct policy_rule *ingress_rules;
	size_t ingress_rule_count;
	struct policy_rule *egress_rules;
	size_t egress_rule_count;
};

/* In the order of evaluation; NetworkPolicies are a tier of their own. */
enum policy_tier { TIER_ADMIN, TIER_NETWORK, TIER_BASELINE, TIER_COUNT };

struct cluster_policy_object {
	enum policy_tier tier; /* not TIER_NETWORK */
	uint16_t priority;     /* lower ones are evaluated first */
	bool closed; /* is evaluated before all others and denies everything, whatever its rules */
	struct selector namespaces;
	struct selector pods;
	struct policy_rule *ingress_rules; /* in order: the first that matches decides */
	size_t ingress_rule_count;
	struct policy_rule *egress_rules;
	size_t egress_rule_count;
};

struct object {
	enum object_kind kind;
	char *namespace; /* "" for cluster-scoped kinds */
	char *name;
	char *uid;          /* "" if absent */
	char *lint_ignore;  /* annotation tendril.io/lint-ignore, or NULL */
	uint32_t document;  /* its position in its text: number of the document, */
	uint32_t item;      /* and index in a List, from 1; 0: not in a List */
	const void *source; /* for the owner of the store; the library does not use it */
	union {
		struct namespace_object ns;
		struct node_object node;
		struct pod_object pod;
		struct service_object service;
		struct endpoint_slice_object slice;
		struct network_policy_object policy;
		struct cluster_policy_object cluster_policy;
	};
};

/* All zero but for its kind, with room for that alone: never to be copied as a whole. */
struct object *object_new(enum object_kind kind);
void object_free(struct object *object); /* takes NULL and half-built objects */

const char *object_kind_name(enum object_kind kind); /* "NetworkPolicy" */
/* Accepts the Kubernetes kind, in any case, plural or short ("pods", "netpol"); -EINVAL. */
int object_kind_parse(const char *text, enum object_kind *ret_kind);

const char *service_type_name(enum service_type type); /* "NodePort" */

/* Calls each() for the fields of a Service without full effect: "externalIPs", "served only ...".
 */
void service_gaps_each(unsigned int gaps,
		       void (*each)(const char *field, const char *text, void *arg), void *arg);

const char *policy_tier_name(enum policy_tier tier); /* "Admin" */

void labels_sort(struct labels *labels);
void labels_done(struct labels *labels);
bool labels_get(const struct labels *labels, const char *key, const char **ret_value);
bool labels_equal(const struct labels *a, const struct labels *b);
bool selector_matches(const struct selector *selector, const struct labels *labels);

#endif
