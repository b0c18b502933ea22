# SPDX-License-Identifier: Apache-2.0
"""A live view of Open vSwitch's flows in XDP: flows and ports by rate.

Without an option it draws on the terminal until 'q' or Ctrl-C.
"""
import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Optional

from . import VERSION
from .daemon import Unavailable
from .rates import choose, compare
from .sample import MAX_FLOWS, SORT_KEYS, Json, Source, drivers

ONCE_INTERVAL = 1.0  # Seconds between the two samples of --once.
# What a monitoring plug-in's exit status says.
CHECKED = {'OK': 0, 'WARNING': 1, 'CRITICAL': 2}
UNKNOWN = 3


def interval(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError('not from 0.1 to 3600')
    return value


def count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_FLOWS:
        raise argparse.ArgumentTypeError('not from 1 to %d' % MAX_FLOWS)
    return value


def parse_args(args: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='ovs-offload-top', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-t', '--target', default='ovs-vswitchd',
                        help='ovs-vswitchd, or the path of its control socket, '
                        'as in ovs-appctl -t')
    parser.add_argument('-i', '--interval', type=interval,
                        default=ONCE_INTERVAL, metavar='SECONDS',
                        help='between two samples (default: 1)')
    parser.add_argument('-s', '--sort', choices=SORT_KEYS,
                        default='packets', help='what the busiest flows have '
                        'most of (default: packets)')
    parser.add_argument('-n', '--flows', type=count, default=20, metavar='N',
                        help='flows to show (default: 20)')
    parser.add_argument('-f', '--filter', default='', metavar='TEXT',
                        help='only ports with TEXT in their name, and flows with '
                        'it in their text, port or ufid')
    parser.add_argument('--once', action='store_true',
                        help='take two samples, print the rates, and end')
    parser.add_argument('--json', action='store_true',
                        help='with --once: print a JSON object')
    parser.add_argument('--stream', action='store_true',
                        help='print a JSON object, on a line of its own, each '
                        'interval')
    parser.add_argument('--openmetrics', nargs='?', const='-', metavar='FILE',
                        help='print the counters as OpenMetrics text, or '
                        'replace FILE by it, and end')
    parser.add_argument('--prometheus', nargs='?', const='-', metavar='FILE',
                        help="the same in Prometheus's own text format, for "
                        "node_exporter's textfile collector")
    parser.add_argument('--check', action='store_true',
                        help='print whether all is well, in a line, and end as '
                        'a monitoring plug-in does: 0 if it is, 1 or 2 for a '
                        'warning or worse, 3 if nobody can be asked')
    parser.add_argument('--version', action='version',
                        version='%(prog)s ' + VERSION)
    chosen = parser.parse_args(args)
    if chosen.json and not chosen.once:
        parser.error('--json needs --once')
    if sum(map(bool, (chosen.once, chosen.stream, chosen.openmetrics, chosen.prometheus,
                      chosen.check))) > 1:
        parser.error('--openmetrics, --prometheus, --once, --stream and --check '
                     'exclude each other')
    return chosen


def look_again_and_again(source: Source, args: argparse.Namespace) -> Iterator[Json]:
    """Yields what there is to show, each interval."""
    # What is filtered out must not take the place of what is not.
    n_flows = MAX_FLOWS if args.filter else args.flows
    before = source.sample(n_flows, args.sort)
    while True:
        time.sleep(args.interval)
        sample = source.sample(n_flows, args.sort)
        yield choose(compare(before, sample), args.filter, args.flows)
        before = sample


def look_once(source: Source, args: argparse.Namespace) -> Json:
    return next(look_again_and_again(source, args))


def stream(source: Source, args: argparse.Namespace) -> None:
    """A line each interval; while ovs-vswitchd does not answer, one that says so."""
    while True:
        try:
            for view in look_again_and_again(source, args):
                print(json.dumps(view), flush=True)
        except Unavailable as e:
            print(json.dumps({'version': 1, 'unavailable': str(e)}), flush=True)
            time.sleep(args.interval)


def run_metrics(source: Source, path: str, classic: bool) -> None:
    from . import openmetrics        # Needs python3-prometheus-client.
    stats = unavailable = None
    try:
        stats = source.stats()
    except Unavailable as e:
        unavailable = e
    text = openmetrics.render(stats, drivers(stats) if stats else {},
                              source.versions() if stats else {}, classic)
    if path == '-':
        sys.stdout.write(text)
    else:
        openmetrics.write(path, text)
    if unavailable:
        raise unavailable


def check(target: str) -> int:
    """Prints the verdict, and returns the exit status that goes with it."""
    try:
        verdict = Source(target).ask_text('xdp-offload/status').split('\n', 1)[0]
    except Unavailable as e:
        verdict = 'UNKNOWN: %s' % e
    print(verdict)
    return CHECKED.get(verdict.split(':', 1)[0], UNKNOWN)


def run(args: argparse.Namespace) -> None:
    source = Source(args.target)
    if args.openmetrics or args.prometheus:
        run_metrics(source, args.openmetrics or args.prometheus,
                    classic=bool(args.prometheus))
    elif args.stream:
        source.stats()               # Says at once if there is nothing.
        stream(source, args)
    elif args.json:
        json.dump(look_once(source, args), sys.stdout, indent=2)
        print()
    else:
        # Only what draws needs the package python3-rich.
        from . import screen
        if args.once:
            screen.print_once(look_once(source, args))
        else:
            source.stats()           # Says at once if there is nothing.
            screen.Screen(source, args.interval, args.sort, args.flows,
                          args.filter).run()


def main(argv: Optional[list[str]] = None) -> int:
    args = parse_args(argv)
    try:
        if args.check:
            return check(args.target)
        run(args)
    except KeyboardInterrupt:
        return 130 if args.once or args.openmetrics or args.prometheus else 0
    except Unavailable as e:
        print('ovs-offload-top: %s' % e, file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()           # Nobody reads on, which is no error.
        return 0
    except ModuleNotFoundError as e:
        print('ovs-offload-top: needs the package python3-%s'
              % (e.name or '').replace('_', '-'), file=sys.stderr)
        return 2
    except OSError as e:
        print('ovs-offload-top: %s' % e, file=sys.stderr)
        return 2
    return 0
