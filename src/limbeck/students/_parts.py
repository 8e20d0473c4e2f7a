"""What the networks for small images share: their initial weights and the check of their arguments."""

from torch import nn

__all__ = ["at_least_one", "he_initial"]


def he_initial(model: nn.Module) -> None:
    """Normal weights of variance 2 / fan-in, biases of zero, BatchNorm as torch makes it.

    He et al. (2015): Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def at_least_one(**values: int) -> None:
    """Refuse numbers of channels, classes or layers below 1.

    Raises:
        ValueError: one of them is; its name is in the message.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
