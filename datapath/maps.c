/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed access to the pinned maps: single entries, batches, walks and the event ring.  Endpoints
 * and counters are in endpoint_map.c, the sweeping of what has outlived itself is in sweep.c. Knows
 * no policy: what belongs into the maps is the agent's business.
 *
 * Batch operations of hashes (5.6) and LPM tries (5.13) are older than the oldest kernel that is
 * supported, so there is no other way round them here.
 */
#include "datapath/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

#include "datapath/state.h"
#include "lib/alloc.h"
#include "lib/auto.h"

#define TCP_EVENTS_MAX 4096 /* in one go */
#define WALK_BATCH     1024 /* entries a system call; grown when a hash bucket holds more */

/* Key and value sizes as abi.h has them; a per-CPU value is given for one CPU. */
static const struct {
	const char *name;
	uint32_t key_size;
	uint32_t value_size;
} map_types[MAP_TOTAL] = {
	[MAP_IPCACHE] = { "ipcache_map", sizeof(struct addr), sizeof(struct ipcache_entry) },
	[MAP_CIDR] = { "cidr_map", sizeof(struct cidr_key), sizeof(uint32_t) },
	[MAP_POLICY] = { "policy_map", sizeof(struct policy_key), sizeof(struct policy_entry) },
	[MAP_PORT] = { "port_map", sizeof(struct port_key), sizeof(uint8_t) },
	[MAP_SERVICE] = { "service_map", sizeof(struct service_key), sizeof(struct service) },
	[MAP_BACKEND] = { "backend_map", sizeof(struct backend_key), sizeof(struct backend_entry) },
	[MAP_SOURCE_RANGE] = { "range_map", sizeof(struct source_range_key), sizeof(uint8_t) },
	[MAP_CLUSTER] = { "cluster_map", sizeof(struct cidr_key), sizeof(struct cluster_entry) },
	[MAP_CT] = { "ct_map", sizeof(struct ct_key), sizeof(struct ct_entry) },
	[MAP_NAT] = { "nat_map", sizeof(struct flow), sizeof(struct nat_entry) },
	[MAP_FLOW] = { "flow_map", sizeof(struct flow_key), sizeof(struct flow_record) },
	[MAP_ENDPOINT] = { "endpoint_map", sizeof(uint32_t), sizeof(struct endpoint_entry) },
	[MAP_ENDPOINT_STATS] = { "endpoint_stats", sizeof(uint32_t),
				 sizeof(struct endpoint_stats) },
	[MAP_CHAINED] = { "chained_map", sizeof(uint32_t), sizeof(uint32_t) },
	[MAP_UPLINK] = { "uplink_map", sizeof(uint32_t), sizeof(struct uplink_entry) },
	[MAP_NETNS] = { "netns_map", sizeof(uint64_t), sizeof(uint32_t) },
	[MAP_BANDWIDTH] = { "bandwidth_map", sizeof(uint32_t), sizeof(struct bandwidth) },
	[MAP_NODE] = { "node_map", sizeof(uint32_t), sizeof(struct node_state) },
	[MAP_METRIC] = { "metric_map", sizeof(uint32_t), sizeof(uint64_t) },
	[MAP_EVENT] = { "event_map", 0, 0 },
	[MAP_TCP_EVENT] = { "tcp_event_map", 0, 0 },
	[MAP_CT_COUNT] = { "ct_count_map", sizeof(uint32_t), sizeof(int64_t) },
	[MAP_NAT_COUNT] = { "nat_count_map", sizeof(uint32_t), sizeof(int64_t) },
	[MAP_ACCEL] = { "accel_map", sizeof(struct accel_key), sizeof(uint64_t) },
	[MAP_SOCK_BUCKET] = { "sock_bucket_map", sizeof(uint32_t), sizeof(struct sock_bucket) },
	[MAP_SOCK_SERVICE] = { "sock_service", sizeof(int), sizeof(struct sock_service) },
	[MAP_TCP] = { "tcp_map", sizeof(uint32_t), sizeof(struct tcp_socket) },
	[MAP_DNS] = { "dns_map", 0, 0 },
	[MAP_PASSED] = { "passed_map", sizeof(uint32_t), sizeof(struct passed_set) },
};

const char *map_name_of(int map)
{
	return map_types[map].name;
}

const char *map_name(enum map_id map)
{
	return map_types[map].name;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int event_deliver(void *arg, void *data, size_t size)
{
	struct datapath *datapath = arg;
	const struct flow_event *event = data;

	if (size >= sizeof(*event) && size - sizeof(*event) >= event->bytes)
		datapath->event_each(data, datapath->event_arg);
	return 0;
}

static int tcp_event_deliver(void *arg, void *data, size_t size)
{
	struct datapath *datapath = arg;

	if (size == sizeof(struct passed_flow))
		datapath->passed_each(data, datapath->tcp_arg);
	else if (size >= sizeof(struct tcp_event))
		datapath->tcp_each(data, datapath->tcp_arg);
	/* Pods may report as fast as this reads. */
	return ++datapath->tcp_read < TCP_EVENTS_MAX ? 0 : -EAGAIN;
}

static void *map_mmap(const struct datapath *datapath, int map)
{
	size_t len = (size_t)datapath->capacity[map] * roundup(map_types[map].value_size, 8);
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, datapath->map_fds[map], 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static void map_munmap(const struct datapath *datapath, int map, void *mem)
{
	if (mem)
		munmap(mem,
		       (size_t)datapath->capacity[map] * roundup(map_types[map].value_size, 8));
}

static void maps_unmap(struct datapath *datapath)
{
	if (!datapath)
		return;
	ring_buffer__free(take_ptr(datapath->tcp_ring));
	ring_buffer__free(take_ptr(datapath->ring));
	map_munmap(datapath, MAP_CT_COUNT, take_ptr(datapath->ct_counts));
	map_munmap(datapath, MAP_NAT_COUNT, take_ptr(datapath->nat_counts));
	map_munmap(datapath, MAP_ENDPOINT, take_ptr(datapath->endpoints));
	map_munmap(datapath, MAP_NODE, take_ptr(datapath->node));
}

int maps_init(struct datapath *datapath, struct errmsg *err)
{
	int cpus = libbpf_num_possible_cpus(), ret;

	for (int i = 0; i < MAP_TOTAL; i++) {
		struct bpf_map_info info = { 0 };
		uint32_t len = sizeof(info);

		if (bpf_obj_get_info_by_fd(datapath->map_fds[i], &info, &len))
			return fail(err, -errno, "read %s", map_types[i].name);
		if (info.key_size != map_types[i].key_size ||
		    info.value_size != map_types[i].value_size)
			return fail_plain(err, -EPROTO, "%s: not the types of abi.h",
					  map_types[i].name);
		datapath->capacity[i] = info.max_entries;
	}
	if (cpus < 0)
		return fail(err, cpus, "count the CPUs");
	datapath->cpus = (unsigned int)cpus;
	datapath->percpu = xcalloc(datapath->cpus, sizeof(struct endpoint_stats));
	datapath->node = map_mmap(datapath, MAP_NODE);
	if (!datapath->node)
		return fail(err, -errno, "map node_map");
	datapath->endpoints = map_mmap(datapath, MAP_ENDPOINT);
	if (!datapath->endpoints)
		return fail(err, -errno, "map endpoint_map");
	datapath->ct_counts = map_mmap(datapath, MAP_CT_COUNT);
	if (!datapath->ct_counts)
		return fail(err, -errno, "map ct_count_map");
	datapath->node->nat_places = datapath->capacity[MAP_NAT] / 2;
	datapath->nat_counts = map_mmap(datapath, MAP_NAT_COUNT);
	if (!datapath->nat_counts)
		return fail(err, -errno, "map nat_count_map");
	datapath->ring =
		ring_buffer__new(datapath->map_fds[MAP_EVENT], event_deliver, datapath, NULL);
	if (!datapath->ring)
		return fail(err, -errno, "map event_map");
	datapath->tcp_ring = ring_buffer__new(datapath->map_fds[MAP_TCP_EVENT], tcp_event_deliver,
					      datapath, NULL);
	if (!datapath->tcp_ring)
		return fail(err, -errno, "map tcp_event_map");
	ret = maps_count(datapath);
	return ret < 0 ? fail(err, ret, "count the entries of ct_map and nat_map") : 0;
}

void maps_done(struct datapath *datapath)
{
	maps_unmap(datapath);
	free(datapath->percpu);
}

/* ---- one entry ------------------------------------------------------------------------------ */

int map_set(struct datapath *datapath, int map, const void *key, const void *value)
{
	return bpf_map_update_elem(datapath->map_fds[map], key, value, BPF_ANY) ? -errno : 0;
}

int map_get(struct datapath *datapath, int map, const void *key, void *ret_value)
{
	return bpf_map_lookup_elem(datapath->map_fds[map], key, ret_value) ? -errno : 0;
}

int map_del(struct datapath *datapath, int map, const void *key)
{
	return bpf_map_delete_elem(datapath->map_fds[map], key) && errno != ENOENT ? -errno : 0;
}

int map_next(struct datapath *datapath, int map, const void *key, void *ret_key)
{
	return bpf_map_get_next_key(datapath->map_fds[map], key, ret_key) ? -errno : 0;
}

int ipcache_map_set(struct datapath *datapath, const struct addr *addr,
		    const struct ipcache_entry *entry)
{
	return map_set(datapath, MAP_IPCACHE, addr, entry);
}

int ipcache_map_get(struct datapath *datapath, const struct addr *addr,
		    struct ipcache_entry *ret_entry)
{
	return map_get(datapath, MAP_IPCACHE, addr, ret_entry);
}

int backend_map_get(struct datapath *datapath, const struct backend_key *key,
		    struct backend_entry *ret_entry)
{
	return map_get(datapath, MAP_BACKEND, key, ret_entry);
}

int nat_map_get(struct datapath *datapath, const struct flow *key, struct nat_entry *ret_entry)
{
	return map_get(datapath, MAP_NAT, key, ret_entry);
}

int flow_map_add(struct datapath *datapath, const struct flow_key *key,
		 const struct flow_record *record)
{
	return bpf_map_update_elem(datapath->map_fds[MAP_FLOW], key, record, BPF_NOEXIST) ? -errno
											  : 0;
}

int flow_map_del(struct datapath *datapath, const struct flow_key *key)
{
	return map_del(datapath, MAP_FLOW, key);
}

/* ---- many entries --------------------------------------------------------------------------- */

/*
 * A batch of a hash is whole buckets, so what is neither added nor deleted meanwhile is seen
 * exactly once.  A trie goes on from its last key; if that one is deleted meanwhile, the kernel
 * begins again, and entries are seen twice rather than missed.
 */
int map_walk(int fd, const struct map_shape *shape,
	     int (*each)(const void *key, const void *value, void *arg), void *arg)
{
	const size_t key_size = shape->key_size, value_size = shape->value_size;
	uint32_t room = MIN(WALK_BATCH, shape->capacity);
	char token[2][MAP_KEY_MAX]; /* a bucket number, or a trie's key */
	auto_free char *buf = xmalloc(room * (key_size + value_size));
	bool first = true, last = false;

	while (!last) {
		char *keys = buf, *values = buf + room * key_size;
		uint32_t count = room;

		if (bpf_map_lookup_batch(fd, first ? NULL : token[0], token[1], keys, values,
					 &count, NULL)) {
			if (errno == ENOSPC) { /* a bucket with more entries than there is room */
				room *= 2;
				buf = xreallocarray(buf, room, key_size + value_size);
				continue;
			}
			if (errno == EINTR)
				continue;
			if (errno != ENOENT)
				return -errno;
			last = true;
		}
		for (uint32_t i = 0; i < count; i++) {
			int ret = each(keys + i * key_size, values + i * value_size, arg);

			if (ret)
				return ret;
		}
		memcpy(token[0], token[1], sizeof(token[0]));
		first = false;
	}
	return 0;
}

int maps_foreach(struct datapath *datapath, enum map_id map,
		 int (*each)(const void *key, const void *value, void *arg), void *arg)
{
	const struct map_shape shape = { map_types[map].key_size, map_types[map].value_size,
					 datapath->capacity[map] };

	_Static_assert(MAP_KEY_MAX >= sizeof(struct ct_key), "room for any key");
	return map_walk(datapath->map_fds[map], &shape, each, arg);
}

/* A sockhash has no batches.  A key that is gone sends the walk back to the beginning, so the steps
 * are bounded. */
int accel_map_foreach(struct datapath *datapath,
		      int (*each)(const struct accel_key *key, uint64_t cookie, void *arg),
		      void *arg)
{
	int fd = datapath->map_fds[MAP_ACCEL];
	struct accel_key key[2];
	uint64_t cookie;
	int ret;

	for (uint32_t i = 0; i < 2 * datapath->capacity[MAP_ACCEL]; i++) {
		if (bpf_map_get_next_key(fd, i ? &key[1] : NULL, &key[0]))
			return errno == ENOENT ? 0 : -errno;
		ret = bpf_map_lookup_elem(fd, &key[0], &cookie) ? 0 : each(&key[0], cookie, arg);
		if (ret)
			return ret;
		key[1] = key[0];
	}
	return 0;
}

/* The kernel says how many it did where it came to do them at all; else it leaves the count. */
static size_t batch_done(int ret, uint32_t wanted, uint32_t count)
{
	return ret && count == wanted ? 0 : count;
}

int maps_set_batch(struct datapath *datapath, enum map_id map, const void *keys, const void *values,
		   size_t count, size_t *ret_done)
{
	uint32_t wanted = (uint32_t)count, done = wanted;
	int ret = 0;

	if (count && bpf_map_update_batch(datapath->map_fds[map], keys, values, &done, NULL))
		ret = -errno;
	if (ret_done)
		*ret_done = batch_done(ret, wanted, done);
	return ret;
}

int maps_del_batch(struct datapath *datapath, enum map_id map, const void *keys, size_t count,
		   size_t *ret_done)
{
	const char *bytes = keys;
	size_t done = 0;
	int ret = 0;

	while (done < count && !ret) {
		uint32_t wanted = (uint32_t)(count - done), more = wanted;

		if (bpf_map_delete_batch(datapath->map_fds[map],
					 bytes + done * map_types[map].key_size, &more, NULL))
			ret = -errno;
		done += batch_done(ret, wanted, more);
		if (ret == -ENOENT) { /* the kernel stops at a key that is not there */
			done++;
			ret = 0;
		}
	}
	if (ret_done)
		*ret_done = done;
	return ret;
}

uint32_t maps_capacity(const struct datapath *datapath, enum map_id map)
{
	return datapath->capacity[map];
}

unsigned int maps_cpus(const struct datapath *datapath)
{
	return datapath->cpus;
}

static int entry_count(const void *key, const void *value, void *arg)
{
	uint32_t *count = arg;

	(void)key;
	(void)value;
	(*count)++;
	return 0;
}

int maps_usage(struct datapath *datapath, enum map_id map, uint32_t *ret_used,
	       uint32_t *ret_capacity)
{
	uint32_t used = 0;
	int ret;

	ret = maps_foreach(datapath, map, entry_count, &used);
	if (ret)
		return ret;
	*ret_used = used;
	*ret_capacity = datapath->capacity[map];
	return 0;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* What the kernel charges for a map, from the fdinfo of its descriptor. */
static uint64_t map_memory(int fd)
{
	auto_fclose FILE *file = NULL;
	static const char name[] = "memlock:";
	char path[40], line[80];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)))
			return strtoull(line + strlen(name), NULL, 10);
	}
	return 0;
}

int maps_memory(struct datapath *datapath, uint64_t *ret_bytes)
{
	char path[PIN_PATH_MAX];
	struct dirent *entry;
	uint64_t bytes = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/maps", datapath->pin_dir);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		auto_close int fd = -1;

		snprintf(path, sizeof(path), "%s/maps/%s", datapath->pin_dir, entry->d_name);
		if (entry->d_name[0] != '.')
			fd = bpf_obj_get(path);
		if (fd >= 0)
			bytes += map_memory(fd);
	}
	closedir(dir);
	*ret_bytes = bytes;
	return 0;
}

/* ---- events --------------------------------------------------------------------------------- */

int events_fd(struct datapath *datapath)
{
	return ring_buffer__epoll_fd(datapath->ring);
}

int events_consume(struct datapath *datapath,
		   void (*each)(const struct flow_event *event, void *arg), void *arg)
{
	int ret;

	datapath->event_each = each;
	datapath->event_arg = arg;
	ret = ring_buffer__consume(datapath->ring);
	return ret < 0 ? ret : 0;
}

struct tcp_socket_walk {
	int (*each)(const struct tcp_socket *socket, void *arg);
	void *arg;
};

static int tcp_place_each(const void *key, const void *value, void *arg)
{
	const struct tcp_socket_walk *walk = arg;
	const struct tcp_socket *socket = value;

	(void)key;
	return socket->cookie ? walk->each(socket, walk->arg) : 0;
}

int tcp_sockets_foreach(struct datapath *datapath,
			int (*each)(const struct tcp_socket *socket, void *arg), void *arg)
{
	const struct map_shape shape = { sizeof(uint32_t), sizeof(struct tcp_socket),
					 datapath->capacity[MAP_TCP] };
	struct tcp_socket_walk walk = { each, arg };

	return map_walk(datapath->map_fds[MAP_TCP], &shape, tcp_place_each, &walk);
}

int dns_map_fd(const struct datapath *datapath)
{
	return datapath->map_fds[MAP_DNS];
}

int tcp_events_fd(struct datapath *datapath)
{
	return ring_buffer__epoll_fd(datapath->tcp_ring);
}

int tcp_events_consume(struct datapath *datapath,
		       void (*each)(const struct tcp_event *event, void *arg),
		       void (*passed)(const struct passed_flow *flow, void *arg), void *arg)
{
	datapath->tcp_each = each;
	datapath->passed_each = passed;
	datapath->tcp_arg = arg;
	datapath->tcp_read = 0;
	ring_buffer__consume(datapath->tcp_ring);
	return (int)datapath->tcp_read;
}
