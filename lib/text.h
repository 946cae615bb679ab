/* SPDX-License-Identifier: Apache-2.0 */
/* Text from outside, on its way to a person or into JSON: names of files and what files hold may be
 * any bytes. */
#ifndef TENDRIL_LIB_TEXT_H
#define TENDRIL_LIB_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character that a text begins with, at least 1.  *ret_shown: it is UTF-8 and no
 * control character (C0, DEL, C1). */
size_t text_char(const char *text, bool *ret_shown);

/* Replaces each byte that is not UTF-8 by '?'. */
void text_make_utf8(char *text);

/* Replaces each character that is not shown by '?': the text cannot forge lines or move a cursor.
 */
void text_make_shown(char *text);

/* How many letters have to be inserted, deleted, replaced or swapped with the next one to make one
 * word of another, in any case.  SIZE_MAX where a word is longer than 64 bytes. */
size_t text_distance(const char *a, const char *b);

int text_hex_digit(char c); /* its value, or -1 */

#endif
