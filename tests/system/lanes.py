# SPDX-License-Identifier: Apache-2.0
"""Several tests at a time, since most of a test is waiting.

Each lane is a process of run_tests.py with mounts, names and labs of its own, which
is told on its standard input which test comes next, and answers each with a line of
JSON.  Tests that measure how long something takes have the machine for themselves:
they come after all others, in the caller's process.
"""
import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading

# They judge rates, delays or how much of a core something takes.
ALONE = ('flags-and-used', 'busy-flow', 'idle-flow', 'full-table', 'killed',
         'slow-port', 'mask-explosion', 'flood-hits', 'flood-misses', 'top-searches',
         'top-many', 'top-restarted', 'slow-plugin', 'slow-plugin-flush',
         'connections-flood')


def split(names):
    """Those that can run beside each other, and those that cannot."""
    return ([name for name in names if name not in ALONE],
            [name for name in names if name in ALONE])


def serve(run_named):
    """What a lane does: runs what it is told.  'run_named' returns a result.

    What tests print by themselves goes to the standard error.
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for line in sys.stdin:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            result = run_named(line.strip())
        answers.write(json.dumps({'result': result, 'text': text.getvalue()}) + '\n')
        answers.flush()


class Lane:
    """One of the processes, and the thread that talks to it."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, name):
        """Runs a test.  Returns its result and what is to be printed."""
        line = ''
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(name + '\n')
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line.endswith('\n'):         # It ended, perhaps in the middle of it.
            return 'failed', 'FAILED %s: the process that ran it has ended, with %s\n' % (
                name, self.process.wait())
        answer = json.loads(line)
        return answer['result'], answer['text']

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def run_beside(names, n, command, last):
    """Runs the tests 'names' in 'n' lanes, each a 'command', and 'last' once in each.

    Returns the results by name, and the results of 'last'.
    """
    waiting = queue.Queue()
    for name in names:
        waiting.put(name)
    results, ends = {}, []
    lock = threading.Lock()

    def work():
        lane = Lane(command)
        with contextlib.suppress(queue.Empty):
            while True:
                name = waiting.get_nowait()
                result, text = lane.ask(name)
                with lock:
                    results[name] = result
                    print(text, end='', flush=True)
        result, text = lane.ask(last)
        with lock:
            ends.append(result)
            if result != 'passed':
                print(text, end='', flush=True)
        lane.end()

    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: results.get(name, 'failed') for name in names}, ends
