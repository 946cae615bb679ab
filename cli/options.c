/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "lib/auto.h"
#include "lib/text.h"

#define OPTION_VALUE 256 /* getopt_long() gives this and the number of the option */

#define TEXT(member) OPTION_TEXT, offsetof(struct arguments, member)
#define FLAG(member) OPTION_FLAG, offsetof(struct arguments, member), NULL

static const struct option_spec option_specs[] = {
	{ OPT_FROM, "from", 0, TEXT(from), "POD|IP",
	  "the sender: NAMESPACE/NAME of a pod, or an address", VALUE_POD, NULL },
	{ OPT_TO, "to", 0, TEXT(to), "POD|SERVICE|IP",
	  "the receiver: NAMESPACE/NAME of a pod or a service, or an address; service explain: "
	  "ADDRESS:PORT",
	  VALUE_PEER, NULL },
	{ OPT_PORT, "port", 0, TEXT(port), "PORT",
	  "destination port: 80, 80/UDP; explain: its name, too; matrix: a list, or all",
	  VALUE_FREE, NULL },
	{ OPT_POD, "pod", 0, TEXT(pod), "POD", "only events of this pod, at either end", VALUE_POD,
	  NULL },
	{ OPT_FILE, "file", 'f', OPTION_LIST, 0, "FILE|DIR",
	  "objects to read, JSON or YAML; may be repeated; - is standard input", VALUE_FILE, NULL },
	{ OPT_KUBECONFIG, "kubeconfig", 0, TEXT(kubeconfig), "FILE",
	  "read the objects of this cluster's API server; -A: of the usual kubeconfig's",
	  VALUE_FILE, NULL },
	{ OPT_LENIENT, "lenient", 0, FLAG(lenient), "unknown fields are warnings, not errors",
	  VALUE_FREE, NULL },
	{ OPT_VERBOSE, "verbose", 'v', FLAG(verbose),
	  "name the objects that are skipped because they are not about the network", VALUE_FREE,
	  NULL },
	{ OPT_BY, "by", 0, TEXT(by), "pod|namespace|labels=KEY",
	  "what a row stands for (default: pod); top: also workload, service, tcp top: service, "
	  "connection",
	  VALUE_WORDS, "pod|namespace|labels=" },
	{ OPT_HTML, "html", 0, TEXT(html), "FILE", "write a page for a browser", VALUE_FILE, NULL },
	{ OPT_SVG, "svg", 0, TEXT(svg), "FILE", "write a picture", VALUE_FILE, NULL },
	{ OPT_JUNIT, "junit", 0, TEXT(junit), "FILE", "also write a JUnit report into this file",
	  VALUE_FILE, NULL },
	{ OPT_PCAP, "pcap", 0, TEXT(pcap), "FILE",
	  "write the packets as pcapng, for Wireshark; - is standard output, for a pipe",
	  VALUE_FILE, NULL },
	{ OPT_SNAPLEN, "snaplen", 0, TEXT(snaplen), "N",
	  "with --pcap: the first N bytes of each packet (default 128, at most 256)", VALUE_FREE,
	  NULL },
	{ OPT_STATE, "state", 0, TEXT(state), "STATE", "only sockets in this state: ESTABLISHED",
	  VALUE_WORDS,
	  "ESTABLISHED|SYN-SENT|SYN-RECV|FIN-WAIT-1|FIN-WAIT-2|TIME-WAIT|CLOSED|CLOSE-WAIT|LAST-"
	  "ACK|LISTEN|CLOSING" },
	{ OPT_INTERVAL, "interval", 0, TEXT(interval), "TIME",
	  "how long each picture is shown: 2s (the default), 1m", VALUE_FREE, NULL },
	{ OPT_SORT, "sort", 0, TEXT(sort), "KEY",
	  "what comes first: bytes (the default), out, in, connections, retransmits, drops or name",
	  VALUE_WORDS, "bytes|out|in|connections|retransmits|drops|name" },
	{ OPT_TYPE, "type", 0, TEXT(type), "TYPES",
	  "drop, verdict, audit (the default: these three) and kernel, separated by commas",
	  VALUE_WORDS, "drop|verdict|audit|kernel|drop,kernel" },
	{ OPT_VERDICT, "verdict", 0, TEXT(verdict), "allow|deny|audit",
	  "only what was allowed, denied, or would be denied without audit mode", VALUE_WORDS,
	  "allow|deny|audit" },
	{ OPT_DRY_RUN, "dry-run", 0, FLAG(dry_run),
	  "apply nothing: show what would change and which connections would be cut off",
	  VALUE_FREE, NULL },
	{ OPT_CANARY, "canary", 0, TEXT(canary), "TIME",
	  "the same, and watch for so long (60s) which connections would be cut off", VALUE_FREE,
	  NULL },
	{ OPT_THEN_APPLY, "then-apply", 0, FLAG(then_apply),
	  "after --canary: apply if no connection would be cut off", VALUE_FREE, NULL },
	{ OPT_FOR, "for", 0, TEXT(duration), "TIME", "how long to watch: 60s (the default), 5m, 1h",
	  VALUE_FREE, NULL },
	{ OPT_NAMESPACE, "namespace", 'n', TEXT(namespace), "NAMESPACE",
	  "only this namespace; names without one are in it", VALUE_NAMESPACE, NULL },
	{ OPT_ALL, "all-namespaces", 'A', FLAG(all_namespaces), "all namespaces (the default)",
	  VALUE_FREE, NULL },
	{ OPT_WATCH, "watch", 'w', FLAG(watch),
	  "go on, and print what changes; top: draw it again and again", VALUE_FREE, NULL },
	{ OPT_WAIT, "wait", 0, OPTION_MAYBE, offsetof(struct arguments, wait), "TIME",
	  "wait until all is well: for ever, or so long (30s, 5m)", VALUE_FREE, NULL },
	{ OPT_PROBE, "probe", 0, FLAG(probe), "ask the other nodes now whether they answer",
	  VALUE_FREE, NULL },
	{ OPT_EXTERNAL, "external", 0, TEXT(external), "ADDRESS",
	  "an address outside the cluster that is to answer ICMP echo", VALUE_FREE, NULL },
	{ OPT_FOLLOW, "follow", 'f', FLAG(follow), "go on, and print the flows that come",
	  VALUE_FREE, NULL },
	{ OPT_LAST, "last", 0, TEXT(last), "N",
	  "the last N flows (default: 20 in a list, unless --since is given; else all)", VALUE_FREE,
	  NULL },
	{ OPT_SINCE, "since", 0, TEXT(since), "TIME", "not older than this: 30s, 5m, 1h",
	  VALUE_FREE, NULL },
	{ OPT_SERVICE, "service", 0, TEXT(service), "SERVICE",
	  "only flows to NAMESPACE/NAME of a service", VALUE_FREE, NULL },
	{ OPT_PROTOCOL, "protocol", 0, TEXT(protocol), "PROTOCOL", "TCP, UDP, SCTP, ICMPv4, ICMPv6",
	  VALUE_WORDS, "TCP|UDP|SCTP|ICMPv4|ICMPv6" },
	{ OPT_REASON, "reason", 0, TEXT(reason), "REASON",
	  "only what was dropped for it: INGRESS_DENIED, POLICY_DENIED", VALUE_FREE, NULL },
	{ OPT_POLICY, "policy", 0, TEXT(policy), "POLICY",
	  "only what NAMESPACE/NAME of a policy decides, /NAME of a ClusterNetworkPolicy",
	  VALUE_FREE, NULL },
	{ OPT_NOT, "not", 0, FLAG(invert), "the flows that do not fit instead", VALUE_FREE, NULL },
	{ OPT_LIMIT, "limit", 0, TEXT(limit), "N", "at most N rows", VALUE_FREE, NULL },
	{ OPT_SOCKET, "socket", 0, TEXT(socket), "PATH",
	  "the agent's socket (default $TENDRIL_SOCKET or " CLI_SOCKET_DEFAULT ")", VALUE_FILE,
	  NULL },
	{ OPT_OUTPUT, "output", 'o', TEXT(output), "FORMAT", "what to print", VALUE_FREE, NULL },
	{ OPT_VERSION, "version", 0, FLAG(version), "print the version", VALUE_FREE, NULL },
	{ OPT_HELP, "help", 'h', FLAG(help), "print this text", VALUE_FREE, NULL },
};

const struct option_spec *option_at(size_t row)
{
	return row < ARRAY_SIZE(option_specs) ? &option_specs[row] : NULL;
}

bool words_contain(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (; words; words = strchr(words, '|')) {
		words += *words == '|';
		if (strncmp(words, word, len) == 0 && (words[len] == '|' || words[len] == '\0'))
			return len > 0;
	}
	return false;
}

static int option_store(const struct option_spec *spec, const char *value, struct arguments *args)
{
	char *member = (char *)args + spec->offset;

	switch (spec->type) {
	case OPTION_FLAG:
		*(bool *)member = true;
		return 0;
	case OPTION_TEXT:
		*(const char **)member = value;
		return 0;
	case OPTION_MAYBE:
		*(const char **)member = value ? value : "";
		return 0;
	case OPTION_LIST:
		if (args->file_count == CLI_FILES_MAX) {
			output_note("tendril: more than %d files", CLI_FILES_MAX);
			return EXIT_USAGE;
		}
		args->files[args->file_count++] = value;
		return 0;
	}
	return EXIT_USAGE;
}

/* A long option that does not exist, or is the beginning of several. */
static void option_unknown(const char *text)
{
	const char *name = text + strspn(text, "-"), *guess = NULL;
	size_t len = strcspn(name, "="), best = 3, matches = 0;
	char word[64];

	snprintf(word, sizeof(word), "%.*s", (int)(len < 63 ? len : 63), name);
	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		size_t distance = text_distance(word, option_specs[i].name);

		matches += len > 0 && strncmp(option_specs[i].name, name, len) == 0;
		if (distance < best && distance < len) {
			best = distance;
			guess = option_specs[i].name;
		}
	}
	if (matches > 1)
		output_note("tendril: %s may be several options; see tendril --help", text);
	else if (guess)
		output_note("tendril: there is no option %s; did you mean --%s?", text, guess);
	else
		output_note("tendril: there is no option %s; see tendril --help", text);
}

/* The word that getopt_long() refused.  Its own message would print control characters as they are.
 */
static int option_error(int found, char **argv)
{
	const char *text = argv[optind - 1];

	if (found == ':')
		output_note("tendril: there is no value for %s; see tendril --help", text);
	else if (optopt >= OPTION_VALUE)
		output_note("tendril: no value is allowed for %s; see tendril --help", text);
	else if (optopt)
		output_note("tendril: there is no option -%c; see tendril --help", optopt);
	else
		option_unknown(text);
	return EXIT_USAGE;
}

/* Whether the value of an option is the next word. */
static bool value_follows(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		const struct option_spec *spec = &option_specs[i];

		if (!spec->placeholder || spec->type == OPTION_MAYBE)
			continue;
		if (word[1] == '-' ? strcmp(word + 2, spec->name) == 0
				   : spec->letter && word[1] == spec->letter && !word[2])
			return true;
	}
	return false;
}

/* The first word of the command; NULL: there is none. */
static const char *command_word(char **argv)
{
	for (char **word = argv + 1; word[0]; word++) {
		if (word[0][0] != '-')
			return word[0];
		if (value_follows(word[0]) && word[1])
			word++;
	}
	return NULL;
}

/* What the letter of an option is on this line, 0: none.  Of the two that have an "f", --follow has
 * it where flows are read, and --file elsewhere. */
static char option_letter(const struct option_spec *spec, const char *command)
{
	bool flows = command && (strcmp(command, "flows") == 0 || strcmp(command, "tcp") == 0);

	if (spec->bit == OPT_FOLLOW)
		return flows ? spec->letter : 0;
	return spec->bit == OPT_FILE && flows ? 0 : spec->letter;
}

int options_parse(int argc, char **argv, struct arguments *args, uint64_t *ret_given)
{
	struct option longs[ARRAY_SIZE(option_specs) + 1] = { 0 };
	char shorts[2 * ARRAY_SIZE(option_specs) + 2] = ":";
	const char *command = command_word(argv); /* before getopt_long() changes the order */
	size_t used = 1;
	int found;

	for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
		const struct option_spec *spec = &option_specs[i];

		longs[i] = (struct option){
			.name = spec->name,
			.has_arg = spec->type == OPTION_MAYBE ? optional_argument
				   : spec->placeholder        ? required_argument
							      : no_argument,
			.val = OPTION_VALUE + (int)i,
		};
		if (!option_letter(spec, command))
			continue;
		shorts[used++] = spec->letter;
		if (spec->placeholder)
			shorts[used++] = ':';
	}
	opterr = 0;
	while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_spec *spec = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(option_specs); i++) {
			if (found == OPTION_VALUE + (int)i ||
			    found == option_letter(&option_specs[i], command))
				spec = &option_specs[i];
		}
		if (!spec)
			return option_error(found, argv);
		if (option_store(spec, optarg, args))
			return EXIT_USAGE;
		*ret_given |= spec->bit;
	}
	args->operands = argv + optind;
	args->operand_count = (size_t)(argc - optind);
	return 0;
}
