# SPDX-License-Identifier: Apache-2.0
"""How good are predictions? Published scaling results, each predicted without its own system, and judged.

`python -m benchmarks.published` does it, with the results in `tables/`; docs/predict.md has the outcome.
"""
