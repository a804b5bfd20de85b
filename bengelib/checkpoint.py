"""Checkpoints: weights together with bands, statistics, units, classes and configuration, all by name.

The file format is safetensors, which holds numbers and text only, so loading never runs code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bengelib.errors import CheckpointError
from bengelib.files import replacing
from bengelib.heads import Network
from bengelib.modalities import Modality, as_modalities

FORMAT = "bengelib-checkpoint-3"
"""The only key of the file's metadata: safetensors writes several keys in random order, so bytes would differ."""


def save_checkpoint(
    path: str | Path, model: Network, config: Mapping[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write the weights of `model` with its input bands, their statistics and units, and its classes.

    Args:
        path: a file, by convention `.safetensors`; its folder is created.
        model: a network with `inputs` and `outputs`.
        config: anything that JSON can hold: dataset, seed, epochs, results.
        half: whether to write weights of two or more dimensions as float16, which halves the file; biases and the
            statistics of BatchNorm stay as they are. `load_checkpoint` brings them back to the precision of the model.

    Raises:
        TypeError: `config` holds something else; nothing is written in that case.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {**_identity(model), "config": dict(config or {})}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    with replacing(path) as partial:
        save_file(state, partial, metadata={FORMAT: json.dumps(header, sort_keys=True)})


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights of a checkpoint.

    Raises:
        CheckpointError: the file does not exist, is damaged, or is not a checkpoint of `bengelib`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}; save one first with save_checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); it may be truncated") from error
    if FORMAT not in metadata:
        raise CheckpointError(f"{path} is not a {FORMAT} file; its metadata holds {metadata}")
    try:
        header = json.loads(metadata[FORMAT])
    except ValueError as error:
        raise CheckpointError(f"{path} has no readable header ({error!r}); save the model again") from error
    return header, weights


def load_checkpoint(path: str | Path, model: Network, heads: bool = True) -> dict[str, Any]:
    """Load weights into `model`, in place, if they were trained for exactly the same inputs.

    Args:
        path: what `save_checkpoint` wrote.
        model: a network of the same architecture.
        heads: False loads the encoder alone and leaves the heads unchanged, for transfer to another task.

    Returns:
        The `config` that was saved.

    Raises:
        CheckpointError: other modalities, bands, band order, statistics, units or classes; weights of another shape.
    """
    header, weights = read_checkpoint(path)
    saved, wanted = _described(header), _described(_identity(model))
    for part in ("inputs", "units", "statistics", *(("outputs",) if heads else ())):
        if saved[part] != wanted[part]:
            raise CheckpointError(
                f"{path} does not fit the model: its {part} are {saved[part]}, those of the model {wanted[part]}. "
                "Build the model with the same names in the same order."
            )
    if not heads:
        weights = {name: value for name, value in weights.items() if not name.startswith("heads.")}
    state = model.state_dict()
    expected = {name: value for name, value in state.items() if heads or not name.startswith("heads.")}
    wrong = sorted(
        {name for name in weights.keys() | expected.keys() if name not in weights or name not in expected}
        | {name for name in weights.keys() & expected.keys() if weights[name].shape != expected[name].shape}
    )
    if wrong:
        raise CheckpointError(
            f"{path} does not fit the model: {len(wrong)} weights are missing, left over or of another shape, "
            f"the first being {wrong[0]}. Build the model with the same encoder, depth and width."
        )
    model.load_state_dict({**state, **weights})
    return dict(header["config"])


def _identity(model: Network) -> dict[str, Any]:
    """Inputs and outputs of a model, as JSON can hold them."""
    return {
        "inputs": [_facts(modality) for modality in as_modalities(model.inputs).values()] if model.inputs else [],
        "outputs": {target: list(classes) for target, classes in model.outputs.items()},
    }


def _described(header: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a header, to compare and to name in a message."""
    facts = header["inputs"]
    return {
        "inputs": [(fact["name"], fact["kind"], fact["bands"]) for fact in facts],  # a list, because the order counts
        "units": {fact["name"]: fact["unit"] for fact in facts},
        "statistics": {fact["name"]: {"mean": fact["mean"], "std": fact["std"]} for fact in facts},
        "outputs": header["outputs"],
    }


def _facts(modality: Modality) -> dict[str, Any]:
    """A modality as JSON can hold it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(modality).items()}


def saved_inputs(header: Mapping[str, Any]) -> dict[str, Modality]:
    """Input modalities of a checkpoint's encoder, by key, from a header of `read_checkpoint`; to build it again."""
    return {facts["name"]: Modality(**facts) for facts in header["inputs"]}
