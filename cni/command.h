/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands.  Each has its own file, gets a valid configuration and environment, and returns 0
 * or the code in err.  *ret_answer goes to standard output, and the caller owns it; it is unchanged
 * if the specification wants no output.
 */
#ifndef TENDRIL_CNI_COMMAND_H
#define TENDRIL_CNI_COMMAND_H

#include "cni/environ.h"
#include "cni/error.h"
#include "cni/netconf.h"

int command_add(const struct netconf *conf, const struct cni_environ *env,
		struct cJSON **ret_answer, struct cni_error *err);
int command_del(const struct netconf *conf, const struct cni_environ *env,
		struct cJSON **ret_answer, struct cni_error *err);
int command_check(const struct netconf *conf, const struct cni_environ *env,
		  struct cJSON **ret_answer, struct cni_error *err);
int command_gc(const struct netconf *conf, const struct cni_environ *env, struct cJSON **ret_answer,
	       struct cni_error *err);
int command_status(const struct netconf *conf, const struct cni_environ *env,
		   struct cJSON **ret_answer, struct cni_error *err);

/* Makes the agent delete the endpoint, or stores the deletion for an agent that does not run. */
int endpoint_forget(const struct netconf *conf, const struct cni_environ *env, int timeout_ms,
		    struct cni_error *err);

#endif
