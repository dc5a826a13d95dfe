# SPDX-License-Identifier: Apache-2.0
"""What a machine record holds: node, ranks, queues, software, environment; each fact with source and date."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from hpc_dl.errors import HpcDlError, nearest


@dataclass(frozen=True)
class Sourced:
    """A group of facts, with where they come from and how old they are."""

    source: str = "your file"
    date: str = ""
    note: str = ""


@dataclass(frozen=True)
class Identity(Sourced):
    """How to tell that this is the machine."""

    host_names: tuple[str, ...] = ()
    """Patterns as the shell writes them."""
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Node(Sourced):
    """What a node is made of."""

    count: int = 0
    """Nodes of the machine; 0 where it does not matter."""
    devices: int = 0
    """Devices as torch counts them: an Aurora tile is one."""
    device_names: str = ""
    device_files: str = ""
    """Pattern of the files by which the operating system shows the devices."""
    device_file_count: int = 0
    cores: int = 0
    threads_per_core: int = 1
    sockets: int = 1
    memory_gigabytes: int = 0
    nics: int = 0
    nic_gigabytes_per_second: float = 0.0
    """Each way."""
    network: str = ""
    nccl_plugin: bool = False
    """NCCL reaches the network through a plugin only."""


@dataclass(frozen=True)
class Ranks(Sourced):
    """How ranks sit on a node."""

    per_node: int = 1
    device_order: tuple[int, ...] = ()
    """The device of each local rank; empty for the same number. One that occurs several times is shared."""
    threads: int = 0
    """Hardware threads per rank, Slurm's -c; 0 leaves it to the scheduler."""
    cpu_bind: str = ""
    """A word of srun's --cpu-bind, or the name of one of the machine's cpu_binds."""
    reserved_cores: tuple[int, ...] = ()
    """Kept by the system: no rank may be bound to them."""


@dataclass(frozen=True)
class CpuBind(Sourced):
    """A list of cores, one entry per local rank."""

    name: str = ""
    cores: tuple[str, ...] = ()
    worker_affinity: str = ""
    """CCL_WORKER_AFFINITY that goes with it."""


@dataclass(frozen=True)
class RefusedOption:
    """An option that must not be given on this machine; the source is that of the job rules it stands in."""

    option: str
    why: str
    use: str


@dataclass(frozen=True)
class JobRules(Sourced):
    """What the site demands of every job."""

    account_required: bool = False
    queue_option: str = "--partition"
    """Slurm: what a queue is called."""
    device_option: str = "--gpus-per-node="
    """Slurm: how devices are asked for, such as --gres=gpu: on some sites."""
    constraints: tuple[str, ...] = ()
    """Slurm's -C; the first is the default."""
    file_systems_required: bool = False
    file_systems: tuple[str, ...] = ()
    """PBS: the default of -l filesystems."""
    chunk: str = ""
    """PBS: added to each chunk of select, such as system=polaris."""
    directives: tuple[str, ...] = ()
    """Further directives, without the #SBATCH or #PBS."""
    refused: tuple[RefusedOption, ...] = ()


@dataclass(frozen=True)
class AddressRule(Sourced):
    """What MASTER_ADDR is."""

    rule: str = "hostname"
    suffix: str = ""
    """Appended to the short host name of the first node."""
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Queue(Sourced):
    """A queue (Slurm at NERSC: a QOS) and its limits; 0 is no limit."""

    name: str = ""
    route: str = ""
    """Execution queue behind it, where the name only routes: limits are of this one."""
    min_nodes: int = 1
    max_nodes: int = 0
    min_minutes: int = 1
    max_minutes: int = 0
    max_devices: int = 0
    """Devices a job may have at most, where it gets no whole node."""
    max_jobs: int = 0
    """Jobs a user may have in it."""
    chosen_for_you: bool = True
    """Considered where no queue is named."""
    rerun_advised: bool = False


@dataclass(frozen=True)
class Stack(Sourced):
    """A set of modules that gives Python and torch."""

    name: str = ""
    module_paths: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    activate: str = ""
    """Command after the modules, such as conda activate."""
    engines: tuple[str, ...] = ("horovod", "torch")
    own_environment: bool = False
    """Needs a Python environment of the user's on top."""
    removed: str = ""
    """Why it is no longer there."""


@dataclass(frozen=True)
class EnvironmentGroup(Sourced):
    """Variables of a job from a number of nodes on; larger groups win over smaller ones, the user's values over all."""

    name: str = ""
    min_nodes: int = 1
    profile: str = ""
    """Only where HPC_DL_PROFILE says so."""
    variables: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    """Set whatever they were: values that site or scheduler set wrongly for us."""
    unset: tuple[str, ...] = ()
    library_folders: tuple[str, ...] = ()
    """Put before LD_LIBRARY_PATH; the group is skipped where the first is missing."""


@dataclass(frozen=True)
class FileSystem(Sourced):
    """A place for files."""

    name: str = ""
    path: str = ""
    use: str = ""
    runs_refused: bool = False
    """No place for a run's folder."""


@dataclass(frozen=True)
class Machine:
    """One supercomputer, cluster or workstation."""

    name: str
    title: str = ""
    scheduler: Literal["slurm", "pbs", "none"] = "none"
    launcher: Literal["srun", "pals", "hydra", "openmpi", "torchrun", "none"] = "hydra"
    device: Literal["cpu", "cuda", "xpu"] = "cpu"
    never_run: str = ""
    """What was never tried on the real machine."""
    identity: Identity = Identity()
    node: Node = Node()
    ranks: Ranks = Ranks()
    job: JobRules = JobRules()
    address: AddressRule = AddressRule()
    cpu_binds: tuple[CpuBind, ...] = ()
    queues: tuple[Queue, ...] = ()
    stacks: tuple[Stack, ...] = ()
    environment: tuple[EnvironmentGroup, ...] = ()
    file_systems: tuple[FileSystem, ...] = ()

    @property
    def ranks_per_node(self) -> int:
        return self.ranks.per_node

    def device_index(self, local_rank: int) -> int:
        """The device, as numbered on a whole node, that the rank with this local rank computes on."""
        order = self.ranks.device_order
        return order[local_rank] if local_rank < len(order) else local_rank

    @property
    def ranks_per_device(self) -> int:
        """How many ranks may share a device."""
        return max(Counter(self.ranks.device_order).values(), default=1)

    def cpu_bind(self, name: str = "") -> CpuBind | None:
        """The binding list of that name (by default the machine's) or written out as `list:0-7:8-15`; else None."""
        wanted = name or self.ranks.cpu_bind
        if wanted.startswith("list:"):
            return CpuBind(name=wanted, cores=tuple(wanted.split(":")[1:]))
        return next((bind for bind in self.cpu_binds if bind.name == wanted), None)

    def stack(self, name: str = "") -> Stack:
        """The software stack of that name; the first by default; an empty one where the machine names none."""
        if not name:
            return self.stacks[0] if self.stacks else Stack()
        for stack in self.stacks:
            if stack.name == name:
                return stack
        known = nearest(name, [stack.name for stack in self.stacks])
        raise HpcDlError(f"software stack {name!r} of {self.name}", "no such stack", known)
