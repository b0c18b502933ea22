# SPDX-License-Identifier: Apache-2.0
"""Rates on a terminal, once or live."""
import contextlib
import select
import sys
import termios
import time
import tty

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .rates import choose, compare
from .sample import MAX_FLOWS, Unavailable

WIDTH_OF_FILES = 200  # Columns, if the output is no terminal.
KEYS = {'p': 'packets', 'b': 'bytes'}


def human(n):
    """1234567 -> '1.23M'; '-' for None."""
    if n is None:
        return '-'
    for unit in ('', 'k', 'M', 'G'):
        if n < 999.5:
            break
        n /= 1000
    else:
        unit = 'T'
    return ('%.3g' % n if unit or n != int(n) else '%d' % n) + unit


def percent(share):
    return '-' if share is None else '%.1f %%' % (100 * share)


def table(title, columns):
    """'columns' that begin with '>' are numbers."""
    result = Table(title=title, title_justify='left', box=None,
                   header_style='bold', pad_edge=False)
    for column in columns:
        result.add_column(column.lstrip('>'), no_wrap=True, justify='right'
                          if column.startswith('>') else 'left')
    return result


def port_table(view):
    t = table('Ports', ['PORT', 'XDP', 'STATE', '>FLOWS', '>XDP PKT/S',
                        '>XDP B/S', '>DROP/S', '>TO OVS/S', '>CACHE HITS',
                        '>REDIR ERR/S'])
    for p in view['ports']:
        state = ('left out' if p.get('left_out') else 'down' if not p['up']
                 else 'ok' if p['transmits'] else 'no transmit')
        t.add_row(Text(p['name']), p['mode'], state, human(p['flows']),
                  human(p['packets_per_s']), human(p['bytes_per_s']),
                  human(p['dropped_per_s']), human(p['passed_per_s']),
                  percent(p['flow_cache_hit_rate']),
                  human(p['redirect_errors_per_s']))
    return t


def flow_table(view, whole_text):
    t = table('Flows', ['PORT', '>PKT/S', '>B/S', '>PACKETS', 'STATE', 'FLOW'])
    if whole_text:
        t.columns[-1].no_wrap, t.columns[-1].overflow = False, 'fold'
    for f in view['flows']:
        # The port has a column of its own.
        text = f['text'] or 'ufid:' + f['ufid']
        text = text.replace('in_port(%s),' % f['in_port'], '', 1)
        t.add_row(Text(f['in_port']), human(f['packets_per_s']),
                  human(f['bytes_per_s']), human(f['packets']), f['state'],
                  Text(text))
    return t


def heading(view):
    t, s = view['tables'], view['since_start']
    return Text('%d of %d flows, %d of %d masks, %d flows refused, %d parked; '
                'since start %s packets, %s B; over %.1f s%s' % (
                    t['flows'], t['max_flows'], t['masks'], t['max_masks'],
                    t['refused_flows'], t['parked_flows'],
                    human(s['executed']['packets']),
                    human(s['executed']['bytes']), view['interval_s'],
                    ' (restarted)' if view['restarted'] else ''))


def draw(view, whole_text=False):
    return Group(heading(view), '', port_table(view), '',
                 flow_table(view, whole_text))


def print_once(view):
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    console.print(draw(view, whole_text=True))


@contextlib.contextmanager
def keyboard():
    """Yields a function that waits for a key; '' if none comes in time."""
    if not sys.stdin.isatty():
        def wait(seconds):
            time.sleep(seconds)
            return ''
        yield wait
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def read(seconds):
        ready, _, _ = select.select([fd], [], [], seconds)
        return sys.stdin.read(1) if ready else ''
    try:
        tty.setcbreak(fd)
        yield read
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Screen:
    """The live view: samples, draws, and heeds keys, until 'q'."""

    def __init__(self, source, interval, sort, n_flows, filter_text=''):
        self.source, self.interval = source, interval
        self.sort, self.n_flows, self.filter = sort, n_flows, filter_text
        self.last = None     # Sample.

    def look(self, console):
        """What to draw now."""
        try:
            sample = self.source.sample(MAX_FLOWS if self.filter else self.n_flows,
                                        self.sort)
        except Unavailable as e:
            return Text('waiting: %s' % e)
        before, self.last = self.last or sample, sample
        view = choose(compare(before, sample), self.filter, self.n_flows)
        # Ports, headings and the line at the bottom take the rest.
        room = console.height - len(view['ports']) - 8
        view['flows'] = view['flows'][:max(1, room)]
        return draw(view)

    def run(self):
        console = Console()          # Heeds NO_COLOR and TERM=dumb.
        if not console.is_interactive:
            return self.run_as_lines(console)
        with keyboard() as wait, Live(console=console, screen=True,
                                      auto_refresh=False) as live:
            while True:
                live.update(Group(self.look(console), Text(
                    '\nq: quit  p, b: sort by packets, bytes (%s)'
                    % self.sort, style='dim')), refresh=True)
                deadline = time.monotonic() + self.interval
                while True:
                    key = wait(max(0, deadline - time.monotonic()))
                    if key == 'q':
                        return None
                    self.sort = KEYS.get(key, self.sort)
                    if not key:
                        break

    def run_as_lines(self, console):
        """Where nothing can be drawn over: one view below the other, until Ctrl-C."""
        while True:
            console.print(self.look(console), '')
            time.sleep(self.interval)
