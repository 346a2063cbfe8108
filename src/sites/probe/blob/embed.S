/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The linked blob as data of memwatch. BLOB: its file. */
	.section .rodata
	.globl	probe_blob, probe_blob_bytes
	.type	probe_blob, @object
	.type	probe_blob_bytes, @object
	.balign	64
probe_blob:
	.incbin	BLOB
.Lend:
	.size	probe_blob, .Lend - probe_blob
	.balign	8
probe_blob_bytes:
	.quad	.Lend - probe_blob
	.size	probe_blob_bytes, 8
	.section .note.GNU-stack, "", @progbits
