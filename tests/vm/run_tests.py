#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tests of the XDP program, the quickstart and the tests of the kernel
datapath, under other kernels.

For each kernel, in emulated machines of their own (tests/vm/run): tests/bpf
without those that take long, the quickstart, and the system tests that not
every kernel supports: of the kernel datapath, and of devices shared with other
programs.  And in a machine that is a guest on a tap of this machine's Open
vSwitch.  Needs root.  --ovs is a directory made by ovs-plugin/build-ovs,
--build one made by cmake.

A kernel that cannot be had is skipped; the oldest that the project promises
to run on must be there.
"""
import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

KERNELS = ('6.1', '6.12', 'newest')     # As tests/vm/get-kernel takes them.
REQUIRED = '6.1'
CANNOT_BE_HAD = 3                       # What get-kernel exits with then.

# In seconds; several times what it takes on two slow cores.
INSTALL_LIMIT = 600
GET_LIMIT = 600
BOOT_LIMIT = 240
BPF_LIMIT = 2700
QUICKSTART_LIMIT = 600
DATAPATH_LIMIT = 3600
SHARING_LIMIT = 600
GUEST_LIMIT = 300
TIDY_LIMIT = 10

# In the machine: says when it has booted, and in the end what the kernel has to
# complain about and what the command has written.  A processor that the
# emulator does not run for a while is a lockup to the kernel, and no complaint.
# Open vSwitch 3.1 counts no processors in the first ten seconds after boot, and
# then drops all that the kernel datapath misses (mended in later releases:
# "ovs-thread: Fix cpus not read for the first 10s").
BOOTED, RESULT = '@booted', '@result'
COMPLAINT = 'kernel log: '
RESULT_FILE = '/tmp/result.json'
INSIDE = '''
echo %s
while [ "$(cut -d. -f1 /proc/uptime)" -lt 11 ]; do sleep 0.5; done
"$@"
status=$?
dmesg | grep -E 'BUG:|WARNING:|Oops' | grep -v 'soft lockup' | sed 's/^/%s/'
echo %s
cat %s
exit $status
''' % (BOOTED, COMPLAINT, RESULT, RESULT_FILE)

# Tests of the program that take long, because they run it very often: this
# machine's own kernel is fast enough for them.
with open(TOP + '/tests/bpf/long.txt', encoding='utf-8') as f:
    LONG = f.read().split()

# Not with --quick: each loads the programs several times, and to verify one takes an
# emulated kernel ten seconds and more.
LOADING = ('Hook/Successor.MeetsAllSenders/*', 'Hook/Successor.DecidesNothingYet/*',
           'Hook/Successor.GetsCopies*', 'Hook/SharedProgramTest.IsTakenOver*')

# Of the kernel datapath with --quick: a flow's homes, and what must not get into XDP.
QUICK = ('kernel-homes', 'kernel-vlan-device', 'kernel-link-protocols',
         'kernel-move-port')

NOISE = 'libbpf: elf: skipping unrecognized'
COLUMNS = ('kernel', 'bpf tests', 'instructions verified',
           'bytes of machine code', 'load, ms', 'quickstart',
           'kernel datapath', 'shared devices', 'guest', 'seconds')


class Failed(Exception):
    pass


class Process:
    """A process with its children, whose phases must not take too long.

    It is not waited for before nobody can send it a signal any more: until
    then, its number is nobody else's.
    """

    def __init__(self, command, phase, limit):
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        self.timer = None
        self.late = None
        self.phase(phase, limit)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop_timer()
        if self.process.returncode is None:
            self.end()
            self.process.wait()
        self.process.stdout.close()

    def phase(self, name, limit):
        """From now on, 'limit' seconds are left; the phase before is over."""
        self.stop_timer()
        self.timer = threading.Timer(limit, self.expire, (name, limit))
        self.timer.start()

    def stop_timer(self):
        if self.timer:
            self.timer.cancel()
            self.timer.join()

    def expire(self, name, limit):
        self.late = '%s: not done after %d s, ended' % (name, limit)
        self.end()

    def exited(self, flags=os.WNOHANG):
        return os.waitid(os.P_PID, self.process.pid,
                         os.WEXITED | os.WNOWAIT | flags) is not None

    def end(self):
        """Ends all that is left, first with an opportunity to tidy up."""
        os.killpg(self.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + TIDY_LIMIT
        while not self.exited() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(self.process.pid, signal.SIGKILL)

    def lines(self):
        for line in self.process.stdout:
            yield line.decode(errors='replace').rstrip('\r\n')

    def status(self):
        """Waits for the end; raises Failed if that came by a time limit."""
        self.exited(flags=0)
        self.stop_timer()
        if self.late:
            raise Failed(self.late)
        return self.process.wait()


class Kernel:
    """One kernel: what is done with it, and what has come out."""

    def __init__(self, version):
        self.version = version
        self.row = dict.fromkeys(COLUMNS, '-')
        self.row['kernel'] = version
        self.passed, self.failed, self.skipped = 0, [], []
        self.datapath = {}      # What has become of each of its tests.

    def say(self, text):
        print('[%s] %s' % (self.version, text), flush=True)

    def fail(self, text):
        self.say('FAILED: ' + text)
        self.failed.append(text)

    def get(self):
        """Returns the kernel's directory, or None if it cannot be had."""
        last = ''
        with Process([HERE + '/get-kernel', self.version],
                     'getting the kernel', GET_LIMIT) as process:
            for last in process.lines():
                self.say(last)
            status = process.status()
        if status == CANNOT_BE_HAD:
            return None
        if status:
            raise Failed('get-kernel exited with %d' % status)
        return last

    def run(self, name, directory, limit, command, options=()):
        """Runs a command in a machine with these options; returns its status,
        the lines of its output and what it has written to RESULT_FILE."""
        lines, result, written = [], [], False
        machine = [HERE + '/run', '--kernel', directory,
                   '--timeout', str(BOOT_LIMIT + limit + 60), *options,
                   'sh', '-c', INSIDE, 'sh', *command]
        with Process(machine, name + ': boot', BOOT_LIMIT) as process:
            for line in process.lines():
                if line == BOOTED:
                    process.phase(name, limit)
                    self.say('%s: booted' % name)
                elif line == RESULT:
                    written = True
                elif written:
                    result.append(line)
                elif not line.startswith(NOISE):
                    lines.append(line)
                    self.say(line)
            status = process.status()
        for line in lines:
            if line.startswith(COMPLAINT):
                self.fail('%s: %s' % (name, line))
        return status, lines, parse('\n'.join(result))

    def test_bpf(self, directory, build, left_out):
        self.row['bpf tests'] = 'FAILED'
        status, lines, report = self.run(
            'bpf tests', directory, BPF_LIMIT,
            [build + '/tests/bpf/bpf_tests', '--gtest_brief=1',
             '--gtest_filter=-' + ':'.join(left_out),
             '--gtest_output=json:' + RESULT_FILE])
        tests = [(suite['name'] + '.' + test['name'], test)
                 for suite in report.get('testsuites', ())
                 for test in suite['testsuite']]
        failed = [name for name, test in tests if 'failures' in test]
        skipped = [name for name, test in tests if test['result'] == 'SKIPPED']
        for name in failed:
            self.fail('bpf tests: ' + name)
        if not tests or bool(status) != bool(failed):
            self.fail('bpf tests: exited with %d' % status)
        for name in skipped:
            self.say('skipped: ' + name)
        good = len(tests) - len(failed) - len(skipped)
        self.passed += good
        self.skipped += skipped
        if tests:
            self.row['bpf tests'] = '%d of %d' % (good, len(tests))
        self.note_verification(lines, dict(tests))

    def note_verification(self, lines, tests):
        """Picks what the test Cost.Verification prints, and what it takes,
        which is to load the program and to make its maps."""
        for line in lines:
            if line.startswith('instructions: '):
                words = line.split()
                self.row['instructions verified'] = words[1]
                self.row['bytes of machine code'] = words[3]
        if 'Cost.Verification' in tests:
            seconds = float(tests['Cost.Verification']['time'].rstrip('s'))
            self.row['load, ms'] = '%d' % (1000 * seconds)

    def test_quickstart(self, directory, build, ovs):
        self.row['quickstart'] = 'FAILED'
        status, _, result = self.run(
            'quickstart', directory, QUICKSTART_LIMIT,
            ['/usr/bin/python3', TOP + '/ovs-plugin/quickstart.py',
             '--ovs', ovs, '--plugin', build + '/flowxlate',
             '--json', RESULT_FILE])
        wrong = untrue(result)
        if status or wrong or not result:
            self.fail('quickstart: exited with %d; not true: %s'
                      % (status, ', '.join(wrong) or 'nothing'))
        else:
            self.row['quickstart'] = 'ok'
            self.passed += 1

    def test_system(self, column, filters, limit, directory, build, ovs):
        """System tests that not every kernel can run.  Returns what has become of
        each."""
        self.row[column] = 'FAILED'
        status, lines, _ = self.run(column, directory, limit,
                                    system_tests(filters, build, ovs))
        return self.note_system(column, status, lines)

    def test_guest(self, directory, build, ovs):
        """The kernel in a machine on a tap, which is a port of this kernel's.
        """
        self.row['guest'] = 'FAILED'
        command = ['env', 'OVS_OFFLOAD_GUEST_KERNEL=' + directory,
                   *system_tests(('tap-machine',), build, ovs)]
        lines = []
        with Process(command, 'guest', GUEST_LIMIT) as process:
            for line in process.lines():
                lines.append(line)
                self.say(line)
            status = process.status()
        self.note_system('guest', status, lines)

    def note_system(self, column, status, lines):
        """Counts what tests/system/run_tests.py says, and returns it by name."""
        results = [line.split()[0::2][:2] for line in lines
                   if re.match(r'(ok|FAILED|skip) \d+ ', line)]
        for word, name in results:
            if word == 'skip':
                self.skipped.append('%s: %s' % (column, name))
            elif word == 'FAILED':
                self.fail('%s: %s' % (column, name))
        good = sum(word == 'ok' for word, _ in results)
        self.passed += good
        if status or not good:
            self.fail('%s: exited with %d' % (column, status))
        else:
            self.row[column] = '%d of %d' % (good, len(results))
        return {name: word for word, name in results}

    def test(self, args):
        begin = time.monotonic()
        directory = None
        with self.failures_noted():
            directory = self.get()
            if not directory:
                self.miss()
        if directory:
            self.row['kernel'] = directory.rpartition('_')[2]
            with self.failures_noted():
                self.test_bpf(directory, args.build,
                              [*LONG, *LOADING] if args.quick else LONG)
            with self.failures_noted():
                self.test_quickstart(directory, args.build, args.ovs)
            with self.failures_noted():
                self.datapath = self.test_system(
                    'kernel datapath',
                    QUICK if args.quick else ('kernel-',), DATAPATH_LIMIT,
                    directory, args.build, args.ovs)
            if not args.quick:
                self.test_the_rest(directory, args)
        self.row['seconds'] = '%d' % (time.monotonic() - begin)

    def test_the_rest(self, directory, args):
        with self.failures_noted():
            self.test_system('shared devices', ('coexist',), SHARING_LIMIT,
                             directory, args.build, args.ovs)
        with self.failures_noted():
            self.test_guest(directory, args.build, args.ovs)

    @contextlib.contextmanager
    def failures_noted(self):
        try:
            yield
        except Failed as e:
            self.fail(str(e))

    def miss(self):
        text = 'kernel %s cannot be had' % self.version
        if self.version == REQUIRED:
            self.fail(text + ', and must not be left out')
        else:
            self.say('skipped: ' + text)
            self.skipped.append(text)


def system_tests(filters, build, ovs):
    return ['/usr/bin/python3', TOP + '/tests/system/run_tests.py',
            '--ovs', ovs, '--plugin', build + '/flowxlate',
            *('--filter=' + part for part in filters)]


def parse(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}


def untrue(values):
    """Names what is false or zero; packets to OVS may well be."""
    wrong = []
    for key, value in values.items():
        if isinstance(value, dict):
            wrong += untrue(value)
        elif not value and key != 'upcall_packets':
            wrong.append(key)
    return wrong


def print_table(rows):
    """As docs/kernels.md holds it; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ['-' * width for width in widths])
    print()
    for row in rows:
        print('| %s |' % ' | '.join(
            cell.ljust(width) for cell, width in zip(row, widths)))
    print()


def print_tables(kernels):
    """What has come out, and which test of the kernel datapath has passed where."""
    print_table([COLUMNS] + [[k.row[c] for c in COLUMNS] for k in kernels])
    names = dict.fromkeys(name for k in kernels for name in k.datapath)
    print_table([('test', *(k.row['kernel'] for k in kernels))]
                + [(name, *(k.datapath.get(name, '-') for k in kernels))
                   for name in names])


def install():
    """Installs what the emulated machine needs, so that no boot waits for it.
    """
    with Process([HERE + '/run', '--install'], 'installing packages',
                 INSTALL_LIMIT) as process:
        for line in process.lines():
            print(line, flush=True)
        if process.status():
            raise Failed('packages cannot be installed')


def prepare(description, add_arguments):
    """The command line's arguments.  From here on signals are exceptions, so that
    machines are ended."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--ovs', metavar='DIR', required=True)
    parser.add_argument('--build', metavar='DIR', required=True)
    add_arguments(parser)
    args = parser.parse_args()
    args.ovs, args.build = map(os.path.abspath, (args.ovs, args.build))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    return args


def add_arguments(parser):
    parser.add_argument('--quick', action='store_true',
                        help='of the kernel datapath some tests, and no shared '
                        'devices and no guest')
    parser.add_argument('--kernel', metavar='VERSION', action='append',
                        help='"newest" or a series; may be repeated (default: '
                        '%s)' % ', '.join(KERNELS))


def main():
    args = prepare(__doc__, add_arguments)
    try:
        install()
    except Failed as e:
        sys.exit('vm/run_tests.py: %s' % e)
    kernels = [Kernel(version) for version in args.kernel or KERNELS]
    for kernel in kernels:
        kernel.test(args)
    print_tables(kernels)
    for kernel in kernels:
        for text in kernel.failed:
            print('FAILED: [%s] %s' % (kernel.version, text))
        for text in kernel.skipped:
            print('skipped: [%s] %s' % (kernel.version, text))
    failed = sum(len(k.failed) for k in kernels)
    print('%d passed, %d failed, %d skipped' % (
        sum(k.passed for k in kernels), failed,
        sum(len(k.skipped) for k in kernels)))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
