/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maglev tables: which backend a hash of a flow leads to.  Nodes that know the same backends make
 * the same table, and a backend that goes takes few other places with it (Eisenbud et al., NSDI
 * 2016).
 */
#ifndef TENDRIL_POLICY_OBJECTS_MAGLEV_H
#define TENDRIL_POLICY_OBJECTS_MAGLEV_H

#include <stddef.h>
#include <stdint.h>

#include "datapath/abi.h"

#define MAGLEV_SIZE_MAX 16381

/* Places of a table: a prime, and at least a hundred for each backend up to MAGLEV_SIZE_MAX.  0: no
 * table, because there is no choice. */
uint32_t maglev_size(size_t backends);

/* Fills table, which has size places, with indices of backends.  count: 1 or more. */
void maglev_fill(const struct backend *backends, size_t count, uint32_t *table, uint32_t size);

#endif
