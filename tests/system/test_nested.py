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


def outer_udp(port, header):
    return lambda inner: (UDP, struct.pack(
        '!HHHH', 40000, port, 8 + len(header) + len(inner), 0) + header + inner)


VXLAN, GENEVE = b'\x08\0\0\0\0\0\x07\0', b'\0\0\x65\x58\0\0\x07\0'
MACS = bytes.fromhex('060000000002060000000001')

# Around a packet with its Ethernet header: protocol and payload of the outer one.
KINDS = {
    'plain': None,
    'VXLAN': outer_udp(4789, VXLAN),
    'VXLAN, the first port': outer_udp(8472, VXLAN),
    'Geneve': outer_udp(6081, GENEVE),
    'GRE': lambda inner: (47, b'\0\0\x08\0' + inner[ETH:]),
    'GRE with a key and Ethernet': lambda inner: (
        47, b'\x20\0\x65\x58\0\0\0\x07' + inner),
    'IP in IP': lambda inner: (4, inner[ETH:]),
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
        proto, payload = wrap(inner) if wrap else (UDP, udp)
        made.append(bytes.fromhex((dst.mac + src.mac).replace(':', ''))
                    + b'\x08\0' + (ipv4(src.ip4, dst.ip4, proto, payload) if wrap
                                   else inner[ETH:]))
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
        for name, wrap in kinds.items():
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
    with kernel_lab(context) as lab:
        check(context, lab)


TESTS = [
    ('nested-checksums', test_userspace),
    ('kernel-nested-checksums', test_kernel),
]
