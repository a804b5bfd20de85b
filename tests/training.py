"""`fit` with the settings of a `Trainer` among its options, as tests that vary one of many like to write it."""

from dataclasses import fields
from typing import Any

from bengelib.engine import History, Trainer

SETTINGS = {field.name for field in fields(Trainer)}


def fit_with(*data: Any, **options: Any) -> History:
    """`Trainer(...).fit(*data, ...)`, each option given to the one of the two that has it."""
    settings = {name: value for name, value in options.items() if name in SETTINGS}
    return Trainer(**settings).fit(*data, **{name: value for name, value in options.items() if name not in SETTINGS})
