# SPDX-License-Identifier: Apache-2.0
"""The four-layer convolutional network of the course on images of 28 x 28 points.

    hpc-dl train mnist_cnn      8 s on two cores    accuracy >= 0.98    handwritten digits, held-back part
    hpc-dl train fashion_cnn    38 s on two cores    accuracy >= 0.87    Fashion-MNIST, test part, after 5 epochs

Adam's rate grows with the square root of the number of ranks: the local batch is given, so the global batch grows with
them (A. Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014, section 5; for Adam:
S. Malladi et al., On the SDEs and scaling rules for adaptive gradient algorithms, 2022).
"""

from hpc_dl.settings import (
    DataSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)

MNIST_CNN = Settings(
    name="mnist_cnn",
    task=TaskSettings(model="hpc_dl.models.mnist_cnn:MnistCnn", model_options={"dropout": 0.25}),
    data=DataSettings(source="hpc_dl.data.digits:load", options={"shift": 1}),
    training=TrainingSettings(epochs=8, local_batch=64),
    optimizer=OptimizerSettings(name="adam", learning_rate=0.004),
    schedule=ScheduleSettings(scaling="sqrt", warmup_steps=20, decay="cosine"),
)

FASHION_CNN = Settings(
    name="fashion_cnn",
    task=TaskSettings(model="hpc_dl.models.mnist_cnn:MnistCnn", model_options={"dropout": 0.25}),
    data=DataSettings(source="hpc_dl.data.idx:load", options={"name": "fashion-mnist"}),
    training=TrainingSettings(epochs=5, local_batch=64),
    optimizer=OptimizerSettings(name="adam", learning_rate=0.002),
    schedule=ScheduleSettings(scaling="sqrt", warmup_steps=100, decay="cosine"),
)
