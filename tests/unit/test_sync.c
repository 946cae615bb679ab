/* SPDX-License-Identifier: Apache-2.0 */
/* The life of sync around its parts, with a follower that the test speaks for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "agent/sync/sync_internal.h"
#include "lib/auto.h"
#include "unit/fake_maps.h"

#include <cmocka.h> /* last: it makes fail a macro */

/* ---- stubs ----------------------------------------------------------------------------------- */

struct incremental *incremental_new(struct store *store)
{
	(void)store;
	return calloc(1, 1);
}

void incremental_free(struct incremental *incremental)
{
	free(incremental);
}

int incremental_update(struct incremental *incremental, struct compiled_changes *ret_changes,
		       struct errmsg *err)
{
	(void)incremental;
	(void)ret_changes;
	return fail_plain(err, -ENOMEM, "no room to compile");
}

const struct compiled *incremental_compiled(const struct incremental *incremental)
{
	(void)incremental;
	return NULL;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_failed_compile_changes_nothing(void **state)
{
	struct errmsg err = { 0 };
	struct datapath maps;
	struct sync *sync;

	(void)state;
	fake_maps_init(&maps);
	assert_int_equal(sync_new(NULL, &maps, NULL, &sync, NULL), 0);
	sync_set_missing(sync, NULL);
	assert_int_equal(sync_policies(sync, &err), -ENOMEM);
	assert_string_equal(err.text, "no room to compile");
	assert_int_equal(maps.writes, 0);
	assert_null(sync_compiled(sync));
	sync_free(sync);
	fake_maps_done(&maps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failed_compile_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
