#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The homes of a flow in the kernel datapath, compared: docs/kernels.md.

Boots one kernel twice (tests/vm/run), and compares in it XDP with TC flower,
openvswitch.ko, a Linux bridge and a bare redirect (compare_inside.py).  In the
first machine a processor's nanosecond is an instruction, so what comes out are
instructions, the same on each machine; in the second it is the time that the
emulator takes.  Needs root.

--write-doc puts the table into docs/kernels.md, between the marks there.
"""
import argparse
import os
import signal
import statistics
import sys

from run_tests import HERE, RESULT_FILE, TOP, Failed, Kernel, install

sys.path.insert(0, TOP + '/tests/bench')
from bench import write_markdown  # noqa: E402

DOC = TOP + '/docs/kernels.md'
KERNEL = '6.12'
LIMIT = 300                     # Seconds for each machine.
ROUNDS = 5

# (name, how long a send takes, options of tests/vm/run)
MACHINES = (('instructions', 0.05, ['--count-instructions']),
            ('time', 0.5, []))
TITLES = {'direct': 'no switch', 'bare': 'bare redirect', 'xdp': '**XDP**',
          'bridge': 'Linux bridge', 'tc': 'TC flower', 'ovs': 'openvswitch.ko'}


class Figures:
    """What one machine has measured: a sample per round, by metric."""

    def __init__(self, samples):
        self.samples = samples

    def median(self, metric):
        return statistics.median(self.samples[metric])

    def spread(self, metric):
        samples = self.samples[metric]
        return (max(samples) - min(samples)) / self.median(metric)

    def per_frame(self, way):
        """Nanoseconds, which may be instructions."""
        return 1e9 / self.median('rate.' + way)

    def path(self, way):
        """The same without what it takes to make and count a frame."""
        return self.per_frame(way) - self.per_frame('direct')


def measure(kernel, directory, args):
    """The Figures of each machine, by its name."""
    figures = {}
    for name, seconds, options in MACHINES:
        status, _, result = kernel.run(
            'compare, ' + name, directory, LIMIT,
            ['/usr/bin/python3', HERE + '/compare_inside.py', '--ovs',
             args.ovs, '--plugin', args.build + '/flowxlate', '--traffic',
             args.build + '/tests/bench/traffic', '--out', RESULT_FILE,
             '--rounds', str(args.rounds), '--seconds', str(seconds)],
            options)
        if status:
            raise Failed('compare, %s: exited with %d' % (name, status))
        figures[name] = Figures(result)
    return figures


# -- Report -------------------------------------------------------------------

def targets(figures):
    """(what, value, relation, limit), for each column of the table."""
    for name, f in figures.items():
        for way in ('tc', 'ovs'):
            yield ('%s: rate at the far end, XDP / %s' % (name, TITLES[way]),
                   f.median('rate.xdp') / f.median('rate.' + way), '>=', 4)
            yield ('%s: path alone, %s / XDP' % (name, TITLES[way]),
                   f.path(way) / f.path('xdp'), '>=', 4)
        yield ('%s: first packet, XDP / openvswitch.ko' % name,
               f.median('first.xdp') / f.median('first.ovs'), '<=', 1)


def way_rows(figures):
    counted, timed = figures['instructions'], figures['time']
    for way, title in TITLES.items():
        path = [f.path(way) for f in (counted, timed)]
        ratios = ['%.2f' % (f.path(way) / f.path('xdp')) if way != 'direct'
                  else '' for f in (counted, timed)]
        first = ['%.0f' % f.median('first.' + way)
                 if 'first.' + way in f.samples else ''
                 for f in (counted, timed)]
        yield (title, '%.0f' % counted.per_frame(way),
               '%.0f' % path[0] if way != 'direct' else '', ratios[0],
               '%.1f' % (timed.median('rate.' + way) / 1e3), ratios[1],
               '%s' % first[0], first[1])


def markdown(release, figures):
    lines = ['Linux %s, medians of %d rounds, frames of 64 bytes, one flow, one '
             'processor.' % (release, len(next(iter(
                 figures['time'].samples.values())))), '',
             '| | instructions per frame | of the path alone | x XDP | thousand '
             'frames/s, emulated | path alone, x XDP | first packet, thousand '
             'instructions | first packet, us, emulated |',
             '|---|---|---|---|---|---|---|---|']
    lines += ['| %s |' % ' | '.join(row) for row in way_rows(figures)]
    lines += ['', '| target | measured | wanted | |', '|---|---|---|---|']
    for what, value, relation, limit in targets(figures):
        reached = value >= limit if relation == '>=' else value <= limit
        lines.append('| %s | %.2f | %s %d | %s |' % (
            what, value, relation, limit,
            'reached' if reached else 'NOT reached'))
    spreads = {name: max(f.spread('rate.' + way) for way in TITLES)
               for name, f in figures.items()}
    lines += ['', 'Greatest difference between rounds of a rate: %s.' % (
        ', '.join('%.1f %% (%s)' % (100 * s, n) for n, s in spreads.items()))]
    return '\n'.join(lines)


# -- All ----------------------------------------------------------------------

def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ovs', metavar='DIR', required=True)
    parser.add_argument('--build', metavar='DIR', required=True)
    parser.add_argument('--kernel', metavar='VERSION', default=KERNEL)
    parser.add_argument('--rounds', type=int, metavar='N', default=ROUNDS)
    parser.add_argument('--write-doc', action='store_true')
    args = parser.parse_args()
    args.ovs, args.build = map(os.path.abspath, (args.ovs, args.build))
    return args


def main():
    args = parse_args()
    # As an exception, so that machines are ended.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    kernel = Kernel(args.kernel)
    try:
        install()
        directory = kernel.get()
        if not directory:
            raise Failed('kernel %s cannot be had' % args.kernel)
        figures = measure(kernel, directory, args)
    except Failed as e:
        sys.exit('vm/compare.py: %s' % e)
    text = markdown(directory.rpartition('_')[2], figures)
    print('\n' + text)
    if args.write_doc:
        write_markdown(DOC, text)
    print('\n%d passed, %d failed, 0 skipped' % (1, len(kernel.failed)))
    return 1 if kernel.failed else 0


if __name__ == '__main__':
    sys.exit(main())
