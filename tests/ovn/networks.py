# SPDX-License-Identifier: Apache-2.0
"""Logical networks that several cases have.

Network number N is 10.N.0.0/24 and fdN::/64.  Host number H is H in both, a router 254
and fe; hosts know the router's MAC address, unless a case is about that.
"""
PHYSICAL = 'physnet'
PUBLIC = 99             # The provider's network.
JOIN = 90               # Between a distributed and a gateway router.
FLOATING = '10.99.0.101', 'fd99::101'


def ip4(net, last):
    return '10.%d.0.%d' % (net, last)


def ip6(net, last):
    return 'fd%d::%x' % (net, last)


def router_mac(net, last=254):
    return '02:00:00:00:%02x:%02x' % (net, last)


def switch_of(world, members, name='sw0'):
    world.ovn.nb('ls-add', name)
    for host in members:
        world.ovn.plug(name, host)
    world.ovn.settle()


def move_to_net(host, net):
    """The host is in another network from now on, without a way out of it."""
    for family in ('-4', '-6'):
        host.run('ip', family, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global')
    host.ip4, host.ip6 = ip4(net, host.number), ip6(net, host.number)
    host.run('ip', 'addr', 'add', host.ip4 + '/24', 'dev', 'eth0')
    host.run('ip', 'addr', 'add', host.ip6 + '/64', 'dev', 'eth0', 'nodad')


def set_gateway(host, net):
    """The host's way out of the network is a logical router."""
    for address, default in ((ip4(net, 254), '0.0.0.0/0'),
                             (ip6(net, 254), '::/0')):
        host.run('ip', 'neigh', 'replace', address, 'lladdr', router_mac(net),
                 'dev', 'eth0', 'nud', 'permanent')
        host.run('ip', 'route', 'replace', default, 'via', address)


def connect(world, router, switch_name, net, last=254):
    """A router's port in a logical switch; returns its name."""
    port = '%s-%s' % (router, switch_name)
    world.ovn.nb('lrp-add', router, port, router_mac(net, last),
                 ip4(net, last) + '/24', ip6(net, last) + '/64')
    world.ovn.nb('lsp-add', switch_name, port + '-peer', '--', 'lsp-set-type',
                 port + '-peer', 'router', '--', 'lsp-set-addresses',
                 port + '-peer', 'router', '--', 'lsp-set-options',
                 port + '-peer', 'router-port=' + port)
    return port


def routed(world, nets):
    """lr0 between switches sw81, sw82..., of hosts by their net."""
    world.ovn.nb('lr-add', 'lr0')
    for net, members in nets.items():
        name = 'sw%d' % net
        world.ovn.nb('ls-add', name)
        for host in members:
            move_to_net(host, net)
            set_gateway(host, net)
            world.ovn.plug(name, host)
        connect(world, 'lr0', name, net)
    world.ovn.settle()


def provider(world, switch_name, tag=None):
    """A logical switch's way to a physical network, where one host is, and that."""
    ovs = world.lab.ovs
    ovs.vsctl('add-br', 'br-ex', '--', 'set', 'bridge', 'br-ex',
              'datapath_type=' + ovs.datapath, 'other_config:hwaddr='
              '02:00:00:00:ff:01', '--', 'set', 'Open_vSwitch', '.',
              'external_ids:ovn-bridge-mappings=%s:br-ex' % PHYSICAL)
    port = switch_name + '-physical'
    world.ovn.nb('lsp-add', switch_name, port, '--', 'lsp-set-type', port,
                 'localnet', '--', 'lsp-set-addresses', port, 'unknown', '--',
                 'lsp-set-options', port, 'network_name=' + PHYSICAL)
    if tag:
        world.ovn.nb('set', 'Logical_Switch_Port', port, 'tag=%d' % tag)
    return world.add_host('br-ex')


def public(world, router, last=254):
    """A router's port in the provider's network: the host that is there."""
    world.ovn.nb('ls-add', 'public')
    outside = provider(world, 'public')
    move_to_net(outside, PUBLIC)
    connect(world, router, 'public', PUBLIC, last)
    return outside


def gateway_router(world, nets):
    """lr0 as above, with a gateway router gr0 to a host outside, and that."""
    routed(world, nets)
    world.ovn.nb('ls-add', 'join')
    connect(world, 'lr0', 'join', JOIN, 1)
    world.ovn.nb('lr-add', 'gr0', '--', 'set', 'Logical_Router', 'gr0',
                 'options:chassis=chassis-1')
    connect(world, 'gr0', 'join', JOIN, 2)
    outside = public(world, 'gr0')
    world.ovn.nb('lr-route-add', 'lr0', '0.0.0.0/0', ip4(JOIN, 2))
    world.ovn.nb('lr-route-add', 'lr0', '::/0', ip6(JOIN, 2))
    for net in nets:
        world.ovn.nb('lr-route-add', 'gr0', ip4(net, 0) + '/24', ip4(JOIN, 1))
        world.ovn.nb('lr-route-add', 'gr0', ip6(net, 0) + '/64', ip6(JOIN, 1))
    return outside


def translate(world, router, inner_net, floating_host, *distributed):
    """SNAT for a network, and a floating address for a host of another one."""
    for of_net, gateway, floating, inner in (
            (ip4(inner_net, 0) + '/24', ip4(PUBLIC, 254), FLOATING[0],
             floating_host.ip4),
            (ip6(inner_net, 0) + '/64', ip6(PUBLIC, 254), FLOATING[1],
             floating_host.ip6)):
        world.ovn.nb('lr-nat-add', router, 'snat', gateway, of_net)
        world.ovn.nb('lr-nat-add', router, 'dnat_and_snat', floating, inner,
                     *distributed)
    world.ovn.settle()


def balance(world, name, vip4, vip6, backends, port=80, backend_port=5001):
    """A load balancer for TCP and UDP in both versions, to be put somewhere."""
    for protocol in ('tcp', 'udp'):
        for vip, backend in ((vip4 + ':%d', '%s:%d'),
                             ('[' + vip6 + ']:%d', '[%s]:%d')):
            to = ','.join(backend % (h.ip6 if '[' in vip else h.ip4,
                                     backend_port) for h in backends)
            world.ovn.nb('lb-add', '%s-%s' % (name, protocol), vip % port, to,
                         protocol)
