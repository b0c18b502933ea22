#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""End to end into a tunnel: what leaves a host is put into VXLAN.

  generator -> eth0 -veth- p1 -> br0, tunnel, br-phys -> p2 -veth- eth0 -> counted

with the offload on ('ours') and off ('afxdp': Open vSwitch's own tunnels, on
AF_XDP), and through a Linux bridge and the kernel's vxlan device ('bridge').  The
hosts and cores are those of end_to_end.py, and so are the turns.

tunnel_mpps           the rate at the far end, by the size of what is in the tunnel
                      and the number of megaflows.
tunnel_ratio          ours to afxdp, of each pair.
tunnel_bridge_ratio   ours to bridge, the same.
"""
import contextlib
import itertools

from end_to_end import (FLOWS, RULE, Path, Results, measure_against_ours, parse_args,
                        run)
from skips import has_no_vxlan
from underlay import connect, local_address

SIZES = (64, 1400)              # Of inner frames without FCS.
OVERHEAD = 50                   # Ethernet, IPv4, UDP, VXLAN.
WIRE_MTU = 1600
RIVALS = ('ours', 'afxdp', 'bridge')


class TunnelPath(Path):
    overhead = OVERHEAD
    max_missed = 0.01

    def widen_wire(self):
        for netns, device in ((self.lab.switch, self.dst.port),
                              (self.dst.netns, 'eth0')):
            run('ip', '-n', netns, 'link', 'set', device, 'mtu', str(WIRE_MTU))

    def set_up_bridge(self):
        super().set_up_bridge()
        self.widen_wire()
        ip = ('ip', '-n', self.lab.switch)
        wire, far = self.dst.port, local_address(2)
        run(*ip, 'link', 'set', wire, 'nomaster')
        run(*ip, 'addr', 'add', local_address(1) + '/24', 'dev', wire)
        run(*ip, 'neigh', 'replace', far, 'lladdr', self.dst.mac, 'dev', wire, 'nud',
            'permanent')
        run(*ip, 'link', 'add', 'tunnel', 'type', 'vxlan', 'id', '77', 'local',
            local_address(1), 'remote', far, 'dstport', '4789', 'noudpcsum', 'dev',
            wire)
        run(*ip, 'link', 'set', 'tunnel', 'master', 'br0', 'up')
        run('bridge', '-n', self.lab.switch, 'fdb', 'replace', self.dst.mac, 'dev',
            'tunnel', 'master', 'static')

    def install_rules(self):
        lab, ovs, wire = self.lab, self.lab.ovs, self.dst.port
        self.widen_wire()
        ovs.vsctl('del-port', 'br0', wire)
        connect(lab, 1, 2, wire=wire)
        ovs.vsctl('add-port', 'br0', 'tunnel', '--', 'set', 'interface', 'tunnel',
                  'type=vxlan', 'options:key=77', 'options:csum=false',
                  'options:remote_ip=' + local_address(2),
                  'options:local_ip=' + local_address(1))
        # Nobody answers there, from whom the bridge could learn.
        ovs.ofctl('add-flow', 'br-phys', 'priority=10,in_port=LOCAL,actions=%d'
                  % ovs.of_port(wire))
        ovs.ofctl('add-flow', 'br0', RULE % (ovs.of_port(self.src.port),
                                             ovs.of_port('tunnel')))


def main():
    args = parse_args(__doc__)
    results = Results()
    with contextlib.ExitStack() as stack:
        rivals = [r for r in RIVALS if r != 'bridge' or not has_no_vxlan()]
        paths = [TunnelPath(stack, rival, args) for rival in rivals]
        measure_against_ours('tunnel', paths, args.rounds, 0.3 if args.quick else 1.0,
                             tuple(itertools.product(SIZES, FLOWS)), results)
    results.write(args.out)


if __name__ == '__main__':
    main()
