# SPDX-License-Identifier: Apache-2.0
"""Ports that the user leaves out: Interface other_config:xdp-offload=false."""
import contextlib
import re
import time

from lab import (ForeignProgram, Stream, attached_program, ping, settled_counters, tcp_transfer,
                 wait_for)
from suite import (expect, expect_exact, per_port_rules, ran_in_xdp, wait_offloaded,
                   xdp_packets)
from test_kernel_datapath import SLOW, kernel_lab, wait_layer

RATE = 2_000_000                # Bits per second, of QoS and policing.
# What comes through in a second besides: the bursts of htb and of policing, and
# the datagrams' headers, which Stream does not count, the other way.
SLACK = 1.5


def leave_out(lab, host, left_out=True):
    lab.ovs.vsctl(*(['set', 'Interface', host.port, 'other_config:xdp-offload=false']
                    if left_out else
                    ['remove', 'Interface', host.port, 'other_config', 'xdp-offload']))


def status(lab, host, key='xdp_offload'):
    return lab.ovs.vsctl('--if-exists', 'get', 'Interface', host.port,
                         'status:' + key).strip().strip('"')


def wait_status(lab, host, mode):
    wait_for('%s to be %s in the database' % (host.port, mode),
             lambda: status(lab, host) == mode, SLOW)


def expect_at_rest(lab, hosts, seconds=1.0):
    """None of the packets that the hosts send is executed in XDP."""
    before = [xdp_packets(lab, h.port) for h in hosts]
    time.sleep(seconds)
    after = [xdp_packets(lab, h.port) for h in hosts]
    expect(before == after, 'XDP has executed packets: %s, then %s', before, after)


def rate(src, dst, seconds=2.0, pps=1000, size=1000):
    """Bits per second that arrive of 8 Mbit/s that 'src' sends."""
    with Stream(src, dst, pps=pps, size=size) as stream:
        time.sleep(0.5)                  # The bursts.
        before, begin = stream.received, time.monotonic()
        time.sleep(seconds)
        n, passed = stream.received - before, time.monotonic() - begin
    return n * (size + 8) * 8 / passed


def test_left_out(context):
    """A port is left out under traffic, and taken back: OVS has all its packets."""
    with context.lab(hosts=3) as lab:
        a, b, c = lab.hosts
        per_port_rules(lab)
        before = settled_counters(lab, lab.hosts)
        program = attached_program(lab, b.port)
        with Stream(a, b, pps=1000) as there, Stream(b, a, pps=1000) as back:
            for _ in range(2):
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                leave_out(lab, b)
                expect_at_rest(lab, [b])
                text, ports = lab.ovs.offload_show()
                why = 'no.*left out, other_config:xdp-offload=false'
                expect(re.match(why, ports[b.port]['transmit'])
                       and re.match(why, ports[b.port]['enter']), 'show:\n%s', text)
                expect('left_out' in lab.ovs.appctl('xdp-offload/explain', 'left_out'),
                       'explain')
                wait_status(lab, b, 'none')
                expect(status(lab, b, 'xdp_offload_reason')
                       == 'other_config:xdp-offload=false', 'the reason')
                # Others go on.
                n = xdp_packets(lab, a.port)
                expect(ping(a, c, 50) == 50, 'a to c')
                expect(xdp_packets(lab, a.port) >= n + 45, 'a to c is not in XDP')
                # Checksums are completed as before: AF_XDP's sockets have our program.
                expect(tcp_transfer(a, b) and tcp_transfer(b, a), 'TCP')
                leave_out(lab, b, False)
                begin = time.monotonic()
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                context.note('back after %.1f s', time.monotonic() - begin)
                wait_status(lab, b, 'native')
        expect(attached_program(lab, b.port) == program, 'another program')
        expect(there.lost == 0 and back.lost == 0, 'streams: %s; %s', there, back)
        expect_exact(lab, before)


def test_from_start(context):
    """A port that is left out before it is added, and by a restart."""
    with context.lab(hosts=2, kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.hosts
        c = lab.add_host(port=False)
        lab.ovs.vsctl('add-port', 'br0', c.port, '--', 'set', 'Interface', c.port,
                      'type=system', 'other_config:xdp-offload=false')
        expect(attached_program(lab, c.port) is None, 'a program on it')
        expect(status(lab, c) == 'none', 'status: %s', status(lab, c))
        a.know(c)
        c.know(a)
        expect(ping(a, c) == 5, 'ping')
        # A restart finds the key before the port is added.
        leave_out(lab, b)
        expect(attached_program(lab, b.port) is None, 'a program on %s', b.port)
        lab.ovs.kill_vswitchd()
        lab.ovs.start_vswitchd()
        wait_for('ports', lambda: lab.ovs.offload_show()[1].keys()
                 >= {a.port, b.port, c.port})
        expect(attached_program(lab, b.port) is None
               and attached_program(lab, a.port), 'programs after a restart')
        expect(not lab.ovs.log_lines(r'%s: executing flows' % c.port), 'the log')
        expect(ping(a, b) == 5, 'ping')
        expect_at_rest(lab, [b, c], 0.5)
        # It can be taken in, and removed, in either state.
        leave_out(lab, c, False)
        wait_status(lab, c, 'native')
        expect(attached_program(lab, c.port), 'no program')
        expect(lab.ovs.log_lines(r'%s: executing flows' % c.port), 'the log')
        ran_in_xdp(lab, c, lambda: ping(c, a, 50))
        for host in (b, c):
            lab.ovs.vsctl('del-port', host.port)
            expect(attached_program(lab, host.port) is None, 'after del-port')


def test_qos(context):
    """QoS of a port that is left out holds; that of a port in XDP is passed by."""
    with context.lab(kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.hosts
        # As without the plugin: packet sockets hand over checksums half-made.
        a.run('ethtool', '-K', 'eth0', 'tx', 'off')
        lab.ovs.vsctl('set', 'port', b.port, 'qos=@q', '--', '--id=@q', 'create',
                      'qos', 'type=linux-htb', 'other-config:max-rate=%d' % RATE)
        wait_for('a warning that says what to do', lambda: lab.ovs.log_lines(
            r'WARN.*%s: .*QoS \(htb\) \("ovs-vsctl set Interface %s '
            r'other_config:xdp-offload=false" leaves' % (b.port, b.port)), 5)
        ping(a, b, 2)
        wait_offloaded(lab, a, b)
        free = rate(a, b)
        leave_out(lab, b)
        held = rate(a, b)
        expect('limits:' not in lab.ovs.offload_show()[0], 'show')
        leave_out(lab, b, False)
        with Stream(a, b, pps=50):
            wait_offloaded(lab, a, b)
        free_again = rate(a, b)
        context.note('of 8 Mbit/s %.1f in XDP, %.1f left out, %.1f in XDP; the limit '
                     'is %.1f', free / 1e6, held / 1e6, free_again / 1e6, RATE / 1e6)
        expect(min(free, free_again) > 2 * RATE, 'not executed in XDP')
        expect(RATE / SLACK < held < RATE * SLACK, 'the limit does not hold')


def test_kernel(context):
    """Kernel datapath: policing of a port that is left out holds, and flows move."""
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        ping(a, b, 2)
        wait_layer(lab, a, b, 'xdp')
        lab.ovs.vsctl('set', 'Interface', a.port, 'ingress_policing_rate=%d'
                      % (RATE // 1000), 'ingress_policing_burst=200')
        wait_for('a warning', lambda: lab.ovs.log_lines(
            r'WARN.*%s: .*pass by its ingress policing' % a.port), SLOW)
        expect('limits: packets executed in XDP pass by its ingress policing'
               in lab.ovs.offload_show()[0], 'show')
        with Stream(a, b, pps=50) as stream:
            wait_layer(lab, a, b, 'xdp')
            leave_out(lab, a)
            expect(attached_program(lab, a.port) is None, 'a program on it')
            wait_for('the flow to leave XDP', lambda: not lab.ovs.flows('xdp'), SLOW)
        expect(stream.lost == 0, 'stream: %s', stream)
        held = rate(a, b, pps=500)
        context.note('of 4 Mbit/s %.1f left out; the limit is %.1f', held / 1e6,
                     RATE / 1e6)
        expect(held < RATE * SLACK, 'the limit does not hold')
        leave_out(lab, a, False)
        with Stream(a, b, pps=20):
            wait_layer(lab, a, b, 'xdp')
        wait_status(lab, a, 'native')


def test_refused(context):
    """A port that was refused is left out, which is well, and taken in when it can be"""
    with context.lab(hosts=1, kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        b = lab.add_host(port=False)

        def verdict():
            return lab.ovs.appctl('xdp-offload/status').splitlines()[0]

        refused = 'WARNING: %s: not offloaded: another XDP program' % b.port
        with contextlib.closing(ForeignProgram()) as foreign:
            foreign.attach(lab, b.port, link=True)
            lab.ovs.add_port(b.port, kind='system')
            expect(verdict().startswith(refused), 'refused: %s', verdict())
            leave_out(lab, b)
            expect(verdict().startswith('OK: 1 of 2 ports'), 'left out: %s', verdict())
            wait_for('the reason', lambda: status(lab, b, 'xdp_offload_reason')
                     == 'other_config:xdp-offload=false', SLOW)
            leave_out(lab, b, False)
            expect(verdict().startswith(refused), 'taken in: %s', verdict())
            leave_out(lab, b)
        leave_out(lab, b, False)
        expect(verdict().startswith('OK: 2 of 2 ports'), 'taken in: %s', verdict())
        wait_status(lab, b, 'native')
        a = lab.hosts[0]
        a.know(b)
        b.know(a)
        ran_in_xdp(lab, b, lambda: ping(b, a, 50))


TESTS = [
    ('left-out-refused', test_refused),
    ('left-out', test_left_out),
    ('left-out-early', test_from_start),
    ('left-out-qos', test_qos),
    ('kernel-left-out', test_kernel),
]
