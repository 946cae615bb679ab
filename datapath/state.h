/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct datapath, and what the files of datapath/ share.  Outside of datapath/ only tests include
 * this.
 */
#ifndef TENDRIL_DATAPATH_STATE_H
#define TENDRIL_DATAPATH_STATE_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/maps.h"

#define PIN_PATH_MAX 528 /* pin_dir, a folder, NAME_MAX */
#define PROGRAM_MAX  32

/* Further maps of user space; the numbers continue those of enum map_id. */
enum {
	MAP_ENDPOINT = MAP_COUNT,
	MAP_ENDPOINT_STATS,
	MAP_CHAINED,
	MAP_UPLINK,
	MAP_NETNS,
	MAP_BANDWIDTH,
	MAP_NODE,
	MAP_METRIC,
	MAP_EVENT,
	MAP_TCP_EVENT,
	MAP_CT_COUNT,
	MAP_NAT_COUNT,
	MAP_ACCEL,
	MAP_SOCK_BUCKET,
	MAP_SOCK_SERVICE,
	MAP_TCP,
	MAP_PASSED,
	MAP_DNS,
	MAP_TOTAL,
};

struct program {
	char name[BPF_OBJ_NAME_LEN];
	int fd;
	uint32_t id;
	enum bpf_prog_type type;
	enum bpf_attach_type attach_type;
};

/* Programs that translate service addresses for sockets. */
static inline bool type_serves_sockets(enum bpf_prog_type type)
{
	return type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR || type == BPF_PROG_TYPE_CGROUP_SOCK;
}

struct ring_buffer;

struct datapath {
	char pin_dir[256];   /* "": a trial, pins nothing */
	int trial_link_fd;   /* link of a trial's only cgroup program; -1: none */
	uint32_t pinned_abi; /* of the maps that were found, see takeover_begin() */
	bool staged;         /* the maps are in the next folder until takeover_finish() */
	bool tcx;
	bool socket_services;
	bool accel_later; /* datapath_load_accel() will load the programs of acceleration */
	struct program programs[PROGRAM_MAX];
	size_t program_count;

	int map_fds[MAP_TOTAL];
	uint32_t capacity[MAP_TOTAL];
	struct node_state *node;          /* node_map, mapped shared */
	struct endpoint_entry *endpoints; /* endpoint_map, mapped shared */
	int64_t *ct_counts;               /* ct_count_map, mapped shared */
	int64_t *nat_counts;              /* nat_count_map, mapped shared */
	unsigned int cpus;                /* possible CPUs: values in a per-CPU element */
	void *percpu;                     /* room for one element of endpoint_stats */
	struct ring_buffer *ring;
	void (*event_each)(const struct flow_event *event, void *arg);
	void *event_arg;
	void (*nat_end_each)(uint32_t service_id, const struct backend *backend, uint64_t bytes,
			     void *arg); /* or NULL */
	void *nat_end_arg;
	struct ring_buffer *tcp_ring;
	void (*tcp_each)(const struct tcp_event *event, void *arg);
	void (*passed_each)(const struct passed_flow *flow, void *arg);
	void *tcp_arg;
	unsigned int tcp_read;
	int freed_link_fd;  /* of packet_freed; -1: nobody watches */
	char **freed_names; /* by reason; NULL: not read yet */
};

/* ---- freed.c ---- */

void freed_done(struct datapath *datapath);

/* ---- maps.c ---- */

/* Name of a map by enum map_id or the numbers above. */
const char *map_name_of(int map);
/* Compares the maps of map_fds with the types in abi.h, and mmaps those with a pointer above. */
int maps_init(struct datapath *datapath, struct errmsg *err);
void maps_done(struct datapath *datapath);
/* Sizes of a map for map_walk(); a per-CPU value_size is that of all CPUs together. */
struct map_shape {
	uint32_t key_size; /* up to MAP_KEY_MAX */
	uint32_t value_size;
	uint32_t capacity;
};
#define MAP_KEY_MAX 64
/* As maps_foreach(), for any hash, array or trie. */
int map_walk(int fd, const struct map_shape *shape,
	     int (*each)(const void *key, const void *value, void *arg), void *arg);
/* One entry of any map; 0 or a negative errno.  map_del() returns 0 also if there is no entry. */
int map_set(struct datapath *datapath, int map, const void *key, const void *value);
int map_get(struct datapath *datapath, int map, const void *key, void *ret_value);
int map_del(struct datapath *datapath, int map, const void *key);
/* The key after this one (NULL: the first); -ENOENT: there is none. */
int map_next(struct datapath *datapath, int map, const void *key, void *ret_key);

/* ---- sweep.c ---- */

/* Deletes the entry if it is still as it was read (compare-and-delete); else -EAGAIN. */
int ct_map_del_if(struct datapath *datapath, const struct ct_key *key, const struct ct_entry *seen);
/* Counts anew what each endpoint holds of ct_map and nat_map. */
int maps_count(struct datapath *datapath);

/* ---- datapath.c ---- */

/* Makes the folders for maps and links below pin_dir; 0 also if they exist. */
int pin_folders_make(const struct datapath *datapath, struct errmsg *err);

/* ---- takeover.c ---- */

struct bpf_object;

/* Reads the version that is pinned below pin_dir, or pins this one if nothing is pinned yet. Cleans
 * up after a process that died during a takeover.  -EPROTO: the version is later, or too old. */
int takeover_begin(struct datapath *datapath, struct errmsg *err);
/* Pins this version if none is pinned. */
int version_ensure(const char *pin_dir, struct errmsg *err);
/* Makes the object use the pinned maps of its predecessor where it can, and decides which maps must
 * be copied. */
int takeover_reuse(const struct datapath *datapath, struct bpf_object *object, struct errmsg *err);
/* After the object is loaded: copies the entries of maps that it does not share with its
 * predecessor, and pins all maps in the next folder.  -ENOSPC: they do not fit; nothing changed. */
int takeover_stage(struct datapath *datapath, struct bpf_object *object, struct errmsg *err);
/* After the programs of sockets and of the host are replaced: replaces those of the endpoints,
 * copies what the old programs wrote meanwhile, and removes the old maps. */
int takeover_finish(struct datapath *datapath, struct errmsg *err);
/* Path of a map's pin, or of the folder if name is "". */
const char *map_path(const struct datapath *datapath, const char *name, char buf[PIN_PATH_MAX]);
/* Calls each() with every name in a folder until it returns non-zero, and returns that; 0 also if
 * there is no such folder. */
int pins_foreach(const char *path, int (*each)(const char *name, void *arg), void *arg);
/* Whether a folder of this name in pin_dir has maps, at any step of a takeover. */
bool folder_has_maps(const char *name);
/* Ends acceleration of the sockets in the maps of a folder. */
void accel_end(const char *maps);
/* Removes the pins in a folder and the folder itself; 0 also if there is none. */
int folder_remove(const char *path, struct errmsg *err);

/* ---- copy.c ---- */

struct map_rule;

/* Whether a map of this type can be walked and copied. */
bool type_has_entries(enum bpf_map_type type);
/* Whether the entries of the pinned map must be converted. */
bool rule_converts(const struct datapath *datapath, const struct map_rule *rule);
/* Copies all entries from one map of this name to another; -E2BIG: there is no room.  again: copies
 * only the entries that the new map does not have, as far as there is room. */
int map_copy(const struct datapath *datapath, const char *name, int from, int to, bool again);

/* ---- swap.c ---- */

enum swap_program {
	SWAP_FROM_POD,
	SWAP_TO_POD,
	SWAP_FROM_UPLINK, /* from here on: of devices that lead out of the node */
	SWAP_TO_UPLINK,
	SWAP_FROM_TUNNEL,
	SWAP_TO_TUNNEL,
	SWAP_COUNT
};
extern const char *const swap_names[SWAP_COUNT]; /* of the programs */

/* Hands over from the programs of the old maps to those of the new ones, on all devices at once. */
struct swap {
	struct datapath *datapath;
	int jump_fd;                        /* program array: through it jumps lead */
	int side_fd;                        /* of the number by which they choose its half */
	uint32_t side;                      /* that number before swap_flip() */
	struct program jumps[SWAP_COUNT];   /* fd -1: nobody has such a program */
	struct program targets[SWAP_COUNT]; /* the old ones, until swap_flip() */
};

/* Replaces each old program by a jump to it, and attaches the old program itself behind that.
 * -ENOENT: there are no old programs. */
int swap_begin(struct datapath *datapath, struct swap *ret_swap, struct errmsg *err);
/* From here on the new programs decide.  While NODE_TAKEOVER is set, the old ones decide about
 * packets that the new ones would drop. */
int swap_flip(struct swap *swap, struct errmsg *err);
/* Replaces the jumps by the new programs.  Works without swap_begin(), too. */
void swap_finish(struct datapath *datapath);
void swap_release(struct swap *swap);

/* ---- xdp.c ---- */

/* From here on tc gets all packets of uplinks, until datapath_attach_xdp().  The links stay: a
 * driver may stop the device while XDP is attached or detached. */
void xdp_pause(struct datapath *datapath);

/* ---- convert.c ---- */

/* How the entries of a map are copied into a map with a newer layout. */
struct map_rule {
	const char *map;
	/* For entries of an ABI before "since".  Without it the value only grew, and zero in the
	 * new fields means "as before". */
	void (*convert)(const void *old_key, const void *old_value, void *key, void *value);
	/* Called if the old programs wrote value after the copy, and the new programs wrote now.
	 * Adds to now what it lacks.  Without merge(): now stays. */
	bool (*merge)(void *now, const void *value);
	uint32_t since; /* the ABI that brought the present layout */
	bool hints;     /* an array that may lose what lies behind the end of a smaller one */
};

/* The rule of a map; a map without a rule gets one without functions. */
const struct map_rule *map_rule_find(const char *map);

/* ---- links.c ---- */

struct program *program_find(const struct datapath *datapath, const char *name);
/* Puts this process' programs behind every pinned link, and attaches the cgroup and sk_msg programs
 * that were loaded.  Removes the links of programs that were not loaded. */
int links_open(struct datapath *datapath, const char *cgroup, struct errmsg *err);
/* Detaches the old programs that cgroup_attach() left beside the new ones. */
void links_drop_beside(struct datapath *datapath);
/* Detaches the acceleration programs, also another process', from the cgroup and accel_map. */
void links_drop_accel(struct datapath *datapath);
/* Attaches tcp_state; fine if it is not loaded.  An earlier process' program goes on if it is the
 * same; else connections that close between the two are not reported. */
int tcp_attach(struct datapath *datapath, struct errmsg *err);
void tcp_detach(struct datapath *datapath);
/* Detaches and removes every link pinned below pin_dir. */
void links_remove(const char *pin_dir);
const char *link_path(const char *pin_dir, const char *name, char buf[PIN_PATH_MAX]);
/* Creates a link and pins it under this name.  The link that had the name goes afterwards, so that
 * both overlap for a moment when a cgroup link moves.  beside: it stays, with a pin of its own. */
int link_create(struct datapath *datapath, const char *name, int prog_fd, int target,
		enum bpf_attach_type type, bool beside, struct errmsg *err);
/* Pins a link under this name, in the same way. */
int link_pin(struct datapath *datapath, int link_fd, const char *name, bool beside,
	     struct errmsg *err);
/* Detaches at once: a link that only loses its last pin is detached by a worker some time later. */
void link_remove(const char *path);
/* The device of a TCX link; 0 if it is detached (the device is gone, or by force). */
uint32_t link_ifindex(int link_fd);
/* Detaches the sk_msg program of a sockhash. */
void sk_msg_detach(int map_fd);

/* enum bpf_attach_type from Linux 6.6 on; Debian 12's headers are those of 6.1. */
#define TCX_INGRESS ((enum bpf_attach_type)46)
#define TCX_EGRESS  ((enum bpf_attach_type)47)

/* ---- devices.c ---- */

/* Beginnings of the names of pinned links. */
#define UPLINK_PIN "uplink-" /* and the interface index, and the direction, or the mode of XDP */
#define TUNNEL_PIN "tunnel-" /* and the direction */

/* Removes the filters whose programs use one of the maps pinned in a folder. */
void devices_cleanup(const char *maps);

/* Priorities of our clsact filters.  The second one is there only during a takeover. */
#define PRIORITY_FIRST    1
#define PRIORITY_FALLBACK 2
/* Id of our program on a device, 0 if there is none. */
uint32_t filter_program(int ifindex, enum bpf_tc_attach_point point, uint32_t priority);
int filter_attach(int ifindex, enum bpf_tc_attach_point point, uint32_t priority,
		  const struct program *program, struct errmsg *err);
void filter_remove(int ifindex, enum bpf_tc_attach_point point, uint32_t priority);
/* As datapath_attach_endpoint(), with other programs of the same names. */
int endpoint_attach(const struct datapath *datapath, int ifindex, const struct program *from_pod,
		    const struct program *to_pod, struct errmsg *err);
/* Whether the kernel has TCX links. */
bool links_probe_tcx(int prog_fd);

/* A program of an uplink or of the tunnel device, of this process or an older one. */
struct device_program {
	enum swap_program program;
	const char *name; /* "from_uplink" */
	uint32_t id;
	int ifindex;
	int link_fd;     /* borrowed; -1: it is a filter */
	const char *pin; /* of the link */
};

/* Calls each() for all of them, until it returns something else than 0, which is returned. */
int device_programs_foreach(const struct datapath *datapath,
			    int (*each)(const struct device_program *found, void *arg), void *arg);
/* Lets a program have what the first one passes on (TC_ACT_UNSPEC), until device_program_alone().
 */
int device_program_follow(struct datapath *datapath, const struct device_program *found,
			  const struct program *second, struct errmsg *err);
void device_program_alone(const struct datapath *datapath, const struct device_program *found);
/* Puts another program into the place of one. */
int device_program_replace(const struct device_program *found, const struct program *program,
			   struct errmsg *err);
/* "from_..." stands at a device's ingress, "to_..." at its egress. */
enum bpf_tc_attach_point program_point(const char *name);

#endif
