# SPDX-License-Identifier: Apache-2.0
"""What OVS forwards itself does not wait for us.

A PMD thread that waits stops all of its ports.  So the packets looked at here
take the slow path: XDP passes them on for their IP options, and each has a
source port of its own, for which OVS has to make a flow.
"""
import contextlib
import socket
import struct
import threading
import time

from lab import checksum, udp_frame, wait_for
from suite import expect
from test_trouble import compile_fake, plugin_directory

SO_TIMESTAMPNS = 35
NOP = b'\x01' * 4
# A megaflow for each source port.
EACH_SOURCE_PORT = ('in_port=%d,udp,actions=move:NXM_OF_UDP_SRC[]->'
                    'NXM_NX_REG0[0..15],output:%d')


class SlowStream:
    """Numbered packets from one host to another, and how long each took.

        with SlowStream(a, b, pps=200) as stream:
            ...
        stream.sent, stream.delays (seconds of those that arrived)
    """

    PORT = 7100

    def __init__(self, src, dst, pps):
        self.sent, self.pps, self.delays = 0, pps, []
        self.sent_at = {}
        self.sender = src.raw_socket()
        self.receiver = dst.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.receiver.bind(('', self.PORT))
        self.receiver.settimeout(0.1)
        head = udp_frame(src, dst, dport=self.PORT, payload=b'')
        ip = bytearray(head[14:34])
        ip[0], ip[10:12] = 0x46, b'\0\0'
        ip[2:4] = struct.pack('!H', 20 + 4 + 8 + 8)
        ip[10:12] = struct.pack('!H', checksum(bytes(ip) + NOP))
        self.head = head[:14] + bytes(ip) + NOP
        self.stop_sending, self.stop_receiving = (threading.Event()
                                                  for _ in range(2))
        self.threads = [threading.Thread(target=self.send),
                        threading.Thread(target=self.receive)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop_sending.set()
        self.threads[0].join()
        # What was held up arrives late.
        deadline = time.monotonic() + 3
        while len(self.delays) < self.sent and time.monotonic() < deadline:
            time.sleep(0.05)
        self.stop_receiving.set()
        self.threads[1].join()
        self.sender.close()
        self.receiver.close()

    def send(self):
        begin = time.monotonic()
        while not self.stop_sending.is_set():
            n = self.sent
            udp = struct.pack('!HHHH', 1024 + n % 60000, self.PORT, 16, 0)
            frame = self.head + udp + n.to_bytes(8, 'big')
            self.sent_at[n] = time.time_ns()
            self.sender.send(frame)
            self.sent += 1
            delay = begin + self.sent / self.pps - time.monotonic()
            if delay > 0:
                time.sleep(delay)

    def receive(self):
        while not self.stop_receiving.is_set():
            try:
                data, ancillary, _, _ = self.receiver.recvmsg(64, 64)
            except OSError:
                continue
            seconds, ns = struct.unpack('qq', ancillary[0][2][:16])
            sent_at = self.sent_at.get(int.from_bytes(data[:8], 'big'))
            if sent_at:
                self.delays.append((seconds * 10**9 + ns - sent_at) / 1e9)

    @property
    def lost(self):
        return self.sent - len(self.delays)


def slow_path_rules(lab):
    """Packets from host a to host b, and back, as this file needs them."""
    a, b = lab.hosts[:2]
    ports = [lab.ovs.of_port(h.port) for h in (a, b)]
    lab.ovs.ofctl('del-flows', 'br0')
    lab.ovs.ofctl('add-flow', 'br0', EACH_SOURCE_PORT % tuple(ports))
    lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,actions=%d'
                  % tuple(reversed(ports)))


@contextlib.contextmanager
def repeating(action, pause):
    """Does something again and again while the context lasts."""
    stop = threading.Event()

    def repeat():
        while not stop.is_set():
            action()
            stop.wait(pause)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def fake_lab(context, **options):
    """A Lab whose plugin takes as long as it is told for each flow."""
    with plugin_directory() as directory:
        compile_fake(directory, 'xdp')
        with context.lab(plugin=directory, **options) as lab:
            try:
                yield lab
            finally:
                slow_down(lab, 0)


def slow_down(lab, seconds):
    lab.ovs.appctl('fake-offload/slow', str(int(seconds * 1000)))


def check_slow_plugin(context, command):
    """A plugin that takes half a second per flow, while all flows are deleted again and
    again: no packet waits for it."""
    slow = 0.5
    with fake_lab(context) as lab:
        slow_path_rules(lab)

        def purge():
            with contextlib.suppress(RuntimeError):  # It may take too long.
                lab.ovs.appctl('--timeout=3', command)

        with SlowStream(*lab.hosts, pps=50) as stream:
            time.sleep(0.5)
            slow_down(lab, slow)
            with repeating(purge, 0.1):
                time.sleep(4)
                begin = time.monotonic()
                slow_down(lab, 0)
                waited = time.monotonic() - begin
        context.note('longest delay %.0f ms; the main thread answers after %.1f s',
                     1e3 * max(stream.delays), waited)
        expect(stream.lost == 0, '%d of %d lost', stream.lost, stream.sent)
        # 4 and 15 ms were seen; one that waits for a flow waits for all of 'slow'.
        expect(max(stream.delays) < slow / 2, 'a packet waited')
        # 0.4 and 0.5 s; 5 s and more where the thread that puts flows keeps its mutex.
        expect(waited < 4, 'the main thread waited')


def test_slow_plugin(context):
    """A plugin that takes half a second per flow: no packet waits for it."""
    check_slow_plugin(context, 'revalidator/purge')


def test_slow_plugin_flush(context):
    """The same while the datapath's flows are flushed."""
    check_slow_plugin(context, 'dpctl/del-flows')


def puts(lab):
    """Tags in the flows that the plugin was offered, one after the other."""
    return [int(line.rsplit(' ', 1)[1])
            for line in lab.ovs.log_lines('fake: flow_put')]


def test_vlan_limit_lowered(context):
    """vlan-limit is lowered before a flow is put: it is not put as another."""
    with fake_lab(context, config=['vlan-limit=2']) as lab:
        a, b = lab.hosts
        slow_path_rules(lab)
        sender = a.raw_socket()

        def send(*vlans):
            frame = udp_frame(a, b)
            tags = b''.join(struct.pack('!HH', 0x8100, v) for v in vlans)
            sender.send(frame[:12] + tags + frame[12:])

        send(10, 20)
        wait_for('a flow with two tags', lambda: 2 in puts(lab))
        slow_down(lab, 1.5)
        n_puts = len(puts(lab))
        send()              # The plugin is busy with that one...
        time.sleep(0.3)
        send(11, 21)        # ...so the next one has to wait.
        time.sleep(0.3)
        # The main thread lowers it at once, and then it may have to wait, too.
        lab.ovs.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                      'other_config:vlan-limit=1')
        time.sleep(0.3)
        expect(len(puts(lab)) == n_puts, 'the plugin was not busy')
        slow_down(lab, 0)
        wait_for('the flow without tags', lambda: len(puts(lab)) > n_puts)
        time.sleep(2.5)     # The next one may take as long as that one.
        sender.close()
        expect(1 not in puts(lab), 'a flow with two tags was put as one with '
               'one: %s', puts(lab)[n_puts:])


TESTS = [
    ('slow-plugin', test_slow_plugin),
    ('slow-plugin-flush', test_slow_plugin_flush),
    ('vlan-limit-lowered', test_vlan_limit_lowered),
]
