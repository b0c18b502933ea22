# SPDX-License-Identifier: Apache-2.0
"""A live view of the flow offload: samples, rates, and three ways to show them.

sample.py asks ovs-vswitchd and the drivers, rates.py compares two samples,
screen.py draws them, openmetrics.py writes one for Prometheus.
"""
VERSION = '0.1.0'          # That of the project, in CMakeLists.txt.
