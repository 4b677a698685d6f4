"""Row-wise Adagrad for the tables, in the backward pass; Adam with warm-up and clipping for other parameters."""

from __future__ import annotations

from typing import Any

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.clipping import GradientClipping, GradientClippingOptimizer
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from scrollpast.config.training_options import Optimizer
from scrollpast.training.engine.nonfinite_guard import NonFiniteGuard
from scrollpast.training.engine.schedule import warm_up


def fuse_table_optimizer(tables: EmbeddingBagCollection, options: Optimizer, *, num_anchors: int) -> None:
    """Attach the optimizer of the backward pass to the tables, before they are sharded.

    Row-wise Adagrad keeps one number a row: the mean of the squared gradients' sum over its columns (Naumov et
    al., arXiv 1906.00091; Duchi et al., JMLR 12, 2011).

    Args:
        num_anchors: anchors of a step over all ranks; the loss is their mean, so that an anchor's part in a gradient
            decreases with their number, and epsilon in proportion.
    """
    epsilon = options.table_epsilon / num_anchors
    for name, table in tables.embedding_bags.items():
        rate = options.table_learning_rates.get(name, options.table_learning_rate)
        apply_optimizer_in_backward(RowWiseAdagrad, table.parameters(), {"lr": rate, "eps": epsilon})


class TrainingOptimizer:
    """Both optimizers as one; its state is saved with the model's state.

    Args:
        model: sharded, after `fuse_table_optimizer`.
        soundness: guard that stops updates on the device after a non-finite loss.
    """

    def __init__(
        self, model: DistributedModelParallel, options: Optimizer, soundness: NonFiniteGuard | None = None
    ) -> None:
        self._options = options

        def adam(parameters: Any) -> torch.optim.Optimizer:
            made = torch.optim.Adam(parameters, lr=options.dense_learning_rate, fused=True)
            if soundness is not None:
                # The interface of gradient scalers, https://docs.pytorch.org/docs/stable/amp.html
                made.grad_scale, made.found_inf = None, soundness.found_inf  # type: ignore[attr-defined]
            return made

        dense: KeyedOptimizer = KeyedOptimizerWrapper(
            dict(in_backward_optimizer_filter(model.named_parameters())), adam
        )
        self._dense = dense
        if options.max_gradient_norm is not None:
            dense = GradientClippingOptimizer(
                dense, clipping=GradientClipping.NORM, max_gradient=options.max_gradient_norm
            )
        self.combined = CombinedOptimizer([model.fused_optimizer, dense])
        # Adam's state must exist before a checkpoint is read into it.
        self.combined.init_state()

    def at_step(self, step: int) -> None:
        """Set the dense learning rate of step ``step``, counted from 0."""
        rate = self._options.dense_learning_rate * warm_up(step, self._options.warmup_steps)
        for group in self._dense.param_groups:
            group["lr"] = rate
