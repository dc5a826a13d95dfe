# SPDX-License-Identifier: Apache-2.0
"""Linear regression by gradient descent, compared at its end with the closed form, on the diabetes table.

    hpc-dl train ols    6 s on two cores    mse_loss <= 0.5    diabetes, held-back part; 1 would be guessing the mean

Every step uses all samples, spread over the ranks (the global batch is given), so any number of ranks follows the same
path. At the end the ranks sum X^T X and X^T y by one allreduce, each solves the normal equation, and the largest
difference to the weights found by gradient descent is printed and written to closed_form.json.
"""

from hpc_dl.settings import (
    DataSettings,
    DeviceSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)

OLS = Settings(
    name="ols",
    task=TaskSettings(
        model="hpc_dl.models.ols:LinearRegression",
        loss="torch.nn.functional:mse_loss",
        metrics=["torch.nn.functional:mse_loss"],
        on_finish="hpc_dl.after.ols:compare_with_closed_form",
    ),
    data=DataSettings(source="hpc_dl.data.tables:diabetes", options={"dtype": "float64"}),
    training=TrainingSettings(steps=4000, global_batch=354, evaluate_every_epochs=1000),
    optimizer=OptimizerSettings(name="sgd", learning_rate=0.24, momentum=0.0),
    schedule=ScheduleSettings(scaling="none"),
    device=DeviceSettings(name="cpu", precision="fp64"),
)
