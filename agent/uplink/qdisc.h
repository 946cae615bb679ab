/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fq on a device, the queueing discipline that sends each packet at the time that the programs gave
 * it (earliest departure time; tc-fq(8)).
 */
#ifndef TENDRIL_AGENT_UPLINK_QDISC_H
#define TENDRIL_AGENT_UPLINK_QDISC_H

#include "lib/netlink.h"

/* Gives the device fq in place of the kernel's default, to each of its queues.  What somebody else
 * has chosen stays: -EBUSY.  -ENOENT: the kernel has no fq. */
int qdisc_ensure_fq(struct netlink *netlink, int ifindex, struct errmsg *err);

/* Gives devices their default back, for --cleanup. */
int qdiscs_cleanup(struct errmsg *err);

#endif
