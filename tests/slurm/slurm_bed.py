# SPDX-License-Identifier: Apache-2.0
"""A real Slurm on this host: one controller and four nodes with four stand-ins for A100s each, on ports of its own.

    python -m tests.slurm.slurm_bed FOLDER      brings one up until Ctrl-C and prints what to export

What it can show: how Slurm treats our scripts. What it cannot: CPU masks beyond the real cores, QOS rules, NICs, NCCL.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import world

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged", "mungekey")
PACKAGES = "apt-get install slurmctld slurmd slurm-client munge"
NODES = 4
IDLE_SECONDS = 60

CONF = """\
ClusterName=bed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SchedulerParameters=sched_interval=1,bf_interval=2
PartitionName=gpu_ss11 Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} Sockets=1 CoresPerSocket=64 ThreadsPerCore=2 "
    "RealMemory=200000 Feature=gpu,hbm40g Gres=gpu:a100:4 State=UNKNOWN\n"
)

# How a site brings `module` into a job: a function of the login profile. SITE_MODULES says which modules there are;
# a name in SITE_SILENT is missing and says nothing, as Lmod was seen to do on a new stack. SITE_LOGIN=no brings none.
PROFILE = """\
module() {
    local name=$2
    case $1 in
        load) ;;
        is-loaded) [[ ":$LOADEDMODULES:" == *":$name/"* ]]; return ;;
        *) return 0 ;;
    esac
    if [[ " $SITE_SILENT " == *" $name "* ]]; then return 0; fi
    if [[ " ${SITE_MODULES-pytorch} " != *" $name "* ]]; then
        echo "Lmod has detected the following error: The following module(s) are unknown: \\"$name\\"" >&2
        return 1
    fi
    export LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}$name/2.8.0
    export PATH=$SITE_PYTHON:$PATH
}
if [[ ${SITE_LOGIN-} == no ]]; then unset -f module; fi
"""


def missing() -> str:
    """Why no bed can be brought up here, and how it could; empty where nothing is missing."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=world.SYSTEM_PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: {PACKAGES}"
    return "" if os.geteuid() == 0 else "the daemons are started as root"


@dataclass
class Bed:
    """A running Slurm."""

    folder: Path
    environ: dict[str, str]
    """With SLURM_CONF, and a HOME whose login profile is the site's."""
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, words: Sequence[str], cwd: Path | None = None, seconds: float = 60, **extra: str) -> str:
        """What a Slurm command printed; an error says what it printed besides."""
        done = subprocess.run(
            words,
            cwd=cwd or self.folder,
            env={**self.environ, **extra},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if done.returncode:
            raise RuntimeError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """State of each node."""
        return dict(line.split() for line in self.run(["sinfo", "-h", "-N", "-o", "%N %T"]).splitlines())

    def wait_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Until all nodes are idle: a job that asks for a node that never comes back would wait for ever."""
        end = time.monotonic() + seconds
        while set(states := self.states().values()) != {"idle"}:
            if time.monotonic() > end:
                raise RuntimeError(f"nodes are {sorted(states)}\n{self.logs()}")
            time.sleep(0.3)

    def submit(self, words: Sequence[str], cwd: Path, **extra: str) -> str:
        """Job id of `sbatch WORDS`."""
        self.wait_idle()
        return self.run(["sbatch", "--parsable", *words], cwd, **extra).strip()

    def wait(self, job_id: str, seconds: float = 240) -> dict[str, str]:
        """The fields of `scontrol show job` once the job is over; it is cancelled where it takes too long."""
        end = time.monotonic() + seconds
        while True:
            fields = dict(re.findall(r"(\w+)=(\S*)", self.run(["scontrol", "show", "job", "-o", job_id])))
            if fields["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
                return fields
            if time.monotonic() > end:
                self.run(["scancel", job_id])
                raise RuntimeError(f"job {job_id} is still {fields['JobState']}, reason {fields.get('Reason')}")
            time.sleep(0.3)

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return "\n".join(f"{log.name}:\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def bring_up(folder: Path, python: Path | None = None) -> Iterator[Bed]:
    """A bed in that folder (a short path: sockets lie in it), taken down at the end by the ids of its processes.

    Args:
        folder: Where everything of it lies.
        python: Folder of the Python the site's modules bring; by default that of this process.
    """
    _write(folder)
    bed = Bed(folder, _environ(folder, python or Path(sys.executable).parent))
    try:
        _start_munge(bed)
        _start(bed, "slurmctld", "-D", "-c")
        for number in range(1, NODES + 1):
            _start(bed, "slurmd", "-D", "-N", node_name(number))
        _wait_for_controller(bed)
        bed.wait_idle()
        yield bed
    finally:
        _take_down(bed)


def node_name(number: int) -> str:
    return f"nid{number:06d}"


def _write(folder: Path) -> None:
    for name in ("munge", "state", "devices", "home", *(f"spool/{node_name(n)}" for n in range(1, NODES + 1))):
        (folder / name).mkdir(parents=True, exist_ok=True)
    host, ports = socket.gethostname(), _free_ports(NODES + 1)
    text = CONF.format(host=host, folder=folder, controller_port=ports[0])
    for number, port in enumerate(ports[1:], start=1):
        text += NODE.format(name=node_name(number), host=host, port=port)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"Name=gpu Type=a100 File={_devices(folder)}\n")
    (folder / "home" / ".bash_profile").write_text(world.LOGIN_FILE + PROFILE)


def _devices(folder: Path) -> str:
    """Four character devices: Slurm takes nothing less for GPUs. Existing ones where none can be made."""
    made = [folder / "devices" / f"gpu{number}" for number in range(4)]
    try:
        for path in made:
            os.mknod(path, 0o20666, os.makedev(1, 3))
    except OSError:
        return "/dev/null,/dev/zero,/dev/full,/dev/random"
    return f"{folder}/devices/gpu[0-3]"


def _environ(folder: Path, python: Path) -> dict[str, str]:
    return {
        **world.inherit(os.environ),
        "HOME": str(folder / "home"),
        "SLURM_CONF": str(folder / "slurm.conf"),
        "SITE_PYTHON": str(python),
        "OMP_NUM_THREADS": "1",
    }


def _start_munge(bed: Bed) -> None:
    munge = bed.folder / "munge"
    munge.chmod(0o755)
    bed.run(["mungekey", "-c", "-k", str(munge / "key")])
    files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
    _start(bed, "munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
    end = time.monotonic() + 20
    while not (munge / "socket").exists():
        if time.monotonic() > end or bed.daemons[-1].poll() is not None:
            raise RuntimeError(f"munged did not start: {(bed.folder / 'munged.out').read_text()}")
        time.sleep(0.1)


def _start(bed: Bed, *words: str) -> None:
    with (bed.folder / f"{words[0]}.out").open("ab") as output:
        bed.daemons.append(
            subprocess.Popen(
                words, env=bed.environ, stdout=output, stderr=output, cwd=bed.folder, start_new_session=True
            )
        )


def _wait_for_controller(bed: Bed) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            bed.run(["scontrol", "ping"], seconds=10)
            return
        except (RuntimeError, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                raise RuntimeError(f"slurmctld does not answer\n{bed.logs()}") from None
            time.sleep(0.3)


def _take_down(bed: Bed) -> None:
    """Cancel what runs, then end the daemons by their ids, the youngest first."""
    with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
        bed.run(["scancel", "--state=RUNNING", "--state=PENDING", "--user=root"], seconds=10)
        bed.wait_idle(20)
    for daemon in reversed(bed.daemons):
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
    for daemon in reversed(bed.daemons):
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(5)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    with bring_up(Path(words[0]).resolve()) as bed:
        print("\n".join(f"export {name}={bed.environ[name]}" for name in ("SLURM_CONF", "HOME", "SITE_PYTHON")))
        print("Ctrl-C takes it down.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:], os.environ))
