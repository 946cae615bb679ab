/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of sd_notify(3): one datagram to the socket that NOTIFY_SOCKET names.  Not by
 * libsystemd, whose compression and crypto libraries would be a quarter of the agent's resident
 * memory.
 */
#include "agent/notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/auto.h"
#include "lib/clock.h"

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

void notify_stopping(void)
{
	notify_send("STOPPING=1");
}
