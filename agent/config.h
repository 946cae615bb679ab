/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's configuration: command line, then agent.json, then defaults. */
#ifndef TENDRIL_AGENT_CONFIG_H
#define TENDRIL_AGENT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/nodes/tunnel.h"
#include "datapath/datapath.h"
#include "lib/errmsg.h"
#include "lib/inet.h"
#include "lib/log.h"

#define CONFIG_FILE_DEFAULT "/etc/tendril/agent.json"

#define DEVICES_MAX 16

enum routing_mode { ROUTING_NATIVE, ROUTING_TUNNEL };
enum underlay_protocol { UNDERLAY_IPV4, UNDERLAY_IPV6 };
enum load_balancer_mode { LOAD_BALANCER_SNAT, LOAD_BALANCER_DSR };
enum encryption_protocol { ENCRYPTION_NONE, ENCRYPTION_WIREGUARD };

/* Option --run-dir is "runDir" in agent.json, and so on; config.c has one table for both. */
struct config {
	char run_dir[256]; /* /run/tendril: state, tendril.sock */
	char bpffs[256];   /* /sys/fs/bpf/tendril: pins; its bpffs is mounted if there is none */
	char cgroup[256];  /* the cgroup2 mount; "" turns the socket layer off */
	char objects_dir[256];      /* /etc/tendril/objects */
	char cni_bin_dir[256];      /* where the agent puts the plugin, or "" */
	char cni_conf_dir[256];     /* and its conflist */
	struct prefix pod_cidrs[8]; /* config.c has the default */
	size_t pod_cidr_count;
	struct prefix_set node_port_addresses; /* none: all */
	bool external_ips;
	bool maglev;
	bool masquerade;                        /* packets of pods that leave the cluster */
	struct prefix_set non_masquerade_cidrs; /* beside pod CIDRs and nodes */
	bool pod_cidrs_of_node;                 /* none was given: use those of the Node object */
	char devices[DEVICES_MAX][16]; /* by which clients outside reach services; none: all */
	size_t device_count;
	unsigned int mtu; /* 0: of the default route's device, or 1500 */
	bool socket_services;
	bool flows;     /* record flows of pods */
	bool dns_names; /* read the names that pods ask DNS for */
	bool accel;     /* allow socket acceleration for pods that ask */
	bool audit;     /* of every pod; a reload changes it */
	bool big_tcp;   /* of pods that are added from now on */
	bool force_clsact;
	bool direct_routes;        /* to the pods of nodes on the same link */
	unsigned int host_routing; /* enum host_routing_mode */
	unsigned int xdp;          /* enum uplinks_xdp */
	enum routing_mode routing_mode;
	struct tunnel_settings tunnel; /* made of the two that follow, too */
	unsigned int tunnel_port;      /* 0: that of the protocol */
	enum underlay_protocol underlay_protocol;
	enum load_balancer_mode load_balancer_mode;
	enum encryption_protocol encryption;
	bool encryption_strict; /* nothing between pods and other nodes goes in clear */
	bool kubernetes;        /* tendril-kube hands over the objects of an API server */
	unsigned int pod_wait_s;
	struct datapath_limits limits;
	unsigned int metric_namespaces; /* with series of their own; the rest is one more */
	unsigned int metric_services;
	unsigned int metric_backends;
	enum log_level log_level;
};

/* If several are given, the last in this order wins. */
enum config_action {
	CONFIG_RUN,
	CONFIG_CHECK,
	CONFIG_MOUNT,
	CONFIG_CLEANUP,
	CONFIG_VERSION,
	CONFIG_HELP
};

/* Fills config from argv and the file.  Unknown keys, wrong types and values out of range are
 * errors that name the file and the field, or the option. */
int config_load(struct config *config, int argc, char **argv, enum config_action *ret_action,
		struct errmsg *err);
/* The name of the first setting that differs, except those that a reload changes (log level,
 * audit); NULL if none does. */
const char *config_difference(const struct config *a, const struct config *b);

/* The options for datapath_open(); borrows from config. */
struct datapath_options config_datapath(const struct config *config);

void config_usage(void);                        /* prints --help, made from the table */
void config_print(const struct config *config); /* prints it in the form of agent.json */

#endif
