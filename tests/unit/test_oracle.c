/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random stores, in which the compiled tables, the explanation and a brute-force reading of the
 * specification must agree on every flow; and every scene that was once answered wrongly.
 * SEED=N repeats one store, ORACLE_STORES=N sets the length.  tests/bpf/test_three_ways.c asks the
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
#include "policy/analysis/explain.h"
#include "policy/compiler/verdict.h"
#include "unit/random_store.h"

#include <cmocka.h> /* last: it makes fail a macro */

#define STORES      2000
#define QUESTIONS   50 /* a store */
#define SECONDS_MAX 10

DEFINE_AUTO(store)
DEFINE_AUTO(compiled)

struct answers {
	enum drop_reason specification;
	enum drop_reason tables;
	enum drop_reason cluster;   /* the specification, where every pod has policy enforced */
	enum drop_reason explained; /* as in cluster */
};

static struct explain_end end_of(const struct store *store, const char *text)
{
	struct explain_end end = { .has_addr = true,
				   .is_host = !strcmp(text, HOST_V4) || !strcmp(text, HOST_V6) };

	assert_int_equal(addr_parse(text, &end.addr), 0);
	end.pod = store_owner(store, &end.addr);
	return end;
}

static enum drop_reason explain(const struct store *store, const struct query *query)
{
	struct explain_end from = end_of(store, query->from);
	struct explain_end to = end_of(store, query->to);
	struct flow flow = question_flow(query);
	enum drop_reason reason = DROP_NONE;
	struct explanation explanation = policy_explain(store, &from, &to, flow.proto, query->port);

	if (explanation.egress.verdict == VERDICT_DENY)
		reason = DROP_EGRESS_DENIED;
	else if (explanation.verdict == VERDICT_DENY)
		reason = DROP_INGRESS_DENIED;
	explanation_done(&explanation);
	return reason;
}

static struct answers ask(const struct snapshot *snapshot, const struct store *store,
			  const struct compiled *compiled, const struct query *query)
{
	/* Explanations know nothing of nodes' borders: they answer for the whole cluster. */
	const struct snapshot everywhere = { .objects = snapshot->objects };
	struct flow flow = question_flow(query);

	return (struct answers){
		.specification = snapshot_oracle(snapshot, query),
		.tables = verdict_flow(compiled, &flow),
		.cluster = snapshot_oracle(&everywhere, query),
		.explained = explain(store, query),
	};
}

static bool agree(const struct answers *answers)
{
	return answers->specification == answers->tables && answers->cluster == answers->explained;
}

struct mismatch {
	struct query *query;
	struct answers answers;
};

static bool still_disagree(const struct snapshot *snapshot, void *arg)
{
	struct mismatch *mismatch = arg;
	auto_(store) struct store *store = snapshot_store(snapshot, NULL);
	auto_(compiled) struct compiled *compiled = NULL;
	struct answers answers;

	if (!store)
		return false;
	compiled = policy_compile(store);
	answers = ask(snapshot, store, compiled, mismatch->query);
	if (agree(&answers))
		return false;
	mismatch->answers = answers;
	return true;
}

static void report(struct snapshot *snapshot, struct query *query, const struct answers *seen,
		   const char *name)
{
	struct mismatch mismatch = { .query = query, .answers = *seen };
	const struct answers *answers = &mismatch.answers;
	auto_free char *text = NULL;

	snapshot_shrink(snapshot, still_disagree, &mismatch);
	text = snapshot_write(snapshot, query, snapshot_oracle(snapshot, query));
	fprintf(stderr, "keep this as " SNAPSHOT_DIR "/NAME.yaml:\n%s\n", text);
	fail_msg("%s: specification %s, tables %s; without a node: specification %s, explained %s",
		 name, answer_name(answers->specification), answer_name(answers->tables),
		 answer_name(answers->cluster), answer_name(answers->explained));
}

struct count {
	size_t asked;
	size_t denied;
};

static void store_check(uint64_t seed, struct count *count)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(store) struct store *store = NULL;
	struct errmsg err = { 0 };
	struct addresses addresses;
	struct snapshot snapshot;
	char name[32];

	random_begin(seed);
	snapshot = random_snapshot(chance(50));
	addresses_collect(&snapshot, &addresses);
	store = snapshot_store(&snapshot, &err);
	if (!store)
		fail_msg("SEED=%llu: %s", (unsigned long long)seed, err.text);
	compiled = policy_compile(store);
	for (int i = 0; i < QUESTIONS; i++) {
		struct query query = random_query(&addresses, false);
		struct answers answers = ask(&snapshot, store, compiled, &query);

		snprintf(name, sizeof(name), "SEED=%llu", (unsigned long long)seed);
		if (!agree(&answers))
			report(&snapshot, &query, &answers, name);
		count->asked++;
		count->denied += answers.specification != DROP_NONE;
	}
	snapshot_done(&snapshot);
}

static void test_random_stores(void **state)
{
	uint64_t seed = env_number("SEED", (uint64_t)time(NULL) << 20);
	uint64_t stores = getenv("SEED") ? 1 : env_number("ORACLE_STORES", STORES);
	time_t deadline = time(NULL) + SECONDS_MAX;
	struct count count = { 0 };
	uint64_t done = 0;

	(void)state;
	/* Each store has a seed of its own, so a failing one can be run alone. */
	for (; done < stores && time(NULL) < deadline; done++)
		store_check(seed + done, &count);
	print_message("SEED=%llu and on: %llu worlds, %zu flows, %zu denied\n",
		      (unsigned long long)seed, (unsigned long long)done, count.asked,
		      count.denied);
	if (stores > 1)
		assert_true(done > 0 && count.denied > count.asked / 20 &&
			    count.denied < count.asked);
}

static void snapshot_check(const char *path, void *arg)
{
	auto_(compiled) struct compiled *compiled = NULL;
	auto_(store) struct store *store = NULL;
	struct errmsg err = { 0 };
	struct query query;
	struct answers answers;
	enum drop_reason want;
	struct snapshot snapshot;

	(void)arg;
	if (snapshot_read(path, &snapshot, &query, &want, &err) < 0)
		fail_msg("%s", err.text);
	store = snapshot_store(&snapshot, &err);
	if (!store)
		fail_msg("%s: %s", path, err.text);
	compiled = policy_compile(store);
	answers = ask(&snapshot, store, compiled, &query);
	if (!agree(&answers) || answers.specification != want)
		report(&snapshot, &query, &answers, path);
	snapshot_done(&snapshot);
}

static void test_kept_snapshots(void **state)
{
	(void)state;
	assert_true(snapshots_foreach(snapshot_check, NULL) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_stores),
		cmocka_unit_test(test_kept_snapshots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
