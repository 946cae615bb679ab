/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a real directory and API objects, through inotify and the event loop, into a real world;
 * the maps are stubs that write down what they were asked for.
 */
#include <errno.h>
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

#include "agent/accel.h"
#include "agent/lib/auto.h"
#include "agent/lib/log.h"
#include "agent/objects.h"
#include "agent/sync.h"

#include <cmocka.h>

#define DEADLINE_SECONDS 5

/* ---- stubs ----------------------------------------------------------------------------------- */

static struct {
	unsigned int policies;
	unsigned int all_services;
	unsigned int enforced;
	unsigned int deletes; /* allowed */
	char services[400];   /* "shop/web ..." in order */
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

void sync_allow_deletes(struct sync *sync)
{
	(void)sync;
	synced.deletes++;
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

void accel_enforce(struct accel *accel)
{
	(void)accel;
	synced.enforced++;
}

/* ---- fixture --------------------------------------------------------------------------------- */

struct fixture {
	char root[64]; /* holds the directories "objects" and "run" */
	struct agent agent;
};

static const char *in_root(const struct fixture *fixture, const char *name)
{
	static char paths[4][200];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", fixture->root, name);
	return path;
}

static void start(struct fixture *fixture)
{
	struct errmsg err = { 0 };

	memset(&synced, 0, sizeof(synced));
	fixture->agent.base = event_base_new();
	fixture->agent.world = world_new();
	if (objects_new(&fixture->agent, &fixture->agent.objects, &err))
		fail_msg("objects_new: %s", err.text);
}

static void stop(struct fixture *fixture)
{
	objects_free(fixture->agent.objects);
	world_free(fixture->agent.world);
	event_base_free(fixture->agent.base);
}

static void restart(struct fixture *fixture)
{
	stop(fixture);
	start(fixture);
}

/* The directory is there; nothing is started, so that a test may first put files into it. */
static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	snprintf(fixture->root, sizeof(fixture->root), "/tmp/test_objects.XXXXXX");
	assert_non_null(mkdtemp(fixture->root));
	snprintf(fixture->agent.config.objects_dir, sizeof(fixture->agent.config.objects_dir), "%s",
		 in_root(fixture, "objects"));
	snprintf(fixture->agent.config.run_dir, sizeof(fixture->agent.config.run_dir), "%s",
		 in_root(fixture, "run"));
	assert_int_equal(mkdir(in_root(fixture, "objects"), 0755), 0);
	assert_int_equal(mkdir(in_root(fixture, "run"), 0700), 0);
	log_set_level(LOG_LEVEL_ERROR);
	*state = fixture;
	return 0;
}

static int unlink_each(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	nftw(fixture->root, unlink_each, 16, FTW_DEPTH | FTW_PHYS);
	free(fixture);
	return 0;
}

static void write_at(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* In place: truncated, written, closed. */
static void write_file(const struct fixture *fixture, const char *name, const char *text)
{
	write_at(in_root(fixture, name), text);
}

static void replace_file(const struct fixture *fixture, const char *name, const char *text)
{
	write_file(fixture, "new", text);
	assert_int_equal(rename(in_root(fixture, "new"), in_root(fixture, name)), 0);
}

static const char *pod(const char *name, const char *address)
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

static const char *service(const char *name, const char *address, int port)
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

static const struct object *find(const struct fixture *fixture, enum object_kind kind,
				 const char *name)
{
	return world_find(fixture->agent.world, kind, "shop", name);
}

static bool has_pod(const struct fixture *fixture, const char *name)
{
	return find(fixture, OBJECT_POD, name);
}

static const char *source_of(const struct fixture *fixture, enum object_kind kind, const char *name)
{
	const char *source = objects_source(fixture->agent.objects, kind, "shop", name);

	return source ? source : "nobody";
}

/* The state of a file for status: its error, "" if it is good, "unknown" if it is not listed. */
static const char *file_state(const struct fixture *fixture, const char *name)
{
	static char text[600];
	cJSON *status = objects_status(fixture->agent.objects);
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

static bool is_past(time_t deadline)
{
	return time(NULL) > deadline;
}

/* Runs the loop until the condition holds. */
#define WAIT(condition)                                                        \
	do {                                                                   \
		time_t deadline_ = time(NULL) + DEADLINE_SECONDS;              \
		while (!(condition)) {                                         \
			const struct timeval tick_ = { .tv_usec = 10000 };     \
			event_base_loopexit(fixture->agent.base, &tick_);      \
			event_base_dispatch(fixture->agent.base);              \
			if (is_past(deadline_))                                \
				fail_msg("never: %s (b.json: %s)", #condition, \
					 file_state(fixture, "b.json"));       \
		}                                                              \
	} while (0)

/* Whatever happened before this has been dealt with when it returns: events come in order. */
static void settle(const struct fixture *fixture)
{
	static unsigned int count;
	char name[32];

	snprintf(name, sizeof(name), "settle-%u", ++count);
	write_file(fixture, "objects/zzz.json", pod(name, "192.0.2.1"));
	WAIT(has_pod(fixture, name));
	memset(&synced, 0, sizeof(synced));
}

/* ---- files ----------------------------------------------------------------------------------- */

static void test_start_reads_every_file_and_syncs_nothing(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	write_file(fixture, "objects/b.yaml", service("web", "10.96.0.1", 80));
	write_file(fixture, "objects/c.yml", "");
	write_file(fixture, "objects/.hidden.json", pod("hidden", "10.0.0.9"));
	write_file(fixture, "objects/readme.txt", "hello");
	start(fixture);
	assert_string_equal(source_of(fixture, OBJECT_POD, "a"), "a.json");
	assert_string_equal(source_of(fixture, OBJECT_SERVICE, "web"), "b.yaml");
	assert_string_equal(file_state(fixture, "c.yml"), "");
	assert_string_equal(file_state(fixture, "readme.txt"), "unknown");
	assert_false(has_pod(fixture, "hidden"));
	assert_int_equal(synced.policies + synced.all_services, 0);
	stop(fixture);
}

static void test_new_edited_replaced_and_deleted_files(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	assert_int_equal(synced.policies, 1);
	assert_int_equal(synced.enforced, 1);
	write_file(fixture, "objects/a.json", pod("b", "10.0.0.2"));
	WAIT(has_pod(fixture, "b") && !has_pod(fixture, "a"));
	replace_file(fixture, "objects/a.json", pod("c", "10.0.0.2"));
	WAIT(has_pod(fixture, "c") && !has_pod(fixture, "b"));
	rename(in_root(fixture, "objects/a.json"), in_root(fixture, "objects/z.json"));
	WAIT(strcmp(source_of(fixture, OBJECT_POD, "c"), "z.json") == 0);
	unlink(in_root(fixture, "objects/z.json"));
	WAIT(!has_pod(fixture, "c"));
	assert_string_equal(file_state(fixture, "z.json"), "unknown");
	stop(fixture);
}

static void test_bad_file_is_named_and_its_content_stays(void **state)
{
	struct fixture *fixture = *state;
	static const char bad[] =
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
		"metadata: {namespace: shop, name: p}\n"
		"spec:\n  podSelector: {}\n  ingress:\n  - ports:\n    - port: 70000\n";

	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.2"));
	WAIT(has_pod(fixture, "b"));
	write_file(fixture, "objects/b.json", bad);
	WAIT(strcmp(file_state(fixture, "b.json"), "") != 0);
	assert_non_null(strstr(file_state(fixture, "b.json"), "b.json:8:"));
	assert_non_null(strstr(file_state(fixture, "b.json"),
			       "NetworkPolicy shop/p: spec.ingress[0].ports[0].port: "));
	assert_true(has_pod(fixture, "b"));
	assert_int_equal(synced.policies, 1);
	write_file(fixture, "objects/b.json", pod("c", "10.0.0.2"));
	WAIT(has_pod(fixture, "c"));
	assert_string_equal(file_state(fixture, "b.json"), "");
	/* Bad, and then what is in force again: nothing to do, but no longer refused. */
	write_file(fixture, "objects/b.json", bad);
	WAIT(strcmp(file_state(fixture, "b.json"), "") != 0);
	write_file(fixture, "objects/b.json", pod("c", "10.0.0.2"));
	WAIT(strcmp(file_state(fixture, "b.json"), "") == 0);
	stop(fixture);
}

static void test_only_what_changed_is_synced(void **state)
{
	struct fixture *fixture = *state;
	char text[1000];

	start(fixture);
	snprintf(text, sizeof(text), "%s%s", service("web", "10.96.0.1", 80),
		 service("db", "10.96.0.2", 80));
	write_file(fixture, "objects/b.yaml", text);
	WAIT(find(fixture, OBJECT_SERVICE, "db"));
	assert_string_equal(synced.services, "shop/db shop/web");
	settle(fixture);

	snprintf(text, sizeof(text), "# moved about\n%s%s", service("db", "10.96.0.2", 81),
		 service("web", "10.96.0.1", 80));
	write_file(fixture, "objects/b.yaml", text);
	WAIT(find(fixture, OBJECT_SERVICE, "db")->service.ports[0].port == 81);
	assert_string_equal(synced.services, "shop/db");
	assert_int_equal(synced.policies + synced.all_services, 0);
	stop(fixture);
}

static void test_many_services_are_synced_at_once(void **state)
{
	struct fixture *fixture = *state;
	auto_free char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (int i = 0; i < 100; i++) {
		char name[16], address[20];

		snprintf(name, sizeof(name), "s%d", i);
		snprintf(address, sizeof(address), "10.96.1.%d", i);
		fputs(service(name, address, 80), out);
	}
	fclose(out);
	start(fixture);
	write_file(fixture, "objects/b.yaml", text);
	WAIT(find(fixture, OBJECT_SERVICE, "s99"));
	assert_int_equal(synced.all_services, 1);
	assert_string_equal(synced.services, "");
	stop(fixture);
}

static void test_many_files_at_once(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	for (int i = 0; i < 200; i++) {
		char name[40], address[20];

		snprintf(name, sizeof(name), "p%d", i);
		snprintf(address, sizeof(address), "10.0.1.%d", i);
		write_file(fixture, "new", pod(name, address));
		snprintf(name, sizeof(name), "objects/p%d.json", i);
		assert_int_equal(rename(in_root(fixture, "new"), in_root(fixture, name)), 0);
	}
	WAIT(world_count(fixture->agent.world, OBJECT_POD) == 200);
	stop(fixture);
}

struct burst {
	const struct fixture *fixture;
	int files;
};

static void burst_go_on(void *arg)
{
	struct burst *burst = arg;

	for (int i = 0; i < 100 && burst->files < 1000; i++, burst->files++) {
		char name[40], address[20];

		snprintf(name, sizeof(name), "p%d", burst->files);
		snprintf(address, sizeof(address), "10.0.%d.%d", burst->files / 250,
			 burst->files % 250);
		write_file(burst->fixture, "new", pod(name, address));
		snprintf(name, sizeof(name), "objects/p%d.json", burst->files);
		assert_int_equal(
			rename(in_root(burst->fixture, "new"), in_root(burst->fixture, name)), 0);
	}
}

/* What changes while one run is at work is the next run's, all of it together. */
static void test_burst_of_changes_costs_few_runs(void **state)
{
	struct fixture *fixture = *state;
	struct burst burst = { .fixture = fixture };

	start(fixture);
	synced.meanwhile = burst_go_on;
	synced.meanwhile_arg = &burst;
	write_file(fixture, "objects/first.json", pod("first", "10.1.0.1"));
	WAIT(world_count(fixture->agent.world, OBJECT_POD) == 1001);
	assert_in_range(synced.policies, 2, 12);
	synced.meanwhile = NULL;
	stop(fixture);
}

/* ---- contradictions -------------------------------------------------------------------------- */

static void test_duplicate_names_the_first_file_and_waits(void **state)
{
	struct fixture *fixture = *state;
	char both[700];

	start(fixture);
	write_file(fixture, "objects/z.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	snprintf(both, sizeof(both), "%s%s", pod("a", "10.0.0.3"), pod("other", "10.0.0.4"));
	write_file(fixture, "objects/b.json", both);
	WAIT(strcmp(file_state(fixture, "b.json"), "unknown") != 0);
	assert_string_equal(file_state(fixture, "b.json"),
			    "Pod shop/a: it is already given by z.json");
	assert_false(has_pod(fixture, "other"));
	assert_string_equal(source_of(fixture, OBJECT_POD, "a"), "z.json");

	unlink(in_root(fixture, "objects/z.json"));
	WAIT(has_pod(fixture, "other"));
	assert_string_equal(source_of(fixture, OBJECT_POD, "a"), "b.json");
	assert_string_equal(file_state(fixture, "b.json"), "");
	stop(fixture);
}

static void test_contradiction_names_both_objects_and_the_other_file(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(strcmp(file_state(fixture, "b.json"), "unknown") != 0);
	assert_string_equal(file_state(fixture, "b.json"),
			    "Pod shop/b and Pod shop/a both have 10.0.0.1; the other one is given "
			    "by a.json");
	/* The address is given up: the refused file is tried again by itself. */
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.7"));
	WAIT(has_pod(fixture, "b"));
	stop(fixture);
}

static void test_contradiction_leaves_what_the_file_held(void **state)
{
	struct fixture *fixture = *state;
	char text[700];

	start(fixture);
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	snprintf(text, sizeof(text), "%s%s", pod("b1", "10.0.0.2"), pod("b2", "10.0.0.3"));
	write_file(fixture, "objects/b.json", text);
	WAIT(has_pod(fixture, "b2") && has_pod(fixture, "a"));
	/* b1 goes, b2 changes, b3 is new, and b4 cannot be. */
	snprintf(text, sizeof(text), "%s%s%s", pod("b2", "10.0.0.4"), pod("b3", "10.0.0.5"),
		 pod("b4", "10.0.0.1"));
	write_file(fixture, "objects/b.json", text);
	WAIT(strcmp(file_state(fixture, "b.json"), "") != 0);
	assert_true(has_pod(fixture, "b1"));
	assert_int_equal(find(fixture, OBJECT_POD, "b2")->pod.addresses[0].w[3], htonl(0x0a000003));
	assert_false(has_pod(fixture, "b3"));
	/* And the next good content replaces all of it. */
	write_file(fixture, "objects/b.json", pod("b3", "10.0.0.2"));
	WAIT(has_pod(fixture, "b3") && !has_pod(fixture, "b1") && !has_pod(fixture, "b2"));
	stop(fixture);
}

static void test_objects_swap_files_at_once(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/a.json", pod("x", "10.0.0.1"));
	write_file(fixture, "objects/b.json", pod("y", "10.0.0.2"));
	WAIT(has_pod(fixture, "x") && has_pod(fixture, "y"));
	write_file(fixture, "objects/a.json", pod("y", "10.0.0.2"));
	write_file(fixture, "objects/b.json", pod("x", "10.0.0.1"));
	WAIT(strcmp(source_of(fixture, OBJECT_POD, "x"), "b.json") == 0);
	assert_string_equal(source_of(fixture, OBJECT_POD, "y"), "a.json");
	assert_string_equal(file_state(fixture, "a.json"), "");
	assert_string_equal(file_state(fixture, "b.json"), "");
	stop(fixture);
}

static void test_one_bad_file_does_not_stop_the_others(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "objects/a.json", pod("x", "10.0.0.1"));
	write_file(fixture, "objects/b.json", pod("x", "10.0.0.2"));
	write_file(fixture, "objects/c.json", pod("y", "10.0.0.3"));
	start(fixture);
	assert_string_equal(source_of(fixture, OBJECT_POD, "x"), "a.json");
	assert_string_equal(file_state(fixture, "b.json"),
			    "Pod shop/x: it is already given by a.json");
	assert_true(has_pod(fixture, "y"));
	stop(fixture);
}

/* ---- what may lie in a directory ------------------------------------------------------------- */

static void test_strange_files_are_refused(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	mkfifo(in_root(fixture, "objects/fifo.json"), 0600);
	mkdir(in_root(fixture, "objects/dir.json"), 0700);
	symlink("/dev/null", in_root(fixture, "objects/null.json"));
	symlink("nowhere", in_root(fixture, "objects/link.json"));
	symlink("loop.json", in_root(fixture, "objects/loop.json"));
	fd = open(in_root(fixture, "objects/huge.json"), O_CREAT | O_WRONLY, 0600);
	assert_int_equal(ftruncate(fd, 65L << 20), 0);
	close(fd);
	fd = open(in_root(fixture, "objects/nul.json"), O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "{}\0{}", 5), 5);
	close(fd);
	start(fixture);
	assert_non_null(strstr(file_state(fixture, "fifo.json"), "not a regular file"));
	assert_non_null(strstr(file_state(fixture, "dir.json"), "not a regular file"));
	assert_non_null(strstr(file_state(fixture, "null.json"), "not a regular file"));
	assert_non_null(strstr(file_state(fixture, "link.json"), "leads nowhere"));
	assert_non_null(strstr(file_state(fixture, "loop.json"), "symbolic links"));
	assert_non_null(strstr(file_state(fixture, "huge.json"), "larger than 64 MiB"));
	assert_non_null(strstr(file_state(fixture, "nul.json"), "NUL"));
	stop(fixture);
}

/* A full scan meets a file that somebody is in the middle of writing: YAML would be valid. */
static void test_half_written_file_waits_for_its_writer(void **state)
{
	struct fixture *fixture = *state;
	const char *text = service("one", "10.96.0.1", 80);
	int fd;

	start(fixture);
	fd = open(in_root(fixture, "objects/b.yaml"), O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	objects_reload(fixture->agent.objects);
	assert_non_null(strstr(file_state(fixture, "b.yaml"), "still being written"));
	settle(fixture);
	assert_null(find(fixture, OBJECT_SERVICE, "one"));
	text = service("two", "10.96.0.2", 80);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	WAIT(find(fixture, OBJECT_SERVICE, "one") && find(fixture, OBJECT_SERVICE, "two"));
	stop(fixture);
}

/* In place, by two writers, with events in between: none of them shows a half. */
static void test_half_rewritten_file_stays_as_it_was(void **state)
{
	struct fixture *fixture = *state;
	const char *text;
	int fd;

	start(fixture);
	write_file(fixture, "objects/b.yaml", service("old", "10.96.0.9", 80));
	WAIT(find(fixture, OBJECT_SERVICE, "old"));
	fd = open(in_root(fixture, "objects/b.yaml"), O_WRONLY | O_TRUNC);
	text = service("one", "10.96.0.1", 80);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(open(in_root(fixture, "objects/b.yaml"), O_WRONLY));
	assert_int_equal(fchmod(fd, 0640), 0);
	settle(fixture);
	assert_non_null(find(fixture, OBJECT_SERVICE, "old"));
	assert_null(find(fixture, OBJECT_SERVICE, "one"));
	assert_string_equal(file_state(fixture, "b.yaml"), "");
	text = service("two", "10.96.0.2", 80);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	WAIT(find(fixture, OBJECT_SERVICE, "one") && find(fixture, OBJECT_SERVICE, "two"));
	assert_null(find(fixture, OBJECT_SERVICE, "old"));
	stop(fixture);
}

static void test_hard_link_counts_at_once(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "elsewhere", pod("a", "10.0.0.1"));
	assert_int_equal(link(in_root(fixture, "elsewhere"), in_root(fixture, "objects/a.json")),
			 0);
	WAIT(has_pod(fixture, "a"));
	stop(fixture);
}

static void test_targets_of_links_are_watched(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	/* The directory of the first target is the one above, which is watched for another reason.
	 */
	write_file(fixture, "target", pod("a", "10.0.0.1"));
	mkdir(in_root(fixture, "far"), 0700);
	write_file(fixture, "far/target", pod("b", "10.0.0.2"));
	symlink("../target", in_root(fixture, "objects/a.json"));
	symlink("../far/target", in_root(fixture, "objects/b.json"));
	WAIT(has_pod(fixture, "a") && has_pod(fixture, "b"));
	write_file(fixture, "target", pod("a2", "10.0.0.1"));
	WAIT(has_pod(fixture, "a2"));
	replace_file(fixture, "far/target", pod("b2", "10.0.0.2"));
	WAIT(has_pod(fixture, "b2"));
	unlink(in_root(fixture, "objects/b.json"));
	WAIT(!has_pod(fixture, "b2"));
	stop(fixture);
}

/* As Kubernetes updates a mounted ConfigMap. */
static void test_swapped_data_link(void **state)
{
	struct fixture *fixture = *state;

	mkdir(in_root(fixture, "objects/..1"), 0700);
	write_file(fixture, "objects/..1/a.json", pod("a1", "10.0.0.1"));
	write_file(fixture, "objects/..1/b.json", pod("b1", "10.0.0.2"));
	symlink("..1", in_root(fixture, "objects/..data"));
	symlink("..data/a.json", in_root(fixture, "objects/a.json"));
	symlink("..data/b.json", in_root(fixture, "objects/b.json"));
	start(fixture);
	assert_true(has_pod(fixture, "a1") && has_pod(fixture, "b1"));

	mkdir(in_root(fixture, "objects/..2"), 0700);
	write_file(fixture, "objects/..2/a.json", pod("a2", "10.0.0.2"));
	write_file(fixture, "objects/..2/b.json", pod("b2", "10.0.0.1"));
	symlink("..2", in_root(fixture, "objects/..data_tmp"));
	rename(in_root(fixture, "objects/..data_tmp"), in_root(fixture, "objects/..data"));
	WAIT(has_pod(fixture, "a2") && has_pod(fixture, "b2"));
	assert_false(has_pod(fixture, "a1") || has_pod(fixture, "b1"));
	stop(fixture);
}

static void test_directory_goes_and_comes(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	rename(in_root(fixture, "objects"), in_root(fixture, "away"));
	WAIT(!has_pod(fixture, "a"));
	rename(in_root(fixture, "away"), in_root(fixture, "objects"));
	WAIT(has_pod(fixture, "a"));
	unlink(in_root(fixture, "objects/a.json"));
	rmdir(in_root(fixture, "objects"));
	WAIT(!has_pod(fixture, "a"));
	mkdir(in_root(fixture, "objects"), 0755);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	stop(fixture);
}

static void test_directory_may_be_made_later_with_those_above(void **state)
{
	struct fixture *fixture = *state;

	snprintf(fixture->agent.config.objects_dir, sizeof(fixture->agent.config.objects_dir),
		 "%s/etc/tendril/objects/", fixture->root);
	start(fixture);
	mkdir(in_root(fixture, "etc"), 0755);
	mkdir(in_root(fixture, "etc/tendril"), 0755);
	mkdir(in_root(fixture, "etc/tendril/objects"), 0755);
	write_file(fixture, "etc/tendril/objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	write_file(fixture, "etc/tendril/objects/b.json", pod("b", "10.0.0.2"));
	WAIT(has_pod(fixture, "b"));
	stop(fixture);
}

static void test_directory_behind_a_link_is_swapped(void **state)
{
	struct fixture *fixture = *state;

	rename(in_root(fixture, "objects"), in_root(fixture, "v1"));
	mkdir(in_root(fixture, "v2"), 0755);
	write_file(fixture, "v1/a.json", pod("a1", "10.0.0.1"));
	write_file(fixture, "v2/a.json", pod("a2", "10.0.0.1"));
	symlink("v1", in_root(fixture, "objects"));
	start(fixture);
	assert_true(has_pod(fixture, "a1"));
	symlink("v2", in_root(fixture, "objects.tmp"));
	rename(in_root(fixture, "objects.tmp"), in_root(fixture, "objects"));
	WAIT(has_pod(fixture, "a2") && !has_pod(fixture, "a1"));
	write_file(fixture, "v2/a.json", pod("a3", "10.0.0.1"));
	WAIT(has_pod(fixture, "a3"));
	stop(fixture);
}

/* ---- restarts -------------------------------------------------------------------------------- */

static void test_bad_file_at_start_keeps_what_was_in_force(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	stop(fixture);
	write_file(fixture, "objects/b.json", "{");
	start(fixture);
	assert_true(has_pod(fixture, "b"));
	assert_non_null(strstr(file_state(fixture, "b.json"), "b.json:1:"));
	write_file(fixture, "objects/b.json", pod("c", "10.0.0.1"));
	WAIT(has_pod(fixture, "c") && !has_pod(fixture, "b"));
	stop(fixture);
}

static void test_deleted_while_the_agent_was_away(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	assert_int_equal(access(in_root(fixture, "run/accepted/b.json"), F_OK), 0);
	stop(fixture);
	unlink(in_root(fixture, "objects/b.json"));
	start(fixture);
	assert_false(has_pod(fixture, "b"));
	assert_int_not_equal(access(in_root(fixture, "run/accepted/b.json"), F_OK), 0);
	stop(fixture);
}

static void test_who_was_first_stays_first(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/z.json", pod("x", "10.0.0.1"));
	WAIT(has_pod(fixture, "x"));
	write_file(fixture, "objects/a.json", pod("x", "10.0.0.2"));
	WAIT(strcmp(file_state(fixture, "a.json"), "unknown") != 0);
	restart(fixture);
	assert_string_equal(source_of(fixture, OBJECT_POD, "x"), "z.json");
	assert_string_equal(file_state(fixture, "a.json"),
			    "Pod shop/x: it is already given by z.json");
	stop(fixture);
}

static void test_cleanup_removes_the_copies(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	start(fixture);
	stop(fixture);
	objects_cleanup(&fixture->agent.config);
	assert_int_equal(rmdir(in_root(fixture, "run")), 0);
}

/* ---- API ------------------------------------------------------------------------------------- */

static int put(const struct fixture *fixture, const char *text, struct errmsg *err)
{
	size_t count = 0;
	int ret = objects_put(fixture->agent.objects, text, strlen(text), &count, err);

	return ret ? ret : (int)count;
}

static int del(const struct fixture *fixture, const char *name, struct errmsg *err)
{
	return objects_del(fixture->agent.objects, OBJECT_POD, "shop", name, err);
}

static void test_api_objects_survive_a_restart(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	char text[1000];
	cJSON *json;

	start(fixture);
	snprintf(text, sizeof(text),
		 "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [%s, %s]}",
		 pod("a", "10.0.0.1"), pod("b", "10.0.0.2"));
	assert_int_equal(put(fixture, text, &err), 2);
	assert_int_equal(synced.policies, 1);
	assert_int_equal(put(fixture, pod("a", "10.0.0.3"), &err), 1);
	assert_int_equal(put(fixture, service("web", "10.96.0.1", 80), &err), 1);
	assert_int_equal(del(fixture, "b", &err), 0);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(source_of(fixture, OBJECT_POD, "a"), "api");
		assert_false(has_pod(fixture, "b"));
		assert_non_null(find(fixture, OBJECT_SERVICE, "web"));
		json = objects_get(fixture->agent.objects, OBJECT_POD, "shop", "a");
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
					    cJSON_GetObjectItem(json, "status"), "podIP")),
				    "10.0.0.3");
		cJSON_Delete(json);
		restart(fixture);
	}
	stop(fixture);
}

static void test_api_takes_all_or_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	char text[1000];

	start(fixture);
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), 1);
	snprintf(text, sizeof(text), "%s%s%s", pod("a", "10.0.0.9"), pod("b", "10.0.0.2"),
		 pod("c", "10.0.0.2"));
	assert_int_equal(put(fixture, text, &err), -EEXIST);
	assert_string_equal(err.text, "Pod shop/c and Pod shop/b both have 10.0.0.2; the other one "
				      "is given by api");
	assert_false(has_pod(fixture, "b"));
	assert_int_equal(find(fixture, OBJECT_POD, "a")->pod.addresses[0].w[3], htonl(0x0a000001));
	assert_int_equal(
		put(fixture, "{\"kind\": \"Pod\", \"apiVersion\": \"v1\", \"metadata\": {}}", &err),
		-EINVAL);
	assert_non_null(strstr(err.text, "metadata.name"));
	restart(fixture);
	assert_true(has_pod(fixture, "a"));
	assert_false(has_pod(fixture, "b"));
	stop(fixture);
}

static void test_files_and_api_keep_off_each_other(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	start(fixture);
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	assert_int_equal(put(fixture, pod("a", "10.0.0.2"), &err), -EPERM);
	assert_string_equal(err.text, "Pod shop/a is given by the file a.json: change it there");
	assert_int_equal(del(fixture, "a", &err), -EPERM);
	assert_int_equal(del(fixture, "none", &err), -ENOENT);
	assert_string_equal(err.text, "Pod shop/none: there is none");

	assert_int_equal(put(fixture, pod("b", "10.0.0.2"), &err), 1);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.3"));
	WAIT(strcmp(file_state(fixture, "b.json"), "unknown") != 0);
	assert_string_equal(file_state(fixture, "b.json"),
			    "Pod shop/b: it is already given by api");
	/* Given up through the API, it is the file's at once. */
	assert_int_equal(del(fixture, "b", &err), 0);
	assert_string_equal(source_of(fixture, OBJECT_POD, "b"), "b.json");
	stop(fixture);
}

static void test_api_undoes_what_cannot_be_saved(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	start(fixture);
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), 1);
	mkdir(in_root(fixture, "run/objects.json.tmp"), 0700);
	assert_true(put(fixture, pod("a", "10.0.0.2"), &err) < 0);
	assert_true(put(fixture, pod("b", "10.0.0.3"), &err) < 0);
	assert_true(del(fixture, "a", &err) < 0);
	assert_false(has_pod(fixture, "b"));
	assert_int_equal(find(fixture, OBJECT_POD, "a")->pod.addresses[0].w[3], htonl(0x0a000001));
	assert_int_equal(synced.policies, 1);
	rmdir(in_root(fixture, "run/objects.json.tmp"));
	assert_int_equal(del(fixture, "a", &err), 0);
	stop(fixture);
}

static void test_damaged_store_is_not_written_over(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	write_file(fixture, "run/objects.json", "{\"apiVersion\": \"v1\", \"ki");
	start(fixture);
	assert_non_null(strstr(file_state(fixture, "objects.json"), "objects.json"));
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), -EIO);
	assert_non_null(strstr(err.text, "repair or remove it"));
	assert_non_null(objects_unknown(fixture->agent.objects));
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	assert_int_equal(synced.deletes, 0);
	stop(fixture);
}

static void test_full_maps_are_told_and_the_object_stays(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	start(fixture);
	synced.error = -ENOSPC;
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), -ENOSPC);
	assert_string_equal(err.text, "stored, but not wholly in force: policy_map is full");
	assert_true(has_pod(fixture, "a"));
	restart(fixture);
	assert_true(has_pod(fixture, "a"));
	stop(fixture);
}

static void test_objects_are_shown_as_given(void **state)
{
	struct fixture *fixture = *state;
	static const char list[] =
		"apiVersion: v1\nkind: PodList\nitems:\n"
		"- metadata: {name: a, namespace: shop, annotations: {x: one}}\n"
		"- metadata: {name: b, namespace: shop, annotations: {x: two}}\n";
	cJSON *json;
	char *text;

	start(fixture);
	write_file(fixture, "objects/b.json", list);
	WAIT(has_pod(fixture, "b"));
	/* What is shown is what is in force, not what somebody is editing. */
	write_file(fixture, "objects/b.json", "{");
	WAIT(strcmp(file_state(fixture, "b.json"), "") != 0);
	for (int i = 1; i >= 0; i--) {
		static const char *const names[] = { "a", "b" };

		json = objects_get(fixture->agent.objects, OBJECT_POD, "shop", names[i]);
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "kind")), "Pod");
		assert_string_equal(
			cJSON_GetStringValue(cJSON_GetObjectItem(
				cJSON_GetObjectItem(cJSON_GetObjectItem(json, "metadata"),
						    "annotations"),
				"x")),
			i ? "two" : "one");
		cJSON_Delete(json);
	}
	assert_null(objects_get(fixture->agent.objects, OBJECT_POD, "shop", "c"));
	/* An edit that changes nothing the agent acts on is shown too. */
	write_file(fixture, "objects/b.json",
		   "apiVersion: v1\nkind: PodList\nitems:\n"
		   "- metadata: {name: a, namespace: shop, annotations: {x: three}}\n"
		   "- metadata: {name: b, namespace: shop}\n");
	WAIT(strcmp(file_state(fixture, "b.json"), "") == 0);
	json = objects_get(fixture->agent.objects, OBJECT_POD, "shop", "a");
	text = cJSON_PrintUnformatted(json);
	assert_non_null(strstr(text, "three"));
	free(text);
	cJSON_Delete(json);
	stop(fixture);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_start_reads_every_file_and_syncs_nothing),
		CASE(test_new_edited_replaced_and_deleted_files),
		CASE(test_bad_file_is_named_and_its_content_stays),
		CASE(test_only_what_changed_is_synced),
		CASE(test_many_services_are_synced_at_once),
		CASE(test_many_files_at_once),
		CASE(test_burst_of_changes_costs_few_runs),
		CASE(test_duplicate_names_the_first_file_and_waits),
		CASE(test_contradiction_names_both_objects_and_the_other_file),
		CASE(test_contradiction_leaves_what_the_file_held),
		CASE(test_objects_swap_files_at_once),
		CASE(test_one_bad_file_does_not_stop_the_others),
		CASE(test_strange_files_are_refused),
		CASE(test_half_written_file_waits_for_its_writer),
		CASE(test_half_rewritten_file_stays_as_it_was),
		CASE(test_hard_link_counts_at_once),
		CASE(test_targets_of_links_are_watched),
		CASE(test_swapped_data_link),
		CASE(test_directory_goes_and_comes),
		CASE(test_directory_may_be_made_later_with_those_above),
		CASE(test_directory_behind_a_link_is_swapped),
		CASE(test_bad_file_at_start_keeps_what_was_in_force),
		CASE(test_deleted_while_the_agent_was_away),
		CASE(test_who_was_first_stays_first),
		CASE(test_cleanup_removes_the_copies),
		CASE(test_api_objects_survive_a_restart),
		CASE(test_api_takes_all_or_nothing),
		CASE(test_files_and_api_keep_off_each_other),
		CASE(test_api_undoes_what_cannot_be_saved),
		CASE(test_damaged_store_is_not_written_over),
		CASE(test_full_maps_are_told_and_the_object_stays),
		CASE(test_objects_are_shown_as_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
