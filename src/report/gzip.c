/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#define ZLIB_CONST /* next_in is not written through */
#include <zlib.h>

#include "stacks.h"

/* The largest window; 16 asks for a gzip header, without a time: the same input gives the same file. */
#define GZIP_WINDOW (15 + 16)
#define GZIP_MEMORY 8 /* zlib's default */
#define STEP_BYTES (64 << 10)

int stacks_gzip(const uint8_t *data, size_t len, struct str *out)
{
	z_stream z = { 0 };
	char step[STEP_BYTES];
	int status = Z_OK;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	/* zlib counts in unsigned int, so the input goes in by steps too. */
	for (size_t taken = 0; status == Z_OK && !out->failed;) {
		size_t part = len - taken < STEP_BYTES ? len - taken : STEP_BYTES;

		if (z.avail_in == 0) {
			z.next_in = data + taken;
			z.avail_in = (uInt)part;
			taken += part;
		}
		z.next_out = (unsigned char *)step;
		z.avail_out = sizeof(step);
		status = deflate(&z, taken == len ? Z_FINISH : Z_NO_FLUSH);
		str_addn(out, step, sizeof(step) - z.avail_out);
	}
	deflateEnd(&z);
	return status == Z_STREAM_END || out->failed ? str_status(out) : -EIO;
}
