# SPDX-License-Identifier: Apache-2.0
"""One sample for Prometheus, by its client library: as OpenMetrics, or in Prometheus's
own text format, which node_exporter's textfile collector and promtool read.

What is not known has no sample.
"""
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Optional, Union

from prometheus_client import exposition
from prometheus_client.core import (CounterMetricFamily, GaugeMetricFamily,
                                    InfoMetricFamily, Metric, StateSetMetricFamily)
from prometheus_client.openmetrics import exposition as openmetrics

from .sample import Counters, Json, lost_frames, redirect_errors

PREFIX = 'ovs_offload_'
PHASES = ('holding', 'sampling', 'over')
# Of labels, the values, and what is known of these.
Samples = Iterable[tuple[Iterable[Any], Optional[float]]]
KINDS = {'gauge': GaugeMetricFamily, 'counter': CounterMetricFamily}


def family(name: str, kind: str, text: str, samples: Samples,
           labels: Sequence[str] = ()) -> Metric:
    made: Union[GaugeMetricFamily, CounterMetricFamily] = KINDS[kind](
        PREFIX + name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            made.add_metric([str(v) for v in values], value)
    return made


def info(name: str, text: str, rows: Iterable[Json]) -> Metric:
    """'rows' are labels, of which each makes a metric with the value 1."""
    made = InfoMetricFamily(PREFIX + name, text)
    for row in rows:
        made.add_metric([], {k: str(v) for k, v in row.items()})
    return made


# -- Ports --------------------------------------------------------------------

PORT_FAMILIES: tuple[tuple[str, str, str, Callable[[Json], Any]], ...] = (
    ('up', 'gauge', 'Whether the link is up.', lambda p: int(p['up'])),
    ('transmits', 'gauge', 'Whether the port takes redirected frames.',
     lambda p: int(p['transmits'])),
    ('flows', 'gauge', 'Flows in XDP that enter through the port.', lambda p: p['flows']),
    ('waiting_flows', 'gauge', 'Of these, flows whose output port takes no frames now.',
     lambda p: p['waiting']),
    ('packets', 'counter', 'Packets executed in XDP, by the port where they entered.',
     lambda p: p['executed']['packets']),
    ('bytes', 'counter', 'Bytes executed in XDP.', lambda p: p['executed']['bytes']),
    ('dropped_packets', 'counter', 'Of the packets, those that their flow has dropped.',
     lambda p: p['executed']['dropped_packets']),
    ('tracked_packets', 'counter', 'Of the packets, those that flows with ct() have '
     'executed.', lambda p: p['executed']['tracked_packets']),
    ('flow_cache_lookups', 'counter', 'Look-ups of flows.',
     lambda p: p['flow_cache']['lookups']),
    ('flow_cache_searches', 'counter', 'Of these, those that the flow cache could not '
     'answer.', lambda p: p['flow_cache']['searches']),
)


def lost_by_driver(counters: Optional[Counters]) -> Optional[int]:
    """None if it counts nothing."""
    counters = counters or {}
    names = redirect_errors(counters)
    return sum(counters[n] for n in names) if names else None


def lost_by_errno(port: Json) -> list[tuple[str, str, int]]:
    """(where the frames should have gone, errno, frames)."""
    return [(to, errno, n) for to, key in (('port', 'redirect_errors'),
                                           ('ovs', 'redirect_errors_to_ovs'))
            for errno, n in (port.get(key) or {}).items()]


def redirect_error_families(all_ports: list[Json],
                            drivers: dict[str, Counters]) -> Iterator[Metric]:
    yield family('port_redirect_errors', 'counter', 'Frames that were lost after they were '
                 'redirected, as the kernel tells.',
                 [((p['name'],), lost_frames(p)) for p in all_ports], ['port'])
    yield family('port_redirect_errors_by_errno', 'counter', 'Of these, by errno, and by '
                 'where they should have gone.',
                 [((p['name'], to, errno), n) for p in all_ports
                  for to, errno, n in lost_by_errno(p)], ['port', 'to', 'errno'])
    yield family('port_driver_errors', 'counter', 'Frames that the driver has counted as '
                 'lost after they were redirected, where it counts them.',
                 [((p['name'],), lost_by_driver(drivers.get(p['name'])))
                  for p in all_ports], ['port'])


def ports(all_ports: list[Json], drivers: dict[str, Counters]) -> Iterator[Metric]:
    yield info('port', 'What a port is.', [
        dict({k: p[k] for k in ('ifindex', 'type', 'datapath', 'mode', 'attached',
                                'misses_to')}, port=p['name']) for p in all_ports])
    for name, kind, text, value in PORT_FAMILIES:
        yield family('port_' + name, kind, text,
                     [((p['name'],), value(p)) for p in all_ports], ['port'])
    yield from redirect_error_families(all_ports, drivers)
    yield family('port_passed_packets', 'counter',
                 'Packets passed to Open vSwitch, by reason.',
                 [((p['name'], reason), n) for p in all_ports
                  for reason, n in p['passed'].items()], ['port', 'reason'])


# -- Tables -------------------------------------------------------------------

TABLE_FAMILIES = (
    ('flows', 'Flows in XDP.'),
    ('max_flows', 'Room for flows.'),
    ('parked_flows', 'Flows that have lost their place in XDP.'),
    ('refused_flows', 'Flows that Open vSwitch has and XDP has refused.'),
    ('masks', 'Different masks of the flows in XDP.'),
    ('max_masks', 'Room for masks.'),
    ('memory_bytes', 'Memory shared by all ports.'))
EVENT_FAMILIES = (
    ('placed_flows', 'Flows that were put in XDP.'),
    ('evicted_masks', 'Idle masks that had to make room.'),
    ('evicted_flows', 'Flows of these masks.'),
    ('late_removals', 'Removals of flows that did not wait for a busy CPU.'))


def by_label(name: str, kind: str, text: str, label: str, counts: Counters) -> Metric:
    return family(name, kind, text, [((k,), n) for k, n in counts.items()], [label])


def tables(stats: Json) -> Iterator[Metric]:
    for name, text in TABLE_FAMILIES:
        yield family(name, 'gauge', text, [((), stats['tables'][name])])
    yield by_label('class_masks', 'gauge', 'Masks by class of packets.', 'class',
                   stats['tables']['masks_by_class'])
    for name, text in EVENT_FAMILIES:
        yield family(name, 'counter', text, [((), stats['since_start'][name])])
    yield by_label('refusals', 'counter', 'How often flows were refused, by reason.',
                   'reason', stats['since_start']['refused'])
    yield by_label('unexecuted_flows', 'gauge', 'Flows that are not executed in XDP now, '
                   'by reason.', 'reason', stats.get('unexecuted_flows', {}))


def process(stats: Json, versions: dict[str, str]) -> Iterator[Metric]:
    yield info('build', 'What is running.', [
        dict(versions, version=stats.get('plugin_version', ''))])
    start = time.time() - time.monotonic() + stats['start_ms'] / 1000
    yield family('start_time_seconds', 'gauge', 'When counting began, since the epoch.',
                 [((), round(start, 2))])
    if 'handover' in stats:
        yield StateSetMetricFamily(
            PREFIX + 'handover_phase', 'How far the flows of an earlier ovs-vswitchd are '
            'taken over.', {p: p == stats['handover']['phase'] for p in PHASES})
        yield family('handover_ports', 'gauge', 'Ports on which these flows are still '
                     'executed.', [((), stats['handover']['ports'])])


# -- Text ---------------------------------------------------------------------

class Registry:
    """What the library writes down: one look, of which nothing is kept."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)


def render(stats: Optional[Json], drivers: dict[str, Counters],
           versions: Optional[dict[str, str]] = None, classic: bool = False) -> str:
    """'stats' None: ovs-vswitchd was not available.  'classic': Prometheus's own format
    instead of OpenMetrics."""
    families = [family('up', 'gauge', 'Whether ovs-vswitchd answered, with the XDP plugin.',
                       [((), int(stats is not None))])]
    if stats is not None:
        families += [*process(stats, versions or {}), *ports(stats['ports'], drivers),
                     *tables(stats)]
    # A family of which nothing is known is left out.
    registry = Registry([f for f in families if f.samples])
    generate = (exposition if classic else openmetrics).generate_latest
    text: str = generate(registry).decode()
    return text


def write(path: str, text: str) -> None:
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
