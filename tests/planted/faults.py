# SPDX-License-Identifier: Apache-2.0
"""Faults that tests must see: planted by run.py, which says how.

A row is small: what was in a file, what is there instead, and the test that has to fail
then.  Whoever adds a test adds the fault that it was written for.
"""
import dataclasses
import os
import sys

UNIT, BPF, COST = 'unit', 'bpf', 'cost'         # GoogleTest, by suite or test.
SYSTEM, ORACLE, CT_ORACLE = 'system', 'oracle', 'ct-oracle'
FLOWS = 'flows'                                 # GoogleTest, too.
# A file of Open vSwitch, as our patches and glue have made it.
OVS = 'ovs:'


@dataclasses.dataclass
class Fault:
    what: str           # What is wrong then.
    path: str           # From the top of the sources; of Open vSwitch with OVS.
    old: str            # Occurs once.
    new: str
    suite: str
    test: str           # What must fail.
    skip: str = ''      # Why it is not tried here.


@dataclasses.dataclass
class Group:
    name: str           # What the faults are against.
    faults: list


GROUPS = [
    Group('Invariant 1, fail closed at translation', [
        Fault('an attribute of which bits are left over is taken',
              'flowxlate/translate/match.cc', 'if (left[i] != std::byte{0}) {\n'
              '            return unsupported(name_at(type, i));',
              'if (false) {\n            return unsupported(name_at(type, i));',
              UNIT, 'MaskBits.*'),
        Fault('a field of a protocol is encoded though the flow does not match '
              'the protocol', 'flowxlate/translate/match.cc',
              '|| (is_exactly(m, ip_proto(f.has)) && (f.has != Has::kNd || '
              'is_nd(m)));', '|| true;', UNIT, 'DecodeMatch.Transport'),
        Fault('what OVS does not tell of is not looked for',
              'flowxlate/translate/match.cc',
              'return untold ? unsupported(reason_name(*untold)) : Reject{};',
              'return {};', UNIT, 'DecodeMatch.Untold'),
        Fault('what OVS does not tell of is not looked for',
              'flowxlate/translate/match.cc',
              'return untold ? unsupported(reason_name(*untold)) : Reject{};',
              'return {};', ORACLE, 'random'),
        Fault('the host does not parse back what it hands over',
              OVS + 'lib/netdev-offload-plugin.c',
              'untold = find_untold(flow, mask, key_buf, mask_buf);',
              'untold = NULL;', ORACLE, 'random'),
        Fault('fields of Neighbour Discovery are not compared', 'bpf/lookup.h',
              '        XF_COMPARE(XF_ND_WORD, XF_INNER_WORD);\n', '',
              SYSTEM, 'widened'),
        Fault('a tag with id 0 is none', 'bpf/parse.h',
              '*tci = vlan->tci | bpf_htons(XF_VLAN_PRESENT);',
              '*tci = vlan->tci;', BPF, 'Match/*:Vlan/*:VlanTwo/*'),
        Fault('a fragment that is not the first has ports', 'bpf/parse.h',
              '    if (frag & XF_IP_OFFSET) {\n'
              '        set_frag(p, XF_FRAG_LATER);\n'
              '        return XF_PARSED;\n    }\n    if (frag)',
              '    if (frag & XF_IP_OFFSET)\n'
              '        set_frag(p, XF_FRAG_LATER);\n    else if (frag)',
              BPF, 'Absent/*:Fragment/*'),
        Fault('an action that is not known is passed over',
              'flowxlate/translate/actions.cc', '                return unsupported('
              'a.type < std::size(kActions)\n', '                return a.type '
              '== OVS_ACTION_ATTR_CT ? Reject{} : unsupported(a.type < '
              'std::size(kActions)\n',
              UNIT, 'DecodeActions.RefusesAllOthersByName'),
        Fault('a field is set where packets may not have it',
              'flowxlate/translate/actions.cc', 'if (left[i] != std::byte{0}\n',
              'if (false\n', UNIT, 'DecodeSet.*'),
        Fault('actions after an output are executed before it',
              'flowxlate/translate/actions.cc', "return unsupported(\"after_output\");",
              ';', UNIT, 'DecodeActions.*'),
    ]),
    Group('Invariant 2, all or nothing per packet', [
        Fault('a tag is pushed before the output is asked', 'bpf/actions.h',
              '    miss = choose_port(p, act, 0, 0, action);\n'
              '    if (miss != XF_PARSED)\n        return miss;\n'
              '    miss = check_checksum(p, act, 0, &partial);',
              '    if (act->n_push && bpf_xdp_adjust_head(ctx, -4))\n'
              '        return XF_MISS_HEADROOM;\n'
              '    miss = choose_port(p, act, 0, 0, action);\n'
              '    if (miss != XF_PARSED)\n        return miss;\n'
              '    if (act->n_push && bpf_xdp_adjust_head(ctx, 4))\n'
              '        return XF_MISS_INTERNAL;\n'
              '    miss = check_checksum(p, act, 0, &partial);',
              BPF, 'Output.*:Random.*:VlanMtu/*'),
        Fault('what does not parse is dropped', 'bpf/xdp_offload.bpf.c',
              '    return take_miss_path(ctx, &scratch->packet);\n',
              '    return -1 - action == XF_MISS_TRUNCATED ? XDP_DROP\n'
              '           : take_miss_path(ctx, &scratch->packet);\n',
              BPF, 'Truncation.*:Malformed/*'),
        Fault('the IP header\'s length is not compared with the frame\'s',
              'bpf/parse.h', '    if (tot_len > l3_len)\n'
              '        return XF_MISS_TRUNCATED;\n'
              '    if (l3_len - tot_len > XF_MAX_PADDING)\n'
              '        return XF_MISS_IP_HEADER;\n\n'
              '    p->cls = XF_CLASS_IPV4;',
              '    (void)l3_len;\n    p->cls = XF_CLASS_IPV4;', BPF,
              'Malformed/*:Truncation.*'),
        Fault('a group\'s last port is not asked', 'bpf/pipeline.h',
              'i < XF_GROUP_PORTS && i < group->n_ports; i++) {',
              'i < XF_GROUP_PORTS && i + 1 < group->n_ports; i++) {', BPF,
              'ForeignWriter.*'),
    ]),
    Group('Invariant 3, translate completely, then publish', [
        Fault('a slot is reused before a grace period',
              'flowxlate/tables/flow_table.cc',
              '    put_rewrite(rewrite);\n    retired_.flows.push_back(slot);\n'
              '    n_flows_--;', '    put_rewrite(rewrite);\n'
              '    free_flows_.push_back(slot);\n    n_flows_--;',
              UNIT, 'FlowTable.SlotsAreReusedOnlyAfterRelease'),
        Fault('a slot begins with an earlier flow\'s figures',
              'flowxlate/tables/flow_table.cc',
              'mem_.stats[cpu * mem_.flows.size() + index(slot)] = {};', ';',
              UNIT, 'FlowTable.InsertStartsWithZeroStats'),
        Fault('a subtable that is removed ends the walk',
              'flowxlate/tables/flow_table.cc',
              '    lead_to(self.next, self.id, self.previous);\n',
              '    lead_to(SubtableSlot::kNone, self.id, self.previous);\n',
              UNIT, 'FlowTable.WalkWithoutHoles'),
        Fault('a modification changes the slot in place',
              'flowxlate/tables/flow_table.cc',
              '    bucket_pair(mem_.buckets, h)\n        .replace(',
              '    mem_.flows[index(*slot)].action = action.action;\n'
              '    bucket_pair(mem_.buckets, h)\n        .replace(',
              UNIT, 'FlowTableConcurrency.*:FlowTable.Replace'),
        Fault('a flow that was removed is still live', 'flowxlate/tables/flow_table.cc',
              '    set_live(slot, false);\n    if (--subtables_',
              '    if (--subtables_', BPF, 'Lookup.RemovedAndReplacedFlows'),
    ]),
    Group('Invariant 4, statistics are exact', [
        Fault('the figures of a flow that is deleted are not read',
              'flowxlate/engine/flows.cc', '            flow->past += '
              'table_.stats(flow->slot);\n            flow->slot',
              '            flow->slot', SYSTEM, 'counters-deletion'),
        Fault('a take is not subtracted from the next', 'flowxlate/engine/flows.cc',
              '    flow->taken = now;\n', '', SYSTEM, 'counters'),
        Fault('each PMD thread\'s copy gets all that was counted',
              'flowxlate/engine/flows.cc',
              '    flow->taken = now;\n',
              '    if (now.packets % 2) { flow->taken = now; }\n',
              SYSTEM, 'counters-two-pmds'),
        Fault('flows that are flushed are executed for some time',
              OVS + 'lib/dpif-netdev.c',
              '        dp_netdev_flow_plugin_del(netdev_flow);\n    }\n\n'
              '    ovs_mutex_lock', '    }\n\n    ovs_mutex_lock',
              SYSTEM, 'counters-del-flows',
              skip='planted, and not seen: flows go 64 ms later at most, which on '
              'a busy machine is within what OVS may forget'),
        Fault('what a flow has counted is told when it ends',
              'flowxlate/engine/flows.cc',
              '    *delta = since(flow->taken, now);\n    flow->taken = now;\n',
              '    *delta = {};\n    (void)now;\n',
              SYSTEM, 'counters-del-flows'),
        Fault('get-flow shows one of a flow\'s copies',
              OVS + 'lib/dpif-netdev.c',
              '            dpif_flow_stats_add(&get->flow->stats, &stats);\n',
              '', SYSTEM, 'counters-get-flow'),
        Fault('a used flow idles out', 'flowxlate/engine/offload.cc',
              'to->used_ms =\n', 'to->used_ms = 0 *\n', SYSTEM, 'busy-flow'),
        Fault('TCP flags are not told', 'flowxlate/engine/offload.cc',
              'to->tcp_flags = from.tcp_flags;', 'to->tcp_flags = 0;',
              SYSTEM, 'flags-and-used'),
        Fault('a flow is counted before it can be executed',
              'bpf/xdp_offload.bpf.c',
              '    if (miss == XF_PARSED)\n        account(stats',
              '    account(stats', BPF, 'Random.*:Output.*'),
        Fault('a flow that lost its place is idle and stays',
              'flowxlate/engine/flows.cc', '    past_ += flow->past;\n', '',
              SYSTEM, 'idle-flow'),
    ]),
    Group('Invariant 5, no black hole', [
        Fault('a port that takes no frames is an output', 'bpf/actions.h',
              '    if (!(*(const volatile __u32 *)&port->flags & xf_tx_flag))\n'
              '        return XF_MISS_TX_PORT;\n', '', BPF, 'Output.*'),
        Fault('GRO of the peer is not asked', 'flowxlate/kernel/devices.cc',
              'if (asked.why_unknown.empty() && !asked.has_gro && '
              '!peer.has_native_xdp) {', 'if (false) {', SYSTEM,
              'port-orders'),
        Fault('what the kernel announces of XDP is believed alone',
              'flowxlate/kernel/devices.cc', '    answers.has_gro = gro.data;',
              '    answers.has_gro = true;', SYSTEM, 'port-orders'),
        Fault('a port\'s changes are only looked at once a second',
              'flowxlate/kernel/devices.cc', '    *lost = false;\n'
              '    drain(route_events_.get(), on_link);\n',
              '    *lost = false;\n'
              '    drain(route_events_.get(), on_link);\n'
              '    drain(generic_events_.get(), on_features);\n'
              '    return {};\n', SYSTEM, 'port-gro'),
        Fault('the MTU of the peer is not asked', 'flowxlate/kernel/devices.cc',
              'std::min(link.mtu, peer.mtu)', 'link.mtu', SYSTEM, 'port-mtu'),
        Fault('too long a frame is sent', 'bpf/actions.h',
              '? XF_MISS_TX_LENGTH : XF_PARSED', '? XF_PARSED : XF_PARSED',
              BPF, 'VlanMtu/*:Output/*'),
        Fault('the link of the peer is not asked', 'flowxlate/kernel/devices.cc',
              's.up = (link.flags & IFF_UP) && (link.flags & IFF_LOWER_UP);',
              's.up = true;', SYSTEM, 'port-link-down'),
        Fault('that nothing arrives is not noticed', 'flowxlate/kernel/arrivals.cc',
              '    lost_ = true;\n', '', SYSTEM, 'port-unseen-peer'),
        Fault('the same', 'flowxlate/kernel/arrivals.cc', '    lost_ = true;\n', '',
              UNIT, '*Arrivals*'),
        Fault('each change of a port is a line in the log',
              'flowxlate/base/damping.cc',
              '    if (!n_untold_ || !n_left_) {', '    if (!n_untold_) {\n'
              '        return {};\n    }\n    n_left_ = kBurst;\n'
              '    if (!n_left_) {', SYSTEM, 'port-flapping'),
        Fault('the same', 'flowxlate/base/damping.cc',
              '    if (!n_untold_ || !n_left_) {', '    if (!n_untold_) {\n'
              '        return {};\n    }\n    n_left_ = kBurst;\n'
              '    if (!n_left_) {', UNIT, 'News.*'),
        Fault('too few queues are no cause of generic XDP',
              'flowxlate/kernel/devices.cc', 'if (asked.tx_queues > n || '
              '!(features & kXdpFeatureBasic)) {', 'if (false) {',
              SYSTEM, 'port-generic-queues'),
    ]),
    Group('Invariant 6, checksums', [
        Fault('a partial checksum leaves as it is', 'bpf/checksum.h',
              '    asm volatile("" : "+r"(partial));\n', '    partial = 0;\n'
              '    asm volatile("" : "+r"(partial));\n', BPF, 'Checksum/*'),
        Fault('the same', 'bpf/checksum.h',
              '    asm volatile("" : "+r"(partial));\n', '    partial = 0;\n'
              '    asm volatile("" : "+r"(partial));\n', SYSTEM, 'traffic'),
        Fault('a sum of zero is not sent as all ones', 'bpf/checksum.h',
              '        result = 0xffff;\n    end = ',
              '        result = 0;\n    end = ',
              BPF, 'Checksum.UdpSumOfZeroIsAllOnes'),
        Fault('on the way to AF_XDP nothing is completed',
              'bpf/xdp_offload.bpf.c', '        complete_if_partial(ctx, p);\n',
              '        (void)p;\n', SYSTEM, 'slow-path'),
        Fault('the IPv4 header\'s checksum does not follow', 'bpf/actions.h',
              '    ip->check = update_checksum(ip->check, change);\n',
              '    (void)change;\n',
              BPF, 'SetField.*'),
        Fault('the transport checksum does not follow an address',
              'bpf/actions.h', '    for (int i = 5; i < XF_INNER_WORD; i++)\n'
              '        change += sum_change', '    for (int i = 6; i < '
              'XF_INNER_WORD; i++)\n        change += sum_change',
              SYSTEM, 'translated'),
        Fault('a TTL is not written', 'bpf/actions.h',
              '    ip->ttl = to->nw_ttl;\n', '', SYSTEM, 'set-fields'),
    ]),
    Group('Invariant 7, one writer\'s crash is not a reader\'s crash', [
        Fault('a flow is searched by its signature alone', 'bpf/lookup.h',
              '        if (flow && xf_subtable_of(flow) == subtable\n'
              '            && key_matches(key, st, flow, slot))\n',
              '        if (flow)\n', BPF, 'Lookup.*:Match/*'),
        Fault('the writer believes what it has published',
              'flowxlate/tables/flow_table.cc',
              '    const auto [subtable, rewrite] = used_by_[index(slot)];\n\n'
              '    set_live(slot, false);',
              '    const auto rewrite = used_by_[index(slot)].rewrite;\n'
              '    const SubtableSlot subtable{mem_.flows[index(slot)].'
              'subtable & 0x7fffU};\n    set_live(slot, false);',
              UNIT, 'FlowTableForeignWriter.*'),
        Fault('flows that nobody tends are executed for ever',
              'bpf/xdp_offload.bpf.c',
              'if (miss == XF_PARSED && is_orphaned(self)) {',
              'if (false) {', BPF, 'Deadline.*'),
        Fault('the same', 'bpf/xdp_offload.bpf.c',
              'if (miss == XF_PARSED && is_orphaned(self)) {',
              'if (false) {', SYSTEM, 'kept-no-successor'),
        Fault('links are not kept', 'flowxlate/kernel/pins.cc',
              '    if (bpf_obj_pin(link.get(), path(ifindex).c_str())) {',
              '    if (false) {', SYSTEM, 'kept-ways'),
        Fault('a directory of pins may be open to others', 'flowxlate/kernel/pins.cc',
              '    if (st.st_mode & 077) {', '    if (false) {',
              SYSTEM, 'kept-directory'),
        Fault('a directory of another user is not taken over',
              'flowxlate/kernel/pins.cc', 'if (st.st_uid != geteuid() && '
              'fchown(dir.get(), geteuid(), getegid())) {',
              'if (st.st_uid != geteuid()) {', SYSTEM, 'kept-taken-over'),
        Fault('the same', 'flowxlate/kernel/pins.cc', 'if (st.st_uid != geteuid() && '
              'fchown(dir.get(), geteuid(), getegid())) {',
              'if (st.st_uid != geteuid()) {', SYSTEM, 'kept-user'),
        Fault('who has no right to make the directory is told something else',
              'flowxlate/kernel/pins.cc', 'error == EACCES ? give : "mend that file '
              'system"', '"mend that file system"', SYSTEM,
              'kept-unprepared'),
        Fault('samples are lost rather than given back',
              'bpf/xdp_offload.bpf.c',
              '    bpf_tail_call(ctx, &xf_takeover, XF_NEXT_OLD);\n', '',
              BPF, 'Successor.*'),
        Fault('it takes over though rules are missing', 'flowxlate/engine/handover.cc',
              '        last_change_ = now;  // The flows of now will be '
              'others.\n', '', SYSTEM, 'kept-late-rules'),
        Fault('a removed port gets what old flows send',
              'flowxlate/engine/persistence.cc', '            handover_.hurry();\n',
              '', SYSTEM, 'kept-port-removed'),
    ]),
    Group('Invariant 8, nothing foreign is broken', [
        Fault('another\'s program is taken for libxdp\'s',
              'flowxlate/kernel/attach.cc',
              '    if (!options.is_afxdp || std::strcmp(info.name, '
              'kProgramName) != 0\n        || !sockets) {',
              '    if (false) {', SYSTEM, 'foreign-system'),
    ]),
    Group('Connections', [
        Fault('TCP\'s window is not looked at', 'bpf/conntrack.h',
              '    if (conn->proto == IPPROTO_TCP '
              '&& (settings & XF_CT_WINDOWS)\n        && !is_in_window(',
              '    if (false && !is_in_window(',
              BPF, 'CtWindow.*'),
        Fault('TCP\'s window is not looked at',
              'bpf/conntrack.h',
              '    if (conn->proto == IPPROTO_TCP '
              '&& (settings & XF_CT_WINDOWS)\n        && !is_in_window(',
              '    if (false && !is_in_window(',
              CT_ORACLE, 'random'),
        Fault('the receiver\'s window is scaled as the sender\'s',
              'bpf/conntrack.h',
              '- (other->max_win << (other_scale & 0xf)))) >= 0',
              '- (other->max_win << (self_scale & 0xf)))) >= 0\n'
              '           && other_scale < 16', BPF, 'CtWindow.*'),
        Fault('a window that moves is not scaled', 'bpf/conntrack.h',
              'ack_win = (__u32)s->win << (conn->wscale & 0xf);',
              'ack_win = s->win;', BPF, 'CtWindow.*'),
        Fault('a window that moves is not scaled',
              'bpf/conntrack.h',
              'ack_win = (__u32)s->win << (conn->wscale & 0xf);',
              'ack_win = s->win;', CT_ORACLE, 'random'),
        Fault('an RST is executed', 'bpf/conntrack.h',
              '&& flags & (XF_TCP_SYN | XF_TCP_FIN | XF_TCP_RST))',
              '&& flags & (XF_TCP_SYN | XF_TCP_FIN))', BPF, 'CtClosing/*'),
        Fault('a FIN is executed', 'bpf/conntrack.h',
              '&& flags & (XF_TCP_SYN | XF_TCP_FIN | XF_TCP_RST))',
              '&& flags & (XF_TCP_SYN | XF_TCP_RST))', CT_ORACLE, 'random'),
        Fault('what follows a FIN is executed before OVS has seen that',
              'bpf/conntrack.h',
              'if (!conn->state || *(const volatile __u32 *)&self->closing)',
              'if (!conn->state)', BPF, 'CtChange.*'),
        Fault('a FIN holds back one direction alone', 'bpf/conntrack.h',
              '        *(volatile __u32 *)&other->closing = 1;\n',
              '        (void)other;\n', BPF, 'CtChange.*'),
        Fault('a forged RST takes a connection out of XDP', 'bpf/conntrack.h',
              '        return off > XF_FAR_OUT || off < -XF_FAR_OUT;\n',
              '        return false && off;\n', SYSTEM, 'connections-forged'),
        Fault('a connection that has expired is found', 'bpf/conntrack.h',
              '    if (s->now_ms >= self->expires_ms\n'
              '        && s->now_ms >= used + conn->timeout_ms)\n',
              '    if (s->now_ms >= used + (1ULL << 40))\n', BPF, 'CtTime.*'),
        Fault('a connection that has expired is found',
              'bpf/conntrack.h',
              '    if (s->now_ms >= self->expires_ms\n'
              '        && s->now_ms >= used + conn->timeout_ms)\n',
              '    if (s->now_ms >= used + (1ULL << 40))\n',
              CT_ORACLE, 'random'),
        Fault('answers do not keep a connection', 'bpf/conntrack.h',
              'used = self->used_ms > other->used_ms ? self->used_ms : '
              'other->used_ms;', 'used = self->used_ms;', BPF, 'CtTime.*'),
        Fault('a zone that is not complete says "+new"', 'bpf/conntrack.h',
              'if (!index && complete)', 'if (!index && (complete || true))',
              BPF, 'CtChange.*'),
        Fault('a connection that is hidden is none', 'bpf/conntrack.h',
              'hidden = XF_CONN_HIDDEN;', '', BPF, 'CtChange.*'),
        Fault('flags that are never valid hold a connection back',
              'bpf/conntrack.h', '&& has_invalid_flags(flags))\n',
              '&& flags > 0xfff)\n', BPF, 'CtClosing/*'),
        Fault('a connection of which no note is taken is new',
              'flowxlate/tables/conn_table.cc',
              'publish(mem_.settings[0].ct, mem_.settings[0].ct | XF_CT_EXPECTS);',
              '', UNIT, 'ConnTables.FullWithoutMemory'),
        Fault('what is expected is new', 'bpf/conntrack.h',
              'zones && !(settings & XF_CT_EXPECTS)',
              'zones && !(settings & 0)', BPF, 'CtUnknown/*'),
        Fault('what no connection may begin with is new', 'bpf/conntrack.h',
              '        || !may_be_new(key, cls))\n', '        || cls > 99)\n',
              CT_ORACLE, 'random'),
        Fault('packets of application level gateways are executed',
              'bpf/conntrack.h', '&& key->tp_dst && !is_alg_control(key);',
              '&& key->tp_dst;', BPF, 'CtPacket/*'),
        Fault('a zone is its low byte', 'bpf/conntrack.h',
              'ports | (__u64)zone << 32', 'ports | (__u64)(zone & 0xff) << 32',
              BPF, 'CtLook/*'),
        Fault('the signature is the connection', 'bpf/conntrack.h',
              '!conn || *(const __u64 *)&conn->ports != key->id\n            || ',
              '!conn || ',
              BPF, 'CtChange.*'),
        Fault('ports are not translated', 'bpf/conntrack.h',
              '    if (conn->proto == IPPROTO_TCP '
              '|| conn->proto == IPPROTO_UDP)\n        key->word[3] = ',
              '    if (conn->proto == IPPROTO_UDP)\n        key->word[3] = ', BPF, 'CtNat/*'),
        Fault('ports are not translated',
              'bpf/conntrack.h',
              '    if (conn->proto == IPPROTO_TCP '
              '|| conn->proto == IPPROTO_UDP)\n        key->word[3] = ',
              '    if (conn->proto == IPPROTO_UDP)\n        key->word[3] = ', CT_ORACLE, 'random'),
        Fault('a checksum does not follow a translation', 'bpf/actions.h',
              '    for (int i = 5; i < XF_INNER_WORD; i++)\n'
              '        change += sum_change', '    for (int i = 6; i < '
              'XF_INNER_WORD; i++)\n        change += sum_change',
              BPF, 'CtNat/*'),
        Fault('what is translated is of the other direction',
              'bpf/conntrack.h', '    index ^= natted;', '    index ^= 0;',
              BPF, 'CtNat/*'),
        Fault('ct_state does not tell of a translation', 'bpf/conntrack.h',
              '        key->ct_state |= nat_state;\n', '',
              CT_ORACLE, 'random'),
        Fault('a commit is executed though it changes the mark',
              'bpf/conntrack.h', '& ct->mark_mask) == 0)',
              '& ct->mark_mask & 0xffff) == 0)', BPF, 'CtMark/*'),
        Fault('a commit is executed though it changes the label',
              'bpf/conntrack.h', '& ct->label_mask[1])) == 0);',
              '& ct->label_mask[1] & 0)) == 0);', BPF, 'CtMark/*'),
        Fault('a commit is executed though it changes the label',
              'bpf/conntrack.h', '& ct->label_mask[1])) == 0);',
              '& ct->label_mask[1] & 0)) == 0);', CT_ORACLE, 'random'),
        Fault('a connection is read while it is written', 'bpf/conntrack.h',
              'if (change & 1 || *(const', 'if (*(const', BPF, 'CtChange.*'),
        Fault('a packet of both directions of a connection is executed',
              'bpf/conntrack.h', '    if (reverse)\n        return XF_MISS_CT'
              '_STATE;\n', '    if (reverse && plan->n_cts > 99)\n'
              '        return XF_MISS_CT_STATE;\n', BPF, 'CtChain/*'),
        Fault('a label has no upper half', 'flowxlate/tables/conn_table.cc',
              '(label[0] | label[1]) != 0', 'label[0] != 0',
              UNIT, 'ConnTable*'),
        Fault('the scale of the peer is one\'s own', 'flowxlate/tables/conn_table.cc',
              'publish(conn.peer_wscale, peer.wscale & 0xf);',
              'publish(conn.peer_wscale, d.wscale & 0xf);',
              UNIT, 'ConnTable*'),
        Fault('a zone is complete without one that had no room',
              'flowxlate/tables/conn_table.cc',
              '        count_unplaced(c.zone, 1);\n', '', UNIT, 'ConnTable*'),
        Fault('a zone stays incomplete', 'flowxlate/tables/conn_table.cc',
              '        count_unplaced(it->second.zone, -1);\n', '',
              UNIT, 'ConnTable*'),
        Fault('a connection that was deleted is found',
              'flowxlate/tables/conn_table.cc',
              '        publish(mem_.conns[index].live, 0);\n'
              '        clear_entry(index, hash);\n', '', UNIT, 'ConnTables.Deleted'),
        Fault('one that was found before it was deleted is executed',
              'flowxlate/tables/conn_table.cc',
              '        clear_entry(index, hash);\n'
              '        publish(mem_.conns[index].state, 0);\n',
              '        clear_entry(index, hash);\n', UNIT, 'ConnTables.Deleted'),
        Fault('a slot of a connection is reused before a grace period',
              'flowxlate/tables/conn_table.cc', '        retired_.push_back(slot);\n',
              '        free_.push_back(slot);\n', UNIT, 'ConnTables.*'),
        Fault('an old handle is that of the next connection',
              'flowxlate/tables/conn_table.cc',
              '&& generations_[slot] == handle >> kGenerationShift;',
              '&& (generations_[slot] & 1);', UNIT, 'ConnTables.OldHandles'),
        Fault('of two with a tuple the older one is found',
              'flowxlate/tables/conn_table.cc',
              'births_[found / 2] > births_[youngest / 2]',
              'births_[found / 2] < births_[youngest / 2]',
              UNIT, 'ConnAlias.*'),
        Fault('an older one in a full bucket\'s other one is forgotten',
              'flowxlate/tables/buckets.h',
              '            for_each_in(second_, fn);\n', '', UNIT, 'ConnAlias.*'),
        Fault('another connection\'s entry is read',
              'flowxlate/tables/conn_table.cc',
              '(entry & ~mask_) == signature', '(entry & ~mask_) != signature',
              UNIT, 'ConnAlias.*'),
        Fault('what OVS has seen is held back for ever',
              'flowxlate/tables/conn_table.cc',
              '        publish(mem_.uses[original(slot) + d].closing, 0);\n',
              '', UNIT, 'ConnTables.ClosingUntilPut'),
        Fault('a window goes back', 'flowxlate/tables/conn_table.cc',
              'raise(use.ack_win, c.dir[d].ack_win);',
              'publish(use.ack_win, c.dir[d].ack_win);',
              UNIT, 'ConnTables.Windows'),
        Fault('OVS is not told how long a connection lasts',
              'flowxlate/tables/conn_table.cc',
              'used + peek(mem_.conns[original(slot)].timeout_ms));', 'used);',
              UNIT, 'ConnTables.Use'),
        Fault('a commit is a look-up', 'flowxlate/translate/actions.cc',
              'step->flags |= XF_CT_COMMIT;', ';', UNIT, 'DecodeCt.*'),
        Fault('the mask of a mark is the mark', 'flowxlate/translate/actions.cc',
              'step->mark_mask = mark[1];', 'step->mark_mask = mark[0];',
              UNIT, 'DecodeCt.*'),
        Fault('after a translation the match says what addresses are',
              'flowxlate/translate/actions.cc',
              '        translates_ |= (step.flags & XF_CT_NAT) != 0;\n', '',
              UNIT, 'Decode*:CtActions.*'),
        Fault('an address is set before the ct() that it follows',
              'flowxlate/translate/actions.cc', 'out_.rewrite.n_ct_first = place;',
              'out_.rewrite.n_ct_first = 0 * place;', UNIT, 'CtActions.*'),
        Fault('what ct() has found is taken for zero', 'flowxlate/translate/match.cc',
              '&& !(is_of_connection(type) && m_.recirc_id && is_ip);',
              '&& (is_ip || !is_ip);', UNIT, 'DecodeMatch.*'),
        Fault('a mark that changes is not told', OVS + 'lib/conntrack.c',
              '            conn->mark = pkt->md.ct_mark;\n'
              '            conn_offload_update(ct, conn);\n',
              '            conn->mark = pkt->md.ct_mark;\n',
              CT_ORACLE, 'random'),
        Fault('connections that are flushed are executed for ever',
              OVS + 'lib/conntrack.c', '    conn_clean__(ct, conn);\n'
              '    conn_offload_destroy(ct, conn);\n',
              '    conn_clean__(ct, conn);\n', CT_ORACLE, 'random'),
        Fault('OVS does not ask when a connection was used',
              OVS + 'lib/conntrack.c',
              '               && now >= conn_offload_expiration(ct, conn);\n',
              '               ;\n', CT_ORACLE, 'random'),
        Fault('OVS does not ask for sequence numbers',
              OVS + 'lib/conntrack.c', '    conn_offload_learn(ct, conn);\n'
              '    enum', '    enum', CT_ORACLE, 'random'),
        Fault('a label that changes is not told', OVS + 'lib/conntrack.c',
              '            conn->label = pkt->md.ct_label;\n'
              '            conn_offload_update(ct, conn);\n',
              '            conn->label = pkt->md.ct_label;\n',
              CT_ORACLE, 'random'),
        Fault('OVS is not told when a connection was used',
              'flowxlate/front/plugin.cc',
              'return is_complete(use) && connections_of(self).use(handle, '
              'use);', 'return is_complete(use) && self == &handle;',
              SYSTEM, 'connections-lasting'),
        Fault('slots of connections that have ended are lost',
              'flowxlate/engine/offload.cc',
              '        || !r->connections.empty();\n', '        || false;\n',
              SYSTEM, 'connections-lasting'),
        Fault('connections from before the offload are unknown',
              OVS + 'lib/conntrack.c', '            conn_offload_init(conn, &c);'
              '\n            conn_offload_new(ct, ops, conn, &c);\n',
              '            conn_offload_init(conn, &c);\n',
              SYSTEM, 'connections-lasting'),
        Fault('a connection is executed while a peer closes it',
              OVS + 'lib/conntrack-tcp.c',
              '            && (b->state == CT_DPIF_TCPS_ESTABLISHED\n',
              '            && (b->state >= CT_DPIF_TCPS_ESTABLISHED\n',
              CT_ORACLE, 'random'),
        Fault('the first answer of UDP is executed',
              OVS + 'lib/conntrack-other.c',
              '        ct->dir[0].state = OVS_CS_F_TRACKED | OVS_CS_F_NEW;\n'
              '    } else',
              '        ct->dir[0].state = OVS_CS_F_TRACKED | OVS_CS_F_NEW;\n'
              '        ct->dir[1].state = (OVS_CS_F_TRACKED\n'
              '                            | OVS_CS_F_ESTABLISHED\n'
              '                            | OVS_CS_F_REPLY_DIR);\n'
              '    } else', CT_ORACLE, 'random'),
    ]),
    Group('Look-up and eviction', [
        Fault('Neighbour Discovery is not compared', 'bpf/lookup.h',
              '        XF_COMPARE(XF_ND_WORD, XF_INNER_WORD);\n', '',
              BPF, 'NeighbourDiscovery/*:Match/*'),
        Fault('the second bucket is not searched', 'bpf/lookup.h',
              'if (!slot && *(const volatile __u16 *)&bucket->overflow)',
              'if (false)', BPF, 'Lookup.FindsFlowsThatOverflowTheirBucket'),
        Fault('the walk is one subtable short', 'bpf/lookup.h',
              '        if (!subtable || !st)\n            return 1;\n',
              '        if (!subtable || !st || !st->next)\n'
              '            return 1;\n',
              BPF, 'Lookup.*'),
        Fault('a prediction is not verified', 'bpf/lookup.h',
              'if (st && key_matches(key, st, flow, slot))', 'if (st && key)',
              ORACLE, 'random'),
        Fault('a packet is 15 % dearer', 'bpf/xdp_offload.bpf.c',
              '        struct xf_hit hit = find_flow(p, cpu);\n',
              '        struct xf_hit hit = find_flow(p, cpu);\n\n'
              '        barrier();\n        hit = find_flow(p, cpu);\n',
              COST, 'Cost.IsNearTheShortestProgram'),
        Fault('a mask that is used is evicted', 'flowxlate/engine/eviction.cc',
              '        if (mask.is_put || mask.used > mask.used_before) {',
              '        if (mask.is_put) {', UNIT, '*Eviction*'),
        Fault('nothing is evicted', 'flowxlate/engine/offload.cc',
              '        evict_idle_masks();\n', '', SYSTEM, 'mask-explosion'),
        Fault('a refused flow is not offered again', 'flowxlate/engine/wanted.cc',
              '    if (leaving_) {\n', '    if (true) {\n',
              SYSTEM, 'back-table-full'),
        Fault('one that lost its port is not', 'flowxlate/engine/wanted.cc',
              '    {"parked", "port_removed", Ends::kWithPort},\n', '',
              SYSTEM, 'back-type-change'),
    ]),
    Group('Ports are devices', [
        Fault('ports are resolved by their present names',
              OVS + 'lib/netdev-offload-plugin.c',
              '    ifindex = p ? p->ifindex : -1;\n    netdev_close(netdev);\n'
              '    return ifindex;',
              '    ifindex = p ? netdev_get_ifindex(netdev) : '
              '-1;\n    netdev_close(netdev);\n    return ifindex;',
              SYSTEM, 'identity-names'),
        Fault('flows of a device that left are executed', 'flowxlate/engine/offload.cc',
              '        flows_->park_entering(port.slot, {"parked", '
              '"no_device", ENODEV});\n', '', SYSTEM, 'identity-moved-away'),
        Fault('whatever has the index is the port\'s device',
              'flowxlate/engine/offload.cc',
              'if (!(state->exists && port->attachment->'
              'is_attached())) {', 'if (false) {', SYSTEM,
              'identity-index-reused'),
        Fault('a device that is back is no output', 'flowxlate/engine/offload.cc',
              '        state.exists = ports_.restore_output(port);\n', '', SYSTEM, 'identity-short-absence'),
        Fault('a port\'s flows outlive it', 'flowxlate/engine/offload.cc',
              '        flows_->park_all_of(p->slot,', '        flows_->park_entering(p->slot,',
              SYSTEM, 'port-slot-reuse'),
        Fault('a port that is moved to another bridge is refused for ever',
              'ovs-plugin/netdev-offload-plugin-system.c', '', '',
              SYSTEM, 'kernel-move-port',
              skip='not tried: kernel datapath, whose tests run in emulated machines'),
    ]),
    Group('What operators see', [
        Fault('explain leaves out flows that wait', 'flowxlate/report/explain.cc',
              '        } else if (auto r = why_waiting(view, flow, &out)) {',
              '        } else if (Reject r; false) {',
              SYSTEM, 'explain-waiting'),
        Fault('a refusal is never forgotten', 'flowxlate/engine/offload.cc',
              '        refusals_.forget_old(std::chrono::steady_clock::'
              'now());\n', '', SYSTEM, 'explain-forget'),
        Fault('a trace counts like traffic', 'flowxlate/kernel/bpf_maps.cc',
              '    bpf_map__set_max_entries(s->maps.xf_stats, n_slots());\n'
              '    bpf_map__set_map_flags(s->maps.xf_flow_cache, '
              'BPF_F_MMAPABLE);\n',
              '    (void)share(maps_of(template_.get(), MapScope::kPorts), '
              'maps_of(s.get(), MapScope::kPorts));\n', SYSTEM, 'trace-exact'),
        Fault('a rate is of twice the time', 'tools/ovs_offload_top/rates.py',
              "max(new['now_ms'] - begin, 1) / 1000",
              "max(new['now_ms'] - begin, 1) / 500", SYSTEM, 'top-once'),
        Fault('a restart makes rates negative',
              'tools/ovs_offload_top/rates.py',
              'return new - old if new >= old else new', 'return new - old',
              SYSTEM, 'top-rates'),
        Fault('searches count hits, too', 'bpf/lookup.h',
              '    hit = recall(&p->key, set, hash);\n',
              '    count_search(cpu);\n'
              '    hit = recall(&p->key, set, hash);\n',
              SYSTEM, 'top-searches'),
        Fault('advice does not help', 'flowxlate/engine/wanted.cc',
              '    {"output", "not_an_xdp_port", Ends::kWithPort},\n', '',
              UNIT, 'Wanted.*'),
        Fault('a reason has no row', 'flowxlate/translate/reasons.cc',
              '    {"table/ports", "Too many ports (1023) in XDP.", '
              'kNothing},\n', '', UNIT, 'Reasons.*'),
        Fault('the filter lets all ports through', 'tools/ovs_offload_top/rates.py',
              "if text in p['name']]", ']', SYSTEM, 'top-filter'),
        Fault('an alert names a metric that there is not',
              'packaging/prometheus/ovs-offload.rules.yml',
              'expr: ovs_offload_handover_ports > 0',
              'expr: ovs_offload_handover_port > 0', SYSTEM, 'prometheus-names'),
        Fault('a packet counts for each of its flows', 'tools/ovs_offload_advise/packets.py',
              'if not self.entrances.intersection(flow.next):', 'if True:',
              SYSTEM, 'worth-packets'),
        Fault('an earlier flow that is refused is forgotten',
              'tools/ovs_offload_advise/packets.py', 'total[earlier or reason]',
              'total[reason]', SYSTEM, 'worth-packets'),
        Fault('a dump is read without what OVS leaves out',
              'tools/ovs_offload_advise/dump.py',
              "return [complete(readable(self.match, numbers))]",
              "return [readable(self.match, numbers)]", SYSTEM, 'worth-flows'),
        Fault('the bridge\'s own port is taken for one of XDP',
              'tools/ovs_offload_advise/verdict.py', "    if port.type is None:\n",
              "    if True:\n", SYSTEM, 'worth-saved'),
        Fault('a port that is left out takes frames', 'flowxlate/engine/ports.cc',
              '        return !is_left_out();', '        return true;',
              UNIT, 'Ports.LeftOut*'),
        Fault('a device that comes up makes a port that is left out an output',
              'flowxlate/engine/ports.cc',
              'const bool takes = state.up && !port.is_left_out();',
              'const bool takes = state.up;', UNIT, 'Ports.LeftOut'),
        Fault('flows may enter and leave by a port that is left out',
              'flowxlate/engine/binder.cc',
              '    if (auto r = check_left_out(*b)) {', '    if (Reject r; r) {',
              SYSTEM, 'left-out'),
        Fault('flows in XDP stay when a port is left out',
              'flowxlate/engine/offload.cc',
              '        flows_->park_all_of(port.slot, {"parked", "left_out", '
              'ENODEV});\n', '', SYSTEM, 'left-out-qos'),
        Fault('a port that is left out is served until the next change',
              OVS + 'lib/netdev-offload-plugin.c',
              '        .left_out = sset_contains(&left_out_ports, '
              'netdev_get_name(netdev)),\n', '', SYSTEM, 'left-out-early'),
        Fault('a port that takes no frames is no problem',
              'flowxlate/report/health.cc',
              '    if (!port.is_tunnel() && port.device.up && !why_not.empty()) {',
              '    if (false) {', UNIT, 'Health.OfAPort'),
        Fault('a packet counts for each flow that it passes',
              'flowxlate/engine/flows.cc',
              'flow->is_first = !rule->match.recirc_id && !uses.in->is_tunnel();',
              'flow->is_first = true;', UNIT, 'Flows.PacketsCountOnce'),
        Fault('a refused port is listed after its end', 'flowxlate/report/status.cc',
              '    forget_unserved();\n', '', SYSTEM, 'status-refused'),
        Fault('a warning is no exit status', 'tools/ovs_offload_top/main.py',
              "{'OK': 0, 'WARNING': 1, 'CRITICAL': 2}",
              "{'OK': 0, 'WARNING': 0, 'CRITICAL': 2}", SYSTEM, 'status'),
        Fault('redirect errors that nobody counts are 0',
              'tools/ovs_offload_top/rates.py',
              'if counted else None', 'if True else None', SYSTEM, 'top-rates'),
        Fault('a command is not filled in', 'flowxlate/report/explain.cc',
              '    return fill_in(reason.command, blanks);',
              '    return reason.command;', SYSTEM, 'explain-commands'),
        Fault('QoS is not looked at', 'flowxlate/engine/offload.cc',
              '        look_at_shaping();\n', '', SYSTEM, 'qos'),
    ]),
    Group('Beside OVS', [
        Fault('the traffic class of IPv6 is off by four bits', 'bpf/parse.h',
              '>> 20 & 0xff) << 8', '>> 24 & 0xff) << 8', ORACLE,
              'random'),
        Fault('a tag that is pushed has no priority', 'bpf/actions.h',
              '        tag[0] = act->tag[0];\n', '        tag[0] = act->tag[0],'
              ' tag[0].tci &= 0xff1f;\n', ORACLE, 'random'),
        Fault('a drop is passed on', 'bpf/xdp_offload.bpf.c',
              '        *action = XDP_DROP;\n', '        *action = XDP_PASS;\n',
              BPF, 'Match/*'),
        Fault('a drop is sent back', 'bpf/xdp_offload.bpf.c',
              '        *action = XDP_DROP;\n', '        *action = XDP_TX;\n',
              SYSTEM, 'differential'),
        Fault('a modification keeps the old actions', 'flowxlate/engine/flows.cc',
              '    if (same_match && table_.has_action(slot, does)) {',
              '    if (same_match) {', SYSTEM, 'modify'),
        Fault('switching off leaves flows in XDP', 'flowxlate/engine/offload.cc',
              '    flows_->park_entering(port->slot, {"parked", "flushed", '
              'ENODEV});\n    return 0;', '    return 0;', SYSTEM, 'toggle'),
        Fault('a plugin is waited for with a lock of the PMD threads',
              OVS + 'lib/dpif-netdev.c',
              '    plugin = dp_netdev_flow_plugin_del(netdev_flow);\n',
              '    ovs_mutex_lock(&pmd->flow_mutex);\n'
              '    plugin = dp_netdev_flow_plugin_del(netdev_flow);\n'
              '    ovs_mutex_unlock(&pmd->flow_mutex);\n',
              SYSTEM, 'slow-plugin'),
    ]),
    Group('Flows of real networks', [
        Fault('a ct() that commits is refused', 'flowxlate/translate/actions.cc',
              '                    step->flags |= XF_CT_COMMIT;\n'
              '                    break;',
              '                    return unsupported("ct");',
              FLOWS, 'RealFlows.ThoseOfEstablishedPacketsAreExecuted'),
        Fault('a ct() that translates is refused', 'flowxlate/translate/actions.cc',
              '                    step->flags |= XF_CT_NAT;\n'
              '                    break;',
              '                    return unsupported("ct");',
              FLOWS, 'RealFlows.ThoseOfEstablishedPacketsAreExecuted'),
        Fault('a flow has one ct() at most', 'flowxlate/translate/actions.cc',
              'if (n_ct_ == XF_MAX_CT_STEPS) {', 'if (n_ct_ == 1) {',
              FLOWS, 'RealFlows.*'),
        Fault('ct_clear is refused', 'flowxlate/translate/actions.cc',
              '                return ct_clear();',
              '                return unsupported("ct_clear");',
              FLOWS, 'RealFlows.*'),
        Fault('a ct_clear before a ct() is passed over',
              'flowxlate/translate/actions.cc',
              '            step.flags |= XF_CT_CLEAR;\n', '',
              FLOWS, 'RealFlows.AllThatConnectionsAreAskedForIsDone'),
        Fault('a ct() that commits only tracks', 'flowxlate/translate/actions.cc',
              '                    step->flags |= XF_CT_COMMIT;\n', '',
              FLOWS, 'RealFlows.AllThatConnectionsAreAskedForIsDone'),
        Fault('nothing is set before a ct()', 'flowxlate/translate/actions.cc',
              '            return unsupported("after_output");\n        }\n'
              '        // What these',
              '            return unsupported("after_output");\n        }\n'
              '        if (a.type == OVS_ACTION_ATTR_CT\n'
              '            && out_.rewrite.mask[1]) {\n'
              '            return unsupported("set_after_ct");\n        }\n'
              '        // What these', FLOWS, 'RealFlows.*'),
        Fault('a match of ct_label is refused', 'flowxlate/translate/fields.cc',
              '    {"ct_labels", OVS_KEY_ATTR_CT_LABELS, 0, 16, '
              'IN_KEY(ct_label), kIp},\n', '', FLOWS, 'RealFlows.*'),
        Fault('ct_mark is matched in IPv4 only', 'flowxlate/translate/fields.cc',
              'IN_KEY(ct_mark), kIp}', 'IN_KEY(ct_mark), kIpv4}',
              FLOWS, 'RealFlows.*'),
        Fault('the match of a tunnel is passed over', 'flowxlate/translate/match.cc',
              'return key.empty() || all_zero(mask) ? Reject{}',
              'return key.empty() || !all_zero(mask) ? Reject{}', FLOWS,
              'RealFlows.*'),
        Fault('a packet is put into a tunnel by passing over it',
              'flowxlate/translate/actions.cc',
              'return unsupported("ovs_private");', 'return {};',
              FLOWS, 'RealFlows.*'),
        Fault('OVS\'s hash of the first packets is taken for the symmetric one',
              'flowxlate/translate/actions.cc',
              'if (hash.hash_alg != kHashAlgSymL4) {',
              'if (hash.hash_alg > kHashAlgSymL4) {', FLOWS, 'RealFlows.*'),
        Fault('a reason that the document does not have',
              'flowxlate/translate/actions.cc',
              '{"meter", false,', '{"meters", false,', FLOWS,
              'RealFlows.ReasonsAreDocumented'),
    ]),
    Group('Tunnels', [
        Fault('the outer UDP checksum is believed', 'bpf/decap.h',
              '           == 0xffff;', '           != 1;',
              BPF, 'Pop/TunnelTest.*'),
        Fault('the outer IPv4 header is believed', 'bpf/decap.h',
              'p->cls == XF_CLASS_IPV4 && !is_ipv4_header_valid(l3)',
              'p->cls == XF_CLASS_ARP && !is_ipv4_header_valid(l3)',
              BPF, 'Pop/TunnelTest.*'),
        Fault('outer headers are not given back', 'bpf/decap.h',
              '    bpf_xdp_adjust_head(ctx, -(int)scratch->outer.len);\n', '',
              BPF, 'Pop/TunnelTest.*'),
        Fault('a driver\'s metadata is moved over outer headers', 'bpf/decap.h',
              '    if (ctx->data_meta < ctx->data)\n'
              '        return XF_MISS_TUNNEL_HEADER;\n', '',
              BPF, 'Tunnel.Metadata'),
        Fault('padding behind the outer packet is taken for the inner one\'s',
              'bpf/decap.h',
              '        || p->l4_off + p->l4_len != p->frame_len\n', '',
              BPF, 'Pop/TunnelTest.*'),
        Fault('what came out of a tunnel is of the port of the outer packet',
              'bpf/decap.h', '| (slot & 0xffff);', '| xf_in_port;',
              BPF, 'Pop/TunnelTest.*'),
        Fault('the outer flow counts what is in the tunnel', 'bpf/pipeline.h',
              'account(stats, scratch->outer.frame_len, 0);',
              'account(stats, scratch->packet.frame_len, 0);',
              BPF, 'Pop/TunnelTest.*'),
        Fault('outer headers do not count for the MTU', 'bpf/actions.h',
              'p->frame_len + growth(act) + lead;',
              'p->frame_len + growth(act);', BPF, 'Tunnel.PushMisses'),
        Fault('the outer IPv4 checksum does not follow the length',
              'bpf/encap.h',
              '        ip->check = update_checksum(ip->check, ip->tot_len);\n',
              '', BPF, 'Tunnel.Push'),
        Fault('the outer checksum is for the addresses that were', 'bpf/encap.h',
              'known_sum(p, &plan->key)', 'known_sum(p, &p->key)',
              BPF, 'Tunnel.Push'),
        Fault('what UDP does not count is taken for summed', 'bpf/parse.h',
              'p->udp_differs = udp->len != bpf_htons(len);',
              'p->udp_differs = 0;',
              BPF, 'Tunnel.Push'),
        Fault('the tunnel\'s words are not compared', 'bpf/lookup.h',
              '        XF_COMPARE(XF_TUNNEL_WORD, XF_KEY_WORDS);\n', '',
              BPF, 'Pop/TunnelTest.*'),
        Fault('the source port follows the outer TOS', 'bpf/encap.h',
              'p->digest - xf_hash_word(w[id], xf_secret[id])',
              'p->digest + xf_hash_word(w[id], xf_secret[id])',
              BPF, 'Tunnel.SourcePort*'),
        Fault('the length of an option is not matched',
              'flowxlate/translate/match.cc', '    mask[kLength] = 0xff;\n', '',
              UNIT, 'DecodeMatch.Tunnel'),
        Fault('the outer family is not matched', 'flowxlate/translate/match.cc',
              '    m_.mask.tun_family = 0xff;\n', '',
              UNIT, 'DecodeMatch.Tunnel'),
        Fault('fields are set of the packet in a tunnel for those around it',
              'flowxlate/translate/actions.cc',
              'if (is_in_tunnel() && a.type != OVS_ACTION_ATTR_OUTPUT',
              'if (false && a.type != OVS_ACTION_ATTR_OUTPUT',
              UNIT, 'DecodeActions.TunnelPush'),
    ]),
]


def stale(top):
    """Faults in our own files of which what is to be replaced is not there once."""
    faults = [f for group in GROUPS for f in group.faults
              if not f.skip and not f.path.startswith(OVS)]
    for fault in faults:
        with open(os.path.join(top, fault.path)) as file:
            if file.read().count(fault.old) != 1:
                yield fault


if __name__ == '__main__':
    # For .ci/run: who changes the lines of a fault changes the fault.
    lost = list(stale(os.path.join(os.path.dirname(__file__), '..', '..')))
    for fault in lost:
        print('%s: %s: these lines are not there once:\n%s' % (
            fault.path, fault.what, fault.old))
    sys.exit(1 if lost else 0)
