/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tendrild: starts the modules in order, reports that it is ready, runs the loop, and stops the
 * modules again.  What is in the kernel stays: the datapath works while no agent runs.
 */
#define LOG_MODULE "main"
#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/accel/accel.h"
#include "agent/api/agent.h"
#include "agent/api/api.h"
#include "agent/children.h"
#include "agent/cleanup.h"
#include "agent/cni_files.h"
#include "agent/config.h"
#include "agent/deletion_watch.h"
#include "agent/endpoint/endpoint.h"
#include "agent/flow/flow_log.h"
#include "agent/monitor/flows.h"
#include "agent/monitor/gc.h"
#include "agent/monitor/monitor.h"
#include "agent/nodes/encryption.h"
#include "agent/nodes/health.h"
#include "agent/nodes/nodes.h"
#include "agent/notify.h"
#include "agent/objects/objects.h"
#include "agent/pod_cidrs.h"
#include "agent/privilege.h"
#include "agent/rundir.h"
#include "agent/sockets/listeners.h"
#include "agent/sockets/sockets.h"
#include "agent/sync/sync.h"
#include "agent/syscalls.h"
#include "agent/uplink/host_routing.h"
#include "agent/uplink/qdisc.h"
#include "agent/uplink/uplink.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/clock.h"
#include "lib/fork_server.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/netns.h"
#include "lib/task.h"

#define FLOWS_KEPT 65536 /* doc/observability.md tells what they take */

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct signal_row {
	int number;
	event_callback_fn handler;
};

struct daemon {
	struct config config;
	struct datapath_options datapath; /* of the configuration */
	struct agent agent;
	struct encryption *encryption; /* NULL: off */
	struct run_locks locks;
	struct fork_server *fork_server;
	struct event *fork_server_event;
	bool failed;
	struct event *signals[3];
	struct event *watchdog;
	struct deletion_watch *pins[3];
	struct deletion_watch *sockets[3]; /* by folder */
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

/* Nobody could start another: the filter of system calls forbids it.  The next agent can. */
static void on_fork_server(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *daemon = arg;

	(void)fd;
	(void)what;
	if (!fork_server_is_dead(daemon->fork_server))
		return;
	log_error("the process that starts children died: stopping, the datapath stays");
	daemon->failed = true;
	notify_stopping();
	event_base_loopbreak(daemon->agent.base);
}

static void audit_set(struct agent *agent, bool audit)
{
	struct errmsg err = {};

	if (sync_audit(agent->sync) != audit)
		log_warn("policy is %s", audit ? "not enforced: audit mode" : "enforced");
	if (sync_set_audit(agent->sync, audit, &err))
		log_error("audit mode: %s", err.text);
}

static void objects_reload_all(void *arg)
{
	struct daemon *daemon = arg;

	objects_reload(daemon->agent.objects);
	log_info("reloaded");
	notify_ready("ready");
}

static void on_reload(evutil_socket_t number, short what, void *arg)
{
	struct daemon *daemon = arg;
	struct config *current = &daemon->config;
	enum config_action action;
	struct errmsg err = {};
	struct config config;

	(void)number;
	(void)what;
	notify_reloading();
	if (config_load(&config, daemon->argc, daemon->argv, &action, &err)) {
		log_error("reload: %s; the old configuration stays", err.text);
	} else {
		const char *changed = config_difference(current, &config);

		if (changed)
			log_warn("reload: %s has changed and takes effect with the next start",
				 changed);
		current->log_level = config.log_level;
		current->audit = config.audit;
		log_set_level(config.log_level);
		audit_set(&daemon->agent, config.audit);
	}
	task_run(daemon->agent.base, objects_reload_all, daemon);
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
		if (event_add(daemon->signals[i], NULL) < 0)
			return fail(err, -EIO, "signal %d", signal_rows[i].number);
	}
	return 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

/* The socket programs act only for this namespace and its pods. */
static int netns_announce(struct agent *agent, struct errmsg *err)
{
	struct netns_id id;
	int ret = netns_identify(-1, &id, err);

	if (!ret)
		maps_node(agent->datapath)->netns_cookie = id.cookie;
	return ret;
}

/* Brings the maps in line with the store.  If every source is known, this removes what the store
 * does not mention.  A map that is too small does not stop the agent: status reports it. */
static void maps_start(struct agent *agent)
{
	const char *missing = sync_missing(agent->sync);
	struct errmsg err = {};

	if (missing)
		log_error("policies may be missing: the maps stay as they are, and no pod can "
			  "be added: %s",
			  missing);
	if (sync_everything(agent->sync, &err))
		log_error("policies and services: %s", err.text);
}

static bool encrypts(const struct config *config)
{
	return config->encryption == ENCRYPTION_WIREGUARD;
}

/* Encrypted packets need no tunnel around them, and strictly there are no others. */
static bool has_overlay(const struct config *config)
{
	return config->routing_mode == ROUTING_TUNNEL && !config->encryption_strict;
}

static bool has_dsr(const struct config *config)
{
	return config->load_balancer_mode == LOAD_BALANCER_DSR;
}

static const struct tunnel_settings *tunnel_of(const struct config *config)
{
	return has_overlay(config) || has_dsr(config) ? &config->tunnel : NULL;
}

static unsigned int mtu_overhead(const struct config *config)
{
	if (encrypts(config)) /* more than the tunnel's */
		return config->underlay_protocol == UNDERLAY_IPV6 ? WIREGUARD_OVERHEAD_IPV6
								  : WIREGUARD_OVERHEAD_IPV4;
	return has_overlay(config) ? tunnel_overhead(&config->tunnel) : 0;
}

static int encryption_start(struct daemon *daemon, struct errmsg *err)
{
	return encrypts(&daemon->config)
		       ? encryption_new(daemon->config.run_dir, &daemon->encryption, err)
		       : 0;
}

static int endpoints_start(struct daemon *daemon, struct errmsg *err)
{
	const struct config *config = &daemon->config;
	struct agent *agent = &daemon->agent;
	const struct endpoints_options options = {
		.base = agent->base,
		.fork_server = daemon->fork_server,
		.datapath = agent->datapath,
		.store = agent->store,
		.sync = agent->sync,
		.run_dir = config->run_dir,
		.pod_cidrs = config->pod_cidrs,
		.pod_cidr_count = config->pod_cidr_count,
		.max = config->limits.endpoints,
		.mtu = config->mtu,
		.mtu_overhead = mtu_overhead(config),
		.big_tcp = config->big_tcp,
	};

	return endpoints_new(&options, &agent->endpoints, err);
}

/* A node takes pods once its plugin and conflist are there: not before every source is known. */
static void cni_files_offer(void *arg)
{
	struct daemon *daemon = arg;
	struct agent *agent = &daemon->agent;
	struct errmsg err = {};

	if (!agent->ready || sync_missing(agent->sync))
		return;
	if (cni_files_put(&daemon->config, &err))
		log_error("%s", err.text);
	else
		objects_kube_ready(agent->objects);
	snprintf(agent->cni_problem, sizeof(agent->cni_problem), "%s", err.text);
}

/* This node's Node object may tell its pod CIDRs. */
static void pod_cidrs_follow(struct daemon *daemon)
{
	const struct object *node = objects_own_node(daemon->agent.objects);
	struct config *config = &daemon->config;
	struct errmsg err = {};
	int ret = node && config->pod_cidrs_of_node ? pod_cidrs_learn(config, node, &err) : 0;

	if (ret > 0) {
		daemon->agent.pod_cidr_count = config->pod_cidr_count;
		nodes_set_pod_cidrs(daemon->agent.nodes, config->pod_cidrs, config->pod_cidr_count);
		ret = endpoints_set_pod_cidrs(daemon->agent.endpoints, config->pod_cidrs,
					      config->pod_cidr_count, &err);
	}
	if (ret < 0)
		log_error("pod CIDRs of the Node object: %s", err.text);
}

static void on_nodes_change(void *arg)
{
	struct daemon *daemon = arg;

	pod_cidrs_follow(daemon);
	nodes_sync(daemon->agent.nodes, !sync_missing(daemon->agent.sync));
	health_sync(daemon->agent.health);
}

/* Without an overlay pods know nothing of the tunnel. */
static unsigned int tunnel_mtu(void *arg)
{
	const struct daemon *daemon = arg;
	const struct config *config = &daemon->config;
	unsigned int mtu = endpoints_mtu(daemon->agent.endpoints);

	return has_overlay(config) || encrypts(config) ? mtu
						       : mtu - tunnel_overhead(&config->tunnel);
}

static void on_key(const struct wireguard_key *key, void *arg)
{
	struct daemon *daemon = arg;

	objects_kube_announce(daemon->agent.objects, key);
}

static int nodes_start(struct daemon *daemon, struct errmsg *err)
{
	const struct nodes_options options = {
		.base = daemon->agent.base,
		.store = daemon->agent.store,
		.pod_cidrs = daemon->config.pod_cidrs,
		.pod_cidr_count = daemon->config.pod_cidr_count,
		.direct_routes = daemon->config.direct_routes,
		.tunnel = tunnel_of(&daemon->config),
		.overlay = has_overlay(&daemon->config),
		.dsr = has_dsr(&daemon->config),
		.encryption = daemon->encryption,
		.strict = daemon->config.encryption_strict,
		.underlay_ipv6 = daemon->config.underlay_protocol == UNDERLAY_IPV6,
		.tunnel_mtu = tunnel_mtu,
		.arg = daemon,
		.announce = on_key,
		.announce_arg = daemon,
		.datapath = daemon->agent.datapath,
		.load = &daemon->datapath,
		.masquerade = daemon->config.masquerade,
		.excluded = daemon->config.non_masquerade_cidrs,
	};

	int ret = nodes_new(&options, &daemon->agent.nodes, err);

	if (!ret)
		daemon->agent.health = health_new(daemon->agent.base, daemon->agent.nodes);
	return ret;
}

static int objects_start(struct daemon *daemon, struct errmsg *err)
{
	const struct objects_options options = {
		.base = daemon->agent.base,
		.store = daemon->agent.store,
		.sync = daemon->agent.sync,
		.dir = daemon->config.objects_dir,
		.run_dir = daemon->config.run_dir,
		.kubernetes = daemon->config.kubernetes,
		.pod_wait_s = daemon->config.pod_wait_s,
		.all_nodes = daemon->config.direct_routes || daemon->config.masquerade ||
			     tunnel_of(&daemon->config) || encrypts(&daemon->config),
		.node_key = nodes_key(daemon->agent.nodes),
		.complete = cni_files_offer,
		.nodes_changed = on_nodes_change,
		.arg = daemon,
	};

	return objects_new(&options, &daemon->agent.objects, err);
}

static void accel_start(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;
	const struct accel_options options = {
		.base = agent->base,
		.fork_server = daemon->fork_server,
		.datapath = agent->datapath,
		.load = &daemon->datapath,
		.sync = agent->sync,
		.endpoints = agent->endpoints,
		.monitor = agent->monitor,
	};

	agent->accel = accel_new(&options);
}

static void on_service_used(const struct service_key *service, const struct backend *backend,
			    uint64_t bytes, void *arg)
{
	struct agent *agent = arg;

	sync_count_bytes(agent->sync, service, backend, bytes);
}

static void on_flow_end(uint32_t service_id, const struct backend *backend, uint64_t bytes,
			void *arg)
{
	struct agent *agent = arg;

	sync_count_flow(agent->sync, service_id, backend, bytes);
}

static const char *on_dns_name(const struct addr *source, const struct addr *destination, void *arg)
{
	const struct agent *agent = arg;

	return flow_log_dns_name(agent->flow_log, source, destination);
}

static void flow_log_begin(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;
	const struct flow_log_options options = {
		.base = agent->base,
		.fork_server = daemon->fork_server,
		.datapath = agent->datapath,
		.load = &daemon->datapath,
		.endpoints = agent->endpoints,
		.store = agent->store,
		.monitor = agent->monitor,
		.max = FLOWS_KEPT,
		.off = !daemon->config.flows,
		.dns_names = daemon->config.dns_names,
		.metric_namespaces = daemon->config.metric_namespaces,
		.metric_services = daemon->config.metric_services,
		.service_used = on_service_used,
		.arg = agent,
	};

	agent->flow_log = flow_log_new(&options);
	flows_name_by(agent->flows, on_dns_name, agent);
}

static void sockets_start(struct agent *agent)
{
	const struct sockets_options options = {
		.base = agent->base,
		.datapath = agent->datapath,
		.sync = agent->sync,
		.endpoints = agent->endpoints,
	};

	agent->sockets = sockets_new(&options);
	agent->listening = listeners_new(&(struct listeners_options){
		.base = agent->base,
		.datapath = agent->datapath,
		.store = agent->store,
		.sync = agent->sync,
	});
}

static int uplinks_start(struct daemon *daemon, struct errmsg *err)
{
	const struct uplinks_options options = {
		.base = daemon->agent.base,
		.datapath = daemon->agent.datapath,
		.load = &daemon->datapath,
		.names = (const char(*)[IFNAMSIZ])daemon->config.devices,
		.name_count = daemon->config.device_count,
		.masquerade = daemon->config.masquerade,
		.tunnel = has_overlay(&daemon->config) || encrypts(&daemon->config),
		.xdp = (enum uplinks_xdp)daemon->config.xdp,
		.bypass = daemon->config.direct_routes &&
			  daemon->config.host_routing != HOST_ROUTING_LEGACY,
	};
	int ret = uplinks_new(&options, &daemon->agent.uplinks, err);

	return ret ? ret
		   : host_routing_new(daemon->agent.base, daemon->agent.datapath,
				      daemon->agent.uplinks,
				      (enum host_routing_mode)daemon->config.host_routing,
				      &daemon->agent.host_routing, err);
}

static void on_policy_change(void *arg)
{
	struct agent *agent = arg;

	accel_enforce_soon(agent->accel);
}

static void on_losses(void *arg)
{
	struct agent *agent = arg;

	sockets_check_soon(agent->sockets);
}

static void on_services(void *arg)
{
	struct agent *agent = arg;

	listeners_check_soon(agent->listening);
}

static void on_outside(void *arg)
{
	struct agent *agent = arg;

	uplinks_refresh(agent->uplinks);
}

static void on_egress_limit(void *arg)
{
	struct agent *agent = arg;

	uplinks_pace(agent->uplinks);
}

/* The modules between objects and maps, in this order. */
static int policy_start(struct daemon *daemon, struct errmsg *err)
{
	const struct service_settings services = {
		.node_port_addresses = daemon->config.node_port_addresses,
		.external_ips = daemon->config.external_ips,
		.maglev = daemon->config.maglev,
		.dsr = has_dsr(&daemon->config),
	};
	struct agent *agent = &daemon->agent;
	int ret;

	agent->store = store_new();
	store_set_local(agent->store);
	ret = sync_new(agent->base, agent->datapath, agent->store, &agent->sync, err);
	if (!ret) {
		sync_set_services(agent->sync, &services);
		sync_limit_series(agent->sync, daemon->config.metric_services,
				  daemon->config.metric_backends);
	}
	nat_map_on_end(agent->datapath, on_flow_end, agent);
	if (!ret)
		ret = endpoints_start(daemon, err);
	if (!ret)
		ret = nodes_start(daemon, err);
	if (!ret)
		ret = objects_start(daemon, err);
	if (ret)
		return ret;
	audit_set(agent, daemon->config.audit);
	maps_start(agent);
	on_nodes_change(daemon);
	return 0;
}

static int modules_start(struct daemon *daemon, struct errmsg *err)
{
	struct agent *agent = &daemon->agent;
	int ret = run_bpffs_prepare(&daemon->config, err);

	if (!ret)
		ret = run_sysctls_prepare(err);
	if (!ret)
		ret = run_pins_lock(&daemon->config, &daemon->locks, err);
	/* Nothing is mounted from here on; children that come later are bound by it, too. */
	if (!ret)
		ret = syscalls_restrict(err);
	if (!ret)
		ret = encryption_start(daemon, err);
	if (!ret)
		ret = datapath_open(&daemon->datapath, &agent->datapath, err);
	if (!ret)
		ret = netns_announce(agent, err);
	if (!ret)
		ret = policy_start(daemon, err);
	if (!ret)
		ret = monitor_new(agent->base, agent->datapath, agent->endpoints, &agent->monitor,
				  err);
	if (!ret)
		ret = gc_new(agent->base, agent->datapath, &agent->gc, err);
	if (!ret)
		ret = uplinks_start(daemon, err);
	if (ret)
		return ret;
	agent->flows = flows_new(agent->base, agent->datapath, agent->endpoints);
	flow_log_begin(daemon);
	accel_start(daemon);
	sockets_start(agent);
	sync_on_change(agent->sync, on_policy_change, agent);
	sync_on_outside(agent->sync, on_outside, agent);
	sync_on_egress_limit(agent->sync, on_egress_limit, agent);
	sync_on_losses(agent->sync, on_losses, agent);
	sync_on_services(agent->sync, on_services, agent);
	accel_enforce_soon(agent->accel); /* what changed while no agent ran */
	sockets_check_soon(agent->sockets);
	listeners_check_soon(agent->listening);
	return 0;
}

static void on_pin_deleted(void *arg)
{
	struct daemon *daemon = arg;
	struct errmsg err = {};
	int ret = datapath_restore_pins(daemon->agent.datapath, &err);

	if (ret < 0)
		log_error("pins: %s", err.text);
	else if (ret > 0)
		log_warn("%d pins of maps were removed; put back", ret);
	if (datapath_restore_links(daemon->agent.datapath, &daemon->datapath, &err) < 0)
		log_error("links: %s", err.text);
	endpoints_repair_node(daemon->agent.endpoints);
}

static void on_run_file_deleted(void *arg)
{
	struct daemon *daemon = arg;

	api_ensure_sockets(&daemon->agent);
}

/* Files that somebody may delete while the agent runs. */
static int deletions_watch(struct daemon *daemon, struct errmsg *err)
{
	static const char *const folders[ARRAY_SIZE(daemon->pins)] = { "", "/maps", "/links" };
	static const char *const of_sockets[ARRAY_SIZE(daemon->sockets)] = { "", "/kube", "/http" };
	struct event_base *base = daemon->agent.base;
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(folders); i++) {
		char path[sizeof(daemon->config.bpffs) + 8];

		snprintf(path, sizeof(path), "%s%s", daemon->config.bpffs, folders[i]);
		ret = deletion_watch_new(base, path, on_pin_deleted, daemon, &daemon->pins[i], err);
	}
	for (size_t i = 0; !ret && i < ARRAY_SIZE(of_sockets); i++) {
		char path[sizeof(daemon->config.run_dir) + 8];

		snprintf(path, sizeof(path), "%s%s", daemon->config.run_dir, of_sockets[i]);
		ret = deletion_watch_new(base, path, on_run_file_deleted, daemon,
					 &daemon->sockets[i], err);
	}
	return ret;
}

/* What stays as it was at the start, for the API to show. */
static void agent_describe(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;

	daemon->datapath = config_datapath(&daemon->config);
	agent->run_dir = daemon->config.run_dir;
	agent->cni_conf_dir = daemon->config.cni_conf_dir;
	agent->pod_cidrs = daemon->config.pod_cidrs;
	agent->pod_cidr_count = daemon->config.pod_cidr_count;
	agent->socket_services = daemon->config.socket_services;
}

static int daemon_start(struct daemon *daemon, struct errmsg *err)
{
	struct agent *agent = &daemon->agent;
	int ret = privilege_check(err);

	if (!ret)
		ret = children_start(&daemon->fork_server, err);
	if (!ret)
		ret = run_locks_take(&daemon->config, &daemon->locks, err);
	if (ret)
		return ret;
	if (daemon->config.pod_cidrs_of_node)
		ret = pod_cidrs_recall(&daemon->config, err);
	if (ret)
		return ret;
	agent_describe(daemon);
	agent->base = event_base_new();
	if (!agent->base)
		return fail(err, -ENOMEM, "event loop");
	daemon->fork_server_event = event_new(agent->base, fork_server_fd(daemon->fork_server),
					      EV_READ | EV_PERSIST, on_fork_server, daemon);
	event_add(daemon->fork_server_event, NULL);
	ret = signals_watch(daemon, err);
	if (!ret)
		ret = notify_watchdog_new(agent->base, &daemon->watchdog, err);
	if (!ret)
		ret = modules_start(daemon, err);
	if (!ret)
		ret = privilege_drop(err);
	if (!ret)
		ret = api_listen(agent, err);
	if (!ret)
		ret = deletions_watch(daemon, err);
	return ret;
}

static void daemon_ready(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;

	malloc_trim(0); /* loading the programs took memory that is not needed again */
	agent->ready_ns = now_ns();
	agent->ready = true;
	log_info("ready after %.1f ms, serving %s/tendril.sock",
		 (double)(agent->ready_ns - agent->start_ns) / 1e6, agent->run_dir);
	cni_files_offer(daemon);
	notify_ready("ready");
	flow_log_start(agent->flow_log);
	accel_selftest(agent->accel);
}

static void daemon_stop(struct daemon *daemon)
{
	struct agent *agent = &daemon->agent;

	task_finish_all();
	api_cni_stop(agent);
	for (size_t i = 0; i < ARRAY_SIZE(daemon->pins); i++)
		deletion_watch_free(daemon->pins[i]);
	for (size_t i = 0; i < ARRAY_SIZE(daemon->sockets); i++)
		deletion_watch_free(daemon->sockets[i]);
	api_close(agent);
	listeners_free(agent->listening);
	sockets_free(agent->sockets);
	accel_free(agent->accel);
	host_routing_free(agent->host_routing);
	uplinks_free(agent->uplinks);
	gc_free(agent->gc);
	flow_log_free(agent->flow_log);
	flows_free(agent->flows);
	monitor_free(agent->monitor);
	objects_free(agent->objects);
	health_free(agent->health);
	nodes_free(agent->nodes);
	encryption_free(daemon->encryption);
	endpoints_free(agent->endpoints);
	sync_free(agent->sync);
	store_free(agent->store);
	datapath_close(agent->datapath);
	for (size_t i = 0; i < ARRAY_SIZE(daemon->signals); i++) {
		if (daemon->signals[i])
			event_free(daemon->signals[i]);
	}
	if (daemon->watchdog)
		event_free(daemon->watchdog);
	if (daemon->fork_server_event)
		event_free(daemon->fork_server_event);
	if (agent->base)
		event_base_free(agent->base);
	fork_server_free(daemon->fork_server);
	run_locks_release(&daemon->locks);
}

static int run(struct daemon *daemon)
{
	struct errmsg err = {};
	int ret = daemon_start(daemon, &err);

	if (ret) {
		log_error("%s", err.text);
	} else {
		daemon_ready(daemon);
		event_base_dispatch(daemon->agent.base);
	}
	daemon_stop(daemon);
	return ret || daemon->failed ? EXIT_FAILED : EXIT_OK;
}

/* ---- the other things it does ---------------------------------------------------------------- */

static int mounts_make(const struct config *config)
{
	struct errmsg err = {};

	if (run_mounts_make(config, &err) == 0)
		return EXIT_OK;
	log_error("%s", err.text);
	return EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct daemon daemon = { .locks = RUN_LOCKS_INIT, .argc = argc, .argv = argv };
	enum config_action action;
	struct errmsg err = {};

	if (argc == 2 && strcmp(argv[1], FORK_SERVER_ARGUMENT) == 0)
		return children_serve();
	json_init();
	event_set_mem_functions(xmalloc, xrealloc, free);
	daemon.agent.start_ns = now_ns();
	signal(SIGPIPE, SIG_IGN);
	if (config_load(&daemon.config, argc, argv, &action, &err)) {
		fprintf(stderr, "tendrild: %s\n", err.text);
		return EXIT_USAGE;
	}
	log_set_level(daemon.config.log_level);
	switch (action) {
	case CONFIG_RUN:
		return run(&daemon);
	case CONFIG_CHECK:
		config_print(&daemon.config);
		return EXIT_OK;
	case CONFIG_MOUNT:
		return mounts_make(&daemon.config);
	case CONFIG_CLEANUP:
		return cleanup(&daemon.config) ? EXIT_FAILED : EXIT_OK;
	case CONFIG_VERSION:
		printf("tendrild %s (ABI %d)\n", TENDRIL_VERSION, ABI_VERSION);
		return EXIT_OK;
	case CONFIG_HELP:
		config_usage();
		return EXIT_OK;
	}
	return EXIT_USAGE;
}
