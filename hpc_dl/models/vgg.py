# SPDX-License-Identifier: Apache-2.0
"""VGG-16: nothing but 3 x 3 convolutions, max-pooling and three fully connected layers; 138,357,544 parameters.

K. Simonyan and A. Zisserman, Very deep convolutional networks for large-scale image recognition, 2014, table 1,
column D. Two 3 x 3 convolutions see as far as one of 5 x 5 with fewer weights and one more nonlinearity. Nine tenths of
the parameters sit in the fully connected layers: little to compute, much to exchange between ranks.
"""

from __future__ import annotations

from torch import Tensor, nn

POOL = 0
COLUMN_D = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL)


class Vgg16(nn.Module):
    """Logits of classes; train it with `torch.nn.functional.cross_entropy`.

    Args:
        classes: How many classes to tell apart.
        channels: Channels of an image.
        size: Height and width of an image, a multiple of 32.
        width: All layers this much as wide as in the paper.
        batch_norm: Normalise after every convolution (Ioffe and Szegedy, 2015; not in the paper, deep ones need it).
        dropout: Probability that an activation of the fully connected layers is set to zero while training.
    """

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        size: int = 224,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for entry in COLUMN_D:
            if entry == POOL:
                layers.append(nn.MaxPool2d(2))
                continue
            now = round(entry * width)
            layers.append(nn.Conv2d(before, now, kernel_size=3, padding=1))
            layers += [nn.BatchNorm2d(now)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            before = now
        self.features = nn.Sequential(*layers)
        full = round(4096 * width)
        self.classifier = nn.Sequential(
            nn.Linear(before * (size // 32) ** 2, full),  # 224: 512 * 7 * 7 = 25,088 -> 4096, 102.8 M parameters
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(full, full),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(full, classes),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # He et al., 2015; with the paper's fixed deviation of 0.01 the signal dies in 16 layers.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.constant_(layer.get_parameter("bias"), 0)

    def forward(self, x: Tensor) -> Tensor:
        """Images (m, channels, size, size) to logits (m, classes)."""
        x = self.features(x)  # (m, 64, s, s) -> (m, 128, s/2, s/2) -> .. -> (m, 512, s/32, s/32)
        return self.classifier(x.flatten(1))
