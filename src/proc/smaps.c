/* SPDX-License-Identifier: GPL-3.0-or-later */
/* smaps and smaps_rollup, line by line. */
#include <errno.h>
#include <string.h>

#include "maps.h"
#include "memwatch/proc.h"
#include "text.h"

/* Longer than any name that region_classify() tells apart; the rest of a path does not matter here. */
#define CLASSIFY_BYTES 64

#define FIELD(key, member)                                                                                             \
	{                                                                                                              \
		key, offsetof(struct region_totals, member)                                                            \
	}

static const struct text_field smaps_fields[] = {
	FIELD("Size", size_bytes),
	FIELD("Rss", rss_bytes),
	FIELD("Pss", pss_bytes),
	FIELD("Pss_File", pss_file_bytes),
	FIELD("Pss_Shmem", pss_shmem_bytes),
	FIELD("Shared_Clean", shared_bytes),
	FIELD("Shared_Dirty", shared_bytes),
	FIELD("Private_Dirty", private_dirty_bytes),
	FIELD("Anonymous", anon_bytes),
	FIELD("LazyFree", lazy_free_bytes),
	FIELD("AnonHugePages", anon_huge_bytes),
	FIELD("Swap", swap_bytes),
};

void smaps_parser_init(struct smaps_parser *p, struct region_totals totals[REGION_CLASS_COUNT])
{
	memset(totals, 0, REGION_CLASS_COUNT * sizeof(*totals));
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		totals[i].pss_file_bytes = totals[i].pss_shmem_bytes = UNKNOWN_U64;
	p->class = -1;
	p->totals = totals;
}

static int smaps_header(struct smaps_parser *p, struct text line)
{
	char name[CLASSIFY_BYTES];
	struct region region;
	struct text path;

	if (!maps_header(line, &region, &path))
		return -EBADMSG;
	maps_cut_deleted(&path, &region.flags);
	text_copy(path, name, sizeof(name));
	p->class = text_is(path, "[rollup]") ? REGION_ANON : (int)region_classify(name, region.flags, region.inode);
	p->totals[p->class].count++;
	return 0;
}

static bool is_address_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

int smaps_parser_line(struct smaps_parser *p, const char *line, size_t len)
{
	const struct text_field *field;
	struct text key, value;
	uint64_t bytes, sum;
	char *at;

	if (!len)
		return 0;
	/* Keys begin with a capital letter, addresses with a small hexadecimal digit. */
	if (is_address_digit(line[0]))
		return smaps_header(p, (struct text){ line, len });
	if (p->class < 0 || !text_split((struct text){ line, len }, ':', &key, &value))
		return -EBADMSG;
	field = text_find_field(smaps_fields, TEXT_COUNT(smaps_fields), key);
	if (!field)
		return 0;
	if (!text_bytes(value, &bytes))
		return -EBADMSG;
	at = (char *)&p->totals[p->class] + field->offset;
	memcpy(&sum, at, sizeof(sum));
	if (sum == UNKNOWN_U64)
		sum = 0;
	/* a sum of all ones would read as unknown, and the next addition begin anew */
	if (__builtin_add_overflow(sum, bytes, &sum) || sum == UNKNOWN_U64)
		return -EBADMSG;
	memcpy(at, &sum, sizeof(sum));
	return 0;
}
