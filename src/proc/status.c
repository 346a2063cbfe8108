/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /proc/PID/status. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"
#include "text.h"

#define FIELD(key, member)                                                                                             \
	{                                                                                                              \
		key, offsetof(struct status, member)                                                                   \
	}

static const struct text_field status_fields[] = {
	FIELD("VmPeak", vm_peak_bytes),
	FIELD("VmHWM", vm_hwm_bytes),
	FIELD("VmRSS", vm_rss_bytes),
	FIELD("RssAnon", rss_anon_bytes), /* 4.5 */
	FIELD("RssFile", rss_file_bytes),
	FIELD("RssShmem", rss_shmem_bytes),
	FIELD("VmSwap", vm_swap_bytes),
	FIELD("VmPTE", vm_pte_bytes),
	FIELD("VmData", vm_data_bytes),
	FIELD("VmStk", vm_stack_bytes),
	FIELD("Threads", threads),
	FIELD("voluntary_ctxt_switches", voluntary_switches),
	FIELD("nonvoluntary_ctxt_switches", involuntary_switches),
};

struct status_seen {
	bool name, state, tgid, ns_pid, vm_size, kthread;
};

/* The kernel writes a newline in the name as \n and a backslash as \\. */
static void store_name(struct text t, char *ret, size_t cap)
{
	size_t out = 0;

	for (size_t i = 0; i < t.len && out + 1 < cap; i++) {
		if (t.data[i] == '\\' && i + 1 < t.len && (t.data[i + 1] == 'n' || t.data[i + 1] == '\\'))
			ret[out++] = t.data[++i] == 'n' ? '\n' : '\\';
		else
			ret[out++] = t.data[i];
	}
	ret[out] = '\0';
}

static bool store_pid(struct text value, pid_t *ret)
{
	uint64_t number;

	if (!text_u64(value, &number) || number > INT_MAX)
		return false;
	*ret = (pid_t)number;
	return true;
}

static bool store_uids(struct text value, struct status *s)
{
	uint64_t uid, euid;
	struct cursor c;

	cursor_init(&c, value.data, value.len);
	if (!cursor_dec(&c, &uid) || !cursor_dec(&c, &euid) || uid > UINT32_MAX || euid > UINT32_MAX)
		return false;
	s->uid = (uint32_t)uid;
	s->euid = (uint32_t)euid;
	return true;
}

/* "NSpid: 4711 12 1": one number for each namespace, innermost last. */
static bool store_ns_pid(struct text value, pid_t *ret)
{
	struct cursor c;
	uint64_t number = 0;

	cursor_init(&c, value.data, value.len);
	while (cursor_dec(&c, &number))
		;
	if (number == 0 || number > INT_MAX)
		return false;
	*ret = (pid_t)number;
	return true;
}

static bool store_special(struct text key, struct text value, struct status *s, struct status_seen *seen)
{
	uint64_t number;

	if (text_is(key, "State") && value.len) {
		s->state = value.data[0];
		return seen->state = true;
	}
	if (text_is(key, "Tgid"))
		return seen->tgid = store_pid(value, &s->tgid);
	if (text_is(key, "PPid"))
		return store_pid(value, &s->ppid);
	if (text_is(key, "TracerPid"))
		return store_pid(value, &s->tracer_pid);
	if (text_is(key, "Uid"))
		return store_uids(value, s);
	if (text_is(key, "NSpid"))
		return seen->ns_pid = store_ns_pid(value, &s->ns_pid);
	if (text_is(key, "VmSize"))
		return seen->vm_size = text_bytes(value, &number);
	if (text_is(key, "Kthread") || text_is(key, "Seccomp")) {
		if (!text_u64(value, &number) || number > 2)
			return false;
		if (text_is(key, "Seccomp")) {
			s->seccomp = (int)number;
		} else {
			seen->kthread = true;
			s->kernel_thread = number == 1;
		}
	}
	return true;
}

static bool status_line(struct text line, struct status *s, struct status_seen *seen)
{
	const struct text_field *field;
	struct text key, value;
	uint64_t number;

	if (!text_split(line, ':', &key, &value))
		return true;
	if (text_is(key, "Name")) {
		/* Not `value`: a name may begin with blanks of its own; the kernel writes one tab. */
		struct text name = { key.data + key.len + 1, line.len - key.len - 1 };

		if (name.len && name.data[0] == '\t')
			name = (struct text){ name.data + 1, name.len - 1 };
		store_name(name, s->name, sizeof(s->name));
		return seen->name = true;
	}
	field = text_find_field(status_fields, TEXT_COUNT(status_fields), key);
	if (!field)
		return store_special(key, value, s, seen);
	if (!text_bytes(value, &number))
		return false;
	text_store(field, s, number);
	return true;
}

int parse_status(const char *buf, size_t len, struct status *ret)
{
	struct status s = { .state = '?', .uid = UINT32_MAX, .euid = UINT32_MAX, .seccomp = -1 };
	struct status_seen seen = { 0 };
	struct text line;
	struct cursor c;

	for (size_t i = 0; i < TEXT_COUNT(status_fields); i++)
		text_store(&status_fields[i], &s, UNKNOWN_U64);
	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		if (!status_line(line, &s, &seen))
			return -EBADMSG;
	}
	if (!seen.name || !seen.state || !seen.tgid)
		return -EBADMSG;
	if (!seen.ns_pid)
		s.ns_pid = s.tgid;
	if (!seen.kthread)
		s.kernel_thread = !seen.vm_size && s.state != 'Z' && s.state != 'X';
	*ret = s;
	return 0;
}
