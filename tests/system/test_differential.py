# SPDX-License-Identifier: Apache-2.0
"""Random rules and frames do the same with offload as without.

Two labs with the same hosts get the same random OpenFlow pipelines and the same
random frames; one has offload on, the other off, and is the oracle.  What
arrives at each host must be the same frames, each as often, those of one flow
in the same order; and rules and groups must have counted the same.

A round is one pipeline and 250 flows of 4 frames, made from one number.  The
first frame of each flow makes megaflows; when XDP has those that it takes, the
others are sent, and most should not come near OVS.  To repeat a round, put the
number that the test prints into the environment:

    DIFFERENTIAL_SEED=1234 DIFFERENTIAL_ROUNDS=1 ... run_tests.py ...

If there is a difference, rules and flows are left out as long as it remains,
and what is left is printed.
"""
import collections
import contextlib
import os
import random
import re
import time

from lab import PACKET_IGNORE_OUTGOING, SOL_PACKET, receive_whole, run, wait_for
from random_frames import N_HOSTS, identify, some_foci, templates
from random_rules import FDB, OF10, OF15, pipeline
from suite import Failed, expect, flows_in_tables

N_ROUNDS = 12
N_TEMPLATES = 250
N_FRAMES = 4                 # Of each template, the first one included.
BURST = 8                    # Frames between pauses: a veth holds 256.
PATIENCE = 3                 # Seconds for everything to arrive.
MAX_TRIALS = 60              # Runs spent on making a failure smaller, and
TRIAL_PATIENCE = 0.5         # their patience.


class Side:
    """A lab, one socket per host, and what has arrived."""

    def __init__(self, name, lab):
        self.name, self.lab = name, lab
        self.sockets = []
        for host in lab.hosts:
            expect(lab.ovs.of_port(host.port) == host.number,
                   '%s is not OpenFlow port %d', host.port, host.number)
            s = host.raw_socket()
            s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self.sockets.append(s)
        for port, vid, mac in FDB:
            lab.ovs.appctl('fdb/add', 'br0', 'p%d' % port, str(vid), mac)
        lab.ovs.ofctl('mod-port', 'br0', 'br0', 'no-flood')
        self.rules = lab.tmp + '/rules'

    def close(self):
        for s in self.sockets:
            s.close()

    def add(self, command, lines, dialect):
        with open(self.rules, 'w') as f:
            f.write('\n'.join(lines))
        self.lab.ovs.ofctl('-O' + dialect, command, 'br0', self.rules)

    def install(self, pipe):
        """Replaces rules and groups, and forgets all megaflows and frames."""
        ovs = self.lab.ovs
        # In this order, or the revalidators would adapt them all first.
        ovs.appctl('revalidator/purge')
        ovs.ofctl('del-flows', 'br0')
        ovs.ofctl('-O' + OF15, 'del-groups', 'br0')
        ovs.vsctl('set', 'Open_vSwitch', '.',
                  'other_config:vlan-limit=%d' % pipe.vlan_limit)
        self.add('add-groups', pipe.groups, OF15)
        for dialect in (OF10, OF15):
            self.add('add-flows', pipe.of(dialect), dialect)
        self.arrived = [[] for _ in self.sockets]
        self.receive()
        self.arrived = [[] for _ in self.sockets]

    def receive(self):
        """Takes what is there.  True if there was something."""
        before = sum(map(len, self.arrived))
        for s, frames in zip(self.sockets, self.arrived):
            with contextlib.suppress(BlockingIOError):
                while True:
                    frames.append(receive_whole(s, 0))
        return sum(map(len, self.arrived)) > before

    def counters(self):
        """(packets, bytes) of rules and buckets, by name."""
        ovs = self.lab.ovs
        ovs.appctl('revalidator/wait')
        counts = {}
        for line in ovs.ofctl('-O' + OF15, 'dump-flows', 'br0',
                              '--no-names').splitlines():
            m = re.search(r'cookie=0x(\w+),.*n_packets=(\d+), n_bytes=(\d+)',
                          line)
            if m:
                counts['rule %d' % int(m[1], 16)] = int(m[2]), int(m[3])
        for line in ovs.ofctl('-O' + OF15, 'dump-group-stats',
                              'br0').splitlines():
            group = re.search(r'group_id=(\d+)', line)
            for m in re.finditer(r'(bucket\d+):packet_count=(\d+),'
                                 r'byte_count=(\d+)', line):
                counts['group %s %s' % (group[1], m[1])] = int(m[2]), int(m[3])
        return counts


class Execution:
    """Who has executed what so far, in the lab with offload."""

    def __init__(self, lab):
        _, ports = lab.ovs.offload_show()
        self.in_xdp = sum(p['packets'] for p in ports.values())
        # Megaflows for packets that enter; others are for recirculated ones.
        self.flows = {f['ufid']: f for f in lab.ovs.flows()
                      if 'recirc_id(0)' in f['match']}

    def since(self, before):
        """(executed in XDP, of those whose megaflow XDP has)."""
        possible = sum(
            f['packets'] - before.flows.get(ufid, {'packets': 0})['packets']
            for ufid, f in self.flows.items() if f['offloaded'])
        return self.in_xdp - before.in_xdp, possible


def rejects(lab):
    """Number of refused megaflows by reason."""
    return {m[1]: int(m[2]) for m in re.finditer(
        r'^(\S+): (\d+) \(', lab.ovs.appctl('xdp-offload/rejects'), re.M)}


def wait_placed(lab):
    """Waits until each megaflow is in XDP or was refused."""
    def figures():
        return flows_in_tables(lab), rejects(lab)

    last, since = figures(), time.monotonic()
    deadline = since + PATIENCE
    while time.monotonic() < min(since + 0.25, deadline):
        time.sleep(0.05)
        now = figures()
        if now != last:
            last, since = now, time.monotonic()


def send(sides, chosen, sequences):
    """Sends frames to all labs, all flows in turn."""
    n = 0
    for sequence in sequences:
        for template in chosen:
            frame = template.frame(sequence)
            for side in sides:
                side.sockets[template.port - 1].send(frame)
            n += 1
            if n % BURST == 0:
                time.sleep(0.002)


def receive_all(sides, quiet=0.1):
    """Receives until nothing has arrived for a while."""
    last = time.monotonic()
    while time.monotonic() < last + quiet:
        if any([side.receive() for side in sides]):
            last = time.monotonic()
        time.sleep(0.01)


class Outcome:
    """What one run has shown."""

    def __init__(self, sides, executed, possible):
        self.executed, self.possible = executed, possible
        self.arrived = [side.arrived for side in sides]
        self.counters = [side.counters() for side in sides]

    def lost_and_found(self):
        """[(host, frame, with offload, without)] for different numbers."""
        found = []
        for host, lists in enumerate(zip(*self.arrived), 1):
            ours, theirs = (collections.Counter(frames) for frames in lists)
            found += [(host, frame, ours[frame], theirs[frame])
                      for frame in sorted(ours.keys() | theirs.keys())
                      if ours[frame] != theirs[frame]]
        return found

    def disordered(self):
        """[(host, template)] whose frames came in another order."""
        found = []
        for host, lists in enumerate(zip(*self.arrived), 1):
            orders = [collections.defaultdict(list) for _ in lists]
            for order, frames in zip(orders, lists):
                for frame in frames:
                    number = identify(frame)
                    # The first frames make the megaflows, in OVS.
                    if number and number[2]:
                        order[number[1]].append(frame)
            found += [(host, t) for t in orders[0]
                      if orders[0][t] != orders[1].get(t)]
        return found

    def miscounted(self):
        """[(rule or bucket, with offload, without)]."""
        ours, theirs = self.counters
        return [(name, ours.get(name), theirs.get(name))
                for name in sorted(ours.keys() | theirs.keys())
                if ours.get(name) != theirs.get(name)]

    def differs(self):
        return self.lost_and_found() or self.disordered() or self.miscounted()

    def suspects(self):
        """Numbers of the templates whose frames differ."""
        numbers = {t for _, t in self.disordered()}
        numbers |= {identify(frame)[1] for _, frame, _, _
                    in self.lost_and_found() if identify(frame)}
        return numbers

    def describe(self, limit=8):
        lines = []
        for host, frame, ours, theirs in self.lost_and_found()[:limit]:
            number = identify(frame)
            lines.append('at p%d, %d times with offload and %d without: %s\n  '
                         '%s' % (host, ours, theirs,
                                 'round %d, template %d, frame %d' % number
                                 if number else 'without a number',
                                 frame.hex()))
        lines += ['at p%d, template %d: in another order' % where
                  for where in self.disordered()[:limit]]
        lines += ['%s has counted %s with offload and %s without' % what
                  for what in self.miscounted()[:limit]]
        return '\n'.join(lines)


def play(sides, pipe, chosen, patience=PATIENCE):
    """One run: installs the rules, sends the frames, looks at all."""
    offloaded = sides[0].lab
    for side in sides:
        side.install(pipe)
    wait_for('an empty fast path',
             lambda: flows_in_tables(offloaded)[0] == 0)
    send(sides, chosen, [0])
    receive_all(sides)
    wait_placed(offloaded)
    before = Execution(offloaded)
    send(sides, chosen, range(1, N_FRAMES))
    deadline = time.monotonic() + patience
    while True:
        receive_all(sides)
        outcome = Outcome(sides, *Execution(offloaded).since(before))
        if not outcome.differs() or time.monotonic() > deadline:
            return outcome


# -- Making a failure smaller -------------------------------------------------

def shrink(items, fails, trials):
    """Leaves out items, halves first, as long as fails(items) is true."""
    size = max(1, len(items) // 2)
    while True:
        at = 0
        while at < len(items) and trials[0] > 0:
            fewer = items[:at] + items[at + size:]
            trials[0] -= 1
            if fails(fewer):
                items = fewer
            else:
                at += size
        if size == 1 or trials[0] <= 0:
            return items
        size //= 2


def smaller(sides, pipe, chosen, outcome):
    """Returns a failing (pipeline, templates, outcome), as small as is cheap.

    None for the outcome: it did not fail again.
    """
    trials = [MAX_TRIALS]
    best = [pipe, chosen, None]

    def fails(some_pipe, some):
        if not some:
            return False
        again = play(sides, some_pipe, some, TRIAL_PATIENCE)
        if again.differs():
            best[:] = some_pipe, some, again
        return bool(again.differs())

    suspects = [t for t in chosen if t.number in outcome.suspects()]
    if not fails(pipe, suspects[:1]) and not fails(pipe, chosen):
        return pipe, chosen, None
    shrink(best[1], lambda some: fails(pipe, some), trials)
    left = best[1]
    shrink(pipe.rules,
           lambda rules: fails(pipe.with_rules(rules), left), trials)
    return best


def report(sides, seed, pipe, chosen, outcome):
    pipe, chosen, last = smaller(sides, pipe, chosen, outcome)
    if last is None:
        text = 'It did not happen again.  It was:\n' + outcome.describe()
    else:
        text = last.describe()
        # The shrinking may have ended with a run that was right.
        play(sides, pipe, chosen)
    text += '\nWith these rules:\n%s\nand %d flows:\n' % (pipe, len(chosen))
    for template in chosen[:8]:
        text += '%s\n  %s\n' % (template, template.frame(1).hex())
    for side in sides:
        dump = side.lab.ovs.flows(raw=True).splitlines()
        text += '%s, megaflows:\n  %s\n' % (side.name, '\n  '.join(dump[:12]))
    return 'seed %d\n%s' % (seed, text)


# -- The test -----------------------------------------------------------------

def silence(lab):
    """Nobody in the lab sends anything of his own accord."""
    for netns in [lab.switch, *(host.netns for host in lab.hosts)]:
        run('ip', 'netns', 'exec', netns, 'sysctl', '-qw',
            'net.ipv6.conf.all.disable_ipv6=1')
    for host in lab.hosts:
        host.run('ip', 'addr', 'flush', 'dev', 'eth0')
        host.run('ip', 'link', 'set', 'eth0', 'arp', 'off')


def one_round(context, sides, seed, totals):
    r = random.Random(seed)
    foci = some_foci(r)
    pipe = pipeline(r, foci)
    chosen = templates(r, seed, N_TEMPLATES, foci)
    outcome = play(sides, pipe, chosen)
    totals['sent'] += N_TEMPLATES * (N_FRAMES - 1)
    totals['arrived'] += sum(map(len, outcome.arrived[0]))
    totals['executed'] += outcome.executed
    totals['possible'] += outcome.possible
    if outcome.differs():
        context.diagnosis += report(sides, seed, pipe, chosen, outcome)
        return False
    return True


def test_differential(context):
    """Random rules and frames do the same with offload as without."""
    seed = int(os.environ.get('DIFFERENTIAL_SEED')
               or random.SystemRandom().randrange(1 << 31))
    rounds = int(os.environ.get('DIFFERENTIAL_ROUNDS') or N_ROUNDS)
    totals = collections.Counter()
    with contextlib.ExitStack() as stack:
        sides = []
        for name, offload in (('with offload', True), ('without', False)):
            lab = stack.enter_context(context.lab(
                N_HOSTS, offload, acquainted=False, kind='afxdp-nonpmd'))
            silence(lab)
            sides.append(Side(name, lab))
            stack.callback(sides[-1].close)
        same = all(one_round(context, sides, seed + i, totals)
                   for i in range(rounds))
        reasons = rejects(sides[0].lab)
    context.note('seeds %d to %d', seed, seed + rounds - 1)
    context.note('after the first of each flow %d frames were sent, and XDP '
                 'executed %d of the %d whose megaflow it had',
                 totals['sent'], totals['executed'], totals['possible'])
    context.note('%d frames arrived', totals['arrived'])
    context.note('refused megaflows: %s', ', '.join(
        '%d %s' % (n, reason) for reason, n in sorted(
            reasons.items(), key=lambda x: -x[1])) or 'none')
    if not same:
        raise Failed('offload makes a difference')
    expect(2 * totals['executed'] >= totals['possible'],
           'XDP executed too few packets of its megaflows')
    # Two fifths when this was written; single rounds differ.
    expect(5 * totals['executed'] >= totals['sent'] or rounds < N_ROUNDS,
           'too many megaflows were refused')


TESTS = [
    ('differential', test_differential),
]
