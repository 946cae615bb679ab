/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of settings: it makes the parser of the command line, the parser of agent.json, the
 * help text and what --check-config prints.  A new setting is a member of struct config and a row.
 */
#include "agent/config.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>

#include "agent/config_setting.h"
#include "lib/auto.h"
#include "lib/file.h"
#include "lib/reader.h"

#define CONFIG_FILE_MAX  65536
#define SOCKET_PATH_ROOM 90 /* of a run dir: "/tendril.sock" must still fit into sun_path */

#define PATH_SETTING(option, key, member, max, help)                                            \
	{                                                                                       \
		option, key, SETTING_PATH, offsetof(struct config, member), 0, max, "DIR", help \
	}
#define NUMBER_SETTING(option, key, member, min, max, help)                                       \
	{                                                                                         \
		option, key, SETTING_NUMBER, offsetof(struct config, member), min, max, "N", help \
	}
#define BOOL_SETTING(option, key, member, help)                                                \
	{                                                                                      \
		option, key, SETTING_BOOL, offsetof(struct config, member), 0, 1, "BOOL", help \
	}
#define CHOICE_SETTING(option, key, member, words, help)                                        \
	{                                                                                       \
		option, key, SETTING_CHOICE, offsetof(struct config, member), 0, 0, words, help \
	}
#define ACTION_SETTING(option, action, help)                           \
	{                                                              \
		option, NULL, SETTING_ACTION, 0, 0, action, NULL, help \
	}

static const struct setting settings[] = {
	PATH_SETTING("run-dir", "runDir", run_dir, SOCKET_PATH_ROOM,
		     "state and tendril.sock (/run/tendril)"),
	PATH_SETTING("bpffs", "bpffs", bpffs, 255, "pinned maps and links (/sys/fs/bpf/tendril)"),
	PATH_SETTING("cgroup", "cgroup", cgroup, 255,
		     "cgroup2 folder of the socket layer; \"\": none (the cgroup2 mount)"),
	PATH_SETTING("objects", "objects", objects_dir, 255,
		     "JSON and YAML objects (/etc/tendril/objects)"),
	PATH_SETTING("cni-bin-dir", "cniBinDir", cni_bin_dir, 255,
		     "put the CNI plugin there when ready; \"\": do not (\"\")"),
	PATH_SETTING("cni-conf-dir", "cniConfDir", cni_conf_dir, 255,
		     "put the CNI configuration there when ready; \"\": do not (\"\")"),
	{ "pod-cidr", "podCIDRs", SETTING_CIDRS, offsetof(struct config, pod_cidrs), 0, 0, "CIDR",
	  "range of pod addresses, repeatable (10.127.0.0/24, fd00:10:127::/112; with "
	  "kubernetes those of the Node object)" },
	{ "device", "devices", SETTING_DEVICES, offsetof(struct config, devices), 0, 0, "NAME",
	  "where clients outside reach services, repeatable (each with an address of the node)" },
	NUMBER_SETTING("mtu", "mtu", mtu, 0, 65535,
		       "MTU of pod interfaces; 0: that of the default route's device (0)"),
	BOOL_SETTING("socket-services", "socketServices", socket_services,
		     "translate service addresses in the socket layer (true)"),
	{ "node-port-address", "nodePortAddresses", SETTING_PREFIXES,
	  offsetof(struct config, node_port_addresses), 0, 0, "CIDR",
	  "node ports and health checks are at the node's addresses in this range, "
	  "repeatable (all)" },
	BOOL_SETTING("external-ips", "externalIPs", external_ips,
		     "serve externalIPs of Services: who writes one takes any address (false)"),
	BOOL_SETTING("maglev", "maglev", maglev,
		     "choose endpoints for clients outside by Maglev where a Service does not say "
		     "(false)"),
	BOOL_SETTING("masquerade", "masquerade", masquerade,
		     "pods reach what is outside the cluster under the node's address (false)"),
	{ "non-masquerade-cidr", "nonMasqueradeCIDRs", SETTING_PREFIXES,
	  offsetof(struct config, non_masquerade_cidrs), 0, 0, "CIDR",
	  "destinations that see pods under their own addresses, beside the pods and nodes of the "
	  "cluster, repeatable (none)" },
	BOOL_SETTING("accel", "accel", accel,
		     "socket acceleration for pods that both ask for it (true)"),
	BOOL_SETTING("audit", "audit", audit,
		     "report what policy would drop, and let it pass (false)"),
	BOOL_SETTING("flows", "flows", flows,
		     "record the flows that tendril flows, top and tcp show (true)"),
	BOOL_SETTING("dns-names", "dnsNames", dns_names,
		     "read the answers of DNS to pods, and name what they reach (false)"),
	BOOL_SETTING("big-tcp", "bigTcp", big_tcp,
		     "IPv4 packets of up to 192 KiB inside the node (false)"),
	BOOL_SETTING("clsact", "clsact", force_clsact,
		     "attach with clsact even where the kernel has TCX (false)"),
	BOOL_SETTING("auto-direct-node-routes", "autoDirectNodeRoutes", direct_routes,
		     "routes to the pods of nodes on the same link (false)"),
	CHOICE_SETTING("host-routing", "hostRouting", host_routing, "auto|bpf|legacy",
		       "packets between pods and uplinks bypass the host's stack and its netfilter "
		       "(bpf) or do not (legacy); auto: unless rules are there for them (auto)"),
	CHOICE_SETTING("xdp", "xdp", xdp, "off|auto|native|generic",
		       "XDP sends connections from outside on to other nodes: where the driver has "
		       "it (auto, native), or by the kernel, for tests (off)"),
	CHOICE_SETTING("load-balancer-mode", "loadBalancerMode", load_balancer_mode, "snat|dsr",
		       "connections from outside to backends on other nodes are answered through "
		       "this node (snat), or by the node of the backend itself (dsr) (snat)"),
	CHOICE_SETTING("routing-mode", "routingMode", routing_mode, "native|tunnel",
		       "how packets get to the pods of other nodes (native)"),
	CHOICE_SETTING("tunnel-protocol", "tunnelProtocol", tunnel.protocol, "vxlan|geneve",
		       "of the tunnel (vxlan)"),
	NUMBER_SETTING("tunnel-port", "tunnelPort", tunnel_port, 0, 65535,
		       "UDP port of the tunnel; 0: 8472 for VXLAN, 6081 for Geneve (0)"),
	CHOICE_SETTING("underlay-protocol", "underlayProtocol", underlay_protocol, "ipv4|ipv6",
		       "between the nodes, in the outer packets of the tunnel and of WireGuard "
		       "(ipv4)"),
	CHOICE_SETTING("encryption", "encryption", encryption, "none|wireguard",
		       "of packets between this node's pods and other nodes (none)"),
	BOOL_SETTING("encryption-strict", "encryptionStrict", encryption_strict,
		     "drop such packets rather than send or take them in clear (false)"),
	BOOL_SETTING("kubernetes", "kubernetes", kubernetes,
		     "wait for the objects that tendril-kube hands over (false)"),
	NUMBER_SETTING("pod-wait", "podWait", pod_wait_s, 1, 10,
		       "seconds that a pod's start waits for its Pod object, with kubernetes (5)"),
	NUMBER_SETTING("max-endpoints", "maxEndpoints", limits.endpoints, 2, 65535,
		       "pods on this node, plus one (512)"),
	NUMBER_SETTING("max-connections", "maxConnections", limits.connections, 64, 1 << 24,
		       "tracked connections; one pod gets at most half of them (32768)"),
	NUMBER_SETTING("max-addresses", "maxAddresses", limits.addresses, 64, 1 << 24,
		       "addresses of pods, nodes and services (65536)"),
	NUMBER_SETTING("max-policies", "maxPolicies", limits.policies, 64, 1 << 24,
		       "entries of compiled policies (65536)"),
	NUMBER_SETTING("max-ports", "maxPorts", limits.ports, 64, 1 << 24,
		       "port ranges of long rules (16384)"),
	NUMBER_SETTING("max-cidrs", "maxCidrs", limits.cidrs, 64, 1 << 24,
		       "CIDRs named by policies (16384)"),
	NUMBER_SETTING("max-services", "maxServices", limits.services, 64, 1 << 24,
		       "service ports (65536)"),
	NUMBER_SETTING("max-backends", "maxBackends", limits.backends, 64, 1 << 24,
		       "backends of all services (131072)"),
	NUMBER_SETTING("max-translations", "maxTranslations", limits.translations, 64, 1 << 24,
		       "connections translated per packet, two entries each (16384; 65536 with "
		       "masquerade)"),
	NUMBER_SETTING("max-flows", "maxFlows", limits.flows, 64, 1 << 24,
		       "flows that policy record and canary watch; not the log of tendril flows "
		       "(8192)"),
	NUMBER_SETTING("metric-namespaces", "metricNamespaces", metric_namespaces, 1, 65535,
		       "namespaces with metrics of their own; the others are summed up (255)"),
	NUMBER_SETTING("metric-services", "metricServices", metric_services, 1, 65535,
		       "services with metrics of their own; the others are summed up (256)"),
	NUMBER_SETTING("metric-backends", "metricBackends", metric_backends, 0, 65535,
		       "backends of such services with metrics of their own; 0: no such metrics "
		       "(0)"),
	{ "log-level", "logLevel", SETTING_LEVEL, offsetof(struct config, log_level), 0, 0, "LEVEL",
	  "error, warn, info or debug (info)" },
	{ "config", NULL, SETTING_FILE, 0, 0, 0, "FILE",
	  "read this file (" CONFIG_FILE_DEFAULT ", if it exists)" },
	ACTION_SETTING("check-config", CONFIG_CHECK, "print the configuration in force and exit"),
	ACTION_SETTING("mount", CONFIG_MOUNT,
		       "mount a bpffs and a cgroup2 if there is none, and exit"),
	ACTION_SETTING("cleanup", CONFIG_CLEANUP,
		       "remove links, pins, interfaces, rules and state, and exit"),
	ACTION_SETTING("version", CONFIG_VERSION, "print the version and exit"),
	ACTION_SETTING("help", CONFIG_HELP, "print this and exit"),
};

/* ---- agent.json ------------------------------------------------------------------------------ */

static const struct setting *setting_by_key(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (settings[i].key && strcmp(settings[i].key, key) == 0)
			return &settings[i];
	}
	return NULL;
}

static int json_apply(const struct cJSON *json, struct config *config, struct errmsg *err)
{
	struct json_node root = json_root(json);
	bool seen[ARRAY_SIZE(settings)] = {};
	struct reader reader = { .err = err };
	const struct cJSON *item;

	if (!read_required(&reader, &root) || !read_is_object(&reader, &root))
		return reader.ret;
	cJSON_ArrayForEach (item, json) {
		const struct setting *setting = setting_by_key(item->string);
		struct json_node node = json_member_node(&root, item);

		if (!setting) {
			reader_error(&reader, &node, "unknown field");
			continue;
		}
		if (seen[setting - settings])
			reader_error(&reader, &node, "given twice");
		seen[setting - settings] = true;
		setting_set_json(&reader, setting, &node, config);
	}
	return reader.ret;
}

/* file NULL: the default one, which may be missing. */
static int file_apply(const char *file, struct config *config, struct errmsg *err)
{
	const char *path = file ? file : CONFIG_FILE_DEFAULT;
	auto_free char *text = NULL;
	auto_json struct cJSON *json = NULL;
	size_t len;
	int ret = file_read(path, CONFIG_FILE_MAX, &text, &len, err);

	if (ret == -ENOENT && !file)
		return 0;
	if (ret)
		return ret;
	if (json_parse(text, len, &json, err) || json_apply(json, config, err))
		return wrap(err, "%s", path);
	return 0;
}

/* ---- command line ---------------------------------------------------------------------------- */

struct walk {
	struct config *config; /* NULL: only look for the file and the action */
	const char *file;
	enum config_action action;
	bool given[ARRAY_SIZE(settings)];
};

static int walk_take(struct walk *walk, const struct setting *setting, const char *value,
		     struct errmsg *err)
{
	if (!walk->config) {
		if (setting->type == SETTING_FILE)
			walk->file = value;
		/* Help wins over everything else, then the version. */
		if (setting->type == SETTING_ACTION && setting->max > walk->action)
			walk->action = (enum config_action)setting->max;
		return 0;
	}
	if (!walk->given[setting - settings])
		setting_clear(setting, walk->config);
	walk->given[setting - settings] = true;
	if (setting_set_text(setting, walk->config, value, err))
		return wrap(err, "option --%s", setting->option);
	return 0;
}

#define OPTION_FIRST 256 /* getopt's values below are characters */

static int arguments_walk(int argc, char **argv, struct walk *walk, struct errmsg *err)
{
	struct option options[2 * ARRAY_SIZE(settings) + 1] = {};
	char negated[ARRAY_SIZE(settings)][40];
	size_t count = 0;
	int c, ret;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *setting = &settings[i];
		int has_arg = setting->type == SETTING_BOOL     ? optional_argument
			      : setting->type == SETTING_ACTION ? no_argument
								: required_argument;

		options[count++] = (struct option){ setting->option, has_arg, NULL,
						    OPTION_FIRST + 2 * (int)i };
		if (setting->type != SETTING_BOOL)
			continue;
		snprintf(negated[i], sizeof(negated[i]), "no-%s", setting->option);
		options[count++] = (struct option){ negated[i], no_argument, NULL,
						    OPTION_FIRST + 2 * (int)i + 1 };
	}
	opterr = 0;
	optind = 0; /* glibc: scan again from the start */
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		int index = (c - OPTION_FIRST) / 2;

		if (c == ':')
			return fail_plain(err, -EINVAL, "option %s needs a value",
					  argv[optind - 1]);
		if (c == '?')
			return fail_plain(err, -EINVAL, "unknown option or value: %s",
					  argv[optind - 1]);
		if (c == 'h') {
			walk->action = CONFIG_HELP;
			continue;
		}
		ret = walk_take(walk, &settings[index],
				(c - OPTION_FIRST) % 2 ? "false"
				: optarg               ? optarg
						       : "true",
				err);
		if (ret)
			return ret;
	}
	if (optind < argc)
		return fail_plain(err, -EINVAL, "unexpected argument %s", argv[optind]);
	return 0;
}

/* ---- defaults and the whole ------------------------------------------------------------------ */

/* Undoes the octal escapes of /proc/self/mountinfo, in place. */
static void mount_unescape(char *text)
{
	char *out = text;

	for (const char *in = text; *in;) {
		if (in[0] == '\\' && strspn(in + 1, "01234567") >= 3) {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
}

/* The first cgroup2 mount, or "". */
static void cgroup_default(char *buf, size_t size)
{
	auto_fclose FILE *file = fopen("/proc/self/mountinfo", "re");
	auto_free char *line = NULL;
	size_t room = 0;

	buf[0] = '\0';
	while (file && getline(&line, &room, file) > 0) {
		char *type = strstr(line, " - ");
		char mount[256];

		if (!type || strncmp(type + 3, "cgroup2 ", 8) != 0 ||
		    sscanf(line, "%*s %*s %*s %*s %255s", mount) != 1)
			continue;
		mount_unescape(mount);
		snprintf(buf, size, "%s", mount);
		return;
	}
}

static void config_defaults(struct config *config)
{
	*config = (struct config){
		.run_dir = "/run/tendril",
		.bpffs = "/sys/fs/bpf/tendril",
		.objects_dir = "/etc/tendril/objects",
		.socket_services = true,
		.pod_wait_s = 5,
		.metric_namespaces = 255,
		.metric_services = 256,
		.flows = true,
		.accel = true,
		.log_level = LOG_LEVEL_INFO,
	};
	cgroup_default(config->cgroup, sizeof(config->cgroup));
}

/* Checks that concern several settings at once. */
static int config_check(struct config *config, struct errmsg *err)
{
	config->pod_cidrs_of_node = config->kubernetes && config->pod_cidr_count == 0;
	if (config->pod_cidr_count == 0 && !config->pod_cidrs_of_node &&
	    (config_add_pod_cidr(config, "10.127.0.0/24", err) ||
	     config_add_pod_cidr(config, "fd00:10:127::/112", err)))
		return err->code;
	config->tunnel.ipv6 = config->underlay_protocol == UNDERLAY_IPV6;
	config->tunnel.port = (uint16_t)config->tunnel_port;
	if (!config->tunnel.port)
		config->tunnel.port = config->tunnel.protocol == TUNNEL_VXLAN ? 8472 : 6081;
	if (config->routing_mode == ROUTING_TUNNEL && config->direct_routes)
		return fail_plain(err, -EINVAL,
				  "autoDirectNodeRoutes is for routingMode native, not tunnel");
	if (config->load_balancer_mode == LOAD_BALANCER_DSR &&
	    config->encryption != ENCRYPTION_NONE)
		return fail_plain(
			err, -EINVAL,
			"loadBalancerMode dsr is not for encryption wireguard: its packets "
			"between nodes would go in clear");
	if (config->encryption_strict && config->encryption == ENCRYPTION_NONE)
		return fail_plain(err, -EINVAL, "encryptionStrict is for encryption wireguard");
	for (size_t i = 0; i < config->pod_cidr_count; i++) {
		bool v4 = addr_is_v4(&config->pod_cidrs[i].addr);
		unsigned int min = v4 ? 576 : 1280;

		if (config->mtu && config->mtu < min)
			return fail_plain(err, -EINVAL, "mtu: %u is less than the %u of IPv%d",
					  config->mtu, min, v4 ? 4 : 6);
	}
	return 0;
}

int config_load(struct config *config, int argc, char **argv, enum config_action *ret_action,
		struct errmsg *err)
{
	struct walk walk = { .action = CONFIG_RUN };
	struct config loaded;
	int ret = arguments_walk(argc, argv, &walk, err);

	if (ret)
		return ret;
	config_defaults(&loaded);
	if (walk.action != CONFIG_HELP && walk.action != CONFIG_VERSION) {
		ret = file_apply(walk.file, &loaded, err);
		walk.config = &loaded;
		if (!ret)
			ret = arguments_walk(argc, argv, &walk, err);
		if (!ret)
			ret = config_check(&loaded, err);
		if (ret)
			return ret;
	}
	*config = loaded;
	*ret_action = walk.action;
	return 0;
}

const char *config_difference(const struct config *a, const struct config *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (!setting_is_same(&settings[i], a, b))
			return settings[i].key;
	}
	return NULL;
}

/* ---- for people ------------------------------------------------------------------------------ */

void config_print(const struct config *config)
{
	auto_json cJSON *json = cJSON_CreateObject();
	auto_free char *text = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *setting = &settings[i];
		bool is_default = setting->type == SETTING_NUMBER && setting->min > 0 &&
				  *(const uint32_t *)((const char *)config + setting->offset) == 0;

		if (setting->key && !is_default)
			cJSON_AddItemToObject(json, setting->key, setting_json(setting, config));
	}
	text = cJSON_Print(json);
	puts(text);
}

/* Room for what servers remember of closed connections (TIME_WAIT): from all ports for SNAT to two
 * destinations. */
#define TRANSLATIONS_MASQUERADE 65536

struct datapath_options config_datapath(const struct config *config)
{
	struct datapath_options options = {
		.pin_dir = config->bpffs,
		.cgroup = *config->cgroup ? config->cgroup : NULL,
		.socket_services = config->socket_services,
		.accel = config->accel,
		.accel_later = true,
		.force_clsact = config->force_clsact,
		.limits = config->limits,
	};

	if (config->masquerade && !options.limits.translations)
		options.limits.translations = TRANSLATIONS_MASQUERADE;
	return options;
}

void config_usage(void)
{
	printf("Usage: tendrild [OPTION]...\n"
	       "The node agent of Tendril: pod networking, services and policy in eBPF.\n\n"
	       "Each option has a member in agent.json: --run-dir is \"runDir\".  The command "
	       "line\n"
	       "wins over the file.  BOOL options are also --NAME and --no-NAME.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *setting = &settings[i];
		bool is_bool = setting->type == SETTING_BOOL;
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s%s", setting->option,
			 is_bool             ? "[="
			 : setting->argument ? " "
					     : "",
			 setting->argument ? setting->argument : "", is_bool ? "]" : "");
		printf("  %-26s %s\n", left, setting->help);
	}
}
