/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open, load, pin, attach, detach: the life of the BPF objects.  The only user of libbpf's object
 * API.  Map contents belong to maps.h.
 *
 * Pins, all below options.pin_dir (a directory on a bpffs):
 *   maps/NAME        every map
 *   links/host       TCX link of tendril0
 *   links/uplink-N-in, -out   TCX links of the device with this index
 *   links/NAME       cgroup links, one for each socket program
 *   links/tcp_state  tracepoint that reports closed TCP connections
 *   version          array of one __u32, ABI_VERSION
 * A second open() of the same directory reuses the maps and replaces the programs behind the links
 * atomically, so traffic never meets an unprogrammed hook.  Maps of an earlier ABI, or of another
 * size, are copied (takeover.c): folders "new", "old" and "fromABI_toABI" are there meanwhile.
 *
 * Endpoints are attached by a clsact filter on every kernel: the first TCX program of a device
 * waits for an RCU grace period with rtnl held (measured on 6.18: 5 to 30 ms beside 0.1 to 0.2 ms
 * for clsact and its filter), which no ADD can afford.  The filter lives and dies with the device,
 * needs no pin, and is replaced in place (same handle and priority).  Who removes it is seen by
 * netlink (RTNLGRP_TC).  Packets are cheaper by TCX, so the same program is put in front of the
 * filter when there is time to wait (datapath_attach_tcx()); the filter then sees no packet, for
 * from_pod never passes one on.  tendril0 gets its link once: TCX if there is.
 */
#ifndef TENDRIL_DATAPATH_DATAPATH_H
#define TENDRIL_DATAPATH_DATAPATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/abi.h"
#include "lib/errmsg.h"

struct datapath;

struct datapath_limits {       /* entries; 0 takes the default */
	uint32_t endpoints;    /* 512, slots 1 .. endpoints-1; at most 65535 */
	uint32_t connections;  /* ct_map, 32768 */
	uint32_t addresses;    /* ipcache_map, 65536 */
	uint32_t policies;     /* policy_map, 65536 */
	uint32_t ports;        /* port_map, 16384 */
	uint32_t cidrs;        /* cidr_map, 16384 */
	uint32_t services;     /* service_map, 65536 */
	uint32_t backends;     /* backend_map, 131072 */
	uint32_t translations; /* nat_map, 16384 */
	uint32_t flows;        /* flow_map, 8192 */
};

struct datapath_options {
	const char *pin_dir;  /* created if missing; must be on a bpffs */
	const char *cgroup;   /* cgroup v2 directory for the socket programs, NULL: none */
	bool socket_services; /* attach connect4 and its kin */
	bool accel;           /* load and attach sockops and sk_msg */
	bool accel_later;     /* not now, but by datapath_load_accel() */
	bool trial;           /* only what accel loads, over private maps: nothing is pinned (no
			       * pin_dir) and datapath_close() ends it */
	bool force_clsact;    /* do not use TCX even where the kernel has it */
	struct datapath_limits limits;
};

/* Loads (or takes over) the datapath.  -EPROTO: pins of a version that cannot be taken over.
 * -EPERM: privilege. */
int datapath_open(const struct datapath_options *options, struct datapath **ret,
		  struct errmsg *err);

/* Loads and attaches the acceleration programs that datapath_open() was told to leave for later,
 * for pods need not wait for them.  Until then what an earlier process attached stays; after a
 * failure nothing is attached.  The options are those of datapath_open(). */
int datapath_load_accel(struct datapath *datapath, const struct datapath_options *options,
			struct errmsg *err);
/* There will be none: takes off what an earlier process attached. */
void datapath_drop_accel(struct datapath *datapath);

/* Loads and attaches tcp_state, which reports closed TCP connections.  Until then an earlier
 * process' program goes on; after a failure nothing is attached. */
int datapath_load_tcp(struct datapath *datapath, const struct datapath_options *options,
		      struct errmsg *err);

/* Attaches and pins again the links on the cgroup and the tracepoint that are missing: a link goes
 * with its pin. */
int datapath_restore_links(struct datapath *datapath, const struct datapath_options *options,
			   struct errmsg *err);
/* Pins again the maps whose pins are missing; returns how many, or a negative errno. */
int datapath_restore_pins(struct datapath *datapath, struct errmsg *err);
/* Closes descriptors; pinned maps, links and their programs live on. */
void datapath_close(struct datapath *datapath);

/* Attaches from_pod to the ingress of an endpoint's host-side device and to_pod to its egress, as
 * clsact filters, replacing what an earlier agent attached there and in front of them.  Idempotent,
 * and quick: it is on the path of every ADD. */
int datapath_attach_endpoint(struct datapath *datapath, int ifindex, struct errmsg *err);
/* Puts from_pod, by descriptor, in front of the filter as a TCX program; 0 also if it is there. May
 * block for an RCU grace period with rtnl held: not for the agent's loop
 * (agent/endpoint/link_worker.h). */
int datapath_attach_tcx(int prog_fd, int ifindex);
/* Whether both are still attached (someone may have removed a filter). */
bool datapath_endpoint_attached(struct datapath *datapath, int ifindex);

/* Attaches to_pod to the egress of HOST_DEVICE, by its interface index. */
int datapath_attach_host(struct datapath *datapath, int ifindex, struct errmsg *err);
bool datapath_host_attached(struct datapath *datapath, int ifindex);

/* Loads from_uplink and to_uplink, which no node needs without services for clients outside.  The
 * options are those of datapath_open(); fine if they are loaded. */
int datapath_load_uplinks(struct datapath *datapath, const struct datapath_options *options,
			  struct errmsg *err);
/* Attaches both to a device, behind what others attached there; or puts this process' programs in
 * the place of an earlier one's. */
int datapath_attach_uplink(struct datapath *datapath, int ifindex, struct errmsg *err);
/* Takes them off all other devices than these. */
void datapath_keep_uplinks(struct datapath *datapath, const int *ifindexes, size_t count);
bool datapath_uplink_attached(struct datapath *datapath, int ifindex);

bool datapath_uses_tcx(const struct datapath *datapath);
bool datapath_socket_services(const struct datapath *datapath); /* attached and in force */
/* Whether the acceleration programs are loaded: wanted, and not refused by the kernel. */
bool datapath_accel(const struct datapath *datapath);

/* Descriptor of a program by name ("from_pod"), for BPF_PROG_TEST_RUN and statistics; borrowed. */
int datapath_program_fd(const struct datapath *datapath, const char *name);
/* Names of the loaded programs, by index; NULL after the last. */
const char *datapath_program_name(const struct datapath *datapath, size_t index);
struct program_size {
	uint32_t instructions; /* as loaded */
	uint32_t verified;     /* how many the verifier went through, branches and all */
};
/* -ENOENT; needs CAP_BPF and the programs loaded by this process. */
int datapath_program_size(const struct datapath *datapath, const char *name,
			  struct program_size *ret);

/* Removes every link, map and program below pin_dir, loaded or not, and the directory; for
 * `tendrild --cleanup`.  Fine if there is nothing. */
int datapath_cleanup(const char *pin_dir, struct errmsg *err);

#endif
