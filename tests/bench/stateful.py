#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""End to end through a stateful pipeline: what conntrack's offload is for.

  ip, untracked        ct(table=1)
  established          output to the other port
  new                  ct(commit), output to the other port

in both directions, with the offload on ('ours') and off ('afxdp': Open
vSwitch's own connection tracker, on AF_XDP).  The switches, hosts and cores
are those of end_to_end.py, and so are their turns: short ones, one after the
other.

stateful_mpps   the rate at the far end, with packets of established
                connections.
setup_per_s     connections that are set up per second.  Two hosts have 64
                conversations of TCP (SYN, SYN and ACK, ACK, and the server's
                first words) or UDP (a datagram and its answer) at a time, and
                open another connection when one is established.  All this is
                on core 1: the PMD thread is busy, and what it sends is
                received, and answered, in the softirqs that it raises.
*_ratio         ours to afxdp, of each pair.
"""
import contextlib
import itertools
import json
import time
import types

from end_to_end import (Path, Results, measure_against_ours, parse_args, say,
                        udp_frame, wait_for)

SWITCHES = ('ours', 'afxdp')
RULES = ('priority=10,ip,ct_state=-trk,actions=ct(table=1)',
         'table=1,ip,in_port={a},ct_state=+trk+est,actions=output:{b}',
         'table=1,ip,in_port={b},ct_state=+trk+est,actions=output:{a}',
         'table=1,ip,in_port={a},ct_state=+trk+new,'
         'actions=ct(commit),output:{b}',
         'table=1,ip,in_port={b},ct_state=+trk+new,'
         'actions=ct(commit),output:{a}')
SIZES = (64, 1500)              # Of frames without FCS.
CONNECTIONS = (1, 1000)
PROTOCOLS = {'tcp': ['--tcp'], 'udp': []}
PAIRS = 3                       # Of set-up rates, in a round.
SETTLE = 0.2                    # In seconds.
TRIES = 3


class StatefulPath(Path):
    """A Path with the rules above."""

    def install_rules(self):
        ovs = self.lab.ovs
        ports = {'a': ovs.of_port(self.src.port),
                 'b': ovs.of_port(self.dst.port)}
        for rule in RULES:
            ovs.ofctl('add-flow', 'br0', rule.format(**ports))

    def establish(self, n):
        """Makes the connections of 'send', in both directions."""
        sender, receiver = self.src.raw_socket(), self.dst.raw_socket()
        for i in range(n):
            client = types.SimpleNamespace(mac=self.src.mac, ip4='10.88.0.1')
            server = types.SimpleNamespace(
                mac=self.dst.mac, ip4='10.89.%d.%d' % divmod(i, 256))
            request = udp_frame(client, server)
            reply = udp_frame(server, client, sport=4001, dport=4000)
            for socket, frame in ((sender, request), (receiver, reply)) * 3:
                socket.send(frame)
                time.sleep(0.0001)
        sender.close()
        receiver.close()

    def connections(self):
        return self.lab.ovs.appctl('dpctl/dump-conntrack').count('udp,')

    def warm_up(self):
        self.make_room()
        with self.running():
            self.establish(max(CONNECTIONS))
            wait_for('%d connections' % max(CONNECTIONS),
                     lambda: self.connections() >= max(CONNECTIONS))

    def forget(self):
        self.lab.ovs.appctl('dpctl/flush-conntrack')
        # Memory is given back after that, and not while others are measured.
        time.sleep(SETTLE)

    def stay_awake(self):
        """The PMD thread is not to sleep between connections (make_room())."""
        with self.running():
            self.lab.ovs.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                               'other_config:pmd-maxsleep=0')
            self.lab.ovs.appctl('version')


# -- Set-up -------------------------------------------------------------------

def converse(path, protocol, seconds):
    """What 'traffic connect' says."""
    with path.running():
        result = json.loads(path.src.run(
            path.traffic, 'connect', '--dev', 'eth0', '--cpu', '1',
            '--seconds', str(seconds), '--src-mac', path.src.mac, '--dst-mac',
            path.dst.mac, *PROTOCOLS[protocol]))
        path.forget()
    return result


def set_up_rate(path, protocol, seconds):
    """Connections per second.  A sample in which conversations have ended, or
    have stood still because something else has had core 1, is none."""
    for _ in range(TRIES):
        result = converse(path, protocol, seconds)
        if result['alive'] >= 0.9 * result['at_once']:
            return result['connections'] / result['seconds']
        say('%s, %s: only %d of %d conversations have gone on, after %d '
            'connections', path.rival, protocol, result['alive'],
            result['at_once'], result['connections'])
    raise RuntimeError('%s: conversations do not go on' % path.rival)


def measure_set_up(paths, rounds, seconds, results):
    for path in paths:
        path.stay_awake()
        with path.running():
            path.forget()
        path.start(path.dst.netns, 'answer', '--dev', 'eth0')
    for i in range(rounds * PAIRS):
        # Who comes first has the colder machine.
        turn = paths if i % 2 else paths[::-1]
        for protocol in PROTOCOLS:
            rates = {p.rival: set_up_rate(p, protocol, seconds) for p in turn}
            name = 'setup_per_s.%s.' % protocol
            for rival in SWITCHES:
                results.add(name + rival, '1/s', rates[rival])
            results.add('setup_ratio.' + protocol, 'ratio',
                        rates['ours'] / rates['afxdp'])
            say('pair %d, %s connections per second: ours %.0f, afxdp %.0f',
                i + 1, protocol, rates['ours'], rates['afxdp'])


def main():
    args = parse_args(__doc__)
    results = Results()
    with contextlib.ExitStack() as stack:
        paths = [StatefulPath(stack, rival, args) for rival in SWITCHES]
        measure_against_ours('stateful', paths, args.rounds,
                             0.3 if args.quick else 1.0,
                             tuple(itertools.product(SIZES, CONNECTIONS)), results)
        measure_set_up(paths, args.rounds, 0.2, results)
    results.write(args.out)


if __name__ == '__main__':
    main()
