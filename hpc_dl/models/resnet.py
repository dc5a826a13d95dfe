# SPDX-License-Identifier: Apache-2.0
"""Residual networks of 18 to 152 layers, and plain networks of the same depth to show what the shortcuts are for.

    y = ReLU(F(x) + x)      F: two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 around a narrow middle ("bottleneck")

K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition, 2015, table 1. As everyone does today,
a bottleneck strides in its 3 x 3 convolution, not in the first 1 x 1 (Facebook's fb.resnet.torch, 2016; "v1.5").
Parameters are named as in torchvision, so weights published for it fit.
"""

from __future__ import annotations

from torch import Tensor, nn

from hpc_dl.errors import HpcDlError


class Block(nn.Module):
    """Two 3 x 3 convolutions.

    Args:
        before: Channels of the input.
        middle: Channels of the convolutions.
        stride: Of the first convolution: 2 halves height and width.
        shortcut: False for a plain network.
    """

    expansion = 1

    def __init__(self, before: int, middle: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, middle, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut
        self.downsample = _projection(before, middle, stride) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """(m, before, h, w) to (m, middle, h / stride, w / stride)."""
        f = self.relu(self.bn1(self.conv1(x)))
        f = self.bn2(self.conv2(f))
        return self.relu(_plus(f, x, self)) if self.shortcut else self.relu(f)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1: the middle is four times narrower than what comes in and goes out. Arguments as `Block`."""

    expansion = 4

    def __init__(self, before: int, middle: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        after = middle * self.expansion
        self.conv1 = nn.Conv2d(before, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut
        self.downsample = _projection(before, after, stride) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """(m, before, h, w) to (m, 4 middle, h / stride, w / stride)."""
        f = self.relu(self.bn1(self.conv1(x)))
        f = self.relu(self.bn2(self.conv2(f)))
        f = self.bn3(self.conv3(f))
        return self.relu(_plus(f, x, self)) if self.shortcut else self.relu(f)


# depth: (block, blocks in each of the four stages); depth = 2 or 3 layers per block, plus the first and the last.
DEPTHS: dict[int, tuple[type[Block] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (Block, (2, 2, 2, 2)),
    34: (Block, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Logits of classes; train it with `torch.nn.functional.cross_entropy`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        classes: How many classes to tell apart.
        channels: Channels of an image.
        width: Channels of the first stage; the paper's is 64.
        shortcuts: False makes the plain network.
        identity_start: The last normalisation of a block starts at zero, so that every block begins as the identity:
            for large batches (Goyal et al., 2017, section 5.1). Without effect on a plain network.
        small_images: A first convolution of 3 x 3 without stride or pooling, for images of about 32 x 32 points (the
            paper's section 4.2).
    """

    def __init__(
        self,
        depth: int = 50,
        classes: int = 1000,
        channels: int = 3,
        width: int = 64,
        shortcuts: bool = True,
        identity_start: bool = False,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise HpcDlError(f"ResNet of depth {depth}", "no such depth", f"give one of {', '.join(map(str, DEPTHS))}")
        block, counts = DEPTHS[depth]
        if small_images:
            self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        stages: list[nn.Sequential] = []
        before = width
        for stage, count in enumerate(counts):
            blocks = []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(block(before, width * 2**stage, stride, shortcuts))
                before = width * 2**stage * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(before, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # He et al., 2015
            elif isinstance(layer, Block | Bottleneck) and shortcuts and identity_start:
                nn.init.zeros_((layer.bn2 if isinstance(layer, Block) else layer.bn3).weight)

    def forward(self, x: Tensor) -> Tensor:
        """Images (m, channels, s, s) to logits (m, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (m, 64, s/4, s/4)
        x = self.layer1(x)  # (m, 64 e, s/4, s/4); e is the block's expansion, 1 or 4
        x = self.layer2(x)  # (m, 128 e, s/8, s/8)
        x = self.layer3(x)  # (m, 256 e, s/16, s/16)
        x = self.layer4(x)  # (m, 512 e, s/32, s/32)
        return self.fc(x.mean(dim=(2, 3)))  # (m, 512 e) -> (m, classes)


def _projection(before: int, after: int, stride: int) -> nn.Sequential | None:
    """A 1 x 1 convolution for the shortcut where shapes change; None where x can be added as it is."""
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def _plus(f: Tensor, x: Tensor, block: Block | Bottleneck) -> Tensor:
    """F(x) + x."""
    return f + (x if block.downsample is None else block.downsample(x))
