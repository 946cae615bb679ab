/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds probable mistakes: policies that the API server accepts, and that have no effect, or more
 * effect than their author thinks.  The names of checks do not change.  An object disables checks
 * for itself with the annotation tendril.io/lint-ignore: NAME,NAME.
 */
#ifndef TENDRIL_POLICY_ANALYSIS_LINT_H
#define TENDRIL_POLICY_ANALYSIS_LINT_H

#include "lib/arena.h"
#include "policy/objects/store.h"

#define LINT_ANNOTATION "tendril.io/lint-ignore"

/* Number, name, explanation. */
#define LINT_CHECKS(X)                                                                             \
	X(NEVER_MATCHES, "never-matches",                                                          \
	  "No pod can ever have labels that satisfy the whole selector.")                          \
	X(SELECTS_NO_POD, "selects-no-pod",                                                        \
	  "A policy that selects no pod has no effect; a label may be misspelt.")                  \
	X(PEER_SELECTS_NOTHING, "peer-selects-nothing",                                            \
	  "Nobody is let in or out by this peer; a label or namespace may be misspelt.")           \
	X(SHADOWED_RULE, "shadowed-rule",                                                          \
	  "The rule changes nothing: another one decides all that it matches.")                    \
	X(DUPLICATE_POLICY, "duplicate-policy",                                                    \
	  "Two policies say the same; a change of one of them will have no effect.")               \
	X(VOID_RULES, "void-rules",                                                                \
	  "Rules of a direction that policyTypes leaves out are never read.")                      \
	X(ALLOWS_EVERYTHING, "allows-everything",                                                  \
	  "An empty rule lets everyone reach every port: the pods are not isolated at all.")       \
	X(ALLOWS_EVERYONE, "allows-everyone",                                                      \
	  "A rule without peers means everyone, in and outside the cluster.")                      \
	X(ALLOWS_ALL_PODS, "allows-all-pods",                                                      \
	  "An empty namespaceSelector means all namespaces, also those to come.")                  \
	X(ALLOWS_ALL_ADDRESSES, "allows-all-addresses",                                            \
	  "The block is all addresses of its family, pods and nodes included.")                    \
	X(UNKNOWN_PORT_NAME, "unknown-port-name",                                                  \
	  "A port name means the destination pod's port of that name and protocol; without one "   \
	  "it means nothing.")                                                                     \
	X(DNS_CUT_OFF, "dns-cut-off",                                                              \
	  "Pods that may not send to port 53/UDP cannot look names up.")                           \
	X(ENDPORT_ODD, "endport-odd", "The range is easier to read, and to get right, otherwise.") \
	X(PORT_REPEATED, "port-repeated", "Another entry of the same rule has the port already.")  \
	X(CIDR_HOST_BITS, "cidr-host-bits",                                                        \
	  "Bits beyond the length of a CIDR are ignored; another block may have been meant.")      \
	X(EXCEPT_REMOVES_ALL, "except-removes-all",                                                \
	  "The exceptions take every address out of the block: the peer matches nobody.")          \
	X(UNKNOWN_CHECK, "unknown-check",                                                          \
	  "The annotation " LINT_ANNOTATION " names a check that does not exist.")

#define X(id, name, explains) LINT_##id,
enum lint_check { LINT_CHECKS(X) LINT_CHECK_COUNT };
#undef X

const char *lint_check_name(enum lint_check check);
const char *lint_check_explains(enum lint_check check);

struct lint_finding {
	enum lint_check check;
	const struct object *object; /* of the store */
	const char *path;            /* as in problems: "spec.ingress[1].ports[0]" */
	const char *message;
	const struct object *other; /* the one that shadows it or is equal; or NULL */
	const char *other_path;
};

struct lint_findings {
	struct lint_finding *items; /* in order of kind, namespace, name and path */
	size_t count;
	size_t capacity;
	size_t silenced;     /* findings that annotations disabled */
	struct arena *arena; /* keeps the strings */
};

/* In a store without pods, checks that depend on pods are left out. */
struct lint_findings policy_lint(const struct store *store);
void lint_findings_done(struct lint_findings *findings);

#endif
