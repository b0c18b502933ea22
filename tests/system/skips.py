# SPDX-License-Identifier: Apache-2.0
"""Which tests may be skipped, and where.

A test that skips itself says why.  That is believed only if this table says so too,
after a look of its own at the kernel and the machine; any other skip is a failure.
"""
import collections
import ctypes
import fnmatch
import functools
import os
import re
import subprocess

BPF_PROG_TYPE_EXT = 28          # <linux/bpf.h>


def kernel_version():
    return tuple(map(int, re.findall(r'\d+', os.uname().release)[:2]))


def has_no_modules():
    return not os.path.isdir('/lib/modules/' + os.uname().release)


@functools.cache
def has_no_freplace():
    libbpf = ctypes.CDLL('libbpf.so.1')
    return libbpf.libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_EXT, None) != 1


@functools.cache
def libxdp_version():
    text = subprocess.run(['dpkg-query', '-W', '-f', '${Version}', 'libxdp1'],
                          stdout=subprocess.PIPE, text=True, check=False).stdout
    return tuple(map(int, re.findall(r'\d+', text)[:3]))


def can_join():
    """A program that changes packets joins the dispatcher of an old libxdp only on
    an old kernel (docs/design.md, Limits)."""
    return kernel_version() < (6, 12) or libxdp_version() >= (1, 5, 5)


@functools.cache
def has_no_vxlan():
    """The kernel makes no such device."""
    device = ['dev', 'xo-vxlan%d' % os.getpid()]
    made = subprocess.run(['ip', 'link', 'add', *device, 'type', 'vxlan', 'id', '1',
                           'dstport', '4789'], stderr=subprocess.DEVNULL, check=False)
    if not made.returncode:
        subprocess.run(['ip', 'link', 'del', *device], check=True)
    return bool(made.returncode)


def has_one_cpu():
    return len(os.sched_getaffinity(0)) < 2


def is_no_guest():
    return 'OVS_OFFLOAD_GUEST_KERNEL' not in os.environ


# Tests by name, where they are skipped, and how that is found out.
TABLE = (
    ('kernel-*', 'the kernel has no modules', has_no_modules),
    ('kernel-ct*', 'the kernel has no connections by zone for programs',
     lambda: kernel_version() < (6, 11)),
    ('coexist-*', 'the kernel has no freplace programs', has_no_freplace),
    ('coexist-cannot-join', 'programs can join the dispatcher', can_join),
    ('coexist-afxdp', 'programs cannot join the dispatcher',
     lambda: not can_join()),
    ('coexist-system', 'programs cannot join the dispatcher',
     lambda: not can_join()),
    ('tap-machine', 'run by "tests/run vm"', is_no_guest),
    ('tunnels-kernel-peer', 'the kernel has no vxlan devices', has_no_vxlan),
    ('mask-explosion', 'there is one CPU', has_one_cpu),
    ('flood-*', 'there is one CPU', has_one_cpu),
)


def expected(name):
    """Why the test may be skipped here, or None."""
    return next((why for pattern, why, is_so in TABLE
                 if fnmatch.fnmatch(name, pattern) and is_so()), None)


def summary(names):
    """"N skipped, as expected: ..." of tests that may be skipped."""
    reasons = collections.Counter(expected(name) for name in names)
    return '%d skipped, as expected: %s' % (len(names), '; '.join(
        '%d where %s' % (n, why) for why, n in sorted(reasons.items())))
