# SPDX-License-Identifier: Apache-2.0
"""VGG-16 at an eighth of its width on Fashion-MNIST.

    hpc-dl train vgg16    38 s on two cores    accuracy >= 0.83    Fashion-MNIST, one epoch, with normalisation

The whole network of 138 million parameters is the recipe vgg16_synthetic.
"""

from hpc_dl.settings import (
    DataSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)

_LOSS = "torch.nn.functional:cross_entropy"

VGG16 = Settings(
    name="vgg16",
    task=TaskSettings(
        model="hpc_dl.models.vgg:Vgg16",
        model_options={"classes": 10, "channels": 1, "size": 32, "width": 0.125, "batch_norm": True},
        loss=_LOSS,
    ),
    data=DataSettings(source="hpc_dl.data.idx:load", options={"size": 32}),
    training=TrainingSettings(epochs=1, local_batch=64),
    optimizer=OptimizerSettings(name="sgd", learning_rate=0.02, momentum=0.9, weight_decay=5e-4),
    schedule=ScheduleSettings(scaling="linear", warmup_steps=50, decay="cosine"),
)
