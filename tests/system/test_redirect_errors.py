# SPDX-License-Identifier: Apache-2.0
"""Frames that are lost after the program has redirected them: counted by errno and by
the port where they are lost, or not known, which is not 0."""
import collections
import contextlib
import errno
import json
import os
import re
import signal
import time

from lab import ping, run, udp_frame, wait_for
from skips import kernel_version
from suite import expect, wait_offloaded, xdp_packets
from test_kernel_datapath import kernel_lab, wait_layer
from test_top import parse_openmetrics, top, top_json

N = 120                          # Frames.
LONG = b'x' * 1200
# More than OVS's AF_XDP sockets have room for.
MANY = 7000


@contextlib.contextmanager
def unheard(lab):
    """The plugin does not hear of what happens; its program goes on."""
    pid = lab.ovs.vswitchd_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def send(src, frame, n=N):
    """So slowly that none is lost before XDP."""
    with contextlib.closing(src.raw_socket()) as s:
        for i in range(n):
            s.send(frame)
            if i % 20 == 19:
                time.sleep(0.002)


def link(netns, device, *words):
    run('ip', '-n', netns, 'link', 'set', device, *words)


def peer_gro(host, state):
    host.run('ethtool', '-K', 'eth0', 'gro', state)


# What is done to the port b or its peer and undone, and the errno that then counts.
ROWS = (
    ('the device is down', lambda b: link(b.lab.switch, b.port, 'down'),
     lambda b: link(b.lab.switch, b.port, 'up'), 'ENETDOWN'),
    ('the veth peer is down', lambda b: link(b.netns, 'eth0', 'down'),
     lambda b: link(b.netns, 'eth0', 'up'), 'ENXIO'),
    ('frames are longer than the MTU', lambda b: link(b.lab.switch, b.port, 'mtu', '1000'),
     lambda b: link(b.lab.switch, b.port, 'mtu', '1500'), 'EMSGSIZE'),
    ('the driver takes none of them, and says no more',
     lambda b: link(b.netns, 'eth0', 'mtu', '1000'),
     lambda b: link(b.netns, 'eth0', 'mtu', '1500'), 'none'),
    ('no GRO: the driver has nothing to take frames with',
     lambda b: peer_gro(b, 'off'), lambda b: peer_gro(b, 'on'),
     'EOPNOTSUPP' if kernel_version() >= (6, 3) else 'ENXIO'),
)


def errors(lab):
    """By port, what is lost there, and from there to OVS."""
    stats = json.loads(lab.ovs.appctl('xdp-offload/stats'))
    return {p['name']: (p['redirect_errors'], p['redirect_errors_to_ovs'])
            for p in stats['ports']}


def growth(old, new):
    return {name: n - old.get(name, 0) for name, n in new.items() if n > old.get(name, 0)}


def expect_lost(lab, before, losses, what):
    """'losses': at these ports, by errno; at others none."""
    after = errors(lab)
    grown = {name: growth(before[name][0], after[name][0]) for name in after}
    wanted = dict({name: {} for name in after}, **losses)
    expect(grown == wanted, '%s: %s, not %s', what, grown, wanted)


def lose_frames(lab, wait_ready):
    """Has b lose frames in all ways; returns how many, by errno."""
    a, b = lab.hosts[:2]
    ping(a, b, 3)
    wait_ready(lab, a, b)
    before, executed = errors(lab), xdp_packets(lab, a.port)
    total = collections.Counter()
    with unheard(lab):
        for _, do, undo, kind in ROWS:
            do(b)
            send(a, udp_frame(a, b, payload=LONG))
            undo(b)
            total[kind] += N
    executed = xdp_packets(lab, a.port) - executed
    expect(executed == sum(total.values()), '%d executed', executed)
    expect_lost(lab, before, {b.port: dict(total)}, 'in all ways')
    # Where the plugin sees by itself that nothing arrives, it says that.
    expect(re.match(r'WARNING: .*%s: (redirected frames are lost: [0-9]+ with errno .*'
                    r'and in other ways|takes no frames from XDP: redirected frames do '
                    r'not arrive)' % b.port, lab.ovs.appctl('xdp-offload/status')),
           'status:\n%s', lab.ovs.appctl('xdp-offload/status'))
    return total


def test_errors(context):
    """Frames lost at a port are counted there, by errno, exactly; others are not"""
    with context.lab(hosts=3) as lab:
        a, b, _ = lab.hosts
        total = lose_frames(lab, wait_offloaded)
        wanted = 'redirect errors: ' + ', '.join(
            '%d %s' % (total[name], name) for name in sorted(
                total, key=lambda name: getattr(errno, name, 0)))
        text = lab.ovs.appctl('xdp-offload/show')
        expect(wanted in text, 'show, not %s:\n%s', wanted, text)
        expect(text.count('redirect errors: none') == 2, 'the other ports:\n%s', text)
        expect('\nredirect errors: %d ' % sum(total.values())
               in lab.ovs.appctl('xdp-offload/status'), 'status')
        samples = parse_openmetrics(top(lab, '--openmetrics'))
        name = 'ovs_offload_port_redirect_errors'
        for port, n in ((a.port, 0), (b.port, sum(total.values()))):
            got = samples[name + '_total', (('port', port),)]
            expect(got == n, '%s: %s, not %d', port, got, n)
        by_errno = {dict(labels)['errno']: (dict(labels)['port'], n) for (key, labels), n
                    in samples.items() if key == name + '_by_errno_total'}
        expect(by_errno == {kind: (b.port, n) for kind, n in total.items()},
               'by errno: %s', by_errno)
        context.note('%s', ', '.join('%d %s' % (n, e) for e, n in total.items()))


def test_kernel(context):
    """Kernel datapath: frames lost at a port are counted there, by errno, exactly"""
    with kernel_lab(context, hook='xdp') as lab:
        total = lose_frames(lab, lambda *ends: wait_layer(*ends, 'xdp'))
        context.note('%s', ', '.join('%d %s' % (n, e) for e, n in total.items()))


def test_to_ovs(context):
    """Frames for which OVS's socket has no room are counted where they entered"""
    with context.lab(hosts=2) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,udp,tp_dst=5005,actions=drop')
        before = errors(lab)
        with unheard(lab):
            send(a, udp_frame(a, b, dport=5005), MANY)

        def heard():
            m = re.search(r'n_packets=(\d+),.*tp_dst=5005', lab.ovs.ofctl(
                'dump-flows', 'br0'))
            return int(m[1])
        lost = sum(growth(before[a.port][1], errors(lab)[a.port][1]).values())
        expect(0 < lost < MANY, '%d of %d are lost', lost, MANY)
        wait_for('the others', lambda: heard() >= MANY - lost)
        expect(heard() == MANY - lost, '%d of %d lost, %d heard', lost, MANY, heard())
        expect_lost(lab, before, {}, 'to a port')
        kinds = errors(lab)[a.port][1]
        expect(set(kinds) <= {'ENOMEM', 'ENOBUFS'}, '%s', kinds)
        check = lab.ovs.appctl('xdp-offload/status').splitlines()[0]
        expect('redirected frames to OVS are lost: ' in check, '%s', check)
        context.note('%s of %d', kinds, MANY)


def test_foreign(context):
    """Of others' devices nothing is counted, though they have the same index"""
    with context.lab(hosts=2) as lab, context.lab(hosts=2) as other:
        for this in (lab, other):
            ping(*this.hosts, 3)
            wait_offloaded(this, *this.hosts)
        a, b = other.hosts
        before, theirs = errors(lab), errors(other)
        with unheard(other):
            link(other.switch, b.port, 'down')
            send(a, udp_frame(a, b))
            link(other.switch, b.port, 'up')
        expect_lost(other, theirs, {b.port: {'ENETDOWN': N}}, 'theirs')
        expect_lost(lab, before, {}, 'ours')


def test_unknown(context):
    """Where the kernel cannot be asked: not known, with the reason, and never 0"""
    hide_btf = ['sh', '-ec', 'mount -t tmpfs none /sys/kernel/btf; exec "$@"', '-']
    with context.lab(hosts=2, wrapper=hide_btf) as lab:
        a, b = lab.hosts
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        why = '- (not known: the kernel has no BTF'
        show, status = (lab.ovs.appctl('xdp-offload/' + c) for c in ('show', 'status'))
        expect(show.count('    redirect errors: ' + why) == 2, 'show:\n%s', show)
        expect('\nredirect errors: ' + why in status, 'status:\n%s', status)
        expect(status.startswith('OK: '), 'the offload does without: %s', status)
        expect(lab.ovs.log_lines('not known whether redirected frames are lost'), 'log')
        view, ports = top_json(lab)
        expect('no BTF' in json.loads(lab.ovs.appctl('xdp-offload/stats'))[
            'why_redirect_errors_unknown'], '%s', view)
        expect(errors(lab) == {h.port: (None, None) for h in lab.hosts}, 'JSON')
        names = {name for name, _ in parse_openmetrics(top(lab, '--openmetrics'))}
        expect('ovs_offload_port_redirect_errors_total' not in names
               and 'ovs_offload_port_driver_errors_total' in names, '%s', names)
        # A veth's driver counts.
        expect(ports[a.port]['redirect_errors_per_s'] == 0, '%s', ports)


TESTS = [
    ('redirect-errors', test_errors),
    ('redirect-errors-to-ovs', test_to_ovs),
    ('redirect-errors-foreign', test_foreign),
    ('redirect-errors-unknown', test_unknown),
    ('kernel-redirect-errors', test_kernel),
]
