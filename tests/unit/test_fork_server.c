/* SPDX-License-Identifier: Apache-2.0 */
/* Children of the fork server: what they have, whose children they are, and what happens when the
 * server is gone. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/fork_server.h"

#include <cmocka.h> /* last: its fail() is a macro */

static char secret[16]; /* the program has it, what is executed anew has not */

static void __attribute__((noreturn)) run_tell(pid_t parent, size_t fd_count)
{
	if (!child_bind_to(parent))
		_exit(1);
	for (size_t i = 0; i < fd_count; i++)
		(void)!write(CHILD_FD_FIRST + (int)i, secret, sizeof(secret));
	_exit(40 + (int)fd_count);
}

static void __attribute__((noreturn)) run_wait(pid_t parent, size_t fd_count)
{
	char byte;

	(void)fd_count;
	if (!child_bind_to(parent))
		_exit(1);
	(void)!read(CHILD_FD_FIRST, &byte, 1);
	_exit(0);
}

static const struct fork_server_kind kinds[] = { { "tell", run_tell }, { "wait", run_wait } };

static void start(const char *program, struct fork_server **ret)
{
	struct errmsg err = {};

	memcpy(secret, "secret", sizeof("secret"));
	assert_int_equal(fork_server_new(program, kinds, ARRAY_SIZE(kinds), ret, &err), 0);
}

static int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid); /* our own child */
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_child(struct fork_server *server, const char *text)
{
	char got[2][sizeof(secret)];
	int first[2], second[2];
	pid_t pid;

	assert_int_equal(pipe(first), 0);
	assert_int_equal(pipe(second), 0);
	pid = fork_server_start(server, "tell", (int[]){ first[1], second[1] }, 2);
	assert_true(pid > 0);
	assert_int_equal(read(first[0], got[0], sizeof(got[0])), sizeof(got[0]));
	assert_int_equal(read(second[0], got[1], sizeof(got[1])), sizeof(got[1]));
	assert_string_equal(got[0], text);
	assert_string_equal(got[1], text);
	assert_int_equal(status_of(pid), 42);
	for (int i = 0; i < 2; i++) {
		close(first[i]);
		close(second[i]);
	}
}

static void test_a_child_of_what_was_executed_has_nothing(void **state)
{
	auto_(fork_server) struct fork_server *server = NULL;

	(void)state;
	start("/proc/self/exe", &server);
	expect_child(server, "");
	expect_child(server, "");
	assert_int_equal(status_of(fork_server_start(server, "tell", NULL, 0)), 40);
	assert_false(fork_server_is_dead(server));
}

static void test_a_child_of_a_copy_has_all(void **state)
{
	auto_(fork_server) struct fork_server *server = NULL;

	(void)state;
	start(NULL, &server);
	expect_child(server, "secret");
}

static void test_what_cannot_be_started(void **state)
{
	auto_(fork_server) struct fork_server *server = NULL;
	const int fds[FORK_SERVER_FDS_MAX + 1] = { 0 };

	(void)state;
	start("/proc/self/exe", &server);
	assert_int_equal(fork_server_start(server, "other", NULL, 0), -ENOENT);
	assert_int_equal(fork_server_start(server, "tell", fds, ARRAY_SIZE(fds)), -E2BIG);
	assert_int_equal(fork_server_start(server, "tell", (int[]){ 9999 }, 1), -EBADF);
	expect_child(server, "");
}

/* Children go on without the server, and end when their socket does. */
static void test_a_server_that_dies_is_noticed(void **state)
{
	auto_(fork_server) struct fork_server *server = NULL;
	struct pollfd readable = { .events = POLLIN };
	int pair[2];
	pid_t pid;

	(void)state;
	start("/does/not/exist", &server);
	readable.fd = fork_server_fd(server);
	assert_int_equal(poll(&readable, 1, 10000), 1);
	assert_true(fork_server_is_dead(server));
	assert_true(fork_server_start(server, "tell", NULL, 0) < 0);
	fork_server_free(take_ptr(server));

	start("/proc/self/exe", &server);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork_server_start(server, "wait", &pair[1], 1);
	assert_true(pid > 0);
	close(pair[1]);
	fork_server_free(take_ptr(server));
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	close(pair[0]);
	assert_int_equal(status_of(pid), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_child_of_what_was_executed_has_nothing),
		cmocka_unit_test(test_a_child_of_a_copy_has_all),
		cmocka_unit_test(test_what_cannot_be_started),
		cmocka_unit_test(test_a_server_that_dies_is_noticed),
	};
	int fd = CHILD_FD_FIRST;

	if (argc == 2 && strcmp(argv[1], FORK_SERVER_ARGUMENT) == 0) {
		if (child_settle("server", &fd, 1) < 0)
			return 1;
		fork_server_serve(kinds, ARRAY_SIZE(kinds));
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
