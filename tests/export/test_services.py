# SPDX-License-Identifier: Apache-2.0
"""MLflow and Weights & Biases, where they are installed: several hundred megabytes, so not among what tests need."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_dl.export import export
from tests.export import logs


def test_mlflow_goes_on_with_a_run_and_makes_it_anew_after_a_resumed_job(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # MLflow itself has a database, mlflow-skinny needs a server
    address = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(tracking_uri=address)

    def only_run() -> mlflow.entities.Run:
        experiment = client.get_experiment_by_name("hpc_dl")
        (run,) = client.search_runs([experiment.experiment_id])
        return run

    def curve(name: str) -> dict[int, float]:
        points = client.get_metric_history(only_run().info.run_id, name)
        assert len(points) == len({point.step for point in points})
        return {point.step: point.value for point in points}

    export([logs.write(tmp_path / "run", logs.RUNNING, logs.HALF)], "mlflow", address)
    first = only_run()
    assert first.info.status == "RUNNING"
    assert first.data.params["settings.training.epochs"] == "3"
    export([logs.write(tmp_path / "run", logs.LONGER)], "mlflow", address)
    assert only_run().info.run_id == first.info.run_id
    assert only_run().info.status == "FINISHED"
    assert list(curve("train/loss")) == [10, 20, 30, 40]
    assert curve("evaluation/accuracy") == {20: 0.5, 40: 0.75}
    export([logs.write(tmp_path / "run", logs.RESUMED)], "mlflow", address)
    assert only_run().info.run_id != first.info.run_id
    assert curve("speed/step_seconds")[40] == pytest.approx(0.4)
    assert curve("evaluation/accuracy") == {20: 0.5}


def test_wandb_has_one_offline_run_with_all_points(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    for records in (logs.RUNNING, logs.LONGER):
        export([logs.write(tmp_path / "run", records)], "wandb", str(tmp_path / "out"))
    (file,) = tmp_path.glob("out/wandb/offline-run-*/*.wandb")
    rows = list(histories(file.read_bytes()))
    assert [row["_step"] for row in rows] == ["10", "20", "30", "40"]
    assert [row["evaluation/accuracy"] for row in rows[1::2]] == ["0.5", "0.75"]


def histories(data: bytes) -> Iterator[dict[str, str]]:
    """The points in a .wandb file of one block: seven bytes, then records of checksum, length, type and content."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert len(data) < 32768
    place = 7
    while place < len(data):
        _, length, _ = struct.unpack_from("<IHB", data, place)
        record = Record.FromString(data[place + 7 : place + 7 + length])
        place += 7 + length
        if record.WhichOneof("record_type") == "history":
            yield {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
