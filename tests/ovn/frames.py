# SPDX-License-Identifier: Apache-2.0
"""Frames that hosts' kernels would not send, and who gets them."""
import contextlib
import ipaddress
import socket
import struct
import threading
import time

from lab import checksum, receive_frame, receive_whole

BROADCAST = 'ff:ff:ff:ff:ff:ff'


def ethernet(dst, src, kind, payload):
    return bytes.fromhex((dst + src).replace(':', '')) + struct.pack(
        '!H', kind) + payload.ljust(46, b'\0')


def packed(ip):
    return ipaddress.ip_address(ip).packed


def with_sum(src, dst, protocol, segment, at):
    """A segment with its checksum, at this place of it."""
    pseudo = packed(src) + packed(dst) + struct.pack('!II', len(segment),
                                                     protocol)
    total = checksum(pseudo + segment) or 0xffff
    return segment[:at] + struct.pack('!H', total) + segment[at + 2:]


def ip(macs, src, dst, protocol, segment, hops=64):
    """An IPv4 or IPv6 frame; macs are (destination, source)."""
    if ':' in src:
        head = struct.pack('!IHBB', 6 << 28, len(segment), protocol, hops)
        return ethernet(*macs, 0x86dd, head + packed(src) + packed(dst)
                        + segment)
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(segment), 0, 0, hops,
                       protocol, 0) + packed(src) + packed(dst)
    head = head[:10] + struct.pack('!H', checksum(head)) + head[12:]
    return ethernet(*macs, 0x0800, head + segment)


def udp(macs, src, dst, sport, dport, payload):
    segment = struct.pack('!HHHH', sport, dport, 8 + len(payload), 0) + payload
    return ip(macs, src, dst, socket.IPPROTO_UDP,
              with_sum(src, dst, socket.IPPROTO_UDP, segment, 6))


def arp_reply(macs, sender_mac, sender_ip, target_mac, target_ip):
    def hexadecimal(mac):
        return bytes.fromhex(mac.replace(':', ''))
    return ethernet(*macs, 0x0806, struct.pack('!HHBBH', 1, 0x0800, 6, 4, 2)
                    + hexadecimal(sender_mac) + packed(sender_ip)
                    + hexadecimal(target_mac) + packed(target_ip))


def neighbour_advertisement(macs, src, dst, target, target_mac):
    message = (struct.pack('!BBHI', 136, 0, 0, 0x60000000) + packed(target)
               + b'\x02\x01' + bytes.fromhex(target_mac.replace(':', '')))
    return ip(macs, src, dst, socket.IPPROTO_ICMPV6, with_sum(
        src, dst, socket.IPPROTO_ICMPV6, message, 2), hops=255)


def arrivals(src, dst, frame, count=20, settle=0.5):
    """Sends a frame 'count' times; returns how often it arrived as it is."""
    with contextlib.closing(src.raw_socket()) as sender, contextlib.closing(
            dst.raw_socket()) as receiver:
        for _ in range(count):
            sender.send(frame)
            time.sleep(0.005)
        arrived = 0
        deadline = time.monotonic() + settle
        while time.monotonic() < deadline:
            with contextlib.suppress(socket.timeout):
                arrived += receive_frame(receiver, 0.1)[0] == frame
        return arrived


def first_frame(s, wanted, timeout):
    """The first of the frames for which 'wanted' returns something: that."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(socket.timeout):
            found = wanted(receive_frame(s, 0.1)[0])
            if found is not None:
                return found
    return None


class Reflector:
    """Sends UDP frames with a VLAN tag back to where they came from.

    For kernels without VLAN devices.
    """

    def __init__(self, host, vlan):
        self.mac = bytes.fromhex(host.mac.replace(':', ''))
        self.tag = struct.pack('!HH', 0x8100, vlan)
        self.socket = host.raw_socket()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.socket.close()

    def run(self):
        while not self.stop.is_set():
            with contextlib.suppress(OSError):
                frame = receive_whole(self.socket, 0.1)
                if frame[:6] == self.mac and frame[12:16] == self.tag:
                    self.reflect(frame)

    def reflect(self, frame):
        # Where the protocol and the addresses are, and the size of one.
        protocol, addresses, size = (
            (24, 26, 16) if frame[16:18] == b'\x86\xdd' else (27, 30, 4))
        if frame[protocol] == socket.IPPROTO_UDP:
            # Nothing but places change, so that the checksum stays right.
            for begin, length in ((0, 6), (addresses, size),
                                  (addresses + 2 * size, 2)):
                frame = (frame[:begin] + frame[begin + length:begin + 2 * length]
                         + frame[begin:begin + length]
                         + frame[begin + 2 * length:])
            self.socket.send(frame)
