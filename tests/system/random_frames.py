# SPDX-License-Identifier: Apache-2.0
"""Random frames, well-formed and damaged, for the differential test.

A Template stands for one flow: frames that differ only in their number, which
is the last thing in them.  The number is followed by its complement, so that
checksums do not depend on it.  A frame that was cut short has none.

The values come from the short lists below.  random_rules.py draws from the
same lists, so that rules and frames meet.  For the same purpose a round has
foci, a few fields that rules match and in which frames differ more often.
"""
import collections
import socket
import struct

from lab import checksum

N_HOSTS = 4
MACS = ['02:00:00:00:00:%02x' % (i + 1) for i in range(N_HOSTS)]
GROUP_MACS = ['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:05', '33:33:00:00:00:01',
              '01:80:c2:00:00:00', '00:00:00:00:00:00', '02:00:00:00:00:fe']
VIDS = [0, 5, 100, 4095]
TPIDS = [0x8100, 0x88a8]
IP4 = ['10.0.0.1', '10.0.0.2', '10.0.1.1', '192.168.3.4', '224.0.0.5']
IP6 = ['fd00::1', 'fd00::2', 'fd00:0:0:1::1', '2001:db8::ffff', 'ff02::1']
PORTS = [0, 53, 80, 443, 1024, 65535]
TOS = [0, 0x10, 0x03, 0xb8, 0xff]
TTLS = [0, 1, 2, 64, 64, 64, 255]
LABELS = [0, 0x12345, 0xfffff]              # Of IPv6 flows.
MPLS_LABELS = [0, 3, 16, 1000, 0xfffff]
ETHERTYPES = [0x88b5, 0x88cc, 0x894f, 0x22f0, 0x05ff, 46]
ICMP = [(8, 0), (0, 0), (3, 1), (11, 0)]    # Type and code.
ICMP6 = [(128, 0), (129, 0), (1, 4), (133, 0)]
TCP_FLAGS = [0x002, 0x012, 0x010, 0x018, 0x011, 0x004, 0xfff]
ARP_OPS = [1, 1, 2, 2, 3, 0, 257]

MAGIC = b'XOdt'
TRAILER = struct.Struct('!4sHHHH')


class Template:
    """Frames that are alike, sent by host 'port' (1 is the first)."""

    def __init__(self, number, port, what, frame, l3, numbered):
        self.number, self.port, self.what = number, port, what
        self.body, self.numbered = frame, numbered
        self.l3 = l3                 # Where the Ethernet type ends.

    def frame(self, sequence):
        if not self.numbered:
            return self.body
        return self.body[:-4] + struct.pack('!HH', sequence,
                                            sequence ^ 0xffff)

    def __str__(self):
        return 'template %d from p%d (%s)' % (self.number, self.port,
                                              self.what)


def trailer(round_number, number):
    return TRAILER.pack(MAGIC, round_number & 0xffff, number, 0, 0xffff)


def identify(frame):
    """(round, template, sequence) of a numbered frame, or None."""
    if len(frame) < TRAILER.size:
        return None
    magic, round_number, number, sequence, check = TRAILER.unpack(
        frame[-TRAILER.size:])
    if magic != MAGIC or sequence ^ check != 0xffff:
        return None
    return round_number, number, sequence


def mac(text):
    return bytes.fromhex(text.replace(':', ''))


def random_mac(r):
    return mac(r.choice(MACS if r.random() < 0.8 else GROUP_MACS))


# -- What is in IP: (protocol, segment) ---------------------------------------

def filled(r, header, at, pseudo):
    """Puts the checksum at 'at'; one in ten is wrong."""
    length = struct.pack('!I', len(header))
    value = checksum(pseudo + length + header if pseudo else header)
    if r.random() < 0.1:
        value = r.randrange(1, 0xffff)
    return header[:at] + struct.pack('!H', value) + header[at + 2:]


def tcp(r, pseudo, payload):
    options = r.choice([b'', b'', b'\x02\x04\x05\xb4', b'\x01' * 12])
    flags = (5 + len(options) // 4) << 12 | r.choice(TCP_FLAGS)
    header = struct.pack('!HHIIHHHH', r.choice(PORTS), r.choice(PORTS),
                         r.randrange(1 << 32), r.randrange(1 << 32), flags,
                         1000, 0, r.choice([0, 0, 7]))
    return 6, filled(r, header + options + payload, 16, pseudo(6))


def udp(r, pseudo, payload):
    header = struct.pack('!HHHH', r.choice(PORTS), r.choice(PORTS),
                         8 + len(payload), 0)
    if r.random() < 0.2:
        return 17, header + payload
    return 17, filled(r, header + payload, 6, pseudo(17))


def sctp(r, pseudo, payload):
    return 132, struct.pack('!HHII', r.choice(PORTS), r.choice(PORTS), 7,
                            r.randrange(1 << 32)) + payload


def icmp(r, pseudo, payload):
    return 1, filled(r, struct.pack('!BBHI', *r.choice(ICMP), 0, 7) + payload,
                     2, b'')


def icmp6(r, pseudo, payload):
    return 58, filled(r, struct.pack('!BBHI', *r.choice(ICMP6), 0, 7)
                      + payload, 2, pseudo(58))


def neighbour(r, pseudo, payload):
    kind, option = r.choice([(135, 1), (136, 2), (135, 1), (136, 2), (135, 2)])
    body = struct.pack('!BBHI', kind, r.choice([0, 0, 0, 1]), 0, 0)
    body += socket.inet_pton(socket.AF_INET6, r.choice(IP6))
    for _ in range(r.choice([0, 1, 1, 1, 2])):
        body += struct.pack('!BB', option, 1) + random_mac(r)
    if r.random() < 0.6:
        payload = struct.pack('!BB', 14, -(-len(payload) // 8) + 1) \
            + payload.rjust(-(-len(payload) // 8) * 8 + 6, b'\0')
    return 58, filled(r, body + payload, 2, pseudo(58))


def other_protocol(r, pseudo, payload):
    return r.choice([2, 47, 50, 59, 200]), payload


# -- What is in a frame: (Ethernet type, packet) ------------------------------

def ipv4(r, segment_of, payload):
    src, dst = (socket.inet_aton(r.choice(IP4)) for _ in 'sd')
    proto, segment = segment_of(
        r, lambda proto: src + dst + bytes([0, 0, 0, proto]), payload)
    options = b'\x94\x04\0\0' if r.random() < 0.05 else b''
    # Don't fragment, none, the first, and later fragments.
    fragment = r.choice([0x4000] * 8 + [0] * 4 + [0x2000, 0x2010, 0x0010])
    header = struct.pack('!BBHHHBBH', 0x45 + len(options) // 4, r.choice(TOS),
                         20 + len(options) + len(segment), r.randrange(65536),
                         fragment, r.choice(TTLS), proto, 0)
    return 0x0800, filled(r, header + src + dst + options, 10, b'') + segment


def ipv6(r, segment_of, payload):
    src, dst = (socket.inet_pton(socket.AF_INET6, r.choice(IP6)) for _ in 'sd')
    # filled() puts the length in front of the segment; the order of words does
    # not matter to the sum.
    proto, segment = segment_of(
        r, lambda proto: src + dst + bytes([0, 0, 0, proto]), payload)
    extension = r.random()
    if extension < 0.10:             # A first or a later fragment.
        segment = struct.pack('!BBHI', proto, 0, r.choice([1, 0, 8, 9]),
                              77) + segment
        proto = 44
    elif extension < 0.17:           # Hop-by-hop or destination options.
        segment = struct.pack('!BB', proto, 0) + b'\x01\x04\0\0\0\0' + segment
        proto = r.choice([0, 60])
    first = 6 << 28 | r.choice(TOS) << 20 | r.choice(LABELS)
    return 0x86dd, struct.pack('!IHBB', first, len(segment), proto,
                               r.choice(TTLS)) + src + dst + segment


def arp(r, payload):
    packet = struct.pack('!HHBBH', 1, 0x0800, 6, 4, r.choice(ARP_OPS))
    for _ in 'st':
        packet += random_mac(r) + socket.inet_aton(r.choice(IP4))
    return r.choice([0x0806] * 5 + [0x8035]), packet + payload


def mpls(r, payload):
    packet = b''
    n = r.choice([1, 1, 1, 2, 3, 4])
    for i in range(n):
        packet += struct.pack('!I', r.choice(MPLS_LABELS) << 12
                              | r.randrange(8) << 9 | (i == n - 1) << 8
                              | r.choice(TTLS))
    return (r.choice([0x8847, 0x8847, 0x8847, 0x8848]),
            packet + ipv4(r, udp, payload)[1])


def other_type(r, payload):
    return r.choice(ETHERTYPES), b'\xaa\xaa\x03\0\0\0\x08\x00' + payload


def in_ip(version, segment):
    return lambda r, payload: version(r, segment, payload)


# How often, what, and the function that makes it.
KINDS = [(12, 'TCP', in_ip(ipv4, tcp)), (12, 'UDP', in_ip(ipv4, udp)),
         (5, 'ICMP', in_ip(ipv4, icmp)), (4, 'SCTP', in_ip(ipv4, sctp)),
         (3, 'IPv4', in_ip(ipv4, other_protocol)),
         (8, 'TCP/IPv6', in_ip(ipv6, tcp)), (8, 'UDP/IPv6', in_ip(ipv6, udp)),
         (5, 'ICMPv6', in_ip(ipv6, icmp6)), (6, 'ND', in_ip(ipv6, neighbour)),
         (3, 'SCTP/IPv6', in_ip(ipv6, sctp)),
         (2, 'IPv6', in_ip(ipv6, other_protocol)),
         (9, 'ARP', arp), (6, 'MPLS', mpls), (4, 'other', other_type)]


V4 = ('TCP', 'UDP', 'ICMP', 'SCTP', 'IPv4')
V6 = ('TCP/IPv6', 'UDP/IPv6', 'ICMPv6', 'ND', 'SCTP/IPv6', 'IPv6')

# A field of OpenFlow, the kinds of frames that have it, and some of its bits,
# in the byte so many behind the Ethernet type.
Focus = collections.namedtuple('Focus', 'field kinds byte bits')
FOCI = [Focus(*row) for row in [
    ('ip_frag', V4, 6, 0x20), ('ip_frag', V4, 7, 0x02),
    ('nw_tos', V4, 1, 0xfc), ('nw_ecn', V4, 1, 0x03),
    ('nw_ttl', V4, 8, 0xff), ('nw_proto', V4, 9, 0xff),
    ('nw_src', V4, 15, 0x03), ('nw_dst', V4, 19, 0x03),
    ('tp_src', V4[:2], 21, 0xff), ('tp_dst', V4[:2], 23, 0xff),
    ('tcp_flags', V4[:1], 33, 0x3f), ('tcp_flags', V4[:1], 32, 0x0f),
    ('icmp_type', V4[2:3], 20, 0xff), ('icmp_code', V4[2:3], 21, 0xff),
    ('nw_tos', V6, 0, 0x0f), ('ipv6_label', V6, 3, 0xff),
    ('nw_ttl', V6, 7, 0xff), ('ipv6_src', V6, 23, 0x03),
    ('ipv6_dst', V6, 39, 0x03), ('ip_frag', V6, 43, 0x09),
    ('tp_src', V6[:2], 41, 0xff), ('tp_dst', V6[:2], 43, 0xff),
    ('tcp_flags', V6[:1], 53, 0x3f), ('icmpv6_type', V6[2:3], 40, 0xff),
    ('nd_target', V6[3:4], 63, 0x03), ('nd_sll', V6[3:4], 71, 0x07),
    ('nd_tll', V6[3:4], 71, 0x07), ('arp_op', ('ARP',), 7, 0x03),
    ('arp_sha', ('ARP',), 13, 0x07), ('arp_spa', ('ARP',), 17, 0x03),
    ('arp_tha', ('ARP',), 23, 0x07), ('arp_tpa', ('ARP',), 27, 0x03),
    ('mpls_label', ('MPLS',), 1, 0xff), ('mpls_tc', ('MPLS',), 2, 0x0e),
    ('mpls_bos', ('MPLS',), 2, 0x01), ('mpls_ttl', ('MPLS',), 3, 0xff)]]


def some_foci(r):
    family = r.choices([V4, V6, ('ARP',), ('MPLS',)], [8, 7, 3, 2])[0]
    foci = [focus for focus in FOCI if focus.kinds[0] in family]
    return r.sample(foci, min(4, len(foci)))


def damage(r, frame, l3):
    """Returns (what, frame, whether the trailer is still there)."""
    if r.random() < 0.35:
        length = r.randrange(14, max(15, min(len(frame), 110)))
        # OVS cannot read the megaflow of an MPLS packet without a label, and
        # its revalidators remove it without counting its packets.
        if frame[l3 - 2:l3] in (b'\x88\x47', b'\x88\x48'):
            length = max(length, l3 + 4)
        return 'cut to %d bytes' % length, frame[:length], False
    frame = bytearray(frame)
    last = len(frame) - TRAILER.size
    if r.random() < 0.6:             # A byte of those that matter in parsing.
        at = l3 + r.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 22, 24, 32, 40, 41,
                            52, 62, 65])
        spots = [min(at, last - 1)]
    else:
        spots = [r.randrange(12, min(last, 90)) for _ in range(3)]
    for at in spots:
        frame[at] ^= r.choice([1 << r.randrange(8), r.randrange(1, 256)])
    return 'bytes %s changed' % spots, bytes(frame), True


def random_tags(r):
    """No, one, two, and seldom three VLAN tags."""
    n = r.choice([0] * 6 + [1] * 3 + [2] * 2 + [3] * (r.random() < 0.2))
    tags = b''
    for i in range(n):
        tpid = r.choice(TPIDS) if i < n - 1 or r.random() < 0.1 else TPIDS[0]
        tags += struct.pack('!HH', tpid, r.choice([0, 1, 3, 7]) << 13
                            | (r.random() < 0.1) << 12 | r.choice(VIDS))
    return tags


def template(r, round_number, number, foci):
    port = r.randrange(N_HOSTS) + 1
    _, what, make = r.choices(KINDS, [
        weight * (8 if any(what in focus.kinds for focus in foci) else 1)
        for weight, what, _ in KINDS])[0]
    # 1460 bytes make a full frame of UDP over IPv4.
    size = r.choice([0, 0, 1, 18, 61, 200] if r.random() < 0.93
                    else [1430, 1448, 1460])
    end = trailer(round_number, number)
    inside = r.random() < 0.8        # Or behind the packet, as padding.
    ethertype, packet = make(r, (bytes(range(256)) * 6)[:size]
                             + (end if inside else b''))
    tags = random_tags(r)
    head = random_mac(r) + mac(MACS[port - 1] if r.random() < 0.8
                               else r.choice(MACS + GROUP_MACS)) + tags
    frame = head + struct.pack('!H', ethertype) + packet
    if not inside:
        frame += bytes(r.choice([0, 1, 20])) + end
    what += ', %d tags' % (len(tags) // 4) if tags else ''
    numbered = True
    if r.random() < 0.2:
        damaged, frame, numbered = damage(r, frame, len(head) + 2)
        what += ', ' + damaged
    # AF_PACKET sends nothing that is longer than the MTU allows.
    longest = 1514 + 4 * (frame[12:14] == b'\x81\x00')
    if len(frame) > longest:
        frame, numbered = frame[:longest], False
        what += ', cut to %d bytes' % longest
    return Template(number, port, what, frame, len(head) + 2, numbered)


# A bit of the addresses, the outer tag, or a field behind the Ethernet type.
SIBLING_BYTES = [5, 11, 14, 15]
SIBLING_FIELDS = [1, 2, 6, 7, 8, 9, 13, 15, 19, 20, 21, 22, 23, 32, 33, 39, 40,
                  41, 43, 52, 53]


def sibling(r, round_number, number, foci, older):
    """Another flow, which differs from an older one in one bit.

    The two are meant for one megaflow, or for two that are almost the same.
    """
    at, bits = older.l3 + r.choice(SIBLING_FIELDS), 0xff
    if r.random() < 0.5:
        focus = r.choice(foci)
        at, bits = older.l3 + focus.byte, focus.bits
    elif r.random() < 0.2:
        at = r.choice(SIBLING_BYTES)
    at = min(at, len(older.body) - TRAILER.size - 1)
    bit = r.choice([1 << i for i in range(8) if bits & 1 << i])
    frame = bytearray(older.body)
    frame[at] ^= bit
    frame[-TRAILER.size:] = trailer(round_number, number)
    return Template(number, older.port, 'like template %d but for bit %#x of '
                    'byte %d' % (older.number, bit, at), bytes(frame),
                    older.l3, True)


def is_taken_for_partial(frame, l3):
    """Is the checksum the pseudo-header's alone?

    XDP completes it then, since a veth's sender has left the rest to others
    (docs/design.md, "Checksums").  In OVS a frame that is so by chance stays as
    it is, since the kernel knows that nothing was left.
    """
    ethertype, ip = frame[l3 - 2:l3], frame[l3:]
    if ethertype == b'\x08\x00' and len(ip) >= 20:
        proto, addresses, l4 = ip[9], ip[12:20], 4 * (ip[0] & 15)
        length = struct.unpack('!H', ip[2:4])[0] - l4
    elif ethertype == b'\x86\xdd' and len(ip) >= 40:
        proto, addresses, l4 = ip[6], ip[8:40], 40
        length = struct.unpack('!H', ip[4:6])[0]
    else:
        return False
    field = {6: 16, 17: 6}.get(proto)
    if field is None or length < 0 or len(ip) < l4 + field + 2:
        return False
    sum_alone = ~checksum(addresses + struct.pack('!II', proto, length)) & 0xffff
    return ip[l4 + field:l4 + field + 2] == struct.pack('!H', sum_alone)


def templates(r, round_number, count, foci):
    made = []
    while len(made) < count:
        older, number = r.choice(made) if made else None, len(made)
        if older and older.numbered and r.random() < 0.4:
            new = sibling(r, round_number, number, foci, older)
        else:
            new = template(r, round_number, number, foci)
        if not is_taken_for_partial(new.body, new.l3):
            made.append(new)
    return made
