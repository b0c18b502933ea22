# SPDX-License-Identifier: Apache-2.0
"""Mounts of the tests' own.

The programs of ports are kept in the BPF file system, of which a machine may have
none, or one that is in use.  So the tests have an empty one of their own, in a
mount namespace of their own, and nothing of them is left there when they end.
"""
import ctypes
import os

BPF_FS = '/sys/fs/bpf'
# Runs a command where these mounts are to be seen, which "ip netns exec" hides.
VIEW = ['nsenter', '--mount=/proc/%d/ns/mnt' % os.getpid()]
CLONE_NEWNS = 0x00020000                # <linux/sched.h>
MS_REC, MS_PRIVATE = 0x4000, 0x40000    # <linux/mount.h>

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result:
        raise OSError(ctypes.get_errno(), '%s: %s' % (
            what, os.strerror(ctypes.get_errno())))


def enter():
    """From here on this process, and those that it starts, have their own mounts,
    and an empty BPF file system."""
    check(libc.unshare(CLONE_NEWNS), 'mount namespace')
    # Or what is mounted here would be mounted everywhere.
    check(libc.mount(None, b'/', None, MS_REC | MS_PRIVATE, None),
          'private mounts')
    check(libc.mount(b'bpf', BPF_FS.encode(), b'bpf', 0, b'mode=0700'), BPF_FS)
