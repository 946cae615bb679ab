/* SPDX-License-Identifier: Apache-2.0 */
/* Peer groups, sets of ports, and the difference of two stores, as text and as JSON. */
#ifndef TENDRIL_CLI_OUTPUT_DIFF_H
#define TENDRIL_CLI_OUTPUT_DIFF_H

#include "policy/analysis/diff.h"

struct cJSON;
struct cli_store;

/* Appends "shop/web, shop/app=db (2 pods), every pod of bank, 10.0.0.0/8".  All pods, or all pods
 * of a namespace, get one name.  A long list is cut. */
void peer_groups_text(const struct reach *reach, const size_t *numbers, size_t count,
		      struct buffer *text);

/* [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 1, "endPort": 65535},
 *  {"protocol": "other"}] */
struct cJSON *ports_json(const struct port_pool *pool, uint32_t set);

/* [{"pods": ["shop/web"]}, {"cidr": "10.0.0.0/8"}] */
struct cJSON *peer_groups_json(const struct reach *reach, const size_t *numbers, size_t count);

/* The whole difference, with the rules that decide; stores: the old and the new one. */
struct cJSON *diff_json(const struct policy_diff *diff, const struct cli_store *const *stores);
void diff_print(const struct policy_diff *diff, const struct cli_store *const *stores);

#endif
