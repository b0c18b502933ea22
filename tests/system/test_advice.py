# SPDX-License-Identifier: Apache-2.0
"""What docs/reasons.md tells operators to do helps: it is done, and the packets that were
refused are executed in XDP.

A case is rules that give a reason, and what the advice makes of them.  In the rules {a},
{b} and {c} are the OpenFlow ports of three hosts; 'a' sends.
"""
import contextlib
import dataclasses
import itertools
import re
import shlex
import socket
import struct
import time
import types
from typing import Callable

from lab import checksum, udp_frame, wait_for
from suite import Failed, expect, passed, xdp_packets
from test_explosion import ACCESS_LIST, frames_of_many_masks
from test_traffic import ipv6_frame

COUNT = 40                      # Packets of a case that must be in XDP.
MPLS_LABELS = struct.pack('!II', 16 << 12 | 64, 17 << 12 | 0x100 | 64)
TRACE = 'xdp-offload/trace PORT FLOW'


def udp(a, b):
    return udp_frame(a, b)


def broadcast(a, b):
    return b'\xff' * 6 + udp_frame(a, b)[6:]


def later_fragment(a, b):
    frame = bytearray(udp_frame(a, b))
    frame[20:22] = b'\0\x10'    # 128 bytes further on, the last one.
    frame[24:26] = b'\0\0'
    frame[24:26] = struct.pack('!H', checksum(bytes(frame[14:34])))
    return bytes(frame)


def echo_request(a, b):
    """ICMPv6, with a checksum that nobody looks at."""
    return ipv6_frame(a, b, 58, struct.pack('!BBHI', 128, 0, 0x2345, 7))


def many_udp(count, **ports):
    """Frames that differ in a port."""
    (name, first), = ports.items()

    def frames(a, b):
        return [udp_frame(a, b, payload=b'', **{name: first + i})
                for i in range(count)]
    return frames


def payload_of_type(eth_type, payload):
    def frame(a, b):
        return (bytes.fromhex((b.mac + a.mac).replace(':', ''))
                + struct.pack('!H', eth_type) + payload)
    return frame


# What is behind labels has to be known of a veth's frame (bpf/packet/inside.h).
IP_PACKET = udp_frame(*(types.SimpleNamespace(mac='02:00:00:00:00:0%d' % n,
                                              ip4='10.78.0.%d' % n)
                        for n in (1, 2)))[14:]
mpls_one = payload_of_type(0x8847, struct.pack('!I', 16 << 12 | 0x140) + IP_PACKET)
mpls_two = payload_of_type(0x8847, MPLS_LABELS + IP_PACKET)


@dataclasses.dataclass
class Case:
    reason: str
    before: tuple               # Rules: text after "add-flow br0".
    after: tuple                # With the advice.
    frame: Callable = udp       # Or several frames, of a flow each.
    groups: tuple = ((), ())    # Before and after.
    commands: tuple = ((), ())  # What else: of ovs-ofctl, "vsctl" if it begins so.


def in_a(actions, match='udp'):
    return 'priority=10,%s,in_port={a},actions=%s' % (match, actions)


OUT = in_a('output:{b}')


def buckets(*weights, more='', actions=''):
    return ('group_id=1,type=select,%s' % more + ','.join(
        'bucket=bucket_id=%d,weight:%d,actions=%soutput:{%s}' % (
            i + 1, w, actions, 'bc'[i % 2]) for i, w in enumerate(weights)),)


SFLOW = ('vsctl --id=@s create sflow agent=lo target="127.0.0.1" sampling=64 '
         '-- set bridge br0 sflow=@s')


CASES = [
    Case('action/after_output',
         (in_a('output:{b},mod_dl_src:02:00:00:00:00:77,output:{c}'),),
         (in_a('mod_dl_src:02:00:00:00:00:77,output:{b},output:{c}'),)),
    Case('action/hash_l4', (in_a('group:1'),), (in_a('group:1'),),
         groups=(buckets(1, 1, more='selection_method=dp_hash,'),
                 buckets(1, 1))),
    Case('action/hash_l4', (in_a('group:1'),), (in_a('group:1'),),
         groups=(buckets(1, 1, more='selection_method=dp_hash,'),
                 buckets(1, 1, more='selection_method=dp_hash,'
                         'selection_method_param=4294967296,'))),
    Case('action/ct_force',
         (in_a('ct(commit,force,table=1)'), 'table=1,actions=output:{b}'),
         (in_a('ct(table=1)'), 'table=1,actions=output:{b}')),
    Case('action/meter', (in_a('meter:1,output:{b}'),), (OUT,),
         commands=(('add-meter br0 meter=1,pktps,bands=type=drop,rate=100000',
                    ), ())),
    Case('action/clone', (in_a('clone(ct(commit),output:{c}),output:{b}'),),
         (in_a('output:{c},output:{b}'),)),
    Case('action/check_pkt_len',
         (in_a('resubmit(,1),output:{b}'),
          'table=1,actions=check_pkt_larger(200)->NXM_NX_REG0[0],'
          'resubmit(,2)', 'table=2,reg0=0,actions=output:{c}'),
         (in_a('output:{b},resubmit(,1)'),
          'table=1,actions=check_pkt_larger(200)->NXM_NX_REG0[0],'
          'resubmit(,2)', 'table=2,reg0=0,actions=output:{c}')),
    Case('action/push_mpls', (in_a('push_mpls:0x8847,output:{b}'),), (OUT,)),
    Case('action/pop_mpls',
         (in_a('pop_mpls:0x0800,output:{b}', 'mpls'),),
         (in_a('output:{b}', 'mpls'),), frame=mpls_one),
    Case('set/mpls_lse',
         (in_a('set_mpls_ttl(9),output:{b}', 'mpls'),),
         (in_a('output:{b}', 'mpls'),), frame=mpls_one),
    Case('action/push_nsh', (in_a('encap(nsh),encap(ethernet),output:{b}'),),
         (OUT,)),
    Case('action/sample', (OUT,), (OUT,),
         commands=((SFLOW,), ('vsctl clear bridge br0 sflow',))),
    Case('action/too_many_outputs',
         (in_a('output(port={b},max_len=100),output:{c}'),),
         (in_a('output:{b},output:{c}'),)),
    Case('action/after_output',
         (in_a('output:{c},output(port={b},max_len=100)'),),
         (in_a('output(port={b},max_len=100)'),)),
    Case('action/userspace', (in_a('controller'),), (OUT,)),
    Case('set/later_fragment',
         (in_a('mod_nw_src:1.2.3.4,output:{b}'),),
         (in_a('mod_nw_src:1.2.3.4,output:{b}', 'udp,ip_frag=not_later'),
          in_a('output:{b}').replace('=10', '=5')),
         frame=later_fragment),
    Case('match/mpls', (in_a('pop_mpls:0x8847,resubmit(,1)', 'mpls'),
                        'table=1,mpls,mpls_label=17,actions=output:{b}'),
         (in_a('output:{b}', 'mpls'),), frame=mpls_two),
    # OVS makes no flow that sets it, also not behind a select group.
    Case('action/userspace',
         (in_a('set_field:129->icmpv6_type,output:{b}', 'icmp6'),),
         (in_a('output:{b}', 'icmp6'),), frame=echo_request),
    Case('action/add_mpls', (in_a('encap(mpls),encap(ethernet),output:{b}'),),
         (OUT,)),
    Case('action/pop_eth', (in_a('decap(),encap(ethernet),output:{b}'),),
         (OUT,)),
    Case('set/skb_mark', (in_a('set_field:5->pkt_mark,output:{b}'),), (OUT,)),
    Case('set/skb_priority', (in_a('set_queue:1,output:{b}'),), (OUT,)),
    Case('output/not_an_xdp_port', (in_a('output:LOCAL'),), (OUT,)),
    Case('output/not_an_xdp_port', (in_a('NORMAL'),), (in_a('NORMAL'),),
         frame=broadcast, commands=tuple(
             ('-OOpenFlow10 mod-port br0 br0 ' + what,)
             for what in ('flood', 'no-flood'))),
]


# One more set of header fields than there may be, and one more set of output ports, of
# those that six hosts have.
PORT_SETS = [c for n in (2, 3, 4) for c in itertools.combinations('bcdefgh', n)][:70]
MANY = [
    Case('table/rewrites',
         (in_a('move:NXM_OF_UDP_SRC[]->NXM_OF_UDP_DST[],output:{b}'),),
         (in_a('mod_tp_dst:9,output:{b}'),),
         frame=many_udp(4200, sport=10000)),
    Case('table/groups',
         tuple(in_a(','.join('output:{%s}' % p for p in ports),
                    'udp,tp_dst=%d' % (5000 + i))
               for i, ports in enumerate(PORT_SETS)),
         (in_a('output:{b},output:{c}'),),
         frame=many_udp(len(PORT_SETS), dport=5000)),
]


def refused(lab, reason):
    m = re.search(r'^%s: (\d+)' % reason, lab.ovs.appctl(
        'xdp-offload/rejects'), re.MULTILINE)
    return int(m[1]) if m else 0


def send(host, frame, count):
    """Sends a frame, or each of a list."""
    frames = frame if isinstance(frame, list) else [frame]
    s = host.raw_socket()
    for frame in frames * count:
        s.send(frame)
        time.sleep(0.002 if len(frames) < 1000 else 0.0005)
    s.close()


def program(lab, rules, groups, commands):
    names = dict(zip('abcdefgh', (lab.ovs.of_port(h.port) for h in lab.hosts)))
    of = ('-OOpenFlow15',)
    lab.ovs.ofctl(*of, 'del-flows', 'br0')
    lab.ovs.ofctl(*of, 'del-groups', 'br0')
    lab.ovs.appctl('revalidator/purge')
    for command in commands:
        words = shlex.split(command)
        if words[0] == 'vsctl':
            lab.ovs.vsctl(*words[1:])
        else:
            lab.ovs.ofctl(*of, *words)
    for group in groups:
        lab.ovs.ofctl(*of, 'add-group', 'br0', group.format(**names))
    for rule in rules:
        lab.ovs.ofctl(*of, 'add-flow', 'br0', rule.format(**names))


def expect_rule(lab, port, explained):
    """Does as the advice says: looks for the OpenFlow rule behind a flow."""
    flow = re.search(r'^    (\S+), actions:', explained, re.MULTILINE)[1]
    told = lab.ovs.appctl('xdp-offload/trace', port, flow)
    expect(re.search(r'^ *0\. .*in_port=', told, re.MULTILINE), '%s: %s', flow,
           told)


def runs_in_xdp(lab, host, frame):
    before = xdp_packets(lab, host.port)
    send(host, frame, 1)
    return xdp_packets(lab, host.port) > before


def check(lab, case):
    a, b = lab.hosts[:2]
    frame = case.frame(a, b)
    n = refused(lab, case.reason)
    program(lab, case.before, case.groups[0], case.commands[0])
    send(a, frame, 3)
    try:
        wait_for(case.reason, lambda: refused(lab, case.reason) > n, 5)
    except RuntimeError:
        raise Failed('not the reason: ' + lab.ovs.appctl(
            'xdp-offload/explain', a.port)) from None
    explained = lab.ovs.appctl('xdp-offload/explain', case.reason)
    if TRACE in explained:
        expect_rule(lab, a.port, explained)
    program(lab, case.after, case.groups[1], case.commands[1])
    frame = frame[0] if isinstance(frame, list) else frame
    with contextlib.suppress(RuntimeError):     # What follows says more.
        wait_for('a flow in XDP', lambda: runs_in_xdp(lab, a, frame), 5)
    before = xdp_packets(lab, a.port)
    send(a, frame, COUNT)
    in_xdp = xdp_packets(lab, a.port) - before
    # A packet that is recirculated counts in each flow.
    expect(in_xdp >= COUNT, 'after the advice only %d of %d in XDP; %s', in_xdp,
           COUNT, lab.ovs.appctl('xdp-offload/explain'))


def check_all(context, cases, hosts):
    failed = []
    with context.lab(hosts) as lab:
        for case in cases:
            try:
                check(lab, case)
            except (Failed, RuntimeError) as e:
                failed.append('%s: %s' % (case.reason, e))
    context.note('%d reasons', len({case.reason for case in cases}))
    expect(not failed, '%s', '\n'.join(failed))


def test_advice(context):
    """What docs/reasons.md says about a refused flow helps."""
    check_all(context, CASES, 3)


def test_advice_many(context):
    """What it says where there are too many of something helps."""
    check_all(context, MANY, 8)


def test_advice_checksum(context):
    """What it says about packets whose checksum XDP cannot complete helps."""
    with context.lab(xdp_mode='generic') as lab:
        a, b = lab.hosts
        program(lab, (in_a('mod_nw_src:10.77.0.9,output:{b}'),), (), ())

        def send_datagrams():
            """Returns how many ran in XDP, and were passed on for their sum."""
            before = xdp_packets(lab, a.port), passed(lab, a.port, 'tx-checksum')
            with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                for _ in range(COUNT):
                    s.sendto(b'x' * 64, (b.ip4, 4001))
                    time.sleep(0.002)
            time.sleep(0.1)
            after = xdp_packets(lab, a.port), passed(lab, a.port, 'tx-checksum')
            return tuple(y - x for x, y in zip(before, after))

        send_datagrams()
        in_xdp, up = send_datagrams()
        expect((in_xdp, up) == (0, COUNT), '%d in XDP, %d passed on', in_xdp, up)
        a.run('ethtool', '-K', 'eth0', 'tx', 'off')
        in_xdp, up = send_datagrams()
        expect((in_xdp, up) == (COUNT, 0), 'after the advice %d in XDP, %d passed '
               'on', in_xdp, up)


# As few masks as an address has bits.
ADDRESSES = tuple('priority=%d,in_port={c},udp,nw_src=10.0.0.%d,actions={b}' % (
    10 * i, i) for i in (1, 2, 3)) + ('priority=1,in_port={c},actions=drop',)


def test_masks(context):
    """When masks are scarce explain lists what uses them; rules of fewer fields help.
    """
    with context.lab() as lab:
        a, b = lab.hosts
        names = {'c': lab.ovs.of_port(a.port), 'b': lab.ovs.of_port(b.port)}
        frames = frames_of_many_masks(a, b)[:900]

        def attack(rules):
            lab.ovs.ofctl('del-flows', 'br0')
            for rule in rules:
                lab.ovs.ofctl('add-flow', 'br0', rule.format(**names))
            lab.ovs.appctl('revalidator/purge')
            n = refused(lab, 'table/masks')
            with contextlib.closing(a.raw_socket()) as s:
                for frame in frames:    # Before the first ones are idle.
                    s.send(frame)
                    time.sleep(0.003)
            time.sleep(0.5)
            return refused(lab, 'table/masks') - n

        expect('masks in use' not in lab.ovs.appctl('xdp-offload/explain'),
               'masks are told of without need')
        n = attack(ACCESS_LIST)
        text = lab.ovs.appctl('xdp-offload/explain', 'table/masks')
        expect(n > 50 and 'table/masks: ' in text, '%d refused, %s', n, text)
        m = re.search(r'^masks in use: (\d+) of 512.*\n'
                      r'  (\d+) of ipv4, \d+ flows: .*ipv4_src in \d+ ways '
                      r'\(.*/\d+ .*udp_src in .*udp_dst in \d+ ways \(.*\n'
                      r'    for example in_port\(%s\),.*ipv4_src=10\.'
                      % a.port, text, re.MULTILINE)
        expect(m and int(m[1]) >= 256 and int(m[2]) >= 128, '%s', text)
        expect('masks in use' in lab.ovs.appctl('xdp-offload/explain'),
               'not in explain')
        expect('masks in use' not in lab.ovs.appctl(
            'xdp-offload/explain', 'output/'), 'in explain output/')
        context.show('masks in use' + text.partition('masks in use')[2])

        n_refused = attack(ADDRESSES)
        context.note('refused: %d flows, and %d with the advice', n, n_refused)
        expect(not n_refused, '%d are refused', n_refused)


TESTS = [
    ('advice', test_advice),
    ('advice-many', test_advice_many),
    ('advice-checksum', test_advice_checksum),
    ('explain-masks', test_masks),
]
