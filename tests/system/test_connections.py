# SPDX-License-Identifier: Apache-2.0
"""Established connections go on in XDP while connection tracking is attacked.

  established: a -> b, and what b has answered
  attack:      host c, at a fixed rate, in the same conntrack zone

A stateful firewall: a and c may open connections to b, b may answer.  What the
attack costs is measured as in test_explosion.py: rounds without and with it
alternate.  What carries a forged number must not end a connection or take it
out of XDP, however often it comes.
"""
import contextlib
import os
import random
import re
import socket
import struct
import threading
import time

from lab import checksum, udp_frame, wait_for
from suite import Skipped, expect, passed
from test_explosion import (FLOWS, Attack, Established, compare, frame,
                            keep_off_core_0)

FIREWALL = ('priority=10,ip,actions=ct(table=1,zone=1)',
            'table=1,priority=9,ip,ct_state=+trk+inv,actions=drop',
            'table=1,priority=8,in_port={b},ip,ct_state=+trk+est,actions={a}',
            'table=1,priority=7,ip,ct_state=+trk+est,actions={b}',
            'table=1,priority=6,in_port={a},ip,ct_state=+trk+new,'
            'actions=ct(commit,zone=1),{b}')
MAY_OPEN = ('table=1,priority=5,in_port={c},ip,ct_state=+trk+new,'
            'actions=ct(commit,zone=1),{b}',)
MAY_NOT_OPEN = ('table=1,priority=5,in_port={c},ip,ct_state=+trk+new,'
                'actions=drop',)
MAX_CONNECTIONS = 4096
ROUNDS = 11                     # The attacks are two.
FIN, SYN, RST, ACK = 1, 2, 4, 16


def tcp_frame(src, dst, ports, seq, ack, flags, window=1000, options=b'', data=b''):
    """A segment; 'src' and 'dst' have the MAC and IPv4 addresses."""
    addresses = socket.inet_aton(src.ip4) + socket.inet_aton(dst.ip4)
    tcp = struct.pack('!HHIIHHHH', *ports, seq, ack, (20 + len(options)) << 10 | flags,
                      window, 0, 0)
    tcp = bytearray(tcp + options + data)
    tcp[16:18] = struct.pack('!H', checksum(
        addresses + struct.pack('!BBH', 0, 6, len(tcp)) + bytes(tcp)))
    ip = bytearray(struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(tcp), 0, 0, 64,
                               6, 0) + addresses)
    ip[10:12] = struct.pack('!H', checksum(bytes(ip)))
    macs = bytes.fromhex((dst.mac + src.mac).replace(':', ''))
    return macs + b'\x08\x00' + bytes(ip + tcp)


class Impostor:
    """An address that is not the host's own."""

    def __init__(self, host, ip4):
        self.mac, self.ip4 = host.mac, ip4


@contextlib.contextmanager
def firewall(context, rules, offload=True):
    """(lab, ExitStack) with three hosts."""
    if os.cpu_count() < 2:
        raise Skipped('needs two CPUs')
    config = ['pmd-cpu-mask=0x2',
              'xdp-offload-max-connections=%d' % MAX_CONNECTIONS]
    with context.lab(hosts=3, config=config, offload=offload) as lab, \
            contextlib.ExitStack() as stack:
        ports = {n: lab.ovs.of_port(h.port) for n, h in zip('abc', lab.hosts)}
        lab.ovs.ofctl('del-flows', 'br0')
        for rule in FIREWALL + rules:
            lab.ovs.ofctl('add-flow', 'br0', rule.format(**ports))
        keep_off_core_0(lab.ovs)
        yield lab, stack


class Connections(Established):
    """FLOWS connections of UDP from a to b, and the rate of their packets."""

    def open(self):
        """Each one has sent, and was answered twice."""
        a = Impostor(self.src, '10.88.0.1')
        with contextlib.closing(self.src.raw_socket()) as there, \
                contextlib.closing(self.dst.raw_socket()) as back:
            for i in range(FLOWS):
                b = Impostor(self.dst, '10.89.%d.%d' % divmod(i, 256))
                there.send(udp_frame(a, b, payload=b'x' * 18))
                time.sleep(0.001)
                for _ in range(2):
                    back.send(udp_frame(b, a, sport=4001, dport=4000))
                    time.sleep(0.0005)
        wait_for('all of them in XDP', self.is_in_xdp, timeout=20, interval=0.3)

    def is_in_xdp(self):
        before = passed(self.lab, self.src.port)
        self.rate(0.1)
        return passed(self.lab, self.src.port) == before


def in_table(lab):
    """What "show" says of XDP's table of connections."""
    text = lab.ovs.appctl('xdp-offload/show')
    return re.search(r'connections: .*', text)[0]


def syn_frames(c, b, n):
    choose = random.Random(3).randrange
    return [tcp_frame(Impostor(c, '10.66.%d.%d' % (choose(256), choose(256))),
                      b, (choose(1024, 65536), 80), choose(1 << 32), 0, SYN)
            for _ in range(n)]


def test_syn_flood(context):
    """A flood of SYNs fills the table: established connections go on in XDP."""
    with firewall(context, MAY_OPEN) as (lab, stack):
        a, b, c = lab.hosts
        established = Connections(context, stack, lab, a, b)
        established.open()
        compare(context, established,
                Attack(stack, c, syn_frames(c, b, 20000), 3000), ROUNDS)
        # The table is full now; whoever tries tuples makes OVS answer.
        context.note('%s', in_table(lab))
        choose = random.Random(2).randrange
        frames = [frame(c, b, choose(1 << 32), choose(1 << 32),
                        choose(1 << 16), choose(1 << 16))
                  for _ in range(20000)]
        unknown = passed(lab, c.port, 'ct-unknown')
        compare(context, established, Attack(stack, c, frames, 2000), ROUNDS)
        unknown = passed(lab, c.port, 'ct-unknown') - unknown
        expect(unknown > 1000, 'the table is not full: %d unknown', unknown)


class Echo:
    """A TCP connection from a to b: what is sent comes back, PPS times a second."""

    PPS = 500
    PORT = 7200

    def __init__(self, stack, a, b):
        listener = stack.enter_context(
            b.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((b.ip4, self.PORT))
        listener.listen()
        self.client = stack.enter_context(
            a.socket(socket.AF_INET, socket.SOCK_STREAM))
        self.client.settimeout(5)
        self.client.connect((b.ip4, self.PORT))
        self.server = stack.enter_context(listener.accept()[0])
        for s in (self.client, self.server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        stack.callback(self.end)

    def end(self):
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)
        self.thread.join()

    def serve(self):
        with contextlib.suppress(OSError):
            while data := self.server.recv(4096):
                self.server.sendall(data)

    def use(self, seconds):
        """How many messages have come back.  Raises OSError if it has ended."""
        begin, n = time.monotonic(), 0
        while time.monotonic() < begin + seconds:
            self.client.sendall(b'message!')
            left = 8
            while left:
                left -= len(self.client.recv(left))
            n += 1
            time.sleep(max(0, begin + n / self.PPS - time.monotonic()))
        return n

    def forged(self, a, b, c, n):
        """Segments that c sends in the name of both, in both directions, with
        numbers that it does not know."""
        choose = random.Random(4).randrange
        ports = self.client.getsockname()[1], self.PORT
        frames = []
        for _ in range(n):
            ends = (Impostor(c, a.ip4), Impostor(c, b.ip4))
            reverse = choose(2)
            src, dst = ends[::-1] if reverse else ends
            frames.append(tcp_frame(
                src, dst, ports[::-1] if reverse else ports, choose(1 << 32),
                choose(1 << 32), (RST, RST | ACK, FIN | ACK, SYN,
                                  SYN | ACK)[choose(5)]))
        return frames


def test_forged(context):
    """RSTs, FINs and SYNs with forged numbers: a connection goes on, in XDP."""
    with firewall(context, MAY_NOT_OPEN) as (lab, stack):
        a, b, c = lab.hosts
        echo = Echo(stack, a, b)
        quiet = echo.use(1)
        attack = Attack(stack, c, echo.forged(a, b, c, 10000), 2000)
        before = [passed(lab, h.port) for h in (a, b)]
        with attack.running():
            attacked = echo.use(3)
        missed = [passed(lab, h.port) - n for h, n in zip((a, b), before)]
        context.note('%d echoes in 1 s, %d in 3 s under attack; attack: %s; '
                     'packets of the connection in OVS: %s', quiet, attacked,
                     attack, missed)
        attack.expect_pace()
        expect(attacked / 3 >= 0.9 * quiet, 'the connection is slower')
        expect(sum(missed) <= 0.02 * 2 * attacked,
               'the attack takes the connection out of XDP')
        text = lab.ovs.appctl('dpctl/dump-conntrack')
        expect('sport=%d' % echo.client.getsockname()[1] in text
               and 'ESTABLISHED' in text, 'dump-conntrack: %s', text)


class Talk:
    """A connection of UDP from a to b, in which both say something in turn."""

    INTERVAL = 0.05

    def __init__(self, stack, lab, a, b):
        self.lab, self.a, self.b = lab, a, b
        self.there = stack.enter_context(contextlib.closing(a.raw_socket()))
        self.back = stack.enter_context(contextlib.closing(b.raw_socket()))

    def use(self, seconds=3 * INTERVAL):
        """Returns how many of the packets OVS has seen."""
        before = self.n_in_ovs()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.there.send(udp_frame(self.a, self.b))
            time.sleep(self.INTERVAL)
            self.back.send(udp_frame(self.b, self.a, sport=4001, dport=4000))
            time.sleep(self.INTERVAL)
        return self.n_in_ovs() - before

    def n_in_ovs(self):
        # Not what the hosts say of ports at which nobody listens ("ct-packet").
        return sum(passed(self.lab, h.port, reason) for h in (self.a, self.b)
                   for reason in ('ct-state', 'ct-unknown'))

    def use_until_in_xdp(self):
        wait_for('the connection in XDP', lambda: not self.use(), timeout=10)

    def is_known(self):
        return 'sport=4000' in self.lab.ovs.appctl('dpctl/dump-conntrack')

    def open_others(self, n):
        """Connections of one packet each, which OVS makes."""
        for i in range(n):
            self.there.send(udp_frame(self.a, self.b, sport=5000 + i))
            time.sleep(0.0005)


def test_lasting(context):
    """Connections, also older than the offload, last while XDP uses them, and no longer."""
    timeout, n = 2, MAX_CONNECTIONS * 3 // 4
    with firewall(context, MAY_NOT_OPEN, offload=False) as (lab, stack):
        ovs = lab.ovs
        ovs.vsctl('--', '--id=@d', 'create', 'Datapath', 'datapath_version=0',
                  '--', 'set', 'Open_vSwitch', '.', 'datapaths:netdev=@d')
        states = ('udp_first', 'udp_single', 'udp_multiple')
        ovs.vsctl('add-zone-tp', 'netdev', 'zone=1',
                  *('%s=%d' % (state, timeout + 1) for state in states))
        # OVS 3.5.0 does not notice a zone's policy before it changes.
        policy = ovs.vsctl('--bare', '--columns=_uuid', 'find',
                           'CT_Timeout_Policy').strip()
        ovs.vsctl('set', 'CT_Timeout_Policy', policy,
                  *('timeouts:%s=%d' % (state, timeout) for state in states))
        talk = Talk(stack, lab, *lab.hosts[:2])
        talk.there.send(udp_frame(talk.a, talk.b))
        wait_for('the connection', talk.is_known)
        ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:hw-offload=true',
                  'other_config:hw-offload-plugin=xdp')
        wait_for('the plugin', lambda: 'connections: ' in ovs.appctl(
            'xdp-offload/show'))
        talk.use_until_in_xdp()
        seen = talk.use(3 * timeout)
        expect(not seen, 'OVS has seen %d packets of a used connection', seen)
        expect(talk.is_known(), 'OVS has ended a connection that is used')
        time.sleep(timeout + 0.5)
        expect(talk.use(), 'a connection has not expired')
        talk.use_until_in_xdp()
        ovs.appctl('dpctl/flush-conntrack')
        expect(talk.use(), 'a connection that was flushed is executed')
        for _ in range(2):
            ovs.appctl('dpctl/flush-conntrack')
            time.sleep(1.5)     # The slots are free after a grace period.
            talk.open_others(n)
        context.note('%s', in_table(lab))
        expect('OVS has alone' not in in_table(lab), 'slots were lost')


TESTS = [
    ('connections-flood', test_syn_flood),
    ('connections-forged', test_forged),
    ('connections-lasting', test_lasting),
]
