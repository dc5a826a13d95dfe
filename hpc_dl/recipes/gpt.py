# SPDX-License-Identifier: Apache-2.0
"""A language model of 1.1 million parameters learns to continue Python source text, byte by byte.

    hpc-dl train gpt               226 s on two cores    bits_per_token <= 3.0    bits per byte of held-back files

`gpt` writes sample.txt and keeps a checkpoint, for `python -m hpc_dl.after.gpt RUN_FOLDER "def main("`.
"""

from hpc_dl.settings import (
    CheckpointSettings,
    DataSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)

GPT = Settings(
    name="gpt",
    task=TaskSettings(
        model="hpc_dl.models.gpt:Gpt",
        model_options={"size": "1m", "vocabulary": 256, "context": 128},
        loss="hpc_dl.models.gpt:next_token_loss",
        metrics=["hpc_dl.models.gpt:bits_per_token"],
        on_finish="hpc_dl.after.gpt:write_sample",
    ),
    data=DataSettings(source="hpc_dl.data.text:load", options={"length": 128}),
    training=TrainingSettings(steps=1500, global_batch=16, clip_norm=1.0, evaluate_every_epochs=0),
    optimizer=OptimizerSettings(name="adamw", learning_rate=0.002, betas=(0.9, 0.95), weight_decay=0.1),
    schedule=ScheduleSettings(scaling="none", warmup_steps=50, decay="cosine", final_fraction=0.1),
    checkpoint=CheckpointSettings(at_end=True),
)
