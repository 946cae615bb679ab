/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that are connected to a backend of a service, from where the programs keep them: the
 * buckets of sock_bucket_map, and socket storage, which only a program can walk (list_sockets).
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "datapath/maps.h"
#include "datapath/state.h"
#include "lib/auto.h"

#define READ_ENTRIES 256 /* of the iterator, at a time */

struct walk {
	int (*each)(const struct service_socket *socket, void *arg);
	void *arg;
};

/* A bucket may be written while it is read: the caller compares with what the kernel says. */
static int bucket_each(const void *key, const void *value, void *arg)
{
	const struct sock_bucket *bucket = value;
	const struct walk *walk = arg;
	const struct service_socket socket = {
		.cookie = bucket->cookie,
		.slot = bucket->slot,
		.proto = IPPROTO_TCP,
		.service = bucket->service,
	};

	(void)key;
	return bucket->cookie && bucket->service.port ? walk->each(&socket, walk->arg) : 0;
}

/* The kernel ends each read at the end of an entry. */
static int iterator_read(int fd, const struct walk *walk)
{
	struct service_socket entries[READ_ENTRIES];

	for (;;) {
		ssize_t len = read(fd, entries, sizeof(entries));

		if (len < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (len <= 0)
			return len < 0 ? -errno : 0;
		for (size_t i = 0; i < (size_t)len / sizeof(*entries); i++) {
			int ret = walk->each(&entries[i], walk->arg);

			if (ret)
				return ret;
		}
	}
}

static int storage_walk(struct datapath *datapath, int prog_fd, const struct walk *walk)
{
	union bpf_iter_link_info info = {
		.map.map_fd = (uint32_t)datapath->map_fds[MAP_SOCK_SERVICE],
	};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	auto_close int link_fd = bpf_link_create(prog_fd, 0, BPF_TRACE_ITER, &opts);
	auto_close int fd = -1;

	if (link_fd < 0)
		return -errno;
	fd = bpf_iter_create(link_fd);
	return fd < 0 ? -errno : iterator_read(fd, walk);
}

int service_sockets_foreach(struct datapath *datapath,
			    int (*each)(const struct service_socket *socket, void *arg), void *arg)
{
	const struct map_shape buckets = { sizeof(uint32_t), sizeof(struct sock_bucket),
					   datapath->capacity[MAP_SOCK_BUCKET] };
	const struct program *program = program_find(datapath, "list_sockets");
	const struct walk walk = { each, arg };
	int ret;

	if (!program)
		return 0;
	ret = map_walk(datapath->map_fds[MAP_SOCK_BUCKET], &buckets, bucket_each, (void *)&walk);
	return ret ? ret : storage_walk(datapath, program->fd, &walk);
}
