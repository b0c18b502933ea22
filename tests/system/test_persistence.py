# SPDX-License-Identifier: Apache-2.0
"""ovs-vswitchd ends and comes back, and its flows are executed all the time.

The switch must see the BPF file system, where the programs are kept, and which
"ip netns exec" hides.
"""
import contextlib
import functools
import os
import random
import re
import shutil
import signal
import socket
import struct
import threading
import time

from lab import (ETH_P_ALL, Stream, attached_program, in_netns, ping, run,
                 wait_for)
from mounts import BPF_FS, VIEW
from suite import (all_programs, expect, passed, programs_of,
                   wait_offloaded)
from test_kernel_datapath import kernel_lab, wait_layer
from test_explain import rule
from test_privileges import WORKS, add_hosts, unprivileged
from test_restart import all_maps, maps_of, wait_freed

PINS = BPF_FS + '/ovs-offload-xdp'
PREPARE_PINS = os.path.join(os.path.dirname(__file__),
                            '../../packaging/prepare-pins')
# What xdp-offload/show says of restarts.
SURVIVE = r'flows survive ovs-vswitchd \(%s\)$' % re.escape(PINS)
END = 'flows end with this process: %s.*; what to do: .*%s.*, then restart'
QUICK = ['xdp-offload-handover=1']
TAKEN_OVER = 90                 # Seconds, on a busy machine.


@contextlib.contextmanager
def kept_lab(context, config=(), make_lab=None, wrapper=(), **options):
    """A lab whose ovs-vswitchd sees the BPF file system."""
    if make_lab is None:
        lab = context.lab
    else:
        lab = functools.partial(make_lab, context)
    with lab(wrapper=[*VIEW, *wrapper], config=[*QUICK, *config],
             **options) as made:
        yield made


@contextlib.contextmanager
def both_ways(a, b, pps=1000):
    """Streams in both directions: OVS learns both addresses from them."""
    with Stream(a, b, pps=pps, port=7000 + a.number) as there, \
            Stream(b, a, pps=pps, port=7000 + b.number) as back:
        yield there, back


def as_nobody():
    """Runs it as nobody, in the same view."""
    return [*VIEW, 'unshare', '--mount', *unprivileged(dict(WORKS)['afxdp'])]


def expect_restarts(lab, pattern):
    """Checks what xdp-offload/show says of restarts."""
    line = re.search('^restarts: (.*)', lab.ovs.offload_show()[0],
                     re.MULTILINE)[1]
    expect(re.match(pattern, line), 'restarts: %s, not %s', line, pattern)


def has_taken_over(lab):
    try:
        text, ports = lab.ovs.offload_show()
    except RuntimeError:
        return False            # Not there yet.
    return len(ports) == len(lab.hosts) and 'taking over' not in text


def wait_taken_over(lab, before):
    """Until each device has a program other than 'before'."""
    wait_for('the new process to take over', lambda: has_taken_over(lab)
             and not before & programs_of(lab), TAKEN_OVER)


def end(lab, how):
    if how == 'exit':
        process = lab.ovs.processes.pop('ovs-vswitchd')
        lab.ovs.appctl('exit')
        expect(process.wait(10) == 0, 'exit status')
    else:
        lab.ovs.kill_vswitchd(getattr(signal, how))


def own_maps(programs):
    """Without the AF_XDP sockets, which pass from program to program."""
    names = all_maps()
    return {m for m in maps_of(programs) if names.get(m) != 'xsks_map'}


def replace_process(lab, how):
    """Ends it and starts the next one, which takes over; returns after how many
    seconds.  In between the programs stay."""
    programs = programs_of(lab)
    end(lab, how)
    time.sleep(1)
    expect(programs_of(lab) == programs, '%s: programs %s, were %s', how,
           programs_of(lab), programs)
    lab.ovs.start_vswitchd()
    begin = time.monotonic()
    wait_taken_over(lab, programs)
    return time.monotonic() - begin


@contextlib.contextmanager
def restoring(lab):
    """Starts ovs-vswitchd, which handles misses only afterwards."""
    lab.ovs.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                  'other_config:flow-restore-wait=true')
    lab.ovs.start_vswitchd()
    # It answers before it has bridges, whose earlier sockets refuse.
    wait_for('bridge', lambda: lab.ovs.answers('br0'))
    yield
    lab.ovs.vsctl('--no-wait', 'remove', 'Open_vSwitch', '.', 'other_config',
                  'flow-restore-wait')


def check_nothing_lost(streams):
    for stream in streams:
        expect(stream.lost == 0 and not stream.duplicates and stream.refused
               == 0, '%s, %d came twice', stream, stream.duplicates)


def test_ways(context):
    """Flows go on while ovs-vswitchd is killed, terminated or exits."""
    with kept_lab(context) as lab:
        a, b = lab.hosts
        with both_ways(a, b) as streams:
            ancestors = set(), set()
            for how in ('SIGKILL', 'SIGTERM', 'exit'):
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                programs = programs_of(lab)
                maps = own_maps(programs)
                context.note('%s: taken over after %.1f s', how,
                             replace_process(lab, how))
                # libxdp keeps the program that it has found with the sockets,
                # so one generation lives on for as long as they do.
                wait_freed(*ancestors)
                ancestors = programs, maps
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)
        # OVS learns the flows from copies.  What hosts say of their own accord may
        # be passed on: nothing was in two runs.
        expect(passed(lab, a.port) <= 5, 'passed to OVS: %d', passed(lab, a.port))


def balance(lab, a, b):
    """What 'a' sends recirculates, and goes to 'b' in one of two ways."""
    out, into = (lab.ovs.of_port(host.port) for host in (b, a))
    lab.ovs.ofctl('-OOpenFlow15', 'add-group', 'br0',
                  'group_id=1,type=select,bucket=bucket_id=1,output:%d,'
                  'bucket=bucket_id=2,output:%d' % (out, out))
    rule(lab, 'priority=10,udp,in_port=%d,actions=group:1' % into)
    rule(lab, 'priority=10,udp,in_port=%d,actions=output:%d' % (out, into))


def test_copies(context):
    """The next process learns flows, and what they recirculate to, from copies:
    OVS gets none of the packets."""
    with kept_lab(context) as lab:
        a, b = lab.hosts
        balance(lab, a, b)
        with both_ways(a, b) as streams:
            wait_for('flows', lambda: len(lab.ovs.flows('xdp')) >= 3)
            programs = programs_of(lab)
            end(lab, 'SIGKILL')
            with restoring(lab):
                balance(lab, a, b)
            wait_taken_over(lab, programs)
            expect(any('recirc(0x' in f['actions']
                       for f in lab.ovs.flows('xdp')), 'recirculation')
        check_nothing_lost(streams)
        for host in lab.hosts:
            # There may be ARP.
            expect(passed(lab, host.port, 'no-flow') < 3 and not
                   passed(lab, host.port, 'recirculation'), '%s: passed %s',
                   host.port, lab.ovs.offload_show()[1][host.port]['passed'])
            context.note('%s passed %d', host.port, passed(lab, host.port))


def let_through(lab, *pairs):
    """Rules for what the first of each pair of hosts sends to the second."""
    for src, dst in pairs:
        rule(lab, 'priority=10,ip,in_port=%d,actions=output:%d' % (
            lab.ovs.of_port(src.port), lab.ovs.of_port(dst.port)))


@contextlib.contextmanager
def secure_lab(context, handover):
    """A lab whose switch forwards nothing but what rules say."""
    with kept_lab(context, config=['xdp-offload-handover=%d' % handover]) as lab:
        lab.ovs.vsctl('set-fail-mode', 'br0', 'secure')
        lab.ovs.ofctl('del-flows', 'br0')
        yield lab


def expect_none_lost(streams, when):
    time.sleep(0.1)              # Some are on their way.
    for stream in streams:
        expect(stream.lost < 0.1 * stream.pps, '%s: %s', when, stream)


def check_forbidden(stream, within):
    """Nothing of it arrives any more, after some seconds at most."""
    begin = time.monotonic()

    def is_over():
        received = stream.received
        time.sleep(0.5)
        return stream.received == received

    wait_for('the new rules', is_over, within)
    return time.monotonic() - begin


def test_late_rules(context):
    """Rules that come some time after OVS: until then old flows are executed, all
    of their packets, and then the rules win, also where they say otherwise."""
    for handover, late in ((5, 6), (5, 10), (30, 6)):
        with secure_lab(context, handover) as lab:
            a, b = lab.hosts
            let_through(lab, (a, b), (b, a))
            with both_ways(a, b, 500) as (there, back):
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                programs = programs_of(lab)
                end(lab, 'SIGKILL')
                lab.ovs.start_vswitchd()
                time.sleep(late)
                expect_none_lost((there, back), 'no rules after %d s' % late)
                expect(programs_of(lab) == programs, 'taken over too early')
                text = lab.ovs.offload_show()[0]
                expect('OpenFlow rules are missing' in text, 'show: %s', text)
                let_through(lab, (a, b))
                if handover > late:      # The rest is as with a short one.
                    time.sleep(3)
                    expect_none_lost((there, back), 'before it has taken over')
                    continue
                context.note('rules after %d s, forbidden %.1f s later', late,
                             check_forbidden(back, handover + 4))
                expect(has_taken_over(lab), 'not taken over')
            context.note('%s', there)
            check_nothing_lost([there])


def rule_message(in_port, out_port):
    """OpenFlow 1.3: a rule that forwards from port to port."""
    match = struct.pack('!HHII4x', 1, 12, 0x80000004, in_port)
    actions = struct.pack('!HH4xHHIH6x', 4, 24, 0, 16, out_port, 0xffff)
    body = struct.pack('!QQBBHHHIIIH2x', 0, 0, 0, 0, 0, 0, 10, 0xffffffff,
                       0xffffffff, 0xffffffff, 0) + match + actions
    return struct.pack('!BBHI', 4, 14, 8 + len(body), 1) + body


class Controller:
    """Answers the switch at a socket, gives it rules and keeps the connection."""

    def __init__(self, path, rules):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.rules = rules
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def serve(self):
        switches = []
        with contextlib.suppress(OSError):       # The end.
            while True:
                switch, _ = self.listener.accept()
                switches.append(switch)
                switch.sendall(struct.pack('!BBHI', 4, 0, 8, 0))
                switch.sendall(b''.join(self.rules))
        for switch in switches:
            switch.close()


def test_late_controller(context):
    """A controller that is late, at a switch that has some rules before."""
    with secure_lab(context, 5) as lab:
        a, b = lab.hosts
        path = lab.tmp + '/br0.controller'
        pairs = [[lab.ovs.of_port(h.port) for h in two]
                 for two in ((a, b), (b, a))]
        rules = [rule_message(*pair) for pair in pairs]
        with both_ways(a, b, 500) as streams:
            lab.ovs.vsctl('set-controller', 'br0', 'unix:' + path, '--', 'set',
                          'controller', 'br0', 'max_backoff=1000')
            with Controller(path, rules):
                for stream in streams:
                    wait_for('its rules', lambda: stream.received > 100)
                time.sleep(1)
                lost = [s.lost for s in streams]
                programs = programs_of(lab)
                end(lab, 'SIGKILL')
            lab.ovs.start_vswitchd()
            wait_for('the ports', lambda: len(lab.ovs.offload_show()[1]) == 2)
            wait_for('the bridge', lambda: run(
                lab.ovs.tool('ovs-ofctl'), 'show', 'br0', env=lab.ovs.env,
                check=False))
            rule(lab, 'priority=1,actions=drop')
            time.sleep(8)
            expect(programs_of(lab) == programs, 'taken over too early')
            with Controller(path, rules):
                wait_taken_over(lab, programs)
                time.sleep(1)
        for stream, before in zip(streams, lost):
            context.note('%s, %d of them before it had rules', stream, before)
            expect(stream.lost <= before, '%s, %d before', stream, before)


def test_generic(context):
    """So do those of ports that netdev-afxdp has in generic mode."""
    with kept_lab(context, xdp_mode='generic') as lab:
        a, b = lab.hosts
        with both_ways(a, b, 200) as streams:
            wait_offloaded(lab, a, b)
            wait_offloaded(lab, b, a)
            replace_process(lab, 'SIGKILL')
            wait_offloaded(lab, a, b)
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)


def test_no_admin(context):
    """Without CAP_SYS_ADMIN flows end with the process, and the log says so."""
    without = ['setpriv', '--inh-caps=-sys_admin', '--bounding-set=-sys_admin']
    with kept_lab(context, hosts=0, wrapper=without,
                  config=['xdp-offload-system-ports=true']) as lab:
        a, b = add_hosts(lab, 'system')
        for how in ('SIGKILL', 'SIGTERM'):
            wait_for('ping', lambda: ping(a, b, 2) == 2)
            expect(not lab.pins(), 'pins: %s', lab.pins())
            end(lab, how)
            wait_for('the programs to go', lambda: not programs_of(lab))
            lab.ovs.start_vswitchd()
        wait_for('ping', lambda: ping(a, b, 2) == 2)
        expect_restarts(lab, END % ('that takes CAP_SYS_ADMIN', 'give it'))
        expect(len(lab.ovs.log_lines('WARN.*end with this process.*CAP_SYS_ADMIN'
                                     )) == 3, 'log')


def test_kernel(context):
    """In front of the kernel datapath flows go on as well."""
    with kept_lab(context, make_lab=kernel_lab) as lab:
        a, b = lab.hosts
        with both_ways(a, b, 50) as streams:
            for how in ('SIGKILL', 'SIGTERM'):
                wait_layer(lab, a, b, 'xdp')
                wait_layer(lab, b, a, 'xdp')
                replace_process(lab, how)
            wait_layer(lab, a, b, 'xdp')
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)


def listen(host, macs):
    """Listens to 'host'; returns a function that returns the beginnings of the
    frames that have come from 'macs'."""
    with in_netns(host.netns):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                          socket.htons(ETH_P_ALL))
    s.bind(('eth0', ETH_P_ALL))
    s.setblocking(False)
    wanted = {bytes.fromhex(m.replace(':', '')) for m in macs}

    def read():
        frames = []
        while True:
            try:
                frame = s.recv(2048)
            except BlockingIOError:
                return frames
            if frame[6:12] in wanted:
                frames.append(frame[:60].hex())

    return read


@contextlib.contextmanager
def two_vlans(context):
    """Traffic within each of two VLANs, of which nothing may reach the other, and
    nothing be lost; yields a lab whose flows are in XDP."""
    with kept_lab(context, hosts=4) as lab:
        a, b, c, d = lab.hosts
        for host, tag in ((a, 10), (b, 10), (c, 20), (d, 20)):
            lab.ovs.vsctl('set', 'port', host.port, 'tag=%d' % tag)
        read = [listen(h, (x.mac, y.mac)) for h, x, y in (
            (a, c, d), (b, c, d), (c, a, b), (d, a, b))]
        # So fast, for a handover so short: each flow is sampled in a second.
        with both_ways(a, b, 500) as first, both_ways(c, d, 500) as second:
            for src, dst in ((a, b), (b, a), (c, d), (d, c)):
                wait_offloaded(lab, src, dst)
            yield lab
            wait_for('the new process to take over',
                     lambda: has_taken_over(lab), TAKEN_OVER)
            time.sleep(1)
        streams = first + second
        astray = [frame for frames in read for frame in frames()]
        gap = max(s.longest_gap for s in streams)
        all_lost = sum(s.lost for s in streams)
        context.note('%d of %d lost, longest gap %.2f s, %d astray', all_lost,
                     sum(s.sent for s in streams), gap, len(astray))
        check_nothing_lost(streams)
        expect(not astray, 'astray: %s', astray[:5])


def test_kills(context):
    """SIGKILL at random moments, also while the next process takes over."""
    n = int(os.environ.get('KILLS', '5'))
    seed = random.randrange(1 << 32)
    context.note('%d times, seed %d', n, seed)
    moments = random.Random(seed)
    with two_vlans(context) as lab:
        for _ in range(n):
            time.sleep(moments.uniform(0, 3))    # It takes two to take over.
            lab.ovs.kill_vswitchd()
            lab.ovs.spawn_vswitchd()


def test_restarts(context):
    """Orderly restarts, one after the other."""
    n = int(os.environ.get('RESTARTS', '3'))
    context.note('%d times', n)
    with two_vlans(context) as lab:
        for i in range(n):
            end(lab, ('SIGTERM', 'exit')[i % 2])
            lab.ovs.start_vswitchd()
            wait_for('the new process to take over',
                     lambda: has_taken_over(lab), TAKEN_OVER)


def test_port_gone(context):
    """A port that is removed meanwhile gets nothing, and keeps no program."""
    with kept_lab(context, hosts=3) as lab:
        a, b, c = lab.hosts
        with both_ways(a, b), both_ways(a, c):
            wait_offloaded(lab, a, b)
            wait_offloaded(lab, a, c)
            end(lab, 'SIGKILL')
            lab.ovs.vsctl('--no-wait', 'del-port', c.port)
            lab.ovs.start_vswitchd()
            lab.hosts.remove(c)
            wait_for('the others to be taken over',
                     lambda: has_taken_over(lab), TAKEN_OVER)
            time.sleep(0.5)
            # What its own side says, such as IPv6's reports: 1 in two runs.
            received = c.counters()['rx_packets']
            wait_for('its program to go',
                     lambda: not attached_program(lab, c.port), TAKEN_OVER)
            expect(c.counters()['rx_packets'] - received <= 5, '%s got %d packets',
                   c.port, c.counters()['rx_packets'] - received)
        expect(len(lab.pins()) == 2, 'pins: %s', lab.pins())


def test_port_removed_under_way(context):
    """A port that is removed while old flows are executed ends them all."""
    with kept_lab(context, hosts=3, config=['xdp-offload-handover=600']) as lab:
        a, b, c = lab.hosts
        with both_ways(a, b), both_ways(a, c):
            wait_offloaded(lab, a, b)
            wait_offloaded(lab, a, c)
            programs = programs_of(lab)
            end(lab, 'SIGKILL')
            lab.ovs.start_vswitchd()
            wait_for('the ports', lambda: len(lab.ovs.offload_show()[1]) == 3)
            expect(programs_of(lab) == programs, 'taken over too early')
            lab.ovs.vsctl('del-port', c.port)
            expect(not programs & programs_of(lab), 'old programs are left')
            expect(ping(a, b, 5) == 5, 'ping')


def test_port_stops(context):
    """A port that takes no frames any more ends the old flows as well."""
    with kept_lab(context, config=['xdp-offload-handover=600']) as lab:
        a, b = lab.hosts
        with both_ways(a, b) as streams:
            wait_offloaded(lab, a, b)
            programs = programs_of(lab)
            end(lab, 'SIGKILL')
            lab.ovs.start_vswitchd()
            wait_for('the ports', lambda: len(lab.ovs.offload_show()[1]) == 2)
            expect(programs_of(lab) == programs, 'taken over too early')
            b.run('ethtool', '-K', 'eth0', 'gro', 'off')
            wait_taken_over(lab, programs)
            received = streams[0].received
            wait_for('traffic', lambda: streams[0].received > received + 500)


def test_restore_wait(context):
    """Old flows last while OVS waits for its rules, whatever a port does, also if
    it waits for longer than they last without a process."""
    with kept_lab(context, hosts=3,
                  config=['xdp-offload-orphan-timeout=10']) as lab:
        a, b, c = lab.hosts
        with both_ways(a, b) as streams:
            wait_offloaded(lab, a, b)
            wait_offloaded(lab, b, a)
            programs = programs_of(lab)
            end(lab, 'SIGKILL')
            with restoring(lab):
                wait_for('the ports',
                         lambda: len(lab.ovs.offload_show()[1]) == 3)
                time.sleep(2)
                c.run('ip', 'link', 'set', 'eth0', 'down')
                time.sleep(10)
                expect(programs_of(lab) == programs, 'taken over too early')
            wait_taken_over(lab, programs)
            wait_offloaded(lab, a, b)
        check_nothing_lost(streams)


def test_no_successor(context):
    """Flows that nobody tends end at the deadline, and leave a way in."""
    with kept_lab(context, config=['xdp-offload-orphan-timeout=10']) as lab:
        a, b = lab.hosts
        with both_ways(a, b) as streams:
            wait_offloaded(lab, a, b)
            time.sleep(1.5)      # A sign of life with a good clock.
            end(lab, 'SIGKILL')
            killed = time.monotonic()
            time.sleep(6)
            lost = streams[0].lost
            # None in three runs; some may be on their way.
            expect(lost < 20, 'lost %d before the deadline', lost)
            wait_for('the end', lambda: time.monotonic()
                     > streams[0].last_arrival + 1, 20)
            after = streams[0].last_arrival - killed
            context.note('ended after %.1f s', after)
            # 9.2 to 9.5 in five runs: the last sign of life was up to a second before.
            expect(8 < after < 11, 'ended after %.1f s', after)
            lab.ovs.start_vswitchd()
            wait_offloaded(lab, a, b, 20)
        expect(ping(a, b, 5) == 5, 'ping')


def test_switched_off(context):
    """other_config:xdp-offload-persist=false: flows end with the process."""
    with kept_lab(context) as lab:
        a, b = lab.hosts
        with both_ways(a, b):
            wait_offloaded(lab, a, b)
            programs = programs_of(lab)
            end(lab, 'SIGKILL')
            lab.ovs.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                          'other_config:xdp-offload-persist=false')
            lab.ovs.start_vswitchd()
            wait_taken_over(lab, programs)
            expect(not lab.pins(), 'pins: %s', lab.pins())
            wait_offloaded(lab, a, b)
            programs = programs_of(lab)
            maps = maps_of(programs)
            end(lab, 'SIGKILL')
            wait_freed(programs, maps)


def test_clean_up(context):
    """"exit --cleanup" leaves nothing on the devices."""
    with kept_lab(context) as lab:
        a, b = lab.hosts
        with both_ways(a, b):
            wait_offloaded(lab, a, b)
            programs = programs_of(lab)
            maps = maps_of(programs)
            process = lab.ovs.processes.pop('ovs-vswitchd')
            lab.ovs.appctl('exit', '--cleanup')
            expect(process.wait(10) == 0, 'exit status')
            wait_freed(programs, maps)
        expect(not lab.pins(), 'pins: %s', lab.pins())
        expect(not programs & all_programs(), 'programs are left')


@contextlib.contextmanager
def directory_of(make):
    """While in it, the directory for pins is as 'make' makes it."""
    directory = PINS
    target = BPF_FS + '/target'
    shutil.rmtree(directory, ignore_errors=True)
    make(directory, target)
    try:
        yield directory
    finally:
        (os.unlink if os.path.islink(directory) else os.rmdir)(directory)
        if os.path.exists(target):
            os.rmdir(target)


def with_mode(mode):
    def make(directory, _):
        os.mkdir(directory)
        os.chmod(directory, mode)
    return make


def of_somebody(directory, _):
    os.mkdir(directory, 0o700)
    os.chown(directory, 65534, 65534)


def by_a_link(directory, target):
    os.mkdir(target, 0o700)
    os.symlink(target, directory)


UNSAFE = [
    ('writable by all', with_mode(0o777)),
    ('writable by its group', with_mode(0o770)),
    ('readable by all', with_mode(0o755)),
    ('a symbolic link', by_a_link),
]


def test_directory(context):
    """A directory for pins that others could write is not used, and show says so.

    The log does as well, and both say what to do.
    """
    for what, make in UNSAFE:
        with directory_of(make) as directory, kept_lab(context) as lab:
            a, b = lab.hosts
            wait_for('ping', lambda: ping(a, b, 2) == 2)
            expect(not os.listdir(directory), '%s: pins: %s', what,
                   os.listdir(directory))
            lines = lab.ovs.log_lines(r'WARN.*' + re.escape(directory))
            expect(len(lines) == 1, '%s: log: %s', what, lines)
            expect_restarts(lab, END % ('.*' + directory,
                                        'rm -r ' + directory))


@contextlib.contextmanager
def users_turn():
    """While in it, the BPF file system may be made somebody's to enter."""
    try:
        yield
    finally:
        os.chown(BPF_FS, 0, 0)
        os.chmod(BPF_FS, 0o700)
        shutil.rmtree(PINS, ignore_errors=True)


def test_taken_over(context):
    """Root takes the directory of another user, whom OVS may have had before."""
    with users_turn():
        shutil.rmtree(PINS, ignore_errors=True)
        of_somebody(PINS, None)
        with kept_lab(context) as lab:
            expect_restarts(lab, SURVIVE)
            expect(len(lab.pins()) == 2, 'pins: %s', lab.pins())
            found = os.stat(PINS)
            expect((found.st_uid, found.st_mode & 0o777) == (0, 0o700), '%s',
                   found)


def change_user(lab, user):
    """The next ovs-vswitchd is another user's."""
    lab.ovs.wrapper = as_nobody() if user else list(VIEW)
    run('chown', '-R', '%s:' % (user or 'root'), lab.tmp)
    if user:
        run(PREPARE_PINS, user)


def test_user(context):
    """Flows survive changes of ovs-vswitchd's user, from root and back.

    /sys/fs/bpf is root's alone, as systemd mounts it.
    """
    found = os.stat(BPF_FS)
    expect((found.st_uid, found.st_mode & 0o777) == (0, 0o700), '%s', found)
    with users_turn(), kept_lab(context) as lab:
        a, b = lab.hosts
        with both_ways(a, b) as streams:
            for user in ('nobody', 'nobody', None, 'nobody', None):
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                expect(len(lab.pins()) == 2, 'pins: %s', lab.pins())
                change_user(lab, user)
                context.note('to %s after %.1f s', user or 'root',
                             replace_process(lab, 'SIGKILL'))
                expect_restarts(lab, SURVIVE)
            wait_offloaded(lab, a, b)
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)


def test_unprepared(context):
    """To a user whom root has not let in, log and show say what helps, and it does.
    """
    with users_turn(), kept_lab(context) as lab:
        a, b = lab.hosts
        end(lab, 'SIGKILL')
        lab.ovs.wrapper = as_nobody()
        run('chown', '-R', 'nobody:', lab.tmp)
        lab.ovs.start_vswitchd()
        for host in lab.hosts:
            wait_for('the log', lambda: lab.ovs.log_lines(
                '%s: not offloaded: the program of another ovs-vswitchd is .*'
                'rm -r %s' % (host.port, PINS)))
        expect_restarts(lab, END % ('cannot make ' + PINS, 'prepare-pins'))
        shutil.rmtree(PINS)
        end(lab, 'SIGKILL')
        lab.ovs.start_vswitchd()
        with both_ways(a, b):
            wait_offloaded(lab, a, b)
            wait_offloaded(lab, b, a)


def test_reasons(context):
    """Whatever keeps flows from surviving, show says what it is and what helps."""
    rows = [([], [], END % ('no BPF file system', 'mount -t bpf')),
            (VIEW, ['xdp-offload-persist=false'],
             END % ('other_config:xdp-offload-persist=false', 'remove')),
            (as_nobody(), [], END % ('cannot make ' + PINS, 'prepare-pins'))]
    for wrapper, config, expected in rows:
        with context.lab(wrapper=wrapper, config=config) as lab:
            expect_restarts(lab, expected)
            expect(not lab.pins(), 'pins: %s', lab.pins())
            expect(config or lab.ovs.log_lines(
                'flows in XDP end with this process'), 'nothing in the log')
            expect(ping(*lab.hosts, 5) == 5, 'ping')


# A firewall that translates, in zone 1: what a sends to b comes from SOURCE, and what
# it sends to SERVICE goes to b.
SOURCE, SERVICE = '10.77.0.101', '10.77.0.102'
FLUSHED = 7203                  # The port.
TRANSLATED = ('priority=1,arp,actions=NORMAL',
              'priority=10,ip,actions=ct(table=1,zone=1,nat)',
              'table=1,priority=9,ip,ct_state=+trk+inv,actions=drop',
              'table=1,priority=8,in_port={b},ip,ct_state=+trk+est,actions={a}',
              'table=1,priority=8,in_port={a},ip,ct_state=+trk+est,actions={b}')
MAY_OPEN = tuple(
    'table=1,priority=7,in_port={a},ip,ct_state=+trk+new,nw_dst=%s,'
    'actions=ct(commit,zone=1,nat(%s),exec(load:%s->NXM_NX_CT_MARK[],'
    'load:%s->NXM_NX_CT_LABEL[])),{b}' % row
    for row in (('{ip}', 'src=' + SOURCE, '0x17', '0x77'),
                (SERVICE, 'dst={ip}', '0x18', '0')))


class Dialogue:
    """What a sends to 'to' comes back from b, one message after the other."""

    INTERVAL = 0.005
    PATIENCE = 2                # Seconds, then a message is lost.

    def __init__(self, stack, hosts, kind, to, port):
        a, b = hosts
        self.kind = kind
        self.sent = self.lost = 0
        self.peers = set()
        self.ended = threading.Event()
        self.listener = stack.enter_context(b.socket(socket.AF_INET, kind))
        self.listener.bind((b.ip4, port))
        self.client = stack.enter_context(a.socket(socket.AF_INET, kind))
        self.client.settimeout(self.PATIENCE)
        if kind == socket.SOCK_STREAM:
            self.listener.listen()
        self.client.connect((to, port))
        self.server = self.listener
        if kind == socket.SOCK_STREAM:
            self.server, peer = self.listener.accept()
            stack.enter_context(self.server)
            self.peers.add(peer)
            for s in (self.server, self.client):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.settimeout(0.2)
        self.threads = [threading.Thread(target=f)
                        for f in (self.serve, self.talk)]
        for thread in self.threads:
            thread.start()
        stack.callback(self.end)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def serve(self):
        while not self.ended.is_set():
            with contextlib.suppress(socket.timeout):
                data, peer = self.server.recvfrom(8)
                if self.kind == socket.SOCK_DGRAM:
                    self.peers.add(peer)
                    self.server.sendto(data, peer)
                elif data:
                    self.server.sendall(data)

    def talk(self):
        while not self.ended.wait(self.INTERVAL):
            message = self.sent.to_bytes(8, 'big')
            self.sent += 1
            try:
                self.client.sendall(message)
                while self.client.recv(8) != message:
                    pass
            except OSError:
                self.lost += 1

    def __str__(self):
        return '%d of %d lost' % (self.lost, self.sent)


def add_translated(lab, rules):
    a, b = lab.hosts
    names = {'a': lab.ovs.of_port(a.port), 'b': lab.ovs.of_port(b.port),
             'ip': b.ip4}
    for line in rules:
        lab.ovs.ofctl('add-flow', 'br0', line.format(**names))


def tracked(lab):
    """OVS's connections, without what changes with each packet."""
    text = lab.ovs.appctl('dpctl/dump-conntrack', '-m', 'zone=1')
    return sorted(re.sub(r',(id|timeout)=\d+', '', line)
                  for line in text.splitlines())


def ended(connections):
    return {line for line in connections if 'FIN_WAIT_2' in line}


def retransmitted(hosts):
    n = 0
    for host in hosts:
        names, values = [line.split() for line in host.run(
            'cat', '/proc/net/snmp').splitlines() if line.startswith('Tcp:')]
        n += int(dict(zip(names, values))['RetransSegs'])
    return n


def has_ports(lab):
    with contextlib.suppress(RuntimeError):
        return len(lab.ovs.offload_show()[1]) == len(lab.hosts)


def replace_translating(lab, how):
    """The next process has no rule by which there could be new connections."""
    programs = programs_of(lab)
    end(lab, how)
    time.sleep(1)
    with restoring(lab):
        wait_for('the ports', lambda: has_ports(lab), 20)
        lab.ovs.ofctl('del-flows', 'br0')
        add_translated(lab, TRANSLATED)
    wait_taken_over(lab, programs)


def begin_dialogues(lab, stack):
    """Connections of TCP and UDP, translated ones and others, and the rules for them."""
    a, b = lab.hosts
    for host, ip, mac in ((a, SERVICE, b.mac), (b, SOURCE, a.mac)):
        run('ip', '-n', host.netns, 'neigh', 'replace', ip, 'lladdr', mac,
            'dev', 'eth0', 'nud', 'permanent')
    lab.ovs.ofctl('del-flows', 'br0')
    add_translated(lab, TRANSLATED + MAY_OPEN)
    return [Dialogue(stack, lab.hosts, kind, to, port)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
            for to, port in ((b.ip4, 7200), (SERVICE, 7201))]


def check_dialogues(context, dialogues):
    """Ends them: none has lost anything, or come from elsewhere meanwhile."""
    for d in dialogues:
        d.end()
    context.note('; '.join(map(str, dialogues)))
    for d in dialogues:
        expect(not d.lost and len(d.peers) == 1, '%s, peers %s', d, d.peers)


def brief_connection(hosts, port):
    """One that both sides have ended."""
    a, b = hosts
    with b.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((b.ip4, port))
        listener.listen()
        with a.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect((b.ip4, port))
            listener.accept()[0].close()
            client.recv(1)


def test_connections(context):
    """Translated connections outlive ovs-vswitchd, with all that OVS knows of them."""
    with kept_lab(context) as lab, contextlib.ExitStack() as stack:
        a, b = hosts = lab.hosts
        dialogues = begin_dialogues(lab, stack)
        s = stack.enter_context(a.socket(socket.AF_INET, socket.SOCK_DGRAM))
        s.sendto(b'x', (b.ip4, FLUSHED))
        time.sleep(0.5)
        lab.ovs.appctl('dpctl/flush-conntrack', 'zone=1',
                       'ct_nw_src=%s,ct_nw_dst=%s,ct_nw_proto=17,ct_tp_src=%d,'
                       'ct_tp_dst=%d' % (a.ip4, b.ip4, s.getsockname()[1],
                                         FLUSHED))
        for how in ('SIGKILL', 'SIGTERM', 'exit'):
            add_translated(lab, MAY_OPEN)
            brief_connection(hosts, 7210)
            s.sendto(b'x', (b.ip4, 7202))       # Nobody ever answers.
            time.sleep(1)
            before, again = tracked(lab), retransmitted(hosts)
            replace_translating(lab, how)
            after, again = tracked(lab), retransmitted(hosts) - again
            context.note('%s: %d connections, %d of %d that had ended; %s', how,
                         len(after), len(ended(after)), len(ended(before)),
                         lab.ovs.log_lines('go on')[-1].split('|')[-1])
            # Those that have ended last for 30 s.
            expect(before == sorted(set(after) | ended(before)),
                   'before:\n%s\nafter:\n%s', '\n'.join(before),
                   '\n'.join(after))
            expect('=%d' % FLUSHED not in str(after), 'a flushed one came back')
            expect(not again, '%d segments of TCP sent again', again)
        missed = passed(lab, a.port)
        time.sleep(1)
        context.note('passed to OVS afterwards: %d',
                     passed(lab, a.port) - missed)
        check_dialogues(context, dialogues)
        expect(passed(lab, a.port) - missed < 20, 'not executed in XDP')


TESTS = [
    ('kept-ways', test_ways),
    ('kept-connections', test_connections),
    ('kept-copies', test_copies),
    ('kept-late-rules', test_late_rules),
    ('kept-late-controller', test_late_controller),
    ('kept-generic', test_generic),
    ('kept-no-admin', test_no_admin),
    ('kept-kills', test_kills),
    ('kept-restarts', test_restarts),
    ('kept-port-gone', test_port_gone),
    ('kept-port-removed', test_port_removed_under_way),
    ('kept-port-stops', test_port_stops),
    ('kept-restore-wait', test_restore_wait),
    ('kept-no-successor', test_no_successor),
    ('kept-switched-off', test_switched_off),
    ('kept-clean-up', test_clean_up),
    ('kept-directory', test_directory),
    ('kept-taken-over', test_taken_over),
    ('kept-user', test_user),
    ('kept-unprepared', test_unprepared),
    ('kept-reasons', test_reasons),
    ('kernel-kept', test_kernel),
]
