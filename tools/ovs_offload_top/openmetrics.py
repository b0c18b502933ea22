# SPDX-License-Identifier: Apache-2.0
"""One sample as OpenMetrics text.

The textfile collector of Prometheus's node_exporter reads an older format, of
which this is kept a part: no types that it does not know, no timestamps.
"""
import contextlib
import os
import tempfile

from .sample import redirect_errors

PREFIX = 'ovs_offload_'


class Metrics:
    """Families of metrics, and their text."""

    def __init__(self):
        self.lines = []

    def family(self, name, kind, text, samples, unit=None):
        """'samples': (labels, value); a name with a unit ends with it."""
        name = PREFIX + name
        self.lines += ['# TYPE %s %s' % (name, kind)]
        if unit:
            self.lines += ['# UNIT %s %s' % (name, unit)]
        self.lines += ['# HELP %s %s' % (name, text)]
        suffix = '_total' if kind == 'counter' else ''
        for labels, value in samples:
            self.lines.append('%s%s%s %s' % (name, suffix, to_text(labels),
                                             value))

    def text(self):
        return '\n'.join(self.lines + ['# EOF', ''])


def escape(value):
    return (str(value).replace('\\', '\\\\').replace('"', '\\"')
            .replace('\n', '\\n'))


def to_text(labels):
    if not labels:
        return ''
    return '{%s}' % ','.join('%s="%s"' % (k, escape(v))
                             for k, v in labels.items())


def add_ports(metrics, ports, drivers):
    def each(value):
        return [({'port': p['name']}, value(p)) for p in ports]

    def errors(port):
        counters = drivers.get(port['name'], {})
        return sum(counters[name] for name in redirect_errors(counters))

    metrics.family(
        'port_attributes', 'gauge', 'What a port is; always 1.',
        [({'port': p['name'], **{k: p[k] for k in (
            'ifindex', 'type', 'datapath', 'mode', 'attached', 'misses_to')}},
          1) for p in ports])
    for name, kind, text, value in (
            ('up', 'gauge', 'Whether the link is up.', lambda p: int(p['up'])),
            ('transmits', 'gauge', 'Whether the port takes redirected frames.',
             lambda p: int(p['transmits'])),
            ('flows', 'gauge', 'Flows in XDP that enter through the port.',
             lambda p: p['flows']),
            ('waiting_flows', 'gauge',
             'Of these, flows whose output port takes no frames now.',
             lambda p: p['waiting']),
            ('packets', 'counter', 'Packets executed in XDP, by the port where '
             'they entered.', lambda p: p['executed']['packets']),
            ('dropped_packets', 'counter', 'Of these, packets that their flow '
             'has dropped.', lambda p: p['executed']['dropped_packets']),
            ('tracked_packets', 'counter', 'Of these, packets that flows with '
             'ct() have executed.', lambda p: p['executed']['tracked_packets']),
            ('flow_cache_lookups', 'counter', 'Look-ups of flows.',
             lambda p: p['flow_cache']['lookups']),
            ('flow_cache_searches', 'counter', 'Of these, those that the flow '
             'cache could not answer.', lambda p: p['flow_cache']['searches']),
            ('redirect_errors', 'counter', 'Frames that the driver has lost '
             'after XDP_REDIRECT, as far as it says.', errors)):
        metrics.family('port_' + name, kind, text, each(value))
    metrics.family('port_bytes', 'counter', 'Bytes executed in XDP.',
                   each(lambda p: p['executed']['bytes']), unit='bytes')
    metrics.family('port_passed_packets', 'counter',
                   'Packets passed to Open vSwitch, by reason.',
                   [({'port': p['name'], 'reason': reason}, n) for p in ports
                    for reason, n in p['passed'].items()])


def add_tables(metrics, tables):
    for name, key, text in (
            ('flows', 'flows', 'Flows in XDP.'),
            ('max_flows', 'max_flows', 'Room for flows.'),
            ('parked_flows', 'parked_flows',
             'Flows that have lost their place in XDP.'),
            ('refused_flows', 'refused_flows',
             'Flows that Open vSwitch has and XDP has refused.'),
            ('masks', 'masks', 'Different masks of the flows in XDP.'),
            ('max_masks', 'max_masks', 'Room for masks.')):
        metrics.family(name, 'gauge', text, [({}, tables[key])])
    metrics.family('class_masks', 'gauge', 'Masks by class of packets.',
                   [({'class': k}, n)
                    for k, n in tables['masks_by_class'].items()])
    metrics.family('memory_bytes', 'gauge', 'Memory shared by all ports.',
                   [({}, tables['memory_bytes'])], unit='bytes')


def add_events(metrics, since_start):
    for name, key, text in (
            ('placed_flows', 'placed_flows', 'Flows that were put in XDP.'),
            ('evicted_masks', 'evicted_masks',
             'Idle masks that had to make room.'),
            ('evicted_flows', 'evicted_flows', 'Flows of these masks.'),
            ('late_removals', 'late_removals',
             'Removals of flows that did not wait for a busy CPU.')):
        metrics.family(name, 'counter', text, [({}, since_start[key])])
    metrics.family('refusals', 'counter', 'Flows that were refused, by reason.',
                   [({'reason': k}, n)
                    for k, n in since_start['refused'].items()])


def render(stats, drivers):
    """'stats' None: ovs-vswitchd was not available."""
    metrics = Metrics()
    metrics.family('up', 'gauge', 'Whether ovs-vswitchd answered, with the XDP '
                   'plugin.', [({}, int(stats is not None))])
    if stats is not None:
        add_ports(metrics, stats['ports'], drivers)
        add_tables(metrics, stats['tables'])
        add_events(metrics, stats['since_start'])
    return metrics.text()


def write(path, text):
    """Replaces the file as a whole: whoever reads it sees the old or the new.
    """
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or '.',
                                     prefix='.ovs-offload-top.')
    try:
        with open(fd, 'w') as f:
            f.write(text)
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
