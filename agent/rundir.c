/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks that the kernel releases by itself: flock(2) on a file of the run directory, and an
 * abstract unix socket, whose name is unique in a network namespace.
 */
#define LOG_MODULE "rundir"
#include "agent/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>

#include "lib/auto.h"
#include "lib/file.h"

#define LOCK_ATTEMPTS   200
#define LOCK_PAUSE_NS   5000000
#define NETNS_LOCK_NAME "tendrild" /* abstract */
#define BPFFS_DEFAULT   "/sys/fs/bpf"

static const char *run_path(const struct config *config, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s", config->run_dir, name);
	return buf;
}

/* ---- run directory --------------------------------------------------------------------------- */

static int run_dir_prepare(const struct config *config, struct errmsg *err)
{
	struct stat st;
	int ret = file_make_dir(config->run_dir, 0700, err);

	if (ret)
		return ret;
	if (lstat(config->run_dir, &st) < 0)
		return fail(err, -errno, "%s", config->run_dir);
	if (!S_ISDIR(st.st_mode))
		return fail(err, -ENOTDIR, "%s", config->run_dir);
	if (st.st_uid != geteuid())
		return fail_plain(err, -EPERM, "%s belongs to user %u", config->run_dir, st.st_uid);
	if ((st.st_mode & 07777) != 0700 && chmod(config->run_dir, 0700) < 0)
		return fail(err, -errno, "chmod %s", config->run_dir);
	return 0;
}

static int run_dir_lock(const struct config *config, int *ret_fd, pid_t *ret_holder,
			struct errmsg *err)
{
	char path[sizeof(config->run_dir) + 16], pid[16] = "";
	auto_close int fd = -1;

	fd = open(run_path(config, "lock", path, sizeof(path)),
		  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail(err, -errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return fail(err, -errno, "lock %s", path);
		if (pread(fd, pid, sizeof(pid) - 1, 0) < 0)
			pid[0] = '\0';
		*ret_holder = (pid_t)strtol(pid, NULL, 10);
		return fail_plain(err, -EBUSY, "%s is in use by another agent (pid %.*s)",
				  config->run_dir, (int)strcspn(pid, "\n"), pid);
	}
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, strlen(pid), 0) < 0)
		return fail(err, -errno, "write %s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int run_dir_remove(const struct config *config, struct errmsg *err)
{
	static const char *const names[] = {
		"tendril.sock",   "kube/kube.sock",     "http/http.sock",
		"kube.sock",      "http.sock", /* of version 0.1 */
		"objects.json",   "objects.json.tmp",   "pod-cidrs",
		"pod-cidrs.tmp",  "wireguard.key",      "wireguard.key.tmp",
		"wireguard.next", "wireguard.next.tmp", "lock"
	};
	static const char *const folders[] = { "endpoints", "cgroup", "kube", "http" };
	char path[sizeof(config->run_dir) + 32];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (unlink(run_path(config, names[i], path, sizeof(path))) < 0 && errno != ENOENT &&
		    errno != ENOTDIR)
			return fail(err, -errno, "remove %s", path);
	}
	umount(run_path(config, "cgroup", path,
			sizeof(path))); /* fails where run_mounts_make() made none */
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (rmdir(run_path(config, folders[i], path, sizeof(path))) < 0 &&
		    errno != ENOENT && errno != ENOTDIR)
			return fail(err, -errno, "remove %s", path);
	}
	if (rmdir(config->run_dir) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove %s", config->run_dir);
	return 0;
}

/* ---- network namespace ----------------------------------------------------------------------- */

/* Whether the process that holds the name is another agent: only root can be one. */
static bool holder_is_agent(const struct sockaddr_un *addr, socklen_t len, struct ucred *ret_peer)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = sizeof(*ret_peer);

	return fd >= 0 && connect(fd, (const struct sockaddr *)addr, len) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &size) == 0 &&
	       (ret_peer->uid == 0 || ret_peer->uid == geteuid());
}

static int netns_lock(int *ret_fd, pid_t *ret_holder, struct errmsg *err)
{
	static const char name[] = NETNS_LOCK_NAME;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + sizeof(name) - 1;
	auto_close int fd = -1;
	struct ucred peer = {};

	memcpy(addr.sun_path + 1, name, sizeof(name) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, -errno, "socket");
	if (bind(fd, (struct sockaddr *)&addr, len) == 0 && listen(fd, 1) == 0) {
		*ret_fd = take_fd(&fd);
		return 0;
	}
	if (errno != EADDRINUSE)
		return fail(err, -errno, "lock the network namespace");
	if (holder_is_agent(&addr, len, &peer)) {
		*ret_holder = peer.pid;
		return fail_plain(err, -EBUSY,
				  "another agent (pid %d) serves this network namespace", peer.pid);
	}
	/* Any user may take an abstract name; that must not keep the agent from starting. */
	log_warn("@%s is held by pid %d of user %u, which is not an agent", name, peer.pid,
		 peer.uid);
	return 0;
}

static int locks_try(const struct config *config, struct run_locks *ret_locks, pid_t *ret_holder,
		     struct errmsg *err)
{
	int ret = run_dir_lock(config, &ret_locks->dir_fd, ret_holder, err);

	if (!ret)
		ret = netns_lock(&ret_locks->netns_fd, ret_holder, err);
	if (ret)
		run_locks_release(ret_locks);
	return ret;
}

static bool process_is_gone(pid_t pid)
{
	return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* A child of a killed agent holds its locks until it closes them: wait for that if the process that
 * took them is gone. */
int run_locks_take(const struct config *config, struct run_locks *ret_locks, struct errmsg *err)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	int ret = run_dir_prepare(config, err);

	if (ret)
		return ret;
	for (int i = 0;; i++) {
		pid_t holder = 0;

		ret = locks_try(config, ret_locks, &holder, err);
		if (ret != -EBUSY || i == LOCK_ATTEMPTS || !process_is_gone(holder))
			return ret;
		nanosleep(&pause, NULL);
	}
}

void run_locks_release(struct run_locks *locks)
{
	if (locks->dir_fd >= 0)
		close(take_fd(&locks->dir_fd));
	if (locks->netns_fd >= 0)
		close(take_fd(&locks->netns_fd));
	if (locks->pins_fd >= 0)
		close(take_fd(&locks->pins_fd));
}

/* Waits for a while: a child of a killed agent holds the lock until it has ended. */
int run_pins_lock(const struct config *config, struct run_locks *locks, struct errmsg *err)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	auto_close int fd = open(config->bpffs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return fail(err, -errno, "%s", config->bpffs);
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			return fail(err, -errno, "lock %s", config->bpffs);
		if (i == LOCK_ATTEMPTS)
			return fail_plain(err, -EBUSY,
					  "%s is in use by another agent: give each its own bpffs",
					  config->bpffs);
		nanosleep(&pause, NULL);
	}
	locks->pins_fd = take_fd(&fd);
	return 0;
}

/* ---- bpffs ----------------------------------------------------------------------------------- */

/* Whether the nearest existing folder above (or at) path is on a bpffs. */
static bool is_on_bpffs(const char *path)
{
	char folder[256];
	struct statfs fs;

	snprintf(folder, sizeof(folder), "%s", path);
	while (statfs(folder, &fs) < 0) {
		char *slash = strrchr(folder, '/');

		if (errno != ENOENT || !slash || slash == folder)
			return false;
		*slash = '\0';
	}
	return fs.f_type == BPF_FS_MAGIC;
}

/* "ip netns exec NAME" makes a mount namespace that ends with its command, and hides /sys behind a
 * sysfs whose source is NAME.  False if this is none. */
static bool netns_exec_name(char *name, size_t size)
{
	auto_fclose FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[2048], source[NAME_MAX + 1], path[NAME_MAX + 16];
	bool found = false;

	while (mounts && fgets(line, sizeof(line), mounts)) {
		const char *tail = strstr(line, " - sysfs ");

		if (!strstr(line, " /sys ") || !tail || sscanf(tail, " - sysfs %255s", source) != 1)
			continue;
		snprintf(path, sizeof(path), "/run/netns/%s", source);
		found = access(path, F_OK) == 0;
		snprintf(name, size, "%s", source);
	}
	return found;
}

/* Whether what is mounted here is seen by nobody who outlives this process.  The first process of a
 * container has mounts of its own. */
static bool mounts_are_private(void)
{
	struct stat own, first;

	return getpid() == 1 || (stat("/proc/self/ns/mnt", &own) == 0 &&
				 stat("/proc/1/ns/mnt", &first) == 0 && own.st_ino != first.st_ino);
}

static int bpffs_refuse_private(const char *path, struct errmsg *err)
{
	char name[NAME_MAX + 1];

	if (netns_exec_name(name, sizeof(name)))
		return fail_plain(
			err, -EINVAL,
			"a bpffs mounted below \"ip netns exec\" would vanish with it; start with: "
			"nsenter --net=/run/netns/%s tendrild",
			name);
	if (mounts_are_private())
		return fail_plain(
			err, -EINVAL,
			"%s is on no bpffs, and one mounted here would vanish with this mount "
			"namespace: mount one first",
			path);
	return 0;
}

/* The default's parent is where every other program looks for a bpffs. */
static const char *bpffs_target(const struct config *config)
{
	bool usual = strncmp(config->bpffs, BPFFS_DEFAULT "/", strlen(BPFFS_DEFAULT "/")) == 0;

	return usual ? BPFFS_DEFAULT : config->bpffs;
}

struct mount_kind {
	const char *name, *type, *options;
};

static const struct mount_kind bpffs_kind = { "bpffs", "bpf", "mode=0700" };
static const struct mount_kind cgroup_kind = { "cgroup2", "cgroup2", NULL };

static int mount_new(const struct mount_kind *kind, const char *target, struct errmsg *err)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (access(target, F_OK) < 0 && file_make_dir(target, 0700, err))
		return err->code;
	if (mount(kind->type, target, kind->type, flags, kind->options) < 0)
		return fail(err, -errno, "mount a %s on %s", kind->name, target);
	log_info("mounted a %s on %s", kind->name, target);
	return 0;
}

int run_bpffs_prepare(const struct config *config, struct errmsg *err)
{
	if (!is_on_bpffs(config->bpffs) && (bpffs_refuse_private(config->bpffs, err) < 0 ||
					    mount_new(&bpffs_kind, bpffs_target(config), err) < 0))
		return err->code;
	return file_make_dir(config->bpffs, 0700, err);
}

/* ---- a container's other mounts -------------------------------------------------------------- */

#define SYSCTLS "/proc/sys/net"

int run_sysctls_prepare(struct errmsg *err)
{
	const unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	struct statvfs fs;

	if (statvfs(SYSCTLS, &fs) < 0 || !(fs.f_flag & ST_RDONLY) || !mounts_are_private())
		return 0;
	if (mount(SYSCTLS, SYSCTLS, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, SYSCTLS, NULL, flags, NULL) < 0)
		return fail(err, -errno, "make " SYSCTLS " writable");
	return 0;
}

/* Whether the mount that a path lies on hands new mounts on to the namespace it came from. */
static bool mount_is_shared(const char *path)
{
	auto_fclose FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char line[2048], point[256];
	size_t longest = 0;
	bool shared = false;

	while (mounts && fgets(line, sizeof(line), mounts)) {
		const char *tail = strstr(line, " - ");
		const char *tag = strstr(line, " shared:");
		size_t len;

		if (sscanf(line, "%*s %*s %*s %*s %255s", point) != 1)
			continue;
		len = strcmp(point, "/") == 0 ? 0 : strlen(point);
		if (strncmp(path, point, len) != 0 || (path[len] != '/' && path[len] != '\0') ||
		    len < longest)
			continue;
		longest = len;
		shared = tag && tag < tail;
	}
	return shared;
}

static int shared_mount_new(const struct mount_kind *kind, const char *target, struct errmsg *err)
{
	if (!mount_is_shared(target))
		return fail_plain(err, -EINVAL,
				  "a %s mounted on %s would not reach the node: it needs "
				  "mountPropagation: Bidirectional",
				  kind->name, target);
	return mount_new(kind, target, err);
}

int run_mounts_make(const struct config *config, struct errmsg *err)
{
	char cgroup[sizeof(config->run_dir) + 16];

	if (!is_on_bpffs(config->bpffs) &&
	    shared_mount_new(&bpffs_kind, bpffs_target(config), err) < 0)
		return err->code;
	if (*config->cgroup)
		return 0;
	return shared_mount_new(&cgroup_kind, run_path(config, "cgroup", cgroup, sizeof(cgroup)),
				err);
}
