/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes over the maps of an earlier agent under traffic.  A map that has not changed is used again.
 * A map with another layout (ABI) or another size (limit) is copied, in steps that can all be
 * repeated after a SIGKILL:
 *
 *	1  The new maps are filled and pinned, with those that are used on, in "new".
 *	2  "new" becomes "fromABI_toABI".  Then the version is set: from here on only this agent,
 *	   or a later one, can start, and it goes on with step 3.
 *	3  The programs of sockets are replaced one by one; those that read what others wrote stay
 *	   beside the new ones until step 4.  XDP leaves all packets to tc.  Then all others are
 *	   replaced at one moment (swap.c).  Old ones work on the old maps until then.
 *	4  What the old programs wrote after step 1 is brought over, before and after that moment.
 *	   In the milliseconds between, what the new programs would drop is asked of the old ones.
 *	5  "maps" becomes "old", "fromABI_toABI" becomes "maps", and "old" is removed.
 *
 * Policy and services are complete in both sets of maps all the time, and nobody changes them
 * meanwhile, so no packet passes unjudged.
 */
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datapath/state.h"
#include "lib/auto.h"

#define LOG_MODULE "datapath"
#include "lib/log.h"

#define NEXT_FORMAT "from%u_to%u"

/* Whether a folder's name is of NEXT_FORMAT. */
static bool next_parse(const char *name, uint32_t *ret_from, uint32_t *ret_to)
{
	char *end;

	if (strncmp(name, "from", 4) != 0)
		return false;
	*ret_from = (uint32_t)strtoul(name + 4, &end, 10);
	if (strncmp(end, "_to", 3) != 0)
		return false;
	*ret_to = (uint32_t)strtoul(end + 3, &end, 10);
	return !*end;
}

/* Nobody has a pin whose path is longer; "" is none either. */
static const char *pin_path(const char *folder, const char *name, char buf[PIN_PATH_MAX])
{
	if (snprintf(buf, PIN_PATH_MAX, "%s/%s", folder, name) >= PIN_PATH_MAX)
		buf[0] = '\0';
	return buf;
}

/* Where the maps of the next ABI are while those in "maps" are of pinned_abi. */
static const char *next_path(const struct datapath *datapath, char buf[PIN_PATH_MAX])
{
	snprintf(buf, PIN_PATH_MAX, "%s/" NEXT_FORMAT, datapath->pin_dir, datapath->pinned_abi,
		 ABI_VERSION);
	return buf;
}

const char *map_path(const struct datapath *datapath, const char *name, char buf[PIN_PATH_MAX])
{
	char folder[PIN_PATH_MAX];

	return pin_path(datapath->staged ? next_path(datapath, folder)
					 : pin_path(datapath->pin_dir, "maps", folder),
			name, buf);
}

int pins_foreach(const char *path, int (*each)(const char *name, void *arg), void *arg)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int ret = 0;

	while (dir && !ret && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			ret = each(entry->d_name, arg);
	}
	if (dir)
		closedir(dir);
	return ret;
}

bool folder_has_maps(const char *name)
{
	uint32_t from, to;

	return !strcmp(name, "maps") || !strcmp(name, "new") || !strcmp(name, "old") ||
	       next_parse(name, &from, &to);
}

static uint32_t map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

/* ---- the version ----------------------------------------------------------------------------- */

static int version_create(const char *path, struct errmsg *err)
{
	auto_close int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "version", sizeof(uint32_t),
					   sizeof(uint32_t), 1, NULL);
	uint32_t zero = 0, version = ABI_VERSION;

	if (fd < 0 && errno == EPERM)
		return fail_plain(err, -EPERM, "create a map: not permitted (needs CAP_BPF)");
	if (fd < 0 || bpf_map_update_elem(fd, &zero, &version, BPF_ANY) || bpf_obj_pin(fd, path))
		return fail(err, -errno, "create %s", path);
	return 0;
}

int version_ensure(const char *pin_dir, struct errmsg *err)
{
	char path[PIN_PATH_MAX];

	return access(pin_path(pin_dir, "version", path), F_OK) ? version_create(path, err) : 0;
}

static int version_open(const char *pin_dir, uint32_t *ret_version, struct errmsg *err)
{
	char path[PIN_PATH_MAX], map[PIN_PATH_MAX];
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info), zero = 0;
	auto_close int fd = -1;

	*ret_version = ABI_VERSION;
	fd = bpf_obj_get(pin_path(pin_dir, "version", path));
	if (fd < 0 && errno == ENOENT && access(pin_path(pin_dir, "maps/endpoint_map", map), F_OK))
		return version_create(path, err);
	if (fd < 0 && errno == ENOENT)
		return fail_plain(err, -EPROTO,
				  "%s was made by another version: run tendrild --cleanup first",
				  pin_dir);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		return fail(err, -errno, "open %s", path);
	if (info.value_size != sizeof(*ret_version) || bpf_map_lookup_elem(fd, &zero, ret_version))
		return fail_plain(err, -EPROTO, "%s is no version of Tendril", path);
	return 0;
}

static int version_set(const char *pin_dir, uint32_t version, struct errmsg *err)
{
	char path[PIN_PATH_MAX];
	auto_close int fd = bpf_obj_get(pin_path(pin_dir, "version", path));
	uint32_t zero = 0;

	return fd < 0 || bpf_map_update_elem(fd, &zero, &version, BPF_ANY)
		       ? fail(err, -errno, "write %s", path)
		       : 0;
}

static int version_check(const char *pin_dir, uint32_t version, struct errmsg *err)
{
	if (version > ABI_VERSION)
		return fail_plain(
			err, -EPROTO,
			"%s was made by a later version (ABI %u, this agent has %u): to go "
			"back to this one, end the pods and run tendrild --cleanup first",
			pin_dir, version, ABI_VERSION);
	if (version < ABI_OLDEST)
		return fail_plain(err, -EPROTO,
				  "%s was made by a version that is too old (ABI %u, this agent "
				  "takes over %u and later): start a version between the two once, "
				  "or end the pods and run tendrild --cleanup first",
				  pin_dir, version, ABI_OLDEST);
	return 0;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* Step 5. */
static int folders_commit(const char *pin_dir, const char *next, struct errmsg *err)
{
	char maps[PIN_PATH_MAX], old[PIN_PATH_MAX];

	accel_end(pin_path(pin_dir, "maps", maps));
	pin_path(pin_dir, "old", old);
	if (rename(maps, old) && errno != ENOENT)
		return fail(err, -errno, "rename %s", maps);
	if (rename(next, maps))
		return fail(err, -errno, "rename %s", next);
	return folder_remove(old, err);
}

struct next_search {
	const char *pin_dir;
	uint32_t version;
	uint32_t from; /* of the folder that counts; 0: there is none */
	char path[PIN_PATH_MAX];
	struct errmsg *err;
};

/* A folder to another ABI than the version is of a takeover that never got through step 2. */
static int next_find(const char *name, void *arg)
{
	struct next_search *search = arg;
	char path[PIN_PATH_MAX];
	uint32_t from, to;

	if (!next_parse(name, &from, &to))
		return 0;
	pin_path(search->pin_dir, name, path);
	if (to != search->version)
		return folder_remove(path, search->err);
	search->from = from;
	memcpy(search->path, path, sizeof(path));
	return 0;
}

/* After a process that died: before step 2 was done all begins anew; after it, it goes on. */
static int folders_tidy(struct datapath *datapath, struct errmsg *err)
{
	const char *pin_dir = datapath->pin_dir;
	struct next_search next = { .pin_dir = pin_dir,
				    .version = datapath->pinned_abi,
				    .err = err };
	char path[PIN_PATH_MAX];
	int ret;

	ret = pins_foreach(pin_dir, next_find, &next);
	if (!ret)
		ret = folder_remove(pin_path(pin_dir, "new", path), err);
	if (ret)
		return ret;
	if (next.from && next.version == ABI_VERSION &&
	    !access(pin_path(pin_dir, "maps", path), F_OK)) {
		datapath->staged = true;
		datapath->pinned_abi = next.from;
		return 0;
	}
	if (next.from) /* the rest of step 5; or a still later version goes on from here */
		return folders_commit(pin_dir, next.path, err);
	return folder_remove(pin_path(pin_dir, "old", path), err);
}

int takeover_begin(struct datapath *datapath, struct errmsg *err)
{
	int ret = version_open(datapath->pin_dir, &datapath->pinned_abi, err);

	if (!ret)
		ret = version_check(datapath->pin_dir, datapath->pinned_abi, err);
	return ret ? ret : folders_tidy(datapath, err);
}

/* ---- which maps are used on ------------------------------------------------------------------ */

enum plan { PLAN_NEW, PLAN_REUSE, PLAN_COPY };

/* Maps that only the agent writes may change their size, and so may translations, which are copied
 * under traffic.  In the other maps a slot is an interface. */
static bool map_can_resize(const char *name)
{
	static const char *const names[] = { "ipcache_map",  "cidr_map",    "policy_map",
					     "port_map",     "service_map", "backend_map",
					     "range_map",    "cluster_map", "nat_map",
					     "nat_place_map" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return true;
	}
	return false;
}

static int refuse_shape(const char *path, struct errmsg *err)
{
	return fail_plain(err, -EPROTO,
			  "%s was made by another version: run tendrild --cleanup first", path);
}

/* A pinned map that this version would have made otherwise: may it be copied? */
static int plan_copy(const struct datapath *datapath, const struct bpf_map *map,
		     const struct bpf_map_info *info, const char *path, struct errmsg *err)
{
	const struct map_rule *rule = map_rule_find(bpf_map__name(map));
	bool grew = info->key_size == bpf_map__key_size(map) &&
		    info->value_size <= bpf_map__value_size(map);

	if (datapath->staged || datapath->pinned_abi == ABI_VERSION)
		return refuse_shape(path, err);
	if (type_has_entries(info->type) && type_has_entries(bpf_map__type(map)) && !grew &&
	    !rule_converts(datapath, rule))
		return refuse_shape(path, err);
	return 0;
}

static int map_plan(const struct datapath *datapath, const struct bpf_map *map, int *ret_fd,
		    enum plan *ret_plan, struct errmsg *err)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[PIN_PATH_MAX];
	auto_close int fd = bpf_obj_get(map_path(datapath, bpf_map__name(map), path));

	*ret_plan = PLAN_NEW;
	if (fd < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "open %s", path);
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return fail(err, -errno, "read %s", path);
	*ret_plan = PLAN_COPY;
	if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
	    info.value_size != bpf_map__value_size(map) ||
	    info.map_flags != bpf_map__map_flags(map) ||
	    (!datapath->staged && rule_converts(datapath, map_rule_find(bpf_map__name(map)))))
		return plan_copy(datapath, map, &info, path, err);
	*ret_fd = take_fd(&fd);
	/* While staged a new limit has to wait for the next start. */
	if (info.max_entries == bpf_map__max_entries(map) || datapath->staged)
		*ret_plan = PLAN_REUSE;
	else if (datapath->pinned_abi == ABI_VERSION && !map_can_resize(bpf_map__name(map)))
		return fail_plain(err, -EPROTO,
				  "%s was made for %u entries, now %u are wanted: "
				  "run tendrild --cleanup first",
				  path, info.max_entries, bpf_map__max_entries(map));
	return 0;
}

/* node_map is copied with any other: its flags then end what only old programs would go on with. */
static int map_reuse(const struct datapath *datapath, struct bpf_map *map, bool copies,
		     bool *ret_copied, struct errmsg *err)
{
	enum plan plan;
	auto_close int fd = -1;
	int ret;

	if (bpf_map__is_internal(map))
		return 0; /* .rodata and its like belong to the programs, not to the node */
	ret = map_plan(datapath, map, &fd, &plan, err);
	if (ret)
		return ret;
	if (ret_copied)
		*ret_copied |= plan == PLAN_COPY;
	else if (plan == PLAN_REUSE && !(copies && !strcmp(bpf_map__name(map), "node_map")))
		ret = bpf_map__reuse_fd(map, fd);
	return ret ? fail(err, ret, "reuse %s", bpf_map__name(map)) : 0;
}

int takeover_reuse(const struct datapath *datapath, struct bpf_object *object, struct errmsg *err)
{
	bool copies = false;
	struct bpf_map *map;
	int ret = 0;

	bpf_object__for_each_map (map, object) {
		if (!ret)
			ret = map_reuse(datapath, map, false, &copies, err);
	}
	bpf_object__for_each_map (map, object) {
		if (!ret)
			ret = map_reuse(datapath, map, copies, NULL, err);
	}
	return ret;
}

/* ---- steps 1 and 2 --------------------------------------------------------------------------- */

/* The pinned map of this name if the object has made another one in its place, or -1. */
static int map_predecessor(const struct datapath *datapath, const struct bpf_map *map)
{
	char path[PIN_PATH_MAX];
	auto_close int fd = bpf_obj_get(map_path(datapath, bpf_map__name(map), path));

	return fd < 0 || map_id(fd) == map_id(bpf_map__fd(map)) ? -1 : take_fd(&fd);
}

static int map_stage(const struct datapath *datapath, const struct bpf_map *map, const char *fresh,
		     struct errmsg *err)
{
	const char *name = bpf_map__name(map);
	char path[PIN_PATH_MAX];
	auto_close int fd = map_predecessor(datapath, map);
	int ret = fd < 0 ? 0 : map_copy(datapath, name, fd, bpf_map__fd(map), false);

	if (ret == -E2BIG || ret == -ENOSPC)
		return fail_plain(err, -ENOSPC, "%s holds more than the %u entries now wanted",
				  map_path(datapath, name, path), bpf_map__max_entries(map));
	if (ret)
		return fail(err, ret, "copy %s", name);
	if (fd >= 0)
		log_info("%s: copied, room for %u entries of %u bytes", name,
			 bpf_map__max_entries(map),
			 bpf_map__key_size(map) + bpf_map__value_size(map));
	if (bpf_obj_pin(bpf_map__fd(map), pin_path(fresh, name, path)))
		return fail(err, -errno, "pin %s", path);
	return 0;
}

static int maps_stage(const struct datapath *datapath, const struct bpf_object *object,
		      struct errmsg *err)
{
	char fresh[PIN_PATH_MAX], next[PIN_PATH_MAX];
	struct bpf_map *map;
	int ret = 0;

	if (mkdir(pin_path(datapath->pin_dir, "new", fresh), 0700))
		return fail(err, -errno, "mkdir %s", fresh);
	bpf_object__for_each_map (map, object) {
		if (!ret && !bpf_map__is_internal(map))
			ret = map_stage(datapath, map, fresh, err);
	}
	if (!ret && rename(fresh, next_path(datapath, next)))
		ret = fail(err, -errno, "rename %s", fresh);
	if (ret)
		folder_remove(fresh, NULL);
	return ret;
}

int takeover_stage(struct datapath *datapath, struct bpf_object *object, struct errmsg *err)
{
	bool copies = false;
	struct bpf_map *map;
	int ret;

	if (datapath->staged)
		return 0;
	bpf_object__for_each_map (map, object) {
		auto_close int fd = bpf_map__is_internal(map) ? -1 : map_predecessor(datapath, map);

		copies |= fd >= 0;
	}
	ret = copies ? maps_stage(datapath, object, err) : 0;
	if (!ret && datapath->pinned_abi != ABI_VERSION)
		ret = version_set(datapath->pin_dir, ABI_VERSION, err);
	if (ret)
		return ret;
	datapath->staged = copies;
	if (!copies)
		datapath->pinned_abi = ABI_VERSION;
	return 0;
}

/* ---- steps 3 to 5 ---------------------------------------------------------------------------- */

static int map_bring(const char *name, void *arg)
{
	const struct datapath *datapath = arg;
	char maps[PIN_PATH_MAX], path[PIN_PATH_MAX];
	auto_close int to = bpf_obj_get(map_path(datapath, name, path));
	auto_close int from = -1;
	int ret;

	from = bpf_obj_get(pin_path(pin_path(datapath->pin_dir, "maps", maps), name, path));
	if (to < 0 || from < 0 || map_id(to) == map_id(from))
		return 0;
	ret = map_copy(datapath, name, from, to, true);
	if (ret)
		log_warn("%s: what the old programs wrote last is lost: %s", name, strerror(-ret));
	return 0;
}

static void maps_bring(struct datapath *datapath)
{
	char next[PIN_PATH_MAX];

	pins_foreach(next_path(datapath, next), map_bring, datapath);
}

static void node_flag(struct datapath *datapath, bool set)
{
	if (set)
		__atomic_or_fetch(&datapath->node->flags, NODE_TAKEOVER, __ATOMIC_SEQ_CST);
	else
		__atomic_and_fetch(&datapath->node->flags, ~(uint32_t)NODE_TAKEOVER,
				   __ATOMIC_SEQ_CST);
}

/* Step 3.  Failing that, swap_finish() replaces one program after the other. */
static void programs_swap(struct datapath *datapath)
{
	struct errmsg err = { 0 };
	struct swap swap;
	int ret = swap_begin(datapath, &swap, &err);

	maps_bring(datapath);
	if (!ret) {
		node_flag(datapath, true);
		ret = swap_flip(&swap, &err);
		maps_bring(datapath);
	}
	node_flag(datapath, false); /* a process that died may have left it, too */
	if (ret && ret != -ENOENT)
		log_warn("programs are not replaced at one moment: %s", err.text);
	swap_finish(datapath);
	swap_release(&swap);
}

int takeover_finish(struct datapath *datapath, struct errmsg *err)
{
	char next[PIN_PATH_MAX];
	int ret;

	if (!datapath->staged) {
		node_flag(datapath, false);
		return 0;
	}
	xdp_pause(datapath);
	maps_bring(datapath);
	links_drop_beside(datapath);
	accel_end(next_path(datapath, next)); /* the flag was copied; the sockets were not */
	programs_swap(datapath);
	maps_bring(datapath);
	ret = folders_commit(datapath->pin_dir, next, err);
	if (ret)
		return ret;
	log_info("the maps of ABI %u are taken over", datapath->pinned_abi);
	datapath->pinned_abi = ABI_VERSION;
	datapath->staged = false;
	ret = maps_count(datapath);
	return ret < 0 ? fail(err, ret, "count the entries of ct_map and nat_map") : 0;
}
