#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel datapath's homes for a flow, compared: XDP, TC, openvswitch.ko.

  generator -> eth0 -veth- p1 -> switch -> p2 -veth- eth0 -> XDP_DROP, counted

Runs in an emulated machine, started by tests/vm/run_compare.  The switch is one of
  direct   none: the frames are counted at p1 (what generating them costs)
  bare     an XDP program on p1 that does nothing but redirect
  xdp      ovs-vswitchd with the plugin
  tc       ovs-vswitchd with hw-offload=true alone, flows in TC flower (skip_hw)
  ovs      ovs-vswitchd with hw-offload=false, flows in openvswitch.ko
All stand at the same time; short sends to each alternate.  Everything runs on
one processor, in the softirqs that the generator raises (tests/bench), so a rate
is what one processor does, generator included.  An ovs-vswitchd whose turn it is
not is stopped.

Prints {"metric": [a sample per round]} as JSON behind a line @result.
"""
