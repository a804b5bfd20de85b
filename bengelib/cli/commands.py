"""The commands `pretrain` and `probe`: pretraining on unlabelled images, and label efficiency of the encoder.

Both take a folder of class folders (`images`), or a dataset (`root`): of ben-ge, or with a `dataset.toml`. The test
samples of the probe are chosen before pretraining, recorded in the checkpoint, and not read until the probe.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Subset

from bengelib.bands import IGNORE_INDEX
from bengelib.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, saved_inputs
from bengelib.cli.outputs import check_writable
from bengelib.data.account import shown
from bengelib.data.contents import read_contents
from bengelib.data.description import FILE_NAME
from bengelib.data.image_files import file_hash, read_bytes
from bengelib.data.image_listing import class_of, hold_out, list_images, picture_hashes, same_names
from bengelib.data.images import ImageFolder
from bengelib.data.loading import load, prepare
from bengelib.data.several import SeveralDatasets
from bengelib.engine import History, seed_everything
from bengelib.errors import BandError, CheckpointError, DataWarning
from bengelib.files import absolute
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network
from bengelib.methods import MASKED, TABLE
from bengelib.modalities import Modality, Target
from bengelib.processes import is_first_process
from bengelib.recipes.compatible import check_inputs, name_of
from bengelib.recipes.finetuning import FINE_TUNING, FROM_SCRATCH
from bengelib.recipes.label_efficiency import enlargement, label_efficiency
from bengelib.recipes.pretraining import (
    FULL_WIDTH,
    Pretraining,
    build_encoder,
    in_shared_light,
    mild_views,
    pretrain_encoder,
    side_by_side,
    strong_views,
    without_gain_offset,
)
from bengelib.recipes.supervised import check_sizes

HELD_OUT = 0.2


def pretrain_images(
    images: str | Path,
    out: str | Path,
    settings: Pretraining | None = None,
    *,
    on_error: str = "raise",
    progress: bool = True,
    **kept: Any,
) -> History:
    """Pretrain an encoder on a folder of images, without their labels, and write a checkpoint.

    A fifth of the files of each class is held out, copies with them: the checkpoint names them, and their pixels are
    not read.

    Args:
        images: a folder of class folders, or one without classes, which cannot be probed later.
        out: the checkpoint, by convention `.safetensors`.
        settings: see `Pretraining`.
        on_error: what to do about a damaged image, `"raise"` or `"skip"`.
        progress: show bars.
        **kept: `checkpoint`, `checkpoint_every` and `log` of `pretrain_encoder`.

    Raises:
        DatasetNotFoundError: no such folder, no images in it, or a class folder without any readable kind of file.
        SplitError: a class has too few images.
        RasterError: a damaged image (with `on_error="raise"`).
        CheckpointError: `out` cannot be written.
        ValueError: a method that needs more than images.
    """
    settings = settings or Pretraining()
    if needs := TABLE[settings.method].needs:
        others = [method for method, facts in TABLE.items() if not facts.needs]
        raise ValueError(
            f"{settings.method} needs {', '.join(needs)}, which a folder of images lacks; choose --method "
            f"{', '.join(others[:-1])} or {others[-1]}"
        )
    check_writable(out)
    names = list_images(images, need_classes=False)
    hashes = picture_hashes(images, names)
    learn, held = hold_out(names, HELD_OUT, settings.seed, root=images, hashes=hashes)
    data = ImageFolder(images, learn, size=settings.size, on_error=on_error, progress=progress)
    seed_everything(settings.seed)
    encoder = build_encoder(data.inputs, settings.method, settings.depth, settings.width)
    views = in_shared_light(strong_views(settings.view_size, encoder.inputs))  # type: ignore[arg-type]
    history = pretrain_encoder(encoder, data, views, settings, progress=progress, **kept)
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


Roots = str | Path | Sequence[str | Path]
"""A dataset, or several read as one."""


def pretrain_dataset(
    root: Roots,
    out: str | Path,
    settings: Pretraining | None = None,
    *,
    modalities: Sequence[str] | None = None,
    target: str | None = None,
    on_error: str = "raise",
    progress: bool = True,
    **kept: Any,
) -> History:
    """Pretrain an encoder on the training side of a dataset and write a checkpoint.

    The split is the blocked one where places or groups are known: whole tiles are held out, so that no test sample has
    a neighbour in the pretraining.

    Args:
        root: a path or name that `load` takes: of ben-ge, or of a folder with a `dataset.toml`; or several of them,
            whose samples have the same modalities.
        out: the checkpoint.
        settings: see `Pretraining`.
        modalities: image inputs of the encoder, stacked as channels, or with one ResNet each for methods of two
            sensors; by default `s2` and `s1` of ben-ge, all images of another dataset.
        target: default target of the probe; it is not used in pretraining.
        on_error: what to do about damaged samples, `"raise"` or `"skip"`.
        progress: show bars.
        **kept: `checkpoint`, `checkpoint_every` and `log` of `pretrain_encoder`.

    Raises:
        BandError: a modality is not an image, their number is not two for a method of two sensors, or a target has no
            classes.
        MissingModalityError: no location has two dates, for `"seco"`.
        CheckpointError: `out` cannot be written.
        DescriptionError: images of different sizes.
        BengeError: any fault that `load` finds.
    """
    settings = settings or Pretraining()
    check_writable(out)
    roots = _prepared(root, progress)
    modalities = modalities or images_of(roots[0])
    if target is not None:
        check_target(roots[0], target)
    keys = (*modalities, *_besides(roots[0], settings.method, modalities))
    open_ = partial(_open, roots, keys, (), settings.fold, on_error, progress)
    data, held = open_("train"), open_("test")
    check_sizes(data, "early")
    seed_everything(settings.seed)
    inputs = {key: data.inputs[key] for key in modalities}
    encoder = build_encoder(inputs, settings.method, settings.depth, settings.width)
    views = strong_views(view_size(settings, encoder), inputs)
    views = without_gain_offset(views) if settings.method == "cross-modal" else in_shared_light(views)
    if TABLE[settings.method].two_sensors:
        width = settings.width / FULL_WIDTH
        first, second = (EarlyFusion({key: modality}, settings.depth, width) for key, modality in inputs.items())
        history = pretrain_encoder(first, data, views, settings, encoder_2=second, progress=progress, **kept)
        encoder = side_by_side((first, second))
    else:
        history = pretrain_encoder(encoder, data, views, settings, progress=progress, **kept)
    config = {
        "made_from": "dataset",
        "folder": ", ".join(each.name for each in roots),
        "target": target,
        "fold": settings.fold,
        "holdout": list(held.patch_ids),
        "stored": getattr(data, "stored", {}),
    }
    _save(out, encoder, config, settings, history)
    return history


def _besides(root: Path, method: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """Keys besides the images that a method learns from.

    Raises:
        BandError: it needs longitude and latitude, and the dataset has none.
    """
    known = read_contents(root)
    if method == "multi-pretext":
        return tuple(key for key in known.others if key not in modalities)
    if "lonlat" not in TABLE[method].needs:
        return ()
    if not known.places:
        raise BandError(
            f"{method} learns from where images lie, which {root / FILE_NAME} does not give as a modality; add "
            '[modalities.place] with kind = "vector", columns of longitude and latitude, and bands = ["lon", "lat"]'
        )
    return known.places[:1]


def view_size(settings: Pretraining, encoder: nn.Module) -> int:
    """Pixels along a side of a view: `size`, or half of smaller images, in whole squares of the encoder."""
    if settings.view is not None:
        return settings.view
    inputs: Mapping[str, Modality] = encoder.inputs  # type: ignore[assignment]
    sizes = [modality.size for modality in inputs.values() if modality.size]
    most = min(sizes, default=settings.size)
    share = 0.5 if sizes and settings.method not in MASKED else 1
    square = int(getattr(encoder, "stride", getattr(encoder, "patch", 1)))
    wanted = min(settings.size, round(share * most))
    return max(1, min(round(wanted / square), most // square)) * square


def load_encoder(checkpoint: str | Path) -> tuple[nn.Module, Callable[[], nn.Module], dict[str, Any]]:
    """The encoder of a checkpoint of `pretrain`, a function that builds it with random weights, and the configuration.

    Raises:
        CheckpointError: the file does not exist, or is not a checkpoint of `pretrain`.
    """
    header, _ = read_checkpoint(checkpoint)
    config = header["config"]
    if config.get("made_from") not in ("images", "dataset"):
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
        checkpoint: a checkpoint of `pretrain_images`.
        images: the same folder, at any path.
        on_error: what to do about a damaged image, `"raise"` or `"skip"`.
        progress: show progress bars, and each result.
        **options: options of `label_efficiency`: `modes`, `fractions`, `seeds`, `tta`, `finetune_settings`, ...

    Raises:
        CheckpointError: the file is not a checkpoint, or one of other data or of images without classes, or held-out
            files are missing or have changed.
        BengeError: any fault that `ImageFolder` and `label_efficiency` find.
    """
    encoder, build, config = load_encoder(checkpoint)
    if config["made_from"] != "images":
        raise CheckpointError(
            f"{checkpoint} was pretrained on the dataset {config['folder']} and does not read images of three "
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
    _fill_in(options, config, config["settings"]["size"], encoder)
    return label_efficiency(
        encoder, build, train, train.labels, test, test.labels, train.classes, progress=progress, **options
    )


def _fill_in(options: dict[str, Any], config: dict[str, Any], size: int, encoder: nn.Module) -> None:
    """Options of `label_efficiency` for images of `size` pixels along a side, where the caller gave none."""
    settings = Pretraining(**{name: config["settings"][name] for name in ("method", "size")})
    masked = settings.method in MASKED
    options.setdefault("enlarge", 1 if masked else enlargement(size))
    view = view_size(settings, encoder) if masked else max(1, min(settings.size, round(0.75 * size)))
    options.setdefault("augment", without_gain_offset(mild_views(view, encoder.inputs)))  # type: ignore[arg-type]


def probe_dataset(
    checkpoint: str | Path,
    root: Roots,
    *,
    modalities: Sequence[str] | None = None,
    target: str | None = None,
    on_error: str = "raise",
    progress: bool = True,
    **options: Any,
) -> list[dict[str, Any]]:
    """Label-efficiency rows of a checkpoint of `pretrain_dataset`, tested on the samples that it held out.

    Samples without a label are left out.

    Args:
        checkpoint: a checkpoint of `pretrain_dataset`.
        root: the same dataset, or the same ones.
        modalities: those of the pretraining, if given.
        target: a class or multi-label target; by default the one given in pretraining, or the only one.
        on_error: what to do about damaged samples, `"raise"` or `"skip"`.
        progress: show progress bars, and each result.
        **options: options of `label_efficiency`.

    Raises:
        CheckpointError: the file is not a checkpoint, or one of other data or modalities, or held-out samples are
            missing.
        BandError: no target, or one without classes; bands, units or scale other than in the pretraining.
        BengeError: any fault that `load` and `label_efficiency` find.
    """
    encoder, build, config = load_encoder(checkpoint)
    if config["made_from"] != "dataset":
        raise CheckpointError(
            f"{checkpoint} was pretrained on the image folder {config['folder']}; give --images instead of --root"
        )
    reads = tuple(encoder.inputs)  # type: ignore[arg-type]
    if modalities is not None and tuple(modalities) != reads:
        raise CheckpointError(f"{checkpoint} reads the modalities {reads}, not {tuple(modalities)}")
    roots = _prepared(root, progress)
    chosen = check_target(roots[0], target or config["target"])
    open_ = partial(_open, roots, reads, (chosen.name,), config["fold"], on_error, progress)
    train, test = open_("train"), open_("test")
    stored = config.get("stored"), getattr(train, "stored", None)
    check_inputs(encoder.inputs, train.inputs, *stored, name_of(train))  # type: ignore[arg-type]
    index_of = {patch_id: place for place, patch_id in enumerate(test.patch_ids)}
    if gone := [patch_id for patch_id in config["holdout"] if patch_id not in index_of]:
        raise CheckpointError(
            f"{len(gone)} of the {len(config['holdout'])} test samples of {checkpoint} are not in "
            f"{' or '.join(map(str, roots))}, the first being {gone[0]}; give the dataset {config['folder']} that it "
            "was pretrained on"
        )
    held = np.array([index_of[patch_id] for patch_id in config["holdout"]])
    sides = {}
    for name, data, rows in (("train", train, np.arange(len(train))), ("test", test, held)):
        labels = data.table(chosen.name)[rows]
        known = (labels != IGNORE_INDEX) if labels.ndim == 1 else np.isfinite(labels).all(axis=1)
        sides[name] = Subset(data, rows[known].tolist()), labels[known], rows[known]
    groups = None if test.groups is None else test.groups[sides["test"][2]].tolist()
    sizes = [modality.size for modality in train.inputs.values() if modality.size]
    _fill_in(options, config, min(sizes, default=config["settings"]["size"]), encoder)
    return label_efficiency(
        encoder,
        build,
        *sides["train"][:2],
        *sides["test"][:2],
        chosen.classes,
        target=chosen.name,
        groups=groups,
        progress=progress,
        **options,
    )


def probe_options(steps: int | None = None, seeds: Sequence[int] = (0,), tta: int = 8, **others: Any) -> dict[str, Any]:
    """Options of `label_efficiency` from those of the command line; `steps` applies to both kinds of training."""
    settings = {"finetune_settings": FINE_TUNING, "scratch_settings": FROM_SCRATCH}
    given = {} if steps is None else {name: replace(each, steps=steps, epochs=0) for name, each in settings.items()}
    return {"seeds": tuple(seeds), "tta": tta, **given, **others}


def images_of(root: Path) -> tuple[str, ...]:
    """The default image inputs of an encoder for a dataset.

    Raises:
        BandError: a described dataset has no images.
    """
    if images := read_contents(root).images:
        return images
    raise BandError(f"{root} describes no image, and pretraining makes views of images; use train instead")


def check_target(root: Path, target: str | None) -> Target:
    """A target of a dataset that supports a label-efficiency curve; for None, the only one.

    Raises:
        BandError: no target, or one without classes.
    """
    fit = {key: each for key, each in read_contents(root).targets.items() if each.kind in ("class", "labels")}
    if target is None and len(fit) == 1:
        return next(iter(fit.values()))
    if target not in fit:
        raise BandError(f"cannot draw a label curve for the target {target!r} of {root}; choose one of {list(fit)}")
    return fit[target]


def _prepared(root: Roots, progress: bool) -> list[Path]:
    """The folders of some datasets, prepared for loading."""
    given = [root] if isinstance(root, str | Path) else root
    return [prepare(each, progress=progress) for each in given]


def _open(
    roots: Sequence[Path],
    modalities: Sequence[str],
    targets: Sequence[str],
    fold: int,
    on_error: str,
    progress: bool,
    split: str,
) -> Any:
    """One part of each dataset, in the split under which test samples have no neighbours in the training."""
    parts = []
    for root in roots:
        options: dict[str, Any] = {"fold": fold, "on_error": on_error, "scheme": read_contents(root).scheme}
        parts.append(load(root, split, modalities, targets, progress=progress, **options))
    return parts[0] if len(parts) == 1 else SeveralDatasets(parts)


def _save(out: str | Path, encoder: nn.Module, config: dict[str, Any], settings: Pretraining, history: History) -> None:
    """Write the encoder with the configuration for the probe, in the first of several processes."""
    config = {**config, "settings": {**vars(settings)}, "loss": history.rows[-1]["train/loss"]}
    if is_first_process():
        save_checkpoint(out, Network(encoder, {}), config)


def _held_out(
    checkpoint: str | Path, folder: Path, names: Sequence[str], config: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """The held-out files of a checkpoint, and the remaining ones for training, without copies of the former.

    Raises:
        CheckpointError: held-out files are missing or have changed.
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
