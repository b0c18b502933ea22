#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""OVN's logical networks on our Open vSwitch, with the offload off and on.

Needs root.  Each case is built and used twice: everything must be the same, and what
XDP has executed of the traffic is printed, with what OVS did not hand to it.
"""
import argparse
import collections
import contextlib
import os
import re
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'system'))
import mounts  # noqa: E402
from cases import CASES  # noqa: E402
from lab import run  # noqa: E402
from ovn import Ovn  # noqa: E402
from suite import Context, Failed, expect  # noqa: E402


class World:
    """What a case gets: a lab with OVN, and a note of what it has found."""

    def __init__(self, lab, ovn, offload):
        self.lab, self.ovn, self.offload = lab, ovn, offload
        self.found = {}          # Must be the same without and with us.
        self.notes = []          # Figures that may differ.
        self.share = None        # Of the packets, in XDP, and of how many.
        self.reasons = ''

    def check(self, what, value):
        self.found[what] = value

    @contextlib.contextmanager
    def measured(self):
        """XDP's share of the packets that hosts send meanwhile."""
        before = self.packets()
        yield
        if self.offload:
            new = self.packets() - before
            self.share = new['XDP'] / max(1, new.total()), new.total()
            del new['XDP']
            self.reasons = 'passed to OVS: %s; flows that are not in XDP: %s' % (
                listed(new), listed(reasons(self.lab)))

    def packets(self):
        """How many were executed in XDP, and passed to OVS, by reason."""
        counts = collections.Counter()
        if self.offload:
            for port in self.lab.ovs.offload_show()[1].values():
                counts += collections.Counter(port['passed'])
                counts['XDP'] += port['packets']
        return counts


def listed(counts):
    return ', '.join('%s %d' % item for item in counts.most_common(4)) or 'none'


def reasons(lab):
    """Why flows are not in XDP, and how many."""
    found = collections.Counter()
    for line in lab.ovs.appctl('xdp-offload/explain').splitlines():
        m = re.match(r'(\w+/\w+)\s+(\d+)', line)
        if m:
            found[m[1]] += int(m[2])
    return found


def run_case(context, ovn_dir, function, offload, kept):
    # Only with this view does ovs-vswitchd see the BPF file system.
    with context.lab(hosts=2, offload=offload, acquainted=False,
                     wrapper=mounts.VIEW if kept else ()) as lab, \
            Ovn(lab, ovn_dir) as ovn:
        world = World(lab, ovn, offload)
        function(world)
        return world


def compare(off, on):
    for what, value in off.found.items():
        expect(on.found.get(what) == value, '%s: %s without the offload, %s '
               'with it', what, value, on.found.get(what))


def report(name, function, context, ovn_dir):
    begin = time.monotonic()
    context.diagnosis = ''
    try:
        off, on = (run_case(context, ovn_dir, function, offload,
                            getattr(function, 'kept', False))
                   for offload in (False, True))
        compare(off, on)
        share = '%.1f %% of %d packets in XDP' % (
            100 * on.share[0], on.share[1]) if on.share else ''
        print('ok %s (%.1f s): %s' % (name, time.monotonic() - begin, '; '.join(
            filter(None, ['%d things the same' % len(on.found), share,
                          on.reasons,
                          *('off: ' + n for n in off.notes),
                          *('on: ' + n for n in on.notes)]))), flush=True)
        return True
    except Exception as e:
        print('FAILED %s (%.1f s): %s' % (name, time.monotonic() - begin, e))
        if not isinstance(e, Failed):
            print(traceback.format_exc(limit=-4), end='')
        print(context.diagnosis, end='', flush=True)
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ovs', required=True, metavar='DIR')
    parser.add_argument('--plugin', required=True, metavar='DIR')
    parser.add_argument('cases', nargs='*', metavar='CASE',
                        help='default: all of ' + ', '.join(CASES))
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error('no such case: ' + ', '.join(sorted(unknown)))
    if os.geteuid():
        sys.exit('ovn/run_tests.py: needs root')
    ovn_dir = run(os.path.join(HERE, 'get-ovn')).strip()
    mounts.enter()
    context = Context(os.path.abspath(args.ovs), os.path.abspath(args.plugin))
    results = [report(name, CASES[name], context, ovn_dir)
               for name in args.cases or CASES]
    left = context.leftovers()
    if left:
        print('FAILED: left: ' + ', '.join(left))
        results.append(False)
    print('%d passed, %d failed, 0 skipped' % (sum(results),
                                               results.count(False)))
    return 0 if all(results) else 1


if __name__ == '__main__':
    sys.exit(main())
