# SPDX-License-Identifier: Apache-2.0
"""A PBS for tests: what OpenPBS 23 and Cray PALS accept and refuse, on one machine that plays several nodes."""
