# SPDX-License-Identifier: Apache-2.0
"""Packets in packets, with a checksum inside that the sender has left to the device.

A container that makes a tunnel itself, as nested Kubernetes does, has its veth make
the checksums of what is in it.  Only who knows that may send such a frame on.
"""
import contextlib
import socket
import struct
import time

from lab import checksum
from suite import expect, passed, xdp_packets
from tap import NEEDS_CSUM, VirtioHeader, Wire
from test_kernel_datapath import kernel_lab

ETH, IPV4 = 14, 20
FRAMES = 40
UDP = 17
PAYLOAD = b'inside' * 20


def ipv4(src, dst, proto, payload):
    addresses = socket.inet_aton(src) + socket.inet_aton(dst)
    head = struct.pack('!BBHHHBBH', 0x45, 0, IPV4 + len(payload), 0, 0x4000, 64,
                       proto, 0)
    head = head[:10] + struct.pack('!H', checksum(head + addresses))
    return head + addresses + payload


def in_ipv4(proto, payload_of):
    return lambda src, dst, inner: (0x0800, ipv4(src.ip4, dst.ip4, proto,
                                                 payload_of(inner)))


def in_udp(port, header):
    return in_ipv4(UDP, lambda inner: struct.pack(
        '!HHHH', 40000, port, 8 + len(header) + len(inner), 0) + header + inner)


def in_ipv6(src, dst, inner):
    """Behind destination options, as an ip6tnl device sends it."""
    payload = b'\x04\0\x04\x01\x04\x01\x01\0' + inner[ETH:]
    return 0x86dd, struct.pack('!IHBB', 6 << 28, len(payload), 60, 64) + b''.join(
        socket.inet_pton(socket.AF_INET6, h.ip6) for h in (src, dst)) + payload


VXLAN, GENEVE = b'\x08\0\0\0\0\0\x07\0', b'\0\0\x65\x58\0\0\x07\0'
MACS = bytes.fromhex('060000000002060000000001')

# Around a packet with its Ethernet header: what is behind the outer one, and whether XDP
# executes it if it is whole.
KINDS = {
    'plain': (lambda src, dst, inner: (0x0800, inner[ETH:]), True),
    'VXLAN': (in_udp(4789, VXLAN), True),
    'VXLAN, the first port': (in_udp(8472, VXLAN), True),
    'Geneve': (in_udp(6081, GENEVE), True),
    'GRE': (in_ipv4(47, lambda inner: b'\0\0\x08\0' + inner[ETH:]), True),
    'GRE with a key and Ethernet': (in_ipv4(
        47, lambda inner: b'\x20\0\x65\x58\0\0\0\x07' + inner), True),
    'IP in IP': (in_ipv4(4, lambda inner: inner[ETH:]), True),
    'IP in IPv6': (in_ipv6, False),
    'MPLS': (lambda src, dst, inner: (0x8847, b'\0\x01\x01\x40' + inner[ETH:]),
             True),
    'PPPoE': (lambda src, dst, inner: (0x8864, b'\x11\0\0\x01' + struct.pack(
        '!HH', len(inner) - ETH + 2, 0x21) + inner[ETH:]), True),
}


def frames(src, dst, wrap):
    """The frame, where what is in it begins to be summed, and it as it must arrive."""
    length = 8 + len(PAYLOAD)
    pseudo = (socket.inet_aton('10.1.0.1') + socket.inet_aton('10.1.0.2')
              + struct.pack('!BBH', 0, UDP, length))
    made = []
    for whole in (False, True):
        udp = struct.pack('!HHHH', 7, 9, length, 0)
        value = (checksum(pseudo + udp + PAYLOAD) or 0xffff) if whole else (
            ~checksum(pseudo) & 0xffff)
        udp = udp[:6] + struct.pack('!H', value) + PAYLOAD
        inner = MACS + b'\x08\0' + ipv4('10.1.0.1', '10.1.0.2', UDP, udp)
        kind, packet = wrap(src, dst, inner)
        made.append(bytes.fromhex((dst.mac + src.mac).replace(':', ''))
                    + struct.pack('!H', kind) + packet)
    return made[0], len(made[0]) - length, made[1]


def arrived(wire, expected, n):
    """How many of 'n' arrive as they must."""
    good = 0
    deadline = time.monotonic() + 2
    while good < n and time.monotonic() < deadline:
        got = wire.receive(0.2)
        good += bool(got) and got.completed()[:len(expected)] == expected
    return good


def send_all(context, lab, kinds):
    a, b = lab.hosts
    with contextlib.closing(Wire(a)) as out, contextlib.closing(Wire(b)) as into:
        for name, (wrap, _) in kinds.items():
            partial, start, whole = frames(a, b, wrap)
            header = VirtioHeader(NEEDS_CSUM, csum_start=start, csum_offset=6)
            for what, sent in (('partial', (partial, header)), ('whole', (whole,))):
                before = xdp_packets(lab, a.port), passed(lab, a.port, 'tx-checksum')
                for _ in range(FRAMES):
                    out.send(*sent)
                    time.sleep(0.01)
                n = arrived(into, whole, FRAMES)
                expect(n == FRAMES, '%s, %s: %d of %d arrive whole', name, what, n,
                       FRAMES)
                yield name, what, (xdp_packets(lab, a.port) - before[0],
                                   passed(lab, a.port, 'tx-checksum') - before[1])


def check(context, lab):
    """What has its checksum is executed in XDP, and so is a plain packet."""
    for name, what, (executed, missed) in send_all(context, lab, KINDS):
        if not KINDS[name][1]:
            continue
        if what == 'whole' or name == 'plain':
            expect(executed >= FRAMES * 0.7, '%s, %s: %d of %d in XDP', name, what,
                   executed, FRAMES)
        else:
            expect(missed >= FRAMES * 0.7, '%s, %s: %d of %d passed on for it, %d in '
                   'XDP', name, what, missed, FRAMES, executed)
    context.note('%d kinds, partial and whole', len(KINDS))


def test_userspace(context):
    """A container's own tunnels arrive whole (AF_XDP)."""
    with context.lab() as lab:
        check(context, lab)


def test_kernel(context):
    """A container's own tunnels arrive whole (kernel datapath)."""
    with kernel_lab(context, hook='xdp') as lab:
        check(context, lab)


TESTS = [
    ('nested-checksums', test_userspace),
    ('kernel-nested-checksums', test_kernel),
]
