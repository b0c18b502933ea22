# SPDX-License-Identifier: Apache-2.0
"""Two samples compared: what happened per second in between.

Counters begin at 0 when ovs-vswitchd is started ('start_ms' tells) and when a
port is added.  One that is smaller than it was began anew.  Of flows, the
plugin itself tells what they have counted since it was asked last, and when
that was.
"""
import collections
from typing import Optional

from .sample import Counters, Json, Sample, lost_frames, redirect_errors

HISTORY = 20               # Rates of each port that are kept.


def grown(old: int, new: int) -> int:
    return new - old if new >= old else new


def flatten(counters: Json, prefix: str = '') -> Counters:
    """Numbers of nested dictionaries, by path."""
    flat = {}
    for key, value in counters.items():
        if isinstance(value, dict):
            flat.update(flatten(value, prefix + key + '/'))
        else:
            flat[prefix + key] = value
    return flat


class Interval:
    """The time between two samples, and what the ports had counted before."""

    def __init__(self, old: Json, new: Json) -> None:
        self.restarted = old['start_ms'] != new['start_ms']
        begin = new['start_ms'] if self.restarted else old['now_ms']
        self.seconds: float = max(new['now_ms'] - begin, 1) / 1000
        self.before: dict[str, Json] = {} if self.restarted else {
            port['name']: port for port in old['ports']}


def driver_errors_per_s(old_driver: Counters, driver: Counters,
                        seconds: float) -> Optional[float]:
    """None if the driver counts none."""
    counted = redirect_errors(driver)
    # The device may be older than the port, so there is no 0 to begin with.
    lost = sum(grown(old_driver.get(name, driver[name]), driver[name])
               for name in counted)
    return lost / max(seconds, 0.001) if counted else None


def redirect_errors_per_s(before: Json, port: Json, seconds: float,
                          of_driver: Optional[float]) -> Optional[float]:
    """The kernel tells of frames that a driver refuses, and a driver may lose them
    later: the greater of the two.  Nobody counts: not known, which is not 0."""
    lost = lost_frames(port)
    of_kernel = None if lost is None else grown(lost_frames(before) or 0, lost) / seconds
    return max((n for n in (of_kernel, of_driver) if n is not None), default=None)


def by_reason(growth: Counters, seconds: float) -> dict[str, float]:
    """Packets per second that were passed to OVS, the most frequent reason first."""
    passed = {k.removeprefix('passed/'): n / seconds for k, n in growth.items()
              if k.startswith('passed/') and n}
    return dict(sorted(passed.items(), key=lambda item: -item[1]))


def rate_port(port: Json, interval: Interval, old_driver: Counters, driver: Counters,
              driver_seconds: float) -> Json:
    """The port as it is now, with rates."""
    new = flatten({k: port[k] for k in ('executed', 'passed', 'flow_cache')})
    before = interval.before.get(port['name'], {})
    old = flatten({k: before.get(k, {})
                   for k in ('executed', 'passed', 'flow_cache')})
    growth = {k: grown(old.get(k, 0), v) for k, v in new.items()}
    lookups = growth['flow_cache/lookups']
    searches = min(growth['flow_cache/searches'], lookups)
    passed = by_reason(growth, interval.seconds)
    return dict(port, **{
        'packets_per_s': growth['executed/packets'] / interval.seconds,
        'bytes_per_s': growth['executed/bytes'] / interval.seconds,
        'dropped_per_s':
            growth['executed/dropped_packets'] / interval.seconds,
        'passed_per_s': sum(passed.values()),
        'passed_per_s_by_reason': passed,
        'flow_cache_hit_rate': 1 - searches / lookups if lookups else None,
        'redirect_errors_per_s': redirect_errors_per_s(
            before, port, interval.seconds,
            driver_errors_per_s(old_driver, driver, driver_seconds)),
        'driver': driver})


def rate_flow(flow: Json, seconds: float) -> Json:
    return dict(flow, packets_per_s=flow['new_packets'] / seconds,
                bytes_per_s=flow['new_bytes'] / seconds)


def choose(view: Json, text: str, n_flows: int) -> Json:
    """Of a view, the ports and flows that have a text in what is shown of them, and no
    more flows than wanted."""
    if text:
        view['ports'] = [p for p in view['ports'] if text in p['name']]
        view['flows'] = [f for f in view['flows'] if text in f['in_port']
                         or text in f['text'] or text in f['ufid']]
    view['flows'] = view['flows'][:n_flows]
    return view


def compare(old: Sample, new: Sample) -> Json:
    """What 'new' shows since 'old': the object of --json."""
    interval = Interval(old.stats, new.stats)
    seconds = new.time - old.time
    ports = [rate_port(port, interval, old.drivers.get(port['name'], {}),
                       new.drivers.get(port['name'], {}), seconds)
             for port in new.stats['ports']]
    top_seconds = max(new.top['now_ms'] - new.top['since_ms'], 1) / 1000
    return {'version': 1, 'interval_s': interval.seconds,
            'restarted': interval.restarted,
            'ports': sorted(ports, key=lambda p: str(p['name'])),
            'flows': [rate_flow(f, top_seconds) for f in new.top['flows']],
            'tables': new.stats['tables'],
            'since_start': new.stats['since_start']}


class History:
    """The last rates of each port: packets per second in XDP, None where nobody has
    answered."""

    def __init__(self) -> None:
        self.rates: dict[str, collections.deque[Optional[float]]] = {}

    def add(self, ports: list[Json]) -> None:
        """Ports that are gone are forgotten."""
        rates = {p['name']: self.rates.get(p['name'], collections.deque(maxlen=HISTORY))
                 for p in ports}
        for port in ports:
            rates[port['name']].append(port['packets_per_s'])
        self.rates = rates

    def add_gap(self) -> None:
        for rates in self.rates.values():
            rates.append(None)
