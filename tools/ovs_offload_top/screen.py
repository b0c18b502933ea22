# SPDX-License-Identifier: Apache-2.0
"""Rates on a terminal, once or live."""
import contextlib
import math
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn, Optional, Union

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .daemon import Unavailable
from .rates import History, choose, compare
from .sample import MAX_FLOWS, Json, Sample, Source

WIDTH_OF_FILES = 200  # Columns, if the output is no terminal.
KEYS = {'p': 'packets', 'b': 'bytes'}
# From nothing to the most.
MARKS, ASCII_MARKS = '▁▂▃▄▅▆▇█', '_.-=+*%#'
N_REASONS = 2         # Of a port that are shown.
OTHER_LINES = 8       # Of a view: titles, and the line at the bottom.


# -- Words --------------------------------------------------------------------

def human(n: Optional[float]) -> str:
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


def percent(share: Optional[float]) -> str:
    return '-' if share is None else '%.1f %%' % (100 * share)


def sparkline(rates: list[Optional[float]], marks: str = MARKS) -> str:
    """A mark for each rate, relative to the largest; none for None.  Any rate but 0 is
    more than nothing."""
    most = max((r for r in rates if r), default=1)
    return ''.join(' ' if r is None else marks[math.ceil(r / most * (len(marks) - 1))]
                   for r in rates)


def reasons(port: Json) -> str:
    """Why packets went to OVS, the most frequent reason first."""
    rates = list(port['passed_per_s_by_reason'].items())
    shown = ['%s %s' % (reason, human(rate)) for reason, rate in rates[:N_REASONS]]
    return ', '.join(shown + ['...'] * (len(rates) > N_REASONS))


def state(port: Json) -> Text:
    if port.get('left_out'):
        return Text('left out', 'yellow')
    if not port['up']:
        return Text('down', 'yellow')
    return Text('ok') if port['transmits'] else Text('no transmit', 'bold red')


def heading(view: Json) -> Text:
    t, s = view['tables'], view['since_start']
    return Text('%d of %d flows, %d of %d masks, %d flows refused, %d parked; '
                'since start %s packets, %s B; over %.1f s%s' % (
                    t['flows'], t['max_flows'], t['masks'], t['max_masks'],
                    t['refused_flows'], t['parked_flows'],
                    human(s['executed']['packets']),
                    human(s['executed']['bytes']), view['interval_s'],
                    ' (restarted)' if view['restarted'] else ''))


# -- Tables -------------------------------------------------------------------

class Column(NamedTuple):
    title: str
    value: Callable[[Json], Union[str, Text]]
    is_number: bool = True
    rank: int = 0         # A narrow terminal lacks columns with the highest ones.


def owner(ports: list[Json]) -> str:
    """Who has what XDP does not execute: xdp-flowerd's flows are filters of TC."""
    return 'TC' if ports and all(p.get('datapath') == 'tc' for p in ports) else 'OVS'


PORT_COLUMNS = (
    Column('PORT', lambda p: Text(p['name']), False),
    Column('XDP', lambda p: str(p['mode']), False, 6),
    Column('STATE', state, False, 1),
    Column('FLOWS', lambda p: human(p['flows']), rank=8),
    Column('XDP PKT/S', lambda p: human(p['packets_per_s'])),
    Column('XDP B/S', lambda p: human(p['bytes_per_s']), rank=4),
    Column('DROP/S', lambda p: human(p['dropped_per_s']), rank=5),
    Column('TO OVS/S', lambda p: human(p['passed_per_s'])),
    Column('CACHE HITS', lambda p: percent(p['flow_cache_hit_rate']), rank=9),
    Column('REDIR ERR/S', lambda p: human(p['redirect_errors_per_s']), rank=7),
    Column('TO OVS BECAUSE', lambda p: Text(reasons(p)), False, 2),
)


def history_column(history: History, marks: str) -> Column:
    return Column('HISTORY', lambda p: sparkline(list(history.rates.get(p['name'], ())),
                                                 marks), False, 3)


def empty_table(title: str) -> Table:
    return Table(title=title, title_justify='left', box=None, header_style='bold',
                 pad_edge=False)


def port_table(title: str, ports: list[Json], columns: list[Column]) -> Table:
    t = empty_table(title)
    for column in columns:
        t.add_column(column.title.replace('OVS', owner(ports)), no_wrap=True,
                     justify='right' if column.is_number else 'left')
    for p in ports:
        t.add_row(*(column.value(p) for column in columns))
    return t


def fitting_port_table(console: Console, title: str, ports: list[Json],
                       columns: list[Column]) -> Table:
    """With as many columns as the terminal is wide enough for."""
    unlimited = console.options.update(max_width=10000)
    while True:
        t = port_table(title, ports, columns)
        last = max(columns, key=lambda column: column.rank)
        if not last.rank or Measurement.get(
                console, unlimited, t).maximum <= console.width:
            return t
        columns = [column for column in columns if column is not last]


def flow_table(flows: list[Json], whole_text: bool) -> Table:
    t = empty_table('Flows')
    for title in ('PORT', '>PKT/S', '>B/S', '>PACKETS', 'STATE'):
        t.add_column(title.lstrip('>'), no_wrap=True,
                     justify='right' if title.startswith('>') else 'left')
    t.add_column('FLOW', overflow='fold')
    for f in flows:
        # The port has a column of its own.
        text = f['text'] or 'ufid:' + f['ufid']
        text = text.replace('in_port(%s),' % f['in_port'], '', 1)
        t.add_row(Text(f['in_port']), human(f['packets_per_s']),
                  human(f['bytes_per_s']), human(f['packets']), f['state'],
                  # The column is narrowed, not the others.
                  Text(text, no_wrap=not whole_text,
                       overflow='fold' if whole_text else 'ellipsis'))
    return t


def busiest(ports: list[Json], n: int) -> list[Json]:
    """Not more than n of them, in the order that they have."""
    def packets(port: Json) -> float:
        return float(port['packets_per_s'] + port['passed_per_s'])
    chosen = {p['name'] for p in sorted(ports, key=packets, reverse=True)[:n]}
    return [p for p in ports if p['name'] in chosen]


class Drawing:
    """What a console can show of a view."""

    def __init__(self, console: Console, history: Optional[History] = None) -> None:
        self.console = console
        self.columns = list(PORT_COLUMNS)
        if history:
            self.columns.append(history_column(
                history, ASCII_MARKS if console.options.ascii_only else MARKS))

    def draw(self, view: Json, height: Optional[int] = None) -> RenderableType:
        """'height': lines that there are, of which a flow may have one."""
        ports, flows = view['ports'], view['flows']
        title, head = 'Ports', heading(view)
        if height is not None:
            room = height - OTHER_LINES - len(head.wrap(self.console, self.console.width))
            ports = busiest(ports, max(1, room // 2))
            flows = flows[:max(1, room - len(ports))]
        if len(ports) < len(view['ports']):
            title = 'Ports (the busiest of %d)' % len(view['ports'])
        return Group(head, '',
                     fitting_port_table(self.console, title, ports, self.columns), '',
                     flow_table(flows, whole_text=height is None))


# -- Terminals ----------------------------------------------------------------

def make_console() -> Console:
    """Heeds NO_COLOR, and TERM=dumb.  What the encoding lacks is '?'."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='replace')
    os.environ['TERM'] = os.environ.get('TERM') or 'dumb'
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        return console
    return Console(width=shutil.get_terminal_size((WIDTH_OF_FILES, 0)).columns)


def print_once(view: Json) -> None:
    console = make_console()
    console.print(Drawing(console).draw(view))


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """Yields a function that waits for a key; '' if none comes in time."""
    if not sys.stdin.isatty():
        def wait(seconds: float) -> str:
            time.sleep(seconds)
            return ''
        yield wait
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def read(seconds: float) -> str:
        ready, _, _ = select.select([fd], [], [], seconds)
        return sys.stdin.read(1) if ready else ''
    try:
        tty.setcbreak(fd)
        yield read
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class Screen:
    """The live view: samples, draws, and heeds keys, until 'q'."""

    def __init__(self, source: Source, interval: float, sort: str, n_flows: int,
                 filter_text: str = '') -> None:
        self.source, self.interval = source, interval
        self.sort, self.n_flows, self.filter = sort, n_flows, filter_text
        self.last: Optional[Sample] = None
        self.history = History()

    def look(self, drawing: Drawing, height: Optional[int] = None) -> RenderableType:
        """What to draw now."""
        try:
            sample = self.source.sample(MAX_FLOWS if self.filter else self.n_flows,
                                        self.sort)
        except Unavailable as e:
            self.history.add_gap()
            return Text('waiting: %s' % e)
        view = compare(self.last or sample, sample)
        if self.last:
            self.history.add(view['ports'])
        self.last = sample
        return drawing.draw(choose(view, self.filter, self.n_flows), height)

    def run(self) -> None:
        console = make_console()
        if not console.is_interactive:
            self.run_as_lines(console)
        drawing = Drawing(console, self.history)
        with keyboard() as wait, Live(console=console, screen=True,
                                      auto_refresh=False) as live:
            key = ''
            while key != 'q':
                live.update(Group(self.look(drawing, console.height), Text(
                    '\nq: quit  p, b: sort by packets, bytes (%s)'
                    % self.sort, style='dim', no_wrap=True)), refresh=True)
                key = self.heed_keys(wait)

    def heed_keys(self, wait: Callable[[float], str]) -> str:
        """For an interval, or until 'q', which it returns."""
        deadline = time.monotonic() + self.interval
        while True:
            key = wait(max(0, deadline - time.monotonic()))
            self.sort = KEYS.get(key, self.sort)
            if key in ('', 'q'):
                return key

    def run_as_lines(self, console: Console) -> NoReturn:
        """Where nothing can be drawn over: one view below the other, until Ctrl-C."""
        drawing = Drawing(console, self.history)
        while True:
            console.print(self.look(drawing), '')
            time.sleep(self.interval)
