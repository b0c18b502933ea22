#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the benchmark's figures from its JSON, each as SVG and PNG.

    plots.py RESULT.json DIRECTORY

Points and bars are medians, their error bars go from the least to the greatest
round.  A figure whose metrics were not measured is not drawn.  The same JSON
gives the same SVG, byte for byte.
"""
import json
import os
import sys

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = {'ours': '#0072B2', 'hash_walk': '#D55E00', 'bare': '#555555',
           'afxdp': '#E69F00', 'bridge': '#009E73', 'on': '#0072B2',
           'off': '#E69F00', 'hash_map': '#D55E00'}
LABELS = {'ours': 'ours', 'hash_walk': 'a hash map per mask, walked',
          'bare': 'bare redirect', 'afxdp': 'OVS, AF_XDP',
          'bridge': 'Linux bridge'}
STYLE = {'svg.hashsalt': 'ovs-offload-xdp', 'svg.fonttype': 'path',
         'axes.spines.top': False, 'axes.spines.right': False,
         'axes.axisbelow': True, 'axes.grid': True, 'axes.grid.axis': 'y',
         'grid.color': '#dddddd', 'legend.frameon': False, 'font.size': 10,
         'figure.constrained_layout.use': True}


class Result:
    """The benchmark's JSON, by metric name."""

    def __init__(self, result):
        self.result = result

    def get(self, name, spread=False):
        node = self.result['spread'] if spread else self.result
        for part in name.split('.'):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def has(self, name):
        return self.get(name) is not None

    def errors(self, names):
        """Lengths of the error bars, as matplotlib wants them."""
        below = [self.get(n) - self.get(n, True)[0] for n in names]
        above = [self.get(n, True)[1] - self.get(n) for n in names]
        return [below, above]

    def series(self, prefix):
        """The numbers x for which there is a metric PREFIX.x."""
        return sorted(int(x) for x in self.get(prefix) or {} if x.isdigit())


def save(figure, directory, name):
    for kind, metadata in (('svg', {'Date': None}), ('png', {})):
        figure.savefig('%s/%s.%s' % (directory, name, kind), dpi=150,
                       metadata=metadata)
    pyplot.close(figure)


def plain_ticks(axis, values):
    axis.set_ticks(values, [format(v, ',') for v in values])
    axis.set_minor_locator(matplotlib.ticker.NullLocator())


# -- What a packet costs ------------------------------------------------------

def line(axes, r, prefix, rival, **style):
    xs = r.series(prefix)
    names = ['%s.%d' % (prefix, x) for x in xs]
    axes.errorbar(xs, [r.get(n) for n in names], yerr=r.errors(names),
                  color=COLOURS[rival], marker='o', markersize=4, capsize=2,
                  **style)


def cost_axes(axes, xs, xlabel):
    axes.set_xscale('log')
    axes.set_yscale('log')
    plain_ticks(axes.xaxis, xs)
    low, high = axes.get_ylim()
    plain_ticks(axes.yaxis, [v for e in range(6) for v in
                             (10 ** e, 2 * 10 ** e, 5 * 10 ** e)
                             if low <= v <= high])
    axes.set_xlabel(xlabel)
    axes.set_ylabel('nanoseconds per packet')


def draw_masks(r, directory):
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for rival in ('hash_walk', 'ours'):
        line(axes, r, 'program_ns.' + rival, rival, label=LABELS[rival])
    axes.axhline(r.get('program_ns.bare'), color=COLOURS['bare'],
                 linestyle='--', label=LABELS['bare'])
    cost_axes(axes, r.series('program_ns.ours'), 'masks (subtables)')
    axes.legend()
    save(figure, directory, 'cost-by-masks')


def draw_flows(r, directory):
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axes, suffix, title in zip(panels, ('_flows', '_flows_zipf'), (
            'uniform traffic', 'Zipf traffic (s = 1)')):
        for rival in ('hash_walk', 'ours', 'bare'):
            prefix = 'program_ns.' + rival + suffix
            if rival == 'bare' and not r.has(prefix):
                prefix = 'program_ns.bare_flows'
            line(axes, r, prefix, rival, label=LABELS[rival],
                 linestyle='--' if rival == 'bare' else '-')
        cost_axes(axes, r.series('program_ns.ours' + suffix), 'flows')
        axes.set_title(title, fontsize=10)
    panels[1].set_ylabel('')
    panels[0].legend()
    save(figure, directory, 'cost-by-flows')


# -- End to end ---------------------------------------------------------------

def draw_rates(r, directory):
    rivals = ('bare', 'ours', 'bridge', 'afxdp')
    groups = [(size, flows) for flows in r.series('forward_mpps_by.64')
              for size in r.series('forward_mpps_by')]
    figure, axes = pyplot.subplots(figsize=(8, 4))
    width = 0.8 / len(rivals)
    for i, rival in enumerate(rivals):
        names = ['forward_mpps_by.%d.%d.%s' % (*g, rival) for g in groups]
        xs = [x + (i - (len(rivals) - 1) / 2) * width
              for x in range(len(groups))]
        axes.bar(xs, [r.get(n) for n in names], width * 0.92,
                 yerr=r.errors(names), capsize=2, color=COLOURS[rival],
                 error_kw={'elinewidth': 0.8}, label=LABELS[rival])
    axes.set_xticks(range(len(groups)), [
        '%d B\n%s' % (size, '1 flow' if flows == 1
                      else format(flows, ',') + ' flows')
        for size, flows in groups])
    axes.tick_params(axis='x', length=0)
    axes.set_ylabel('million packets per second')
    axes.legend(ncol=len(rivals), loc='lower center',
                bbox_to_anchor=(0.5, 1.0))
    save(figure, directory, 'end-to-end')


# -- Control plane ------------------------------------------------------------

# (title, unit, ((label, metric, colour), ...))
CONTROL = (
    ('insert, median', 'µs', (
        ('library', 'insert.library_p50_us', 'ours'),
        ('call', 'insert.call_p50_us', 'ours'),
        ('first hit', 'insert.p50_us', 'ours'),
        ('hash map', 'insert.hash_map_p50_us', 'hash_map'))),
    ('dump of 64k flows', 'ms', (
        ('ours', 'dump_64k_ms', 'ours'),
        ('hash map', 'dump_64k_hash_map_ms', 'hash_map'))),
    ('first packet', 'µs', (
        ('offload on', 'first_packet_us.on', 'on'),
        ('off', 'first_packet_us.off', 'off'))),
    ('later packet', 'µs', (
        ('offload on', 'established.on_us', 'on'),
        ('off', 'established.off_us', 'off'))),
)


def draw_control(r, directory):
    panels = [(title, unit, bars) for title, unit, bars in CONTROL
              if all(r.has(metric) for _, metric, _ in bars)]
    figure, all_axes = pyplot.subplots(
        1, len(panels), figsize=(1 + 2.2 * len(panels), 3.2), squeeze=False,
        width_ratios=[len(bars) + 1 for _, _, bars in panels])
    for axes, (title, unit, bars) in zip(all_axes[0], panels):
        labels, names, colours = zip(*bars)
        axes.bar(range(len(bars)), [r.get(n) for n in names], 0.6,
                 yerr=r.errors(names), capsize=3,
                 color=[COLOURS[c] for c in colours],
                 error_kw={'elinewidth': 0.8})
        axes.set_xticks(range(len(bars)), labels, fontsize=8)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.tick_params(axis='x', length=0)
        axes.set_xlim(-0.6, len(bars) - 0.4)
        axes.set_title(title, fontsize=10)
        axes.set_ylabel(unit)
    save(figure, directory, 'control-plane')


# (drawn if this was measured, by)
FIGURES = (('program_ns.ours', draw_masks),
           ('program_ns.ours_flows', draw_flows),
           ('forward_mpps_by', draw_rates))


def draw(result, directory):
    r = Result(result)
    os.makedirs(directory, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for metric, function in FIGURES:
            if r.has(metric):
                function(r, directory)
        if any(r.has(metric) for _, _, bars in CONTROL
               for _, metric, _ in bars):
            draw_control(r, directory)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as f:
        draw(json.load(f), sys.argv[2])


if __name__ == '__main__':
    main()
