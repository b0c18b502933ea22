#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""xdp-flowerd with the kernel's own TC: what is executed in XDP is what TC does.

    sudo ./tests/vm/run python3 tests/vm/flowerd.py --build build/release

  host 1, eth0 -veth- p1   switch   p2 -veth- eth0, host 2

Each in a network namespace of its own; the switch's has the filters.  Frames carry
numbers, so that each one's way is known.  Needs root, tc and a kernel with flower.
"""
import argparse
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'system'))
from lab import checksum, in_netns, run, wait_for  # noqa: E402
from suite import Failed, expect  # noqa: E402

MODULES = ('veth', 'sch_ingress', 'sch_prio', 'cls_flower', 'cls_u32', 'cls_matchall', 'act_gact',
           'act_mirred', 'act_vlan', 'act_ct', 'act_pedit', 'act_csum')
PORT = 4000                     # Of numbered frames.
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
SO_RCVBUFFORCE = 33
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
START_LIMIT = 60                # Seconds, in an emulated machine.
SETTLE_LIMIT = 20
BURST = 16                      # Frames that a veth surely has room for.
QUIET = 0.5                     # Seconds without a frame: none is on its way.


def packet_socket(namespace, device='eth0', protocol=ETH_P_ALL):
    """Of ETH_P_ALL, what has come before TC; else what TC has let pass."""
    with in_netns(namespace):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        s.bind((device, protocol))
    return s


def receive(s):
    """A frame that has come from another host, with its tag; None: of our own."""
    data, ancillary, _, address = s.recvmsg(65536, 256)
    if address[2] == socket.PACKET_OUTGOING:
        return None
    for _, kind, aux in ancillary:
        if kind == PACKET_AUXDATA:
            status, _, _, _, _, tci, tpid = struct.unpack('IIIHHHH', aux[:20])
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                data = data[:12] + struct.pack('!HH', tpid, tci) + data[12:]
    return data


def drain(s):
    """Returns all that has come."""
    frames = []
    timeout = s.gettimeout()
    s.setblocking(False)
    try:
        while True:
            frame = receive(s)
            if frame:
                frames.append(frame)
    except BlockingIOError:
        s.settimeout(timeout)
    return frames


class Listener:
    """Collects what arrives, with times."""

    def __init__(self, namespace):
        self.frames = []
        self.socket = packet_socket(namespace)
        self.socket.settimeout(0.1)
        self.last = time.monotonic()
        self.done = False
        self.thread = threading.Thread(target=self.collect)
        self.thread.start()

    def collect(self):
        while not self.done or time.monotonic() < self.last + QUIET:
            try:
                frame = receive(self.socket)
            except TimeoutError:
                continue
            if frame:
                self.last = time.monotonic()
                self.frames.append(frame)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done = True
        self.last = time.monotonic()
        self.thread.join()
        self.socket.close()


# -- Frames -------------------------------------------------------------------

ADDRESSES = bytes.fromhex('020000000002020000000001')


def ethernet(tags, kind, payload):
    head = ADDRESSES
    for tpid, tci in tags:
        head += struct.pack('!HH', tpid, tci)
    return (head + struct.pack('!H', kind) + payload).ljust(60, b'\0')


def ipv4(proto, payload, dst=2, fragment=0, options=b'', ttl=64, src=1):
    header = struct.pack('!BBHHHBBH4B4B', 0x45 + len(options) // 4, 0,
                         20 + len(options) + len(payload), 1, fragment, ttl, proto, 0,
                         10, 0, 0, src, 10, 0, 0, dst) + options
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + payload


def ipv6(proto, payload, dst=2):
    return struct.pack('!IHBB16s16s', 0x60000000, len(payload), proto, 64,
                       bytes.fromhex('fc' + '00' * 14 + '01'),
                       bytes.fromhex('fc' + '00' * 14 + '%02x' % dst)) + payload


def udp(dst_port, data):
    return struct.pack('!HHHH', 1000, dst_port, 8 + len(data), 0) + data


def numbered(n):
    return ethernet([], 0x0800, ipv4(17, udp(PORT, struct.pack('!I', n) + bytes(26))))


def numbers(frames):
    """Of those that arrived."""
    return [struct.unpack('!I', f[42:46])[0] for f in frames
            if f[12:14] == b'\x08\x00' and f[36:38] == struct.pack('!H', PORT)]


# -- The network --------------------------------------------------------------

class Network:
    """Two hosts and a switch between them."""

    def __init__(self, name):
        self.switch = name + '-sw'
        self.hosts = [name + '-h1', name + '-h2']

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.sender.close()
        self.remove()

    def remove(self):
        for namespace in (self.switch, *self.hosts):
            run('ip', 'netns', 'del', namespace, check=False)

    def make(self):
        for namespace in (self.switch, *self.hosts):
            run('ip', 'netns', 'add', namespace)
        for namespace in (self.switch, *self.hosts):
            run('ip', 'netns', 'exec', namespace, 'sysctl', '-qw',
                'net.ipv6.conf.default.disable_ipv6=1')
        for n in (1, 2):
            self.plug(n)
        self.sender = packet_socket(self.hosts[0])

    def plug(self, n):
        """Connects a host."""
        host, port = self.hosts[n - 1], 'p%d' % n
        run('ip', '-n', self.switch, 'link', 'add', port, 'type', 'veth', 'peer',
            'name', 'eth0', 'netns', host)
        run('ip', '-n', host, 'link', 'set', 'eth0', 'address', '02:00:00:00:00:0%d' % n)
        run('ip', 'netns', 'exec', host, 'ethtool', '-K', 'eth0', 'gro', 'on',
            'txvlan', 'off')
        run('ip', '-n', host, 'link', 'set', 'eth0', 'up')
        run('ip', '-n', self.switch, 'link', 'set', port, 'up')
        self.tc('qdisc', 'add', 'dev', port, 'clsact')

    def tc(self, *args):
        return run('ip', 'netns', 'exec', self.switch, 'tc', *args)

    def batch(self, lines, *options):
        """'-force': what fails is left out, and the rest is done."""
        subprocess.run(['ip', 'netns', 'exec', self.switch, 'tc', *options, '-batch', '-'],
                       input='\n'.join(lines) + '\n', text=True,
                       check='-force' not in options, stderr=subprocess.DEVNULL
                       if '-force' in options else None)

    def filter(self, what, preference, rest=''):
        self.tc('filter', what, 'dev', 'p1', 'ingress', 'pref', str(preference),
                *rest.split())

    def flush(self):
        self.tc('filter', 'del', 'dev', 'p1', 'ingress')

    def send(self, frame):
        """Again if the veth had no room, and dropped it."""
        while True:
            try:
                self.sender.send(frame)
                return
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise
                time.sleep(0.001)

    def exchange(self, frames):
        """What arrives of these at the other host."""
        with Listener(self.hosts[1]) as listener:
            for i, frame in enumerate(frames):
                self.send(frame)
                if i % BURST == 0:
                    time.sleep(0.001)
        return listener.frames


def ask_stats(control):
    """When they are there, what TC has told of before has been followed."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(control)
        s.sendall(b'stats --json\n')
        return json.loads(b''.join(iter(lambda: s.recv(1 << 20), b'')))


class Daemon:
    def __init__(self, network, build, *args, devices=('p1', 'p2')):
        self.network = network
        self.program = build + '/flowerd/xdp-flowerd'
        self.control = '/run/%s.sock' % network.switch
        self.args = ('--control', self.control, *args, *devices)
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            ['ip', 'netns', 'exec', self.network.switch, self.program, 'run',
             *self.args], stderr=subprocess.PIPE, text=True)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if 'following TC' in line:
                break
        else:
            raise Failed('no daemon: ' + ''.join(lines))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(START_LIMIT)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

    def ask(self, *args):
        return run(self.program, *args, '--control', self.control)

    def stats(self):
        return ask_stats(self.control)

    def filters(self, device='p1'):
        """By (pref, handle), or (pref, handle, chain) if it is not the first chain."""
        return {(f['pref'], f['handle'], f['chain'])[:3 if f['chain'] else 2]: f
                for d in self.stats()['devices'] if d['name'] == device
                for f in d['filters']}

    def wait_for(self, *in_xdp):
        """Until these, as in filters(), and no others are in XDP."""
        wait_for('in XDP: %s; it is\n%s' % (in_xdp, self.ask('explain')),
                 lambda: sorted(k for k, f in self.filters().items() if f['in_xdp'])
                 == sorted(in_xdp), SETTLE_LIMIT)


class Stream:
    """Numbered frames, one each millisecond or so, until the end."""

    def __init__(self, network):
        self.network, self.sent, self.done = network, {}, False
        self.listener = Listener(network.hosts[1])
        self.thread = threading.Thread(target=self.send)
        self.thread.start()

    def send(self):
        n = 0
        while not self.done:
            self.sent[n] = time.monotonic()
            self.network.send(numbered(n))
            n += 1
            time.sleep(0.001)

    def __enter__(self):
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.done = True
        self.thread.join()
        self.listener.__exit__()
        self.arrived = numbers(self.listener.frames)

    def expect_once(self):
        expect(len(self.arrived) == len(set(self.arrived)), 'some came twice')

    def expect_all(self):
        """Where a filter moves, one packet may overtake another."""
        self.expect_once()
        expect(len(self.arrived) == len(self.sent), '%d of %d arrived: %s',
               len(self.arrived), len(self.sent),
               sorted(set(self.sent) - set(self.arrived))[:10])


# -- The tests ----------------------------------------------------------------

TO_HOST_2 = ('protocol ip flower dst_ip 10.0.0.2 action mirred egress redirect dev p2')
DROP_PORT = ('protocol ip flower dst_ip 10.0.0.2 ip_proto udp dst_port %d action drop'
             % PORT)


def test_exact(network, daemon, note):
    """Packets that XDP has executed are counted, and TC has seen none of them"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    sent = [numbered(n) for n in range(1000)]
    expect(numbers(network.exchange(sent)) == list(range(1000)), 'not all came')
    counted = daemon.filters()[10, 1]
    expect((counted['packets'], counted['bytes']) == (1000, 1000 * len(sent[0])),
           'counted %s', counted)
    expect(in_tc(network) == [0], 'TC has counted %s', in_tc(network))
    note('1000 of 1000 packets')


def attribute(message, begin, end, path):
    """Where the payload is of the attribute that a path of types leads to."""
    while begin < end:
        length, kind = struct.unpack_from('HH', message, begin)
        if kind & 0x3fff == path[0]:
            inside = (begin + 4, begin + length)
            return attribute(message, *inside, path[1:]) if path[1:] else inside
        begin += (length + 3) & ~3
    return None


def rtnetlink(namespace, kind, flags, payload):
    """What the kernel answers: a message, or an acknowledgement with an error of 0."""
    with in_netns(namespace):
        s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    with s:
        s.send(struct.pack('IHHII', 16 + len(payload), kind, flags | 1, 1, 0) + payload)
        answer = s.recv(65536)
    if struct.unpack_from('H', answer, 4)[0] == 2:      # NLMSG_ERROR
        error = struct.unpack_from('i', answer, 16)[0]
        expect(error == 0, 'rtnetlink: %s', os.strerror(-error))
    return answer


def in_tc(network):
    """What TC has counted of the one filter."""
    seen = json.loads(network.tc('-s', '-j', 'filter', 'show', 'dev', 'p1', 'ingress'))
    return [f['options']['actions'][0]['stats']['packets'] for f in seen
            if 'options' in f and f['options'].get('actions')]


def test_counters(network, daemon, note):
    """Nobody but a driver can add to TC's own counters: what is written to them is not read"""
    new_filter, get_filter, new_action = 44, 46, 48
    replace, acknowledge = 0x100, 4
    network.filter('add', 10, 'handle 1 ' + TO_HOST_2)
    daemon.wait_for((10, 1))
    with in_netns(network.switch):
        ifindex = socket.if_nametoindex('p1')
    which = struct.pack('BxxxiIII', 0, ifindex, 1, 0xfffffff2, 10 << 16 | 0x0008)
    told = bytearray(rtnetlink(network.switch, get_filter, 0, which + struct.pack(
        'HH8s', 11, 1, b'flower\0')))
    # TCA_OPTIONS, TCA_FLOWER_ACT, the first one, TCA_ACT_STATS, TCA_STATS_BASIC
    begin, _ = attribute(told, 36, len(told), (2, 3, 1, 4, 1))
    struct.pack_into('QI', told, begin, 1000000, 12345)
    # "not in hardware" is for the kernel alone to say: TCA_OPTIONS, TCA_FLOWER_FLAGS.
    struct.pack_into('I', told, attribute(told, 36, len(told), (2, 22))[0], 0)
    rtnetlink(network.switch, new_filter, replace | acknowledge, bytes(told[16:]))
    expect(in_tc(network) == [0], 'TC has %s', in_tc(network))
    # The same of the action alone: TCA_ACT_TAB with a list as TCA_FLOWER_ACT has it.
    begin, end = attribute(told, 36, len(told), (2, 3))
    actions = bytes(told[begin:end])
    rtnetlink(network.switch, new_action, replace | acknowledge,
              bytes(4) + struct.pack('HH', 4 + len(actions), 1) + actions)
    expect(in_tc(network) == [0], 'TC has %s', in_tc(network))
    daemon.wait_for((10, 1))
    network.exchange([numbered(n) for n in range(10)])
    expect((in_tc(network), daemon.filters()[10, 1]['packets']) == ([0], 10),
           'TC has %s, XDP %s', in_tc(network), daemon.filters())
    note('12345 packets were written, and 10 were in XDP; tc -s has 0')


def test_overlap(network, daemon, note):
    """An earlier filter that is added under traffic wins, and ends with its deletion"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    with Stream(network) as stream:
        network.filter('add', 5, DROP_PORT)
        added = time.monotonic()
        daemon.wait_for((5, 1))
        time.sleep(0.3)
        network.filter('del', 5, 'handle 1 protocol ip flower')
        deleted = time.monotonic()
        daemon.wait_for((10, 1))
        time.sleep(0.3)
    arrived = set(stream.arrived)
    lost = [n for n in stream.sent if n not in arrived]
    stream.expect_once()
    expect(lost and lost == list(range(lost[0], lost[-1] + 1)),
           'some were dropped, and some not: %s', lost)
    note('%d dropped; the last packet that was treated by the old filters was sent '
         '%+.1f ms after tc had added the filter, and %+.1f ms after it had deleted it',
         len(lost), 1000 * (stream.sent[lost[0] - 1] - added),
         1000 * (stream.sent[lost[-1]] - deleted))
    note('; the daemon took up to %.1f ms for a change',
         daemon.stats()['tc']['longest_us'] / 1000)
    late = max(stream.sent[lost[0] - 1] - added, stream.sent[lost[-1]] - deleted)
    expect(late < 1, 'the old filters were executed for %.2f s', late)


def test_flush(network, daemon, note):
    """No filter is executed while those before it are flushed with it"""
    daemon.wait_for()
    with Stream(network) as stream:
        for _ in range(3):
            network.batch(
                ['filter add dev p1 ingress pref 1 protocol ip flower src_ip 10.0.0.1 '
                 'action drop']
                + ['filter add dev p1 ingress pref %d protocol ip flower dst_ip 10.0.1.%d '
                   'action drop' % (i, i) for i in range(2, 100)]
                + ['filter add dev p1 ingress pref 100 ' + TO_HOST_2])
            daemon.wait_for((1, 1))
            network.flush()
            daemon.wait_for()
    expect(not stream.arrived, '%d arrived', len(stream.arrived))
    note('3 times')


def test_replace(network, daemon, note):
    """A filter that is replaced changes what is done with its packets"""
    network.filter('add', 10, 'handle 1 ' + TO_HOST_2)
    daemon.wait_for((10, 1))
    with Stream(network) as stream:
        network.filter('replace', 10, 'handle 1 ' + TO_HOST_2.replace(
            'mirred egress redirect dev p2', 'drop'))
        time.sleep(0.4)
        network.filter('replace', 10, 'handle 1 ' + TO_HOST_2)
        time.sleep(0.4)
    lost = sorted(set(stream.sent) - set(stream.arrived))
    expect(lost and lost == list(range(lost[0], lost[-1] + 1)), 'lost: %s', lost)
    expect(0 in stream.arrived and len(stream.sent) - 1 in stream.arrived, 'no change')
    note('%d of %d dropped, one after the other', len(lost), len(stream.sent))


def test_moves(network, daemon, note):
    """No packet is lost while its filter leaves XDP and comes back"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    with Stream(network) as stream:
        for _ in range(3):
            network.filter('add', 5, 'protocol ip u32 match u32 1 0xffffffff at 0')
            daemon.wait_for()
            network.filter('del', 5)
            daemon.wait_for((10, 1))
    stream.expect_all()
    executed = daemon.filters()[10, 1]['packets']
    expect(0 < executed < len(stream.sent), 'executed: %d', executed)
    note('%d of %d packets in XDP, none lost', executed, len(stream.sent))


def test_shared(network, daemon, note):
    """What is not followed is left to TC, with a reason"""
    network.filter('add', 10, TO_HOST_2)
    network.filter('add', 12, 'protocol ip flower dst_ip 10.0.0.4/32 skip_hw action ok')
    network.filter('add', 13, 'protocol ip flower dst_ip 0.0.0.0/0 action drop')
    daemon.wait_for((10, 1))
    text = daemon.ask('explain', 'p1')
    for line in ('pref 12 handle 0x1 flower: in TC, action/pass',
                 'pref 13 handle 0x1 flower: in TC, key/no_address'):
        expect(line in text, '%s is not in\n%s', line, text)
    network.tc('filter', 'add', 'dev', 'p2', 'egress', 'pref', '1', 'protocol', 'all',
               'matchall', 'action', 'ok')
    daemon.wait_for()
    expect('output/egress_filters' in daemon.ask('explain', 'p1'), 'no reason')
    network.tc('filter', 'del', 'dev', 'p2', 'egress')
    daemon.wait_for((10, 1))
    network.tc('qdisc', 'del', 'dev', 'p1', 'clsact')
    daemon.wait_for()
    network.tc('qdisc', 'add', 'dev', 'p1', 'ingress_block', '7', 'clsact')
    network.tc('filter', 'add', 'block', '7', 'pref', '10', *TO_HOST_2.split())
    time.sleep(0.5)
    daemon.wait_for()
    network.tc('qdisc', 'del', 'dev', 'p1', 'clsact')
    network.tc('qdisc', 'add', 'dev', 'p1', 'clsact')
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    note('blocks, egress filters')


def test_chains(network, daemon, note):
    """A packet goes from chain to chain in XDP, or all its way in TC"""
    network.filter('add', 10, 'protocol ip flower dst_ip 10.0.0.2 action pedit ex munge '
                   'ip ttl set 5 pipe action csum ip4h pipe action goto chain 3')
    network.filter('add', 5, 'protocol ip chain 3 flower dst_ip 10.0.0.3 action drop')
    daemon.wait_for((5, 1, 3), (10, 1))
    sent = [numbered(n) for n in range(100)]
    expect(not network.exchange(sent), 'chain 3 has no filter for these')
    network.filter('add', 6, 'protocol ip chain 3 flower dst_ip 10.0.0.2 ip_ttl 5 action '
                   'mirred egress redirect dev p2')
    daemon.wait_for((5, 1, 3), (6, 1, 3), (10, 1))
    expect(numbers(network.exchange(sent)) == list(range(100)), 'not all came')
    stats = daemon.stats()
    expect(stats['packets'] == 100, 'in XDP: %s', stats)
    expect('chain 3 pref 6 handle 0x1 flower: in XDP' in daemon.ask('explain', 'p1'),
           'explain: %s', daemon.ask('explain'))
    network.tc('filter', 'add', 'dev', 'p1', 'ingress', 'chain', '3', 'pref', '1',
               'protocol', 'ip', 'u32', 'match', 'u32', '0', '0', 'action', 'drop')
    daemon.wait_for((10, 1))
    expect(not network.exchange(sent), 'chain 3 drops these')
    network.tc('filter', 'del', 'dev', 'p1', 'ingress', 'chain', '3')
    daemon.wait_for((10, 1))
    network.tc('chain', 'add', 'dev', 'p1', 'ingress', 'chain', '4')
    network.tc('chain', 'del', 'dev', 'p1', 'ingress', 'chain', '4')
    daemon.wait_for((10, 1))
    note('')


def test_qdiscs(network, daemon, note):
    """Filters of other qdiscs are no matter, whatever their preference"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    network.tc('qdisc', 'add', 'dev', 'p1', 'root', 'handle', '1:', 'prio')
    for preference in ('5', '10'):
        network.tc('filter', 'add', 'dev', 'p1', 'parent', '1:', 'pref', preference,
                   *DROP_PORT.split())
    network.tc('filter', 'del', 'dev', 'p1', 'parent', '1:', 'pref', '10')
    time.sleep(0.5)
    expect(list(daemon.filters()) == [(10, 1)], 'filters: %s', daemon.filters())
    sent = [numbered(n) for n in range(100)]
    expect(numbers(network.exchange(sent)) == list(range(100)), 'not all came')
    expect(daemon.filters()[10, 1]['packets'] == 100, 'not all in XDP')
    network.tc('qdisc', 'del', 'dev', 'p1', 'clsact')
    network.tc('qdisc', 'add', 'dev', 'p1', 'ingress')
    network.tc('filter', 'add', 'dev', 'p1', 'parent', 'ffff:', 'pref', '11',
               *TO_HOST_2.split())
    daemon.wait_for((11, 1))
    network.tc('qdisc', 'del', 'dev', 'p1', 'ingress')
    daemon.wait_for()
    network.tc('qdisc', 'replace', 'dev', 'p1', 'root', 'handle', 'ffff:', 'prio')
    network.tc('filter', 'add', 'dev', 'p1', 'parent', 'ffff:', 'pref', '11',
               *DROP_PORT.split())
    time.sleep(2)
    daemon.wait_for()
    note('')


def test_actions(network, daemon, note):
    """An action that is changed by its index is followed"""
    network.tc('actions', 'add', 'action', 'drop', 'index', '77')
    network.filter('add', 10, 'protocol ip flower dst_ip 10.0.0.2 action gact index 77')
    daemon.wait_for((10, 1))
    network.tc('actions', 'change', 'action', 'ok', 'index', '77')
    daemon.wait_for()
    network.tc('actions', 'change', 'action', 'drop', 'index', '77')
    daemon.wait_for((10, 1))
    network.flush()
    network.tc('actions', 'del', 'action', 'gact', 'index', '77')
    note('')


def test_untold(network, daemon, note):
    """A filter too large for a notification is followed all the same"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    network.filter('add', 5, 'protocol ip flower dst_ip 10.0.0.0/24 '
                   + 'action mirred egress mirror dev p2 ' * 24 + 'action drop')
    daemon.wait_for()
    network.filter('del', 5)
    daemon.wait_for((10, 1))
    note('')


def test_masks(network, daemon, note):
    """Masks of IPv4 and IPv6 that are the same bytes are one in flower's order"""
    preference = 'protocol 802.1Q flower vlan_ethtype '
    for line in ('ipv6 src_ip fc00::/64 action drop',
                 'ip dst_ip 10.0.0.2 action mirred egress redirect dev p2',
                 'ip src_ip 10.0.0.1 dst_ip 10.0.0.2 action drop'):
        network.filter('add', 1, preference + line)
    daemon.wait_for((1, 1), (1, 3))
    frame = ethernet([(0x8100, 5)], 0x0800, ipv4(17, udp(PORT, bytes(30))))
    expect(not network.exchange([frame]), 'it has come, and TC drops it')
    note('')


def test_devices(network, daemon, note):
    """A device that goes and comes back takes its filters along"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    run('ip', '-n', network.switch, 'link', 'del', 'p2')
    daemon.wait_for()
    expect('in XDP' not in daemon.ask('explain', 'p1'), daemon.ask('explain'))
    network.plug(2)
    network.filter('replace', 10, 'handle 1 ' + TO_HOST_2)
    daemon.wait_for((10, 1))
    sent = [numbered(n) for n in range(100)]
    expect(numbers(network.exchange(sent)) == list(range(100)), 'not all came')
    expect(daemon.filters()[10, 1]['packets'] == 100, 'not all in XDP')
    note('')


def test_lost(network, daemon, note):
    """What notifications did not tell is read again"""
    daemon.process.send_signal(signal.SIGSTOP)
    n = 300
    network.batch(['filter add dev p1 ingress pref 10 protocol ip flower '
                   'dst_ip 10.1.%d.%d action drop' % (i // 256, i % 256)
                   for i in range(n)])
    network.batch(['filter del dev p1 ingress pref 10 handle %d protocol ip flower' % i
                   for i in range(1, n, 2)])
    daemon.process.send_signal(signal.SIGCONT)
    daemon.wait_for(*((10, i) for i in range(2, n + 1, 2)))
    expect(daemon.stats()['tc']['losses'], 'nothing was lost')
    note('%d filters', n // 2)


def test_restart(network, daemon, note):
    """When the daemon ends or is killed TC goes on, and the next one goes on with that"""
    network.filter('add', 10, TO_HOST_2)
    daemon.wait_for((10, 1))
    lost = {}
    for how in (signal.SIGTERM, signal.SIGKILL):
        with Stream(network) as stream:
            daemon.stop(how)
            time.sleep(0.3)
            daemon.start()
            daemon.wait_for((10, 1))
            time.sleep(0.3)
        lost[how.name] = len(stream.sent) - len(stream.arrived)
        stream.expect_once()
        expect(daemon.filters()[10, 1]['packets'], 'not executed again')
    # What is in the device's ring when the kernel takes the program off, or puts it on.
    expect(max(lost.values()) <= 20, 'lost: %s', lost)
    note('lost: %s', ', '.join('%d at %s' % (n, how) for how, n in lost.items()))


def test_many(network, daemon, note):
    """A table of 10,000 filters"""
    n = 10000
    start = time.monotonic()
    network.batch(['filter add dev p1 ingress pref 10 protocol ip flower '
                   'dst_ip 10.%d.%d.%d ip_proto udp dst_port %d action drop'
                   % (1 + i % 20, i // 256, i % 256, PORT) for i in range(n)])
    added = time.monotonic()

    def in_xdp():
        return sum(d['filters_in_xdp'] for d in daemon.stats()['devices'])

    wait_for('all in XDP', lambda: in_xdp() == n, 120)
    followed = time.monotonic()
    note('%.1f s for tc to add them, %.2f s more until all were in XDP; ',
         added - start, followed - added)
    start = time.monotonic()
    network.filter('add', 9, 'protocol ip u32 match u32 0 0 action ok')
    wait_for('none in XDP', lambda: in_xdp() == 0, 120)
    note('%.2f s until an earlier filter had them all leave', time.monotonic() - start)


def test_explained(network, daemon, note):
    """explain, trace and the tools of OVS's offload tell what becomes of filters and packets"""
    network.filter('add', 5, 'protocol ip u32 match ip dst 10.0.9.0/24 action ok')
    network.filter('add', 10, TO_HOST_2.replace('dst_ip', 'ip_proto udp dst_ip'))
    network.filter('add', 20, 'protocol arp flower arp_op request action mirred egress '
                   'redirect dev p2')
    daemon.wait_for((20, 1))
    text = daemon.ask('explain', 'p1', 'pref', '10')
    expect('pref 10 handle 0x1 flower: in TC, order/overlap: pref 5' in text, '%s', text)
    text = daemon.ask('trace', 'p1', numbered(1).hex())
    expect('verdict: passed to TC as it came: no-flow' in text
           and 'pref 10 handle 0x1 flower: order/overlap' in text, '%s', text)
    network.filter('del', 5, 'protocol ip u32')
    daemon.wait_for((10, 1), (20, 1))
    network.exchange([numbered(n) for n in range(10)])
    text = daemon.ask('explain', 'p1', 'pref', '10')
    expect('flower: in XDP' in text and 'packets:10, bytes:' in text
           and 'actions:output:p2' in text, '%s', text)
    capture = '/tmp/%s.pcap' % network.switch
    with open(capture, 'wb') as f:
        f.write(struct.pack('=IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for frame in (numbered(1), ethernet([], 0x0800, ipv4(17, udp(PORT, bytes(26)), dst=3))):
            f.write(struct.pack('=IIII', 0, 0, len(frame), len(frame)) + frame)
    text = daemon.ask('trace', 'p1', capture)
    os.unlink(capture)
    expect(text.count('packet ') >= 2 and 'flow: p1 pref 10 handle 0x1\n' in text
           and 'verdict: XDP_REDIRECT, output:p2' in text
           and 'passed to TC as it came: no-flow' in text
           and 'every filter of p1 is in XDP' in text and 'OVS' not in text, '%s', text)
    for proto, verdict in (('udp', 'XDP_REDIRECT'), ('tcp', 'passed to TC')):
        text = daemon.ask('trace', 'p1', 'dst_ip', '10.0.0.2', 'ip_proto', proto)
        expect('verdict: ' + verdict in text, '%s', text)
    tools = os.path.join(HERE, '../../tools/')
    top = json.loads(run('/usr/bin/python3', tools + 'ovs-offload-top', '-t', daemon.control,
                         '--once', '--json'))
    shown = {f['text'].split(':')[0]: f['packets'] for f in top['flows']}
    expect(shown['pref 10 handle 0x1'] == 10 and top['since_start']['executed']['packets'] == 10
           and [p['datapath'] for p in top['ports']] == ['tc', 'tc'], '%s', top)
    seen = run('/usr/bin/python3', tools + 'ovs-offload-top', '-t', daemon.control, '--once')
    expect('TO TC/S' in seen and 'pref 10 handle 0x1:' in seen and 'OVS' not in seen, '%s', seen)
    checked = run('/usr/bin/python3', tools + 'ovs-offload-top', '-t', daemon.control, '--check')
    expect(checked.startswith('OK: 2 of 2 ports, 2 flows'), '%s', checked)
    refused = subprocess.run([daemon.program, 'explain', 'p9', '--control', daemon.control],
                             stderr=subprocess.PIPE, text=True)
    expect(refused.returncode == 1 and 'p9: no device of' in refused.stderr, '%s', refused)
    note('and ovs-offload-top says %s', checked.strip())


CT_FILTERS = (
    'chain 0 pref 1 protocol ip flower dst_ip 10.0.0.0/8 ct_state -trk '
    'action ct zone 3 nat pipe action goto chain 1',
    'chain 1 pref 1 protocol ip flower dst_ip 10.0.0.0/8 ct_state +trk+new '
    'action ct commit zone 3 nat src addr 10.0.0.9 pipe '
    'action mirred egress redirect dev OTHER',
    'chain 1 pref 2 protocol ip flower dst_ip 10.0.0.0/8 ct_state +trk+est '
    'action mirred egress redirect dev OTHER')
ACK, PSH, SYN, FIN = 0x10, 8, 2, 1


class Talk:
    """Host 1 talks to host 2, which sees it at 10.0.0.9."""

    def __init__(self, network):
        self.sockets = [packet_socket(h) for h in network.hosts]
        self.seq = {1: 1000, 2: 5000}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.sockets:
            s.close()

    def says(self, host, flags, data=b''):
        """A segment that must come as translated."""
        other = 3 - host
        sent = tcp_frame(self.seq[host], self.seq[other], flags, data,
                         (1, 2, 1000, 80) if host == 1 else (2, 9, 80, 1000))
        wanted = tcp_frame(self.seq[host], self.seq[other], flags, data,
                           (9, 2, 1000, 80) if host == 1 else (2, 1, 80, 1000))
        self.seq[host] += len(data) + (flags & (SYN | FIN) != 0)
        self.sockets[host - 1].send(sent)
        self.expect_at(other, wanted)

    def expect_at(self, host, wanted):
        s = self.sockets[host - 1]
        s.settimeout(SETTLE_LIMIT)
        while True:
            frame = receive(s)
            if frame:
                expect(frame == wanted, 'came: %s\nnot: %s', frame.hex(), wanted.hex())
                return


def tcp_frame(seq, ack, flags, data, ends):
    """As it is without padding."""
    src, dst, src_port, dst_port = ends
    header = struct.pack('!HHIIHHHH', src_port, dst_port, seq,
                         ack if flags & ACK else 0, 0x5000 | flags, 500, 0, 0)
    addresses = bytes((10, 0, 0, src, 10, 0, 0, dst))
    total = checksum(addresses + struct.pack('!II', 6, len(header + data)) + header + data)
    segment = header[:16] + struct.pack('!H', total) + header[18:] + data
    return ADDRESSES + struct.pack('!H', 0x0800) + ipv4(6, segment, dst, src=src)


def test_ct(network, daemon, note):
    """Connections that TC has made go on in XDP, and end in TC"""
    for port in (1, 2):
        for line in CT_FILTERS:
            network.tc('filter', 'add', 'dev', 'p%d' % port, 'ingress',
                       *line.replace('OTHER', 'p%d' % (3 - port)).split())
    if 'action/ct\n' in daemon.ask('explain', 'p1'):
        note('Linux before 6.11 cannot be asked for connections')
        return
    daemon.wait_for((1, 1), (1, 1, 1), (2, 1, 1))
    with Talk(network) as talk:
        talk.says(1, SYN)
        talk.says(2, SYN | ACK)
        talk.says(1, ACK)
        before = daemon.stats()['packets']
        expect(before == 0, '%d packets of the handshake in XDP', before)
        for _ in range(100):
            talk.says(1, ACK | PSH, b'question')
            talk.says(2, ACK | PSH, b'answer')
        executed = daemon.stats()['packets']
        # The first of each direction may be TC's, and one each two seconds.
        expect(executed > 150, '%d of 200 in XDP', executed)
        talk.says(1, FIN | ACK)
        talk.says(2, ACK | PSH, b'the rest')
        expect(daemon.stats()['packets'] == executed, 'in XDP, after FIN')
        run('ip', 'netns', 'exec', network.switch, 'conntrack', '-F')
        talk.says(1, ACK | PSH, b'of no connection')
        expect(daemon.stats()['packets'] == executed, 'in XDP, of no connection')
        note('%d of 200 packets', executed)


TESTS = (test_exact, test_explained, test_counters, test_overlap, test_flush, test_replace,
         test_moves, test_shared, test_chains, test_ct, test_qdiscs,
         test_actions, test_untold, test_masks,
         test_devices, test_restart, test_lost, test_many)


def run_test(test, options):
    notes = []

    def note(text, *args):
        notes.append(text % args if args else text)

    more_options = ['--receive-buffer', '4096'] if test is test_lost else []
    with contextlib.ExitStack() as stack:
        name = 'fd%d' % os.getpid()
        network = stack.enter_context(Network(name))
        daemon = stack.enter_context(Daemon(network, options.build, *more_options))
        test(network, daemon, note)
        if daemon.process.poll() is None:
            expect(daemon.stop() == 0, 'the daemon did not end well')
        # What is kept there is ovs-vswitchd's.
        expect(not os.path.exists('/sys/fs/bpf/ovs-offload-xdp'), 'it has looked at pins')
    return ''.join(notes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', default='build/release')
    parser.add_argument('--only', default='', help='tests with this in their name')
    args = parser.parse_args()
    for module in MODULES:
        run('modprobe', module, check=False)
    failed = passed = 0
    for test in TESTS:
        if args.only not in test.__name__:
            continue
        start = time.monotonic()
        name = test.__name__.removeprefix('test_')
        try:
            text = run_test(test, args)
            passed += 1
            print('ok %s (%.1f s): %s; %s' % (name, time.monotonic() - start,
                                              test.__doc__, text), flush=True)
        except Exception as e:          # Of whatever kind, the next test is run.
            failed += 1
            print('FAILED %s (%.1f s): %s: %s' % (
                name, time.monotonic() - start, test.__doc__, e), flush=True)
    print('%d passed, %d failed, 0 skipped' % (passed, failed))
    sys.exit(1 if failed or not passed else 0)


if __name__ == '__main__':
    main()
