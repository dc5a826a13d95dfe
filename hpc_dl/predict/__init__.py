# SPDX-License-Identifier: Apache-2.0
"""From measurements to machine sizes nobody has measured yet: step time and efficiency, with an interval."""
