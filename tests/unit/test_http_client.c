/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking client against a real server in a child process, and against ones that misbehave. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/auto.h"
#include "lib/http.h"

#include <cmocka.h> /* last: its fail() is a macro, ours a function */

#define BIG (1 << 20)

struct fixture {
	char dir[64];
	char path[80];
	pid_t pid;
};

static void stream_closed(void *arg)
{
	(void)arg;
}

/* /echo: method, body and the inode of the descriptor; /big: a megabyte; /stream: three lines. */
static void handle(struct http_exchange *exchange, const struct http_request *request, void *arg)
{
	static char big[BIG + 1];
	char json[2048];
	struct stat st = {};

	(void)arg;
	if (strcmp(request->head.path, "/silent") == 0)
		return;
	if (strcmp(request->head.path, "/big") == 0) {
		memset(big, 'b', BIG);
		http_reply(exchange, 200, big);
		return;
	}
	if (strcmp(request->head.path, "/stream") == 0) {
		http_stream_begin(exchange, stream_closed, NULL);
		http_stream_line(exchange, "{\"n\":1}");
		http_stream_line(exchange, "{\"n\":2}");
		http_stream_line(exchange, "{\"n\":3}");
		http_stream_end(exchange);
		return;
	}
	if (strcmp(request->head.path, "/echo") != 0) {
		http_reply(exchange, 404, "{\"error\":\"no such thing\"}");
		return;
	}
	if (request->fd >= 0)
		fstat(request->fd, &st);
	snprintf(json, sizeof(json), "%s|%zu|%.20s|%lu", request->head.method,
		 request->head.body_len, request->body, (unsigned long)st.st_ino);
	http_reply(exchange, 200, json);
}

static void serve(const char *path, int ready)
{
	const struct http_limits limits = {
		.body_max = 4 * BIG,
		.clients = 4,
		.streams = 4,
		.idle_ms = 5000,
		.stream_backlog = 4096,
	};
	struct event_base *base = event_base_new();
	struct http_server *server;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (http_server_new(base, path, &limits, handle, NULL, &server, NULL))
		_exit(1);
	close(ready);
	event_base_dispatch(base);
	_exit(0);
}

/* Accepts one connection, answers with the bytes given, whatever was asked, and closes. */
static void serve_bytes(const char *path, int ready, const char *answer)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char scratch[4096];
	int peer;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 1))
		_exit(1);
	close(ready);
	peer = accept(fd, NULL, NULL);
	if (recv(peer, scratch, sizeof(scratch), 0) < 0)
		_exit(1);
	send(peer, answer, strlen(answer), MSG_NOSIGNAL);
	_exit(0);
}

static void server_start(struct fixture *f, const char *answer)
{
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	fflush(stdout);
	f->pid = fork();
	if (f->pid == 0) {
		close(ready[0]);
		if (answer)
			serve_bytes(f->path, ready[1], answer);
		serve(f->path, ready[1]);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 0); /* the child closed its end: it listens */
	close(ready[0]);
}

static void server_stop(struct fixture *f)
{
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	unlink(f->path);
	f->pid = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/test_http.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->pid)
		server_stop(f);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void a_call_brings_status_and_body(void **state)
{
	struct fixture *f = *state;
	struct http_response response = {};
	struct errmsg err = {};

	server_start(f, NULL);
	assert_int_equal(http_call(f->path, "PUT", "/echo", "hello", -1, 5000, &response, &err), 0);
	assert_int_equal(response.status, 200);
	assert_string_equal(response.body, "PUT|5|hello|0\n");
	http_response_done(&response);
	assert_int_equal(http_call(f->path, "GET", "/none", NULL, -1, 5000, &response, &err), 0);
	assert_int_equal(response.status, 404);
	http_response_done(&response);
	assert_int_equal(http_call(f->path, "GET", "/big", NULL, -1, 5000, &response, &err), 0);
	assert_int_equal(response.body_len, BIG + 1);
	http_response_done(&response);
}

static void a_descriptor_travels_with_a_large_body(void **state)
{
	struct fixture *f = *state;
	struct http_response response = {};
	struct stat st;
	char *body = malloc(BIG + 1), expected[100];

	memset(body, 'x', BIG);
	body[BIG] = '\0';
	server_start(f, NULL);
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	assert_int_equal(
		http_call(f->path, "POST", "/echo", body, STDERR_FILENO, 5000, &response, NULL), 0);
	snprintf(expected, sizeof(expected), "POST|%d|%.20s|%lu\n", BIG, body,
		 (unsigned long)st.st_ino);
	assert_string_equal(response.body, expected);
	http_response_done(&response);
	free(body);
}

static void a_body_over_the_limit_still_gets_the_reason(void **state)
{
	struct fixture *f = *state;
	struct http_response response = {};
	char *body = malloc(5 * BIG + 1);

	memset(body, 'x', 5 * BIG);
	body[5 * BIG] = '\0';
	server_start(f, NULL);
	assert_int_equal(http_call(f->path, "PUT", "/echo", body, -1, 5000, &response, NULL), 0);
	assert_int_equal(response.status, 413);
	assert_non_null(strstr(response.body, "limit"));
	http_response_done(&response);
	free(body);
}

static void nobody_there_and_nobody_answering_are_told_apart(void **state)
{
	struct fixture *f = *state;
	struct http_response response = {};
	struct errmsg err = {};

	assert_int_equal(http_call(f->path, "GET", "/", NULL, -1, 100, &response, &err), -ENOENT);
	assert_non_null(strstr(err.text, f->path));
	server_start(f, NULL);
	assert_int_equal(http_call(f->path, "GET", "/silent", NULL, -1, 100, &response, &err),
			 -ETIMEDOUT);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	f->pid = 0;
	assert_int_equal(http_call(f->path, "GET", "/", NULL, -1, 100, &response, &err),
			 -ECONNREFUSED);
	unlink(f->path);
}

static void broken_answers_are_errors(void **state)
{
	static const struct {
		const char *answer;
		int code;
	} cases[] = {
		{ "", -ECONNRESET },
		{ "HTTP/1.1 200 OK\r\nContent-Le", -ECONNRESET },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", -ECONNRESET },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", -E2BIG },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -EPROTO },
		{ "220 mail.example ESMTP\r\n\r\n", -EBADMSG },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_response response = {};
		struct errmsg err = {};

		server_start(f, cases[i].answer);
		assert_int_equal(http_call(f->path, "GET", "/", NULL, -1, 5000, &response, &err),
				 cases[i].code);
		server_stop(f);
	}
}

struct lines {
	char text[200];
	int stop_at;
	int count;
};

static int line_take(const char *json, void *arg)
{
	struct lines *lines = arg;
	size_t len = strlen(lines->text);

	snprintf(lines->text + len, sizeof(lines->text) - len, "%s;", json);
	return ++lines->count == lines->stop_at ? 7 : 0;
}

static void a_stream_is_followed_line_by_line(void **state)
{
	struct fixture *f = *state;
	struct lines all = {}, two = { .stop_at = 2 };
	struct errmsg err = {};

	server_start(f, NULL);
	assert_int_equal(http_follow(f->path, "/stream", line_take, &all, &err), 0);
	assert_string_equal(all.text, "{\"n\":1};{\"n\":2};{\"n\":3};");
	assert_int_equal(http_follow(f->path, "/stream", line_take, &two, &err), 7);
	assert_int_equal(two.count, 2);
	assert_int_equal(http_follow(f->path, "/none", line_take, &all, &err), -EPROTO);
	assert_string_equal(err.text, "no such thing (status 404)");
	assert_int_equal(http_follow(f->path, "/echo", line_take, &all, &err), -EPROTO);
}

static void lines_and_chunks_need_not_agree(void **state)
{
	struct fixture *f = *state;
	struct lines lines = {};
	struct errmsg err = {};

	server_start(f, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			"2\r\n{\"\r\n5\r\na\":1}\r\n8\r\n\n{}\n{}\n{\r\n");
	assert_int_equal(http_follow(f->path, "/x", line_take, &lines, &err), -ECONNRESET);
	assert_string_equal(lines.text, "{\"a\":1};{};{};");
	server_stop(f);
	server_start(f, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
	assert_int_equal(http_follow(f->path, "/x", line_take, &lines, &err), -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_call_brings_status_and_body),
		TEST(a_descriptor_travels_with_a_large_body),
		TEST(a_body_over_the_limit_still_gets_the_reason),
		TEST(nobody_there_and_nobody_answering_are_told_apart),
		TEST(broken_answers_are_errors),
		TEST(a_stream_is_followed_line_by_line),
		TEST(lines_and_chunks_need_not_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
