# SPDX-License-Identifier: Apache-2.0
"""Conversations of TCP and UDP through TC's act_ct, for flowerd_oracle.py.

Random filters with ct at both ports of two switches, of which one has the daemon, and
random conversations between their hosts, step by step.  What arrives at each host, and
what TC lets pass up the stack, must be the same in each step; and the connections that
nf_conntrack has in the end.
"""
import collections
import os
import re
import socket
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'system'))
sys.path.insert(0, HERE)
from flowerd import drain, ethernet, packet_socket, receive  # noqa: E402
from lab import checksum, run  # noqa: E402
from suite import Failed, expect  # noqa: E402

TCP, UDP, ICMP = 6, 17, 1
IPV4, IPV6, MARK = 0x0800, 0x86dd, 0x88b5
TAG = struct.pack('!HH', 0x8100, 5)
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 0x10, 0x20
TALKS = 24                      # At once.
EXCHANGES = 6                   # Between a conversation's beginning and its end.
STREAM = 2.3                    # Seconds after which UDP with answers is assured.
SILENCE, PATIENCE = 0.03, 20    # As flowerd_oracle.py has them.
CLIENT, SERVER, PUBLIC, VIRTUAL = 1, 2, 9, 8     # The last bytes of addresses.


# -- Packets ------------------------------------------------------------------

Ends = collections.namedtuple('Ends', 'src dst src_port dst_port')


def turned(ends):
    return Ends(ends.dst, ends.src, ends.dst_port, ends.src_port)


def address(kind, last):
    return (bytes([10, 0, 0, last]) if kind == IPV4
            else bytes.fromhex('fc' + '00' * 14 + '%02x' % last))


def with_sum(kind, ends, proto, header, data, at):
    covered = (address(kind, ends.src) + address(kind, ends.dst)
               + struct.pack('!II', len(header + data), proto))
    total = checksum(covered + header + data)
    if proto == UDP:
        total = total or 0xffff
    return header[:at] + struct.pack('!H', total) + header[at + 2:] + data


def tcp(kind, ends, seq, ack, flags, data):
    header = struct.pack('!HHIIHHHH', ends.src_port, ends.dst_port, seq % (1 << 32),
                         ack % (1 << 32) if flags & ACK else 0, 0x5000 | flags, 500, 0, 0)
    return with_sum(kind, ends, TCP, header, data, 16)


def udp(kind, ends, data):
    header = struct.pack('!HHHH', ends.src_port, ends.dst_port, 8 + len(data), 0)
    return with_sum(kind, ends, UDP, header, data, 6)


def in_ip(kind, ends, proto, payload, ttl=64, fragment=0, options=b''):
    if kind == IPV6:
        return struct.pack('!IHBB', 0x60000000, len(payload), proto, ttl) + address(
            kind, ends.src) + address(kind, ends.dst) + payload
    header = struct.pack('!BBHHHBBH', 0x45 + len(options) // 4, 0,
                         20 + len(options) + len(payload), 1, fragment, ttl, proto, 0)
    header += address(kind, ends.src) + address(kind, ends.dst) + options
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + payload


def in_frame(kind, packet, tag=b''):
    """Without the padding that ethernet() has."""
    return ethernet([], kind, b'')[:12] + tag + struct.pack('!H', kind) + packet


def ends_of(frame):
    """Of a frame of ours that has arrived, with a tag or none."""
    if frame[12:14] == TAG[:2]:
        frame = frame[:12] + frame[16:]
    if frame[12:14] == struct.pack('!H', IPV4):
        addresses, ports = (frame[29], frame[33]), frame[34:38]
    else:
        addresses, ports = (frame[37], frame[53]), frame[54:58]
    return Ends(*addresses, *struct.unpack('!HH', ports))


class Talk:
    """A conversation: host 1 begins."""

    def __init__(self, draw, number, tag):
        self.draw, self.tag = draw, tag
        self.kind = draw.choice([IPV4, IPV4, IPV6])
        self.proto = draw.choice([TCP, TCP, UDP])
        self.there = Ends(CLIENT, draw.choice([SERVER, SERVER, VIRTUAL]), 1000 + number,
                          draw.choice([80, 81]))
        self.back = turned(self.there)      # Until it is known what has arrived.
        self.seq = {1: draw.getrandbits(32), 2: draw.getrandbits(32)}

    def learn(self, frame):
        self.back = turned(ends_of(frame))

    def frame(self, host, flags=ACK | PSH, data=b'', **more):
        ends = self.there if host == 1 else self.back
        if self.proto == UDP:
            payload = udp(self.kind, ends, data or b'?')
        else:
            payload = tcp(self.kind, ends, self.seq[host], self.seq[3 - host], flags, data)
            self.seq[host] += len(data) + (flags & (SYN | FIN) != 0)
        return in_frame(self.kind, in_ip(self.kind, ends, self.proto, payload, **more),
                        self.tag)

    def odd_frame(self, host):
        """One that is not what its connection expects, or that XDP does not parse."""
        draw = self.draw
        data = bytes(draw.getrandbits(8) for _ in range(20))
        kind = draw.randrange(11)
        if kind == 0:           # A checksum is wrong.
            frame = self.frame(host, data=data)
            return frame[:-1] + bytes([frame[-1] ^ 1])
        if kind == 1:           # Padding.
            return self.frame(host, data=b'short') + b'\x55' * 6
        if kind == 2:
            return self.frame(host, data=data, ttl=draw.choice([0, 1, 2]))
        if kind == 3:
            return self.frame(host, data=data, fragment=0x2000)
        if kind == 4:
            return self.frame(host, data=data, options=b'\x01\x01\x01\x01')
        if kind == 5:           # An echo.
            header = struct.pack('!BBHI', 8, 0, 0, 7) + data
            echo = header[:2] + struct.pack('!H', checksum(header)) + header[4:]
            ends = self.there if host == 1 else self.back
            return in_frame(IPV4, in_ip(IPV4, ends, ICMP, echo), self.tag)
        if kind == 6 and self.proto == UDP:
            frame = self.frame(host, data=data)
            at = 14 + len(self.tag) + (20 if self.kind == IPV4 else 40) + 6
            return frame[:at] + b'\0\0' + frame[at + 2:]
        seq = dict(self.seq)
        if kind == 7:           # Far away.
            self.seq[host] += draw.choice([1 << 20, 1 << 28, -1 << 28])
        flags = draw.choice([SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK | URG, URG, 0,
                             SYN | FIN, ACK, ACK | PSH])
        frame = self.frame(host, flags, data if flags & PSH else b'')
        self.seq = seq
        return frame

    def opening(self, step):
        """Of the handshake, or of three datagrams."""
        host = 2 if step == 1 else 1
        if self.proto == UDP:
            return host, [self.frame(host, data=b'hello')]
        return host, [self.frame(host, [SYN, SYN | ACK, ACK][step])]

    def burst(self, host):
        draw, frames = self.draw, []
        for _ in range(draw.randrange(1, 4)):
            if draw.random() < 0.12:
                frames.append(self.odd_frame(host))
            else:
                data = bytes(draw.getrandbits(8) for _ in range(draw.choice([0, 1, 50, 400])))
                frames.append(self.frame(host, ACK | (PSH if data else 0), data))
        return frames

    def closing(self, step):
        host = 1 if step % 2 == 0 else 2
        flags = ACK | (FIN if step < 2 else 0)
        if step == 0 and self.draw.random() < 0.3:
            flags = RST | ACK
        return host, [self.frame(host, flags)]


# -- Filters ------------------------------------------------------------------

def kinds():
    return (('ip', '10.0.0.0/8', '10.0.0.%d'), ('ipv6', 'fc00::/8', 'fc00::%d'))


class Rules:
    """Of one round: both ports have the same zones, so that answers are found."""

    def __init__(self, draw):
        self.draw = draw
        self.zone = draw.choice([0, 1, 7])
        self.translation = draw.choice(['', 'src', 'dst'])
        self.mark = draw.choice([0, 0, 5])
        self.label = draw.choice([0, 0, 1])
        self.tag = draw.choice([b'', b'', b'', TAG])

    def of(self, kind):
        """Packets of this kind."""
        return 'protocol ' + ('802.1Q flower vlan_id 5 vlan_ethtype %s' % kind if self.tag
                              else kind + ' flower')

    def ct(self, more=''):
        zone = self.zone if self.draw.random() < 0.95 else 9
        nat = ' nat' if self.translation and not more and self.draw.random() < 0.95 else ''
        return 'ct%s zone %d%s' % (more and ' ' + more, zone, nat)

    def commit(self, port, form):
        text = self.ct('commit')
        if self.translation and port == 1 and self.draw.random() < 0.9:
            text += ' nat %s addr %s' % (self.translation, form % (
                PUBLIC if self.translation == 'src' else SERVER))
        if self.mark:
            text += self.draw.choice([' mark 5', ' mark 1/1'])
        if self.label:
            text += ' label 1/3'
        return text

    def entrance(self, kind, net):
        draw = self.draw
        words = 'chain 0 pref %d %s dst_ip %s' % (
            1 if kind == 'ip' else 2, self.of(kind), net)
        words += draw.choice(['', '', ' ip_proto tcp', ' ip_proto udp'])
        words += draw.choice(['', ' ct_state -trk'])
        before = draw.choice([''] * 6 + [
            'action pedit ex munge eth dst set 02:00:00:00:00:07 pipe ',
            'action ct clear pipe '])
        return words + ' %saction %s pipe action goto chain 1' % (before, self.ct())

    def of_state(self, kind, net, form, port, chain):
        draw = self.draw
        state = draw.choice(['+trk+new', '+trk+est', '+trk+est', '+trk+est', '+trk+est-rpl',
                             '+trk+est+rpl', '+trk+inv', '+trk+rel', '+trk', '-trk', '+trk-new'])
        words = 'chain %d pref %d %s dst_ip %s ct_state %s' % (
            chain, draw.randrange(1, 5) * 2 + (kind == 'ip'), self.of(kind), net, state)
        if state.startswith('+') and draw.random() < 0.3:
            words += ' ct_zone %d' % draw.choice([self.zone, self.zone, 3])
        if state.startswith('+') and draw.random() < 0.3:
            words += ' ct_mark %s' % draw.choice(['5', '1/1', '0', '2/2'])
        if state.startswith('+') and draw.random() < 0.2:
            words += ' ct_label %s' % draw.choice(['1', '1/1', '0'])
        return words + ' ' + self.action(state, form, port, chain)

    def action(self, state, form, port, chain):
        draw = self.draw
        redirect = 'action mirred egress redirect dev p%d' % (3 - port)
        if state == '+trk+new':
            return 'action %s pipe %s' % (self.commit(port, form), redirect)
        on = [] if chain == 2 else [
            'action ct clear pipe action goto chain 2',
            'action %s pipe action goto chain 2' % self.ct(),
            'action ct zone 9 pipe action goto chain 2', 'action goto chain 2']
        return draw.choice([redirect] * 6 + on + [
            'action drop', 'action ok', 'action vlan pop pipe ' + redirect,
            'action %s pipe %s' % (self.ct(), redirect),
            'action %s pipe %s' % (self.commit(port, form), redirect),
            'action pedit ex munge eth dst set 02:00:00:00:00:08 pipe ' + redirect,
            'action pedit ex munge ip ttl set 9 pipe action csum ip4h pipe ' + redirect
            if form.startswith('10') else redirect,
            'action %s pipe action pedit ex munge eth src set 02:00:00:00:00:05 pipe %s'
            % (self.ct(), redirect)])

    def lines(self, port):
        """Of a port, for "tc -batch"."""
        draw, lines = self.draw, []
        for kind, net, form in kinds():
            lines.append(self.entrance(kind, net))
            last = 50 if kind == 'ip' else 51
            for chain in (1, 2):
                lines += [self.of_state(kind, net, form, port, chain)
                          for _ in range(draw.randrange(2, 5))]
                for state, what in (('+trk+new', self.commit(port, form) + ' pipe action '),
                                    ('+trk+est', ''), ('-trk', '')):
                    lines.append('chain %d pref %d %s dst_ip %s ct_state %s '
                                 'action %smirred egress redirect dev p%d' % (
                                     chain, last, self.of(kind), net, state, what, 3 - port))
        return lines


# -- The networks -------------------------------------------------------------

# So long that none ends while a round takes place, however slow this machine is.
TIMEOUTS = ['net.netfilter.nf_conntrack_%s=1000' % name for name in (
    *('tcp_timeout_' + state for state in (
        'syn_sent', 'syn_recv', 'fin_wait', 'close_wait', 'last_ack', 'time_wait', 'close',
        'max_retrans', 'unacknowledged')),
    'udp_timeout', 'udp_timeout_stream', 'icmp_timeout')]


class Line:
    """A network of which both hosts are heard."""

    def __init__(self, network):
        self.network = network
        run('ip', 'netns', 'exec', network.switch, 'sysctl', '-qw', *TIMEOUTS)
        self.hosts = [packet_socket(h) for h in network.hosts]
        self.passed = [packet_socket(network.switch, 'p%d' % n, kind)
                       for n in (1, 2) for kind in (IPV4, IPV6)]
        self.marks = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in (*self.hosts, *self.passed):
            s.close()

    def fill(self, lines_of):
        for s in (*self.hosts, *self.passed):
            drain(s)
        lines = []
        for port in (1, 2):
            on = 'dev p%d ingress ' % port
            lines += ['filter del %schain %d' % (on, chain) for chain in range(3)]
            lines.append('filter add %spref 60000 protocol 0x%x flower action mirred egress '
                         'redirect dev p%d' % (on, MARK, 3 - port))
            lines += ['filter add ' + on + line for line in lines_of[port]]
        self.network.batch(lines, '-force')

    def conntrack(self, what):
        return ''.join(run('ip', 'netns', 'exec', self.network.switch, 'conntrack', what,
                           '-f', family) for family in ('ipv4', 'ipv6'))

    def connections(self):
        """All that both networks have to have the same of."""
        text = self.conntrack('-L')
        return sorted(
            ' '.join(re.findall(r'^\w+|(?:src|dst|sport|dport|mark|zone)=\S+|'
                                r'\[(?:ASSURED|UNREPLIED)\]', line))
            for line in text.splitlines() if '=' in line)

    def send(self, host, frame):
        s = self.hosts[host - 1]
        s.settimeout(PATIENCE)
        while True:
            try:
                s.send(frame)
                return
            except OSError as e:
                if not isinstance(e, BlockingIOError) and e.errno != 105:
                    raise
                time.sleep(0.001)

    def exchange(self, host, frames):
        """What becomes of these: (where, frame), in any order."""
        for frame in frames:
            self.send(host, frame)
        self.marks += 1
        mark = ethernet([], MARK, struct.pack('!I', self.marks))
        self.send(host, mark)
        found = self.until_mark(self.hosts[2 - host], mark)
        for s in (*self.passed, self.hosts[host - 1]):
            found += [('other', frame) for frame in drain(s)]
        return sorted(found)

    def until_mark(self, s, mark):
        found, is_marked = [], False
        s.settimeout(SILENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                frame = receive(s)
            except (TimeoutError, socket.timeout):
                if is_marked:
                    return found
                expect(time.monotonic() < deadline, 'the mark has not come')
                continue
            if frame == mark:
                is_marked = True
            elif frame:
                found.append(('arrived', frame))


class Talks:
    """Rounds of conversations."""

    def __init__(self, ours, theirs, daemon, draw):
        self.sides = (ours, theirs)
        self.daemon, self.draw = daemon, draw
        self.lines, self.talks = {}, []
        self.packets = self.rounds = self.executed = 0

    def step(self, frames_of):
        """'frames_of': conversations' frames by host."""
        for host, frames in sorted(frames_of.items()):
            self.packets += len(frames)
            ours, theirs = (side.exchange(host, frames) for side in self.sides)
            if ours != theirs:
                self.fail(host, frames, ours, theirs)
            if host == 1:
                self.learn(theirs)

    def can_track(self):
        return 'action/ct\n' not in self.daemon.ask('explain')

    def learn(self, found):
        for where, frame in found:
            ends = ends_of(frame) if where == 'arrived' else None
            if ends and 1000 <= ends.src_port < 1000 + len(self.talks):
                self.talks[ends.src_port - 1000].learn(frame)

    def fail(self, host, frames, ours, theirs):
        def only(these, others):
            rest = list(others)
            return [(w, f.hex()) for w, f in these
                    if (w, f) not in rest or rest.remove((w, f))]
        raise Failed('of %d frames of host %d:\n%s\nours alone: %s\ntheirs alone: %s\n%s\n%s' % (
            len(frames), host, '\n'.join(f.hex() for f in frames), only(ours, theirs),
            only(theirs, ours), '\n'.join('p%d: %s' % (port, line) for port in (1, 2)
                                          for line in self.lines[port]),
            self.daemon.ask('explain')))

    def all_say(self, what):
        frames_of = {}
        for talk in self.talks:
            host, frames = what(talk)
            frames_of.setdefault(host, []).extend(frames)
        self.step(frames_of)

    def round(self):
        rules = Rules(self.draw)
        self.lines = {port: rules.lines(port) for port in (1, 2)}
        for side in self.sides:
            side.fill(self.lines)
            side.conntrack('-F')
        self.talks = [Talk(self.draw, n, rules.tag) for n in range(TALKS)]
        before = self.daemon.stats()['packets']
        for step in range(3):
            self.all_say(lambda talk, step=step: talk.opening(step))
        time.sleep(STREAM)
        for i in range(EXCHANGES):
            for host in (1, 2):
                self.all_say(lambda talk, host=host: (host, talk.burst(host)))
            if i == EXCHANGES // 2 and self.draw.random() < 0.5:
                self.change()
        for step in range(4):
            self.all_say(lambda talk, step=step: talk.closing(step))
        self.executed += self.daemon.stats()['packets'] - before
        ours, theirs = (side.connections() for side in self.sides)
        expect(ours == theirs, 'connections, ours alone: %s, theirs alone: %s',
               sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours)))
        self.rounds += 1

    def change(self):
        """A filter goes, while no packet is on its way."""
        port = self.draw.choice([1, 2])
        line = self.draw.choice(self.lines[port])
        place = line.split(' flower ', maxsplit=1)[0]
        for side in self.sides:
            side.network.batch(['filter del dev p%d ingress %s' % (port, place)], '-force')
        self.lines[port].append('deleted: ' + place)
        self.daemon.stats()
