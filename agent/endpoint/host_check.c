/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others set on the node that cuts its pods off.  It may be an administrator's will: it is
 * reported, and not undone.  STATUS tells what concerns the whole node: a runtime then takes no
 * more pods.  What concerns one pod is in status alone.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/file.h"

#define ROUTES_NAMED 5 /* of wrong ones; the others are counted */
#define RANGES_MAX   16

struct finding {
	endpoints_problem *found;
	void *arg;
};

static void __attribute__((format(printf, 3, 4)))
report(const struct finding *finding, enum problem_scope scope, const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	finding->found(text, scope, finding->arg);
}

static void forwarding_check(const struct endpoints *endpoints, const struct finding *finding)
{
	static const struct {
		const char *setting;
		bool v4;
	} settings[] = { { "net/ipv4/ip_forward", true },
			 { "net/ipv6/conf/all/forwarding", false } };

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		long value = 1;

		if (!ipam_has_family(endpoints->ipam, settings[i].v4) ||
		    sysctl_read(settings[i].setting, &value, NULL) < 0 || value)
			continue;
		report(finding, PROBLEM_OF_NODE,
		       "%s is 0: pods reach nothing beyond this node by %s; set it to 1",
		       settings[i].setting, settings[i].v4 ? "IPv4" : "IPv6");
	}
}

/* What the node sends to the pod must go to HOST_DEVICE, but for pods that another plugin wired.
 * False: it does not, and *ret_text says where it goes. */
static bool route_is_right(struct endpoints *endpoints, bool chained, const struct addr *addr,
			   char *ret_text, size_t size)
{
	struct host_link link = {};
	int ifindex = 0;
	int ret = route_device(&endpoints->netlink, addr, &ifindex, NULL);

	if (chained && (ret < 0 || ifindex != host_device_ifindex(endpoints->host)))
		return true; /* else that is for the other plugin to see to */
	if (ret == 0 && !chained && ifindex == host_device_ifindex(endpoints->host))
		return true;
	if (ret < 0)
		snprintf(ret_text, size, "there is no route (%s)", strerror(-ret));
	else if (host_link_get(&endpoints->netlink, ifindex, &link, NULL) == 0)
		snprintf(ret_text, size, "its route leads to %s", link.name);
	else
		snprintf(ret_text, size, "its route leads to device %d", ifindex);
	return false;
}

/* The last address of a range: no route of one pod leads there. */
static struct addr range_probe(const struct prefix *range)
{
	struct addr addr = range->addr;

	for (unsigned int bit = range->len; bit < 128; bit++)
		addr.w[bit / 32] |= htonl(1U << (31 - bit % 32));
	return addr;
}

/* Whether the node reaches a whole range; what keeps it from that concerns each pod in it. */
static bool range_check(struct endpoints *endpoints, const struct prefix *range,
			const struct finding *finding)
{
	const struct addr probe = range_probe(range);
	char text[ADDR_TEXT_MAX], address[ADDR_TEXT_MAX], why[80];

	if (route_is_right(endpoints, false, &probe, why, sizeof(why)))
		return true;
	report(finding, PROBLEM_OF_NODE,
	       "the node does not reach its pods in %s: %s instead of " HOST_DEVICE
	       "; see \"ip route get %s\" and \"ip rule\"",
	       prefix_format(range, text), why, addr_format(&probe, address));
	return false;
}

static bool is_within(const struct addr *addr, const struct prefix *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (prefix_contains(&ranges[i], addr))
			return true;
	}
	return false;
}

static void routes_check(struct endpoints *endpoints, const struct finding *finding)
{
	struct prefix wrong_ranges[RANGES_MAX], range;
	size_t wrong_count = 0;
	unsigned int wrong = 0;

	for (size_t i = 0; ipam_range(endpoints->ipam, i, &range, &(struct addr){}); i++) {
		if (!range_check(endpoints, &range, finding) && wrong_count < RANGES_MAX)
			wrong_ranges[wrong_count++] = range;
	}

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *endpoint = endpoints->slots[slot];

		if (!endpoint || endpoint->state == ENDPOINT_DELETING)
			continue;
		for (size_t i = 0; i < endpoint->address_count; i++) {
			const struct addr *addr = &endpoint->addresses[i].address.addr;
			char address[ADDR_TEXT_MAX], why[80];

			if (is_within(addr, wrong_ranges, wrong_count) ||
			    route_is_right(endpoints, endpoint->chained, addr, why, sizeof(why)) ||
			    wrong++ >= ROUTES_NAMED)
				continue;
			report(finding, PROBLEM_OF_POD,
			       "the node does not reach pod %s/%s at %s: %s instead of %s"
			       "; see \"ip route get %s\" and \"ip rule\"",
			       endpoint->namespace, endpoint->name, addr_format(addr, address), why,
			       endpoint->chained ? "the other plugin's device" : HOST_DEVICE,
			       address);
		}
	}
	if (wrong > ROUTES_NAMED)
		report(finding, PROBLEM_OF_POD, "the node does not reach %u more addresses of pods",
		       wrong - ROUTES_NAMED);
}

static void chain_report(const char *chain, bool has_rules, void *arg)
{
	if (has_rules)
		report(arg, PROBLEM_POSSIBLE,
		       "%s drops what no rule of it accepts: see that it accepts packets from and "
		       "to " HOST_DEVICE " and " HOST_IFNAME_PREFIX "*",
		       chain);
	else
		report(arg, PROBLEM_OF_NODE,
		       "%s drops everything: pods reach nothing beyond this node; set its policy "
		       "to accept, or accept packets from and to " HOST_DEVICE
		       " and " HOST_IFNAME_PREFIX "*",
		       chain);
}

void endpoints_problems(struct endpoints *endpoints, endpoints_problem *found, void *arg)
{
	const struct finding finding = { .found = found, .arg = arg };
	struct leftovers leftovers;
	struct errmsg err = {};

	if (endpoint_state_room(endpoints, &err) < 0)
		report(&finding, PROBLEM_OF_NODE, "%s", err.text);
	forwarding_check(endpoints, &finding);
	leftovers_begin(endpoints, found, arg, &leftovers);
	netfilter_check(endpoints, chain_report, (void *)&finding, &leftovers);
	routes_check(endpoints, &finding);
}
