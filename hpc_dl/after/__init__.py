# SPDX-License-Identifier: Apache-2.0
"""What a recipe makes of its trained model: a comparison, a picture, a text; named in `task.on_finish`."""
