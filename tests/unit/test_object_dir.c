/* SPDX-License-Identifier: Apache-2.0 */
/* What may lie in an objects directory, how it may change, and what restarts keep. */
#include "unit/objects_fixture.h"

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
	assert_non_null(strstr(file_state(fixture, "link.json"), "link without a target"));
	assert_non_null(strstr(file_state(fixture, "loop.json"), "symbolic links"));
	assert_non_null(strstr(file_state(fixture, "huge.json"), "larger than 64 MiB"));
	assert_non_null(strstr(file_state(fixture, "nul.json"), "NUL"));
	stop(fixture);
}

#define DEPLOYMENT \
	"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n---\n"

/* The rule of kind.h holds for files, too: a manifest is taken although other kinds are in it. */
static void test_kinds_that_are_not_about_the_network_are_skipped(void **state)
{
	struct fixture *fixture = *state;
	char text[1000];

	snprintf(text, sizeof(text), DEPLOYMENT "%s", service("one", "10.96.0.1", 80));
	write_file(fixture, "objects/b.yaml", text);
	start(fixture);
	assert_string_equal(file_state(fixture, "b.yaml"), "");
	assert_non_null(find(fixture, OBJECT_SERVICE, "one"));
	stop(fixture);
}

static void test_policy_that_nobody_would_enforce_is_refused(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "objects/b.yaml",
		   DEPLOYMENT
		   "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: "
		   "p, namespace: shop}\n");
	start(fixture);
	assert_non_null(strstr(file_state(fixture, "b.yaml"), "write it as a NetworkPolicy"));
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
	objects_reload(fixture->objects);
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
	/* A directory that is gone deletes nothing. */
	rename(in_root(fixture, "objects"), in_root(fixture, "away"));
	WAIT(strstr(dir_state(fixture), "No such file"));
	assert_true(has_pod(fixture, "a"));
	assert_string_equal(file_state(fixture, "a.json"), "");
	assert_null(objects_unknown(fixture->objects)); /* nothing is missing */
	rename(in_root(fixture, "away"), in_root(fixture, "objects"));
	WAIT(strcmp(dir_state(fixture), "unknown") == 0);
	assert_true(has_pod(fixture, "a"));
	unlink(in_root(fixture, "objects/a.json"));
	WAIT(!has_pod(fixture, "a"));
	rmdir(in_root(fixture, "objects"));
	WAIT(strstr(dir_state(fixture), "No such file"));
	mkdir(in_root(fixture, "objects"), 0755);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	assert_string_equal(dir_state(fixture), "unknown");
	stop(fixture);
}

static void test_removed_directory_deletes_nothing(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	/* Both at once, as "rm -r" does it. */
	unlink(in_root(fixture, "objects/b.json"));
	rmdir(in_root(fixture, "objects"));
	WAIT(strstr(dir_state(fixture), "No such file"));
	assert_true(has_pod(fixture, "b"));
	/* An empty one in its place says no more. */
	mkdir(in_root(fixture, "objects"), 0755);
	WAIT(strstr(dir_state(fixture), "a different directory"));
	assert_true(has_pod(fixture, "b"));
	write_file(fixture, "objects/c.json", pod("c", "10.0.0.2"));
	WAIT(has_pod(fixture, "c") && !has_pod(fixture, "b"));
	assert_string_equal(dir_state(fixture), "unknown");
	stop(fixture);
}

/* Such as a mount point whose filesystem went: no event tells of that, but another file's may. */
static void test_replaced_directory_is_noticed_with_any_event(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	mkdir(in_root(fixture, "empty"), 0755);
	assert_int_equal(renameat2(AT_FDCWD, in_root(fixture, "objects"), AT_FDCWD,
				   in_root(fixture, "empty"), RENAME_EXCHANGE),
			 0);
	unlink(in_root(fixture, "empty/b.json"));
	WAIT(strstr(dir_state(fixture), "a different directory"));
	assert_true(has_pod(fixture, "b"));
	stop(fixture);
}

static const char *const empty_texts[] = {
	"", " \n\n", "# nothing left\n", "null\n", "---\n---\n", "\xef\xbb\xbf",
};

static void test_emptied_file_deletes_nothing(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(empty_texts); i++) {
		write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
		WAIT(has_pod(fixture, "b") && strcmp(file_state(fixture, "b.json"), "") == 0);
		write_file(fixture, "objects/b.json", empty_texts[i]);
		WAIT(strstr(file_state(fixture, "b.json"), "remove the file"));
		assert_true(has_pod(fixture, "b"));
	}
	write_file(fixture, "objects/b.json",
		   "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [null]}");
	WAIT(strstr(file_state(fixture, "b.json"), "item 1: null"));
	assert_true(has_pod(fixture, "b"));
	/* What says that there is nothing is not empty. */
	write_file(fixture, "objects/b.json",
		   "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}");
	WAIT(!has_pod(fixture, "b"));
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	unlink(in_root(fixture, "objects/b.json"));
	WAIT(!has_pod(fixture, "b"));
	stop(fixture);
}

static void test_directory_may_be_made_later_with_those_above(void **state)
{
	struct fixture *fixture = *state;

	snprintf(fixture->dir, sizeof(fixture->dir), "%s/etc/tendril/objects/", fixture->root);
	start(fixture);
	assert_non_null(strstr(objects_unknown(fixture->objects), "No such file"));
	mkdir(in_root(fixture, "etc"), 0755);
	mkdir(in_root(fixture, "etc/tendril"), 0755);
	mkdir(in_root(fixture, "etc/tendril/objects"), 0755);
	write_file(fixture, "etc/tendril/objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	assert_null(objects_unknown(fixture->objects));
	assert_null(synced.missing);
	assert_true(synced.all_services > 0);
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

/* A reboot empties the run directory: what a bad file held is not known any more. */
static void reboot(struct fixture *fixture, const char *file, const char *text)
{
	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	stop(fixture);
	write_file(fixture, file, text);
	unlink(in_root(fixture, "run/accepted/b.json"));
	start(fixture);
	assert_non_null(objects_unknown(fixture->objects));
	assert_non_null(strstr(objects_unknown(fixture->objects), "b.json"));
	/* What others hold comes in, but nothing is taken back. */
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.9"));
	WAIT(has_pod(fixture, "a"));
	assert_false(has_pod(fixture, "b"));
	assert_non_null(objects_unknown(fixture->objects));
	assert_non_null(synced.missing);
	synced.policies = 0;
	synced.all_services = 0;
}

static void known_again(struct fixture *fixture)
{
	WAIT(!objects_unknown(fixture->objects));
	assert_null(synced.missing);
	assert_true(synced.policies > 0 && synced.all_services > 0);
	stop(fixture);
	unlink(in_root(fixture, "objects/a.json"));
}

static void test_bad_file_after_a_reboot_is_not_known(void **state)
{
	struct fixture *fixture = *state;

	reboot(fixture, "objects/b.json", "{");
	write_file(fixture, "objects/b.json", "[}"); /* still bad */
	WAIT(strstr(objects_unknown(fixture->objects), "}"));
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	known_again(fixture);

	reboot(fixture, "objects/b.json", "{");
	unlink(in_root(fixture, "objects/b.json"));
	known_again(fixture);

	for (size_t i = 0; i < ARRAY_SIZE(empty_texts); i++) {
		reboot(fixture, "objects/b.json", empty_texts[i]);
		unlink(in_root(fixture, "objects/b.json"));
		known_again(fixture);
	}
}

static void test_contradicted_file_after_a_reboot_is_not_known(void **state)
{
	struct fixture *fixture = *state;

	/* Who is first differs with the copies gone. */
	start(fixture);
	write_file(fixture, "objects/c.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.2"));
	WAIT(strstr(file_state(fixture, "b.json"), "already given"));
	assert_null(objects_unknown(fixture->objects));
	stop(fixture);
	start(fixture);
	assert_non_null(strstr(objects_unknown(fixture->objects), "b.json"));
	unlink(in_root(fixture, "objects/c.json"));
	WAIT(strcmp(source_of(fixture, OBJECT_POD, "b"), "b.json") == 0);
	assert_null(objects_unknown(fixture->objects));
	stop(fixture);
}

/* A new file that is bad from the start takes nothing away: it is refused and told, no more. */
static void test_new_bad_file_is_refused_only(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	write_file(fixture, "objects/b.json", "{");
	WAIT(strcmp(file_state(fixture, "b.json"), "unknown") != 0);
	assert_null(objects_unknown(fixture->objects));
	stop(fixture);
}

static void test_damaged_copy_is_not_put_in_force(void **state)
{
	struct fixture *fixture = *state;
	char text[1000];
	FILE *file;

	start(fixture);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.1"));
	WAIT(has_pod(fixture, "b"));
	stop(fixture);
	file = fopen(in_root(fixture, "run/accepted/b.json"), "r+");
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	*strstr(text, "10.0.0.1") = '2'; /* and it parses */
	rewind(file);
	fputs(text, file);
	fclose(file);
	write_file(fixture, "objects/b.json", "{");
	start(fixture);
	assert_false(has_pod(fixture, "b"));
	assert_non_null(objects_unknown(fixture->objects));
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
	objects_cleanup(fixture->run_dir);
	assert_int_equal(rmdir(in_root(fixture, "run")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_strange_files_are_refused),
		CASE(test_kinds_that_are_not_about_the_network_are_skipped),
		CASE(test_policy_that_nobody_would_enforce_is_refused),
		CASE(test_half_written_file_waits_for_its_writer),
		CASE(test_half_rewritten_file_stays_as_it_was),
		CASE(test_hard_link_counts_at_once),
		CASE(test_targets_of_links_are_watched),
		CASE(test_swapped_data_link),
		CASE(test_directory_goes_and_comes),
		CASE(test_removed_directory_deletes_nothing),
		CASE(test_replaced_directory_is_noticed_with_any_event),
		CASE(test_emptied_file_deletes_nothing),
		CASE(test_bad_file_after_a_reboot_is_not_known),
		CASE(test_contradicted_file_after_a_reboot_is_not_known),
		CASE(test_new_bad_file_is_refused_only),
		CASE(test_damaged_copy_is_not_put_in_force),
		CASE(test_directory_may_be_made_later_with_those_above),
		CASE(test_directory_behind_a_link_is_swapped),
		CASE(test_bad_file_at_start_keeps_what_was_in_force),
		CASE(test_deleted_while_the_agent_was_away),
		CASE(test_who_was_first_stays_first),
		CASE(test_cleanup_removes_the_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
