# SPDX-License-Identifier: Apache-2.0
"""Loops as people write them for one process, each a function of the samples that are this rank's.

    mpiexec -n 2 python -m tests.parallel.loops ENGINE FILE [NAME ...]

writes the parameters that every loop arrives at, in float64; equal parts of a batch, so that the mean of the ranks'
means is the mean over the batch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.checkpoint import checkpoint

import hpc_dl
from hpc_dl.comm.sync_batchnorm import convert
from hpc_dl.session import Session
from hpc_dl.settings import DeviceSettings, ExchangeSettings

SAMPLES = 24
Loop = Callable[[Session], Iterable[Tensor]]
LOOPS: dict[str, Loop] = {}


def loop(function: Loop) -> Loop:
    LOOPS[function.__name__] = function
    return function


def part(session: Session, step: int) -> tuple[Tensor, Tensor]:
    """This rank's inputs and targets."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(SAMPLES, 4, generator=generator)
    y = torch.randn(SAMPLES, 1, generator=generator)
    return x.chunk(session.world_size)[session.rank], y.chunk(session.world_size)[session.rank]


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))


def distributed(session: Session, model: nn.Module, rate: float = 0.1) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    session.distribute(model, optimizer, ExchangeSettings(bucket_megabytes=1e-4))
    return optimizer


@loop
def clipping_beside_a_head_without_gradient(session: Session) -> Iterable[Tensor]:
    model = net()
    model.register_parameter("head_of_another_task", nn.Parameter(torch.ones(3)))
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        (100 * mse_loss(model(x), y)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.parameters()


@loop
def clamping_the_data_of_gradients(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad(set_to_none=False)
        (100 * mse_loss(model(x), y)).backward()
        for parameter in model.parameters():
            parameter.grad.data.clamp_(-0.1, 0.1)
        optimizer.step()
    return model.parameters()


@loop
def gradients_replaced_by_new_tensors(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        for parameter in model.parameters():
            parameter.grad = parameter.grad.sign()
        optimizer.step()
    return model.parameters()


@loop
def torchs_own_loss_scaler(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer, scaler = distributed(session, model), torch.amp.GradScaler("cpu")
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        scaler.scale(mse_loss(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
    return model.parameters()


@loop
def an_overflow_that_skips_a_step(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer, scaler = distributed(session, model), torch.amp.GradScaler("cpu")
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        infinite = 1e308 * 1e10 if step == 1 and session.rank == session.world_size - 1 else 1.0
        scaler.scale(mse_loss(model(x), y) * infinite).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return model.parameters()


@loop
def batches_that_are_thrown_away(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(6):
        x, y = part(session, step)
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        if step % 2:
            continue
        optimizer.step()
    return model.parameters()


@loop
def a_probe_before_the_step(session: Session) -> Iterable[Tensor]:
    """Gradients of two losses, kept and combined by hand."""
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        first = [parameter.grad for parameter in model.parameters()]
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        for parameter, other in zip(model.parameters(), first, strict=True):
            parameter.grad.mul_(2.0).add_(other)
        optimizer.step()
    return model.parameters()


@loop
def several_backwards_and_a_retained_graph(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        answer = model(x)
        mse_loss(answer, y).backward(retain_graph=True)
        model[4].bias.grad.mul_(3.0)
        answer.abs().mean().backward()
        mse_loss(model[:1](x).sum(1, keepdim=True), y).backward()
        optimizer.step()
    return model.parameters()


@loop
def gradients_never_set_to_zero(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model, 0.01)
    for step in range(5):
        x, y = part(session, step)
        mse_loss(model(x), y).backward()
        optimizer.step()
    return model.parameters()


@loop
def accumulation_with_and_without_a_pause(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        parts = list(zip(x.chunk(4), y.chunk(4), strict=True))
        mse_loss(model(parts[0][0]), parts[0][1]).backward()
        with session.exchange.paused():
            with session.exchange.paused():
                mse_loss(model(parts[1][0]), parts[1][1]).backward()
            mse_loss(model(parts[2][0]), parts[2][1]).backward()
        mse_loss(model(parts[3][0]), parts[3][1]).backward()
        model(x).abs().mean().backward()
        optimizer.step()
    return model.parameters()


@loop
def adversaries(session: Session) -> Iterable[Tensor]:
    """The generator's loss gives the discriminator gradients that are dropped."""
    generator, discriminator = net(), nn.Linear(1, 1)
    of_generator, of_discriminator = distributed(session, generator), distributed(session, discriminator)
    for step in range(4):
        x, y = part(session, step)
        fake = generator(x)
        of_discriminator.zero_grad()
        (discriminator(fake.detach()).square().mean() - discriminator(y).mean()).backward()
        of_discriminator.step()
        of_generator.zero_grad()
        (-discriminator(fake)).mean().backward()
        of_generator.step()
        session.engine.average(fake.mean().detach())
    return [*generator.parameters(), *discriminator.parameters()]


@loop
def two_optimizers_of_one_model(session: Session) -> Iterable[Tensor]:
    model = net()
    first = torch.optim.SGD(model[0].parameters(), 0.1)
    second = torch.optim.SGD(model[2:].parameters(), 0.05)
    session.distribute(model, first)
    session.distribute(model, second)
    for step in range(4):
        x, y = part(session, step)
        model.zero_grad()
        mse_loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        first.step()
        second.step()
    return model.parameters()


@loop
def checkpoints_that_share_a_layer(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        h = torch.tanh(model[0](x)).requires_grad_()
        for _ in range(2):
            h = checkpoint(model[2], h, use_reentrant=True)
        mse_loss(model[4](h), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return model.parameters()


@loop
def nothing_but_checkpoints(session: Session) -> Iterable[Tensor]:
    """All gradients come from backward passes inside of one that gives none."""
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        h = checkpoint(model[:2], x.requires_grad_(), use_reentrant=True)
        h = checkpoint(lambda h: checkpoint(model[2:], h, use_reentrant=True), h, use_reentrant=True)
        mse_loss(h, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return model.parameters()


@loop
def a_compiled_model(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    compiled = torch.compile(model, backend="aot_eager")
    for step in range(3):
        x, y = part(session, step)
        optimizer.zero_grad()
        mse_loss(compiled(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return model.parameters()


@loop
def penalties_on_gradients(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        x.requires_grad_()
        answer = model(x)
        (slope,) = torch.autograd.grad(answer.sum(), x, create_graph=True)
        (mse_loss(answer, y) + slope.square().mean()).backward()
        optimizer.step()
    return model.parameters()


@loop
def a_backward_that_fails_everywhere(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = distributed(session, model)

    def fail(_: Tensor) -> None:
        raise FloatingPointError

    for step in range(5):
        x, y = part(session, step)
        optimizer.zero_grad()
        answer = model[:3](x)
        if step in (1, 3):
            answer.register_hook(fail)
        try:
            mse_loss(model[3:](answer), y).backward()
        except FloatingPointError:
            continue
        optimizer.step()
    return model.parameters()


@loop
def lbfgs_with_a_line_search(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=8, line_search_fn="strong_wolfe")
    session.distribute(model, optimizer)
    x, y = part(session, 0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return model.parameters()


@loop
def unfreezing_and_a_new_head(session: Session) -> Iterable[Tensor]:
    """Parameters that are trained later: unfrozen, or added to the optimizer."""
    model = net()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[4].parameters()], 0.1)
    session.distribute(model, optimizer)
    for step in range(6):
        x, y = part(session, step)
        if step == 2:
            model[0].requires_grad_(True)
        if step == 3:
            optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.05})
        if step == 4:
            torch.manual_seed(5)
            model.append(nn.Linear(1, 1))
            optimizer.add_param_group({"params": list(model[5].parameters())})
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return model.parameters()


@loop
def a_new_head_that_every_rank_made_for_itself(session: Session) -> Iterable[Tensor]:
    """From its first step on it is rank 0's."""
    model = nn.Sequential(nn.Linear(4, 1))
    optimizer = distributed(session, model)
    torch.manual_seed(session.rank)
    model.append(nn.Linear(1, 1))
    optimizer.add_param_group({"params": list(model[1].parameters()), "lr": 0.0})
    x, y = part(session, 0)
    mse_loss(model(x), y).backward()
    optimizer.step()
    return model[1].parameters()


@loop
def rank_0_loads_a_checkpoint(session: Session) -> Iterable[Tensor]:
    model = net()
    optimizer = torch.optim.Adam([{"params": model[:3].parameters()}, {"params": model[4].parameters()}], 0.01)
    outside = nn.Parameter(torch.tensor(1.0 + session.rank))
    optimizer.add_param_group({"params": [outside]})
    if session.rank == 0:
        for _ in range(3):
            optimizer.zero_grad()
            (model(torch.ones(2, 4)).square().mean() * outside).backward()
            optimizer.step()
        optimizer.param_groups[1]["lr"] = 0.02
    session.distribute(model, optimizer)
    for step in range(3):
        x, y = part(session, step)
        optimizer.zero_grad()
        (mse_loss(model(x), y) * outside).backward()
        optimizer.step()
    return [*model.parameters(), outside]


@loop
def complex_weights(session: Session) -> Iterable[Tensor]:
    torch.manual_seed(0)
    spectrum = nn.Parameter(torch.randn(3, 5, dtype=torch.complex128))
    model = nn.ParameterList(
        [spectrum, nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(1, dtype=torch.cdouble))]
    )
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        waves = torch.fft.irfft(torch.fft.rfft(x, n=8) * spectrum[step % 3] * model[2].conj(), n=8)
        mse_loss(waves.mean(1, keepdim=True) * model[1].sum(), y).backward()
        optimizer.step()
    return [torch.view_as_real(p) if p.is_complex() else p for p in model]


@loop
def a_normalisation_over_all_ranks(session: Session) -> Iterable[Tensor]:
    model = convert(nn.Sequential(net()[0], nn.BatchNorm1d(6), nn.Linear(6, 1)), session.engine)
    torch.manual_seed(1)
    nn.init.normal_(model[2].weight)
    optimizer = distributed(session, model)
    for step in range(4):
        x, y = part(session, step)
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        session.engine.average(loss.detach())
        optimizer.step()
    return [*model.parameters(), model[1].running_var]


def run_loops(loops: dict[str, Loop], engine: str, path: str, *names: str) -> None:
    """Append to a file what each of them arrives at on every rank, in float64."""
    torch.set_default_dtype(torch.float64)
    with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:
        for name in names or loops:
            torch.manual_seed(0)
            numbers = torch.cat([tensor.detach().flatten() for tensor in loops[name](session)])
            everybody = session.engine.gather(numbers.tolist())
            if everybody is not None:
                with Path(path).open("a") as file:
                    file.write(json.dumps({"name": name, "ranks": everybody}) + "\n")


if __name__ == "__main__":
    run_loops(LOOPS, *sys.argv[1:])
