# SPDX-License-Identifier: Apache-2.0
"""Residual networks at an eighth of their width on Fashion-MNIST, and plain ones beside them.

    hpc-dl train resnet18     33 s on two cores    accuracy >= 0.83    Fashion-MNIST, 10,000 images, 3 epochs
    hpc-dl train resnet34     46 s on two cores    accuracy >= 0.81    as above
    hpc-dl train resnet50     41 s on two cores    accuracy >= 0.75    3,000 images, 4 epochs
    hpc-dl train resnet101    58 s on two cores    accuracy >= 0.70    as above
    hpc-dl train resnet152    82 s on two cores    accuracy >= 0.65    as above
    hpc-dl train plain18      28 s on two cores    accuracy >= 0.80    10,000 images, 3 epochs, no shortcuts
    hpc-dl train plain34      41 s on two cores    accuracy >= 0.70    as above: deeper, and worse

ResNet-50 in full is the recipe resnet50_synthetic.
"""

from hpc_dl.settings import (
    DataSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)

_MODEL, _LOSS = "hpc_dl.models.resnet:ResNet", "torch.nn.functional:cross_entropy"


def _small(name: str, depth: int, shortcuts: bool = True, images: int = 10_000, epochs: int = 3) -> Settings:
    options = {"depth": depth, "classes": 10, "channels": 1, "width": 8, "shortcuts": shortcuts, "small_images": True}
    return Settings(
        name=name,
        task=TaskSettings(model=_MODEL, model_options=options, loss=_LOSS),
        data=DataSettings(source="hpc_dl.data.idx:load", options={"limit": images}),
        training=TrainingSettings(epochs=epochs, local_batch=64),
        optimizer=OptimizerSettings(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-4),
        schedule=ScheduleSettings(scaling="linear", warmup_steps=50, decay="cosine"),
    )


RESNET18 = _small("resnet18", 18)
RESNET34 = _small("resnet34", 34)
RESNET50 = _small("resnet50", 50, images=3000, epochs=4)
RESNET101 = _small("resnet101", 101, images=3000, epochs=4)
RESNET152 = _small("resnet152", 152, images=3000, epochs=4)
PLAIN18 = _small("plain18", 18, shortcuts=False)
PLAIN34 = _small("plain34", 34, shortcuts=False)
