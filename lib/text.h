/* SPDX-License-Identifier: Apache-2.0 */
/* Makes text from outside fit for people and for JSON: names and contents of files may be any
 * bytes. */
#ifndef TENDRIL_LIB_TEXT_H
#define TENDRIL_LIB_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Length in bytes, at least 1, of the first character of a text.  *ret_shown: the character is
 * valid UTF-8 and no control character (C0, DEL, C1). */
size_t text_char(const char *text, bool *ret_shown);

/* Replaces each byte that is not valid UTF-8 by '?'. */
void text_make_utf8(char *text);

/* Replaces each character that text_char() does not show by '?', so that the text cannot forge
 * lines or move a cursor. */
void text_make_shown(char *text);

/* How many letters have to be inserted, deleted, replaced or swapped with the next one to make one
 * word of another, in any case.  SIZE_MAX where a word is longer than 64 bytes. */
size_t text_distance(const char *a, const char *b);

int text_hex_digit(char c); /* its value, or -1 */

#endif
