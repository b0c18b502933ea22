# SPDX-License-Identifier: Apache-2.0
"""ovs-offload-dump and xdp-offload/capture: what enters a port."""
import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

from lab import (Stream, attached_program, exchange, ping, run,
                 settled_counters, tcp_transfer, udp_echo, udp_frame, wait_for)
from suite import (all_programs, expect, expect_exact, per_port_rules,
                   wait_offloaded)
from test_kernel_datapath import kernel_lab, wait_layer
from test_persistence import kept_lab

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, '..', '..')
ENDS_WITHIN = 10                 # Seconds, when nobody renews the lease.
XDP_VERDICTS = {1: 'dropped', 2: 'passed to OVS', 4: 'redirected'}


def tool(context):
    """The tool that was built with the plugin."""
    build = os.path.dirname(os.path.abspath(context.plugin_dir))
    return os.path.join(build, 'tools', 'dump', 'ovs-offload-dump')


@contextlib.contextmanager
def dumping(context, lab, *args, ready=True):
    """Runs it where ovs-vswitchd does; ends it as Ctrl-C does."""
    env = dict(lab.ovs.env)
    env['PATH'] = os.path.dirname(lab.ovs.tool('ovs-appctl')) + ':' + \
        env['PATH']
    process = subprocess.Popen(
        ['ip', 'netns', 'exec', lab.switch, tool(context), *args], env=env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    try:
        if ready:
            wait_for('a capture', lambda: process.poll() is not None
                     or is_captured(lab, args[0]))
            expect(process.poll() is None, 'it ends: %s',
                   process.poll() is not None and process.communicate()[1])
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(ValueError):
            process.communicate(timeout=10)


def end(process, status=0):
    """Ends it as Ctrl-C does; what it says, and (shown, captured, lost)."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    err = err.decode()
    expect(process.returncode == status, 'exit status %d: %s',
           process.returncode, err)
    m = re.search(r'(\d+) packets shown, of (\d+) that were captured; '
                  r'(\d+) packets not captured', err)
    expect(m, 'totals: %s', err)
    return out, err, tuple(map(int, m.groups()))


def ring_size(lab, port):
    """That of the ring that a port's program has; 0 if it is just being exchanged.
    """
    program = attached_program(lab, port)
    info = json.loads(run('bpftool', '-j', 'prog', 'show', 'id',
                          str(program[0]), check=False) if program else '{}')
    for number in info.get('map_ids', ()):
        m = json.loads(run('bpftool', '-j', 'map', 'show', 'id', str(number),
                           check=False))
        if m.get('name') == 'xf_captured':
            return m['max_entries']
    return 0


def is_captured(lab, port):
    """Is the program that copies packets on the port?"""
    return ring_size(lab, port) > 4096


def read_pcapng(data):
    """Interface names, packets (bytes, comment, verdict), and totals."""
    names, packets, totals, at = [], [], None, 0

    def options(body):
        found = {}
        while len(body) >= 4:
            code, size = struct.unpack_from('<HH', body)
            if not code:
                break
            found[code] = body[4:4 + size]
            body = body[4 + (size + 3) // 4 * 4:]
        return found

    while at < len(data):
        kind, size = struct.unpack_from('<II', data, at)
        expect(struct.unpack_from('<I', data, at + size - 4)[0] == size,
               'a block of %d bytes has another length at its end', size)
        body = data[at + 8:at + size - 4]
        at += size
        if kind == 1:
            names.append(options(body[8:])[2].decode())
        elif kind == 6:
            caplen, length = struct.unpack_from('<II', body, 12)
            found = options(body[20 + (caplen + 3) // 4 * 4:])
            packets.append((body[20:20 + caplen], found[1].decode(),
                            struct.unpack('<BQ', found[7])[1], length))
        elif kind == 5:
            found = options(body[12:])
            totals = tuple(struct.unpack('<Q', found[c])[0] for c in (4, 5))
    return names, packets, totals


def top_flows(lab):
    """By ufid: the port where it enters, and the flow's text."""
    top = json.loads(lab.ovs.appctl('xdp-offload/top-flows', '256'))
    return {f['ufid']: (f['in_port'], f['text']) for f in top['flows']}


def flows_of(comment):
    return re.findall(r'ufid:(\S{36})', comment)


@contextlib.contextmanager
def counted_lab(context):
    """A lab whose flows from a to b are in XDP, and what everybody has counted."""
    with context.lab() as lab:
        per_port_rules(lab)
        ping(*lab.hosts, 3)
        wait_offloaded(lab, *lab.hosts)
        yield lab, settled_counters(lab, lab.hosts)


def test_dump(context):
    """Ping, TCP and UDP as they enter, with their flows and what becomes of them
    """
    with counted_lab(context) as (lab, _):
        a, b = lab.hosts
        frame = udp_frame(a, b, payload=os.urandom(1000))
        exchange(a, b, frame, 3)
        file = lab.tmp + '/p1.pcapng'
        before = settled_counters(lab, lab.hosts)
        with dumping(context, lab, a.port, '-w', file) as process:
            ping(a, b, 20)
            tcp_transfer(a, b, 1 << 20)
            udp_echo(a, b, 20)
            exchange(a, b, frame, 20)
            after = expect_exact(lab, before)
            expect('    captured: what enters' in lab.ovs.offload_show()[0],
                   'xdp-offload/show does not tell of it')
            flows = top_flows(lab)
            _, _, (shown, captured, lost) = end(process)
        with open(file, 'rb') as f:
            names, packets, totals = read_pcapng(f.read())
        n = after[a.port]['sent'][0] - before[a.port]['sent'][0]
        expect(names == [a.port], 'interfaces %s', names)
        expect(lost == 0 and shown == captured == len(packets) == n
               and totals == (n, 0),
               '%d sent; %d shown, %d captured, %d lost, %d in the file, %s',
               n, shown, captured, lost, len(packets), totals)
        expect(sum(p[0] == frame for p in packets) == 20,
               'a frame that was sent 20 times is not there as often')
        for data, comment, verdict, length in packets:
            expect(len(data) == length, 'cut off: %s', comment)
            expect(comment.startswith(XDP_VERDICTS[verdict]),
                   'verdict %d: %s', verdict, comment)
        executed = [p for p in packets if p[2] == 4]
        expect(len(executed) > 0.9 * n, '%d of %d executed', len(executed), n)
        for _, comment, _, _ in executed:
            expect(comment.startswith('redirected to %s, ufid:' % b.port),
                   'comment: %s', comment)
            port, _ = flows.get(flows_of(comment)[0], (a.port, ''))
            expect(port == a.port, '%s of port %s', comment, port)
        of_frame = {flows_of(c)[0] for data, c, v, _ in executed
                    if data == frame}
        text = 'eth_src=%s,eth_dst=%s, actions:output:%s' % (
            a.mac, b.mac, b.port)
        expect(len(of_frame) == 1 and text in flows[of_frame.pop()][1],
               'flows of the UDP frame: %s of %s', of_frame, flows)
        expect(not is_captured(lab, a.port), 'it is still captured')
        check_readers(context, file, n)
        context.note('%d packets, all bytes, flows and verdicts; figures exact',
                     n)


def check_readers(context, file, n):
    """Other programs read the file, those that are here."""
    for name, *args in (('tshark', '-r'), ('tcpdump', '-n', '-r')):
        if shutil.which(name):
            out = run(name, *args, file)
            expect(len(out.splitlines()) >= n, '%s reads %d of %d packets',
                   name, len(out.splitlines()), n)
            context.note('%s reads it', name)


def test_verdicts(context):
    """Redirected to several ports, dropped, passed: each as it was"""
    with context.lab(hosts=3) as lab:
        a, b, c = lab.hosts
        number = lab.ovs.of_port
        lab.ovs.ofctl('del-flows', 'br0')
        for port, actions in ((4001, 'output:%d' % number(b.port)),
                              (4002, 'output:%d,output:%d' % (
                                  number(b.port), number(c.port))),
                              (4003, 'drop'), (4004, 'controller')):
            lab.ovs.ofctl('add-flow', 'br0', 'udp,in_port=%d,udp_dst=%d,'
                          'actions=%s' % (number(a.port), port, actions))
        frames = {port: udp_frame(a, b, dport=port)
                  for port in (4001, 4002, 4003, 4004)}
        for frame in frames.values():
            exchange(a, b, frame, 5, settle=0.1)
        time.sleep(0.5)
        with dumping(context, lab, a.port, '-w', '-') as process:
            for frame in frames.values():
                exchange(a, b, frame, 5, settle=0)
            time.sleep(0.3)
            out, _, _ = end(process)
        _, packets, _ = read_pcapng(out)
        for port, wanted in (
                (4001, 'redirected to %s, ufid:' % b.port),
                (4002, 'redirected to (%s,%s|%s,%s), ufid:' % (
                    b.port, c.port, c.port, b.port)),
                (4003, 'dropped, ufid:'), (4004, 'passed to OVS: no-flow$')):
            got = [p[1] for p in packets if p[0] == frames[port]]
            expect(len(got) == 5 and all(re.match(wanted, x) for x in got),
                   'udp_dst=%d: %s', port, got)


def test_filter(context):
    """A filter, --count, --seconds, text, and what is refused"""
    with context.lab() as lab:
        a, b = lab.hosts
        ping(a, b, 3)
        with dumping(context, lab, a.port, 'udp', 'port', '4009', '--count',
                     '3') as process:
            exchange(a, b, udp_frame(a, b, dport=4008), 5)
            exchange(a, b, udp_frame(a, b, dport=4009), 5)
            wait_for('three packets', lambda: process.poll() is not None)
            out, _, (shown, _, _) = end(process)
        lines = out.decode().splitlines()
        expect(shown == len(lines) == 3 and all(
            '%s > %s' % (a.mac, b.mac) in x and ', 106 bytes, ' in x
            for x in lines), 'lines: %s', lines)
        begin = time.monotonic()
        with dumping(context, lab, a.port, '--seconds', '1') as process:
            wait_for('the end', lambda: process.poll() is not None)
            end(process)
        expect(time.monotonic() - begin < 5, 'it takes longer than a second')
        for args, status, words in (
                ((a.port, 'no such filter'), 2, 'filter "no such filter": '),
                (('nosuch',), 1, 'no such port in XDP'),
                (('br0',), 1, 'no such port in XDP'),
                ((a.port, '-w', '/nosuch/file'), 2, 'cannot write /nosuch/'),
                ((a.port, '-s', '0'), 2, 'a number above 0'),
                ((a.port, '-t', 'nosuch'), 1, 'ovs-appctl -t nosuch'),
                ((), 2, 'which port?')):
            with dumping(context, lab, *args, ready=False) as process:
                err = process.communicate(timeout=10)[1].decode()
                expect(process.returncode == status and words in err,
                       '%s: exit status %d: %s', args, process.returncode,
                       err)
        expect(not is_captured(lab, a.port), 'it is still captured')


def test_killed(context):
    """Its SIGKILL ends the capture, and nothing is left; two are refused"""
    with counted_lab(context) as (lab, before):
        a, b = lab.hosts
        with Stream(a, b) as stream:
            with dumping(context, lab, a.port, '-w', '/dev/null') as process:
                with dumping(context, lab, a.port, ready=False) as second:
                    err = second.communicate(timeout=10)[1].decode()
                    expect(second.returncode == 1
                           and 'is captured already' in err, '%s', err)
                with dumping(context, lab, b.port) as other:
                    end(other)           # Another port can be.
                time.sleep(7)            # Longer than a lease.
                expect(is_captured(lab, a.port), 'the lease was not renewed')
                program = attached_program(lab, a.port)[0]
                process.kill()
                begin = time.monotonic()
                wait_for('the end of the capture',
                         lambda: not is_captured(lab, a.port), ENDS_WITHIN)
                took = time.monotonic() - begin
            stream.stop()
        expect_exact(lab, before)
        expect(stream.lost == 0, '%s', stream)
        wait_for('the program to go', lambda: program not in all_programs())
        context.note('captured for %.1f s more; %s', took, stream)


def test_switched(context):
    """On and off under traffic, again and again: nothing lost, figures exact"""
    with counted_lab(context) as (lab, before):
        a, b = lab.hosts
        n = 0
        with Stream(a, b, pps=3000) as stream, Stream(
                b, a, pps=3000, port=7001) as back:
            for _ in range(10):
                with dumping(context, lab, a.port, '-w', '/dev/null') as p:
                    time.sleep(0.2)
                    _, _, (_, captured, lost) = end(p)
                    expect(captured > 0 and lost == 0, '%d captured, %d lost',
                           captured, lost)
                    n += captured
            stream.stop()
            back.stop()
        expect_exact(lab, before)
        expect(stream.lost == back.lost == 0, '%s; %s', stream, back)
        context.note('10 times; %d packets captured; %s', n, stream)


def test_port_gone(context):
    """The port, or its device, is removed while it is captured"""
    with context.lab(hosts=3) as lab:
        a, b, _ = lab.hosts
        ping(a, b, 3)
        with dumping(context, lab, a.port) as process:
            lab.ovs.vsctl('del-port', a.port)
            wait_for('its end', lambda: process.poll() is not None)
            _, err, _ = end(process, status=1)
            expect('gone' in err, '%s', err)
        lab.ovs.add_port(a.port)
        ping(a, b, 3)
        with dumping(context, lab, a.port) as process:
            run('ip', '-n', lab.switch, 'link', 'del', a.port)
            wait_for('its end', lambda: process.poll() is not None)
            _, err, _ = end(process, status=1)
            expect('gone' in err, '%s', err)
        expect('captur' not in str(lab.ovs.log_lines(r'\|(ERR|WARN)\|.*captur')),
               'the log complains')


def test_vswitchd_killed(context):
    """ovs-vswitchd is killed: the capture goes on until the next takes over"""
    with kept_lab(context) as lab:
        a, b = lab.hosts
        ping(a, b, 3)
        wait_offloaded(lab, a, b)
        frame = udp_frame(a, b, dport=4010)
        exchange(a, b, frame, 20)
        with dumping(context, lab, a.port, '-w', '-') as process:
            lab.ovs.kill_vswitchd()
            arrived = exchange(a, b, frame, 20)
            lab.ovs.start_vswitchd()
            wait_for('its end', lambda: process.poll() is not None, 30)
            out, err, _ = end(process, status=1)
            expect('another program has taken the place' in err
                   or 'gone' in err, '%s', err)
            _, packets, _ = read_pcapng(out)
            n = sum(p[0] == frame for p in packets)
            expect(n == 20 == sum(arrived.values()),
                   '%d of 20 packets were seen meanwhile, %s arrived', n,
                   list(arrived.values()))
        with dumping(context, lab, a.port) as process:
            ping(a, b, 3)
            _, _, (_, captured, _) = end(process)
            expect(captured >= 3, '%d captured afterwards', captured)
        context.note('all packets seen while it was away')


def test_kernel(context):
    """The same in the kernel datapath, whose flows have dump-flows's ufids"""
    with kernel_lab(context, hook='xdp') as lab:
        a, b = lab.hosts
        ping(a, b, 10)
        wait_layer(lab, a, b, 'xdp')
        with dumping(context, lab, a.port, 'icmp') as process:
            ping(a, b, 10)
            ufids = {f['ufid'] for f in lab.ovs.flows('xdp')}
            out, _, (shown, _, _) = end(process)
        seen = set(flows_of(out.decode()))
        expect(shown == 10 and seen and seen <= ufids, '%d shown: %s of %s',
               shown, seen, ufids)


TESTS = [
    ('dump', test_dump),
    ('dump-verdicts', test_verdicts),
    ('dump-filter', test_filter),
    ('dump-killed', test_killed),
    ('dump-switched', test_switched),
    ('dump-port-gone', test_port_gone),
    ('dump-vswitchd-killed', test_vswitchd_killed),
    ('kernel-dump', test_kernel),
]
