# SPDX-License-Identifier: Apache-2.0
"""Published scaling results: read from tables, predicted without their own system, and judged."""
