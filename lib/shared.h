/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings that many have in common, each kept once: labels, names of namespaces, nodes and ports in
 * a hundred thousand objects.  For one thread.
 */
#ifndef TENDRIL_LIB_SHARED_H
#define TENDRIL_LIB_SHARED_H

/* The string with this content: not to be changed, and given back with shared_release(). */
char *shared_string(const char *text);
/* Takes NULL, and strings of malloc(), too. */
void shared_release(char *string);

#endif
