# SPDX-License-Identifier: Apache-2.0
"""Traffic of all kinds gets through unharmed, and does so in XDP."""
import time

from lab import (attached_program, exchange, ping, tcp_transfer, udp_echo, udp_frame,
                 vlan_frames)
from suite import (expect, introduce, passed, ran_in_xdp, wait_offloaded)

MIB = 1 << 20


def warm_up(a, b, vlan=100):
    """Lets OVS learn the MAC addresses and install flows for all kinds."""
    for version in (4, 6):
        ping(a, b, 2, version=version)
    vlan_frames(b, a, vlan, count=2, settle=0.2)
    vlan_frames(a, b, vlan, count=2, settle=0.2)
    vlan_frames(b, a, vlan, count=2, settle=0.2)
    time.sleep(0.3)


def test_traffic(context):
    """Ping, TCP, UDP over IPv4 and IPv6, and VLANs, in XDP."""
    with context.lab(acquainted=False) as lab:
        a, b = lab.hosts
        warm_up(a, b)
        for version in (4, 6):
            kinds = {
                'ping': lambda: ping(a, b, 20, version) == 20,
                'TCP 1 MiB': lambda: tcp_transfer(a, b, MIB, version),
                'TCP 50 MiB': lambda: tcp_transfer(a, b, 50 * MIB, version),
                'UDP': lambda: udp_echo(a, b, 300, version) == 300,
                # A datagram that needs no padding, of an odd length.
                'UDP, odd': lambda: udp_echo(a, b, 100, version,
                                             size=1335) == 100}
            for name, action in kinds.items():
                begin = time.monotonic()
                # Both directions must run in XDP.
                worked = ran_in_xdp(lab, a, lambda: ran_in_xdp(lab, b, action))
                expect(worked, '%s over IPv%d does not work', name, version)
                if name == 'TCP 50 MiB':
                    context.note('TCP/IPv%d %d MiB/s', version,
                                 50 / (time.monotonic() - begin))
            # Later fragments go through OVS.
            expect(ping(a, b, 10, version, size=4000) == 10,
                   'ping with fragments over IPv%d', version)
        for src, dst in ((a, b), (b, a)):
            n = ran_in_xdp(lab, src, lambda: vlan_frames(src, dst, count=100,
                                                         interval=0.002))
            expect(n == 100, 'only %d of 100 VLAN frames arrived intact', n)
        for host in (a, b):
            expect(host.checksum_errors() == 0, '%d bad checksums at %s',
                   host.checksum_errors(), host.port)


def test_slow_path(context):
    """The same traffic without XDP's redirects (GRO off) is not harmed."""
    with context.lab(acquainted=False, gro=False) as lab:
        a, b = lab.hosts
        warm_up(a, b)
        for version in (4, 6):
            expect(ping(a, b, 10, version) == 10, 'ping')
            expect(tcp_transfer(a, b, MIB, version), 'TCP/IPv%d', version)
            expect(udp_echo(a, b, 50, version) == 50, 'UDP/IPv%d', version)
        expect(vlan_frames(a, b) == 20, 'VLAN')
        for host in (a, b):
            expect(host.checksum_errors() == 0, 'bad checksums at %s',
                   host.port)
        _, ports = lab.ovs.offload_show()
        expect(sum(p['packets'] for p in ports.values()) == 0,
               'XDP claims to have sent to hosts that take no frames')


def test_generic(context):
    """Ports with xdp-mode=generic: flows run in generic XDP."""
    with context.lab(1, acquainted=False, xdp_mode='generic') as lab:
        lab.add_host(xdp_mode='generic', gro=False)
        lab.add_host()
        introduce(lab.hosts)
        generic, other, native = lab.hosts
        # Generic XDP sees a segmentation offload's super-frames whole.
        for host in lab.hosts:
            host.run('ethtool', '-K', 'eth0', 'tso', 'off', 'gso', 'off')
        attached = lab.ovs.offload_show()[1][generic.port]['attached']
        expect('generic XDP' in attached, 'attached: %s', attached)
        for src, dst in ((generic, other), (generic, native)):
            for version in (4, 6):
                ping(src, dst, 3, version)
                time.sleep(0.5)
                for action in (lambda: ping(src, dst, 50, version, 0.01) == 50,
                               lambda: tcp_transfer(src, dst, MIB, version),
                               lambda: udp_echo(src, dst, 50, version) == 50):
                    expect(ran_in_xdp(lab, src, action), 'to %s over IPv%d',
                           dst.port, version)
        expect(sum(h.checksum_errors() for h in lab.hosts) == 0,
               'bad checksums')


def check_vlan(lab, src, dst, sent_tci, got_tci, what, payload=b'x' * 64):
    """Sends frames and checks each bit of what arrives, and that XDP did it.
    """
    frame = udp_frame(src, dst, sent_tci, payload=payload)
    untagged = udp_frame(src, dst, payload=payload)
    exchange(src, dst, frame, count=2, settle=0.3)
    arrived = ran_in_xdp(lab, src, lambda: exchange(src, dst, frame, 50))
    expect(arrived == {(untagged, got_tci): 50}, '%s: %s arrived', what,
           {(tci, 'as sent' if f == untagged else f.hex()): n
            for (f, tci), n in arrived.items()})


def test_vlan_actions(context):
    """push_vlan, strip_vlan and set_vlan_vid arrive bit by bit, in XDP."""
    with context.lab() as lab:
        a, b = lab.hosts
        out = 'output:%d' % lab.ovs.of_port(b.port)
        cases = [
            ('push', 'push_vlan:0x8100,set_field:4196->vlan_vid', None, 100),
            ('push with priority', 'push_vlan:0x8100,set_field:4196->vlan_vid,'
             'set_field:5->vlan_pcp', None, 5 << 13 | 100),
            ('strip', 'strip_vlan', 100, None),
            ('rewrite', 'mod_vlan_vid:200', 100, 200),
            ('rewrite keeps the priority', 'mod_vlan_vid:200',
             3 << 13 | 100, 3 << 13 | 200),
            ('rewrite the priority', 'mod_vlan_pcp:6', 3 << 13 | 100,
             6 << 13 | 100),
            ('untouched', '', 2 << 13 | 300, 2 << 13 | 300)]
        for what, actions, sent, got in cases:
            lab.ovs.ofctl('del-flows', 'br0')
            # OpenFlow 1.1 has push_vlan, 1.0 has mod_vlan_vid.
            lab.ovs.ofctl('-OOpenFlow1%d' % ('push' in actions), 'add-flow',
                          'br0', 'in_port=%d,actions=%s' % (
                              lab.ovs.of_port(a.port),
                              ','.join(filter(None, [actions, out]))))
            time.sleep(0.1)
            check_vlan(lab, a, b, sent, got, what)
        # The longest frame, where the tag does not count.
        check_vlan(lab, a, b, 300, 300, 'full length', b'y' * 1472)


def test_access_ports(context):
    """NORMAL between an access port and a trunk pushes and pops, in XDP."""
    with context.lab(3, acquainted=False) as lab:
        access, trunk, other = lab.hosts
        lab.ovs.vsctl('set', 'port', access.port, 'tag=100')
        lab.ovs.vsctl('set', 'port', other.port, 'tag=200')
        for src, dst, tci in ((access, trunk, None), (trunk, access, 100),
                              (access, trunk, None)):
            exchange(src, dst, udp_frame(src, dst, tci), 2, settle=0.1)
        check_vlan(lab, access, trunk, None, 100, 'access to trunk')
        check_vlan(lab, trunk, access, 100, None, 'trunk to access')
        leaked = exchange(trunk, other, udp_frame(trunk, access, 100), 20)
        expect(not leaked, 'VLAN 100 reached an access port of VLAN 200')
        # Two hosts on the same VLAN: a plain exchange of IP.
        lab.ovs.vsctl('set', 'port', other.port, 'tag=100')
        introduce([access, other])
        ping(access, other, 2)
        time.sleep(0.3)
        expect(ran_in_xdp(lab, access, lambda: tcp_transfer(
            access, other, MIB)), 'TCP between access ports')


def test_system_ports(context):
    """Ports of type system on the userspace datapath: flows run in XDP."""
    with context.lab(kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.hosts
        text, ports = lab.ovs.offload_show()
        expect(set(ports) == {a.port, b.port}, 'ports are missing:\n%s', text)
        expect('misses go to the kernel' in ports[a.port]['attached'],
               'where do misses go? %s', ports[a.port]['attached'])
        expect(ping(a, b, 3) >= 2 and ping(a, b, 3, version=6) >= 2,
               'misses do not reach OVS')
        expect(passed(lab, a.port, 'no-flow') > 0, 'no miss was counted')
        wait_offloaded(lab, a, b)
        wait_offloaded(lab, b, a)
        expect(ran_in_xdp(lab, a, lambda: ping(a, b, 20)) == 20, 'ping')
        for version in (4, 6):
            expect(ran_in_xdp(lab, a, lambda: tcp_transfer(
                a, b, 10 * MIB, version)), 'TCP/IPv%d', version)
        expect(a.checksum_errors() + b.checksum_errors() == 0,
               'bad checksums')


def test_system_ports_off(context):
    """Ports of type system are left alone unless asked for."""
    with context.lab(kind='system') as lab:
        a, b = lab.hosts
        expect(not lab.ovs.offload_show()[1], 'a system port is offloaded')
        expect(attached_program(lab, a.port) is None, 'a program is attached')
        expect(ping(a, b, 3) == 3, 'ping')


TESTS = [
    ('traffic', test_traffic),
    ('slow-path', test_slow_path),
    ('generic-mode', test_generic),
    ('vlan-actions', test_vlan_actions),
    ('access-ports', test_access_ports),
    ('system-ports', test_system_ports),
    ('system-ports-off', test_system_ports_off),
]
