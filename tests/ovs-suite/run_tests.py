#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""OVS's own system tests over AF_XDP ports, without and with the offload.

A test passes if it passes both ways, and fails if it does so only without the
offload.  One that OVS skips, or that fails without us as well, cannot run
here; the reason is taken from its log.  A test with different results runs
again up to twice.  Needs root.  --tree is what ovs-plugin/build-ovs
--tree prints, --plugin the directory that holds ovs-offload-xdp.so.
"""
import argparse
import concurrent.futures
import os
import signal
import sys
import tempfile
import time

import report
from autotest import Testsuite

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../docs')
FIRST_RELEASE = '3.1'   # Its page has no release in its name.

JOBS = 6                # Tests mostly wait.
RERUN_JOBS = 2
ENOUGH = 10             # Of so many tests, some must be executed in XDP.
TESTS_PER_RUN = 4       # A run takes a second to begin.
RERUNS_IF_DIFFERENT = 2
RERUNS_IF_FAILED = 1    # Both ways: was it only that the machine was busy?

# What --quick runs: all kinds of flows that are executed in XDP, and a few that
# are refused.
QUICK = (
    'AF_XDP - ping between pmd and non-pmd ports',
    'datapath - ping between two ports',
    'datapath - http between two ports',
    'datapath - ping6 between two ports',
    'datapath - ping6 between two ports with header modify',
    'datapath - ping over vxlan tunnel',
    'datapath - clone action',
    'datapath - encap mpls pop mpls actions',
    'datapath - basic truncate action',
    'datapath - simulated flow action update',
    'mpls - encap header dp-support',
    'mpls - decap header slow-path',
    'QoS - basic configuration',
    'conntrack - IPv4 ping',
    'conntrack - preserve registers',
    'conntrack - invalid',
    'conntrack - zones from field',
    'conntrack - ct_label',
    'conntrack - new connections',
    'conntrack - IPv4 fragmentation',
    'conntrack - IPv6 fragmentation',
    'conntrack - resubmit to ct multiple times',
    'conntrack - zone-based timeout policy',
    'conntrack - IPv4 HTTP',
    'conntrack - commit, recirc',
    'conntrack - simple SNAT',
    'conntrack - DNAT with additional SNAT',
    'conntrack - ICMP related with NAT',
    'conntrack - IPv6 HTTP with DNAT',
    'conntrack - DNAT load balancing with NC',
    'conntrack - floating IP',
    'IGMP - forward with ICMP',
    'nsh - decap header',
    'nsh - forward',
)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tree', metavar='DIR', required=True)
    parser.add_argument('--plugin', metavar='DIR', required=True)
    parser.add_argument('--jobs', metavar='N', type=int, default=JOBS,
                        help='run so many tests at once (default: %d)' % JOBS)
    parser.add_argument('--quick', action='store_true',
                        help='only a choice of tests, in a few minutes')
    parser.add_argument('--write-doc', action='store_true',
                        help='write the result to docs/ovs-suite.md too, of '
                        'another release than 3.1 to docs/ovs-suite-RELEASE.md')
    parser.add_argument('-k', metavar='KEYWORD', action='append', default=[],
                        help='only tests with this keyword')
    parser.add_argument('range', nargs='*', metavar='RANGE',
                        help='only these tests: 7, 1-20')
    return parser.parse_args()


def page(version):
    """The document about this version."""
    release = '.'.join(version.split('.')[:2])
    return os.path.join(DOCS, 'ovs-suite.md' if release == FIRST_RELEASE
                        else 'ovs-suite-%s.md' % release)


def selected(suite, args):
    """The tests to run, those with several keywords once."""
    chosen = {}
    for keyword in args.k:
        chosen.update((t.number, t) for t in suite.select(['-k', keyword]))
    if args.range or not args.k:
        chosen.update((t.number, t) for t in suite.select(args.range))
    tests = [chosen[number] for number in sorted(chosen)]
    return [t for t in tests if not args.quick or t.name in QUICK]


def run_both_ways(suite, tests, jobs):
    """Results by number: (without, with)."""
    n_runs = -(-len(tests) // TESTS_PER_RUN)
    results = ({}, {})
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        # Tests of one kind, which are neighbours, go to different runs.
        pending = {pool.submit(suite.run, tests[i::n_runs], offload): offload
                   for i in range(n_runs) for offload in (False, True)}
        try:
            for done in concurrent.futures.as_completed(pending):
                results[pending[done]].update(done.result())
                print('[%4d s] %d of %d' % (
                    time.monotonic() - begin, sum(map(len, results)),
                    2 * len(tests)), file=sys.stderr, flush=True)
        except BaseException:
            suite.stop()        # Or leaving the pool waits for all of them.
            raise
    return {t.number: (results[False][t.number], results[True][t.number])
            for t in tests}


def wants_rerun(attempts):
    """'attempts' are all the (without, with) of a test until now."""
    without, offloaded = (r.verdict for r in attempts[-1])
    if without != offloaded:
        return len(attempts) <= RERUNS_IF_DIFFERENT
    return without == 'FAILED' and len(attempts) <= RERUNS_IF_FAILED


def run_all(suite, tests, jobs):
    """All attempts at each test, by number."""
    attempts = {n: [r] for n, r in run_both_ways(suite, tests, jobs).items()}
    while again := [t for t in tests if wants_rerun(attempts[t.number])]:
        print('again: %s' % ' '.join(str(t.number) for t in again),
              file=sys.stderr, flush=True)
        for number, result in run_both_ways(
                suite, again, min(jobs, RERUN_JOBS)).items():
            attempts[number].append(result)
    return attempts


def main():
    args = parse_args()
    if os.geteuid():
        sys.exit('run_tests.py: needs root')
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix='ovs-suite.') as work:
        suite = Testsuite(os.path.abspath(args.tree),
                          os.path.abspath(args.plugin), work)
        tests = selected(suite, args)
        if not tests:
            sys.exit('run_tests.py: no such test')
        attempts = run_all(suite, tests, args.jobs)
    outcomes = [report.Outcome(t, attempts[t.number]) for t in tests]
    text = report.document(outcomes, suite.version)
    print(report.failures(outcomes) + text)
    if args.write_doc:
        with open(page(suite.version), 'w') as f:
            f.write(text)
    passed, failed, skipped = report.counts(outcomes)
    if passed > ENOUGH and not any(o.offloaded.packets for o in outcomes):
        print('FAILED: XDP has executed nothing, so this says nothing')
        failed += 1
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
