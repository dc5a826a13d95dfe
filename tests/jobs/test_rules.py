# SPDX-License-Identifier: Apache-2.0
"""Requests a site would refuse, or worse, accept: refused here with rule, source and the nearest legal request."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hpc_dl.cluster import machines
from hpc_dl.commands import job as command
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.payload import training
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.rules import violations
from hpc_dl.jobs.rules_place import import_violations, place_violations

HOROVOD, SAME = (
    training(["mnist_cnn", *flag]) for flag in (("--exchange.engine", "horovod"), ("--exchange.engine=horovod",))
)
# machine, request, part of the rule, part of the nearest legal request
ILLEGAL = [
    ("aurora", {"nodes": 3, "queue": "debug"}, "debug takes 1 to 2 nodes", "--queue debug-scaling --nodes 3"),
    ("aurora", {"nodes": 64, "minutes": 120}, "no queue takes it", "--queue debug-scaling --nodes 64 --minutes 60"),
    ("aurora", {"nodes": 17, "minutes": 90}, "debug-scaling takes 2 to 256 nodes", "--nodes 16 --minutes 90"),
    ("aurora", {"nodes": 255, "queue": "prod"}, "prod (small) takes 256 to 1024 nodes", "--queue prod --nodes 256"),
    ("aurora", {"nodes": 1, "queue": "debug-scaling"}, "debug-scaling takes 2 to 256", "--queue debug --nodes 1"),
    ("aurora", {"nodes": 2, "minutes": 61, "queue": "debug"}, "for 5 to 60 minutes", "--nodes 2 --minutes 60"),
    ("aurora", {"nodes": 2, "minutes": 4, "queue": "debug"}, "for 5 to 60 minutes", "--minutes 5"),
    ("aurora", {"nodes": 1024, "minutes": 800, "queue": "prod"}, "for 1 to 720 minutes", "--nodes 1025 --minutes 800"),
    ("aurora", {"nodes": 10624, "minutes": 1441}, "for 1 to 1440 minutes", "--nodes 10624 --minutes 1440"),
    ("aurora", {"nodes": 20, "queue": "capacity"}, "capacity takes 1 to 16 nodes", "--queue debug-scaling --nodes 20"),
    ("aurora", {"nodes": 16, "minutes": 10081, "queue": "capacity"}, "for 1 to 10080 minutes", "--minutes 10080"),
    ("aurora", {"nodes": 10625}, "aurora has 10624 nodes", "--nodes 10624"),
    ("aurora", {"queue": "production"}, "known: capacity, debug", "--queue debug --nodes 2"),
    ("aurora", {"queue": "prodd"}, "did you mean prod", "--queue debug --nodes 2"),
    ("aurora", {"account": ""}, "a job names its project", "--account PROJECT"),
    ("aurora", {"file_systems": ("",)}, "a job names its file systems", "--filesystems home:flare"),
    ("aurora", {"file_systems": ("home", "eagle")}, "file systems: ", "--filesystems home:flare"),
    ("aurora", {"ranks_per_node": 13}, "has 12 devices", "--ranks-per-node 12"),
    ("aurora", {"ranks_per_node": -1}, "at least 1 rank", "--ranks-per-node 1"),
    ("aurora", {"cpu_bind": "depth"}, "bindings: A, B, C, D", "--cpu-bind A"),
    ("aurora", {"cpu_bind": "list:0-7:8-15", "ranks_per_node": 2}, "belong to the system", "--cpu-bind A"),
    ("aurora", {"cpu_bind": "list:1-8:9-16"}, "each rank has an entry", "--cpu-bind A"),
    ("aurora", {"cpu_bind": "list:1-8:8-15", "ranks_per_node": 2}, "two ranks share no core", "--cpu-bind A"),
    ("aurora", {"cpu_bind": "list:49-51,53-57", "ranks_per_node": 1}, "of one socket", "--cpu-bind A"),
    ("aurora", {"cpu_bind": "list:209-210", "ranks_per_node": 1}, "208 hardware threads", "--cpu-bind A"),
    ("aurora", {"cpu_bind": "list:a-b", "ranks_per_node": 1}, "numbers and ranges", "--cpu-bind A"),
    ("aurora", {"stack": "ipex-horovod"}, "deleted from the image", "--stack frameworks"),
    ("aurora", {"payload": HOROVOD}, "has no engine horovod", ".engine torch"),
    ("aurora", {"payload": SAME}, "has no engine horovod", ".engine torch"),
    ("aurora", {"directives": ("-V",)}, "can break the start of the job", "-v NAME=value"),
    ("aurora", {"directives": ("--depth=8",)}, "put rank 6 across both sockets", "--cpu-bind A"),
    ("aurora", {"nodes": 0}, "at least 1 node", "--nodes 1"),
    ("aurora", {"minutes": 0}, "at least 1 minute", "--minutes 30"),
    ("aurora", {"chain": 2}, "debug takes 1 jobs of a user", "--chain 1"),
    ("perlmutter", {"chain": 0}, "a chain has at least 1 job", "--chain 1"),
    ("perlmutter", {"chain": 6}, "debug takes 5 jobs of a user", "--chain 5"),
    ("perlmutter", {"nodes": 9, "queue": "debug"}, "debug takes 1 to 8 nodes for", "--queue regular --nodes 9"),
    ("perlmutter", {"minutes": 31, "queue": "debug"}, "for 1 to 30 minutes", "--queue regular --nodes 2 --minutes 31"),
    ("perlmutter", {"minutes": 60, "queue": "preempt", "rerun": True}, "for 120 to 2880 minutes", "--queue regular"),
    ("perlmutter", {"minutes": 120, "queue": "preempt"}, "must be able to start again", "--rerun"),
    ("perlmutter", {"nodes": 129, "minutes": 120, "queue": "preempt", "rerun": True}, "128 nodes", "--queue regular"),
    ("perlmutter", {"nodes": 1, "queue": "shared"}, "at most 2 devices", "--ranks-per-node 2"),
    ("perlmutter", {"nodes": 5, "queue": "interactive"}, "interactive takes 1 to 4 nodes", "--queue debug --nodes 5"),
    ("perlmutter", {"nodes": 2, "minutes": 2881}, "for 1 to 2880 minutes", "--queue regular --nodes 2 --minutes 2880"),
    ("perlmutter", {"nodes": 1793}, "perlmutter has 1792 nodes", "--nodes 1792"),
    ("perlmutter", {"constraint": "cpu"}, "nodes with devices are gpu", "--constraint gpu"),
    ("perlmutter", {"account": ""}, "a job names its project", "--account PROJECT"),
    ("perlmutter", {"ranks_per_node": 8}, "has 4 devices", "--ranks-per-node 4"),
    ("perlmutter", {"stack": "own"}, "needs your own environment", "--environment FOLDER"),
    ("perlmutter", {"cpu_bind": "depth"}, "bindings: cores", "--cpu-bind cores"),
    ("perlmutter", {"directives": ("-p gpu_ss11",)}, "partition follows from -C and -q", "leave it out"),
    ("perlmutter", {"directives": ("--partition=gpu",)}, "partition follows from -C and -q", "leave it out"),
    ("perlmutter", {"directives": ("--ntasks-per-gpu=1",)}, "two ranks shared a GPU", "--ranks-per-node"),
    ("perlmutter", {"directives": ("--wait=60",)}, "kills healthy ranks", "leave it out"),
    ("perlmutter", {"directives": ("--nodes=4",)}, "is written by hpc-dl", "--nodes"),
    ("polaris", {"nodes": 9, "queue": "prod"}, "prod (small) takes 10 to 24 nodes", "--queue prod --nodes 10"),
    ("polaris", {"nodes": 24, "minutes": 200, "queue": "prod"}, "for 1 to 180 minutes", "--nodes 25 --minutes 200"),
    ("polaris", {"nodes": 4, "minutes": 120, "queue": "preemptable"}, "killed without warning", "--rerun"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "changes", "rule", "legal"), ILLEGAL)
def test_illegal_requests(machine: str, changes: dict[str, object], rule: str, legal: str) -> None:
    record = machines.load(machine)
    broken = violations(Request(**{"account": "proj", **changes}), record)  # type: ignore[arg-type]
    assert len(broken) == 1, broken
    assert rule in str(broken[0])
    assert legal in broken[0].legal
    assert broken[0].source
    assert broken[0].source != "your file"


LEGAL = [
    ("aurora", {"nodes": 2}, "debug"),
    ("aurora", {"nodes": 3}, "debug-scaling"),
    ("aurora", {"nodes": 200, "minutes": 60}, "debug-scaling"),
    ("aurora", {"nodes": 16, "minutes": 600}, "capacity"),
    ("aurora", {"nodes": 256, "minutes": 61}, "prod"),
    ("aurora", {"nodes": 2000, "minutes": 1440}, "prod"),
    ("aurora", {"cpu_bind": "D"}, "debug"),
    ("perlmutter", {"nodes": 8}, "debug"),
    ("perlmutter", {"nodes": 9}, "regular"),
    ("perlmutter", {"nodes": 1, "queue": "shared", "ranks_per_node": 2}, "shared"),
    ("perlmutter", {"constraint": "gpu&hbm80g"}, "debug"),
    ("perlmutter", {"minutes": 120, "queue": "preempt", "rerun": True}, "preempt"),
    ("polaris", {"nodes": 10}, "debug-scaling"),
    ("polaris", {"nodes": 496, "minutes": 1440}, "prod"),
]


@pytest.mark.parametrize(("machine", "changes", "queue"), LEGAL)
def test_legal_requests_and_the_queue_they_go_to(machine: str, changes: dict[str, object], queue: str) -> None:
    record = machines.load(machine)
    request = Request(**{"account": "proj", **changes})  # type: ignore[arg-type]
    assert violations(request, record) == []
    assert complete(request, record).queue == queue


@pytest.mark.parametrize("row", [row for row in ILLEGAL if "--nodes" in row[3] and "--queue" in row[3]])
def test_what_is_called_legal_is_legal(row: tuple[str, dict[str, object], str, str]) -> None:
    machine, changes, _, _ = row
    record = machines.load(machine)
    for offer in violations(Request(**{"account": "proj", **changes}), record)[0].legal.split("; or "):  # type: ignore[arg-type]
        words = shlex.split(offer)
        flags = dict(zip(words[::2], words[1::2], strict=True))
        keep = {name: value for name, value in changes.items() if name not in ("nodes", "minutes", "queue")}
        request = Request(
            account="proj",
            queue=flags["--queue"],
            nodes=int(flags["--nodes"]),
            minutes=int(flags.get("--minutes", changes.get("minutes", 30))),  # type: ignore[call-overload]
            **keep,  # type: ignore[arg-type]
        )
        if "--ranks-per-node" in flags:
            request = Request(**{**vars(request), "ranks_per_node": int(flags["--ranks-per-node"])})
        assert violations(request, record) == []


def test_torchrun_under_pbs_serves_one_node(tmp_path: Path) -> None:
    file = tmp_path / "tulip.toml"
    file.write_text('scheduler = "pbs"\nlauncher = "torchrun"\n')
    assert violations(Request(nodes=1), machines.load(str(file))) == []
    assert "first only" in str(violations(Request(nodes=2), machines.load(str(file)))[0])


def test_folders(tmp_path: Path) -> None:
    aurora = machines.load("aurora")

    def broken(folder: str, **changes: object) -> str:
        request = Request(run_folder=folder, **changes)  # type: ignore[arg-type]
        return "\n".join(map(str, place_violations(request, aurora)))

    assert broken(str(tmp_path / "new" / "run")) == ""
    assert "jobs are not to be submitted from here" in broken("/home/me/run")
    assert "--folder under /lus/flare" in broken("/home/me/run")
    assert "does not name" not in broken("/lus/flare/projects/x/run")
    assert "which the job does not name" in broken("/lus/flare/projects/x/run", file_systems=("home",))
    assert "the character ' '" in broken(str(tmp_path / "two words"))
    assert "bin/activate" in broken(str(tmp_path / "run"), python_environment=str(tmp_path))
    (tmp_path / "file").write_text("")
    assert "can be made and written" in broken(str(tmp_path / "file" / "run"))


def test_imports_are_found_without_importing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "mine" / "nets.py").write_text(
        "import torch\nraise RuntimeError('imported')\nclass Net: pass\nif 1:\n    def late(): pass\nA, B = 1, 2\n"
    )
    (tmp_path / "broken.py").write_text("def (")

    def broken(path: str) -> str:
        return "\n".join(map(str, import_violations({"task.model": path}, [str(tmp_path)])))

    for good in ("mine.nets:Net", "mine.nets:late", "mine.nets:B", "mine.nets:torch", "torch.nn.functional:nll_loss",
                 "hpc_dl.models.mnist_cnn:MnistCnn", "json:loads"):  # fmt: skip
        assert broken(good) == ""
    assert "nets.py defines no Nett" in broken("mine.nets:Nett")
    assert "there is no nots in mine" in broken("mine.nots:Net")
    assert "there is no package yours here" in broken("yours:Net")
    assert "cannot be read" in broken("broken:Net")
    assert "mine.nets is no package" in broken("mine.nets.deep:Net")
    assert "--task.model package.module:name" in broken("yours:Net")


def test_the_command_refuses_and_force_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["submit", "--machine", "aurora", "--nodes", "64", "--minutes", "2h", "--dry-run"]
    with pytest.raises(HpcDlError) as refused:
        command.main([*words, "mnist_cnn"], {})
    for part in (
        "64 nodes for 120 minutes",
        "running-jobs-aurora.md (2026-08-19)",
        "--minutes 60",
        "no account",
        "--force",
    ):
        assert part in str(refused.value)
    assert command.main([*words, "--force", "mnist_cnn"], {}) == 0
    shown = capsys.readouterr()
    assert "#PBS -l select=64" in shown.out
    assert "warning: forced against a rule: 64 nodes" in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("train", "part"),
    [
        ((), "does not say what to train"),
        (("no_such_recipe",), "no_such_recipe"),
        (("mnist_cnn", "--training.stps", "3"), "training.stps"),
        (("mnist_cnn", "--training.steps", "many"), "training.steps"),
        (("none.toml",), "no such file"),
        (("mnist_cnn", "--task.model", "hpc_dl.models.mnist_cnn:Nope"), "defines no Nope"),
    ],
)
def test_what_to_train_is_checked(train: tuple[str, ...], part: str, tmp_path: Path) -> None:
    words = ["submit", "--machine", "perlmutter", "--account", "m1", "--dry-run", "--folder", str(tmp_path / "r")]
    with pytest.raises(HpcDlError, match=part):
        command.main([*words, *train], {})


@pytest.mark.parametrize("text", ["", "1:30", "soon", "-5", "1h30"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(HpcDlError, match="not a time"):
        command.main(["show", "--machine", "aurora", f"--minutes={text}", "mnist_cnn"], {})
