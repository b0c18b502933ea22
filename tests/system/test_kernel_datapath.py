# SPDX-License-Identifier: Apache-2.0
"""The kernel datapath: a flow lives in XDP, in TC or in openvswitch.ko.

These need openvswitch.ko and TC flower, which not every kernel has: tests/vm
runs them in emulated machines, where everything takes longer.
"""
import contextlib
import re
import subprocess
import time

from lab import (Stream, attached_program, exchange, ping, run, settled_counters,
                 tcp_transfer, udp_echo, udp_frame, vlan_frames, wait_for)
from suite import (Failed, Skipped, expect, expect_exact, introduce,
                   per_port_rules, xdp_packets)

MODULES = ('openvswitch', 'sch_ingress', 'cls_flower', 'act_mirred')
# Seconds for what takes one or two, but not in an emulator, where a command may take ten
# when the machine has other work.
SLOW = 60


@contextlib.contextmanager
def kernel_lab(context, hook=None, **options):
    """A lab whose switch is the kernel datapath, with programs at 'hook', or where --hook
    has them, unless 'config' says where.

    What a test asks of XDP only, it has in XDP: at TC's ingress each veth takes frames, and
    tags stay beside them."""
    for module in MODULES:
        if subprocess.run(['modprobe', '-q', module],
                          check=False).returncode:
            raise Skipped('this kernel has no module %s' % module)
    config = options.pop('config', [])
    if not any(o.startswith('xdp-offload-hook=') for o in config):
        config = [*config, 'xdp-offload-hook=' + (hook or context.hook)]
    with context.lab(datapath='system', config=config, **options) as lab:
        yield lab


def ip_flows(lab, src, dst):
    """The flows of untagged IPv4 from 'src' to 'dst', or to anybody."""
    to_dst = re.compile(r',dst=(%s|0[0:]{16}/[0:]+)\)' % dst.mac)
    return [f for f in lab.ovs.flows()
            if 'in_port(%s)' % src.port in f['match']
            and 'eth_type(0x0800)' in f['match'] and 'vlan(' not in f['match']
            and (',eth(' not in f['match'] or to_dst.search(f['match']))]


def layer(lab, src, dst):
    """Where the flow of IPv4 from 'src' to 'dst' lives: its "dp:"."""
    return '+'.join(sorted({re.search(r'dp:(\w+)', f['attrs'])[1]
                            for f in ip_flows(lab, src, dst)}))


def wait_layer(lab, src, dst, wanted, timeout=SLOW):
    try:
        wait_for(wanted, lambda: layer(lab, src, dst) == wanted, timeout)
    except RuntimeError:
        raise Failed('%s to %s is not in %s, but %s:\n%s' % (
            src.port, dst.port, wanted, layer(lab, src, dst),
            lab.ovs.flows(raw=True))) from None


def tag_offload(host):
    return 'tx-vlan-offload: on' in host.run('ethtool', '-k', 'eth0')


def test_traffic(context):
    """Everyday traffic over the kernel datapath runs in XDP, exactly counted.
    """
    # TC counts bytes without the Ethernet header and tags.
    with kernel_lab(context, config=['hw-offload-plugin-tc=never']) as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        before = settled_counters(lab, lab.hosts)
        expect(ping(a, b, 20) == 20, 'ping')
        expect(ping(a, b, 20, version=6) == 20, 'ping -6')
        expect(tcp_transfer(a, b), 'TCP')
        expect(tcp_transfer(b, a, version=6), 'TCP over IPv6')
        expect(udp_echo(a, b, 50) == 50, 'UDP')
        expect(vlan_frames(a, b) == 20, 'VLAN')
        expect(layer(lab, a, b) == 'xdp', 'not in XDP:\n%s',
               lab.ovs.flows(raw=True))
        after = expect_exact(lab, before, missing=0)
        xdp = after[a.port]['xdp'][0] - before[a.port]['xdp'][0]
        sent = after[a.port]['sent'][0] - before[a.port]['sent'][0]
        context.note('%d of %d packets in XDP', xdp, sent)
        expect(xdp > 0.5 * sent, 'only %d of %d packets in XDP', xdp, sent)


def neither_xdp_nor_tc(lab, first, second):
    """Actions that only the kernel module executes: one frame, two lengths."""
    return 'output(port=%d,max_len=100),output:%d' % (
        lab.ovs.of_port(first.port), lab.ovs.of_port(second.port))


def test_three_homes(context):
    """Flows in XDP, in TC and in the kernel at once, told apart by dump-flows.
    """
    with kernel_lab(context, hook='xdp', hosts=3) as lab:
        a, b, c = lab.hosts
        plain = lab.add_host(gro=False)       # Takes no redirected frames.
        introduce(lab.hosts)
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,in_port=%d,dl_dst=%s,'
                      'actions=%s' % (lab.ovs.of_port(c.port), a.mac,
                                      neither_xdp_nor_tc(lab, a, plain)))
        with Stream(a, b, pps=20), Stream(a, plain, pps=20), \
                Stream(c, a, pps=20):
            wait_layer(lab, a, b, 'xdp')
            wait_layer(lab, a, plain, 'tc')
            wait_layer(lab, c, a, 'ovs')
            context.show('$ ovs-appctl dpctl/dump-flows -m --names\n'
                         + lab.ovs.flows(raw=True))
            for kind in ('xdp', 'tc', 'ovs'):
                found = {f['attrs'].split('dp:')[1].split(',')[0]
                         for f in lab.ovs.flows(kind)}
                expect(found == {kind}, 'type=%s shows %s', kind, found)
            # A flow is found wherever it lives.
            for src, dst in ((a, b), (a, plain), (c, a)):
                flow = ip_flows(lab, src, dst)[0]
                context.note('dp:%s actions:%s', layer(lab, src, dst),
                             flow['actions'])
                shown = lab.ovs.appctl('dpctl/get-flow', 'system@ovs-system',
                                       'ufid:' + flow['ufid'])
                m = re.search(r'packets:(\d+).*actions:\S', shown)
                expect(m and int(m[1]) >= flow['packets'], 'get-flow: %s',
                       shown)


def test_idle(context):
    """A flow that is idle goes, one that is not stays, wherever it lives."""
    with kernel_lab(context, hook='xdp', hosts=2, config=['max-idle=3000']) as lab:
        a, b = lab.hosts
        plain = lab.add_host(gro=False)
        introduce(lab.hosts)
        ping(b, a, 3)
        ping(b, plain, 3)
        wait_layer(lab, b, a, 'xdp', 2.5)
        with Stream(a, b, pps=20) as stream, Stream(a, plain, pps=20):
            wait_layer(lab, a, b, 'xdp')
            wait_layer(lab, a, plain, 'tc')
            ufids = {f['ufid'] for d in (b, plain)
                     for f in ip_flows(lab, a, d)}
            wait_for('the idle flows to go', lambda: not (
                ip_flows(lab, b, a) or ip_flows(lab, b, plain)),
                SLOW)
            time.sleep(5)
            now = {f['ufid'] for d in (b, plain)
                   for f in ip_flows(lab, a, d)}
            expect(ufids <= now, 'active flows have gone: %s', ufids - now)
        context.note('%s', stream)
        expect(stream.lost == 0, 'packets lost')


@contextlib.contextmanager
def counted_stream(context, lab, src, dst, may_be_lost):
    """A stream that is in XDP at first, and whose flow may move: none of it
    comes twice, all but so many packets arrive, and OpenFlow counts all that was
    sent."""
    per_port_rules(lab)
    before = settled_counters(lab, lab.hosts)
    with Stream(src, dst, pps=100) as stream:
        wait_layer(lab, src, dst, 'xdp')
        yield
    context.note('%s', stream)
    expect(stream.longest_gap < 2 and not stream.duplicates,
           'gap of %.1f s, %d came twice', stream.longest_gap,
           stream.duplicates)
    expect(stream.lost <= may_be_lost, 'lost %d', stream.lost)
    exact_openflow(lab, before)


def exact_openflow(lab, before, missing=0):
    """What the hosts have sent, OpenFlow has counted, in packets; or up to
    'missing' less from each."""
    after = settled_counters(lab, lab.hosts, interval=2)
    for port, new in after.items():
        sent, openflow = (new[k][0] - before[port][k][0]
                          for k in ('sent', 'openflow'))
        expect(0 <= sent - openflow <= missing,
               '%s: sent %d packets, OpenFlow has %d', port, sent, openflow)


def timed_move(context, lab, src, dst, home):
    begin = time.monotonic()
    wait_layer(lab, src, dst, home)
    context.note('in %s after %.1f s', home, time.monotonic() - begin)


def test_gro_off(context):
    """GRO of a peer goes off and on under traffic: to TC and back, exactly."""
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        # Until the kernel has told that GRO is off, frames go nowhere.  That is at
        # once, but for an emulator: 16 packets, of 100 a second, in 0.3 s.
        with counted_stream(context, lab, a, b, may_be_lost=50):
            for state, home in (('off', 'tc'), ('on', 'xdp')):
                b.run('ethtool', '-K', 'eth0', 'gro', state)
                timed_move(context, lab, a, b, home)


def test_modify(context):
    """Rules change under traffic and move its flow through all homes.

    OVS reads what TC has counted and then takes the flow off TC, with us as
    without.  A packet in between is not counted, if it is still TC's: that is
    when the flow goes to the kernel, when it is modified, and when it is purged.
    """
    with kernel_lab(context, hook='xdp', hosts=2) as lab:
        a, b = lab.hosts
        plain = lab.add_host(gro=False)
        introduce(lab.hosts)
        per_port_rules(lab)
        b_port, plain_port = (lab.ovs.of_port(h.port) for h in (b, plain))
        before = settled_counters(lab, lab.hosts)
        with Stream(a, b, pps=50):
            for home, actions in (
                    ('xdp', 'output:%d' % b_port),
                    ('tc', 'output:%d' % plain_port),
                    ('ovs', neither_xdp_nor_tc(lab, b, plain)),
                    ('tc', 'output:%d' % plain_port),
                    ('xdp', 'output:%d' % b_port),
                    ('ovs', neither_xdp_nor_tc(lab, b, plain)),
                    ('xdp', 'output:%d' % b_port)):
                lab.ovs.ofctl('mod-flows', 'br0', 'in_port=%d,actions=%s'
                              % (lab.ovs.of_port(a.port), actions))
                wait_layer(lab, a, b, home)
            actions = 'mod_dl_dst:%s,output:%d' % (plain.mac, plain_port)
            lab.ovs.ofctl('mod-flows', 'br0', 'in_port=%d,actions=output:%d'
                          % (lab.ovs.of_port(a.port), plain_port))
            wait_layer(lab, a, b, 'tc')
            lab.ovs.ofctl('mod-flows', 'br0', 'in_port=%d,actions=%s'
                          % (lab.ovs.of_port(a.port), actions))
            wait_for('the actions', lambda: any(
                'set(' in f['actions'] for f in ip_flows(lab, a, b)), SLOW)
            expect(layer(lab, a, b) == 'tc', 'in %s', layer(lab, a, b))
            time.sleep(1)
            lab.ovs.appctl('revalidator/purge')
        exact_openflow(lab, before, missing=3)


def test_options(context):
    """Packets that XDP passes up although a flow matches leave for TC."""
    with kernel_lab(context) as lab:
        a, b = lab.hosts
        frame = udp_frame(a, b)
        header = bytearray(frame[14:34])
        header[0] = 0x46                          # Four bytes of options.
        header[3] += 4
        header[10:12] = b'\0\0'
        header += b'\x01\x01\x01\x00'
        total = sum(int.from_bytes(header[i:i + 2], 'big')
                    for i in range(0, 24, 2))
        total = (total & 0xffff) + (total >> 16)
        header[10:12] = (~total & 0xffff).to_bytes(2, 'big')
        frame = frame[:14] + bytes(header) + frame[34:]
        # Packets of one megaflow, each of which OVS gives another ufid.
        for ttl in range(50, 60):
            exchange(a, b, frame[:22] + bytes([ttl]) + frame[23:], count=1)
        in_xdp = [f for f in ip_flows(lab, a, b) if 'dp:xdp' in f['attrs']]
        expect(len(in_xdp) == 1, 'in XDP: %s', in_xdp)
        arrived = exchange(a, b, frame, count=20, interval=0.1)
        arrived.update(exchange(a, b, frame, count=60, interval=0.1))
        expect(layer(lab, a, b) in ('tc', 'ovs', 'tc+xdp', 'ovs+xdp'),
               'still in XDP alone:\n%s', lab.ovs.flows(raw=True))
        expect(sum(arrived.values()) >= 60, 'arrived: %s',
               list(arrived.values()))
        context.note('now in %s', layer(lab, a, b))


def test_vlan_beside(context):
    """VLAN tags that a peer puts beside the frame never go astray."""
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        expect(not tag_offload(a) and not tag_offload(b), 'still on')
        for host in lab.hosts:
            host.run('ip', 'link', 'add', 'link', 'eth0', 'name', 'eth0.5',
                     'type', 'vlan', 'id', '5')
            host.run('ip', 'addr', 'add', '10.78.0.%d/24' % host.number,
                     'dev', 'eth0.5')
            host.run('ip', 'link', 'set', 'eth0.5', 'up')

        def ping_tagged():
            return '20 received' in a.run('ping', '-n', '-c', '20', '-i',
                                          '0.05', '10.78.0.2', check=False)

        ping(a, b, 10)
        wait_layer(lab, a, b, 'xdp')
        expect(ping_tagged(), 'ping over the VLAN')
        a.run('ethtool', '-K', 'eth0', 'txvlan', 'on')
        wait_for('the port to be left alone',
                 lambda: 'enter' in lab.ovs.offload_show()[1][a.port], SLOW)
        expect(lab.ovs.log_lines(a.port + '.*beside the frame'), 'no log line')
        expect(ping_tagged(), 'ping over the VLAN with tag offload')
        ping(a, b, 10)
        expect(layer(lab, a, b) in ('tc', 'ovs'), 'in %s',
               layer(lab, a, b))
        a.run('ethtool', '-K', 'eth0', 'txvlan', 'off')
        with Stream(a, b, pps=20):
            wait_layer(lab, a, b, 'xdp')
        lab.ovs.vsctl('del-port', b.port)
        wait_for('tag offload to be on again', lambda: tag_offload(b), SLOW)


def test_del_port(context):
    """A port goes under traffic and comes again; the others do not notice."""
    with kernel_lab(context, hosts=3) as lab:
        a, b, c = lab.hosts
        with Stream(a, b, pps=50) as kept, Stream(a, c, pps=50) as cut:
            wait_layer(lab, a, b, 'xdp')
            wait_layer(lab, a, c, 'xdp')
            lab.ovs.vsctl('del-port', c.port)
            wait_for('its program to go',
                     lambda: not attached_program(lab, c.port), SLOW)
            wait_for('its flows to go', lambda: not [
                f for f in lab.ovs.flows('xdp') if c.port in f['match']
                or c.port in f['actions']], SLOW)
            lab.ovs.add_port(c.port)
            introduce([c])
            wait_layer(lab, a, c, 'xdp')
            wait_layer(lab, a, b, 'xdp')
        context.note('others: %s; its own: %s', kept, cut)
        expect(kept.lost == 0, 'lost %d', kept.lost)


def test_device_gone(context):
    """A device goes with a flow that is in TC: nothing of the port is left."""
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        plain = lab.add_host(gro=False)
        introduce(lab.hosts)
        with Stream(a, plain, pps=20):
            wait_layer(lab, a, plain, 'tc')
        run('ip', '-n', lab.switch, 'link', 'del', a.port)
        lab.ovs.vsctl('del-port', a.port)
        wait_for('the port to go',
                 lambda: a.port not in lab.ovs.offload_show()[1], SLOW)
        expect(b.port in lab.ovs.offload_show()[1], 'the other one as well')


def test_toggle(context):
    """hw-offload off and on under traffic: to the kernel and back, exactly."""
    with kernel_lab(context) as lab:
        a, b = lab.hosts
        # What XDP does not execute any more becomes upcalls: nothing is lost.
        with counted_stream(context, lab, a, b, may_be_lost=0):
            for state, home in (('false', 'ovs'), ('true', 'xdp')):
                lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                              'other_config:hw-offload=' + state)
                timed_move(context, lab, a, b, home)


def test_tc_order(context):
    """hw-offload-plugin-tc: TC before XDP, after it, or never."""
    with kernel_lab(context, hook='xdp', config=['hw-offload-plugin-tc=before']) as lab:
        a, b = lab.hosts
        plain = lab.add_host(gro=False)
        introduce(lab.hosts)
        for order, to_b, to_plain in (('before', 'tc', 'tc'),
                                      ('after', 'xdp', 'tc'),
                                      ('never', 'xdp', 'ovs')):
            lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                          'other_config:hw-offload-plugin-tc=' + order)
            # Flows that are there already stay where they are.
            lab.ovs.appctl('dpctl/del-flows', 'system@ovs-system')
            lab.ovs.appctl('revalidator/purge')
            with Stream(a, b, pps=20), Stream(a, plain, pps=20):
                wait_layer(lab, a, b, to_b)
                wait_layer(lab, a, plain, to_plain)


def test_killed(context):
    """ovs-vswitchd is killed and started again: nothing stale is left."""
    with kernel_lab(context) as lab:
        a, b = lab.hosts
        with Stream(a, b, pps=50) as stream:
            wait_layer(lab, a, b, 'xdp')
            lab.ovs.kill_vswitchd()
            wait_for('the program to go',
                     lambda: not attached_program(lab, a.port), SLOW)
            lab.ovs.start_vswitchd()
            # It knows nobody's address again, and floods.
            wait_for('the ports', lambda: len(lab.ovs.offload_show()[1]) == 2,
                     SLOW)
            introduce([b])
            wait_layer(lab, a, b, 'xdp')
            executed = xdp_packets(lab, a.port)
            wait_for('packets', lambda: xdp_packets(lab, a.port) > executed,
                     SLOW)
        context.note('%s', stream)
        expect(ping(a, b, 10) == 10, 'ping')


def test_no_place(context):
    """LOCAL, internal, patch and tunnel ports are none for XDP, and work."""
    with kernel_lab(context) as lab:
        a, b = lab.hosts
        lab.ovs.vsctl('add-port', 'br0', 'in0', '--', 'set', 'interface',
                      'in0', 'type=internal', '--', 'add-port', 'br0', 'tun0',
                      '--', 'set', 'interface', 'tun0', 'type=vxlan',
                      'options:remote_ip=192.0.2.1')
        switch = ['ip', '-n', lab.switch]
        for command in (['addr', 'add', '10.77.0.200/24', 'dev', 'br0'],
                        ['link', 'set', 'br0', 'up']):
            subprocess.run(switch + command, check=True)
        got = a.run('ping', '-n', '-c', '10', '-i', '0.1', '10.77.0.200',
                    check=False)
        expect('10 received' in got or '9 received' in got, 'LOCAL: %s', got)
        _, ports = lab.ovs.offload_show()
        expect(set(ports) == {a.port, b.port}, 'in XDP: %s', list(ports))
        for flow in lab.ovs.flows('xdp'):
            expect(not {'br0', 'in0'} & set(flow['actions'].split(',')),
                   'in XDP: %s', flow)
        with Stream(a, b, pps=20):
            wait_layer(lab, a, b, 'xdp')


def test_table_full(context):
    """A flow that was refused as there was no room gets in when there is."""
    with kernel_lab(context, config=['xdp-offload-max-flows=16']) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('del-flows', 'br0')
        to_b = lab.ovs.of_port(b.port)
        # A megaflow for each destination port.
        for port in (7000, *range(8000, 8020)):
            lab.ovs.ofctl('add-flow', 'br0', 'udp,dl_dst=%s,tp_dst=%d,'
                          'actions=output:%d' % (b.mac, port, to_b))

        def home(port):
            return [re.search(r'dp:(\w+)', f['attrs'])[1]
                    for f in ip_flows(lab, a, b) if 'dst=%d' % port
                    in f['match']]

        def fill():
            for port in range(8000, 8020):
                sender.send(udp_frame(a, b, dport=port))
            return len(lab.ovs.flows('xdp')) == 16

        with contextlib.closing(a.raw_socket()) as sender:
            wait_for('a full table', fill, SLOW)
            with Stream(a, b, pps=20) as stream:
                wait_for('the stream in another place', lambda: fill() and
                         home(7000) in (['tc'], ['ovs']), SLOW)
                begin = time.monotonic()
                lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                              'other_config:max-idle=1000')
                wait_for('the stream in XDP', lambda: home(7000) == ['xdp'],
                         2 * SLOW)
            context.note('in XDP %.1f s after the others began to be idle; %s',
                         time.monotonic() - begin, stream)


TESTS = [
    ('kernel-traffic', test_traffic),
    ('kernel-homes', test_three_homes),
    ('kernel-idle', test_idle),
    ('kernel-gro', test_gro_off),
    ('kernel-modify', test_modify),
    ('kernel-options', test_options),
    ('kernel-vlan', test_vlan_beside),
    ('kernel-del-port', test_del_port),
    ('kernel-device-gone', test_device_gone),
    ('kernel-toggle', test_toggle),
    ('kernel-tc-order', test_tc_order),
    ('kernel-killed', test_killed),
    ('kernel-no-place', test_no_place),
    ('kernel-table-full', test_table_full),
]
