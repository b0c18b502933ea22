# SPDX-License-Identifier: Apache-2.0
"""Virtual machines on taps as ports: nothing in them knows of the offload.

tap.Guest stands for QEMU: it owns the tap's descriptors and reads and writes
what a virtio-net device would.  Each test runs in the userspace datapath, over
AF_XDP, and in the kernel datapath, where that is to be had.  The test
tap-machine has a real machine in its place.
"""
import collections
import contextlib
import fcntl
import functools
import itertools
import os
import socket
import struct
import subprocess
import threading
import time
from typing import NamedTuple

from lab import checksum, settled_counters, udp_frame, wait_for
from suite import (Skipped, expect, expect_exact, passed, per_port_rules,
                   xdp_packets)
from tap import (DATA_VALID, GSO_NONE, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, Guest,
                 VirtioHeader, Wire)
from test_kernel_datapath import SLOW, kernel_lab

HERE = os.path.dirname(os.path.abspath(__file__))
SETTLE = 0.5        # Seconds in which what was sent arrives.


@contextlib.contextmanager
def userspace_lab(context, **options):
    with context.lab(**options) as lab:
        yield lab


@contextlib.contextmanager
def guests(lab, *settings):
    """A Guest for each of the settings, whose taps are ports."""
    with contextlib.ExitStack() as stack:
        made = []
        for number, options in enumerate(settings, 1):
            guest = Guest(lab, number, **options)
            stack.callback(guest.close)
            add_port(lab, guest)
            made.append(guest)
        yield made


def drop_all(lab, ends):
    """A rule for each of them that drops all."""
    lab.ovs.ofctl('del-flows', 'br0')
    for end in ends:
        lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,actions=drop'
                      % lab.ovs.of_port(end.port))


def add_port(lab, guest):
    # Of the kernel's queues, each has its own socket.
    options = {'n_rxq': guest.queues} if lab.ovs.datapath == 'netdev' else {}
    lab.ovs.add_port(guest.port, **options)


def forward(lab, ways, actions=''):
    """Sends what enters at one end to the other; 'ways' are pairs."""
    for src, dst in ways:
        # A rule that is there goes on counting.
        lab.ovs.ofctl('--strict', 'mod-flows', 'br0',
                      'in_port=%d,actions=%soutput:%d' % (
                          lab.ovs.of_port(src.port), actions,
                          lab.ovs.of_port(dst.port)))
    lab.ovs.appctl('revalidator/wait')


def arrivals(src, dst):
    """What arrives at 'dst' from 'src' until nothing more does."""
    addresses = bytes.fromhex((dst.mac + src.mac).replace(':', ''))
    got = []
    while True:
        received = dst.receive(SETTLE)
        if received is None:
            return got
        if received.frame[:12] == addresses:
            got.append(received)


# -- Frames arrive as they were sent ------------------------------------------

TAG = struct.pack('!HH', 0x8100, 5)


def with_tag(frame):
    return frame[:12] + TAG + frame[12:]


def without_tag(frame):
    return frame[:12] + frame[16:]


# What OVS does to all frames, the tag that they enter with, the longest that
# is sent, and what is to come out.
ACTIONS = (
    ('', None, 1514, lambda frame: frame),
    ('', 7, 1518, lambda frame: frame),
    ('mod_vlan_vid:5,', None, 1514, with_tag),
    ('strip_vlan,', 7, 1518, without_tag),
)
SIZES = (42, 60, 61, 590)       # A tap does not fill up short frames.
COUNT = 10                      # Frames of each size.


def send_sizes(src, dst, tag, longest):
    """Sends different frames of each size; returns them."""
    frames = []
    for size in (*SIZES, longest):
        payload = size - 42 - (4 if tag else 0)
        for n in range(COUNT if payload >= 0 else 0):
            body = bytes([n]) * payload
            frames.append(udp_frame(src, dst, tag, payload=body))
            src.send(frames[-1], **({'queue': n % src.queues}
                                    if isinstance(src, Guest) else {}))
            time.sleep(0.002)
    return frames


def check_way(src, dst, actions, tag, longest, expected):
    """Sends from one end to the other and looks at each frame."""
    what = '%s to %s, actions=%s' % (src.port, dst.port, actions)
    sent = send_sizes(src, dst, tag, longest)
    got = arrivals(src, dst)
    wanted = collections.Counter(map(expected, sent))
    frames = collections.Counter(r.frame for r in got)
    expect(frames == wanted, '%s: missing %s, unexpected %s', what,
           [f.hex() for f in wanted - frames][:2],
           [f.hex() for f in frames - wanted][:2])
    # That a checksum has been found right (DATA_VALID) may be known.
    odd = {r.header for r in got
           if r.header._replace(flags=r.header.flags & ~DATA_VALID)
           != VirtioHeader()}
    expect(not odd, '%s: arrived with %s', what, odd)


def test_intact(context, make_lab):
    """Frames through taps of all kinds arrive as they are, exactly counted."""
    kinds = ({}, {'queues': 2, 'header': 10}, {'header': 0})
    with make_lab(context, hosts=1) as lab, guests(lab, *kinds) as ends, \
            contextlib.closing(Wire(lab.hosts[0])) as wire:
        one, two, plain = ends
        ways = ((one, two), (two, wire), (wire, plain), (plain, one))
        everybody = [*ends, wire]
        drop_all(lab, everybody)
        before = settled_counters(lab, everybody)
        for actions, tag, longest, expected in ACTIONS:
            forward(lab, ways, actions)
            for src, dst in ways:
                check_way(src, dst, actions, tag, longest, expected)
        after = expect_exact(lab, before, everybody)
        for end in everybody:
            in_xdp, sent = (after[end.port][k][0] - before[end.port][k][0]
                            for k in ('xdp', 'sent'))
            context.note('%s: %d of %d in XDP', end.port, in_xdp, sent)
            expect(in_xdp >= 0.5 * sent, '%s: %d of %d in XDP', end.port,
                   in_xdp, sent)


# -- Checksums and segments that the guest has left to others -----------------

class Offloaded(NamedTuple):
    """A packet that a guest hands over unfinished; gso: bytes per segment."""
    what: str
    version: int
    proto: int
    payload: int
    gso: int = 0


UNFINISHED = (
    Offloaded('UDP', 4, 17, 64),
    Offloaded('UDP, odd length', 4, 17, 1471),
    Offloaded('UDP over IPv6', 6, 17, 64),
    Offloaded('TCP', 4, 6, 1),
    Offloaded('TCP, full', 4, 6, 1460),
    Offloaded('TCP over IPv6', 6, 6, 1440),
    Offloaded('TCP, segments, shorter than the MTU', 4, 6, 1200, 512),
    Offloaded('TCP over IPv6, segments, shorter', 6, 6, 1300, 1220),
)
# An AF_XDP socket takes no such frames, nor does it without us.
UNFINISHED_LONG = (
    Offloaded('TCP, segments', 4, 6, 9000, 1448),
    Offloaded('TCP over IPv6, segments', 6, 6, 30000, 1428),
)
REPEATED = 20


def pseudo_header(src, dst, version, proto, length):
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    pair = [getattr(end, 'ip%d' % version) for end in (src, dst)]
    return b''.join(socket.inet_pton(family, ip) for ip in pair) \
        + struct.pack('!HH', proto, length)


def unfinished(src, dst, row, source_port):
    """The frame, its payload and what stands in front of it."""
    payload = bytes((source_port + n) % 251 for n in range(row.payload))
    ports = struct.pack('!HH', source_port, 4001)
    if row.proto == 6:
        offset = 16
        l4 = ports + struct.pack('!IIBBHHH', 1000, 1, 0x50, 0x18, 512, 0, 0)
    else:
        offset = 6
        l4 = ports + struct.pack('!HH', 8 + row.payload, 0)
    length = len(l4) + row.payload
    pseudo = pseudo_header(src, dst, row.version, row.proto, length)
    # Only the pseudo-header is summed up.
    l4 = l4[:offset] + struct.pack('!H', ~checksum(pseudo) & 0xffff) \
        + l4[offset + 2:]
    if row.version == 4:
        l3 = struct.pack('!BBHHHBBH', 0x45, 0, 20 + length, 0, 0, 64,
                         row.proto, 0) + pseudo[:8]
        l3 = l3[:10] + struct.pack('!H', checksum(l3)) + l3[12:]
    else:
        l3 = struct.pack('!IHBB', 6 << 28, length, row.proto, 64) + pseudo[:32]
    macs = bytes.fromhex((dst.mac + src.mac).replace(':', ''))
    ethertype = b'\x08\x00' if row.version == 4 else b'\x86\xdd'
    start = 14 + len(l3)
    gso = {(True, 4): GSO_TCPV4, (True, 6): GSO_TCPV6}.get(
        (row.gso > 0, row.version), GSO_NONE)
    header = VirtioHeader(NEEDS_CSUM, gso, (start + len(l4)) if gso else 0,
                          row.gso, start, offset)
    return macs + ethertype + l3 + l4 + payload, payload, header


def wrong_checksum(src, dst, row, frame):
    segment = frame[34 if row.version == 4 else 54:]
    pseudo = pseudo_header(src, dst, row.version, row.proto, len(segment))
    return checksum(pseudo + segment) != 0


def reassembled(row, frames):
    """The payloads of the segments in 'frames', by source port."""
    pieces = {}
    start = 34 if row.version == 4 else 54
    for frame in frames:
        source_port, = struct.unpack_from('!H', frame, start)
        sequence = frame[start + 4:start + 8] if row.proto == 6 else b''
        pieces.setdefault(source_port, {})[sequence] = frame[
            start + (20 if row.proto == 6 else 8):]
    return {source_port: b''.join(data for _, data in sorted(parts.items()))
            for source_port, parts in pieces.items()}


def check_unfinished(src, dst, row):
    what = '%s, %s to %s' % (row.what, src.port, dst.port)
    wanted = {}
    for n in range(REPEATED):
        frame, payload, header = unfinished(src, dst, row, 4100 + n)
        wanted[4100 + n] = payload
        src.send(frame, header)
        time.sleep(0.005)
    got = arrivals(src, dst)
    wrong = [r for r in got if wrong_checksum(src, dst, row, r.completed())]
    expect(not wrong, '%s: %d of %d with a wrong checksum, like %s', what,
           len(wrong), len(got), wrong and wrong[0])
    expect(reassembled(row, [r.frame for r in got]) == wanted,
           '%s: %d frames, but not what was sent', what, len(got))


def gets_through(src, dst):
    frame, _, header = unfinished(src, dst, UNFINISHED[0], 4099)
    src.send(frame, header)
    return arrivals(src, dst)


def test_unfinished(context, make_lab):
    """Checksums and segments that a guest leaves to others come out right."""
    with make_lab(context, hosts=1) as lab, guests(lab, {}, {}) as ends, \
            contextlib.closing(Wire(lab.hosts[0])) as wire:
        one, two = ends
        rows = UNFINISHED + (UNFINISHED_LONG if lab.ovs.datapath == 'system'
                             else ())
        drop_all(lab, [one])
        for dst in (two, wire):
            forward(lab, [(one, dst)])
            # What a change of flows takes is not this test's.
            wait_for('frames at ' + dst.port,
                     lambda d=dst: gets_through(one, d))
            for row in rows:
                check_unfinished(one, dst, row)
        context.note('%d in XDP, %d passed to OVS', xdp_packets(lab, one.port),
                     passed(lab, one.port))


def test_whole(context, make_lab):
    """xdp-offload-tap-tso=false: long packets are whole ones, and go in XDP."""
    with make_lab(context, hosts=1, config=['xdp-offload-tap-tso=false']
                  ) as lab, guests(lab, {}, {}) as (one, two):
        drop_all(lab, [one])
        forward(lab, [(one, two)])
        rows = [row for row in UNFINISHED if not row.gso]
        for row in rows:
            check_unfinished(one, two, row)     # And OVS learns the flows.
        before = passed(lab, one.port)
        for row in rows:
            check_unfinished(one, two, row)
        up = passed(lab, one.port) - before
        context.note('%d in XDP, then %d passed to OVS',
                     xdp_packets(lab, one.port), up)
        expect(up == 0, '%d passed to OVS', up)


# -- Guests that are slow, and that go away -----------------------------------

def delivered(lab, src, dst, count=20):
    """How many of 'count' frames arrive, and how many XDP has executed."""
    executed = xdp_packets(lab, src.port)
    for n in range(count):
        src.send(udp_frame(src, dst, payload=bytes([n])))
        time.sleep(0.005)
    got = len(arrivals(src, dst)) if dst.fds else 0
    return got, xdp_packets(lab, src.port) - executed


def wait_in_xdp(lab, src, dst):
    wait_for('traffic in XDP', lambda: delivered(lab, src, dst) == (20, 20),
             SLOW)


def test_slow(context, make_lab):
    """A guest does not read: the tap counts what it drops; the rest arrives.
    """
    with make_lab(context, hosts=1) as lab, guests(lab, {}, {}) as ends:
        one, two = ends
        drop_all(lab, ends)
        forward(lab, [(one, two)])
        wait_in_xdp(lab, one, two)
        before = settled_counters(lab, ends)
        begin = two.dropped()
        for n in range(3000):
            one.send(udp_frame(one, two, payload=n.to_bytes(4, 'big')))
        expect_exact(lab, before, ends)
        got = arrivals(one, two)
        dropped = two.dropped() - begin
        context.note('%d of 3000 arrived, %d dropped', len(got), dropped)
        expect(dropped and len(got) + dropped == 3000,
               'arrived %d, dropped %d', len(got), dropped)
        expect(len(set(r.frame for r in got)) == len(got), 'arrived twice')


def test_restart(context, make_lab):
    """A guest goes and comes back, to its old tap or a new one, in XDP."""
    with make_lab(context, hosts=1) as lab, \
            guests(lab, {'persist': True}, {}) as ends, \
            contextlib.closing(Wire(lab.hosts[0])) as wire:
        for guest in ends:
            drop_all(lab, [wire])
            forward(lab, [(wire, guest)])
            wait_in_xdp(lab, wire, guest)
            guest.close()
            if guest.persist:
                wait_for('XDP to leave it alone', lambda: delivered(
                    lab, wire, guest)[1] == 0, SLOW)
            else:
                # As who starts machines does it.
                lab.ovs.vsctl('del-port', guest.port)
            begin = time.monotonic()
            guest.start()
            if not guest.persist:
                add_port(lab, guest)
                forward(lab, [(wire, guest)])
            wait_in_xdp(lab, wire, guest)
            context.note('%s: back in XDP after %.1f s', 'a tap that stays'
                         if guest.persist else 'a new tap',
                         time.monotonic() - begin)


# -- Real machines ------------------------------------------------------------

KERNEL = 'OVS_OFFLOAD_GUEST_KERNEL'     # In the environment; see tests/vm/run.
BOOT = 120                              # Seconds, on busy processors.
GUEST = os.path.join(HERE, 'guest.py')


@contextlib.contextmanager
def machine(guest):
    """A machine that is given the Guest's tap, and serves."""
    fd = fcntl.fcntl(guest.fds[0], fcntl.F_DUPFD, 10)
    guest.close()
    script = ('ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad; '
              'ip link set eth0 up; exec python3 %s serve'
              % (guest.ip4, guest.ip6, GUEST))
    process = subprocess.Popen(
        [os.path.join(HERE, '../vm/run'), '--kernel', os.environ[KERNEL],
         '--timeout', '600', '--tap', str(fd), guest.mac, 'sh', '-c', script],
        pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    os.close(fd)
    try:
        yield process
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


def wait_serving(process):
    """Waits for the machine to say that it serves."""
    timer = threading.Timer(BOOT, process.terminate)
    timer.start()
    try:
        lines = iter(process.stdout.readline, '')
        said = list(itertools.takewhile(lambda x: x != 'serving\n', lines))
        expect(process.poll() is None, 'the machine has ended: %s',
               ''.join(said[-5:]))
    finally:
        timer.cancel()


def test_machine(context):
    """A real machine with virtio-net, which knows nothing, in XDP."""
    if KERNEL not in os.environ:
        raise Skipped('no kernel for it: run by "tests/run vm"')
    # tests/vm/run gives it a device without TSO.
    with context.lab(hosts=1, config=['xdp-offload-tap-tso=false']) as lab, \
            guests(lab, {}) as (guest,), machine(guest) as process:
        host = lab.hosts[0]
        wait_serving(process)
        per_port_rules(lab)
        lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,actions=NORMAL'
                      % lab.ovs.of_port(guest.port))
        for address in (guest.ip4, guest.ip6):
            host.run('python3', GUEST, 'talk', address)
        ports = lab.ovs.offload_show()[1]
        for port in (guest.port, host.port):
            in_xdp, up = ports[port]['packets'], passed(lab, port)
            context.note('%s: %d in XDP, %d passed to OVS', port, in_xdp, up)
            expect(in_xdp > 10 * up, '%s: %d in XDP, %d passed to OVS', port,
                   in_xdp, up)
        expect(host.checksum_errors() == 0, 'wrong checksums at the host')


TESTS = [('%stap-%s' % (prefix, name), functools.update_wrapper(
    functools.partial(test, make_lab=make_lab), test))
    for prefix, make_lab in (('', userspace_lab), ('kernel-', kernel_lab))
    for name, test in (
        ('intact', test_intact), ('unfinished', test_unfinished),
        ('whole', test_whole),
        ('slow', test_slow), ('restart', test_restart))] + [
    ('tap-machine', test_machine)]
