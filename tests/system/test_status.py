# SPDX-License-Identifier: Apache-2.0
"""xdp-offload/status and ovs-offload-top --check: is all well?"""
import contextlib
import os
import re

from lab import ForeignProgram, ping, wait_for
from suite import expect, per_port_rules, wait_offloaded, xdp_packets
from test_left_out import leave_out
from test_top import TOOLS, top
from test_worth import advise

# How a monitoring plug-in's exit status goes with the first word.
LEVELS = {'OK': 0, 'WARNING': 1, 'CRITICAL': 2, 'UNKNOWN': 3}


def status(lab):
    return lab.ovs.appctl('xdp-offload/status')


def check(lab, level, *parts):
    """The verdict is this, here and in the tool, and has these parts."""
    line = status(lab).splitlines()[0]
    expect(line.startswith(level + ': ') and all(part in line for part in parts),
           'not %s with %s, but %s', level, parts, line)
    # Figures may have grown, and a first packet have come.
    def words(text):
        text = re.sub(', [0-9.]+ % of packets in XDP since start$', '', text.strip())
        return re.sub(r'[0-9.,]+', '#', text)
    said = top(lab, '--check', status=LEVELS[level], errors=False)
    expect(words(said) == words(line), '--check: %s', said)
    return line


def wait_check(lab, level, part):
    wait_for('%s, %s' % (level, part), lambda: re.match(
        '%s: .*%s' % (level, part), status(lab)), 15)
    check(lab, level, part)


def test_verdict(context):
    """OK, and each thing that is not, with its exit status."""
    with context.lab(2) as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        wait_offloaded(lab, b, a)
        ping(a, b, 200, interval=0.002)
        line = check(lab, 'OK', '2 of 2 ports', 'packets in XDP since start')
        context.show(status(lab))
        n, share = re.search(r', (\d+) flows?, ([0-9.]+) %', line).groups()
        expect(int(n) >= 2 and 80 < float(share) < 100, 'figures: %s', line)
        text = status(lab)
        for part in (r'versions: plugin [0-9.]+, Linux \S+, Open vSwitch %s'
                     % re.escape(lab.ovs.version()),
                     r'\n  %s: native, \d+ flow' % a.port, r'\nhandover: none\n',
                     r'\nin force: xdp-offload-max-flows=65536 ',
                     r'\nneeds a restart: nothing\n', r' passed to OVS \(no-flow '):
            expect(re.search(part, text), '%s is not in\n%s', part, text)
        m = re.search(r'packets: ([0-9,]+) in XDP', text)
        expect(int(m[1].replace(',', '')) == sum(
            xdp_packets(lab, h.port) for h in lab.hosts), 'packets:\n%s', text)

        leave_out(lab, b)
        check(lab, 'OK', '1 of 2 ports')
        expect('  %s: left out, other_config:xdp-offload=false' % b.port
               in status(lab), 'left out:\n%s', status(lab))
        leave_out(lab, b, False)

        b.run('ethtool', '-K', 'eth0', 'gro', 'off')
        wait_check(lab, 'WARNING', '%s: takes no frames from XDP: ' % b.port)
        b.run('ethtool', '-K', 'eth0', 'gro', 'on')
        wait_check(lab, 'OK', '2 of 2 ports')
        # A link that is down is not the offload's affair.
        b.run('ip', 'link', 'set', 'eth0', 'down')
        wait_for('the link', lambda: 'the link is down' in status(lab))
        check(lab, 'OK')
        b.run('ip', 'link', 'set', 'eth0', 'up')

        lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                      'other_config:xdp-offload-max-flows=1000')
        check(lab, 'WARNING', 'xdp-offload-max-flows=1000 needs a restart')
        lab.ovs.vsctl('remove', 'Open_vSwitch', '.', 'other_config',
                      'xdp-offload-max-flows')
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:hw-offload=false')
        check(lab, 'WARNING', 'the offload is switched off')
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:hw-offload=true')
        check(lab, 'OK')


def test_refused(context):
    """Ports that are not served, with the reason, and until they are removed."""
    with context.lab(0) as lab:
        check(lab, 'WARNING', 'no port is in XDP; 0 of 0 ports')
        a = lab.add_host(port=False)
        lab.ovs.add_port(a.port, kind='system')
        check(lab, 'WARNING', 'no port is in XDP; 0 of 1 port')
        wanted = ('%s: not in XDP, type system of the userspace datapath is served '
                  'only with other_config:xdp-offload-system-ports=true' % a.port)
        expect(wanted in status(lab), 'type system:\n%s', status(lab))
        expect(lab.ovs.vsctl('get', 'Interface', a.port, 'status:xdp_offload').strip()
               == 'none', 'in the database')
        lab.ovs.vsctl('del-port', a.port)
        check(lab, 'WARNING', 'no port is in XDP; 0 of 0 ports')
    with context.lab(0, config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.add_host(port=False), lab.add_host(port=False)
        with contextlib.closing(ForeignProgram()) as foreign:
            foreign.attach(lab, a.port)
            lab.ovs.add_port(a.port, kind='system')
        check(lab, 'CRITICAL', 'no port is in XDP', '0 of 1 port')
        expect('another XDP program' in status(lab), '%s', status(lab))
        lab.ovs.add_port(b.port, kind='system')
        check(lab, 'WARNING', '%s: not offloaded: another XDP program' % a.port,
              '1 of 2 ports')
        expect('another XDP program' in lab.ovs.vsctl(
            'get', 'Interface', a.port, 'status:xdp_offload_reason'), 'the database')


def test_unknown(context):
    """Nobody can be asked: 3, and what was tried.  And --version."""
    with open(os.path.join(TOOLS, '..', 'CMakeLists.txt')) as f:
        version = re.search(r'VERSION (\d+\.\d+\.\d+) ', f.read())[1]
    with context.lab(0, offload=False) as lab:
        said = top(lab, '--check', status=3, errors=False)
        expect(said.startswith('UNKNOWN: ') and 'without the XDP plugin' in said,
               'no plugin: %s', said)
        lab.ovs.kill_vswitchd()
        said = top(lab, '--check', status=3, errors=False)
        expect(said.startswith('UNKNOWN: ') and lab.tmp in said and len(
            said.splitlines()) == 1, 'killed: %s', said)
        for said, name in ((top(lab, '--version'), 'top'),
                           (advise(context, '--version'), 'advise')):
            expect(said == 'ovs-offload-%s %s\n' % (name, version), 'version: %s', said)


TESTS = [
    ('status', test_verdict),
    ('status-refused', test_refused),
    ('status-unknown', test_unknown),
]
