# SPDX-License-Identifier: Apache-2.0
"""Do the documents lead anywhere?  Links, headings, files and system tests that they name.

    python3 tests/docs.py [TOP]

Prints what is not there, and "N passed, N failed, N skipped": a document each.
"""
import functools
import glob
import os
import re
import subprocess
import sys

LINK = re.compile(r'\]\(([^()\s]+)\)(?:, "([^"]+)")?')
CODE = re.compile(r'`([^`\n]+)`')
SYSTEM_TESTS = re.compile(r'\bsystem: ((?:`[^`]+`,?\s*)+)')
FENCED = re.compile(r'^```.*?^```', re.MULTILINE | re.DOTALL)
# What a build makes, and the names that an example invents.
NOT_TRACKED = re.compile(r'build/|patches/ovs-(OLD|NEW|RELEASE)/')

# A document with these lines must be refused for each of them: this test can fail.
PLANTED = [
    '[no file](docs/nowhere.md)',
    '[no heading](docs/design.md#no-such-heading)',
    '[no section](docs/design.md), "No such section"',
    '`flowxlate/no_such_file.cc`',
    '(system: `no-such-test`)',
    '(system: `traffic`, `no-such-*`)',
]


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def prose(text):
    """The text without its examples, of which nothing is looked at."""
    return FENCED.sub('', text)


def anchor(heading):
    """What a heading's anchor is called where the documents are read."""
    return re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-')


@functools.lru_cache(None)
def headings(path):
    return re.findall(r'^#+ (.+)$', prose(read(path)), re.MULTILINE)


@functools.lru_cache(None)
def system_tests(top):
    listed = subprocess.run(
        [sys.executable, os.path.join(top, 'tests/system/run_tests.py'), '--list'],
        text=True, stdout=subprocess.PIPE, check=True).stdout
    return re.findall(r'^ *\d+ (\S+)', listed, re.MULTILINE)


def dead_links(folder, text):
    for target, section in LINK.findall(text):
        if '://' in target:
            continue
        name, _, wanted = target.partition('#')
        path = os.path.normpath(os.path.join(folder, name)) if name else None
        if path and not os.path.exists(path):
            yield 'no file %s' % target
        elif wanted and path and wanted not in map(anchor, headings(path)):
            yield 'no heading for %s' % target
        elif section and section not in headings(path):
            yield 'no section "%s" in %s' % (section, target)
        elif wanted and not path and wanted not in map(
                anchor, re.findall(r'^#+ (.+)$', text, re.MULTILINE)):
            yield 'no heading for %s' % target


def dead_paths(top, text):
    """Files in `code` that begin with a folder of ours."""
    folders = tuple(d + '/' for d in os.listdir(top)
                    if os.path.isdir(os.path.join(top, d)))
    for words in CODE.findall(text):
        for word in words.split():
            path = re.sub(r'^\./|[:,;.]$', '', word)
            if path.startswith(folders) and not NOT_TRACKED.match(path) \
                    and not glob.glob(os.path.join(top, path)):
                yield 'no file %s' % path


def dead_tests(top, text):
    for names in SYSTEM_TESTS.findall(text):
        for name in CODE.findall(names):
            pattern = re.escape(name).replace(r'\*', '.*')
            if not any(re.fullmatch(pattern, t) for t in system_tests(top)):
                yield 'no system test %s' % name


def faults(top, folder, text):
    text = prose(text)
    yield from dead_links(folder, text)
    yield from dead_paths(top, text)
    yield from dead_tests(top, text)


def main():
    top = os.path.abspath(sys.argv[1] if len(sys.argv) > 1
                          else os.path.join(os.path.dirname(__file__), '..'))
    documents = subprocess.run(['git', '-C', top, 'ls-files', '*.md'], text=True,
                               stdout=subprocess.PIPE, check=True).stdout.split()
    failed = 0
    for name in documents:
        path = os.path.join(top, name)
        found = list(faults(top, os.path.dirname(path), read(path)))
        failed += bool(found)
        for fault in found:
            print('%s: %s' % (name, fault))
    blind = [line for line in PLANTED if len(list(faults(top, top, line))) != 1]
    for line in blind:
        print('not seen: %s' % line)
    failed += bool(blind)
    print('%d passed, %d failed, 0 skipped' % (len(documents) + 1 - failed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
