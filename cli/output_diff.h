/* SPDX-License-Identifier: Apache-2.0 */
/* Parties, sets of ports and what changes between stores, as text and as JSON. */
#ifndef TENDRIL_CLI_OUTPUT_DIFF_H
#define TENDRIL_CLI_OUTPUT_DIFF_H

#include "policy/analysis/diff.h"

struct cJSON;

/* Appends "shop/web, shop/app=db (2 pods), every pod of bank and 10.0.0.0/8": namespaces and all
 * pods that are there as a whole under one name, and of a long list only its beginning. */
void peer_groups_text(const struct reach *reach, const size_t *numbers, size_t count,
		      struct buffer *text);

/* [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 1, "endPort": 65535},
 *  {"protocol": "other"}] */
struct cJSON *ports_json(const struct port_pool *pool, uint32_t set);

/* [{"pods": ["shop/web"]}, {"cidr": "10.0.0.0/8"}] */
struct cJSON *peer_groups_json(const struct reach *reach, const size_t *numbers, size_t count);

/* The whole of a difference. */
struct cJSON *diff_json(const struct policy_diff *diff);
void diff_print(const struct policy_diff *diff);

#endif
