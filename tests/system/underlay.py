# SPDX-License-Identifier: Apache-2.0
"""Two labs whose switches reach each other: a wire, and on it a bridge at each end
that has the local address of tunnels.

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


def connect(lab, number, other):
    """The bridge of end 'number', which knows the MAC address of the other's."""
    lab.ovs.vsctl('add-br', 'br-phys', '--', 'set', 'bridge', 'br-phys',
                  'datapath_type=netdev',
                  'other_config:hwaddr=' + bridge_mac(number))
    lab.ovs.add_port('wire', bridge='br-phys')
    for version, (_, bits) in UNDERLAY.items():
        run('ip', '-n', lab.switch, 'addr', 'add',
            '%s/%d' % (local_address(number, version), bits), 'dev', 'br-phys',
            *(['nodad'] if version == 6 else []))
    run('ip', '-n', lab.switch, 'link', 'set', 'br-phys', 'up')
    for version in UNDERLAY:
        lab.ovs.appctl('tnl/neigh/set', 'br-phys',
                       local_address(other, version), bridge_mac(other))
