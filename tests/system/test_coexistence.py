# SPDX-License-Identifier: Apache-2.0
"""Sharing a device through libxdp's dispatcher with somebody else's filter.

The filters are those of xdp-filter (package xdp-tools), loaded by xdp-loader:
in front of our program, at xdp-filter's own priority or an earlier one, and
behind it and netdev-afxdp's.  Each drops one UDP port, and counts that.

Needs a kernel whose programs can be replaced (freplace) and a BPF file system
that ovs-vswitchd sees, which "ip netns exec" hides; so ovs-vswitchd is run in
the mount namespace of the tests.
"""
import contextlib
import functools
import json
import os
import re
import shutil
import signal

from lab import (Lab, attached_program, exchange, ping, run, settled_counters,
                 udp_echo, udp_frame, wait_for)
from suite import (Failed, Skipped, expect, expect_exact, introduce,
                   per_port_rules, xdp_packets)
from test_config import set_config
from test_restart import all_maps, maps_of, wait_freed

PINS = '/sys/fs/bpf/xdp'
FILTER = 'xdpfilt_alw_udp'
DIRECTORIES = ('/usr/lib/x86_64-linux-gnu/bpf', '/usr/lib/bpf')
# Bits of the values of xdp-filter's map of ports, below a counter.
DESTINATION, UDP, COUNTER_SHIFT = 1 << 1, 1 << 3, 6

OURS, AFXDP = 'ours', 'AF_XDP'
AFXDP_PRIORITY = 20             # libxdp's.
FRONT, BEHIND = 'front', 'behind'
BEHIND_PRIORITY = 50
DENIED = {FRONT: 4444, BEHIND: 5555}
N_DENIED, N_ECHO = 5, 10
AFXDP_PORT = {'kind': 'afxdp', 'xdp_mode': 'native'}
# A thread that always polls would starve the others of an emulator.
AFXDP_CONFIG = ['pmd-maxsleep=10000']
TIMEOUT = 20                    # Of an emulated machine.


def in_switch(lab, *command, **kwargs):
    """Runs a command that sees the devices and the BPF file system."""
    return run('nsenter', '--net=/run/netns/' + lab.switch, *command, **kwargs)


class Filter:
    """Somebody else's program on a port, which drops DENIED[place]."""

    def __init__(self, lab, port, place, priority):
        self.lab, self.port, self.place = lab, port, place
        self.priority = priority
        self.id = self.map = None

    def attach(self):
        """Returns whether it shares the device through a dispatcher."""
        path = next((p for p in ('%s/%s.o' % (d, FILTER) for d in DIRECTORIES)
                     if os.path.exists(p)), None)
        if not shutil.which('xdp-loader') or not path:
            raise Skipped('no xdp-loader or xdp-filter (package xdp-tools)')
        in_switch(self.lab, 'xdp-loader', 'load', '-m', 'native', '-P',
                  str(self.priority), self.port, path)
        self.id = next((p['id'] for p in programs(self.lab, self.port)
                        if p['priority'] == self.priority
                        and p['name'] == FILTER), None)
        if self.id is None:
            return False
        names = all_maps()
        self.map = next(m for m in maps_of({self.id})
                        if names[m] == 'filter_ports')
        self.bpftool('update', 'value', 'hex',
                     *hex_bytes((DESTINATION | UDP).to_bytes(8, 'little')))
        return True

    def bpftool(self, command, *more):
        key = DENIED[self.place].to_bytes(2, 'big') + b'\0\0'
        return run('bpftool', '-j', 'map', command, 'id', str(self.map), 'key',
                   'hex', *hex_bytes(key), *more)

    def detach(self):
        in_switch(self.lab, 'xdp-loader', 'unload', self.port, '-i',
                  str(self.id))

    def dropped(self):
        values = json.loads(self.bpftool('lookup'))['values']
        return sum(int.from_bytes(bytes(int(b, 16) for b in v['value']),
                                  'little') >> COUNTER_SHIFT for v in values)


def hex_bytes(data):
    return ['%02x' % byte for byte in data]


def programs(lab, port):
    """The programs in the dispatcher of a port's device, in their order."""
    status = in_switch(lab, 'xdp-loader', 'status', port)
    return [{'priority': int(priority), 'name': name, 'id': int(number)}
            for priority, name, number in re.findall(
                r'^ => +(\d+) +(\S+) +(\d+) ', status, re.MULTILINE)]


def pins():
    """Yields the path and the id of each program that libxdp has pinned."""
    for directory, _, names in os.walk(PINS):
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith('-prog'):
                with contextlib.suppress(RuntimeError):     # Gone meanwhile.
                    yield path, json.loads(run('bpftool', '-j', 'prog', 'show',
                                               'pinned', path))['id']


class Shared:
    """A port whose device is shared, and what has been seen there.

    Its host 'a' sends; 'b' is another one, and has its port.
    """

    def __init__(self, context, lab, front_priority):
        self.context, self.lab = context, lab
        self.a, self.b = lab.hosts
        self.port = self.a.port
        self.filters = {
            place: Filter(lab, self.port, place, priority)
            for place, priority in ((FRONT, front_priority),
                                    (BEHIND, BEHIND_PRIORITY))}
        self.ours, self.seen = set(), set()
        self.before = None

    def order(self):
        """Who is on the device, as a tuple of names."""
        names = []
        for program in programs(self.lab, self.port):
            self.seen.add(program['id'])
            name = OURS
            if program['name'] == FILTER:
                is_behind = program['priority'] == BEHIND_PRIORITY
                name = BEHIND if is_behind else FRONT
            elif program['priority'] == AFXDP_PRIORITY:
                name = AFXDP
            if name == OURS:
                self.ours.add(program['id'])
            names.append(name)
        return tuple(names)

    def expect_order(self, what, order):
        """Waits for it: our program joins again when the worker has looked."""
        with contextlib.suppress(RuntimeError):
            wait_for(what, lambda: self.order() == order, TIMEOUT)
        found = self.order()
        expect(found == order, '%s: %s on the device, not %s', what, found,
               order)
        live = {p['id'] for p in programs(self.lab, self.port)}
        stale = [path for path, number in pins() if number in self.ours - live]
        expect(not stale, '%s: pins of ours left: %s', what, stale)

    def maps(self):
        """Those that are only ours; netdev-afxdp's is shared, and stays with
        its program, which it leaves pinned if it is killed."""
        return maps_of(self.ours) - maps_of(self.seen - self.ours)

    def see(self):
        for host in self.lab.hosts:
            self.seen.update(p['id'] for p in programs(self.lab, host.port))

    def remove_pins(self):
        """Removes what netdev-afxdp leaves pinned, by taking dispatchers off
        by netlink: of itself and of others."""
        self.see()
        self.lab.ovs.stop()
        for path, number in pins():
            if number in self.seen:
                for each in path, path.replace('-prog', '-link'):
                    os.unlink(each)
                with contextlib.suppress(OSError):      # Not the last one.
                    os.rmdir(os.path.dirname(path))

    def count(self):
        """From now on all packets are counted; see check_exact()."""
        per_port_rules(self.lab)
        self.before = settled_counters(self.lab, self.lab.hosts)

    def check_exact(self):
        expect_exact(self.lab, self.before)

    def check_denied(self, what, place, arrives, is_there):
        """Sends frames that the filter at 'place' drops, if it sees them."""
        frame = udp_frame(self.a, self.b, dport=DENIED[place])
        one = self.filters[place]
        dropped = one.dropped() if is_there else 0
        arrived = sum(exchange(self.a, self.b, frame, N_DENIED).values())
        expect(arrived == (N_DENIED if arrives else 0), '%s: %d of %d frames '
               'for the filter %s came through', what, arrived, N_DENIED,
               place)
        if is_there:
            dropped = one.dropped() - dropped
            expect(dropped == N_DENIED - arrived, '%s: %d of %d frames '
                   'arrived, and the filter %s counts %d', what, arrived,
                   N_DENIED, place, dropped)
        self.forgive(N_DENIED - arrived, len(frame), place == BEHIND)

    def forgive(self, count, size, we_passed_them):
        """OpenFlow has not seen these packets, which others have dropped."""
        before = self.before[self.port]
        packets, total = before['sent']
        before['sent'] = packets + count, total + count * size
        if we_passed_them:
            before['passed'] += count

    def echo(self):
        """Some UDP there and back; how much was not lost, and ran in XDP."""
        before = xdp_packets(self.lab, self.port)
        back = udp_echo(self.a, self.b, N_ECHO)
        return back, xdp_packets(self.lab, self.port) - before

    def check_traffic(self, what, in_xdp, order):
        """UDP and ping pass, in XDP, and the filter in front is obeyed."""
        if in_xdp:
            wait_for(what + ': UDP in XDP',
                     lambda: self.echo()[1] >= N_ECHO, TIMEOUT)
        back, executed = self.echo()
        expect(back == N_ECHO, '%s: %d of %d datagrams came back', what, back,
               N_ECHO)
        expect(executed >= N_ECHO if in_xdp else not executed,
               '%s: %d packets ran in XDP', what, executed)
        expect(ping(self.a, self.b, 2) == 2, '%s: ping', what)
        there = FRONT in order
        self.check_denied(what, FRONT, arrives=not there, is_there=there)

    def run(self, steps):
        """Each step is (what, action, in XDP, order on the device after it).

        Nothing may be lost in all of them, and nothing counted twice.
        """
        self.count()
        for what, action, in_xdp, order in steps:
            action()
            self.expect_order(what, order)
            self.check_traffic(what, in_xdp, order)
        self.check_exact()

    def restart(self):
        self.see()
        self.lab.ovs.kill_vswitchd(signal.SIGKILL)
        self.lab.ovs.start_vswitchd()
        # Returns when ovs-vswitchd has looked at its ports.
        self.lab.ovs.vsctl('set', 'bridge', 'br0', 'external_ids:restarted=1')


@functools.cache        # Until it raises.
def need_dispatcher(context):
    """Raises Skipped if libxdp cannot share a device here."""
    with Lab(context.ovs_dir, context.plugin_dir) as lab:
        host = lab.add_host(port=False)
        probe = Filter(lab, host.port, FRONT, 5)
        if not probe.attach():
            raise Skipped('libxdp has no dispatcher here (no freplace in the '
                          'kernel, or no BPF file system)')
        probe.detach()


@contextlib.contextmanager
def shared_lab(context, front_priority, port, joins=True, **options):
    """A Shared in a lab; the port of its host a is not there yet."""
    need_dispatcher(context)
    # If a test before this one has found out, no lab need be started.
    check_joins(joins, getattr(context, 'joins_dispatcher', joins))
    mounts = ['nsenter', '--mount=/proc/%d/ns/mnt' % os.getpid()]
    # What old flows do between two processes is in nobody's counters.
    config = [*options.pop('config', ()), 'xdp-offload-persist=false']
    with context.lab(hosts=0, wrapper=mounts, config=config,
                     **options) as lab:
        a = lab.add_host(port=False, queues=2)
        a.run('ethtool', '-L', 'eth0', 'tx', '1')   # OVS reads one for now.
        lab.add_host(**port)
        shared = Shared(context, lab, front_priority)
        try:
            yield shared
        finally:
            shared.remove_pins()


def nothing():
    pass


def check_joins(joins, joined):
    """Raises Skipped if our program does what the test is not about."""
    if joined and not joins:
        raise Skipped('our program can join the dispatcher here')
    if joins and not joined:
        raise Skipped('the kernel does not let our program join the '
                      'dispatcher of this libxdp')


def add_port(shared, joins=True, **port):
    """Adds the port; notes whether our program joins, and checks that.

    Since Linux 6.13, and later releases of 6.12, a program that changes
    packets only joins the dispatcher of libxdp 1.5.5.
    """
    shared.lab.ovs.add_port(shared.port, **port)
    shown = shared.lab.ovs.offload_show()[1].get(shared.port, {})
    joined = 'dispatcher' in shown.get('attached', '')
    reasons = shared.lab.ovs.log_lines('Extension program changes packet')
    expect(joined or reasons, 'not in the dispatcher, for no known reason')
    shared.context.joins_dispatcher = joined
    check_joins(joins, joined)
    introduce(shared.lab.hosts)


def test_afxdp(context):
    """Filters come and go around the programs of an afxdp port."""
    with shared_lab(context, 5, AFXDP_PORT, config=AFXDP_CONFIG) as shared:
        lab = shared.lab
        front, behind = shared.filters[FRONT], shared.filters[BEHIND]
        add_port(shared, **AFXDP_PORT)
        alone = OURS, AFXDP
        shared.run([
            ('port', nothing, True, alone),
            ('front joins', front.attach, True, (FRONT, *alone)),
            ('behind joins', behind.attach, True, (FRONT, *alone, BEHIND)),
            ('offload off', lambda: set_config(lab, hw_offload='false'),
             False, (FRONT, *alone, BEHIND)),
            ('front leaves', front.detach, False, (*alone, BEHIND)),
            ('offload on', lambda: set_config(lab, hw_offload='true'),
             True, (*alone, BEHIND)),
            ('front is back', front.attach, True, (FRONT, *alone, BEHIND))])
        # netdev-afxdp takes off all that is on the device, as without us.
        lab.ovs.vsctl('set', 'interface', shared.port, 'options:n_rxq=2')
        shared.expect_order('n_rxq', alone)
        shared.run([
            ('n_rxq', nothing, True, alone),
            ('front after n_rxq', front.attach, True, (FRONT, *alone))])
        ours, maps = set(shared.ours), shared.maps()
        shared.restart()
        shared.expect_order('killed', alone)
        wait_freed(ours, maps)
        introduce(lab.hosts)
        shared.run([
            ('killed', nothing, True, alone),
            ('front after that', front.attach, True, (FRONT, *alone))])
        maps = shared.maps()
        lab.ovs.vsctl('del-port', shared.port)
        shared.expect_order('no port', ())
    wait_freed(shared.ours, maps)


def check_misses(shared):
    """The filter behind sees what is not executed in XDP, and only that."""
    shared.lab.ovs.appctl('revalidator/purge')
    shared.check_denied('misses', BEHIND, arrives=False, is_there=True)
    shared.check_traffic('misses', True, (FRONT, OURS, BEHIND))
    shared.check_denied('hits', BEHIND, arrives=True, is_there=True)


def check_no_room(shared):
    """Our program is alone on b's device, by a BPF link: nobody joins it."""
    before = attached_program(shared.lab, shared.b.port)
    try:
        Filter(shared.lab, shared.b.port, FRONT, 5).attach()
        raise Failed('a filter is where there is no dispatcher')
    except RuntimeError:
        pass
    after = attached_program(shared.lab, shared.b.port)
    expect(before and after == before, 'first %s, now %s', before, after)


def test_system(context):
    """Filters before, around and after our program on a system port."""
    port = {'kind': 'system'}
    with shared_lab(context, 10, port, config=[
            'xdp-offload-system-ports=true']) as shared:
        lab = shared.lab
        front, behind = shared.filters[FRONT], shared.filters[BEHIND]
        for host in lab.hosts:
            # OVS's raw sockets do not complete checksums.
            host.run('ethtool', '-K', 'eth0', 'tx', 'off')
        behind.attach()
        front.attach()
        add_port(shared, **port)
        everybody = FRONT, OURS, BEHIND
        shared.run([
            ('they were first', nothing, True, everybody),
            ('misses', lambda: check_misses(shared), True, everybody),
            ('no dispatcher', lambda: check_no_room(shared), True, everybody),
            ('front leaves', front.detach, True, (OURS, BEHIND)),
            ('behind leaves', behind.detach, True, (OURS,)),
            ('front joins', front.attach, True, (FRONT, OURS)),
            ('behind joins', behind.attach, True, everybody)])
        ours = set(shared.ours)
        shared.restart()
        introduce(lab.hosts)
        shared.expect_order('killed', everybody)
        live = {p['id'] for p in programs(lab, shared.port)}
        expect(not live & ours, 'the program of the first run is still there')
        shared.run([
            ('killed', nothing, True, everybody),
            ('offload off', lambda: set_config(lab, hw_offload='false'),
             False, everybody),
            ('offload on', lambda: set_config(lab, hw_offload='true'),
             True, everybody)])
        dropped = front.dropped()
        lab.ovs.vsctl('del-port', shared.port)
        shared.expect_order('no port', (FRONT, BEHIND))
        exchange(shared.a, shared.b,
                 udp_frame(shared.a, shared.b, dport=DENIED[FRONT]), N_DENIED)
        expect(front.dropped() == dropped + N_DENIED, 'front drops no more')
        lab.ovs.add_port(shared.port, **port)
        shared.expect_order('port again', everybody)
        lab.ovs.kill_vswitchd(signal.SIGTERM)
        shared.expect_order('terminated', (FRONT, BEHIND))
        lab.ovs.start_vswitchd()
        shared.expect_order('started', everybody)
        front.detach()
        behind.detach()
        shared.expect_order('they leave', (OURS,))
        maps = shared.maps()
        lab.ovs.vsctl('del-port', shared.port)
        shared.expect_order('we leave', ())
    # Not before: libxdp 1.3 leaks descriptors of what it has found there.
    wait_freed(shared.ours, maps)


def test_unreadable(context):
    """A dispatcher whose pins OVS does not see is refused, and stays."""
    need_dispatcher(context)
    with context.lab(kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.hosts
        c = lab.add_host(port=False)
        front = Filter(lab, c.port, FRONT, 5)
        front.attach()
        lab.ovs.add_port(c.port, 'system')
        introduce(lab.hosts)
        lines = lab.ovs.log_lines('WARN.*%s: not offloaded.*xdp_dispatcher'
                                  % c.port)
        expect(len(lines) == 1, 'the log: %s', lines)
        expect(ping(c, a, 3) == 3 and ping(a, b, 3) == 3, 'ping')
        lab.ovs.vsctl('del-port', c.port)
        found = programs(lab, c.port)
        expect([p['id'] for p in found] == [front.id], 'now there: %s', found)
        front.detach()


def test_cannot_join(context):
    """Where our program cannot join: alone on an afxdp port, or refused."""
    with shared_lab(context, 5, AFXDP_PORT, joins=False, config=[
            *AFXDP_CONFIG, 'xdp-offload-system-ports=true']) as shared:
        lab = shared.lab
        add_port(shared, joins=False, **AFXDP_PORT)
        shared.run([
            ('alone', nothing, True, ()),
            ('no dispatcher', lambda: check_no_room(shared), True, ())])
        lab.ovs.vsctl('set', 'interface', shared.port, 'options:n_rxq=2')
        shared.run([('n_rxq', nothing, True, ())])
        shared.restart()
        introduce(lab.hosts)
        shared.run([('killed', nothing, True, ())])
        lab.ovs.vsctl('del-port', shared.port)
        expect(not attached_program(lab, shared.port), 'it is still there')
        front = shared.filters[FRONT]
        front.attach()
        lab.ovs.add_port(shared.port, 'system')
        lines = lab.ovs.log_lines('WARN.*%s: not offloaded: cannot join'
                                  % shared.port)
        expect(len(lines) == 1, 'the log: %s', lines)
        per_port_rules(lab)     # It has a new number.
        introduce(lab.hosts)
        wait_for('ping', lambda: ping(shared.a, shared.b, 3) == 3, TIMEOUT)
        shared.expect_order('refused', (FRONT,))


TESTS = [
    ('coexist-afxdp', test_afxdp),
    ('coexist-system', test_system),
    ('coexist-cannot-join', test_cannot_join),
    ('coexist-unreadable', test_unreadable),
]
