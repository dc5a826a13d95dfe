# SPDX-License-Identifier: Apache-2.0
"""Start one program of the stand-in for PBS by name: run_standin.py qsub SITE_FOLDER [ARGUMENT ...]."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    module = importlib.import_module(f"standin.{sys.argv[1]}")
    sys.exit(module.main(*sys.argv[2:]))
