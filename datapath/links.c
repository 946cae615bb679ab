/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching: clsact filters on the endpoints' devices and, in time, a TCX program in front of
 * from_pod, TCX links (or filters) on tendril0 and the uplinks, links on the cgroup, the sk_msg
 * program on accel_map, a tracepoint.  A link lives by its pin below pin_dir/links, the others by
 * their device; all have their program replaced in place, so a restart leaves no moment without
 * one.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath/datapath.h"
#include "datapath/state.h"
#include "lib/auto.h"

#define LOG_MODULE "datapath"
#include "lib/log.h"

/* enum bpf_attach_type from Linux 6.6 on; Debian 12's headers are those of 6.1. */
#define TCX_INGRESS ((enum bpf_attach_type)46)
#define TCX_EGRESS  ((enum bpf_attach_type)47)
#define TCX_MAX     16 /* programs on one device that are looked through for ours */

#define TCP_PROGRAM "tcp_state"

/* Our clsact filters have a handle that nobody else is likely to choose. */
#define FILTER_HANDLE 0x7e0d

const char *link_path(const char *pin_dir, const char *name, char buf[PIN_PATH_MAX])
{
	snprintf(buf, PIN_PATH_MAX, "%s/links/%s", pin_dir, name);
	return buf;
}

struct program *program_find(const struct datapath *datapath, const char *name)
{
	for (size_t i = 0; i < datapath->program_count; i++) {
		if (!strcmp(datapath->programs[i].name, name))
			return (struct program *)&datapath->programs[i];
	}
	return NULL;
}

/* ---- links ---------------------------------------------------------------------------------- */

bool links_probe_tcx(int prog_fd)
{
	/* No device has this index, so the answer is ENODEV from a kernel that knows the attach
	 * type and EINVAL from one that does not; nothing is attached either way. */
	return bpf_link_create(prog_fd, INT32_MAX, TCX_EGRESS, NULL) == -ENODEV;
}

/* The device of a TCX link; 0 once it is detached (the device is gone, or by force). */
static uint32_t link_ifindex(int link_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	/* info.tcx { ifindex, attach_type } came with 6.6; info.xdp.ifindex lies at its place. */
	return bpf_obj_get_info_by_fd(link_fd, &info, &len) ? 0 : info.xdp.ifindex;
}

static bool link_is_accel(int link_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	return !bpf_obj_get_info_by_fd(link_fd, &info, &len) && info.type == BPF_LINK_TYPE_CGROUP &&
	       info.cgroup.attach_type == BPF_CGROUP_SOCK_OPS;
}

static uint64_t link_cgroup(int link_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(link_fd, &info, &len) ? 0 : info.cgroup.cgroup_id;
}

/* Creates a link and gives it the pin's name, whose former holder is gone afterwards, not before:
 * for a cgroup link that moves, old and new overlap for a moment. */
static int link_create(struct datapath *datapath, const char *name, int prog_fd, int target,
		       enum bpf_attach_type type, struct errmsg *err)
{
	char path[PIN_PATH_MAX], fresh[PIN_PATH_MAX];
	auto_close int fd = -1;

	fd = bpf_link_create(prog_fd, target, type, NULL);
	if (fd < 0)
		return fail(err, -errno, "attach %s", name);
	if (!datapath->pin_dir[0]) {
		datapath->trial_link_fd = take_fd(&fd);
		return 0;
	}
	link_path(datapath->pin_dir, name, path);
	link_path(datapath->pin_dir, "new", fresh);
	unlink(fresh); /* left by a process that died between the next two steps */
	if (bpf_obj_pin(fd, fresh))
		return fail(err, -errno, "pin %s", fresh);
	if (rename(fresh, path)) {
		int code = -errno;

		unlink(fresh);
		return fail(err, code, "pin %s", path);
	}
	return 0;
}

/* Detaches at once: a link that merely loses its last pin is let go by a worker some time later. */
static void link_remove(const char *path)
{
	auto_close int fd = bpf_obj_get(path);

	if (fd >= 0)
		bpf_link_detach(fd); /* ENOLINK: its device or cgroup is gone */
	unlink(path);
}

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
	ret = link_create(datapath, place->link, program->fd, ifindex, place->tcx, err);
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

/* ---- the tunnel device ------------------------------------------------------------------------
 */

#define TUNNEL_PIN "tunnel-"

static const struct place tunnel_places[] = {
	{ TUNNEL_PIN "in", "from_tunnel", TCX_INGRESS, BPF_TC_INGRESS },
	{ TUNNEL_PIN "out", "to_tunnel", TCX_EGRESS, BPF_TC_EGRESS },
};

int datapath_attach_tunnel(struct datapath *datapath, int ifindex, struct errmsg *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(tunnel_places); i++)
		ret = place_attach(datapath, &tunnel_places[i], ifindex, err);
	return ret;
}

bool datapath_tunnel_attached(struct datapath *datapath, int ifindex)
{
	return place_attached(datapath, &tunnel_places[0], ifindex) &&
	       place_attached(datapath, &tunnel_places[1], ifindex);
}

void datapath_drop_tunnel(struct datapath *datapath)
{
	char path[PIN_PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(tunnel_places); i++)
		link_remove(link_path(datapath->pin_dir, tunnel_places[i].link, path));
}

/* ---- uplinks -------------------------------------------------------------------------------- */

#define UPLINK_PIN "uplink-" /* and the interface index, and the direction */

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

static void uplink_filters_keep(const int *ifindexes, size_t count)
{
	struct if_nameindex *devices = if_nameindex();
	static const enum bpf_tc_attach_point points[] = { BPF_TC_INGRESS, BPF_TC_EGRESS };
	static const char *const names[] = { "from_uplink", "to_uplink" };

	for (struct if_nameindex *device = devices; device && device->if_index; device++) {
		const int ifindex = (int)device->if_index;

		for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
			auto_close int fd = -1;

			if (is_kept(ifindexes, count, ifindex))
				continue;
			fd = bpf_prog_get_fd_by_id(
				filter_program(ifindex, points[i], PRIORITY_FIRST));
			if (fd >= 0 && program_has_name(fd, names[i]))
				filter_remove(ifindex, points[i], PRIORITY_FIRST);
		}
	}
	if_freenameindex(devices);
}

struct uplink_search {
	const char *pin_dir;
	const int *ifindexes;
	size_t count;
};

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
		uplink_filters_keep(ifindexes, count);
}

/* ---- cgroup and sockets --------------------------------------------------------------------- */

static bool program_on_cgroup(const struct program *program)
{
	return type_serves_sockets(program->type) || program->type == BPF_PROG_TYPE_SOCK_OPS;
}

/* Programs that tell a socket which service it speaks with, from what others have noted. */
static bool program_tells(const struct program *program)
{
	return program->attach_type == BPF_CGROUP_INET4_GETPEERNAME ||
	       program->attach_type == BPF_CGROUP_INET6_GETPEERNAME ||
	       program->attach_type == BPF_CGROUP_UDP4_RECVMSG ||
	       program->attach_type == BPF_CGROUP_UDP6_RECVMSG;
}

void links_drop_old(struct datapath *datapath)
{
	while (datapath->old_link_count) {
		int fd = datapath->old_links[--datapath->old_link_count];

		bpf_link_detach(fd);
		close(fd);
	}
}

/* Attaches a program to the cgroup, in place if its link is there already.  During a takeover those
 * that tell stay beside the new ones: each knows the sockets of its own maps. */
static int cgroup_attach(struct datapath *datapath, const struct program *program, int cgroup_fd,
			 uint64_t cgroup_id, struct errmsg *err)
{
	char path[PIN_PATH_MAX];
	auto_close int fd = bpf_obj_get(link_path(datapath->pin_dir, program->name, path));
	bool beside = datapath->staged && program_tells(program) &&
		      datapath->old_link_count < ARRAY_SIZE(datapath->old_links);
	int ret;

	if (fd >= 0 && !beside && link_cgroup(fd) == cgroup_id &&
	    !bpf_link_update(fd, program->fd, NULL))
		return 0;
	ret = link_create(datapath, program->name, program->fd, cgroup_fd, program->attach_type,
			  err);
	if (!ret && fd >= 0 && beside)
		datapath->old_links[datapath->old_link_count++] = take_fd(&fd);
	else if (!ret && fd >= 0)
		bpf_link_detach(fd); /* from another cgroup */
	return ret;
}

/* Attaches all that tell, or all others. */
static int cgroup_attach_some(struct datapath *datapath, bool tell, int cgroup_fd,
			      uint64_t cgroup_id, struct errmsg *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < datapath->program_count; i++) {
		const struct program *program = &datapath->programs[i];

		if (!program_on_cgroup(program) || program_tells(program) != tell)
			continue;
		ret = cgroup_attach(datapath, program, cgroup_fd, cgroup_id, err);
		datapath->socket_services |= !ret && type_serves_sockets(program->type);
	}
	return ret;
}

static int cgroup_attach_all(struct datapath *datapath, const char *cgroup, struct errmsg *err)
{
	auto_close int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int ret;

	if (fd < 0 || fstat(fd, &st))
		return fail(err, -errno, "cgroup %s", cgroup);
	/* The inode number of a cgroup is its id.  Who tells must be there before who notes. */
	ret = cgroup_attach_some(datapath, true, fd, st.st_ino, err);
	if (!ret)
		ret = cgroup_attach_some(datapath, false, fd, st.st_ino, err);
	return ret ? wrap(err, "cgroup %s", cgroup) : 0;
}

/* Takes the sk_msg program off a sockhash.  Sockets that are in the map keep theirs: the kernel
 * copies it into each when it is added. */
static void sk_msg_detach(int map_fd)
{
	uint32_t flags = 0, count = 1, id = 0;
	auto_close int fd = -1;

	if (bpf_prog_query(map_fd, BPF_SK_MSG_VERDICT, 0, &flags, &id, &count) || !count)
		return;
	fd = bpf_prog_get_fd_by_id(id);
	if (fd >= 0)
		bpf_prog_detach2(fd, map_fd, BPF_SK_MSG_VERDICT);
}

static int sk_msg_attach(struct datapath *datapath, struct errmsg *err)
{
	for (size_t i = 0; i < datapath->program_count; i++) {
		const struct program *program = &datapath->programs[i];

		if (program->type != BPF_PROG_TYPE_SK_MSG)
			continue;
		if (bpf_prog_attach(program->fd, datapath->map_fds[MAP_ACCEL], BPF_SK_MSG_VERDICT,
				    0))
			return fail(err, -errno, "attach %s", program->name);
		return 0;
	}
	if (!datapath->accel_later)
		sk_msg_detach(datapath->map_fds[MAP_ACCEL]);
	return 0;
}

/* ---- tracepoint ----------------------------------------------------------------------------- */

static uint32_t link_program(int link_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(link_fd, &info, &len) ? 0 : info.prog_id;
}

struct program_content {
	unsigned char tag[BPF_TAG_SIZE];
	uint32_t maps[64];
	uint32_t map_count;
};

static bool program_read(int prog_fd, struct program_content *ret)
{
	struct bpf_prog_info info = { .nr_map_ids = ARRAY_SIZE(ret->maps),
				      .map_ids = (uintptr_t)ret->maps };
	uint32_t len = sizeof(info);

	*ret = (struct program_content){ 0 };
	if (bpf_obj_get_info_by_fd(prog_fd, &info, &len))
		return false;
	memcpy(ret->tag, info.tag, sizeof(ret->tag));
	ret->map_count = info.nr_map_ids;
	return true;
}

/* Puts the program behind a link in the place of this one, if it is the same code over the same
 * maps. */
static bool program_adopt(struct program *program, int link_fd)
{
	auto_close int fd = bpf_prog_get_fd_by_id(link_program(link_fd));
	struct program_content there, own;

	if (fd < 0 || !program_read(fd, &there) || !program_read(program->fd, &own) ||
	    memcmp(&there, &own, sizeof(own)) != 0)
		return false;
	close(program->fd);
	program->fd = take_fd(&fd);
	program->id = link_program(link_fd);
	return true;
}

/* The program of such a link cannot be replaced.  Where it must be, the old one goes first: two
 * would report each connection twice. */
int tcp_attach(struct datapath *datapath, struct errmsg *err)
{
	struct program *program = program_find(datapath, TCP_PROGRAM);
	char path[PIN_PATH_MAX];
	auto_close int old = bpf_obj_get(link_path(datapath->pin_dir, TCP_PROGRAM, path));
	auto_close int fd = -1;

	if (!program || (old >= 0 && link_program(old) == program->id) ||
	    (old >= 0 && program_adopt(program, old)))
		return 0;
	unlink(path);
	if (old >= 0)
		close(take_fd(&old));
	fd = bpf_raw_tracepoint_open(NULL, program->fd);
	if (fd < 0)
		return fail(err, -errno, "attach %s", TCP_PROGRAM);
	return bpf_obj_pin(fd, path) ? fail(err, -errno, "pin %s", path) : 0;
}

void tcp_detach(struct datapath *datapath)
{
	char path[PIN_PATH_MAX];

	unlink(link_path(datapath->pin_dir, TCP_PROGRAM, path));
}

/* ---- taking over and cleaning up ------------------------------------------------------------ */

/* Puts the new program behind a pinned link of an earlier process, or removes the link if it has
 * no device any more, or no program that is wanted. */
static int link_take_over(const char *name, void *arg)
{
	struct datapath *datapath = arg;
	const struct program *program;
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;

	link_path(datapath->pin_dir, name, path);
	program = program_find(datapath, strcmp(name, "host") ? name : "to_pod");
	fd = bpf_obj_get(path);
	if (!strncmp(name, UPLINK_PIN, strlen(UPLINK_PIN)) ||
	    !strncmp(name, TUNNEL_PIN, strlen(TUNNEL_PIN))) {
		/* Whose program is replaced when its device is looked at. */
		if (fd >= 0 && !link_ifindex(fd))
			unlink(path);
		return 0;
	}
	if (!strcmp(name, TCP_PROGRAM))
		return 0; /* tcp_attach() replaces it */
	if (!program && datapath->accel_later && link_is_accel(fd))
		return 0;
	if (!program) {
		link_remove(path);
		return 0;
	}
	if (program_on_cgroup(program))
		return 0; /* cgroup_attach() looks whether it is the right cgroup */
	if (datapath->staged)
		return 0; /* takeover_finish() replaces it with those of the endpoints */
	if (fd >= 0 && !bpf_link_update(fd, program->fd, NULL))
		return 0;
	if (errno == ENOLINK)
		unlink(path); /* its device is gone */
	else
		log_warn("%s keeps its old program: %s", path, strerror(errno));
	return 0;
}

int links_open(struct datapath *datapath, const char *cgroup, struct errmsg *err)
{
	char path[PIN_PATH_MAX];
	int ret;

	if (datapath->pin_dir[0])
		pins_foreach(link_path(datapath->pin_dir, "", path), link_take_over, datapath);
	if (cgroup) {
		ret = cgroup_attach_all(datapath, cgroup, err);
		if (ret)
			return ret;
	}
	return sk_msg_attach(datapath, err);
}

static int link_drop_accel(const char *name, void *arg)
{
	const struct datapath *datapath = arg;
	char path[PIN_PATH_MAX];
	auto_close int fd = bpf_obj_get(link_path(datapath->pin_dir, name, path));

	if (fd >= 0 && link_is_accel(fd))
		link_remove(path);
	return 0;
}

void links_drop_accel(struct datapath *datapath)
{
	char path[PIN_PATH_MAX];

	sk_msg_detach(datapath->map_fds[MAP_ACCEL]);
	pins_foreach(link_path(datapath->pin_dir, "", path), link_drop_accel, datapath);
}

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

static void devices_cleanup(const struct map_ids *maps)
{
	struct if_nameindex *devices = if_nameindex();

	if (!devices)
		return;
	for (struct if_nameindex *device = devices; device->if_index; device++)
		device_cleanup((int)device->if_index, maps);
	if_freenameindex(devices);
}

static int link_remove_each(const char *name, void *arg)
{
	char path[PIN_PATH_MAX];

	link_remove(link_path(arg, name, path));
	return 0;
}

void links_remove(const char *pin_dir)
{
	char path[PIN_PATH_MAX];

	pins_foreach(link_path(pin_dir, "", path), link_remove_each, (void *)pin_dir);
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

void links_cleanup(const char *maps)
{
	struct map_search search = { .folder = maps };

	pins_foreach(maps, map_each, &search);
	devices_cleanup(&search.maps);
}
