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
    skip: str = ''      # Why it cannot be tried here.


@dataclasses.dataclass
class Group:
    name: str           # What the faults are against.
    faults: list


GROUPS = [
    Group('Invariant 1, fail closed at translation', [
        Fault('an attribute of which bits are left over is taken',
              'flowxlate/match.cc', 'if (left[i] != std::byte{0}) {\n'
              '            return unsupported(name_at(type, i));',
              'if (false) {\n            return unsupported(name_at(type, i));',
              UNIT, 'MaskBits.*'),
        Fault('a field of a protocol is encoded though the flow does not match '
              'the protocol', 'flowxlate/match.cc',
              '|| (is_exactly(m, ip_proto(f.has)) && (f.has != Has::kNd || '
              'is_nd(m)));', '|| true;', UNIT, 'DecodeMatch.Transport'),
        Fault('what OVS does not tell of is not looked for',
              'flowxlate/match.cc',
              'return untold ? unsupported(reason_name(*untold)) : Reject{};',
              'return {};', UNIT, 'DecodeMatch.Untold'),
        Fault('the same', 'flowxlate/match.cc',
              'return untold ? unsupported(reason_name(*untold)) : Reject{};',
              'return {};', SYSTEM, 'widened'),
        Fault('the host does not parse back what it hands over',
              OVS + 'lib/netdev-offload-plugin.c',
              'untold = find_untold(flow, mask, key_buf, mask_buf);',
              'untold = NULL;', SYSTEM, 'widened'),
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
              'flowxlate/actions.cc', '                return unsupported('
              'a.type < std::size(kActions)\n', '                return a.type '
              '== OVS_ACTION_ATTR_CT ? Reject{} : unsupported(a.type < '
              'std::size(kActions)\n',
              UNIT, 'DecodeActions.RefusesAllOthersByName'),
        Fault('a field is set where packets may not have it',
              'flowxlate/actions.cc', 'if (left[i] != std::byte{0}\n',
              'if (false\n', UNIT, 'DecodeSet.*'),
        Fault('actions after an output are executed before it',
              'flowxlate/actions.cc', "return unsupported(\"after_output\");",
              ';', UNIT, 'DecodeActions.*'),
    ]),
    Group('Invariant 2, all or nothing per packet', [
        Fault('a tag is pushed before the output is asked', 'bpf/actions.h',
              '    miss = choose_port(p, act, 0, action);\n'
              '    if (miss != XF_PARSED)\n        return miss;\n'
              '    miss = check_checksum(p, act, 0, &partial);',
              '    if (act->n_push && bpf_xdp_adjust_head(ctx, -4))\n'
              '        return XF_MISS_HEADROOM;\n'
              '    miss = choose_port(p, act, 0, action);\n'
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
              'Output.*:Output/*:Recirc.*'),
    ]),
    Group('Invariant 3, translate completely, then publish', [
        Fault('a slot is reused before a grace period',
              'flowxlate/flow_table.cc',
              '    put_rewrite(rewrite);\n    retired_.flows.push_back(slot);\n'
              '    n_flows_--;', '    put_rewrite(rewrite);\n'
              '    free_flows_.push_back(slot);\n    n_flows_--;',
              UNIT, 'FlowTable.SlotsAreReusedOnlyAfterRelease'),
        Fault('a slot begins with an earlier flow\'s figures',
              'flowxlate/flow_table.cc',
              'mem_.stats[cpu * mem_.flows.size() + index(slot)] = {};', ';',
              UNIT, 'FlowTable.InsertStartsWithZeroStats'),
        Fault('a subtable that is removed ends the walk',
              'flowxlate/flow_table.cc',
              '    lead_to(self.next, self.id, self.previous);\n',
              '    lead_to(SubtableSlot::kNone, self.id, self.previous);\n',
              UNIT, 'FlowTable.WalkWithoutHoles'),
        Fault('a modification changes the slot in place',
              'flowxlate/flow_table.cc',
              '    bucket_pair(mem_.buckets, h)\n        .replace(',
              '    mem_.flows[index(*slot)].action = action.action;\n'
              '    bucket_pair(mem_.buckets, h)\n        .replace(',
              UNIT, 'FlowTableConcurrency.*:FlowTable.Replace'),
        Fault('a flow that was removed is still live', 'flowxlate/flow_table.cc',
              '    set_live(slot, false);\n    if (--subtables_',
              '    if (--subtables_', BPF, 'Lookup.RemovedAndReplacedFlows'),
    ]),
    Group('Invariant 4, statistics are exact', [
        Fault('the figures of a flow that is deleted are not read',
              'flowxlate/flows.cc', '            flow->past += '
              'table_.stats(flow->slot);\n            flow->slot',
              '            flow->slot', SYSTEM, 'counters-deletion'),
        Fault('a take is not subtracted from the next', 'flowxlate/flows.cc',
              '    flow->taken = now;\n', '', SYSTEM, 'counters'),
        Fault('each PMD thread\'s copy gets all that was counted',
              'flowxlate/flows.cc',
              '    flow->taken = now;\n',
              '    if (now.packets % 2) { flow->taken = now; }\n',
              SYSTEM, 'counters-two-pmds'),
        Fault('flows that are flushed are executed for some time',
              OVS + 'lib/dpif-netdev.c',
              '        dp_netdev_flow_plugin_del(netdev_flow);\n    }\n\n'
              '    ovs_mutex_lock', '    }\n\n    ovs_mutex_lock',
              SYSTEM, 'counters-del-flows'),
        Fault('get-flow shows one of a flow\'s copies',
              OVS + 'lib/dpif-netdev.c',
              '            dpif_flow_stats_add(&get->flow->stats, &stats);\n',
              '', SYSTEM, 'counters-get-flow'),
        Fault('a used flow idles out', 'flowxlate/offload.cc',
              'to->used_ms =\n', 'to->used_ms = 0 *\n', SYSTEM, 'busy-flow'),
        Fault('TCP flags are not told', 'flowxlate/offload.cc',
              'to->tcp_flags = from.tcp_flags;', 'to->tcp_flags = 0;',
              SYSTEM, 'flags-and-used'),
        Fault('a flow is counted before it can be executed',
              'bpf/xdp_offload.bpf.c',
              '    if (miss == XF_PARSED)\n        account(stats',
              '    account(stats', BPF, 'Random.*:Output.*'),
        Fault('a flow that lost its place is idle and stays',
              'flowxlate/flows.cc', '    past_ += flow->past;\n', '',
              SYSTEM, 'idle-flow'),
    ]),
    Group('Invariant 5, no black hole', [
        Fault('a port that takes no frames is an output', 'bpf/actions.h',
              '    if (!(*(const volatile __u32 *)&port->flags & xf_tx_flag))\n'
              '        return XF_MISS_TX_PORT;\n', '', BPF, 'Output.*'),
        Fault('GRO of the peer is not asked', 'flowxlate/devices.cc',
              'if (asked.why_unknown.empty() && !asked.has_gro && '
              '!peer.has_native_xdp) {', 'if (false) {', SYSTEM,
              'port-orders'),
        Fault('what the kernel announces of XDP is believed alone',
              'flowxlate/devices.cc', '    answers.has_gro = gro.data;',
              '    answers.has_gro = true;', SYSTEM, 'port-orders'),
        Fault('a port\'s changes are only looked at once a second',
              'flowxlate/devices.cc', '    *lost = false;\n'
              '    drain(route_events_.get(), on_link);\n',
              '    *lost = false;\n'
              '    drain(route_events_.get(), on_link);\n'
              '    drain(generic_events_.get(), on_features);\n'
              '    return {};\n', SYSTEM, 'port-gro'),
        Fault('the MTU of the peer is not asked', 'flowxlate/devices.cc',
              'std::min(link.mtu, peer.mtu)', 'link.mtu', SYSTEM, 'port-mtu'),
        Fault('too long a frame is sent', 'bpf/actions.h',
              '? XF_MISS_TX_LENGTH : XF_PARSED', '? XF_PARSED : XF_PARSED',
              BPF, 'VlanMtu/*:Output/*'),
        Fault('the link of the peer is not asked', 'flowxlate/devices.cc',
              's.up = (link.flags & IFF_UP) && (link.flags & IFF_LOWER_UP);',
              's.up = true;', SYSTEM, 'port-link-down'),
        Fault('that nothing arrives is not noticed', 'flowxlate/arrivals.cc',
              '    lost_ = true;\n', '', SYSTEM, 'port-unseen-peer'),
        Fault('the same', 'flowxlate/arrivals.cc', '    lost_ = true;\n', '',
              UNIT, '*Arrivals*'),
        Fault('each change of a port is a line in the log',
              'flowxlate/damping.cc',
              '    if (!n_untold_ || !n_left_) {', '    if (!n_untold_) {\n'
              '        return {};\n    }\n    n_left_ = kBurst;\n'
              '    if (!n_left_) {', SYSTEM, 'port-flapping'),
        Fault('the same', 'flowxlate/damping.cc',
              '    if (!n_untold_ || !n_left_) {', '    if (!n_untold_) {\n'
              '        return {};\n    }\n    n_left_ = kBurst;\n'
              '    if (!n_left_) {', UNIT, 'News.*'),
        Fault('too few queues are no cause of generic XDP',
              'flowxlate/devices.cc', 'if (asked.tx_queues > n || '
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
              '        result = 0xffff;\n    data += field',
              '        result = 0;\n    data += field',
              BPF, 'Checksum.UdpSumOfZeroIsAllOnes'),
        Fault('on the way to AF_XDP nothing is completed',
              'bpf/xdp_offload.bpf.c', '        complete_if_partial(ctx, p);\n',
              '        ;\n', SYSTEM, 'slow-path'),
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
              'flowxlate/flow_table.cc',
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
        Fault('links are not kept', 'flowxlate/pins.cc',
              '    if (bpf_obj_pin(link.get(), path(ifindex).c_str())) {',
              '    if (false) {', SYSTEM, 'kept-ways'),
        Fault('a directory of pins may be open to others', 'flowxlate/pins.cc',
              '    if (st.st_mode & 077) {', '    if (false) {',
              SYSTEM, 'kept-directory'),
        Fault('a directory of another user is not taken over',
              'flowxlate/pins.cc', 'if (st.st_uid != geteuid() && '
              'fchown(dir.get(), geteuid(), getegid())) {',
              'if (st.st_uid != geteuid()) {', SYSTEM, 'kept-taken-over'),
        Fault('the same', 'flowxlate/pins.cc', 'if (st.st_uid != geteuid() && '
              'fchown(dir.get(), geteuid(), getegid())) {',
              'if (st.st_uid != geteuid()) {', SYSTEM, 'kept-user'),
        Fault('who has no right to make the directory is told something else',
              'flowxlate/pins.cc', 'error == EACCES ? give : "mend that file '
              'system"', '"mend that file system"', SYSTEM,
              'kept-unprepared'),
        Fault('samples are lost rather than given back',
              'bpf/xdp_offload.bpf.c',
              '    bpf_tail_call(ctx, &xf_takeover, XF_NEXT_OLD);\n', '',
              BPF, 'Successor.*'),
        Fault('it takes over though rules are missing', 'flowxlate/handover.cc',
              '        last_change_ = now;  // The flows of now will be '
              'others.\n', '', SYSTEM, 'kept-late-rules'),
        Fault('a removed port gets what old flows send', 'flowxlate/offload.cc',
              '    hurry_handover();  // An old flow may send to this port.\n',
              '', SYSTEM, 'kept-port-removed'),
    ]),
    Group('Invariant 8, nothing foreign is broken', [
        Fault('another\'s program is taken for libxdp\'s',
              'flowxlate/attach.cc',
              '    if (!options.is_afxdp || std::strcmp(info.name, '
              'kProgramName) != 0\n        || !sockets) {',
              '    if (false) {', SYSTEM, 'foreign-system'),
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
              'if (st && key_matches(key, st, flow, slot))', 'if (st)',
              ORACLE, 'random'),
        Fault('a packet is 15 % dearer', 'bpf/xdp_offload.bpf.c',
              '        struct xf_hit hit = find_flow(p, cpu);\n',
              '        struct xf_hit hit = find_flow(p, cpu);\n\n'
              '        barrier();\n        hit = find_flow(p, cpu);\n',
              COST, 'Cost.IsNearTheShortestProgram'),
        Fault('a mask that is used is evicted', 'flowxlate/eviction.cc',
              '        if (mask.is_put || mask.used > mask.used_before) {',
              '        if (mask.is_put) {', UNIT, '*Eviction*'),
        Fault('nothing is evicted', 'flowxlate/offload.cc',
              '        evict_idle_masks();\n', '', SYSTEM, 'mask-explosion'),
        Fault('a refused flow is not offered again', 'flowxlate/wanted.cc',
              '    if (leaving_) {\n', '    if (true) {\n',
              SYSTEM, 'back-table-full'),
        Fault('one that lost its port is not', 'flowxlate/wanted.cc',
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
        Fault('flows of a device that left are executed', 'flowxlate/offload.cc',
              '        flows_->park_entering(port.slot, {"parked", '
              '"no_device", ENODEV});\n', '', SYSTEM, 'identity-moved-away'),
        Fault('whatever has the index is the port\'s device',
              'flowxlate/offload.cc',
              'if (port && !(state->exists && port->attachment->'
              'is_attached())) {', 'if (false) {', SYSTEM,
              'identity-index-reused'),
        Fault('a device that is back is no output', 'flowxlate/offload.cc',
              '        state.exists = ports_.restore_output(port);\n', '', SYSTEM, 'identity-short-absence'),
        Fault('a port\'s flows outlive it', 'flowxlate/offload.cc',
              'flows_->park_all_of(', 'flows_->park_entering(', SYSTEM, 'port-slot-reuse'),
        Fault('a port that is moved to another bridge is refused for ever',
              'ovs-plugin/netdev-offload-plugin-system.c', '', '',
              SYSTEM, 'kernel-move-port',
              skip='kernel datapath: its tests run in emulated machines only'),
    ]),
    Group('What operators see', [
        Fault('explain leaves out flows that wait', 'flowxlate/explain.cc',
              '        } else if (auto r = why_waiting(view, flow, &out)) {',
              '        } else if (Reject r; false) {',
              SYSTEM, 'explain-waiting'),
        Fault('a refusal is never forgotten', 'flowxlate/offload.cc',
              '        refusals_.forget_old(std::chrono::steady_clock::'
              'now());\n', '', SYSTEM, 'explain-forget'),
        Fault('a trace counts like traffic', 'flowxlate/bpf_maps.cc',
              '    bpf_map__set_max_entries(s->maps.xf_stats, n_slots_);\n'
              '    bpf_map__set_map_flags(s->maps.xf_flow_cache, '
              'BPF_F_MMAPABLE);\n',
              '    (void)share(maps_written(template_.get()), '
              'maps_written(s.get()));\n', SYSTEM, 'trace-exact'),
        Fault('a rate is of twice the time', 'tools/ovs_offload_top/rates.py',
              "max(new['now_ms'] - begin, 1) / 1000",
              "max(new['now_ms'] - begin, 1) / 500", SYSTEM, 'top-once'),
        Fault('a restart makes rates negative',
              'tools/ovs_offload_top/rates.py',
              'return new - old if new >= old else new', 'return new - old',
              SYSTEM, 'top-rates'),
        Fault('searches count hits, too', 'bpf/lookup.h',
              '    entry = choose_way(set->ways[0], signature);\n',
              '    count_search(cpu);\n'
              '    entry = choose_way(set->ways[0], signature);\n',
              SYSTEM, 'top-searches'),
        Fault('advice does not help', 'flowxlate/wanted.cc',
              '    {"output", "not_an_xdp_port", Ends::kWithPort},\n', '',
              UNIT, 'Wanted.*'),
        Fault('a reason has no row', 'flowxlate/reasons.cc',
              '    {"table/ports", "Too many ports (1023) in XDP.", '
              'kNothing},\n', '', UNIT, 'Reasons.*'),
        Fault('QoS is not looked at', 'flowxlate/offload.cc',
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
              SYSTEM, 'differential'),
        Fault('a modification keeps the old actions', 'flowxlate/flows.cc',
              '    if (same_match && table_.has_action(slot, does)) {',
              '    if (same_match) {', SYSTEM, 'modify'),
        Fault('switching off leaves flows in XDP', 'flowxlate/offload.cc',
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
