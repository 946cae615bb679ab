/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guard of socket acceleration.  The datapath decides for every message.  This file turns
 * acceleration on once the self-test has passed, and ends connections that policy no longer allows,
 * so that both programs notice at once and not by retransmission.
 */
#include "agent/accel/accel.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/accel/accel_tester.h"
#include "agent/endpoint/endpoint.h"
#include "agent/monitor/monitor.h"
#include "agent/sync/sync.h"
#include "datapath/datapath.h"
#include "datapath/maps.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/sockdiag.h"
#include "policy/compiler/verdict.h"

#define LOG_MODULE "accel"
#include "lib/log.h"

#define REPORTS_MAX 1000 /* per walk */

enum accel_run { ACCEL_OFF, ACCEL_TESTING, ACCEL_ON };

struct accel {
	struct accel_options options;
	struct event *enforce;       /* pending: policy has changed */
	struct accel_tester *tester; /* while it runs */
	enum accel_run run;
	char reason[240]; /* why it is off; "" when on */
	struct selftest_check checks[SELFTEST_CHECKS_MAX];
	size_t check_count;
};

/* Only this bit of the node's flags is ours; only this thread writes them. */
static void node_set_accel(const struct accel *accel, bool on)
{
	struct node_state *node = maps_node(accel->options.datapath);

	if (on)
		node->flags |= NODE_ACCEL;
	else
		node->flags &= ~(uint32_t)NODE_ACCEL;
}

static void accel_retire(struct accel *accel)
{
	node_set_accel(accel, false);
	datapath_drop_accel(accel->options.datapath);
}

static void accel_turn_off(struct accel *accel, const char *reason)
{
	accel->run = ACCEL_OFF;
	snprintf(accel->reason, sizeof(accel->reason), "%s", reason);
	accel_retire(accel);
}

/* Whether a pod of this node asks for acceleration. */
static bool accel_is_wanted(const struct accel *accel)
{
	const struct compiled *compiled = sync_compiled(accel->options.sync);

	for (size_t i = 0; compiled && i < compiled->subject_count; i++) {
		if (compiled->subjects[i].accel && compiled->subjects[i].slot)
			return true;
	}
	return false;
}

/* The programs see every TCP connection below the cgroup, also those of no pod (1 % of the cost of
 * connect, request and close), so they are loaded only while a pod asks. */
static void accel_load_if_wanted(struct accel *accel)
{
	struct datapath *datapath = accel->options.datapath;
	bool wanted = accel_is_wanted(accel);
	struct errmsg err = {};

	if (accel->run != ACCEL_ON || wanted == datapath_accel(datapath))
		return;
	if (wanted && datapath_load_accel(datapath, accel->options.load, &err) < 0) {
		wrap(&err, "the kernel refuses its programs");
		log_warn("off: %s", err.text);
		accel_turn_off(accel, err.text);
		return;
	}
	if (wanted)
		node_set_accel(accel, true);
	else
		accel_retire(accel);
	malloc_trim(0); /* return what loading took */
	log_info("programs %s", wanted ? "loaded: a pod asks for them" : "removed: no pod asks");
}

static void accel_turn_on(struct accel *accel)
{
	accel->run = ACCEL_ON;
	accel->reason[0] = '\0';
	log_info("on: the self-test passed");
	if (!accel_is_wanted(accel)) /* the agent before this one may have left it on */
		accel_retire(accel);
	accel_load_if_wanted(accel);
}

/* ---- self-test ------------------------------------------------------------------------------ */

static void on_check(const struct selftest_check *check, void *arg)
{
	struct accel *accel = arg;

	if (accel->check_count < ARRAY_SIZE(accel->checks))
		accel->checks[accel->check_count++] = *check;
}

/* The first check that forbids acceleration on this kernel, or NULL. */
static const struct selftest_check *failed_check(const struct accel *accel)
{
	for (size_t i = 0; i < accel->check_count; i++) {
		if (accel->checks[i].required && !accel->checks[i].passed)
			return &accel->checks[i];
	}
	return NULL;
}

static void on_tested(const char *failure, void *arg)
{
	struct accel *accel = arg;
	const struct selftest_check *check = failed_check(accel);
	char reason[sizeof(accel->reason)];

	if (failure)
		snprintf(reason, sizeof(reason), "self-test could not run: %s", failure);
	else if (check)
		snprintf(reason, sizeof(reason), "self-test \"%s\" failed on this kernel: %s",
			 check->name, check->detail);
	accel_tester_free(take_ptr(accel->tester));
	if (!failure && !check) {
		accel_turn_on(accel);
		return;
	}
	log_warn("off: %s", reason);
	accel_turn_off(accel, reason);
}

void accel_selftest(struct accel *accel)
{
	struct errmsg err = {};

	if (accel->run != ACCEL_TESTING || accel->tester)
		return;
	if (accel_tester_new(accel->options.base, accel->options.fork_server, on_check, on_tested,
			     accel, &accel->tester, &err) < 0)
		on_tested(err.text, accel);
}

/* ---- ending what is forbidden --------------------------------------------------------------- */

/* State of one accel_enforce().  Sockets of one pod often follow each other, so it keeps the last
 * pod's netlink socket. */
struct enforcement {
	struct accel *accel;
	const struct compiled *compiled;
	struct netlink netlink;
	uint16_t slot; /* whose namespace netlink is in */
	unsigned int ended;
	unsigned int reported; /* connections that policy would deny, but for audit */
};

static int enforcement_open(struct enforcement *walk, const struct addr *addr, struct errmsg *err)
{
	const struct accel_options *options = &walk->accel->options;
	struct ipcache_entry entry;

	if (ipcache_map_get(options->datapath, addr, &entry) || !entry.slot)
		return fail_plain(err, -ENOENT, "no such pod"); /* or it will be gone soon */
	if (walk->netlink.fd >= 0 && walk->slot == entry.slot)
		return 0;
	netlink_close(&walk->netlink);
	walk->slot = entry.slot;
	return endpoints_sockdiag_open(options->endpoints, entry.slot, &walk->netlink, err);
}

/* The datapath reports packets; what goes from socket to socket is reported here.  Bounded: one
 * change may concern thousands. */
static void enforcement_report(struct enforcement *walk, const struct flow *flow,
			       enum drop_reason reason)
{
	bool egress = reason == DROP_EGRESS_DENIED;
	struct flow_event event = { .type = EVENT_AUDIT, .reason = reason, .flow = *flow };

	if (walk->reported++ >= REPORTS_MAX)
		return;
	event.time_ns = now_ns();
	event.src_identity = verdict_identity(walk->compiled, &flow->saddr);
	event.dst_identity = verdict_identity(walk->compiled, &flow->daddr);
	event.direction = egress ? DIR_EGRESS : DIR_INGRESS;
	monitor_send(walk->accel->options.monitor, &event);
}

/* Checks the flow as its opener's first packet had it; destroys the socket by its own view of it.
 */
static int enforce_socket(const struct accel_key *key, uint64_t cookie, void *arg)
{
	struct flow own = { .saddr = key->local,
			    .daddr = key->remote,
			    .sport = key->local_port,
			    .dport = key->remote_port,
			    .proto = IPPROTO_TCP };
	struct flow opened = own;
	struct enforcement *walk = arg;
	enum drop_reason would;
	struct errmsg err = {};
	int ret;

	if (!key->opener) {
		opened.saddr = key->remote;
		opened.daddr = key->local;
		opened.sport = key->remote_port;
		opened.dport = key->local_port;
	}
	if (verdict_audited(walk->compiled, &opened, sync_audit(walk->accel->options.sync),
			    &would) == DROP_NONE) {
		if (would && key->opener)
			enforcement_report(walk, &opened, would);
		return 0;
	}
	ret = enforcement_open(walk, &key->local, &err);
	if (ret == 0)
		ret = sockdiag_destroy(&walk->netlink,
				       &(struct sockdiag_socket){ .flow = own, .cookie = cookie },
				       &err);
	if (ret == 0)
		walk->ended++;
	else if (ret != -ENOENT) /* its messages go by packet now, and the datapath drops them */
		log_warn("cannot end a denied connection: %s", err.text);
	return 0;
}

static void accel_enforce(struct accel *accel)
{
	struct enforcement walk = { .accel = accel,
				    .compiled = sync_compiled(accel->options.sync),
				    .netlink = NETLINK_INIT };
	int ret;

	if (!walk.compiled || !accel->options.load->accel)
		return;
	accel_load_if_wanted(accel);
	ret = accel_map_foreach(accel->options.datapath, enforce_socket, &walk);
	if (ret < 0)
		log_warn("read accel_map: %s", strerror(-ret));
	if (walk.ended)
		log_info("ended %u sockets that policy now denies", walk.ended);
	netlink_close(&walk.netlink);
}

static void on_enforce(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	accel_enforce(arg);
}

void accel_enforce_soon(struct accel *accel)
{
	static const struct timeval at_once;

	evtimer_add(accel->enforce, &at_once);
}

void accel_enforce_due(struct accel *accel)
{
	if (!evtimer_pending(accel->enforce, NULL))
		return;
	evtimer_del(accel->enforce);
	accel_enforce(accel);
}

/* ---- life ----------------------------------------------------------------------------------- */

struct accel *accel_new(const struct accel_options *options)
{
	struct accel *accel = xcalloc(1, sizeof(*accel));

	accel->options = *options;
	accel->enforce = evtimer_new(options->base, on_enforce, accel);
	/* The agent before this one may have left it on: connections keep it while the self-test
	 * runs. */
	accel->run = ACCEL_TESTING;
	if (!options->load->accel)
		accel_turn_off(accel, "disabled by configuration");
	else if (!options->load->cgroup)
		accel_turn_off(accel, "needs a cgroup, and the configuration gives none");
	return accel;
}

void accel_free(struct accel *accel)
{
	if (!accel)
		return;
	accel_tester_free(accel->tester);
	if (accel->enforce)
		event_free(accel->enforce);
	free(accel);
}

struct cJSON *accel_status(const struct accel *accel)
{
	static const char *const states[] = { "off", "testing", "on" };
	cJSON *status = cJSON_CreateObject();
	cJSON *checks = cJSON_AddArrayToObject(status, "checks");

	cJSON_AddStringToObject(status, "state", states[accel->run]);
	cJSON_AddStringToObject(status, "reason", accel->reason);
	for (size_t i = 0; i < accel->check_count; i++) {
		const struct selftest_check *check = &accel->checks[i];
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "name", check->name);
		cJSON_AddBoolToObject(item, "passed", check->passed);
		cJSON_AddBoolToObject(item, "required", check->required);
		cJSON_AddStringToObject(item, "detail", check->detail);
		cJSON_AddItemToArray(checks, item);
	}
	return status;
}
