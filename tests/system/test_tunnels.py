# SPDX-License-Identifier: Apache-2.0
"""Tunnels between two switches: Geneve and VXLAN, over IPv4 and IPv6.

  host a - br0 - tunnel - br-phys - wire = wire - br-phys - tunnel - br0 - host b
           the switch with the offload              the other one, without and with

The other switch is a stock one first: whatever leaves XDP is what Open vSwitch takes
out of the tunnel, and the other way round.
"""
import contextlib
import socket
import time

from lab import (Host, ping, run, settled_counters, tcp_transfer, udp_echo,
                 wait_for)
from skips import has_no_vxlan
from suite import Skipped, expect, passed, programs_of, xdp_packets
from test_persistence import TAKEN_OVER, both_ways, check_nothing_lost, end, kept_lab
from underlay import (TUNNEL_MTU, connect, give_addresses, lay_wire,
                      local_address)

ETH_HLEN = 14
PACKETS = 200


class Site:
    """One of the two switches, with its host."""

    def __init__(self, lab, number, offload, mtu=TUNNEL_MTU):
        self.lab, self.number, self.offload = lab, number, offload
        self.host = Host(lab, number, mtu=mtu)
        lab.hosts.append(self.host)
        lab.ovs.add_port(self.host.port)
        if not offload:             # As Context.lab() does.
            self.host.run('ethtool', '-K', 'eth0', 'tx', 'off')

    def tunnel(self, kind, version, other, **options):
        vsctl = self.lab.ovs.vsctl
        vsctl('--if-exists', 'del-port', 'br0', 'tunnel')
        vsctl('add-port', 'br0', 'tunnel', '--', 'set', 'interface', 'tunnel',
              'type=' + kind, 'options:key=77',
              'options:remote_ip=' + local_address(other.number, version),
              'options:local_ip=' + local_address(self.number, version),
              *('options:%s=%s' % o for o in options.items()))


@contextlib.contextmanager
def two_sites(context, other_offload, make_lab=None, offload=True, mtu=TUNNEL_MTU):
    with (make_lab or context.lab)(hosts=0, offload=offload) as near, \
            context.lab(hosts=0, offload=other_offload) as far:
        sites = Site(near, 1, offload, mtu), Site(far, 2, other_offload, mtu)
        lay_wire(near, far)
        for site, other in (sites, reversed(sites)):
            connect(site.lab, site.number, other.number)
            site.host.know(other.host)
        yield sites


def in_xdp(site):
    """Packets that XDP has put into tunnels, and taken out of them."""
    return (xdp_packets(site.lab, site.host.port),
            xdp_packets(site.lab, 'wire'))


def counters_of(site):
    return settled_counters(site.lab, [site.host])[site.host.port]


def use(context, name, a, b, sites):
    """All kinds of traffic, most of which must be executed in XDP both ways."""
    expect(ping(a, b, 5) == 5, '%s: no answers to ping', name)
    expect(ping(a, b, 5, version=6) == 5, '%s: no answers over IPv6', name)
    wait_for(name + ' in XDP', lambda: in_xdp(sites[0])[0] and in_xdp(
        sites[0])[1])
    before = {site: (in_xdp(site), counters_of(site))
              for site in sites if site.offload}
    for version in (4, 6):
        back = udp_echo(a, b, PACKETS, version=version)
        expect(back >= PACKETS - 2, '%s: %d of %d datagrams came back over IPv%d',
               name, back, PACKETS, version)
        expect(tcp_transfer(a, b, 1 << 19, version=version),
               '%s: TCP over IPv%d does not arrive', name, version)
        expect(tcp_transfer(b, a, 1 << 19, version=version),
               '%s: TCP back over IPv%d does not arrive', name, version)
    for site, counted in before.items():
        check_share(context, name, site, *counted)
    for host in (a, b):
        expect(not host.checksum_errors(), '%s: wrong checksums at %s', name,
               host.ip4)


def check_share(context, name, site, before, counted):
    after = counters_of(site)
    sent = after['sent'][0] - counted['sent'][0]
    put, taken = (n - m for n, m in zip(in_xdp(site), before))
    expect(put >= 0.95 * sent, '%s: XDP put %d of %d packets into the tunnel',
           name, put, sent)
    expect(taken >= 0.9 * PACKETS * 2, '%s: XDP took only %d packets out of the '
           'tunnel', name, taken)
    context.note('%s: %d of %d in, %d out', name, put, sent, taken)


KINDS: tuple[tuple[str, int, dict[str, str]], ...] = (
    ('geneve', 4, {'csum': 'true'}), ('geneve', 6, {}),
    ('vxlan', 4, {}), ('vxlan', 6, {}), ('vxlan', 4, {'csum': 'true'}))


def run_kinds(context, other_offload):
    with two_sites(context, other_offload) as sites:
        a, b = (site.host for site in sites)
        for kind, version, options in KINDS:
            for site, other in (sites, reversed(sites)):
                site.tunnel(kind, version, other, **options)
            name = '%s%s over IPv%d' % (
                kind, ' with checksum' if options else '', version)
            use(context, name, a, b, sites)


def test_stock(context):
    """Geneve and VXLAN with a stock Open vSwitch on the other side."""
    run_kinds(context, False)


def test_both(context):
    """The same with the offload on both sides."""
    run_kinds(context, True)


def test_packet_length(context):
    """Packets that are not too long for check_pkt_len are put into a tunnel."""
    with two_sites(context, False) as sites:
        ovs, host = sites[0].lab.ovs, sites[0].host
        for rule in ('priority=10,in_port=%d,actions=check_pkt_larger(%d)->'
                     'NXM_NX_REG0[0],resubmit(,1)' % (
                         ovs.of_port(host.port), TUNNEL_MTU + ETH_HLEN),
                     'table=1,reg0=0,actions=NORMAL'):
            ovs.ofctl('add-flow', 'br0', rule)
        for site, other in (sites, reversed(sites)):
            site.tunnel('geneve', 4, other)
        use(context, 'geneve', host, sites[1].host, sites)
        flows = ovs.appctl('dpctl/dump-flows', 'type=offloaded')
        expect('check_pkt_len' in flows, 'no flow checks lengths: %s', flows)


def has_taken_over(lab, before):
    with contextlib.suppress(RuntimeError):
        text, ports = lab.ovs.offload_show()
        return (len(ports) == 2 and 'taking over' not in text
                and not before & programs_of(lab))


def replace_process(site, other, how):
    """As test_persistence's, with neighbours that the next process has to be told."""
    lab, programs = site.lab, programs_of(site.lab)
    end(lab, how)
    time.sleep(1)
    lab.ovs.start_vswitchd()
    begin = time.monotonic()
    wait_for('br-phys', lambda: run('ip', '-n', lab.switch, 'link', 'show',
                                    'br-phys', check=False))
    give_addresses(lab, site.number, other.number)
    wait_for('the new process to take over',
             lambda: has_taken_over(lab, programs), TAKEN_OVER)
    return time.monotonic() - begin


def test_kept(context):
    """ovs-vswitchd ends and comes back while packets go through its tunnels."""
    def kept(**options):
        return kept_lab(context, **options)

    # The other side forwards in XDP as well: what is lost is not lost on its way to a
    # process that waits for a CPU.
    with two_sites(context, True, kept) as sites:
        near, far = sites
        for site, other in (sites, reversed(sites)):
            site.tunnel('geneve', 4, other, csum='true')
        with both_ways(near.host, far.host) as streams:
            for how in ('SIGKILL', 'SIGTERM', 'exit'):
                for site in sites:
                    wait_for('all packets in XDP', lambda: misses_nothing(site),
                             20)
                context.note('%s: taken over after %.1f s', how,
                             replace_process(near, far, how))
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)


def misses_nothing(site):
    """For as long as hundreds of packets take."""
    def look():
        return (in_xdp(site), [passed(site.lab, port)
                               for port in (site.host.port, 'wire')])

    executed, missed = look()
    time.sleep(0.3)
    executed_now, missed_now = look()
    return missed == missed_now and all(
        now >= before + 100 for before, now in zip(executed, executed_now))


def sizes_that_arrive(site, other):
    """Of datagrams, around the longest that fits into the tunnel."""
    arrived = []
    with other.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as into, \
            site.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        into.bind((other.host.ip4, 7300))
        into.settimeout(0.3)
        for _ in range(3):          # The flow is there by then.
            out.sendto(b'x' * 100, (other.host.ip4, 7300))
            into.recv(2048)
            time.sleep(0.2)
        for size in SIZES:
            out.sendto(b'x' * size, (other.host.ip4, 7300))
            with contextlib.suppress(socket.timeout):
                arrived.append(len(into.recv(2048)))
    return arrived


# The underlay has frames of 1514 bytes: with 50 of Geneve's before them, inner frames of
# 1464, of which Ethernet, IP and UDP have 42.  (A veth takes 4 more, for a tag.)
SIZES = (1300, 1400, 1420, 1421, 1422, 1423, 1424, 1440, 1472, 1300)


def test_sizes(context):
    """What is too long for the underlay gets as far as without the offload."""
    found = []
    for offload in (False, True):
        with two_sites(context, False, offload=offload, mtu=1500) as sites:
            for site, other in (sites, reversed(sites)):
                site.tunnel('geneve', 4, other)
            ping(sites[0].host, sites[1].host, 5)
            found.append([sizes_that_arrive(*pair)
                          for pair in (sites, sites[::-1])])
            if offload:
                put, taken = in_xdp(sites[0])
                expect(put > 4 and taken > 4, 'in XDP: %d, %d', put, taken)
    expect(found[0] == found[1], 'off: %s; on: %s', *found)
    expect(all(SIZES[0] in sizes and SIZES[-2] not in sizes
               for sizes in found[0]), 'arrived: %s', found[0])
    context.note('both ways up to %s bytes', max(found[1][0]))


class KernelPeer(Host):
    """A host whose own kernel has the other end of a tunnel."""

    def __init__(self, lab, number):
        super().__init__(lab, number)
        for change in ([self.port, 'down'], [self.port, 'name', 'wire'],
                       ['wire', 'up']):
            run('ip', '-n', lab.switch, 'link', 'set', *change)
        self.port = 'wire'
        self.run('ip', 'addr', 'flush', 'dev', 'eth0')
        for version, bits in ((4, 24), (6, 64)):
            self.run('ip', 'addr', 'add', '%s/%d' % (local_address(
                number, version), bits), 'dev', 'eth0', 'nodad')
            lab.ovs.appctl('tnl/neigh/set', 'br-phys',
                           local_address(number, version), self.mac)

    def tunnel(self, version, other, *options):
        """Of the same key as Site.tunnel()'s."""
        self.run('ip', 'link', 'del', 'tun0', check=False)
        self.run('ip', 'link', 'add', 'tun0', 'mtu', str(TUNNEL_MTU), 'address',
                 self.mac, 'type', 'vxlan', 'id', '77', 'dstport', '4789',
                 'dev', 'eth0', 'local', local_address(self.number, version),
                 'remote', local_address(other.number, version), *options)
        self.run('ip', 'link', 'set', 'tun0', 'up')
        for address in (self.ip4 + '/24', self.ip6 + '/64'):
            self.run('ip', 'addr', 'add', address, 'dev', 'tun0', 'nodad')
        for ip in (other.host.ip4, other.host.ip6):
            self.run('ip', 'neigh', 'replace', ip, 'lladdr', other.host.mac, 'dev',
                     'tun0', 'nud', 'permanent')


def test_kernel_peer(context):
    """VXLAN with the kernel's own device on the other side."""
    if has_no_vxlan():
        raise Skipped('this kernel makes no vxlan device')
    with context.lab(hosts=0) as lab:
        site = Site(lab, 1, True)
        connect(lab, site.number, wire=None)
        peer = KernelPeer(lab, 2)
        lab.ovs.add_port('wire', bridge='br-phys')
        site.host.know(peer)
        for version, checksums in ((4, 'noudpcsum'), (4, 'udpcsum'), (6, 'udpcsum')):
            peer.tunnel(version, site, *([checksums] if version == 4 else []))
            site.tunnel('vxlan', version, peer,
                        csum='true' if checksums == 'udpcsum' else 'false')
            # The kernel looks for its neighbour first.
            wait_for('an answer', lambda: ping(site.host, peer, 1))
            use(context, 'vxlan, %s, over IPv%d' % (checksums, version), site.host,
                peer, [site])


TESTS = [
    ('tunnels-kernel-peer', test_kernel_peer),
    ('kept-tunnels', test_kept),
    ('tunnels-sizes', test_sizes),
    ('tunnels', test_stock),
    ('tunnels-both', test_both),
    ('tunnels-packet-length', test_packet_length),
]
