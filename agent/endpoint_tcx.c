/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of a pod are cheaper by a TCX program than by a clsact filter, but the first TCX program
 * of a device waits for an RCU grace period with rtnl held, which no ADD can afford.  So an
 * endpoint starts with the filter, and gets the same program in front of it when the node is quiet:
 * one endpoint after the other, by the reaper, who can wait.  The filter stays behind it; should
 * someone take the TCX program away, the pod is slower and no less guarded.
 */
#include "agent/endpoint_internal.h"
#include "datapath/datapath.h"

#define LOG_MODULE "endpoint"
#include "agent/lib/log.h"

static const struct timeval quiet = { .tv_sec = 1 };
static const struct timeval between = { .tv_usec = 10000 }; /* rtnl is others' meanwhile */

void endpoints_tcx_soon(struct endpoints *endpoints)
{
	if (datapath_uses_tcx(endpoints->agent->datapath))
		event_add(endpoints->tcx_event, &quiet);
}

void endpoints_tcx_next(struct endpoints *endpoints)
{
	/* An ADD that came meanwhile has set the timer: then it is quiet no more. */
	if (!event_pending(endpoints->tcx_event, EV_TIMEOUT, NULL))
		event_add(endpoints->tcx_event, &between);
}

void endpoints_tcx_step(evutil_socket_t fd, short what, void *arg)
{
	struct endpoints *endpoints = arg;
	struct errmsg err = {};

	(void)fd;
	(void)what;
	for (size_t slot = 1; slot < endpoints->slot_count; slot++) {
		struct attachment *attachment = endpoints->slots[slot];

		if (!attachment || attachment->tcx || attachment->state != ATTACHMENT_READY)
			continue;
		if (reaper_attach(endpoints->reaper, attachment_ifindex(attachment), TCX_TAG,
				  &err) < 0)
			log_debug("%s", err.text);
		else
			attachment->tcx = true;
		return;
	}
}
