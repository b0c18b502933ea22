#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every command and tool at work on one running example.

Three hosts: p1 and p2 exchange UDP, and p1 sends to p3, which takes no
redirected frames; packets to UDP port 4000 go to the controller.  Then a port is
left out, and ovs-vswitchd is killed and started again.  --ovs and --plugin as run_tests.py
has them.  docs/operating.md shows what this prints.
"""
import argparse
import os
import time

from lab import Stream, exchange, run, udp_frame, wait_for
from suite import Context, introduce, programs_of, wait_offloaded
from test_dump import dumping
from test_persistence import has_taken_over, kept_lab
from test_top import top
from test_worth import advise


def show(title, text):
    print('\n# %s\n%s' % (title, text.rstrip()), flush=True)


def log_since(lab, n):
    with open(lab.ovs.log) as f:
        return [line for line in f.read().splitlines()[n:]
                if 'netdev_offload_plugin' in line]


def log_length(lab):
    with open(lab.ovs.log) as f:
        return len(f.readlines())


def restart(lab):
    programs = programs_of(lab)
    n = log_length(lab)
    lab.ovs.kill_vswitchd()
    show('kill -9 $(pidof ovs-vswitchd); bpftool link (1 s later)', '\n'.join(
        line for line in run('bpftool', 'link').splitlines()
        if any('prog %d ' % p in line for p in programs)))
    time.sleep(1)
    lab.ovs.start_vswitchd()
    wait_for('the ports', lambda: 'taking over' in lab.ovs.offload_show()[0])
    show('ovs-appctl xdp-offload/show     (of a port)', '\n'.join(
        lab.ovs.offload_show()[0].splitlines()[:6]))
    wait_for('the new process to take over', lambda: has_taken_over(lab), 30)
    show('grep netdev_offload_plugin ovs-vswitchd.log',
         '\n'.join(log_since(lab, n)))


def watch(context, lab, port):
    """A packet that enters and its flow, and metrics."""
    with dumping(context, lab, port, '-c', '2', ready=False) as process:
        out, err = process.communicate(timeout=10)
    show('ovs-offload-dump %s -c 2' % port, (out + err).decode())
    metrics = lab.tmp + '/ovs-offload.prom'
    top(lab, '--prometheus', metrics)
    with open(metrics) as f:
        show('ovs-offload-top --prometheus FILE; grep %s FILE' % port, ''.join(
            line for line in f if '"%s"' % port in line))


def leave_out(lab, port):
    lab.ovs.vsctl('set', 'interface', port, 'other_config:xdp-offload=false')
    time.sleep(1)
    show('ovs-vsctl set interface %s other_config:xdp-offload=false; ovs-appctl '
         'xdp-offload/status' % port, lab.ovs.appctl('xdp-offload/status'))
    lab.ovs.vsctl('remove', 'interface', port, 'other_config', 'xdp-offload')


def tour(context):
    with kept_lab(context, acquainted=False) as lab:
        a, b = lab.hosts
        c = lab.add_host(gro=False)
        introduce(lab.hosts)
        controller = udp_frame(a, b, dport=4000)
        lab.ovs.ofctl('add-flow', 'br0', 'udp,udp_dst=4000,actions=controller')
        with Stream(a, b, pps=1000) as stream, \
                Stream(b, a, pps=200, port=7001), Stream(a, c, pps=100):
            wait_offloaded(lab, a, b)
            exchange(a, b, controller, count=5)
            time.sleep(1)
            appctl = lab.ovs.appctl
            show('ovs-appctl dpctl/dump-flows -m type=xdp',
                 appctl('dpctl/dump-flows', '--names', 'type=xdp'))
            for command in ('status', 'show', 'explain', 'rejects'):
                show('ovs-appctl xdp-offload/' + command,
                     appctl('xdp-offload/' + command))
            frame = udp_frame(a, b).hex()
            show('ovs-appctl xdp-offload/trace %s %s...' % (a.port, frame[:24]),
                 appctl('xdp-offload/trace', a.port, frame))
            show('ovs-appctl xdp-offload/top-flows 1',
                 appctl('xdp-offload/top-flows', '1'))
            show('ovs-offload-top --once', top(lab, '--once'))
            show('ovs-offload-top --check; echo $?     (1: WARNING)',
                 top(lab, '--check', status=1, errors=False))
            watch(context, lab, a.port)
            show('ovs-offload-advise', advise(context, lab=lab))
            leave_out(lab, b.port)
            wait_offloaded(lab, a, b)
            restart(lab)
        print('\n%s of the stream from p1 to p2' % stream)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ovs', metavar='DIR', required=True)
    parser.add_argument('--plugin', metavar='DIR', required=True)
    args = parser.parse_args()
    tour(Context(os.path.abspath(args.ovs), os.path.abspath(args.plugin)))


if __name__ == '__main__':
    main()
