// SPDX-License-Identifier: Apache-2.0
#include "translate/reasons.h"

#include <algorithm>
#include <map>
#include <vector>

#include "bpf/abi/counters.h"
#include "translate/actions.h"
#include "translate/fields.h"

namespace flowxlate {
namespace {

constexpr const char *kMissNames[] = {XF_MISS_NAMES};
static_assert(std::size(kMissNames) == XF_N_MISSES);

constexpr const char *kNothing = "Nothing: OVS executes these.";
constexpr const char *kTrace =
    "xdp-offload/trace PORT FLOW, with the flow's text, says which OpenFlow "
    "rule is behind it; without that the flow goes to XDP.";
constexpr const char *kExact =
    "Let the OpenFlow rule match that protocol exactly, and no later "
    "fragments.";
constexpr const char *kNdMeaning =
    "The flow matches a field of Neighbour Discovery, but not ICMPv6's type "
    "exactly (OVS 3.1: and the code), and then OVS does not tell its "
    "datapaths of the field.";
constexpr const char *kNdRemedy =
    "Let the OpenFlow rule match icmp_type and icmp_code=0 as well.";
constexpr const char *kIcmpv6Set =
    "The flow sets the type or code of ICMPv6 and recirculates packets then, "
    "or may be hit by packets that are no ICMPv6.";
constexpr const char *kIcmpv6Later =
    "Nothing: only flows that are added by hand (dpctl) are like that.  What "
    "OpenFlow rules set of ICMP OVS executes itself (action/userspace).";
constexpr const char *kSender = "Nothing here; the sender makes such packets.";

constexpr const char *kTraceCommand =
    "ovs-appctl xdp-offload/trace PORT 'FLOW'";
constexpr const char *kTakeIn =
    "ovs-vsctl remove Interface PORT other_config xdp-offload";
constexpr const char *kTakeOutputIn =
    "ovs-vsctl remove Interface OUTPORT other_config xdp-offload";
constexpr const char *kStatus = "ovs-appctl xdp-offload/status";
constexpr const char *kExplain = "ovs-appctl xdp-offload/explain";

struct Row {
    const char *name, *meaning, *remedy;
    const char *command = "";
};

// What cannot be said of a whole group.
constexpr Row kRows[] = {
    {"action/after_output",
     "The flow does something to the packet after an output, such as setting "
     "a field between two outputs.",
     "Put outputs last in the OpenFlow actions, so that all ports get the "
     "same packet, and truncate for none of several.  A flood to ports with "
     "different VLAN tags, or to a tunnel and others, is such a flow too: if "
     "nobody uses the bridge's own port, take that out of it by ovs-ofctl -O "
     "OpenFlow10 mod-port BRIDGE BRIDGE no-flood, each time that "
     "ovs-vswitchd has started."},
    {"action/ct",
     "The flow sends packets to connection tracking that are not IP, or in a "
     "way unknown to XDP, or in the kernel datapath of a kernel whose "
     "connections programs cannot ask for by zone (Linux before 6.11).",
     "Kernel datapath: xdp-offload/show says what the kernel misses.",
     "ovs-appctl xdp-offload/show"},
    {"action/ct_alg",
     "The flow sends packets to connection tracking with a helper (alg=ftp), "
     "which reads what they carry.",
     kNothing},
    {"action/ct_force",
     "The flow may end connections of the other direction (ct with force).",
     "Leave force out, unless connections that the other side has begun must "
     "be "
     "ended."},
    {"action/ct_not_told",
     "The flow has to do with connections, of which OVS does not tell the "
     "plugin.",
     "Run the ovs-vswitchd that belongs to the plugin.  If it is, OVS has two "
     "userspace datapaths (ovs-appctl dpctl/show): delete the one that is not "
     "used.",
     "ovs-appctl dpctl/show"},
    {"action/set_after_ct",
     "The flow sets addresses or ports twice, with connection tracking "
     "between.",
     kNothing},
    {"action/too_many_ct",
     "The flow sends packets to connection tracking more than three times.",
     kNothing},
    {"action/hash",
     "The flow hashes packets (select groups, bonds) with an algorithm, or an "
     "OVS build, whose hash the program cannot compute.",
     "Run the ovs-vswitchd that belongs to the plugin."},
    {"action/hash_l4",
     "The flow hashes packets with OVS's hash_l4, which XDP cannot "
     "reproduce: a bond with balance-tcp, or a select group with "
     "selection_method=dp_hash, as load balancers of OVN have for the first "
     "packets of connections.",
     "For groups: leave selection_method out, or give it with "
     "selection_method_param=4294967296 (the symmetric hash).  For bonds: use "
     "bond_mode=balance-slb or active-backup, of which a flow outputs to one "
     "member.  For OVN: nothing, connections go on in XDP without the hash."},
    {"action/after_tnl_push",
     "The flow does more to a packet that it has put into a tunnel than to "
     "push a VLAN tag and to output it: the bridge of the outer packets sets "
     "fields of them, recirculates them or mirrors what is in them.",
     "Use simple OpenFlow rules (actions=NORMAL, no bond with balance-tcp) in "
     "the bridge that has the tunnels' local address."},
    {"action/check_pkt_len",
     "The flow goes on with the packet behind check_pkt_len, is of the kernel "
     "datapath, or leaves no packet that is short enough: the program does "
     "not copy packets, and OVS executes those that are longer.",
     "Let check_pkt_larger be the last of the OpenFlow actions, with those "
     "that it decides on behind it."},
    {"action/nested",
     "The flow has lists of actions within others, more than four deep.",
     kTrace},
    {"action/clone",
     "The flow goes on with the packet behind a clone; the program does not "
     "copy packets.",
     kTrace},
    {"action/ovs_private",
     "The flow has lb_output, an action of OVS's userspace datapath: a bond "
     "with balance-tcp and lb-output-action, whose hash XDP cannot reproduce, "
     "and whose traffic OVS measures for each bucket.",
     "Use bond_mode=balance-slb or active-backup, of which a flow outputs to "
     "one member."},
    {"action/tnl_pop",
     "The flow takes packets out of a tunnel after it has done something else "
     "to them.",
     kNothing},
    {"action/tnl_push_length",
     "The outer headers that the flow puts before packets are longer than 128 "
     "bytes: they have many Geneve options.",
     "Let OpenFlow rules set fewer tun_metadata fields."},
    {"action/tnl_push_type",
     "The flow puts packets into a tunnel that is neither Geneve nor VXLAN.",
     "Use Geneve or VXLAN, if the other side can."},
    {"action/meter",
     "The flow limits the rate of packets with an OpenFlow meter (QoS rules "
     "and rate-limited ACL logs of OVN): its tokens would have to be shared "
     "with OVS.",
     "Without a meter in the OpenFlow rules the flow goes to XDP.",
     kTraceCommand},
    {"action/recirc",
     "Kernel datapath of an ovs-vswitchd that is older than the plugin: the "
     "flow recirculates, and the flow that goes on with the packet might not "
     "be in XDP.",
     "Run the ovs-vswitchd that belongs to the plugin."},
    {"action/sample",
     "The flow samples packets (sFlow, IPFIX, or the sample action).",
     "Switch sFlow or IPFIX off for the bridge, or accept that sampled "
     "traffic stays in OVS.",
     "ovs-vsctl clear Bridge BRIDGE sflow ipfix"},
    {"action/not_at_tc",
     "Kernel datapath: the flow truncates, and enters through a port whose "
     "program is at TC's ingress, where that is not done "
     "(other_config:xdp-offload-hook).",
     "Have the port's program in XDP (ovs-vsctl set Open_vSwitch . "
     "other_config:xdp-offload-hook-PORT=xdp), or leave it to OVS."},
    {"action/third_vlan", "The packet would leave with three VLAN tags.",
     kNothing},
    {"action/too_many_outputs",
     "The flow outputs to more ports than a group holds, or truncates for one "
     "of several.",
     "Have fewer ports in a flood or mirror, and no max_len for one of "
     "several."},
    {"action/trunc",
     "The flow truncates packets otherwise than for one output, or, in the "
     "kernel datapath, such that have a VLAN tag.",
     kNothing},
    {"action/unknown_action", "The flow has an action unknown to XDP.",
     "Look for a newer version of the plugin."},
    {"action/userspace",
     "The flow hands packets to ovs-vswitchd: to the controller, to a "
     "protocol that it speaks itself (LACP, BFD, CFM, ARP replies), or for "
     "OpenFlow rules that set fields of ARP, ICMP or Neighbour Discovery, "
     "which OVS does there.",
     kNothing},
    {"input/left_out",
     "The input port is left out of XDP, as its Interface says: "
     "other_config:xdp-offload=false.",
     "Nothing, if that is on purpose.  Else: ovs-vsctl remove Interface PORT "
     "other_config xdp-offload; the flow then goes to XDP by itself.",
     kTakeIn},
    {"input/no_device",
     "The device of the input port is gone, deleted or moved to another "
     "network namespace.",
     "Bring the device back, or remove the port from OVS.",
     "ovs-vsctl del-port PORT"},
    {"input/not_an_xdp_port",
     "The packets enter through a port that executes no flows in XDP.",
     "xdp-offload/status lists the ports that do, and why another one was not "
     "taken.  When it is, the flow goes to XDP by itself.",
     kStatus},
    {"match/dp_hash",
     "The flow matches more bits of the packet's hash than XDP knows.",
     "Let OpenFlow rules match only the low 8 bits of dp_hash."},
    {"match/eth_type",
     "The flow is of packets with a length (802.3) where XDP needs an "
     "Ethernet type; STP and LLC are of that kind.",
     kNothing},
    {"match/in_port", "The flow does not match the input port exactly.",
     kNothing},
    {"match/ip_frag", "The flow matches fragments in an unusual way.",
     kNothing},
    {"match/igmp", "The flow matches IGMP's type or group.", kNothing},
    {"match/nd_options_type",
     "The flow matches the type of Neighbour Discovery options.", kNothing},
    {"match/nd_reserved",
     "The flow matches the reserved bits of Neighbour Discovery.", kNothing},
    {"match/nd_sll", kNdMeaning, kNdRemedy},
    {"match/nd_target", kNdMeaning, kNdRemedy},
    {"match/nd_tll", kNdMeaning, kNdRemedy},
    {"match/recirc_id", "The flow matches a recirculation id in part.",
     kNothing},
    {"match/third_vlan", "The flow matches a third VLAN tag.", kNothing},
    {"match/tun_flags",
     "The flow matches a flag of a tunnel that no packet has here.", kNothing},
    {"match/tun_metadata",
     "The flow matches Geneve options other than one of 4 bytes.", kNothing},
    {"match/tunnel",
     "The flow is of packets that came out of a tunnel, and matches something "
     "of that which the program does not encode, such as the outer UDP port.",
     kNothing},
    {"match/untold_field",
     "The flow matches something that OVS does not tell its datapaths.",
     kTrace},
    {"match/vlan_tci", "The flow is of packets whose VLAN tag was cut off.",
     kNothing},
    {"match/vlan_tpid",
     "The flow does not match the VLAN tag's Ethernet type exactly.",
     kNothing},
    {"input/vlan_tags_beside_the_frame",
     "Kernel datapath: the input port, or its veth peer, puts VLAN tags "
     "beside "
     "the frame, where XDP does not see them.",
     "Switch that off: ethtool -K DEV rxvlan off; for a veth, ethtool -K PEER "
     "txvlan off.  xdp-offload/status says which it is.",
     kStatus},
    {"input/handled_before_ovs",
     "Kernel datapath: the input port has a filter of TC that is not OVS's, a "
     "BPF program, or a chain of nftables (family netdev) at ingress, which "
     "comes before OVS and would miss what XDP executes.  What comes before "
     "a "
     "program at TC's ingress misses nothing, and is no reason.",
     "Remove it, or move what it does to OpenFlow rules.  xdp-offload/status "
     "says which it is.",
     kStatus},
    {"input/may_be_marked",
     "Kernel datapath: the flow matches skb_mark or skb_priority, which the "
     "sender may have set: the veth peer is in the same network namespace, "
     "XDP "
     "is generic, or the port's program is at TC's ingress.",
     "Move the veth's peer to another namespace, or leave pkt_mark out of the "
     "OpenFlow rules of the bridge."},
    {"input/vlan_device",
     "Kernel datapath: a VLAN device on top of the input port takes packets "
     "that the flow matches, before OVS.",
     "Let the OpenFlow rule match the id of another VLAN exactly."},
    {"match/link_protocol",
     "Kernel datapath: LLDP, PTP, LACP, OAM or CFM, which daemons such as "
     "lldpd and ptp4l hear on the port's device, next to OVS.",
     kNothing},
    {"output/cannot_transmit_now",
     "Kernel datapath: one of the flow's output ports takes no frames from "
     "XDP "
     "now.",
     "Do what xdp-offload/status, or xdp-offload/show behind \"transmit\", "
     "says of the port; OVS then offers the flow again.",
     kStatus},
    {"output/left_out",
     "One of the flow's output ports is left out of XDP, as its Interface "
     "says: other_config:xdp-offload=false.",
     "Nothing, if that is on purpose.  Else: ovs-vsctl remove Interface PORT "
     "other_config xdp-offload; the flow then goes to XDP by itself.",
     kTakeOutputIn},
    {"output/not_an_xdp_port",
     "One of the flow's output ports takes no frames from XDP: the bridge's "
     "own port, a tap, patch or DPDK port, or one that was refused.",
     "Broadcasts go to the bridge's own port too.  If nobody uses that: "
     "ovs-ofctl -O OpenFlow10 mod-port BRIDGE BRIDGE no-flood, each time that "
     "ovs-vswitchd has started.  Other ports: "
     "xdp-offload/status lists those that are in XDP, and why another one was "
     "not taken.  When it is, the flow goes to XDP by itself (userspace "
     "datapath).",
     kStatus},
    {"parked/flushed",
     "OVS has taken the flows of this port out of XDP: the offload was "
     "switched off, or all flows are being deleted.",
     "If it is not on purpose: other_config:hw-offload=true.  The flow then "
     "comes back by itself.",
     "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true"},
    {"parked/left_out",
     "The flow's input port, or one of its output ports, was left out of XDP "
     "while the flow was there (other_config:xdp-offload=false).",
     "Nothing, if that is on purpose.  Else: ovs-vsctl remove Interface PORT "
     "other_config xdp-offload; the flow then comes back by itself.",
     kTakeOutputIn},
    {"parked/mask_evicted",
     "Masks were scarce, and no flow under this flow's mask had seen a packet "
     "in XDP for a second.",
     "It comes back by itself when it has packets and more than 8 masks are "
     "free.  So that there are fewer masks: as for table/masks.",
     "ovs-appctl xdp-offload/explain table/masks"},
    {"parked/no_memory",
     "ovs-vswitchd had no memory left when OVS modified the flow.",
     "Find out what takes the memory; the flow comes back by itself when it "
     "has packets and there is memory."},
    {"parked/no_device",
     "The device of the flow's input port is gone, deleted or moved to "
     "another network namespace.",
     "Bring the device back, or remove the port from OVS.  The flow comes "
     "back "
     "by itself when packets of it come to OVS.",
     "ovs-vsctl del-port PORT"},
    {"parked/port_removed",
     "The flow's input port, or one of its output ports, has left XDP.",
     "Add the port again: the flow then comes back by itself, as soon as OVS "
     "has checked that it is right.  If OVS does not need it any more, it "
     "deletes it soon."},
    {"set/icmpv6_code", kIcmpv6Set, kIcmpv6Later},
    {"set/icmpv6_type", kIcmpv6Set, kIcmpv6Later},
    {"set/later_fragment",
     "The flow sets an IPv4 address and may be hit by later fragments.",
     "Let the OpenFlow rule match ip_frag=not_later."},
    {"table/buckets",
     "The places for this flow's hash are taken; rare, and not a matter of "
     "the number of flows.",
     "Set a larger xdp-offload-max-flows, and restart ovs-vswitchd.",
     "ovs-vsctl set Open_vSwitch . other_config:xdp-offload-max-flows=N"},
    {"table/flows", "There are as many flows in XDP as it holds.",
     "The flow goes to XDP by itself when others are gone.  For more: raise "
     "other_config:xdp-offload-max-flows and restart ovs-vswitchd, or "
     "let OpenFlow rules match fewer fields, so that there are fewer flows.",
     "ovs-vsctl set Open_vSwitch . other_config:xdp-offload-max-flows=N"},
    {"table/groups",
     "There are too many different sets of output ports (63), or this one is "
     "not prepared yet: they are made one after the other after the start.",
     "If it persists, use fewer different floods and mirrors."},
    {"table/masks", "There are too many different masks (512) in XDP.",
     "Let OpenFlow rules match the same fields, with prefixes of the same "
     "lengths: xdp-offload/explain table/masks lists the masks that there "
     "are.  Flows of these still go to XDP, and this one does by itself when "
     "more than 8 masks are free.",
     "ovs-appctl xdp-offload/explain table/masks"},
    {"table/ports", "Too many ports (1023) in XDP.", kNothing},
    {"table/recirc_ids",
     "There are too many recirculation ids in use (16383).",
     "Use fewer different recirculations: select groups, bonds, MPLS."},
    {"table/tunnels",
     "There are too many different outer headers to put before packets "
     "(4095).",
     "Use fewer remote tunnel end points or networks on this host."},
    {"table/rewrites",
     "There are too many different ways to set header fields (4095).",
     "Let OpenFlow rules set fewer different values."},
    {"waiting/cannot_transmit",
     "The output port's driver takes no frames from XDP now; the flow is in "
     "the tables, and its packets go through OVS.",
     "Do what xdp-offload/status says of the output port.  The flow then goes "
     "on in XDP by itself.",
     kStatus},
    {"waiting/link_down", "The link of the output port is down.",
     "Set the link up; the flow then goes on in XDP by itself.",
     "ip -d link show OUTPORT"},
    {"waiting/no_device", "The output port's device is gone.",
     "Remove the port from OVS, or bring the device back.",
     "ovs-vsctl del-port OUTPORT"},

    {"miss/no-flow", "No flow in XDP matches the packet.",
     "xdp-offload/explain lists the flows that are not in XDP, with reasons; "
     "the first packet of a flow always takes this way.",
     kExplain},
    {"miss/truncated", "The packet is shorter than its headers say.", kSender},
    {"miss/ethertype",
     "The packet has a length (802.3) where XDP needs an Ethernet type; STP "
     "and LLC are of that kind.",
     kNothing},
    {"miss/arp", "ARP that is not for Ethernet and IPv4.", kSender},
    {"miss/ip-header",
     "The IP header has a bad version or length, or the frame is much longer "
     "than it.",
     kSender},
    {"miss/ip-options",
     "The packet has IPv4 options or IPv6 extension headers.", kSender},
    {"miss/nd-options",
     "A Neighbour Discovery message with options other than one link-layer "
     "address.",
     kNothing},
    {"miss/recirculation",
     "The packet was recirculated, and no flow in XDP matches it then, or it "
     "would pass more than eight flows or connections.",
     "xdp-offload/explain lists the flows that are not in XDP, with reasons; "
     "until the next flow is there, OVS executes the whole packet.",
     kExplain},
    {"miss/tx-port", "The output port cannot take frames from XDP now.",
     "xdp-offload/explain waiting/ says why.",
     "ovs-appctl xdp-offload/explain waiting/"},
    {"miss/tx-length", "The packet is too long for the output port.",
     "Set the same MTU on all ports and behind them."},
    {"miss/tx-checksum",
     "The packet has a checksum that XDP cannot complete: SCTP, fields to be "
     "set in a packet of generic XDP, or one of a packet in it, as a "
     "container sends that makes a tunnel itself.  Or it comes from a veth or "
     "a tap in a format in which XDP does not look for one: L2TP, ERSPAN, "
     "NSH, batman-adv, VXLAN-GPE, GUE, a pseudowire.",
     "Switch the sender's checksum offload off (ethtool -K DEV tx off).  "
     "Packets of those formats stay in OVS whatever the sender does."},
    {"miss/headroom",
     "No room in front of the packet for a VLAN tag or for the headers of a "
     "tunnel.",
     kNothing},
    {"miss/frame-size",
     "The checksum of the packet has to be completed, which is limited to "
     "4096 bytes.",
     "Set a smaller MTU, or switch the sender's checksum offload off."},
    {"miss/ct-packet",
     "Connection tracking of a packet that is not a plain one: a fragment, an "
     "ICMP error, another protocol than TCP, UDP and ICMP, FTP or TFTP, or "
     "with "
     "a bad header.",
     kNothing},
    {"miss/ct-unknown",
     "Connection tracking of a packet of no connection that is known, where "
     "OVS has to make one or to find the packet invalid.",
     "The first packet of a connection always takes this way.  If others do, "
     "xdp-offload/show says whether there is room for all connections "
     "(other_config:xdp-offload-max-connections).",
     "ovs-appctl xdp-offload/show"},
    {"miss/ct-state",
     "The packet may change the state of its connection (SYN, FIN, RST, the "
     "first answer, one after the time-out), or follows one that may, which "
     "OVS "
     "has not seen yet.",
     kNothing},
    {"miss/ct-window",
     "A TCP packet that is not in the window of its connection: OVS judges "
     "it.",
     kNothing},
    {"miss/ct-change",
     "The packet would change the mark or label of its connection.", kNothing},
    {"miss/ct-refresh",
     "Kernel datapath: a packet of a connection that is left to "
     "openvswitch.ko, so that the connection does not time out.",
     kNothing},
    {"miss/tunnel-header",
     "A packet of a tunnel whose outer headers are not plain ones: more than "
     "one Geneve option or one that is not 4 bytes long, padding, a bad "
     "version, or a tunnel in a tunnel.",
     "Nothing: OVS takes these out of the tunnel, or drops them."},
    {"miss/tunnel-checksum",
     "A packet of a tunnel with an outer UDP checksum that is wrong, or that "
     "does not fit the inner packet's.",
     "Nothing: OVS verifies these."},
    {"miss/tunnel-flow", "No flow in XDP matches what came out of the tunnel.",
     "As for no-flow: xdp-offload/explain lists the flows that are not in "
     "XDP, with reasons.",
     kExplain},
    {"miss/packet-length",
     "The packet is longer than the flow's check_pkt_len says (gateway_mtu of "
     "OVN), so that other actions are due.",
     "Nothing: OVS executes these.  A smaller MTU of the sender spares it "
     "that."},
    {"miss/hook",
     "The flow does what the program at TC's ingress does not execute: "
     "truncating, check_pkt_len, or a tunnel.",
     "Nothing: OVS executes these."},
    {"miss/internal", "The program has found a table to be inconsistent.",
     "This is a bug: please report it."},
};

using Table = std::map<std::string, Reason>;

void add(Table *table, const std::string &name, const std::string &meaning,
         const std::string &remedy, const std::string &command = "") {
    table->try_emplace(
        name,
        Reason{name, meaning, remedy,
               command.empty() && remedy == kTrace ? kTraceCommand : command});
}

void replace(std::string *s, std::string_view blank, const std::string &by) {
    const auto at = by.empty() ? s->npos : s->find(blank);
    if (at != s->npos) {
        s->replace(at, blank.size(), by);
    }
}

// The reasons that have a header field's name.
void add_field(Table *t, const char *name, bool known, bool settable) {
    const std::string field = name;
    add(t, "match/" + field,
        known ? "The flow matches " + field
                    + " in a way that the program does not encode, most "
                      "often without matching the protocol that has it."
              : "The flow matches " + field
                    + ", at which the program does not look.",
        known ? kExact : kTrace);
    add(t, "set/" + field,
        settable
            ? "The flow sets " + field
                  + ", but may be hit by packets that do not have it."
            : "The flow sets " + field + ", which the program does not do.",
        settable ? kExact : kTrace);
}

void add_malformed(Table *t, const std::string &what) {
    add(t, "malformed/" + what,
        "OVS handed over what is not well-formed: " + what + ".",
        "The plugin and OVS's glue do not fit, or there is a bug: please "
        "report the flow.");
}

Table make_table() {
    Table t;
    for (auto &row : kRows) {
        add(&t, row.name, row.meaning, row.remedy, row.command);
    }
    for (auto &f : fields()) {
        add_field(&t, f.name, f.key_off != kNotInKey, f.settable);
    }
    for (uint16_t attr = 0; attr <= kMaxAttr; attr++) {
        add_field(&t, rule_of(attr).name, false, false);
        add_malformed(&t, rule_of(attr).name);
    }
    for (auto &a : action_support()) {
        const std::string name = a.name;
        if (!a.supported) {
            add(&t, "action/" + name,
                "The flow has the action " + name
                    + (*a.remark ? std::string(" (") + a.remark + ")." : "."),
                kTrace);
        }
    }
    for (auto *what :
         {"duplicate_attribute", "attribute_length", "action_length", "output",
          "push_vlan", "pop_vlan", "trunc", "hash", "recirc", "set", "ct",
          "tnl_push", "tnl_pop", "check_pkt_len"}) {
        add_malformed(&t, what);
    }
    return t;
}

const std::vector<Reason> &table() {
    static const auto all = [] {
        std::vector<Reason> v;
        for (auto &[name, reason] : make_table()) {
            v.push_back(reason);
        }
        return v;
    }();
    return all;
}

}  // namespace

std::span<const Reason> reasons() { return table(); }

const Reason *find_reason(std::string_view name) {
    const auto all = reasons();
    auto it = std::lower_bound(
        all.begin(), all.end(), name,
        [](const Reason &r, std::string_view n) { return r.name < n; });
    return it != all.end() && it->name == name ? &*it : nullptr;
}

std::string fill_in(const std::string &command, const Blanks &blanks) {
    std::string s = command;
    replace(&s, "OUTPORT", blanks.out_port);
    replace(&s, " PORT", blanks.port.empty() ? "" : " " + blanks.port);
    replace(
        &s, "=N",
        blanks.max_flows ? "=" + std::to_string(2 * blanks.max_flows) : "");
    replace(&s, "FLOW", blanks.flow);
    return s;
}

const char *miss_name(xf_miss reason) {
    return reason < XF_N_MISSES ? kMissNames[reason] : "unknown";
}

}  // namespace flowxlate
