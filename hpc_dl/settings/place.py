# SPDX-License-Identifier: Apache-2.0
"""What a rank computes on, and how ranks average their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpc_dl.checks import check


@dataclass(frozen=True)
class ExchangeSettings:
    """How ranks average their gradients."""

    engine: Literal["auto", "horovod", "torch", "single"] = "auto"
    """Horovod, torch.distributed, or one process; auto picks and says why."""
    bucket_megabytes: float = 25.0
    """Gradients are summed in buckets of about this size while backward still runs."""
    compression: Literal["none", "fp16", "bf16"] = "none"
    """Type of the gradients on the wire."""
    adasum: bool = False
    """Horovod's adaptive sum in place of the mean."""
    host_staging: bool = False
    """Slow: copy gradients through host memory for an engine that cannot reach the device."""
    timeout_seconds: float = 1800.0
    """How long a collective may wait for the other ranks. Horovod's own variable, HOROVOD_STALL_SHUTDOWN_TIME_SECONDS,
    wins over it where it is set."""
    check_every_steps: int | None = None
    """Compare checksums of parameters and buffers over ranks every so many steps; 0 for never. By default
    parameters only, after 1, 2, 4, ... steps and from 1,024 on every 1,024."""

    def __post_init__(self) -> None:
        check(self, positive=("bucket_megabytes", "timeout_seconds"), not_negative=("check_every_steps",))


@dataclass(frozen=True)
class DeviceSettings:
    """What a rank computes on, and in which precision."""

    name: Literal["auto", "cpu", "cuda", "xpu"] = "auto"
    """auto picks and says why."""
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    """fp32 and fp64: the type of everything; bf16 and fp16: autocast over fp32 weights."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """Float32 matrix products on tensor cores: highest is plain fp32, high is TF32."""
    channels_last: bool = False
    """Keep images and convolution weights with channels innermost."""
    compile: bool = False
    """Run the model through torch.compile. All gradients then come at the end of backward: the exchange hides less."""
    ipex: bool = False
    """Optimise the model with Intel's extension for PyTorch, where it is installed."""
    sync_batchnorm: bool = False
    """Batch normalisation over the global batch."""
    threads: int | None = None
    """CPU threads per rank; null takes the rank's share of the cores it may run on."""

    def __post_init__(self) -> None:
        check(self, positive=("threads",))
