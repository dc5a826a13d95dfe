# SPDX-License-Identifier: Apache-2.0
"""What CUDA and XPU devices share: torch gives both the same functions, in torch.cuda and torch.xpu."""

from __future__ import annotations

import time
from typing import Any, ClassVar, NamedTuple

from hpc_dl.devices.base import Device, DeviceMap, Environ
from hpc_dl.errors import HpcDlError


class Mask(NamedTuple):
    """A variable that hides devices from the process, as it is set."""

    name: str
    value: str
    """Empty where the variable is not set."""
    numbers: tuple[int, ...] | None
    """What it lets through, in the order in which the process then counts; None where these are no plain numbers."""

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def read_mask(names: tuple[str, ...], environ: Environ, keeps_order: bool) -> Mask:
    """The first of these variables that is set and not empty.

    Args:
        keeps_order: True where devices are then counted in the order of the list (CUDA), False where the list is a mere
            filter (Level Zero).
    """
    name = next((name for name in names if environ.get(name)), names[0])
    value = environ.get(name, "")
    words = [word.strip() for word in value.split(",")]
    if not value or not all(word.isdigit() for word in words):
        return Mask(name, value, None)
    numbers = tuple(int(word) for word in words)
    return Mask(name, value, numbers if keeps_order else tuple(sorted(set(numbers))))


def pick_index(local_rank: int, visible: int, device_map: DeviceMap, mask: Mask) -> tuple[int, str]:
    """Index among the visible devices, and the rule that gave it.

    The machine's map counts the devices of a whole node; a mask renumbers what it lets through, so the map's number is
    looked up in it. A mask in reverse (NERSC's tutorials export 3,2,1,0) and a reversed map then mean the same device.

    Args:
        visible: How many devices the process sees.

    Raises:
        HpcDlError: More local ranks than visible devices.
    """
    if visible == 1:
        return 0, "the only visible device"
    place = len({device_map(rank) for rank in range(local_rank)} - {device_map(local_rank)})  # ranks may share devices
    if place >= visible:
        raise HpcDlError(
            f"a device for local rank {local_rank}",
            f"only {visible} are visible" + (f" ({mask})" if mask.value else ""),
            f"start at most {visible} ranks per node, make more devices visible, or let ranks share one "
            "(ranks.device_order of the machine's record)",
        )
    wanted = device_map(local_rank)
    numbers = mask.numbers if mask.value else tuple(range(visible))
    if numbers is None or len(numbers) != visible:
        return place, f"index = local rank, because {mask} does not tell which devices of the node these are"
    if wanted not in numbers:
        return place, f"index = local rank, because device {wanted} of the machine's map is not visible"
    return numbers.index(wanted), f"device {wanted} by the machine's map" + (f" behind {mask}" if mask.value else "")


class Accelerator(Device):
    """A device with its own memory, queue and clock.

    Subclasses name the torch namespace (`torch.cuda`, `torch.xpu`) by `name`.
    """

    mask_variables: ClassVar[tuple[str, ...]]
    """Variables that hide devices, the one that counts first."""
    out_of_memory_texts: ClassVar[tuple[str, ...]]
    """Words of full memory in errors that are not torch.OutOfMemoryError."""

    def __init__(self, torch: Any, index: int, why: str) -> None:
        super().__init__(torch, index, why)
        self.index = index
        self._clocked: bool | None = None

    @property
    def _space(self) -> Any:
        return getattr(self._torch, self.name)

    def make_current(self) -> None:
        """Refuses to come after torch.distributed: NCCL and XCCL bind to the device current at that moment."""
        distributed = self._torch.distributed
        late = distributed.is_available() and distributed.is_initialized()
        if late and self._space.current_device() != self.index:
            raise HpcDlError(
                f"device {self.torch_device}",
                f"torch.distributed is already initialised, with device {self._space.current_device()}",
                "let hpc_dl start first (hpc_dl.start()), before any init_process_group",
            )
        self._space.set_device(self.index)

    def synchronize(self) -> None:
        self._space.synchronize(self.index)

    def memory_used_bytes(self) -> int:
        """What torch's caching allocator holds, in use or not."""
        return int(self._space.memory_reserved(self.index))

    def memory_total_bytes(self) -> int:
        return int(self._space.get_device_properties(self.index).total_memory)

    def release_memory(self) -> None:
        super().release_memory()
        self._space.empty_cache()

    def seed(self, value: int) -> None:
        self._torch.default_generator.manual_seed(value)
        self._space.manual_seed(value)

    def mark(self) -> object:
        """A timed event in the current queue; where this torch has none (see `seconds_between`), a clock reading."""
        if self._clocked is None:
            self._clocked = not self._events_have_time()
        if self._clocked:
            self.synchronize()
            return time.perf_counter()
        event = self._space.Event(enable_timing=True)
        event.record()
        return event

    def seconds_between(self, earlier: Any, later: Any) -> float:
        if isinstance(later, float):
            return later - float(earlier)
        later.synchronize()
        return float(earlier.elapsed_time(later)) / 1000

    def _events_have_time(self) -> bool:
        """Does this torch time events? XPU builds with a compiler before oneAPI 2025.0 do not (ATen/xpu/XPUEvent.h)."""
        events = [self._space.Event(enable_timing=True) for _ in range(2)]
        try:
            for event in events:
                event.record()
            self.synchronize()
            events[0].elapsed_time(events[1])
        except NotImplementedError:
            return False
        return True

    def is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, self._torch.OutOfMemoryError):
            return True
        return isinstance(error, RuntimeError) and any(text in str(error) for text in self.out_of_memory_texts)
