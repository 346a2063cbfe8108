/* SPDX-License-Identifier: GPL-3.0-or-later */
#if defined(__x86_64__)

#include "remote.h"
#include "arch.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

/* Not exported: the kernel's include/linux/errno.h. A call that was interrupted; seen by tracers only. */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

/* arch/x86/include/uapi/asm/ucontext.h */
#define UC_XSTATE 1
#define UC_SS 2
#define UC_STRICT_SS 4
/* neither SS_ONSTACK (1) nor SS_DISABLE (2): refused by the kernel, which leaves the alternate stack as it is and goes on */
#define ALTSTACK_AS_IT_IS 3

/* arch/x86/include/uapi/asm/sigcontext.h */
#define XSTATE_MAGIC1 0x46505853U
#define XSTATE_MAGIC2 0x46505845U
#define XSTATE_SW_OFFSET 464 /* the software's part of the FXSAVE image; ptrace puts the mask of features there */
#define XSTATE_HEADER_OFFSET 512
#define XSTATE_MIN (XSTATE_HEADER_OFFSET + 64)
#define XSTATE_ALIGN 64
#define XSTATE_LEAF 0xd
#define FEATURES_LEGACY 3 /* x87 and SSE: in the FXSAVE image */

#define USER_CS_64 0x33
#define FLAG_TRAP 0x100ULL
#define FLAG_DIRECTION 0x400ULL
#define CALL_BYTES 2 /* of the instruction */

const uint64_t arch_sigreturn = SYS_rt_sigreturn;

struct sw_bytes {
	uint32_t magic1, extended_size;
	uint64_t features;
	uint32_t xstate_size, padding[7];
};

/* struct rt_sigframe, of which rt_sigreturn reads all but pretcode; the siginfo behind it is not read. */
struct sigframe {
	uint64_t pretcode;
	uint64_t flags, link;
	uint64_t stack_sp;
	uint32_t stack_flags, stack_pad;
	uint64_t stack_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t mask;
};

static struct user_regs_struct registers_of(const struct arch_saved *s)
{
	struct user_regs_struct u;

	_Static_assert(sizeof(u) <= sizeof(s->gp), "room for the registers");
	memcpy(&u, s->gp, sizeof(u));
	return u;
}

static int get_registers(pid_t tid, struct user_regs_struct *ret)
{
	struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0)
		return -errno;
	return iov.iov_len == sizeof(*ret) ? 0 : -ENOTSUP;
}

static int set_registers(pid_t tid, struct user_regs_struct *u)
{
	struct iovec iov = { .iov_base = u, .iov_len = sizeof(*u) };

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

static bool is_restart(uint64_t result)
{
	int64_t code = -(int64_t)result;

	return code == ERESTARTSYS || code == ERESTARTNOINTR || code == ERESTARTNOHAND || code == ERESTART_RESTARTBLOCK;
}

void arch_mend_call(pid_t tid)
{
	struct user_regs_struct u;

	if (get_registers(tid, &u) < 0 || (int64_t)u.orig_rax < 0 || (int64_t)u.rax != -EINTR ||
	    !arch_call_fragile(u.orig_rax))
		return;
	u.rax = (unsigned long long)-ERESTARTNOHAND; /* the kernel makes it again, or, where a handler runs first, lets it fail as it should */
	(void)set_registers(tid, &u);
}

int arch_remote_read(pid_t tid, struct arch_saved *ret)
{
	struct iovec iov = { .iov_base = ret->xstate, .iov_len = sizeof(ret->xstate) };
	struct user_regs_struct u;
	int r = get_registers(tid, &u);

	if (r < 0)
		return r;
	if (u.cs != USER_CS_64)
		return -ENOTSUP;
	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &iov) < 0)
		return errno == ESRCH ? -ESRCH : -ENOTSUP;
	if (iov.iov_len < XSTATE_MIN || iov.iov_len == sizeof(ret->xstate))
		return -ENOTSUP; /* none, or perhaps cut off */
	memcpy(ret->gp, &u, sizeof(u));
	ret->gp_len = sizeof(u);
	ret->xstate_len = iov.iov_len;
	ret->sp = u.rsp;
	ret->pc = u.rip;
	ret->call_number = u.orig_rax;
	ret->number_lost = u.orig_rax == SYS_restart_syscall && is_restart(u.rax);
	ret->thread_base = u.fs_base;
	ret->in_call = (int64_t)u.orig_rax >= 0;
	return 0;
}

/*
 * As much of the image as its contents need. What ptrace hands out is as large as any thread's may be; a frame that claims more than
 * this thread may use (AMX by permission) would have its vector registers cleared.
 */
static size_t xstate_size(const struct arch_saved *s, uint64_t features)
{
	size_t size = XSTATE_MIN;

	for (uint32_t i = 2; i < 63; i++) {
		uint32_t a = 0, b = 0, c = 0, d = 0;

		if (!(features & (1ULL << i)))
			continue;
		__cpuid_count(XSTATE_LEAF, i, a, b, c, d);
		if ((size_t)b + a > size)
			size = (size_t)b + a;
	}
	return size < s->xstate_len ? size : s->xstate_len;
}

/* The vector registers, as the kernel lays them for a handler. Returns their size, without the second magic. */
static size_t lay_xstate(const struct arch_saved *s, unsigned char *buf)
{
	struct sw_bytes sw = { .magic1 = XSTATE_MAGIC1 };
	uint64_t features;
	size_t size;

	memcpy(&sw.features, s->xstate + XSTATE_SW_OFFSET, sizeof(sw.features));
	memcpy(&features, s->xstate + XSTATE_HEADER_OFFSET, sizeof(features));
	size = xstate_size(s, features);
	sw.xstate_size = (uint32_t)size;
	sw.extended_size = (uint32_t)(size + sizeof(uint32_t));
	features |= FEATURES_LEGACY;
	memcpy(buf, s->xstate, size);
	memcpy(buf + XSTATE_SW_OFFSET, &sw, sizeof(sw));
	memcpy(buf + XSTATE_HEADER_OFFSET, &features, sizeof(features));
	memcpy(buf + size, &(uint32_t){ XSTATE_MAGIC2 }, sizeof(uint32_t));
	return size;
}

bool arch_remote_number(struct arch_saved *s, const unsigned char *code)
{
	uint32_t number;

	if (code[0] != 0xb8 || code[5] != 0x0f || code[6] != 0x05) /* mov $number,%eax; syscall */
		return false;
	memcpy(&number, code + 1, sizeof(number));
	/* those that are gone on with by restart_syscall */
	if (number != SYS_nanosleep && number != SYS_clock_nanosleep && number != SYS_poll && number != SYS_futex)
		return false;
	s->call_number = number;
	s->number_lost = false;
	return true;
}

size_t arch_remote_frame(const struct arch_saved *s, uint64_t way_out, unsigned char *buf, uint64_t *ret_address)
{
	struct user_regs_struct u = registers_of(s);
	unsigned char image[ARCH_XSTATE_MAX + sizeof(uint32_t)];
	size_t size = lay_xstate(s, image);
	uint64_t fpstate = (u.rsp - arch_red_zone - size - sizeof(uint32_t)) & ~(uint64_t)(XSTATE_ALIGN - 1);
	uint64_t address = ((fpstate - sizeof(struct sigframe)) & ~15ULL) - 8; /* as at a function's entry */
	size_t len = (size_t)(fpstate - address) + size + sizeof(uint32_t);
	struct sigframe f = { .pretcode = way_out, .flags = UC_XSTATE | UC_SS | UC_STRICT_SS };

	if ((int64_t)u.orig_rax >= 0 && is_restart(u.rax)) {
		u.rax = s->call_number;
		u.rip -= CALL_BYTES;
	}
	f.stack_flags = ALTSTACK_AS_IT_IS;
	f.r8 = u.r8, f.r9 = u.r9, f.r10 = u.r10, f.r11 = u.r11;
	f.r12 = u.r12, f.r13 = u.r13, f.r14 = u.r14, f.r15 = u.r15;
	f.di = u.rdi, f.si = u.rsi, f.bp = u.rbp, f.bx = u.rbx;
	f.dx = u.rdx, f.ax = u.rax, f.cx = u.rcx, f.sp = u.rsp;
	f.ip = u.rip, f.eflags = u.eflags;
	f.cs = (uint16_t)u.cs, f.ss = (uint16_t)u.ss;
	f.fpstate = fpstate;
	f.mask = f.oldmask = s->blocked;
	memset(buf, 0, len);
	memcpy(buf, &f, sizeof(f));
	memcpy(buf + (fpstate - address), image, size + sizeof(uint32_t));
	*ret_address = address;
	return len;
}

int arch_remote_enter(pid_t tid, const struct arch_saved *s, uint64_t frame, const struct arch_gadgets *g,
		      const struct remote_call *call)
{
	struct user_regs_struct u = registers_of(s);

	u.rdi = call->args[0], u.rsi = call->args[1], u.rdx = call->args[2];
	u.r8 = call->args[4], u.r9 = call->args[5];
	if (call->is_syscall) {
		u.rax = call->number_or_address;
		u.r10 = call->args[3];
		u.rip = g->call;
	} else {
		u.rax = 0;
		u.rcx = call->args[3];
		u.rip = call->number_or_address;
	}
	u.rsp = frame;
	u.eflags &= ~(FLAG_TRAP | FLAG_DIRECTION);
	u.orig_rax = (unsigned long long)-1; /* no call is to be restarted */
	return set_registers(tid, &u);
}

int arch_remote_look(pid_t tid, uint64_t frame, struct arch_look *ret)
{
	struct user_regs_struct u;
	int r = get_registers(tid, &u);

	if (r < 0)
		return r;
	ret->number = u.orig_rax;
	ret->result = u.rax;
	ret->leaving = u.orig_rax == SYS_rt_sigreturn && u.rsp == frame + sizeof(uint64_t);
	return 0;
}

int arch_remote_stay(pid_t tid, const struct arch_gadgets *g)
{
	struct user_regs_struct u;
	int r = get_registers(tid, &u);

	if (r < 0)
		return r;
	u.orig_rax = (unsigned long long)-1; /* no such call: nothing is done */
	u.rip = g->way_out;
	return set_registers(tid, &u);
}

int arch_remote_restore(pid_t tid, const struct arch_saved *s, bool with_xstate)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)s->xstate, .iov_len = s->xstate_len };
	struct user_regs_struct u = registers_of(s);

	/* before the others: were memwatch killed in between, the frame restores them all */
	if (with_xstate && ptrace(PTRACE_SETREGSET, tid, (void *)NT_X86_XSTATE, &iov) < 0)
		return -errno;
	return set_registers(tid, &u);
}

static uint64_t find_bytes(const unsigned char *buf, size_t len, uint64_t address, const void *pattern, size_t size)
{
	const unsigned char *at = memmem(buf, len, pattern, size);

	return at ? address + (uint64_t)(at - buf) : 0;
}

void arch_remote_find(const unsigned char *buf, size_t len, uint64_t address, struct arch_gadgets *ret)
{
	static const unsigned char call[] = { 0x0f, 0x05, 0xc3 }; /* syscall; ret */
	static const unsigned char out[] = {
		0x48, 0xc7, 0xc0, SYS_rt_sigreturn, 0, 0, 0, 0x0f, 5
	};                                                                                 /* mov $15,%rax; syscall */
	static const unsigned char out32[] = { 0xb8, SYS_rt_sigreturn, 0, 0, 0, 0x0f, 5 }; /* mov $15,%eax; syscall */

	_Static_assert(sizeof(out) <= ARCH_PATTERN_MAX, "the reader's overlap");
	if (!ret->call)
		ret->call = find_bytes(buf, len, address, call, sizeof(call));
	if (!ret->way_out)
		ret->way_out = find_bytes(buf, len, address, out, sizeof(out));
	if (!ret->way_out)
		ret->way_out = find_bytes(buf, len, address, out32, sizeof(out32));
}

bool arch_remote_native(const unsigned char *header, size_t len)
{
	uint16_t machine;

	if (len < 20 || memcmp(header, ELFMAG, SELFMAG) != 0)
		return false;
	memcpy(&machine, header + 18, sizeof(machine));
	return header[EI_CLASS] == ELFCLASS64 && machine == EM_X86_64;
}

#endif
