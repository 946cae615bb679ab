/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TENDRIL_AGENT_CLEANUP_H
#define TENDRIL_AGENT_CLEANUP_H

struct config;

/* Removes all that agents left on this node.  Returns how many steps failed, and logs why. */
int cleanup(const struct config *config);

#endif
