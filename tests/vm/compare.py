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
import statistics
import sys

from run_tests import (HERE, RESULT_FILE, TOP, Failed, Kernel, install,
                       prepare)

sys.path.insert(0, TOP + '/tests/bench')
from bench import write_markdown  # noqa: E402

DOC = TOP + '/docs/kernels.md'
KERNEL = '6.12'                 # Why: docs/kernels.md.
LIMIT = 900                     # Seconds for each machine.
ROUNDS = 5

# (name, how long a send takes, options of tests/vm/run)
MACHINES: tuple[tuple[str, float, list[str]], ...] = (
    ('instructions', 0.05, ['--count-instructions']),
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

def ratio(f, metric, way, rival):
    return f.median('%s.%s' % (metric, way)) / f.median(
        '%s.%s' % (metric, rival))


def targets(figures):
    """(what, value, relation, limit)"""
    for name, f in figures.items():
        for rival in ('tc', 'ovs'):
            yield ('%s: rate, XDP / %s' % (name, TITLES[rival]),
                   ratio(f, 'rate', 'xdp', rival), '>=', 4)
        yield ('%s: first packet, XDP / %s' % (name, TITLES['ovs']),
               ratio(f, 'first', 'xdp', 'ovs'), '<=', 1)


def rates(figures):
    """Lines of a table: what a frame costs in each way."""
    counted, timed = figures['instructions'], figures['time']
    yield ('', 'instructions per frame', 'times those of XDP',
           'of the path alone', 'times those of XDP',
           'thousand frames per emulated second', 'XDP: times as many')

    def path(way):
        return counted.per_frame(way) - counted.per_frame('direct')

    for way, title in TITLES.items():
        yield (title, '%.0f' % counted.per_frame(way),
               '%.2f' % ratio(counted, 'rate', 'xdp', way),
               '%.0f' % path(way), '%.2f' % (path(way) / path('xdp')),
               '%.0f' % (timed.median('rate.' + way) / 1e3),
               '%.2f' % ratio(timed, 'rate', 'xdp', way))


def latencies(figures):
    """Lines of a table: a flow's first packet, and a later one."""
    yield ('', *('%s, %s' % (packet, unit)
                 for unit in ('thousand instructions', 'emulated us')
                 for packet in ('first packet', 'a later one')))
    for way in ('xdp', 'tc', 'ovs'):
        yield (TITLES[way], *('%.0f' % f.median('%s.%s' % (packet, way))
                              for f in figures.values()
                              for packet in ('first', 'later')))


def verdicts(figures):
    yield ('target', 'measured', 'wanted', '')
    for what, value, relation, limit in targets(figures):
        reached = value >= limit if relation == '>=' else value <= limit
        yield (what, '%.2f' % value, '%s %d' % (relation, limit),
               'reached' if reached else 'NOT reached')


def table(rows):
    head, *rest = [list(row) for row in rows]
    return '\n'.join('| %s |' % ' | '.join(row)
                     for row in [head, ['---'] * len(head), *rest])


def markdown(release, rounds, figures):
    spreads = ', '.join('%s %.1f %%' % (name, 100 * max(
        f.spread('rate.' + way) for way in TITLES))
        for name, f in figures.items())
    return '\n\n'.join([
        'Linux %s, medians of %d rounds; greatest difference between the '
        'rounds of a rate: %s.' % (release, rounds, spreads),
        table(rates(figures)), table(latencies(figures)),
        table(verdicts(figures))])


# -- All ----------------------------------------------------------------------

def add_arguments(parser):
    parser.add_argument('--kernel', metavar='VERSION', default=KERNEL)
    parser.add_argument('--rounds', type=int, metavar='N', default=ROUNDS)
    parser.add_argument('--write-doc', action='store_true')


def main():
    args = prepare(__doc__, add_arguments)
    kernel = Kernel(args.kernel)
    try:
        install()
        directory = kernel.get()
        if not directory:
            raise Failed('kernel %s cannot be had' % args.kernel)
        figures = measure(kernel, directory, args)
    except Failed as e:
        sys.exit('vm/compare.py: %s' % e)
    text = markdown(directory.rpartition('_')[2], args.rounds, figures)
    print('\n' + text)
    if args.write_doc:
        write_markdown(DOC, text)
    print('\n%d passed, %d failed, 0 skipped' % (1, len(kernel.failed)))
    return 1 if kernel.failed else 0


if __name__ == '__main__':
    sys.exit(main())
