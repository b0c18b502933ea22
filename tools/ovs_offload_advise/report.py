# SPDX-License-Identifier: Apache-2.0
"""What was found, as an object and in words."""
import collections
import textwrap
from typing import Any, Optional

from .dump import Dump
from .host import Finding
from .packets import TOO_MANY, Ways
from .verdict import UNREADABLE, judge_flows

VERSION = 1                          # Of the object.
MEANINGS = {
    UNREADABLE: ('Open vSwitch cannot read the text of the flow.',
                 'Dump the flows with "ovs-appctl dpctl/dump-flows -m --names".'),
    TOO_MANY: ('The packet would pass more flows than XDP follows.',
               'Nothing: OVS executes these.')}
Judged = dict[str, Any]
DATAPATHS = {'netdev': 'userspace datapath', 'system': 'kernel datapath'}


def judge(name: str, dump: Dump, datapath: str) -> Judged:
    """What becomes of a dump's flows in a datapath of this type."""
    reasons, more = judge_flows(dump, datapath)
    packets = Ways(dump.flows, reasons).packets()
    total = sum(packets.values())
    flows = collections.Counter(reasons)

    def share(reason: str) -> Optional[float]:
        return packets[reason] / total if total else None

    def row(reason: str) -> Judged:
        known = more['reasons'].get(reason, {})
        meaning, remedy = MEANINGS.get(
            reason, (known.get('meaning', ''), known.get('remedy', '')))
        example = next((f for f, r in zip(dump.flows, reasons) if r == reason), None)
        return {'reason': reason, 'flows': flows[reason],
                'packets': round(packets[reason]), 'share': share(reason),
                'meaning': meaning, 'remedy': remedy,
                'example': example and '%s, actions:%s' % (example.match, example.actions)}

    refused = sorted((set(flows) | set(packets)) - {''},
                     key=lambda r: (-packets[r], -flows[r], r))
    return {'name': name, 'datapath': datapath, 'ports_are_known': bool(dump.declared),
            'flows': len(reasons), 'executed_flows': flows[''],
            'packets': round(total), 'executed_packets': round(packets['']),
            'executed_share': share(''), 'refused': [row(r) for r in refused],
            'masks': more['masks'], 'max_masks': more['max_masks'],
            'max_flows': more['max_flows'],
            'unread': ['%s: %s' % (why, match) for match, why in more['unread']]}


def percent(share: float) -> str:
    return '%.3g %%' % (100 * share)


def sentence(judged: Judged) -> str:
    """The verdict in a line."""
    if not judged['flows']:
        return 'There are no flows.'
    if judged['executed_share'] is None:
        return '%d of %d flows could be in XDP (none has packets).' % (
            judged['executed_flows'], judged['flows'])
    needs = ['%s %s' % (percent(r['share']), r['reason'])
             for r in judged['refused'] if r['share']]
    return '%s of the packets could be in XDP%s.' % (
        percent(judged['executed_share']),
        '; not: ' + ', '.join(needs) if needs else '')


def add_rows(lines: list[str], judged: Judged) -> None:
    for r in judged['refused']:
        lines += ['', '  %s: %d flow%s%s' % (
            r['reason'], r['flows'], '' if r['flows'] == 1 else 's',
            '' if r['share'] is None else ', %s of the packets' % percent(r['share']))]
        for title, text in (('What it means', r['meaning']), ('What to do', r['remedy'])):
            if text:
                lines += textwrap.wrap('%s: %s' % (title, text), 92,
                                       initial_indent='    ', subsequent_indent='      ')
        if r['example']:
            lines.append('    One of them: ' + r['example'])


def words(findings: list[Finding], judged: list[Judged]) -> str:
    lines: list[str] = []
    for f in findings:
        lines += ['%-4s %s: %s' % (f.state, f.what, f.text)]
        if f.remedy:
            lines.append('       ' + f.remedy)
    for j in judged:
        lines += ([''] if lines else []) + ['%s, as flows of the %s:' % (
            j['name'], DATAPATHS[j['datapath']]), '  ' + sentence(j)]
        if not j['flows']:
            continue
        lines.append('  %d of %d flows, %d of %d masks; %d packets since these flows were '
                     'made.' % (j['executed_flows'], j['flows'], j['masks'], j['max_masks'],
                                j['packets']))
        if not j['ports_are_known']:
            lines.append('  All ports are taken for ports that XDP can serve, as the text '
                         'does not have what dpctl/show prints.')
        add_rows(lines, j)
    return '\n'.join(lines)
