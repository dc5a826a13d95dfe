# SPDX-License-Identifier: Apache-2.0
"""What a loop of one's own tells its run: losses as means, evaluations as means over this rank's samples."""

from __future__ import annotations

import torch
from torch import Tensor

from hpc_dl.run.between import Between

Number = Tensor | float


class Telling(Between):
    """Takes means, where `Between` takes sums."""

    def record(
        self, loss: Number, samples: float | None = None, weight: float | Tensor | None = None, **terms: Number
    ) -> None:
        """Tell the log the loss of this step, after its backward pass.

        Args:
            loss: Mean over this rank's samples, or over whatever it averages.
            samples: This rank's in this step; by default what the loader says, or its share of the global batch.
            weight: What the loss is a mean over, where that is not the samples: tokens, pixels.
            terms: Means over the same, by name, to be logged beside the loss; the same names on all ranks and in all
                steps.
        """
        samples = self._samples if samples is None else float(samples)
        weight = samples if weight is None else float(weight)
        sums = {name: _detached(term) * weight for name, term in terms.items()}
        self.took(_detached(loss) * weight, samples, sums, weight=weight)

    def evaluated(self, samples: int, **means: Number) -> dict[str, float]:
        """Put an evaluation into the log. All ranks call it.

        Args:
            samples: How many this rank has evaluated.
            means: Means over them, by name.

        Returns:
            The means over the samples of all ranks.
        """
        own = [float(samples), *(float(_detached(mean)) * samples if samples else 0.0 for mean in means.values())]
        count, *sums = self._session.engine.reduce(torch.tensor(own, dtype=torch.float64), "sum", "evaluated").tolist()
        found = {name: total / count if count else float("nan") for name, total in zip(means, sums, strict=True)}
        self.log_evaluation(found, round(count))
        return found


def _detached(value: Number) -> Number:
    return value.detach() if isinstance(value, Tensor) else value
