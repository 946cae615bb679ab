/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names the processes of the node that listen in vain: what clients send to their port goes to a
 * service, by a node port, a host port or an address of the node that a service has.
 */
#ifndef TENDRIL_AGENT_SOCKETS_LISTENERS_H
#define TENDRIL_AGENT_SOCKETS_LISTENERS_H

struct datapath;
struct event_base;
struct listeners;
struct store;
struct sync;

struct listeners_options { /* borrowed */
	struct event_base *base;
	struct datapath *datapath;
	struct store *store;
	struct sync *sync;
};

struct listeners *listeners_new(const struct listeners_options *options);
void listeners_free(struct listeners *listeners);

/* Looks at the node's sockets from the loop, in slices: now, or some seconds after the last time.
 */
void listeners_check_soon(struct listeners *listeners);

/* Calls each() with what the last look found, as a sentence for status. */
void listeners_problems(const struct listeners *listeners,
			void (*each)(const char *text, void *arg), void *arg);

#endif
