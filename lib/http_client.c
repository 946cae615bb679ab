/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking HTTP client over the agent's unix socket: one request on one connection, bounded in time
 * and size.  Used by the CNI plugin (which passes a namespace with its request) and by the CLI.
 */
#include "lib/http.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/auto.h"
#include "lib/clock.h"

#define RESPONSE_MAX (256u << 20) /* of a body: beyond this the other side is not our agent */
#define READ_SIZE    65536

struct input {
	char *data; /* owned; always room for a NUL after len */
	size_t len;
	size_t size;
};

static void input_free(struct input *input)
{
	if (input)
		free(input->data);
}

static inline void auto_input_fn(struct input *input)
{
	input_free(input);
}

#define auto_input __attribute__((cleanup(auto_input_fn)))

static int input_reserve(struct input *input, size_t more)
{
	size_t size = input->size ? input->size : 4096;
	char *data;

	while (size < input->len + more + 1)
		size *= 2;
	if (size == input->size)
		return 0;
	data = realloc(input->data, size);
	if (!data)
		return -ENOMEM;
	input->data = data;
	input->size = size;
	return 0;
}

static void input_drain(struct input *input, size_t len)
{
	input->len -= len;
	if (input->data)
		memmove(input->data, input->data + len, input->len);
}

struct connection {
	int fd;
	const char *path;
	int64_t deadline_ms; /* CLOCK_MONOTONIC; -1: none */
	bool interruptible;  /* no deadline, and a signal ends the wait with -EINTR */
	struct input in;
};

/* Milliseconds until the deadline, never negative; -1 for no deadline. */
static int connection_left_ms(const struct connection *connection)
{
	int64_t left;

	if (connection->deadline_ms < 0)
		return -1;
	left = connection->deadline_ms - now_ms();
	return left > 0 ? (int)left : 0;
}

/* A signal that is to end the wait is let in only here: one that came earlier does so too. */
static int poll_once(const struct connection *connection, struct pollfd *pollfd)
{
	sigset_t none;

	if (!connection->interruptible)
		return poll(pollfd, 1, connection_left_ms(connection));
	sigemptyset(&none);
	return ppoll(pollfd, 1, NULL, &none);
}

static int connection_wait(const struct connection *connection, short events, struct errmsg *err)
{
	struct pollfd pollfd = { .fd = connection->fd, .events = events };

	for (;;) {
		int n = poll_once(connection, &pollfd);

		if (n > 0)
			return 0;
		if (n == 0)
			return fail_plain(err, -ETIMEDOUT, "%s: no answer in time",
					  connection->path);
		if (errno != EINTR || connection->interruptible)
			return fail(err, -errno, "%s", connection->path);
	}
}

static int connection_open(struct connection *connection, struct errmsg *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int left_ms = connection_left_ms(connection);
	size_t len = strlen(connection->path);
	auto_close int fd = -1;

	if (len >= sizeof(addr.sun_path))
		return fail(err, -ENAMETOOLONG, "socket %s", connection->path);
	memcpy(addr.sun_path, connection->path, len);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, -errno, "socket");
	if (left_ms >= 0) {
		/* Bounds connect() while the agent's backlog is full; 0 would mean for ever. */
		struct timeval timeout = { .tv_sec = left_ms / 1000,
					   .tv_usec = (left_ms % 1000) * 1000 + 1 };

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	}
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno == EAGAIN)
			return fail(err, -ETIMEDOUT, "connect to %s", connection->path);
		if (errno != EINTR || connection->interruptible)
			return fail(err, -errno, "connect to %s", connection->path);
	}
	connection->fd = take_fd(&fd);
	return 0;
}

/* Sends the first bytes with a descriptor attached to them. */
static ssize_t send_with_fd(int fd, const char *data, size_t len, int passed_fd)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (passed_fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &passed_fd, sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A server that refuses early stops reading: that is no error here, its answer says why. */
static int connection_send(struct connection *connection, const char *data, size_t len,
			   int passed_fd, struct errmsg *err)
{
	while (len) {
		ssize_t n = send_with_fd(connection->fd, data, len, passed_fd);
		int ret;

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return fail(err, -errno, "send to %s", connection->path);
		if (n < 0) {
			ret = connection_wait(connection, POLLOUT, err);
			if (ret)
				return ret;
			continue;
		}
		passed_fd = -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Appends what arrives; *ret_len 0 at the end of the stream. */
static int connection_read(struct connection *connection, size_t *ret_len, struct errmsg *err)
{
	struct input *in = &connection->in;

	if (input_reserve(in, READ_SIZE))
		return fail(err, -ENOMEM, "answer from %s", connection->path);
	for (;;) {
		int ret = connection_wait(connection, POLLIN, err);
		ssize_t n;

		if (ret)
			return ret;
		n = recv(connection->fd, in->data + in->len, READ_SIZE, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0 && errno == ECONNRESET)
			n = 0;
		if (n < 0)
			return fail(err, -errno, "receive from %s", connection->path);
		in->len += (size_t)n;
		in->data[in->len] = '\0';
		*ret_len = (size_t)n;
		return 0;
	}
}

static int connection_request(struct connection *connection, const char *method, const char *path,
			      const char *body, int passed_fd, struct errmsg *err)
{
	size_t body_len = body ? strlen(body) : 0;
	auto_free char *head = NULL;
	int ret, len;

	ret = connection_open(connection, err);
	if (ret)
		return ret;
	len = asprintf(&head,
		       "%s %s HTTP/1.1\r\nHost: tendril\r\nConnection: close\r\n"
		       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		       method, path, body_len);
	if (len < 0) {
		head = NULL;
		return fail(err, -ENOMEM, "request to %s", connection->path);
	}
	ret = connection_send(connection, head, (size_t)len, passed_fd, err);
	if (!ret && body_len)
		ret = connection_send(connection, body, body_len, -1, err);
	return ret;
}

/* Reads up to the end of the answer's head and removes it from the buffer. */
static int connection_read_head(struct connection *connection, struct http_response_head *ret_head,
				struct errmsg *err)
{
	for (;;) {
		ssize_t len =
			http_response_head_parse(connection->in.data ? connection->in.data : "",
						 connection->in.len, ret_head, err);
		size_t got = 0;
		int ret;

		if (len < 0)
			return wrap(err, "answer from %s", connection->path);
		if (len > 0) {
			input_drain(&connection->in, (size_t)len);
			return 0;
		}
		ret = connection_read(connection, &got, err);
		if (ret)
			return ret;
		if (got == 0)
			return fail_plain(err, -ECONNRESET,
					  "%s closed the connection without an answer",
					  connection->path);
	}
}

static int connection_read_body(struct connection *connection, size_t len, struct errmsg *err)
{
	if (len > RESPONSE_MAX)
		return fail_plain(err, -E2BIG, "answer from %s has %zu bytes", connection->path,
				  len);
	while (connection->in.len < len) {
		size_t got = 0;
		int ret = connection_read(connection, &got, err);

		if (ret)
			return ret;
		if (got == 0)
			return fail_plain(err, -ECONNRESET, "answer from %s ends too early",
					  connection->path);
	}
	return 0;
}

static int connection_call(struct connection *connection, const char *method, const char *path,
			   const char *body, int passed_fd, struct http_response *ret_response,
			   struct errmsg *err)
{
	struct http_response_head head = {};
	int ret;

	ret = connection_request(connection, method, path, body, passed_fd, err);
	if (!ret)
		ret = connection_read_head(connection, &head, err);
	if (!ret && head.chunked)
		ret = fail_plain(err, -EPROTO, "%s %s is a stream", method, path);
	if (!ret)
		ret = connection_read_body(connection, head.body_len, err);
	if (ret)
		return ret;
	connection->in.data[head.body_len] = '\0';
	ret_response->status = head.status;
	ret_response->body_len = head.body_len;
	ret_response->body = take_ptr(connection->in.data);
	return 0;
}

static void connection_done(struct connection *connection)
{
	if (connection->fd >= 0)
		close(connection->fd);
	free(connection->in.data);
}

/* NOLINTNEXTLINE(readability-function-size): a request has this many parts */
int http_call(const char *socket_path, const char *method, const char *path, const char *body,
	      int fd, int timeout_ms, struct http_response *ret_response, struct errmsg *err)
{
	struct connection connection = { .fd = -1,
					 .path = socket_path,
					 .deadline_ms = now_ms() + timeout_ms };
	int ret = connection_call(&connection, method, path, body, fd, ret_response, err);

	connection_done(&connection);
	return ret;
}

void http_response_done(struct http_response *response)
{
	free(response->body);
	response->body = NULL;
}

/* Hands every complete line of text to the caller; what is left waits for its end. */
static int lines_emit(struct input *text, int (*line)(const char *json, void *arg), void *arg)
{
	size_t start = 0;
	int stop = 0;

	while (!stop) {
		char *end = memchr(text->data + start, '\n', text->len - start);

		if (!end)
			break;
		*end = '\0';
		stop = line(text->data + start, arg);
		start = (size_t)(end - text->data) + 1;
	}
	input_drain(text, start);
	return stop;
}

/* Moves the payload of whole chunks from the connection to text.  1: the last chunk was met. */
static int chunks_unwrap(struct connection *connection, struct input *text, struct errmsg *err)
{
	size_t used = 0, start, len = 1;

	while (connection->in.data && len) {
		ssize_t n = http_chunk_parse(connection->in.data + used, connection->in.len - used,
					     &start, &len);

		if (n < 0 || text->len + len > RESPONSE_MAX)
			return fail_plain(err, -EBADMSG, "malformed chunk from %s",
					  connection->path);
		if (n == 0)
			break;
		if (input_reserve(text, len))
			return fail(err, -ENOMEM, "stream from %s", connection->path);
		memcpy(text->data + text->len, connection->in.data + used + start, len);
		text->len += len;
		used += (size_t)n;
	}
	input_drain(&connection->in, used);
	return len == 0;
}

/* The "error" member of a refused request's body, or the whole body. */
static int response_fail(struct connection *connection, const struct http_response_head *head,
			 struct errmsg *err)
{
	cJSON *json, *text;
	int ret;

	ret = connection_read_body(connection, head->body_len, err);
	if (ret)
		return ret;
	json = cJSON_ParseWithLength(connection->in.data, head->body_len);
	text = cJSON_GetObjectItemCaseSensitive(json, "error");
	ret = fail_plain(err, -EPROTO, "%s (status %d)",
			 cJSON_IsString(text) ? text->valuestring : "refused", head->status);
	cJSON_Delete(json);
	return ret;
}

static int connection_follow(struct connection *connection, const char *path,
			     int (*line)(const char *json, void *arg), void *arg,
			     struct errmsg *err)
{
	auto_input struct input text = {};
	struct http_response_head head = {};
	int ret, stop, last;

	ret = connection_request(connection, "GET", path, NULL, -1, err);
	if (!ret)
		ret = connection_read_head(connection, &head, err);
	if (ret)
		return ret;
	if (head.status != 200)
		return response_fail(connection, &head, err);
	if (!head.chunked)
		return fail_plain(err, -EPROTO, "GET %s is not a stream", path);
	if (input_reserve(&text, 0))
		return fail(err, -ENOMEM, "stream from %s", connection->path);
	for (;;) {
		size_t got = 0;

		last = chunks_unwrap(connection, &text, err);
		if (last < 0)
			return last;
		stop = lines_emit(&text, line, arg);
		if (stop || last)
			return stop;
		ret = connection_read(connection, &got, err);
		if (ret)
			return ret;
		if (got == 0)
			return fail_plain(err, -ECONNRESET, "%s ended the stream",
					  connection->path);
	}
}

int http_follow(const char *socket_path, const char *path, int (*line)(const char *json, void *arg),
		void *arg, struct errmsg *err)
{
	struct connection connection = {
		.fd = -1, .path = socket_path, .deadline_ms = -1, .interruptible = true
	};
	int ret = connection_follow(&connection, path, line, arg, err);

	connection_done(&connection);
	return ret;
}
