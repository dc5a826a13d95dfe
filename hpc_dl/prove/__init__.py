# SPDX-License-Identifier: Apache-2.0
"""What of a user's own model and data can be shown before an allocation is spent on them?"""
