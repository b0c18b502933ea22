# SPDX-License-Identifier: Apache-2.0
"""Says whether Open vSwitch's flows on this host could be executed in XDP.

Looks at the host and at its datapath flows, with the Open vSwitch that runs, whichever
it is; changes nothing.  Saved flows are taken instead with --flows, from a file that
"(ovs-appctl dpctl/show; ovs-appctl dpctl/dump-flows -m --names)" has written.
"""
import argparse
import json
import sys
from typing import Optional

from . import VERSION, host, report
from .daemon import Daemon, Unavailable
from .dump import Dump
from .verdict import Missing


def parse_args(args: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='ovs-offload-advise', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-t', '--target', default='ovs-vswitchd',
                        help='ovs-vswitchd, or the path of its control socket, as in '
                        'ovs-appctl -t')
    parser.add_argument('--flows', action='append', metavar='FILE',
                        help='a dump to read instead of looking at the host; "-" is '
                        'standard input; may be repeated')
    parser.add_argument('--datapath', choices=('netdev', 'system'),
                        help='judge the flows as those of the userspace or of the kernel '
                        'datapath (default: what they are, and netdev in any case)')
    parser.add_argument('--json', action='store_true', help='print a JSON object')
    parser.add_argument('--version', action='version',
                        version='%(prog)s ' + VERSION)
    return parser.parse_args(args)


def read_files(names: list[str]) -> dict[str, Dump]:
    """A dump for each file: recirculation ids of different hosts are not the same."""
    dumps = {}
    for name in names:
        dump = dumps[name] = Dump()
        if name == '-':
            dump.read(sys.stdin)
        else:
            with open(name, encoding='utf-8', errors='replace') as f:
                dump.read(f)
    return dumps


def look_at_host(target: str) -> tuple[list[host.Finding], dict[str, Dump]]:
    """Findings, and the dumps of the datapaths; none if Open vSwitch does not run."""
    findings = list(host.kernel()) + list(host.memory())
    dumps: dict[str, Dump] = {}
    try:
        ovs = Daemon(target, host.TIMEOUT)
        findings += host.open_vswitch(ovs)
        dumps = host.dumps(ovs)
    except Unavailable as e:
        findings.append(host.Finding('note', 'Open vSwitch', str(e)))
    for dump in dumps.values():
        findings += host.ports(dump)
    return findings, dumps


def run(args: argparse.Namespace) -> None:
    findings: list[host.Finding] = []
    if args.flows:
        dumps = read_files(args.flows)
    else:
        findings, dumps = look_at_host(args.target)
    judged = []
    for name, dump in dumps.items():
        kinds = [args.datapath] if args.datapath else sorted(
            {dump.type or 'netdev', 'netdev'}, reverse=True)
        judged += [report.judge(name, dump, kind) for kind in kinds]
    if args.json:
        json.dump({'version': report.VERSION, 'datapaths': judged,
                   'host': [f._asdict() for f in findings]}, sys.stdout, indent=2)
        print()
    else:
        print(report.words(findings, judged))


def main(argv: Optional[list[str]] = None) -> int:
    args = parse_args(argv)
    try:
        run(args)
    except BrokenPipeError:
        sys.stderr.close()           # Nobody reads on, which is no error.
        return 0
    except (Missing, OSError) as e:
        print('ovs-offload-advise: %s' % e, file=sys.stderr)
        return 1
    return 0
