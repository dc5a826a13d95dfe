# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: the records of its log. Training writes them, reports and jobs read them."""
