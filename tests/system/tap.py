# SPDX-License-Identifier: Apache-2.0
"""A virtual machine's end of a tap, as QEMU holds it.

A Guest owns the tap's file descriptors, one for each queue, non-blocking as
QEMU's, and reads and writes what its virtio-net device would: each frame
behind a virtio_net_hdr (virtio 1.2, section 5.1.6), which says whether the
checksum is still to be completed and whether the frame is to be segmented.
The tap is a port of the lab's switch; closing the descriptors is what a
machine's end is to it.
"""
import fcntl
import json
import os
import select
import socket
import struct
from typing import NamedTuple

from lab import SOL_PACKET, checksum, in_netns, receive_tag, run

# <linux/if_tun.h>
TUNSETIFF = 0x400454ca
TUNSETPERSIST = 0x400454cb
TUNSETOFFLOAD = 0x400454d0
TUNSETVNETHDRSZ = 0x400454d8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4

# <linux/virtio_net.h>
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_TCPV6 = 0, 1, 4
HEADER = struct.Struct('<BBHHHH')
PACKET_VNET_HDR = 15            # <linux/if_packet.h>


class VirtioHeader(NamedTuple):
    """What stands in front of a frame; all zero: a frame as it is."""
    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


class Received(NamedTuple):
    header: VirtioHeader
    frame: bytes

    def completed(self):
        """The frame with its checksum, as who takes it may complete it."""
        h, frame = self.header, bytearray(self.frame)
        if h.flags & NEEDS_CSUM:
            at = h.csum_start + h.csum_offset
            value = checksum(bytes(frame[h.csum_start:])) or 0xffff
            frame[at:at + 2] = value.to_bytes(2, 'big')
        return bytes(frame)


class Guest:
    """See the module's text.  It has what a Host has that others ask for."""

    def __init__(self, lab, number, queues=1, header=12, persist=False):
        self.lab, self.number = lab, number
        self.port = 'tap%d' % number
        self.mac = '02:00:00:00:01:%02x' % number
        self.ip4 = '10.77.0.%d' % (100 + number)
        self.ip6 = 'fd77::1:%d' % number
        self.queues, self.header, self.persist = queues, header, persist
        self.fds = []
        self.sent = self.sent_bytes = 0
        self.start()

    def start(self):
        """Opens the tap, and makes it if it is not there."""
        flags = IFF_TAP | IFF_NO_PI
        flags |= IFF_VNET_HDR if self.header else 0
        flags |= IFF_MULTI_QUEUE if self.queues > 1 else 0
        request = struct.pack('16sH22x', self.port.encode(), flags)
        for _ in range(self.queues):
            with in_netns(self.lab.switch):
                fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
                self.fds.append(fd)
                fcntl.ioctl(fd, TUNSETIFF, request)
            if self.header:
                fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack('i', self.header))
                fcntl.ioctl(fd, TUNSETOFFLOAD,
                            TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
        fcntl.ioctl(fd, TUNSETPERSIST, int(self.persist))
        # The switch's own kernel has nothing to say to the guest.
        run('ip', 'netns', 'exec', self.lab.switch, 'sysctl', '-qw',
            'net.ipv6.conf.%s.disable_ipv6=1' % self.port)
        run('ip', '-n', self.lab.switch, 'link', 'set', self.port, 'up')

    def close(self):
        while self.fds:
            os.close(self.fds.pop())

    def send(self, frame, header=VirtioHeader(), queue=0):
        front = HEADER.pack(*header).ljust(self.header, b'\0')
        os.write(self.fds[queue], (front if self.header else b'') + frame)
        self.sent += 1
        self.sent_bytes += len(frame)

    def counters(self):
        """What the machine has sent; bytes as a veth counts them, which
        leaves out the Ethernet header."""
        return {'tx_packets': self.sent,
                'tx_bytes': self.sent_bytes - 14 * self.sent}

    def dropped(self):
        """Frames that the tap's queue had no room for."""
        link = json.loads(run('ip', '-n', self.lab.switch, '-s', '-j', 'link',
                              'show', self.port))[0]
        return link['stats64']['tx']['dropped']

    def receive(self, timeout):
        """What has arrived next on any queue, or None."""
        ready = select.select(self.fds, [], [], timeout)[0]
        if not ready:
            return None
        data = os.read(ready[0], 1 << 17)
        if not self.header:
            return Received(VirtioHeader(), data)
        return Received(VirtioHeader(*HEADER.unpack(data[:HEADER.size])),
                        data[self.header:])


class Wire:
    """The same for a Host of the lab: what its interface sends and receives,
    with what the kernel keeps beside each frame."""

    def __init__(self, host):
        self.host, self.port = host, host.port
        self.mac, self.ip4, self.ip6 = host.mac, host.ip4, host.ip6
        self.counters = host.counters
        self.socket = host.raw_socket()
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)

    def close(self):
        self.socket.close()

    def send(self, frame, header=VirtioHeader()):
        self.socket.send(HEADER.pack(*header) + frame)

    def receive(self, timeout):
        try:
            data, tag = receive_tag(self.socket, timeout)
        except socket.timeout:
            return None
        frame = data[HEADER.size:]
        if tag:
            frame = frame[:12] + struct.pack('!HH', *tag) + frame[12:]
        return Received(VirtioHeader(*HEADER.unpack(data[:HEADER.size])),
                        frame)
