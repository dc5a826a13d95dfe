# SPDX-License-Identifier: Apache-2.0
"""Deep convolutional networks: published parameter counts, and every layer equal to an independent implementation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpc_dl.errors import HpcDlError
from hpc_dl.models.resnet import DEPTHS, ResNet
from hpc_dl.models.vgg import Vgg16

# torchvision 0.20, torchvision.models: "num_params" of each ResNet*_Weights and of VGG16(_BN)_Weights.
PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("depth", PUBLISHED)
def test_resnet_parameter_counts_are_the_published_ones(depth: int) -> None:
    with torch.device("meta"):
        assert parameters(ResNet(depth)) == PUBLISHED[depth]


def test_vgg16_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert parameters(Vgg16()) == 138_357_544
        assert parameters(Vgg16(batch_norm=True)) == 138_365_992


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shortcuts", [True, False])
def test_depth_counts_the_layers_with_weights(depth: int, shortcuts: bool) -> None:
    """The paper counts convolutions and the fully connected layer, but no projections of shortcuts."""
    with torch.device("meta"):
        model = ResNet(depth, shortcuts=shortcuts)
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum("downsample" not in name for name in layers) == depth
    assert any("downsample" in name for name in layers) == shortcuts


class Reference:
    """ResNet after table 1 of the paper, from arrays alone: no modules, batch normalisation by its formula.

    It takes weights in the order of a state dict and remembers what every convolution and normalisation gave.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state, self.seen = state, []  # type: ignore[var-annotated]

    def conv(self, x: Tensor, name: str, stride: int) -> Tensor:
        w = self.state[f"{name}.weight"]
        size, pad = w.shape[2], w.shape[2] // 2
        m, _, h, width = x.shape
        out = ((h + 2 * pad - size) // stride + 1, (width + 2 * pad - size) // stride + 1)
        columns = F.unfold(x, size, padding=pad, stride=stride)  # a convolution is a product with unfolded patches
        y = torch.einsum("ok,mkp->mop", w.flatten(1), columns).reshape(m, len(w), *out)
        self.seen.append(y)
        return y

    def norm(self, x: Tensor, name: str) -> Tensor:
        g, b, mean, variance = (
            self.state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        y = (x - mean) / (variance + 1e-5).sqrt() * g + b
        self.seen.append(y)
        return y

    def run(self, x: Tensor, depth: int) -> Tensor:
        x = self.norm(self.conv(x, "conv1", 2), "bn1").clamp(min=0)
        x = F.max_pool2d(x, 3, 2, 1)
        counts = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
        for stage, count in enumerate(counts, start=1):
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                x = self.block(x, f"layer{stage}.{number}", stride, 3 if depth >= 50 else 2)
        pooled = x.flatten(2).sum(-1) / x[0, 0].numel()
        return pooled @ self.state["fc.weight"].T + self.state["fc.bias"]

    def block(self, x: Tensor, name: str, stride: int, layers: int) -> Tensor:
        y = x
        for layer in range(1, layers + 1):
            strided = layer == (2 if layers == 3 else 1)  # in a bottleneck the 3 x 3 in the middle
            y = self.norm(self.conv(y, f"{name}.conv{layer}", stride if strided else 1), f"{name}.bn{layer}")
            if layer < layers:
                y = y.clamp(min=0)
        if f"{name}.downsample.0.weight" in self.state:
            x = self.norm(self.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return (y + x).clamp(min=0)


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.usefixtures("double")
def test_every_layer_equals_an_independent_implementation(depth: int) -> None:
    torch.manual_seed(depth)
    model = ResNet(depth, classes=7, width=8).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as if trained: nothing at its neutral value
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2.0)
    seen: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            # clone: the ReLU after a normalisation works in place
            layer.register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    x = torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        ours = model(x)
        reference = Reference(model.state_dict())
        theirs = reference.run(x, depth)
    assert len(seen) == len(reference.seen) > 2 * (depth - 1)
    for number, (layer_ours, layer_theirs) in enumerate(zip(seen, reference.seen, strict=True)):
        torch.testing.assert_close(
            layer_ours, layer_theirs, rtol=1e-10, atol=1e-10, msg=lambda m, n=number: f"{n}: {m}"
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_fresh_block_may_be_the_identity(depth: int) -> None:
    model = ResNet(depth, width=8, small_images=True, identity_start=True)
    x = torch.rand(2, 8 * (4 if depth == 50 else 1), 8, 8)
    torch.testing.assert_close(model.layer1[1](x), x)


def test_a_plain_network_adds_nothing() -> None:
    model = ResNet(18, width=8, shortcuts=False, small_images=True)
    block, x = model.layer1[1], torch.randn(2, 8, 8, 8)
    nn.init.zeros_(block.conv2.weight)
    assert not block(x).any()  # a shortcut would let x through


def test_small_images_keep_their_size_until_the_second_stage() -> None:
    model = ResNet(18, classes=5, channels=1, width=4, small_images=True)
    shapes = []
    model.layer1.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    assert model(torch.randn(3, 1, 32, 32)).shape == (3, 5)
    assert shapes == [(3, 4, 32, 32)]


def test_unknown_depth_lists_the_known_ones() -> None:
    with pytest.raises(HpcDlError, match="18, 34, 50, 101, 152"):
        ResNet(20)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg16_has_thirteen_convolutions_and_scales_in_width_and_size(batch_norm: bool) -> None:
    model = Vgg16(classes=10, channels=1, size=64, width=1 / 16, batch_norm=batch_norm)
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 13
    assert sum(isinstance(layer, nn.Linear) for layer in model.modules()) == 3
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == 13 * batch_norm
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 10)


def test_a_fresh_vgg16_neither_dies_nor_explodes() -> None:
    torch.manual_seed(0)
    output = Vgg16(classes=10, size=32, width=1 / 4).eval()(torch.randn(64, 3, 32, 32))
    assert 0.1 < output.std().item() < 10
