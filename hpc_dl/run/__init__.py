# SPDX-License-Identifier: Apache-2.0
"""What any loop needs besides its step: a folder with a log, checkpoints, and an end in time (`run.py`)."""
