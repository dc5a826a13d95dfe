# SPDX-License-Identifier: Apache-2.0
"""These tests need Intel's extension: `make test-ipex` runs them, in an environment of its own; no other run does."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("intel_extension_for_pytorch") else ["test_*.py"]
