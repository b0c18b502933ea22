# SPDX-License-Identifier: Apache-2.0
"""Flows that are in the datapath before their first packet, added by hand."""
import re
import time

from lab import Stream, udp_frame, wait_for
from suite import expect, per_port_rules, xdp_packets

PORT = 4002                     # UDP, of the flow that is added.
LONG, SHORT = 600000, 500       # other_config:max-idle, in milliseconds.


def datapath_port(lab, host):
    return re.search(r'port (\d+): %s ' % host.port, lab.ovs.appctl('dpctl/show'))[1]


def add_flow(lab, src, dst, out):
    """To be told apart from what OVS makes for the test's rules by its port."""
    lab.ovs.appctl(
        'dpctl/add-flow', 'netdev@ovs-netdev',
        'recirc_id(0),in_port(%s),packet_type(ns=0,id=0),eth(src=%s,dst=%s),eth_type(0x0800),'
        'ipv4(src=%s,dst=%s,proto=17,frag=no),udp(dst=%d)' % (
            src.port, src.mac, dst.mac, src.ip4, dst.ip4, PORT), datapath_port(lab, out))


def added(lab):
    """The added flow: OVS lists one for each of its threads."""
    return [f for f in lab.ovs.flows() if 'dst=%d)' % PORT in f['match']]


def comes(src, dst, receiver):
    """Sends a packet; has that, or an earlier one, come?"""
    frame = udp_frame(src, dst, dport=PORT)
    with src.raw_socket() as s:
        s.send(frame)
    receiver.settimeout(0.2)
    try:
        while receiver.recv(2048) != frame:
            pass
    except TimeoutError:
        return False
    return True


def test_provisioned(context):
    """A flow of dpctl/add-flow has its first packet in XDP, if OpenFlow rules agree"""
    with context.lab(hosts=3, config=['max-idle=%d' % LONG]) as lab:
        a, b, c = lab.hosts
        per_port_rules(lab, 'output:%d' % lab.ovs.of_port(b.port))
        add_flow(lab, a, b, b)
        wait_for('the flow in XDP', lambda: any(f['offloaded'] for f in added(lab)))
        time.sleep(2)           # Revalidators look at it each half of a second.
        before = xdp_packets(lab, a.port)
        with Stream(a, b, pps=100, port=PORT) as stream:
            wait_for('packets', lambda: stream.received > 100)
        wait_for('all in XDP', lambda: xdp_packets(lab, a.port) - before == stream.sent)
        expect({f['actions'] for f in added(lab)} == {b.port}, '%s', added(lab))
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:max-idle=%d' % SHORT)
        wait_for('no flow, as it is idle', lambda: not added(lab))
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:max-idle=%d' % LONG)
        # Rules that say otherwise win when revalidators see the flow.
        add_flow(lab, a, b, c)
        wait_for("the rules' actions", lambda: {f['actions'] for f in added(lab)} <= {b.port})
        with b.raw_socket() as s:
            # In XDP it changes a moment later than in the datapath.
            wait_for('a packet where the rules send it', lambda: comes(a, b, s), interval=0.1)
        context.note('%d packets in XDP, from the first one on', stream.sent)


TESTS = [('provisioned', test_provisioned)]
