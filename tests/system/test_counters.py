# SPDX-License-Identifier: Apache-2.0
"""Counters are exact, and flows live and die by them."""
import contextlib
import time

from lab import (Stream, counters, ping, settled_counters, tcp_transfer,
                 udp_echo, vlan_frames, wait_for)
from suite import (expect, expect_exact, flows_between, flows_in_tables,
                   passed, per_port_rules, since_start, wait_offloaded,
                   xdp_packets)

MAX_IDLE = 1.0  # Seconds.
MAX_IDLE_CONFIG = 'max-idle=%d' % (MAX_IDLE * 1000)


def datapath_counters(lab, hosts):
    """Sums of packets and bytes of the datapath flows, by input port."""
    flows = lab.ovs.flows()
    return {h.port: tuple(sum(f[k] for f in flows
                              if 'in_port(%s)' % h.port in f['match'])
                          for k in ('packets', 'bytes')) for h in hosts}


def test_exact(context):
    """OpenFlow, datapath and XDP count exactly what the hosts have sent."""
    with context.lab() as lab:
        a, b = lab.hosts
        per_port_rules(lab, 'NORMAL')
        before = settled_counters(lab, lab.hosts)
        for version in (4, 6):
            expect(ping(a, b, 10, version) == 10, 'ping')
            expect(tcp_transfer(a, b, 4 << 20, version), 'TCP')
            expect(udp_echo(a, b, 200, version) == 200, 'UDP')
        vlan_frames(b, a, count=2)
        vlan_frames(a, b, count=50)
        before = expect_exact(lab, before)
        expect(before[a.port]['xdp'][0] > 0.9 * before[a.port]['sent'][0],
               'most packets did not run in XDP')

        # While all flows exist, the datapath's figures grow as well.
        for src, dst in ((a, b), (b, a)):
            lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,actions=output:%d' % (
                lab.ovs.of_port(src.port), lab.ovs.of_port(dst.port)))
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        before = settled_counters(lab, lab.hosts)
        flows_before = datapath_counters(lab, lab.hosts)
        udp_echo(a, b, 300)
        flows_after = datapath_counters(lab, lab.hosts)
        after = expect_exact(lab, before, what='output: ')
        for port in (a.port, b.port):
            sent = tuple(x - y for x, y in zip(after[port]['sent'],
                                               before[port]['sent']))
            counted = tuple(x - y for x, y in zip(flows_after[port],
                                                  flows_before[port]))
            expect(sent == counted, '%s: sent %s packets, bytes, datapath '
                   'flows have %s', port, sent, counted)


def test_two_pmds(context):
    """A megaflow of two PMD threads is counted once."""
    config = ['pmd-cpu-mask=3']
    with context.lab(config=config, queues=2, n_rxq=2, gro=False) as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        before = settled_counters(lab, lab.hosts)

        def send(count):
            # Enough sockets to use both queues.
            for port in range(6100, 6120):
                udp_echo(a, b, count, port=port)

        send(3)
        flows = flows_between(lab, a, b)
        expect(len(flows) == 2, 'not a megaflow of two PMD threads: %s', flows)
        for host in lab.hosts:
            host.run('ethtool', '-K', 'eth0', 'gro', 'on')
        wait_offloaded(lab, a, b)
        wait_offloaded(lab, b, a)
        flows_before = datapath_counters(lab, lab.hosts)
        sent_before = counters(lab, lab.hosts)[a.port]
        send(20)
        flows_after = datapath_counters(lab, lab.hosts)
        after = expect_exact(lab, before)
        sent = after[a.port]['sent'][0] - sent_before['sent'][0]
        xdp = after[a.port]['xdp'][0] - sent_before['xdp'][0]
        counted = flows_after[a.port][0] - flows_before[a.port][0]
        expect(sent >= 400 and xdp >= 0.9 * sent, 'XDP has %d of %d', xdp,
               sent)
        expect(counted == sent, '%d packets sent, datapath flows have %d',
               sent, counted)


def test_flags_and_used(context):
    """tcp_flags and used of a flow in XDP are those of its packets."""
    with context.lab() as lab:
        a, b = lab.hosts
        ping(a, b, 2)
        wait_offloaded(lab, a, b)
        flow = flows_between(lab, a, b)[0]
        expect(flow['flags'] == '', 'TCP flags %s without TCP', flow['flags'])
        expect(tcp_transfer(a, b), 'TCP')
        flow = flows_between(lab, a, b, 'xdp')[0]
        expect(set('SFP.') <= set(flow['flags']) and 'R' not in flow['flags'],
               'TCP flags of a connection: %s', flow['flags'])
        # "never" where a number must be is wrong, too.
        used = float(flow['used'].rstrip('s').replace('never', 'inf'))
        expect(used < 1, 'used %s right after use', flow['used'])
        time.sleep(1.5)
        later = float(flows_between(lab, a, b)[0]['used'].rstrip('s'))
        expect(1.4 < later - used < 3, 'used %g became %g after 1.5 s',
               used, later)


def test_busy_flow(context):
    """A busy flow outlives three idle timeouts without an upcall."""
    with context.lab(config=[MAX_IDLE_CONFIG]) as lab:
        a, b = lab.hosts
        with Stream(a, b, pps=200):
            ufid = wait_offloaded(lab, a, b)[0]['ufid']
            time.sleep(0.3)
            misses = passed(lab, a.port, 'no-flow')
            last = xdp_packets(lab, a.port)
            packets = flows_between(lab, a, b)[0]['packets']
            end = time.monotonic() + 4.2 * MAX_IDLE
            while time.monotonic() < end:
                time.sleep(0.5)
                flows = flows_between(lab, a, b, 'xdp')
                expect([f['ufid'] for f in flows] == [ufid],
                       'flow %s became %s', ufid, flows)
                expect(flows[0]['packets'] > packets, 'the flow began anew')
                packets, now = flows[0]['packets'], xdp_packets(lab, a.port)
                expect(now - last > 20, 'only %d packets in XDP', now - last)
                last = now
            misses = passed(lab, a.port, 'no-flow') - misses
            expect(misses == 0, '%d packets of a busy flow were passed to OVS',
                   misses)


def test_idle_flow(context):
    """An idle flow expires, and its last counters reach OpenFlow."""
    with context.lab(config=[MAX_IDLE_CONFIG]) as lab:
        a, b = lab.hosts
        per_port_rules(lab, 'NORMAL')
        before = settled_counters(lab, lab.hosts)
        for _ in range(3):
            with Stream(a, b, pps=1000):
                wait_offloaded(lab, a, b)
                time.sleep(0.2)
            begin = time.monotonic()
            wait_for('expiry', lambda: not flows_between(lab, a, b),
                     MAX_IDLE + 2)
            age = time.monotonic() - begin
            expect(age > MAX_IDLE / 3, 'expired after %.1f s', age)
            wait_for('removal from the tables',
                     lambda: flows_in_tables(lab) == (0, 0), 3)
        expect_exact(lab, before)

        flows, packets = since_start(lab)
        entered = sum(xdp_packets(lab, host.port) for host in lab.hosts)
        expect(flows >= 3 and packets == entered > 0, 'since start %d flows '
               'and %d packets, but the ports have %d', flows, packets, entered)
        lab.ovs.vsctl('del-port', a.port)
        expect(since_start(lab) == (flows, packets), 'since start %s, %s after '
               'a port is gone', (flows, packets), since_start(lab))


def count_through_deletions(context, offload, delete, what, pmd_mask=1):
    """Sends a stream while 'delete(lab)' deletes datapath flows.

    Returns (sent, counted by OpenFlow, lost on the way).
    """
    with context.lab(offload=offload, queues=pmd_mask.bit_count(),
                     n_rxq=pmd_mask.bit_count(), config=[
            'max-idle=5000', 'pmd-cpu-mask=%d' % pmd_mask]) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('del-flows', 'br0')
        # Table 0 counts, table 1 is what changes.
        for rule in ('in_port=%d,actions=resubmit(,1)'
                     % lab.ovs.of_port(a.port),
                     'table=1,actions=output:%d' % lab.ovs.of_port(b.port)):
            lab.ovs.ofctl('add-flow', 'br0', rule)
        time.sleep(0.5)

        def look():
            lab.ovs.appctl('revalidator/wait')
            return (a.counters()['tx_packets'],
                    lab.ovs.openflow_counters()[lab.ovs.of_port(a.port)][0])

        before = look()
        with contextlib.ExitStack() as stack:
            # Several, so that all queues are used.
            streams = [stack.enter_context(Stream(
                a, b, pps=3000 // 4, port=7000 + n)) for n in range(4)]
            if offload:
                wait_offloaded(lab, a, b)
            for _ in range(8):
                delete(lab)
            if offload:
                wait_offloaded(lab, a, b)
        time.sleep(0.3)
        sent, counted = (x - y for x, y in zip(look(), before))
        lost = sum(stream.lost for stream in streams)
        context.note('%s %s: %d of %d not counted, %d lost', what,
                     'in XDP' if offload else 'offload off', sent - counted,
                     sent, lost)
        if offload:
            expect(xdp_packets(lab, a.port) > 0.3 * sent,
                   'the stream did not run in XDP')
        return sent, counted, lost


def change_rules(lab):
    lab.ovs.ofctl('add-flow', 'br0',
                  'table=1,priority=10,udp,tp_dst=9999,actions=drop')
    time.sleep(0.15)
    lab.ovs.ofctl('--strict', 'del-flows', 'br0',
                  'table=1,priority=10,udp,tp_dst=9999')
    time.sleep(0.15)


def test_deletion(context):
    """Counters are exact when flows in use are replaced or purged."""
    def purge(lab):
        lab.ovs.appctl('revalidator/purge')
        time.sleep(0.15)

    for what, delete, pmd_mask in (('rules', change_rules, 1),
                                 ('rules, two PMDs', change_rules, 3),
                                 ('purge', purge, 1)):
        sent, counted, lost = count_through_deletions(context, True, delete,
                                                      what, pmd_mask)
        if counted != sent or lost:
            sent0, counted0, lost0 = count_through_deletions(
                context, False, delete, what, pmd_mask)
            # OVS itself may miss a packet that a PMD thread is handling while
            # its flow is deleted: at most about one per deletion.
            expect(abs(sent - counted) <= abs(sent0 - counted0) + 8
                   and lost <= lost0, '%s: the deviation is larger with '
                   'offload', what)


def test_del_flows(context):
    """dpctl/del-flows under traffic loses no more counts than without us."""
    def flush(lab):
        lab.ovs.appctl('dpctl/del-flows')
        time.sleep(0.1)
        # Without this OVS 3.1 does not install the flows again.
        lab.ovs.appctl('revalidator/purge')
        time.sleep(0.2)

    results = [count_through_deletions(context, offload, flush, 'del-flows')
               for offload in (True, False)]
    (sent, counted, lost), (_, counted0, lost0) = results
    # OVS forgets what its flows have counted since the last look, at most half
    # a second per flush.
    bound = max(results[1][0] - counted0, 8 * 0.5 * 3000)
    expect(0 <= sent - counted <= bound, '%d counted of %d', counted, sent)
    # Between the two commands each packet is an upcall, which may be too much.
    expect(lost <= lost0 + 0.1 * sent, '%d packets lost, %d without offload',
           lost, lost0)


TESTS = [
    ('counters', test_exact),
    ('counters-two-pmds', test_two_pmds),
    ('counters-deletion', test_deletion),
    ('counters-del-flows', test_del_flows),
    ('flags-and-used', test_flags_and_used),
    ('busy-flow', test_busy_flow),
    ('idle-flow', test_idle_flow),
]
