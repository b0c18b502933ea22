#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""System tests: a real Open vSwitch with our plugin and hosts around it.

Needs root.  --ovs is a directory made by ovs-plugin/build-ovs, --plugin the
one that holds ovs-offload-xdp.so.  A test that is skipped though skips.py does not
expect it here has failed.  With --next-ovs the tests are others: that release replaces
the one of --ovs, and is replaced by it.
"""
import argparse
import os
import sys
import time
import traceback

import lanes
import mounts
import skips
import test_advice
import test_bugtool
import test_coexistence
import test_config
import test_connections
import test_counters
import test_differential
import test_dump
import test_explain
import test_explosion
import test_hook
import test_identity
import test_kernel_ct
import test_kernel_datapath
import test_kernel_entrance
import test_kernel_hook
import test_left_out
import test_nested
import test_overlays
import test_persistence
import test_ports
import test_privileges
import test_prometheus
import test_provisioned
import test_redirect_errors
import test_shared
import test_restart
import test_slow_path
import test_status
import test_tap
import test_top
import test_traffic
import test_trouble
import test_tunnels
import test_upgrade
import test_widened
import test_worth
from lab import run, wait_for
from suite import Context, Failed, Skipped

# Of (name, function); the function's text says what is tested.
TESTS = (test_traffic.TESTS + test_counters.TESTS + test_ports.TESTS
         + test_identity.TESTS + test_config.TESTS + test_explain.TESTS
         + test_advice.TESTS
         + test_restart.TESTS + test_persistence.TESTS + test_privileges.TESTS
         + test_trouble.TESTS + test_widened.TESTS
         + test_differential.TESTS
         + test_kernel_datapath.TESTS + test_kernel_entrance.TESTS
         + test_kernel_hook.TESTS + test_kernel_ct.TESTS
         + test_hook.TESTS
         + test_explosion.TESTS + test_top.TESTS + test_prometheus.TESTS
         + test_provisioned.TESTS
         + test_coexistence.TESTS
         + test_tap.TESTS + test_slow_path.TESTS + test_connections.TESTS
         + test_nested.TESTS + test_overlays.TESTS + test_tunnels.TESTS
         + test_worth.TESTS
         + test_dump.TESTS + test_bugtool.TESTS + test_left_out.TESTS
         + test_status.TESTS + test_redirect_errors.TESTS + test_shared.TESTS)

# Half a minute and more each, and others look at the same in less: for
# "tests/run nightly", and for who names them.
NIGHTLY = ('advice-many', 'port-flapping', 'identity-names', 'explain-forget',
           'kept-late-controller', 'kept-restore-wait', 'kept-user',
           'kept-reasons', 'slow-port', 'flood-hits', 'flood-misses',
           'connections-flood', 'prometheus', 'bugtool', 'port-orders',
           'mask-explosion', 'tunnels-both', 'counters-del-flows')


# How many failures may be the machine's.  More are looked at as they are.
RECHECKED = 8


def describe(function):
    return function.__doc__.splitlines()[0].rstrip('.')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ovs', metavar='DIR')
    parser.add_argument('--plugin', metavar='DIR')
    parser.add_argument('--next-ovs', metavar='DIR',
                        help='another release, as --ovs: run the tests of upgrades')
    parser.add_argument('--hook', choices=('xdp', 'tc', 'auto'), default='xdp',
                        help='where programs are in tests of the kernel datapath '
                        'that do not say it (default: xdp)')
    parser.add_argument('--filter', metavar='SUBSTRING', action='append',
                        help='run the tests with this in their name; may be '
                        'repeated')
    parser.add_argument('--test', metavar='NAME', action='append',
                        help='run the test of that name; may be repeated')
    parser.add_argument('--nightly', action='store_true',
                        help='also those that take long')
    parser.add_argument('--lanes', metavar='N', type=int, default=1,
                        help='run N tests at a time, but for those that need the '
                        'machine for themselves (default: 1)')
    parser.add_argument('--recheck', action='store_true',
                        help='run up to %d tests that failed once again, alone: a busy '
                        'machine fails those, a fault fails twice' % RECHECKED)
    parser.add_argument('--lane', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--list', action='store_true',
                        help='print the tests and their numbers')
    args = parser.parse_args()
    if not args.list and not (args.ovs and args.plugin):
        parser.error('--ovs and --plugin are needed')
    return args


def is_chosen(args, name):
    if args.filter or args.test:
        return (name in (args.test or ())
                or any(part in name for part in args.filter or ()))
    return args.nightly or name not in NIGHTLY


def run_test(number, name, function, context):
    """Returns 'passed', 'failed' or 'skipped'."""
    begin = time.monotonic()
    context.notes, context.shown, context.diagnosis = [], '', ''

    def report(word, text):
        print('%s %d %s (%.1f s): %s' % (
            word, number, name, time.monotonic() - begin,
            '; '.join([text, *context.notes])))
        print(context.shown, end='', flush=True)

    try:
        function(context)
    except Skipped as e:
        if skips.expected(name):
            report('skip', str(e))
            return 'skipped'
        report('FAILED', 'skipped, which is not expected here: %s' % e)
        return 'failed'
    except Exception as e:
        report('FAILED', str(e) or type(e).__name__)
        if not isinstance(e, Failed):
            print(traceback.format_exc(limit=-4), end='')
        print(context.diagnosis, end='', flush=True)
        return 'failed'
    report('ok', describe(function))
    return 'passed'


def test_nothing_left(context):
    """No namespace, process, directory or BPF program of these tests is left.
    """
    try:
        # The kernel frees programs some time after their last user is gone.
        wait_for('clean-up', lambda: not context.leftovers(), timeout=5)
    except RuntimeError:
        raise Failed(', '.join(context.leftovers()) + ' left') from None
    if 'xdp' in run('ip', '-d', 'link') and not context.had_xdp:
        raise Failed('an XDP program is on a device of the main namespace')


def run_all(context, tests, names, args):
    """Runs the tests, several at a time if that is wanted.  Returns their results."""
    numbered = {name: (number, name, function) for number, (name, function)
                in enumerate([*tests, ('nothing-left', test_nothing_left)], 1)}

    def run_named(name):
        return run_test(*numbered[name], context)

    if args.lane:
        lanes.serve(run_named)
        return {}
    results, ends = {}, []
    if args.lanes > 1:
        beside, names = lanes.split(names)
        results, ends = lanes.run_beside(
            beside, min(args.lanes, len(beside)),
            [sys.executable, *sys.argv, '--lane'], 'nothing-left')
    results |= {name: run_named(name) for name in names}
    if args.recheck:
        results |= recheck(results, run_named)
    results['nothing-left'] = run_named('nothing-left')
    if 'failed' in ends:
        results['nothing-left'] = 'failed'
    return results


def recheck(results, run_named):
    """Runs again what has failed, if that is little.  Returns the new results."""
    failed = [name for name, result in results.items() if result == 'failed']
    if not failed or len(failed) > RECHECKED:
        return {}
    print('== once again, alone: ' + ', '.join(failed), flush=True)
    again = {name: run_named(name) for name in failed}
    passed = [name for name in failed if again[name] != 'failed']
    if passed:
        print('passed the second time: ' + ', '.join(passed))
    return again


def main():
    args = parse_args()
    tests = test_upgrade.TESTS if args.next_ovs else TESTS
    if args.list:
        for number, (name, function) in enumerate(tests, 1):
            print('%2d %-18s %s' % (number, name, describe(function)))
        return 0
    if os.geteuid():
        sys.exit('run_tests.py: needs root')

    mounts.enter()
    context = Context(os.path.abspath(args.ovs), os.path.abspath(args.plugin),
                      args.next_ovs and os.path.abspath(args.next_ovs),
                      args.hook)
    context.had_xdp = 'xdp' in run('ip', '-d', 'link')
    chosen = [name for name, _ in tests if is_chosen(args, name)]
    if not chosen:
        sys.exit('run_tests.py: no test has that name, or that in it: '
                 + ', '.join((args.filter or []) + (args.test or [])))
    results = run_all(context, tests, chosen, args)
    if args.lane:
        return 0
    skipped = [name for name, result in results.items() if result == 'skipped']
    if skipped:
        print(skips.summary(skipped))
    if not (args.nightly or args.filter or args.test or args.next_ovs):
        print('left to "tests/run nightly": ' + ', '.join(NIGHTLY))
    counts = list(results.values())
    print('%d passed, %d failed, %d skipped' % tuple(
        counts.count(r) for r in ('passed', 'failed', 'skipped')))
    return 1 if 'failed' in counts else 0


if __name__ == '__main__':
    sys.exit(main())
