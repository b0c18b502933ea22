# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch is replaced by another release, under traffic.

As its packages do it: both daemons end, the database is converted to the schema of the
other release, its daemons start, and get the rules before they handle a packet.  The
plugin is the same.
"""
import collections
import contextlib
import time

from lab import end_process, run, settled_counters, wait_for
from suite import (expect, expect_exact, passed, per_port_rules, programs_of, since_start,
                   wait_offloaded)
from test_persistence import (TAKEN_OVER, TRANSLATED, add_translated, begin_dialogues,
                              both_ways, check_dialogues, check_nothing_lost, end, has_ports,
                              kept_lab, restoring, retransmitted, tracked, wait_taken_over)

Step = collections.namedtuple('Step', 'to how')
# To which of the two releases, and how the other one ends.
STEPS = (Step('next', 'SIGTERM'), Step('first', 'exit'), Step('next', 'SIGKILL'))


def schema_version(lab):
    return run(lab.ovs.tool('ovsdb-tool'), 'schema-version',
               lab.ovs.env['OVS_PKGDATADIR'] + '/vswitch.ovsschema',
               env=lab.ovs.env).strip()


def use_release(lab, directory):
    """From here on the programs are those of 'directory'; none runs that is another's.
    Returns how the database was changed, in words."""
    end_process(lab.ovs.processes.pop('ovsdb-server'))
    before = schema_version(lab)
    lab.ovs.use(directory)
    tool, schema = lab.ovs.tool('ovsdb-tool'), directory + '/share/openvswitch/vswitch.ovsschema'
    needed = run(tool, 'needs-conversion', lab.ovs.database, schema, env=lab.ovs.env).strip()
    if needed == 'yes':
        run(tool, 'convert', lab.ovs.database, schema, env=lab.ovs.env)
    lab.ovs.start_database()
    return 'database %s to %s' % (before, schema_version(lab)) \
        if needed == 'yes' else 'the same database'


def replace_release(context, lab, step, add_rules):
    """Does one of STEPS; add_rules() gives the new process its rules.  In between the
    programs stay.  Returns what is to be said of it."""
    programs, version = programs_of(lab), lab.ovs.version()
    pins = sorted(lab.pins())
    end(lab, step.how)
    database = use_release(lab, {'first': context.ovs_dir,
                                 'next': context.next_ovs_dir}[step.to])
    expect(programs_of(lab) == programs, 'programs %s, were %s', programs_of(lab), programs)
    with restoring(lab):
        wait_for('the ports', lambda: has_ports(lab), TAKEN_OVER)
        wait_for('the bridge', lambda: run(lab.ovs.tool('ovs-ofctl'), 'show', 'br0',
                                           env=lab.ovs.env, check=False), TAKEN_OVER)
        add_rules()
    begin = time.monotonic()
    wait_taken_over(lab, programs)
    # A link is not made anew: it gets another program.
    expect(sorted(lab.pins()) == pins and len(pins) == len(lab.hosts), 'pins: %s, were %s',
           lab.pins(), pins)
    expect(lab.ovs.version() != version, 'still Open vSwitch %s', version)
    return '%s to %s (%s, %s): taken over after %.1f s' % (
        version, lab.ovs.version(), step.how, database, time.monotonic() - begin)


def openflow_packets(lab):
    return sum(packets for packets, _ in lab.ovs.openflow_counters().values())


def test_flows(context):
    """Another release takes flows over: no packet is lost, and OVS gets none of them"""
    with kept_lab(context) as lab:
        a, b = lab.hosts
        per_port_rules(lab)
        with both_ways(a, b, 500) as streams:
            for step in STEPS:
                for pair in ((a, b), (b, a)):
                    wait_offloaded(lab, *pair, timeout=10)
                counted = openflow_packets(lab)
                sent = sum(s.sent for s in streams)
                text = replace_release(context, lab, step, lambda: per_port_rules(lab))
                flows = [wait_offloaded(lab, *pair) for pair in ((a, b), (b, a))]
                misses = passed(lab, a.port) + passed(lab, b.port)
                counts = openflow_packets(lab), sum(s.sent for s in streams)
                context.show('%s; %d flows in XDP, %d packets passed to OVS; OpenFlow had '
                             'counted %d packets, and counts from 0: %d of the %d sent since'
                             % (text, sum(map(len, flows)), misses, counted, counts[0],
                                counts[1] - sent))
                # What hosts say of their own accord may be among them.
                expect(misses <= 5, '%d packets were passed to OVS', misses)
                # Copies and samples alone are counted before it has taken over.
                expect(counts[0] < counts[1] - sent, 'figures were kept: %s', counts)
        context.note('%s; %s', *streams)
        check_nothing_lost(streams)
        before = settled_counters(lab, lab.hosts)
        with both_ways(a, b, 500):
            time.sleep(1)
        expect_exact(lab, before)
        context.note('figures exact afterwards, %d packets in XDP', since_start(lab)[1])


def test_connections(context):
    """Another release takes translated connections over, with all that OVS knows of them"""
    with kept_lab(context) as lab, contextlib.ExitStack() as stack:
        a, _ = hosts = lab.hosts

        def add_rules():
            lab.ovs.ofctl('del-flows', 'br0')
            add_translated(lab, TRANSLATED)

        dialogues = begin_dialogues(lab, stack)
        for step in STEPS:
            time.sleep(1)
            before, again = tracked(lab), retransmitted(hosts)
            # Without a rule by which there could be new connections.
            text = replace_release(context, lab, step, add_rules)
            after, again = tracked(lab), retransmitted(hosts) - again
            missed = passed(lab, a.port)
            time.sleep(1)
            missed = passed(lab, a.port) - missed
            context.show('%s; %d connections; %s; passed to OVS in a second afterwards: %d'
                         % (text, len(after), lab.ovs.log_lines('go on')[-1].split('|')[-1],
                            missed))
            expect(before == after, 'before:\n%s\nafter:\n%s', '\n'.join(before),
                   '\n'.join(after))
            expect(not again, '%d segments of TCP sent again', again)
            expect(missed < 20, '%d packets in a second are not executed in XDP', missed)
        check_dialogues(context, dialogues)


TESTS = [
    ('upgrade-flows', test_flows),
    ('upgrade-connections', test_connections),
]
