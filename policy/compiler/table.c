/* SPDX-License-Identifier: Apache-2.0 */
/* The tables beside policy_map: who is subject, who is behind which address. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "lib/alloc.h"
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
		.egress_bandwidth = pod_state->pod ? pod_state->pod->pod.egress_bandwidth : 0,
		.ingress_bandwidth = pod_state->pod ? pod_state->pod->pod.ingress_bandwidth : 0,
	};

	if (number == NONE)
		return subject;
	subject.policy_id = compiler->rulesets[number].id;
	subject.ingress_isolated = ruleset_decides(&compiler->rulesets[number], DIR_INGRESS);
	subject.egress_isolated = ruleset_decides(&compiler->rulesets[number], DIR_EGRESS);
	return subject;
}

static void compile_subjects(struct compiler *compiler)
{
	struct allocator *allocator = &compiler->allocator;
	struct compiled *compiled = compiler->compiled;

	compiled->subjects = xcalloc(allocator->pod_state_count + 1, sizeof(*compiled->subjects));
	for (size_t i = 0; i < allocator->pod_state_count; i++) {
		struct pod_state *pod_state = &allocator->pod_states[i];

		if (!pod_state->subject)
			continue;
		pod_state->row = (uint32_t)compiled->subject_count++;
		compiled->subjects[pod_state->row] = subject_make(compiler, pod_state);
	}
}

struct compiled_address address_make(const struct compiler *compiler, const struct ip_owner *owner)
{
	const struct pod_state *pod_state =
		owner->pod_state == NONE ? NULL : &compiler->allocator.pod_states[owner->pod_state];

	return (struct compiled_address){
		.addr = owner->addr,
		.identity = compiled_id(compiler, owner->identity,
					owner->kind == OWNER_HOST ? IDENTITY_HOST : IDENTITY_WORLD),
		.slot = owner->slot,
		.flags = owner->kind == OWNER_HOST ? IPCACHE_HOST : 0,
		.subject = pod_state && pod_state->subject
				   ? &compiler->compiled->subjects[pod_state->row]
				   : NULL,
	};
}

static void compile_addresses(struct compiler *compiler)
{
	const struct allocator *allocator = &compiler->allocator;
	struct compiled *compiled = compiler->compiled;

	compiled->addresses = xcalloc(allocator->owner_count + 1, sizeof(*compiled->addresses));
	for (size_t i = 0; i < allocator->owner_count; i++)
		compiled->addresses[compiled->address_count++] =
			address_make(compiler, &allocator->owners[i]);
}

static int cidr_compare(const void *a, const void *b)
{
	const struct prefix *left = &((const struct compiled_cidr *)a)->prefix;
	const struct prefix *right = &((const struct compiled_cidr *)b)->prefix;
	int order = addr_compare(&left->addr, &right->addr);

	return order ? order : (left->len > right->len) - (left->len < right->len);
}

/* The longest match of the map compares bits, and a short IPv6 prefix contains the mapped IPv4
 * addresses: 0.0.0.0/0 keeps them out. */
void compile_cidrs(struct compiler *compiler)
{
	const struct prefix all_v4 = { .addr = { .w = { [2] = htonl(0xffff) } }, .len = 96 };
	const struct allocator *allocator = &compiler->allocator;
	const struct referenced *referenced = &allocator->referenced;
	struct compiled *compiled = compiler->compiled;
	size_t room = referenced->prefix_count + allocator->unknown_count + 1;
	bool covered = false;

	free(compiled->cidrs);
	compiled->cidr_count = 0;
	compiled->cidrs = xcalloc(room, sizeof(*compiled->cidrs));
	for (size_t i = 0; i < referenced->prefix_count; i++) {
		const struct prefix *prefix = &referenced->prefixes[i];
		struct prefix around = prefix_of(&all_v4.addr, prefix->len);
		uint32_t identity = allocator_prefix_identity(allocator, (uint32_t)i);

		if (allocator_pod_cidrs_contain(allocator, prefix)) /* among allocator->unknown */
			continue;
		compiled->cidrs[compiled->cidr_count++] =
			(struct compiled_cidr){ .prefix = *prefix,
						.identity = allocator->identities[identity].id };
		covered |= prefix->len < all_v4.len && addr_equal(&around.addr, &prefix->addr);
	}
	for (size_t i = 0; i < allocator->unknown_count; i++) {
		const struct unknown_range *range = &allocator->unknown[i];

		compiled->cidrs[compiled->cidr_count++] = (struct compiled_cidr){
			.prefix = range->prefix,
			.identity = compiled_id(compiler, range->identity, IDENTITY_WORLD),
			.unknown_pods = range->identity != NONE &&
					allocator->identities[range->identity].group != NONE,
		};
	}
	if (covered && referenced_prefix(referenced, &all_v4) == REFERENCED_NONE)
		compiled->cidrs[compiled->cidr_count++] =
			(struct compiled_cidr){ .prefix = all_v4, .identity = IDENTITY_WORLD };
	qsort(compiled->cidrs, compiled->cidr_count, sizeof(*compiled->cidrs), cidr_compare);
}

/* "shop/app=cart,tier=web in 10.0.0.0/8". */
static char *identity_describe(struct compiler *compiler, const struct identity_class *identity)
{
	const struct allocator *allocator = &compiler->allocator;
	struct buffer *text = &compiler->key;
	char cidr[ADDR_TEXT_MAX];

	text->len = 0;
	if (identity->group != NONE) {
		const struct group *group = &allocator->groups[identity->group];

		buffer_string(text, group->unknown ? "unknown pod"
				    : group->namespace == NONE
					    ? "node"
					    : allocator_namespace(allocator, group->namespace));
		for (size_t i = 0; i < group->labels.count; i++)
			buffer_print(text, "%s%s=%s", i ? "," : "/", group->labels.items[i].key,
				     group->labels.items[i].value);
	}
	if (identity->prefix != NONE)
		buffer_print(
			text, "%s%s", identity->group == NONE ? "" : " in ",
			prefix_format(&allocator->referenced.prefixes[identity->prefix], cidr));
	return arena_string(compiler->arena, text->data);
}

static int identity_compare(const void *a, const void *b)
{
	uint32_t left = ((const struct compiled_identity *)a)->id;
	uint32_t right = ((const struct compiled_identity *)b)->id;

	return (left > right) - (left < right);
}

struct compiled_identity identity_make(struct compiler *compiler, uint32_t number)
{
	const struct allocator *allocator = &compiler->allocator;
	const struct identity_class *identity = &allocator->identities[number];
	struct compiled_identity compiled = { .id = identity->id,
					      .description =
						      identity_describe(compiler, identity) };
	const struct group *group;

	if (identity->group == NONE)
		return compiled;
	group = &allocator->groups[identity->group];
	compiled.labels = group->labels;
	if (group->namespace != NONE)
		compiled.namespace = (char *)allocator_namespace(allocator, group->namespace);
	return compiled;
}

static void compile_identities(struct compiler *compiler)
{
	struct compiled *compiled = compiler->compiled;
	size_t count = allocator_identity_count(&compiler->allocator);

	compiled->identities = xcalloc(count + 2, sizeof(*compiled->identities));
	compiled->identities[0].id = IDENTITY_HOST;
	compiled->identities[0].description = arena_string(compiler->arena, "host");
	compiled->identities[1].id = IDENTITY_WORLD;
	compiled->identities[1].description = arena_string(compiler->arena, "world");
	compiled->identity_count = 2;
	for (size_t i = 0; i < count; i++)
		compiled->identities[compiled->identity_count++] =
			identity_make(compiler, (uint32_t)i);
	qsort(compiled->identities, compiled->identity_count, sizeof(*compiled->identities),
	      identity_compare);
}

void compile_tables(struct compiler *compiler)
{
	compile_subjects(compiler);
	compile_addresses(compiler);
	compile_cidrs(compiler);
	compile_identities(compiler);
}

const struct compiled_identity *compiled_identity_find(const struct compiled *compiled, uint32_t id)
{
	const struct compiled_identity key = { .id = id };

	return bsearch(&key, compiled->identities, compiled->identity_count, sizeof(key),
		       identity_compare);
}
