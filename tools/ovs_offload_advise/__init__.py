# SPDX-License-Identifier: Apache-2.0
"""Is the offload worth it on this host?

dump.py reads datapath flows, verdict.py has them judged by Open vSwitch's code and
ours, packets.py says what that means for packets, host.py looks at the host,
report.py puts it in words.  daemon.py, by which Open vSwitch is asked, is ovs_offload_top's.
"""
VERSION = '0.1.0'          # That of the project, in CMakeLists.txt.
