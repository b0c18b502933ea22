# SPDX-License-Identifier: Apache-2.0
"""Random pipelines of OpenFlow rules for the differential test.

A pipeline is a list of rules in two to four tables, and groups.  What it does
to a packet depends on the packet alone: no two rules have the same priority,
packets move on to later tables only, and NORMAL is given only packets of which
it has nothing to learn (FDB).

A rule speaks one of two dialects, because ovs-ofctl takes mod_vlan_vid on a
packet that may be untagged, and the like, only in OpenFlow 1.0, and groups only
in later ones.
"""
from random_frames import (ETHERTYPES, GROUP_MACS, IP4, IP6, LABELS, MACS,
                           MPLS_LABELS, N_HOSTS, PORTS, TOS, TTLS, VIDS)

OF10, OF15 = 'OpenFlow10', 'OpenFlow15'
GROUPS = [1, 2, 3]

# What the MAC table holds of each host, by VLAN, so that NORMAL has nothing to
# learn from the packets that rules give to it.
FDB = [(port + 1, vid, MACS[port]) for vid in VIDS[:3]
       for port in range(N_HOSTS)]

# Values of each field that can be matched.
ANY_MAC = MACS + GROUP_MACS
PORT_MASKS = ['0x50/0xfff0', '0/0x8000', '0x400/0x400']
FRAGMENTS = ['no', 'yes', 'first', 'later', 'not_later']
VALUES = {
    'dl_src': ANY_MAC + ['02:00:00:00:00:00/ff:ff:ff:ff:ff:fd'],
    'dl_dst': ANY_MAC + ['01:00:00:00:00:00/01:00:00:00:00:00',
                         '00:00:00:00:00:00/01:00:00:00:00:00'],
    'nw_src': IP4 + ['10.0.0.0/8', '10.0.0.0/24', '0.0.0.1/0.0.0.1'],
    'nw_dst': IP4 + ['10.0.0.0/8', '10.0.0.0/24', '224.0.0.0/4'],
    'ipv6_src': IP6 + ['fd00::/16', '2001:db8::/32', '::1/::1'],
    'ipv6_dst': IP6 + ['fd00::/64', 'ff00::/8'],
    'ipv6_label': LABELS + ['0x1/0x1'],
    'nw_tos': sorted({tos & 0xfc for tos in TOS}),
    'nw_ecn': range(4), 'nw_ttl': TTLS, 'ip_frag': FRAGMENTS,
    'nw_proto': [1, 2, 6, 17, 47, 58, 132],
    'tp_src': PORTS + PORT_MASKS, 'tp_dst': PORTS + PORT_MASKS,
    'tcp_flags': ['+syn', '+syn-ack', '-fin', '0x010/0x012', '0xfff',
                  '0xe00/0xe00'],
    'icmp_type': [8, 0, 3], 'icmp_code': [0, 1],
    'icmpv6_type': [128, 129, 1, 135], 'icmpv6_code': [0, 4],
    'nd_reserved': ['0', '0x60000000'], 'nd_options_type': [0, 1, 2],
    'nd_target': IP6 + ['fd00::/16'], 'nd_sll': ANY_MAC, 'nd_tll': ANY_MAC,
    'arp_op': [1, 2, 3], 'arp_spa': IP4 + ['10.0.0.0/8'],
    'arp_tpa': IP4 + ['192.168.0.0/16'], 'arp_sha': ANY_MAC,
    'arp_tha': ANY_MAC,
    'mpls_label': MPLS_LABELS, 'mpls_tc': range(8), 'mpls_bos': [0, 1],
    'mpls_ttl': TTLS}

# Actions that change a field, '%s' being one of the values.
MAC_SETS = [('mod_dl_src:%s', ANY_MAC), ('mod_dl_dst:%s', ANY_MAC),
            ('move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]', None)]
IP_SETS = [('set_field:%s->nw_ttl', TTLS), ('set_field:%s->nw_ecn', range(4)),
           ('mod_nw_tos:%s', VALUES['nw_tos']), ('dec_ttl', None),
           ('dec_ttl', None)]
IP4_SETS = IP_SETS + [('mod_nw_src:%s', IP4), ('mod_nw_dst:%s', IP4),
                      ('move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]', None),
                      ('set_field:0.0.7.0/0.0.255.0->ip_dst', None)]
IP6_SETS = IP_SETS + [('set_field:%s->ipv6_src', IP6),
                      ('set_field:%s->ipv6_dst', IP6),
                      ('set_field:%s->ipv6_label', LABELS)]
ARP_SETS = [('set_field:%s->arp_op', [1, 2]), ('set_field:%s->arp_spa', IP4),
            ('set_field:%s->arp_tpa', IP4), ('set_field:%s->arp_sha', ANY_MAC),
            ('set_field:%s->arp_tha', ANY_MAC),
            ('move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]', None)]
MPLS_SETS = [('set_mpls_label:%s', MPLS_LABELS), ('set_mpls_tc:%s', range(8)),
             ('set_field:%s->mpls_ttl', [1, 64]), ('dec_mpls_ttl', None)]


def port_sets(proto):
    return [('set_field:%%s->%s_src' % proto, PORTS),
            ('set_field:%%s->%s_dst' % proto, PORTS)]


IP_MATCH = ['nw_src', 'nw_dst', 'nw_tos', 'nw_ecn', 'nw_ttl', 'ip_frag']
IP6_MATCH = ['ipv6_src', 'ipv6_dst', 'ipv6_label'] + IP_MATCH[2:]
TP_MATCH = ['tp_src', 'tp_dst']
ND_SETS = [('set_field:%s->nd_target', IP6)]

# What a rule may match: (how often, keyword, fields, what it can set).
PROTOCOLS = [
    (5, '', [], []),
    (6, 'ip', IP_MATCH + ['ip_frag', 'nw_proto'], IP4_SETS),
    (6, 'tcp', IP_MATCH + TP_MATCH + ['tcp_flags'] * 2,
     IP4_SETS + port_sets('tcp')),
    (6, 'udp', IP_MATCH + TP_MATCH, IP4_SETS + port_sets('udp')),
    (2, 'sctp', IP_MATCH + TP_MATCH, IP4_SETS + port_sets('sctp')),
    (3, 'icmp', IP_MATCH + ['icmp_type', 'icmp_code'],
     IP4_SETS + [('set_field:%s->icmp_type', [0, 3]),
                 ('set_field:%s->icmp_code', [0, 5])]),
    (5, 'ipv6', IP6_MATCH, IP6_SETS),
    (4, 'tcp6', IP6_MATCH + TP_MATCH + ['tcp_flags'],
     IP6_SETS + port_sets('tcp')),
    (4, 'udp6', IP6_MATCH + TP_MATCH, IP6_SETS + port_sets('udp')),
    (1, 'sctp6', IP6_MATCH + TP_MATCH, IP6_SETS + port_sets('sctp')),
    (3, 'icmp6', IP6_MATCH + ['icmpv6_type', 'icmpv6_code'],
     IP6_SETS + [('set_field:%s->icmpv6_type', [129, 4]),
                 ('set_field:%s->icmpv6_code', [0, 5])]),
    (3, 'icmp6,icmp_type=135,icmp_code=0', ['nd_target', 'nd_sll'],
     IP6_SETS + ND_SETS + [('set_field:%s->nd_sll', ANY_MAC)] * 2),
    (3, 'icmp6,icmp_type=136,icmp_code=0', ['nd_target', 'nd_tll'],
     IP6_SETS + ND_SETS + [('set_field:%s->nd_tll', ANY_MAC)] * 2),
    # Without the code OVS tells its datapaths nothing of these fields.
    (2, 'icmp6,icmp_type=135', ['nd_target', 'nd_sll', 'nd_reserved'],
     IP6_SETS),
    (2, 'icmp6,icmp_type=136', ['nd_target', 'nd_tll', 'nd_options_type'],
     IP6_SETS),
    (6, 'arp', ['arp_op', 'arp_spa', 'arp_tpa', 'arp_sha', 'arp_tha'],
     ARP_SETS),
    (4, 'mpls', ['mpls_label', 'mpls_tc', 'mpls_bos', 'mpls_ttl'], MPLS_SETS),
    (2, 'dl_type=0x%04x' % ETHERTYPES[0], [], [])]


class Rule:
    """An OpenFlow rule; its cookie tells it from all others."""

    def __init__(self, cookie, table, match, actions, dialect, priority):
        self.cookie, self.table, self.dialect = cookie, table, dialect
        self.match, self.actions, self.priority = match, actions, priority

    def __str__(self):
        return 'cookie=%#x,table=%d,priority=%d,%sactions=%s' % (
            self.cookie, self.table, self.priority,
            ''.join(m + ',' for m in self.match),
            ','.join(self.actions) or 'drop')


class Pipeline:
    """Rules, groups (lines for ovs-ofctl), and how many VLAN tags OVS reads."""

    def __init__(self, rules, groups, vlan_limit):
        self.rules, self.groups, self.vlan_limit = rules, groups, vlan_limit

    def of(self, dialect):
        return [str(rule) for rule in self.rules if rule.dialect == dialect]

    def with_rules(self, rules):
        return Pipeline(rules, self.groups, self.vlan_limit)

    def __str__(self):
        return '\n'.join(['vlan-limit=%d' % self.vlan_limit, *self.groups,
                          *('%s -O%s' % (rule, rule.dialect)
                            for rule in self.rules)])


class RuleWriter:
    """Writes one rule.

    ovs-ofctl refuses actions for which the match, and the actions before, do
    not say that the packet has the header; the attributes say what they do.
    """

    def __init__(self, r, table, n_tables, foci):
        self.r, self.table, self.n_tables = r, table, n_tables
        self.foci = [focus.field for focus in foci]
        self.dialect = r.choice([OF10, OF15])
        self.tagged = False          # There is a VLAN tag.
        self.sets = []               # What can be set in this protocol,
        self.opaque = False          # unless it is behind a new MPLS label.

    def some_port(self):
        return self.r.randrange(N_HOSTS) + 1

    def fields(self, candidates, count):
        drawn = self.r.sample(candidates, min(count, len(candidates)))
        foci = [field for field in self.foci if field in candidates]
        if foci and self.r.random() < 0.5:
            drawn = [self.r.choice(foci)] + drawn[1:]
        return ['%s=%s' % (field, self.r.choice(VALUES[field]))
                for field in dict.fromkeys(drawn)]

    def fields_of(self, keyword, candidates, count):
        """Without fragments that have no transport header, if that may be set."""
        return [value for value in self.fields(candidates, count)
                if keyword in ('ip', 'ipv6')
                or value not in ('ip_frag=yes', 'ip_frag=later')]

    def vlan(self):
        r = self.r
        if r.random() < 0.7:
            return []
        match = r.choice([['vlan_tci=0x0000'], ['dl_vlan=%d' % r.choice(VIDS)],
                          ['dl_vlan=%d' % r.choice(VIDS),
                           'dl_vlan_pcp=%d' % r.choice([0, 1, 3, 7])],
                          ['vlan_tci=0x1000/0x1000']])
        self.tagged = match != ['vlan_tci=0x0000']
        return match

    def matches(self):
        r = self.r
        _, keyword, fields, self.sets = r.choices(
            PROTOCOLS, [weight * (4 if set(self.foci) & set(fields) else 1)
                        for weight, _, fields, _ in PROTOCOLS])[0]
        match = [keyword] if keyword else []
        match += self.fields_of(keyword, fields, r.choice([0, 1, 1, 1, 2, 2, 3]))
        # Matches on MPLS need OpenFlow 1.1.
        if keyword == 'mpls':
            self.dialect = OF15
        if self.table == 0 and r.random() < 0.3:
            match.append('in_port=%d' % self.some_port())
        # A rule that says little hides those below it.
        few = not keyword or r.random() < 0.15
        return self.vlan() + match + self.fields(['dl_src', 'dl_dst'], few)

    def push_vlan(self):
        r = self.r
        self.tagged = True
        return ['push_vlan:0x%04x' % r.choice([0x8100, 0x8100, 0x88a8])] + (
            ['set_field:%d->vlan_vid' % (0x1000 + r.choice(VIDS))]
            if r.random() < 0.8 else []) + (
            ['set_field:%d->vlan_pcp' % r.randrange(8)]
            if r.random() < 0.3 else [])

    def vlan_change(self):
        r = self.r
        if self.dialect == OF10:
            return [r.choice(['strip_vlan', 'mod_vlan_vid:%d' % r.choice(VIDS),
                              'mod_vlan_pcp:%d' % r.randrange(8)])]
        if not self.tagged:
            return self.push_vlan()
        kind = r.randrange(3)
        if kind == 0:
            self.tagged = False
            return ['pop_vlan']
        if kind == 1:
            return ['set_field:%d->vlan_vid' % (0x1000 + r.choice(VIDS))]
        # A second tag, of which OVS has two at most.
        return self.push_vlan() if r.random() < 0.5 else []

    def field_changes(self, low, high):
        r = self.r
        sets = MAC_SETS + ([] if self.opaque else self.sets * 2)
        changes = []
        for _ in range(r.randint(low, high)):
            text, values = r.choice(sets)
            changes.append(text % r.choice(values) if values else text)
        return changes

    def changes(self):
        r = self.r
        changes = self.field_changes(0, 3) if r.random() < 0.5 else []
        if r.random() < 0.25:
            changes += self.vlan_change()
        if self.dialect == OF15 and r.random() < 0.05 and not self.tagged:
            changes.append('push_mpls:0x8847')
            self.opaque = True
            changes.append('set_mpls_label:%d' % r.choice(MPLS_LABELS))
        elif self.sets is MPLS_SETS and r.random() < 0.4:
            changes.append('pop_mpls:0x0800')
            self.opaque = True
        return changes

    def outputs(self, count):
        ports = self.r.sample(range(1, N_HOSTS + 1), count)
        actions = []
        for port in ports:
            actions.append('output:%d' % port)
            if self.r.random() < 0.3:
                actions += self.field_changes(1, 1)
        return actions

    def ending(self):
        r = self.r
        kind = r.choices(['drop', 'output', 'outputs', 'next', 'group',
                          'special', 'truncate'],
                         [6, 30, 14, 34, 12, 4, 4])[0]
        if kind == 'next' and self.table + 1 < self.n_tables:
            later = r.randrange(self.table + 1, self.n_tables)
            if self.dialect == OF15 and r.random() < 0.5:
                return ['goto_table:%d' % later]
            return ['resubmit(,%d)' % later] + (
                self.outputs(1) if r.random() < 0.2 else [])
        # Groups send packets to the last table, where there must be none.
        if (kind == 'group' and self.dialect == OF15
                and self.table + 1 < self.n_tables):
            return ['group:%d' % r.choice(GROUPS)]
        if kind == 'drop':
            return []
        if kind == 'outputs':
            return self.outputs(r.choice([2, 2, 3]))
        if kind == 'special':
            return [r.choice(['in_port', 'flood', 'all'])]
        if kind == 'truncate':
            return ['output(port=%d,max_len=%d)' % (
                self.some_port(), r.choice([14, 60, 64, 1000]))]
        return ['output:%d' % self.some_port()]

    def normal(self):
        """A match and actions with NORMAL, of which nothing can be learnt."""
        r = self.r
        port, vid, source = r.choice(FDB)
        _, keyword, fields, sets = r.choice(PROTOCOLS[:6])
        match = ['in_port=%d' % port, 'dl_src=' + source,
                 'dl_vlan=%d' % vid if vid else 'vlan_tci=0x0000']
        match += [keyword] if keyword else []
        changes = [(text, values) for text, values in sets
                   if values and r.random() < 0.1]
        return (match + self.fields_of(keyword, fields, r.choice([0, 0, 1])),
                [text % r.choice(values) for text, values in changes]
                + ['NORMAL'])

    def write(self, cookie, priority):
        if self.table == 0 and self.r.random() < 0.08:
            match, actions = self.normal()
            self.dialect = OF10
        else:
            match = self.matches()
            actions = self.changes() + self.ending()
        return Rule(cookie, self.table, match, actions, self.dialect, priority)


def bucket(r, number, kind, last_table):
    """A bucket of a group of this kind."""
    properties = {'select': 'weight:%d,' % r.choice([1, 1, 2, 5]),
                  'ff': 'watch_port:%d,' % (r.randrange(N_HOSTS) + 1)}
    actions = []
    if r.random() < 0.4:
        actions.append('set_field:%s->%s' % (
            r.choice(ANY_MAC), r.choice(['eth_src', 'eth_dst'])))
    if r.random() < 0.15:
        actions += ['push_vlan:0x8100',
                    'set_field:%d->vlan_vid' % (0x1000 + r.choice(VIDS))]
    actions.append('resubmit(,%d)' % last_table if r.random() < 0.15
                   else 'output:%d' % (r.randrange(N_HOSTS) + 1))
    return 'bucket=bucket_id:%d,%sactions=%s' % (
        number, properties.get(kind, ''), ','.join(actions))


def group(r, number, last_table):
    kind = r.choice(['select', 'select', 'select', 'all', 'ff', 'indirect'])
    text = 'group_id=%d,type=%s' % (number, kind)
    if kind == 'select':
        text += r.choice([
            '', ',selection_method=dp_hash',
            ',selection_method=hash,fields(ip_dst,nw_proto,tp_src)'])
    for i in range(1 if kind == 'indirect' else r.choice([1, 2, 3, 4])):
        text += ',' + bucket(r, i, kind, last_table)
    return text


def pipeline(r, foci):
    n_tables = r.choice([2, 2, 3, 4])
    rules = []
    for table in range(n_tables):
        # OpenFlow leaves it open which of two rules of one priority is hit.
        for _ in range(18 if table == 0 else 8):
            rules.append(RuleWriter(r, table, n_tables, foci).write(
                len(rules) + 1, 1000 - len(rules)))
        # Packets that nothing matches move on, in the last table to a host.
        rules.append(Rule(len(rules) + 1, table, [], [
            'resubmit(,%d)' % (table + 1) if table + 1 < n_tables
            else 'output:%d' % (r.randrange(N_HOSTS) + 1)], OF10, 1))
    groups = [group(r, number, n_tables - 1) for number in GROUPS]
    return Pipeline(rules, groups, r.choice([1, 2, 2]))
