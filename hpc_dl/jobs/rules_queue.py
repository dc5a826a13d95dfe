# SPDX-License-Identifier: Apache-2.0
"""Queues: which limits a request breaks, and the nearest requests that break none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hpc_dl.cluster.machine import Queue
from hpc_dl.errors import nearest
from hpc_dl.jobs.request import Request, takes

Fault = tuple[str, str, str, str]
"""Rule, what was found, what is legal, source."""


def queue_fault(request: Request, queues: Sequence[Queue]) -> Fault | None:
    """What is wrong with the request's queue, nodes and minutes together, or None."""
    named = [queue for queue in queues if queue.name == request.queue]
    if not queues or any(takes(queue, request) for queue in named):
        return None
    found = f"{request.nodes} nodes for {request.minutes} minutes"
    if request.queue and not named:
        known = nearest(request.queue, {queue.name for queue in queues})
        return f"queues: {known}", f"queue {request.queue}", _legal(request, queues), _sources(queues)
    if not named:
        offered = [queue for queue in queues if queue.chosen_for_you]
        rule = "no queue takes it: " + "; ".join(map(limits, offered))
        return rule, found, _legal(request, offered), _sources(offered)
    if shared := [queue.max_devices for queue in named if queue.max_devices]:
        found += f" with {request.ranks_per_node} ranks per node"
        inside = f"--queue {request.queue} --nodes 1 --ranks-per-node {shared[0]}"
        return limits(named[0]), found, f"{inside}; or {_legal(request, queues)}", _sources(named)
    rule = "; ".join(map(limits, named))
    return rule, f"{found} in {request.queue}", _legal(request, queues), _sources(named)


def limits(queue: Queue) -> str:
    """The limits of a queue in words.

    >>> limits(Queue(name="debug", max_nodes=2, min_minutes=5, max_minutes=60))
    'debug takes 1 to 2 nodes for 5 to 60 minutes'
    """
    name = f"{queue.name} ({queue.route})" if queue.route else queue.name
    nodes = f"{queue.min_nodes} to {queue.max_nodes}" if queue.max_nodes else f"{queue.min_nodes} or more"
    minutes = f"{queue.min_minutes} to {queue.max_minutes}" if queue.max_minutes else f"{queue.min_minutes} or more"
    share = f" and at most {queue.max_devices} devices in all" if queue.max_devices else ""
    return f"{name} takes {nodes} nodes for {minutes} minutes{share}"


def _legal(request: Request, queues: Sequence[Queue]) -> str:
    """The two nearest legal requests in different queues, nearest first, by the factors they change nodes and time."""
    whole = [queue for queue in queues if queue.chosen_for_you or queue.name == request.queue]
    whole = [queue for queue in whole if not queue.max_devices]
    candidates = [_clamped(request, queue) for queue in whole]
    candidates.sort(key=lambda other: _distance(request, other) + 0.01 * (other.queue != request.queue))
    best: dict[str, Request] = {}
    for candidate in candidates:
        best.setdefault(candidate.queue, candidate)
    chosen = list(best.values())[:2]
    return "; or ".join(f"--queue {c.queue} --nodes {c.nodes} --minutes {c.minutes}" for c in chosen)


def _clamped(request: Request, queue: Queue) -> Request:
    nodes = min(max(request.nodes, queue.min_nodes), queue.max_nodes or request.nodes)
    minutes = min(max(request.minutes, queue.min_minutes), queue.max_minutes or request.minutes)
    return replace(request, queue=queue.name, nodes=nodes, minutes=minutes)


def _distance(one: Request, other: Request) -> float:
    return abs(math.log(other.nodes / one.nodes)) + abs(math.log(other.minutes / one.minutes))


def _sources(queues: Sequence[Queue]) -> str:
    return "; ".join(dict.fromkeys(f"{queue.source} ({queue.date})" for queue in queues))
