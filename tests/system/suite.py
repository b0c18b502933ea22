# SPDX-License-Identifier: Apache-2.0
"""What every system test needs: labs, checks and notes."""
import collections
import contextlib
import json
import os
import re

from lab import Lab, run, settled_counters, wait_for


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def expect(condition, message, *args):
    if not condition:
        raise Failed(message % args if args else message)


def tail(path, lines=25, pattern=''):
    try:
        with open(path, errors='replace') as f:
            # What dpctl says of the kernel datapath each time is of no use.
            text = [line for line in f if 'failed to enumerate' not in line
                    and re.search(pattern, line)]
            return ''.join('  | ' + line for line in text[-lines:])
    except OSError as e:
        return '  | %s\n' % e


class Context:
    """Hands out labs, and remembers what must be gone in the end."""

    def __init__(self, ovs, plugin, next_ovs=None, hook='xdp'):
        self.ovs_dir, self.plugin_dir = ovs, plugin
        self.next_ovs_dir = next_ovs    # Another release, which replaces 'ovs'.
        self.hook = hook                # Of the kernel datapath's programs.
        self.notes = []
        self.shown = ''
        self.diagnosis = ''
        self.labs = []
        self.pids = set()       # With their births.
        self.programs = set()

    def note(self, text, *args):
        """Adds a measurement to the line that reports the test."""
        self.notes.append(text % args if args else text)

    def show(self, text):
        """Adds lines, of what a command prints, below that line."""
        self.shown += ''.join('  | %s\n' % x for x in text.splitlines())

    @contextlib.contextmanager
    def lab(self, hosts=2, offload=True, config=(), plugin=None, wrapper=(),
            acquainted=True, datapath='netdev', **host_options):
        """A started Lab with hosts, which know each other's MAC addresses.

        OVS knows them as well, if there are ports: each host has sent a frame.
        """
        with Lab(self.ovs_dir, plugin or self.plugin_dir) as lab:
            self.labs.append((lab.name, lab.tmp))
            lab.ovs.wrapper = list(wrapper)
            try:
                lab.ovs.start(offload, config, datapath)
                for _ in range(hosts):
                    host = lab.add_host(**host_options)
                    if not offload and datapath == 'netdev':
                        # Without us, AF_XDP gets half-made checksums.
                        host.run('ethtool', '-K', 'eth0', 'tx', 'off')
                if acquainted:
                    introduce(lab.hosts)
                yield lab
            except BaseException:
                self.diagnose(lab)
                raise
            finally:
                self.remember(lab)

    def diagnose(self, lab):
        text = 'warnings and errors of ovs-vswitchd.log:\n' + tail(
            lab.ovs.log, 15, r'\|(WARN|ERR|EMER)\|')
        text += 'tail of ovs-vswitchd.log:\n' + tail(lab.ovs.log)
        text += 'tail of its stderr:\n' + tail(
            lab.tmp + '/ovs-vswitchd.out', 8)
        for command in ('xdp-offload/show', 'xdp-offload/rejects'):
            with contextlib.suppress(RuntimeError):
                text += '%s:\n%s' % (command, lab.ovs.appctl(command))
        self.diagnosis += text

    def remember(self, lab):
        self.pids |= {(p.pid, birth(p.pid)) for p in lab.ovs.processes.values()
                      if birth(p.pid)}
        with contextlib.suppress(RuntimeError):
            self.programs |= programs_of(lab)

    def leftovers(self):
        """What is still there of all labs.  Empty if nothing is."""
        left = []
        names = run('ip', 'netns', 'list').split()
        for name, tmp in self.labs:
            left += ['namespace ' + n for n in names
                     if n.startswith(name + '-')]
            if os.path.exists(tmp):
                left.append('directory ' + tmp)
        left += ['process %d' % p for p in processes_in(
            {tmp for _, tmp in self.labs})]
        left += ['process %d' % p for p, born in self.pids if birth(p) == born]
        left += ['BPF program %d' % p for p in self.programs & all_programs()]
        return left


def birth(pid):
    """When the process began, as the kernel counts it; None if there is none.  Its number
    may be another one's later."""
    try:
        with open('/proc/%d/stat' % pid) as f:
            return int(f.read().rpartition(')')[2].split()[19])
    except OSError:
        return None


def processes_in(run_directories):
    """Processes whose OVS_RUNDIR is one of these."""
    wanted = {b'OVS_RUNDIR=' + d.encode() for d in run_directories}
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            with open('/proc/%s/environ' % pid, 'rb') as f:
                if wanted & set(f.read().split(b'\0')):
                    found.append(int(pid))
    return found


def all_programs():
    return {p['id'] for p in json.loads(run('bpftool', '-j', 'prog', 'list'))}


def programs_of(lab):
    """Ids of the XDP programs on the lab's devices."""
    ids = set()
    for link in json.loads(run('ip', '-n', lab.switch, '-d', '-j', 'link')):
        for xdp in [link.get('xdp', {}), *link.get('xdp', {}).get(
                'attached', [])]:
            if 'prog' in xdp:
                ids.add(xdp['prog']['id'])
    return ids


def introduce(hosts):
    """Permanent neighbour entries, and a frame for OVS to learn from."""
    for host in hosts:
        host.know(*(h for h in hosts if h is not host))
        s = host.raw_socket()
        s.send(bytes.fromhex('ffffffffffff' + host.mac.replace(':', ''))
               + b'\x88\xb5' + b'hello'.ljust(46, b'\0'))
        s.close()


def per_port_rules(lab, actions='NORMAL'):
    """One OpenFlow rule per port, so that each counts what one host sends."""
    lab.ovs.ofctl('del-flows', 'br0')
    for host in lab.hosts:
        lab.ovs.ofctl('add-flow', 'br0', 'in_port=%d,actions=%s'
                      % (lab.ovs.of_port(host.port), actions))


def xdp_packets(lab, port):
    """Packets that entered through 'port' and were executed in XDP."""
    return lab.ovs.offload_show()[1][port]['packets']


def handled(lab):
    """How many packets were executed in XDP, and passed to OVS, by reason."""
    counts = collections.Counter()
    for port in lab.ovs.offload_show()[1].values():
        counts += collections.Counter(port['passed'])
        counts['XDP'] += port['packets']
    return counts


def share(counts):
    """Percent of those that handled() has counted that were executed in XDP."""
    return 100 * counts['XDP'] / max(1, counts.total())


def flows_in_tables(lab):
    """Flows that XDP may execute, and others that the plugin remembers."""
    m = re.search(r'flows: (\d+) of \d+, (\d+) more',
                  lab.ovs.offload_show()[0])
    return int(m[1]), int(m[2])


def since_start(lab):
    """Flows that were put in XDP, and packets that it has executed."""
    m = re.search(r'since start: flows put in XDP:(\d+), packets:(\d+)',
                  lab.ovs.offload_show()[0])
    return int(m[1]), int(m[2])


def passed(lab, port, reason=None):
    counts = lab.ovs.offload_show()[1][port]['passed']
    return sum(counts.values()) if reason is None else counts.get(reason, 0)


def ran_in_xdp(lab, host, action, share=0.9):
    """Runs 'action' and checks that XDP executed what 'host' sent in it."""
    def look():
        dumped = {f['ufid']: f['packets'] for f in lab.ovs.flows('xdp')
                  if 'in_port(%s)' % host.port in f['match']}
        # Multicast reports, which hosts send when they like, have options.
        sent = (host.counters()['tx_packets']
                - passed(lab, host.port, 'ip-options'))
        return sent, xdp_packets(lab, host.port), dumped

    sent_before, xdp_before, flows_before = look()
    result = action()
    sent, xdp, flows = look()
    sent, xdp = sent - sent_before, xdp - xdp_before
    # Flows that were idle may have gone.
    dumped = sum(n - flows_before.get(ufid, 0) for ufid, n in flows.items())
    expect(sent > 0, 'nothing was sent')
    expect(xdp >= share * sent, 'XDP executed only %d of %d packets from %s',
           xdp, sent, host.port)
    expect(dumped >= share * sent, 'dump-flows type=xdp has only %d of the %d '
           'packets from %s', dumped, sent, host.port)
    return result


def expect_exact(lab, before, hosts=None, what='', missing=0):
    """Checks that all have counted the same since 'before'.

    OpenFlow may have up to 'missing' packets less.
    """
    hosts = hosts or lab.hosts
    after = settled_counters(lab, hosts)
    for host in hosts:
        old, new = before[host.port], after[host.port]
        sent, openflow, xdp = (
            tuple(x - y for x, y in zip(new[k], old[k]))
            for k in ('sent', 'openflow', 'xdp'))
        to_ovs = new['passed'] - old['passed']
        n_missing = sent[0] - openflow[0]
        expect(sent == openflow or 0 < n_missing <= missing,
               '%s%s: sent %s packets, bytes, but OpenFlow has %s (XDP %s, '
               'passed %d)', what, host.port, sent, openflow, xdp, to_ovs)
        expect(sent[0] == xdp[0] + to_ovs, '%s%s: sent %d packets, but XDP '
               'executed %d and passed %d', what, host.port, sent[0], xdp[0],
               to_ovs)
    return after


def flows_between(lab, src, dst, kind=None, eth_type='0x0800'):
    return [f for f in lab.ovs.flows(kind)
            if 'in_port(%s)' % src.port in f['match']
            and dst.mac in f['match'] and eth_type in f['match']]


def wait_offloaded(lab, src, dst, timeout=5.0):
    """Waits until the flow of IPv4 from 'src' to 'dst' is executed in XDP."""
    return wait_for('%s to %s in XDP' % (src.port, dst.port),
                    lambda: flows_between(lab, src, dst, 'xdp'), timeout)
