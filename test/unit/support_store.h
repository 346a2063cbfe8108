/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading recordings in tests. */
#ifndef MEMWATCH_TEST_SUPPORT_STORE_H
#define MEMWATCH_TEST_SUPPORT_STORE_H

#include "memwatch/base/str.h"
#include "memwatch/store.h"

/* Both take the text from memory of its exact size, so that a byte too far is seen under AddressSanitizer. */
void store_read(const char *text, struct recording *ret); /* AUTO; must succeed */
void store_refuse(enum recording_format format, const char *text,
		  const char *expected); /* -EBADMSG; part of the message */

double store_cell(const struct recorded_series *s, size_t row, enum metric metric); /* fails where there is no column */
bool store_has(const struct recorded_series *s, enum metric metric);
bool store_notes(const struct recorded_series *s, const char *part); /* a note holds part */

#endif
