# SPDX-License-Identifier: Apache-2.0
"""mpiexec of the stand-in for Cray PALS: takes PALS's options and no others, starts the ranks over Hydra.

Options: ALCF's user guides (running-jobs-aurora.md, libraries/mpi.md, copper.md) and reports of what PALS 1.7.1 refuses
(mlcommons/storage, pull requests 549 and 564). Where MPICH needs them the ranks also have PMI_RANK and PMI_SIZE.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from standin.site import TESTS_PBS, Site, load_site

WITH_VALUE = {
    "-n": "ranks", "--np": "ranks", "-np": "ranks",
    "-ppn": "ppn", "--ppn": "ppn",
    "--hostfile": "hostfile", "-hostfile": "hostfile", "-f": "hostfile",
    "--hosts": "hosts", "-hosts": "hosts",
    "--cpu-bind": "cpu_bind", "-cpu-bind": "cpu_bind",
    "--mem-bind": "mem_bind", "-mem-bind": "mem_bind",
    "--gpu-bind": "gpu_bind", "-gpu-bind": "gpu_bind",
    "--depth": "depth", "-d": "depth", "-depth": "depth",
    "--env": "env", "-env": "env", "--genv": "env", "-genv": "env",
    "--pmi": "pmi", "--rlimit": "rlimit", "--wdir": "wdir", "-wdir": "wdir",
}  # fmt: skip
ALONE = {
    "--envall", "-envall", "--genvall", "-genvall", "--envnone", "-envnone", "--genvnone", "-genvnone", "-l", "--label",
    "--line-buffer", "--no-vni", "--no-transfer", "--verbose", "-v", "--abort-on-failure", "--no-abort-on-failure",
}  # fmt: skip
BINDINGS = r"(verbose,)?(depth|core|numa|none|thread|socket|list(:\d+(-\d+)?(,\d+(-\d+)?)*)+)"
CRASHED = 143
"""Exit code of mpiexec after the end of any rank by itself or by a signal, as seen on Aurora: it tells nothing."""


class Refused(Exception):
    """A word PALS does not take."""


def main(folder: str, *words: str) -> int:
    """Start ranks on the nodes of the job; returns what PALS's mpiexec returns."""
    site = load_site(folder)
    try:
        options, environ, program = parse(list(words))
        command = _command(site, options, environ, program)
    except Refused as refusal:
        print(f"mpiexec: {refusal}\nUsage: mpiexec [-n RANKS] [--ppn PPN] [--cpu-bind BIND] PROGRAM", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        environ["STAND_IN_FAILED"] = str(Path(folder) / "failed")
        code = subprocess.run(command, env=environ, check=False).returncode
    return CRASHED if code else 0


def parse(words: list[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Options by plain name, the ranks' environment, and the program with its arguments."""
    options: dict[str, str] = {}
    environ = dict(os.environ)
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).partition("=")
        if name in ALONE and not equals:
            options[name.lstrip("-")] = ""
            continue
        if name not in WITH_VALUE:
            raise Refused(f"unrecognized option '{name}'")
        if not equals:
            if not words:
                raise Refused(f"option '{name}' requires an argument")
            value = words.pop(0)
        if WITH_VALUE[name] == "env":
            if "=" not in value and words:
                value = f"{value}={words.pop(0)}"
            variable, _, text = value.partition("=")
            environ[variable] = text
        else:
            options[WITH_VALUE[name]] = value
    if not words:
        raise Refused("no program given")
    return options, environ, words


def _command(site: Site, options: dict[str, str], environ: dict[str, str], program: list[str]) -> list[str]:
    nodes = _nodes(options, environ)
    numbers = {name: options.get(name, "1") for name in ("ranks", "ppn", "depth")}
    for name, text in numbers.items():
        if not text.isdigit() or int(text) < 1:
            raise Refused(f"{name} {text!r} is not a positive number")
    ranks, ppn = int(numbers["ranks"]), int(numbers["ppn"])
    if ranks > ppn * len(nodes):
        raise Refused(f"{ranks} ranks do not fit on {len(nodes)} nodes with {ppn} ranks per node")
    _check_binding(options, ppn)
    for name in ("HYDRA_LAUNCHER", "PBS_ENVIRONMENT", "PBS_NODEFILE"):
        environ.pop(name, None)  # Hydra would read the node file itself; the ranks of PALS may not find it either
    environ |= {"PALS_APID": str(uuid.uuid4()), "PALS_PMI": options.get("pmi", environ.get("PALS_PMI", "pmix"))}
    environ |= {"PALS_DEPTH": numbers["depth"], "STAND_IN_NODES": ",".join(nodes), "STAND_IN_FOLDER": str(site.folder)}
    label = ["-prepend-rank"] if {"l", "label"} & set(options) else []
    where = ["-wdir", options["wdir"]] if "wdir" in options else []
    used = nodes[: -(-ranks // ppn)]
    hosts = ["-launcher", "fork", "-hosts", ",".join(used), "-ppn", str(ppn), "-n", str(ranks)]
    return [
        site.mpiexec,
        *label,
        *where,
        *hosts,
        sys.executable,
        str(TESTS_PBS / "run_standin.py"),
        "pals_rank",
        *program,
    ]


def _nodes(options: dict[str, str], environ: dict[str, str]) -> list[str]:
    if "hosts" in options:
        if ":" in options["hosts"]:
            raise Refused("--hosts takes a bare list: host:slots is Open MPI's")
        names = options["hosts"].split(",")
    else:
        path = options.get("hostfile", environ.get("PBS_NODEFILE", ""))
        if not path or not Path(path).is_file():
            raise Refused(f"cannot read host file {path!r}: not inside a job?")
        names = Path(path).read_text().split()
    return list(dict.fromkeys(names))


def _check_binding(options: dict[str, str], ppn: int) -> None:
    binding = options.get("cpu_bind", "none")
    if not re.fullmatch(BINDINGS, binding):
        raise Refused(f"invalid --cpu-bind {binding!r}")
    if "list:" in binding and len(binding.split("list:")[1].split(":")) < ppn:
        raise Refused(f"--cpu-bind list has fewer entries than the {ppn} ranks per node")
    if "gpu_bind" in options and os.environ.get("ZE_FLAT_DEVICE_HIERARCHY") == "FLAT":
        raise Refused("Failed to parse implicit GPU selection")
