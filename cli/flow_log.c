/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flow_log.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cli/agent_call.h"
#include "cli/argument.h"
#include "cli/flow_policy.h"
#include "cli/output.h"
#include "lib/alloc.h"
#include "lib/auto.h"
#include "lib/inet.h"

#define LAST_MAX 65536

/* ---- members --------------------------------------------------------------------------------- */

const char *flow_address(const cJSON *flow, const char *end)
{
	return member_text(member_get(flow, "IP"), end, "");
}

static const char *flow_dns_name(const cJSON *flow)
{
	return cJSON_GetStringValue(cJSON_GetArrayItem(member_get(flow, "destination_names"), 0));
}

const char *flow_end_name(const cJSON *flow, const char *end, char *buf, size_t size)
{
	const cJSON *json = member_get(flow, end);
	const char *pod = member_text(json, "pod_name", NULL);

	const char *name = strcmp(end, "destination") == 0 ? flow_dns_name(flow) : NULL;

	if (pod)
		snprintf(buf, size, "%s/%s", member_text(json, "namespace", ""), pod);
	else if (name)
		snprintf(buf, size, "%s (%s)", flow_address(flow, end), name);
	else
		snprintf(buf, size, "%s", flow_address(flow, end));
	return buf;
}

/* 0: it has a member of its own in l4. */
static uint8_t flow_other_proto(const cJSON *flow)
{
	double number = member_number(member_get(flow, "tendril"), "protocol");

	return number > 0 && number <= UINT8_MAX ? (uint8_t)number : 0;
}

const char *flow_protocol(const cJSON *flow)
{
	const cJSON *l4 = member_get(flow, "l4");
	uint8_t other = flow_other_proto(flow);

	if (l4 && l4->child && l4->child->string)
		return l4->child->string;
	return other ? proto_name(other) : "";
}

int flow_proto(const cJSON *flow, uint8_t *ret_proto)
{
	const char *name = flow_protocol(flow);

	*ret_proto = flow_other_proto(flow);
	if (*ret_proto)
		return 0;
	return proto_parse(strcmp(name, "ICMPv4") == 0 ? "ICMP" : name, ret_proto);
}

uint16_t flow_port(const cJSON *flow)
{
	const cJSON *l4 = member_get(flow, "l4");

	return l4 ? (uint16_t)member_number(l4->child, "destination_port") : 0;
}

double flow_number(const cJSON *flow, const char *name)
{
	return member_number(member_get(flow, "tendril"), name);
}

const char *flow_text(const cJSON *flow, const char *name)
{
	return member_text(member_get(flow, "tendril"), name, "");
}

/* ---- the filter ------------------------------------------------------------------------------ */

struct flow_filter {
	const struct arguments *args;
	uint16_t port; /* 0: any */
	uint8_t proto;
	bool any_proto;
};

static int filter_parse(struct flow_filter *filter, const struct arguments *args,
			struct errmsg *err)
{
	static const char verdicts[] = "allow|forwarded|deny|dropped|audit";
	const char *word = args->verdict;

	*filter = (struct flow_filter){ .args = args, .any_proto = true };
	if (word && strcasecmp(word, "allow") != 0 && strcasecmp(word, "forwarded") != 0 &&
	    strcasecmp(word, "deny") != 0 && strcasecmp(word, "dropped") != 0 &&
	    strcasecmp(word, "audit") != 0)
		return misused(err, "--verdict %s: must be one of %s", word, verdicts);
	if (!args->port)
		return 0;
	filter->any_proto = !strchr(args->port, '/');
	return port_argument_parse(args->port, &filter->port, &filter->proto, err);
}

/* Whether an end is the pod, the workload, the address or the CIDR that was asked for; "NAMESPACE/"
 * is all of a namespace. */
static bool end_is(const cJSON *flow, const char *end, const char *wanted, const char *namespace)
{
	const cJSON *json = member_get(flow, end);
	const cJSON *workload = cJSON_GetArrayItem(member_get(json, "workloads"), 0);
	const char *own = member_text(json, "namespace", "");
	const char *slash = strchr(wanted, '/');
	const char *name = slash ? slash + 1 : wanted;
	struct prefix prefix;
	struct addr addr, at;
	size_t len;

	if (addr_parse(wanted, &addr) == 0)
		return addr_parse(flow_address(flow, end), &at) == 0 && addr_equal(&at, &addr);
	if (prefix_parse(wanted, &prefix) == 0)
		return addr_parse(flow_address(flow, end), &at) == 0 &&
		       prefix_contains(&prefix, &at);
	len = slash ? (size_t)(slash - wanted) : strlen(namespace ? namespace : "default");
	if (strncmp(own, slash ? wanted : namespace ? namespace : "default", len) != 0 || own[len])
		return false;
	return !*name || strcmp(member_text(json, "pod_name", ""), name) == 0 ||
	       strcmp(member_text(workload, "name", ""), name) == 0;
}

static bool service_is(const cJSON *flow, const char *wanted, const char *namespace)
{
	const cJSON *service = member_get(flow, "destination_service");
	const char *own = member_text(service, "namespace", "");
	const char *slash = strchr(wanted, '/');
	char full[600];

	snprintf(full, sizeof(full), "%s/%s", own, member_text(service, "name", ""));
	if (slash)
		return strcmp(full, wanted) == 0;
	return strcmp(own, namespace ? namespace : "default") == 0 &&
	       strcmp(member_text(service, "name", ""), wanted) == 0;
}

static bool verdict_is(const cJSON *flow, const char *wanted)
{
	const char *verdict = member_text(flow, "verdict", "");

	if (strcasecmp(wanted, "allow") == 0)
		wanted = "FORWARDED";
	else if (strcasecmp(wanted, "deny") == 0)
		wanted = "DROPPED";
	return strcasecmp(verdict, wanted) == 0;
}

static bool in_namespace(const cJSON *flow, const char *end, const char *namespace)
{
	return strcmp(member_text(member_get(flow, end), "namespace", ""), namespace) == 0;
}

/* Beside the policy, which costs most to find out. */
static bool flow_fits(const struct flow_filter *filter, const cJSON *flow)
{
	const struct arguments *args = filter->args;
	const char *namespace = args->namespace;

	if (args->from && !end_is(flow, "source", args->from, namespace))
		return false;
	if (args->to && !end_is(flow, "destination", args->to, namespace))
		return false;
	if (args->pod && !end_is(flow, "source", args->pod, namespace) &&
	    !end_is(flow, "destination", args->pod, namespace))
		return false;
	if (namespace && !in_namespace(flow, "source", namespace) &&
	    !in_namespace(flow, "destination", namespace))
		return false;
	if (args->service && !service_is(flow, args->service, namespace))
		return false;
	if (args->protocol && strcasecmp(flow_protocol(flow), args->protocol) != 0)
		return false;
	if (args->verdict && !verdict_is(flow, args->verdict))
		return false;
	if (args->reason && strcasecmp(flow_text(flow, "reason"), args->reason) != 0 &&
	    strcasecmp(member_text(flow, "drop_reason_desc", ""), args->reason) != 0)
		return false;
	return !filter->port || (flow_port(flow) == filter->port &&
				 (filter->any_proto ||
				  strcasecmp(flow_protocol(flow), proto_name(filter->proto)) == 0));
}

static bool has_filter(const struct arguments *args)
{
	return args->from || args->to || args->pod || args->namespace || args->service ||
	       args->protocol || args->verdict || args->reason || args->port || args->policy;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
	struct flow_filter filter;
	struct flow_policy *policy; /* NULL: nobody asks for a policy */
	bool (*wanted)(const cJSON *flow);
	int (*each)(cJSON *flow, void *arg);
	void *arg;
	cJSON **kept; /* a ring of the last flows that fit, until the log ends */
	uint64_t keep;
	uint64_t count;
	struct errmsg *err;
};

static int flow_deliver(struct reading *reading, cJSON *flow)
{
	uint64_t place;

	if (!reading->kept) {
		int ret = reading->each(flow, reading->arg);

		cJSON_Delete(flow);
		return ret;
	}
	place = reading->count++ % reading->keep;
	cJSON_Delete(reading->kept[place]);
	reading->kept[place] = flow;
	return 0;
}

/* Adds what decides.  Without the objects flows are still worth seeing, unless a policy is asked
 * for. */
static int policy_find(struct reading *reading, cJSON *flow)
{
	struct errmsg err = {};

	if (flow_policy_add(reading->policy, flow, &err) == 0)
		return 0;
	if (reading->filter.args->policy)
		return fail_plain(reading->err, -EIO, "the policies cannot be read: %s", err.text);
	output_note("the policies cannot be read, and are left out: %s", err.text);
	flow_policy_free(take_ptr(reading->policy));
	return 0;
}

static int log_line(const char *text, void *arg)
{
	struct reading *reading = arg;
	const struct arguments *args = reading->filter.args;
	cJSON *flow = cJSON_Parse(text);
	bool fits;

	if (!flow)
		return -EBADMSG;
	if (member_get(flow, "lost")) {
		output_note("%.0f flows came faster than they were read, and are left out",
			    member_number(flow, "lost"));
		cJSON_Delete(flow);
		return 0;
	}
	fits = flow_fits(&reading->filter, flow);
	if (reading->policy && (fits || args->invert)) {
		if (policy_find(reading, flow)) {
			cJSON_Delete(flow);
			return -EIO;
		}
		fits = fits && (!args->policy || flow_policy_is(flow, args->policy));
	}
	if (fits == args->invert || (reading->wanted && !reading->wanted(flow))) {
		cJSON_Delete(flow);
		return 0;
	}
	return flow_deliver(reading, flow);
}

static int kept_deliver(struct reading *reading)
{
	uint64_t first = reading->count > reading->keep ? reading->count - reading->keep : 0;
	int ret = 0;

	for (uint64_t i = first; !ret && i < reading->count; i++)
		ret = reading->each(reading->kept[i % reading->keep], reading->arg);
	for (uint64_t i = 0; i < reading->keep; i++)
		cJSON_Delete(reading->kept[i]);
	free(reading->kept);
	return ret;
}

static int times_parse(const struct arguments *args, uint64_t *ret_last, uint64_t *ret_since,
		       struct errmsg *err)
{
	struct timespec now;
	uint32_t seconds = 0;

	*ret_since = 0;
	if (args->last && number_parse(args->last, 1, LAST_MAX, ret_last))
		return misused(err, "--last %s: must be a number between 1 and %d", args->last,
			       LAST_MAX);
	if (args->since && duration_parse(args->since, &seconds, err))
		return err->code;
	if (!args->last && (args->since || args->follow))
		*ret_last = 0;
	clock_gettime(CLOCK_REALTIME, &now);
	if (args->since || (args->follow && !args->last))
		*ret_since = ((uint64_t)now.tv_sec - seconds) * 1000000000 + (uint64_t)now.tv_nsec;
	return 0;
}

int flow_log_read(const struct arguments *args, uint64_t last,
		  bool (*wanted)(const struct cJSON *flow),
		  int (*each)(struct cJSON *flow, void *arg), void *arg, struct errmsg *err)
{
	struct reading reading = { .wanted = wanted, .each = each, .arg = arg, .err = err };
	uint64_t since;
	char path[128];
	int ret = filter_parse(&reading.filter, args, err);

	if (!ret)
		ret = times_parse(args, &last, &since, err);
	if (ret)
		return ret;
	/* The last ones that fit may be anywhere in the log. */
	if (last && (wanted || has_filter(args)) && !args->follow) {
		reading.keep = last;
		reading.kept = xcalloc(last, sizeof(*reading.kept));
		last = 0;
	}
	if (args->with_policy || args->policy)
		reading.policy = flow_policy_new(args);
	snprintf(path, sizeof(path), "/v1/flows/recent?last=%llu&since=%llu&follow=%d",
		 (unsigned long long)last, (unsigned long long)since, args->follow);
	ret = agent_follow(args, path, log_line, &reading, err);
	if (reading.kept && !ret)
		ret = kept_deliver(&reading);
	flow_policy_free(reading.policy);
	if (ret < 0 && !err->code)
		return fail_plain(err, ret, "the agent's answer is not understood");
	return ret;
}
