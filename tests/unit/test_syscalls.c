/* SPDX-License-Identifier: Apache-2.0 */
/* What a restricted process can no longer do, each tried in a child of its own. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/syscalls.h"
#include "lib/auto.h"

#include <cmocka.h> /* last: it makes fail a macro */

static long try_exec(void)
{
	return execl("/bin/true", "true", (char *)NULL);
}

static long try_mount(void)
{
	return mount("none", "/nowhere", "tmpfs", 0, NULL);
}

static long try_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long try_user_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static long try_mount_namespace(void)
{
	return syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, 0UL);
}

static long try_enter_mount_namespace(void)
{
	return setns(0, CLONE_NEWNS);
}

static long try_packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static long try_executable_memory(void)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? -1 : 0;
}

static long try_module(void)
{
	return syscall(SYS_init_module, "", 0UL, "");
}

static long try_old_numbers(void)
{
	return syscall(0x40000000 + SYS_getpid); /* x32 */
}

static long try_clone3(void)
{
	return syscall(SYS_clone3, NULL, 0UL);
}

static const struct {
	const char *name;
	long (*call)(void);
	int error;
} denied[] = {
	{ "execve", try_exec, EPERM },
	{ "mount", try_mount, EPERM },
	{ "ptrace", try_ptrace, EPERM },
	{ "unshare, user", try_user_namespace, EPERM },
	{ "clone, mounts", try_mount_namespace, EPERM },
	{ "setns, mounts", try_enter_mount_namespace, EPERM },
	{ "packet socket", try_packet_socket, EPERM },
	{ "executable memory", try_executable_memory, EPERM },
	{ "init_module", try_module, EPERM },
	{ "x32", try_old_numbers, EPERM },
	{ "clone3", try_clone3, ENOSYS },
};

/* errno of the call in a restricted child; 0 if it succeeds, 255 if the child was not restricted.
 */
static int outcome(long (*call)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct errmsg err = {};

		if (syscalls_restrict(&err))
			_exit(255);
		_exit(call() < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_what_is_not_listed_fails(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++) {
		if (outcome(denied[i].call) != denied[i].error)
			fail_msg("%s: %d", denied[i].name, outcome(denied[i].call));
	}
}

static long use_what_is_needed(void)
{
	static const int families[] = { AF_UNIX, AF_NETLINK, AF_INET, AF_INET6 };
	int pair[2], status;
	pid_t child;

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		if (socket(families[i], SOCK_DGRAM, 0) < 0)
			return -1;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0 ||
	    open("/proc/self/status", O_RDONLY) < 0)
		return -1;
	child = fork();
	if (child == 0)
		_exit(execl("/bin/true", "true", (char *)NULL) < 0 && errno == EPERM ? 7 : 8);
	if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7)
		return -1;
	/* Refused by the kernel, for want of a capability, or allowed. */
	return geteuid() == 0 ? unshare(CLONE_NEWNET) : 0;
}

static void test_what_the_agent_needs_works_and_children_are_bound_too(void **state)
{
	(void)state;
	assert_int_equal(outcome(use_what_is_needed), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_not_listed_fails),
		cmocka_unit_test(test_what_the_agent_needs_works_and_children_are_bound_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
