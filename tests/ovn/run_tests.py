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
from lab import Host, run  # noqa: E402
from ovn import FarChassis, Ovn  # noqa: E402
from suite import Context, Failed, expect, handled, share  # noqa: E402
from test_kernel_datapath import MODULES  # noqa: E402
from underlay import (  # noqa: E402
    TUNNEL_MTU, connect, lay_wire, local_address)


ATTEMPTS = 5
# Rules for ARP, Neighbour Discovery and multicast.
ABOUT_ADDRESSES = re.compile(r'\barp\b|icmp_type=13[56]|dl_dst=01:00:00')


class World:
    """What a case gets: a lab with OVN, and a note of what it has found."""

    def __init__(self, lab, ovn, offload, far=None):
        self.lab, self.ovn, self.offload = lab, ovn, offload
        self.labs = [lab, *([far] if far else [])]      # A chassis each.
        self.found = {}          # Must be the same without and with us.
        self.notes = []          # Figures that may differ.
        # By chassis: those in XDP, and why not the others.
        self.measured_packets = [collections.Counter() for _ in self.labs]
        self.flows = ''

    def check(self, what, value):
        self.found[what] = value

    def add_host(self, bridge='br0'):
        return prepared(self.lab.add_host(bridge=bridge), self.offload)

    @contextlib.contextmanager
    def measured(self):
        """The packets that hosts send meanwhile count for XDP's share."""
        if not self.offload:
            yield
            return
        before = [handled(lab) for lab in self.labs]
        yield
        for counts, lab, old in zip(self.measured_packets, self.labs, before):
            counts.update(handled(lab) - old)
        self.flows = listed(sum(map(reasons, self.labs), collections.Counter()))

    def share(self):
        """Percent of the measured packets that were executed in XDP, on the chassis
        where they are fewest."""
        return min(map(share, self.measured_packets))

    def figures(self):
        """The share, and the reasons of the rest."""
        if not any(self.measured_packets):
            return []
        rest = sum(self.measured_packets, collections.Counter())
        del rest['XDP']
        return ['%s of %s packets in XDP' % (
                    ' and '.join('%.1f %%' % share(c)
                                 for c in self.measured_packets),
                    ' and '.join('%d' % c.total()
                                 for c in self.measured_packets)),
                'passed to OVS: %s; flows that are not in XDP: %s' % (
                    listed(rest), self.flows)]

    def counted(self, what, action):
        """Does something, and notes what each OpenFlow rule counts of it.

        Does it again if somebody has asked for an address or told one meanwhile, as
        OVN does for its own, less and less often.
        """
        for _ in range(ATTEMPTS):
            before = self.settled_rules()
            result = action()
            rules = {rule: tuple(x - y for x, y in zip(n, before.get(rule, (0, 0))))
                     for rule, n in self.settled_rules().items()
                     if n != before.get(rule)}
            if not any(ABOUT_ADDRESSES.search(rule) for rule in rules):
                break
        if len(self.labs) > 1:
            # OVS adds the tunnel's header to the bytes of a rule behind which it is put
            # on (native_tunnel_output() in ofproto-dpif-xlate.c), but not for packets
            # that it handles without a flow, of which there are more without us.
            rules = {rule: n[0] for rule, n in rules.items()}
        self.check('rules: ' + what, rules)
        return result

    def settled_rules(self):
        """The rules' counters, when nothing moves any more."""
        last, now = None, self.rules()
        while now != last:
            time.sleep(0.5)
            last, now = now, self.rules()
        return now

    def rules(self):
        """Packets and bytes of rules, those that only differ in numbers together."""
        # Statistics reach OpenFlow when the revalidators have looked.
        self.lab.ovs.appctl('revalidator/wait')
        found = {}
        for line in self.lab.ovs.ofctl('dump-flows', 'br0',
                                       '--no-names').splitlines():
            m = re.search(r'(table=\d+), n_packets=(\d+), n_bytes=(\d+),.*?'
                          r'(priority=\S+) actions=', line)
            if m:
                # ovn-northd and ovn-controller number as it happens.
                rule = m[1] + ' ' + re.sub(
                    r'((?:reg\d+|metadata|conj_id|in_port)=)[^,]*', r'\1..', m[4])
                packets, size = found.get(rule, (0, 0))
                found[rule] = packets + int(m[2]), size + int(m[3])
        return found

    def connections(self):
        """The connection tracker's, but for their time-outs, with zones' names.

        The kernel's have numbers of their own, and say whether it waits for an
        acknowledgement, which may have been executed by us."""
        names = self.ovn.zones()
        return sorted(re.sub(r'zone=(\d+)', lambda m: 'zone=' + names.get(
            m[1], m[1]), re.sub(r'(?<=\)),id=\d+|\|DATA_UNACKNOWLEDGED', '', line))
            for line in self.lab.ovs.appctl('dpctl/dump-conntrack', '-m').splitlines())


def prepared(host, offload):
    if not offload and host.lab.ovs.datapath == 'netdev':
        # Else AF_XDP gets half-made checksums.
        host.run('ethtool', '-K', 'eth0', 'tx', 'off')
    return host


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


def run_on_two(context, ovn_dir, case, offload):
    """Hosts with odd numbers are at one chassis, those with even ones at the other."""
    with context.lab(hosts=0, offload=offload) as near, \
            context.lab(hosts=0, offload=offload) as far, \
            Ovn(near, ovn_dir, local_address(1)) as ovn, \
            FarChassis(far, ovn, local_address(2)):
        lay_wire(near, far)
        connect(near, 1, 2)
        connect(far, 2, 1)
        hosts = []
        for number in range(1, case.hosts + 1):
            lab = near if number % 2 else far
            host = Host(lab, number, mtu=TUNNEL_MTU)
            lab.hosts.append(host)
            lab.ovs.add_port(host.port)
            hosts.append(prepared(host, offload))
        world = World(near, ovn, offload, far)
        case.function(world, *hosts)
        return world


def run_case(context, ovn_dir, case, offload, datapath):
    if case.two_chassis:
        return run_on_two(context, ovn_dir, case, offload)
    # Only with this view does ovs-vswitchd see the BPF file system.
    with context.lab(hosts=case.hosts, offload=offload, acquainted=False,
                     datapath=datapath, wrapper=mounts.VIEW if case.kept else ()) as lab, \
            Ovn(lab, ovn_dir) as ovn:
        world = World(lab, ovn, offload)
        case.function(world, *lab.hosts)
        return world


def differences(off, on):
    """Where two findings differ, in words."""
    if isinstance(off, dict) and isinstance(on, dict):
        return ['%s: %s, %s' % (k, off.get(k), on.get(k)) for k in sorted(
            off.keys() | on.keys()) if off.get(k) != on.get(k)]
    if isinstance(off, list) and isinstance(on, list):
        return (['only without: %s' % x for x in off if x not in on]
                + ['only with: %s' % x for x in on if x not in off])
    return ['%s, %s' % (off, on)]


def compare(off, on):
    wrong = [what + ', without and with the offload:\n  '
             + '\n  '.join(differences(value, on.found.get(what)))
             for what, value in off.found.items()
             if on.found.get(what) != value]
    expect(not wrong, '%s', '\n'.join(wrong))


def report(name, case, context, ovn_dir, datapath):
    begin = time.monotonic()
    context.diagnosis = ''
    try:
        off, on = (run_case(context, ovn_dir, case, offload, datapath)
                   for offload in (False, True))
        compare(off, on)
        # What is ICMP's, and each new connection, is openvswitch.ko's.
        least = case.min_share if datapath == 'netdev' else 0
        expect(on.share() >= least, 'only %s; %d %% are expected',
               '; '.join(on.figures()), least)
        print('ok %s (%.1f s): %s' % (name, time.monotonic() - begin, '; '.join(
            ['%d things the same' % len(on.found), *on.figures(),
             *('off: ' + n for n in off.notes),
             *('on: ' + n for n in on.notes)])), flush=True)
        return True
    except Exception as e:
        print('FAILED %s (%.1f s): %s' % (name, time.monotonic() - begin, e))
        if not isinstance(e, Failed):
            print(traceback.format_exc(limit=-4), end='')
        print(context.diagnosis, end='', flush=True)
        return False


def cases_of(datapath):
    """Over the kernel's, which server a load balancer takes is another one each time: the
    kernel's hash of a packet has a secret."""
    return [name for name, case in CASES.items() if datapath == 'netdev'
            or not (case.two_chassis or case.kept or name.startswith('lb-'))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ovs', required=True, metavar='DIR')
    parser.add_argument('--plugin', required=True, metavar='DIR')
    parser.add_argument('--datapath', choices=('netdev', 'system'), default='netdev',
                        help='system: the kernel\'s, without cases of two chassis, of restarts '
                        'or of load balancers, in a kernel that has it (tests/vm/run)')
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
    if args.datapath == 'system':
        for module in MODULES:
            run('modprobe', module)
    results = [report(name, CASES[name], context, ovn_dir, args.datapath)
               for name in args.cases or cases_of(args.datapath)]
    left = context.leftovers()
    if left:
        print('FAILED: left: ' + ', '.join(left))
        results.append(False)
    print('%d passed, %d failed, 0 skipped' % (sum(results),
                                               results.count(False)))
    return 0 if all(results) else 1


if __name__ == '__main__':
    sys.exit(main())
