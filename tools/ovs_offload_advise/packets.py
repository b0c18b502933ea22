# SPDX-License-Identifier: Apache-2.0
"""From verdicts on flows to shares of packets.

A packet may pass several flows: it is recirculated, or taken out of a tunnel.  XDP
executes it if it executes all of them; else the first one that it does not execute says
why.  A dump has the packets of each flow, not their ways, so where flows meet, packets
are taken to be mixed: those that come with a recirculation id are what all flows that
recirculate with it have sent, in their proportions.
"""
import collections
from typing import Optional

from .dump import Flow, Where

MAX_FLOWS = 8                        # That a packet passes in XDP.
TOO_MANY = 'miss/recirculation'
Shares = collections.defaultdict[str, float]         # By reason; '' if executed.


class Ways:
    """The ways of packets through flows, of which each has a reason ('' if executed)."""

    def __init__(self, flows: list[Flow], reasons: list[str]) -> None:
        self.flows = list(zip(flows, reasons))
        # Flows that send there.
        self.before: dict[Where, list[tuple[Flow, str]]] = collections.defaultdict(list)
        for flow, reason in self.flows:
            for where in flow.next:
                self.before[where].append((flow, reason))
        self.mixes: dict[Where, dict[str, float]] = {}
        self.entrances = {self.entrance(flow) for flow in flows}

    def entrance(self, flow: Flow) -> Optional[Where]:
        """Where a flow's packets come from; None: from a port, as they are."""
        if flow.recirc_id:
            return ('recirc', flow.recirc_id)
        where: Where = ('port', flow.in_port)
        return where if where in self.before else None

    def mix(self, where: Optional[Where], depth: int) -> dict[str, float]:
        """The shares of packets that come from there, by what has become of them."""
        if depth >= MAX_FLOWS:
            return {TOO_MANY: 1.0}
        if where is None or where not in self.before:
            return {'': 1.0}
        if where not in self.mixes:
            total: Shares = collections.defaultdict(float)
            for flow, reason in self.before[where]:
                # Of flows without any figures each counts alike.
                self.add(total, flow, reason, max(flow.packets, 1e-6), depth + 1)
            n = sum(total.values())
            self.mixes[where] = {k: v / n for k, v in total.items()}
        return self.mixes[where]

    def add(self, total: Shares, flow: Flow, reason: str, packets: float,
            depth: int = 0) -> None:
        for earlier, share in self.mix(self.entrance(flow), depth).items():
            total[earlier or reason] += share * packets

    def packets(self) -> Shares:
        """Packets by reason; those of flows in which their way ends."""
        total: Shares = collections.defaultdict(float)
        for flow, reason in self.flows:
            # Where a refused flow sends packets is known from there.
            if not self.entrances.intersection(flow.next):
                self.add(total, flow, reason, flow.packets)
        return total
