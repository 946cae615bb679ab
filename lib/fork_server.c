/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/fork_server.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/child.h"

#define ANSWER_MS 30000 /* it may still be on its way from exec to main() */

struct request {
	uint32_t number;
	char kind[16];
};

struct answer {
	uint32_t number; /* of the request */
	int32_t pid;     /* or -errno */
};

struct fork_server {
	int fd;
	pid_t pid;
	uint32_t number;
};

/* ---- the server ------------------------------------------------------------------------------ */

/* False: the parent is gone. */
static bool request_receive(struct request *ret, int *fds, size_t *ret_fd_count)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(FORK_SERVER_FDS_MAX * sizeof(int))];
	} control;
	struct iovec data = { ret, sizeof(*ret) };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;
	ssize_t len;

	do
		len = recvmsg(CHILD_FD_FIRST, &message, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len != sizeof(*ret))
		return false;
	header = CMSG_FIRSTHDR(&message);
	*ret_fd_count = header ? (header->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	if (*ret_fd_count)
		memcpy(fds, CMSG_DATA(header), *ret_fd_count * sizeof(int));
	ret->kind[sizeof(ret->kind) - 1] = '\0';
	return true;
}

static void __attribute__((noreturn))
child_begin(const struct fork_server_kind *kind, int *fds, size_t fd_count, pid_t parent)
{
	if (child_settle(kind->name, fds, fd_count) < 0)
		_exit(EXIT_FAILURE);
	kind->run(parent, fd_count);
}

/* A sibling of this process: the parent waits for it, and it ends with the parent. */
static pid_t sibling_start(const struct fork_server_kind *kinds, size_t kind_count,
			   const struct request *request, int *fds, size_t fd_count)
{
	for (size_t i = 0; i < kind_count; i++) {
		pid_t parent = getppid();
		long pid;

		if (strcmp(kinds[i].name, request->kind) != 0)
			continue;
		pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
		if (pid == 0)
			child_begin(&kinds[i], fds, fd_count, parent);
		return pid < 0 ? -errno : (pid_t)pid;
	}
	return -ENOENT;
}

void fork_server_serve(const struct fork_server_kind *kinds, size_t kind_count)
{
	int fds[FORK_SERVER_FDS_MAX];
	struct request request;
	size_t fd_count;

	if (!child_bind_to(getppid()))
		_exit(EXIT_FAILURE);
	while (request_receive(&request, fds, &fd_count)) {
		struct answer answer = { .number = request.number };

		answer.pid = sibling_start(kinds, kind_count, &request, fds, fd_count);
		for (size_t i = 0; i < fd_count; i++)
			close(fds[i]);
		if (send(CHILD_FD_FIRST, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(EXIT_SUCCESS);
}

/* ---- the parent ------------------------------------------------------------------------------ */

static void __attribute__((noreturn))
server_begin(const char *program, const struct fork_server_kind *kinds, size_t kind_count, int fd)
{
	char argument[] = FORK_SERVER_ARGUMENT;
	char *const argv[] = { program_invocation_name, argument, NULL };
	char *const env[] = { NULL };

	if (child_settle("fork-server", &fd, 1) < 0)
		_exit(EXIT_FAILURE);
	if (!program)
		fork_server_serve(kinds, kind_count);
	execve(program, argv, env);
	_exit(EXIT_FAILURE);
}

int fork_server_new(const char *program, const struct fork_server_kind *kinds, size_t kind_count,
		    struct fork_server **ret, struct errmsg *err)
{
	struct fork_server *server;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(err, -errno, "start the fork server");
	pid = fork();
	if (pid == 0)
		server_begin(program, kinds, kind_count, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return fail(err, -errno, "start the fork server");
	}
	server = xcalloc(1, sizeof(*server));
	server->fd = pair[0];
	server->pid = pid;
	*ret = server;
	return 0;
}

void fork_server_free(struct fork_server *server)
{
	if (!server)
		return;
	close(server->fd);
	kill(server->pid, SIGKILL);
	while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(server);
}

int fork_server_fd(const struct fork_server *server)
{
	return server->fd;
}

bool fork_server_is_dead(const struct fork_server *server)
{
	struct answer answer; /* to a request that was given up */
	ssize_t len = recv(server->fd, &answer, sizeof(answer), MSG_DONTWAIT);

	return len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR);
}

static int request_send(const struct fork_server *server, const char *kind, const int *fds,
			size_t fd_count)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(FORK_SERVER_FDS_MAX * sizeof(int))];
	} control = {};
	struct request request = { .number = server->number };
	struct iovec data = { &request, sizeof(request) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	snprintf(request.kind, sizeof(request.kind), "%s", kind);
	if (fd_count) {
		control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(fd_count * sizeof(*fds)),
						   .cmsg_level = SOL_SOCKET,
						   .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(*fds));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(*fds));
	}
	return sendmsg(server->fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

pid_t fork_server_start(struct fork_server *server, const char *kind, const int *fds,
			size_t fd_count)
{
	struct pollfd readable = { .fd = server->fd, .events = POLLIN };
	struct answer answer;
	ssize_t len;
	int ret;

	server->number++;
	ret = fd_count > FORK_SERVER_FDS_MAX ? -E2BIG : request_send(server, kind, fds, fd_count);
	if (ret < 0)
		return ret;
	for (;;) {
		ret = poll(&readable, 1, ANSWER_MS);
		if (ret < 0 && errno == EINTR)
			continue;
		if (ret <= 0)
			return ret < 0 ? -errno : -ETIMEDOUT;
		len = recv(server->fd, &answer, sizeof(answer), 0);
		if (len != sizeof(answer))
			return -EPIPE;
		if (answer.number == server->number) /* not to a request that was given up */
			return answer.pid;
	}
}
