# SPDX-License-Identifier: Apache-2.0
"""Configuration: switching on and off, refused flows, limits."""
import contextlib
import glob
import re
import socket
import threading
import time

from lab import (ETH_P_ALL, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE, SOL_PACKET,
                 Stream, exchange, in_netns, ping, run, settled_counters,
                 tcp_transfer, udp_echo, udp_frame, wait_for)
from suite import (Failed, expect, expect_exact, flows_between, introduce,
                   per_port_rules, ran_in_xdp, wait_offloaded, xdp_packets)
from test_ports import Watch, add_port


def set_config(lab, **config):
    lab.ovs.vsctl('set', 'Open_vSwitch', '.', *(
        'other_config:%s=%s' % (k.replace('_', '-'), v)
        for k, v in config.items()))


def test_toggle(context):
    """hw-offload off and on under traffic: flows leave and return, exact."""
    with context.lab() as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        before = settled_counters(lab, lab.hosts)
        with Stream(a, b, pps=2000) as stream:
            for _ in range(3):
                wait_offloaded(lab, a, b)
                time.sleep(0.2)
                set_config(lab, hw_offload='false')
                wait_for('flows to leave XDP', lambda: 'flows: 0 of' in
                         lab.ovs.offload_show()[0], 2)
                xdp = xdp_packets(lab, a.port)
                time.sleep(0.4)
                expect(xdp_packets(lab, a.port) == xdp, 'XDP goes on')
                flows = flows_between(lab, a, b)
                expect(flows and not flows[0]['offloaded'], 'flows: %s',
                       flows)
                begin = time.monotonic()
                set_config(lab, hw_offload='true')
                wait_offloaded(lab, a, b)
                back = time.monotonic() - begin
        context.note('%s, back in XDP after %.1f s', stream, back)
        expect(stream.lost == 0, 'the stream: %s', stream)
        expect_exact(lab, before)


# Between libxdp's program and ours a device has none, and what arrives goes to the
# kernel's stack.  That is two system calls, in some 10 ms: 10 to 17 packets of 1000 a
# second in 11 runs, and up to 175 in 24 runs beside other programs, where the thread
# waits for a CPU between the two.
MOST_BETWEEN = 250
# In an AF_XDP socket's ring (netdev-afxdp's CONS_NUM_DESCS).  A PMD thread that gets no
# CPU for longer than it takes to fill it loses the rest.  That is the machine's affair,
# and the kernel tells for how long: 256 packets were lost where it was 2.3 s.
RING = 2048


class Stack:
    """Counts the UDP frames of a port that come to the kernel's stack."""

    def __init__(self, lab, port):
        with in_netns(lab.switch):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                        socket.htons(ETH_P_ALL))
            self.socket.bind((port, ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setblocking(False)

    def count(self):
        n = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                n += self.socket.recv(2048)[23:24] == b'\x11'
        return n

    def close(self):
        self.socket.close()


def waited_for_cpu(lab):
    """Seconds that PMD threads were ready to run and did not."""
    seconds = 0
    for task in glob.glob('/proc/%d/task/*' % lab.ovs.vswitchd_pid()):
        with open(task + '/comm') as name, open(task + '/schedstat') as stat:
            if name.read().startswith('pmd'):
                seconds += int(stat.read().split()[1]) / 1e9
    return seconds


def test_late(context):
    """hw-offload switched on late: existing flows move to XDP."""
    with context.lab(offload=False) as lab:
        a, b = lab.hosts
        stack, waited = Stack(lab, a.port), waited_for_cpu(lab)
        with contextlib.closing(stack), Stream(a, b) as stream:
            wait_for('traffic', lambda: flows_between(lab, a, b))
            begin = time.monotonic()
            set_config(lab, hw_offload='true', hw_offload_plugin='xdp')
            wait_offloaded(lab, a, b)
            context.note('in XDP after %.1f s', time.monotonic() - begin)
            before = xdp_packets(lab, a.port), stream.sent
            time.sleep(0.5)
            xdp, sent = (x - y for x, y in zip(
                (xdp_packets(lab, a.port), stream.sent), before))
            expect(xdp >= 0.5 * sent, '%d of %d in XDP', xdp, sent)
            stream.stop()
            between, waited = stack.count(), waited_for_cpu(lab) - waited
        too_many = max(0, stream.pps * min(waited, stream.longest_gap) - RING)
        context.note('%s, %d between the programs; the PMD thread waited %.1f s '
                     'for a CPU', stream, between, waited)
        expect(between <= MOST_BETWEEN, '%d between the programs', between)
        expect(0 <= stream.lost - between <= too_many, '%s, but %d between the '
               'programs', stream, between)
        expect(tcp_transfer(a, b), 'TCP')


def test_drop(context):
    """A flow that drops does so in XDP, and is counted."""
    with context.lab() as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,in_port=%d,udp,'
                      'tp_dst=4001,actions=drop' % lab.ovs.of_port(a.port))
        time.sleep(0.7)
        before = settled_counters(lab, lab.hosts)
        exchange(a, b, udp_frame(a, b), 2)
        arrived = ran_in_xdp(lab, a, lambda: exchange(a, b, udp_frame(a, b),
                                                      100))
        expect(not arrived, 'frames came through: %s', arrived)
        expect_exact(lab, before)
        expect(udp_echo(a, b, 20) == 20, 'UDP to another port')


def test_modify(context):
    """A flow's output changes under traffic: each packet goes to one port."""
    with context.lab(3) as lab:
        a, b, c = lab.hosts
        per_port_rules(lab)
        before = settled_counters(lab, lab.hosts)
        with Watch(c, b) as watch, Stream(a, b, pps=3000) as stream:
            wait_offloaded(lab, a, b)
            for target in (c, b) * 6:
                lab.ovs.ofctl('mod-flows', 'br0', 'in_port=%d,actions=output:'
                              '%d' % (lab.ovs.of_port(a.port),
                                      lab.ovs.of_port(target.port)))
                wait_for('the new actions', lambda: [
                    f for f in flows_between(lab, a, b, 'xdp')
                    if f['actions'] == target.port], 3)
                time.sleep(0.1)
            stream.stop()
            arrived = stream.received + watch.frames
            context.note('%d sent, %d + %d arrived', stream.sent,
                         stream.received, watch.frames)
            expect(arrived == stream.sent, '%d sent, %d + %d arrived',
                   stream.sent, stream.received, watch.frames)
            expect(min(stream.received, watch.frames) > 500,
                   'one of the hosts received nearly nothing')
        expect_exact(lab, before)


# Of some 13,000 packets 0 were lost in four runs and 5 in another, on busy machines, and
# all that arrived were counted.
STRESS_NOISE = 10


def test_stress(context):
    """Everything at once under traffic: OVS stays up, and loses 10 packets at most."""
    with context.lab(3) as lab:
        a, b, c = lab.hosts
        per_port_rules(lab)
        before = settled_counters(lab, [a, b])
        process = lab.ovs.processes['ovs-vswitchd']
        until = time.monotonic() + 6
        errors = []

        def loop(*actions):
            try:
                while time.monotonic() < until:
                    for action in actions:
                        action()
            except (RuntimeError, Failed) as e:
                errors.append(e)

        rule = 'in_port=%d' % lab.ovs.of_port(a.port)
        loops = [
            (lambda: set_config(lab, hw_offload='false'),
             lambda: set_config(lab, hw_offload='true')),
            (lambda: lab.ovs.vsctl('del-port', c.port),
             lambda: add_port(lab, c)),
            # The actions change, the rule and its counters stay.
            (lambda: lab.ovs.ofctl('mod-flows', 'br0', rule
                                   + ',actions=output:2'),
             lambda: lab.ovs.ofctl('mod-flows', 'br0', rule
                                   + ',actions=NORMAL')),
            (lambda: lab.ovs.appctl('xdp-offload/show'),
             lambda: lab.ovs.appctl('revalidator/purge'),
             lambda: lab.ovs.flows()),
            (lambda: run('ip', '-n', lab.switch, 'link', 'set', b.port, 'mtu',
                         '1400'),
             lambda: run('ip', '-n', lab.switch, 'link', 'set', b.port, 'mtu',
                         '1500'),
             lambda: time.sleep(0.1))]
        threads = [threading.Thread(target=loop, args=actions)
                   for actions in loops]
        with Stream(a, b, pps=1500) as one, \
                Stream(b, a, pps=500, port=7001) as two:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        expect(process.poll() is None, 'ovs-vswitchd is gone: %s',
               process.poll())
        expect(not errors, '%s', errors)
        context.note('%s; %s', one, two)
        expect(one.lost + two.lost <= STRESS_NOISE, 'lost packets: %s; %s', one,
               two)
        # Without offload, OVS 3.1 misses 50 to 150 of 24000 packets when flows
        # are purged all the time.
        expect_exact(lab, before, [a, b], missing=STRESS_NOISE)
        set_config(lab, hw_offload='true')
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        expect(xdp_packets(lab, a.port) > 0, 'nothing ever ran in XDP')


def test_rejects(context):
    """Flows that XDP cannot execute: OVS does, and rejects names a reason."""
    with context.lab(3) as lab:
        a, b, c = lab.hosts
        out = 'output:%d' % lab.ovs.of_port(b.port)
        lab.ovs.ofctl('-OOpenFlow13', 'add-meter', 'br0',
                      'meter=1,pktps,band=type=drop,rate=100000')
        cases = [
            ('action/after_output', out + ',mod_nw_tos:4,output:%d'
             % lab.ovs.of_port(c.port)),
            ('set/skb_mark', 'set_field:5->pkt_mark,' + out),
            ('set/skb_priority', 'set_queue:1,' + out),
            ('action/meter', 'meter:1,' + out),
            ('action/ct_force', 'ct(commit,force),' + out),
            ('action/userspace', 'controller(max_len=32),' + out)]
        for reason, actions in cases:
            lab.ovs.ofctl('-OOpenFlow13', 'del-flows', 'br0')
            lab.ovs.ofctl('add-flow', 'br0', 'priority=0,actions=NORMAL')
            lab.ovs.ofctl('-OOpenFlow13', 'add-flow', 'br0',
                          'in_port=%d,ip,actions=%s'
                          % (lab.ovs.of_port(a.port), actions))
            rejects = count_reject(lab, reason)
            xdp = xdp_packets(lab, a.port)
            ping(a, b, 2)       # On a busy machine rules that are new take a second.
            expect(ping(a, b, 5) == 5, '%s: ping', actions)
            expect(tcp_transfer(a, b), '%s: TCP', actions)
            expect(count_reject(lab, reason) > rejects, '%s: no %s in\n%s',
                   actions, reason, lab.ovs.appctl('xdp-offload/rejects'))
            expect(xdp_packets(lab, a.port) == xdp, '%s: executed in XDP',
                   actions)
            flows = flows_between(lab, a, b)
            expect(flows and not any(f['offloaded'] for f in flows),
                   '%s: flows %s', actions, flows)
        lab.ovs.ofctl('del-flows', 'br0')
        lab.ovs.ofctl('add-flow', 'br0', 'actions=NORMAL')
        introduce(lab.hosts)
        ping(a, b, 2)
        wait_offloaded(lab, a, b)


def count_reject(lab, reason):
    return sum(int(n) for n in re.findall(
        r'^%s\w*: (\d+)' % reason, lab.ovs.appctl('xdp-offload/rejects'),
        re.MULTILINE))


def test_full_table(context):
    """More flows than xdp-offload-max-flows: the others stay in OVS."""
    with context.lab(config=['xdp-offload-max-flows=16']) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('del-flows', 'br0')
        lab.ovs.ofctl('add-flow', 'br0', 'priority=0,actions=NORMAL')
        for port in range(7000, 7040):
            lab.ovs.ofctl('add-flow', 'br0', 'udp,tp_dst=%d,in_port=%d,'
                          'actions=output:%d' % (
                              port, lab.ovs.of_port(a.port),
                              lab.ovs.of_port(b.port)))
        for _ in range(2):
            for port in range(7000, 7040):
                expect(udp_echo(a, b, 5, port=port, interval=0.002) == 5,
                       'UDP to port %d', port)
        n = len(lab.ovs.flows('xdp'))
        expect(10 <= n <= 16, '%d flows in XDP', n)
        expect(count_reject(lab, 'table/flows') >= 20, 'rejects:\n%s',
               lab.ovs.appctl('xdp-offload/rejects'))
        expect('flows: %d of' % n in lab.ovs.offload_show()[0], 'show')
        expect(ping(a, b) == 5 and tcp_transfer(a, b), 'other traffic')
        # Room comes back.
        lab.ovs.ofctl('del-flows', 'br0', 'udp')
        lab.ovs.appctl('revalidator/purge')
        # What comes while slots wait for a grace period is refused, and comes back.
        with Stream(a, b, pps=50):
            wait_offloaded(lab, a, b)


def test_qos(context):
    """QoS that XDP does not know: a warning and a line, where OVS has it."""
    limited = 'pass by its QoS (htb)'
    with context.lab(kind='system',
                     config=['xdp-offload-system-ports=true']) as lab:
        a, b = lab.hosts

        def set_qos(port):
            lab.ovs.vsctl('set', 'port', port, 'qos=@q', '--', '--id=@q',
                          'create', 'qos', 'type=linux-htb',
                          'other-config:max-rate=1000000')

        def warnings(port):
            return len(lab.ovs.log_lines(
                r'WARN.*%s: .*pass by its QoS \(htb\)' % port))

        set_qos(b.port)
        wait_for('a warning', lambda: warnings(b.port), 5)
        expect(lab.ovs.offload_show()[0].count(limited) == 1, 'show')
        ping(a, b, 2)
        wait_offloaded(lab, a, b)
        lab.ovs.vsctl('clear', 'port', b.port, 'qos')
        wait_for('its end', lambda: limited not in lab.ovs.offload_show()[0], 5)
        expect(warnings(b.port) == 1 and not warnings(a.port), 'warnings')
        # OVS itself sends past the queue of such a port.
        c = lab.add_host(kind='afxdp')
        set_qos(c.port)
        time.sleep(2.5)
        expect(not warnings(c.port)
               and limited not in lab.ovs.offload_show()[0], 'afxdp')


TESTS = [
    ('qos', test_qos),
    ('toggle', test_toggle),
    ('late-enabling', test_late),
    ('drop', test_drop),
    ('modify', test_modify),
    ('stress', test_stress),
    ('rejects', test_rejects),
    ('full-table', test_full_table),
]
