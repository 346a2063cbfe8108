/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Seccomp filters are classic BPF programs over struct seccomp_data: small enough to be asked what they would say. */
#include "remote.h"

#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>

#define GET_FILTER 0x420c /* PTRACE_SECCOMP_GET_FILTER; not in every libc */
#define FILTERS_MAX 256   /* of one thread; more are not believed */

struct machine {
	uint32_t a, x, m[BPF_MEMWORDS];
	const struct seccomp_data *data;
};

static bool load_word(const struct machine *m, uint32_t offset, uint32_t *ret)
{
	if (offset % sizeof(uint32_t) != 0 || offset > sizeof(*m->data) - sizeof(uint32_t))
		return false;
	memcpy(ret, (const unsigned char *)m->data + offset, sizeof(*ret));
	return true;
}

static bool load(struct machine *m, const struct sock_filter *f, uint32_t *to)
{
	switch (BPF_MODE(f->code)) {
	case BPF_IMM:
		*to = f->k;
		return true;
	case BPF_ABS:
		return BPF_CLASS(f->code) == BPF_LD && BPF_SIZE(f->code) == BPF_W && load_word(m, f->k, to);
	case BPF_LEN:
		*to = (uint32_t)sizeof(*m->data);
		return true;
	case BPF_MEM:
		if (f->k >= BPF_MEMWORDS)
			return false;
		*to = m->m[f->k];
		return true;
	default:
		return false;
	}
}

static bool store(struct machine *m, uint32_t index, uint32_t value)
{
	if (index >= BPF_MEMWORDS)
		return false;
	m->m[index] = value;
	return true;
}

static bool compute(struct machine *m, const struct sock_filter *f)
{
	uint32_t by = BPF_SRC(f->code) == BPF_X ? m->x : f->k;

	switch (BPF_OP(f->code)) {
	case BPF_ADD:
		m->a += by;
		return true;
	case BPF_SUB:
		m->a -= by;
		return true;
	case BPF_MUL:
		m->a *= by;
		return true;
	case BPF_DIV:
		if (by != 0)
			m->a /= by;
		return by != 0;
	case BPF_OR:
		m->a |= by;
		return true;
	case BPF_AND:
		m->a &= by;
		return true;
	case BPF_XOR:
		m->a ^= by;
		return true;
	case BPF_LSH:
		m->a <<= by & 31; /* as the kernel does it */
		return true;
	case BPF_RSH:
		m->a >>= by & 31;
		return true;
	case BPF_NEG:
		m->a = 0U - m->a;
		return true;
	default:
		return false;
	}
}

/* How many instructions to skip. */
static bool jump(const struct machine *m, const struct sock_filter *f, uint32_t *ret)
{
	uint32_t with = BPF_SRC(f->code) == BPF_X ? m->x : f->k;
	bool taken;

	switch (BPF_OP(f->code)) {
	case BPF_JA:
		*ret = f->k;
		return true;
	case BPF_JEQ:
		taken = m->a == with;
		break;
	case BPF_JGT:
		taken = m->a > with;
		break;
	case BPF_JGE:
		taken = m->a >= with;
		break;
	case BPF_JSET:
		taken = (m->a & with) != 0;
		break;
	default:
		return false;
	}
	*ret = taken ? f->jt : f->jf;
	return true;
}

int remote_filter_run(const struct sock_filter *program, size_t count, const struct seccomp_data *data, uint32_t *ret)
{
	struct machine m = { .data = data };
	bool good = true;

	for (size_t pc = 0; good && pc < count; pc++) { /* jumps lead forward only: it ends */
		const struct sock_filter *f = &program[pc];
		uint32_t skip = 0;

		switch (BPF_CLASS(f->code)) {
		case BPF_LD:
			good = load(&m, f, &m.a);
			break;
		case BPF_LDX:
			good = load(&m, f, &m.x);
			break;
		case BPF_ST:
			good = store(&m, f->k, m.a);
			break;
		case BPF_STX:
			good = store(&m, f->k, m.x);
			break;
		case BPF_ALU:
			good = compute(&m, f);
			break;
		case BPF_JMP:
			good = jump(&m, f, &skip);
			pc += skip; /* as size_t: far jumps lead out, never back */
			break;
		case BPF_RET:
			*ret = BPF_RVAL(f->code) == BPF_A ? m.a : f->k;
			return 0;
		case BPF_MISC:
			if (BPF_MISCOP(f->code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
			break;
		default:
			good = false;
			break;
		}
	}
	return -EINVAL;
}

int remote_filter_check(pid_t tid, const struct seccomp_data *data, size_t count)
{
	struct sock_filter program[BPF_MAXINSNS];

	for (uintptr_t index = 0; index < FILTERS_MAX; index++) {
		long len = ptrace((enum __ptrace_request)GET_FILTER, tid, (void *)index, NULL);

		if (len < 0 && errno == ENOENT && index > 0)
			return 0;
		if (len < 0 && errno == ESRCH)
			return -ESRCH;
		if (len <= 0 || len > BPF_MAXINSNS ||
		    ptrace((enum __ptrace_request)GET_FILTER, tid, (void *)index, program) != len)
			return -EPERM;
		for (size_t i = 0; i < count; i++) {
			uint32_t says;

			if (remote_filter_run(program, (size_t)len, &data[i], &says) < 0)
				return -EPERM;
			if ((says & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ALLOW &&
			    (says & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_LOG)
				return -EACCES;
		}
	}
	return -EPERM;
}
