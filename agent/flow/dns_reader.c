/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process has the ring mapped.  It may not wait for it, so the agent does,
 * without looking at what is in it: it sends a byte, the process tells each answer that it
 * understands, and then how much of TCP it could not read.  Then the agent waits a moment before it
 * looks again, so that many answers cost few turns.
 */
#define LOG_MODULE "dns"
#include "agent/flow/dns_reader.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/flow/dns_stream.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/child.h"
#include "lib/fork_server.h"
#include "lib/log.h"

#define REST_US    50000 /* between two looks at the ring */
#define ANSWER_S   5     /* so long it may take to read the ring */
#define RETRY_S    10    /* until a process that died is started again */
#define RECORD_MAX 256   /* in one turn of the loop */
#define RING_FD    (CHILD_FD_FIRST + 1)

struct dns_reader {
	struct datapath *datapath;
	struct event_base *base;
	struct fork_server *server;
	void (*each)(const struct dns_record *record, void *arg);
	void *arg;
	pid_t pid;
	int fd;
	struct event *readable; /* the process tells something */
	struct event *waiting;  /* the ring has something */
	struct event *late;     /* the process does not say that it is done */
	struct event *rest;     /* wait for the ring again */
	struct event *retry;
	uint64_t left_out;
	char problem[300];
};

/* ---- the process ----------------------------------------------------------------------------- */

/* False: the agent is gone. */
static bool answer_tell(const uint8_t *bytes, size_t len, void *arg)
{
	const struct dns_event *event = arg;
	struct dns_record record;

	if (dns_parse(bytes, len, &record.answer) || !record.answer.count)
		return true;
	record.time_ns = event->time_ns;
	record.netns_cookie = event->netns_cookie;
	return write(CHILD_FD_FIRST, &record, sizeof(record)) == sizeof(record);
}

static int on_event(void *arg, void *data, size_t size)
{
	struct dns_event *event = data;
	bool told;

	if (size < sizeof(*event) || event->length > sizeof(event->bytes))
		return 0;
	told = event->flow.proto == IPPROTO_TCP ? dns_stream_read(arg, event, answer_tell, event)
						: answer_tell(event->bytes, event->length, event);
	return told ? 0 : -EPIPE;
}

static bool privileges_drop(void)
{
	cap_t none = cap_init();
	bool dropped = none && cap_set_proc(none) == 0;

	cap_free(none);
	return dropped && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* Beside the agent's own filter, which says which architecture's numbers these are: nothing but to
 * read, to write and to end.  (The strict mode, which means the same, is not for who has a filter.)
 */
static bool syscalls_drop(void)
{
#define ALLOW(number)                                                  \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(number), 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		ALLOW(SYS_rt_sigreturn),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
#undef ALLOW
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* What it writes must not look like lines of the agent's log. */
static bool output_drop(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	return null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
	       dup2(null, STDERR_FILENO) >= 0 && close(null) == 0;
}

void dns_reader_run(pid_t agent, size_t fd_count)
{
	struct dns_streams *streams = xcalloc(1, sizeof(*streams));
	struct ring_buffer *ring = NULL;
	char look;

	if (fd_count == 2) /* mapping a ring takes privileges */
		ring = ring_buffer__new(RING_FD, on_event, streams, NULL);
	if (!ring || !output_drop() || !privileges_drop() || !child_bind_to(agent) ||
	    !syscalls_drop())
		_exit(EXIT_FAILURE);
	while (read(CHILD_FD_FIRST, &look, 1) == 1) {
		if (ring_buffer__consume(ring) < 0 ||
		    write(CHILD_FD_FIRST, &streams->left_out, sizeof(streams->left_out)) !=
			    sizeof(streams->left_out))
			break;
		streams->left_out = 0;
	}
	_exit(EXIT_SUCCESS);
}

/* ---- the agent's side ------------------------------------------------------------------------ */

static const struct timeval rest_time = { .tv_usec = REST_US };
static const struct timeval answer_time = { .tv_sec = ANSWER_S };
static const struct timeval retry_time = { .tv_sec = RETRY_S };

/* Only this bit of the node's flags is ours; only this thread writes them. */
static void node_set_dns(const struct dns_reader *reader, bool on)
{
	struct node_state *node = maps_node(reader->datapath);

	if (on)
		__atomic_or_fetch(&node->flags, NODE_DNS, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&node->flags, ~(uint32_t)NODE_DNS, __ATOMIC_RELAXED);
}

static void process_end(struct dns_reader *reader)
{
	if (reader->readable)
		event_free(take_ptr(reader->readable));
	event_del(reader->waiting);
	event_del(reader->late);
	event_del(reader->rest);
	if (reader->fd >= 0)
		close(take_fd(&reader->fd));
	if (reader->pid > 0) {
		kill(reader->pid, SIGKILL);
		while (waitpid(reader->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	reader->pid = -1;
	node_set_dns(reader, false);
}

static void reader_fail(struct dns_reader *reader, const char *why)
{
	snprintf(reader->problem, sizeof(reader->problem), "%s", why);
	log_warn("names of DNS are not read: %s", why);
	process_end(reader);
	evtimer_add(reader->retry, &retry_time);
}

static bool record_is_sound(const struct dns_record *record)
{
	return record->answer.count > 0 && record->answer.count <= DNS_ADDRS_MAX &&
	       dns_name_is_clean(record->answer.name);
}

/* Whatever it says is checked: it may be what a message from the network made of it. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct dns_reader *reader = arg;
	union {
		struct dns_record record;
		uint32_t left_out;
	} said;

	(void)what;
	for (int i = 0; i < RECORD_MAX; i++) {
		ssize_t len = recv(fd, &said, sizeof(said), MSG_DONTWAIT | MSG_TRUNC);

		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (len == sizeof(said.left_out)) {
			reader->left_out += said.left_out;
			event_del(reader->late);
			evtimer_add(reader->rest, &rest_time);
			return;
		}
		if (len != sizeof(said.record) || !record_is_sound(&said.record)) {
			reader_fail(reader, len > 0 ? "their process tells nonsense"
						    : "their process died");
			return;
		}
		reader->each(&said.record, reader->arg);
	}
}

static void on_waiting(evutil_socket_t fd, short what, void *arg)
{
	struct dns_reader *reader = arg;
	const char look = 0;

	(void)fd;
	(void)what;
	if (send(reader->fd, &look, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
		evtimer_add(reader->late, &answer_time);
	else
		reader_fail(reader, "their process died");
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reader_fail(arg, "their process does not answer");
}

static void on_rest(evutil_socket_t fd, short what, void *arg)
{
	struct dns_reader *reader = arg;

	(void)fd;
	(void)what;
	event_add(reader->waiting, NULL);
}

static int process_start(struct dns_reader *reader)
{
	int pair[2], fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	fds[0] = pair[1];
	fds[1] = dns_map_fd(reader->datapath);
	reader->pid = fork_server_start(reader->server, DNS_READER_NAME, fds, 2);
	close(pair[1]);
	reader->fd = pair[0];
	return reader->pid < 0 ? reader->pid : 0;
}

static void on_start(evutil_socket_t fd, short what, void *arg)
{
	struct dns_reader *reader = arg;
	int ret = process_start(reader);

	(void)fd;
	(void)what;
	if (ret) {
		reader_fail(reader, strerror(-ret));
		return;
	}
	reader->problem[0] = '\0';
	reader->readable =
		event_new(reader->base, reader->fd, EV_READ | EV_PERSIST, on_readable, reader);
	event_add(reader->readable, NULL);
	event_add(reader->waiting, NULL);
	node_set_dns(reader, true);
	log_info("names of DNS are read by process %d", (int)reader->pid);
}

struct dns_reader *dns_reader_new(struct event_base *base, struct fork_server *server,
				  struct datapath *datapath,
				  void (*each)(const struct dns_record *record, void *arg),
				  void *arg)
{
	struct dns_reader *reader = xcalloc(1, sizeof(*reader));

	*reader = (struct dns_reader){ .datapath = datapath,
				       .base = base,
				       .server = server,
				       .each = each,
				       .arg = arg,
				       .pid = -1,
				       .fd = -1 };
	reader->waiting = event_new(base, dns_map_fd(datapath), EV_READ, on_waiting, reader);
	reader->late = evtimer_new(base, on_late, reader);
	reader->rest = evtimer_new(base, on_rest, reader);
	reader->retry = evtimer_new(base, on_start, reader);
	on_start(-1, 0, reader);
	return reader;
}

void dns_reader_free(struct dns_reader *reader)
{
	if (!reader)
		return;
	process_end(reader);
	event_free(reader->waiting);
	event_free(reader->late);
	event_free(reader->rest);
	event_free(reader->retry);
	free(reader);
}

uint64_t dns_reader_left_out(const struct dns_reader *reader)
{
	return reader ? reader->left_out : 0;
}

const char *dns_reader_problem(const struct dns_reader *reader)
{
	return reader->problem;
}
