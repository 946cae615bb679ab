/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCX program costs a packet less than a clsact filter.  But the first TCX program of a device
 * waits for an RCU grace period with rtnl held, which no ADD can afford.  So an endpoint starts
 * with the filter, and the link worker puts the same program in front of it when the node is quiet,
 * one endpoint after the other.  On a node that is never quiet this comes later and with longer
 * pauses.  The filter stays behind it: if somebody removes the TCX program, the pod is slower but
 * still guarded.
 */
#include <sys/param.h>

#include "agent/endpoint/endpoint_internal.h"
#include "lib/clock.h"

#define LOG_MODULE "endpoint"
#include "lib/log.h"

#define QUIET_NS    NS_PER_SEC
#define PATIENCE_NS (10 * NS_PER_SEC) /* longest wait for a quiet moment */
/* Between two, others may have rtnl. */
#define PAUSE_NS      (10 * NS_PER_SEC / 1000)
#define PAUSE_BUSY_NS (200 * NS_PER_SEC / 1000)

static void step_after(struct endpoints *endpoints, uint64_t ns)
{
	struct timeval wait = { .tv_sec = (time_t)(ns / NS_PER_SEC),
				.tv_usec = (suseconds_t)(ns % NS_PER_SEC / 1000) };

	event_add(endpoints->tcx_event, &wait);
}

uint64_t tcx_wait_note(struct tcx_wait *wait, uint64_t now)
{
	uint64_t due;

	if (!wait->since_ns)
		wait->since_ns = now;
	wait->last_ns = now;
	due = MIN(now + QUIET_NS, wait->since_ns + PATIENCE_NS);
	return due > now ? due - now : 0;
}

uint64_t tcx_wait_pause(const struct tcx_wait *wait, uint64_t now)
{
	return now - wait->last_ns < QUIET_NS ? PAUSE_BUSY_NS : PAUSE_NS;
}

void endpoints_tcx_soon(struct endpoints *endpoints)
{
	uint64_t now = now_ns(), wait;

	if (!datapath_uses_tcx(endpoints->datapath))
		return;
	wait = tcx_wait_note(&endpoints->tcx_wait, now);
	if (wait)
		step_after(endpoints, wait);
	else /* it has waited long enough */
		endpoints_tcx_next(endpoints);
}

void endpoints_tcx_next(struct endpoints *endpoints)
{
	/* If an ADD came meanwhile, it has set the timer. */
	if (!event_pending(endpoints->tcx_event, EV_TIMEOUT, NULL))
		step_after(endpoints, tcx_wait_pause(&endpoints->tcx_wait, now_ns()));
}

void endpoints_tcx_step(evutil_socket_t fd, short what, void *arg)
{
	struct endpoints *endpoints = arg;
	struct errmsg err = {};

	(void)fd;
	(void)what;
	for (size_t slot = 1; slot < endpoints->slot_count && endpoints->link_worker; slot++) {
		struct endpoint *endpoint = endpoints->slots[slot];

		/* TCX would end before the filters that another plugin has on its device. */
		if (!endpoint || endpoint->chained || endpoint->tcx ||
		    endpoint->state != ENDPOINT_READY)
			continue;
		endpoint->tcx = link_worker_attach(endpoints->link_worker,
						   endpoint_ifindex(endpoint), TCX_TAG, &err) == 0;
		if (!endpoint->tcx) { /* it is busy, or has died */
			log_debug("%s", err.text);
			endpoints_tcx_next(endpoints);
		}
		return;
	}
	endpoints->tcx_wait.since_ns = 0;
}
