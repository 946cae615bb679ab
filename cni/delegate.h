/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delegated IPAM: runs the plugin that the configuration names as ipam.type, found in CNI_PATH,
 * with our configuration and environment.  A plugin that does not know the configuration's version
 * is called again in the highest version that it knows.
 */
#ifndef TENDRIL_CNI_DELEGATE_H
#define TENDRIL_CNI_DELEGATE_H

#include "cni/environ.h"
#include "cni/error.h"
#include "cni/netconf.h"

/* Runs ADD; the result (see result.h) is owned by the caller and has at least one address. */
int delegate_add(const struct netconf *conf, const struct cni_environ *env,
		 struct cJSON **ret_result, struct cni_error *err);

/* Runs DEL, CHECK, GC or STATUS.  A command that the plugin's version does not have is no failure.
 */
int delegate_run(const struct netconf *conf, const struct cni_environ *env, const char *command,
		 struct cni_error *err);

#endif
