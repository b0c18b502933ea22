# SPDX-License-Identifier: Apache-2.0
"""Ports are devices: neither names nor numbers nor what they once were."""
import contextlib
import re
import time

from lab import Stream, run, udp_frame, wait_for
from suite import expect, flows_between, introduce, wait_offloaded, xdp_packets
from test_ports import Watch, add_port, forward_by_address


def explain(lab, reason=''):
    """How many flows of the reason are not executed in XDP."""
    return len(re.findall(r'^  ufid:', lab.ovs.appctl(
        'xdp-offload/explain', *([reason] if reason else [])), re.MULTILINE))


def both_in_xdp(lab, a, b):
    return (flows_between(lab, a, b, 'xdp')
            and flows_between(lab, b, a, 'xdp'))


# Seconds: OVS asks when it dumps flows, twice a second, and it takes two dumps.  0.0 to
# 0.6 in four runs, and 1.5 with ten busy programs for each CPU.
SOON = 2


def back_in_xdp(lab, a, b, what, context, timeout=6):
    begin = time.monotonic()
    wait_for('both flows in XDP after %s' % what,
             lambda: both_in_xdp(lab, a, b), timeout)
    took = time.monotonic() - begin
    context.note('%s: back in %.1f s', what, took)
    return took


# -- Names --------------------------------------------------------------------

def rename(lab, old, new):
    """As udev does it, which takes the device down where it must."""
    run('ip', '-n', lab.switch, 'link', 'set', old, 'down')
    run('ip', '-n', lab.switch, 'link', 'set', old, 'name', new)


def swap_names(lab, b, c):
    for old, new in ((b.port, 'tmp0'), (c.port, b.port), ('tmp0', c.port)):
        rename(lab, old, new)
    for host in (b, c):
        run('ip', '-n', lab.switch, 'link', 'set', host.port, 'up')


def take_name(lab, b, c):
    """Another device, a port as well, gets the name that b's had."""
    rename(lab, b.port, 'gone0')
    rename(lab, c.port, b.port)
    for name in ('gone0', b.port):
        run('ip', '-n', lab.switch, 'link', 'set', name, 'up')


def only_rename(lab, b, _):
    rename(lab, b.port, 'other0')
    run('ip', '-n', lab.switch, 'link', 'set', 'other0', 'up')


def frames_for(lab, a, b, c, count=20):
    """Sends frames from a to b; returns how many b got, and c."""
    with Watch(b, b) as right, Watch(c, b) as wrong:
        sender, frame = a.raw_socket(), udp_frame(a, b)
        for _ in range(count):
            sender.send(frame)
            time.sleep(0.02)
        sender.close()
        time.sleep(0.3)
        return right.frames, wrong.frames


def test_names(context):
    """Devices' names are changed and swapped: ports stay the devices they were."""
    for do in (swap_names, take_name, only_rename):
        for offload in (False, True):
            with context.lab(4, offload=offload) as lab:
                a, b, c, d = lab.hosts
                for host, tag in ((a, 10), (b, 10), (c, 20), (d, 20)):
                    lab.ovs.vsctl('set', 'port', host.port, 'tag=%d' % tag)
                introduce(lab.hosts)
                time.sleep(0.5)
                do(lab, b, c)
                time.sleep(1.5)
                introduce([b])
                time.sleep(0.2)
                right, wrong = frames_for(lab, a, b, c)
                context.note('%s, offload %s: %d right, %d wrong',
                             do.__name__, 'on' if offload else 'off', right,
                             wrong)
                expect((right, wrong) == (20, 0), '%s, offload %s: of 20 '
                       'frames %d came to their host, %d to another VLAN',
                       do.__name__, offload, right, wrong)
                if offload:
                    wait_offloaded(lab, a, b)
                    text = lab.ovs.offload_show()[0]
                    name = {swap_names: c.port, take_name: 'gone0',
                            only_rename: 'other0'}[do]
                    expect(re.search(r'%s: ifindex.*\n    device: is called '
                                     '%s now' % (b.port, name), text),
                           'show does not tell the device\'s name:\n%s', text)


# -- Devices that leave -------------------------------------------------------

def phase(streams, seconds=2.0):
    """What arrives of each stream in that time."""
    before = [s.received for s in streams]
    time.sleep(seconds)
    return [s.received - n for s, n in zip(streams, before)]


def move(lab, host, there, back=False):
    old, new = (there, lab.switch) if back else (lab.switch, there)
    run('ip', '-n', old, 'link', 'set', host.port, 'netns', new)
    run('ip', '-n', new, 'link', 'set', host.port, 'up')


def test_moved_away(context):
    """A device in another namespace neither enters nor leaves, and comes back."""
    with context.lab(2) as lab:
        a, b = lab.hosts
        there = lab.name + '-x'
        lab.add_netns(there)
        forward_by_address(lab)
        with Stream(a, b, pps=100) as to, Stream(b, a, pps=100) as fro:
            wait_for('both in XDP', lambda: both_in_xdp(lab, a, b))
            move(lab, b, there)
            time.sleep(0.5)
            arrived = phase((to, fro))
            context.note('away: %d and %d arrived', *arrived)
            expect(arrived == [0, 0], 'while the device is away %d and %d '
                   'packets arrive', *arrived)
            text = lab.ovs.offload_show()[0]
            expect('transmit: no, the device is in another network namespace'
                   in text, 'show does not say where it is:\n%s', text)
            # And flows of what the host says of its own accord.
            expect(explain(lab, 'parked/no_device') >= 1, 'no explanation')

            move(lab, b, there, back=True)
            wait_for('show to tell', lambda: 'remove the port from OVS and '
                     'add it again' in lab.ovs.offload_show()[0], 3)
            expect(lab.ovs.log_lines('the device is back'), 'nothing logged')
            context.note('back: %d and %d arrived', *phase((to, fro)))

            lab.ovs.vsctl('del-port', b.port)
            add_port(lab, b)
            back_in_xdp(lab, a, b, 're-adding', context)
            arrived = phase((to, fro))
            expect(min(arrived) > 150, 're-added, but only %d and %d arrive',
                   *arrived)


def test_index_reused(context):
    """Another device with a deleted one's index gets none of its packets."""
    with context.lab(2) as lab:
        a, b = lab.hosts
        forward_by_address(lab)
        with Stream(a, b, pps=200):
            wait_offloaded(lab, a, b)
            index = re.search(r'%s: ifindex (\d+)' % b.port,
                              lab.ovs.offload_show()[0])[1]
            run('ip', '-n', lab.switch, 'link', 'del', b.port)
            run('ip', '-n', lab.switch, 'link', 'add', 'other', 'index', index,
                'type', 'veth', 'peer', 'name', 'otherpeer')
            for name in ('other', 'otherpeer'):
                run('ip', 'netns', 'exec', lab.switch, 'ethtool', '-K', name,
                    'gro', 'on')
                run('ip', '-n', lab.switch, 'link', 'set', name, 'up')
            time.sleep(1.5)
            sent = run('ip', 'netns', 'exec', lab.switch, 'ethtool', '-S',
                       'other')
            n = sum(map(int, re.findall(r'xdp_xmit: (\d+)', sent)))
            expect(n == 0, '%d packets for %s went to another device', n,
                   b.port)
            text = lab.ovs.offload_show()[0]
            expect('transmit: no, there is no such device' in text,
                   'the device is taken for the old one:\n%s', text)


def test_short_absence(context):
    """A device that leaves and is back at once is an output again."""
    with context.lab(2) as lab:
        a, b = lab.hosts
        there = lab.name + '-x'
        lab.add_netns(there)
        forward_by_address(lab)
        with Stream(a, b, pps=200) as stream:
            wait_offloaded(lab, a, b)
            for _ in range(3):
                run('ip', '-n', lab.switch, 'link', 'set', b.port, 'netns',
                    there)
                run('ip', '-n', there, 'link', 'set', b.port, 'netns',
                    lab.switch)
                run('ip', '-n', lab.switch, 'link', 'set', b.port, 'up')
                time.sleep(1.5)
                arrived = phase((stream,), 1.0)[0]
                expect(arrived > 150, 'only %d of 200 arrive by XDP', arrived)


# -- What was out comes back --------------------------------------------------

def test_type_change(context):
    """Flows with steady traffic come back when their port does."""
    changes = (('afxdp-nonpmd',), ('afxdp',), ('system', 'afxdp'))
    with context.lab(2) as lab:
        a, b = lab.hosts
        forward_by_address(lab)
        with Stream(a, b, pps=50) as to, Stream(b, a, pps=50) as fro:
            wait_for('both in XDP', lambda: both_in_xdp(lab, a, b))
            for types in changes:
                for kind in types:
                    lab.ovs.vsctl('set', 'interface', b.port, 'type=' + kind)
                    if kind == 'system':
                        time.sleep(1.5)
                took = back_in_xdp(lab, a, b, ' -> '.join(types), context)
                expect(took < SOON, 'they come back after %.1f s only', took)
            before = xdp_packets(lab, b.port)
            arrived = phase((to, fro))
            expect(min(arrived) > 80, 'only %d and %d arrive', *arrived)
            expect(xdp_packets(lab, b.port) > before + 50, 'not by XDP')


def test_readd_steady(context):
    """del-port and add-port: flows with steady traffic come back."""
    with context.lab(2) as lab:
        a, b = lab.hosts
        forward_by_address(lab)
        with Stream(a, b, pps=50), Stream(b, a, pps=50):
            wait_for('both in XDP', lambda: both_in_xdp(lab, a, b))
            for together in (True, False):
                if together:
                    add_port(lab, b, 'del-port', b.port)
                else:
                    lab.ovs.vsctl('del-port', b.port)
                    add_port(lab, b)
                took = back_in_xdp(lab, a, b, 'together' if together else
                                   'apart', context)
                expect(took < SOON, 'they come back after %.1f s only', took)


def test_table_full(context):
    """A flow that was refused as there was no room gets in when there is."""
    with context.lab(2, config=['xdp-offload-max-flows=16']) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('del-flows', 'br0')
        for number, host in enumerate(lab.hosts, 1):
            lab.ovs.ofctl('add-flow', 'br0', 'udp,dl_dst=%s,tp_dst=7000,'
                          'actions=output:%d' % (host.mac, number))
            for port in range(8000, 8030):
                lab.ovs.ofctl('add-flow', 'br0', 'udp,dl_dst=%s,tp_dst=%d,'
                              'actions=output:%d' % (host.mac, port, number))
        sender = a.raw_socket()
        with contextlib.closing(sender):
            def fill():
                for port in range(8000, 8030):
                    sender.send(udp_frame(a, b, dport=port))

            for _ in range(10):
                fill()
                time.sleep(0.1)
            with Stream(a, b, pps=50):
                time.sleep(1)
                for _ in range(10):
                    fill()
                    time.sleep(0.1)
                expect(explain(lab, 'table/flows') > 10, 'the table is not '
                       'full:\n%s', lab.ovs.appctl('xdp-offload/explain'))
                expect(not flows_between(lab, a, b, 'xdp') or
                       len(flows_between(lab, a, b, 'xdp')) <= 16, 'room')
                # The others become idle after max-idle.
                lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                              'other_config:max-idle=1000')
                begin = time.monotonic()
                wait_for('the stream in XDP', lambda: any(
                    '7000' in f['match']
                    for f in flows_between(lab, a, b, 'xdp')), 6)
                context.note('in XDP %.1f s after the others began to be idle',
                             time.monotonic() - begin)


TESTS = [
    ('identity-names', test_names),
    ('identity-moved-away', test_moved_away),
    ('identity-index-reused', test_index_reused),
    ('identity-short-absence', test_short_absence),
    ('back-type-change', test_type_change),
    ('back-readd', test_readd_steady),
    ('back-table-full', test_table_full),
]
