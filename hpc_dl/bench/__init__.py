# SPDX-License-Identifier: Apache-2.0
"""How fast do ranks talk? Collectives measured over the engines of `comm`, or over MPI alone."""
