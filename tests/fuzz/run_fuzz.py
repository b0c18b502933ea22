#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzzers, each for some seconds, starting from tests/fuzz/corpus.

Needs no root.  --build is the directory with the programs, that of CMake's
preset "fuzz".  An input that a program fails on is printed in hex; run it
again with --input.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# Of (name, longest input, what is tested).
FUZZERS = [
    ('match', 512, "decode_match(): each bit of a mask decides"),
    ('actions', 256, "decode_actions(): what is done is what was asked for"),
    ('table', 304, "FlowTable: a reader finds what a model knows"),
]

# What a fuzzer itself is to stop at.
LIMITS = ['-timeout=10', '-rss_limit_mb=2048']


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', metavar='DIR', required=True)
    parser.add_argument('--seconds', metavar='N', type=int, default=20,
                        help='for each fuzzer (default: %(default)s)')
    parser.add_argument('--only', metavar='NAME',
                        choices=[name for name, _, _ in FUZZERS])
    parser.add_argument('--input', metavar='HEX',
                        help='run this one input, of the fuzzer --only names')
    parser.add_argument('--save', action='store_true',
                        help='add what was found to the corpus, minimised')
    args = parser.parse_args()
    if args.input is not None and not args.only:
        parser.error('--input needs --only')
    if args.seconds < 1:
        parser.error('--seconds must be at least 1')
    return args


# -- The corpus: a text file per fuzzer, an input in hex per line. ------------

def corpus_file(name):
    return os.path.join(HERE, 'corpus', name + '.txt')


def read_corpus(name):
    if not os.path.exists(corpus_file(name)):
        return []
    with open(corpus_file(name)) as f:
        return [bytes.fromhex(line) for line in f
                if not line.startswith('#')]


def unpack(inputs, directory):
    for number, data in enumerate(inputs):
        with open(os.path.join(directory, '%04d' % number), 'wb') as f:
            f.write(data)


def minimised(program, directory):
    """The inputs in 'directory' that reach an edge which no shorter one does.
    """
    with tempfile.TemporaryDirectory() as small:
        # Without counters: being somewhere more often is not kept.
        subprocess.run([program, '-merge=1', '-use_counters=0', *LIMITS,
                        small, directory],
                       check=True, stderr=subprocess.DEVNULL)
        return read_inputs(small)


def read_inputs(directory):
    inputs = []
    for entry in os.scandir(directory):
        with open(entry.path, 'rb') as f:
            inputs.append(f.read())
    return inputs


def save_corpus(program, name, directory):
    inputs = minimised(program, directory)
    inputs.sort(key=lambda data: (len(data), data))
    with open(corpus_file(name), 'w') as f:
        f.write('# SPDX-License-Identifier: Apache-2.0\n'
                '# Inputs of %s_fuzzer; run_fuzz.py --save writes this.\n'
                % name)
        for data in inputs:
            f.write(data.hex() + '\n')


# -- Runs ---------------------------------------------------------------------

def last_number(pattern, text):
    numbers = re.findall(pattern, text, re.MULTILINE)
    return int(numbers[-1]) if numbers else 0


def figures(text):
    return '%d executions, %d edges, corpus of %d' % (
        last_number(r'^stat::number_of_executed_units:\s*(\d+)', text),
        last_number(r'\bcov: (\d+)', text),
        last_number(r'\bcorp: (\d+)', text))


def diagnosis(text):
    """From where the failure begins, without libFuzzer's progress."""
    lines = [line for line in text.splitlines()
             if line.strip() and not re.match(r'#\d+\s|INFO:|stat::', line)]
    begin = next((i for i, line in enumerate(lines)
                  if re.search(r'not true:|ERROR:|runtime error:', line)), 0)
    return ''.join('  | %s\n' % line for line in lines[begin:begin + 25])


def reproducers(directory):
    return ''.join('  reproducer: %s\n' % data.hex()
                   for data in read_inputs(directory))


def fuzz(program, name, max_len, text, args):
    """Returns whether nothing was found."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as top:
        corpus, crashes = os.path.join(top, 'c'), os.path.join(top, 'x')
        os.mkdir(corpus)
        os.mkdir(crashes)
        unpack(read_corpus(name), corpus)
        run = subprocess.run(
            [program, '-max_total_time=%d' % args.seconds,
             '-max_len=%d' % max_len, '-len_control=0',
             '-print_final_stats=1', *LIMITS,
             '-artifact_prefix=%s/' % crashes, corpus],
            stderr=subprocess.PIPE, text=True, errors='replace')
        log, found = run.stderr, reproducers(crashes)
        ok = run.returncode == 0 and not found
        print('%s %s (%.1f s): %s; %s' % (
            'ok' if ok else 'FAILED', name, time.monotonic() - begin, text,
            figures(log)))
        if not ok:
            print(diagnosis(log) + found, end='')
        elif args.save:
            save_corpus(program, name, corpus)
    sys.stdout.flush()
    return ok


def run_input(program, data):
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        return subprocess.run([program, *LIMITS, f.name]).returncode


def main():
    args = parse_args()

    def program(name):
        return os.path.join(args.build, 'tests', 'fuzz', name + '_fuzzer')

    if args.input is not None:
        return run_input(program(args.only), bytes.fromhex(args.input))
    results = [fuzz(program(name), name, max_len, text, args)
               for name, max_len, text in FUZZERS
               if args.only in (None, name)]
    print('%d passed, %d failed, 0 skipped' % (
        results.count(True), results.count(False)))
    return 0 if all(results) else 1


if __name__ == '__main__':
    sys.exit(main())
