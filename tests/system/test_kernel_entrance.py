# SPDX-License-Identifier: Apache-2.0
"""The kernel datapath: what the kernel does with a frame before OVS gets it.

XDP comes before all of that, so a flow must not be executed there where it
would make a difference.  Like test_kernel_datapath.py for emulated machines.
"""
import contextlib
import socket
import subprocess
import time

from lab import (ETH_P_ALL, Stream, exchange, in_netns, ping, receive_frame,
                 run, udp_frame, wait_for)
from suite import Skipped, expect, introduce
from test_kernel_datapath import SLOW, kernel_lab, layer, wait_layer

SO_MARK = 36
LLDP = b'\x88\xcc'


def need(*modules):
    for module in modules:
        if subprocess.run(['modprobe', '-q', module],
                          check=False).returncode:
            raise Skipped('this kernel has no module %s' % module)


def switch_ip(lab, *args):
    return run('ip', '-n', lab.switch, *args)


def in_switch(lab, *command, **kwargs):
    return run('ip', 'netns', 'exec', lab.switch, *command, **kwargs)


def enter(lab, port):
    """What xdp-offload/show says of flows that enter; None if they may."""
    return lab.ovs.offload_show()[1][port].get('enter')


@contextlib.contextmanager
def listener(lab, device):
    """A packet socket of the switch's namespace on a device of its."""
    with in_netns(lab.switch):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                          socket.htons(ETH_P_ALL))
        s.bind((device, ETH_P_ALL))
    with s:
        yield s


def heard(s, source, ether_type):
    """How many frames of this type, from this MAC address, are waiting."""
    n = 0
    source = bytes.fromhex(source.replace(':', ''))
    with contextlib.suppress(OSError):
        while True:
            frame, _ = receive_frame(s, 0.5)
            n += frame[6:14] == source + ether_type
    return n


def test_device_kinds(context):
    """Devices that are on top of others are left alone, with a reason.

    VLAN tags of what they receive may be beside the frame, whatever their
    features say, and a bond drops what comes in on its inactive links.
    """
    need('bonding', 'macvlan', '8021q', 'dummy')
    with kernel_lab(context, config=['xdp-offload-generic=true']) as lab:
        a, b = lab.hosts
        for name in ('lower0', 'lower1', 'lower2', 'lower3'):
            switch_ip(lab, 'link', 'add', name, 'type', 'veth', 'peer',
                      'name', name + 'p', 'netns', a.netns)
            switch_ip(lab, 'link', 'set', name, 'up')
            a.run('ip', 'link', 'set', name + 'p', 'up')
        for name, *kind in (
                ('bond0x', 'type', 'bond', 'mode', 'active-backup', 'miimon',
                 '100'),
                ('macvlan0', 'link', 'lower2', 'type', 'macvlan', 'mode',
                 'passthru'),
                ('vlan0', 'link', 'lower3', 'type', 'vlan', 'id', '7'),
                ('bridge0', 'type', 'bridge'),
                ('dummy0', 'type', 'dummy')):
            switch_ip(lab, 'link', 'add', name, *kind)
        for name in ('lower0', 'lower1'):
            switch_ip(lab, 'link', 'set', name, 'down')
            switch_ip(lab, 'link', 'set', name, 'master', 'bond0x')
        for name in ('bond0x', 'macvlan0', 'vlan0', 'dummy0'):
            switch_ip(lab, 'link', 'set', name, 'up')
            lab.ovs.add_port(name)
        in_switch(lab, 'ip', 'tuntap', 'add', 'tap0', 'mode', 'tap')
        switch_ip(lab, 'link', 'set', 'tap0', 'up')
        lab.ovs.add_port('tap0')
        _, ports = lab.ovs.offload_show()
        expect(set(ports) == {a.port, b.port, 'tap0'}, 'in XDP: %s',
               list(ports))
        for name in ('bond', 'macvlan', 'vlan', 'dummy'):
            lines = lab.ovs.log_lines(name + r'0x?: not offloaded: .*%s'
                                      % name)
            expect(lines, 'no line says why %s is not taken', name)
        ping(a, b, 10)
        wait_layer(lab, a, b, 'xdp')

        # What comes in on the inactive link is dropped, not executed twice.
        expect(bond_receives(lab, a, b) == 20, 'the bond')


def bond_receives(lab, a, b):
    """How many of 20 broadcasts that come in on both links of the bond reach
    b."""
    frame = (b'\xff' * 6 + bytes.fromhex('0200000000aa') + b'\x88\xb5'
             + b'bond'.ljust(46, b'\0'))
    with b.raw_socket() as receiver:
        for link in ('lower0p', 'lower1p'):
            with in_netns(a.netns), socket.socket(
                    socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind((link, 0))
                for _ in range(20):
                    sender.send(frame)
                    time.sleep(0.02)
        return heard(receiver, '02:00:00:00:00:aa', b'\x88\xb5')


def test_marks(context):
    """A match on pkt_mark is right whoever sets the mark: TC, or the sender.
    """
    need('act_skbedit', 'cls_matchall')
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,pkt_mark=5,actions=drop')
        with Stream(a, b, pps=20) as stream:
            wait_layer(lab, a, b, 'xdp')
            expect(any('skb_mark(0' in f['match'] for f in lab.ovs.flows()
                       if 'in_port(%s)' % a.port in f['match']),
                   'the mark is not matched:\n%s', lab.ovs.flows(raw=True))
            in_switch(lab, 'tc', 'qdisc', 'add', 'dev', a.port, 'ingress',
                      check=False)
            in_switch(lab, 'tc', 'filter', 'add', 'dev', a.port, 'ingress',
                      'prio', '99', 'matchall', 'action', 'skbedit', 'mark',
                      '5')
            wait_for('the port to be left alone', lambda: enter(lab, a.port),
                     SLOW)
            time.sleep(2)
            before = stream.received
            time.sleep(2)
            expect(stream.received == before, '%d packets with the mark '
                   'passed', stream.received - before)
            context.note('%s: %s', a.port, enter(lab, a.port))
            in_switch(lab, 'tc', 'filter', 'del', 'dev', a.port, 'ingress',
                      'prio', '99')
            wait_layer(lab, a, b, 'xdp')

        # A sender in the switch's namespace: the veth keeps its mark.
        switch_ip(lab, 'link', 'add', 'near', 'type', 'veth', 'peer', 'name',
                  'near0', 'address', '02:00:00:00:00:bb')
        in_switch(lab, 'ethtool', '-K', 'near0', 'gro', 'on')
        for name in ('near', 'near0'):
            switch_ip(lab, 'link', 'set', name, 'up')
        lab.ovs.add_port('near')
        frame = udp_frame(a, b)
        frame = frame[:6] + bytes.fromhex('0200000000bb') + frame[12:]
        for mark, wanted in ((0, 20), (5, 0), (0, 20), (5, 0)):
            arrived = send_marked(lab, b, frame, mark)
            expect(arrived == wanted, '%d of 20 packets with mark %d arrived',
                   arrived, mark)


def send_marked(lab, receiver, frame, mark):
    """How many of 20 frames, sent on near0, arrive."""
    with receiver.raw_socket() as s, in_netns(lab.switch), socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(('near0', 0))
        sender.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        for _ in range(20):
            sender.send(frame)
            time.sleep(0.05)
        return heard(s, '02:00:00:00:00:bb', b'\x08\x00')


def test_ingress_hooks(context):
    """What TC, BPF or nftables drop on a port before OVS stays dropped."""
    need('cls_matchall', 'cls_u32', 'act_gact', 'nf_tables')
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        hooks = [('TC', ['tc', 'filter', 'add', 'dev', a.port, 'ingress',
                         'protocol', 'all', 'prio', '99', 'u32', 'match',
                         'u32', '0', '0', 'action', 'drop'],
                  ['tc', 'filter', 'del', 'dev', a.port, 'ingress', 'prio',
                   '99']),
                 ('nftables', [
                     'nft', 'table netdev t { chain c { type filter hook '
                     'ingress device "%s" priority 0; drop; }; }' % a.port],
                  ['nft', 'delete', 'table', 'netdev', 't'])]
        for what, add, remove in hooks:
            with Stream(a, b, pps=20) as stream:
                wait_layer(lab, a, b, 'xdp')
                in_switch(lab, *add)
                wait_for('the port to be left alone for %s' % what,
                         lambda: enter(lab, a.port), SLOW)
                context.note('%s', enter(lab, a.port))
                time.sleep(2)
                before = stream.received
                time.sleep(2)
                expect(stream.received == before, '%s: %d packets passed',
                       what, stream.received - before)
                in_switch(lab, *remove)
                wait_layer(lab, a, b, 'xdp')
        # OVS's own policing and its flows in TC are no reason.
        lab.ovs.vsctl('set', 'interface', a.port,
                      'ingress_policing_rate=100000')
        plain = lab.add_host(gro=False)
        introduce(lab.hosts)
        with Stream(a, b, pps=20), Stream(a, plain, pps=20):
            wait_layer(lab, a, plain, 'tc')
            time.sleep(3)
            expect(not enter(lab, a.port), '%s', enter(lab, a.port))
            wait_layer(lab, a, b, 'xdp')


def test_vlan_device(context):
    """A VLAN device on a port gets its frames, whatever the flows match."""
    need('8021q')
    with kernel_lab(context) as lab:
        a, b = lab.hosts

        def add_vlan_device(vlan):
            for ip, device, address in (
                    (lambda *args: switch_ip(lab, *args), a.port, '1'),
                    (lambda *args: a.run('ip', *args), 'eth0', '2')):
                name = '%s.%d' % (device, vlan)
                ip('link', 'add', 'link', device, 'name', name, 'type',
                   'vlan', 'id', str(vlan))
                ip('addr', 'add', '10.78.%d.%s/24' % (vlan, address), 'dev',
                   name)
                ip('link', 'set', name, 'up')

        def ping_vlan_device(vlan):
            return a.run('ping', '-n', '-c', '20', '-i', '0.05',
                         '10.78.%d.1' % vlan, check=False)

        add_vlan_device(10)
        lab.ovs.ofctl('del-flows', 'br0')
        lab.ovs.ofctl('add-flow', 'br0', 'priority=1,in_port=%d,'
                      'vlan_tci=0x1000/0x1000,actions=output:%d'
                      % (lab.ovs.of_port(a.port), lab.ovs.of_port(b.port)))
        other = udp_frame(a, b, vlan=12)
        for vlan in (10, 11):
            expect(sum(exchange(a, b, other, count=20).values()) == 20,
                   'frames of another VLAN')
            if vlan == 11:                # Comes later than the flow.
                add_vlan_device(11)
                time.sleep(2)
            got = ping_vlan_device(vlan)
            expect('20 received' in got or '19 received' in got,
                   'VLAN %d: %s', vlan, got)
        # A flow that cannot match the VLAN device's frames is executed.
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,in_port=%d,dl_vlan=12,'
                      'actions=output:%d' % (lab.ovs.of_port(a.port),
                                             lab.ovs.of_port(b.port)))
        # Not before a revalidator has deleted the flow of the other rule.
        wait_for('a flow of VLAN 12 in XDP', lambda: (
            exchange(a, b, other, count=5)
            and any('vid=12' in f['match'] for f in lab.ovs.flows('xdp'))),
            SLOW)


def test_link_protocols(context):
    """LLDP reaches a packet socket on the port, also where rules drop it."""
    with kernel_lab(context) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,in_port=%d,actions=drop'
                      % lab.ovs.of_port(a.port))
        frame = (bytes.fromhex('0180c200000e' + a.mac.replace(':', ''))
                 + LLDP + b'lldp'.ljust(46, b'\0'))
        with listener(lab, a.port) as s, a.raw_socket() as sender:
            for _ in range(20):
                sender.send(frame)
                time.sleep(0.1)
            n = heard(s, a.mac, LLDP)
        expect(n == 20, '%d of 20 LLDP frames were heard', n)
        with Stream(b, a, pps=20), Stream(a, b, pps=20):
            wait_layer(lab, a, b, 'xdp')


def test_move_port(context):
    """A port goes to another bridge in one transaction, with flows in TC."""
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        plain = lab.add_host(gro=False)
        introduce(lab.hosts)
        lab.ovs.vsctl('add-br', 'br1')
        for old, new in (('br0', 'br1'), ('br1', 'br0'), ('br0', 'br0')):
            with Stream(a, plain, pps=50), Stream(a, b, pps=50):
                if old == 'br0':
                    wait_layer(lab, a, plain, 'tc')
                lab.ovs.vsctl('del-port', old, a.port, '--', 'add-port', new,
                              a.port)
                wait_for('the port to be in XDP',
                         lambda: a.port in lab.ovs.offload_show()[1], SLOW)
                time.sleep(2)      # The old one's end must not take it along.
                expect(a.port in lab.ovs.offload_show()[1],
                       '%s to %s: not in XDP any more', old, new)
        expect(not lab.ovs.log_lines('is a port already'), '%s',
               lab.ovs.log_lines('is a port already'))
        introduce([a])
        with Stream(a, b, pps=20) as stream:
            wait_layer(lab, a, b, 'xdp')
        context.note('%s', stream)
        expect(ping(a, b, 10) == 10, 'ping')
        expect(layer(lab, a, b) == 'xdp', 'in %s', layer(lab, a, b))


TESTS = [
    ('kernel-device-kinds', test_device_kinds),
    ('kernel-marks', test_marks),
    ('kernel-hooks', test_ingress_hooks),
    ('kernel-vlan-device', test_vlan_device),
    ('kernel-link-protocols', test_link_protocols),
    ('kernel-move-port', test_move_port),
]
