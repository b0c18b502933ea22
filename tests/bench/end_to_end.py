#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""End to end: frames from a host through a switch to another host.

  generator -> eth0 -veth- p1 -> switch -> p2 -veth- eth0 -> XDP_DROP, counted

The switch is one of
  direct   none: the frames are counted at p1 (what generating them costs)
  bare     an XDP program on p1 that does nothing but redirect
  ours     ovs-vswitchd with the plugin, ports of type afxdp
  afxdp    the same ovs-vswitchd with hw-offload=false
  bridge   a Linux bridge, no XDP on its ports
All stand at the same time; short sends to each alternate, so that whatever
else this machine does hits all alike.  An ovs-vswitchd whose turn it is not is
stopped: its PMD thread would take part of core 1.

Who runs where: the generator on core 0, and with it, in the softirqs that it
raises, the whole path of direct, bare, ours and bridge.  So these rates are
what one core does, generator included, nothing is lost, and the cost of the
path alone is the difference to direct (forward_ns).  The PMD thread has core 1
for itself, so afxdp is given two cores; the idle one of ours may sleep.

With --path-core 1 everything but the generator is on core 1: p1 is polled by a
thread of the kernel's there, and the PMD thread shares that core.  The
generator offers more than any path takes; the rest is lost in p1's queue.
"""
import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'system'))
from lab import Lab, run, udp_frame, wait_for  # noqa: E402

RIVALS = ('direct', 'bare', 'ours', 'afxdp', 'bridge')
ON_ONE_CORE = ('bare', 'ours', 'bridge')
SIZES = (64, 512, 1500)         # Of frames without FCS.
FLOWS = (1, 1000)
OVS_CONFIG = ('pmd-cpu-mask=0x2', 'max-idle=3600000')
# Every destination becomes a megaflow, because OVS has to look at all of it.
RULE = ('in_port=%d,ip,actions=move:NXM_OF_IP_DST[]->NXM_NX_REG0[],output:%d')
FIRST_PACKETS = 100             # Per round.
BLOCK = 20                      # Of these, before it is the other's turn.


def say(text, *args):
    print('end-to-end: ' + (text % args if args else text), file=sys.stderr,
          flush=True)


class Program:
    """'traffic count' or 'traffic forward' in a network namespace."""

    def __init__(self, traffic, netns, *args):
        self.process = subprocess.Popen(
            ['ip', 'netns', 'exec', netns, traffic, *args], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError('%s has ended' % ' '.join(self.process.args))
        return json.loads(line)

    def report(self):
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def napi_threads(device):
    """Ids of the kernel's threads that poll devices of this name."""
    threads = set()
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            with open('/proc/%s/comm' % pid) as f:
                if f.read().startswith('napi/%s-' % device):
                    threads.add(int(pid))
    return threads


def send_frames(traffic, src, dst, seconds, size, flows):
    """'traffic send' on core 0, from one Host to another: what it says."""
    return json.loads(src.run(
        traffic, 'send', '--dev', 'eth0', '--cpu', '0',
        '--seconds', str(seconds), '--size', str(size),
        '--flows', str(flows), '--src-mac', src.mac, '--dst-mac', dst.mac))


def keep_off_core_0(ovs):
    """Has all threads that ovs-vswitchd has now run on core 1."""
    pid = ovs.processes['ovs-vswitchd'].pid
    for thread in os.listdir('/proc/%d/task' % pid):
        # Threads come and go.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), {1})


class Path:
    """A switch with a host on each side; see the module's text."""

    overhead = 0                # By how much frames are longer at the far end.
    max_missed = 1.0            # Of all packets, which ours may pass to OVS.

    def __init__(self, stack, rival, args):
        self.stack, self.rival, self.traffic = stack, rival, args.traffic
        self.lab = stack.enter_context(Lab(args.ovs, args.plugin))
        self.has_ovs = rival in ('ours', 'afxdp')
        if self.has_ovs:
            self.lab.ovs.start(rival == 'ours', OVS_CONFIG)
        self.src, self.dst = (self.lab.add_host(port=self.has_ovs)
                              for _ in range(2))
        getattr(self, 'set_up_' + ('ovs' if self.has_ovs else rival))()
        self.counter = None
        self.path_core = args.path_core
        # Where the frames are counted: the PMD thread is always on core 1.
        self.far_end_core = 1 if rival == 'afxdp' else args.path_core

    def set_up_direct(self):
        pass

    def set_up_bare(self):
        self.start(self.lab.switch, 'forward', '--dev', self.src.port,
                   '--to', self.dst.port)

    def install_rules(self):
        ovs = self.lab.ovs
        ovs.ofctl('add-flow', 'br0', RULE % (ovs.of_port(self.src.port),
                                             ovs.of_port(self.dst.port)))

    def set_up_ovs(self):
        self.lab.ovs.ofctl('del-flows', 'br0')
        self.install_rules()
        process = self.lab.ovs.processes['ovs-vswitchd']
        self.stack.callback(process.send_signal, signal.SIGCONT)
        process.send_signal(signal.SIGSTOP)

    def set_up_bridge(self):
        ip = ('ip', '-n', self.lab.switch, 'link')
        run(*ip, 'add', 'br0', 'type', 'bridge', 'stp_state', '0',
            'mcast_snooping', '0')
        run(*ip, 'set', 'br0', 'up')
        for host in (self.src, self.dst):
            run(*ip, 'set', host.port, 'master', 'br0')
        run('bridge', '-n', self.lab.switch, 'fdb', 'replace', self.dst.mac,
            'dev', self.dst.port, 'master', 'static')
        # A veth without XDP takes redirected frames only with GRO.
        run('ip', 'netns', 'exec', self.lab.switch, 'ethtool', '-K',
            self.src.port, 'gro', 'on')

    def start(self, netns, *args):
        program = Program(self.traffic, netns, *args)
        self.stack.callback(program.close)
        return program

    def move_to_core_1(self):
        """Has what p1 receives processed by a thread of the kernel's, on core
        1, and with it what that thread's softirqs do: all up to the far end.
        """
        before = napi_threads(self.src.port)
        # The name space's /sys, which 'ip netns exec' mounts.
        run('ip', 'netns', 'exec', self.lab.switch, 'sh', '-c',
            'echo 1 > /sys/class/net/%s/threaded' % self.src.port)
        for thread in napi_threads(self.src.port) - before:
            os.sched_setaffinity(thread, {1})

    def start_counting(self):
        if self.rival == 'direct':
            where = (self.lab.switch, 'count', '--dev', self.src.port)
        else:
            where = (self.dst.netns, 'count', '--dev', 'eth0')
        self.counter = self.start(*where)

    @contextlib.contextmanager
    def running(self):
        """Its ovs-vswitchd, if it has one, runs in this context."""
        if not self.has_ovs:
            yield
            return
        process = self.lab.ovs.processes['ovs-vswitchd']
        process.send_signal(signal.SIGCONT)
        try:
            self.lab.ovs.appctl('version')
            yield
        finally:
            process.send_signal(signal.SIGSTOP)

    def send(self, seconds, size, flows):
        return send_frames(self.traffic, self.src, self.dst, seconds, size,
                           flows)

    def make_room(self):
        """Keeps ovs-vswitchd off core 0, and an idle PMD thread asleep.

        Else that thread drives whatever runs on this machine from core 1 to
        core 0, but not when it is the turn of bare.  The one of afxdp is not
        idle, and its rate would suffer by some 10 %.
        """
        if self.rival == 'ours':
            self.lab.ovs.vsctl('--no-wait', 'set', 'Open_vSwitch', '.',
                               'other_config:pmd-maxsleep=500')
        keep_off_core_0(self.lab.ovs)

    def missed(self):
        """Packets from the source that XDP has passed to OVS."""
        ports = self.lab.ovs.offload_show()[1]
        return sum(ports[self.src.port]['passed'].values())

    def warm_up(self):
        """Makes OVS install a megaflow for each flow, and checks that."""
        kind = 'offloaded' if self.rival == 'ours' else None

        def installed():
            return len(self.lab.ovs.flows(kind)) >= max(FLOWS)

        if self.has_ovs:
            self.make_room()
        with self.running():
            self.send(0.3, SIZES[0], max(FLOWS))
            if self.has_ovs:
                wait_for('%d %s megaflows' % (max(FLOWS), kind or ''),
                         installed, interval=0.2)

    def make_ready(self):
        """What comes before the first rate."""
        self.start_counting()
        if self.path_core == 1:
            self.move_to_core_1()
        self.warm_up()


class Results:
    """Samples by metric, written as lines of JSON."""

    def __init__(self):
        self.metrics = {}

    def add(self, metric, unit, sample):
        self.metrics.setdefault(metric, (unit, []))[1].append(sample)

    def write(self, path):
        with open(path, 'w') as f:
            for metric, (unit, samples) in self.metrics.items():
                f.write(json.dumps({'metric': metric, 'unit': unit,
                                    'samples': samples}) + '\n')


# -- Rates --------------------------------------------------------------------

def check_arrivals(path, size, packets, by_cpu, n_bytes):
    """What was counted is what was sent, and was counted on its core."""
    size += path.overhead
    if packets == 0:
        raise RuntimeError('%s: nothing has arrived' % path.rival)
    if abs(n_bytes / packets - size) > 0.01 * size:
        raise RuntimeError('%s: frames of %.1f bytes have arrived, not of %d'
                           % (path.rival, n_bytes / packets, size))
    cpu = path.far_end_core
    if by_cpu[cpu] < 0.95 * packets:
        say('%s: only %d of %d frames were counted on core %d', path.rival,
            by_cpu[cpu], packets, cpu)


def send_once(path, seconds, size, flows):
    """Returns the rates at the far end and at the source, in Mpps, and how
    many packets XDP has passed to OVS."""
    missed = path.missed() if path.rival == 'ours' else 0
    before = path.counter.report()
    sent = path.send(seconds, size, flows)
    time.sleep(0.05)
    after = path.counter.report()
    packets = after['packets'] - before['packets']
    by_cpu = [b - a for a, b in zip(before['packets_by_cpu'],
                                    after['packets_by_cpu'])]
    check_arrivals(path, size, packets, by_cpu,
                   after['bytes'] - before['bytes'])
    if path.rival == 'ours':
        missed = path.missed() - missed
    return (packets / sent['seconds'] / 1e6,
            sent['packets'] / sent['seconds'] / 1e6, missed)


def measure_rate(path, seconds, size, flows, results):
    """Sends once and returns the rate at the far end, in Mpps."""
    with path.running():
        rate, sent_rate, missed = send_once(path, seconds, size, flows)
    if path.rival == 'ours':
        results.add('forward_missed.%d.%d' % (size, flows), 'packets', missed)
    name = '%d.%d.%s' % (size, flows, path.rival)
    results.add('forward_mpps_by.' + name, 'Mpps', rate)
    results.add('forward_sent_mpps_by.' + name, 'Mpps', sent_rate)
    return rate


def measure_rates(paths, rounds, seconds, results):
    for path in paths:
        path.make_ready()
    for n in range(rounds):
        for size in SIZES:
            for flows in FLOWS:
                rates = {p.rival: measure_rate(p, seconds, size, flows,
                                               results) for p in paths}
                say('round %d, %d bytes, %d flows, Mpps: %s', n + 1, size,
                    flows, ', '.join('%s %.3f' % r for r in rates.items()))
                if (size, flows) == (SIZES[0], FLOWS[0]):
                    add_headline(rates, paths[0].path_core == 0, results)


def add_headline(rates, one_core, results):
    for rival, rate in rates.items():
        results.add('forward_mpps.' + rival, 'Mpps', rate)
    for rival in ON_ONE_CORE if one_core else ():
        results.add('forward_ns.' + rival, 'ns',
                    1e3 / rates[rival] - 1e3 / rates['direct'])


def measure_against_ours(name, paths, rounds, seconds, shapes, results):
    """Rates of 'paths', the first of which is ours, for each (size, number of flows or
    connections), and the ratio of ours to each other's, which is NAME_ratio to AF_XDP."""
    for path in paths:
        path.make_ready()
    for i in range(rounds):
        for shape in shapes:
            rates = {p.rival: measure_warm(name, p, seconds, shape, results)
                     for p in paths}
            for rival in list(rates)[1:]:
                what = name if rival == 'afxdp' else name + '_' + rival
                results.add('%s_ratio.%d.%d' % (what, *shape), 'ratio',
                            rates['ours'] / rates[rival])
            say('round %d, %s, %d bytes, %d flows or connections, Mpps: %s', i + 1,
                name, *shape, ', '.join('%s %.3f' % r for r in rates.items()))
    for path in paths:
        path.counter.close()


def measure_warm(name, path, seconds, shape, results):
    """Sends once, after a little, and returns the rate at the far end, in Mpps."""
    with path.running():
        # Time goes on for connections while their switch is stopped.
        path.send(0.1, *shape)
        rate, _, missed = send_once(path, seconds, *shape)
    if path.rival == 'ours':
        results.add('%s_missed.%d.%d' % (name, *shape), 'packets', missed)
        if missed > path.max_missed * 1e6 * rate * seconds:
            raise RuntimeError('XDP has passed %d packets to OVS' % missed)
    results.add('%s_mpps.%d.%d.%s' % (name, *shape, path.rival), 'Mpps', rate)
    return rate


# -- Latencies ----------------------------------------------------------------

class Probe:
    """Times single packets through a Path, each to an address of its own."""

    def __init__(self, path):
        self.path = path
        self.sender = path.src.raw_socket()
        self.receiver = path.dst.raw_socket()
        self.receiver.settimeout(1)
        path.stack.callback(self.sender.close)
        path.stack.callback(self.receiver.close)

    def latency_us(self, number):
        ip = '10.90.%d.%d' % divmod(number, 256)
        to = types.SimpleNamespace(mac=self.path.dst.mac, ip4=ip)
        frame = udp_frame(self.path.src, to)
        begin = time.perf_counter_ns()
        self.sender.send(frame)
        while self.receiver.recv(2048) != frame:
            pass
        return (time.perf_counter_ns() - begin) / 1e3

    def block(self, numbers, first, established):
        """Sends a first packet of each and, when offloaded, another."""
        with self.path.running():
            time.sleep(0.02)
            for number in numbers:
                first.append(self.latency_us(number))
                time.sleep(0.001)
            time.sleep(0.2)
            for number in numbers:
                established.append(self.latency_us(number))


def measure_latencies(on, off, rounds, results):
    probes = {'on': Probe(on), 'off': Probe(off)}
    number = 0
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    for n in range(rounds):
        first = {state: [] for state in probes}
        established = {state: [] for state in probes}
        for _ in range(FIRST_PACKETS // BLOCK):
            numbers = range(number, number + BLOCK)
            number += BLOCK
            for state, probe in probes.items():
                probe.block(numbers, first[state], established[state])
        for state in probes:
            results.add('first_packet_us.' + state, 'us',
                        statistics.median(first[state]))
            results.add('established.%s_us' % state, 'us',
                        statistics.median(established[state]))
        say('round %d, first packet, us: on %.0f, off %.0f; established: on '
            '%.0f, off %.0f', n + 1, *(statistics.median(x[s]) for x in
                                       (first, established) for s in probes))
    os.sched_setaffinity(0, affinity)


# -- All ----------------------------------------------------------------------

def parse_args(description):
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('ovs', 'plugin'):
        parser.add_argument('--' + name, metavar='DIR', required=True,
                            type=os.path.abspath)
    parser.add_argument('--traffic', metavar='PROGRAM', required=True,
                        type=os.path.abspath)
    parser.add_argument('--out', metavar='FILE', required=True)
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--rounds', type=int)
    parser.add_argument('--path-core', type=int, choices=(0, 1), default=0)
    args = parser.parse_args()
    args.rounds = args.rounds or (5 if args.quick else 7)
    if os.geteuid():
        sys.exit('%s: needs root' % parser.prog)
    if os.cpu_count() < 2:
        sys.exit('%s: needs two CPUs' % parser.prog)
    return args


def main():
    args = parse_args(__doc__)
    results = Results()
    with contextlib.ExitStack() as stack:
        paths = [Path(stack, rival, args) for rival in RIVALS]
        by_name = {p.rival: p for p in paths}
        measure_latencies(by_name['ours'], by_name['afxdp'], args.rounds,
                          results)
        measure_rates(paths, args.rounds, 0.3 if args.quick else 1.0, results)
    results.write(args.out)


if __name__ == '__main__':
    main()
