/* SPDX-License-Identifier: Apache-2.0 */
#define LOG_MODULE "objects"
#include "agent/objects/object_watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/param.h>
#include <sys/stat.h>

#include <event2/event.h>

#include "datapath/abi.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/log.h"

#define NAMES_MAX 64 /* more than this in one go: look at everything */
#define LINKS_MAX 64 /* directories outside that links lead to */
#define FILE_MASK                                                                           \
	(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define ANCHOR_MASK                                                                            \
	(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | \
	 IN_ONLYDIR)

/*
 * When what happened is acted on.  A file that is complete: at once.  What takes away, or leads
 * elsewhere: a moment later, for what replaces it is as a rule on its way, and nothing should be
 * out of force between the two halves of a rename.  And after each run there is a pause of its own
 * length, so that a burst of changes costs few runs and never all of the time.  The pause is
 * bounded: what changes after a run of seconds must not wait for seconds.
 */
#define AT_ONCE_NS   0
#define SETTLE_NS    2000000
#define PAUSE_MIN_NS 2000000
#define PAUSE_MAX_NS 100000000

/* A close is told a moment before its file is free (fs/file_table.c, __fput()), and no event says
 * when that is.  Each try waits twice as long; who still writes after the last will close again. */
#define AGAIN_NS  250000
#define AGAIN_MAX 8

struct object_watch {
	char dir[PATH_MAX];
	char anchor_name[NAME_MAX + 1]; /* what is awaited or guarded in the anchor */
	int fd;
	int dir_wd;    /* -1: there is no such directory */
	int anchor_wd; /* the nearest directory above that exists */
	int link_wds[LINKS_MAX];
	size_t link_count;
	struct event *readable;
	struct event *timer;
	bool pending;
	uint64_t due_ns;   /* of the run that is pending */
	uint64_t pause_ns; /* no run before */
	uint64_t began_ns; /* the run at hand; 0: there is none */
	bool run_all;      /* it looks at everything */
	size_t run_count;  /* else at so many of the names */
	bool again;        /* it asked for another */
	unsigned int tries;
	bool all;
	char *names[NAMES_MAX];
	size_t name_count;
	void (*changed)(const struct object_events *events, void *arg);
	void *arg;
};

bool object_watch_is_file(const char *name)
{
	static const char *const suffixes[] = { ".json", ".yaml", ".yml" };
	size_t len = strlen(name);

	if (name[0] == '.')
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		size_t suffix = strlen(suffixes[i]);

		if (len > suffix && strcmp(name + len - suffix, suffixes[i]) == 0)
			return true;
	}
	return false;
}

/* ---- what is reported ------------------------------------------------------------------------ */

static void names_forget(struct object_watch *watch, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(watch->names[i]);
	watch->name_count -= count;
	memmove(watch->names, watch->names + count, watch->name_count * sizeof(char *));
}

/* Nothing puts off a run that is pending, so a steady stream of events cannot do so for ever. */
static void report(struct object_watch *watch, uint64_t delay_ns)
{
	uint64_t now = now_ns();
	uint64_t due = MAX(now + delay_ns, watch->pause_ns);
	struct timeval wait = { .tv_sec = (time_t)((due - now) / NS_PER_SEC),
				.tv_usec = (suseconds_t)((due - now) % NS_PER_SEC / 1000) };

	if (watch->began_ns || (watch->pending && watch->due_ns <= due))
		return;
	event_add(watch->timer, &wait);
	watch->pending = true;
	watch->due_ns = due;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct object_watch *watch = arg;
	struct object_events events = {
		.all = watch->all,
		.names = (const char *const *)watch->names,
		.count = watch->name_count,
	};

	(void)fd;
	(void)what;
	watch->pending = false;
	watch->again = false;
	watch->run_all = watch->all;
	watch->run_count = watch->name_count;
	watch->all = false;
	watch->began_ns = now_ns();
	watch->changed(&events, watch->arg);
}

void object_watch_done(struct object_watch *watch)
{
	uint64_t ended = now_ns(), took = MIN(ended - watch->began_ns, (uint64_t)PAUSE_MAX_NS);

	watch->began_ns = 0;
	watch->pause_ns = ended + MAX(took, (uint64_t)PAUSE_MIN_NS);
	if (watch->again && watch->tries < AGAIN_MAX) {
		watch->pause_ns = ended;
		watch->all |= watch->run_all;
		report(watch, AGAIN_NS << watch->tries++);
		return;
	}
	watch->tries = 0;
	names_forget(watch, watch->run_count);
	if (watch->all || watch->name_count)
		report(watch, SETTLE_NS);
}

static void report_all(struct object_watch *watch)
{
	watch->all = true;
	report(watch, SETTLE_NS);
}

static bool name_add(struct object_watch *watch, const char *name)
{
	/* The files of the present run may have been read already. */
	for (size_t i = watch->began_ns ? watch->run_count : 0; i < watch->name_count; i++) {
		if (strcmp(watch->names[i], name) == 0)
			return true;
	}
	if (watch->name_count == NAMES_MAX)
		return false;
	watch->names[watch->name_count++] = xstrdup(name);
	return true;
}

static void report_file(struct object_watch *watch, const char *name, uint64_t delay_ns)
{
	if (name_add(watch, name))
		report(watch, delay_ns);
	else
		report_all(watch);
}

/* ---- events ---------------------------------------------------------------------------------- */

static mode_t file_mode(const struct object_watch *watch, const char *name, nlink_t *ret_links)
{
	char path[PATH_MAX + NAME_MAX + 2];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", watch->dir, name);
	if (lstat(path, &st))
		return 0;
	*ret_links = st.st_nlink;
	return st.st_mode;
}

static void on_dir_event(struct object_watch *watch, const struct inotify_event *event)
{
	const char *name = event->len ? event->name : "";
	nlink_t links = 1;
	mode_t mode;

	if (!event->len || event->mask & IN_ISDIR) {
		/* The directory itself; or one in it, which links may lead through. */
		if (event->mask & (IN_MOVED_TO | IN_CREATE) || !event->len)
			report_all(watch);
		return;
	}
	mode = file_mode(watch, name, &links);
	if (S_ISLNK(mode)) {
		/* Its target is to be watched; or others go through it, as through "..data". */
		if (event->mask & (IN_MOVED_TO | IN_CREATE))
			report_all(watch);
		return;
	}
	/* A new file is complete when its writer closes it; a hard link is at once. */
	if (object_watch_is_file(name) && !(event->mask & IN_CREATE && S_ISREG(mode) && links == 1))
		report_file(watch, name,
			    event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE) ? AT_ONCE_NS
										     : SETTLE_NS);
}

static bool link_leads_to(const struct object_watch *watch, int wd)
{
	for (size_t i = 0; i < watch->link_count; i++) {
		if (watch->link_wds[i] == wd)
			return true;
	}
	return false;
}

static void on_event(struct object_watch *watch, const struct inotify_event *event)
{
	if (event->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF)) {
		report_all(watch);
	} else if (event->mask & IN_IGNORED) {
		/* Said by IN_DELETE_SELF already. */
	} else if (event->wd == watch->dir_wd) {
		on_dir_event(watch, event);
	} else if (event->wd == watch->anchor_wd && event->len &&
		   strcmp(event->name, watch->anchor_name) == 0) {
		report_all(watch);
	} else if (link_leads_to(watch, event->wd) && !(event->mask & IN_CREATE)) {
		report_all(watch);
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	_Alignas(struct inotify_event) char buf[16 * 1024];
	struct object_watch *watch = arg;
	ssize_t len = read(fd, buf, sizeof(buf));

	(void)what;
	for (ssize_t at = 0; at < len;) {
		const struct inotify_event *event = (const void *)(buf + at);

		on_event(watch, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

/* ---- what is watched ------------------------------------------------------------------------- */

/* Splits off the last component; false at "/" or when there is nothing left. */
static bool path_split(char *path, const char **ret_name)
{
	size_t len = strlen(path);
	char *slash;

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	slash = strrchr(path, '/');
	if (!slash || len <= 1)
		return false;
	*ret_name = slash + 1;
	*slash = '\0';
	return true;
}

/* Watches the nearest existing directory above dir for the component that leads to it. */
static void anchor_watch(struct object_watch *watch)
{
	int before = watch->anchor_wd;
	char path[PATH_MAX];
	const char *name;

	snprintf(path, sizeof(path), "%s", watch->dir);
	watch->anchor_wd = -1;
	while (watch->anchor_wd < 0 && path_split(path, &name)) {
		snprintf(watch->anchor_name, sizeof(watch->anchor_name), "%s", name);
		watch->anchor_wd = inotify_add_watch(watch->fd, *path ? path : "/", ANCHOR_MASK);
	}
	if (before >= 0 && before != watch->anchor_wd)
		inotify_rm_watch(watch->fd, before);
}

/* Watches where a link of the directory ends. */
static void link_watch(struct object_watch *watch, const char *name)
{
	char path[PATH_MAX + NAME_MAX + 2];
	auto_free char *target = NULL;
	char *slash;
	int wd;

	snprintf(path, sizeof(path), "%s/%s", watch->dir, name);
	target = realpath(path, NULL);
	slash = target ? strrchr(target, '/') : NULL;
	if (!slash || watch->link_count == LINKS_MAX)
		return;
	*slash = '\0';
	/* Added: it may be a directory that is watched already. */
	wd = inotify_add_watch(watch->fd, *target ? target : "/", FILE_MASK | IN_MASK_ADD);
	if (wd >= 0 && !link_leads_to(watch, wd))
		watch->link_wds[watch->link_count++] = wd;
}

static void links_watch(struct object_watch *watch)
{
	int before[LINKS_MAX];
	size_t count = watch->link_count;
	DIR *dir = opendir(watch->dir);
	const struct dirent *entry;

	memcpy(before, watch->link_wds, sizeof(before));
	watch->link_count = 0;
	while (dir && (entry = readdir(dir))) {
		nlink_t links;

		if (object_watch_is_file(entry->d_name) &&
		    (entry->d_type == DT_LNK || (entry->d_type == DT_UNKNOWN &&
						 S_ISLNK(file_mode(watch, entry->d_name, &links)))))
			link_watch(watch, entry->d_name);
	}
	if (dir)
		closedir(dir);
	for (size_t i = 0; i < count; i++) {
		if (!link_leads_to(watch, before[i]) && before[i] != watch->dir_wd &&
		    before[i] != watch->anchor_wd)
			inotify_rm_watch(watch->fd, before[i]);
	}
}

void object_watch_refresh(struct object_watch *watch)
{
	int before = watch->dir_wd;

	anchor_watch(watch);
	watch->dir_wd = inotify_add_watch(watch->fd, watch->dir, FILE_MASK);
	if (watch->dir_wd < 0 && errno != ENOENT && errno != ENOTDIR)
		log_warn("watch %s: %s", watch->dir, strerror(errno));
	if (before >= 0 && before != watch->dir_wd)
		inotify_rm_watch(watch->fd, before);
	links_watch(watch);
}

/* ---- life ------------------------------------------------------------------------------------ */

DEFINE_AUTO(object_watch)

int object_watch_new(struct event_base *base, const char *dir,
		     void (*changed)(const struct object_events *events, void *arg), void *arg,
		     struct object_watch **ret, struct errmsg *err)
{
	auto_(object_watch) struct object_watch *watch = xcalloc(1, sizeof(*watch));
	char cwd[PATH_MAX] = "";

	watch->fd = -1;
	watch->dir_wd = -1;
	watch->anchor_wd = -1;
	watch->changed = changed;
	watch->arg = arg;
	if (dir[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return fail(err, -errno, "working directory");
	if ((size_t)snprintf(watch->dir, sizeof(watch->dir), "%s%s%s", cwd, *cwd ? "/" : "", dir) >=
	    sizeof(watch->dir))
		return fail(err, -ENAMETOOLONG, "watch %s", dir);
	watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch->fd < 0)
		return fail(err, -errno, "inotify for %s", dir);
	watch->readable = event_new(base, watch->fd, EV_READ | EV_PERSIST, on_readable, watch);
	watch->timer = evtimer_new(base, on_timer, watch);
	if (!watch->readable || !watch->timer || event_add(watch->readable, NULL))
		out_of_memory(0);
	object_watch_refresh(watch);
	*ret = take_ptr(watch);
	return 0;
}

void object_watch_again(struct object_watch *watch)
{
	watch->again = true;
}

void object_watch_free(struct object_watch *watch)
{
	if (!watch)
		return;
	if (watch->readable)
		event_free(watch->readable);
	if (watch->timer)
		event_free(watch->timer);
	if (watch->fd >= 0)
		close(watch->fd);
	names_forget(watch, watch->name_count);
	free(watch);
}
