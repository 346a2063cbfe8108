/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "memwatch/base/vec.h"
#include "session/private.h"

void session_gap(struct session *s, const char *rung, const char *reason, const char *remedy)
{
	struct gap gap;

	for (size_t i = 0; i < s->gap_count; i++)
		if (strcmp(s->gaps[i].rung, rung) == 0 && strcmp(s->gaps[i].reason, reason) == 0)
			return;
	gap = (struct gap){ .rung = arena_strdup(&s->gap_arena, rung),
			    .reason = arena_strdup(&s->gap_arena, reason),
			    .remedy = arena_strdup(&s->gap_arena, remedy) };
	if (!gap.rung || !gap.reason || vec_reserve(&s->gaps, &s->gap_cap, s->gap_count + 1, sizeof(*s->gaps)) < 0)
		return;
	s->gaps[s->gap_count++] = gap;
	if (s->listener.event)
		s->listener.event(s->listener.arg, session_time(s, 0), s->targets ? s->targets[0]->proc.id.pid : 0,
				  "gap", reason, 0.0 / 0.0);
}

void session_gap_err(struct session *s, const char *rung, const struct err *err)
{
	char text[ERR_MSG_BYTES];
	char *remedy;

	memcpy(text, err->msg, sizeof(text));
	remedy = strstr(text, "; ");
	if (remedy) {
		*remedy = '\0';
		remedy += 2;
	}
	session_gap(s, rung, text[0] ? text : "unknown error", remedy);
}
