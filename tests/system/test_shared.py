# SPDX-License-Identifier: Apache-2.0
"""Ports that share a program: those of type system, however many there are."""
import contextlib
import subprocess
import time

from lab import ping, run, wait_for
from suite import expect, programs_of, wait_offloaded
from test_persistence import both_ways, check_nothing_lost, end, kept_lab, replace_process

SYSTEM = ['xdp-offload-system-ports=true']
# As many as ports there may be: docs/performance.md has a thousand.
MANY = 250
MANY_KEPT = 500
MS_EACH = 10                    # What a port may take, with OVS's own share.


def make_veths(lab, n):
    """Veths in the switch's namespace, whose peers are there as well.  Nobody has
    anything to say: what each of hundreds says is flooded to all."""
    run('ip', 'netns', 'exec', lab.switch, 'sysctl', '-qw',
        'net.ipv6.conf.default.disable_ipv6=1')
    names = ['m%d' % i for i in range(n)]
    subprocess.run(['ip', '-n', lab.switch, '-batch', '-'], check=True, text=True, input=''.join(
        'link add %s type veth peer name %sp\nlink set %s up\nlink set %sp up\n'
        % (name, name, name, name) for name in names))
    return names


def vsctl_for_each(lab, command, names, *more):
    args = []
    for name in names:
        args += ['--', *command, name, *(word.replace('NAME', name) for word in more)]
    lab.ovs.vsctl(*args)


def test_many(context):
    """Each of many ports costs little, when it comes and when it goes."""
    with context.lab(kind='system', config=SYSTEM) as lab:
        a, b = lab.hosts
        names = make_veths(lab, MANY)
        begin = time.monotonic()
        vsctl_for_each(lab, ['add-port', 'br0'], names)
        took = time.monotonic() - begin
        text, ports = lab.ovs.offload_show()
        expect(set(names) <= set(ports), 'ports are missing:\n%s', text)
        expect(took * 1000 < MS_EACH * MANY, '%d ports took %.1f s', MANY, took)
        expect(ping(a, b, 3) >= 2, 'misses do not reach OVS')
        wait_offloaded(lab, a, b)
        vsctl_for_each(lab, ['del-port', 'br0'], names)
        wait_for('the ports to go', lambda: len(lab.ovs.offload_show()[1]) == 2)
        wait_offloaded(lab, a, b)
        context.note('%d ports, %.1f ms each', MANY, took * 1000 / MANY)


@contextlib.contextmanager
def established(lab, a, b):
    """Streams of flows that are in XDP already."""
    with both_ways(a, b, 100):
        wait_offloaded(lab, a, b)
        wait_offloaded(lab, b, a)
    with both_ways(a, b, 200) as streams:
        yield streams


def test_kept(context):
    """What a killed ovs-vswitchd leaves of them goes on, and is taken over."""
    with kept_lab(context, hosts=3, kind='system', config=SYSTEM) as lab:
        a, b, _ = lab.hosts
        with established(lab, a, b) as streams:
            for how in ('SIGKILL', 'SIGTERM', 'SIGKILL'):
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                replace_process(lab, how)
            # One that a process had not removed yet when it was killed goes when
            # it has been silent for 10 s.
            wait_for('the earlier programs to go', lambda: len(lab.pins('shared')) == 1, 30)
            wait_offloaded(lab, a, b)
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)
        programs = programs_of(lab)
        expect(len(programs) == 3 and len(lab.pins()) == 3, 'programs')
        process = lab.ovs.processes.pop('ovs-vswitchd')
        lab.ovs.appctl('exit', '--cleanup')
        expect(process.wait(10) == 0, 'exit status')
        expect(not lab.pins() + lab.pins('shared'), 'pins: %s, %s', lab.pins(), lab.pins('shared'))


def test_many_kept(context):
    """A restart with many ports loses no more than one with two."""
    with kept_lab(context, kind='system', config=SYSTEM) as lab:
        a, b = lab.hosts
        names = make_veths(lab, MANY_KEPT)
        vsctl_for_each(lab, ['add-port', 'br0'], names)
        with established(lab, a, b) as streams:
            for how in ('SIGKILL', 'SIGTERM'):
                wait_offloaded(lab, a, b)
                wait_offloaded(lab, b, a)
                before = programs_of(lab)
                end(lab, how)
                expect(programs_of(lab) == before, 'programs do not stay')
                begin = time.monotonic()
                lab.ovs.start_vswitchd()
                wait_for('the new process to take over', lambda: not before & programs_of(lab), 60)
                context.note('%s: taken over after %.1f s', how, time.monotonic() - begin)
            wait_offloaded(lab, a, b)
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)


TESTS = [
    ('shared-many', test_many),
    ('shared-kept', test_kept),
    ('shared-many-kept', test_many_kept),
]
