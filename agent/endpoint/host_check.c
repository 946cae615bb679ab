/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others set on the node that cuts its pods off.  It may be an administrator's will: it is
 * reported, in status and STATUS, and not undone.
 */
#include "agent/endpoint/endpoint_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/file.h"

#define ROUTES_NAMED 5 /* of wrong ones; the others are counted */

struct finding {
	void (*found)(const char *text, void *arg);
	void *arg;
};

static void __attribute__((format(printf, 2, 3)))
report(const struct finding *finding, const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	finding->found(text, finding->arg);
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
		report(finding, "%s is 0: pods reach nothing beyond this node by %s; set it to 1",
		       settings[i].setting, settings[i].v4 ? "IPv4" : "IPv6");
	}
}

/* What the node sends to the pod must go to HOST_DEVICE.  False: it does not, and *ret_text says
 * where it goes. */
static bool route_is_right(struct endpoints *endpoints, const struct addr *addr, char *ret_text,
			   size_t size)
{
	struct host_link link = {};
	int ifindex = 0;
	int ret = route_device(&endpoints->netlink, addr, &ifindex, NULL);

	if (ret == 0 && ifindex == host_device_ifindex(endpoints->host))
		return true;
	if (ret < 0)
		snprintf(ret_text, size, "there is no route (%s)", strerror(-ret));
	else if (host_link_get(&endpoints->netlink, ifindex, &link, NULL) == 0)
		snprintf(ret_text, size, "its route leads to %s", link.name);
	else
		snprintf(ret_text, size, "its route leads to device %d", ifindex);
	return false;
}

static void routes_check(struct endpoints *endpoints, const struct finding *finding)
{
	unsigned int wrong = 0;

	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		const struct endpoint *endpoint = endpoints->slots[slot];

		if (!endpoint || endpoint->state == ENDPOINT_DELETING)
			continue;
		for (size_t i = 0; i < endpoint->address_count; i++) {
			const struct addr *addr = &endpoint->addresses[i].address.addr;
			char address[ADDR_TEXT_MAX], why[80];

			if (route_is_right(endpoints, addr, why, sizeof(why)) ||
			    wrong++ >= ROUTES_NAMED)
				continue;
			report(finding,
			       "the node does not reach pod %s/%s at %s: %s instead of " HOST_DEVICE
			       "; see \"ip route get %s\" and \"ip rule\"",
			       endpoint->namespace, endpoint->name, addr_format(addr, address), why,
			       address);
		}
	}
	if (wrong > ROUTES_NAMED)
		report(finding, "the node does not reach %u more addresses of pods",
		       wrong - ROUTES_NAMED);
}

void endpoints_problems(struct endpoints *endpoints, void (*found)(const char *text, void *arg),
			void *arg)
{
	const struct finding finding = { .found = found, .arg = arg };
	struct errmsg err = {};

	if (endpoint_state_room(endpoints, &err) < 0)
		report(&finding, "%s", err.text);
	forwarding_check(endpoints, &finding);
	routes_check(endpoints, &finding);
}
