# SPDX-License-Identifier: Apache-2.0
"""ct() of the kernel datapath: nf_conntrack's connections, executed by our programs.

Run in emulated machines, as those of test_kernel_datapath.py; from Linux 6.11 on.  Flows
of connections are twins, in the kernel and with us: each packet meets one of the two, and
figures are the sum.
"""
import contextlib
import re
import socket
import time

from lab import in_netns, receive_frame, run, settled_counters, tcp_transfer, wait_for
from suite import Skipped, expect, introduce
from test_connections import ACK, RST, SYN, tcp_frame
from test_kernel_datapath import SLOW, kernel_lab

BULK = 8 << 20
ZONE = 5
FEW = 20
TIMEOUT = 16                    # Seconds, of UDP.

# A stateful firewall: a may open connections to b, and b may answer.
FIREWALL = ('table=0,priority=9,arp,in_port={a},actions={b}',
            'table=0,priority=9,arp,in_port={b},actions={a}',
            'table=0,priority=8,in_port={a},ip,actions=ct(table=1,zone=5)',
            'table=0,priority=8,in_port={b},ip,actions=ct(table=1,zone=5)',
            'table=1,priority=9,ip,ct_state=+trk+inv,actions=drop',
            'table=1,priority=8,in_port={b},ip,ct_state=+trk+est,actions={a}',
            'table=1,priority=8,in_port={a},ip,ct_state=+trk+est,actions={b}',
            'table=1,priority=7,in_port={a},ip,ct_state=+trk+new,'
            'actions=ct(commit,zone=5,exec(load:0x7->NXM_NX_CT_MARK[])),{b}')

# a is behind a gateway, which b sees instead.
GATEWAY = '10.0.0.99'
NAT = ('table=0,priority=9,arp,in_port={a},actions={b}',
       'table=0,priority=9,arp,in_port={b},actions={a}',
       'table=0,priority=8,in_port={a},ip,actions='
       'ct(commit,zone=5,table=1,nat(src=' + GATEWAY + '))',
       'table=0,priority=8,in_port={b},ip,actions=ct(zone=5,table=1,nat)',
       'table=1,priority=8,in_port={a},ip,actions={b}',
       'table=1,priority=8,in_port={b},ip,ct_state=+trk+est,actions=mod_dl_dst:{mac},{a}')

# b is behind a virtual address.  Of a's packets all are to be of one state.
BALANCER = ('table=0,priority=9,arp,in_port={a},actions={b}',
            'table=0,priority=9,arp,in_port={b},actions={a}',
            'table=0,priority=8,in_port={a},ip,actions='
            'ct(commit,zone=5,table=1,nat(dst={ip}))',
            'table=0,priority=8,in_port={b},ip,actions=ct(zone=5,table=1,nat)',
            'table=1,priority=9,in_port={a},ip,ct_state=+trk+new,actions={b}',
            'table=1,priority=8,in_port={a},ip,ct_state=+est+dnat+snat,actions={b}',
            'table=1,priority=8,in_port={a},ip,ct_state=+est+dnat-snat,actions={b}',
            'table=1,priority=8,in_port={a},ip,ct_state=+est-dnat,actions={b}',
            'table=1,priority=8,in_port={b},ip,ct_state=+est+rpl+snat-dnat,actions={a}',
            'table=1,priority=7,in_port={b},ip,ct_state=+est+rpl,actions={a}')


class Chat:
    """Datagrams from one host to another, each of which is answered, on the same ports."""

    def __init__(self, src, dst):
        self.client = src.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server = dst.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.bind((src.ip4, 6100))
        self.server.bind((dst.ip4, 6101))
        self.client.settimeout(SLOW)
        self.server.settimeout(SLOW)
        self.client.connect((dst.ip4, 6101))

    def exchange(self, n, interval):
        """Returns how many have been answered."""
        answered = 0
        for _ in range(n):
            self.client.send(b'x' * 100)
            data, peer = self.server.recvfrom(1000)
            self.server.sendto(data, peer)
            answered += self.client.recv(1000) == data
            time.sleep(interval)
        return answered


@contextlib.contextmanager
def ct_lab(context, rules, **options):
    """A lab of two hosts with these rules: (lab, a, b)."""
    with kernel_lab(context, **options) as lab:
        introduce(lab.hosts)
        line = re.search(r'kernel: .*', lab.ovs.appctl('xdp-offload/show'))[0]
        if 'connections by zone' in line.split('missing:')[-1] and 'missing:' in line:
            raise Skipped('this kernel cannot be asked for connections by zone')
        a, b = lab.hosts
        names = {'a': lab.ovs.of_port(a.port), 'b': lab.ovs.of_port(b.port), 'mac': a.mac,
                 'ip': b.ip4}
        lab.ovs.ofctl('del-flows', 'br0')
        for rule in rules:
            lab.ovs.ofctl('add-flow', 'br0', rule.format(**names))
        yield lab, a, b


def knows_gateway(host, mac):
    """The host takes the gateway for a neighbour with that MAC address."""
    host.run('ip', 'neigh', 'replace', GATEWAY, 'lladdr', mac, 'dev', 'eth0')
    host.run('ip', 'route', 'replace', GATEWAY + '/32', 'dev', 'eth0')


def flows_of(lab, src):
    """The IPv4 flows from the host, of all stages."""
    return [f for f in lab.ovs.flows() if 'in_port(%s)' % src.port in f['match']
            and 'eth_type(0x0800)' in f['match']]


def first_table(lab, host):
    """(packets, bytes) that the rules of the first table have counted of the host's."""
    text = lab.ovs.ofctl('dump-flows', 'br0', 'table=0,in_port=%d' % lab.ovs.of_port(host.port))
    return tuple(sum(int(n) for n in re.findall(key + r'=(\d+)', text))
                 for key in ('n_packets', 'n_bytes'))


def settled(lab):
    """What each host has sent, what the first table has counted of it, and how many packets
    our program has passed on."""
    result = settled_counters(lab, lab.hosts)
    for host in lab.hosts:
        result[host.port]['openflow'] = first_table(lab, host)
    return result


def expect_counted(before, after, host, what):
    """Checks that all that the host has sent in between was counted by OVS once, whoever has
    executed it.  Returns (packets, bytes)."""
    sent, openflow = (tuple(x - y for x, y in zip(after[host.port][k], before[host.port][k]))
                      for k in ('sent', 'openflow'))
    expect(openflow == sent, '%s: sent %s, OpenFlow has %s', what, sent, openflow)
    return sent


def expect_executed(context, before, after, host, what):
    """The same, and that most was executed by us."""
    sent = expect_counted(before, after, host, what)
    ours = sent[0] - (after[host.port]['passed'] - before[host.port]['passed'])
    context.note('%s: %d of %d packets executed by us', what, ours, sent[0])
    # Of those that open and close it, and of late ones, few are ours.
    expect(ours > 0.9 * sent[0] or sent[0] - ours <= FEW, '%s: only %d of %d packets', what,
           ours, sent[0])


def warm_up(lab, src, dst):
    """Has the flows made, and waits until they are ours."""
    expect(tcp_transfer(src, dst, 1 << 18, timeout=SLOW), 'TCP')

    def ours():
        return all(any('dp:xdp' in f['attrs'] for f in flows_of(lab, h))
                   for h in (src, dst))
    wait_for('flows of both directions with us', ours, SLOW)


@contextlib.contextmanager
def all_executed(context, lab, what):
    """What both hosts send meanwhile must be executed by us, mostly."""
    before = settled(lab)
    yield
    after = settled(lab)
    for host, name in zip(lab.hosts, (what, 'its answers')):
        expect_executed(context, before, after, host, name)


def check_firewall(context, **options):
    with ct_lab(context, FIREWALL, **options) as (lab, a, b):
        warm_up(lab, a, b)
        context.show('$ ovs-appctl dpctl/dump-flows -m type=xdp\n'
                     + lab.ovs.flows('xdp', raw=True))
        with all_executed(context, lab, 'TCP'):
            expect(tcp_transfer(a, b, BULK, timeout=SLOW), 'TCP')
        expect(not tcp_transfer(b, a, 1 << 16, timeout=3), 'b has opened a connection')


def test_firewall(context):
    """A stateful firewall in front of nf_conntrack: established TCP is executed, counted once.
    """
    check_firewall(context)


def test_firewall_tc(context):
    """The same at TC's ingress, where containers keep their segments."""
    check_firewall(context, config=['xdp-offload-hook=tc'])


def test_nat(context):
    """Translated connections are executed, both ways."""
    with ct_lab(context, NAT) as (lab, a, b):
        knows_gateway(b, a.mac)
        warm_up(lab, a, b)
        with all_executed(context, lab, 'TCP'):
            expect(tcp_transfer(a, b, BULK, timeout=SLOW), 'TCP')


def test_load_balancer(context):
    """A translated destination: our state of a packet is openvswitch.ko's."""
    with ct_lab(context, BALANCER) as (lab, a, b):
        knows_gateway(a, b.mac)
        expect(tcp_transfer(a, b, 1 << 18, timeout=SLOW, ip=GATEWAY), 'TCP')
        with all_executed(context, lab, 'TCP'):
            expect(tcp_transfer(a, b, BULK, timeout=SLOW, ip=GATEWAY), 'TCP')
        rules = lab.ovs.ofctl('dump-flows', 'br0', 'table=1')
        used = [r for r in rules.splitlines() if 'n_packets' in r and 'n_packets=0,' not in r]
        context.note('%d rules used', len(used))
        expect(len(used) == 3, 'other states than openvswitch.ko finds:\n%s', rules)


def test_udp(context):
    """UDP is executed when nf_conntrack has assured it, longer than its time-out."""
    with ct_lab(context, FIREWALL) as (lab, a, b):
        with in_netns(lab.switch):
            run('sysctl', '-qw',
                'net.netfilter.nf_conntrack_udp_timeout_stream=%d' % TIMEOUT)
        chat = Chat(a, b)
        chat.exchange(150, 0.03)        # Assured, after two seconds.
        with all_executed(context, lab, 'UDP'):
            begin = time.monotonic()
            while time.monotonic() < begin + 1.5 * TIMEOUT:
                expect(chat.exchange(100, 0.02) == 100, 'UDP is lost')


UNTRACKED = ('table=0,priority=9,arp,in_port={a},actions={b}',
             'table=0,priority=9,arp,in_port={b},actions={a}',
             'table=0,priority=8,ct_state=-trk,udp,in_port={a},actions={b}',
             'table=0,priority=8,ct_state=-trk,udp,in_port={b},actions={a}')


def test_untracked(context):
    """A flow that matches that nobody has tracked its packets is executed."""
    with ct_lab(context, UNTRACKED) as (lab, a, b):
        chat = Chat(a, b)
        chat.exchange(20, 0.1)
        with all_executed(context, lab, 'UDP'):
            expect(chat.exchange(200, 0.01) == 200, 'UDP is lost')


def test_deleted(context):
    """Connections that are deleted, and rules that change, hold for the next packet."""
    with ct_lab(context, FIREWALL) as (lab, a, b):
        warm_up(lab, a, b)
        lab.ovs.appctl('dpctl/flush-conntrack', 'zone=%d' % ZONE)
        expect(tcp_transfer(a, b, 1 << 20, timeout=SLOW), 'TCP after a flush')
        lab.ovs.ofctl('del-flows', 'br0', 'table=1')
        expect(not tcp_transfer(a, b, 1 << 16, timeout=3), 'TCP without rules')
        wait_for('no flow of connections with us', lambda: not any(
            'ct_state' in f['match'] and f['actions'] not in ('drop', '')
            for f in lab.ovs.flows('xdp')), SLOW)


def test_behind(context):
    """Flows that somebody else deletes in the kernel keep what was counted, here and there.
    """
    with ct_lab(context, FIREWALL) as (lab, a, b):
        warm_up(lab, a, b)
        before = settled(lab)
        expect(tcp_transfer(a, b, BULK, timeout=SLOW), 'TCP')
        settled(lab)                    # All has been dumped.
        with in_netns(lab.switch):
            run(lab.ovs.tool('ovs-dpctl'), 'del-flows', 'ovs-system')
        expect(tcp_transfer(a, b, 1 << 18, timeout=SLOW), 'TCP without the kernel\'s flows')
        lab.ovs.appctl('revalidator/purge')
        after = settled(lab)
        for host in lab.hosts:
            sent = expect_counted(before, after, host, host.port)
            context.note('%s: %s sent and counted', host.port, sent)


class Endpoint:
    """Of a TCP that no host's stack knows of, behind the host's port."""

    def __init__(self, stack, host, ip4, tcp_port):
        self.mac, self.ip4, self.tcp_port = host.mac, ip4, tcp_port
        self.socket = stack.enter_context(contextlib.closing(host.raw_socket()))

    def arrives(self, frame, timeout=SLOW):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if receive_frame(self.socket, 1)[0][:len(frame)] == frame:
                    return True
        return False


def test_reset(context):
    """A reset comes through when more has passed than nf_conntrack's memory spans.

    nf_conntrack has seen an acknowledgement of long ago, which is later than the reset,
    modulo 2^32."""
    step = 900 << 20
    with ct_lab(context, FIREWALL) as (lab, a, b), contextlib.ExitStack() as stack:
        client = Endpoint(stack, a, '10.0.0.201', 1000)
        server = Endpoint(stack, b, '10.0.0.202', 80)

        def send(src, dst, flags, seq, ack, **more):
            frame = tcp_frame(src, dst, (src.tcp_port, dst.tcp_port), seq % 2**32,
                              ack % 2**32, flags, window=65535, **more)
            src.socket.send(frame)
            expect(dst.arrives(frame), '%s has lost %s', src.ip4, (flags, seq, ack))

        scale = b'\x03\x03\x0e\x01'    # Windows of up to 1 GiB.
        at, back = 1000, 5000
        send(client, server, SYN, at, 0, options=scale)
        send(server, client, SYN | ACK, back, at + 1, options=scale)
        at, back = at + 1, back + 1
        send(client, server, ACK, at, back)
        before = settled(lab)
        # Until the flows are ours, then further than half of the numbers.
        for i in range(24):
            send(server, client, ACK, back, at, data=b'x' * 10)
            back += 10 if i < 20 else step
            send(client, server, ACK, at, back)
            time.sleep(0.2)
        after = settled(lab)
        passed = after[b.port]['passed'] - before[b.port]['passed']
        expect(passed < 22, 'all of it has gone to openvswitch.ko')
        send(server, client, RST, back, 0)


TESTS = [
    ('kernel-ct', test_firewall),
    ('kernel-ct-tc', test_firewall_tc),
    ('kernel-ct-nat', test_nat),
    ('kernel-ct-balancer', test_load_balancer),
    ('kernel-ct-udp', test_udp),
    ('kernel-ct-untracked', test_untracked),
    ('kernel-ct-deleted', test_deleted),
    ('kernel-ct-behind', test_behind),
    ('kernel-ct-reset', test_reset),
]
