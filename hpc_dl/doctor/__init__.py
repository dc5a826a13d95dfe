# SPDX-License-Identifier: Apache-2.0
"""What is wrong here? Checks of a place before work, of ranks among each other, and of a failed job's log.

`place.examine` needs no torch; `ranks.examine` runs on all ranks; `log.read_log` reads a log.
"""
