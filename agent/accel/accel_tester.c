/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/accel/accel_tester.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/child.h"
#include "lib/fork_server.h"

enum report_kind { REPORT_CHECK, REPORT_FAILURE, REPORT_END };

/* What the child sends. */
struct report {
	enum report_kind kind;
	struct selftest_check check;
	struct errmsg failure;
};

struct accel_tester {
	pid_t pid;
	int fd;
	struct event *readable;
	void (*check)(const struct selftest_check *check, void *arg);
	void (*ended)(const char *failure, void *arg);
	void *arg;
};

/* ---- the child ------------------------------------------------------------------------------- */

static bool report_send(const struct report *report)
{
	return send(CHILD_FD_FIRST, report, sizeof(*report), MSG_NOSIGNAL) == sizeof(*report);
}

void accel_tester_run(pid_t agent, size_t fd_count)
{
	struct report report = { .kind = REPORT_FAILURE };
	struct selftest *selftest = NULL;

	(void)fd_count;
	if (!child_bind_to(agent))
		_exit(EXIT_FAILURE);
	if (selftest_new(&selftest, &report.failure) == 0) {
		report.kind = REPORT_CHECK;
		while (selftest_next(selftest, &report.check) && report_send(&report))
			;
		report.kind = REPORT_END;
	}
	selftest_free(selftest);
	report_send(&report);
	_exit(EXIT_SUCCESS);
}

/* ---- the agent's side ------------------------------------------------------------------------ */

static void tester_readable(evutil_socket_t fd, short what, void *arg)
{
	struct accel_tester *tester = arg;
	struct report report = {};
	ssize_t len = recv(fd, &report, sizeof(report), MSG_DONTWAIT);

	(void)what;
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len != sizeof(report))
		tester->ended("its process died", tester->arg);
	else if (report.kind == REPORT_CHECK)
		tester->check(&report.check, tester->arg);
	else
		tester->ended(report.kind == REPORT_END ? NULL : report.failure.text, tester->arg);
}

static int child_start(struct accel_tester *tester, struct fork_server *server)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	tester->pid = fork_server_start(server, ACCEL_TESTER_NAME, &pair[1], 1);
	close(pair[1]);
	tester->fd = pair[0];
	return tester->pid < 0 ? tester->pid : 0;
}

int accel_tester_new(struct event_base *base, struct fork_server *server,
		     void (*check)(const struct selftest_check *check, void *arg),
		     void (*ended)(const char *failure, void *arg), void *arg,
		     struct accel_tester **ret_tester, struct errmsg *err)
{
	auto_(accel_tester) struct accel_tester *tester = xcalloc(1, sizeof(*tester));
	int ret;

	*tester = (struct accel_tester){
		.pid = -1, .fd = -1, .check = check, .ended = ended, .arg = arg
	};
	ret = child_start(tester, server);
	if (ret < 0)
		return fail(err, ret, "start a process");
	tester->readable =
		event_new(base, tester->fd, EV_READ | EV_PERSIST, tester_readable, tester);
	if (event_add(tester->readable, NULL) < 0)
		return fail(err, -EIO, "self-test");
	*ret_tester = take_ptr(tester);
	return 0;
}

void accel_tester_free(struct accel_tester *tester)
{
	if (!tester)
		return;
	if (tester->readable)
		event_free(tester->readable);
	if (tester->fd >= 0)
		close(tester->fd);
	if (tester->pid > 0) {
		kill(tester->pid, SIGKILL);
		while (waitpid(tester->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	free(tester);
}

pid_t accel_tester_pid(const struct accel_tester *tester)
{
	return tester->pid;
}
