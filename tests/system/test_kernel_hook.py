# SPDX-License-Identifier: Apache-2.0
"""Programs at TC's ingress in front of openvswitch.ko, where containers keep their segments.

Run in emulated machines, as those of test_kernel_datapath.py.  TC counts its bytes without
headers, so no flow is offered to it here.
"""
from lab import Stream, ping, settled_counters, tcp_transfer, wait_for
from suite import expect, expect_exact, introduce, per_port_rules
from test_kernel_datapath import SLOW, kernel_lab, wait_layer

BULK = 8 << 20


def set_hook(lab, hook, port=None):
    key = 'xdp-offload-hook' + ('-' + port if port else '')
    lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:%s=%s' % (key, hook))


def wait_hooks(lab, wanted):
    """'wanted': of each host's port, whether its program is at TC's ingress."""
    def found():
        ports = lab.ovs.offload_show()[1]
        return [h.port in ports and "TC's ingress" in ports[h.port]['attached']
                for h in lab.hosts] == wanted
    wait_for('programs at TC: %s' % wanted, found, SLOW)


def bulk(context, lab, src, dst):
    """Bulk TCP one way: all is in flows of ours and counted once.  Returns the mean size of
    what 'src' has sent."""
    expect(ping(src, dst, 3) == 3, 'ping')
    wait_layer(lab, src, dst, 'xdp')
    wait_layer(lab, dst, src, 'xdp')
    before = settled_counters(lab, lab.hosts)
    expect(tcp_transfer(src, dst, BULK, timeout=SLOW), 'TCP')
    after = expect_exact(lab, before)
    old, new = before[src.port], after[src.port]
    packets, size = (x - y for x, y in zip(new['sent'], old['sent']))
    ours = new['xdp'][0] - old['xdp'][0]
    context.note('%d of %d packets of %d bytes executed by us', ours, packets,
                 size / packets)
    expect(ours > 0.95 * packets, 'only %d of %d packets', ours, packets)
    return size / packets


def hook_lab(context):
    return kernel_lab(context, config=['xdp-offload-hook=tc', 'hw-offload-plugin-tc=never'])


def test_bulk(context):
    """At TC's ingress containers keep their segments, and each is counted once."""
    with hook_lab(context) as lab:
        a, b = lab.hosts
        introduce(lab.hosts)
        per_port_rules(lab)
        wait_hooks(lab, [True, True])
        expect(bulk(context, lab, a, b) > 3000, 'no segments')


def test_cross(context):
    """Packets enter at one hook and leave through a port of the other, both ways."""
    with hook_lab(context) as lab:
        a, b = lab.hosts
        introduce(lab.hosts)
        per_port_rules(lab)
        set_hook(lab, 'xdp', a.port)
        wait_hooks(lab, [False, True])
        expect(bulk(context, lab, a, b) < 1600, 'segments through XDP')
        expect(bulk(context, lab, b, a) > 3000, 'no segments')


def test_changed(context):
    """Programs change their hook under traffic, and no packet is lost."""
    with hook_lab(context) as lab:
        a, b = lab.hosts
        introduce(lab.hosts)
        with Stream(a, b, pps=50) as stream:
            for hook in ('xdp', 'tc', 'xdp'):
                set_hook(lab, hook)
                wait_hooks(lab, [hook == 'tc'] * 2)
                wait_layer(lab, a, b, 'xdp')
        context.note('%d of %d lost, longest gap %.2f s', stream.lost, stream.sent,
                     stream.longest_gap)
        expect(not stream.lost, 'packets were lost')


def test_outputs(context):
    """A mirror: TCP goes on in segments, and the third container gets all of it."""
    with kernel_lab(context, hosts=3, config=['xdp-offload-hook=tc',
                                              'hw-offload-plugin-tc=never']) as lab:
        a, b, c = lab.hosts
        introduce(lab.hosts)
        per_port_rules(lab)
        wait_hooks(lab, [True] * 3)
        lab.ovs.ofctl('mod-flows', 'br0', 'in_port=%d,actions=output:%d,output:%d' % (
            lab.ovs.of_port(a.port), lab.ovs.of_port(b.port), lab.ovs.of_port(c.port)))
        before = c.counters()['rx_bytes']
        expect(bulk(context, lab, a, b) > 3000, 'no segments')
        mirrored = c.counters()['rx_bytes'] - before
        expect(mirrored >= BULK, 'the third one got %d bytes', mirrored)


TESTS = [
    ('kernel-hook-bulk', test_bulk),
    ('kernel-hook-cross', test_cross),
    ('kernel-hook-changed', test_changed),
    ('kernel-hook-outputs', test_outputs),
]
