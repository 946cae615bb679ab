/* SPDX-License-Identifier: Apache-2.0 */
/* Pages for a browser, in one file each: a document that is embedded at build, and data in JSON. */
#ifndef TENDRIL_CLI_HTML_PAGE_H
#define TENDRIL_CLI_HTML_PAGE_H

#include "lib/arena.h"

/* Makes NAME[] of the file PATH, with a NUL behind it.  The Makefile names the file, too: the
 * compiler does not report it as a dependency. */
#define HTML_PAGE(name, path)                     \
	__asm__(".pushsection .rodata\n"          \
		".hidden " #name "\n"             \
		".global " #name "\n" #name ":\n" \
		".incbin \"" path "\"\n.byte 0\n" \
		".popsection\n");                 \
	extern const char name[]

/* Appends the document to PAGE, with JSON in the place of its one placeholder, which is in a
 * script. JSON cannot end that script, whatever its strings hold. */
void html_page_fill(struct buffer *page, const char *document, const char *json);

#endif
