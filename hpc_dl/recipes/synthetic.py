# SPDX-License-Identifier: Apache-2.0
"""Whole networks on made-up data of the usual shape: for measuring on a real machine, nothing to learn.

    hpc-dl train resnet50_synthetic    0.5 s of one core a sample    parameters = 25557032     3 x 224 x 224, batch 32
    hpc-dl train vgg16_synthetic       1.5 s of one core a sample    parameters = 138357544    3 x 224 x 224, batch 32
    hpc-dl train gpt2_synthetic        12 s of one core a sample     parameters = 124439808    1024 tokens, batch 8

Samples cost nothing to serve, so what is timed is training alone. ResNet-50's batch, rate and scaling rule are those of
P. Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017.
"""

from hpc_dl.settings import (
    DataSettings,
    LogSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)

_LOSS = "torch.nn.functional:cross_entropy"

RESNET50_SYNTHETIC = Settings(
    name="resnet50_synthetic",
    task=TaskSettings(model="hpc_dl.models.resnet:ResNet", model_options={"depth": 50}, loss=_LOSS),
    data=DataSettings(source="hpc_dl.data.synthetic:images", options={"evaluation_samples": 32}),
    training=TrainingSettings(steps=100, local_batch=32, evaluate_every_epochs=0),
    optimizer=OptimizerSettings(name="sgd", learning_rate=0.0125, momentum=0.9, weight_decay=1e-4),
    schedule=ScheduleSettings(scaling="linear", warmup_steps=20),
    log=LogSettings(warmup_steps=20),
)

VGG16_SYNTHETIC = Settings(
    name="vgg16_synthetic",
    task=TaskSettings(model="hpc_dl.models.vgg:Vgg16", loss=_LOSS),
    data=DataSettings(source="hpc_dl.data.synthetic:images", options={"evaluation_samples": 32}),
    training=TrainingSettings(steps=100, local_batch=32, evaluate_every_epochs=0),
    optimizer=OptimizerSettings(name="sgd", learning_rate=0.001, momentum=0.9),
    log=LogSettings(warmup_steps=20),
)

GPT2_SYNTHETIC = Settings(
    name="gpt2_synthetic",
    task=TaskSettings(
        model="hpc_dl.models.gpt:Gpt",
        model_options={"size": "gpt2"},
        loss="hpc_dl.models.gpt:next_token_loss",
        metrics=["hpc_dl.models.gpt:bits_per_token"],
    ),
    data=DataSettings(source="hpc_dl.data.synthetic:tokens", options={"evaluation_samples": 8}),
    training=TrainingSettings(steps=100, local_batch=8, clip_norm=1.0, evaluate_every_epochs=0),
    optimizer=OptimizerSettings(name="adamw", learning_rate=0.0006, betas=(0.9, 0.95), weight_decay=0.1),
    schedule=ScheduleSettings(scaling="none", warmup_steps=20),
    log=LogSettings(warmup_steps=20),
)
