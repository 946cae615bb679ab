/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "lib/auto.h"

static int descriptors_keep(int *fds, size_t fd_count)
{
	int end = CHILD_FD_FIRST + (int)fd_count;

	/* Out of each other's way first. */
	for (size_t i = 0; i < fd_count; i++) {
		fds[i] = fcntl(fds[i], F_DUPFD, end);
		if (fds[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < fd_count; i++) {
		if (dup2(fds[i], CHILD_FD_FIRST + (int)i) < 0)
			return -errno;
	}
	return close_range((unsigned int)end, ~0U, 0) < 0 ? -errno : 0;
}

int child_settle(const char *name, int *fds, size_t fd_count)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
	int ret = descriptors_keep(fds, fd_count);
	sigset_t none;

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, name);
	return 0;
}

bool child_bind_to(pid_t parent)
{
	/* Looks after it has asked: the parent may be gone already. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}
