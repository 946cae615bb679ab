/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces: step inside and back, tell one from another, find one again. */
#include "lib/netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/auto.h"

#define NETNS_SELF "/proc/thread-self/ns/net"

int netns_enter(int netns_fd, struct netns_scope *scope, struct errmsg *err)
{
	auto_close int home_fd = open(NETNS_SELF, O_RDONLY | O_CLOEXEC);

	if (home_fd < 0)
		return fail(err, -errno, "open %s", NETNS_SELF);
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return fail(err, -errno, "enter the network namespace");
	scope->home_fd = take_fd(&home_fd);
	return 0;
}

void netns_leave(struct netns_scope *scope)
{
	if (scope->home_fd < 0)
		return;
	if (setns(scope->home_fd, CLONE_NEWNET) < 0) {
		perror("cannot return to the own network namespace");
		abort();
	}
	close(take_fd(&scope->home_fd));
}

int netns_new(int *ret_fd, struct errmsg *err)
{
	auto_netns struct netns_scope scope = { open(NETNS_SELF, O_RDONLY | O_CLOEXEC) };
	int fd;

	if (scope.home_fd < 0)
		return fail(err, -errno, "open %s", NETNS_SELF);
	if (unshare(CLONE_NEWNET) < 0)
		return fail(err, -errno, "make a network namespace");
	fd = open(NETNS_SELF, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "open %s", NETNS_SELF);
	*ret_fd = fd;
	return 0;
}

int netns_socket(int netns_fd, int domain, int type, int protocol, struct errmsg *err)
{
	auto_netns struct netns_scope scope = NETNS_SCOPE_INIT;
	int ret = netns_fd >= 0 ? netns_enter(netns_fd, &scope, err) : 0;
	int fd;

	if (ret < 0)
		return ret;
	fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	return fd < 0 ? fail(err, -errno, "open a socket") : fd;
}

int netns_socket_cookie(int socket_fd, uint64_t *ret_cookie, struct errmsg *err)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return fail(err, -errno, "ask for the namespace's cookie");
	*ret_cookie = cookie;
	return 0;
}

int netns_identify(int netns_fd, struct netns_id *ret_id, struct errmsg *err)
{
	auto_close int socket_fd = netns_socket(netns_fd, AF_UNIX, SOCK_DGRAM, 0, err);
	uint64_t cookie = 0;
	struct stat st;
	int ret;

	if (socket_fd < 0)
		return socket_fd;
	ret = netns_socket_cookie(socket_fd, &cookie, err);
	if (ret < 0)
		return ret;
	if ((netns_fd >= 0 ? fstat(netns_fd, &st) : stat(NETNS_SELF, &st)) < 0)
		return fail(err, -errno, "stat the network namespace");
	ret_id->cookie = cookie;
	ret_id->inode = st.st_ino;
	return 0;
}

/* Opens path if it is the namespace meant.  -ENOENT: it is not; others: that is not known. */
static int open_if_same(const char *path, const struct netns_id *id, int *ret_fd)
{
	auto_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct netns_id found = { 0 };
	int ret;

	if (fd < 0)
		return errno == ENOTDIR || errno == ESRCH || errno == ELOOP ? -ENOENT : -errno;
	ret = netns_identify(fd, &found, NULL);
	if (ret == -EINVAL || (ret == 0 && found.cookie != id->cookie))
		return -ENOENT; /* -EINVAL: no network namespace */
	if (ret == 0)
		*ret_fd = take_fd(&fd);
	return ret;
}

/* The path may be gone while the namespace lives (unmounted too early, or named through a process
 * that ended).  Inodes are compared first: that is a stat, not a change of namespace. */
static int find_in_proc(const struct netns_id *id, int *ret_fd)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int ret = -ENOENT;

	if (!dir)
		return -errno;
	while (ret == -ENOENT && (entry = readdir(dir))) {
		char path[64];
		struct stat st;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/ns/net", entry->d_name);
		if (stat(path, &st) == 0 && st.st_ino == id->inode)
			ret = open_if_same(path, id, ret_fd);
	}
	closedir(dir);
	return ret;
}

int netns_find(const char *path, const struct netns_id *id, int *ret_fd, struct errmsg *err)
{
	int by_path = path[0] ? open_if_same(path, id, ret_fd) : -ENOENT;
	int by_process = by_path ? find_in_proc(id, ret_fd) : 0;

	if (by_process == 0)
		return 0;
	if (by_path == -ENOENT && by_process == -ENOENT)
		return fail_plain(err, -ENOENT, "network namespace %s is gone", path);
	return fail(err, by_path == -ENOENT ? by_process : by_path, "look for network namespace %s",
		    path);
}
