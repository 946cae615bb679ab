/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API server: sends requests with credentials, over one connection if the server has HTTP/2;
 * tries several addresses one after the other; and notices when the server is silent.
 */
#ifndef TENDRIL_KUBE_APISERVER_H
#define TENDRIL_KUBE_APISERVER_H

#include "kube/kubeconfig.h"
#include "kube/transfer.h"

struct apiserver;

/* config is borrowed. */
int apiserver_new(struct event_base *base, const struct kubeconfig *config, struct apiserver **ret,
		  struct errmsg *err);
void apiserver_free(struct apiserver *apiserver); /* takes NULL */

struct apiserver_request;

/* GET of a path with its query, "/api/v1/pods?limit=100"; accept is the media type (NULL: JSON);
 * for ops see transfer.h.  Takes at most timeout_s seconds; 0: as long as it takes. */
struct apiserver_request *apiserver_get(struct apiserver *apiserver, const char *path,
					const char *accept, uint32_t timeout_s,
					const struct transfer_ops *ops, void *arg);
/* Something else than GET; borrowed. */
struct apiserver_write {
	const char *method;
	const char *path;
	const char *type; /* media type of the body */
	const char *body;
};

struct apiserver_request *apiserver_send(struct apiserver *apiserver,
					 const struct apiserver_write *write, uint32_t timeout_s,
					 const struct transfer_ops *ops, void *arg);
/* Ends a request before its done(), which is not called then.  Not from within the request's ops.
 */
void apiserver_cancel(struct apiserver_request *request);

/* The address that requests go to now, "https://10.0.0.1:6443". */
const char *apiserver_address(const struct apiserver *apiserver);

#endif
