/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs on network devices: clsact filters of endpoints and, in time, a TCX program in front of
 * from_pod; TCX links (or filters) of tendril0, the tunnel device and the uplinks.  A filter ends
 * with its device.  Programs are replaced in place, so a restart leaves no moment without one.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datapath/datapath.h"
#include "datapath/state.h"
#include "lib/auto.h"

/* Our clsact filters have a handle that nobody else is likely to choose. */
#define FILTER_HANDLE 0x7e0d

#define TCX_MAX 16 /* programs on one device that are looked through for ours */

/* ---- filters -------------------------------------------------------------------------------- */

uint32_t filter_program(int ifindex, enum bpf_tc_attach_point point, uint32_t priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = priority);

	return bpf_tc_query(&hook, &opts) ? 0 : opts.prog_id;
}

void filter_remove(int ifindex, enum bpf_tc_attach_point point, uint32_t priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = priority);

	bpf_tc_detach(&hook, &opts); /* the qdisc stays: others may have filters on it */
}

int filter_attach(int ifindex, enum bpf_tc_attach_point point, uint32_t priority,
		  const struct program *program, struct errmsg *err)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = priority,
		    .prog_fd = program->fd, .flags = BPF_TC_F_REPLACE);
	int ret;

	ret = bpf_tc_hook_create(&hook);
	if (ret && ret != -EEXIST)
		return fail(err, ret, "add a clsact qdisc to device %d", ifindex);
	ret = bpf_tc_attach(&hook, &opts);
	if (ret)
		return fail(err, ret, "attach %s to device %d", program->name, ifindex);
	return 0;
}

/* ---- TCX in front of the filter ------------------------------------------------------------- */

/* Calls is_ours() for the TCX programs on a device's ingress; a descriptor of the first that is,
 * or -1. */
static int tcx_find(int ifindex, bool (*is_ours)(int prog_fd, const void *arg), const void *arg)
{
	uint32_t ids[TCX_MAX], count = TCX_MAX, flags = 0;

	if (bpf_prog_query(ifindex, TCX_INGRESS, 0, &flags, ids, &count))
		return -1; /* no TCX in this kernel, no device */
	for (uint32_t i = 0; i < count; i++) {
		auto_close int fd = bpf_prog_get_fd_by_id(ids[i]);

		if (fd >= 0 && is_ours(fd, arg))
			return take_fd(&fd);
	}
	return -1;
}

static bool program_has_name(int prog_fd, const void *name)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	return !bpf_obj_get_info_by_fd(prog_fd, &info, &len) && !strcmp(info.name, name);
}

/* What an earlier agent put in front of the filter becomes this one's program. */
static int tcx_take_over(int ifindex, const struct program *program, bool wanted,
			 struct errmsg *err)
{
	auto_close int old = tcx_find(ifindex, program_has_name, program->name);
	LIBBPF_OPTS(bpf_prog_attach_opts, opts, .flags = BPF_F_REPLACE, .replace_prog_fd = old);
	int ret;

	if (old < 0)
		return 0;
	if (wanted)
		ret = bpf_prog_attach_opts(program->fd, ifindex, TCX_INGRESS, &opts);
	else
		ret = bpf_prog_detach2(old, ifindex, TCX_INGRESS);
	return ret && errno != EEXIST
		       ? fail(err, -errno, "replace the TCX program of device %d", ifindex)
		       : 0; /* EEXIST: it is this very program */
}

int datapath_attach_tcx(int prog_fd, int ifindex)
{
	return bpf_prog_attach(prog_fd, ifindex, TCX_INGRESS, 0) && errno != EEXIST ? -errno : 0;
}

/* ---- devices -------------------------------------------------------------------------------- */

int endpoint_attach(const struct datapath *datapath, int ifindex, const struct program *from_pod,
		    const struct program *to_pod, struct errmsg *err)
{
	int ret;

	if (!from_pod || !to_pod)
		return fail_plain(err, -ENOENT, "from_pod and to_pod are not loaded");
	ret = filter_attach(ifindex, BPF_TC_EGRESS, PRIORITY_FIRST, to_pod, err);
	if (!ret)
		ret = filter_attach(ifindex, BPF_TC_INGRESS, PRIORITY_FIRST, from_pod, err);
	return ret ? ret : tcx_take_over(ifindex, from_pod, datapath->tcx, err);
}

int datapath_attach_endpoint(struct datapath *datapath, int ifindex, struct errmsg *err)
{
	return endpoint_attach(datapath, ifindex, program_find(datapath, "from_pod"),
			       program_find(datapath, "to_pod"), err);
}

bool datapath_endpoint_attached(struct datapath *datapath, int ifindex)
{
	const struct program *from_pod = program_find(datapath, "from_pod");
	const struct program *to_pod = program_find(datapath, "to_pod");

	return from_pod && to_pod &&
	       filter_program(ifindex, BPF_TC_INGRESS, PRIORITY_FIRST) == from_pod->id &&
	       filter_program(ifindex, BPF_TC_EGRESS, PRIORITY_FIRST) == to_pod->id;
}

/* A program that a device has once, by a TCX link where the kernel has them. */
struct place {
	const char *link; /* its pin */
	const char *program;
	enum bpf_attach_type tcx;
	enum bpf_tc_attach_point point;
};

static int place_attach(struct datapath *datapath, const struct place *place, int ifindex,
			struct errmsg *err)
{
	const struct program *program = program_find(datapath, place->program);
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;
	int ret;

	if (!program)
		return fail_plain(err, -ENOENT, "%s is not loaded", place->program);
	link_path(datapath->pin_dir, place->link, path);
	if (!datapath->tcx) {
		ret = filter_attach(ifindex, place->point, PRIORITY_FIRST, program, err);
		if (!ret)
			link_remove(path); /* of an earlier run with TCX */
		return ret;
	}
	fd = bpf_obj_get(path);
	if (fd >= 0 && link_ifindex(fd) == (uint32_t)ifindex &&
	    !bpf_link_update(fd, program->fd, NULL))
		return 0;
	ret = link_create(datapath, place->link, program->fd, ifindex, place->tcx, false, err);
	if (!ret)
		filter_remove(ifindex, place->point, PRIORITY_FIRST); /* of an earlier run */
	return ret;
}

static bool place_attached(struct datapath *datapath, const struct place *place, int ifindex)
{
	const struct program *program = program_find(datapath, place->program);
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;

	if (!program)
		return false;
	if (!datapath->tcx)
		return filter_program(ifindex, place->point, PRIORITY_FIRST) == program->id;
	fd = bpf_obj_get(link_path(datapath->pin_dir, place->link, path));
	return fd >= 0 && link_ifindex(fd) == (uint32_t)ifindex;
}

static const struct place host_place = { "host", "to_pod", TCX_EGRESS, BPF_TC_EGRESS };

int datapath_attach_host(struct datapath *datapath, int ifindex, struct errmsg *err)
{
	datapath->node->host_ifindex = (uint32_t)ifindex;
	return place_attach(datapath, &host_place, ifindex, err);
}

bool datapath_host_attached(struct datapath *datapath, int ifindex)
{
	return place_attached(datapath, &host_place, ifindex);
}

/* ---- tunnel devices ------------------------------------------------------------------------
 */

static const struct place tunnel_places[][2] = {
	[TUNNEL_OVERLAY] = { { TUNNEL_PIN "in", "from_tunnel", TCX_INGRESS, BPF_TC_INGRESS },
			     { TUNNEL_PIN "out", "to_tunnel", TCX_EGRESS, BPF_TC_EGRESS } },
	[TUNNEL_WIREGUARD] = { { TUNNEL_PIN "wireguard-in", "from_tunnel", TCX_INGRESS,
				 BPF_TC_INGRESS },
			       { TUNNEL_PIN "wireguard-out", "to_tunnel", TCX_EGRESS,
				 BPF_TC_EGRESS } },
};

int datapath_attach_tunnel(struct datapath *datapath, enum tunnel_device device, int ifindex,
			   struct errmsg *err)
{
	int ret = place_attach(datapath, &tunnel_places[device][0], ifindex, err);

	return ret ? ret : place_attach(datapath, &tunnel_places[device][1], ifindex, err);
}

bool datapath_tunnel_attached(struct datapath *datapath, enum tunnel_device device, int ifindex)
{
	return place_attached(datapath, &tunnel_places[device][0], ifindex) &&
	       place_attached(datapath, &tunnel_places[device][1], ifindex);
}

void datapath_drop_tunnel(struct datapath *datapath, enum tunnel_device device)
{
	char path[PIN_PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(tunnel_places[device]); i++)
		link_remove(link_path(datapath->pin_dir, tunnel_places[device][i].link, path));
}

/* ---- uplinks -------------------------------------------------------------------------------- */

struct uplink_places {
	struct place in;
	struct place out;
	char in_link[32];
	char out_link[32];
};

static void uplink_places_fill(struct uplink_places *places, int ifindex)
{
	snprintf(places->in_link, sizeof(places->in_link), UPLINK_PIN "%d-in", ifindex);
	snprintf(places->out_link, sizeof(places->out_link), UPLINK_PIN "%d-out", ifindex);
	places->in = (struct place){ places->in_link, "from_uplink", TCX_INGRESS, BPF_TC_INGRESS };
	places->out = (struct place){ places->out_link, "to_uplink", TCX_EGRESS, BPF_TC_EGRESS };
}

int datapath_attach_uplink(struct datapath *datapath, int ifindex, struct errmsg *err)
{
	struct uplink_places places;
	int ret;

	uplink_places_fill(&places, ifindex);
	ret = place_attach(datapath, &places.out, ifindex, err);
	return ret ? ret : place_attach(datapath, &places.in, ifindex, err);
}

bool datapath_uplink_attached(struct datapath *datapath, int ifindex)
{
	struct uplink_places places;

	uplink_places_fill(&places, ifindex);
	return place_attached(datapath, &places.out, ifindex) &&
	       place_attached(datapath, &places.in, ifindex);
}

static bool is_kept(const int *ifindexes, size_t count, int ifindex)
{
	for (size_t i = 0; i < count; i++) {
		if (ifindexes[i] == ifindex)
			return true;
	}
	return false;
}

struct uplink_search {
	const char *pin_dir;
	const int *ifindexes;
	size_t count;
};

static int uplink_filter_keep(const struct device_program *found, void *arg)
{
	const struct uplink_search *search = arg;

	if (found->link_fd < 0 && strstr(found->name, "_uplink") &&
	    !is_kept(search->ifindexes, search->count, found->ifindex))
		filter_remove(found->ifindex, program_point(found->name), PRIORITY_FIRST);
	return 0;
}

static int uplink_link_keep(const char *name, void *arg)
{
	const struct uplink_search *search = arg;
	const size_t len = strlen(UPLINK_PIN);
	char path[PIN_PATH_MAX];

	if (!strncmp(name, UPLINK_PIN, len) &&
	    !is_kept(search->ifindexes, search->count, (int)strtol(name + len, NULL, 10)))
		link_remove(link_path(search->pin_dir, name, path));
	return 0;
}

void datapath_keep_uplinks(struct datapath *datapath, const int *ifindexes, size_t count)
{
	struct uplink_search search = { datapath->pin_dir, ifindexes, count };
	char path[PIN_PATH_MAX];

	pins_foreach(link_path(datapath->pin_dir, "", path), uplink_link_keep, &search);
	if (!datapath->tcx)
		device_programs_foreach(datapath, uplink_filter_keep, &search);
}

/* ---- programs of earlier agents ---------------------------------------------------------------
 */

#define SECOND_PIN "-second" /* end of the pin of a program that follows another one */

enum bpf_tc_attach_point program_point(const char *name)
{
	return strncmp(name, "from_", strlen("from_")) ? BPF_TC_EGRESS : BPF_TC_INGRESS;
}

/* Whether the program of this id is one of those that uplinks and the tunnel device have. */
static bool device_program_fill(struct device_program *found, uint32_t id)
{
	auto_close int fd = id ? bpf_prog_get_fd_by_id(id) : -1;

	found->id = id;
	for (enum swap_program i = SWAP_FROM_UPLINK; fd >= 0 && i < SWAP_COUNT; i++) {
		if (program_has_name(fd, swap_names[i])) {
			found->program = i;
			found->name = swap_names[i];
			return true;
		}
	}
	return false;
}

struct device_program_search {
	const struct datapath *datapath;
	int (*each)(const struct device_program *found, void *arg);
	void *arg;
};

static int device_link_each(const char *name, void *arg)
{
	const struct device_program_search *search = arg;
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;
	struct device_program found;

	if ((strncmp(name, UPLINK_PIN, strlen(UPLINK_PIN)) != 0 &&
	     strncmp(name, TUNNEL_PIN, strlen(TUNNEL_PIN)) != 0) ||
	    strstr(name, SECOND_PIN))
		return 0;
	fd = bpf_obj_get(link_path(search->datapath->pin_dir, name, path));
	found = (struct device_program){ .link_fd = fd,
					 .ifindex = (int)link_ifindex(fd),
					 .pin = name };
	if (fd < 0 || !found.ifindex || bpf_obj_get_info_by_fd(fd, &info, &len) ||
	    !device_program_fill(&found, info.prog_id))
		return 0;
	return search->each(&found, search->arg);
}

int device_programs_foreach(const struct datapath *datapath,
			    int (*each)(const struct device_program *found, void *arg), void *arg)
{
	static const enum bpf_tc_attach_point points[] = { BPF_TC_INGRESS, BPF_TC_EGRESS };
	struct device_program_search search = { datapath, each, arg };
	struct if_nameindex *devices = if_nameindex();
	char path[PIN_PATH_MAX];
	int ret;

	ret = pins_foreach(link_path(datapath->pin_dir, "", path), device_link_each, &search);
	for (struct if_nameindex *device = devices; device && device->if_index; device++) {
		for (size_t i = 0; !ret && i < ARRAY_SIZE(points); i++) {
			struct device_program found = { .link_fd = -1,
							.ifindex = (int)device->if_index };

			if (device_program_fill(&found, filter_program(found.ifindex, points[i],
								       PRIORITY_FIRST)))
				ret = each(&found, arg);
		}
	}
	if_freenameindex(devices);
	return ret;
}

static const char *second_pin(const struct device_program *found, char buf[PIN_PATH_MAX])
{
	snprintf(buf, PIN_PATH_MAX, "%s" SECOND_PIN, found->pin);
	return buf;
}

/* A device that has TCX gets no qdisc for this: adding one stops its queues for a moment. */
int device_program_follow(struct datapath *datapath, const struct device_program *found,
			  const struct program *second, struct errmsg *err)
{
	const enum bpf_tc_attach_point point = program_point(found->name);
	char pin[PIN_PATH_MAX];
	int ret;

	if (found->link_fd < 0)
		return filter_attach(found->ifindex, point, PRIORITY_FALLBACK, second, err);
	ret = link_create(datapath, second_pin(found, pin), second->fd, found->ifindex,
			  point == BPF_TC_INGRESS ? TCX_INGRESS : TCX_EGRESS, false, err);
	return ret == -EEXIST ? 0 : ret; /* a process that died has done it */
}

void device_program_alone(const struct datapath *datapath, const struct device_program *found)
{
	char pin[PIN_PATH_MAX], path[PIN_PATH_MAX];

	if (found->link_fd < 0)
		filter_remove(found->ifindex, program_point(found->name), PRIORITY_FALLBACK);
	else
		link_remove(link_path(datapath->pin_dir, second_pin(found, pin), path));
}

int device_program_replace(const struct device_program *found, const struct program *program,
			   struct errmsg *err)
{
	if (found->link_fd < 0)
		return filter_attach(found->ifindex, program_point(found->name), PRIORITY_FIRST,
				     program, err);
	return bpf_link_update(found->link_fd, program->fd, NULL) && errno != ENOLINK
		       ? fail(err, -errno, "replace %s of device %d", found->name, found->ifindex)
		       : 0;
}

/* ---- cleaning up ---------------------------------------------------------------------------- */

struct map_ids {
	uint32_t id[64];
	size_t count;
};

/* Whether a program works on one of these maps (struct map_ids): the proof that it is ours. */
static bool program_uses(int prog_fd, const void *arg)
{
	const struct map_ids *maps = arg;
	uint32_t used[64];
	struct bpf_prog_info info = { .nr_map_ids = ARRAY_SIZE(used), .map_ids = (uintptr_t)used };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(prog_fd, &info, &len))
		return false;
	for (uint32_t i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(used); i++) {
		for (size_t j = 0; j < maps->count; j++) {
			if (used[i] == maps->id[j])
				return true;
		}
	}
	return false;
}

static void device_cleanup(int ifindex, const struct map_ids *maps)
{
	static const enum bpf_tc_attach_point points[] = { BPF_TC_INGRESS, BPF_TC_EGRESS };
	auto_close int tcx = tcx_find(ifindex, program_uses, maps);

	if (tcx >= 0)
		bpf_prog_detach2(tcx, ifindex, TCX_INGRESS);
	for (uint32_t priority = PRIORITY_FIRST; priority <= PRIORITY_FALLBACK; priority++) {
		for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
			uint32_t id = filter_program(ifindex, points[i], priority);
			auto_close int fd = id ? bpf_prog_get_fd_by_id(id) : -1;

			if (fd >= 0 && program_uses(fd, maps))
				filter_remove(ifindex, points[i], priority);
		}
	}
}

static void filters_remove(const struct map_ids *maps)
{
	struct if_nameindex *devices = if_nameindex();

	if (!devices)
		return;
	for (struct if_nameindex *device = devices; device->if_index; device++)
		device_cleanup((int)device->if_index, maps);
	if_freenameindex(devices);
}

struct map_search {
	const char *folder;
	struct map_ids maps;
};

static int map_each(const char *name, void *arg)
{
	struct map_search *search = arg;
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;

	snprintf(path, sizeof(path), "%s/%.*s", search->folder, BPF_OBJ_NAME_LEN, name);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		return 0;
	search->maps.id[search->maps.count++] = info.id;
	if (info.type == BPF_MAP_TYPE_SOCKHASH)
		sk_msg_detach(fd);
	return search->maps.count == ARRAY_SIZE(search->maps.id);
}

void devices_cleanup(const char *maps)
{
	struct map_search search = { .folder = maps };

	pins_foreach(maps, map_each, &search);
	filters_remove(&search.maps);
}
