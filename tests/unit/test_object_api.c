/* SPDX-License-Identifier: Apache-2.0 */
/* Objects by the API: kept, undone, beside files, and shown. */
#include "unit/objects_fixture.h"

/* ---- API ------------------------------------------------------------------------------------- */

static const struct object_author author = { .uid = 7, .pid = 77 };

static int put(const struct fixture *fixture, const char *text, struct errmsg *err)
{
	size_t count = 0;
	int ret = objects_put(fixture->objects, &author, text, strlen(text), &count, err);

	return ret ? ret : (int)count;
}

static int del(const struct fixture *fixture, const char *name, struct errmsg *err)
{
	return objects_del(fixture->objects, &author, OBJECT_POD, "shop", name, err);
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
		json = objects_get(fixture->objects, OBJECT_POD, "shop", "a");
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(
					    cJSON_GetObjectItem(json, "status"), "podIP")),
				    "10.0.0.3");
		cJSON_Delete(json);
		restart(fixture);
	}
	stop(fixture);
}

/* What is skipped is neither counted nor kept, wherever it stands. */
static void test_api_skips_kinds_that_are_not_about_the_network(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	char text[2000];

	start(fixture);
	snprintf(text, sizeof(text),
		 "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": "
		 "\"apps/v1\", \"kind\": \"Deployment\", \"metadata\": {\"name\": \"a\"}}, %s]}",
		 pod("a", "10.0.0.1"));
	assert_int_equal(put(fixture, text, &err), 1);
	restart(fixture);
	assert_true(has_pod(fixture, "a"));
	assert_null(objects_unknown(fixture->objects));
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
	assert_int_equal(synced.policies, 4); /* with what was undone, thrice */
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
	assert_non_null(objects_unknown(fixture->objects));
	write_file(fixture, "objects/a.json", pod("a", "10.0.0.1"));
	WAIT(has_pod(fixture, "a"));
	assert_true(synced.missing);
	stop(fixture);
}

/* Damage that is JSON, and would say that there are no objects, or others. */
static void test_damage_that_parses_is_noticed(void **state)
{
	static const char *const texts[] = {
		"",
		" \n",
		"null",
		"{}",
		"[]",
		"{\"apiVersion\": \"v1\", \"kind\": \"List\"}",
		"{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": null}",
		"{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [null]}",
	};
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	char text[1000];
	FILE *file;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		write_file(fixture, "run/objects.json", texts[i]);
		start(fixture);
		if (!objects_unknown(fixture->objects))
			fail_msg("taken for no objects: \"%s\"", texts[i]);
		assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), -EIO);
		stop(fixture);
	}
	unlink(in_root(fixture, "run/objects.json"));
	start(fixture);
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), 1);
	stop(fixture);
	file = fopen(in_root(fixture, "run/objects.json"), "r+");
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	*strstr(text, "10.0.0.1") = '2';
	rewind(file);
	fputs(text, file);
	fclose(file);
	start(fixture);
	assert_non_null(strstr(objects_unknown(fixture->objects), "checksum"));
	assert_false(has_pod(fixture, "a"));
	stop(fixture);
	/* Without its last line, as who repaired it by hand leaves it. */
	*strstr(text, "{\"checksum\"") = '\0';
	write_file(fixture, "run/objects.json", text);
	start(fixture);
	assert_null(objects_unknown(fixture->objects));
	assert_true(has_pod(fixture, "a"));
	/* An empty list was written by us. */
	assert_int_equal(del(fixture, "a", &err), 0);
	restart(fixture);
	assert_null(objects_unknown(fixture->objects));
	stop(fixture);
}

static char *log_text(struct fixture *fixture, int saved)
{
	static char text[1 << 20];
	FILE *log = fopen(in_root(fixture, "log"), "re");

	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	text[fread(text, 1, sizeof(text) - 1, log)] = '\0';
	fclose(log);
	return text;
}

static int log_catch(struct fixture *fixture)
{
	int saved = dup(STDERR_FILENO);
	int fd = open(in_root(fixture, "log"), O_CREAT | O_TRUNC | O_WRONLY, 0600);

	dup2(fd, STDERR_FILENO);
	close(fd);
	return saved;
}

static void test_changes_are_logged_with_who_and_what(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };
	char after[20], line[200], *text;
	int saved;

	log_set_level(LOG_LEVEL_INFO);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.9"));
	saved = log_catch(fixture);
	start(fixture);
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), 1);
	assert_int_equal(put(fixture, pod("a", "10.0.0.2"), &err), 1);
	assert_true(put(fixture, pod("b", "10.0.0.3"), &err) < 0);
	assert_int_equal(del(fixture, "a", &err), 0);
	write_file(fixture, "objects/b.json", pod("b", "10.0.0.8"));
	WAIT(find(fixture, OBJECT_POD, "b")->pod.addresses[0].w[3] == htonl(0x0a000008));
	unlink(in_root(fixture, "objects/b.json"));
	WAIT(!has_pod(fixture, "b"));
	stop(fixture);
	text = log_text(fixture, saved);

	/* Not what was there at the start, and not what was refused. */
	assert_true(
		strstr(text, "audit: applied Pod shop/a of api, by uid 7 pid 77, before none") ==
		strstr(text, "audit:"));
	assert_null(strstr(text, "10.0.0.3"));
	memcpy(after, strstr(text, "after ") + 6, 16);
	after[16] = '\0';
	snprintf(line, sizeof(line),
		 "applied Pod shop/a of api, by uid 7 pid 77, before %s, after ", after);
	assert_non_null(strstr(text, line));
	memcpy(after, strstr(text, line) + strlen(line), 16);
	snprintf(line, sizeof(line),
		 "audit: deleted Pod shop/a of api, by uid 7 pid 77, before %s\n", after);
	assert_non_null(strstr(text, line));
	snprintf(line, sizeof(line), "audit: applied Pod shop/b of b.json, by uid %u, before ",
		 getuid());
	assert_non_null(strstr(text, line));
	assert_null(strstr(strstr(text, line), "before none"));
	assert_non_null(
		strstr(text, "audit: deleted Pod shop/b of b.json, by uid unknown, before "));
}

#define MANY 600 /* far more than the log is given at once */

/* A file of MANY namespaces; all texts are others in another generation. */
static void write_many(struct fixture *fixture, int generation)
{
	auto_free char *list = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&list, &len);

	fprintf(out, "{\"apiVersion\": \"v1\", \"kind\": \"NamespaceList\", \"items\": [");
	for (int i = 0; i < MANY; i++)
		fprintf(out, "%s{\"metadata\": {\"name\": \"n%d\", \"labels\": {\"g\": \"%d\"}}}",
			i ? "," : "", i, generation);
	fprintf(out, "]}");
	fclose(out);
	write_file(fixture, "objects/b.json", list);
}

static bool is_generation(struct fixture *fixture, const char *generation)
{
	const struct object *last = store_find(fixture->store, OBJECT_NAMESPACE, "", "n599");
	const char *value;

	return last && labels_get(&last->ns.labels, "g", &value) && !strcmp(value, generation);
}

static void test_many_changes_are_logged_one_by_one(void **state)
{
	struct fixture *fixture = *state;
	char *text;
	int saved;

	log_set_level(LOG_LEVEL_INFO);
	saved = log_catch(fixture);
	start(fixture);
	write_many(fixture, 1);
	WAIT(is_generation(fixture, "1"));
	write_many(fixture, 2);
	WAIT(is_generation(fixture, "2"));
	unlink(in_root(fixture, "objects/b.json"));
	WAIT(!store_find(fixture->store, OBJECT_NAMESPACE, "", "n599"));
	stop(fixture);
	text = log_text(fixture, saved);
	for (int i = 0; i < MANY; i++) {
		char line[120], hashes[3][17];
		const char *found;

		snprintf(line, sizeof(line), "audit: applied Namespace n%d of b.json, by uid %u, ",
			 i, getuid());
		found = strstr(text, line);
		assert_non_null(found);
		found += strlen(line);
		assert_int_equal(sscanf(found, "before none, after %16s", hashes[0]), 1);
		found = strstr(found, line);
		assert_non_null(found);
		found += strlen(line);
		assert_int_equal(sscanf(found, "before %16[^,], after %16s", hashes[1], hashes[2]),
				 2);
		assert_string_equal(hashes[0], hashes[1]);
		snprintf(line, sizeof(line),
			 "audit: deleted Namespace n%d of b.json, by uid unknown, before %s\n", i,
			 hashes[2]);
		assert_non_null(strstr(found, line));
	}
}

static void test_empty_text_is_not_applied(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	start(fixture);
	assert_int_equal(put(fixture, "# nothing\n", &err), -EINVAL);
	assert_non_null(strstr(err.text, "no objects"));
	assert_int_equal(
		put(fixture, "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}", &err),
		0);
	stop(fixture);
}

static void test_full_maps_are_told_and_the_object_stays(void **state)
{
	struct fixture *fixture = *state;
	struct errmsg err = { 0 };

	start(fixture);
	synced.error = -ENOSPC;
	assert_int_equal(put(fixture, pod("a", "10.0.0.1"), &err), -ENOSPC);
	assert_string_equal(err.text, "stored, but not completely in force: policy_map is full");
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

		json = objects_get(fixture->objects, OBJECT_POD, "shop", names[i]);
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "kind")), "Pod");
		assert_string_equal(
			cJSON_GetStringValue(cJSON_GetObjectItem(
				cJSON_GetObjectItem(cJSON_GetObjectItem(json, "metadata"),
						    "annotations"),
				"x")),
			i ? "two" : "one");
		cJSON_Delete(json);
	}
	assert_null(objects_get(fixture->objects, OBJECT_POD, "shop", "c"));
	/* An edit that changes nothing the agent acts on is shown too. */
	write_file(fixture, "objects/b.json",
		   "apiVersion: v1\nkind: PodList\nitems:\n"
		   "- metadata: {name: a, namespace: shop, annotations: {x: three}}\n"
		   "- metadata: {name: b, namespace: shop}\n");
	WAIT(strcmp(file_state(fixture, "b.json"), "") == 0);
	json = objects_get(fixture->objects, OBJECT_POD, "shop", "a");
	text = cJSON_PrintUnformatted(json);
	assert_non_null(strstr(text, "three"));
	free(text);
	cJSON_Delete(json);
	stop(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_api_objects_survive_a_restart),
		CASE(test_api_skips_kinds_that_are_not_about_the_network),
		CASE(test_api_takes_all_or_nothing),
		CASE(test_files_and_api_keep_off_each_other),
		CASE(test_api_undoes_what_cannot_be_saved),
		CASE(test_damaged_store_is_not_written_over),
		CASE(test_damage_that_parses_is_noticed),
		CASE(test_changes_are_logged_with_who_and_what),
		CASE(test_many_changes_are_logged_one_by_one),
		CASE(test_empty_text_is_not_applied),
		CASE(test_full_maps_are_told_and_the_object_stays),
		CASE(test_objects_are_shown_as_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
