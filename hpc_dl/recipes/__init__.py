# SPDX-License-Identifier: Apache-2.0
"""The recipes: named settings, each in a module whose docstring gives the command, the time and the result to expect.

A recipe is a value of `Settings`. Reading the table or loading a recipe imports no torch.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.settings import Settings

RECIPES: dict[str, str] = {
    "ols": "hpc_dl.recipes.ols:OLS",
    "neuron": "hpc_dl.recipes.neuron:NEURON",
    "mlp": "hpc_dl.recipes.mlp:MLP",
    "mnist_cnn": "hpc_dl.recipes.mnist_cnn:MNIST_CNN",
    "fashion_cnn": "hpc_dl.recipes.mnist_cnn:FASHION_CNN",
    "vae": "hpc_dl.recipes.vae:VAE",
    "vgg16": "hpc_dl.recipes.vgg16:VGG16",
    "vgg16_synthetic": "hpc_dl.recipes.synthetic:VGG16_SYNTHETIC",
    "resnet18": "hpc_dl.recipes.resnet:RESNET18",
    "resnet34": "hpc_dl.recipes.resnet:RESNET34",
    "resnet50": "hpc_dl.recipes.resnet:RESNET50",
    "resnet101": "hpc_dl.recipes.resnet:RESNET101",
    "resnet152": "hpc_dl.recipes.resnet:RESNET152",
    "plain18": "hpc_dl.recipes.resnet:PLAIN18",
    "plain34": "hpc_dl.recipes.resnet:PLAIN34",
    "resnet50_synthetic": "hpc_dl.recipes.synthetic:RESNET50_SYNTHETIC",
    "gpt": "hpc_dl.recipes.gpt:GPT",
    "gpt2_synthetic": "hpc_dl.recipes.synthetic:GPT2_SYNTHETIC",
}


LINE = re.compile(
    r" *hpc-dl train (?P<name>\w+)  +(?P<time>.+?)  +"
    r"(?P<metric>\w+) (?P<relation>[<>]?=) (?P<bound>[\d.]+)  +(?P<note>.+)"
)


@dataclass(frozen=True)
class Expectation:
    """What the docstring of a recipe's module promises, in a line such as

    hpc-dl train NAME    10 s on two cores    accuracy >= 0.98    on what
    """

    time: str
    """By the clock, of one process on two cores (AMD EPYC) that have nothing else to do, start included; of the
    networks in full, the processor time of one sample."""
    metric: str
    """Last part of a metric's name or import path; "parameters" for the number of trainable parameters."""
    relation: str
    """<=, >= or =."""
    bound: float
    note: str


def load(name: str) -> Settings:
    """The settings of a recipe.

    Raises:
        HpcDlError: No recipe has this name.
    """
    module, value = _place(name)
    recipe: Settings = getattr(importlib.import_module(module), value)
    return recipe


def expectation(name: str) -> Expectation:
    """How long a recipe takes, and what should come out."""
    text = importlib.import_module(_place(name)[0]).__doc__ or ""
    for match in map(LINE.match, text.splitlines()):
        if match and match["name"] == name:
            return Expectation(match["time"], match["metric"], match["relation"], float(match["bound"]), match["note"])
    raise ValueError(f"the docstring of recipe {name} has no line `hpc-dl train {name}  TIME  METRIC >= BOUND  NOTE`")


def _place(name: str) -> tuple[str, str]:
    if name not in RECIPES:
        raise HpcDlError(f"recipe {name!r}", "there is none of this name", nearest(name, RECIPES))
    module, value = RECIPES[name].split(":")
    return module, value
