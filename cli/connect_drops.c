/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/connect_drops.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "cli/agent_call.h"
#include "cli/connect_pods.h"
#include "lib/auto.h"
#include "lib/child.h"

#define WAIT_MS 300 /* the agent passes events on at once */

static int line_pass(const char *line, void *arg)
{
	const int *fd = arg;

	if (!strstr(line, "\"" CONNECT_NAMESPACE "/"))
		return 0;
	return dprintf(*fd, "%s\n", line) < 0 ? -EPIPE : 0;
}

/* What a part of the kernel decides; others only follow from an address that does not answer. */
static bool is_decision(const cJSON *event)
{
	static const char *const decisions[] = { "NETFILTER_DROP", "XFRM_POLICY",
						 "IP_RPFILTER",    "IP_INNOROUTES",
						 "IP_OUTNOROUTES", "TC_INGRESS",
						 "TC_EGRESS",      "XDP" };

	if (strcmp(member_text(event, "type", ""), "kernel") != 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(decisions); i++) {
		if (strcmp(member_text(event, "reason", ""), decisions[i]) == 0)
			return true;
	}
	return false;
}

/* Not every kernel tells what it drops itself. */
static void child_run(const struct arguments *args, int fd, pid_t parent)
{
	struct errmsg err;

	if (child_settle("drops", &fd, 1) < 0 || !child_bind_to(parent))
		return;
	fd = CHILD_FD_FIRST;
	if (agent_follow(args, "/v1/events?type=drop,kernel", line_pass, &fd, &err) < 0)
		agent_follow(args, "/v1/events?type=drop", line_pass, &fd, &err);
}

int connect_drops_start(const struct arguments *args, struct connect_drops *drops,
			struct errmsg *err)
{
	const pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail(err, -errno, "follow drops");
	fflush(NULL);
	drops->pid = fork();
	if (drops->pid == 0) {
		child_run(args, ends[1], parent);
		_exit(0);
	}
	close(ends[1]);
	drops->fd = ends[0];
	return drops->pid < 0 ? fail(err, -errno, "follow drops") : 0;
}

/* Appends what is there.  Of more than fits the beginning goes. */
static void text_read(struct connect_drops *drops)
{
	ssize_t len;

	if (drops->len > sizeof(drops->text) / 2)
		drops->len = 0;
	len = read(drops->fd, drops->text + drops->len, sizeof(drops->text) - 1 - drops->len);
	if (len > 0)
		drops->len += (size_t)len;
	drops->text[drops->len] = '\0';
}

void connect_drops_forget(struct connect_drops *drops)
{
	do {
		drops->len = 0;
		text_read(drops);
	} while (drops->len > 0);
}

void connect_drops_last(struct connect_drops *drops, char *buf, size_t size)
{
	struct pollfd poll_fd = { .fd = drops->fd, .events = POLLIN };
	char *line, *rest = drops->text;

	if (!drops->len && poll(&poll_fd, 1, WAIT_MS) > 0)
		text_read(drops);
	buf[0] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		cJSON *event = cJSON_Parse(line);

		if (event && is_decision(event))
			snprintf(buf, size, "%s (%s)", member_text(event, "reason", "?"),
				 member_text(event, "text", ""));
		cJSON_Delete(event);
	}
	drops->len = 0;
}

void connect_drops_stop(struct connect_drops *drops)
{
	if (drops->fd >= 0)
		close(take_fd(&drops->fd));
	if (drops->pid > 0) {
		kill(drops->pid, SIGKILL);
		waitpid(drops->pid, NULL, 0);
	}
	drops->pid = -1;
}
