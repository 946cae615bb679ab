/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the loader and of the map access share: struct datapath.  Outside of datapath/
 * only tests include this.
 */
#ifndef TENDRIL_DATAPATH_STATE_H
#define TENDRIL_DATAPATH_STATE_H

#include <bpf/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/maps.h"

#define PIN_PATH_MAX 528 /* pin_dir, a folder, NAME_MAX */
#define PROGRAM_MAX  32

/* Maps that user space touches beyond enum map_id, numbered on from it. */
enum {
	MAP_ENDPOINT = MAP_COUNT,
	MAP_ENDPOINT_STATS,
	MAP_NETNS,
	MAP_NODE,
	MAP_METRIC,
	MAP_EVENT,
	MAP_CT_COUNT,
	MAP_ACCEL,
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
	char pin_dir[256]; /* "": a trial, pins nothing */
	int trial_link_fd; /* of its only cgroup program; -1 */
	bool tcx;
	bool socket_services;
	bool accel_later; /* its programs are still to come, see datapath_load_accel() */
	struct program programs[PROGRAM_MAX];
	size_t program_count;

	int map_fds[MAP_TOTAL];
	uint32_t capacity[MAP_TOTAL];
	struct node_state *node;          /* node_map, mapped shared */
	struct endpoint_entry *endpoints; /* endpoint_map, mapped shared */
	int64_t *ct_counts;               /* ct_count_map, mapped shared */
	unsigned int cpus;                /* possible CPUs: values in a per-CPU element */
	void *percpu;                     /* room for one element of endpoint_stats */
	struct ring_buffer *ring;
	void (*event_each)(const struct flow_event *event, void *arg);
	void *event_arg;
};

/* ---- maps.c ---- */

/* Name of a map by enum map_id or the numbers above. */
const char *map_name_of(int map);
/* Checks the version pinned below pin_dir, or pins this one where nothing is pinned yet. */
int maps_check_version(const char *pin_dir, struct errmsg *err);
/* Checks the descriptors in map_fds against the types in abi.h and maps what is mapped. */
int maps_init(struct datapath *datapath, struct errmsg *err);
void maps_done(struct datapath *datapath);
/* One entry of any map; 0 or a negative errno.  Deleting what is not there is fine. */
int map_set(struct datapath *datapath, int map, const void *key, const void *value);
int map_get(struct datapath *datapath, int map, const void *key, void *ret_value);
int map_del(struct datapath *datapath, int map, const void *key);

/* ---- sweep.c ---- */

/* Deletes the entry unless it was touched since it was read (-EAGAIN): compare-and-delete. */
int ct_map_del_if(struct datapath *datapath, const struct ct_key *key, const struct ct_entry *seen);

/* ---- resize.c ---- */

struct bpf_object;

/* Whether a map may get another size while what it holds stays. */
bool map_can_resize(const char *name);
/* Fills the maps that the object made in place of pinned ones of another size, and pins them
 * instead.  -ENOSPC: what is there does not fit. */
int maps_resize_finish(const struct datapath *datapath, struct bpf_object *object,
		       struct errmsg *err);

/* ---- links.c ---- */

struct program *program_find(const struct datapath *datapath, const char *name);
/* Puts this process' programs behind every pinned link and attaches the cgroup and sk_msg programs
 * that were loaded; removes links of programs that were not. */
int links_open(struct datapath *datapath, const char *cgroup, struct errmsg *err);
/* Takes the acceleration programs off the cgroup and accel_map, whoever put them there. */
void links_drop_accel(struct datapath *datapath);
/* Removes links and filters whose programs use one of the maps pinned below pin_dir. */
void links_cleanup(const char *pin_dir);
/* Whether the kernel has TCX links. */
bool links_probe_tcx(int prog_fd);

#endif
