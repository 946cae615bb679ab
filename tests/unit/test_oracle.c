/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random worlds, in which the compiled tables, the explanation and a brute-force reading of the
 * specification must agree on every flow; and every scene that was once answered wrongly.
 * SEED=N repeats one world, ORACLE_WORLDS=N sets the length.  tests/bpf/test_three_ways.c asks the
 * datapath as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/auto.h"
#include "lib/inet.h"
#include "policy/compiler/verdict.h"
#include "unit/random_store.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define WORLDS      2000
#define QUESTIONS   50 /* a world */
#define SECONDS_MAX 10

DEFINE_AUTO(world)
DEFINE_AUTO(compiled)

struct answers {
	enum drop_reason specification;
	enum drop_reason tables;
	enum drop_reason cluster;   /* the specification, where every pod has policy enforced */
	enum drop_reason explained; /* as in cluster */
};

static struct explain_end end_of(const struct world *world, const char *text)
{
	struct explain_end end = { .has_addr = true,
				   .is_host = !strcmp(text, HOST_V4) || !strcmp(text, HOST_V6) };

	assert_int_equal(addr_parse(text, &end.addr), 0);
	end.pod = world_owner(world, &end.addr);
	return end;
}

static enum drop_reason explain(const struct world *world, const struct question *question)
{
	struct explain_end from = end_of(world, question->from);
	struct explain_end to = end_of(world, question->to);
	struct flow flow = question_flow(question);
	enum drop_reason reason = DROP_NONE;
	struct explanation explanation;

	assert_int_equal(
		policy_explain(world, &from, &to, flow.proto, question->port, &explanation, NULL),
		0);
	if (explanation.egress.verdict == VERDICT_DENY)
		reason = DROP_EGRESS_DENIED;
	else if (explanation.verdict == VERDICT_DENY)
		reason = DROP_INGRESS_DENIED;
	explanation_done(&explanation);
	return reason;
}

static struct answers ask(const struct scene *scene, const struct world *world,
			  const struct compiled *compiled, const struct question *question)
{
	/* Explanations know nothing of nodes' borders: they answer for the whole cluster. */
	const struct scene everywhere = { .objects = scene->objects };
	struct flow flow = question_flow(question);

	return (struct answers){
		.specification = scene_oracle(scene, question),
		.tables = verdict_flow(compiled, &flow),
		.cluster = scene_oracle(&everywhere, question),
		.explained = explain(world, question),
	};
}

static bool agree(const struct answers *answers)
{
	return answers->specification == answers->tables && answers->cluster == answers->explained;
}

struct mismatch {
	struct question *question;
	struct answers answers;
};

static bool still_disagree(const struct scene *scene, void *arg)
{
	struct mismatch *mismatch = arg;
	auto_(world) struct world *world = scene_world(scene, NULL);
	auto_(compiled) struct compiled *compiled = NULL;
	struct answers answers;

	if (!world || policy_compile(world, &compiled, NULL))
		return false;
	answers = ask(scene, world, compiled, mismatch->question);
	if (agree(&answers))
		return false;
	mismatch->answers = answers;
	return true;
}

static void report(struct scene *scene, struct question *question, const struct answers *seen,
		   const char *name)
{
	struct mismatch mismatch = { .question = question, .answers = *seen };
	const struct answers *answers = &mismatch.answers;
	auto_free char *text = NULL;

	scene_shrink(scene, still_disagree, &mismatch);
	text = scene_write(scene, question, scene_oracle(scene, question));
	fprintf(stderr, "keep this as " SCENE_DIR "/NAME.yaml:\n%s\n", text);
	fail_msg("%s: specification %s, tables %s; without a node: specification %s, explained %s",
		 name, answer_name(answers->specification), answer_name(answers->tables),
		 answer_name(answers->cluster), answer_name(answers->explained));
}

struct count {
	size_t asked;
	size_t denied;
};

static void world_check(uint64_t seed, struct count *count)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(world) struct world *world = NULL;
	struct errmsg err = { 0 };
	struct addresses addresses;
	struct scene scene;
	char name[32];

	random_begin(seed);
	scene = random_scene(chance(50));
	addresses_collect(&scene, &addresses);
	world = scene_world(&scene, &err);
	if (!world || policy_compile(world, &compiled, &err))
		fail_msg("SEED=%llu: %s", (unsigned long long)seed, err.text);
	for (int i = 0; i < QUESTIONS; i++) {
		struct question question = random_question(&addresses, false);
		struct answers answers = ask(&scene, world, compiled, &question);

		snprintf(name, sizeof(name), "SEED=%llu", (unsigned long long)seed);
		if (!agree(&answers))
			report(&scene, &question, &answers, name);
		count->asked++;
		count->denied += answers.specification != DROP_NONE;
	}
	scene_done(&scene);
}

static void test_random_worlds(void **state)
{
	uint64_t seed = env_number("SEED", (uint64_t)time(NULL) << 20);
	uint64_t worlds = getenv("SEED") ? 1 : env_number("ORACLE_WORLDS", WORLDS);
	time_t deadline = time(NULL) + SECONDS_MAX;
	struct count count = { 0 };
	uint64_t done = 0;

	(void)state;
	/* Each world has a seed of its own, so a failing one can be run alone. */
	for (; done < worlds && time(NULL) < deadline; done++)
		world_check(seed + done, &count);
	print_message("SEED=%llu and on: %llu worlds, %zu flows, %zu denied\n",
		      (unsigned long long)seed, (unsigned long long)done, count.asked,
		      count.denied);
	if (worlds > 1)
		assert_true(done > 0 && count.denied > count.asked / 20 &&
			    count.denied < count.asked);
}

static void scene_check(const char *path, void *arg)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(world) struct world *world = NULL;
	struct errmsg err = { 0 };
	struct question question;
	struct answers answers;
	enum drop_reason want;
	struct scene scene;

	(void)arg;
	if (scene_read(path, &scene, &question, &want, &err) < 0)
		fail_msg("%s", err.text);
	world = scene_world(&scene, &err);
	if (!world || policy_compile(world, &compiled, &err))
		fail_msg("%s: %s", path, err.text);
	answers = ask(&scene, world, compiled, &question);
	if (!agree(&answers) || answers.specification != want)
		report(&scene, &question, &answers, path);
	scene_done(&scene);
}

static void test_kept_scenes(void **state)
{
	(void)state;
	assert_true(scenes_foreach(scene_check, NULL) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_worlds),
		cmocka_unit_test(test_kept_scenes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
