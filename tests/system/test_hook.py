# SPDX-License-Identifier: Apache-2.0
"""Programs at TC's ingress instead of XDP, which only the kernel datapath may have."""
from lab import ping, wait_for
from suite import expect


def test_userspace(context):
    """In the userspace datapath the wish for TC's ingress is refused, with a reason."""
    with context.lab(config=['xdp-offload-hook=tc']) as lab:
        wait_for('a line that says why', lambda: len(lab.ovs.log_lines(
            r'WARN.*p\d: stays in XDP, though.*handled twice')) == 2)
        text, ports = lab.ovs.offload_show()
        expect(all('XDP' in p['attached'] for p in ports.values()), 'show:\n%s', text)
        expect(ping(*lab.hosts, 5) == 5, 'ping')
        lab.ovs.vsctl('set', 'Open_vSwitch', '.', 'other_config:xdp-offload-hook=tcx')
        wait_for('a line about the word', lambda: lab.ovs.log_lines(
            'xdp-offload-hook=tcx: none of auto, xdp and tc'))


TESTS = [
    ('hook-userspace', test_userspace),
]
