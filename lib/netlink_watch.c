/* SPDX-License-Identifier: Apache-2.0 */
/* Reads notifications in turns: a budget of messages, then a pause if there are more. */
#include "lib/netlink_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/alloc.h"
#include "lib/netlink.h"

struct netlink_watch {
	struct netlink_watch_options options;
	struct netlink netlink;
	struct event *readable;
	struct event *resume; /* reading goes on after a pause */
};

static int netns_id_of(struct msghdr *message)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg;
	     cmsg = CMSG_NXTHDR(message, cmsg)) {
		int id;

		if (cmsg->cmsg_level == SOL_NETLINK && cmsg->cmsg_type == NETLINK_LISTEN_ALL_NSID) {
			memcpy(&id, CMSG_DATA(cmsg), sizeof(id));
			return id;
		}
	}
	return -1;
}

/* Reads one datagram; false: there is none. */
static bool read_one(struct netlink_watch *watch, bool *lost)
{
	_Alignas(struct nlmsghdr) char buf[NETLINK_BUFFER_SIZE];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct sockaddr_nl from = {};
	struct iovec part = { buf, sizeof(buf) };
	struct msghdr message = { .msg_name = &from,
				  .msg_namelen = sizeof(from),
				  .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t received = recvmsg(watch->netlink.fd, &message, MSG_DONTWAIT);
	const struct nlmsghdr *notice = (const struct nlmsghdr *)buf;
	int len = (int)received;
	int netns_id;

	if (received < 0) {
		*lost |= errno == ENOBUFS;
		return errno == ENOBUFS || errno == EINTR;
	}
	if (from.nl_pid != 0)
		return true; /* a process may send to a netlink socket too */
	*lost |= message.msg_flags & MSG_TRUNC;
	netns_id = netns_id_of(&message);
	for (; mnl_nlmsg_ok(notice, len); notice = mnl_nlmsg_next(notice, &len))
		watch->options.notice(notice, netns_id, watch->options.arg);
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval pause = { .tv_usec = NETLINK_WATCH_PAUSE_MS * 1000 };
	struct netlink_watch *watch = arg;
	int budget = NETLINK_WATCH_BUDGET;
	bool lost = false;

	(void)fd;
	(void)what;
	while (budget > 0 && read_one(watch, &lost))
		budget--;
	if (budget == 0) {
		event_del(watch->readable);
		evtimer_add(watch->resume, &pause);
	}
	watch->options.turn(lost, watch->options.arg);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct netlink_watch *watch = arg;

	(void)fd;
	(void)what;
	event_add(watch->readable, NULL);
}

int netlink_watch_new(const struct netlink_watch_options *options, struct netlink_watch **ret,
		      struct errmsg *err)
{
	struct netlink_watch *watch = *ret = xcalloc(1, sizeof(*watch));
	int fd;

	watch->options = *options;
	watch->netlink = (struct netlink)NETLINK_INIT;
	if (netlink_open_protocol(&watch->netlink, -1, options->protocol, err) < 0)
		return err->code;
	fd = watch->netlink.fd;
	if (options->filter && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, options->filter,
					  sizeof(*options->filter)) < 0)
		return fail(err, -errno, "filter netlink");
	for (size_t i = 0; i < options->group_count; i++) {
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &options->groups[i],
			       sizeof(options->groups[i])) < 0)
			return fail(err, -errno, "follow netlink group %u", options->groups[i]);
	}
	watch->readable = event_new(options->base, fd, EV_READ | EV_PERSIST, on_readable, watch);
	watch->resume = evtimer_new(options->base, on_resume, watch);
	if (!watch->readable || !watch->resume || event_add(watch->readable, NULL) < 0)
		return fail(err, -ENOMEM, "watch netlink");
	return 0;
}

void netlink_watch_free(struct netlink_watch *watch)
{
	if (!watch)
		return;
	if (watch->readable)
		event_free(watch->readable);
	if (watch->resume)
		event_free(watch->resume);
	netlink_close(&watch->netlink);
	free(watch);
}

int netlink_watch_fd(const struct netlink_watch *watch)
{
	return watch->netlink.fd;
}
