#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random filters and packets, and changes between them: the kernel's TC is the judge.

    sudo ./tests/vm/run python3 tests/vm/flowerd_oracle.py --build build/release

Two networks of flowerd.py's with the same filters, one with the daemon and one with TC
alone.  Each frame has a number at its end.  What arrives at the other host, and what TC
lets pass up the switch's stack, must be the same, byte by byte.  While a
filter is changed, each packet must fare as before the change or as after it.  Every
other round is one of conversations (flowerd_talks.py), where the kernel can be asked for
connections.
"""
import argparse
import collections
import os
import random
import socket
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'system'))
sys.path.insert(0, HERE)
from flowerd import MODULES, Daemon, Network, drain, ethernet, packet_socket, receive  # noqa: E402
from flowerd_talks import Line, Talks  # noqa: E402
from lab import checksum, run  # noqa: E402
from suite import Failed, expect  # noqa: E402

MORE_MODULES = ('cls_basic', 'nf_conntrack_netlink')
ICMP, TCP, UDP, ICMPV6, MPLS_IN_IP = 1, 6, 17, 58, 137
IPV4, IPV6, ARP, VLAN, QINQ, MARK = 0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x88b5
TPIDS = {'802.1Q': VLAN, '802.1q': VLAN, '802.1ad': QINQ}
FILTERS = 10                    # Of a round.
FRAMES, CHANGES = 400, 4        # In a round, and after each change.
FRAMES_OF_CHANGE = 40
SILENCE = 0.03                  # Seconds; the frames behind the mark have come, too.
PATIENCE = 20                   # Until the mark comes, in an emulated machine.


# -- Frames -------------------------------------------------------------------

def pseudo_header(addresses, proto, length):
    return addresses + struct.pack('!II', length, proto)


def transport(draw, what, proto, addresses, icmp):
    """A header and some data, with a checksum that is right, mostly."""
    data = bytes(draw.getrandbits(8) for _ in range(draw.choice([20, 21, 200])))
    at = {TCP: 16, UDP: 6}.get(proto, 2)
    if proto == UDP:
        l4 = struct.pack('!HHHH', 1000, what['port'], 8 + len(data), 0) + data
    elif proto == TCP:
        l4 = struct.pack('!HHIIHHHH', 1000, what['port'], 1, 1,
                         0x5000 | draw.choice([2, 0x10, 0x12]), 99, 0, 0) + data
    elif proto == MPLS_IN_IP:
        return struct.pack('!I', 0x10040) + data
    else:
        l4 = struct.pack('!BBHI', draw.choice([0, 8]), 0, 0, 1) + data
    if proto == UDP and draw.random() < 0.1:
        return l4                   # Without a checksum.
    covered = b'' if icmp == ICMP and proto == ICMP else pseudo_header(
        addresses, proto, len(l4))
    total = checksum(covered + l4)
    if proto == UDP:
        total = total or 0xffff
    if draw.random() < 0.05:
        total ^= 1 << draw.randrange(16)
    return l4[:at] + struct.pack('!H', total) + l4[at + 2:]


def ipv4(draw, what):
    proto = what['proto']
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, what['dst']])
    l4 = transport(draw, what, proto, addresses, ICMP)
    options = draw.choice([b''] * 8 + [b'\x01\x01\x01\x01'])
    fragment = draw.choice([0] * 8 + [0x2000, 3, 0x2003])
    header = struct.pack('!BBHHHBBH', 0x45 + len(options) // 4, draw.choice([0, 0, 4]),
                         20 + len(options) + len(l4), 1, fragment,
                         what['ttl'], proto, 0) + addresses + options
    total = checksum(header)
    if draw.random() < 0.03:
        total ^= 1 << draw.randrange(16)
    return header[:10] + struct.pack('!H', total) + header[12:] + l4


def ipv6(draw, what):
    addresses = b''.join(bytes.fromhex('fc' + '00' * 14 + '%02x' % last)
                         for last in (1, what['dst']))
    proto = ICMPV6 if what['proto'] == ICMP else what['proto']
    l4 = transport(draw, what, proto, addresses, ICMPV6)
    return struct.pack('!IHBB', 0x60000000 | draw.choice([0, 0, 4]) << 20, len(l4), proto,
                       what['ttl']) + addresses + l4


def wanted_by(line):
    """What a filter's packets have."""
    words = dict(zip(line.split(' action ')[0].split(), line.split(' action ')[0].split()[1:]))
    what = {}
    tags = []
    kind = words['protocol']
    for name in ('vlan', 'cvlan'):
        if kind in TPIDS:
            tags.append((TPIDS[kind], int(words.get(name + '_id', 5))
                         | int(words.get(name + '_prio', 0)) << 13))
            kind = words.get(name + '_ethtype', '')
    if kind:
        what['kind'] = {'ip': IPV4, 'ipv6': IPV6, 'arp': ARP}[kind]
        what['tags'] = tags
    if 'ip_proto' in words:
        what['proto'] = {'tcp': TCP, 'udp': UDP}.get(words['ip_proto'], ICMP)
    for name, key in (('ip_ttl', 'ttl'), ('dst_port', 'port')):
        if name in words:
            what[key] = int(words[name].split('/')[0].split('-')[0])
    if 'dst_ip' in words:
        what['dst'] = int(words['dst_ip'].split('/')[0][-1])
    return what


def random_frame(draw, number, lines):
    """Mostly one that a filter wants."""
    what = {
        'tags': draw.choice([[], [], [], [(VLAN, 5)], [(VLAN, 0x6006)], [(VLAN, 0x7005)],
                             [(QINQ, 5)], [(VLAN, 5), (VLAN, 6)], [(VLAN, 0)],
                             [(QINQ, 5), (VLAN, 0x1006)]]),
        'proto': draw.choice([ICMP, TCP, UDP, TCP, UDP, TCP, UDP, MPLS_IN_IP]),
        'kind': draw.choice([IPV4] * 4 + [IPV6] * 2 + [ARP]),
        'dst': draw.choice([2, 2, 3]), 'ttl': draw.choice([63, 64]),
        'port': draw.choice([0, 53, 80, 81])}
    if draw.random() < 0.6:
        what.update(wanted_by(draw.choice(lines)))
    kind = what['kind']
    if kind == ARP:
        payload = bytes.fromhex('000108000604000%d020000000001' % draw.choice([1, 2, 3])
                                + '0a000001' + '000000000000' + '0a000002')
    else:
        payload = (ipv4 if kind == IPV4 else ipv6)(draw, what)
    return ethernet(what['tags'], kind, payload) + struct.pack('!I', number)


# -- Filters ------------------------------------------------------------------

def random_edit(draw, kind, proto):
    """pedit, and mostly the csum that it takes."""
    words, sums = ['action pedit ex'], set()
    ip = 'ip' if kind == 'ip' else 'ip6'
    if draw.random() < 0.5:
        words.append('munge eth %s set 02:00:00:00:00:0%d'
                     % (draw.choice(['src', 'dst']), draw.randrange(3, 6)))
    if kind != 'arp' and draw.random() < 0.6:
        words.append('munge ip ttl set 5' if kind == 'ip'
                     else 'munge ip6 hoplimit set 5')
        sums.add('ip4h')
    elif kind == 'ip' and draw.random() < 0.5:
        words.append('munge ip ttl dec')
        sums.add('ip4h')
    if kind != 'arp' and draw.random() < 0.3:
        words.append('munge ip tos set 4 retain 0xfc' if kind == 'ip'
                     else 'munge ip6 traffic_class set 4')
        sums.add('ip4h')
    if kind != 'arp' and draw.random() < 0.4:
        words.append('munge %s %s set %s' % (
            ip, draw.choice(['src', 'dst']), '10.0.0.9' if kind == 'ip' else 'fc00::9'))
        sums |= {'ip4h', 'tcp', 'udp', 'icmp'}
    if proto in ('tcp', 'udp') and draw.random() < 0.5:
        words.append('munge %s %s set 99' % (proto, draw.choice(['sport', 'dport'])))
        sums |= {'tcp', 'udp'}
    if len(words) == 1:
        words.append('munge eth dst set 02:00:00:00:00:07')
    if sums and draw.random() < 0.9:
        words.append('pipe action csum ' + ' and '.join(sorted(sums)))
    return ' '.join(words) + ' pipe '


def random_action(draw, kind, proto):
    redirect = ('action mirred egress redirect dev p2' if draw.random() < 0.7
                else 'action goto chain %d' % draw.randrange(1, 3))
    return draw.choice([
        'action drop', 'action ok', redirect, redirect, redirect,
        'action vlan pop pipe ' + redirect,
        'action vlan pop pipe action vlan modify id 8 priority 1 pipe ' + redirect,
        'action ct clear pipe ' + redirect,
        'action vlan push id 9 priority 3 pipe ' + redirect,
        'action vlan modify id 8 pipe ' + redirect,
        'action vlan modify id 8 priority 2 protocol 802.1ad pipe ' + redirect,
        'action mirred egress mirror dev p2 pipe action drop',
        random_edit(draw, kind, proto) + redirect,
        random_edit(draw, kind, proto) + redirect,
        random_edit(draw, kind, proto) + redirect])


def random_filter(draw):
    """A line for "tc -batch", from its preference on."""
    preference = draw.randrange(1, 12)
    tag = draw.choice(['', '', '', '802.1Q', '802.1ad'])
    kind = draw.choice(['ip', 'ip', 'ip', 'ip', 'ipv6', 'ipv6', 'arp'])
    words = ['pref %d protocol %s' % (preference, tag or kind)]
    words.append('chain %d' % draw.choice([0, 0, 0, 1, 2]))
    proto = ''
    if draw.random() < 0.04:
        words.append(draw.choice(['u32 match u32 0 0', 'matchall',
                                  'u32 match u32 2 3 at 16']))
    else:
        words.append('flower')
        if tag and draw.random() < 0.5:
            words.append('vlan_id %d' % draw.choice([0, 5, 6]))
        if tag and draw.random() < 0.3:
            words.append('vlan_prio %d' % draw.choice([0, 3]))
        if tag and draw.random() < 0.3:
            random_second_tag(draw, kind, words)
        elif tag:
            words.append('vlan_ethtype ' + kind)
        if draw.random() < 0.05:
            words.append('num_of_vlans %d' % draw.randrange(3))
        if kind != 'arp':
            proto = random_ip(draw, kind, words)
        elif draw.random() < 0.5:
            words.append(draw.choice(['arp_op request', 'arp_op reply', 'arp_op 3',
                                      'arp_tip 10.0.0.2', 'arp_tip 10.0.0.2 arp_op request',
                                      'arp_sip 10.0.0.0/24 arp_op reply',
                                      'arp_sha 02:00:00:00:00:01 arp_op request']))
    words.append(random_action(draw, kind, proto))
    return ' '.join(words)


def random_second_tag(draw, kind, words):
    words.append('vlan_ethtype ' + draw.choice(['802.1q', '802.1q', '802.1ad']))
    if draw.random() < 0.5:
        words.append('cvlan_id %d' % draw.choice([5, 6]))
    if draw.random() < 0.2:
        words.append('cvlan_prio %d' % draw.choice([0, 3]))
    words.append('cvlan_ethtype ' + kind)


def random_ip(draw, kind, words):
    address = {'ip': '10.0.0.%d', 'ipv6': 'fc00::%d'}[kind] % draw.choice([2, 2, 3])
    whole = 32 if kind == 'ip' else 128
    if draw.random() < 0.95:
        words.append('dst_ip %s/%d' % (address, draw.choice([8, 8, whole - 1, whole, whole])))
    if draw.random() < 0.2:
        words.append('src_ip %s/%d' % (address[:-1] + '1', draw.choice([8, whole])))
    if draw.random() < 0.3:
        words.append('ip_ttl %d' % draw.choice([63, 64]))
    if kind == 'ip' and draw.random() < 0.2:
        words.append('ip_flags ' + draw.choice(['frag', 'nofrag', 'firstfrag']))
    proto = draw.choice(['', 'tcp', 'tcp', 'udp', 'udp',
                         'icmp' if kind == 'ip' else 'icmpv6'])
    if proto:
        words.append('ip_proto ' + proto)
    if proto in ('tcp', 'udp') and draw.random() < 0.4:
        words.append('dst_port %s' % draw.choice(['0', '53', '80', '80/0xfff0', '0-52',
                                                  '53-80', '60-90', '80-81']))
    elif proto in ('tcp', 'udp') and draw.random() < 0.1:
        words.append('src_port %s' % draw.choice(['1000', '999-1001', '1000-1023']))
    if proto == 'tcp' and draw.random() < 0.2:
        words.append('tcp_flags 0x2/0x2')
    if proto.startswith('icmp') and draw.random() < 0.5:
        words.append('type %d' % draw.choice([0, 8]))
    return proto


# -- The networks -------------------------------------------------------------

class Watched:
    """A network of which is known what becomes of each frame."""

    def __init__(self, network):
        self.network = network
        self.arrival = packet_socket(network.hosts[1])
        self.passed = [packet_socket(network.switch, 'p1', kind)
                       for kind in (IPV4, IPV6, ARP, VLAN, QINQ)]
        for s in (self.arrival, *self.passed):
            s.settimeout(SILENCE)
        self.marks = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in (self.arrival, *self.passed):
            s.close()

    def fill(self, lines):
        """Some are refused: both refuse the same."""
        for s in (self.arrival, *self.passed):
            drain(s)
        self.network.batch(
            ['filter del dev p1 ingress chain %d' % chain for chain in range(3)]
            + ['filter add dev p1 ingress pref 60000 protocol 0x%x flower '
             'action mirred egress redirect dev p2' % MARK]
            + ['filter add dev p1 ingress ' + line for line in lines], '-force')

    def change(self, command):
        run('ip', 'netns', 'exec', self.network.switch, 'tc', *command.split(), check=False)

    def send(self, frames):
        for i, frame in enumerate(frames):
            self.network.send(frame)
            if i % 16 == 15:
                time.sleep(0.001)

    def results(self):
        """By number: what has come of the frames that were sent."""
        self.marks += 1
        mark = ethernet([], MARK, struct.pack('!I', self.marks))
        self.network.send(mark)
        found = collections.defaultdict(list)
        deadline = time.monotonic() + PATIENCE
        is_marked = False
        while True:
            try:
                frame = receive(self.arrival)
            except TimeoutError:
                if is_marked:
                    break
                expect(time.monotonic() < deadline, 'the mark has not come')
                continue
            if frame == mark:
                is_marked = True
            elif frame:
                add('arrived', frame, found)
        for s in self.passed:
            for frame in drain(s):
                add('passed', frame, found)
        return {number: sorted(what) for number, what in found.items()}

    def exchange(self, frames):
        self.send(frames)
        return self.results()


def add(where, frame, found):
    if frame[12:14] != struct.pack('!H', MARK):
        found[struct.unpack('!I', frame[-4:])[0]].append((where, frame))


class Oracle:
    def __init__(self, ours, theirs, daemon, seed):
        self.ours, self.theirs, self.daemon = ours, theirs, daemon
        self.seed, self.draw = seed, random.Random(seed)
        self.number = self.packets = self.rounds = self.changes = self.differed = 0
        self.repeated = 0
        self.lines = []

    def frames(self, n):
        lines = [line for line in self.lines if not line.startswith('change')]
        frames = [random_frame(self.draw, self.number + i, lines) for i in range(n)]
        self.number += n
        self.packets += n
        return frames

    def fail(self, frames, ours, *allowed):
        number = next(f for f in sorted(frames)
                      if all(ours.get(f, []) != a.get(f, []) for a in allowed))
        raise Failed('TEST_SEED=%d, round %d: %s\nfared as %s\nnot as %s\nof\n%s\n%s' % (
            self.seed, self.rounds, frames[number].hex(), shown(ours, number),
            [shown(a, number) for a in allowed], '\n'.join(self.lines),
            self.daemon.ask('explain', 'p1')))

    def compare(self, frames):
        """Nothing changes meanwhile.  A veth's ring may be full: once more then."""
        self.daemon.stats()
        theirs = self.theirs.exchange(frames)
        ours = self.ours.exchange(frames)
        if ours != theirs:
            self.repeated += 1
            theirs = self.theirs.exchange(frames)
            ours = self.ours.exchange(frames)
        if ours != theirs:
            self.fail({number_of(f): f for f in frames}, ours, theirs)

    def compare_change(self, command):
        frames = self.frames(FRAMES_OF_CHANGE)
        before = self.theirs.exchange(frames)
        self.theirs.change(command)
        after = self.theirs.exchange(frames)
        sender = threading.Thread(target=self.ours.send, args=(frames,))
        sender.start()
        self.ours.change(command)
        sender.join()
        ours = self.ours.results()
        self.changes += 1
        self.lines.append('change: ' + command)
        by_number = {number_of(f): f for f in frames}
        self.differed += before != after
        if any(ours.get(n, []) not in (before.get(n, []), after.get(n, []))
               for n in by_number):
            self.fail(by_number, ours, before, after)

    def random_change(self):
        draw = self.draw
        kind = draw.random()
        if kind < 0.4:
            return 'filter add dev p1 ingress ' + random_filter(draw)
        line = draw.choice([li for li in self.lines if 'flower' in li
                            and not li.startswith('change')])
        place = line.split(' flower ', maxsplit=1)[0]
        protocol = line.split()[3]
        if kind < 0.6:
            return 'filter del dev p1 ingress ' + place
        if kind < 0.65:
            return 'filter del dev p1 ingress chain %d' % draw.randrange(1, 3)
        if kind < 0.8:
            return 'filter del dev p1 ingress %s handle 1 flower' % place
        return 'filter replace dev p1 ingress %s' % line.replace(
            ' flower ', ' handle 1 flower ', 1).split(' action ')[0] + ' ' + random_action(
                draw, protocol, '')

    def round(self):
        self.lines = [random_filter(self.draw) for _ in range(FILTERS)]
        for side in (self.ours, self.theirs):
            side.fill(self.lines)
        self.compare(self.frames(FRAMES))
        for _ in range(CHANGES):
            self.compare_change(self.random_change())
            self.compare(self.frames(FRAMES))
        self.rounds += 1


def number_of(frame):
    return struct.unpack('!I', frame[-4:])[0]


def shown(results, number):
    return [(where, frame.hex()) for where, frame in results.get(number, [])] or 'dropped'


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', default='build/release')
    parser.add_argument('--packets', type=int, default=1000000)
    parser.add_argument('--seconds', type=int, default=1 << 30,
                        help='end after so many, with fewer packets')
    parser.add_argument('--what', choices=('frames', 'talks', 'both'), default='both')
    args = parser.parse_args()
    for module in MODULES + MORE_MODULES:
        run('modprobe', module, check=False)
    seed = int(os.environ.get('TEST_SEED') or random.getrandbits(32))
    name = 'fo%d' % os.getpid()
    start = time.monotonic()
    failed = 0
    with Network(name) as network, Network(name + 'x') as other, \
            Daemon(network, args.build) as daemon, \
            Watched(network) as ours, Watched(other) as theirs, \
            Line(network) as our_line, Line(other) as their_line:
        oracle = Oracle(ours, theirs, daemon, seed)
        talks = Talks(our_line, their_line, daemon, oracle.draw)
        try:
            while (oracle.packets < args.packets
                   and time.monotonic() < start + args.seconds):
                if args.what != 'talks':
                    oracle.round()
                if args.what != 'frames':
                    talks.round()
            executed = daemon.stats()['packets'] - talks.executed
            expect(executed >= oracle.packets / 50, 'only %d in XDP', executed)
            expect(talks.executed >= talks.packets / 20 or not talks.can_track(),
                   'only %d of %d of connections in XDP', talks.executed, talks.packets)
        except (Failed, OSError, RuntimeError, socket.timeout) as e:
            failed = 1
            print('FAILED oracle, seed %d, rounds %d and %d: %s' % (
                seed, oracle.rounds, talks.rounds, e))
        print('%s oracle (%.0f s): %d packets and %d changes, of which %d mattered, in %d '
              'rounds, %d executed in XDP, %d exchanges repeated; seed %d' % (
                  'FAILED' if failed else 'ok', time.monotonic() - start, oracle.packets,
                  oracle.changes, oracle.differed, oracle.rounds, daemon.stats()['packets'],
                  oracle.repeated, seed))
        print('%d packets in %d rounds of conversations, %d executed in XDP' % (
            talks.packets, talks.rounds, talks.executed))
    print('%d passed, %d failed, 0 skipped' % (1 - failed, failed))
    sys.exit(failed)


if __name__ == '__main__':
    main()
