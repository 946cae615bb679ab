/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question about a connection (from, to, port) and the answers of the policy library.  A service
 * has an answer for each of its backends.
 */
#ifndef TENDRIL_CLI_EXPLAIN_QUERY_H
#define TENDRIL_CLI_EXPLAIN_QUERY_H

#include "cli/cli_store.h"
#include "policy/analysis/explain.h"

struct answer { /* for one sender and one receiver */
	struct explain_end from;
	struct explain_end to;
	uint16_t port;
	struct explanation explanation;
};

struct answers {
	const struct cli_store *store;
	enum verdict verdict; /* allowed to all of them */
	uint8_t proto;
	uint16_t port;                /* as asked: of the service, if it is one */
	const struct object *service; /* or NULL: one answer, or one for each family */
	struct answer *items;
	size_t count;
	size_t deciding;   /* the first that is denied, else the first */
	char refused[600]; /* why there are no answers: a service has no backends, or the ends have
			    * no common family */
};

struct question {
	const char *from; /* "NAMESPACE/NAME", an address, or "pod/..." */
	const char *to;   /* the same, or "service/..." */
	const char *port; /* "80/TCP", or the name of a port of the Service or pod; NULL: proto */
	const char *namespace; /* of names without one; NULL: "default" */
	uint8_t proto;         /* one without ports */
};

/* err names what is not found.  The store must outlive the answers. */
int explain_query(const struct cli_store *store, const struct question *question,
		  struct answers *ret, struct errmsg *err);

/* Makes the first answer that is not as expected the deciding one, if there is one. */
void answers_expect(struct answers *answers, enum verdict expected);
void answers_done(struct answers *answers);

#endif
