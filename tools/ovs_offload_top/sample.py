# SPDX-License-Identifier: Apache-2.0
"""What ovs-vswitchd and the network drivers have counted so far."""
import json
import platform
import re
import socket
import subprocess
import time
from typing import Any, Optional

from .daemon import Daemon, NotACommand, Unavailable

VERSION = 1                # Of the plugin's JSON.
MAX_FLOWS = 256            # That xdp-offload/top-flows tells.
SORT_KEYS = ('packets', 'bytes')
TIMEOUT = 10               # Seconds.

Json = dict[str, Any]
Counters = dict[str, int]


class Source:
    """The plugin of an ovs-vswitchd."""

    def __init__(self, target: str = 'ovs-vswitchd') -> None:
        self.daemon = Daemon(target, TIMEOUT)

    def ask_text(self, command: str, *args: str) -> str:
        try:
            return self.daemon.ask(command, *args)
        except NotACommand:
            raise Unavailable('%s runs without the XDP plugin, or with an older one: '
                              'other_config:hw-offload=true '
                              'other_config:hw-offload-plugin=xdp loads it'
                              % self.daemon.target) from None

    def ask(self, command: str, *args: str) -> Json:
        reply: Json = json.loads(self.ask_text(command, *args))
        if reply['version'] != VERSION:
            raise Unavailable('the plugin speaks version %s of the statistics, '
                              'this is for %d' % (reply['version'], VERSION))
        return reply

    def stats(self) -> Json:
        return self.ask('xdp-offload/stats')

    def versions(self) -> dict[str, str]:
        """Of Open vSwitch and of the kernel; '' if it does not say."""
        try:
            text = self.daemon.ask('version')
        except Unavailable:
            text = ''
        found = re.search(r'\d+\.\d+\.\d+', text)
        return {'openvswitch': found[0] if found else '', 'kernel': platform.release()}

    def sample(self, n_flows: int, sort: str) -> 'Sample':
        """The 'n_flows' busiest flows are those since the last sample."""
        stats = self.stats()
        top = self.ask('xdp-offload/top-flows', str(n_flows), sort)
        return Sample(stats, top, drivers(stats))


class Sample:
    """One look at everything."""

    def __init__(self, stats: Json, top: Json,
                 driver_counters: dict[str, Counters]) -> None:
        self.stats, self.top, self.drivers = stats, top, driver_counters
        self.time = time.monotonic()


# -- Drivers ------------------------------------------------------------------

def drivers(stats: Json) -> dict[str, Counters]:
    """What the drivers of the ports have counted of XDP, by port and name."""
    return {port['name']: driver_counters(port['ifindex'])
            for port in stats['ports']}


def driver_counters(ifindex: int) -> Counters:
    try:
        # The port may have another name than its device.
        device = socket.if_indextoname(ifindex)
        text = subprocess.run(['ethtool', '-S', device], text=True,
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout
    except OSError:
        return {}
    return xdp_counters(text)


def xdp_counters(text: str) -> Counters:
    """Of what 'ethtool -S' prints, the counters that have to do with XDP."""
    counters = {m[1]: int(m[2]) for m in
                re.finditer(r'^ +(\S.*?): (\d+)$', text, re.MULTILINE)}
    is_veth = 'tx_queue_0_xdp_xmit_errors' in counters
    return {name: value for name, value in counters.items()
            if 'xdp' in name
            # Frames, too, that could not even be handed to the output device.
            or is_veth and re.match(r'rx_queue_\d+_drops$', name)}


def lost_frames(port: Json) -> Optional[int]:
    """Those that the kernel has told the plugin of, to the port and from there to Open
    vSwitch; None if it tells nothing."""
    kinds = [port.get('redirect_errors'), port.get('redirect_errors_to_ovs')]
    return None if None in kinds else sum(sum(k.values()) for k in kinds if k)


def redirect_errors(counters: Counters) -> list[str]:
    """Names of those counters that count frames lost after XDP_REDIRECT.

    Names are the drivers' own.  What counts verdicts of a program is no error;
    where there is a total, the queues' counters are left out.
    """
    return [name for name in counters
            if (re.search(r'xdp.*(err|full)|tx.*xdp.*drop', name)
                or re.match(r'rx_queue_\d+_drops$', name))
            and (re.sub(r'\d+', '', name, count=1) not in counters
                 or not re.search(r'\d', name))]
