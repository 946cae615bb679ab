/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and credentials of the API server: from a kubeconfig file (v1 Config, as kubectl reads
 * it) or from the service account of a pod.
 */
#ifndef TENDRIL_KUBE_KUBECONFIG_H
#define TENDRIL_KUBE_KUBECONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/errmsg.h"

#define KUBE_SERVERS_MAX 16

struct blob { /* owned; NULL: absent */
	unsigned char *data;
	size_t len;
};

struct kubeconfig {                      /* texts are owned; NULL: absent */
	char *servers[KUBE_SERVERS_MAX]; /* "https://10.0.0.1:6443", without a slash at the end */
	size_t server_count;
	char *proxy_url;
	char *tls_server_name; /* the name in the server's certificate, if it is not the URL's */
	bool insecure;         /* insecure-skip-tls-verify */
	char *ca_file;
	struct blob ca; /* PEM */
	char *cert_file;
	struct blob cert; /* PEM */
	char *key_file;
	struct blob key; /* PEM */
	char *token;
	char *token_file; /* read again as it rotates; wins over token, as in client-go */
};

/* Reads the current context of a file.  -EINVAL: err names the file and the field.  What is not
 * supported (exec, auth-provider, username, impersonation) is refused by name, never ignored. */
int kubeconfig_read(const char *path, struct kubeconfig *ret, struct errmsg *err);

/* From KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and the service account in dir
 * (KUBE_SERVICE_ACCOUNT).  -ENOENT: this process does not run in a pod. */
int kubeconfig_in_cluster(const char *dir, struct kubeconfig *ret, struct errmsg *err);
#define KUBE_SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

/* Adds the address of a server, "https://HOST[:PORT]"; the first one is tried first.
 * -EINVAL, -E2BIG. */
int kubeconfig_add_server(struct kubeconfig *config, const char *url, struct errmsg *err);

void kubeconfig_drop_servers(struct kubeconfig *config);

void kubeconfig_done(struct kubeconfig *config);

#endif
