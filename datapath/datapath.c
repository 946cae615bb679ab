/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads the programs and takes over or makes the pinned maps.  The only user of libbpf's object
 * API: once everything is loaded, the object with its ELF and BTF copies is closed, and only
 * descriptors stay.  Attaching is in links.c, map contents are in maps.c.
 */
#include "datapath/datapath.h"

#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "accel.skel.h"
#include "datapath/state.h"
#include "freed.skel.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "pods.skel.h"
#include "tcp.skel.h"
#include "tunnel.skel.h"
#include "uplink.skel.h"
#include "xdp.skel.h"

#define LOG_MODULE "datapath"
#include "lib/log.h"

/* ---- what libbpf and the verifier say ------------------------------------------------------- */

/* libbpf reports through one process-wide callback without a context argument, hence the static:
 * the tail of what it said since the last libbpf_said_reset(). */
static char libbpf_said[2048];

__attribute__((format(printf, 2, 0))) static int libbpf_say(enum libbpf_print_level level,
							    const char *fmt, va_list args)
{
	auto_free char *text = NULL;
	size_t have, add;
	int len;

	if (level == LIBBPF_DEBUG)
		return 0;
	len = vasprintf(&text, fmt, args);
	if (len < 0) {
		text = NULL; /* undefined after a failure */
		return 0;
	}
	add = (size_t)len < sizeof(libbpf_said) ? (size_t)len : sizeof(libbpf_said) - 1;
	have = strlen(libbpf_said);
	if (have + add >= sizeof(libbpf_said)) {
		size_t drop = have + add - sizeof(libbpf_said) + 1;

		memmove(libbpf_said, libbpf_said + drop, have - drop + 1);
		have -= drop;
	}
	memcpy(libbpf_said + have, text + len - add, add + 1);
	return 0;
}

/* The end of it on one line for an error text; all of it as debug lines. */
static int fail_load(struct errmsg *err, int code, const char *what)
{
	char *line, *rest = NULL;
	char tail[361];
	size_t len = strlen(libbpf_said), skip = len < sizeof(tail) ? 0 : len - sizeof(tail) + 1;

	memcpy(tail, libbpf_said + skip, len - skip + 1);
	for (char *c = tail; *c; c++) {
		if (*c == '\n')
			*c = c[1] ? '|' : '\0';
	}
	for (line = strtok_r(libbpf_said, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		log_debug("%s", line);
	libbpf_said[0] = '\0';
	if (code == -EPERM || code == -EACCES)
		return fail_plain(
			err, -EPERM,
			"%s: not permitted (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON): %s",
			what, tail);
	return fail_plain(err, code, "%s: %s: %s", what, strerror(-code), tail);
}

/* ---- the pin directory ---------------------------------------------------------------------- */

/* Makes path and what is missing above it, as long as that lies on a bpffs. */
static int bpffs_mkdir(const char *path, struct errmsg *err)
{
	char part[PIN_PATH_MAX];
	struct statfs fs;
	char *slash;
	int ret;

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return fail(err, -ENAMETOOLONG, "%s", path);
	if (statfs(path, &fs) == 0) {
		if (fs.f_type != BPF_FS_MAGIC)
			return fail_plain(err, -EINVAL, "%s is not on a bpffs: mount one there",
					  path);
		return 0;
	}
	if (errno != ENOENT)
		return fail(err, -errno, "%s", path);
	slash = strrchr(part, '/');
	if (!slash || slash == part)
		return fail_plain(err, -EINVAL, "%s is not on a bpffs: mount one there", path);
	*slash = '\0';
	ret = bpffs_mkdir(part, err);
	if (ret)
		return ret;
	if (mkdir(path, 0700) && errno != EEXIST)
		return fail(err, -errno, "mkdir %s", path);
	return 0;
}

int pin_folders_make(const struct datapath *datapath, struct errmsg *err)
{
	static const char *const folders[] = { "/maps", "/links" };
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(folders); i++) {
		char folder[PIN_PATH_MAX];

		snprintf(folder, sizeof(folder), "%s%s", datapath->pin_dir, folders[i]);
		ret = bpffs_mkdir(folder, err);
	}
	return ret;
}

static int pin_dir_open(struct datapath *datapath, const char *path, struct errmsg *err)
{
	size_t len = strlen(path);
	int ret;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len >= sizeof(datapath->pin_dir))
		return fail(err, -ENAMETOOLONG, "%s", path);
	memcpy(datapath->pin_dir, path, len);
	ret = bpffs_mkdir(datapath->pin_dir, err);
	if (!ret)
		ret = takeover_begin(datapath, err);
	return ret ? ret : pin_folders_make(datapath, err);
}

/* ---- maps and programs of the object -------------------------------------------------------- */

#define TRIAL_SOCKETS 64

/*
 * An entry must live as long as the fragments of one datagram are on their way, however many
 * datagrams a pod sends.  A CPU makes at most 200,000 in a second: 1024 of them are 5 ms.
 */
#define FRAGMENTS_PER_CPU 1024
#define FRAGMENTS_MIN     2048

static uint32_t fragments_max(void)
{
	int cpus = libbpf_num_possible_cpus();

	return cpus > 0 ? MAX((uint32_t)cpus * FRAGMENTS_PER_CPU, FRAGMENTS_MIN) : FRAGMENTS_MIN;
}

static void maps_resize(struct bpf_object *object, const struct datapath_limits *limits, bool trial)
{
	const struct {
		const char *map;
		uint32_t entries; /* 0: as maps.bpf.h says */
	} sizes[] = {
		{ "endpoint_map", limits->endpoints },
		{ "endpoint_stats", limits->endpoints },
		{ "budget_map", limits->endpoints },
		{ "bandwidth_map", limits->endpoints },
		{ "neighbour_map", limits->endpoints },
		{ "chained_map", limits->endpoints },
		{ "netns_map", limits->endpoints },
		{ "ct_map", limits->connections },
		{ "ct_count_map", limits->endpoints },
		{ "ipcache_map", limits->addresses },
		{ "policy_map", limits->policies },
		{ "port_map", limits->ports },
		{ "cidr_map", limits->cidrs },
		{ "service_map", limits->services },
		{ "backend_map", limits->backends },
		{ "nat_map", limits->translations },
		{ "nat_place_map", limits->translations / 2 },
		{ "nat_count_map", limits->endpoints },
		{ "flow_map", limits->flows },
		{ "frag_map", fragments_max() },
		{ "accel_map", trial ? TRIAL_SOCKETS : 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, sizes[i].map);

		if (map && sizes[i].entries)
			bpf_map__set_max_entries(map, sizes[i].entries);
	}
}

/* Pins what is new and keeps descriptors of the maps that user space works with. */
static int maps_keep(struct datapath *datapath, struct bpf_object *object, struct errmsg *err)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, object) {
		char path[PIN_PATH_MAX];

		if (bpf_map__is_internal(map) || !datapath->pin_dir[0])
			continue;
		map_path(datapath, bpf_map__name(map), path);
		if (bpf_obj_pin(bpf_map__fd(map), path) && errno != EEXIST)
			return fail(err, -errno, "pin %s", path);
	}
	for (int i = 0; i < MAP_TOTAL; i++) {
		int fd = bpf_object__find_map_fd_by_name(object, map_name_of(i));

		if (datapath->map_fds[i] >= 0) /* by the other object, which works on the same */
			continue;
		if (fd < 0)
			return fail(err, fd, "find %s in the object", map_name_of(i));
		datapath->map_fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (datapath->map_fds[i] < 0)
			return fail(err, -errno, "keep %s", map_name_of(i));
	}
	return 0;
}

/* Programs that nothing would attach are not loaded: what is off costs no verifier run. */
static void programs_select(struct bpf_object *object, const struct datapath_options *options)
{
	struct bpf_program *program;

	bpf_object__for_each_program (program, object) {
		/* For a long MTU a driver asks for it.  In generic mode tc would get packets
		 * without their Ethernet header (Linux 6.18). */
		if (bpf_program__type(program) == BPF_PROG_TYPE_XDP && !options->xdp_generic)
			bpf_program__set_flags(program, BPF_F_XDP_HAS_FRAGS);
		if (type_serves_sockets(bpf_program__type(program)) ||
		    bpf_program__expected_attach_type(program) == BPF_TRACE_ITER)
			bpf_program__set_autoload(program,
						  options->cgroup && options->socket_services);
	}
}

static int programs_keep(struct datapath *datapath, struct bpf_object *object, struct errmsg *err)
{
	struct bpf_program *program;

	bpf_object__for_each_program (program, object) {
		struct program *kept = &datapath->programs[datapath->program_count];
		struct bpf_prog_info info = { 0 };
		uint32_t len = sizeof(info);

		if (!bpf_program__autoload(program))
			continue;
		if (datapath->program_count == PROGRAM_MAX)
			return fail_plain(err, -E2BIG, "more than %d programs", PROGRAM_MAX);
		snprintf(kept->name, sizeof(kept->name), "%s", bpf_program__name(program));
		kept->type = bpf_program__type(program);
		kept->attach_type = bpf_program__expected_attach_type(program);
		kept->fd = fcntl(bpf_program__fd(program), F_DUPFD_CLOEXEC, 3);
		if (kept->fd < 0)
			return fail(err, -errno, "keep program %s", kept->name);
		datapath->program_count++;
		if (bpf_obj_get_info_by_fd(kept->fd, &info, &len))
			return fail(err, -errno, "read program %s", kept->name);
		kept->id = info.id;
	}
	return 0;
}

static int object_load(struct datapath *datapath, struct bpf_object *object,
		       const struct datapath_options *options, struct errmsg *err)
{
	bool maps_known = datapath->map_fds[0] >= 0; /* from the first object */
	int ret;

	maps_resize(object, &options->limits, options->trial);
	programs_select(object, options);
	ret = options->trial ? 0 : takeover_reuse(datapath, object, err);
	if (ret)
		return ret;
	ret = bpf_object__load(object);
	if (ret)
		return fail_load(err, ret, "load the BPF programs");
	ret = options->trial ? 0 : takeover_stage(datapath, object, err);
	if (ret)
		return ret;
	ret = maps_known ? 0 : maps_keep(datapath, object, err);
	if (ret)
		return ret;
	return programs_keep(datapath, object, err);
}

static int object_open(struct datapath *datapath, const void *(*bytes)(size_t *ret_len),
		       const struct datapath_options *options, struct errmsg *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "tendril");
	struct bpf_object *object;
	size_t len;
	const void *elf = bytes(&len);
	int ret;

	libbpf_said[0] = '\0';
	object = bpf_object__open_mem(elf, len, &opts);
	if (!object)
		return fail_load(err, -errno, "open the BPF object");
	ret = object_load(datapath, object, options, err);
	bpf_object__close(object);
	return ret;
}

/* The acceleration programs read kernel structures, which a kernel may refuse (lockdown) or have
 * changed; pods need their network all the same. */
static int objects_open(struct datapath *datapath, const struct datapath_options *options,
			struct errmsg *err)
{
	struct errmsg refusal = { 0 };
	int ret;

	if (options->trial)
		return object_open(datapath, accel_bpf__elf_bytes, options, err);
	ret = object_open(datapath, pods_bpf__elf_bytes, options, err);
	if (!ret && options->cgroup && options->accel && !datapath->accel_later &&
	    object_open(datapath, accel_bpf__elf_bytes, options, &refusal))
		log_warn("no socket acceleration: %s", refusal.text);
	return ret;
}

/* ---- the interface -------------------------------------------------------------------------- */

struct device_load {
	struct datapath *datapath;
	const struct datapath_options *options;
	struct errmsg *err;
};

static int device_load(const struct device_program *found, void *arg)
{
	const struct device_load *load = arg;

	return strstr(found->name, "_tunnel")
		       ? datapath_load_tunnel(load->datapath, load->options, load->err)
		       : datapath_load_uplinks(load->datapath, load->options, load->err);
}

static int datapath_setup(struct datapath *datapath, const struct datapath_options *options,
			  struct errmsg *err)
{
	const struct program *to_pod;
	int ret;

	if (options->limits.endpoints == 1 || options->limits.endpoints > UINT16_MAX)
		return fail_plain(err, -EINVAL, "limit of endpoints: %u is not in 2 .. %u",
				  options->limits.endpoints, UINT16_MAX);
	ret = options->trial ? 0 : pin_dir_open(datapath, options->pin_dir, err);
	if (ret)
		return ret;
	datapath->accel_later = options->accel_later && options->accel && options->cgroup;
	ret = objects_open(datapath, options, err);
	if (ret)
		return ret;
	ret = maps_init(datapath, err);
	if (ret)
		return ret;
	to_pod = program_find(datapath, "to_pod");
	datapath->tcx = to_pod && !options->force_clsact && links_probe_tcx(to_pod->fd);
	ret = links_open(datapath, options->cgroup, err);
	/* Programs that devices have are replaced together with those of the endpoints. */
	if (!ret && datapath->staged)
		ret = device_programs_foreach(datapath, device_load,
					      &(struct device_load){ datapath, options, err });
	return ret ? ret : takeover_finish(datapath, err);
}

int datapath_open(const struct datapath_options *options, struct datapath **ret_datapath,
		  struct errmsg *err)
{
	struct datapath *datapath = xcalloc(1, sizeof(*datapath));
	int ret;

	datapath->trial_link_fd = -1;
	datapath->freed_link_fd = -1;
	for (int i = 0; i < MAP_TOTAL; i++)
		datapath->map_fds[i] = -1;
	libbpf_set_print(libbpf_say);
	ret = datapath_setup(datapath, options, err);
	if (ret) {
		datapath_close(datapath);
		return ret;
	}
	*ret_datapath = datapath;
	return 0;
}

static bool program_is_accel(const struct program *program)
{
	return program->type == BPF_PROG_TYPE_SOCK_OPS || program->type == BPF_PROG_TYPE_SK_MSG;
}

void datapath_drop_accel(struct datapath *datapath)
{
	size_t kept = 0;

	datapath->accel_later = false;
	links_drop_accel(datapath);
	for (size_t i = 0; i < datapath->program_count; i++) {
		struct program *program = &datapath->programs[i];

		if (program_is_accel(program))
			close(program->fd);
		else
			datapath->programs[kept++] = *program;
	}
	datapath->program_count = kept;
}

int datapath_load_accel(struct datapath *datapath, const struct datapath_options *options,
			struct errmsg *err)
{
	int ret = object_open(datapath, accel_bpf__elf_bytes, options, err);

	datapath->accel_later = false;
	if (!ret)
		ret = links_open(datapath, options->cgroup, err);
	if (ret)
		datapath_drop_accel(datapath);
	return ret;
}

int datapath_load_uplinks(struct datapath *datapath, const struct datapath_options *options,
			  struct errmsg *err)
{
	if (program_find(datapath, "from_uplink"))
		return 0;
	return object_open(datapath, uplink_bpf__elf_bytes, options, err);
}

int datapath_load_xdp(struct datapath *datapath, const struct datapath_options *options,
		      enum xdp_mode mode, struct errmsg *err)
{
	struct datapath_options load = *options;

	if (program_find(datapath, "uplink_xdp"))
		return 0;
	load.xdp_generic = mode == XDP_GENERIC;
	return object_open(datapath, xdp_bpf__elf_bytes, &load, err);
}

int datapath_load_tcp(struct datapath *datapath, const struct datapath_options *options,
		      struct errmsg *err)
{
	int ret = object_open(datapath, tcp_bpf__elf_bytes, options, err);

	if (!ret)
		ret = tcp_attach(datapath, err);
	if (ret)
		tcp_detach(datapath);
	return ret;
}

void datapath_drop_tcp(struct datapath *datapath)
{
	tcp_detach(datapath);
}

int datapath_load_freed(struct datapath *datapath, const struct datapath_options *options,
			struct errmsg *err)
{
	return object_open(datapath, freed_bpf__elf_bytes, options, err);
}

int datapath_load_tunnel(struct datapath *datapath, const struct datapath_options *options,
			 struct errmsg *err)
{
	if (program_find(datapath, "from_tunnel"))
		return 0;
	return object_open(datapath, tunnel_bpf__elf_bytes, options, err);
}

int datapath_restore_links(struct datapath *datapath, const struct datapath_options *options,
			   struct errmsg *err)
{
	int ret = links_open(datapath, options->cgroup, err);

	return ret ? ret : tcp_attach(datapath, err);
}

void datapath_close(struct datapath *datapath)
{
	if (!datapath)
		return;
	maps_done(datapath);
	freed_done(datapath);
	for (int i = 0; i < MAP_TOTAL; i++) {
		if (datapath->map_fds[i] >= 0)
			close(datapath->map_fds[i]);
	}
	for (size_t i = 0; i < datapath->program_count; i++)
		close(datapath->programs[i].fd);
	if (datapath->trial_link_fd >= 0)
		close(datapath->trial_link_fd);
	free(datapath);
}

bool datapath_uses_tcx(const struct datapath *datapath)
{
	return datapath->tcx;
}

bool datapath_socket_services(const struct datapath *datapath)
{
	return datapath->socket_services;
}

bool datapath_accel(const struct datapath *datapath)
{
	return program_find(datapath, "msg_redirect") != NULL;
}

int datapath_program_fd(const struct datapath *datapath, const char *name)
{
	const struct program *program = program_find(datapath, name);

	return program ? program->fd : -ENOENT;
}

const char *datapath_program_name(const struct datapath *datapath, size_t index)
{
	return index < datapath->program_count ? datapath->programs[index].name : NULL;
}

int datapath_program_size(const struct datapath *datapath, const char *name,
			  struct program_size *ret)
{
	const struct program *program = program_find(datapath, name);
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	if (!program)
		return -ENOENT;
	if (bpf_obj_get_info_by_fd(program->fd, &info, &len))
		return -errno;
	ret->instructions = info.xlated_prog_len / sizeof(struct bpf_insn);
	ret->verified = info.verified_insns;
	ret->misses = info.recursion_misses;
	return 0;
}

/* ---- cleanup -------------------------------------------------------------------------------- */

int folder_remove(const char *path, struct errmsg *err)
{
	struct dirent *entry;
	int ret = 0;
	DIR *dir;

	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : fail(err, -errno, "open %s", path);
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    entry->d_type == DT_DIR)
			continue;
		if (unlinkat(dirfd(dir), entry->d_name, 0) && errno != ENOENT)
			ret = fail(err, -errno, "remove %s/%s", path, entry->d_name);
	}
	closedir(dir);
	if (!ret && rmdir(path) && errno != ENOENT && errno != EBUSY) /* EBUSY: a mount point */
		ret = fail(err, -errno, "remove %s", path);
	return ret;
}

/* Accelerated sockets keep program and maps as long as they live.  Nobody will change their policy
 * from now on, so they go back to packets. */
void accel_end(const char *maps)
{
	struct node_state node;
	char path[PIN_PATH_MAX];
	auto_close int fd = -1;
	uint32_t zero = 0;

	snprintf(path, sizeof(path), "%.*s/node_map", NAME_MAX, maps);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_map_lookup_elem(fd, &zero, &node))
		return;
	node.flags &= ~(uint32_t)NODE_ACCEL;
	bpf_map_update_elem(fd, &zero, &node, BPF_ANY);
}

static int maps_release(const char *name, void *arg)
{
	char path[PIN_PATH_MAX];

	if (!folder_has_maps(name))
		return 0;
	snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
	accel_end(path);
	devices_cleanup(path);
	return 0;
}

struct removal {
	const char *pin_dir;
	struct errmsg *err;
};

static int maps_remove(const char *name, void *arg)
{
	const struct removal *removal = arg;
	char path[PIN_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", removal->pin_dir, name);
	return folder_has_maps(name) ? folder_remove(path, removal->err) : 0;
}

int datapath_cleanup(const char *pin_dir, struct errmsg *err)
{
	struct removal removal = { pin_dir, err };
	char links[PIN_PATH_MAX];
	struct statfs fs;
	int ret;

	libbpf_set_print(libbpf_say);
	if (statfs(pin_dir, &fs))
		return errno == ENOENT ? 0 : fail(err, -errno, "%s", pin_dir);
	if (fs.f_type != BPF_FS_MAGIC)
		return 0; /* the bpffs is gone and with it everything that it held */
	links_remove(pin_dir);
	pins_foreach(pin_dir, maps_release, (void *)pin_dir);
	snprintf(links, sizeof(links), "%s/links", pin_dir);
	ret = folder_remove(links, err);
	if (!ret)
		ret = pins_foreach(pin_dir, maps_remove, &removal);
	return ret ? ret : folder_remove(pin_dir, err);
}
