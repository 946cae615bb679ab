/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources of objects: a directory of JSON and YAML files, watched by inotify, objects of the
 * agent's API (kept in RUN_DIR/objects.json), and those of a Kubernetes API server.  A changed file
 * goes into the store whole or not at all; then sync writes the maps.
 */
#ifndef TENDRIL_AGENT_OBJECTS_OBJECTS_H
#define TENDRIL_AGENT_OBJECTS_OBJECTS_H

#include "agent/objects/object_change.h"

struct buffer;
struct cJSON;
struct event_base;
struct http_exchange;
struct objects;
struct sync;
struct wireguard_key;

struct objects_options { /* all of it is borrowed */
	struct event_base *base;
	struct store *store;
	struct sync *sync;
	const char *dir;
	const char *run_dir;
	bool kubernetes;     /* objects of an API server will come: objects_kube_put() */
	bool all_nodes;      /* every Node object is needed, not only this node's */
	uint32_t pod_wait_s; /* how long ADD waits for its Pod object */
	const struct wireguard_key
		*node_key;                /* what this node's Node object must announce; or NULL */
	void (*complete)(void *arg);      /* every source is known now, and was not at the start */
	void (*nodes_changed)(void *arg); /* Node objects, or whether all of them are known */
	void *arg;
};

/* Reads everything once (files with errors are refused and recorded), then watches. */
int objects_new(const struct objects_options *options, struct objects **ret_objects,
		struct errmsg *err);
void objects_free(struct objects *objects);
/* Removes what RUN_DIR keeps of files, for --cleanup. */
void objects_cleanup(const char *run_dir);

/*
 * Functions that may read a long text run as a task (lib/task.h): objects_reload(), objects_put(),
 * objects_del(), objects_kube_put(), objects_get().  So each of them finds the others, and the
 * reading of changed files, complete.
 */

/* Reads all again (SIGHUP). */
void objects_reload(struct objects *objects);

/* Why policies may be missing: a source could not be read since the start, and there is no copy of
 * its earlier content.  NULL: everything is known.  Until then nothing of an earlier agent is
 * removed from the maps, and no pod is added. */
const char *objects_unknown(const struct objects *objects);

/* For the API: adds all objects of a text or none; *ret_count is how many.  -EINVAL, -EEXIST with a
 * text. */
int objects_put(struct objects *objects, const struct object_author *author, const char *json,
		size_t len, size_t *ret_count, struct errmsg *err);
int objects_del(struct objects *objects, const struct object_author *author, enum object_kind kind,
		const char *namespace, const char *name,
		struct errmsg *err); /* -ENOENT, -EPERM: it comes from a file */
/* Takes a batch of tendril-kube, lines as in API.md; *ret_answer is the answer, owned by the
 * caller. -EPERM: Kubernetes is not followed; -EINVAL, -EBADMSG with a text. */
int objects_kube_put(struct objects *objects, const char *text, size_t len,
		     struct cJSON **ret_answer, struct errmsg *err);
/* Starts the stream on which the agent asks tendril-kube for objects; ends the stream before it. */
void objects_kube_follow(struct objects *objects, struct http_exchange *exchange);
/* The agent takes pods from now on: the client may tell the API server. */
void objects_kube_ready(struct objects *objects);
/* The client shall announce this public key in the node's Node object. */
void objects_kube_announce(struct objects *objects, const struct wireguard_key *key);
/* This node's Node object of the API server; NULL: there is none, or this node's name is unknown.
 */
const struct object *objects_own_node(const struct objects *objects);
/* The object as it was given, owned by the caller; NULL if there is none. */
struct cJSON *objects_get(struct objects *objects, enum object_kind kind, const char *namespace,
			  const char *name);
/* "FILE" or "api"; NULL if there is no such object. */
const char *objects_source(const struct objects *objects, enum object_kind kind,
			   const char *namespace, const char *name);

/* Appends how long changes took, in the text format of Prometheus. */
void objects_sync_metrics(const struct objects *objects, struct buffer *out);

/* Fills the "objects" member of status, as in API.md. */
struct cJSON *objects_status(const struct objects *objects);
/* Fills its "kubernetes" member; NULL if Kubernetes is not followed. */
struct cJSON *objects_kube_status(const struct objects *objects);

#endif
