/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which format a text is, and the way from its reader to the recording. */
#include "memwatch/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#define ARENA_FIRST_BYTES ((size_t)4096)
#define HEAD_BYTES ((size_t)4096) /* in which a format shows itself */
#define UTF8_BOM "\xef\xbb\xbf"

const char *const recording_format_names[RECORDING_FORMAT_COUNT + 1] = {
	[RECORDING_AUTO] = "auto",         [RECORDING_REPORT] = "report",         [RECORDING_STREAM] = "stream",
	[RECORDING_CSV] = "csv",           [RECORDING_MPROF] = "mprof",           [RECORDING_MASSIF] = "massif",
	[RECORDING_PSRECORD] = "psrecord", [RECORDING_PROMETHEUS] = "prometheus",
};

static int detect_json(struct text head, struct err *err, enum recording_format *ret)
{
	if (piece_has(head, "\"memwatch-report/"))
		*ret = RECORDING_REPORT;
	else if (piece_has(head, "\"memwatch-stream/") || piece_has(head, "\"type\":\"sample\""))
		*ret = RECORDING_STREAM;
	else if (piece_has(head, "\"resultType\"") || piece_has(head, "\"status\""))
		*ret = RECORDING_PROMETHEUS;
	else
		return err_set(err, EBADMSG,
			       "JSON, but neither a memwatch report or stream nor the answer to a Prometheus range "
			       "query");
	return 0;
}

static int detect_binary(struct text head, struct err *err)
{
	if (piece_begins(head, "\x1f\x8b") || piece_begins(head, "\x28\xb5\x2f\xfd") ||
	    piece_begins(head, "\xfd"
			       "7zXZ"))
		return err_set(err, EBADMSG, "compressed: unpack it first");
	if (piece_begins(head, "\xff\xfe") || piece_begins(head, "\xfe\xff"))
		return err_set(err, EBADMSG, "UTF-16 text: convert it first, with iconv -f UTF-16 -t UTF-8");
	if (head.len > 0 && memchr(head.at, '\0', head.len))
		return err_set(err, EBADMSG, "not text: it holds NUL bytes");
	return 0;
}

/* By what the first line that says something begins with. */
static int detect(struct text text, struct err *err, enum recording_format *ret)
{
	struct text head = { text.at, text.len < HEAD_BYTES ? text.len : HEAD_BYTES };
	struct text rest = head;
	struct text line = { "", 0 };
	bool ended;
	int r = detect_binary(head, err);

	if (r < 0)
		return r;
	while (line.len == 0 && piece_line(&rest, &line, &ended))
		line = piece_trim(line);
	if (line.len == 0 && head.len == text.len)
		return err_set(err, EBADMSG, "empty: nothing was recorded");
	if (piece_begins(line, "{") || piece_begins(line, "["))
		return detect_json(head, err, ret);
	if (piece_begins(line, "desc:") || (piece_begins(line, "cmd:") && piece_has(head, "time_unit:")))
		*ret = RECORDING_MASSIF;
	else if (piece_begins(line, "CMDLINE") || piece_begins(line, "CMDL ") || piece_begins(line, "MEM ") ||
		 piece_begins(line, "FUNC ") || piece_begins(line, "CHLD "))
		*ret = RECORDING_MPROF;
	else if ((*line.at == '#' && piece_has(line, "Elapsed time") && piece_has(line, "Real (MB)")) ||
		 psrecord_is_csv(line))
		*ret = RECORDING_PSRECORD;
	else
		*ret = RECORDING_CSV;
	return 0;
}

static int read_text(struct text text, struct drafts *d, struct snapshot **ret_snapshot)
{
	switch (d->format) {
	case RECORDING_REPORT:
		return store_read_report(text, d, ret_snapshot);
	case RECORDING_STREAM:
		return store_read_stream(text, d);
	case RECORDING_MPROF:
		return store_read_mprof(text, d);
	case RECORDING_MASSIF:
		return store_read_massif(text, d);
	case RECORDING_PSRECORD:
		return store_read_psrecord(text, d);
	case RECORDING_PROMETHEUS:
		return store_read_prometheus(text, d);
	default:
		return store_read_csv(text, d);
	}
}

int recording_parse(const char *text, size_t len, enum recording_format format, struct recording *ret, struct err *err)
{
	struct text t = { len > 0 ? text : "", len };
	struct recording rec = { .format = format };
	struct drafts d;
	int r = 0;

	if (piece_begins(t, UTF8_BOM))
		t = (struct text){ t.at + 3, t.len - 3 };
	if (format == RECORDING_AUTO)
		r = detect(t, err, &rec.format);
	if (r < 0)
		return r;
	drafts_init(&d, rec.format, err);
	arena_init(&rec.arena, ARENA_FIRST_BYTES, 0);
	r = read_text(t, &d, &rec.snapshot);
	if (r == 0)
		r = drafts_finish(&d, &rec);
	drafts_deinit(&d);
	if (r < 0) {
		recording_deinit(&rec);
		return r;
	}
	*ret = rec;
	return 0;
}

void recording_deinit(struct recording *r)
{
	if (!r)
		return;
	snapshot_deinit(r->snapshot);
	free(r->snapshot);
	arena_deinit(&r->arena);
	memset(r, 0, sizeof(*r));
}
