/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An uplink of the lab's node, with a default route by a router behind it whose MAC is known.
 */
#ifndef TENDRIL_TESTS_HARNESS_LAB_UPLINK_H
#define TENDRIL_TESTS_HARNESS_LAB_UPLINK_H

#include "harness/lab.h"

#define UPLINK_INDEX 5
#define UPLINK_MTU   1400

extern const uint8_t router_mac[6], uplink_mac[6];

/* Makes the device and loads the programs of uplinks.  0, or -1 after a message. */
int lab_uplink_make(void);

/* The frame of a segment, as it comes from the router. */
struct frame lab_uplink_frame(const struct segment *segment);

uint8_t lab_ttl(const struct frame *frame);

#endif
