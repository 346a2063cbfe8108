#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seizes a process as a debugger does and holds on to it, running: tracer.py PID SECONDS. Prints "tracing" when it does."""
import ctypes
import os
import sys
import time

PTRACE_SEIZE = 0x4206


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    libc.ptrace.restype = ctypes.c_long
    for tid in os.listdir(f"/proc/{sys.argv[1]}/task"):
        if libc.ptrace(PTRACE_SEIZE, int(tid), None, None) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    print("tracing", flush=True)
    time.sleep(float(sys.argv[2]))


if __name__ == "__main__":
    main()
