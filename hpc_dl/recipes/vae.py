# SPDX-License-Identifier: Apache-2.0
"""A variational autoencoder learns, without labels, to describe handwritten digits by two numbers and to draw new ones.

    hpc-dl train vae    10 s on two cores    negative_elbo <= 25.0    nats per held-back digit

vae.png in the run's folder shows the latent plane and samples.
"""

from hpc_dl.settings import DataSettings, OptimizerSettings, ScheduleSettings, Settings, TaskSettings, TrainingSettings

VAE = Settings(
    name="vae",
    task=TaskSettings(
        model="hpc_dl.models.vae:Vae",
        loss="hpc_dl.models.vae:negative_elbo",
        metrics=["hpc_dl.models.vae:negative_elbo"],
        on_finish="hpc_dl.after.vae:draw",
    ),
    data=DataSettings(source="hpc_dl.data.digits:load", options={"form": "flat", "target": "input"}),
    training=TrainingSettings(epochs=150, local_batch=64, evaluate_every_epochs=30),
    optimizer=OptimizerSettings(name="adam", learning_rate=0.002),
    schedule=ScheduleSettings(scaling="sqrt", warmup_steps=50, decay="cosine"),
)
