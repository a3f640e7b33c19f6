"""Language modelling: every token is trained (domain adaptation, and pretraining from random weights).

In conversations all turns are trained but those that carry `weight: 0`.
"""

from luthier.train.objectives import sft


class Objective(sft.Objective):
    """The negative log-likelihood of every token."""

    rendering = "text"
