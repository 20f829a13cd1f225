"""A stage whose passes went through torch.compile.

Core: the same functions, compiled at their first call.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swarm.training.stages import Stage


@dataclass(frozen=True, slots=True)
class CompiledStage(Stage):
    """Raises what the compiler raises, at the first call of a pass or of its backward half."""

    forward_pass: Callable[..., Any]
    loss_pass: Callable[..., Any]

    @classmethod
    def of(cls, stage: Stage) -> "CompiledStage":
        """Nothing is compiled yet; a run has one shape, so it is compiled once."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch's own modules say while they load
            forward_pass = torch.compile(stage.forward, dynamic=False)
        return cls(stage.plan, stage.ops, forward_pass, torch.compile(stage.loss, dynamic=False))

    def forward(self, params_P: Tensor, inputs: Tensor) -> Tensor:
        """As ``Stage.forward``."""
        return _quietly(self.forward_pass, params_P, inputs)

    def loss(self, params_P: Tensor, inputs: Tensor, labels_BT: Tensor) -> Tensor:
        """As ``Stage.loss``."""
        return _quietly(self.loss_pass, params_P, inputs, labels_BT)


def _quietly(compiled: Callable[..., Any], *tensors: Tensor) -> Tensor:
    """The compiler's advice to whoever writes the model is not for whoever runs a node."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = compiled(*tensors)
    return found
