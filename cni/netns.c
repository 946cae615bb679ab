/* SPDX-License-Identifier: Apache-2.0 */
#include "cni/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "lib/auto.h"

int netns_open(const char *path, int *ret_fd, struct cni_error *err)
{
	struct stat own, pod;
	struct statfs fs;
	/* O_NONBLOCK: a FIFO at this path must not hang us. */
	auto_close int fd = path[0] == '/' ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	if (path[0] != '/')
		return cni_fail(err, CNI_INVALID_ENVIRONMENT,
				"CNI_NETNS: \"%.200s\" is not an absolute path", path);
	if (fd < 0)
		return cni_fail(err, CNI_INVALID_ENVIRONMENT, "CNI_NETNS: open %.200s: %s", path,
				strerror(errno));
	if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC ||
	    ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
		return cni_fail(err, CNI_INVALID_ENVIRONMENT,
				"CNI_NETNS: %.200s is not a network namespace", path);
	/* Wiring the host into itself would cut it off: no runtime can mean that. */
	if (fstat(fd, &pod) == 0 && stat("/proc/self/ns/net", &own) == 0 &&
	    pod.st_ino == own.st_ino && pod.st_dev == own.st_dev)
		return cni_fail(err, CNI_INVALID_ENVIRONMENT,
				"CNI_NETNS: %.200s is the host's own network namespace", path);
	*ret_fd = take_fd(&fd);
	return 0;
}
