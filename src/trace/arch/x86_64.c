/* SPDX-License-Identifier: GPL-3.0-or-later */
#if defined(__x86_64__)

#include "arch.h"

#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

const uint64_t arch_red_zone = 128;
const uint32_t arch_audit = AUDIT_ARCH_X86_64;
const uint64_t arch_breakpoint_len = sizeof(long); /* what the kernel demands for execution on x86 */

struct user_regs_32 {
	uint32_t bx, cx, dx, si, di, bp, ax, ds, es, fs, gs, orig_ax, ip, cs, flags, sp, ss;
};

static void decode_64(const struct user_regs_struct *u, struct arch_state *ret)
{
	const uint64_t by_dwarf[] = { u->rax, u->rdx, u->rcx, u->rbx, u->rsi, u->rdi, u->rbp, u->rsp, u->r8,
				      u->r9,  u->r10, u->r11, u->r12, u->r13, u->r14, u->r15, u->rip };

	memcpy(ret->regs.value, by_dwarf, sizeof(by_dwarf));
	ret->regs.count = sizeof(by_dwarf) / sizeof(by_dwarf[0]);
	ret->regs.pc = u->rip;
	ret->regs.sp = u->rsp;
	ret->regs.fp = u->rbp;
	ret->regs.thread_base = u->fs_base;
	/* a 64-bit program may still enter by int 0x80, with 32-bit numbers: only GET_SYSCALL_INFO tells */
	ret->native = true;
	ret->call_number = u->orig_rax;
	ret->call_args[0] = u->rdi;
	ret->call_args[1] = u->rsi;
	ret->call_args[2] = u->rdx;
	ret->call_args[3] = u->r10;
	ret->call_args[4] = u->r8;
	ret->call_args[5] = u->r9;
	ret->call_result = u->rax;
}

int arch_read(pid_t tid, struct arch_state *ret)
{
	union {
		struct user_regs_struct native;
		struct user_regs_32 small;
	} user;
	struct iovec iov = { .iov_base = &user, .iov_len = sizeof(user) };
	struct arch_state state = { .native = false };

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0)
		return -errno;
	if (iov.iov_len == sizeof(user.native)) {
		decode_64(&user.native, &state);
	} else if (iov.iov_len == sizeof(user.small)) {
		state.regs.pc = user.small.ip;
		state.regs.sp = user.small.sp;
		state.regs.fp = user.small.bp;
	} else {
		return -ENOTSUP;
	}
	*ret = state;
	return 0;
}

/* asm/perf_regs.h: ax bx cx dx si di bp sp ip are 0 to 8, r8 to r15 are 16 to 23; what lies between is not asked for. */
const uint64_t arch_perf_regs = 0xff01ff;
const uint32_t arch_perf_count = 17;

void arch_perf_decode(const uint64_t *values, bool wide, struct regs *ret)
{
	static const uint8_t by_dwarf[] = { 0, 3, 2, 1, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 8 };

	memset(ret, 0, sizeof(*ret));
	ret->pc = values[8];
	ret->sp = values[7];
	ret->fp = values[6];
	if (!wide)
		return;
	ret->count = sizeof(by_dwarf);
	for (uint32_t i = 0; i < ret->count; i++)
		ret->value[i] = values[by_dwarf[i]];
}

bool arch_growth_call(uint64_t number, enum growth_call *ret)
{
	switch (number) {
	case SYS_brk:
		*ret = GROWTH_BRK;
		return true;
	case SYS_mmap:
		*ret = GROWTH_MMAP;
		return true;
	case SYS_mremap:
		*ret = GROWTH_MREMAP;
		return true;
	case SYS_mprotect:
	case 329: /* pkey_mprotect: same first three arguments */
		*ret = GROWTH_MPROTECT;
		return true;
	default:
		return false;
	}
}

bool arch_call_fragile(uint64_t number)
{
	switch (number) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case 441: /* epoll_pwait2 */
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_io_getevents:
	case 333: /* io_pgetevents */
	case SYS_msgrcv:
	case SYS_msgsnd:
	case SYS_rt_sigtimedwait:
		return true;
	default:
		return false;
	}
}

/* struct sigcontext: …, rsp, rip, eflags, cs and other selectors. 0x33: the selector of 64-bit user code; bit 1 of eflags is always set. */
bool arch_is_saved_pc(const unsigned char *slice, size_t len, size_t at)
{
	uint64_t flags, selectors;

	if (len < 24 || at > len - 24)
		return false;
	memcpy(&flags, slice + at + 8, 8);
	memcpy(&selectors, slice + at + 16, 8);
	return (selectors & 0xffff) == 0x33 && flags >> 22 == 0 && (flags & 2);
}

#endif
