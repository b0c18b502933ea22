# SPDX-License-Identifier: Apache-2.0
"""ovs-offload-advise: what it says of saved flows, and of a host."""
import json
import os
import re
import subprocess
import sys
import time

from lab import Stream
from suite import expect

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '../..'))
sys.path.insert(0, TOP + '/tools')
sys.dont_write_bytecode = True
from ovs_offload_advise import dump, packets  # noqa: E402


def advise(context, *args, lab=None, text='', status=0):
    env = dict(os.environ, **(lab.ovs.env if lab else {}))
    env['OVS_OFFLOAD_ADVISE_PATH'] = ':'.join((
        context.ovs_dir + '/bin', context.plugin_dir + '/../tools/advise'))
    prefix = ['ip', 'netns', 'exec', lab.switch] if lab else []
    done = subprocess.run([*prefix, TOP + '/tools/ovs-offload-advise', *args], env=env,
                          input=text, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    expect(done.returncode == status and 'Traceback' not in done.stderr,
           '%s: exit status %d: %s', args, done.returncode, done.stderr)
    return done.stdout if status == 0 else done.stderr


def advise_json(context, *args, **kwargs):
    return json.loads(advise(context, '--json', *args, **kwargs))


def counts(judged):
    return {r['reason']: r['flows'] for r in judged['refused'] if r['flows']}


# -- Real flows ---------------------------------------------------------------

def documented():
    """Flows of each file that docs/supported.md names: all, executed, and refused by
    reason.  The test "flows", which has a parser of its own, keeps that table true."""
    with open(TOP + '/docs/supported.md') as f:
        for m in re.finditer(r'^\| \[([\w-]+)\]\(\S+\) \| (\d+) \| (\d+) \| .* \| (.*) \|$',
                             f.read(), re.MULTILINE):
            yield (m[1], int(m[2]), int(m[3]), {
                reason: int(n) for n, reason in re.findall(r'(\d+) `([^`]+)`', m[4])})


def test_real_flows(context):
    """Of the flows of real networks as many are executed as the test "flows" says"""
    rows = list(documented())
    expect(len(rows) == 9, 'files in docs/supported.md: %d', len(rows))
    files = ['%s/tests/flows/%s.txt' % (TOP, name) for name, *_ in rows]
    found = advise_json(context, '--datapath', 'netdev', *(
        a for file in files for a in ('--flows', file)))['datapaths']
    for (name, flows, executed, refused), judged in zip(rows, found):
        got = judged['flows'], judged['executed_flows'], counts(judged)
        expect(got == (flows, executed, refused), '%s: %s, not %s', name, got,
               (flows, executed, refused))
        expect(not judged['unread'], '%s: %s', name, judged['unread'])
        for row in judged['refused']:
            expect(row['meaning'] and row['remedy'] and row['example'], '%s: %s', name, row)
    context.note('%d flows of %d files', sum(row[1] for row in rows), len(rows))
    text = advise(context, '--flows', files[-2])
    context.show(text[:text.index('\n\n  ')])


# -- Packets ------------------------------------------------------------------

# What it shows, flows as (match, actions, packets, reason), packets by reason.
WAYS = (
    ('one flow', [('in_port(1)', '2', 10, '')], {'': 10}),
    ('refused', [('in_port(1)', '2', 10, 'x/y'), ('in_port(2)', '1', 30, '')],
     {'': 30, 'x/y': 10}),
    ('counted once, where the way ends',
     [('recirc_id(0),in_port(1)', 'ct,recirc(0x1)', 10, ''),
      ('recirc_id(0x1),in_port(1)', '2', 10, '')], {'': 10}),
    ('the first flow of the way is refused',
     [('recirc_id(0),in_port(1)', 'ct,recirc(0x1)', 10, 'x/y'),
      ('recirc_id(0x1),in_port(1)', '2', 10, '')], {'x/y': 10}),
    ('the last one is', [('recirc_id(0),in_port(1)', 'ct,recirc(0x1)', 10, ''),
                         ('recirc_id(0x1),in_port(1)', '2', 10, 'x/y')], {'x/y': 10}),
    ('the first that is refused says why',
     [('recirc_id(0),in_port(1)', 'ct,recirc(0x1)', 10, 'x/y'),
      ('recirc_id(0x1),in_port(1)', '2', 10, 'x/z')], {'x/y': 10}),
    ('two ways meet, and part', [
        ('recirc_id(0),in_port(1)', 'ct,recirc(0x1)', 30, ''),
        ('recirc_id(0),in_port(2)', 'ct,recirc(0x1)', 10, 'x/y'),
        ('recirc_id(0x1),in_port(1)', '3', 20, ''),
        ('recirc_id(0x1),in_port(2)', '4', 20, 'x/z')],
     {'': 15, 'x/y': 10, 'x/z': 15}),
    ('out of a tunnel', [('in_port(1)', 'tnl_pop(genev_sys_6081)', 8, 'x/y'),
                         ('recirc_id(0),in_port(genev_sys_6081)', '2', 8, '')],
     {'x/y': 8}),
    ('out of the kernel\'s tunnel', [('recirc_id(0),in_port(genev_sys_6081)', '2', 8, '')],
     {'': 8}),
    ('what follows has expired', [('recirc_id(0),in_port(1)', 'recirc(0x1)', 10, '')],
     {'': 10}),
    ('a circle', [('recirc_id(0x1),in_port(1)', 'recirc(0x1)', 10, ''),
                  ('recirc_id(0x1),in_port(2)', '2', 10, '')], {packets.TOO_MANY: 10}),
)


def test_packets(context):
    """Packets that pass several flows count once, by the first that is refused"""
    for what, rows, wanted in WAYS:
        flows = [dump.Flow(match, actions, n) for match, actions, n, _ in rows]
        got = packets.Ways(flows, [reason for *_, reason in rows]).packets()
        got = {k: round(v, 6) for k, v in got.items() if round(v, 6)}
        expect(got == wanted, '%s: %s, not %s', what, got, wanted)


SHOW = '''%s:
  lookups: hit:0 missed:0 lost:0
  flows: 3
  port 0: br0 (internal)
  port 1: eth1%s
  port 2: eth2%s
'''
FLOWS = '''flow-dump from the main thread:
ufid:01, recirc_id(0),in_port(1),eth(),eth_type(0x0806), packets:90, bytes:1, used:0.1s, dp:ovs, actions:2, dp-extra-info:miniflow_bits(4,1)
ufid:02, recirc_id(0),in_port(eth2),eth(),eth_type(0x0800),ipv4(proto=6,frag=no), packets:8, bytes:1, used:0.1s, actions:ct(zone=1),eth1
ufid:03, recirc_id(0),in_port(eth2),eth(),eth_type(0x86dd),ipv6(frag=no), packets:2, bytes:1, used:never, actions:br0
ufid:04, in_port(eth2),nonsense(), packets:0, bytes:0, used:never, actions:1
'''
# The datapath's name and its ports' type, options, and what is said of each datapath:
# packets in XDP, and flows by reason.
SAVED = (
    ('netdev@ovs-netdev', ' (afxdp: n_rxq=1)', (),
     [(98, {'output/not_an_xdp_port': 1, 'unreadable': 1})]),
    ('netdev@ovs-netdev', ' (dpdk: n_rxq=1)', (),
     [(0, {'input/not_an_xdp_port': 3, 'unreadable': 1})]),
    ('system@ovs-system', '', (),
     [(90, {'action/ct': 1, 'output/not_an_xdp_port': 1, 'unreadable': 1}),
      (98, {'output/not_an_xdp_port': 1, 'unreadable': 1})]),
    ('system@ovs-system', '', ('--datapath', 'system'),
     [(90, {'action/ct': 1, 'output/not_an_xdp_port': 1, 'unreadable': 1})]),
)


def test_saved(context):
    """Saved flows with dpctl/show: ports and datapath are those of the host"""
    for name, kind, options, wanted in SAVED:
        found = advise_json(context, '--flows', '-', *options,
                            text=SHOW % (name, kind, kind) + FLOWS)['datapaths']
        got = [(j['executed_packets'], counts(j)) for j in found]
        expect(got == wanted, '%s%s %s: %s, not %s', name, kind, options, got, wanted)
    text = advise(context, '--flows', '-', text=SHOW % (SAVED[0][0], '', '') + FLOWS)
    expect('98 % of the packets could be in XDP; not: 2 % output/not_an_xdp_port.' in text,
           '%s', text)
    for args, part in ((('--flows', '/none'), '/none'),
                       (('--flows', TOP), 'Is a directory')):
        expect(part in advise(context, *args, status=1), '%s', args)


def test_absent(context):
    """Without Open vSwitch it says what was tried, in no line of a log"""
    with context.lab(0, offload=False) as lab:
        lab.ovs.kill_vswitchd()
        for target, part in (('/none.ctl', 'cannot connect to /none.ctl: No such file'),
                             ('none', 'cannot read %s/none.pid: No such file' % lab.tmp),
                             ('ovs-vswitchd', 'Connection refused')):
            found = advise_json(context, '-t', target, lab=lab)
            texts = [f['text'] for f in found['host'] if f['what'] == 'Open vSwitch']
            expect(len(texts) == 1 and not found['datapaths'], '%s: %s', target, found)
            expect(texts[0].startswith(target + ' does not run, or not there: ')
                   and part in texts[0] and '|WARN|' not in texts[0]
                   and 'run directory %s, target %s:' % (lab.tmp, target) in texts[0],
                   '%s: %s', target, texts)
        context.note('%s', texts[0])


# -- A host -------------------------------------------------------------------

def findings(found, port):
    return [(f['state'], f['text']) for f in found['host'] if f['what'] == 'port ' + port]


def test_host(context):
    """Of ports and flows it says before the offload is on what they do then"""
    with context.lab(offload=False) as lab:
        a, b = lab.hosts
        lab.ovs.ofctl('add-flow', 'br0', 'priority=9,udp,udp_dst=7,actions=CONTROLLER,NORMAL')
        b.run('ethtool', '-K', 'eth0', 'gro', 'off')
        without = advise_json(context, lab=lab)
        b.run('ethtool', '-K', 'eth0', 'gro', 'on')
        with Stream(a, b, port=7, pps=300), Stream(a, b, port=8, pps=300):
            time.sleep(2)            # Until their figures outweigh the others'.
            found = advise_json(context, lab=lab)
            text = advise(context, lab=lab)
    expect(any(state == 'note' and 'GRO' in text for state, text in findings(
        without, b.port)), '%s', without['host'])
    expect(not any('GRO' in text for _, text in findings(found, b.port)), '%s',
           found['host'])
    expect({f['what'] for f in found['host'] if f['state'] == 'ok'} >= {
        'kernel', 'memory', 'Open vSwitch', 'port ' + a.port}, '%s', found['host'])
    judged, = found['datapaths']
    userspace = [r for r in judged['refused'] if r['reason'] == 'action/userspace']
    expect(len(userspace) == 1 and userspace[0]['flows'] == 1, '%s', judged)
    expect(abs(userspace[0]['share'] - 0.5) < 0.1
           and abs(judged['executed_share'] - 0.5) < 0.1, '%s', judged)
    context.show(text)


TESTS = [
    ('worth-flows', test_real_flows),
    ('worth-packets', test_packets),
    ('worth-saved', test_saved),
    ('worth-absent', test_absent),
    ('worth-host', test_host),
]
