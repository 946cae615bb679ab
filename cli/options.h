/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, and the parser that uses it. */
#ifndef TENDRIL_CLI_OPTIONS_H
#define TENDRIL_CLI_OPTIONS_H

#include "cli/command.h"

/* Bits in struct command: which options it takes; every command takes the first three. */
enum option_bit {
	OPT_SOCKET = 1 << 0,
	OPT_OUTPUT = 1 << 1,
	OPT_HELP = 1 << 2,
	OPT_VERSION = 1 << 3,
	OPT_FILE = 1 << 4,
	OPT_FROM = 1 << 5,
	OPT_TO = 1 << 6,
	OPT_PORT = 1 << 7,
	OPT_LENIENT = 1 << 8,
	OPT_TYPE = 1 << 9,
	OPT_LIMIT = 1 << 10,
	OPT_BY = 1 << 11,
	OPT_HTML = 1 << 12,
	OPT_SVG = 1 << 13,
	OPT_JUNIT = 1 << 14,
	OPT_VERBOSE = 1 << 15,
	OPT_POD = 1 << 16,
	OPT_VERDICT = 1 << 17,
	OPT_WATCH = 1 << 18,
	OPT_ALL = 1 << 19,
	OPT_FOR = 1 << 20,
	OPT_NAMESPACE = 1 << 21,
	OPT_DRY_RUN = 1 << 22,
	OPT_CANARY = 1 << 23,
	OPT_THEN_APPLY = 1 << 24,
	OPT_WAIT = 1 << 25,
	OPT_KUBECONFIG = 1 << 26,
	OPT_FOLLOW = 1 << 27,
	OPT_LAST = 1 << 28,
	OPT_SINCE = 1 << 29,
	OPT_SERVICE = 1 << 30,
};
#define OPT_PROTOCOL   (1ULL << 31) /* an enum has 31 bits */
#define OPT_REASON     (1ULL << 32)
#define OPT_POLICY     (1ULL << 33)
#define OPT_NOT        (1ULL << 34)
#define OPT_PCAP       (1ULL << 35)
#define OPT_SNAPLEN    (1ULL << 36)
#define OPT_STATE      (1ULL << 37)
#define OPT_INTERVAL   (1ULL << 38)
#define OPT_SORT       (1ULL << 39)
#define OPT_PROBE      (1ULL << 40)
#define OPT_EXTERNAL   (1ULL << 41)
#define OPT_COMMON     (OPT_SOCKET | OPT_OUTPUT | OPT_HELP)
#define OPT_OBJECTS    (OPT_FILE | OPT_VERBOSE)   /* commands that read objects from files */
#define OPT_CLUSTER    (OPT_KUBECONFIG | OPT_ALL) /* those that read a cluster's objects */
#define OPT_NAMESPACES (OPT_NAMESPACE | OPT_ALL)  /* commands that list what is in namespaces */
#define OPT_FLOWS                                                                       \
	(OPT_FOLLOW | OPT_LAST | OPT_SINCE | OPT_FROM | OPT_TO | OPT_POD | OPT_PORT |   \
	 OPT_SERVICE | OPT_PROTOCOL | OPT_VERDICT | OPT_REASON | OPT_POLICY | OPT_NOT | \
	 OPT_NAMESPACES) /* commands that read the log of flows */

/* OPTION_MAYBE: its value comes after "=", and is "" if it is left out. */
enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_MAYBE, OPTION_LIST };

/* What may be completed after an option. */
enum option_value { VALUE_FREE, VALUE_WORDS, VALUE_FILE, VALUE_POD, VALUE_PEER, VALUE_NAMESPACE };

struct option_spec {
	uint64_t bit; /* enum option_bit */
	const char *name;
	char letter; /* 0: none; see option_letter() */
	enum option_type type;
	size_t offset;           /* in struct arguments */
	const char *placeholder; /* of its value in --help; NULL: it takes none */
	const char *help;
	enum option_value value;
	const char *words; /* VALUE_WORDS: "a|b" */
};

/* The option in a row of the table; NULL after the last. */
const struct option_spec *option_at(size_t row);

/* Parses every option of the line; operands (command words included) stay in order.  *ret_given
 * is the set of options seen.  EXIT_USAGE after a message, or 0. */
int options_parse(int argc, char **argv, struct arguments *args, uint64_t *ret_given);

/* Whether one of "text|json" is the word. */
bool words_contain(const char *words, const char *word);

#endif
