# SPDX-License-Identifier: Apache-2.0
"""A DHCP client of which one sees each answer."""
import contextlib
import ipaddress
import select
import socket
import struct

import frames

MAGIC = b'\x63\x82\x53\x63'
DISCOVER, REQUEST = 1, 3
SOLICIT, REQUEST6 = 1, 3
TRIES = 5


def options4(data):
    """DHCP options by their number."""
    found = {}
    while data and data[0] != 255:
        if data[0] == 0:
            data = data[1:]
            continue
        found[data[0]] = data[2:2 + data[1]]
        data = data[2 + data[1]:]
    return found


def message4(host, xid, kind, wanted=b''):
    """A broadcast request, to be answered by broadcast."""
    mac = bytes.fromhex(host.mac.replace(':', ''))
    body = struct.pack('!BBBBIHH', 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16)
    body += mac.ljust(16, b'\0') + bytes(192) + MAGIC
    body += bytes([53, 1, kind]) + wanted + b'\x37\x04\x01\x03\x1a\x33\xff'
    return frames.udp((frames.BROADCAST, host.mac), '0.0.0.0',
                      '255.255.255.255', 68, 67, body)


def answer4(frame, xid):
    """What an answer says, or None if it is another frame."""
    payload = frame[42:]
    if frame[23:24] != b'\x11' or frame[34:38] != b'\0\x43\0\x44' or \
            payload[4:8] != struct.pack('!I', xid):
        return None
    return {'address': socket.inet_ntoa(payload[16:20]),
            **{k: v.hex() for k, v in options4(payload[240:]).items()}}


def ask4(host, s, frame, xid):
    for _ in range(TRIES):
        s.send(frame)
        answer = frames.first_frame(s, lambda f: answer4(f, xid), 1)
        if answer:
            return answer
    return {}


def lease4(host):
    """DISCOVER, OFFER, REQUEST and ACK: the two answers."""
    xid = 0x0f0e0d00 + host.number
    with contextlib.closing(host.raw_socket()) as s:
        offer = ask4(host, s, message4(host, xid, DISCOVER), xid)
        wanted = b''
        if offer:
            wanted = (b'\x32\x04' + socket.inet_aton(offer['address'])
                      + b'\x36\x04' + bytes.fromhex(offer[54]))
        return offer, ask4(host, s, message4(host, xid + 256, REQUEST, wanted),
                           xid + 256)


def options6(data):
    found = {}
    while len(data) >= 4:
        kind, size = struct.unpack('!HH', data[:4])
        found[kind] = data[4:4 + size]
        data = data[4 + size:]
    return found


def ask6(s, kind, host, extra=b''):
    """Sends to all DHCP servers; the answer's type and options."""
    duid = b'\0\x03\0\x01' + bytes.fromhex(host.mac.replace(':', ''))
    body = struct.pack('!HH', 1, len(duid)) + duid + extra
    if not extra:
        body += struct.pack('!HHIII', 3, 12, 7, 0, 0)        # IA_NA
    message = bytes([kind]) + b'\x0a\x0b' + bytes([kind]) + body
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            s.sendto(message, ('ff02::1:2', 547))
        if select.select([s], [], [], 1)[0]:
            data = s.recv(2048)
            if data[1:4] == message[1:4]:
                return data[0], options6(data[4:])
    return 0, {}


def address6(options):
    """The address in an IA_NA."""
    association = options6(options.get(3, bytes(12))[12:])
    return str(ipaddress.IPv6Address(association[5][:16])) \
        if 5 in association else ''


def lease6(host):
    """SOLICIT, ADVERTISE, REQUEST and REPLY: types and addresses of the answers."""
    with contextlib.closing(host.socket(socket.AF_INET6,
                                        socket.SOCK_DGRAM)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
        s.bind(('::', 546))
        kind, options = ask6(s, SOLICIT, host)
        wanted = b''.join(struct.pack('!HH', k, len(options[k])) + options[k]
                          for k in (2, 3) if k in options)
        kind2, options2 = ask6(s, REQUEST6, host, wanted)
        return (kind, address6(options)), (kind2, address6(options2))
