/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the blob and memwatch share: the probe's memory inside the target.
 *
 *     text   r-x   struct probe_text, then the code. Found again by its magic. Stays as it is across fork.
 *     state  rw-   struct probe_state. Zero in a child after fork, but for the slots (MADV_WIPEONFORK on what lies before and behind them): then
 *                  the probe passes everything through.
 *
 * The blob is freestanding and position-independent: no library call, no thread-local storage of its own, no lock, no stack but the
 * caller's (at most 1 KiB), no relocation. It may be entered by any thread at any time, by a signal handler on top of itself too: nothing is
 * ever held, and whatever a handler could find half done is either one instruction (the countdown) or recognised (see struct probe_thread).
 * The thunks make no system call: a program may confine itself (seccomp) at any time, and would be killed for it.
 *
 * Fast path, on every call: malloc takes its size off the thread's countdown and jumps to the real function; free looks one byte up in
 * the filter and jumps to the real function. Both leave no frame behind. Slow path: when the countdown is used up (Poisson by bytes), the size is at least
 * large_bytes, or the table says that the block is a sampled one.
 *
 * Whatever unwinds ends at the blob: it has no unwind tables. So the real function is called by a jump wherever possible; a sampled operator new that
 * may throw is served by its nothrow form (real[] of that one), and only where that fails the throwing one is jumped to. Without a nothrow
 * form it is passed on (counted in unsampled).
 *
 * Counted is: size 0 as 1; calloc and reallocarray by their product, where it overflows not at all; realloc as a block given back and one taken; mmap where
 * it is private, anonymous and accessible (PROT_NONE only reserves addresses); sbrk upwards. mremap of a block of large_bytes or more where that block is sampled
 * (file mappings are moved too), of a smaller one as realloc.
 *
 * A sample: the real function is called; the address goes into the table of live samples (exact addresses) and the filter; a record goes into the ring.
 * Its stack is sent only where it is not known by its fingerprint (see probe_key). The free of a sampled block: it leaves the table, a record goes into
 * the ring, then the real free is called; so a record of an address that is taken again never comes before that of its release.
 *
 * Threads of memwatch's side: one reader. Byte order and alignment: the target's, x86-64. Everything that memwatch reads here is hostile.
 */
#ifndef MEMWATCH_SITES_PROBE_BLOB_H
#define MEMWATCH_SITES_PROBE_BLOB_H

#include <stdint.h>

#define PROBE_MAGIC_0 0x65626f72702d776dULL /* "mw-probe" */
#define PROBE_MAGIC_1 0x9b1d7c54e02fa863ULL
#define PROBE_VERSION 1

enum probe_function {
	PROBE_MALLOC, /* malloc(n), valloc, pvalloc have entries of their own below */
	PROBE_CALLOC,
	PROBE_REALLOC,
	PROBE_REALLOCARRAY,
	PROBE_FREE,
	PROBE_CFREE,
	PROBE_MEMALIGN,
	PROBE_ALIGNED_ALLOC,
	PROBE_POSIX_MEMALIGN,
	PROBE_VALLOC,
	PROBE_PVALLOC,
	PROBE_NEW,         /* _Znwm */
	PROBE_NEW_ARRAY,   /* _Znam */
	PROBE_NEW_NOTHROW, /* _ZnwmRKSt9nothrow_t */
	PROBE_NEW_ARRAY_NOTHROW,
	PROBE_NEW_ALIGNED, /* _ZnwmSt11align_val_t */
	PROBE_NEW_ARRAY_ALIGNED,
	PROBE_NEW_ALIGNED_NOTHROW,
	PROBE_NEW_ARRAY_ALIGNED_NOTHROW,
	PROBE_DELETE, /* _ZdlPv */
	PROBE_DELETE_ARRAY,
	PROBE_DELETE_SIZED, /* _ZdlPvm */
	PROBE_DELETE_ARRAY_SIZED,
	PROBE_DELETE_NOTHROW,
	PROBE_DELETE_ARRAY_NOTHROW,
	PROBE_DELETE_ALIGNED, /* _ZdlPvSt11align_val_t */
	PROBE_DELETE_ARRAY_ALIGNED,
	PROBE_DELETE_SIZED_ALIGNED,
	PROBE_DELETE_ARRAY_SIZED_ALIGNED,
	PROBE_MMAP,   /* anonymous private mappings only are counted */
	PROBE_MUNMAP, /* the whole mapping, by its first address */
	PROBE_MREMAP,
	PROBE_SBRK,
	PROBE_FUNCTION_COUNT
};

/* At the start of the text. memwatch fills state, state_bytes and real[] before any slot leads here; real[] may be read by any thread. */
struct probe_text {
	uint64_t magic[2];
	uint32_t version;
	uint32_t text_bytes; /* all of the text, this header included */
	uint32_t setup, swap,
		idle;        /* offsets of probe_setup(), probe_swap(), probe_idle() from the start of the text */
	uint32_t code_start; /* offset: from here on a program counter may lie; the header before it is data */
	uint32_t thunk[PROBE_FUNCTION_COUNT]; /* offset of the function that takes the real one's place */
	uint32_t reserved;
	uint64_t state, state_bytes;
	uint64_t real[PROBE_FUNCTION_COUNT]; /* address of the real function; 0: its thunk is not used */
	/* memwatch's, as in the state: from the first write on, so that no other one takes for abandoned what is only being placed. */
	uint64_t owner_pid, owner_start;
};

/*
 * A slot that leads to the probe. The list is what restores the target after memwatch was killed: it is written before the slot is.
 *
 *     EMPTY --memwatch--> WANTED --probe_swap()--> SWAPPED --memwatch--> UNWANTED --probe_swap()--> RESTORED
 *                              `--> FAILED (it did not hold `original`, or its page is gone)
 */
enum probe_slot_state {
	PROBE_SLOT_EMPTY,
	PROBE_SLOT_WANTED,
	PROBE_SLOT_SWAPPED,
	PROBE_SLOT_UNWANTED,
	PROBE_SLOT_RESTORED,
	PROBE_SLOT_FAILED
};
struct probe_slot {
	uint64_t address;  /* 8-byte aligned */
	uint64_t original; /* what it held: the real function, or the module's own lazy binding stub */
	uint32_t function; /* enum probe_function */
	uint32_t state;    /* enum probe_slot_state */
	uint32_t protect;  /* its page is read-only (RELRO): made writable for the moment of the store */
	uint32_t reserved;
};
#define PROBE_SLOTS_MAX 8192

/* One thread's countdown: found by the thread pointer (fs base), one cache line. */
struct probe_thread {
	uint64_t owner;    /* thread pointer; 0 free */
	int64_t remaining; /* bytes until the next sample */
	uint64_t mean;     /* with which it was drawn */
	uint64_t random;   /* state of its generator */
	uint64_t inside;   /* calls on their way through the slow path */
	/*
	 * Written by memwatch: [stack_low, stack_top) is the thread's own stack up to its control block, with a guard below; all of it can be read. In this order:
	 * stack_top = 0, stack_low, tid and tid_at, stack_top. It holds only for whom stack_top is the thread pointer, and only while the control block has
	 * `tid` at tid_at (a later thread may have the same pointer, and a smaller stack); tid_at 0: that is not asked. stack_top 0: not known (yet): then
	 * stacks are copied to the end of the page only.
	 */
	uint64_t stack_low, stack_top;
	uint32_t tid,
		tid_at; /* tid_at: bytes above the thread pointer; within the control block of every thread of this program */
};
#define PROBE_THREADS 4096 /* a power of two; found within PROBE_THREAD_TRIES of its hash */
#define PROBE_THREAD_TRIES 4
#define PROBE_CLAIMING 1 /* owner while the first gap is drawn: no thread pointer */
/*
 * remaining counts down from floor(Exp(mean)) by the size of each block; the block that makes it negative is sampled, and a new gap is drawn: so a block of
 * size s is sampled with probability 1 - exp(-s/mean). Whoever finds it negative already (a signal handler between the two; or the thread left
 * the slow path by longjmp) draws for its own block alone, with the same probability.
 * A thread that finds no entry draws for every block alone, on the slow path: right, but slower; calls of such threads are counted in `inside` of the last
 * entry tried. memwatch may store 0 into any owner at any time (threads that ended; a new mean_bytes that shall hold at once): the thread claims an
 * entry again and draws anew, which changes no probability. But for the stack's bounds it must leave the other fields alone.
 */

/* Live samples: buckets of one cache line. A sample for which there is no room is dropped, and counted. */
#define PROBE_BUCKETS 8192 /* a power of two */
#define PROBE_BUCKET_WAYS 8
#define PROBE_FILTER 8192 /* counters, one byte each, of a hash of the address; saturate at 255 and stay there */
/* Hash of an address, by a multiplication: its high bits are the filter's index, the next ones the bucket. */
#define PROBE_ADDRESS_FACTOR 0x9e3779b97f4a7c15ULL /* 2^64 over the golden ratio */
#define PROBE_FILTER_SHIFT 51
#define PROBE_BUCKET_SHIFT 38
#define PROBE_FILTER_OF(address) ((uint64_t)(address)*PROBE_ADDRESS_FACTOR >> PROBE_FILTER_SHIFT)
#define PROBE_BUCKET_OF(address) ((uint64_t)(address)*PROBE_ADDRESS_FACTOR >> PROBE_BUCKET_SHIFT & (PROBE_BUCKETS - 1))

/*
 * Stacks that the reader knows, by fingerprint: hash of the return address, the stack pointer and those words of the 512 bytes above it
 * (not beyond the page of the return address, which is there for certain) that point into executable ranges. A stack is sent with the first
 * sample of a fingerprint, and with every PROBE_RESEND-th. A fingerprint is known only once its record is complete: so a record without a stack
 * never comes before the one with it, unless that one was dropped by the reader. Never 0. memwatch may zero any of these.
 */
struct probe_key {
	uint64_t fingerprint;
	uint64_t uses;
};
#define PROBE_KEYS 1024
#define PROBE_RESEND 64
#define PROBE_RANGES 16

/*
 * The ring: records of one or more cells of 64 bytes. A writer reserves cells by compare-and-swap of head, fills them, and stores
 * position + 1 of its first cell into seq, last of all. The reader takes a record when seq is right, and moves tail. No room: dropped.
 * A writer that died between the two (its thread was killed) leaves a hole: the reader goes on at the next cell whose seq is its own position + 1.
 * A record never wraps across the end of the array: what is left there is filled by a PROBE_PAD, whose `cells` are skipped (only its first 16 bytes are written).
 * head and tail count cells, for ever; the cell is the position modulo PROBE_CELLS.
 */
#define PROBE_CELL 64
#define PROBE_CELLS 32768 /* 2 MiB; a power of two */

enum probe_kind {
	PROBE_PAD = 0,
	PROBE_TAKEN = 1,
	/* Address, and the caller's pc and sp. Where it finds no room (dropped_given_back) the address is out of the table all the same: the reader learns it by comparing. */
	PROBE_GIVEN_BACK = 2,
	/*
	 * Address only: the GIVEN_BACK of this address before was wrong, realloc, munmap or mremap failed. The block is in the table again, as it was. Where it
	 * finds no room in the ring or the table, the block is not in the table: it stays given back.
	 */
	PROBE_KEPT = 3,
};

struct probe_record {
	uint64_t seq;
	uint32_t cells; /* of this record, slice included */
	uint8_t kind, function;
	uint16_t reserved;
	uint64_t address;
	uint64_t size;        /* as asked for; 1 where that was 0 */
	uint64_t mean;        /* bytes: sampled with probability 1 - exp(-size/mean); 0: always (large) */
	uint64_t fingerprint; /* of the stack */
	uint64_t pc, sp;      /* the caller's: return address, and stack pointer after the return */
};

/* Second cell of a PROBE_TAKEN record with a stack (cells > 1), then the slice: bytes from sp on. */
struct probe_stack {
	uint64_t rbx, rbp, r12, r13, r14, r15;
	uint64_t thread_base;
	uint32_t slice_bytes; /* a multiple of 8; 0: sp is at the end of a page, and no more is known. */
	/*
	 * It ends where the stack does: for the first thread at main_top, for the others at the control block: nothing is missing. Else it ends after
	 * state.slice_bytes, or with the page, where the stack is not known (another thread's, a coroutine's, a signal handler's own).
	 */
	uint32_t whole;
};

#define PROBE_SLICE_MIN 4096
#define PROBE_SLICE_MAX 65536

/* Ever rising; not atomic between each other. In the table are samples + kept - given_back - replaced. */
struct probe_counters {
	uint64_t samples; /* TAKEN records */
	uint64_t
		given_back; /* sampled blocks taken out of the table, each a GIVEN_BACK record if not in dropped_given_back */
	uint64_t slices; /* TAKEN records with a stack */
	uint64_t dropped_ring,
		dropped_table; /* blocks chosen for a sample that had no room in the ring, in the table */
	uint64_t cut_stacks;   /* slices that end with the page, since the stack is not known */
	uint64_t slow_calls;
	uint64_t dropped_given_back;
	uint64_t kept;
	uint64_t replaced;  /* samples whose address was in the table still: the block before was given back unseen */
	uint64_t unsampled; /* blocks chosen for a sample that could not be: operator new without a nothrow form */
};

struct probe_state {
	/* written by memwatch */
	uint64_t
		enabled; /* 0: everything is passed through; sampled blocks that are freed are still taken from the table */
	uint64_t mean_bytes;
	uint64_t large_bytes; /* from this size on always sampled; at least 64 KiB */
	/* Of stack to copy at most, PROBE_SLICE_MIN .. PROBE_SLICE_MAX; 0: the registers alone. */
	uint64_t slice_bytes;
	int64_t pid; /* a living thread of the target, as it knows itself (in its own pid namespace): another one where the first has ended */
	uint64_t owner_pid, owner_start; /* memwatch's, in the pid namespace of memwatch */
	uint64_t seed;                   /* random, for the countdowns; read when a thread claims its entry */
	uint64_t main_low,
		main_top; /* [stack], the first thread's; written like stack_low and stack_top; main_top 0: unknown */
	uint64_t range_count;
	struct {
		uint64_t start, end;
	} ranges[PROBE_RANGES]; /* executable memory, for fingerprints */
	/* handshake of probe_setup() and probe_swap(): they store the request number when done */
	uint64_t done __attribute__((aligned(64)));
	int64_t result; /* 0 or -errno */
	uint64_t
		waiting; /* the request number while its thread waits, after done, for a millisecond at most, to be taken back */
	/* the ring's ends */
	uint64_t head __attribute__((aligned(64)));
	uint64_t tail __attribute__((aligned(64)));
	struct probe_counters counters __attribute__((aligned(64)));
	uint8_t filter[PROBE_FILTER] __attribute__((aligned(64)));
	struct probe_thread threads[PROBE_THREADS] __attribute__((aligned(64)));
	uint64_t table[PROBE_BUCKETS][PROBE_BUCKET_WAYS] __attribute__((aligned(64)));
	struct probe_key keys[PROBE_KEYS] __attribute__((aligned(64)));
	/* From here to the ring nothing is wiped in a child after fork: it can be restored there too. */
	uint64_t slot_count __attribute__((aligned(4096))); /* entries of slots[] that were ever used */
	uint64_t slot_reserved[7];
	struct probe_slot slots[PROBE_SLOTS_MAX];
	uint8_t ring[PROBE_CELLS * PROBE_CELL] __attribute__((aligned(4096)));
};

/*
 * Functions of the blob that memwatch has called by remote calls (offsets in the header). They make raw system calls and nothing else.
 *
 * void probe_setup(uint64_t request): maps the state at text.state (MAP_FIXED_NOREPLACE), MADV_WIPEONFORK (all but the pages of
 *     the slots; without it there is no probe: its error is the result), MADV_DONTDUMP where known; stores result, then done = request. Where the mapping
 *     fails nothing can be stored: memwatch sees that state is not mapped.
 * void probe_swap(uint64_t request): goes through slots[0..slot_count): WANTED → holds `original`? then the thunk's address is stored, by one aligned
 *     8-byte compare-and-swap; UNWANTED → holds the thunk? then `original` is; else nothing leads here any more, and it is RESTORED as it is. A page is first
 *     read by process_vm_readv (it may be gone: FAILED, RESTORED), a read-only one is made writable by mprotect and read-only again; whether it can be
 *     written is tried with MADV_POPULATE_WRITE (Linux 5.14) before, which does not fault. A page that refuses: FAILED; UNWANTED stays so.
 *     Stores result (0; -errno where state.pid could not be read) and done = request.
 * int64_t probe_idle(void): not called remotely; 0. Reserved.
 */

/* All system calls that the blob ever makes (x86-64), in probe_setup() and probe_swap() alone: process_vm_readv, mmap, mprotect, madvise. */
#define PROBE_SYSCALLS                                                                                                 \
	{                                                                                                              \
		310, 9, 10, 28                                                                                         \
	}

#endif
