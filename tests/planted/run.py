#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plants each fault of faults.py and looks whether its test fails then.

usage: run.py --ovs DIR --tree DIR [--only TEXT]... [--not-yet] [--no-baseline]
              [--write-doc]

The sources are copied; a fault is put into the copy, what the test needs is built, the
test is run and must fail, and the fault is taken out again.  Before all that the tests
must pass without faults.  Needs root, as the tests do.

--ovs   made by ovs-plugin/build-ovs
--tree  made by ovs-plugin/build-ovs --tree: faults in Open vSwitch's own sources, the
        oracle, and the flows of real networks
--only  faults with this in what they are, in their file or in their test
--not-yet    those that docs/planted-faults.md has not seen yet
--write-doc  notes there what was seen, after each fault
"""
import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from faults import (BPF, COST, CT_ORACLE, FLOWS, GROUPS, ORACLE, OVS, OVS_4_0,
                    SYSTEM, UNIT)

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
DOCUMENT = 'docs/planted-faults.md'
NOT_YET = 'not yet'
BUILD = 'build/release'
TARGETS = {UNIT: ['unit_tests'], BPF: ['bpf_tests'], COST: ['cost_tests'],
           ORACLE: ['oracle'], CT_ORACLE: ['ct_oracle'], FLOWS: ['real_flows'],
           SYSTEM: ['ovs-offload-dump', 'ovs-offload-xdp', 'traffic']}
GTEST = {UNIT: 'tests/unit/unit_tests', BPF: 'tests/bpf/bpf_tests',
         COST: 'tests/bench/cost_tests', FLOWS: 'tests/flows/real_flows'}
TIMEOUT = 600                   # Seconds for a test.
ORACLE_PACKETS = '300000'
ORACLE_SEED = '1'               # The same flows and packets each time.
# A fault leaves things unused.  What has no fault is in the compiler's cache.
NO_WARNINGS = ('-Wno-unused-function -Wno-unused-variable '
               '-Wno-unused-but-set-variable -Wno-unused-parameter '
               '-Wno-unused-const-variable')
# If the kernel does not load a faulty program, every test fails: that says nothing.
NOT_LOADED = 'cannot load the XDP program'


class Unseen(Exception):
    """A fault that its test does not see, or that cannot be planted."""


def call(command, directory, **kwargs):
    """Returns (exit status, what it printed)."""
    done = subprocess.run(command, cwd=directory, text=True, errors='replace',
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **kwargs)
    return done.returncode, done.stdout


def must(command, directory, **kwargs):
    status, text = call(command, directory, **kwargs)
    if status:
        raise Unseen('%s: %s' % (' '.join(command), text[-2000:]))


def is_in_ovs(fault):
    return fault.path.startswith((OVS, OVS_4_0))


def is_4_0(tree):
    with open(os.path.join(tree, 'configure.ac')) as f:
        return 'AC_INIT(openvswitch, 4.0.' in f.read()


class Workshop:
    """A copy of the sources, and one of Open vSwitch's, in which faults are planted."""

    def __init__(self, directory, ovs, tree):
        self.top = os.path.join(directory, 'top')
        self.tree = os.path.join(directory, 'tree')
        self.ovs = os.path.join(directory, 'ovs')
        self.built_tree = tree
        self.env = dict(os.environ, CCACHE_BASEDIR=self.top,
                        CCACHE_NOHASHDIR='1', CCACHE_IGNOREOPTIONS='-Wno-*')
        shutil.copytree(TOP, self.top, symlinks=True,
                        ignore=shutil.ignore_patterns('build', '.git',
                                                      '__pycache__'))
        shutil.copytree(ovs, self.ovs, symlinks=True)
        self.configure(tree)

    def configure(self, tree):
        must(['cmake', '--preset', 'release', '-D', 'OVS_TREE=' + tree,
              '-D', 'CMAKE_CXX_FLAGS=' + NO_WARNINGS,
              '-D', 'BPFTOOL=' + os.path.join(self.top,
                                              'tests/planted/bpftool'),
              '-D', 'CMAKE_C_COMPILER_LAUNCHER=ccache',
              '-D', 'CMAKE_CXX_COMPILER_LAUNCHER=ccache'], self.top,
             env=self.env)

    def build(self, suite):
        must(['cmake', '--build', '--preset', 'release', '-j',
              str(os.cpu_count()), '--target', *TARGETS[suite]], self.top,
             env=self.env)

    def build_ovs(self):
        """Only what the fault has changed is compiled, but for the first time."""
        must(['make', '-s', '-j', str(os.cpu_count()),
              'vswitchd/ovs-vswitchd'], self.tree, env=dict(
                  os.environ, CCACHE_BASEDIR=self.tree, CCACHE_NOHASHDIR='1'))
        shutil.copy(os.path.join(self.tree, 'vswitchd/ovs-vswitchd'),
                    os.path.join(self.ovs, 'sbin'))

    def path(self, fault):
        if not is_in_ovs(fault):
            return os.path.join(self.top, fault.path)
        if not os.path.exists(self.tree):
            shutil.copytree(self.built_tree, self.tree, symlinks=True)
            self.configure(self.tree)   # For the oracles.
        return os.path.join(self.tree, fault.path.partition(':')[2])

    @contextlib.contextmanager
    def planted(self, fault):
        path = self.path(fault)
        with open(path) as f:
            before = f.read()
        n = before.count(fault.old)
        if n != 1:
            raise Unseen('what is to be replaced is %d times in %s' % (
                n, fault.path))
        write(path, before.replace(fault.old, fault.new))
        is_ovs = is_in_ovs(fault)
        try:
            if is_ovs:
                self.build_ovs()
            self.build(fault.suite)
            yield
        finally:
            write(path, before)
            if is_ovs:
                self.build_ovs()

    def run(self, suite, test):
        """Returns (whether it passed, what failed in a line, the output)."""
        run = {SYSTEM: self.run_system, ORACLE: self.run_oracle,
               CT_ORACLE: self.run_oracle}.get(suite, self.run_gtest)
        try:
            return run(suite, test)
        except subprocess.TimeoutExpired:
            raise Unseen('no end after %d s' % TIMEOUT) from None

    def run_gtest(self, suite, test):
        status, text = call(
            [os.path.join(BUILD, GTEST[suite]), '--gtest_brief=1',
             '--gtest_filter=' + test], self.top, timeout=TIMEOUT)
        failed = list(dict.fromkeys(re.findall(
            r'^\[  FAILED  \] (\w\S*?)(?:,| |$)', text, re.MULTILINE)))
        said = failed[:2]
        if len(failed) > 2:
            said.append('and %d more' % (len(failed) - 2))
        if status not in (0, 1):
            said.append('exit status %d' % status)
        return not status, ', '.join(said), text

    def run_system(self, _, test):
        status, text = call(
            ['/usr/bin/python3', 'tests/system/run_tests.py', '--ovs', self.ovs,
             '--plugin', os.path.join(self.top, BUILD, 'flowxlate'),
             '--test', test], self.top, timeout=TIMEOUT)
        verdict = re.search(r'^(ok|FAILED|skip) \d+ %s \(.*?\): (.*)$'
                            % re.escape(test), text, re.MULTILINE)
        if not verdict or verdict[1] == 'skip':
            raise Unseen('no verdict of %s: %s' % (test, text[-1000:]))
        return verdict[1] == 'ok' and not status, verdict[2], text

    def run_oracle(self, suite, _):
        status, text = call(
            [os.path.join(BUILD, 'tests/oracle', TARGETS[suite][0]),
             '--packets', ORACLE_PACKETS, '--seed', ORACLE_SEED], self.top,
            timeout=TIMEOUT)
        mismatch = re.search(r'^(?:MISMATCH[^:]*: |# )(.*)', text,
                             re.MULTILINE)
        return not status, mismatch[1] if mismatch else '', text


def write(path, text):
    with open(path, 'w') as f:
        f.write(text)


def see(shop, fault):
    """Returns what the test says of the fault."""
    with shop.planted(fault):
        passed, said, text = shop.run(fault.suite, fault.test)
    if NOT_LOADED in text:
        raise Unseen('the kernel does not load the program')
    if passed or not said:
        raise Unseen('the test passes' if passed else text[-1000:])
    return said


def check_baseline(shop, faults):
    """Without faults all of their tests must pass, at the second try if the machine
    is busy.  Returns what those say that do not, by suite and test."""
    failing = {}
    for suite in TARGETS:
        tests = dict.fromkeys(
            f.test for f in faults if f.suite == suite and not f.skip)
        if tests:
            shop.build(suite)
        for test in tests:
            passed, said, text = shop.run(suite, test)
            if not passed:
                passed, said, text = shop.run(suite, test)
            if not passed:
                failing[suite, test] = said or text[-1000:]
                print('without a fault %s %s fails: %s' % (
                    suite, test, failing[suite, test]), flush=True)
    return failing


# -- The document -------------------------------------------------------------

def cell(text):
    return re.sub(r'\s+', ' ', text).replace('|', '\\|').strip()


def key(fault):
    path = fault.path.replace(OVS, 'OVS: ').replace(OVS_4_0, 'OVS 4.0: ')
    return cell(fault.what), path, fault.suite


def read_document():
    with open(os.path.join(TOP, DOCUMENT)) as f:
        return f.read()


def read_seen(text):
    """What the document says was seen, by fault."""
    rows = re.findall(r'^\| (.*?) \| `(.*?)` \| ([\w-]+) `.*?` \| (.*) \|$', text,
                      re.MULTILINE)
    return {row[:3]: row[3] for row in rows if row[3] != NOT_YET}


def tables(seen):
    lines = []
    for group in GROUPS:
        lines += ['', '## ' + group.name, '',
                  '| fault | in | test | seen |', '|---|---|---|---|']
        lines += ['| %s | `%s` | %s `%s` | %s |' % (
            *key(fault), fault.test.replace('|', '\\|'),
            fault.skip if fault.skip
            else seen.get(key(fault), NOT_YET)) for fault in group.faults]
    return '\n'.join(lines) + '\n'


def write_document(fault=None, said=''):
    """Notes what was seen of the fault; other rows stay as they are."""
    text = read_document()
    seen = read_seen(text)
    if fault:
        seen[key(fault)] = cell(said)[:100]
    write(os.path.join(TOP, DOCUMENT),
          text[:text.index('\n## ')] + tables(seen))


# -- All of it ----------------------------------------------------------------

def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ovs', metavar='DIR', required=True)
    parser.add_argument('--tree', metavar='DIR', required=True)
    parser.add_argument('--only', metavar='TEXT', action='append')
    parser.add_argument('--not-yet', action='store_true')
    parser.add_argument('--no-baseline', action='store_true')
    parser.add_argument('--write-doc', action='store_true')
    return parser.parse_args()


def chosen(only, not_yet, tree):
    """The faults that there are in the tree's release."""
    seen = read_seen(read_document()) if not_yet else {}
    other_release = OVS if is_4_0(tree) else OVS_4_0
    faults = [f for group in GROUPS for f in group.faults if not only or any(
        text in ' '.join((f.what, f.path, f.suite, f.test)) for text in only)]
    return [f for f in faults
            if key(f) not in seen and not f.path.startswith(other_release)]


def report(number, word, fault, begin, said):
    print('%s %d %s %s (%.0f s): %s: %s' % (
        word, number, fault.suite, fault.test, time.monotonic() - begin,
        fault.what, said), flush=True)


def try_all(shop, faults, failing, note):
    """Calls 'note' with each fault that is seen, and what was.  Returns how many
    were seen, were not, and were skipped."""
    n_seen, n_failed, n_skipped = 0, 0, 0
    for number, fault in enumerate(faults, 1):
        begin = time.monotonic()
        if fault.skip:
            n_skipped += 1
            report(number, 'skip', fault, begin, fault.skip)
            continue
        try:
            if (fault.suite, fault.test) in failing:
                raise Unseen('the test fails without the fault, too')
            said = see(shop, fault)
        except Unseen as e:
            n_failed += 1
            report(number, 'FAILED', fault, begin, str(e))
            continue
        n_seen += 1
        note(fault, said)
        report(number, 'ok', fault, begin, said.partition('\n')[0][:160])
    return n_seen, n_failed, n_skipped


def main():
    args = parse_args()
    faults = chosen(args.only, args.not_yet, args.tree)
    note = write_document if args.write_doc else lambda fault, said: None
    if args.write_doc:
        write_document()        # With the rows of new faults.
    with tempfile.TemporaryDirectory(prefix='ovs-offload-planted.') as directory:
        os.chmod(directory, 0o755)      # Some tests run as nobody.
        shop = Workshop(directory, args.ovs, args.tree)
        failing = {} if args.no_baseline else check_baseline(shop, faults)
        n_seen, n_failed, n_skipped = try_all(shop, faults, failing, note)
    print('%d passed, %d failed, %d skipped' % (n_seen, n_failed, n_skipped))
    return 1 if n_failed else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Unseen as e:
        print('FAILED: %s\n0 passed, 1 failed, 0 skipped' % e)
        sys.exit(1)
