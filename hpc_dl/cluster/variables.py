# SPDX-License-Identifier: Apache-2.0
"""Names of hpc_dl's own environment variables: job scripts set them, the program reads them."""

from __future__ import annotations

EXPECTED_WORLD_SIZE = "HPC_DL_WORLD_SIZE"
"""Ranks the job script asked for: compared at start, and the world size where the launcher exports none (PALS)."""
MACHINE = "HPC_DL_MACHINE"
"""Name of the machine record the job script was rendered for."""
JOB_END = "HPC_DL_JOB_END"
"""When the scheduler is going to end the job, in seconds since 1970."""
RUN_FOLDER = "HPC_DL_RUN_FOLDER"
"""Folder of the run's log, settings and checkpoints."""
