"""The commands `pretrain` and `probe`: an encoder from images without labels, and how many labels it saves.

Both take a folder of class folders (`images`), or a ben-ge tree (`root`). What the probe tests with is decided before
the pretraining, written into the checkpoint, and not read until then.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Subset

from bengelib.arguments import check_names
from bengelib.bands import CLIMATE_ZONE_SYMBOLS, CORINE_19, LAND_COVER_NAMES
from bengelib.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, saved_inputs
from bengelib.data.account import shown
from bengelib.data.image_files import file_hash, read_bytes
from bengelib.data.image_listing import class_of, hold_out, list_images, picture_hashes, same_names
from bengelib.data.images import ImageFolder
from bengelib.data.loading import load
from bengelib.data.packed import PackedBENGE
from bengelib.data.patches import KEYS
from bengelib.data.splits import mgrs_tile
from bengelib.engine import History, seed_everything
from bengelib.errors import BandError, CheckpointError, DataWarning
from bengelib.files import absolute, put_in_place
from bengelib.heads import Network
from bengelib.recipes.finetuning import FINE_TUNING, FROM_SCRATCH
from bengelib.recipes.label_efficiency import label_efficiency
from bengelib.recipes.pretraining import (
    Pretraining,
    as_measured,
    build_encoder,
    mild_views,
    pretrain_encoder,
    strong_views,
)

TARGETS: dict[str, tuple[str, ...]] = {
    "climate_zone": CLIMATE_ZONE_SYMBOLS,
    "land_cover_top": LAND_COVER_NAMES,
    "corine": CORINE_19,
}
"""Targets of ben-ge that a label-efficiency curve can be drawn for; of `corine` a patch can have several classes."""

HELD_OUT = 0.2


def pretrain_images(
    images: str | Path,
    out: str | Path,
    settings: Pretraining | None = None,
    *,
    on_error: str = "raise",
    progress: bool = True,
) -> History:
    """Pretrain an encoder on a folder of images, without their labels, and write a checkpoint.

    A fifth of the files of each class is held out, copies with them: the checkpoint names them, and their pixels are
    not read.

    Args:
        images: a folder of class folders, or one without classes: there is nothing to probe with then.
        out: the checkpoint, customarily `.safetensors`.
        settings: see `Pretraining`.
        on_error: what to do about a broken image, `"raise"` or `"skip"`.
        progress: show bars.

    Raises:
        DatasetNotFoundError: no such folder, no images in it, or a class folder of whose files none is read.
        SplitError: a class has too few images.
        RasterError: a broken image (with `on_error="raise"`).
        CheckpointError: `out` cannot be written.
        ValueError: a method that needs two sensors.
    """
    settings = settings or Pretraining()
    if settings.method == "cross-modal":
        raise ValueError("cross-modal contrasts two sensors, and these images are of one; choose --method simclr")
    check_writable(out)
    names = list_images(images, need_classes=False)
    hashes = picture_hashes(images, names)
    learn, held = hold_out(names, HELD_OUT, settings.seed, root=images, hashes=hashes)
    data = ImageFolder(images, learn, size=settings.size, on_error=on_error, progress=progress)
    seed_everything(settings.seed)
    encoder = build_encoder(data.inputs, settings.method, settings.depth, settings.width)
    views = strong_views(settings.view_size, data.inputs)
    history = pretrain_encoder(encoder, data, views, settings, progress=progress)
    config = {
        "made_from": "images",
        "folder": absolute(images).name,
        "classes": list(data.classes),
        "holdout": held,
        "holdout_hashes": [file_hash(read_bytes(Path(images) / name)) for name in held],
        "skipped": data.skipped,
    }
    _save(out, encoder, config, settings, history)
    return history


def pretrain_benge(
    root: str | Path,
    out: str | Path,
    settings: Pretraining | None = None,
    *,
    modalities: Sequence[str] = ("s2", "s1"),
    target: str | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> History:
    """Pretrain an encoder on the training tiles of a ben-ge tree and write a checkpoint.

    The split is the blocked one: whole tiles are held out, so no test patch has a neighbour in the pretraining.

    Args:
        root: a path or name that `load` takes.
        out: the checkpoint.
        settings: see `Pretraining`.
        modalities: images that the encoder reads, stacked as channels, or by a ResNet each for `"cross-modal"`.
        target: what the probe shall ask for by default; nothing of it is used here.
        on_error: what to do about damaged patches, `"raise"` or `"skip"`.
        progress: show bars.

    Raises:
        BandError: a modality that is no image, not two of them for `"cross-modal"`, or a target that is no class.
        CheckpointError: `out` cannot be written.
        BengeError: whatever `load` finds wrong.
    """
    settings = settings or Pretraining()
    check_writable(out)
    if target is not None:
        check_target(target)
    seed_everything(settings.seed)
    reads = dict.fromkeys(check_names(modalities, KEYS, "modalities"), ())
    encoder = build_encoder(reads, settings.method, settings.depth, settings.width)
    open_ = partial(_open_benge, root, modalities, (), settings.fold, on_error, progress)
    data, held = open_("train"), open_("test")
    views = strong_views(settings.size)
    views = as_measured(views) if settings.method == "cross-modal" else views
    history = pretrain_encoder(encoder, data, views, settings, progress=progress)
    config = {
        "made_from": "ben-ge",
        "folder": data.root.name,
        "target": target,
        "fold": settings.fold,
        "holdout": held.patch_ids,
    }
    _save(out, encoder, config, settings, history)
    return history


def load_encoder(checkpoint: str | Path) -> tuple[nn.Module, Callable[[], nn.Module], dict[str, Any]]:
    """The encoder of a checkpoint of `pretrain`, what builds one like it with random weights, and the configuration.

    Raises:
        CheckpointError: no such file, no checkpoint, or one that `pretrain` did not write.
    """
    header, _ = read_checkpoint(checkpoint)
    config = header["config"]
    if config.get("made_from") not in ("images", "ben-ge"):
        raise CheckpointError(
            f"{checkpoint} is a checkpoint, but `python -m bengelib pretrain` did not write it, so it does not say "
            "what was held out; pretrain with that command"
        )
    settings = config["settings"]
    build = partial(build_encoder, saved_inputs(header), settings["method"], settings["depth"], settings["width"])
    encoder = build()
    load_checkpoint(checkpoint, Network(encoder, {}), heads=False)
    return encoder, build, config


def probe_images(
    checkpoint: str | Path, images: str | Path, *, on_error: str = "raise", progress: bool = True, **options: Any
) -> list[dict[str, Any]]:
    """Label-efficiency rows of a checkpoint of `pretrain_images`, tested on exactly the files that it held out.

    Args:
        checkpoint: what `pretrain_images` wrote.
        images: the same folder, wherever it is now.
        on_error: what to do about a broken image, `"raise"` or `"skip"`.
        progress: show bars, and each result.
        **options: those of `label_efficiency`: `modes`, `fractions`, `seeds`, `turns`, `finetune_settings`, ...

    Raises:
        CheckpointError: it is none, of other data, of images without classes, or files that it held out are gone or
            others now.
        BengeError: whatever `ImageFolder` and `label_efficiency` find wrong.
    """
    encoder, build, config = load_encoder(checkpoint)
    if config["made_from"] != "images":
        raise CheckpointError(
            f"{checkpoint} was pretrained on the ben-ge tree {config['folder']} and does not read images of three "
            "channels; give --root instead of --images"
        )
    if len(config["classes"]) < 2:
        raise CheckpointError(
            f"{checkpoint} was pretrained on {config['folder']}, a folder without classes, and a probe needs labels. "
            "Put its images into a folder a class, pretrain on those (the classes are not used), then probe"
        )
    names = list_images(images)
    held, learn = _held_out(checkpoint, Path(images), names, config)
    read = partial(
        ImageFolder,
        images,
        size=config["settings"]["size"],
        classes=config["classes"],
        on_error=on_error,
        progress=progress,
    )
    train, test = read(learn), read(held)
    options.setdefault("augment", mild_views(config["settings"]["size"], encoder.inputs))  # type: ignore[arg-type]
    return label_efficiency(
        encoder, build, train, train.labels, test, test.labels, train.classes, progress=progress, **options
    )


def probe_benge(
    checkpoint: str | Path,
    root: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    target: str | None = None,
    on_error: str = "raise",
    progress: bool = True,
    **options: Any,
) -> list[dict[str, Any]]:
    """Label-efficiency rows of a checkpoint of `pretrain_benge`, tested on the tiles that it held out.

    Args:
        checkpoint: what `pretrain_benge` wrote.
        root: the same tree.
        modalities: as in the pretraining, if given.
        target: one of `TARGETS`; by default the one that was named in the pretraining.
        on_error: what to do about damaged patches, `"raise"` or `"skip"`.
        progress: show bars, and each result.
        **options: those of `label_efficiency`.

    Raises:
        CheckpointError: it is none, of other data or modalities, or patches that it held out are gone.
        BandError: no target, or one that is no class.
        BengeError: whatever `load` and `label_efficiency` find wrong.
    """
    encoder, build, config = load_encoder(checkpoint)
    if config["made_from"] != "ben-ge":
        raise CheckpointError(
            f"{checkpoint} was pretrained on the image folder {config['folder']}; give --images instead of --root"
        )
    reads = tuple(encoder.inputs)  # type: ignore[arg-type]
    if modalities is not None and tuple(modalities) != reads:
        raise CheckpointError(f"{checkpoint} reads the modalities {reads}, not {tuple(modalities)}")
    target = target or config["target"]
    classes = check_target(target)
    open_ = partial(_open_benge, root, reads, (target,), config["fold"], on_error, progress)
    train, test = open_("train"), open_("test")
    places = {patch_id: place for place, patch_id in enumerate(test.patch_ids)}
    if gone := [patch_id for patch_id in config["holdout"] if patch_id not in places]:
        raise CheckpointError(
            f"{len(gone)} of the {len(config['holdout'])} test patches of {checkpoint} are not in {root}, the first "
            f"being {gone[0]}; give the tree {config['folder']} that it was pretrained on"
        )
    chosen = [places[patch_id] for patch_id in config["holdout"]]
    tiles = [mgrs_tile(patch_id) for patch_id in test.meta["patch_id_s1"].iloc[chosen]]
    options.setdefault("augment", as_measured(mild_views(config["settings"]["size"])))
    return label_efficiency(
        encoder,
        build,
        train,
        train.table(str(target)),
        Subset(test, chosen),
        test.table(str(target))[chosen],
        classes,
        target=str(target),
        groups=tiles,
        progress=progress,
        **options,
    )


def probe_options(
    steps: int | None = None, seeds: Sequence[int] = (0,), turns: int = 8, **others: Any
) -> dict[str, Any]:
    """Options of `label_efficiency` from those of the command line; `steps` holds for both ways of training."""
    settings = {"finetune_settings": FINE_TUNING, "scratch_settings": FROM_SCRATCH}
    if steps is not None:
        settings = {name: replace(value, steps=steps, epochs=0) for name, value in settings.items()}
    return {"seeds": tuple(seeds), "turns": turns, **settings, **others}


def write_rows(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of `label_efficiency` as JSON, a list of objects, one a line; null where a figure cannot be computed."""
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    lines = [json.dumps({key: _finite(value) for key, value in row.items()}) for row in rows]
    beside.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    put_in_place(beside, path)


def _finite(value: Any) -> Any:
    """The value with None in place of NaN, which JSON does not have."""
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def check_writable(path: str | Path) -> None:
    """Make the folder of a file that will be written after long work, and refuse now what would fail then.

    Raises:
        CheckpointError: the path is a folder, or its folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the name of a file to write, such as {path / 'result'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder of {path} cannot be made ({error})") from error
    if not os.access(path.parent, os.W_OK):
        raise CheckpointError(f"the folder {path.parent} cannot be written to; give another --out")


def check_target(target: str | None) -> tuple[str, ...]:
    """The classes of a target of ben-ge.

    Raises:
        BandError: no target, or one without classes.
    """
    if target not in TARGETS:
        raise BandError(f"cannot draw a label curve for the target {target!r}; choose one of {list(TARGETS)}")
    return TARGETS[target]


def _open_benge(
    root: str | Path,
    modalities: Sequence[str],
    targets: Sequence[str],
    fold: int,
    on_error: str,
    progress: bool,
    split: str,
) -> PackedBENGE:
    """One side of the blocked split."""
    return load(root, split, modalities, targets, scheme="blocked", fold=fold, on_error=on_error, progress=progress)


def _save(out: str | Path, encoder: nn.Module, config: dict[str, Any], settings: Pretraining, history: History) -> None:
    """The encoder alone with all that the probe needs to know."""
    config = {**config, "settings": {**vars(settings)}, "loss": history.rows[-1]["train/loss"]}
    save_checkpoint(out, Network(encoder, {}), config)


def _held_out(
    checkpoint: str | Path, folder: Path, names: Sequence[str], config: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """The files that a checkpoint held out, and those that are left to learn from, none of them a copy of the former.

    Raises:
        CheckpointError: held-out files are not there, or other pictures now.
    """
    held, there = config["holdout"], same_names(config["holdout"], names)
    if "holdout_hashes" not in config:
        raise CheckpointError(f"{checkpoint} does not say what the files that it held out look like; pretrain again")
    gone = [name for name in held if name not in there]
    if gone:
        fix = (
            f"it was pretrained on another folder, named {config['folder']}"
            if len(gone) == len(held)
            else "bring them back, or pretrain again on the folder as it is"
        )
        raise CheckpointError(
            f"{len(gone)} of the {len(held)} files that {checkpoint} held out for the test are not in {folder}, the "
            f"first being {shown(gone[0])}; {fix}"
        )
    tested = [there[name] for name in held]
    known = zip(tested, config["holdout_hashes"], strict=True)
    changed = [name for name, file in known if file_hash(read_bytes(folder / name)) != file]
    if changed:
        raise CheckpointError(
            f"{len(changed)} of the {len(held)} files that {checkpoint} held out have changed in {folder} (saved "
            f"again, or others of the same name), the first being {shown(changed[0])}; give the folder that it was "
            "pretrained on, or pretrain again"
        )
    if unknown := sorted({class_of(name) for name in names} - set(config["classes"])):
        raise CheckpointError(
            f"{folder} has classes that {checkpoint} does not know: {unknown}; pretrain again on the folder as it is"
        )
    out = {*tested, *same_names(list(config["skipped"]), names).values()}
    hashes = picture_hashes(folder, names)
    pictures = {hashes[name] for name in tested}
    copies = [name for name in names if name not in out and hashes[name] in pictures]
    if copies:
        warnings.warn(
            f"{len(copies)} files of {folder} are copies of files held out for the test, the first being "
            f"{shown(copies[0])}; they are left out of the training",
            DataWarning,
            stacklevel=3,
        )
    return tested, [name for name in names if name not in out and hashes[name] not in pictures]
