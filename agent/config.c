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

#include "lib/auto.h"
#include "lib/file.h"
#include "lib/reader.h"

#define CONFIG_FILE_MAX  65536
#define SOCKET_PATH_ROOM 90 /* of a run dir: "/tendril.sock" must still fit into sun_path */

enum setting_type {
	SETTING_PATH,     /* char[256], absolute */
	SETTING_CIDRS,    /* pod_cidrs; repeatable */
	SETTING_DEVICES,  /* devices; repeatable */
	SETTING_PREFIXES, /* struct prefix_set; repeatable */
	SETTING_NUMBER,
	SETTING_BOOL,
	SETTING_CHOICE, /* unsigned int: which of the words in argument, by "|" */
	SETTING_LEVEL,
	SETTING_FILE,   /* which file to read; command line only */
	SETTING_ACTION, /* max says which; command line only */
};

struct setting {
	const char *option;
	const char *key; /* in agent.json; NULL: command line only */
	enum setting_type type;
	size_t offset;
	uint32_t min, max;    /* of a number; max of a path is its length */
	const char *argument; /* as help shows it */
	const char *help;
};

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

static void *setting_member(const struct setting *setting, struct config *config)
{
	return (char *)config + setting->offset;
}

/* ---- values ---------------------------------------------------------------------------------- */

static int path_set(const struct setting *setting, struct config *config, const char *text,
		    struct errmsg *err)
{
	char *member = setting_member(setting, config);
	bool may_be_empty = member == config->cgroup || member == config->cni_bin_dir ||
			    member == config->cni_conf_dir;

	if (*text != '/' && !(may_be_empty && !*text))
		return fail_plain(err, -EINVAL, "\"%s\" is not an absolute path", text);
	if (strlen(text) > setting->max)
		return fail_plain(err, -EINVAL, "\"%.40s...\" is longer than %u characters", text,
				  setting->max);
	snprintf(member, sizeof(config->run_dir), "%s", text);
	return 0;
}

static int cidr_add(struct config *config, const char *text, struct errmsg *err)
{
	struct prefix prefix, whole;
	char addr[ADDR_TEXT_MAX], clean[ADDR_TEXT_MAX];
	const char *slash = strchr(text, '/');
	struct addr given;

	if (!slash || prefix_parse(text, &prefix) < 0 || (size_t)(slash - text) >= sizeof(addr))
		return fail_plain(err, -EINVAL, "\"%s\" is not ADDRESS/LENGTH", text);
	snprintf(addr, sizeof(addr), "%.*s", (int)(slash - text), text);
	if (addr_parse(addr, &given) == 0 && !addr_equal(&given, &prefix.addr))
		return fail_plain(err, -EINVAL,
				  "\"%s\" has bits beyond its length: did you mean %s?", text,
				  prefix_format(&prefix, clean));
	if (prefix.len > 126)
		return fail_plain(err, -EINVAL, "\"%s\" has no room for a gateway and a pod", text);
	for (size_t i = 0; i < 5; i++) {
		static const char *const reserved[] = { "127.0.0.0/8", "169.254.0.0/16",
							"224.0.0.0/3", "fe80::/10", "ff00::/8" };

		if (prefix_parse(reserved[i], &whole) == 0 && prefix_overlaps(&prefix, &whole))
			return fail_plain(err, -EINVAL, "\"%s\" overlaps %s, which pods cannot use",
					  text, reserved[i]);
	}
	for (size_t i = 0; i < config->pod_cidr_count; i++) {
		if (prefix_overlaps(&prefix, &config->pod_cidrs[i]))
			return fail_plain(err, -EINVAL, "\"%s\" overlaps %s", text,
					  prefix_format(&config->pod_cidrs[i], clean));
	}
	if (config->pod_cidr_count == ARRAY_SIZE(config->pod_cidrs))
		return fail_plain(err, -EINVAL, "more than %zu ranges",
				  ARRAY_SIZE(config->pod_cidrs));
	config->pod_cidrs[config->pod_cidr_count++] = prefix;
	return 0;
}

static int device_add(struct config *config, const char *text, struct errmsg *err)
{
	const size_t room = sizeof(config->devices[0]);

	if (!*text || strlen(text) >= room || strpbrk(text, "/ \t\n"))
		return fail_plain(err, -EINVAL, "\"%s\" is not the name of a device", text);
	if (config->device_count == DEVICES_MAX)
		return fail_plain(err, -EINVAL, "more than %d devices", DEVICES_MAX);
	snprintf(config->devices[config->device_count++], room, "%s", text);
	return 0;
}

static int prefix_add(struct prefix_set *prefixes, const char *text, struct errmsg *err)
{
	if (prefixes->count == ARRAY_SIZE(prefixes->items))
		return fail_plain(err, -EINVAL, "more than %zu ranges",
				  ARRAY_SIZE(prefixes->items));
	if (!strchr(text, '/') || prefix_parse(text, &prefixes->items[prefixes->count]) < 0)
		return fail_plain(err, -EINVAL, "\"%s\" is not ADDRESS/LENGTH", text);
	prefixes->count++;
	return 0;
}

static int number_set(const struct setting *setting, struct config *config, uint64_t number,
		      struct errmsg *err)
{
	if (number < setting->min || number > setting->max)
		return fail_plain(err, -EINVAL, "%llu is not between %u and %u",
				  (unsigned long long)number, setting->min, setting->max);
	*(uint32_t *)setting_member(setting, config) = (uint32_t)number;
	return 0;
}

static int bool_parse(const char *text, bool *ret_value)
{
	static const struct {
		const char *text;
		bool value;
	} words[] = {
		{ "true", true }, { "false", false }, { "yes", true }, { "no", false },
		{ "on", true },   { "off", false },   { "1", true },   { "0", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i].text) == 0) {
			*ret_value = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static int choice_set(const struct setting *setting, struct config *config, const char *text,
		      struct errmsg *err)
{
	const size_t len = strlen(text);
	unsigned int choice = 0;

	for (const char *word = setting->argument; word; choice++) {
		const char *end = strchrnul(word, '|');

		if ((size_t)(end - word) == len && strncmp(word, text, len) == 0) {
			*(unsigned int *)setting_member(setting, config) = choice;
			return 0;
		}
		word = *end ? end + 1 : NULL;
	}
	return fail_plain(err, -EINVAL, "\"%s\" is not one of %s", text, setting->argument);
}

/* The word of a choice, and its length. */
static const char *choice_word(const struct setting *setting, unsigned int choice, int *ret_len)
{
	const char *word = setting->argument;

	while (choice--)
		word = strchrnul(word, '|') + 1;
	*ret_len = (int)(strchrnul(word, '|') - word);
	return word;
}

static int text_set(const struct setting *setting, struct config *config, const char *text,
		    struct errmsg *err)
{
	uint64_t number;

	switch (setting->type) {
	case SETTING_PATH:
		return path_set(setting, config, text, err);
	case SETTING_CIDRS:
		return cidr_add(config, text, err);
	case SETTING_DEVICES:
		return device_add(config, text, err);
	case SETTING_PREFIXES:
		return prefix_add(setting_member(setting, config), text, err);
	case SETTING_NUMBER:
		if (number_parse(text, 0, UINT32_MAX, &number) < 0)
			return fail_plain(err, -EINVAL, "\"%s\" is not a number between %u and %u",
					  text, setting->min, setting->max);
		return number_set(setting, config, number, err);
	case SETTING_BOOL:
		if (bool_parse(text, setting_member(setting, config)) < 0)
			return fail_plain(err, -EINVAL, "\"%s\" is not true or false", text);
		return 0;
	case SETTING_CHOICE:
		return choice_set(setting, config, text, err);
	case SETTING_LEVEL:
		if (log_level_parse(text, &config->log_level) < 0)
			return fail_plain(err, -EINVAL, "\"%s\" is not error, warn, info or debug",
					  text);
		return 0;
	case SETTING_FILE:
	case SETTING_ACTION:
		break; /* the first pass handled them */
	}
	return 0;
}

/* ---- agent.json ------------------------------------------------------------------------------ */

static void json_set_list(struct reader *reader, const struct setting *setting,
			  const struct json_node *node, struct config *config)
{
	const struct cJSON *item;
	struct errmsg fault;
	size_t index = 0;

	read_is_array(reader, node);
	cJSON_ArrayForEach (item, node->value) {
		struct json_node element = json_element(node, item, index++);

		if (text_set(setting, config, read_required_string(reader, &element), &fault))
			reader_error(reader, &element, "%s", fault.text);
	}
}

static void json_set(struct reader *reader, const struct setting *setting,
		     const struct json_node *node, struct config *config)
{
	void *member = setting_member(setting, config);
	struct errmsg fault;

	if (setting->type == SETTING_CIDRS || setting->type == SETTING_DEVICES ||
	    setting->type == SETTING_PREFIXES)
		json_set_list(reader, setting, node, config);
	else if (setting->type == SETTING_BOOL)
		*(bool *)member = read_bool(reader, node, false);
	else if (setting->type == SETTING_NUMBER)
		*(uint32_t *)member =
			(uint32_t)read_integer(reader, node, setting->min, setting->max, 0);
	else if (text_set(setting, config, read_required_string(reader, node), &fault))
		reader_error(reader, node, "%s", fault.text);
}

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
		json_set(&reader, setting, &node, config);
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

/* The first item of a list on the command line replaces what the file says. */
static void list_clear(const struct setting *setting, struct config *config)
{
	if (setting->type == SETTING_CIDRS)
		config->pod_cidr_count = 0;
	else if (setting->type == SETTING_DEVICES)
		config->device_count = 0;
	else if (setting->type == SETTING_PREFIXES)
		((struct prefix_set *)setting_member(setting, config))->count = 0;
}

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
		list_clear(setting, walk->config);
	walk->given[setting - settings] = true;
	if (text_set(setting, walk->config, value, err))
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
	    (cidr_add(config, "10.127.0.0/24", err) || cidr_add(config, "fd00:10:127::/112", err)))
		return err->code;
	config->tunnel.ipv6 = config->underlay_protocol == UNDERLAY_IPV6;
	config->tunnel.port = (uint16_t)config->tunnel_port;
	if (!config->tunnel.port)
		config->tunnel.port = config->tunnel.protocol == TUNNEL_VXLAN ? 8472 : 6081;
	if (config->routing_mode == ROUTING_TUNNEL && config->direct_routes)
		return fail_plain(err, -EINVAL,
				  "autoDirectNodeRoutes is for routingMode native, not tunnel");
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

static bool cidrs_same(const struct config *a, const struct config *b)
{
	bool same = a->pod_cidr_count == b->pod_cidr_count;

	if (a->pod_cidrs_of_node && b->pod_cidrs_of_node)
		return true;

	for (size_t i = 0; same && i < a->pod_cidr_count; i++)
		same = a->pod_cidrs[i].len == b->pod_cidrs[i].len &&
		       addr_equal(&a->pod_cidrs[i].addr, &b->pod_cidrs[i].addr);
	return same;
}

static bool prefixes_same(const struct prefix_set *a, const struct prefix_set *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = prefix_equal(&a->items[i], &b->items[i]);
	return same;
}

const char *config_difference(const struct config *a, const struct config *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct setting *setting = &settings[i];
		const char *a_member = (const char *)a + setting->offset;
		const char *b_member = (const char *)b + setting->offset;
		bool same = true;

		if (setting->type == SETTING_PATH)
			same = strcmp(a_member, b_member) == 0;
		else if (setting->type == SETTING_CIDRS)
			same = cidrs_same(a, b);
		else if (setting->type == SETTING_DEVICES)
			same = memcmp(a->devices, b->devices, sizeof(a->devices)) == 0;
		else if (setting->type == SETTING_PREFIXES)
			same = prefixes_same((const void *)a_member, (const void *)b_member);
		else if (setting->type == SETTING_NUMBER || setting->type == SETTING_CHOICE)
			same = memcmp(a_member, b_member, sizeof(uint32_t)) == 0;
		else if (setting->type == SETTING_BOOL && a_member != (const char *)&a->audit)
			same = *(const bool *)a_member == *(const bool *)b_member;
		if (!same)
			return setting->key;
	}
	return NULL;
}

/* ---- for people ------------------------------------------------------------------------------ */

static cJSON *setting_json(const struct setting *setting, const struct config *config)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	const void *member = (const char *)config + setting->offset;
	const struct prefix_set *prefixes = member;
	char text[ADDR_TEXT_MAX];
	const char *word;
	cJSON *array;
	int len;

	switch (setting->type) {
	case SETTING_PATH:
		return cJSON_CreateString(member);
	case SETTING_NUMBER:
		return cJSON_CreateNumber(*(const uint32_t *)member);
	case SETTING_BOOL:
		return cJSON_CreateBool(*(const bool *)member);
	case SETTING_CHOICE:
		word = choice_word(setting, *(const unsigned int *)member, &len);
		snprintf(text, sizeof(text), "%.*s", len, word);
		return cJSON_CreateString(text);
	case SETTING_LEVEL:
		return cJSON_CreateString(levels[config->log_level]);
	case SETTING_PREFIXES:
		array = cJSON_CreateArray();
		for (size_t i = 0; i < prefixes->count; i++)
			cJSON_AddItemToArray(array, cJSON_CreateString(prefix_format(
							    &prefixes->items[i], text)));
		return array;
	case SETTING_CIDRS:
		array = cJSON_CreateArray();
		for (size_t i = 0; i < config->pod_cidr_count; i++)
			cJSON_AddItemToArray(array, cJSON_CreateString(prefix_format(
							    &config->pod_cidrs[i], text)));
		return array;
	case SETTING_DEVICES:
		array = cJSON_CreateArray();
		for (size_t i = 0; i < config->device_count; i++)
			cJSON_AddItemToArray(array, cJSON_CreateString(config->devices[i]));
		return array;
	default:
		return NULL;
	}
}

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
