/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of sd_notify(3): one datagram to the socket that NOTIFY_SOCKET names.  Not by
 * libsystemd, whose compression and crypto libraries would be a quarter of the agent's resident
 * memory.
 */
#include "agent/notify.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/inet.h"

/* There is nobody to report a failure to. */
static void notify_send(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	auto_close int fd = -1;

	if (len == 0 || len >= sizeof(addr.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(addr.sun_path, path, len);
	if (*path == '@')
		addr.sun_path[0] = '\0'; /* abstract */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&addr,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

void notify_ready(const char *status)
{
	char text[200];

	snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
	notify_send(text);
}

void notify_reloading(void)
{
	char text[80];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_ns() / 1000);
	notify_send(text);
}

/* 0: nobody watches. */
static uint64_t watchdog_period_us(void)
{
	const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t period = 0, watched = 0;

	if (!text || number_parse(text, 1, UINT32_MAX, &period) < 0)
		return 0;
	if (pid && (number_parse(pid, 1, INT32_MAX, &watched) < 0 || watched != (uint64_t)getpid()))
		return 0; /* meant for another process */
	return period;
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	notify_send("WATCHDOG=1");
}

int notify_watchdog_new(struct event_base *base, struct event **ret_event, struct errmsg *err)
{
	uint64_t half = watchdog_period_us() / 2;
	struct timeval pause = { .tv_sec = (time_t)(half / 1000000),
				 .tv_usec = (suseconds_t)(half % 1000000) };

	*ret_event = NULL;
	if (half == 0)
		return 0;
	*ret_event = event_new(base, -1, EV_PERSIST, on_watchdog, NULL);
	if (event_add(*ret_event, &pause) < 0)
		return fail(err, -EIO, "watchdog");
	return 0;
}

void notify_stopping(void)
{
	notify_send("STOPPING=1");
}
