# SPDX-License-Identifier: Apache-2.0
"""Measurements and studies behind the figures in docs/, each a command; none of it is installed."""
