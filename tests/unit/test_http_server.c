/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server under a client that is byte by byte in the test's hand, in one thread: the test writes
 * to a socket, turns the event loop, and reads what came back.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/http.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define BODY_MAX 1000
#define IDLE_MS  300

struct fixture {
	char dir[64];
	char path[80];
	struct event_base *base;
	struct http_server *server;
	struct http_exchange *pending; /* of a request to /later or /stream */
	int closed;
	int requests;
	int client;   /* of the connection a test is waiting on */
	int last_fd;  /* as the handler saw it */
	bool fd_open; /* it was a live descriptor then */
	char got[20000];
	size_t got_len;
};

static void stream_closed(void *arg)
{
	((struct fixture *)arg)->closed++;
}

static void handle(struct http_exchange *exchange, const struct http_request *request, void *arg)
{
	struct fixture *f = arg;
	char json[2048];

	f->requests++;
	f->last_fd = request->fd;
	f->fd_open = request->fd >= 0 && fcntl(request->fd, F_GETFD) == FD_CLOEXEC;
	assert_int_equal(request->peer_pid, getpid());
	assert_int_equal(strlen(request->body), request->head.body_len);
	if (strcmp(request->head.path, "/later") == 0) {
		f->pending = exchange;
		return;
	}
	if (strcmp(request->head.path, "/stream") == 0) {
		if (http_stream_begin(exchange, stream_closed, f) == 0)
			f->pending = exchange;
		return;
	}
	snprintf(json, sizeof(json), "[%s %s %s]", request->head.method, request->head.path,
		 request->body);
	http_reply(exchange, 200, json);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct http_limits limits = {
		.body_max = BODY_MAX,
		.clients = 3,
		.streams = 2,
		.idle_ms = IDLE_MS,
		.stream_backlog = 4096,
	};

	snprintf(f->dir, sizeof(f->dir), "/tmp/test_http.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	f->base = event_base_new();
	assert_int_equal(http_server_new(f->base, f->path, &limits, handle, f, &f->server, NULL),
			 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	http_server_free(f->server);
	event_base_free(f->base);
	assert_int_equal(access(f->path, F_OK), -1);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void turn(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		event_base_loop(f->base, EVLOOP_NONBLOCK);
}

static int dial(struct fixture *f)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, f->path, strlen(f->path) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	turn(f);
	return fd;
}

static void say(struct fixture *f, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	turn(f);
}

/* Everything that has come back, in f->got; true if the server has closed. */
static bool hear(struct fixture *f, int fd)
{
	bool closed = false;

	f->got_len = 0;
	for (;;) {
		ssize_t n = recv(fd, f->got + f->got_len, sizeof(f->got) - 1 - f->got_len, 0);

		if (n <= 0) {
			closed = n == 0 || errno == ECONNRESET;
			break;
		}
		f->got_len += (size_t)n;
		turn(f);
	}
	f->got[f->got_len] = '\0';
	return closed;
}

static void expect(struct fixture *f, const char *part)
{
	if (!strstr(f->got, part))
		fail_msg("expected \"%s\" in \"%s\"", part, f->got);
}

static void wait_idle(struct fixture *f, bool (*done)(struct fixture *f))
{
	for (int i = 0; i < 200; i++) {
		struct timeval step = { .tv_usec = 10000 };

		if (done(f))
			return;
		event_base_loopexit(f->base, &step);
		event_base_dispatch(f->base);
	}
	fail_msg("the server let it be: \"%s\"", f->got);
}

static void a_request_is_answered_however_it_is_cut(void **state)
{
	static const char text[] = "PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
	struct fixture *f = *state;

	for (size_t step = 1; step < sizeof(text); step++) {
		int fd = dial(f);

		f->requests = 0;
		for (size_t at = 0; at < sizeof(text) - 1; at += step) {
			char part[sizeof(text)];

			snprintf(part, step + 1 < sizeof(part) ? step + 1 : sizeof(part), "%s",
				 text + at);
			say(f, fd, part);
		}
		assert_true(hear(f, fd));
		assert_int_equal(f->requests, 1);
		expect(f, "Connection: close\r\n");
		expect(f, "[PUT /a hello]");
		close(fd);
		turn(f);
	}
}

static void a_late_answer_ends_the_connection(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "GET /later HTTP/1.1\r\n\r\n");
	assert_false(hear(f, fd));
	assert_int_equal(f->got_len, 0);
	assert_int_equal(f->requests, 1);
	http_reply(f->pending, 404, "{\"n\":1}");
	turn(f);
	assert_true(hear(f, fd));
	expect(f, "HTTP/1.1 404 Not Found\r\n");
	close(fd);
}

static void a_second_request_on_a_connection_is_never_read(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	/* Both at once: refused, so that nobody takes the one answer for the other's. */
	say(f, fd, "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
	assert_true(hear(f, fd));
	assert_int_equal(f->requests, 0);
	expect(f, "HTTP/1.1 400");
	expect(f, "must not be followed by another");
	close(fd);
	turn(f);

	/* While the first is being answered, and after it was. */
	fd = dial(f);
	say(f, fd, "GET /later HTTP/1.1\r\n\r\n");
	say(f, fd, "GET /b HTTP/1.1\r\n\r\n");
	http_reply(f->pending, 200, "{\"n\":1}");
	turn(f);
	send(fd, "GET /c HTTP/1.1\r\n\r\n", 19, MSG_NOSIGNAL);
	assert_true(hear(f, fd));
	expect(f, "{\"n\":1}");
	assert_int_equal(f->requests, 1);
	close(fd);
}

static void a_late_answer_to_a_client_that_left_is_dropped(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "GET /later HTTP/1.1\r\n\r\n");
	close(fd);
	turn(f);
	http_reply(f->pending, 200, "{}");
	turn(f);

	fd = dial(f); /* and when the server goes first */
	say(f, fd, "GET /later HTTP/1.1\r\n\r\n");
	http_server_free(take_ptr(f->server));
	http_reply(f->pending, 200, "{}");
	assert_true(hear(f, fd));
	close(fd);
}

static void connection_close_ends_it_after_the_answer(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
	assert_true(hear(f, fd));
	expect(f, "Connection: close\r\n");
	expect(f, "[GET /a ]\n");
	close(fd);
}

static void a_client_that_has_sent_all_still_gets_its_answer(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	send(fd, "GET /a HTTP/1.1\r\n\r\n", 19, 0);
	shutdown(fd, SHUT_WR);
	turn(f);
	assert_true(hear(f, fd));
	expect(f, "[GET /a ]");
	close(fd);

	fd = dial(f); /* but not to a part of a request */
	send(fd, "GET /a HTT", 10, 0);
	shutdown(fd, SHUT_WR);
	turn(f);
	assert_true(hear(f, fd));
	assert_int_equal(f->got_len, 0);
	close(fd);
}

static void head_gets_no_body(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "HEAD /a HTTP/1.1\r\n\r\n");
	hear(f, fd);
	assert_string_equal(f->got + f->got_len - 4, "\r\n\r\n");
	close(fd);
}

static void a_malformed_request_is_answered_and_ends_the_connection(void **state)
{
	static const struct {
		const char *text;
		const char *answer;
	} cases[] = {
		{ "nonsense\r\n\r\n", "HTTP/1.1 400" },
		{ "GET /\"\\ HTTP/9\r\n\r\n", "HTTP/1.1 400" },
		{ "PUT / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413" },
		{ "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 501" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = dial(f);

		say(f, fd, cases[i].text);
		assert_true(hear(f, fd));
		expect(f, cases[i].answer);
		expect(f, "{\"error\":\"");
		close(fd);
		turn(f);
	}
	assert_int_equal(f->requests, 0);
}

static void a_head_without_end_is_refused(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	for (int i = 0; i < 90; i++) {
		char part[101] = {};

		memset(part, 'a', 100);
		if (send(fd, part, 100, MSG_NOSIGNAL) < 0)
			break;
		turn(f);
	}
	hear(f, fd);
	expect(f, "HTTP/1.1 431");
	close(fd);
}

static void a_client_that_waits_to_be_asked_for_its_body_is_not(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "PUT /a HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	assert_false(hear(f, fd));
	assert_int_equal(f->got_len, 0);
	say(f, fd, "hi"); /* after a moment, as RFC 9110 wants it */
	hear(f, fd);
	expect(f, "[PUT /a hi]");
	close(fd);
	turn(f);
	fd = dial(f);
	say(f, fd, "PUT /a HTTP/1.1\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n");
	hear(f, fd);
	expect(f, "HTTP/1.1 413");
	close(fd);
}

/* Sends text with count copies of descriptor passed. */
static void say_with_fds(struct fixture *f, int fd, const char *text, int passed, size_t count)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(32 * sizeof(int))];
	} control = {};
	struct iovec iov = { .iov_base = (void *)text, .iov_len = strlen(text) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = CMSG_SPACE(count * sizeof(int)) };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &passed, sizeof(int));
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), iov.iov_len);
	turn(f);
}

static int open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 200; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void one_descriptor_reaches_the_handler_and_is_closed_after_it(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);
	int before = open_fds();

	say_with_fds(f, fd, "PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n", 0, 1);
	say(f, fd, "hi");
	assert_true(f->fd_open);
	assert_int_equal(open_fds(), before);
	close(fd);
	turn(f);
	fd = dial(f);
	say(f, fd, "GET /a HTTP/1.1\r\n\r\n");
	assert_int_equal(f->last_fd, -1);
	close(fd);
}

static void more_descriptors_are_refused_and_none_leaks(void **state)
{
	static const size_t counts[] = { 2, 8, 32 };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int before = open_fds();
		int fd = dial(f);

		say_with_fds(f, fd, "GET /a HTTP/1.1\r\n\r\n", 0, counts[i]);
		assert_true(hear(f, fd));
		expect(f, "HTTP/1.1 400");
		expect(f, "more than one descriptor");
		say_with_fds(f, fd, "more", 0, 3); /* while the connection drains */
		close(fd);
		turn(f);
		assert_int_equal(open_fds(), before);
	}
	int fd = dial(f);

	say_with_fds(f, fd, "GET /a HTTP/", 0, 1);
	say_with_fds(f, fd, "1.1\r\n\r\n", 0, 1);
	assert_true(hear(f, fd));
	expect(f, "more than one descriptor");
	close(fd);
	assert_int_equal(f->requests, 0);
}

static void a_descriptor_with_two_requests_is_ambiguous(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say_with_fds(f, fd, "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n", 0, 1);
	assert_true(hear(f, fd));
	expect(f, "must not be followed by another");
	assert_int_equal(f->requests, 0);
	close(fd);
}

static void a_client_too_many_is_told_so(void **state)
{
	struct fixture *f = *state;
	struct http_exchange *pending[3];
	int fds[4];

	for (size_t i = 0; i < 3; i++) {
		fds[i] = dial(f);
		say(f, fds[i], "GET /later HTTP/1.1\r\n\r\n");
		pending[i] = f->pending;
	}
	fds[3] = dial(f);
	assert_true(hear(f, fds[3]));
	expect(f, "HTTP/1.1 503");
	http_reply(pending[0], 200, "{}");
	close(fds[0]);
	turn(f);
	close(fds[3]);
	fds[3] = dial(f);
	say(f, fds[3], "GET /a HTTP/1.1\r\n\r\n");
	hear(f, fds[3]);
	expect(f, "[GET /a ]");
	for (size_t i = 1; i < ARRAY_SIZE(pending); i++)
		http_reply(pending[i], 200, "{}");
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void clients_that_ask_nothing_do_not_keep_out_those_who_ask(void **state)
{
	struct fixture *f = *state;
	int fds[5];

	for (size_t i = 0; i < ARRAY_SIZE(fds) - 1; i++)
		fds[i] = dial(f);
	say(f, fds[1], "GET /a HTTP/1.1\r\n\r\n"); /* answered, and it stays */
	assert_false(hear(f, fds[3]));
	assert_true(hear(f, fds[0])); /* the oldest went */
	expect(f, "HTTP/1.1 503");
	fds[4] = dial(f);
	say(f, fds[4], "GET /b HTTP/1.1\r\n\r\n");
	assert_true(hear(f, fds[4]));
	expect(f, "[GET /b ]");
	assert_true(hear(f, fds[1]));
	expect(f, "[GET /a ]"); /* it did not lose its answer */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void streams_leave_room_for_requests(void **state)
{
	struct fixture *f = *state;
	int fds[4];

	for (size_t i = 0; i < 3; i++) {
		fds[i] = dial(f);
		say(f, fds[i], "GET /stream HTTP/1.1\r\n\r\n");
	}
	assert_true(hear(f, fds[2]));
	expect(f, "HTTP/1.1 503");
	expect(f, "{\"error\":\"too many streams\"}");
	assert_int_equal(f->closed, 0);
	fds[3] = dial(f);
	say(f, fds[3], "GET /a HTTP/1.1\r\n\r\n");
	assert_true(hear(f, fds[3]));
	expect(f, "[GET /a ]");
	close(fds[0]);
	turn(f);
	assert_int_equal(f->closed, 1);
	close(fds[2]);
	fds[2] = dial(f); /* there is a place again */
	say(f, fds[2], "GET /stream HTTP/1.1\r\n\r\n");
	assert_false(hear(f, fds[2]));
	expect(f, "HTTP/1.1 200");
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static bool heard_408(struct fixture *f)
{
	int fd = f->client;
	char more[1];

	if (send(fd, "x", 1, MSG_NOSIGNAL) < 0 || recv(fd, more, 1, MSG_PEEK) >= 0)
		return hear(f, fd) || strstr(f->got, "408");
	return false;
}

static void a_request_that_trickles_in_is_cut_off(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "GET /");
	f->client = fd; /* one more byte every 10 ms: never idle, never done */
	wait_idle(f, heard_408);
	expect(f, "HTTP/1.1 408");
	assert_int_equal(f->requests, 0);
	close(fd);
}

static bool hung_up(struct fixture *f)
{
	return hear(f, f->client);
}

static void an_idle_connection_is_closed(void **state)
{
	struct fixture *f = *state;

	f->client = dial(f);
	wait_idle(f, hung_up);
	assert_int_equal(f->got_len, 0);
	close(f->client);
}

static void a_stream_carries_lines_until_it_ends(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "GET /stream HTTP/1.1\r\n\r\n");
	assert_int_equal(http_stream_line(f->pending, "{\"a\":1}"), 0);
	assert_int_equal(http_stream_line(f->pending, "{}"), 0);
	turn(f);
	assert_false(hear(f, fd));
	expect(f, "Transfer-Encoding: chunked\r\n");
	expect(f, "\r\n\r\n8\r\n{\"a\":1}\n\r\n3\r\n{}\n\r\n");
	http_stream_end(f->pending);
	turn(f);
	assert_true(hear(f, fd));
	assert_string_equal(f->got, "0\r\n\r\n");
	assert_int_equal(f->closed, 0);
	close(fd);
}

static void the_owner_of_a_stream_learns_that_the_reader_left(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);

	say(f, fd, "GET /stream HTTP/1.1\r\n\r\n");
	assert_int_equal(f->closed, 0);
	close(fd);
	turn(f);
	assert_int_equal(f->closed, 1);
	fd = dial(f);
	say(f, fd, "GET /stream HTTP/1.1\r\n\r\n");
	http_server_free(take_ptr(f->server));
	assert_int_equal(f->closed, 2);
	close(fd);
}

static void a_slow_reader_is_cut_off_and_counted(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);
	char line[1001];
	int error = 0, lines = 0;

	memset(line, 'x', sizeof(line));
	line[1000] = '\0';
	say(f, fd, "GET /stream HTTP/1.1\r\n\r\n");
	for (; !error && lines < 5000; lines++) {
		error = http_stream_line(f->pending, line);
		if (lines % 3 == 0)
			turn(f);
	}
	assert_int_equal(error, -EPIPE);
	assert_true(lines > 10);
	assert_int_equal(http_stream_line(f->pending, line), -EPIPE);
	assert_int_equal(f->closed, 0); /* not from inside http_stream_line() */
	turn(f);
	assert_int_equal(f->closed, 1);
	assert_int_equal(http_server_slow_readers(f->server), 1);
	close(fd);
}

static void the_socket_is_private_and_never_stolen(void **state)
{
	struct fixture *f = *state;
	const struct http_limits limits = { .body_max = 1, .clients = 1, .idle_ms = 1 };
	struct http_server *second = NULL;
	struct errmsg err = {};
	char path[120];
	struct stat st;
	FILE *file;

	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(http_server_new(f->base, f->path, &limits, handle, f, &second, &err),
			 -EADDRINUSE);
	assert_non_null(strstr(err.text, f->path));
	snprintf(path, sizeof(path), "%s/file", f->dir);
	file = fopen(path, "we");
	fclose(file);
	assert_int_equal(http_server_new(f->base, path, &limits, handle, f, &second, &err),
			 -EEXIST);
	unlink(path);
	memset(path, 'p', sizeof(path));
	path[119] = '\0';
	assert_int_equal(http_server_new(f->base, path, &limits, handle, f, &second, &err),
			 -ENAMETOOLONG);
}

static void a_socket_left_by_a_dead_server_is_replaced(void **state)
{
	struct fixture *f = *state;
	const struct http_limits limits = { .body_max = 1, .clients = 1, .idle_ms = 1000 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct http_server *second = NULL;
	char path[100];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(path, sizeof(path), "%s/old", f->dir);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	assert_int_equal(http_server_new(f->base, path, &limits, handle, f, &second, NULL), 0);
	http_server_free(second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_is_answered_however_it_is_cut),
		TEST(a_late_answer_ends_the_connection),
		TEST(a_second_request_on_a_connection_is_never_read),
		TEST(a_late_answer_to_a_client_that_left_is_dropped),
		TEST(connection_close_ends_it_after_the_answer),
		TEST(a_client_that_has_sent_all_still_gets_its_answer),
		TEST(head_gets_no_body),
		TEST(a_malformed_request_is_answered_and_ends_the_connection),
		TEST(a_head_without_end_is_refused),
		TEST(a_client_that_waits_to_be_asked_for_its_body_is_not),
		TEST(one_descriptor_reaches_the_handler_and_is_closed_after_it),
		TEST(more_descriptors_are_refused_and_none_leaks),
		TEST(a_descriptor_with_two_requests_is_ambiguous),
		TEST(a_client_too_many_is_told_so),
		TEST(clients_that_ask_nothing_do_not_keep_out_those_who_ask),
		TEST(streams_leave_room_for_requests),
		TEST(a_request_that_trickles_in_is_cut_off),
		TEST(an_idle_connection_is_closed),
		TEST(a_stream_carries_lines_until_it_ends),
		TEST(the_owner_of_a_stream_learns_that_the_reader_left),
		TEST(a_slow_reader_is_cut_off_and_counted),
		TEST(the_socket_is_private_and_never_stolen),
		TEST(a_socket_left_by_a_dead_server_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
