# SPDX-License-Identifier: Apache-2.0
"""The recipes: named settings, each in a module whose docstring gives the command, the time and the result to expect.

A recipe is a value of `Settings`. Reading the table or loading a recipe imports no torch.
"""

from __future__ import annotations

import importlib

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


def load(name: str) -> Settings:
    """The settings of a recipe.

    Raises:
        HpcDlError: No recipe has this name.
    """
    if name not in RECIPES:
        raise HpcDlError(f"recipe {name!r}", "there is none of this name", nearest(name, RECIPES))
    module, value = RECIPES[name].split(":")
    recipe: Settings = getattr(importlib.import_module(module), value)
    return recipe
