/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's answers about services, for tests/policy/test_service_oracle.py.  Input: worlds,
 * each a line "BYTES EXTERNAL_IPS ADDRESS,ADDRESS..." (of the node) and so many bytes of objects.
 * Output: for each frontend a line "ADDRESS PORT PROTOCOL KIND FLAGS cluster=A:P,...
 * local=A:P,...", then an empty line.  FLAGS: L for Local policy, R for source ranges.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/objects/parse.h"
#include "policy/objects/service.h"

#define HOSTS_MAX 16

static void backends_print(const char *name, const struct service_pool *pool, enum backend_use use)
{
	char text[ADDR_TEXT_MAX];
	const char *comma = "";

	printf(" %s=", name);
	for (size_t i = 0; i < pool->backend_count; i++) {
		if (!(pool->backends[i].use & use))
			continue;
		printf("%s%s:%u", comma, addr_format(&pool->backends[i].addr, text),
		       pool->backends[i].port);
		comma = ",";
	}
}

static void service_print(const struct store *store, const struct object *service,
			  const struct service_node *node)
{
	static const char *const kinds[] = { "ClusterIP", "NodePort", "LoadBalancer",
					     "ExternalIP" };
	struct service_frontends frontends = service_frontends(store, service, node);
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < frontends.count; i++) {
		const struct service_frontend *frontend = &frontends.items[i];
		bool ranges =
			frontend->kind == LOAD_BALANCER && service->service.source_range_count;

		printf("%s %u %s %s %s%s.", addr_format(&frontend->addr, text), frontend->port,
		       proto_name(frontend->proto), kinds[frontend->kind],
		       service_is_local(&service->service, frontend->kind) ? "L" : "",
		       ranges ? "R" : "");
		backends_print("cluster", frontend->pool, USE_CLUSTER);
		backends_print("local", frontend->pool, USE_LOCAL);
		printf("\n");
	}
	service_frontends_done(&frontends);
}

static int world_read(struct store *store, const char *text, size_t len)
{
	struct problems problems = { 0 };
	struct object_list list;
	char line[400];
	int ret = objects_parse(text, len, 0, &list, &problems);

	if (ret) {
		fprintf(stderr, "%s\n",
			problem_format(&problems.items[0], NULL, line, sizeof(line)));
		problems_done(&problems);
		return ret;
	}
	for (size_t i = 0; i < list.count && !ret; i++) {
		ret = store_put(store, list.items[i], NULL);
		list.items[i] = NULL;
	}
	object_list_done(&list);
	problems_done(&problems);
	return ret;
}

static void hosts_set(struct store *store, char *text)
{
	struct addr hosts[HOSTS_MAX];
	size_t count = 0;
	char *save = NULL;

	for (char *each = strtok_r(text, ",", &save); each && count < HOSTS_MAX;
	     each = strtok_r(NULL, ",", &save)) {
		if (addr_parse(each, &hosts[count]) == 0)
			count++;
	}
	store_host_addresses_set(store, hosts, count);
}

static int world_answer(size_t len, unsigned int external_ips, char *hosts)
{
	const struct service_settings settings = { .external_ips = external_ips };
	struct store *store = store_new();
	auto_free char *text = malloc(len + 1);
	struct service_node node;
	int ret;

	if (!text || fread(text, 1, len, stdin) != len) {
		store_free(store);
		return -1;
	}
	text[len] = '\0';
	hosts_set(store, hosts);
	ret = world_read(store, text, len);
	service_node_init(&node, store, &settings);
	for (const struct object *service = store_first(store, OBJECT_SERVICE); service && !ret;
	     service = store_next(store, service))
		service_print(store, service, &node);
	printf(".\n");
	service_node_done(&node);
	store_free(store);
	return ret;
}

int main(void)
{
	unsigned int external_ips;
	char hosts[1000];
	size_t len;

	while (scanf("%zu %u %999s", &len, &external_ips, hosts) == 3 && getchar() == '\n') {
		if (world_answer(len, external_ips, hosts))
			return 1;
	}
	return 0;
}
