/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: creates, takes over and removes them; those of the cgroup and of the tracepoint, and the
 * sk_msg program of accel_map.  devices.c attaches to network devices.  A link ends with its pin
 * below pin_dir/links.  Programs are replaced in place, so a restart leaves no moment without one.
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

#define TCP_PROGRAM "tcp_state"

#define BESIDE_PIN "beside-" /* and the name of the program */

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

uint32_t link_ifindex(int link_fd)
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

/* Path of the pin that a link gets which stays beside its successor. */
static const char *link_path_beside(const struct datapath *datapath, const char *name,
				    char buf[PIN_PATH_MAX])
{
	snprintf(buf, PIN_PATH_MAX, "%s/links/" BESIDE_PIN "%s", datapath->pin_dir, name);
	return buf;
}

int link_pin(struct datapath *datapath, int link_fd, const char *name, bool beside,
	     struct errmsg *err)
{
	char path[PIN_PATH_MAX], fresh[PIN_PATH_MAX], old[PIN_PATH_MAX];

	link_path(datapath->pin_dir, name, path);
	link_path(datapath->pin_dir, "new", fresh);
	unlink(fresh); /* left by a process that died between the next two steps */
	if (bpf_obj_pin(link_fd, fresh))
		return fail(err, -errno, "pin %s", fresh);
	if ((beside && rename(path, link_path_beside(datapath, name, old))) ||
	    rename(fresh, path)) {
		int ret = -errno;

		unlink(fresh);
		return fail(err, ret, "pin %s", path);
	}
	return 0;
}

int link_create(struct datapath *datapath, const char *name, int prog_fd, int target,
		enum bpf_attach_type type, bool beside, struct errmsg *err)
{
	auto_close int fd = bpf_link_create(prog_fd, target, type, NULL);

	if (fd < 0)
		return fail(err, -errno, "attach %s", name);
	if (!datapath->pin_dir[0]) {
		datapath->trial_link_fd = take_fd(&fd);
		return 0;
	}
	return link_pin(datapath, fd, name, beside, err);
}

void link_remove(const char *path)
{
	auto_close int fd = bpf_obj_get(path);

	if (fd >= 0)
		bpf_link_detach(fd); /* ENOLINK: its device or cgroup is gone */
	unlink(path);
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

static bool is_beside(const char *name)
{
	return !strncmp(name, BESIDE_PIN, strlen(BESIDE_PIN));
}

static int link_drop_beside(const char *name, void *arg)
{
	const struct datapath *datapath = arg;
	char path[PIN_PATH_MAX];

	if (is_beside(name))
		link_remove(link_path(datapath->pin_dir, name, path));
	return 0;
}

void links_drop_beside(struct datapath *datapath)
{
	char path[PIN_PATH_MAX];

	pins_foreach(link_path(datapath->pin_dir, "", path), link_drop_beside, datapath);
}

/* Attaches a program to the cgroup, in place if its link is there already.  During a takeover those
 * that tell stay beside the new ones, also if this process dies: each knows the sockets of its own
 * maps. */
static int cgroup_attach(struct datapath *datapath, const struct program *program, int cgroup_fd,
			 uint64_t cgroup_id, struct errmsg *err)
{
	char path[PIN_PATH_MAX], old[PIN_PATH_MAX];
	auto_close int fd = bpf_obj_get(link_path(datapath->pin_dir, program->name, path));
	bool beside = fd >= 0 && datapath->staged && program_tells(program) &&
		      access(link_path_beside(datapath, program->name, old), F_OK);
	int ret;

	if (fd >= 0 && !beside && link_cgroup(fd) == cgroup_id &&
	    !bpf_link_update(fd, program->fd, NULL))
		return 0;
	ret = link_create(datapath, program->name, program->fd, cgroup_fd, program->attach_type,
			  beside, err);
	if (!ret && fd >= 0 && !beside)
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
void sk_msg_detach(int map_fd)
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

	if (is_beside(name) && datapath->staged)
		return 0; /* until takeover_finish() */
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
