#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Where a flow of the kernel datapath may live, compared: XDP, TC, the kernel.

  generator -> eth0 -veth- p1 -> switch -> p2 -veth- eth0 -> XDP_DROP, counted

The switch is one of
  direct  none: the frames are counted at p1 (what generating them costs)
  bare    an XDP program on p1 that does nothing but redirect
  bridge  a Linux bridge, which performance.md has on hardware
  xdp     ovs-vswitchd with the plugin
  tc      ovs-vswitchd with hw-offload=true alone, tc-policy=skip_hw: flower
  ovs     ovs-vswitchd with hw-offload=false: openvswitch.ko

Started by compare.py in an emulated machine; tests/bench/end_to_end.py, whose
parts these are, says who runs where.  All stand at the same time, and what is
measured alternates between them.  What arrives is only believed if the flow of
this home, and no other, has counted it too.
"""
import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ('bench', 'system'):
    sys.path.insert(0, os.path.join(HERE, '..', folder))
from end_to_end import Path, Probe, Results, check_arrivals  # noqa: E402
from lab import Lab, run, wait_for  # noqa: E402

MODULES = ('openvswitch', 'sch_ingress', 'cls_flower', 'act_mirred')
CONFIG = {
    'xdp': ['hw-offload=true', 'hw-offload-plugin=xdp', 'xdp-offload-hook=xdp'],
    'tc': ['hw-offload=true', 'tc-policy=skip_hw'],
    'ovs': ['hw-offload=false'],
}
HOMES = tuple(CONFIG)
WAYS = ('direct', 'bare', 'bridge', *HOMES)
SIZE = 64                       # Of frames, without FCS.
FIRST_PACKETS = 20              # Per round and home.


class Way(Path):
    """A switch with a host on each side; see the module's text."""

    path_core = far_end_core = 0

    def __init__(self, stack, way, args):
        self.stack, self.rival, self.traffic = stack, way, args.traffic
        self.lab = stack.enter_context(Lab(args.ovs, args.plugin))
        self.has_ovs = way in CONFIG
        if self.has_ovs:
            self.lab.ovs.start(False, CONFIG[way] + ['max-idle=3600000'],
                               'system')
        self.src, self.dst = (self.lab.add_host(port=self.has_ovs)
                              for _ in range(2))
        if way in ('tc', 'ovs'):
            # A veth without XDP takes redirected frames only with GRO.
            run('ip', 'netns', 'exec', self.lab.switch, 'ethtool', '-K',
                self.src.port, 'gro', 'on')
        getattr(self, 'set_up_' + ('ovs' if self.has_ovs else way))()
        self.counter = None

    def flow_packets(self):
        """What the flows from the source have counted in this home.

        Raises RuntimeError if there is one elsewhere.
        """
        flows = [f for f in self.lab.ovs.flows()
                 if 'in_port(%s)' % self.src.port in f['match']
                 and 'eth_type(0x0800)' in f['match']]
        homes = {re.search(r'dp:(\w+)', f['attrs'])[1] for f in flows}
        if homes - {self.rival}:
            raise RuntimeError('%s: flows live in %s' % (self.rival, homes))
        return sum(f['packets'] for f in flows)

    def warm_up(self, seconds):
        with self.running():
            self.send(seconds, SIZE, 1)
            if self.has_ovs:
                wait_for('a flow in ' + self.rival, self.flow_packets, 30)


# -- Rates --------------------------------------------------------------------

def measure_rate(way, seconds):
    """Frames per second at the far end."""
    with way.running():
        counted = way.flow_packets() if way.has_ovs else 0
        before = way.counter.report()
        sent = way.send(seconds, SIZE, 1)
        time.sleep(0.05)
        after = way.counter.report()
        arrived = after['packets'] - before['packets']
        if way.has_ovs:
            counted = way.flow_packets() - counted
    by_cpu = [b - a for a, b in zip(before['packets_by_cpu'],
                                    after['packets_by_cpu'])]
    check_arrivals(way, SIZE, arrived, by_cpu,
                   after['bytes'] - before['bytes'])
    if way.has_ovs and counted < 0.95 * arrived:
        raise RuntimeError('%s: of %d frames that have arrived, its flow has '
                           'counted %d' % (way.rival, arrived, counted))
    return arrived / sent['seconds']


def measure_rates(ways, rounds, seconds, results):
    for way in ways:
        way.start_counting()
        way.warm_up(seconds)
    for n in range(rounds):
        rates = {w.rival: measure_rate(w, seconds) for w in ways}
        for way, rate in rates.items():
            results.add('rate.' + way, 'packets/s', rate)
        print('round %d, thousand frames/s: %s' % (n + 1, ', '.join(
            '%s %.1f' % (w, r / 1e3) for w, r in rates.items())), flush=True)


# -- First packets ------------------------------------------------------------

def measure_latencies(ways, rounds, results):
    """The first packet of a flow from host to host, and a later one's."""
    probes = {w.rival: Probe(w) for w in ways if w.has_ovs}
    for n in range(rounds):
        numbers = range(FIRST_PACKETS * n, FIRST_PACKETS * (n + 1))
        text = []
        for home, probe in probes.items():
            first, established = [], []
            probe.block(numbers, first, established)
            for name, sample in (('first', first), ('later', established)):
                results.add('%s.%s' % (name, home), 'us',
                            statistics.median(sample))
            text.append('%s %.0f (later %.0f)' % (
                home, *map(statistics.median, (first, established))))
        print('round %d, first packet, us: %s' % (n + 1, ', '.join(text)),
              flush=True)


# -- All ----------------------------------------------------------------------

def parse_args():
    parser = argparse.ArgumentParser()
    for name in ('ovs', 'plugin', 'traffic'):
        parser.add_argument('--' + name, required=True, type=os.path.abspath)
    parser.add_argument('--out', metavar='FILE', required=True)
    parser.add_argument('--rounds', type=int, required=True)
    parser.add_argument('--seconds', type=float, required=True)
    return parser.parse_args()


def main():
    args = parse_args()
    for module in MODULES:
        subprocess.run(['modprobe', module], check=True)
    results = Results()
    with contextlib.ExitStack() as stack:
        ways = []
        for way in WAYS:
            ways.append(Way(stack, way, args))
            print('%s: set up' % way, flush=True)
        measure_latencies(ways, args.rounds, results)
        measure_rates(ways, args.rounds, args.seconds, results)
    with open(args.out, 'w') as f:
        json.dump({metric: samples for metric, (_, samples)
                   in results.metrics.items()}, f)


if __name__ == '__main__':
    main()
