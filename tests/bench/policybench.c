/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What policy costs at size: PODS pods and as many policies in 100 namespaces, every pod with
 * labels of its own.
 *
 *     policybench [PODS]           10000
 *
 * Prints one JSON object: the compile of everything (milliseconds and the memory it adds), and, for
 * single changes, milliseconds from the object to the maps of a node with 250 of the pods
 * ("node", the median of 21), and to the tables alone where every pod is a subject ("cluster").
 * Needs root: the maps are the kernel's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/sync/sync.h"
#include "datapath/maps.h"
#include "harness/scratch.h"
#include "policy/compiler/incremental.h"
#include "policy/objects/parse.h"

#define NAMESPACES 100
#define ENDPOINTS  250
#define ROUNDS     21

static int pods = 10000;

static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

/* ---- the store ---- */

static void put(struct store *store, const char *text)
{
	struct problems problems = { 0 };
	struct object_list list = { 0 };
	struct errmsg err = { 0 };

	if (objects_parse(text, strlen(text), 0, &list, &problems))
		give_up("parse", text);
	for (size_t i = 0; i < list.count; i++) {
		if (store_put(store, list.items[i], &err))
			give_up("put", err.text);
	}
	list.count = 0;
	object_list_done(&list);
	problems_done(&problems);
}

static void put_namespace(struct store *store, int number, const char *team)
{
	char text[300];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"n%d\","
		 "\"labels\":{\"team\":\"%s\"}}}",
		 number, team);
	put(store, text);
}

static void put_pod(struct store *store, int number, int app)
{
	char text[400];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p%d\","
		 "\"namespace\":\"n%d\",\"labels\":{\"app\":\"a%d\"}},"
		 "\"status\":{\"podIP\":\"10.%d.%d.%d\"}}",
		 number, number % NAMESPACES, app, 1 + number / 62500, number / 250 % 250,
		 1 + number % 250);
	put(store, text);
}

/* Each policy selects one pod, and allows the next one of the namespace and another team. */
static void put_policy(struct store *store, int number, int port)
{
	char text[700];

	snprintf(text, sizeof(text),
		 "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"NetworkPolicy\","
		 "\"metadata\":{\"name\":\"r%d\",\"namespace\":\"n%d\"},\"spec\":{"
		 "\"podSelector\":{\"matchLabels\":{\"app\":\"a%d\"}},\"ingress\":[{\"from\":["
		 "{\"podSelector\":{\"matchLabels\":{\"app\":\"a%d\"}}},"
		 "{\"namespaceSelector\":{\"matchLabels\":{\"team\":\"t%d\"}},"
		 "\"podSelector\":{\"matchLabels\":{\"app\":\"a%d\"}}}],"
		 "\"ports\":[{\"port\":%d}]}]}}",
		 number, number % NAMESPACES, number / NAMESPACES, number / NAMESPACES + 1,
		 number % 10, number / NAMESPACES, port);
	put(store, text);
}

static struct store *store_make(void)
{
	struct store *store = store_new();
	char team[16];

	for (int i = 0; i < NAMESPACES; i++) {
		snprintf(team, sizeof(team), "t%d", i % 10);
		put_namespace(store, i, team);
	}
	for (int i = 0; i < pods; i++) {
		put_pod(store, i, i / NAMESPACES);
		put_policy(store, i, 80);
	}
	return store;
}

static void endpoint_put(struct store *store, int number)
{
	struct store_endpoint endpoint = { .slot = (uint16_t)(number + 1), .address_count = 1 };
	const struct object *pod;
	char namespace[16];
	char name[16];

	snprintf(namespace, sizeof(namespace), "n%d", number % NAMESPACES);
	snprintf(name, sizeof(name), "p%d", number);
	endpoint.namespace = namespace;
	endpoint.name = name;
	pod = store_find(store, OBJECT_POD, namespace, name);
	endpoint.addresses[0] = pod->pod.addresses[0];
	store_endpoint_set(store, &endpoint);
}

/* ---- changes ---- */

/* In odd rounds something is as it was not before, in even rounds it is so again. */
static void change_pod_label(struct store *store, int round)
{
	put_pod(store, 7, round % 2 ? 8 : 0);
}

static void change_namespace_label(struct store *store, int round)
{
	put_namespace(store, 7, round % 2 ? "t8" : "t7");
}

static void change_pod(struct store *store, int round)
{
	char name[16];

	snprintf(name, sizeof(name), "p%d", pods + 7);
	if (round % 2)
		put_pod(store, pods + 7, 3);
	else
		store_del(store, OBJECT_POD, "n7", name);
}

static void change_policy(struct store *store, int round)
{
	put_policy(store, 7, round % 2 ? 81 : 80);
}

static void change_policies(struct store *store, int round)
{
	char name[16];

	snprintf(name, sizeof(name), "r%d", 107);
	if (round % 2)
		store_del(store, OBJECT_NETWORK_POLICY, "n7", name);
	else
		put_policy(store, 107, 80);
}

static const struct {
	const char *name;
	void (*change)(struct store *store, int round);
} changes[] = {
	{ "pod_label", change_pod_label },           { "namespace_label", change_namespace_label },
	{ "pod_comes_or_goes", change_pod },         { "policy_changed", change_policy },
	{ "policy_comes_or_goes", change_policies },
};

/* ---- measuring ---- */

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int double_compare(const void *a, const void *b)
{
	double left = *(const double *)a;
	double right = *(const double *)b;

	return (left > right) - (left < right);
}

static void measure(const char *prefix, struct store *store, int (*update)(void *arg), void *arg)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		double times[ROUNDS];

		/* An even number of rounds first: the last one puts things back. */
		for (int round = -1; round < ROUNDS; round++) {
			double began;

			changes[i].change(store, round + 2);
			began = now_ms();
			if (update(arg))
				give_up(changes[i].name, "failed");
			if (round >= 0)
				times[round] = now_ms() - began;
		}
		qsort(times, ROUNDS, sizeof(*times), double_compare);
		printf(",\n  \"%s_%s_ms\": %.3f", prefix, changes[i].name, times[ROUNDS / 2]);
	}
}

/* The most memory that was resident since peak_reset().  Not by getrusage(): its peak is also that
 * of whoever started us. */
static double peak_mib(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[128];
	double mib = 0;

	while (status && fgets(line, sizeof(line), status)) {
		if (strncmp(line, "VmHWM:", 6) == 0)
			mib = strtod(line + 6, NULL) / 1024;
	}
	if (!mib)
		give_up("/proc/self/status", "no VmHWM");
	fclose(status);
	return mib;
}

static void peak_reset(void)
{
	FILE *file = fopen("/proc/self/clear_refs", "we");

	if (!file || fputs("5", file) < 0 || fclose(file))
		give_up("/proc/self/clear_refs", "refused");
}

static void measure_compile(const struct store *store)
{
	struct compiled *compiled;
	double before;
	double began;

	peak_reset();
	before = peak_mib();
	began = now_ms();
	compiled = policy_compile(store);
	printf("{\n  \"pods\": %d,\n  \"policies\": %d,\n  \"compile_ms\": %.1f", pods, pods,
	       now_ms() - began);
	printf(",\n  \"compile_mib\": %.1f,\n  \"entries\": %zu", peak_mib() - before,
	       compiled->entry_count);
	compiled_free(compiled);
}

static int update_tables(void *arg)
{
	incremental_update(arg);
	return 0;
}

static int update_maps(void *arg)
{
	return sync_policies(arg, NULL);
}

static void measure_cluster(struct store *store)
{
	struct incremental *incremental = incremental_new(store);

	update_tables(incremental);
	measure("cluster", store, update_tables, incremental);
	incremental_free(incremental);
}

static void measure_node(struct store *store)
{
	struct datapath_options options = scratch_options();
	struct endpoint_entry wired = { .flags = ENDPOINT_VALID };
	struct datapath *datapath;
	struct errmsg err = { 0 };
	struct sync *sync;
	double began;

	if (datapath_open(&options, &datapath, &err))
		give_up("datapath", err.text);
	for (int i = 0; i < ENDPOINTS; i++) {
		endpoint_put(store, i);
		if (endpoint_map_set(datapath, (uint16_t)(i + 1), &wired))
			give_up("endpoint_map", "refused");
	}
	if (sync_new(NULL, datapath, store, &sync, &err))
		give_up("sync", err.text);
	sync_set_missing(sync, NULL);
	began = now_ms();
	if (sync_policies(sync, &err))
		give_up("sync", err.text);
	printf(",\n  \"node_first_ms\": %.1f", now_ms() - began);
	measure("node", store, update_maps, sync);
	sync_free(sync);
	datapath_close(datapath);
}

int main(int argc, char **argv)
{
	struct errmsg err = { 0 };
	struct store *store;

	if (argc > 1)
		pods = (int)strtol(argv[1], NULL, 10);
	if (pods < 1000 || pods > 50000 || pods % NAMESPACES)
		give_up("policybench", "PODS is a multiple of 100 between 1000 and 50000");
	if (scratch_init(&err))
		give_up("policybench", err.text);
	store = store_make();
	measure_compile(store);
	measure_cluster(store);
	measure_node(store);
	printf("\n}\n");
	store_free(store);
	scratch_done();
	return 0;
}
