# SPDX-License-Identifier: Apache-2.0
"""xdp-offload/explain and xdp-offload/trace: why, and what would happen."""
import re
import shlex
import signal
import time

from lab import (Stream, exchange, ping, run, settled_counters, udp_frame,
                 wait_for)
from suite import (expect, expect_exact, flows_in_tables, per_port_rules,
                   wait_offloaded)

FORGET_AFTER = 30  # Seconds: flowxlate/engine/refusals.h.


def explain(lab, *args):
    return lab.ovs.appctl('xdp-offload/explain', *args)


def explained(lab, *args):
    """What explain says: flows (ufid, port) by reason, and the text."""
    text = explain(lab, *args)
    flows, reason = {}, None
    for line in text.splitlines():
        m = re.match(r'([a-z]+/[a-z_]+): \d+ flow', line)
        if m:
            reason = m[1]
            flows[reason] = []
        m = re.match(r'  ufid:(\S+) in_port\((\S+?)\)', line)
        if m:
            flows[reason].append((m[1], m[2]))
    return flows, text


def trace(lab, port, frame):
    return lab.ovs.appctl('xdp-offload/trace', port,
                          frame if isinstance(frame, str) else frame.hex())


def rule(lab, text, *args):
    lab.ovs.ofctl('-OOpenFlow15', *args, 'add-flow', 'br0', text)


def test_refused(context):
    """A refused flow: explain has reason, meaning, remedy, text; one log line.
    """
    with context.lab() as lab:
        a, b = lab.hosts
        rule(lab, 'priority=9,udp,in_port=%d,actions=controller'
             % lab.ovs.of_port(a.port))
        ports = range(4100, 4110)
        for port in ports:  # A megaflow each.
            rule(lab, 'priority=10,udp,in_port=%d,udp_dst=%d,'
                 'actions=controller' % (lab.ovs.of_port(a.port), port))
            exchange(a, b, udp_frame(a, b, dport=port), 3, settle=0)
        flows, text = wait_for(
            'refusals', lambda: (lambda f: f if len(f[0].get(
                'action/userspace', [])) >= len(ports) else None)(
                    explained(lab, 'action/')))
        expect(set(flows) == {'action/userspace'}, 'other reasons: %s', text)
        expect(all(port == a.port for _, port in flows['action/userspace']),
               'ports: %s', text)
        for part in ('What it means: The flow hands packets to ovs-vswitchd',
                     'What to do: ', 'in_port(%s)' % a.port, 'udp(dst=4100)',
                     'actions:userspace('):
            expect(part in text, 'no "%s" in %s', part, text)
        # Filters: all, the port, another port, a ufid, nonsense.
        ufid = flows['action/userspace'][0][0]
        expect('action/userspace' in explained(lab)[0], 'without a filter')
        expect('action/userspace' in explained(lab, a.port)[0], 'by port')
        expect('action/userspace' not in explained(lab, b.port)[0],
               'by another port')
        for name in (ufid, 'ufid:' + ufid, ufid[:8]):
            found = explained(lab, name)[0]
            expect(found == {'action/userspace': [(ufid, a.port)]},
                   '%s: %s', name, found)
        expect('nothing known' in explain(lab, 'no-such'), 'nonsense')
        expect('no flow for that reason' in explain(lab, 'set/'), 'no set/')
        expect('too long' in explain(lab, 'x' * 1000), 'a long filter')
        # OVS knows the flow by the same text.
        flow = re.search(r'udp\(dst=4100\), actions:userspace', text)
        expect(flow and 'udp(dst=4100)' in lab.ovs.appctl('dpctl/dump-flows'),
               'dump-flows')
        lines = lab.ovs.log_lines('stays in OVS, action/userspace')
        expect(len(lines) == 1 and 'udp(' in lines[0] and 'ufid:' in lines[0],
               'lines in the log: %s', lines)
        show = lab.ovs.offload_show()[0]
        expect(re.search(r'^  action/userspace: 1\d$', show, re.MULTILINE),
               'show:\n%s', show)
        context.note('%d flows of one reason, one line in the log',
                     len(flows['action/userspace']))


def test_forget(context):
    """A refused flow is listed while OVS has it, and not much longer."""
    with context.lab() as lab:
        a, b = lab.hosts
        for port in (4100, 4101):
            rule(lab, 'priority=10,udp,in_port=%d,udp_dst=%d,'
                 'actions=controller' % (lab.ovs.of_port(a.port), port))
            exchange(a, b, udp_frame(a, b, dport=port), 3, settle=0)
        wait_for('refusals', lambda: len(explained(
            lab, 'action/')[0].get('action/userspace', [])) == 2)
        begin = time.monotonic()

        def only_one():  # Sends, so that OVS keeps this one.
            exchange(a, b, udp_frame(a, b, dport=4100), 3, settle=0)
            text = explain(lab, 'action/')
            expect('dst=4100' in text, 'forgotten after %.0f s',
                   time.monotonic() - begin)
            return 'dst=4101' not in text
        # OVS itself keeps an idle flow for 10 s.
        wait_for('the idle flow to be forgotten', only_one,
                 FORGET_AFTER + 25, interval=1)
        gone = time.monotonic() - begin
        while time.monotonic() - begin < gone + 5:
            only_one()
            time.sleep(0.5)
        context.note('an idle flow is gone after %.0f s, a used one stays',
                     gone)


def test_waiting(context):
    """A flow waits for its output port; after the offload is off it is parked.
    """
    with context.lab() as lab:
        a, b = lab.hosts
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        b.run('ethtool', '-K', 'eth0', 'gro', 'off')
        flows, text = wait_for('waiting', lambda: (
            lambda f: f if f[0] else None)(explained(lab, 'waiting/')))
        expect(set(flows) == {'waiting/cannot_transmit'}, '%s', text)
        expect('%s: the veth peer has neither GRO' % b.port in text
               and 'ethtool -K PEER gro on' in text
               and 'eth_dst=%s' % b.mac in text
               and 'actions:output:' + b.port in text, '%s', text)
        verdict = trace(lab, a.port, udp_frame(a, b))
        expect('tx-port, of output:' + b.port in verdict, '%s', verdict)
        b.run('ethtool', '-K', 'eth0', 'gro', 'on')
        wait_for('no waiting', lambda: not explained(lab, 'waiting/')[0])
        run('ip', '-n', lab.switch, 'link', 'set', b.port, 'down')
        flows, text = wait_for('waiting', lambda: (
            lambda f: f if f[0] else None)(explained(lab, 'waiting/')))
        expect(set(flows) == {'waiting/link_down'}, '%s', text)
        run('ip', '-n', lab.switch, 'link', 'set', b.port, 'up')
        wait_for('no waiting', lambda: not explained(lab, 'waiting/')[0])
        ufids = [f['ufid'] for f in lab.ovs.flows('xdp')]
        expect(ufids, 'no flow in XDP')

        with Stream(a, b, pps=200):  # Keeps the flows.
            wait_offloaded(lab, a, b)
            lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                          'other_config:hw-offload=false')
            flows, text = wait_for('parked', lambda: (
                lambda f: f if f[0] else None)(explained(lab, 'parked/')))
            expect(set(flows) == {'parked/flushed'}, '%s', text)
            ufid = next(u for u, port in flows['parked/flushed']
                        if port == a.port)
            lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                          'other_config:hw-offload=true')
            wait_for('no parked', lambda: not explained(lab, 'parked/')[0])
            wait_for('the flow in XDP again',
                     lambda: 'is executed in XDP: packets:' in explain(
                         lab, ufid))


def paste(lab, text, reason):
    """Runs the command that explain prints for the reason, as it is."""
    m = re.search(r'^%s: .*?^  Command: (.*?)$' % reason, text,
                  re.MULTILINE | re.DOTALL)
    expect(m, 'no command for %s in\n%s', reason, text)
    program, *args = shlex.split(m[1])
    if program == 'ovs-vsctl':
        return lab.ovs.vsctl(*args)
    if program == 'ovs-appctl':
        return lab.ovs.appctl(*args)
    return run('ip', 'netns', 'exec', lab.switch, program, *args)


def test_commands(context):
    """What explain says to paste is true, with port and flow filled in."""
    with context.lab(acquainted=False) as lab:
        a, b = lab.hosts
        a.know(b)
        b.know(a)
        rule(lab, 'priority=9,ip,in_port=%d,actions=output:%d' % (
            lab.ovs.of_port(a.port), lab.ovs.of_port(b.port)))

        def wait_explained(reason):
            return wait_for(reason, lambda: (lambda f: f[1] if reason in f[0]
                                             else None)(explained(lab)))
        lab.ovs.vsctl('set', 'Interface', b.port, 'other_config:xdp-offload=false')
        with Stream(a, b, pps=100):
            text = wait_explained('output/left_out')
            paste(lab, text, 'output/left_out')
            wait_for('XDP', lambda: 'output/left_out' not in explained(lab)[0])
        run('ip', '-n', lab.switch, 'link', 'set', b.port, 'down')
        text = wait_explained('waiting/link_down')
        expect('state DOWN' in paste(lab, text, 'waiting/link_down'), 'link_down')
        run('ip', '-n', lab.switch, 'link', 'set', b.port, 'up')
        lab.ovs.ofctl('-OOpenFlow15', 'add-meter', 'br0',
                      'meter=1,pktps,bands=type=drop,rate=100000')
        rule(lab, 'priority=10,udp,in_port=%d,actions=meter:1,output:%d' % (
            lab.ovs.of_port(a.port), lab.ovs.of_port(b.port)))
        exchange(a, b, udp_frame(a, b), 3, settle=0)
        said = paste(lab, wait_explained('action/meter'), 'action/meter')
        expect('enter through %s' % a.port in said and 'priority 10' in said,
               'trace: %s', said)
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:hw-offload=false')
        wait_for('what is the matter', lambda: explain(lab).startswith(
            'no flow is in XDP: the offload is switched off'))


def test_nothing(context):
    """Nothing to explain is good news only if there are ports and flows."""
    with context.lab(0) as lab:
        expect('no port is' in explain(lab), 'no port: %s', explain(lab))
        a = lab.add_host(port=False)
        lab.ovs.vsctl('add-port', 'br0', a.port, '--', 'set', 'Interface', a.port,
                      'type=afxdp', 'other_config:xdp-offload=false')
        # But for what the host itself may have sent.
        expect('no port is' in explain(lab) or 'left_out' in explain(lab),
               'left out: %s', explain(lab))
        lab.ovs.vsctl('del-port', a.port)
        wait_for('no port', lambda: 'no port is' in explain(lab), 45)
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:hw-offload=false')
        wait_for('off', lambda: 'the offload is switched off' in explain(lab))


def test_explain_full(context):
    """A flow after the table is full: explain says how to make it larger, and it is."""
    with context.lab(config=['xdp-offload-max-flows=16']) as lab:
        a, b = lab.hosts

        def make_flows():
            for port in range(7000, 7040):
                rule(lab, 'udp,tp_dst=%d,in_port=%d,actions=output:%d' % (
                    port, lab.ovs.of_port(a.port), lab.ovs.of_port(b.port)))
            for port in range(7000, 7040):
                exchange(a, b, udp_frame(a, b, dport=port), 2, settle=0)

        make_flows()
        flows, text = wait_for('a full table', lambda: (
            lambda f: f if len(f[0].get('table/flows', [])) >= 20 else None)(
                explained(lab, 'table/')))
        expect('xdp-offload-max-flows' in text, '%s', text)
        short = explain(lab)  # Without a filter not all flows are listed.
        expect(re.search(r'and \d+ more \(xdp-offload/explain table/flows\)',
                         short), '%s', short)
        frame = udp_frame(a, b, dport=int(re.search(
            r'udp\(dst=(\d+)\)', text)[1]))
        expect('as it came: no-flow' in trace(lab, a.port, frame), 'trace')
        context.note('%d flows after 16', len(flows['table/flows']))
        lab.ovs.vsctl('set', 'Open_vSwitch', '.',
                      'other_config:xdp-offload-max-flows=64')
        lab.ovs.kill_vswitchd(signal.SIGTERM)
        lab.ovs.start_vswitchd()
        make_flows()
        wait_for('40 flows', lambda: flows_in_tables(lab)[0] >= 40)
        expect(not explained(lab, 'table/')[0], '%s', explain(lab, 'table/'))


def test_trace(context):
    """Trace: hits, actions and bytes as they really are, and misses."""
    with context.lab(3) as lab:
        a, b, c = lab.hosts
        port = {h: lab.ovs.of_port(h.port) for h in lab.hosts}
        rule(lab, 'priority=10,udp,in_port=%d,udp_dst=4002,actions=dec_ttl,'
             'push_vlan:0x8100,set_field:4196->vlan_vid,output:%d'
             % (port[a], port[b]))
        rule(lab, 'priority=10,udp,in_port=%d,udp_dst=4003,actions=drop'
             % port[a])
        rule(lab, 'priority=10,udp,in_port=%d,udp_dst=4004,actions=output:%d,'
             'output:%d' % (port[a], port[b], port[c]))

        def frame(dport):
            return udp_frame(a, b, dport=dport)
        plain, changed = frame(4001), frame(4002)
        exchange(a, b, plain)
        (got, tci), = exchange(a, b, changed)
        for dport in (4003, 4004):
            exchange(a, b, frame(dport))

        text = trace(lab, a.port, plain)
        for part in ('udp_dst=4001', 'flow: ufid:', 'leaves: as it came',
                     'verdict: XDP_REDIRECT, output:' + b.port,
                     'flow cache: leads to the flow on CPU'):
            expect(part in text, 'no "%s" in %s', part, text)
        ufid = re.search(r'^flow: (ufid:\S+)', text, re.MULTILINE)[1]
        expect('executed in XDP' in explain(lab, ufid), 'explain %s', ufid)

        text = trace(lab, a.port, changed)
        leaves = bytes.fromhex(re.search(r'^leaves: ([0-9a-f]+)$', text,
                                         re.MULTILINE)[1])
        expect(tci == 100 and leaves == got[:12] + b'\x81\x00\x00\x64'
               + got[12:], '%s, but %s with TCI %s arrived', text, got.hex(),
               tci)
        expect('push_vlan(tpid=0x8100,tci=0x0064),set(ip_ttl=63' in text
               and text.count('subtables: ') == 1, '%s', text)

        expect('verdict: XDP_DROP' in trace(lab, a.port, frame(4003)), 'drop')
        text = trace(lab, a.port, frame(4004))
        expect(re.search('XDP_REDIRECT, output:.*%s,%s' % (b.port, c.port),
                         text), '%s', text)
        text = trace(lab, a.port, frame(9))  # Goes where 4001 goes: NORMAL.
        command = re.search(r'^what OVS would do \(ovs-appctl (.*)\):$', text,
                            re.MULTILINE)[1]
        told = lab.ovs.appctl(*shlex.split(command))
        expect('Datapath actions: ' in told, '%s', told)
        said = [line.strip() for line in text.partition('what OVS')[2]
                .splitlines()[1:]]
        expect(said == [line.strip() for line in told.splitlines()],
               '%s, but the command says %s', said, told)

        # What stops a packet.
        unknown = b'\x02\0\0\0\0\x99' + plain[6:]
        for what, data in (('no-flow', unknown), ('truncated', plain[:40]),
                           ('truncated', plain[:60]),
                           ('ethertype', plain[:12] + bytes(48)),
                           ('ip-header', plain[:14] + bytes(60)),
                           ('no-flow', plain[:12] + b'\x88\xb6')):
            text = trace(lab, a.port, data)
            expect('passed to OVS as it came: %s\n' % what in text
                   and 'What it means: ' in text, '%s: %s', what, text)
        for bad, answer in (
                ('', 'two digits each'), ('00' * 13, 'two digits each'),
                ('00' * 9001, 'two digits each'), ('0' * 29, 'middle of'),
                ('zz' * 20, 'nor a flow: zz'), (' 0' * 20, 'nor a flow: '),
                ('udp,nw_src=1.2.3', 'bad value for nw_src (1.2.3'),
                ('eth(src=1)', 'nor a flow: '), ('(', 'nor a flow: '),
                ('in_port(p98),eth()', 'nor a flow: ')):
            text = trace(lab, a.port, bad)
            expect(answer in text, '%.40s: %s', bad, text)
        expect('sees the first' in trace(lab, a.port, plain + bytes(8000)),
               'a long packet')
        expect('no such port' in trace(lab, 'p99', plain), 'no such port')


def test_trace_flow(context):
    """Trace of a flow's text: as OpenFlow has it, and as dump-flows prints it."""
    with context.lab() as lab:
        a, b = lab.hosts
        match = ('dl_src=%s,dl_dst=%s,udp,nw_src=%s,nw_dst=%s,nw_ttl=64,'
                 'udp_src=1,udp_dst=2' % (a.mac, b.mac, a.ip4, b.ip4))
        text = trace(lab, a.port, match)
        expect('udp_src=1,udp_dst=2' in text and 'ipv4_src=' + a.ip4 in text
               and 'passed to OVS as it came: no-flow' in text, '%s', text)
        expect('Datapath actions: ' in text, '%s', text)
        exchange(a, b, udp_frame(a, b))
        wait_offloaded(lab, a, b)
        for names in ((), ('--names',)):
            lines = [line for line in lab.ovs.appctl(
                'dpctl/dump-flows', '-m', *names, 'type=xdp').splitlines()
                if 'src=' + a.mac in line and '0800' in line]
            expect(len(lines) == 1, '%s', lines)
            text = trace(lab, a.port, lines[0])
            expect('verdict: XDP_REDIRECT, output:' + b.port in text, '%s: %s',
                   lines[0], text)


def test_trace_stages(context):
    """Trace of a packet that recirculates: all its flows."""
    with context.lab(3) as lab:
        a, b, c = lab.hosts
        lab.ovs.ofctl('-OOpenFlow15', 'add-group', 'br0',
                      'group_id=1,type=select,'
                      'bucket=bucket_id=1,output:%d,bucket=bucket_id=2,'
                      'output:%d' % (lab.ovs.of_port(b.port),
                                     lab.ovs.of_port(c.port)))
        rule(lab, 'priority=10,udp,in_port=%d,actions=group:1'
             % lab.ovs.of_port(a.port))
        exchange(a, b, udp_frame(a, b))
        text = trace(lab, a.port, udp_frame(a, b))
        expect(text.count('flow: ufid:') == 2 and 'hash,recirc(0x' in text
               and 'verdict: XDP_REDIRECT, output:' in text, '%s', text)
        context.note('two flows')


def test_trace_exact(context):
    """Traces while traffic runs: no counter of anybody has a packet more."""
    with context.lab() as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        before = settled_counters(lab, [a, b])
        with Stream(a, b, pps=2000) as one, \
                Stream(b, a, pps=500, port=7001) as two:
            begin, n = time.monotonic(), 0
            while time.monotonic() - begin < 3:
                for frame in (udp_frame(a, b), udp_frame(a, b)[:40],
                              udp_frame(a, b, vlan=5)):
                    expect('verdict: ' in trace(lab, a.port, frame), 'trace')
                    n += 1
        expect(one.lost + two.lost == 0, 'lost: %s; %s', one, two)
        expect_exact(lab, before, [a, b])
        context.note('%d traces beside %s', n, one)


TESTS = [
    ('explain-refused', test_refused),
    ('explain-forget', test_forget),
    ('explain-commands', test_commands),
    ('explain-nothing', test_nothing),
    ('explain-waiting', test_waiting),
    ('explain-full', test_explain_full),
    ('trace', test_trace),
    ('trace-flow', test_trace_flow),
    ('trace-stages', test_trace_stages),
    ('trace-exact', test_trace_exact),
]
