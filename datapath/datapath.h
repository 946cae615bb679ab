/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens, loads, pins, attaches and detaches the BPF objects.  It is the only user of libbpf's
 * object API.  The contents of maps belong to maps.h.
 *
 * Pins, all below options.pin_dir (a directory on a bpffs):
 *   maps/NAME        every map
 *   links/host       TCX link of tendril0
 *   links/uplink-N-in, -out   TCX links of the device with this index
 *   links/tunnel-in, -out     TCX links of the overlay's device; tunnel-wireguard-in, -out
 *   links/NAME       cgroup links, one for each socket program
 *   links/tcp_state  tracepoint that reports closed TCP connections
 *   version          array of one __u32, ABI_VERSION
 * A second open() of the same directory uses the maps again and replaces the programs of the links
 * atomically, so that no packet passes without a program.  Maps of an earlier ABI, or of another
 * size, are copied (takeover.c); meanwhile there are folders "new", "old" and "fromABI_toABI".
 *
 * Endpoints are attached by a clsact filter on every kernel: the first TCX program of a device
 * waits for an RCU grace period with rtnl held (measured on 6.18: 5 to 30 ms beside 0.1 to 0.2 ms
 * for clsact and its filter), which is too long for an ADD.  The filter ends with the device, needs
 * no pin, and is replaced in place (same handle and priority).  Netlink (RTNLGRP_TC) tells when
 * somebody removes it.  TCX costs less per packet, so the same program is put in front of the
 * filter when there is time to wait (datapath_attach_tcx()); the filter then sees no packet,
 * because from_pod never passes one on.  tendril0 gets its link once: TCX if the kernel has it.
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
	bool accel_later;     /* not now: datapath_load_accel() does it */
	bool trial;           /* only what accel loads, with private maps: nothing is pinned (no
			       * pin_dir) and datapath_close() ends it */
	bool xdp_generic;     /* datapath_load_xdp(): for XDP_GENERIC */
	bool force_clsact;    /* do not use TCX even where the kernel has it */
	struct datapath_limits limits;
};

/* Loads (or takes over) the datapath.  -EPROTO: pins of a version that cannot be taken over.
 * -EPERM: privilege. */
int datapath_open(const struct datapath_options *options, struct datapath **ret,
		  struct errmsg *err);

/* Loads and attaches the acceleration programs after datapath_open() with accel_later: pods need
 * not wait for them.  Until then the programs of an earlier process stay attached; after a failure
 * none is attached.  The options are those of datapath_open(). */
int datapath_load_accel(struct datapath *datapath, const struct datapath_options *options,
			struct errmsg *err);
/* Detaches the acceleration programs of an earlier process, if this one will load none. */
void datapath_drop_accel(struct datapath *datapath);

/* Loads and attaches tcp_state, which reports closed TCP connections.  Until then an earlier
 * process' program goes on; after a failure nothing is attached. */
int datapath_load_tcp(struct datapath *datapath, const struct datapath_options *options,
		      struct errmsg *err);

/* Detaches tcp_state, also an earlier process'. */
void datapath_drop_tcp(struct datapath *datapath);

/* Loads packet_freed, which reports packets of pods that the kernel drops, and attaches nothing. */
int datapath_load_freed(struct datapath *datapath, const struct datapath_options *options,
			struct errmsg *err);
/* Attaches packet_freed, or detaches it. */
int freed_watch(struct datapath *datapath, bool watch, struct errmsg *err);
/* The kernel's name for a reason, as "TCP_CSUM"; NULL: it has none, or nobody has watched yet. */
const char *freed_reason(const struct datapath *datapath, uint32_t reason);

/* Attaches and pins again the links of the cgroup and the tracepoint that are missing: a link ends
 * with its pin. */
int datapath_restore_links(struct datapath *datapath, const struct datapath_options *options,
			   struct errmsg *err);
/* Pins again the maps whose pins are missing.  Returns how many, or a negative errno. */
int datapath_restore_pins(struct datapath *datapath, struct errmsg *err);
/* Closes descriptors; pinned maps, links and their programs live on. */
void datapath_close(struct datapath *datapath);

/* Attaches from_pod to the ingress of an endpoint's host-side device and to_pod to its egress, as
 * clsact filters.  Replaces the programs of an earlier agent, by clsact and by TCX.  It may be
 * repeated, and is quick, because every ADD calls it. */
int datapath_attach_endpoint(struct datapath *datapath, int ifindex, struct errmsg *err);
/* Puts from_pod, by descriptor, in front of the filter as a TCX program; 0 also if it is there. May
 * block for an RCU grace period with rtnl held, so the agent's loop does not call it
 * (agent/endpoint/link_worker.h does). */
int datapath_attach_tcx(int prog_fd, int ifindex);
/* Whether both are still attached (someone may have removed a filter). */
bool datapath_endpoint_attached(struct datapath *datapath, int ifindex);

/* Attaches to_pod to the egress of HOST_DEVICE, by its interface index. */
int datapath_attach_host(struct datapath *datapath, int ifindex, struct errmsg *err);
bool datapath_host_attached(struct datapath *datapath, int ifindex);

/* Loads from_uplink and to_uplink, which a node needs only for services with clients outside.  The
 * options are those of datapath_open(); 0 also if they are loaded. */
int datapath_load_uplinks(struct datapath *datapath, const struct datapath_options *options,
			  struct errmsg *err);
/* Attaches both to a device, behind the programs of others.  Replaces the programs of an earlier
 * process of ours. */
int datapath_attach_uplink(struct datapath *datapath, int ifindex, struct errmsg *err);
/* Detaches them from all devices but these. */
void datapath_keep_uplinks(struct datapath *datapath, const int *ifindexes, size_t count);
bool datapath_uplink_attached(struct datapath *datapath, int ifindex);

enum xdp_mode { XDP_OFF, XDP_NATIVE, XDP_GENERIC };

/* Loads uplink_xdp for this mode, as with uplinks. */
int datapath_load_xdp(struct datapath *datapath, const struct datapath_options *options,
		      enum xdp_mode mode, struct errmsg *err);
/* Attaches it to an uplink, by the driver (XDP_NATIVE) or by the kernel for any driver.
 * -EOPNOTSUPP: the driver cannot. -EBUSY: somebody else's program is there; -EEXIST: in the other
 * mode. */
int datapath_attach_xdp(struct datapath *datapath, int ifindex, enum xdp_mode mode,
			struct errmsg *err);
/* Detaches it from the device in all modes but this one. */
void datapath_keep_xdp(struct datapath *datapath, int ifindex, enum xdp_mode mode);
bool datapath_xdp_attached(struct datapath *datapath, int ifindex, enum xdp_mode mode);

enum tunnel_device { TUNNEL_OVERLAY, TUNNEL_WIREGUARD };

/* Loads from_tunnel and to_tunnel, and attaches both to a tunnel device, as with uplinks. */
int datapath_load_tunnel(struct datapath *datapath, const struct datapath_options *options,
			 struct errmsg *err);
int datapath_attach_tunnel(struct datapath *datapath, enum tunnel_device device, int ifindex,
			   struct errmsg *err);
bool datapath_tunnel_attached(struct datapath *datapath, enum tunnel_device device, int ifindex);
/* Removes the links of a device that was there before. */
void datapath_drop_tunnel(struct datapath *datapath, enum tunnel_device device);

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
	uint32_t verified;     /* how many the verifier processed, on all paths */
	uint64_t misses;       /* runs left out, because the program ran on that CPU already */
};
/* -ENOENT; needs CAP_BPF and the programs loaded by this process. */
int datapath_program_size(const struct datapath *datapath, const char *name,
			  struct program_size *ret);

/* Removes every link, map and program below pin_dir, and the directory, for `tendrild --cleanup`.
 * It needs no open datapath; 0 also if there is nothing. */
int datapath_cleanup(const char *pin_dir, struct errmsg *err);

#endif
