# SPDX-License-Identifier: Apache-2.0
"""Runs OVS's own system tests over AF_XDP ports and reads what they say.

A Testsuite is made of a built OVS source tree and testsuite.at, which is OVS's
system-afxdp-testsuite with a switch for the offload.  It works in a directory
of its own; the tree is only read.  Each run of some tests has a sandbox (see
the script of that name), so runs may overlap, and a subdirectory with the
tests' logs.
"""
import contextlib
import dataclasses
import functools
import os
import re
import subprocess
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS_PER_TEST = 120      # Four of OVS's own time limits.

# Where atconfig says that things are; the programs are named to PATH.
ATCONFIG = '''\
at_testdir='.'
abs_builddir='{work}'
at_srcdir='{tree}/tests'
abs_srcdir='{tree}/tests'
at_top_srcdir='{tree}'
abs_top_srcdir='{tree}'
at_top_build_prefix='{tree}/'
abs_top_builddir='{tree}'
SHELL=/bin/bash
'''
PROGRAMS = ('utilities', 'vswitchd', 'ovsdb', 'vtep', 'tests')
MACROS = ('ovs-macros', 'ofproto-macros', 'system-common-macros',
          'system-userspace-macros', 'system-afxdp-macros', 'system-traffic')

RESULT = re.compile(r'^ *(\d+): .*? (ok|skipped|FAILED)(?: +\((\S+):(\d+)\))?$')


@dataclasses.dataclass
class Test:
    number: int
    name: str


@dataclasses.dataclass
class Result:
    verdict: str                # 'ok', 'skipped' or 'FAILED'.
    reason: str = ''            # Why it is not 'ok'.
    log: str = ''               # Of a test that failed: its end.
    flows: int = 0              # Put in XDP.
    packets: int = 0            # Executed there,
    tracked: int = 0            # and of these, by flows with ct().
    refused: dict = dataclasses.field(default_factory=dict)  # By reason.


class Testsuite:
    def __init__(self, tree, plugin, work):
        self.tree, self.plugin, self.work = tree, plugin, work
        self.script = work + '/testsuite'
        self.lock = threading.Lock()        # Guards the members below.
        self.n_runs = 0
        self.running = set()
        self.stopped = False
        # Its cache would be made in the tree.
        subprocess.run(
            ['autom4te', '--language=autotest', '--cache=' + work + '/cache',
             '-I', tree, '-o', self.script, HERE + '/testsuite.at'],
            cwd=tree, check=True)

    @functools.cached_property
    def version(self):
        """Of Open vSwitch."""
        text = ''.join(read_lines(self.tree + '/configure.ac'))
        return re.search(r'^AC_INIT\(openvswitch, ([\d.]+)', text, re.M)[1]

    def select(self, selection):
        """The tests that autotest's arguments, as '3-7' or '-k vlan', mean.

        It complains to stderr if they mean nothing.
        """
        out = subprocess.run(['/bin/bash', self.script, '--list', *selection],
                             cwd=self.work, stdout=subprocess.PIPE,
                             text=True).stdout
        return [Test(int(m[1]), m[2]) for m in re.finditer(
            r'^ *(\d+): \S+:\d+ +(.*?) *$', out, re.MULTILINE)]

    def stop(self):
        """Ends all runs; no other begins."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.kill()

    def run(self, tests, offload):
        """Runs the tests one after the other.  Results by number."""
        with self.lock:
            self.n_runs += 1
            work = '%s/%d' % (self.work, self.n_runs)
        os.mkdir(work)
        with open(work + '/atconfig', 'w') as f:
            f.write(ATCONFIG.format(work=work, tree=self.tree))
        os.symlink(self.tree + '/tests/atlocal', work + '/atlocal')
        out = self.run_script(work, tests, offload)
        results = {}
        for line in out.splitlines():
            if m := RESULT.match(line):
                results[int(m[1])] = self.result(work, m, offload)
        for test in tests:
            results.setdefault(test.number, Result(
                'FAILED', 'no result', log=out))
        return results

    def run_script(self, work, tests, offload):
        path = ':'.join([HERE + '/bin',
                         *(self.tree + '/' + d for d in PROGRAMS)])
        env = dict(os.environ, XDP_OFFLOAD='yes' if offload else 'no',
                   OVS_OFFLOAD_PLUGIN_DIR=self.plugin)
        command = [HERE + '/sandbox', '/bin/bash', self.script, '-d', '-C',
                   work, 'AUTOTEST_PATH=' + path,
                   *(str(t.number) for t in tests)]
        with self.lock:
            if self.stopped:
                return 'stopped\n'
            process = subprocess.Popen(
                command, cwd=work, env=env, stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.running.add(process)
        with process:
            try:
                return process.communicate(
                    timeout=SECONDS_PER_TEST * len(tests))[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return process.communicate()[0] + 'took too long\n'
            finally:
                with self.lock:
                    self.running.remove(process)

    def result(self, work, match, offload):
        """What became of one test, from the line that autotest printed."""
        number, verdict, file, line = match.groups()
        directory = '%s/testsuite.dir/%03d' % (work, int(number))
        result = Result(verdict)
        in_use = read_report(directory + '/xdp-offload.txt', result)
        if verdict == 'ok' and in_use != offload:
            result.verdict = 'FAILED'
            result.reason = 'the plugin was%s in use' % (' not' * offload)
        elif verdict == 'skipped':
            result.reason = self.skip_reason(file, int(line))
        elif verdict == 'FAILED':
            result.reason, result.log = failure(directory + '/testsuite.log')
        return result

    def skip_reason(self, file, line):
        """Why the check in this line of OVS's tests skips a test."""
        check = read_lines(self.tree + '/tests/' + file)[line - 1].strip()
        name = re.match(r'\w+', check)[0]
        condition = (skip_condition(check) or self.macros.get(name) or check)
        if condition == ':':
            return name + ': OVS says, not for the userspace datapath'
        if m := re.fullmatch(r'test \$HAVE_(\w+) = no', condition):
            return m[1].lower() + ' is not installed'
        return '`%s`' % condition

    @functools.cached_property
    def macros(self):
        """The conditions on which OVS's macros skip a test, by name."""
        conditions = {}
        for file in MACROS:
            text = ''.join(read_lines('%s/tests/%s.at' % (self.tree, file)))
            for definition in text.split('m4_define([')[1:]:
                # The last definition counts.
                name = definition.partition(']')[0]
                conditions[name] = skip_condition(definition)
        return conditions


def skip_condition(text):
    """The shell command on whose success the test is skipped, or None."""
    m = re.search(r'AT_SKIP_IF\(\[+(.*?)\]+\)', text)
    return m and m[1]


def read_lines(path):
    with open(path, errors='replace') as f:
        return f.readlines()


def failure(path):
    """The command that failed and what was wrong, and the end of the log."""
    lines = read_lines(path)
    # After the end of the checks come copies of other logs.
    text = [line for line in lines if not line.startswith('>')]
    commands = [i for i, line in enumerate(text)
                if re.match(r'\S+\.at:\d+: (?!exit |wait |hard |testing)',
                            line)]
    last = text[commands[-1] if commands else 0:]
    command = re.sub(r'^\S+: (waiting (until|while) )?', '', last[0]).strip()
    if command.endswith('NS_EXEC_HEREDOC') and len(last) > 1:
        command = last[1].strip()
    wrong = [line[1:].strip() for line in last
             if re.match(r'[-+](?![-+])', line)]
    wrong += [re.sub(r'^\S+: ', '', line).strip() for line in last
              if re.search(r'exit code was|wait failed', line)]
    return '`%s`: %s' % (command, '; '.join(wrong[:2])), ''.join(lines[-60:])


def read_report(path, result):
    """Adds up what each ovs-vswitchd of the test has said in the end.

    Returns True if the plugin has said something.
    """
    in_use = False
    sections = {}               # By command and process; the last one counts.
    with contextlib.suppress(FileNotFoundError):
        for section in ''.join(read_lines(path)).split('== ')[1:]:
            title, _, text = section.partition('\n')
            sections[title] = text
    for title, text in sections.items():
        if title.startswith('xdp-offload/show'):
            if m := re.search(r'flows put in XDP:(\d+), packets:(\d+),.*'
                              r' by ct\(\):(\d+)', text):
                in_use = True
                result.flows += int(m[1])
                result.packets += int(m[2])
                result.tracked += int(m[3])
        elif title.startswith('xdp-offload/rejects'):
            for reason, n in re.findall(r'^(\S+/\S+): (\d+)', text,
                                        re.MULTILINE):
                result.refused[reason] = result.refused.get(reason, 0) + int(n)
    return in_use
