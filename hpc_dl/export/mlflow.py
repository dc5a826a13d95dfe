# SPDX-License-Identifier: Apache-2.0
"""To MLflow: facts become parameters, scalars metrics, on a tracking server or in a database.

A run that was exported before is gone on with, while all that is there is still true. After anything else, such as a
job that resumed the run, it is deleted (MLflow can restore it) and made anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from hpc_dl.errors import HpcDlError
from hpc_dl.export.files import library
from hpc_dl.export.results import Results

EXPERIMENT = "hpc_dl"
TAG = "hpc_dl.key"
MOST_METRICS, MOST_PARAMETERS, LONGEST = 1000, 100, 6000
"""What MLflow takes in one request, and characters of a parameter."""
STATUS = {"": "RUNNING", "finished": "FINISHED", "stopped": "KILLED"}

Point = tuple[str, int, int]
"""Name, step, Unix milliseconds."""


def write(results: Results, output: str) -> str:
    """A run in the experiment `hpc_dl` of the tracking URI `output`; empty for MLflow's own choice."""
    mlflow = library("mlflow", "mlflow-skinny", "export --to mlflow")
    address = output or mlflow.get_tracking_uri()
    try:
        run_id = _Writer(mlflow.MlflowClient(tracking_uri=address), mlflow.entities).write(results)
    except mlflow.exceptions.MlflowException as error:
        found = str(error).strip().partition("\n")[0]
        remedy = "name a server, or a database (for which MLflow itself has to be installed): --output http://HOST:5000"
        raise HpcDlError(f"export --to mlflow at {address}", found, remedy) from error
    return f"run {run_id} at {address}"


class _Writer:
    def __init__(self, client: Any, entities: Any) -> None:
        self._client, self._entities = client, entities

    def write(self, results: Results) -> str:
        metrics: dict[Point, float] = {
            (_name(scalar.name), scalar.step, round(1000 * scalar.unix_seconds)): scalar.value
            for scalar in results.scalars
        }
        parameters = {_name(name): str(value)[:LONGEST] for name, value in results.facts.items()}
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        place = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        run_id, there = self._find(place, results, parameters, set(metrics))
        run_id = run_id or self._create(place, results, parameters)
        new = [
            self._entities.Metric(name, value, moment, step)
            for (name, step, moment), value in metrics.items()
            if (name, step, moment) not in there
        ]
        _in_batches(new, MOST_METRICS, lambda some: self._client.log_batch(run_id, metrics=some))
        self._client.update_run(run_id, STATUS.get(results.end, "FINISHED"))
        return run_id

    def _find(
        self, place: str, results: Results, parameters: dict[str, str], metrics: set[Point]
    ) -> tuple[str, set[Point]]:
        """The run to go on with and its points; those that are no longer true are deleted."""
        for run in self._client.search_runs([place], f"tags.`{TAG}` = '{results.key}'"):
            there = {
                (name, metric.step, metric.timestamp)
                for name in run.data.metrics
                for metric in self._client.get_metric_history(run.info.run_id, name)
            }
            if run.data.params == parameters and there <= metrics:
                return run.info.run_id, there
            self._client.delete_run(run.info.run_id)
        return "", set()

    def _create(self, place: str, results: Results, parameters: dict[str, str]) -> str:
        run = self._client.create_run(place, int(1000 * results.started), {TAG: results.key}, run_name=results.name)
        run_id: str = run.info.run_id
        rows = [self._entities.Param(name, value) for name, value in parameters.items()]
        _in_batches(rows, MOST_PARAMETERS, lambda some: self._client.log_batch(run_id, params=some))
        return run_id


def _in_batches(rows: Iterable[Any], most: int, send: Callable[[list[Any]], Any]) -> None:
    left = iter(rows)
    while some := list(islice(left, most)):
        send(some)


def _name(name: str) -> str:
    """What MLflow allows of a name."""
    return re.sub(r"[^\w./ -]", "_", name)
