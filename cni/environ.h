/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and validates the parameters that a runtime passes in the environment. */
#ifndef TENDRIL_CNI_ENVIRON_H
#define TENDRIL_CNI_ENVIRON_H

#include "cni/error.h"

#define CNI_CONTAINER_ID_MAX 128 /* longest the agent keeps */
#define CNI_IFNAME_SIZE      16  /* with the NUL */

/* Variables that a command needs; the others may be empty or missing. */
enum {
	ENV_CONTAINER = 1 << 0, /* CNI_CONTAINERID and CNI_IFNAME */
	ENV_NETNS = 1 << 1,
};

struct cni_environ { /* strings live in the process's environment; none is NULL */
	const char *container_id;
	const char *ifname;
	const char *netns;
	const char *args;
	const char *path;
};

/* What CNI_ARGS says about the pod; absent members are empty. */
struct cni_args {
	char pod_namespace[64];
	char pod_name[254];
	char pod_uid[64];
	char ip[64];
	char mac[18];
};

/* Reads the environment and validates what is needed or given; errors name the variables. */
int environ_load(unsigned int needed, struct cni_environ *ret_env, struct cni_error *err);

/* Parses "KEY=VALUE;KEY=VALUE".  Keys that are not ours belong to other plugins of the chain. */
int args_parse(const char *text, struct cni_args *ret_args, struct cni_error *err);

#endif
