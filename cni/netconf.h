/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network configuration on standard input.  netconf_parse() validates what every command needs,
 * netconf_pod_load() what only ADD needs, so that a DEL never fails because of a field that it does
 * not use.  Unknown members are ignored, as the specification says; members of a wrong type are
 * refused with their path.
 */
#ifndef TENDRIL_CNI_NETCONF_H
#define TENDRIL_CNI_NETCONF_H

#include <stdbool.h>
#include <stddef.h>

#include "cni/environ.h"
#include "cni/error.h"
#include "cni/version.h"
#include "lib/auto.h"

struct cJSON;

#define NETCONF_MAX            (1024UL * 1024) /* bytes of configuration we accept */
#define NETCONF_SOCKET_DEFAULT "/run/tendril/tendril.sock"

/* Borrowed members point into json. */
struct netconf {
	struct cJSON *json; /* as given, except for cniVersion: the version of the answer */
	enum cni_version version;
	const char *name;
	const char *socket;
	bool chained;                    /* another plugin wires the pod, we only apply policy */
	const char *ipam_type;           /* NULL: the agent gives addresses */
	const struct cJSON *prev_result; /* NULL if absent */
};

/* What the runtime asks for a pod. */
struct netconf_pod {
	unsigned int mtu;     /* 0: not asked for */
	char mac[18];         /* empty: not asked for */
	struct cJSON *labels; /* object of strings */
	struct cJSON *ports;  /* array of portMappings as given; NULL if absent */
	struct cJSON *ips;    /* array of addresses without prefix length */
	struct cJSON *dns;    /* as in a result; NULL if absent or empty */
};

/* Parses text, which ends in a NUL at text[len].  ret_conf->version is set even on failure, for the
 * error's own version; free with netconf_done() in any case. */
int netconf_parse(const char *text, size_t len, struct netconf *ret_conf, struct cni_error *err);
void netconf_done(struct netconf *conf);

/* The pod's part, from mtu, dns, args.cni, runtimeConfig and CNI_ARGS; later ones win. */
int netconf_pod_load(const struct netconf *conf, const struct cni_args *args,
		     struct netconf_pod *ret_pod, struct cni_error *err);
void netconf_pod_done(struct netconf_pod *pod);

/* GC's list of valid attachments, in the agent's form; owned by the caller. */
int netconf_attachments(const struct netconf *conf, struct cJSON **ret_list, struct cni_error *err);

/* Reads only cniVersion, for VERSION: empty input and unknown versions give the latest. */
int netconf_version(const char *text, size_t len, enum cni_version *ret_version,
		    struct cni_error *err);

#endif
