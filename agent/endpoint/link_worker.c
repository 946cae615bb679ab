/* SPDX-License-Identifier: Apache-2.0 */
/* Deletes links, and attaches a program to them, in a small child process. */
#include "agent/endpoint/link_worker.h"

#include <errno.h>
#include <linux/if_link.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "datapath/datapath.h"
#include "lib/alloc.h"
#include "lib/child.h"
#include "lib/fork_server.h"
#include "lib/netlink.h"

/* Links to delete in one go are put into this group of devices ("tdl" and a number). */
#define LINK_WORKER_GROUP 0x74646c01
#define LINK_WORKER_MAX   64 /* at once: bounds the time that rtnl is held */

/* The child's descriptors. */
#define SOCKET_FD  CHILD_FD_FIRST
#define PROGRAM_FD (CHILD_FD_FIRST + 1)

struct link_request {
	int32_t ifindex;
	uint32_t tag;
	bool attach; /* and do not delete */
};

struct link_answer {
	uint32_t tag;
	int32_t result;
};

struct link_worker {
	int fd;
	pid_t pid;
};

/* ---- the child ------------------------------------------------------------------------------- */

static int privileges_drop(void)
{
	static const cap_value_t keep[] = { CAP_NET_ADMIN };
	cap_t caps = cap_init();
	int ret;

	if (!caps)
		return -ENOMEM;
	ret = cap_set_flag(caps, CAP_PERMITTED, 1, keep, CAP_SET) < 0 ||
	      cap_set_flag(caps, CAP_EFFECTIVE, 1, keep, CAP_SET) < 0 || cap_set_proc(caps) < 0;
	cap_free(caps);
	if (ret || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

static int link_delete(struct netlink *netlink, int ifindex)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	int ret;

	info->ifi_index = ifindex;
	ret = netlink_request(netlink, &message, NULL);
	return ret == -ENODEV ? 0 : ret;
}

/* Deletes all of them for the price of one.  A link that is gone is simply not in the group. */
static int links_delete(struct netlink *netlink, const struct link_request *requests, size_t count)
{
	struct netlink_message message;
	struct ifinfomsg *info;
	int ret;

	for (size_t i = 0; i < count; i++) {
		info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
		info->ifi_index = requests[i].ifindex;
		mnl_attr_put_u32(&message.header, IFLA_GROUP, LINK_WORKER_GROUP);
		ret = netlink_request(netlink, &message, NULL);
		if (ret < 0 && ret != -ENODEV)
			return ret;
	}
	netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	mnl_attr_put_u32(&message.header, IFLA_GROUP, LINK_WORKER_GROUP);
	ret = netlink_request(netlink, &message, NULL);
	return ret == -ENODEV ? 0 : ret;
}

static int request_receive(int fd, struct link_request *ret, int flags)
{
	ssize_t len;

	do {
		len = recv(fd, ret, sizeof(*ret), flags);
	} while (len < 0 && errno == EINTR);
	return len == sizeof(*ret);
}

/* The agent may be stopping and not listen.  The work is done all the same. */
static void request_answer(const struct link_request *request, int result)
{
	struct link_answer answer = { .tag = request->tag, .result = result };

	(void)!send(SOCKET_FD, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void deletions_do(struct netlink *netlink, const struct link_request *requests, size_t count)
{
	bool together = count > 1 && links_delete(netlink, requests, count) == 0;

	for (size_t i = 0; i < count; i++)
		request_answer(&requests[i],
			       together ? 0 : link_delete(netlink, requests[i].ifindex));
}

static void link_worker_loop(struct netlink *netlink)
{
	struct link_request requests[LINK_WORKER_MAX], next;
	bool more = request_receive(SOCKET_FD, &next, 0);

	while (more) {
		size_t count = 0;

		for (; more && !next.attach && count < LINK_WORKER_MAX;
		     more = request_receive(SOCKET_FD, &next, MSG_DONTWAIT))
			requests[count++] = next;
		if (count)
			deletions_do(netlink, requests, count);
		if (more && next.attach) {
			request_answer(&next, datapath_attach_tcx(PROGRAM_FD, next.ifindex));
			more = false;
		}
		if (!more)
			more = request_receive(SOCKET_FD, &next, 0);
	}
}

/* Killed with the agent: the next agent asks again for what was not begun, and may by then have
 * given the index to another link. */
void link_worker_run(pid_t agent, size_t fd_count)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;

	(void)fd_count;
	if (netlink_open(&netlink, -1, NULL) < 0 || privileges_drop() < 0 || !child_bind_to(agent))
		_exit(EXIT_FAILURE);
	link_worker_loop(&netlink);
	_exit(EXIT_SUCCESS);
}

/* ---- the agent's side ------------------------------------------------------------------------ */

int link_worker_new(struct fork_server *server, int program_fd, struct link_worker **ret,
		    struct errmsg *err)
{
	auto_free struct link_worker *link_worker = xcalloc(1, sizeof(*link_worker));
	int pair[2], fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(err, -errno, "start the link worker");
	fds[0] = pair[1];
	fds[1] = program_fd;
	link_worker->pid =
		fork_server_start(server, LINK_WORKER_NAME, fds, program_fd >= 0 ? 2 : 1);
	close(pair[1]);
	if (link_worker->pid < 0) {
		close(pair[0]);
		return fail(err, link_worker->pid, "start the link worker");
	}
	link_worker->fd = pair[0];
	*ret = take_ptr(link_worker);
	return 0;
}

void link_worker_free(struct link_worker *link_worker)
{
	if (!link_worker)
		return;
	close(link_worker->fd);
	while (waitpid(link_worker->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(link_worker);
}

int link_worker_fd(const struct link_worker *link_worker)
{
	return link_worker->fd;
}

pid_t link_worker_pid(const struct link_worker *link_worker)
{
	return link_worker->pid;
}

static int link_worker_ask(struct link_worker *link_worker, const struct link_request *request,
			   struct errmsg *err)
{
	if (send(link_worker->fd, request, sizeof(*request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return fail(err, errno == ECONNRESET ? -EPIPE : -errno, "ask the link worker");
	return 0;
}

int link_worker_delete(struct link_worker *link_worker, int ifindex, uint32_t tag,
		       struct errmsg *err)
{
	struct link_request request = { .ifindex = ifindex, .tag = tag };

	return link_worker_ask(link_worker, &request, err);
}

int link_worker_attach(struct link_worker *link_worker, int ifindex, uint32_t tag,
		       struct errmsg *err)
{
	struct link_request request = { .ifindex = ifindex, .tag = tag, .attach = true };

	return link_worker_ask(link_worker, &request, err);
}

int link_worker_collect(struct link_worker *link_worker, int wait_ms,
			void (*done)(uint32_t tag, int result, void *arg), void *arg)
{
	struct pollfd poll_fd = { .fd = link_worker->fd, .events = POLLIN };
	int count = 0;

	if (poll(&poll_fd, 1, wait_ms) <= 0)
		return 0;
	for (;;) {
		struct link_answer answer;
		ssize_t len = recv(link_worker->fd, &answer, sizeof(answer), MSG_DONTWAIT);

		if (len == 0 || (len < 0 && errno == ECONNRESET))
			return -EPIPE;
		if (len != sizeof(answer))
			return count;
		done(answer.tag, answer.result, arg);
		count++;
	}
}
