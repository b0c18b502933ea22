# SPDX-License-Identifier: Apache-2.0
"""The quickstart's second half: run by ovs-plugin/quickstart."""
import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'tests', 'system'))
from lab import Lab, ping, tcp_transfer, udp_echo, vlan_frames  # noqa: E402

ETH_HLEN = 14
START = time.monotonic()


def say(text):
    print('[%4.1fs] %s' % (time.monotonic() - START, text), flush=True)


def parse_args():
    parser = argparse.ArgumentParser(prog='quickstart')
    parser.add_argument('--ovs', default='/usr', help=argparse.SUPPRESS)
    parser.add_argument('--plugin', help=argparse.SUPPRESS)
    parser.add_argument('--installed', action='store_true',
                        help='build nothing: use the Open vSwitch and the '
                        'plugin that are installed')
    parser.add_argument('--keep', action='store_true',
                        help='leave everything running and say how to look '
                        'around')
    parser.add_argument('--json', metavar='FILE',
                        help='write the results to FILE')
    return parser.parse_args()


def start(lab):
    say('starting a private Open vSwitch in namespace %s' % lab.switch)
    lab.ovs.start()
    say('it is Open vSwitch %s' % lab.ovs.version())
    hosts = [lab.add_host(), lab.add_host()]
    for host in hosts:
        say('host %s: %s and %s, on port %s (type=afxdp)'
            % (host.netns, host.ip4, host.ip6, host.port))
    # One OpenFlow flow per port, so that its counters can be compared with
    # those of the host's interface.
    lab.ovs.ofctl('del-flows', 'br0')
    for host in hosts:
        lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,actions=NORMAL'
                      % lab.ovs.of_port(host.port))
    return hosts


def send_traffic(a, b):
    """Runs all kinds of traffic and returns which of them worked."""
    # Some first packets, so that MAC addresses are known on each VLAN and the
    # flows are in place when the rest comes.
    vlan_frames(b, a, count=2)
    vlan_frames(a, b, count=2)
    ping(a, b, 2)
    ping(a, b, 2, version=6)
    time.sleep(0.3)

    kinds = [
        ('ping4', 'ping, IPv4', lambda: ping(a, b, 20) == 20),
        ('ping6', 'ping, IPv6', lambda: ping(a, b, 20, version=6) == 20),
        ('tcp4', 'TCP, IPv4, 32 MiB',
         lambda: tcp_transfer(a, b, 32 << 20)),
        ('tcp6', 'TCP, IPv6, 32 MiB',
         lambda: tcp_transfer(a, b, 32 << 20, version=6)),
        ('udp4', 'UDP, IPv4, 500 round trips',
         lambda: udp_echo(a, b, 500) == 500),
        ('udp6', 'UDP, IPv6, 500 round trips',
         lambda: udp_echo(a, b, 500, version=6) == 500),
        ('vlan', 'UDP on VLAN 100, 200 frames',
         lambda: vlan_frames(a, b, count=200, interval=0.001) == 200),
    ]
    results = {}
    for key, name, action in kinds:
        begin = time.monotonic()
        results[key] = action()
        say('%-30s %s (%.2f s)' % (name, 'ok' if results[key] else 'FAILED',
                                   time.monotonic() - begin))
    return results


class Counters:
    """What everybody has counted so far, for each host."""

    def __init__(self, lab, hosts):
        openflow = lab.ovs.openflow_counters()
        _, ports = lab.ovs.offload_show()
        self.of, self.xdp, self.passed, self.sent = [], [], [], []
        for host in hosts:
            sent = host.counters()
            port = ports[host.port]
            self.of.append(openflow[lab.ovs.of_port(host.port)])
            self.xdp.append(port['packets'])
            self.passed.append(sum(port['passed'].values()))
            # A veth that feeds XDP counts its frames without their header.
            self.sent.append((sent['tx_packets'], sent['tx_bytes']
                              + ETH_HLEN * sent['tx_packets']))


def settled_counters(lab, hosts):
    """Waits until nothing moves, so that all counters speak of the same."""
    last = None
    for _ in range(30):
        now = Counters(lab, hosts)
        if last and vars(now) == vars(last):
            break
        last = now
        time.sleep(0.7)
    return now


def compare(before, after, hosts):
    """True if all have counted the same packets and bytes."""
    exact = True
    print('\n%-6s %12s %12s %12s %12s  %s' % (
        'port', 'host sent', 'OpenFlow', 'in XDP', 'to OVS', 'bytes sent'))
    for i, host in enumerate(hosts):
        sent = [x - y for x, y in zip(after.sent[i], before.sent[i])]
        of = [x - y for x, y in zip(after.of[i], before.of[i])]
        xdp = after.xdp[i] - before.xdp[i]
        passed = after.passed[i] - before.passed[i]
        same = sent == of and sent[0] == xdp + passed
        exact = exact and same
        print('%-6s %12d %12d %12d %12d  %d (OpenFlow: %d)%s' % (
            host.port, sent[0], of[0], xdp, passed, sent[1], of[1],
            '' if same else '  <-- differ'))
    return exact


def print_flows(lab):
    print('\n$ ovs-appctl dpctl/dump-flows -m type=offloaded')
    print(lab.ovs.flows('offloaded', raw=True))
    flows = lab.ovs.flows('offloaded')
    print('%-9s %-24s %9s %12s  %s' % ('in_port', 'flow', 'packets', 'bytes',
                                       'actions'))
    for f in sorted(flows, key=lambda f: -f['packets']):
        fields = dict(p.split('(', 1) for p in f['match'].split('),')
                      if '(' in p)
        what = 'eth_type ' + fields.get('eth_type', '?').rstrip(')')
        if 'vlan' in fields:
            what = 'vlan %s' % fields['vlan'].rstrip(')')
        print('%-9s %-24s %9d %12d  %s' % (
            fields.get('in_port', '?'), what[:24], f['packets'], f['bytes'],
            f['actions']))
    return flows


def keep(lab):
    """Leaves the lab running, with a file to look around and one to end it."""
    lab.keep = True
    ovs = lab.ovs
    with open(lab.tmp + '/env', 'w') as f:
        f.write('export PATH=%s/bin:%s/sbin:$PATH\n' % (ovs.dir, ovs.dir))
        for key, value in ovs.env.items():
            if key.startswith('OVS_'):
                f.write('export %s=%s\n' % (key, value))
    with open(lab.tmp + '/stop', 'w') as f:
        f.write('kill %s\nsleep 1\n' % ' '.join(
            str(p.pid) for p in ovs.processes.values()))
        for name in lab.namespaces:
            f.write('ip netns del %s\n' % name)
        f.write('rm -rf %s\n' % lab.tmp)
    print('''
Left running.  To look around, as root:

  . %(tmp)s/env
  ip netns exec %(a)s ping %(ip)s
  ovs-appctl dpctl/dump-flows -m type=xdp
  ovs-appctl xdp-offload/show
  ovs-appctl xdp-offload/rejects
  less %(log)s

To end and remove it:

  sh %(tmp)s/stop
''' % {'tmp': lab.tmp, 'a': lab.hosts[0].netns, 'ip': lab.hosts[1].ip4,
       'log': ovs.log})


def demonstrate(lab, json_file=None):
    """Starts all in 'lab' and shows that it works.  Returns an exit status."""
    hosts = start(lab)
    before = settled_counters(lab, hosts)
    traffic = send_traffic(*hosts)
    flows = print_flows(lab)
    after = settled_counters(lab, hosts)
    exact = compare(before, after, hosts)
    result = {
        'ovs_version': lab.ovs.version(),
        'offloaded_flows': len(flows),
        'xdp_packets': sum(after.xdp) - sum(before.xdp),
        'upcall_packets': sum(after.passed) - sum(before.passed),
        'traffic': traffic,
        'stats_exact': exact,
    }
    if json_file:
        with open(json_file, 'w') as f:
            json.dump(result, f, indent=2)
            f.write('\n')
    good = all(traffic.values()) and exact and flows
    print('\n%d packets executed in XDP, %d passed to Open vSwitch; '
          'counters %s' % (result['xdp_packets'], result['upcall_packets'],
                           'exact' if exact else 'NOT EXACT'))
    if not good:
        print('\nxdp-offload/show:\n' + lab.ovs.offload_show()[0])
        print('\n'.join(lab.ovs.log_lines('WARN|ERR')[-20:]))
    return 0 if good else 1


def main():
    args = parse_args()
    with Lab(args.ovs, args.plugin) as lab:
        status = demonstrate(lab, args.json)
        if args.keep:
            keep(lab)
        else:
            say('removing everything')
    return status


if __name__ == '__main__':
    sys.exit(main())
