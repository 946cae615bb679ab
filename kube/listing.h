/* SPDX-License-Identifier: Apache-2.0 */
/* Lists all followed kinds once, reduces the objects and prints them, for the CLI. */
#ifndef TENDRIL_KUBE_LISTING_H
#define TENDRIL_KUBE_LISTING_H

#include <stdio.h>

#include "kube/apiserver.h"

/* Prints a v1 List, one object a line.  Runs the loop until the last page has arrived; the first
 * request that fails is the error.  Optional kinds may be missing, and Nodes if they may not be
 * read; that is logged. */
int listing_print(struct event_base *base, struct apiserver *apiserver, FILE *out,
		  struct errmsg *err);

#endif
