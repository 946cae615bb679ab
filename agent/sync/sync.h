/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Store -> maps: compiles, compares with what the maps hold, writes the difference, raises the
 * revision.  Entries are written before what points to them, and deletions come last, so that no
 * packet meets a half-written policy.
 */
#ifndef TENDRIL_AGENT_SYNC_SYNC_H
#define TENDRIL_AGENT_SYNC_SYNC_H

#include "datapath/maps.h"
#include "lib/errmsg.h"
#include "policy/compiler/compile.h"
#include "policy/objects/service.h"

struct sync;
struct event_base;

/* Reads what the pinned maps hold, so that the first sync_policies() writes only differences.
 * Nothing is removed before sync_set_missing(NULL): the store may be half known. */
int sync_new(struct event_base *base, struct datapath *datapath, struct store *store,
	     struct sync **ret, struct errmsg *err);
void sync_free(struct sync *sync);
/* Why the store is incomplete, as a sentence: a source that could not be read yet.  NULL: it is
 * complete, and what it does not mention may be removed from the maps. */
void sync_set_missing(struct sync *sync, const char *missing);
const char *sync_missing(const struct sync *sync); /* NULL: nothing */

/* Policies, identities and addresses; and the endpoint_map fields that the compiler owns (flags,
 * policy_id, identity; the endpoint's other fields must have been set by its owner before).
 * -ENOSPC names the full map; what could be written stays. */
int sync_policies(struct sync *sync, struct errmsg *err);
/* One service (by its key, existing or not), or all of them. */
int sync_service(struct sync *sync, const char *namespace, const char *name, struct errmsg *err);
int sync_services(struct sync *sync, struct errmsg *err);

/* What the administrator decides about services; before the first of them is synced. */
void sync_set_services(struct sync *sync, const struct service_settings *settings);
/* The node as services see it, borrowed until the store changes. */
const struct service_node *sync_node(struct sync *sync);

/* Whether every endpoint is audited (ENDPOINT_AUDIT), not only those whose pods ask for it.  In
 * force, for live connections too, when it returns. */
int sync_set_audit(struct sync *sync, bool audit, struct errmsg *err);
bool sync_audit(const struct sync *sync);

/* Calls changed() each time the revision was raised. */
void sync_on_change(struct sync *sync, void (*changed)(void *arg), void *arg);

/* Calls changed() each time the range of node ports in the node's state has grown: there are
 * services for clients outside.  Services are being written at that moment. */
void sync_on_node_ports(struct sync *sync, void (*changed)(void *arg), void *arg);

/* The last result, borrowed, valid until the next sync_policies(); NULL before the first. */
const struct compiled *sync_compiled(const struct sync *sync);

/* What the last runs could not do (full maps), as a text for status. */
const char *sync_warning(struct sync *sync); /* "" when all is well */

#endif
