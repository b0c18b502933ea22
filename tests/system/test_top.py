# SPDX-License-Identifier: Apache-2.0
"""ovs-offload-top, xdp-offload/stats and xdp-offload/top-flows."""
import collections
import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import types
from typing import Any

from lab import Stream, ping, settled_counters, udp_frame, wait_for
from suite import (Skipped, expect, expect_exact, per_port_rules,
                   wait_offloaded)
from test_explosion import ALL_DIFFERENT, frames_of_many_tuples

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(HERE, '..', '..', 'tools')
TOP = os.path.join(TOOLS, 'ovs-offload-top')
sys.path.insert(0, TOOLS)
sys.dont_write_bytecode = True
from ovs_offload_top import openmetrics, rates, sample, screen  # noqa: E402

MANY = 10000                     # Flows.
MANY_SECONDS = 1.0               # For one sample of them: 0.1, busy machines 0.4.


def command(lab, *args):
    """Runs where ovs-vswitchd does."""
    env = dict(lab.ovs.env, TERM='xterm', COLUMNS='200', LINES='50')
    return dict(args=['ip', 'netns', 'exec', lab.switch, TOP, *args], env=env)


def top(lab, *args, status=0, errors=True):
    """Runs it to its end; returns what it has printed.

    If it fails that is its complaint, unless 'errors' is false.
    """
    done = subprocess.run(**command(lab, *args), text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    expect(done.returncode == status, '%s: exit status %d: %s', args,
           done.returncode, done.stderr)
    expect(not (status == 0 and done.stderr), '%s: %s', args, done.stderr)
    return done.stderr if status and errors else done.stdout


def top_json(lab, *args):
    view = json.loads(top(lab, '--once', '--json', *args))
    return view, {p['name']: p for p in view['ports']}


def expect_near(value, wanted, what, share=0.15):
    expect(abs(value - wanted) <= share * wanted, '%s: %s, not %s', what,
           value, wanted)


# -- Arithmetic ---------------------------------------------------------------

def look(now_ms, start_ms=0, ports=(), flows=(), since_ms=0, drivers=None):
    """A sample; 'ports' are (name, packets, searches, frames lost by errno, packets
    passed by reason), 'flows' new packets."""
    def port(name, packets, searches=0, lost=None, passed=None):
        return {'name': name, 'passed': passed or {'no-flow': 0},
                'executed': {'packets': packets, 'bytes': 100 * packets,
                             'dropped_packets': 0, 'tracked_packets': 0},
                'flow_cache': {'lookups': packets, 'searches': searches},
                'redirect_errors': lost,
                'redirect_errors_to_ovs': lost and {'ENOMEM': 1}}

    return types.SimpleNamespace(
        stats={'start_ms': start_ms, 'now_ms': now_ms, 'tables': {},
               'ports': [port(*p) for p in ports], 'since_start': {}},
        top={'since_ms': since_ms, 'now_ms': now_ms, 'flows': [
            {'new_packets': n, 'new_bytes': 60 * n} for n in flows]},
        drivers=drivers or {}, time=now_ms / 1000)


# What differs, the samples, and what comes of it: (path, value).
RATE_ROWS: tuple[tuple[Any, ...], ...] = (
    ('two seconds', look(1000, ports=[('p', 100)]),
     look(3000, ports=[('p', 300)]),
     [('interval_s', 2), ('restarted', False),
      ('ports.0.packets_per_s', 100), ('ports.0.bytes_per_s', 10000)]),
    ('restarted: counters began at 0, a second ago',
     look(1000, ports=[('p', 100)]),
     look(5000, start_ms=4000, ports=[('p', 300)]),
     [('interval_s', 1), ('restarted', True), ('ports.0.packets_per_s', 300)]),
    ('port added again', look(1000, ports=[('p', 100)]),
     look(2000, ports=[('p', 30)]), [('ports.0.packets_per_s', 30)]),
    ('port added', look(1000), look(2000, ports=[('p', 30)]),
     [('ports.0.packets_per_s', 30)]),
    ('port gone', look(1000, ports=[('p', 1)]), look(2000), [('ports', [])]),
    ('no time between', look(1000, ports=[('p', 1)]),
     look(1000, ports=[('p', 1)]), [('ports.0.packets_per_s', 0)]),
    ('no packet: no hit rate', look(1000, ports=[('p', 100, 50)]),
     look(2000, ports=[('p', 100, 50)]),
     [('ports.0.flow_cache_hit_rate', None)]),
    ('reasons: the most frequent one first, none that there was not',
     look(1000, ports=[('p', 0, 0, None, {'no-flow': 5, 'ct-state': 0, 'ip-options': 7})]),
     look(3000, ports=[('p', 0, 0, None, {'no-flow': 6, 'ct-state': 8, 'ip-options': 7})]),
     [('ports.0.passed_per_s', 4.5),
      ('ports.0.passed_per_s_by_reason', {'ct-state': 4, 'no-flow': 0.5})]),
    ('hit rate', look(1000, ports=[('p', 100, 50)]),
     look(2000, ports=[('p', 200, 60)]),
     [('ports.0.flow_cache_hit_rate', 0.9)]),
    ('searches ahead of look-ups', look(1000, ports=[('p', 100, 50)]),
     look(2000, ports=[('p', 101, 52)]),
     [('ports.0.flow_cache_hit_rate', 0)]),
    ('flows, at which somebody else has looked in between',
     look(1000), look(3000, flows=[100, 1], since_ms=2500),
     [('interval_s', 2), ('flows.0.packets_per_s', 200),
      ('flows.0.bytes_per_s', 12000), ('flows.1.packets_per_s', 2)]),
    ('a driver that does not count redirect errors: not known, which is not 0',
     look(1000, ports=[('p', 0), ('q', 0)], drivers={'q': {'rx_xdp_drop': 1}}),
     look(2000, ports=[('p', 0), ('q', 0)], drivers={'q': {'rx_xdp_drop': 2}}),
     [('ports.0.redirect_errors_per_s', None),
      ('ports.1.redirect_errors_per_s', None)]),
    ('the device is older than the port: no rate yet',
     look(1000), look(2000, ports=[('p', 0)],
                      drivers={'p': {'tx_queue_0_xdp_xmit_errors': 5}}),
     [('ports.0.redirect_errors_per_s', 0)]),
    ('redirect errors, also after a restart',
     look(1000, ports=[('p', 0)],
          drivers={'p': {'tx_queue_0_xdp_xmit_errors': 5,
                         'rx_queue_0_xdp_drops': 1}}),
     look(2000, start_ms=1500, ports=[('p', 0)],
          drivers={'p': {'tx_queue_0_xdp_xmit_errors': 9,
                         'rx_queue_0_xdp_drops': 100}}),
     [('ports.0.redirect_errors_per_s', 4)]),
    ('the kernel tells, and the driver does not',
     look(1000, ports=[('p', 0, 0, {'none': 5})]),
     look(2000, ports=[('p', 0, 0, {'none': 7, 'ENXIO': 3})]),
     [('ports.0.redirect_errors_per_s', 5)]),
    ('the kernel tells that there is none',
     look(1000, ports=[('p', 0, 0, {})]), look(2000, ports=[('p', 0, 0, {})]),
     [('ports.0.redirect_errors_per_s', 0)]),
    ('the driver has lost more than the kernel knows of',
     look(1000, ports=[('p', 0, 0, {'none': 5})], drivers={'p': {'tx_xdp_err': 5}}),
     look(2000, ports=[('p', 0, 0, {'none': 6})], drivers={'p': {'tx_xdp_err': 9}}),
     [('ports.0.redirect_errors_per_s', 4)]),
    ('the kernel tells, also after a restart',
     look(1000, ports=[('p', 0, 0, {'none': 5})]),
     look(5000, start_ms=4000, ports=[('p', 0, 0, {'none': 3})]),
     [('ports.0.redirect_errors_per_s', 4)]),
)

# What 'ethtool -S' prints, the counters kept, and those that are errors.
ETHTOOL_ROWS: tuple[tuple[Any, ...], ...] = (
    ('veth', '''NIC statistics:
     peer_ifindex: 2
     rx_queue_0_xdp_packets: 1
     rx_queue_0_drops: 2
     rx_queue_0_xdp_drops: 3
     rx_queue_0_xdp_tx_errors: 4
     tx_queue_0_xdp_xmit: 5
     tx_queue_0_xdp_xmit_errors: 6
''', {'rx_queue_0_xdp_packets': 1, 'rx_queue_0_drops': 2,
      'rx_queue_0_xdp_drops': 3, 'rx_queue_0_xdp_tx_errors': 4,
      'tx_queue_0_xdp_xmit': 5, 'tx_queue_0_xdp_xmit_errors': 6},
     {'rx_queue_0_drops', 'rx_queue_0_xdp_tx_errors',
      'tx_queue_0_xdp_xmit_errors'}),
    ('a total and its queues', '''NIC statistics:
     rx_packets: 7
     rx_xdp_drop: 1
     tx_xdp_err: 4
     tx_xdp_full: 5
     tx0_xdp_err: 3
     tx1_xdp_err: 1
     tx0_xdp_full: 5
''', {'rx_xdp_drop': 1, 'tx_xdp_err': 4, 'tx_xdp_full': 5, 'tx0_xdp_err': 3,
      'tx1_xdp_err': 1, 'tx0_xdp_full': 5}, {'tx_xdp_err', 'tx_xdp_full'}),
    ('nothing of XDP', 'NIC statistics:\n     rx_queue_0_drops: 1\n', {},
     set()),
    ('no statistics', 'no stats available\n', {}, set()),
)


# What the kernel and a driver tell of lost frames, and what is exported of that: names
# without the prefix, labels and values.
LOST = 'port_redirect_errors'
METRIC_ROWS: tuple[tuple[Any, ...], ...] = (
    ('nobody counts: no sample', {}, {}, {}),
    ('an older plugin, which does not know of them', {'redirect_errors': None}, {}, {}),
    ('there are none', {'redirect_errors': {}, 'redirect_errors_to_ovs': {}}, {},
     {(LOST, ('p',)): 0}),
    ('some, and the driver does not count',
     {'redirect_errors': {'ENXIO': 2, 'none': 3}, 'redirect_errors_to_ovs': {'ENXIO': 4}},
     {'rx_xdp_drop': 1},
     {(LOST, ('p',)): 9, (LOST + '_by_errno', ('p', 'port', 'ENXIO')): 2,
      (LOST + '_by_errno', ('p', 'port', 'none')): 3,
      (LOST + '_by_errno', ('p', 'ovs', 'ENXIO')): 4}),
    ('only the driver counts', {'redirect_errors': None, 'redirect_errors_to_ovs': None},
     {'tx_xdp_err': 0, 'tx_xdp_full': 5}, {('port_driver_errors', ('p',)): 5}),
    ('both count', {'redirect_errors': {}, 'redirect_errors_to_ovs': {}},
     {'tx_xdp_err': 0}, {(LOST, ('p',)): 0, ('port_driver_errors', ('p',)): 0}),
)


def at(view, path):
    for key in path.split('.'):
        if isinstance(view, list):
            view = view[int(key)] if int(key) < len(view) else None
        else:
            view = view[key]
    return view


def is_same(got, value):
    if isinstance(value, dict):      # Their order counts.
        return list(got.items()) == list(value.items())
    return got == value or value and got and abs(got - value) < 1e-9


def test_rates(context):
    """Rates of two samples, and drivers' counters: restarts, ports, flows."""
    for what, old, new, wanted in RATE_ROWS:
        view = rates.compare(old, new)
        for path, value in wanted:
            got = at(view, path)
            expect(is_same(got, value), '%s: %s is %s, not %s', what, path, got, value)
    for what, text, kept, errors in ETHTOOL_ROWS:
        counters = sample.xdp_counters(text)
        expect(counters == kept, '%s: %s', what, counters)
        expect(set(sample.redirect_errors(counters)) == errors, '%s: errors %s',
               what, sample.redirect_errors(counters))
    for what, port, counters, wanted in METRIC_ROWS:
        got = {(f.name[len(openmetrics.PREFIX):], tuple(s.labels.values())): s.value
               for f in openmetrics.redirect_error_families(
                   [dict(port, name='p')], {'p': counters}) for s in f.samples}
        expect(got == wanted, '%s: exported %s, not %s', what, got, wanted)
    context.note('%d rows', len(RATE_ROWS) + len(ETHTOOL_ROWS) + len(METRIC_ROWS))


# -- What is drawn ------------------------------------------------------------

# Rates, marks, and what is drawn.
SPARKLINES: tuple[tuple[list, str, str], ...] = (
    ([], screen.MARKS, ''),
    ([0, 0], screen.MARKS, '▁▁'),
    ([7], screen.MARKS, '█'),
    ([0, 1, 2, 3, 4, 5, 6, 7], screen.MARKS, '▁▂▃▄▅▆▇█'),
    ([0, 0.001, 1000], screen.MARKS, '▁▂█'),     # Little is not nothing.
    ([None, 1, None, 0], screen.MARKS, ' █ ▁'),
    ([0, 1, 7], screen.ASCII_MARKS, '_.#'),
)
REASONS: tuple[tuple[dict, str], ...] = (
    ({}, ''),
    ({'no-flow': 99.8}, 'no-flow 99.8'),
    ({'no-flow': 1234, 'ct-state': 2}, 'no-flow 1.23k, ct-state 2'),
    ({'no-flow': 9, 'ct-state': 2, 'ip-options': 1}, 'no-flow 9, ct-state 2, ...'),
)
# What rates.History has of p after these samples: rates by port, or None for a gap.
HISTORIES: tuple[tuple[list, list], ...] = (
    ([], []),
    ([{'p': 1}, {'p': 2}], [1, 2]),
    ([{'p': 1}, None, {'p': 2}], [1, None, 2]),
    ([{'p': 1}, {'q': 1}, {'p': 2}], [2]),       # Removed in between.
    ([{'p': n} for n in range(99)], list(range(79, 99))),
)
# Width and height of a terminal, ports; what has to be there, and what not.
SIZES: tuple[tuple[Any, ...], ...] = (
    ((200, 40), 3, ['CACHE HITS', 'HISTORY', '▁▁▁▁█', 'FLOWS'], ['busiest']),
    ((110, 40), 3, ['HISTORY', 'TO OVS BECAUSE', 'DROP/S'], ['CACHE HITS']),
    ((80, 24), 3, ['HISTORY', 'XDP B/S', 'PACKETS', '400k'], ['XDP  ']),
    ((50, 24), 3, ['TO OVS BECAUSE', 'no-flow 99.8', 'PACKETS', '400k'], ['HISTORY']),
    ((40, 24), 3, ['XDP PKT/S', 'TO OVS/S', '12.3k'], ['BECAUSE']),
    ((15, 10), 3, ['12.3k'], ['BECAUSE']),
    ((80, 24), 40, ['busiest of 40', 'p39 ', 'output:p1'], ['p1 ']),
)


def drawn(width, height, n_ports):
    """As the live view has it, on a terminal of this size."""
    ports = [{'name': 'p%d' % i, 'mode': 'native', 'up': True, 'transmits': True,
              'flows': 8, 'packets_per_s': 12300 + i, 'bytes_per_s': 1e7,
              'dropped_per_s': 0, 'passed_per_s': 99.8, 'flow_cache_hit_rate': 0.9,
              'passed_per_s_by_reason': {'no-flow': 99.8},
              'redirect_errors_per_s': None} for i in range(1, n_ports + 1)]
    flow = {'text': 'in_port(q),eth_type=0x0800, actions:output:p1', 'ufid': 'u',
            'in_port': 'q', 'packets_per_s': 1000, 'bytes_per_s': 1e5,
            'packets': 400000, 'state': 'xdp'}
    view = {'ports': ports, 'flows': [flow] * 50, 'interval_s': 1.0, 'restarted': False,
            'tables': collections.defaultdict(int),
            'since_start': {'executed': {'packets': 1, 'bytes': 1}}}
    history = rates.History()
    for rate in (0, 0, 0, 0, 9):
        history.add([dict(p, packets_per_s=rate) for p in ports])
    console = screen.Console(file=io.StringIO(), width=width, height=height)
    console.print(screen.Drawing(console, history).draw(view, height))
    return console.file.getvalue()


def test_drawing(context):
    """Histories, reasons, and what a small terminal has room for"""
    for values, marks, wanted in SPARKLINES:
        got = screen.sparkline(values, marks)
        expect(got == wanted, '%s: %s, not %s', values, got, wanted)
    for reasons, wanted in REASONS:
        got = screen.reasons({'passed_per_s_by_reason': reasons})
        expect(got == wanted, '%s: %s', reasons, got)
    for samples, kept in HISTORIES:
        history = rates.History()
        for ports in samples:
            if ports is None:
                history.add_gap()
            else:
                history.add([{'name': k, 'packets_per_s': v} for k, v in ports.items()])
        got = list(history.rates.get('p', ()))
        expect(got == kept, '%s: %s', samples, got)
    for (width, height), n_ports, there, missing in SIZES:
        text = drawn(width, height, n_ports)
        lines = text.splitlines()
        what = '%d x %d, %d ports' % (width, height, n_ports)
        expect(all(len(line) <= width for line in lines), '%s: too wide:\n%s', what, text)
        # The last two are for what the keys do.
        expect(height < 12 or len(lines) <= height - 2, '%s: %d lines:\n%s', what,
               len(lines), text)
        expect(all(part in text for part in there)
               and not [part for part in missing if part in text], '%s:\n%s', what, text)
    context.note('%d rows', sum(map(len, (SPARKLINES, REASONS, HISTORIES, SIZES))))


# -- With traffic -------------------------------------------------------------

@contextlib.contextmanager
def traffic(lab):
    """Streams of known rates: a to b (few, large), b to a (many, small)."""
    a, b = lab.hosts[:2]
    with Stream(a, b, pps=200, size=1400), \
            Stream(b, a, pps=1000, size=50, port=7001):
        wait_offloaded(lab, a, b)
        wait_offloaded(lab, b, a)
        time.sleep(0.3)
        yield a, b


def rules_for(lab, host):
    """XDP drops UDP from this host, but what goes to port 7003, which it passes.
    """
    for rule in ('priority=10,udp,in_port=%d,actions=drop',
                 'priority=20,udp,in_port=%d,tp_dst=7003,actions=controller'):
        lab.ovs.ofctl('add-flow', 'br0', rule % lab.ovs.of_port(host.port))


def test_once(context):
    """--once: rates of known traffic, the busiest flow first, JSON and text."""
    with context.lab(3) as lab:
        c = lab.hosts[2]
        rules_for(lab, c)
        with traffic(lab) as (a, b), Stream(c, b, pps=400, port=7002), \
                Stream(c, b, pps=100, port=7003):
            wait_for('drops in XDP', lambda: [
                f for f in lab.ovs.flows('xdp') if f['actions'] == 'drop'])
            time.sleep(0.3)
            view, ports = top_json(lab)
            by_bytes, _ = top_json(lab, '-s', 'bytes', '-n', '1', '-i', '0.5')
            text = top(lab, '--once')
        expect(set(ports) == {h.port for h in lab.hosts}, 'ports %s', ports)
        # IPv4, UDP and Stream's own 8 bytes.
        for host, pps, size, dropped, to_ovs in (
                (a, 200, 1450, 0, 0), (b, 1000, 100, 0, 0),
                (c, 400, 150, 400, 100)):
            p = ports[host.port]
            expect_near(p['packets_per_s'], pps, host.port)
            expect_near(p['bytes_per_s'], pps * size, host.port + ' bytes')
            expect_near(p['dropped_per_s'], dropped, host.port + ' dropped')
            # Hosts may have something to say of their own.
            expect(to_ovs * 0.85 <= p['passed_per_s'] <= to_ovs * 1.15 + 5,
                   '%s: %s/s passed, not %s', host.port, p['passed_per_s'],
                   to_ovs)
            # What no flow matches is searched for in vain.
            expect_near(p['flow_cache_hit_rate'], pps / (pps + to_ovs),
                        host.port + ' hit rate', 0.05)
            expect(p['up'] and p['transmits'] and p['enters']
                   and p['type'] == 'afxdp' and p['datapath'] == 'netdev',
                   '%s', p)
            expect('tx_queue_0_xdp_xmit_errors' in p['driver'],
                   'veth has no such counter: %s', p['driver'])
        expect([f['in_port'] for f in view['flows'][:3]]
               == [b.port, c.port, a.port], 'order: %s', view['flows'])
        busiest = view['flows'][0]
        expect_near(busiest['packets_per_s'], 1000, 'busiest flow')
        expect(busiest['state'] == 'xdp' and 'in_port(%s)' % b.port
               in busiest['text'] and 'output:' + a.port in busiest['text'],
               '%s', busiest)
        expect([f['in_port'] for f in by_bytes['flows']] == [a.port],
               'by bytes: %s', by_bytes['flows'])
        expect_near(by_bytes['interval_s'], 0.5, 'interval', 0.5)
        expect(view['tables']['flows'] >= 3, 'tables: %s', view['tables'])
        for part in (a.port, 'CACHE HITS', 'output:' + a.port, 'actions:drop'):
            expect(part in text, 'no %s in:\n%s', part, text)
        context.note('%s: %.0f/s of 1000/s, hit rate %.3f', b.port,
                     ports[b.port]['packets_per_s'],
                     ports[b.port]['flow_cache_hit_rate'])


def test_two_look(context):
    """Two look at the same time: both see the true rates."""
    with context.lab() as lab, traffic(lab):
        process = subprocess.Popen(
            **command(lab, '--once', '--json', '-i', '1.3'),
            stdout=subprocess.PIPE, text=True)
        views = [top_json(lab)[0]]
        views.append(json.loads(process.communicate(timeout=20)[0]))
        for view in views:
            for flow, pps in zip(view['flows'], (1000, 200)):
                expect_near(flow['packets_per_s'], pps, 'flow')


def test_searches(context):
    """Packets that are new to the flow cache, and only these, are searched."""
    with context.lab() as lab:
        a, b = lab.hosts
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        time.sleep(0.3)

        def cache():
            stats = json.loads(lab.ovs.appctl('xdp-offload/stats'))
            return next(p['flow_cache'] for p in stats['ports']
                        if p['name'] == a.port)

        s = a.raw_socket()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        try:
            for what, ports, wanted in (('new ones', range(100), 100),
                                        ('the same', range(100), 0)):
                before = cache()
                for port in ports:
                    s.send(udp_frame(a, b, sport=10000 + port))
                wait_for('look-ups', lambda: cache()['lookups']
                         >= before['lookups'] + len(ports))
                searches = cache()['searches'] - before['searches']
                # Hosts may have something to say of their own.
                expect(wanted <= searches <= wanted + 5, '%s: %d searches',
                       what, searches)
        finally:
            os.sched_setaffinity(0, range(os.cpu_count()))
            s.close()


def test_undisturbed(context):
    """Counters of all are exact while somebody looks all the time."""
    with context.lab() as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        before = settled_counters(lab, lab.hosts)
        last, n = {}, 0
        with Stream(a, b, pps=2000) as stream:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                stats = json.loads(lab.ovs.appctl('xdp-offload/stats'))
                flows = json.loads(lab.ovs.appctl('xdp-offload/top-flows',
                                                  '256'))
                now = {p['name']: (p['executed']['packets'],
                                   p['flow_cache']['lookups'],
                                   p['flow_cache']['searches'])
                       for p in stats['ports']}
                now.update({f['ufid']: (f['packets'], f['bytes'])
                            for f in flows['flows']})
                for name, counters in last.items():
                    expect(all(x <= y for x, y in zip(
                        counters, now.get(name, counters))),
                        '%s: %s became %s', name, counters, now.get(name))
                last, n = now, n + 1
        expect(stream.lost == 0, 'lost: %s', stream)
        expect_exact(lab, before)
        context.note('%d looks beside %s', n, stream)


# -- For others ---------------------------------------------------------------

def parse_openmetrics(text):
    """Values by (name, labels), as Prometheus's own library understands them.
    """
    try:
        from prometheus_client.openmetrics import parser
    except ImportError:
        raise Skipped('python3-prometheus-client is not installed') from None
    return {(s.name, tuple(sorted(s.labels.items()))): s.value
            for family in parser.text_string_to_metric_families(text)
            for s in family.samples}


def test_openmetrics(context):
    """--openmetrics: Prometheus can parse it, and it says what show says."""
    with context.lab() as lab:
        file = lab.tmp + '/offload.prom'
        with traffic(lab):
            first = parse_openmetrics(top(lab, '--openmetrics'))
            time.sleep(0.5)
            expect(top(lab, '--openmetrics', file) == '', 'printed')
        with open(file) as f:
            text = f.read()
        second = parse_openmetrics(text)
        expect(os.stat(file).st_mode & 0o777 == 0o644, 'mode of the file')
        expect(os.listdir(lab.tmp).count('offload.prom') == 1
               and not [n for n in os.listdir(lab.tmp) if 'offload-top' in n],
               'left: %s', os.listdir(lab.tmp))
        for key, value in first.items():
            if key[0].endswith('_total'):
                expect(second[key] >= value, '%s: %s became %s', key, value,
                       second[key])
        for host in lab.hosts:
            label = (('port', host.port),)
            expect(second['ovs_offload_port_packets_total', label]
                   > first['ovs_offload_port_packets_total', label],
                   '%s: no packets', host.port)
        # No traffic: what is exported is what the others say.
        settled = settled_counters(lab, lab.hosts)
        now = parse_openmetrics(top(lab, '--openmetrics'))
        for host in lab.hosts:
            c, label = settled[host.port], ('port', host.port)
            got = (now['ovs_offload_port_packets_total', (label,)],
                   now['ovs_offload_port_bytes_total', (label,)])
            expect(got == c['xdp'], '%s: %s, not %s', host.port, got, c['xdp'])
            n = sum(v for (name, labels), v in now.items() if label in labels
                    and name == 'ovs_offload_port_passed_packets_total')
            expect(n == c['passed'], '%s: passed %s, not %s', host.port, n,
                   c['passed'])
        build, = [dict(labels) for name, labels in now if name == 'ovs_offload_build_info']
        expect(all(build[k] for k in ('version', 'openvswitch', 'kernel')), '%s', build)
        started = now['ovs_offload_start_time_seconds', ()]
        expect(0 < time.time() - started < 300, 'started: %s', started)
        phases = {value for (name, labels), value in now.items()
                  if name == 'ovs_offload_handover_phase'}
        expect(phases == {0, 1} and now['ovs_offload_handover_ports', ()] == 0,
               'handover: %s', phases)
        context.note('%d metrics', len(now))

        lab.ovs.kill_vswitchd()
        error = top(lab, '--openmetrics', file, status=1)
        expect('ovs-vswitchd does not run' in error, '%s', error)
        with open(file) as f:
            expect(parse_openmetrics(f.read()) == {('ovs_offload_up', ()): 0},
                   'the file of one that does not run')
        error = top(lab, '--openmetrics', '/proc/none/file', status=2)
        expect(error.startswith('ovs-offload-top: '), '%s', error)


def test_errors(context):
    """Nothing there, no plugin, nonsense: one line that says so."""
    with context.lab(0, offload=False) as lab:
        for args, status, part in (
                (['--once'], 1, 'runs without the XDP plugin'),
                (['--once', '--json'], 1, 'hw-offload-plugin=xdp'),
                ([], 1, 'runs without the XDP plugin'),
                (['-t', lab.tmp + '/none.ctl', '--once'], 1, 'cannot connect to '
                 + lab.tmp + '/none.ctl: No such file or directory'),
                (['-t', 'none', '--once'], 1, 'none does not run, or not there: cannot '
                 'read %s/none.pid' % lab.tmp),
                (['-t', '/proc/none/x', '--stream'], 1, 'run directory %s, target '
                 '/proc/none/x' % lab.tmp),
                (['--json'], 2, '--json needs --once'),
                (['-i', '0'], 2, 'not from'),
                (['-n', '1000'], 2, 'not from'),
                (['--once', '--openmetrics'], 2, 'exclude'),
                (['--prometheus', '--openmetrics'], 2, 'exclude')):
            error = top(lab, *args, status=status)
            expect(part in error and 'Traceback' not in error, '%s: %s', args,
                   error)
        process = lab.ovs.processes['ovs-vswitchd']
        for number, what in ((signal.SIGSTOP, 'has not answered xdp-offload/stats within 10'),
                             (signal.SIGKILL, 'does not run, or not there')):
            process.send_signal(number)
            error = top(lab, '--once', status=1)
            # What was tried, and no line of a log.
            expect(what in error and 'run directory ' + lab.tmp in error
                   and 'target ovs-vswitchd' in error and '|WARN|' not in error
                   and len(error.splitlines()) == 1, '%s: %s', what, error)
        lab.ovs.kill_vswitchd()
    with context.lab(0) as lab:
        # By its control socket, as ovs-appctl -t.
        pid = lab.ovs.processes['ovs-vswitchd'].pid
        path = '%s/ovs-vswitchd.%d.ctl' % (lab.tmp, pid)
        view = json.loads(top(lab, '-t', path, '--once', '--json', '-i', '0.2'))
        expect(view['ports'] == [] and view['flows'] == [], '%s', view)
        for args, part in ((('x',), 'N is a number'), (('257',), 'N is a'),
                           (('-1',), 'N is a'), (('1 ',), 'N is a'),
                           (('1', 'age'), 'sorted by packets or bytes'),
                           (('0', 'bytes'), '"flows":[]')):
            text = lab.ovs.appctl('xdp-offload/top-flows', *args)
            expect(part in text, '%s: %s', args, text)


COMPLETE = """source "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_ovs_offload_tool "$2"; printf '%s\\n' "${COMPREPLY[@]}" """
# What is typed after a tool's name, and what bash offers.
COMPLETIONS = (
    ('top', ('-s', ''), {'packets', 'bytes'}),
    ('top', ('--sort', 'b'), {'bytes'}),
    ('top', ('-i', ''), {''}),
    ('top', ('--filter', ''), {''}),
    ('top', ('--st',), {'--stream'}),
    ('top', ('-t', 'ovs'), {'ovs-vswitchd'}),
    ('advise', ('--datapath', ''), {'netdev', 'system'}),
    ('advise', ('--flows', TOOLS + '/ovs-offload-a'), {TOOLS + '/ovs-offload-advise'}),
)


def complete(tool, words):
    return set(subprocess.run(
        ['bash', '-c', COMPLETE, 'bash', TOOLS + '/../packaging/bash-completion.sh',
         TOOLS + '/ovs-offload-' + tool, *words], text=True, check=True,
        stdout=subprocess.PIPE).stdout.split('\n')[:-1])


def test_options(context):
    """Each option is in the manual and completed, and nothing else is"""
    for tool, words, wanted in COMPLETIONS:
        got = complete(tool, words)
        expect(got == wanted, '%s %s: %s, not %s', tool, words, got, wanted)
    n = 0
    for tool in ('top', 'advise'):
        said = subprocess.run([TOOLS + '/ovs-offload-' + tool, '--help'], text=True,
                              check=True, stdout=subprocess.PIPE).stdout
        options = {o for line in re.findall(r'^  (-.*)', said, re.MULTILINE)
                   for o in re.findall(r'(?:^|, )(--?\w+)', line)}
        with open('%s/../man/ovs-offload-%s.8' % (TOOLS, tool)) as f:
            manual = f.read()
        manual = manual[manual.index('.Sh DESCRIPTION'):]
        explained = {'-' + o for line in re.findall(r'^\.It (Fl .*)', manual, re.MULTILINE)
                     for o in re.findall(r'Fl (-?\w+)', line)}
        expect(explained == options, '%s: in the manual alone or not in it: %s', tool,
               explained ^ options)
        expect(complete(tool, ('-',)) == options, '%s: completed: %s, not %s', tool,
               complete(tool, ('-',)), options)
        n += len(options)
    context.note('%d options', n)


class Terminal:
    """The live view on a terminal of its own."""

    def __init__(self, lab, *args, **environment):
        self.master, slave = pty.openpty()
        started = command(lab, *args)
        started['env'].update(environment)
        self.process = subprocess.Popen(
            **started, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True)
        os.close(slave)
        self.text = ''

    def read(self):
        """What it has drawn since the last time."""
        while select.select([self.master], [], [], 0.05)[0]:
            try:
                self.text += os.read(self.master, 65536).decode()
            except OSError:          # It has ended.
                break
        return self.text

    def wait_for(self, *parts):
        self.text = ''
        wait_for('%s on the screen' % (parts,), lambda: all(
            part in self.read() for part in parts))

    def type(self, keys):
        os.write(self.master, keys.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_live(context):
    """The live view draws, survives a restart, sorts, and ends with q."""
    with context.lab() as lab:
        with traffic(lab) as (a, b), contextlib.closing(
                Terminal(lab, '-i', '0.3')) as terminal:
            terminal.wait_for('CACHE HITS', a.port, 'output:' + b.port,
                              'packets)')
            terminal.type('b')
            terminal.wait_for('bytes)')
            lab.ovs.kill_vswitchd(signal.SIGKILL)
            terminal.wait_for('waiting: ovs-vswitchd does not run')
            lab.ovs.start_vswitchd()
            terminal.wait_for('(restarted)')
            terminal.wait_for('output:' + b.port, 'output:' + a.port)
            terminal.type('q')
            expect(terminal.process.wait(5) == 0, 'exit status')
            expect('Traceback' not in terminal.read(), '%s', terminal.text)
        with contextlib.closing(Terminal(lab)) as terminal:
            terminal.wait_for('CACHE HITS')
            terminal.process.send_signal(signal.SIGINT)
            expect(terminal.process.wait(5) == 0, 'exit status of Ctrl-C')


# Filter, number of flows, names and ufids left.
CHOSEN: tuple[tuple[Any, ...], ...] = (
    ('', 9, ['p1', 'p2'], ['u1', 'u2', 'u3']),
    ('', 2, ['p1', 'p2'], ['u1', 'u2']),
    ('p1', 9, ['p1'], ['u1', 'u2']),
    ('udp', 9, [], ['u2', 'u3']),
    ('udp', 1, [], ['u2']),
    ('u3', 9, [], ['u3']),
    ('none', 9, [], []),
)


def test_filter(context):
    """--filter: ports by name, flows by port, text and ufid"""
    for text, n, ports, flows in CHOSEN:
        view = rates.choose({
            'ports': [{'name': 'p1'}, {'name': 'p2'}], 'flows': [
                {'ufid': 'u1', 'in_port': 'p1', 'text': 'tcp'},
                {'ufid': 'u2', 'in_port': 'p1', 'text': 'udp'},
                {'ufid': 'u3', 'in_port': 'p2', 'text': 'udp'}]}, text, n)
        got = [p['name'] for p in view['ports']], [f['ufid'] for f in view['flows']]
        expect(got == (ports, flows), '%s: %s', text, got)


def test_stream(context):
    """--stream prints a line each interval, also over a restart"""
    with context.lab() as lab, traffic(lab) as (a, _):
        with subprocess.Popen(**command(lab, '--stream', '-i', '0.3', '-f', a.port),
                              stdout=subprocess.PIPE, text=True) as process:
            views = [json.loads(process.stdout.readline()) for _ in range(2)]
            lab.ovs.kill_vswitchd(signal.SIGKILL)
            wait_for('that it says so', lambda: 'unavailable' in json.loads(
                process.stdout.readline()), interval=0)
            lab.ovs.start_vswitchd()
            wait_for('ports', lambda: json.loads(process.stdout.readline()).get('ports'),
                     interval=0)
            process.send_signal(signal.SIGINT)
            expect(process.wait(5) == 0, 'exit status %d', process.returncode)
        for view in views:
            expect([p['name'] for p in view['ports']] == [a.port], '%s', view)


COLOUR, ESCAPE = r'\x1b\[[0-9;]*3[0-7]m', '\x1b['
# Environment, what has to be on the screen, and what must not be.
TERMINALS: tuple[tuple[dict, list, list], ...] = (
    ({}, [COLOUR, 'CACHE HITS', '█'], []),
    ({'NO_COLOR': '1'}, [re.escape(ESCAPE), 'CACHE HITS'], [COLOUR]),
    ({'TERM': 'dumb'}, ['CACHE HITS', '█'], ['\x1b']),
    ({'TERM': ''}, ['CACHE HITS'], ['\x1b']),
    ({'TERM': 'dumb', 'PYTHONIOENCODING': 'ascii'}, ['CACHE HITS', '#'], ['\x1b', '█']),
    ({'COLUMNS': '50', 'LINES': '14'}, ['q: quit', 'eth_type'], ['CACHE HITS']),
)


def test_terminals(context):
    """The live view with and without colour, on dumb, ASCII and small terminals"""
    with context.lab(3) as lab, traffic(lab) as (a, b):
        lab.hosts[2].run('ethtool', '-K', 'eth0', 'gro', 'off')
        wait_for('no transmit', lambda: 'no transmit' in top(lab, '--once', '-i', '0.2'))
        for environment, there, missing in TERMINALS:
            with contextlib.closing(Terminal(lab, '-i', '0.2', **environment)) as terminal:
                terminal.wait_for(a.port)
                wait_for('%s with %s' % (there, environment), lambda: all(
                    re.search(part, terminal.read()) for part in there))
                found = [part for part in missing if re.search(part, terminal.text)]
                expect(not found, '%s: %s in %r', environment, found, terminal.text)
                terminal.process.send_signal(signal.SIGINT)
                expect(terminal.process.wait(5) == 0, 'exit status of Ctrl-C')
    context.note('%d terminals', len(TERMINALS))


def test_restarted(context):
    """ovs-vswitchd restarts between two samples: true rates, none negative."""
    with context.lab() as lab:
        with traffic(lab) as (a, b):
            process = subprocess.Popen(
                **command(lab, '--once', '--json', '-i', '10'),
                stdout=subprocess.PIPE, text=True)
            time.sleep(1)             # It has its first sample.
            lab.ovs.kill_vswitchd(signal.SIGKILL)
            lab.ovs.start_vswitchd()
            view = json.loads(process.communicate(timeout=30)[0])
        expect(process.returncode == 0 and view['restarted'], '%s', view)
        ports = {p['name']: p for p in view['ports']}
        for host, pps in ((a, 200), (b, 1000)):
            rate = ports[host.port]['packets_per_s']
            # Part of the time there was no flow in XDP.
            expect(0.3 * pps < rate < 1.15 * pps, '%s: %s of %d/s', host.port,
                   rate, pps)
        expect(all(f['packets_per_s'] >= 0 for f in view['flows']), '%s',
               view['flows'])
        context.note('over the %.1f s since the restart', view['interval_s'])


def test_many(context):
    """10,000 flows: how long one sample takes, and the busiest is found."""
    config = ['max-idle=60000']
    with context.lab(3, config=config) as lab:
        c, b = lab.hosts[2], lab.hosts[1]
        lab.ovs.ofctl('add-flow', 'br0', 'priority=10,' + ALL_DIFFERENT[
            0].format(c=lab.ovs.of_port(c.port)))
        s = c.raw_socket()
        frames = frames_of_many_tuples(c, b, MANY)

        def n_flows():
            return json.loads(lab.ovs.appctl('xdp-offload/stats'))[
                'tables']['flows']

        def all_there():             # Upcalls may be lost: offered again.
            if n_flows() < MANY:
                for i, frame in enumerate(frames):
                    s.send(frame)
                    if i % 50 == 0:
                        time.sleep(0.01)
            return n_flows() >= MANY

        wait_for('%d flows' % MANY, all_there, 60, 0.5)
        s.close()
        with traffic(lab):
            begin = time.monotonic()
            view, _ = top_json(lab, '-i', '1')
            seconds = (time.monotonic() - begin - 1) / 2
        expect(view['tables']['flows'] >= MANY, '%s', view['tables'])
        expect(len(view['flows']) == 20, '%d flows', len(view['flows']))
        expect_near(view['flows'][0]['packets_per_s'], 1000, 'busiest flow')
        expect(seconds < MANY_SECONDS, 'a sample took %.1f s', seconds)
        context.note('%d flows: %.2f s for a sample', view['tables']['flows'],
                     seconds)


TESTS = [
    ('top-rates', test_rates),
    ('top-drawing', test_drawing),
    ('top-once', test_once),
    ('top-two-look', test_two_look),
    ('top-searches', test_searches),
    ('top-undisturbed', test_undisturbed),
    ('top-openmetrics', test_openmetrics),
    ('top-errors', test_errors),
    ('top-options', test_options),
    ('top-live', test_live),
    ('top-filter', test_filter),
    ('top-stream', test_stream),
    ('top-terminals', test_terminals),
    ('top-restarted', test_restarted),
    ('top-many', test_many),
]
