# SPDX-License-Identifier: Apache-2.0
"""Overlays as their controllers build them, with the rules that they publish.

  host 1 - br0 - ... - br-phys - wire -.
  host 2 - br0 - ... - br-phys - wire --- Linux bridge
  host 3 - br0 - ... - br-phys - wire -'

Each chassis has the offload.  What counts is the share of the packets of lasting
connections that are executed in XDP, at the chassis where it is least.
"""
import contextlib
import re
import time
import types

from lab import Host, checksum, run, udp_frame, wait_for
from lasting import Connections, complete, keep_neighbours, learn
from suite import expect, handled, share
from underlay import (TUNNEL_MTU, bridge_mac, connect, join,
                      local_address)

MIN_SHARE = 99                  # Percent.
ROUNDS = 200                    # Packets of each connection.


class Chassis:
    """A switch with one host, and what its rules are made of."""

    def __init__(self, lab, number):
        self.lab, self.ovs, self.number = lab, lab.ovs, number
        self.address = local_address(number)
        self.host = Host(lab, number, mtu=TUNNEL_MTU)
        lab.hosts.append(self.host)
        self.ovs.add_port(self.host.port)
        self.words = {'mac': self.host.mac, 'ip': self.host.ip4,
                      'ip6': self.host.ip6}

    def patch(self, bridge, here, there):
        """Joins br0 by its port 'here' with 'there' of another bridge."""
        self.ovs.vsctl(
            'add-br', bridge, '--', 'set', 'bridge', bridge,
            'datapath_type=netdev', 'fail_mode=secure', '--',
            'add-port', 'br0', here, '--', 'set', 'interface', here, 'type=patch',
            'options:peer=' + there, '--',
            'add-port', bridge, there, '--', 'set', 'interface', there, 'type=patch',
            'options:peer=' + here)

    def tunnel(self, bridge, name, kind, remote, **options):
        self.ovs.vsctl(
            'add-port', bridge, name, '--', 'set', 'interface', name, 'type=' + kind,
            'options:remote_ip=' + remote, 'options:local_ip=' + self.address,
            *('options:%s=%s' % o for o in options.items()))

    def numbers(self, **ports):
        """Words for the OpenFlow numbers of ports."""
        for word, port in ports.items():
            self.words[word] = self.ovs.of_port(port)

    def rules(self, bridge, lines):
        """The only ones of a bridge; lines of "table=", in which {words} stand."""
        self.ovs.ofctl('del-flows', bridge)
        path = '%s/%s.rules' % (self.lab.tmp, bridge)
        with open(path, 'w') as f:
            f.write('\n'.join(line.format(**self.words) for line in lines))
        self.ovs.ofctl('add-flows', bridge, path)


@contextlib.contextmanager
def several(context, n):
    with contextlib.ExitStack() as stack:
        labs = [stack.enter_context(context.lab(hosts=0)) for _ in range(n)]
        all_of_them = [Chassis(lab, i + 1) for i, lab in enumerate(labs)]
        join(labs)
        for c in all_of_them:
            connect(c.lab, c.number, *(other.number for other in all_of_them
                                       if other is not c))
        yield all_of_them


def measure(context, name, all_of_them, connections):
    """What lasting connections get, when OVS has made flows for them."""
    wait_for('packets of all connections', lambda: complete(
        connections, connections.use(12)), 40, 0.5)
    for c in all_of_them:
        keep_neighbours(c.host)
    learn(connections)
    before = [handled(c.lab) for c in all_of_them]
    back = connections.use(ROUNDS)
    counts = [handled(c.lab) - old for c, old in zip(all_of_them, before)]
    context.note('%s: %s of %s packets in XDP', name,
                 ', '.join('%.1f %%' % share(c) for c in counts),
                 ', '.join('%d' % c.total() for c in counts))
    late = {c.name: back[c.name] for c in connections.all
            if c.protocol != 'TCP' and back[c.name] < ROUNDS - 2}
    expect(not late, '%s: came back of %d: %s', name, ROUNDS, late)
    for c, counted in zip(all_of_them, counts):
        expect(share(counted) >= MIN_SHARE, '%s: %s\n%s', name, dict(counted),
               c.ovs.appctl('xdp-offload/explain'))


# -- OpenStack, ML2/OVS --------------------------------------------------------
# neutron's Open vSwitch agent with its "openvswitch" firewall: br-int (here br0) and
# br-tun, VXLAN between all, addresses learned from what tunnels bring.

VLAN, VNI = 1, 0x58
LEARNED_FOR = 6                 # Seconds; the agent's are 300.
TO_PORT = 'load:{vm}->NXM_NX_REG5[],load:{vlan}->NXM_NX_REG6[]'
ZONE = 'zone=NXM_NX_REG6[0..15]'
IP = 'ip', 'ipv6'


def firewall(ips):
    """Stateful: a port may open connections, and others may to it."""
    source = {'ip': 'nw_src={ip}', 'ipv6': 'ipv6_src={ip6}'}
    return [line for ip in ips for line in (
        'table=71,priority=65,%s,reg5={vm},in_port={vm},dl_src={mac},%s,'
        'actions=ct(table=72,%s)' % (ip, source[ip], ZONE),
        'table=72,priority=74,ct_state=+est-rel-rpl,%s,reg5={vm},'
        'actions=resubmit(,73)' % ip,
        'table=72,priority=74,ct_state=+new-est,%s,reg5={vm},'
        'actions=resubmit(,73)' % ip,
        'table=72,priority=40,ct_state=+est,%s,reg5={vm},'
        'actions=ct(commit,%s,exec(load:0x1->NXM_NX_CT_MARK[]))' % (ip, ZONE),
        'table=73,priority=90,ct_state=+new-est,%s,reg5={vm},'
        'actions=ct(commit,%s),resubmit(,91)' % (ip, ZONE),
        'table=81,priority=90,ct_state=-trk,%s,reg5={vm},'
        'actions=ct(table=82,%s)' % (ip, ZONE),
        'table=82,priority=71,ct_state=+est-rel-rpl,%s,reg5={vm},'
        'actions=output:{vm}' % ip,
        'table=82,priority=71,ct_state=+new-est,%s,reg5={vm},'
        'actions=ct(commit,%s),output:{vm},resubmit(,92)' % (ip, ZONE),
        'table=82,priority=40,ct_state=+est,%s,reg5={vm},'
        'actions=ct(commit,%s,exec(load:0x1->NXM_NX_CT_MARK[]))' % (ip, ZONE))]


def replies(table, action):
    return ['table=%d,priority=50,ct_state=+inv+trk,actions=resubmit(,93)' % table,
            'table=%d,priority=50,ct_mark=0x1,reg5={vm},actions=resubmit(,93)' % table,
            'table=%d,priority=50,ct_state=+est-rel+rpl,ct_zone={vlan},ct_mark=0,'
            'reg5={vm},actions=%s' % (table, action),
            'table=%d,priority=50,ct_state=-new-est+rel-inv,ct_zone={vlan},ct_mark=0,'
            'reg5={vm},actions=%s' % (table, action),
            'table=%d,priority=40,ct_state=-est,reg5={vm},actions=resubmit(,93)'
            % table]


BR_INT = [
    'table=0,priority=10,icmp6,in_port={vm},icmp_type=136,actions=resubmit(,24)',
    'table=0,priority=10,arp,in_port={vm},actions=resubmit(,24)',
    'table=0,priority=9,in_port={vm},actions=resubmit(,25)',
    'table=0,priority=0,actions=resubmit(,60)',
    'table=24,priority=2,icmp6,in_port={vm},icmp_type=136,nd_target={ip6},'
    'actions=resubmit(,60)',
    'table=24,priority=2,arp,in_port={vm},arp_spa={ip},actions=resubmit(,25)',
    'table=24,priority=0,actions=drop',
    'table=25,priority=2,in_port={vm},dl_src={mac},actions=resubmit(,60)',
    'table=60,priority=100,in_port={vm},actions=' + TO_PORT + ',resubmit(,71)',
    'table=60,priority=90,dl_vlan={vlan},dl_dst={mac},actions=' + TO_PORT
    + ',strip_vlan,resubmit(,81)',
    'table=60,priority=3,actions=NORMAL',
    'table=71,priority=95,arp,reg5={vm},in_port={vm},dl_src={mac},arp_spa={ip},'
    'actions=resubmit(,94)',
    'table=71,priority=95,icmp6,reg5={vm},in_port={vm},icmp_type=135,'
    'actions=resubmit(,94)',
    'table=71,priority=95,icmp6,reg5={vm},in_port={vm},icmp_type=136,'
    'nd_target={ip6},actions=resubmit(,94)',
    'table=71,priority=10,reg5={vm},actions=resubmit(,93)',
    'table=73,priority=100,reg6={vlan},dl_dst={mac},actions=load:{vm}->NXM_NX_REG5[],'
    'resubmit(,81)',
    'table=73,priority=80,reg5={vm},actions=resubmit(,94)',
    'table=81,priority=100,arp,reg5={vm},actions=output:{vm}',
    'table=81,priority=100,icmp6,reg5={vm},icmp_type=135,actions=output:{vm}',
    'table=81,priority=100,icmp6,reg5={vm},icmp_type=136,actions=output:{vm}',
    'table=81,priority=80,ct_state=+trk,reg5={vm},actions=resubmit(,82)',
    'table=91,priority=1,actions=resubmit(,94)',
    'table=94,priority=1,actions=NORMAL',
    *firewall(IP), *replies(72, 'resubmit(,94)'), *replies(82, 'output:{vm}')]

BR_TUN = [
    'table=0,priority=1,in_port={patch},actions=resubmit(,2)',
    'table=0,priority=0,actions=drop',
    'table=2,priority=0,dl_dst=00:00:00:00:00:00/01:00:00:00:00:00,'
    'actions=resubmit(,20)',
    'table=2,priority=0,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,'
    'actions=resubmit(,22)',
    'table=4,priority=1,tun_id={vni},actions=mod_vlan_vid:{vlan},resubmit(,10)',
    'table=4,priority=0,actions=drop',
    'table=10,priority=1,actions=learn(table=20,hard_timeout={learned_for},priority=1,'
    'NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],'
    'load:0->NXM_OF_VLAN_TCI[],load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],'
    'output:OXM_OF_IN_PORT[]),output:{patch}',
    'table=20,priority=0,actions=resubmit(,22)',
    'table=22,priority=0,actions=drop']


def build_ml2(c, others):
    c.words.update(vlan=VLAN, vni=VNI, learned_for=LEARNED_FOR)
    c.patch('br-tun', 'patch-tun', 'patch-int')
    c.ovs.vsctl('set', 'port', c.host.port, 'tag=%d' % VLAN)
    names = ['vxlan-%d' % other.number for other in others]
    for other, name in zip(others, names):
        c.tunnel('br-tun', name, 'vxlan', other.address, in_key='flow',
                 out_key='flow', df_default='true')
    c.numbers(vm=c.host.port, patch='patch-int')
    numbers = [c.ovs.of_port(name) for name in names]
    c.rules('br0', BR_INT)
    c.rules('br-tun', BR_TUN + [
        'table=0,priority=1,in_port=%d,actions=resubmit(,4)' % n for n in numbers] + [
        'table=22,priority=1,dl_vlan={vlan},actions=strip_vlan,load:{vni}->'
        'NXM_NX_TUN_ID[],' + ','.join('output:%d' % n for n in numbers)])
    # br-int floods what it has not learned, which the agent's rules make likely, and
    # nobody listens at the bridge itself: what docs/reasons.md advises.
    c.ovs.ofctl('mod-port', 'br0', 'br0', 'no-flood')


def test_ml2(context):
    """OpenStack's ML2/OVS: a VXLAN mesh of three, learned addresses, security groups."""
    with several(context, 3) as mesh, Connections() as connections:
        for c in mesh:
            build_ml2(c, [other for other in mesh if other is not c])
        for a in mesh:
            for b in mesh:
                if a.number < b.number:
                    connections.between(a.host, b.host)
        measure(context, 'ML2/OVS', mesh, connections)
        keep_learned(context, mesh, connections)


def learned(c):
    return re.findall(r'table=20.*priority=1,.*dl_dst=([0-9a-f:]+)',
                      c.ovs.ofctl('dump-flows', 'br-tun'))


def keep_learned(context, mesh, connections):
    """What tunnels have brought is forgotten, unless XDP's packets renew it."""
    end = time.monotonic() + 2 * LEARNED_FOR
    while time.monotonic() < end:
        connections.use(12)
    for c in mesh:
        others = sorted(o.host.mac for o in mesh if o is not c)
        expect(sorted(learned(c)) == others, 'chassis %d has learned %s, not %s',
               c.number, learned(c), others)
    wait_for('what is learned to be forgotten', lambda: not any(
        map(learned, mesh)), 3 * LEARNED_FOR, 0.5)
    context.note('learned addresses last while XDP has packets of them')


# -- Antrea --------------------------------------------------------------------
# Encap mode with AntreaProxy and network policies: one Geneve port for all nodes, and
# a Service with one endpoint on the other node.

GATEWAY, ALL_NODES = '02:00:00:00:ee:ee', 'aa:bb:cc:dd:ee:ff'
SERVICE, SERVICE_PORT, ENDPOINT_PORT = '10.96.0.10', 80, 5001
ESTABLISHED = 'ct_state=-new+est,ip'

ANTREA = [
    'table=0,priority=200,arp,actions=NORMAL',
    'table=0,priority=200,ip,actions=goto_table:20',
    'table=20,priority=190,in_port={vm},actions=set_field:0x3/0xf->reg0,'
    'set_field:0x10000000/0x10000000->reg4,goto_table:30',
    'table=20,priority=200,in_port={tun},actions=set_field:0x1/0xf->reg0,'
    'set_field:0x200/0x200->reg0,goto_table:40',
    'table=30,priority=200,ip,in_port={vm},dl_src={mac},nw_src={ip},'
    'actions=goto_table:40',
    'table=40,priority=200,ip,nw_dst=169.254.0.253,'
    'actions=ct(table=50,zone=65521,nat)',
    'table=40,priority=0,actions=goto_table:50',
    'table=50,priority=200,ip,actions=ct(table=60,zone=65520,nat)',
    'table=60,priority=200,ct_state=+inv+trk,ip,actions=drop',
    'table=60,priority=190,ct_state=-new+trk,ct_mark=0/0x10,ip,'
    'actions=goto_table:80',
    'table=60,priority=190,ct_state=-new+trk,ct_mark=0x10/0x10,ip,'
    'actions=set_field:0x200/0x200->reg0,goto_table:80',
    'table=60,priority=0,actions=set_field:0x10000/0x70000->reg4,goto_table:70',
    'table=70,priority=200,tcp,reg4=0x10000/0x70000,nw_dst={service},tp_dst={port},'
    'actions=set_field:0x200/0x200->reg0,set_field:0x20000/0x70000->reg4,group:10',
    'table=70,priority=0,actions=goto_table:75',
    'table=75,priority=200,tcp,reg3={endpoint_hex},reg4={union}/0x7ffff,'
    'actions=ct(commit,table=80,zone=65520,nat(dst={endpoint}:{endpoint_port}),'
    'exec(set_field:0x10/0x10->ct_mark,move:NXM_NX_REG0[0..3]->'
    'NXM_NX_CT_MARK[0..3]))',
    'table=75,priority=0,actions=goto_table:80',
    # A policy: the pods of this network may reach each other, others may not.
    'table=80,priority=65000,' + ESTABLISHED + ',actions=goto_table:90',
    'table=80,priority=200,ip,nw_src=10.77.0.0/24,actions=conjunction(2,1/2)',
    'table=80,priority=200,ip,nw_dst=10.77.0.0/24,actions=conjunction(2,2/2)',
    'table=80,priority=190,conj_id=2,ip,actions=set_field:2->reg6,'
    'ct(commit,table=90,zone=65520,exec(set_field:0x200000000/0xffffffff00000000->'
    'ct_label))',
    'table=80,priority=0,actions=drop',
    'table=90,priority=200,ip,reg0=0x200/0x200,nw_dst={ip},'
    'actions=set_field:{gateway}->eth_src,set_field:{mac}->eth_dst,goto_table:95',
    'table=90,priority=200,ip,nw_dst={peer},'
    'actions=set_field:{gateway}->eth_src,set_field:{all_nodes}->eth_dst,'
    'set_field:{peer_node}->tun_dst,set_field:0x10/0xf0->reg0,goto_table:95',
    'table=90,priority=0,actions=goto_table:100',
    'table=95,priority=210,ip,reg0=0x2/0xf,actions=goto_table:100',
    'table=95,priority=200,ip,actions=dec_ttl,goto_table:100',
    'table=100,priority=200,dl_dst={mac},actions=set_field:{vm}->reg1,'
    'set_field:0x200000/0x600000->reg0,goto_table:105',
    'table=100,priority=200,dl_dst={all_nodes},actions=set_field:{tun}->reg1,'
    'set_field:0x200000/0x600000->reg0,goto_table:110',
    'table=105,priority=65000,' + ESTABLISHED + ',actions=goto_table:110',
    'table=105,priority=200,ip,nw_src=10.77.0.0/24,reg1={vm},'
    'actions=set_field:3->reg3,ct(commit,table=110,zone=65520,'
    'exec(set_field:0x3/0xffffffff->ct_label))',
    'table=110,priority=200,ct_state=+new+trk-snat,ct_mark=0/0x10,ip,'
    'actions=ct(commit,table=115,zone=65520,'
    'exec(move:NXM_NX_REG0[0..3]->NXM_NX_CT_MARK[0..3]))',
    'table=110,priority=0,actions=goto_table:115',
    'table=115,priority=210,ct_mark=0x40/0x40,actions=IN_PORT',
    'table=115,priority=200,reg0=0x200000/0x600000,actions=output:NXM_NX_REG1[]']


def build_antrea(c, other, endpoint):
    c.tunnel('br0', 'antrea-tun0', 'geneve', 'flow', key='flow', csum='true')
    c.numbers(vm=c.host.port, tun='antrea-tun0')
    c.words.update(
        gateway=GATEWAY, all_nodes=ALL_NODES, service=SERVICE, port=SERVICE_PORT,
        peer=other.host.ip4, peer_node=other.address, endpoint=endpoint.host.ip4,
        endpoint_port=ENDPOINT_PORT, union='0x%x' % (0x20000 | ENDPOINT_PORT),
        endpoint_hex='0x' + bytes(
            map(int, endpoint.host.ip4.split('.'))).hex())
    c.ovs.ofctl('-OOpenFlow15', 'add-group', 'br0',
                'group_id=10,type=select,bucket=bucket_id=0,weight:100,actions='
                'set_field:{endpoint_hex}->reg3,set_field:0x{low:x}/0xffff->reg4,'
                'resubmit(,75)'.format(low=ENDPOINT_PORT, **c.words))
    c.rules('br0', ANTREA)
    # A pod knows its gateway alone.
    run('ip', '-n', c.host.netns, 'route', 'add', SERVICE, 'dev', 'eth0')
    for ip in (other.host.ip4, SERVICE):
        c.host.run('ip', 'neigh', 'replace', ip, 'lladdr', GATEWAY, 'dev', 'eth0',
                   'nud', 'permanent')


def test_antrea(context):
    """Antrea's pipeline between two nodes: Geneve, network policies, a Service."""
    with several(context, 2) as nodes, Connections() as connections:
        one, two = nodes
        build_antrea(one, two, two)
        build_antrea(two, one, two)
        connections.between(one.host, two.host, versions=(4,))
        connections.between(two.host, one.host, versions=(4,))
        connections.add('TCP', one.host, [two.host], SERVICE, SERVICE_PORT,
                        server_port=ENDPOINT_PORT)
        measure(context, 'Antrea', nodes, connections)
        check_traces(context, one, two, connections)


def inner_frame(src, dst, macs, ttl, connection):
    """A datagram of a connection, as OVS has it after its first hop."""
    frame = udp_frame(src, dst, sport=connection.sport, dport=connection.port)
    ip = bytearray(frame[14:34])
    ip[8], ip[10:12] = ttl, b'\0\0'
    ip[10:12] = checksum(bytes(ip)).to_bytes(2, 'big')
    return bytes.fromhex(macs.replace(':', '')) + frame[12:14] + bytes(ip) + frame[34:]


def in_geneve(c, other, inner):
    """As the other node sends it."""
    payload = b'\0\0\x65\x58\0\0\0\0' + inner
    src, dst = (types.SimpleNamespace(mac=bridge_mac(n), ip4=local_address(n))
                for n in (other.number, c.number))
    return bytearray(udp_frame(src, dst, sport=40000, dport=6081, payload=payload))


def check_traces(context, one, two, connections):
    """What trace says of a packet of a connection, into the tunnel and out of it."""
    out, = (c for c in connections.all if c.protocol == 'UDP' and c.src is one.host)
    back, = (c for c in connections.all if c.protocol == 'UDP' and c.src is two.host)
    sent = inner_frame(one.host, two.host, GATEWAY + one.host.mac, 64, out)
    came = in_geneve(one, two, inner_frame(two.host, one.host, ALL_NODES + GATEWAY, 63,
                                           back))
    for port, frame, wanted in (
            (one.host.port, sent, ('ct(', 'ip_ttl=63', 'tnl_push', 'output:wire')),
            ('wire', came, ('tnl_pop', 'ct(', 'output:' + one.host.port))):
        text = one.ovs.appctl('xdp-offload/trace', port, frame.hex())
        ours = text.split('what OVS would do')[0]
        expect('note:' not in ours, 'trace at %s: a note in\n%s', port, ours)
        missing = [w for w in (*wanted, 'verdict: XDP_REDIRECT') if w not in ours]
        expect(not missing, 'trace at %s: no %s in\n%s', port, missing, text)
        context.show(ours)


TESTS = [
    ('tunnels-ml2', test_ml2),
    ('tunnels-antrea', test_antrea),
]
