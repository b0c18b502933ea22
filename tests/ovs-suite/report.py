# SPDX-License-Identifier: Apache-2.0
"""What came of each test without and with the offload, as a document."""
import collections

HEAD = '''\
# OVS's own tests, without and with the offload

`sudo ./tests/run --ovs %(release)s ovs-suite --write-doc` has written this page: Open
vSwitch %(version)s's system tests over AF_XDP ports (its `system-afxdp-testsuite`), each
without and with `hw-offload-plugin=xdp`.  Both times the hosts' veths have GRO, so that
they take redirected frames, and PMD threads may sleep; else the tests are as OVS
has them (`tests/ovs-suite/testsuite.at`).  What differs in a first attempt, or
fails both ways, runs again without much else on the machine; the last attempt
counts.
'''


class Outcome:
    """A test and all attempts, each (without, with), of which the last counts.
    """

    def __init__(self, test, attempts):
        self.test, self.attempts = test, attempts
        self.without, self.offloaded = attempts[-1]

    @property
    def verdict(self):
        """'passed', 'failed', or 'skipped': cannot run here."""
        if self.without.verdict != 'ok':
            return 'skipped'
        return 'passed' if self.offloaded.verdict == 'ok' else 'failed'

    @property
    def note(self):
        """What the attempts before the last one were like, if different."""
        seen = ['%s/%s' % tuple(r.verdict for r in a) for a in self.attempts]
        return ', then '.join(seen) if len(set(seen)) > 1 else ''

    @property
    def refused(self):
        return ', '.join('%s %d' % item for item in sorted(
            self.offloaded.refused.items(), key=lambda item: -item[1]))


def counts(outcomes):
    verdicts = [o.verdict for o in outcomes]
    return tuple(verdicts.count(v) for v in ('passed', 'failed', 'skipped'))


def table(head, rows):
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| %s |' % ' | '.join(
        str(cell).replace('|', '\\|') for cell in line) for line in lines)


def summary(outcomes):
    ran = [o.offloaded for o in outcomes if o.verdict != 'skipped']
    refused = collections.Counter()
    for o in outcomes:
        refused.update(o.offloaded.refused)
    text = '''
%d passed both ways, %d only without the offload, %d cannot run here.
With the offload %d flows were put in XDP, and %d packets were executed there,
in %d of the %d tests that can run here; of these packets %d by flows with ct(), in
%d tests.  A packet counts for each flow that it hits.  These flows were refused and
stayed in OVS:
''' % (*counts(outcomes), sum(r.flows for r in ran),
       sum(r.packets for r in ran), sum(r.packets > 0 for r in ran), len(ran),
       sum(r.tracked for r in ran), sum(r.tracked > 0 for r in ran))
    return text + '\n' + table(('reason', 'flows'), refused.most_common())


def document(outcomes, version):
    ran = [o for o in outcomes if o.verdict != 'skipped']
    cannot = [o for o in outcomes if o.verdict == 'skipped']
    head = HEAD % {'version': version,
                   'release': '.'.join(version.split('.')[:2])}
    parts = [head, summary(outcomes), '\n\n## Tests\n\n', table(
        ('test', 'name', 'without', 'with', 'flows put in XDP',
         'packets in XDP', 'by ct()', 'flows refused', 'other attempts'),
        [(o.test.number, o.test.name, o.without.verdict, o.offloaded.verdict,
          o.offloaded.flows, o.offloaded.packets, o.offloaded.tracked, o.refused,
          o.note)
         for o in ran])]
    parts += ['\n\n## Tests that cannot run here\n\n', table(
        ('test', 'name', 'without', 'with', 'why', 'other attempts'),
        [(o.test.number, o.test.name, o.without.verdict, o.offloaded.verdict,
          o.without.reason, o.note) for o in cannot])]
    return ''.join(parts) + '\n'


def failures(outcomes):
    """The ends of the logs of tests that pass only without the offload."""
    return ''.join('FAILED %d %s: %s\n%s\n' % (
        o.test.number, o.test.name, o.offloaded.reason, ''.join(
            '  | ' + line for line in o.offloaded.log.splitlines(True)))
        for o in outcomes if o.verdict == 'failed')
