/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/deletion_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "lib/alloc.h"
#include "lib/auto.h"

struct deletion_watch {
	char dir[PATH_MAX];
	int fd;
	struct event *readable;
	void (*deleted)(void *arg);
	void *arg;
};

DEFINE_AUTO(deletion_watch)

static int directory_watch(const struct deletion_watch *watch)
{
	return inotify_add_watch(watch->fd, watch->dir, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct deletion_watch *watch = arg;
	char events[4096];

	(void)what;
	/* Which ones does not matter: the caller looks. */
	while (read(fd, events, sizeof(events)) > 0)
		;
	watch->deleted(watch->arg);
	directory_watch(watch); /* the caller may have made a new one */
}

int deletion_watch_new(struct event_base *base, const char *dir, void (*deleted)(void *arg),
		       void *arg, struct deletion_watch **ret_watch, struct errmsg *err)
{
	auto_(deletion_watch) struct deletion_watch *watch = xcalloc(1, sizeof(*watch));

	watch->deleted = deleted;
	watch->arg = arg;
	snprintf(watch->dir, sizeof(watch->dir), "%s", dir);
	watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch->fd < 0 || directory_watch(watch) < 0)
		return fail(err, -errno, "watch %s", dir);
	watch->readable = event_new(base, watch->fd, EV_READ | EV_PERSIST, on_readable, watch);
	if (event_add(watch->readable, NULL) < 0)
		return fail(err, -EIO, "watch %s", dir);
	*ret_watch = take_ptr(watch);
	return 0; /* NOLINT(*Malloc): the caller owns it */
}

void deletion_watch_free(struct deletion_watch *watch)
{
	if (!watch)
		return;
	if (watch->readable)
		event_free(watch->readable);
	if (watch->fd >= 0)
		close(watch->fd);
	free(watch);
}
