/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/stores.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/auto.h"
#include "policy/analysis/explain.h"
#include "policy/compiler/verdict.h"

#include <cmocka.h> /* last: it makes fail a macro */

const char two_namespaces[] = "\n\
apiVersion: v1\n\
kind: List\n\
items:\n\
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: retail}}}\n\
- {apiVersion: v1, kind: Namespace, metadata: {name: bank, labels: {team: money}}}\n\
- apiVersion: v1\n\
  kind: Pod\n\
  metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}\n\
  status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n\
- apiVersion: v1\n\
  kind: Pod\n\
  metadata: {name: cart, namespace: shop, labels: {app: cart}}\n\
  spec:\n\
    containers:\n\
    - ports:\n\
      - {name: http, containerPort: 8080}\n\
      - {name: dns, containerPort: 53, protocol: UDP}\n\
      - {name: dns, containerPort: 5353, protocol: TCP}\n\
  status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}\n\
- apiVersion: v1\n\
  kind: Pod\n\
  metadata: {name: db, namespace: shop, labels: {app: db}}\n\
  spec: {containers: [{ports: [{name: http, containerPort: 9090}]}]}\n\
  status: {podIPs: [{ip: 10.0.0.3}, {ip: 'fd00::3'}]}\n\
- apiVersion: v1\n\
  kind: Pod\n\
  metadata: {name: teller, namespace: bank, labels: {app: web}}\n\
  status: {podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1:1'}]}\n\
- apiVersion: v1\n\
  kind: Pod\n\
  metadata: {name: vault, namespace: bank, labels: {app: vault}}\n\
  status: {podIPs: [{ip: 10.0.1.2}, {ip: 'fd00::1:2'}]}\n\
";

void store_add(struct store *store, const char *text)
{
	struct problems problems = { 0 };
	struct object_list list;
	struct errmsg err = { 0 };
	char line[600];

	if (objects_parse(text, strlen(text), 0, &list, &problems) != 0)
		fail_msg("%s", problem_format(&problems.items[0], "text", line, sizeof(line)));
	for (size_t i = 0; i < list.count; i++) {
		if (store_put(store, list.items[i], &err) < 0)
			fail_msg("%s", err.text);
	}
	free(list.items);
	problems_done(&problems);
}

struct store *store_of(const char *first, const char *second)
{
	struct store *store = store_new();

	assert_non_null(store);
	store_add(store, first);
	if (second)
		store_add(store, second);
	return store;
}

const char *problems_of(const char *text, unsigned int flags, char *buf, size_t size)
{
	struct problems problems = { 0 };
	struct object_list list;
	size_t errors;
	int ret = objects_parse(text, strlen(text), flags, &list, &problems);

	buf[0] = '\0';
	errors = 0;
	for (size_t i = 0; i < problems.count; i++) {
		size_t used = strlen(buf);
		char line[600];

		problem_format(&problems.items[i], NULL, line, sizeof(line));
		snprintf(buf + used, size - used, "%s%s", used ? "\n" : "", line);
		errors += !problems.items[i].warning;
	}
	assert_int_equal(errors, problems.errors);
	assert_int_equal(ret, errors ? -EINVAL : 0);
	assert_true(errors == 0 || list.count == 0);
	object_list_done(&list);
	problems_done(&problems);
	return buf;
}

struct compiled *store_compile(const struct store *store)
{
	return policy_compile(store);
}

static bool is_host(const struct store *store, const struct addr *addr)
{
	const struct addr *hosts;
	size_t count = store_host_addresses(store, &hosts);

	for (size_t i = 0; i < count; i++) {
		if (addr_equal(&hosts[i], addr))
			return true;
	}
	return false;
}

static struct explain_end end_of(const struct store *store, const char *text)
{
	struct explain_end end = { .has_addr = true };
	char namespace[64] = "";
	const char *slash = strchr(text, '/');

	if (addr_parse(text, &end.addr) == 0) {
		end.pod = store_owner(store, &end.addr);
		end.is_host = is_host(store, &end.addr);
		return end;
	}
	assert_non_null(slash);
	memcpy(namespace, text, (size_t)(slash - text));
	end.pod = store_find(store, OBJECT_POD, namespace, slash + 1);
	assert_non_null(end.pod);
	end.addr = end.pod->pod.addresses[0];
	end.is_host = is_host(store, &end.addr);
	return end;
}

enum drop_reason store_ask(const struct store *store, const char *from, const char *to,
			   const char *port)
{
	struct compiled *compiled = store_compile(store);
	struct explain_end source = end_of(store, from);
	struct explain_end destination = end_of(store, to);
	struct flow flow = { .saddr = source.addr, .daddr = destination.addr };
	struct explanation explanation;
	enum drop_reason reason;
	uint64_t number;
	char text[16];

	snprintf(text, sizeof(text), "%.*s", (int)strcspn(port, "/"), port);
	assert_int_equal(number_parse(text, 0, 65535, &number), 0);
	assert_int_equal(proto_parse(strchr(port, '/') + 1, &flow.proto), 0);
	flow.dport = htons((uint16_t)number);
	flow.sport = htons(40000);
	reason = verdict_flow(compiled, &flow);
	explanation = policy_explain(store, &source, &destination, flow.proto, (uint16_t)number);
	if (explanation.egress.verdict == VERDICT_DENY)
		assert_int_equal(reason, DROP_EGRESS_DENIED);
	else if (explanation.ingress.verdict == VERDICT_DENY)
		assert_int_equal(reason, DROP_INGRESS_DENIED);
	else
		assert_int_equal(reason, DROP_NONE);
	explanation_done(&explanation);
	compiled_free(compiled);
	return reason;
}

void store_ask_all(const struct store *store, const struct store_query *queries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int got = (int)store_ask(store, queries[i].from, queries[i].to, queries[i].port);

		if (got != queries[i].want)
			fail_msg("%s -> %s %s: %d, not %d", queries[i].from, queries[i].to,
				 queries[i].port, got, queries[i].want);
	}
}
