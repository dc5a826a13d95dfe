# SPDX-License-Identifier: Apache-2.0
"""A cluster on one machine: hosts are network namespaces, links as slow as wanted, communication is real.

Needs Linux, root, and the `ip`, `tc` and `unshare` programs. `python -m testbed --help` says how; docs/bench.md tells
what was measured on it.
"""
