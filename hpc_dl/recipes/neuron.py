# SPDX-License-Identifier: Apache-2.0
"""One neuron with hand-written derivatives tells benign from malignant tumours.

hpc-dl train neuron    5 s on two cores    binary_accuracy >= 0.97    breast cancer table, held-back part
"""

from hpc_dl.settings import DataSettings, OptimizerSettings, ScheduleSettings, Settings, TaskSettings, TrainingSettings

NEURON = Settings(
    name="neuron",
    task=TaskSettings(
        model="hpc_dl.models.neuron:Neuron",
        loss="hpc_dl.models.neuron:cross_entropy",
        metrics=["binary_accuracy", "hpc_dl.models.neuron:cross_entropy"],
    ),
    data=DataSettings(source="hpc_dl.data.tables:breast_cancer"),
    training=TrainingSettings(epochs=100, local_batch=32, evaluate_every_epochs=20),
    optimizer=OptimizerSettings(name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.01),
    schedule=ScheduleSettings(scaling="linear", decay="cosine"),
)
