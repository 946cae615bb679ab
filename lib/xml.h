/* SPDX-License-Identifier: Apache-2.0 */
/* Text as part of an XML or HTML document. */
#ifndef TENDRIL_LIB_XML_H
#define TENDRIL_LIB_XML_H

#include "lib/arena.h"

/* Adds text and escapes it: it cannot end an element or an attribute, and the document stays
 * well-formed whatever the bytes are.  A text of more than max bytes is cut and gets an ellipsis.
 */
void xml_add(struct buffer *buffer, const char *text, size_t max);

#endif
