/* SPDX-License-Identifier: Apache-2.0 */
/* What files of the objects directory put in force, and what contradicts. */
#include "lib/clock.h"
#include "unit/objects_fixture.h"

/* ---- files ----------------------------------------------------------------------------------- */

static void test_start_reads_every_file_and_syncs_nothing(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	write_file(fixture, "objects/b.yaml", service("web", "10.96.0.1", 80));
	write_file(fixture, "objects/c.yml", "apiVersion: v1\nkind: List\nitems: []\n");
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
	WAIT(synced.all_services > 0);
	assert_non_null(find(fixture, OBJECT_SERVICE, "s99"));
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
	WAIT(store_count(fixture->store, OBJECT_POD) == 200);
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
	WAIT(store_count(fixture->store, OBJECT_POD) == 1001);
	assert_in_range(synced.policies, 2, 12);
	synced.meanwhile = NULL;
	stop(fixture);
}

static void take_long(void *arg)
{
	uint64_t *ended_ns = arg;

	if (*ended_ns) /* the second run */
		return;
	usleep(2000000);
	*ended_ns = now_ns();
}

/* What changes after a run of seconds is not put off for seconds. */
static void test_a_long_run_is_followed_by_a_short_pause(void **state)
{
	struct fixture *fixture = *state;
	uint64_t ended_ns = 0;

	start(fixture);
	synced.meanwhile = take_long;
	synced.meanwhile_arg = &ended_ns;
	write_file(fixture, "objects/a.json", pod("a", "10.1.0.1"));
	WAIT(ended_ns);
	write_file(fixture, "objects/b.json", pod("b", "10.1.0.2"));
	WAIT(store_count(fixture->store, OBJECT_POD) == 2);
	assert_in_range(now_ns() - ended_ns, 0, 1900000000);
	stop(fixture);
}

/* ---- contradictions -------------------------------------------------------------------------- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	++*(unsigned int *)arg;
}

/* The loop goes on while a large text is read, and what changes meanwhile is not lost. */
static void test_large_file_is_read_in_slices(void **state)
{
	static const struct timeval often = { .tv_usec = 500 };
	struct fixture *fixture = *state;
	unsigned int ticks = 0;
	struct event *tick;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	for (int i = 0; i < 5000; i++)
		fprintf(out,
			"---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: p%d\n  namespace: "
			"shop\n"
			"  labels:\n    app: web\n    tier: front\n",
			i);
	fclose(out);
	start(fixture);
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	write_file(fixture, "objects/b.yaml", text);
	free(text);
	tick = event_new(fixture->base, -1, EV_PERSIST, on_tick, &ticks);
	event_add(tick, &often);
	for (bool told = false; !has_pod(fixture, "p4999");) {
		event_base_loop(fixture->base, EVLOOP_ONCE);
		if (ticks > 10 && !told) {
			write_file(fixture, "objects/a.json", pod("a2", "10.0.0.1"));
			write_file(fixture, "objects/c.json", pod("c", "10.0.0.3"));
			told = true;
		}
	}
	assert_true(ticks > 20); /* at once, it would take three or four */
	WAIT(has_pod(fixture, "a2") && has_pod(fixture, "c"));
	event_free(tick);
	stop(fixture);
}

static void test_stopping_ends_what_is_being_read(void **state)
{
	struct fixture *fixture = *state;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	for (int i = 0; i < 5000; i++)
		fprintf(out, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n%d}\n", i);
	fclose(out);
	start(fixture);
	write_file(fixture, "objects/b.yaml", text);
	free(text);
	for (int i = 0; i < 10; i++)
		event_base_loop(fixture->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	stop(fixture);
}

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
		CASE(test_a_long_run_is_followed_by_a_short_pause),
		CASE(test_large_file_is_read_in_slices),
		CASE(test_stopping_ends_what_is_being_read),
		CASE(test_duplicate_names_the_first_file_and_waits),
		CASE(test_contradiction_names_both_objects_and_the_other_file),
		CASE(test_contradiction_leaves_what_the_file_held),
		CASE(test_objects_swap_files_at_once),
		CASE(test_one_bad_file_does_not_stop_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
