# SPDX-License-Identifier: Apache-2.0
"""Labs whose switches reach each other: a wire, or wires to one Linux bridge, and on
them a bridge at each end that has the local address of tunnels.

  br-phys (192.168.77.1) wire = wire (192.168.77.2) br-phys
"""
from lab import run

UNDERLAY = {4: ('192.168.77.%d', 24), 6: ('fd78::%d', 64)}
TUNNEL_MTU = 1400               # What fits into its 1500 in any tunnel.


def local_address(number, version=4):
    return UNDERLAY[version][0] % number


def bridge_mac(number):
    return '02:00:00:00:ee:%02x' % number


def lay_wire(near, far):
    """Both ends get frames that are redirected, as a host's veth does."""
    run('ip', '-n', near.switch, 'link', 'add', 'wire', 'type', 'veth', 'peer',
        'name', 'wire', 'netns', far.switch)
    for lab in (near, far):
        run('ip', 'netns', 'exec', lab.switch, 'ethtool', '-K', 'wire', 'gro',
            'on')
        run('ip', '-n', lab.switch, 'link', 'set', 'wire', 'up')


def join(labs):
    """A wire from each one to a Linux bridge."""
    net = labs[0].name + '-net'
    labs[0].add_netns(net)
    run('ip', '-n', net, 'link', 'add', 'net', 'type', 'bridge', 'mcast_snooping', '0')
    run('ip', '-n', net, 'link', 'set', 'net', 'up')
    for number, lab in enumerate(labs):
        far = 'w%d' % number
        run('ip', '-n', lab.switch, 'link', 'add', 'wire', 'type', 'veth', 'peer',
            'name', far, 'netns', net)
        run('ip', 'netns', 'exec', net, 'ethtool', '-K', far, 'gro', 'on')
        run('ip', '-n', net, 'link', 'set', far, 'master', 'net', 'up')
        run('ip', '-n', lab.switch, 'link', 'set', 'wire', 'up')


def connect(lab, number, *others, wire='wire'):
    """The bridge of end 'number', which knows the MAC addresses of the others'."""
    lab.ovs.vsctl('add-br', 'br-phys', '--', 'set', 'bridge', 'br-phys',
                  'datapath_type=netdev',
                  'other_config:hwaddr=' + bridge_mac(number))
    if wire:
        lab.ovs.add_port(wire, bridge='br-phys')
    give_addresses(lab, number, *others)


def give_addresses(lab, number, *others):
    """What the system configures, and again when ovs-vswitchd comes back, with which
    the neighbours are gone."""
    for version, (_, bits) in UNDERLAY.items():
        run('ip', '-n', lab.switch, 'addr', 'replace',
            '%s/%d' % (local_address(number, version), bits), 'dev', 'br-phys',
            *(['nodad'] if version == 6 else []))
    run('ip', '-n', lab.switch, 'link', 'set', 'br-phys', 'up')
    for version in UNDERLAY:
        for other in others:
            lab.ovs.appctl('tnl/neigh/set', 'br-phys',
                           local_address(other, version), bridge_mac(other))
