#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a frame costs with a filter in XDP and in TC, and what a new filter costs.

    sudo ./tests/vm/run --count-instructions python3 tests/vm/flowerd_speed.py \\
        --build build/release

In such a machine a nanosecond is an instruction (tests/vm/run).  The frames go from
host to host as in flowerd.py, and are counted where they arrive: through p1 and p2, or
at p1 ("no switch": what making them costs).  Each figure is the median of some rounds.
"""
import argparse
import contextlib
import json
import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ('../bench', '../system', '.'):
    sys.path.insert(0, os.path.join(HERE, folder))
from end_to_end import Program  # noqa: E402
from flowerd import MODULES, Daemon, Network  # noqa: E402
from lab import run, wait_for  # noqa: E402
from suite import expect  # noqa: E402

ROUNDS, SECONDS, SIZE = 5, 0.05, 64
MANY = 10000                    # Filters.
INSERTS = 50
START_LIMIT = 600               # Seconds, in such a machine.
MIN_RATIO = 2.2                 # Instructions of TC flower to those of XDP: 2.63 was
                                # measured on 6.1, 2.24 on 6.12.
MAX_GROWTH = 1.1                # With MANY filters, to one.
MAX_INSERT = 1_000_000          # Instructions: a millisecond on 1 GHz.


class Way:
    """A network, with a counter where frames arrive."""

    def __init__(self, stack, name, network, traffic, build=None, at_p1=False):
        self.name, self.network, self.traffic = name, network, traffic
        self.daemon = stack.enter_context(Daemon(network, build)) if build else None
        where = ((network.switch, 'count', '--dev', 'p1') if at_p1 else
                 (network.hosts[1], 'count', '--dev', 'eth0'))
        # A veth without XDP takes frames that XDP sends only with GRO.
        run('ip', 'netns', 'exec', network.switch, 'ethtool', '-K', 'p1', 'gro', 'on')
        self.counter = Program(traffic, *where)
        stack.callback(self.counter.close)

    def n_in_xdp(self):
        return sum(d['filters_in_xdp'] for d in self.daemon.stats()['devices'])

    def add(self, lines):
        self.network.batch(["filter add dev p1 ingress " + line for line in lines])

    def wait_for(self, n):
        if self.daemon:
            wait_for('%d filters in XDP' % n, lambda: self.n_in_xdp() == n, START_LIMIT)

    def instructions(self):
        """Of a frame."""
        before = self.counter.report()['packets']
        sent = json.loads(run(
            'ip', 'netns', 'exec', self.network.hosts[0], self.traffic, 'send', '--dev',
            'eth0', '--cpu', '0', '--seconds', str(SECONDS), '--size', str(SIZE),
            '--src-mac', '02:00:00:00:00:01', '--dst-mac', '02:00:00:00:00:02',
            '--dst-ip', '10.0.0.0'))
        time.sleep(0.05)
        arrived = self.counter.report()['packets'] - before
        expect(arrived > 0.9 * sent['packets'], '%s: %d of %d arrived', self.name, arrived,
               sent['packets'])
        return sent['seconds'] * 1e9 / arrived


def others(n):
    """Filters, of which the frames are for none; they overlap none."""
    return ['pref 10 protocol ip flower dst_ip 10.%d.%d.%d ip_proto udp dst_port %d '
            'action drop' % (1 + i % 20, i // 256, i % 256, 1000) for i in range(n)]


def measure(ways):
    """By way, the median."""
    samples = {way.name: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            samples[way.name].append(way.instructions())
    return {name: statistics.median(values) for name, values in samples.items()}


def measure_inserts(way):
    """Instructions from when the daemon is woken up until a filter is in XDP."""
    samples = []
    for i in range(INSERTS):
        way.add(['pref 10 protocol ip flower dst_ip 10.30.0.%d ip_proto udp dst_port 1 '
                 'action drop' % i])
        samples.append(way.daemon.stats()['tc']['last_us'] * 1000)
    return statistics.median(samples)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', default='build/release')
    args = parser.parse_args()
    traffic = args.build + '/tests/bench/traffic'
    for module in MODULES:
        run('modprobe', module, check=False)
    name = 'fs%d' % os.getpid()
    with contextlib.ExitStack() as stack:
        networks = {end: stack.enter_context(Network(name + end)) for end in 'dxt'}
        ways = [Way(stack, 'no switch', networks['d'], traffic, at_p1=True),
                Way(stack, 'XDP', networks['x'], traffic, build=args.build),
                Way(stack, 'TC flower', networks['t'], traffic)]
        for way in ways[1:]:
            way.add(['pref 20 protocol ip flower dst_ip 10.0.0.0/32 '
                     'action mirred egress redirect dev p2'])
            way.wait_for(1)
        one = measure(ways)
        print('one filter, instructions per frame: %s' % shown(one), flush=True)
        for way in ways[1:]:
            way.add(others(MANY))
            way.wait_for(MANY + 1)
        many = measure(ways)
        print('%d filters, instructions per frame: %s' % (MANY + 1, shown(many)))
        insert = measure_inserts(ways[1])
        print('a filter more, until it is in XDP: %d instructions, median of %d' % (
            insert, INSERTS), flush=True)
    checks = (('TC flower to XDP', one['TC flower'] / one['XDP'], MIN_RATIO, 1e9),
              ('many filters to one', many['XDP'] / one['XDP'], 0, MAX_GROWTH),
              ('a filter more', insert, 0, MAX_INSERT))
    failed = 0
    for what, value, at_least, at_most in checks:
        good = at_least <= value <= at_most
        failed += not good
        print('%s %s: %.2f' % ('ok' if good else 'FAILED', what, value))
    print('%d passed, %d failed, 0 skipped' % (len(checks) - failed, failed))
    sys.exit(1 if failed else 0)


def shown(medians):
    return ', '.join('%s %.0f' % item for item in medians.items())


if __name__ == '__main__':
    main()
