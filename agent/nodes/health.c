/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One timer walks the Node objects, so that the questions are spread over the minute.  A node that
 * has not been asked yet has no entry; an entry without a node goes when the walk begins anew.
 */
#include "agent/nodes/health.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/nodes/nodes_internal.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/histogram.h"
#include "lib/table.h"

/* Keys are names of objects: nobody can choose such that collide. */
#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned int)table_hash(key, len))
#include <uthash.h>

#define ROUND_MS      60000
#define SOON_MS       20 /* between nodes that have not been asked, or are to be asked now */
#define TIMEOUT_S     3  /* TCP asks again after 1 s */
#define IN_FLIGHT_MAX 128

struct probe {
	struct health_answer answer;
	struct entry *entry;
	struct event *event; /* a question that is not answered; it has the socket */
	uint64_t start_ns;
	uint64_t told; /* the entry's asked, when a question was last answered */
};

struct entry {
	char *name;
	struct health *health;
	struct probe probes[HEALTH_TARGETS];
	uint64_t asked; /* which call of health_probe() it was asked for */
	uint64_t seen_ns;
	UT_hash_handle hh;
};

struct health {
	struct event_base *base;
	const struct nodes *nodes;
	struct event *timer;
	struct entry *entries;
	size_t turn;     /* index of the node that is asked next */
	bool may_be_due; /* some node has not been asked, or not since the last health_probe() */
	int64_t next_ms; /* when the next one is asked, if none is due before */
	uint64_t calls;  /* of health_probe(), and one for the start */
	unsigned int in_flight;
	struct histogram latency[HEALTH_TARGETS]; /* seconds */
};

static const struct histogram_bounds latency_bounds = {
	9, { 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1 }
};

/* ---- addresses ------------------------------------------------------------------------------- */

static struct addr address_of_node(const struct nodes *nodes, const struct object *node)
{
	struct addr address = nodes_address(nodes, node, NULL);

	return addr_is_zero(&address) ? node->node.internal_v6 : address;
}

/* Only where this node has a range of its own: else another plugin gives pods their addresses. */
static struct addr address_of_pods(const struct nodes *nodes, const struct object *node)
{
	if (nodes->options.pod_cidr_count == 0 || node->node.pod_cidr_count == 0 ||
	    nodes_is_own_range(nodes, &node->node.pod_cidrs[0]))
		return (struct addr){};
	return addr_add(&node->node.pod_cidrs[0].addr, 1);
}

/* ---- one question ---------------------------------------------------------------------------- */

static void probe_stop(struct probe *probe)
{
	if (!probe->event)
		return;
	close(event_get_fd(probe->event));
	event_free(take_ptr(probe->event));
	probe->entry->health->in_flight--;
}

/* Refused or accepted, it is an answer. */
static void probe_end(struct probe *probe, int error)
{
	const enum health_target target = (enum health_target)(probe - probe->entry->probes);
	const uint64_t now = now_ns();

	probe_stop(probe);
	probe->told = probe->entry->asked;
	probe->answer.error = error == ECONNREFUSED ? 0 : error;
	probe->answer.status = probe->answer.error ? HEALTH_UNREACHABLE : HEALTH_REACHABLE;
	if (probe->answer.error)
		return;
	probe->answer.latency_us = (uint32_t)((now - probe->start_ns) / 1000);
	histogram_add(&probe->entry->health->latency[target], &latency_bounds,
		      (double)(now - probe->start_ns) / 1e9);
	probe->entry->seen_ns = now;
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct probe *probe = arg;
	socklen_t len = sizeof(int);
	int error = ETIMEDOUT;

	if (!(what & EV_TIMEOUT) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	probe_end(probe, error);
}

static unsigned int mtu_of(int fd, bool v4)
{
	socklen_t len = sizeof(int);
	int mtu;
	int ret = v4 ? getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len)
		     : getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &len);

	return ret < 0 ? 0 : (unsigned int)mtu;
}

/* anew: an earlier question that is not answered yet does not count. */
static void probe_begin(struct probe *probe, const struct addr *address, bool anew)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT_S };
	struct health *health = probe->entry->health;
	struct sockaddr_storage socket_address;
	socklen_t len = addr_socket(address, HEALTH_PORT, &socket_address);
	auto_close int fd = -1;

	if (probe->event && !anew && addr_equal(&probe->answer.address, address))
		return; /* not answered yet */
	probe_stop(probe);
	if (!addr_equal(&probe->answer.address, address))
		probe->answer = (struct health_answer){ .address = *address };
	if (addr_is_zero(address))
		return;
	fd = socket(addr_family(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return; /* too many open files: it stays as it was known */
	probe->start_ns = now_ns();
	if (connect(fd, (struct sockaddr *)&socket_address, len) < 0 && errno != EINPROGRESS) {
		probe_end(probe, errno);
		return;
	}
	probe->answer.mtu = mtu_of(fd, addr_is_v4(address));
	probe->event = event_new(health->base, fd, EV_WRITE, on_answer, probe);
	if (!probe->event)
		return;
	health->in_flight++;
	take_fd(&fd); /* probe_stop() closes it */
	event_add(probe->event, &timeout);
}

/* ---- the walk -------------------------------------------------------------------------------- */

static void entry_free(struct health *health, struct entry *entry)
{
	/* NOLINTNEXTLINE(*Malloc): it is out of the table by then */
	HASH_DEL(health->entries, entry);
	for (size_t i = 0; i < HEALTH_TARGETS; i++)
		probe_stop(&entry->probes[i]);
	free(entry->name);
	free(entry);
}

/* NOLINTNEXTLINE(*readability-function-size): the macros of uthash */
static struct entry *entry_find(const struct health *health, const struct object *node)
{
	struct entry *entry;

	HASH_FIND_STR(health->entries, node->name, entry);
	return entry;
}

static void addresses_of(const struct health *health, const struct object *node,
			 struct addr ret[HEALTH_TARGETS])
{
	ret[HEALTH_NODE] = address_of_node(health->nodes, node);
	ret[HEALTH_PODS] = address_of_pods(health->nodes, node);
}

/* NOLINTNEXTLINE(*readability-function-size): the macros of uthash */
static struct entry *entry_add(struct health *health, const struct object *node)
{
	struct entry *entry = xcalloc(1, sizeof(*entry));

	entry->name = xstrdup(node->name);
	entry->health = health;
	HASH_ADD_KEYPTR(hh, health->entries, entry->name, strlen(entry->name), entry);
	return entry;
}

static void node_ask(struct health *health, const struct object *node)
{
	struct addr addresses[HEALTH_TARGETS];
	struct entry *entry = entry_find(health, node);
	bool anew = entry && entry->asked < health->calls;

	if (!entry)
		entry = entry_add(health, node);
	entry->asked = health->calls;
	addresses_of(health, node, addresses);
	for (size_t i = 0; i < HEALTH_TARGETS; i++) {
		entry->probes[i].entry = entry;
		probe_begin(&entry->probes[i], &addresses[i], anew);
	}
}

static void entries_forget(struct health *health)
{
	const struct store *store = health->nodes->options.store;
	struct entry *entry, *next;

	HASH_ITER(hh, health->entries, entry, next)
	{
		if (!store_find(store, OBJECT_NODE, "", entry->name))
			entry_free(health, entry);
	}
}

/* Not asked yet, at an address that it has now, or to be asked again. */
static bool is_due(const struct health *health, const struct object *node)
{
	const struct entry *entry = entry_find(health, node);
	struct addr addresses[HEALTH_TARGETS];

	if (!entry || entry->asked < health->calls)
		return true;
	addresses_of(health, node, addresses);
	for (size_t i = 0; i < HEALTH_TARGETS; i++) {
		if (!addr_equal(&entry->probes[i].answer.address, &addresses[i]))
			return true;
	}
	return false;
}

/* The first node behind the last one that is due; NULL: none is. */
static const struct object *node_due(struct health *health)
{
	const struct object *const *nodes;
	const size_t count = store_objects(health->nodes->options.store, OBJECT_NODE, &nodes);

	for (size_t i = 0; health->may_be_due && i < count; i++) {
		const size_t at = (health->turn + i) % count;

		if (nodes_is_local(health->nodes, nodes[at]) || !is_due(health, nodes[at]))
			continue;
		health->turn = at + 1;
		return nodes[at];
	}
	health->may_be_due = false;
	return NULL;
}

/* The node whose turn it is; NULL: there are no others. */
static const struct object *node_next(struct health *health)
{
	const struct object *const *nodes;
	const size_t count = store_objects(health->nodes->options.store, OBJECT_NODE, &nodes);

	for (size_t i = 0; i < count; i++) {
		if (health->turn >= count) {
			health->turn = 0;
			entries_forget(health);
		}
		if (!nodes_is_local(health->nodes, nodes[health->turn++]))
			return nodes[health->turn - 1];
	}
	return NULL;
}

static void timer_set(struct health *health, unsigned int ms)
{
	const struct timeval delay = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	evtimer_add(health->timer, &delay);
}

/* A quarter more or less, so that nodes that started together do not ask together. */
static unsigned int pause_ms(const struct health *health)
{
	const size_t count = store_count(health->nodes->options.store, OBJECT_NODE);
	unsigned int mean = (unsigned int)(ROUND_MS / (count > 1 ? count - 1 : 1)), jitter;

	evutil_secure_rng_get_bytes(&jitter, sizeof(jitter));
	mean = mean < SOON_MS ? SOON_MS : mean;
	return mean - mean / 4 + jitter % (mean / 2);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct health *health = arg;
	const struct object *node;
	unsigned int ms;
	bool due;

	(void)fd;
	(void)what;
	if (health->in_flight >= IN_FLIGHT_MAX) {
		timer_set(health, SOON_MS);
		return;
	}
	node = node_due(health);
	due = node != NULL;
	if (!due && now_ms() < health->next_ms) { /* it was a change that needs no question */
		timer_set(health, (unsigned int)(health->next_ms - now_ms()));
		return;
	}
	if (!node)
		node = node_next(health);
	if (!node)
		return;
	node_ask(health, node);
	ms = due ? SOON_MS : pause_ms(health);
	health->next_ms = now_ms() + ms;
	timer_set(health, ms);
}

void health_sync(struct health *health)
{
	health->may_be_due = true;
	if (store_count(health->nodes->options.store, OBJECT_NODE))
		timer_set(health, SOON_MS);
}

void health_probe(struct health *health)
{
	health->calls++;
	health->may_be_due = true;
	timer_set(health, 0);
}

/* ---- what is told ---------------------------------------------------------------------------- */

static enum health_status status_of(const struct health_view *view)
{
	enum health_status status = HEALTH_UNKNOWN;

	for (size_t i = 0; i < HEALTH_TARGETS; i++) {
		if (addr_is_zero(&view->answers[i].address))
			continue;
		if (view->answers[i].status != HEALTH_REACHABLE)
			return view->answers[i].status;
		status = HEALTH_REACHABLE;
	}
	return status;
}

void health_get(const struct health *health, const struct object *node, struct health_view *ret)
{
	const struct entry *entry = entry_find(health, node);
	struct addr addresses[HEALTH_TARGETS];

	*ret = (struct health_view){ .probing = !entry || entry->asked < health->calls };
	addresses_of(health, node, addresses);
	for (size_t i = 0; i < HEALTH_TARGETS; i++)
		ret->answers[i].address = addresses[i];
	for (size_t i = 0; entry && i < HEALTH_TARGETS; i++) {
		const struct probe *probe = &entry->probes[i];

		/* Not the next one: of many nodes some are always being asked. */
		ret->probing |= probe->event && probe->told < health->calls;
		if (addr_equal(&probe->answer.address, &ret->answers[i].address))
			ret->answers[i] = probe->answer;
	}
	ret->seen_ns = entry ? entry->seen_ns : 0;
	ret->status = status_of(ret);
}

void health_count(const struct health *health, struct health_counts *ret)
{
	const struct store *store = health->nodes->options.store;

	*ret = (struct health_counts){};
	for (const struct object *node = store_first(store, OBJECT_NODE); node;
	     node = store_next(store, node)) {
		struct health_view view;

		if (nodes_is_local(health->nodes, node))
			continue;
		health_get(health, node, &view);
		ret->all[view.status]++;
		for (size_t i = 0; i < HEALTH_TARGETS; i++) {
			if (!addr_is_zero(&view.answers[i].address))
				ret->nodes[i][view.answers[i].status]++;
		}
	}
}

const char *health_status_name(enum health_status status)
{
	static const char *const names[] = { "unknown", "reachable", "unreachable" };

	return names[status];
}

void health_metrics(const struct health *health, struct buffer *out)
{
	static const char *const types[HEALTH_TARGETS] = { "node", "endpoint" };
	struct health_counts counts;

	health_count(health, &counts);
	buffer_print(out, "# HELP tendril_node_health_connectivity_status Other nodes, by whether "
			  "they answer at their own address and at that of their pod range.\n"
			  "# TYPE tendril_node_health_connectivity_status gauge\n");
	for (size_t i = 0; i < HEALTH_TARGETS; i++) {
		for (int status = HEALTH_UNKNOWN; status <= HEALTH_UNREACHABLE; status++)
			buffer_print(out,
				     "tendril_node_health_connectivity_status{type=\"%s\",status="
				     "\"%s\"} %zu\n",
				     types[i], health_status_name((enum health_status)status),
				     counts.nodes[i][status]);
	}
	buffer_print(out, "# HELP tendril_node_health_connectivity_latency_seconds Time until "
			  "other nodes answered.\n"
			  "# TYPE tendril_node_health_connectivity_latency_seconds histogram\n");
	for (size_t i = 0; i < HEALTH_TARGETS; i++) {
		char label[32];

		snprintf(label, sizeof(label), "type=\"%s\"", types[i]);
		histogram_print(&health->latency[i], &latency_bounds,
				"tendril_node_health_connectivity_latency_seconds", label, out);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

struct health *health_new(struct event_base *base, const struct nodes *nodes)
{
	struct health *health = xcalloc(1, sizeof(*health));

	health->base = base;
	health->nodes = nodes;
	health->calls = 1;
	health->timer = evtimer_new(base, on_timer, health);
	if (!health->timer)
		abort();
	return health;
}

void health_free(struct health *health)
{
	struct entry *entry, *next;

	if (!health)
		return;
	HASH_ITER(hh, health->entries, entry, next)
	entry_free(health, entry);
	event_free(health->timer);
	free(health);
}
