# SPDX-License-Identifier: Apache-2.0
"""Text of dpctl/dump-flows and dpctl/show: flows and ports.

OVS prints some things in another way than it reads them, and leaves out what it needs
to read a flow again.  Flow.input is what it can read.
"""
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional, Union

# Bare words in a list of actions that are no ports.
WORDS = {'drop', 'pop_vlan', 'pop_eth', 'pop_nsh', 'ct', 'ct_clear', 'dec_ttl'}
# Lists of actions within an action: their ports need numbers as well.
LISTS = ('clone', 'actions', 'gt', 'le')
TUNNELS = (('genev_sys_', 'geneve'), ('vxlan_sys_', 'vxlan'))

# A recirculation id, or the name or number of a port out of which packets come.
Where = tuple[str, Union[int, str]]


class Port(NamedTuple):
    name: str
    number: int
    type: Optional[str]                  # None if nobody says it.


class Flow:
    """A line of a dump."""

    def __init__(self, match: str, actions: str, packets: int) -> None:
        self.match, self.actions, self.packets = match, actions, packets
        self.in_port = first(r'\bin_port\(([^()]*)\)', match)
        self.recirc_id = number(first(r'\brecirc_id\(([^()/]*)', match))
        # Where its packets go on: recirculated, or taken out of a tunnel.
        self.next: list[Where] = [('recirc', number(n)) for n in re.findall(
            r'\brecirc\(([^()]*)\)', actions)]
        self.next += [('port', n) for n in re.findall(
            r'\btnl_pop\(([^()]*)\)', actions)]

    def ports(self) -> list[str]:
        """Names or numbers of all ports that it has to do with."""
        named = re.findall(r'\b(?:tnl_pop|tnl_port|out_port)\(([^()]*)\)', self.actions)
        return [self.in_port] + named + list(bare_ports(self.actions))

    def input(self, numbers: dict[str, int]) -> list[str]:
        """The match and the actions as OVS reads them, with ports' 'numbers'."""
        return [complete(readable(self.match, numbers))] + split(
            readable(self.actions, numbers))


class Dump:
    """All that was found in some texts."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []
        self.declared: dict[str, Port] = {}
        self.type: Optional[str] = None      # Of the datapath, if a text says it.

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.read_line(line.rstrip('\n'))

    def read_line(self, line: str) -> None:
        if line.startswith('#'):
            return
        if 'actions:' in line:
            self.flows.append(parse_flow(line))
        elif m := re.match(r'(netdev|system)@\S+:$', line):
            self.type = m[1]
        elif m := re.match(r'\s*port (\d+): (\S+)(?: \(([\w-]+)[:)])?', line):
            self.declared[m[2]] = Port(m[2], int(m[1]), m[3] or 'system')

    def ports(self) -> dict[str, Port]:
        """All ports, those that were not declared as well: they have the type None,
        and numbers of their own."""
        ports = dict(self.declared)
        by_number = {str(p.number): p for p in ports.values()}
        taken = set(by_number)
        taken.update(n for f in self.flows for n in f.ports() if n.isdigit())
        free = (n for n in range(1, 1 << 16) if str(n) not in taken)
        for name in sorted({n for f in self.flows for n in f.ports() if n}):
            if name not in ports and name not in by_number:
                kind = next((t for begin, t in TUNNELS if name.startswith(begin)), None)
                ports[name] = Port(name, int(name) if name.isdigit() else next(free), kind)
        return ports


def first(pattern: str, text: str) -> str:
    m = re.search(pattern, text)
    return m[1] if m else ''


def number(text: str) -> int:
    return int(text, 0) if text else 0


def parse_flow(line: str) -> Flow:
    line = re.sub(r'^\s*ufid:[^,]*, *', '', line)
    head, actions = line.split('actions:', 1)
    match = re.split(r', +', head, maxsplit=1)[0].rstrip(', ')
    return Flow(match, actions.split(', dp-extra-info:')[0].strip(),
                number(first(r'\bpackets:(\d+)', head)))


def split(actions: str) -> list[str]:
    """The actions of a list, those in brackets with the one that has them."""
    parts, depth = [''], 0
    for c in actions:
        depth += (c == '(') - (c == ')')
        if c == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += c
    return parts


def bare_ports(actions: str) -> Iterator[str]:
    for action in split(actions):
        name, bracket, rest = action.partition('(')
        if bracket and name in LISTS:
            yield from bare_ports(rest[:-1])
        elif name in ('sample', 'check_pkt_len'):
            yield from bare_ports(rest[:-1])
        elif not bracket and action not in WORDS and not re.search('[=:]', action):
            yield action


def readable(text: str, numbers: dict[str, int]) -> str:
    def word(m: re.Match[str]) -> str:
        word = m[0]
        if word in numbers:
            return str(numbers[word])
        return re.sub('^(src|dst)_port=', r'tp_\1=', word)
    text = re.sub(r'[^,()]+', word, text)
    return re.sub(r'\brecirc\((0x[0-9a-f]+)\)', lambda m: 'recirc(%d)' % int(m[1], 16),
                  text)


def complete(match: str) -> str:
    """OVS wants a tunnel's TTL, takes a packet without eth() for one that has no
    Ethernet header, and does not print how long a Geneve option is of which nothing
    is matched; OVN's have 4 bytes."""
    match = match.replace('geneve({})', 'geneve({class=0x102/0,type=0x80/0,len=4,0x0/0})')
    tunnel = first(r'\btunnel\((.*?)\),', match)
    if 'tunnel(' in match and 'ttl=' not in tunnel:
        match = match.replace('tunnel(', 'tunnel(ttl=0/0,', 1)
    return match if 'eth(' in match else match + ',eth()'
