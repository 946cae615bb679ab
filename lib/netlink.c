/* SPDX-License-Identifier: Apache-2.0 */
/* rtnetlink over libmnl: requests, batches and dumps with the kernel's own words in errors. */
#include "lib/netlink.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/auto.h"
#include "lib/netns.h"

#define DUMP_ATTEMPTS 20
/* Room for the answer to a batch: each verdict takes some hundred bytes of socket memory. */
#define RECEIVE_BYTES (512 * 1024)
/* Verdicts are there at once; a kernel that keeps rtnl locked this long is in trouble. */
#define ANSWER_SECONDS 30

int netlink_open(struct netlink *netlink, int netns_fd, struct errmsg *err)
{
	return netlink_open_protocol(netlink, netns_fd, NETLINK_ROUTE, err);
}

int netlink_open_protocol(struct netlink *netlink, int netns_fd, int protocol, struct errmsg *err)
{
	auto_close int fd = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, protocol, err);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	struct timeval timeout = { .tv_sec = ANSWER_SECONDS };
	int bytes = RECEIVE_BYTES;
	int on = 1;

	if (fd < 0)
		return fd;
	/* Nice to have: explanations, short acks, strict checks, room.  None changes the outcome.
	 */
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fail(err, -errno, "bind a netlink socket");
	netlink->fd = take_fd(&fd);
	netlink->seq = 0;
	return 0;
}

void netlink_close(struct netlink *netlink)
{
	if (netlink->fd >= 0)
		close(take_fd(&netlink->fd));
}

void *netlink_message_init(struct netlink_message *message, uint16_t type, uint16_t flags,
			   size_t header_size)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(message->bytes);

	header->nlmsg_type = type;
	header->nlmsg_flags = flags | NLM_F_REQUEST;
	return mnl_nlmsg_put_extra_header(header, header_size);
}

void netlink_put_addr(struct nlmsghdr *header, uint16_t type, const struct addr *addr)
{
	const uint8_t *bytes;
	size_t len = addr_bytes(addr, &bytes);

	mnl_attr_put(header, type, len, bytes);
}

static int send_bytes(struct netlink *netlink, const void *bytes, size_t len, struct errmsg *err)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t sent;

	do {
		sent = sendto(netlink->fd, bytes, len, 0, (struct sockaddr *)&kernel,
			      sizeof(kernel));
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? fail(err, -errno, "send to netlink") : 0;
}

/* One datagram from the kernel; others may send to a netlink socket too and are not heard. */
static ssize_t receive_bytes(struct netlink *netlink, char *buf, size_t size, struct errmsg *err)
{
	struct sockaddr_nl from = {};

	for (;;) {
		socklen_t from_len = sizeof(from);
		ssize_t len = recvfrom(netlink->fd, buf, size, MSG_TRUNC, (struct sockaddr *)&from,
				       &from_len);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return fail(err, errno == EAGAIN ? -ETIMEDOUT : -errno,
				    "receive from netlink");
		if ((size_t)len > size)
			return fail(err, -EMSGSIZE, "receive from netlink");
		if (from.nl_pid == 0)
			return len;
	}
}

/* The kernel's words in an extended ack, or NULL.  Valid as long as the message. */
static const char *ack_text(const struct nlmsghdr *header)
{
	const struct nlmsgerr *ack = mnl_nlmsg_get_payload(header);
	size_t offset = sizeof(*ack);
	const struct nlattr *attr;

	if (!(header->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	/* Without NLM_F_CAPPED the whole request follows the error. */
	if (!(header->nlmsg_flags & NLM_F_CAPPED))
		offset += ack->msg.nlmsg_len - sizeof(struct nlmsghdr);
	if (offset > mnl_nlmsg_get_payload_len(header))
		return NULL;
	mnl_attr_for_each (attr, header, offset) {
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
			return mnl_attr_get_str(attr);
	}
	return NULL;
}

/* The verdict in an NLMSG_ERROR (0 is an acknowledgement). */
static int ack_verdict(const struct nlmsghdr *header, struct errmsg *err)
{
	const struct nlmsgerr *ack = mnl_nlmsg_get_payload(header);
	const char *text;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*ack))
		return fail(err, -EBADMSG, "netlink answer");
	if (ack->error == 0)
		return 0;
	text = ack_text(header);
	if (text)
		return fail(err, ack->error, "kernel: %s", text);
	return fail(err, ack->error, "kernel");
}

int netlink_request(struct netlink *netlink, struct netlink_message *message, struct errmsg *err)
{
	return netlink_get(netlink, message, NULL, NULL, err);
}

int netlink_get(struct netlink *netlink, struct netlink_message *message, netlink_each each,
		void *arg, struct errmsg *err)
{
	char buf[NETLINK_BUFFER_SIZE];
	int each_result = 0;
	int ret;

	message->header.nlmsg_flags |= NLM_F_ACK;
	message->header.nlmsg_seq = ++netlink->seq;
	ret = send_bytes(netlink, message->bytes, message->header.nlmsg_len, err);
	while (ret == 0) {
		ssize_t received = receive_bytes(netlink, buf, sizeof(buf), err);
		const struct nlmsghdr *header = (const struct nlmsghdr *)buf;
		int len = (int)received;

		if (received < 0)
			return (int)received;
		for (; mnl_nlmsg_ok(header, len); header = mnl_nlmsg_next(header, &len)) {
			if (header->nlmsg_seq != netlink->seq)
				continue; /* the rest of something given up */
			if (header->nlmsg_type == NLMSG_ERROR) {
				ret = ack_verdict(header, err);
				return ret < 0 ? ret : each_result;
			}
			if (each && each_result == 0)
				each_result = each(header, arg);
		}
	}
	return ret;
}

/* Reads one dump to its end.  -EINTR: it is not consistent. */
static int dump_read(struct netlink *netlink, netlink_each each, void *arg, struct errmsg *err)
{
	char buf[32768]; /* what the kernel fills at most */
	bool interrupted = false;
	int each_result = 0;

	for (;;) {
		ssize_t received = receive_bytes(netlink, buf, sizeof(buf), err);
		const struct nlmsghdr *header = (const struct nlmsghdr *)buf;
		int len = (int)received;

		if (received < 0)
			return received == -ENOBUFS ? -EINTR : (int)received;
		for (; mnl_nlmsg_ok(header, len); header = mnl_nlmsg_next(header, &len)) {
			if (header->nlmsg_seq != netlink->seq)
				continue;
			interrupted |= header->nlmsg_flags & NLM_F_DUMP_INTR;
			if (header->nlmsg_type == NLMSG_DONE) {
				int verdict = 0;

				if (mnl_nlmsg_get_payload_len(header) >= sizeof(int))
					verdict = *(const int *)mnl_nlmsg_get_payload(header);
				if (verdict < 0)
					return verdict == -EINTR ? verdict
								 : fail(err, verdict, "kernel");
				return interrupted ? -EINTR : each_result;
			}
			if (header->nlmsg_type == NLMSG_ERROR)
				return ack_verdict(header, err);
			if (each_result == 0)
				each_result = each(header, arg);
		}
	}
}

int netlink_dump(struct netlink *netlink, struct netlink_message *message, netlink_each each,
		 void (*begin)(void *arg), void *arg, struct errmsg *err)
{
	message->header.nlmsg_flags |= NLM_F_DUMP;
	for (int attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
		int ret;

		if (attempt > 0 && begin)
			begin(arg);
		message->header.nlmsg_seq = ++netlink->seq;
		ret = send_bytes(netlink, message->bytes, message->header.nlmsg_len, err);
		if (ret == 0)
			ret = dump_read(netlink, each, arg, err);
		if (ret != -EINTR)
			return ret;
	}
	return fail_plain(err, -EINTR, "netlink dump: interrupted %d times by changes",
			  DUMP_ATTEMPTS);
}

void netlink_batch_init(struct netlink_batch *batch)
{
	batch->len = 0;
	batch->count = 0;
}

/* Where the next message goes: behind the one that was begun last (at batch->len), which is as long
 * as it has become. */
static size_t batch_end(const struct netlink_batch *batch)
{
	const struct nlmsghdr *last = (const struct nlmsghdr *)(batch->bytes + batch->len);

	return batch->count > 0 ? batch->len + MNL_ALIGN(last->nlmsg_len) : 0;
}

struct nlmsghdr *netlink_batch_next(struct netlink_batch *batch, uint16_t type, uint16_t flags,
				    size_t header_size, void **ret_header)
{
	size_t start = batch_end(batch);
	struct nlmsghdr *header;

	if (start + sizeof(struct netlink_message) > sizeof(batch->bytes))
		return NULL;
	batch->len = start;
	header = mnl_nlmsg_put_header(batch->bytes + batch->len);
	header->nlmsg_type = type;
	header->nlmsg_flags = flags | NLM_F_REQUEST | NLM_F_ACK;
	*ret_header = mnl_nlmsg_put_extra_header(header, header_size);
	batch->count++;
	return header;
}

int netlink_batch_run(struct netlink *netlink, struct netlink_batch *batch,
		      bool (*ignore)(size_t index, int code), size_t *ret_failed,
		      struct errmsg *err)
{
	uint32_t first_seq = netlink->seq + 1;
	char buf[NETLINK_BUFFER_SIZE];
	size_t answered = 0;
	int ret = 0;
	int sent;

	for (size_t at = 0, i = 0; i < batch->count; i++) {
		struct nlmsghdr *header = (struct nlmsghdr *)(batch->bytes + at);

		header->nlmsg_seq = ++netlink->seq;
		at += MNL_ALIGN(header->nlmsg_len);
	}
	sent = send_bytes(netlink, batch->bytes, batch_end(batch), err);
	if (sent < 0)
		return sent;
	while (answered < batch->count) {
		ssize_t received = receive_bytes(netlink, buf, sizeof(buf), err);
		const struct nlmsghdr *header = (const struct nlmsghdr *)buf;
		int len = (int)received;

		if (received < 0)
			return (int)received;
		for (; mnl_nlmsg_ok(header, len); header = mnl_nlmsg_next(header, &len)) {
			size_t index = header->nlmsg_seq - first_seq;
			struct errmsg text = {};
			int verdict;

			if (header->nlmsg_type != NLMSG_ERROR || index >= batch->count)
				continue;
			answered++;
			verdict = ack_verdict(header, &text);
			if (verdict == 0 || ret < 0 || (ignore && ignore(index, verdict)))
				continue;
			ret = verdict;
			if (ret_failed)
				*ret_failed = index;
			if (err)
				*err = text;
		}
	}
	return ret;
}
