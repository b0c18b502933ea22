# SPDX-License-Identifier: Apache-2.0
"""A flow matches no more packets than OVS says.

Each row has two rules: one lets packets through, one of a lower priority drops what
is left.  A packet of the first kind makes a megaflow; then come such as the second
rule is for, and then all in reverse, with megaflows made anew.  OVS's serialisation of
megaflows leaves out some matches, so what the rules match is what it might forget.
"""
import concurrent.futures
import contextlib
import socket
import struct
import time

from lab import checksum
from suite import expect
from test_kernel_datapath import kernel_lab

N_FRAMES = 30
TARGET, OTHER = '2001:db8::1', '2001:db9::2'
HIS, HERS = '02:00:00:00:00:aa', '02:00:00:00:00:bb'
SOURCE_ADDRESS, TARGET_ADDRESS = 1, 2   # Options, RFC 4861 section 4.6.
NONCE = 14                              # RFC 3971 section 5.3.2.
SOLICIT, ADVERT = 135, 136
SYN, ACK = 0x02, 0x10


def mac(text):
    return bytes.fromhex(text.replace(':', ''))


def ethernet(lab, eth_type, payload, vlan=None):
    a, b = lab.hosts
    tag = b'' if vlan is None else struct.pack('!HH', 0x8100, vlan)
    return (mac(b.mac) + mac(a.mac) + tag + struct.pack('!H', eth_type)
            + payload).ljust(60, b'\0')


def ipv6(proto, payload):
    return struct.pack('!IHBB', 6 << 28, len(payload), proto, 255) + (
        socket.inet_pton(socket.AF_INET6, 'fd77::1')
        + socket.inet_pton(socket.AF_INET6, 'fd77::2') + payload)


def nd(kind, target=TARGET, option=None, address=HIS, reserved=0, code=0):
    """A Neighbour Discovery message."""
    body = struct.pack('!I', reserved) + socket.inet_pton(socket.AF_INET6,
                                                          target)
    if option:
        body += struct.pack('!BB', option, 1) + mac(address)
    pseudo = ipv6(0, b'')[8:] + struct.pack('!II', 4 + len(body), 58)
    header = struct.pack('!BBH', kind, code, 0)
    sum_ = checksum(pseudo + header + body)
    return ipv6(58, struct.pack('!BBH', kind, code, sum_) + body)


def ipv4(proto, payload, fragment=0):
    header = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(payload), 1, fragment,
                         64, proto, 0)
    addresses = socket.inet_aton('10.77.0.1') + socket.inet_aton('10.77.0.2')
    return header[:10] + struct.pack(
        '!H', checksum(header + addresses)) + addresses + payload


def tcp(flags, fragment=0):
    return ipv4(6, struct.pack('!HHIIBBHHH', 4000, 4001, 1, 1, 5 << 4, flags,
                               1000, 1, 0), fragment)


def ports(proto, dport):
    return ipv4(proto, struct.pack('!HHIII', 4000, dport, 1, 1, 1))


def icmp(kind, code):
    return ipv4(1, struct.pack('!BBHI', kind, code, 1, 1))


def echo6():
    return ipv6(58, struct.pack('!BBHI', 128, 0, 1, 1))


def arp(op, sender, target='10.77.0.2'):
    return struct.pack('!HHBBH', 1, 0x0800, 6, 4, op) + (
        mac(sender) + socket.inet_aton('10.77.0.1') + mac(HERS)
        + socket.inet_aton(target))


def mpls(*labels):
    stack = b''.join(struct.pack('!I', label << 12 | last << 8 | 64)
                     for label, last in labels)
    return stack + b'payload'.ljust(40, b'\0')


V6, V4, ARP, MPLS = 0x86dd, 0x0800, 0x0806, 0x8847
MORE, LATER = 0x2000, 0x0010            # Fields of the IPv4 header.
FROM_A = 'icmp6,ipv6_src=fd77::1'       # Not what a host says by itself.

# Description; what the first rule matches, and the second; the Ethernet type; a
# packet for the first one, and others for the second; a VLAN tag.
ROWS = [
    ('nd_target', 'nd_target=' + TARGET, 'icmp6,icmp_type=136',
     V6, nd(ADVERT), [nd(ADVERT, OTHER), nd(ADVERT, code=1)], None),
    ('nd_target of solicitations', 'nd_target=' + TARGET,
     'icmp6,icmp_type=135', V6, nd(SOLICIT), [nd(SOLICIT, OTHER)], None),
    ('nd_target, a prefix', 'nd_target=2001:db8::/32', 'icmp6,icmp_type=136',
     V6, nd(ADVERT), [nd(ADVERT, OTHER)], None),
    ('nd_target, VLAN', 'nd_target=' + TARGET, 'icmp6,icmp_type=136',
     V6, nd(ADVERT), [nd(ADVERT, OTHER)], 5),
    ('nd_target, icmp_code=0', 'icmp_code=0,nd_target=' + TARGET,
     'icmp6,icmp_type=136', V6, nd(ADVERT), [nd(ADVERT, OTHER)], None),
    ('nd_sll', 'nd_sll=' + HIS, 'icmp6,icmp_type=135', V6,
     nd(SOLICIT, option=SOURCE_ADDRESS),
     [nd(SOLICIT, option=SOURCE_ADDRESS, address=HERS), nd(SOLICIT)], None),
    ('nd_tll', 'nd_tll=' + HIS, 'icmp6,icmp_type=136', V6,
     nd(ADVERT, option=TARGET_ADDRESS),
     [nd(ADVERT, option=TARGET_ADDRESS, address=HERS), nd(ADVERT)], None),
    ('nd_reserved', 'nd_reserved=0x60000000', 'icmp6,icmp_type=136', V6,
     nd(ADVERT, reserved=0x60000000), [nd(ADVERT), nd(ADVERT, reserved=1)],
     None),
    ('nd_options_type', 'nd_options_type=2', 'icmp6,icmp_type=136', V6,
     nd(ADVERT, option=TARGET_ADDRESS),
     [nd(ADVERT, option=SOURCE_ADDRESS), nd(ADVERT, option=NONCE)], None),
    ('nd_target among other ICMPv6', 'icmp_type=136,nd_target=' + TARGET,
     FROM_A, V6, nd(ADVERT), [echo6(), nd(ADVERT, OTHER)], None),
    ('nd_sll among other ICMPv6', 'icmp_type=135,nd_sll=' + HIS, FROM_A, V6,
     nd(SOLICIT, option=SOURCE_ADDRESS), [echo6(), nd(SOLICIT)], None),
    ('nd_options_type among other ICMPv6', 'icmp_type=136,nd_options_type=2',
     FROM_A, V6, nd(ADVERT, option=TARGET_ADDRESS), [echo6(), nd(ADVERT)],
     None),
    ('a code of Neighbour Discovery', 'icmp_code=1', 'icmp6,icmp_type=136',
     V6, nd(ADVERT, code=1), [nd(ADVERT), nd(ADVERT, OTHER)], None),
    ('icmp_code alone', 'icmp_code=1', 'icmp', V4, icmp(3, 1),
     [icmp(3, 0), icmp(8, 0)], None),
    ('arp_sha without the opcode', 'arp_sha=' + HIS, 'arp', ARP, arp(1, HIS),
     [arp(1, HERS), arp(2, HERS), arp(3, HERS)], None),
    ('arp_tpa without the opcode', 'arp_tpa=10.77.0.2', 'arp', ARP,
     arp(2, HIS), [arp(2, HIS, '10.77.0.3'), arp(1, HIS, '10.77.0.3')], None),
    ('later fragments', 'ip_frag=later', 'ip', V4, tcp(0, LATER),
     [tcp(0), tcp(0, MORE)], None),
    ('first fragments', 'ip_frag=first', 'ip', V4, tcp(0, MORE),
     [tcp(0), tcp(0, LATER)], None),
    ('any fragments', 'ip_frag=yes', 'ip', V4, tcp(0, LATER), [tcp(0)], None),
    ('not later', 'ip_frag=not_later', 'ip', V4, tcp(0, MORE),
     [tcp(0, LATER)], None),
    ('tcp_flags', 'tcp_flags=+syn-ack', 'tcp', V4, tcp(SYN),
     [tcp(ACK), tcp(SYN | ACK), tcp(0, LATER)], None),
    ('one TCP flag', 'tcp_flags=+syn', 'tcp', V4, tcp(SYN | ACK),
     [tcp(ACK), tcp(0, LATER)], None),
    ('TCP ports', 'tcp_dst=4001', 'tcp', V4, tcp(ACK), [tcp(0, LATER)], None),
    ('some bits of a port', 'udp_dst=0x10/0xf0', 'udp', V4, ports(17, 0x10),
     [ports(17, 0x20), ports(17, 0)], None),
    ('SCTP ports', 'sctp_dst=5', 'sctp', V4, ports(132, 5), [ports(132, 6)],
     None),
    ('another protocol', 'nw_proto=2', 'ip', V4, ports(2, 5),
     [ports(17, 5), ports(3, 5)], None),
    ('mpls_label', 'mpls_label=5', 'mpls', MPLS, mpls((5, 1)),
     [mpls((6, 1))], None),
    ('mpls_bos', 'mpls_bos=1', 'mpls', MPLS, mpls((5, 1)),
     [mpls((5, 0), (6, 1))], None),
    ('vlan_tci', 'vlan_tci=0x1005/0x1fff', 'ip', V4, ports(17, 5),
     [ports(17, 5)], (5, 6)),
]

# Fields of which the kernel is told only under conditions, or never.  What it cannot match
# OVS sends to the slow path, and counts for the rule that a packet without the fields
# meets.
SLOW_PATH = ('nd_reserved', 'nd_options_type')
KERNEL_ROWS = [row for row in ROWS if row[0] in SLOW_PATH + (
    'nd_target', 'nd_target, VLAN', 'nd_sll', 'nd_tll', 'tcp_flags')]


def install(lab, of_ports, allowed, rest):
    """Rules for what goes from the first of these ports to the second."""
    path = lab.tmp + '/rules'
    with open(path, 'w') as f:
        for priority, match, actions in (
                (3, rest + ',' + allowed, 'output:%d' % of_ports[1]),
                (2, rest, 'drop')):
            print('priority=%d,in_port=%d,%s,actions=%s'
                  % (priority, of_ports[0], match, actions), file=f)
    lab.ovs.ofctl('del-flows', 'br0')
    lab.ovs.appctl('revalidator/purge')
    lab.ovs.ofctl('add-flows', 'br0', path)


def send(lab, frame, count):
    """Sends a frame again and again; returns how many arrive."""
    a, b = lab.hosts
    wanted = mac(b.mac) + mac(a.mac)
    sender, receiver = a.raw_socket(), b.raw_socket()
    receiver.settimeout(0.15)
    arrived = 0
    with contextlib.closing(sender), contextlib.closing(receiver):
        for _ in range(count):
            sender.send(frame)
            time.sleep(0.002)
        with contextlib.suppress(socket.timeout):
            while True:
                arrived += receiver.recv(2048)[:12] == wanted
    return arrived


def counted(lab):
    lab.ovs.appctl('revalidator/wait')
    return sorted(
        (line.split('priority=')[1][0], line.split('n_packets=')[1].split(',')[0])
        for line in lab.ovs.ofctl('dump-flows', 'br0').splitlines()
        if 'n_packets=' in line)


def play(lab, row):
    """How many packets of each frame arrive, and what the rules count: first in the
    row's order, then in reverse."""
    _, allowed, rest, eth_type, first, others, vlan = row
    tags = vlan if isinstance(vlan, tuple) else (vlan, vlan)
    frames = [ethernet(lab, eth_type, first, tags[0])] + [
        ethernet(lab, eth_type, frame, tags[1]) for frame in others]
    of_ports = [lab.ovs.of_port(host.port) for host in lab.hosts]
    results = []
    for order in (1, -1):
        install(lab, of_ports, allowed, rest)
        arrived = [send(lab, frame, N_FRAMES) for frame in frames[::order]]
        results.append((arrived[::order], counted(lab)))
    return results


def is_right(played):
    """Does all that is for the first rule arrive, and nothing else?"""
    return all(arrived[0] == N_FRAMES and not any(arrived[1:])
               for arrived, _ in played)


def compare(context, rows, make_lab, uncounted=()):
    """Plays rows with the offload and without, and expects the same of both, and
    what the rules say.  Not what they count in the rows with these names."""
    with contextlib.ExitStack() as stack:
        labs = [stack.enter_context(make_lab(offload=offload,
                                             acquainted=False))
                for offload in (True, False)]
        both = stack.enter_context(concurrent.futures.ThreadPoolExecutor(2))
        wrong = []
        for row in rows:
            ours, stock = both.map(lambda lab: play(lab, row), labs)
            if not (is_right(ours) and is_right(stock)
                    and (ours == stock or row[0] in uncounted)):
                wrong.append('%s: %s, without the offload %s'
                             % (row[0], ours, stock))
        in_xdp = sum(p['packets'] for p
                     in labs[0].ovs.offload_show()[1].values())
    context.note('%d matches; %d packets in XDP', len(rows), in_xdp)
    expect(not wrong, '%s', '\n'.join(wrong))
    expect(in_xdp > N_FRAMES * len(rows), 'only %d packets in XDP', in_xdp)


def test_widened(context):
    """Packets for which another rule is there do not take a flow's way."""
    compare(context, ROWS, context.lab)


def test_kernel_widened(context):
    """Nor do they in the kernel datapath, which cannot match all that OVS can."""
    compare(context, KERNEL_ROWS,
            lambda **options: kernel_lab(context, **options), SLOW_PATH)


TESTS = [
    ('widened', test_widened),
    ('kernel-widened', test_kernel_widened),
]
