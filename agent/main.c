/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendrild: builds the modules in order, says that it is ready, runs the loop, and takes them down
 * again.  What is in the kernel stays: the datapath runs on while no agent does.
 */
#define LOG_MODULE "main"
#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>

#include "agent/accel/accel.h"
#include "agent/agent.h"
#include "agent/api/api.h"
#include "agent/endpoint/endpoint.h"
#include "agent/gc.h"
#include "agent/monitor/flows.h"
#include "agent/monitor/monitor.h"
#include "agent/notify.h"
#include "agent/objects/objects.h"
#include "agent/privilege.h"
#include "agent/rundir.h"
#include "agent/sync/sync.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/netns.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct signal_row {
	int number;
	event_callback_fn handler;
};

struct daemon {
	struct agent agent;
	struct run_locks locks;
	struct event *signals[3];
	struct event *enforce; /* after changes of policy */
	int argc;
	char **argv;
};

/* ---- signals --------------------------------------------------------------------------------- */

static void on_stop(evutil_socket_t number, short what, void *arg)
{
	struct daemon *daemon = arg;

	(void)what;
	log_info("signal %d: stopping, the datapath stays", (int)number);
	notify_stopping();
	event_base_loopbreak(daemon->agent.base);
}

static void audit_set(struct agent *agent, bool audit)
{
	struct errmsg err = {};

	if (agent->config.audit != audit)
		log_warn("policy is %s", audit ? "not enforced any more: audit mode" : "enforced");
	agent->config.audit = audit;
	if (sync_set_audit(agent->sync, audit, &err))
		log_error("audit mode: %s", err.text);
}

static void on_reload(evutil_socket_t number, short what, void *arg)
{
	struct daemon *daemon = arg;
	struct agent *agent = &daemon->agent;
	enum config_action action;
	struct errmsg err = {};
	struct config config;

	(void)number;
	(void)what;
	notify_reloading();
	if (config_load(&config, daemon->argc, daemon->argv, &action, &err)) {
		log_error("reload: %s; the old configuration stays", err.text);
	} else {
		const char *changed = config_difference(&agent->config, &config);

		if (changed)
			log_warn("reload: %s has changed and takes effect with the next start",
				 changed);
		agent->config.log_level = config.log_level;
		log_set_level(config.log_level);
		audit_set(agent, config.audit);
	}
	objects_reload(agent->objects);
	log_info("reloaded");
	notify_ready("ready");
}

static const struct signal_row signal_rows[] = {
	{ SIGTERM, on_stop },
	{ SIGINT, on_stop },
	{ SIGHUP, on_reload },
};

static int signals_watch(struct daemon *daemon, struct errmsg *err)
{
	_Static_assert(ARRAY_SIZE(signal_rows) == ARRAY_SIZE(((struct daemon *)NULL)->signals),
		       "one event for each signal");

	for (size_t i = 0; i < ARRAY_SIZE(signal_rows); i++) {
		daemon->signals[i] = evsignal_new(daemon->agent.base, signal_rows[i].number,
						  signal_rows[i].handler, daemon);
		if (!daemon->signals[i] || event_add(daemon->signals[i], NULL) < 0)
			return fail(err, -ENOMEM, "signal %d", signal_rows[i].number);
	}
	return 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

static int datapath_start(struct agent *agent, struct errmsg *err)
{
	const struct datapath_options options = config_datapath(&agent->config);
	int error = run_bpffs_prepare(&agent->config, err);

	return error ? error : datapath_open(&options, &agent->datapath, err);
}

/* The socket programs act for this namespace and its pods, and for nobody else. */
static int netns_announce(struct agent *agent, struct errmsg *err)
{
	struct netns_id id;
	int error = netns_identify(-1, &id, err);

	if (!error)
		maps_node(agent->datapath)->netns_cookie = id.cookie;
	return error;
}

/* Brings the maps in line with the store, and only now, if all of it is known, removes what it does
 * not mention.  A map that is too small is no reason not to start: status tells. */
static void maps_start(struct agent *agent)
{
	const char *unknown = objects_unknown(agent->objects);
	struct errmsg err = {};

	if (unknown)
		log_error("what is in force stays and no pod is added: %s", unknown);
	else
		sync_allow_deletes(agent->sync);
	if (sync_policies(agent->sync, &err))
		log_error("policies: %s", err.text);
	if (sync_services(agent->sync, &err))
		log_error("services: %s", err.text);
}

static int modules_start(struct agent *agent, struct errmsg *err)
{
	int error = datapath_start(agent, err);

	if (!error)
		error = netns_announce(agent, err);
	if (error)
		return error;
	agent->store = store_new();
	if (!agent->store)
		return fail(err, -ENOMEM, "store");
	store_set_local(agent->store);
	error = sync_new(agent->base, agent->datapath, agent->store, &agent->sync, err);
	if (!error)
		error = accel_new(agent, &agent->accel, err);
	if (!error)
		error = endpoints_new(agent, &agent->endpoints, err);
	if (!error)
		error = objects_new(agent, &agent->objects, err);
	if (error)
		return error;
	audit_set(agent, agent->config.audit);
	maps_start(agent);
	error = monitor_new(agent, &agent->monitor, err);
	if (!error)
		error = flows_new(agent, &agent->flows, err);
	if (!error)
		error = gc_new(agent, &agent->gc, err);
	return error;
}

/* From the loop rather than at once: neither an ADD nor the next change waits for it, and several
 * changes in a row cost one walk. */
static void on_policy_change(void *arg)
{
	struct daemon *daemon = arg;

	event_active(daemon->enforce, EV_TIMEOUT, 0);
}

static void on_enforce(evutil_socket_t fd, short what, void *arg)
{
	struct agent *agent = arg;

	(void)fd;
	(void)what;
	accel_enforce(agent->accel);
}

static int daemon_start(struct daemon *daemon, struct errmsg *err)
{
	struct agent *agent = &daemon->agent;
	int error = privilege_check(err);

	if (!error)
		error = run_locks_take(&agent->config, &daemon->locks, err);
	if (error)
		return error;
	agent->base = event_base_new();
	if (!agent->base)
		return fail(err, -ENOMEM, "event loop");
	error = signals_watch(daemon, err);
	if (!error)
		error = modules_start(agent, err);
	if (!error)
		error = privilege_drop(err);
	if (!error)
		error = api_listen(agent, err);
	if (error)
		return error;
	daemon->enforce = evtimer_new(agent->base, on_enforce, agent);
	if (!daemon->enforce)
		return fail(err, -ENOMEM, "event loop");
	sync_on_change(agent->sync, on_policy_change, daemon);
	on_policy_change(daemon); /* what changed while no agent ran */
	return 0;
}

static void daemon_ready(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;

	malloc_trim(0); /* loading the programs takes memory that nothing needs again */
	agent->ready_ns = now_ns();
	agent->ready = true;
	log_info("ready after %.1f ms, serving %s/tendril.sock",
		 (double)(agent->ready_ns - agent->start_ns) / 1e6, agent->config.run_dir);
	notify_ready("ready");
	accel_selftest(agent->accel);
}

static void daemon_stop(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;

	http_server_free(agent->http);
	gc_free(agent->gc);
	flows_free(agent->flows);
	monitor_free(agent->monitor);
	objects_free(agent->objects);
	endpoints_free(agent->endpoints);
	accel_free(agent->accel);
	sync_free(agent->sync);
	store_free(agent->store);
	datapath_close(agent->datapath);
	if (daemon->enforce)
		event_free(daemon->enforce);
	for (size_t i = 0; i < ARRAY_SIZE(daemon->signals); i++) {
		if (daemon->signals[i])
			event_free(daemon->signals[i]);
	}
	if (agent->base)
		event_base_free(agent->base);
	run_locks_release(&daemon->locks);
}

static int run(struct daemon *daemon)
{
	struct errmsg err = {};
	int error = daemon_start(daemon, &err);

	if (error) {
		log_error("%s", err.text);
	} else {
		daemon_ready(daemon);
		event_base_dispatch(daemon->agent.base);
	}
	daemon_stop(daemon);
	return error ? EXIT_FAILED : EXIT_OK;
}

/* ---- the other things it does ---------------------------------------------------------------- */

/* Goes on after a failure: what can be removed is. */
static int cleanup(const struct config *config)
{
	struct run_locks locks = RUN_LOCKS_INIT;
	struct errmsg err = {};
	int failed = 0;

	if (privilege_check(&err) || run_locks_take(config, &locks, &err)) {
		log_error("cleanup: %s", err.text);
		return EXIT_FAILED;
	}
	if (endpoints_cleanup(config, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	if (datapath_cleanup(config->bpffs, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	objects_cleanup(config);
	if (run_dir_remove(config, &err) && ++failed)
		log_error("cleanup: %s", err.text);
	run_locks_release(&locks);
	return failed ? EXIT_FAILED : EXIT_OK;
}

int main(int argc, char **argv)
{
	struct daemon daemon = { .locks = RUN_LOCKS_INIT, .argc = argc, .argv = argv };
	enum config_action action;
	struct errmsg err = {};

	daemon.agent.start_ns = now_ns();
	signal(SIGPIPE, SIG_IGN);
	if (config_load(&daemon.agent.config, argc, argv, &action, &err)) {
		fprintf(stderr, "tendrild: %s\n", err.text);
		return EXIT_USAGE;
	}
	log_set_level(daemon.agent.config.log_level);
	switch (action) {
	case CONFIG_RUN:
		return run(&daemon);
	case CONFIG_CHECK:
		config_print(&daemon.agent.config);
		return EXIT_OK;
	case CONFIG_CLEANUP:
		return cleanup(&daemon.agent.config);
	case CONFIG_VERSION:
		printf("tendrild %s\n", TENDRIL_VERSION);
		return EXIT_OK;
	case CONFIG_HELP:
		config_usage();
		return EXIT_OK;
	}
	return EXIT_USAGE;
}
