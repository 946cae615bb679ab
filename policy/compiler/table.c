/* SPDX-License-Identifier: Apache-2.0 */
/* The tables beside policy_map: who is subject, who is behind which address. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compiler/compiler.h"

static uint32_t compiled_id(const struct compiler *compiler, uint32_t identity, uint32_t none)
{
	return identity == NONE ? none : compiler->allocator.identities[identity].id;
}

struct compiled_subject subject_make(const struct compiler *compiler,
				     const struct pod_state *pod_state)
{
	uint32_t number = compiler->allocator.groups[pod_state->group].ruleset;
	struct compiled_subject subject = {
		.slot = pod_state->slot,
		.pod = pod_state->pod,
		.identity = compiled_id(compiler, pod_state->identity_v4, IDENTITY_WORLD),
		.identity_v6 = compiled_id(compiler, pod_state->identity_v6, IDENTITY_WORLD),
		.accel = pod_state->pod && pod_state->pod->pod.accel,
		.audit = pod_state->pod && pod_state->pod->pod.audit,
	};

	if (number == NONE)
		return subject;
	subject.policy_id = compiler->rulesets[number].id;
	subject.ingress_isolated = ruleset_decides(&compiler->rulesets[number], DIR_INGRESS);
	subject.egress_isolated = ruleset_decides(&compiler->rulesets[number], DIR_EGRESS);
	return subject;
}

static int compile_subjects(struct compiler *compiler)
{
	struct allocator *allocator = &compiler->allocator;
	struct compiled *compiled = compiler->compiled;

	compiled->subjects = calloc(allocator->pod_state_count + 1, sizeof(*compiled->subjects));
	if (!compiled->subjects)
		return -ENOMEM;
	for (size_t i = 0; i < allocator->pod_state_count; i++) {
		struct pod_state *pod_state = &allocator->pod_states[i];

		if (!pod_state->subject)
			continue;
		pod_state->row = (uint32_t)compiled->subject_count++;
		compiled->subjects[pod_state->row] = subject_make(compiler, pod_state);
	}
	return 0;
}

struct compiled_address address_make(const struct compiler *compiler, const struct place *place)
{
	const struct pod_state *pod_state =
		place->pod_state == NONE ? NULL : &compiler->allocator.pod_states[place->pod_state];

	return (struct compiled_address){
		.addr = place->addr,
		.identity = compiled_id(compiler, place->identity,
					place->kind == PLACE_HOST ? IDENTITY_HOST : IDENTITY_WORLD),
		.slot = place->slot,
		.flags = place->kind == PLACE_HOST ? IPCACHE_HOST : 0,
		.subject = pod_state && pod_state->subject
				   ? &compiler->compiled->subjects[pod_state->row]
				   : NULL,
	};
}

static int compile_addresses(struct compiler *compiler)
{
	const struct allocator *allocator = &compiler->allocator;
	struct compiled *compiled = compiler->compiled;

	compiled->addresses = calloc(allocator->place_count + 1, sizeof(*compiled->addresses));
	if (!compiled->addresses)
		return -ENOMEM;
	for (size_t i = 0; i < allocator->place_count; i++)
		compiled->addresses[compiled->address_count++] =
			address_make(compiler, &allocator->places[i]);
	return 0;
}

static int cidr_compare(const void *a, const void *b)
{
	const struct prefix *left = &((const struct compiled_cidr *)a)->prefix;
	const struct prefix *right = &((const struct compiled_cidr *)b)->prefix;
	int order = addr_compare(&left->addr, &right->addr);

	return order ? order : (left->len > right->len) - (left->len < right->len);
}

/* The map's longest match compares bits, and short IPv6 prefixes cover the mapped IPv4 addresses:
 * 0.0.0.0/0 keeps them out. */
int compile_cidrs(struct compiler *compiler)
{
	const struct allocator *allocator = &compiler->allocator;
	const struct referenced *referenced = &allocator->referenced;
	struct compiled *compiled = compiler->compiled;
	struct prefix all_v4;
	bool covered = false;

	free(compiled->cidrs);
	compiled->cidr_count = 0;
	compiled->cidrs = calloc(referenced->prefix_count + 1, sizeof(*compiled->cidrs));
	if (!compiled->cidrs || prefix_parse("0.0.0.0/0", &all_v4) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < referenced->prefix_count; i++) {
		const struct prefix *prefix = &referenced->prefixes[i];
		struct prefix around = prefix_of(&all_v4.addr, prefix->len);
		uint32_t identity = allocator_prefix_identity(allocator, (uint32_t)i);

		compiled->cidrs[compiled->cidr_count++] =
			(struct compiled_cidr){ .prefix = *prefix,
						.identity = allocator->identities[identity].id };
		covered |= prefix->len < all_v4.len && addr_equal(&around.addr, &prefix->addr);
	}
	if (covered && referenced_prefix(referenced, &all_v4) == REFERENCED_NONE)
		compiled->cidrs[compiled->cidr_count++] =
			(struct compiled_cidr){ .prefix = all_v4, .identity = IDENTITY_WORLD };
	qsort(compiled->cidrs, compiled->cidr_count, sizeof(*compiled->cidrs), cidr_compare);
	return 0;
}

/* "shop/app=cart,tier=web in 10.0.0.0/8". */
static char *identity_describe(struct compiler *compiler, const struct identity_class *identity)
{
	const struct allocator *allocator = &compiler->allocator;
	struct buffer *text = &compiler->key;
	char buf[ADDR_TEXT_MAX];

	text->len = 0;
	if (identity->group != NONE) {
		const struct group *group = &allocator->groups[identity->group];
		const char *namespace = group->namespace == NONE
						? "node"
						: allocator_namespace(allocator, group->namespace);

		buffer_add(text, namespace, strlen(namespace));
		for (size_t i = 0; i < group->labels.count; i++) {
			const struct label *label = &group->labels.items[i];

			buffer_add(text, i ? "," : "/", 1);
			buffer_add(text, label->key, strlen(label->key));
			buffer_add(text, "=", 1);
			buffer_add(text, label->value, strlen(label->value));
		}
	}
	if (identity->group != NONE && identity->prefix != NONE)
		buffer_add(text, " in ", 4);
	if (identity->prefix != NONE) {
		prefix_format(&allocator->referenced.prefixes[identity->prefix], buf);
		buffer_add(text, buf, strlen(buf));
	}
	return text->failed ? NULL : arena_string(compiler->arena, text->data);
}

static int identity_compare(const void *a, const void *b)
{
	uint32_t left = ((const struct compiled_identity *)a)->id;
	uint32_t right = ((const struct compiled_identity *)b)->id;

	return (left > right) - (left < right);
}

int identity_make(struct compiler *compiler, uint32_t number,
		  struct compiled_identity *ret_identity)
{
	const struct allocator *allocator = &compiler->allocator;
	const struct identity_class *identity = &allocator->identities[number];
	const struct group *group;

	*ret_identity = (struct compiled_identity){
		.id = identity->id,
		.description = identity_describe(compiler, identity),
	};
	if (identity->group != NONE) {
		group = &allocator->groups[identity->group];
		ret_identity->labels = group->labels;
		if (group->namespace != NONE)
			ret_identity->namespace =
				(char *)allocator_namespace(allocator, group->namespace);
	}
	return ret_identity->description ? 0 : -ENOMEM;
}

static int compile_identities(struct compiler *compiler)
{
	const struct allocator *allocator = &compiler->allocator;
	struct compiled *compiled = compiler->compiled;
	size_t count = allocator_identity_count(allocator);

	compiled->identities = calloc(count + 2, sizeof(*compiled->identities));
	if (!compiled->identities)
		return -ENOMEM;
	compiled->identities[0].id = IDENTITY_HOST;
	compiled->identities[0].description = arena_string(compiler->arena, "host");
	compiled->identities[1].id = IDENTITY_WORLD;
	compiled->identities[1].description = arena_string(compiler->arena, "world");
	compiled->identity_count = 2;
	for (size_t i = 0; i < count; i++) {
		if (identity_make(compiler, (uint32_t)i,
				  &compiled->identities[compiled->identity_count++]) < 0)
			return -ENOMEM;
	}
	qsort(compiled->identities, compiled->identity_count, sizeof(*compiled->identities),
	      identity_compare);
	return arena_failed(compiler->arena) ? -ENOMEM : 0;
}

int compile_tables(struct compiler *compiler)
{
	int ret = compile_subjects(compiler);

	if (ret == 0)
		ret = compile_addresses(compiler);
	if (ret == 0)
		ret = compile_cidrs(compiler);
	if (ret == 0)
		ret = compile_identities(compiler);
	return ret;
}

const struct compiled_identity *compiled_identity_find(const struct compiled *compiled, uint32_t id)
{
	const struct compiled_identity key = { .id = id };

	return bsearch(&key, compiled->identities, compiled->identity_count, sizeof(key),
		       identity_compare);
}
