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
#include "lib/child.h"
#include "lib/netlink.h"

/* Links to delete in one go are put into this group of devices ("tdl" and a number). */
#define REAP_GROUP 0x74646c01
#define REAP_MAX   64 /* in one go: bounds the time rtnl is held */

/* The child's descriptors. */
#define SOCKET_FD  CHILD_FD_FIRST
#define PROGRAM_FD (CHILD_FD_FIRST + 1)

struct reap_request {
	int32_t ifindex;
	uint32_t tag;
	bool attach; /* and do not delete */
};

struct reap_answer {
	uint32_t tag;
	int32_t result;
};

struct reaper {
	int fd;
	pid_t pid;
};

/* ---- the child ------------------------------------------------------------------------------- */

static int privileges_drop(void)
{
	static const cap_value_t keep[] = { CAP_NET_ADMIN };
	cap_t caps = cap_init();
	int result;

	if (!caps)
		return -ENOMEM;
	result = cap_set_flag(caps, CAP_PERMITTED, 1, keep, CAP_SET) < 0 ||
		 cap_set_flag(caps, CAP_EFFECTIVE, 1, keep, CAP_SET) < 0 || cap_set_proc(caps) < 0;
	cap_free(caps);
	if (result || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

static int link_delete(struct netlink *netlink, int ifindex)
{
	struct netlink_message message;
	struct ifinfomsg *info = netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	int result;

	info->ifi_index = ifindex;
	result = netlink_request(netlink, &message, NULL);
	return result == -ENODEV ? 0 : result;
}

/* Deletes all of them at the price of one.  What is gone already is simply not in the group. */
static int links_delete(struct netlink *netlink, const struct reap_request *requests, size_t count)
{
	struct netlink_message message;
	struct ifinfomsg *info;
	int result;

	for (size_t i = 0; i < count; i++) {
		info = netlink_message_init(&message, RTM_NEWLINK, 0, sizeof(*info));
		info->ifi_index = requests[i].ifindex;
		mnl_attr_put_u32(&message.header, IFLA_GROUP, REAP_GROUP);
		result = netlink_request(netlink, &message, NULL);
		if (result < 0 && result != -ENODEV)
			return result;
	}
	netlink_message_init(&message, RTM_DELLINK, 0, sizeof(*info));
	mnl_attr_put_u32(&message.header, IFLA_GROUP, REAP_GROUP);
	result = netlink_request(netlink, &message, NULL);
	return result == -ENODEV ? 0 : result;
}

static int request_receive(int fd, struct reap_request *ret, int flags)
{
	ssize_t len;

	do {
		len = recv(fd, ret, sizeof(*ret), flags);
	} while (len < 0 && errno == EINTR);
	return len == sizeof(*ret);
}

/* Nobody may listen any more: the agent is ending.  The work is done all the same. */
static void request_answer(const struct reap_request *request, int result)
{
	struct reap_answer answer = { .tag = request->tag, .result = result };

	(void)!send(SOCKET_FD, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void deletions_do(struct netlink *netlink, const struct reap_request *requests, size_t count)
{
	bool together = count > 1 && links_delete(netlink, requests, count) == 0;

	for (size_t i = 0; i < count; i++)
		request_answer(&requests[i],
			       together ? 0 : link_delete(netlink, requests[i].ifindex));
}

static void reaper_loop(struct netlink *netlink)
{
	struct reap_request requests[REAP_MAX], next;
	bool more = request_receive(SOCKET_FD, &next, 0);

	while (more) {
		size_t count = 0;

		for (; more && !next.attach && count < REAP_MAX;
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

/* Killed with the agent: what it was asked for and has not begun is asked for again by the next
 * agent, which may by then have given the index to another link. */
static void __attribute__((noreturn)) reaper_main(int fd, int program_fd, pid_t agent)
{
	auto_netlink struct netlink netlink = NETLINK_INIT;
	int fds[] = { fd, program_fd };

	if (child_settle("tendril-reaper", fds, program_fd >= 0 ? 2 : 1) < 0 ||
	    netlink_open(&netlink, -1, NULL) < 0 || privileges_drop() < 0 || !child_bind_to(agent))
		_exit(EXIT_FAILURE);
	reaper_loop(&netlink);
	_exit(EXIT_SUCCESS);
}

/* ---- the agent's side ------------------------------------------------------------------------ */

int reaper_new(int program_fd, struct reaper **ret, struct errmsg *err)
{
	auto_free struct reaper *reaper = calloc(1, sizeof(*reaper));
	pid_t agent = getpid();
	int pair[2];

	if (!reaper)
		return fail(err, -ENOMEM, "start the reaper");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(err, -errno, "start the reaper");
	reaper->pid = fork();
	if (reaper->pid == 0)
		reaper_main(pair[1], program_fd, agent);
	close(pair[1]);
	if (reaper->pid < 0) {
		close(pair[0]);
		return fail(err, -errno, "start the reaper");
	}
	reaper->fd = pair[0];
	*ret = take_ptr(reaper);
	return 0;
}

void reaper_free(struct reaper *reaper)
{
	if (!reaper)
		return;
	close(reaper->fd);
	while (waitpid(reaper->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(reaper);
}

int reaper_fd(const struct reaper *reaper)
{
	return reaper->fd;
}

pid_t reaper_pid(const struct reaper *reaper)
{
	return reaper->pid;
}

static int reaper_ask(struct reaper *reaper, const struct reap_request *request, struct errmsg *err)
{
	if (send(reaper->fd, request, sizeof(*request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return fail(err, errno == ECONNRESET ? -EPIPE : -errno, "ask the reaper");
	return 0;
}

int reaper_delete(struct reaper *reaper, int ifindex, uint32_t tag, struct errmsg *err)
{
	struct reap_request request = { .ifindex = ifindex, .tag = tag };

	return reaper_ask(reaper, &request, err);
}

int reaper_attach(struct reaper *reaper, int ifindex, uint32_t tag, struct errmsg *err)
{
	struct reap_request request = { .ifindex = ifindex, .tag = tag, .attach = true };

	return reaper_ask(reaper, &request, err);
}

int reaper_collect(struct reaper *reaper, int wait_ms,
		   void (*done)(uint32_t tag, int result, void *arg), void *arg)
{
	struct pollfd poll_fd = { .fd = reaper->fd, .events = POLLIN };
	int count = 0;

	if (poll(&poll_fd, 1, wait_ms) <= 0)
		return 0;
	for (;;) {
		struct reap_answer answer;
		ssize_t len = recv(reaper->fd, &answer, sizeof(answer), MSG_DONTWAIT);

		if (len == 0 || (len < 0 && errno == ECONNRESET))
			return -EPIPE;
		if (len != sizeof(answer))
			return count;
		done(answer.tag, answer.result, arg);
		count++;
	}
}
