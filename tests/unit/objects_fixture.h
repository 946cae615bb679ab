/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of object files and API objects share: a real directory, inotify and the event loop, a
 * real store; the maps are stubs that write down what they were asked for.
 */
#ifndef TENDRIL_TESTS_UNIT_OBJECTS_FIXTURE_H
#define TENDRIL_TESTS_UNIT_OBJECTS_FIXTURE_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <event2/event.h>

#include "agent/objects/objects.h"
#include "agent/sync/sync.h"
#include "lib/auto.h"
#include "lib/log.h"
#include "lib/task.h"

#include <cmocka.h>

#define DEADLINE_SECONDS 60 /* only what is broken takes that long */

/* ---- stubs ----------------------------------------------------------------------------------- */

static struct {
	unsigned int policies;
	unsigned int all_services;
	bool missing;       /* something: nothing may be removed */
	char services[400]; /* "shop/web ..." in order */
	int error;
	void (*meanwhile)(void *arg); /* what others do while policies are written */
	void *meanwhile_arg;
} synced;

int sync_policies(struct sync *sync, struct errmsg *err)
{
	(void)sync;
	synced.policies++;
	if (synced.meanwhile)
		synced.meanwhile(synced.meanwhile_arg);
	return synced.error ? fail_plain(err, synced.error, "policy_map is full") : 0;
}

void sync_set_all_pods(struct sync *sync, bool all_pods)
{
	(void)sync;
	(void)all_pods;
}

void sync_set_missing(struct sync *sync, const char *missing)
{
	(void)sync;
	synced.missing = missing;
}

void sync_on_conflicts(struct sync *sync,
		       void (*conflict)(const struct service_conflict *conflict, void *arg),
		       void *arg)
{
	(void)sync;
	(void)conflict;
	(void)arg;
}

int sync_service(struct sync *sync, const char *namespace, const char *name, struct errmsg *err)
{
	size_t len = strlen(synced.services);

	(void)sync;
	(void)err;
	snprintf(synced.services + len, sizeof(synced.services) - len, "%s%s/%s", len ? " " : "",
		 namespace, name);
	return 0;
}

int sync_services(struct sync *sync, struct errmsg *err)
{
	(void)sync;
	(void)err;
	synced.all_services++;
	return 0;
}

int sync_everything(struct sync *sync, struct errmsg *err)
{
	int ret = sync_policies(sync, err);
	int services_ret = sync_services(sync, err);

	return ret ? ret : services_ret;
}

/* ---- fixture --------------------------------------------------------------------------------- */

struct fixture {
	char root[64];     /* holds the directories "objects" and "run" */
	char dir[200];     /* root/objects, but where a test wants another one */
	char run_dir[200]; /* root/run */
	struct event_base *base;
	struct store *store;
	struct objects *objects;
};

static inline const char *in_root(const struct fixture *fixture, const char *name)
{
	static char paths[4][200];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", fixture->root, name);
	return path;
}

static inline void start(struct fixture *fixture)
{
	struct objects_options options = { .dir = fixture->dir, .run_dir = fixture->run_dir };
	struct errmsg err = { 0 };

	memset(&synced, 0, sizeof(synced));
	fixture->base = event_base_new();
	fixture->store = store_new();
	options.base = fixture->base;
	options.store = fixture->store;
	if (objects_new(&options, &fixture->objects, &err))
		fail_msg("objects_new: %s", err.text);
}

static inline void stop(struct fixture *fixture)
{
	objects_free(fixture->objects);
	store_free(fixture->store);
	event_base_free(fixture->base);
}

static inline void restart(struct fixture *fixture)
{
	stop(fixture);
	start(fixture);
}

/* The directory is there; nothing is started, so that a test may first put files into it. */
static inline int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	snprintf(fixture->root, sizeof(fixture->root), "/tmp/test_objects.XXXXXX");
	assert_non_null(mkdtemp(fixture->root));
	snprintf(fixture->dir, sizeof(fixture->dir), "%s", in_root(fixture, "objects"));
	snprintf(fixture->run_dir, sizeof(fixture->run_dir), "%s", in_root(fixture, "run"));
	assert_int_equal(mkdir(in_root(fixture, "objects"), 0755), 0);
	assert_int_equal(mkdir(in_root(fixture, "run"), 0700), 0);
	log_set_level(LOG_LEVEL_ERROR);
	*state = fixture;
	return 0;
}

static inline int unlink_each(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int teardown(void **state)
{
	struct fixture *fixture = *state;

	nftw(fixture->root, unlink_each, 16, FTW_DEPTH | FTW_PHYS);
	free(fixture);
	return 0;
}

static inline void write_at(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* In place: truncated, written, closed. */
static inline void write_file(const struct fixture *fixture, const char *name, const char *text)
{
	write_at(in_root(fixture, name), text);
}

static inline void replace_file(const struct fixture *fixture, const char *name, const char *text)
{
	write_file(fixture, "new", text);
	assert_int_equal(rename(in_root(fixture, "new"), in_root(fixture, name)), 0);
}

static inline const char *pod(const char *name, const char *address)
{
	static char texts[4][300];
	static unsigned int next;
	char *text = texts[next++ % 4];

	snprintf(text, sizeof(texts[0]),
		 "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"namespace\": "
		 "\"shop\", "
		 "\"name\": \"%s\"}, \"status\": {\"podIP\": \"%s\"}}\n",
		 name, address);
	return text;
}

static inline const char *service(const char *name, const char *address, int port)
{
	static char texts[4][400];
	static unsigned int next;
	char *text = texts[next++ % 4];

	snprintf(text, sizeof(texts[0]),
		 "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: %s}\n"
		 "spec: {clusterIP: %s, ports: [{port: %d}]}\n",
		 name, address, port);
	return text;
}

static inline const struct object *find(const struct fixture *fixture, enum object_kind kind,
					const char *name)
{
	return store_find(fixture->store, kind, "shop", name);
}

static inline bool has_pod(const struct fixture *fixture, const char *name)
{
	return find(fixture, OBJECT_POD, name);
}

static inline const char *source_of(const struct fixture *fixture, enum object_kind kind,
				    const char *name)
{
	const char *source = objects_source(fixture->objects, kind, "shop", name);

	return source ? source : "nobody";
}

/* The state of a file for status: its error, "" if it is good, "unknown" if it is not listed. */
static inline const char *file_state(const struct fixture *fixture, const char *name)
{
	static char text[600];
	cJSON *status = objects_status(fixture->objects);
	const cJSON *file;

	snprintf(text, sizeof(text), "unknown");
	cJSON_ArrayForEach (file, cJSON_GetObjectItem(status, "files")) {
		const cJSON *error = cJSON_GetObjectItem(file, "error");

		if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(file, "file")), name) != 0)
			continue;
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(file, "state")),
				    error ? "refused" : "ok");
		snprintf(text, sizeof(text), "%s", error ? cJSON_GetStringValue(error) : "");
	}
	cJSON_Delete(status);
	return text;
}

/* The same for the directory: "unknown" if there is nothing wrong with it. */
static inline const char *dir_state(const struct fixture *fixture)
{
	return file_state(fixture, fixture->dir);
}

static inline bool is_past(time_t deadline)
{
	return time(NULL) > deadline;
}

/* Runs the loop until the condition holds, and ends the run that made it so: on a loaded machine a
 * run pauses between the store and what follows it. */
#define WAIT(condition)                                                        \
	do {                                                                   \
		time_t deadline_ = time(NULL) + DEADLINE_SECONDS;              \
		while (!(condition)) {                                         \
			const struct timeval tick_ = { .tv_usec = 10000 };     \
			event_base_loopexit(fixture->base, &tick_);            \
			event_base_dispatch(fixture->base);                    \
			if (is_past(deadline_))                                \
				fail_msg("never: %s (b.json: %s)", #condition, \
					 file_state(fixture, "b.json"));       \
		}                                                              \
		task_finish_all();                                             \
	} while (0)

/* Whatever happened before this has been dealt with when it returns: events come in order. */
static inline void settle(const struct fixture *fixture)
{
	static unsigned int count;
	char name[32];

	snprintf(name, sizeof(name), "settle-%u", ++count);
	write_file(fixture, "objects/zzz.json", pod(name, "192.0.2.1"));
	WAIT(has_pod(fixture, name));
	memset(&synced, 0, sizeof(synced));
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
