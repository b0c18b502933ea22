# SPDX-License-Identifier: Apache-2.0
"""Traffic of all kinds gets through unharmed, and does so in XDP."""
import contextlib
import os
import socket
import struct
import threading
import time

from lab import (address, attached_program, exchange, ping, receive_frame, run,
                 tcp_transfer, udp_echo, udp_frame, vlan_frames)
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


# The router and the service that OpenFlow makes hosts believe in.
ROUTER = '02:00:00:00:00:fe'
SERVICE = {4: '10.77.0.99', 6: 'fd77::99'}
SERVICE_PORT, REAL_PORT = 5000, 5001


def ipv6_frame(src, dst, proto, segment):
    """A frame whose transport header and payload are 'segment'."""
    return (bytes.fromhex((dst.mac + src.mac).replace(':', '')) + b'\x86\xdd'
            + struct.pack('!IHBB', 6 << 28 | 0x5a12345, len(segment), proto, 64)
            + socket.inet_pton(socket.AF_INET6, src.ip6)
            + socket.inet_pton(socket.AF_INET6, dst.ip6) + segment)


def set_field_cases(a, b):
    """(what, match, actions, frame), for frames from 'a' to 'b'.

    Transport checksums are arbitrary: they have to change by the difference.
    """
    text = b'x' * 61
    tcp = struct.pack('!HHIIHHHH', 4000, 4001, 1, 2, 0x5010, 1000, 0x1234, 0)
    udp = struct.pack('!HHHH', 4000, 4001, 8 + len(text), 0x4321)
    icmp = struct.pack('!BBHI', 128, 0, 0x2345, 7)
    sctp = struct.pack('!HHII', 4000, 4001, 7, 0x34567890)
    frame = udp_frame(a, b, payload=text)

    def ipv4_of(proto, header):
        # The protocol changes the sum of IP's header, and its length, too.
        ip = bytearray(frame[14:34])
        ip[9] = proto
        ip[2:4] = struct.pack('!H', 20 + len(header + text))
        return frame[:14] + bytes(ip) + header + text

    macs = 'dec_ttl,mod_dl_src:%s,mod_dl_dst:%s,' % (ROUTER, b.mac)
    ip4 = macs + 'mod_nw_src:192.168.255.1,mod_nw_dst:10.1.2.3,mod_nw_tos:184,'
    ip6 = (macs + 'mod_nw_tos:184,set_field:fd00:1234::ffff->ipv6_src,'
           'set_field:2001:db8::1:2:3->ipv6_dst,')
    ports = 'mod_tp_src:65535,mod_tp_dst:1,'
    tagged = frame[:12] + b'\x81\x00\x60\x05' + frame[12:]
    return [
        ('routed', 'ip', macs, frame),
        ('routed, not IP', 'dl_type=0x88b5', macs[8:],
         frame[:12] + b'\x88\xb5' + text),
        ('UDP', 'udp', ip4 + ports, frame),
        ('UDP, no checksum', 'udp', ip4 + ports,
         frame[:40] + b'\0\0' + frame[42:]),
        ('TCP', 'tcp', ip4 + ports, ipv4_of(6, tcp)),
        ('ICMP', 'icmp', ip4, ipv4_of(1, struct.pack('!BBHI', 8, 0, 1, 7))),
        ('SCTP', 'sctp', ip4, ipv4_of(132, sctp)),
        ('UDP/IPv6', 'udp6', ip6 + ports, ipv6_frame(a, b, 17, udp + text)),
        ('TCP/IPv6', 'tcp6', ip6 + ports, ipv6_frame(a, b, 6, tcp + text)),
        ('ICMPv6', 'icmp6', ip6, ipv6_frame(a, b, 58, icmp + text)),
        ('UDP in a VLAN', 'udp', ip4 + ports + 'mod_vlan_vid:9,', tagged),
        ('UDP out of a VLAN', 'udp', 'strip_vlan,' + ip4 + ports, tagged),
        ('UDP into a VLAN', 'udp', ip4 + ports + 'mod_vlan_vid:9,', frame)]


def routed(src, dst, frame, count):
    """Sends 'frame'; returns what arrives from the router, with its number."""
    arrived = {}
    with (contextlib.closing(src.raw_socket()) as sender,
          contextlib.closing(dst.raw_socket()) as receiver):
        for _ in range(count):
            sender.send(frame)
            time.sleep(0.002)
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            with contextlib.suppress(socket.timeout):
                got = receive_frame(receiver, 0.3)
                if got[0][6:12].hex(':') == ROUTER:
                    arrived[got] = arrived.get(got, 0) + 1
    return arrived


def delivered(context, offload):
    """What arrives of each of set_field_cases(), by what it is."""
    results = {}
    with context.lab(offload=offload) as lab:
        a, b = lab.hosts
        for what, match, actions, frame in set_field_cases(a, b):
            lab.ovs.ofctl('del-flows', 'br0')
            lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,%s,actions=%soutput:%d'
                          % (lab.ovs.of_port(a.port), match, actions,
                             lab.ovs.of_port(b.port)))
            time.sleep(0.1)
            routed(a, b, frame, 2)

            def action(frame=frame):
                return routed(a, b, frame, 50)

            arrived = ran_in_xdp(lab, a, action) if offload else action()
            expect(list(arrived.values()) == [50], '%s: %s arrived', what,
                   {f.hex(): n for (f, _), n in arrived.items()})
            results[what] = next(iter(arrived))
            expect(results[what][0] != frame, '%s: nothing was set', what)
    return results


def test_set_fields(context):
    """Headers that XDP rewrites arrive bit by bit as OVS writes them."""
    in_xdp, in_ovs = delivered(context, True), delivered(context, False)
    for what, (frame, tci) in in_ovs.items():
        got, got_tci = in_xdp[what]
        expect(got == frame and got_tci == tci, '%s: %s (TCI %s) instead of %s '
               '(TCI %s)', what, got.hex(), got_tci, frame.hex(), tci)
    context.note('%d kinds of packets', len(in_ovs))


def translate(lab, a, b, version):
    """Makes 'b' the service, as 'a' sees it."""
    run('ip', '-n', a.netns, 'neigh', 'replace', SERVICE[version], 'lladdr',
        ROUTER, 'dev', 'eth0', 'nud', 'permanent')
    real = address(b, version)[1]
    for proto in ('tcp', 'udp'):
        names = {'proto': proto + ('' if version == 4 else '6'),
                 'tp': proto, 'ip': 'ip' if version == 4 else 'ipv6',
                 'a': lab.ovs.of_port(a.port), 'b': lab.ovs.of_port(b.port),
                 'a_mac': a.mac, 'b_mac': b.mac, 'router': ROUTER,
                 'service': SERVICE[version], 'real': real,
                 'port': SERVICE_PORT, 'real_port': REAL_PORT}
        for flow in (
                'in_port=%(a)d,%(proto)s,%(ip)s_dst=%(service)s,'
                'tp_dst=%(port)d,actions=dec_ttl,'
                'set_field:%(router)s->eth_src,set_field:%(b_mac)s->eth_dst,'
                'set_field:%(real)s->%(ip)s_dst,'
                'set_field:%(real_port)d->%(tp)s_dst,output:%(b)d',
                'in_port=%(b)d,%(proto)s,%(ip)s_src=%(real)s,'
                'tp_src=%(real_port)d,actions=dec_ttl,'
                'set_field:%(router)s->eth_src,set_field:%(a_mac)s->eth_dst,'
                'set_field:%(service)s->%(ip)s_src,'
                'set_field:%(port)d->%(tp)s_src,output:%(a)d'):
            lab.ovs.ofctl('-OOpenFlow13', 'add-flow', 'br0', flow % names)


def tcp_to_service(a, b, version, data):
    """True if 'data' arrives at the service as 'a' sends it over TCP."""
    family, real = address(b, version)
    with (b.socket(family, socket.SOCK_STREAM) as listener,
          a.socket(family, socket.SOCK_STREAM) as client):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((real, REAL_PORT))
        listener.listen(1)
        listener.settimeout(20)
        client.settimeout(20)

        def send():
            with contextlib.suppress(OSError):
                client.connect((SERVICE[version], SERVICE_PORT))
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        got = b''
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                got = b''.join(iter(lambda: connection.recv(1 << 16), b''))
        thread.join()
    return got == data


def udp_to_service(a, b, version, count):
    """Returns how many datagrams the service has sent back to 'a'."""
    family, real = address(b, version)
    back = 0
    with (b.socket(family, socket.SOCK_DGRAM) as server,
          a.socket(family, socket.SOCK_DGRAM) as client):
        server.bind((real, REAL_PORT))
        client.connect((SERVICE[version], SERVICE_PORT))
        for s in (server, client):
            s.settimeout(1)
        for i in range(count):
            data = os.urandom(1 + i * 7 % 1400)
            with contextlib.suppress(OSError):
                client.send(data)
                request, peer = server.recvfrom(65536)
                server.sendto(request, peer)
                back += client.recv(65536) == data
    return back


def test_translated(context):
    """TCP and UDP with default checksum offloads to a translated service."""
    with context.lab() as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('del-flows', 'br0')
        for version in (4, 6):
            translate(lab, a, b, version)
            kinds = {
                'TCP': lambda: tcp_to_service(a, b, version,
                                              os.urandom(10 * MIB)),
                'UDP': lambda: udp_to_service(a, b, version, 300) == 300}
            tcp_to_service(a, b, version, b'hello')
            udp_to_service(a, b, version, 2)
            time.sleep(0.3)
            for name, action in kinds.items():
                worked = ran_in_xdp(lab, a, lambda: ran_in_xdp(lab, b, action))
                expect(worked, '%s over IPv%d does not work', name, version)
        for host in (a, b):
            expect(host.checksum_errors() == 0, '%d bad checksums at %s',
                   host.checksum_errors(), host.port)


TESTS = [
    ('traffic', test_traffic),
    ('slow-path', test_slow_path),
    ('generic-mode', test_generic),
    ('vlan-actions', test_vlan_actions),
    ('access-ports', test_access_ports),
    ('system-ports', test_system_ports),
    ('system-ports-off', test_system_ports_off),
    ('set-fields', test_set_fields),
    ('translated', test_translated),
]
