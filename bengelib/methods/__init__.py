"""Methods of self-supervised learning, each in a module that holds what it adds to the frame in `ssl`."""

METHODS = ("simclr", "barlow", "vicreg", "mae", "cross-modal")
"""The methods that `recipes.pretraining` and the command `pretrain` know; here, so that `--help` needs no torch."""
