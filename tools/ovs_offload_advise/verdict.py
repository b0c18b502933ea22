# SPDX-License-Identifier: Apache-2.0
"""What Open vSwitch's code and the plugin's say of flows."""
import json
import os
import subprocess
from typing import Any, Optional

from .dump import Dump, Port

UNREADABLE = 'unreadable'            # In the place of a reason.
# Where the two programs are, beside what is installed.
INSTALLED = os.path.join(os.path.dirname(os.path.realpath(__file__)),
                         '../../../lib/openvswitch-offload-xdp')


class Missing(Exception):
    """One of the programs is not there, or has failed."""


def helper(name: str) -> str:
    """The path of one of the programs; OVS_OFFLOAD_ADVISE_PATH names other directories
    for them."""
    places = os.environ.get('OVS_OFFLOAD_ADVISE_PATH', INSTALLED).split(':')
    for place in places:
        path = os.path.join(place, name)
        if os.access(path, os.X_OK):
            return path
    raise Missing('%s is not in %s' % (name, ', '.join(
        os.path.normpath(p) for p in places)))


def ask(name: str, *args: str, text: str = '') -> str:
    done = subprocess.run([helper(name), *args], input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise Missing(done.stderr.strip() or '%s has failed' % name)
    return done.stdout


def judge_devices(names: list[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(ask('advise-judge', 'devices', *names))
    return said


def may_serve(port: Port, datapath: Optional[str]) -> bool:
    """Could the port execute flows in XDP?  One of which nothing is known, could."""
    if port.type is None:
        return True
    if datapath == 'system':
        return port.type == 'system'
    return port.type in ('afxdp', 'afxdp-nonpmd', 'system', 'geneve', 'vxlan')


def judge_flows(dump: Dump, datapath: str) -> tuple[list[str], dict[str, Any]]:
    """Has all flows judged as flows of a datapath of this type.  Returns a reason for
    each, empty if XDP would execute it, and what else advise-judge says."""
    ports = dump.ports()
    numbers = {name: p.number for name, p in ports.items()}
    lines = ['\t'.join(f.input(numbers)) for f in dump.flows]
    parsed = [line.split('\t') for line in ask(
        'ovs-flow-attributes', text=''.join(line + '\n' for line in lines)).splitlines()]
    if len(parsed) != len(dump.flows):
        raise Missing('ovs-flow-attributes has read %d of %d flows' % (
            len(parsed), len(dump.flows)))
    text = ''.join('port\t%d\t%s\n' % (p.number, p.type or 'system')
                   for p in ports.values() if may_serve(p, datapath))
    text += ''.join('\t'.join(['flow'] + p[1:]) + '\n' for p in parsed if p[0] == 'ok')
    answer = json.loads(ask('advise-judge', 'flows', datapath, text=text))
    judged = iter(answer.pop('flows'))
    reasons = [next(judged) if p[0] == 'ok' else UNREADABLE for p in parsed]
    return reasons, dict(answer, unread=[
        (f.match, p[1]) for f, p in zip(dump.flows, parsed) if p[0] != 'ok'])
