/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seccomp filter in classic BPF.  The unit file has one, too, but not every agent is started by
 * systemd.  Where a call has no conditions the kernel remembers the answer, so the length of the
 * list costs nothing.
 */
#include "agent/syscalls.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "lib/auto.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "the numbers of this architecture's system calls are not known here"
#endif

#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	 CLONE_NEWCGROUP)

#ifdef __x86_64__ /* newer architectures have these only with "at" or a number behind */
#define OLD_CALLS                                                                                \
	SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_rename, SYS_unlink, SYS_mkdir, SYS_rmdir, \
		SYS_chmod, SYS_readlink, SYS_dup2, SYS_poll, SYS_select, SYS_epoll_wait, SYS_fork
#else
#define OLD_CALLS SYS_read
#endif

/* Allowed whatever their arguments are. */
static const int always[] = {
	/* files, pins and descriptors */
	SYS_read, SYS_write, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_close,
	SYS_close_range, SYS_openat, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs,
	SYS_lseek, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_renameat, SYS_renameat2,
	SYS_unlinkat, SYS_mkdirat, SYS_fchmod, SYS_fchmodat, SYS_faccessat, SYS_faccessat2,
	SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_umask, SYS_flock, SYS_fcntl, SYS_ioctl,
	SYS_dup, SYS_dup3, SYS_pipe2, SYS_splice,
	/* memory */
	SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise,
	/* the event loop */
	SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_pselect6,
	SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch, SYS_eventfd2,
	SYS_timerfd_create, SYS_timerfd_settime,
	/* sockets */
	SYS_bind, SYS_listen, SYS_accept4, SYS_connect, SYS_getsockname, SYS_getpeername,
	SYS_getsockopt, SYS_setsockopt, SYS_sendto, SYS_sendmsg, SYS_recvfrom, SYS_recvmsg,
	SYS_shutdown,
	/* the datapath */
	SYS_bpf, SYS_perf_event_open,
	/* processes, signals, time */
	SYS_wait4, SYS_waitid, SYS_exit, SYS_exit_group, SYS_kill, SYS_tgkill, SYS_rt_sigaction,
	SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall, SYS_getpid,
	SYS_getppid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_prctl,
	SYS_capget, SYS_capset, SYS_prlimit64, SYS_getrandom, SYS_clock_gettime,
	SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_sched_getaffinity,
	SYS_sched_yield, SYS_futex, SYS_set_robust_list, SYS_rseq, SYS_sysinfo, SYS_uname, OLD_CALLS
};

enum condition { NO_BIT_OF, EQUAL_TO };

/* Allowed if an argument has no bit of the value, or is equal to one of the values. */
static const struct {
	int number;
	int argument;
	enum condition condition;
	uint32_t value;
} conditional[] = {
	{ SYS_mmap, 2, NO_BIT_OF, PROT_EXEC },      { SYS_mprotect, 2, NO_BIT_OF, PROT_EXEC },
	{ SYS_clone, 0, NO_BIT_OF, NAMESPACES },    { SYS_setns, 1, EQUAL_TO, CLONE_NEWNET },
	{ SYS_unshare, 0, EQUAL_TO, CLONE_NEWNET }, { SYS_socket, 0, EQUAL_TO, AF_UNIX },
	{ SYS_socket, 0, EQUAL_TO, AF_NETLINK },    { SYS_socket, 0, EQUAL_TO, AF_INET },
	{ SYS_socket, 0, EQUAL_TO, AF_INET6 },      { SYS_socketpair, 0, EQUAL_TO, AF_UNIX },
};

#define LOAD(field)         BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_NOT(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, skip)
#define RETURN(action)      BPF_STMT(BPF_RET | BPF_K, action)
#define DENIED(number)      (SECCOMP_RET_ERRNO | (number))

#define ROOM (8 + 2 * ARRAY_SIZE(always) + 5 * ARRAY_SIZE(conditional))

struct syscall_filter {
	struct sock_filter code[ROOM];
	unsigned short len;
};

static void put(struct syscall_filter *filter, struct sock_filter instruction)
{
	filter->code[filter->len++] = instruction;
}

static void put_conditional(struct syscall_filter *filter, size_t i)
{
	size_t at = offsetof(struct seccomp_data, args[conditional[i].argument]);
	uint32_t value = conditional[i].value;

	put(filter, (struct sock_filter)IF_NOT(conditional[i].number, 4));
	put(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)at));
	if (conditional[i].condition == EQUAL_TO)
		put(filter, (struct sock_filter)IF_NOT(value, 1));
	else
		put(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, value, 1, 0));
	put(filter, (struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
	put(filter, (struct sock_filter)LOAD(nr));
}

int syscalls_restrict(struct errmsg *err)
{
	struct syscall_filter filter = { .len = 0 };
	struct sock_fprog program = { .filter = filter.code };

	put(&filter, (struct sock_filter)LOAD(arch));
	put(&filter, (struct sock_filter)IF_NOT(ARCH, 1));
	put(&filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1));
	put(&filter, (struct sock_filter)RETURN(DENIED(EPERM)));
	put(&filter, (struct sock_filter)LOAD(nr));
	for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
		put(&filter, (struct sock_filter)IF_NOT(always[i], 1));
		put(&filter, (struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
	}
	for (size_t i = 0; i < ARRAY_SIZE(conditional); i++)
		put_conditional(&filter, i);
	/* Its flags lie in memory, where a filter does not see them: the C library takes clone().
	 */
	put(&filter, (struct sock_filter)IF_NOT(SYS_clone3, 1));
	put(&filter, (struct sock_filter)RETURN(DENIED(ENOSYS)));
	put(&filter, (struct sock_filter)RETURN(DENIED(EPERM)));
	program.len = filter.len;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return fail(err, -errno, "restrict system calls");
	return 0;
}
