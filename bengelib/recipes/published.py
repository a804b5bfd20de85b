"""Published weights of ResNets: their addresses, their training data, and readers of their files.

Layers of a ResNet are found in a file by the names of torchvision, timm, MoCo, DINO, Lightning and DeCUR; no code in a
file is ever run.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bengelib.errors import ArgumentError, CheckpointError, ChecksumError, DownloadError
from bengelib.files import absolute

_HUB = "https://hf.co/torchgeo/"
_PYTORCH = "https://download.pytorch.org/models/"
_RGB = ("B04", "B03", "B02")
_L1C = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_S1 = ("VV", "VH")


@dataclass(frozen=True)
class Published:
    """One set of published weights.

    Attributes:
        bands: of its channels, in order.
        unit: of the training values, before scaling.
        mean: subtracted from each band, in that unit; empty if any standardised values are accepted.
        std: divisor of each band.
        urls: addresses of the weights by depth; file names end in the first eight digits of the SHA-256.
    """

    bands: tuple[str, ...]
    unit: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    urls: Mapping[int, str] | None = None


def _seco() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Moments of SeCo: eight-bit reflectance stretched between two quantiles of each band, then ImageNet's moments."""
    low, high = (0.0, 2.0, 3.0), (129.0, 103.0, 88.0)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ranges = [(least / 255, (most - least) / 255) for least, most in zip(low, high, strict=True)]
    return (
        tuple(least + width * value for (least, width), value in zip(ranges, mean, strict=True)),
        tuple(width * value for (_, width), value in zip(ranges, std, strict=True)),
    )


# Bands and scaling are those of the code that pretrained: SSL4EO-S12 (Wang et al. 2023, arXiv:2211.07044) and DeCUR
# (Wang et al. 2024, arXiv:2309.05300) take reflectance as it is, and decibels from the mean less to the mean plus two
# standard deviations as 0 to 1; SeCo (Manas et al. 2021, arXiv:2103.16607) see `_seco`. Addresses and digits are those
# that torchgeo (github.com/torchgeo/torchgeo, MIT) and torchvision use.
_REFLECTANCE = {"unit": "reflectance", "mean": (0.0,) * 13, "std": (1.0,) * 13}
_DECIBELS = {"unit": "dB", "mean": (-12.54847273 - 2 * 5.25697717, -20.19237134 - 2 * 5.91150917),
             "std": (4 * 5.25697717, 4 * 5.91150917)}  # fmt: skip
PUBLISHED: dict[str, Published] = {
    "imagenet": Published(_RGB, urls={
        18: f"{_PYTORCH}resnet18-f37072fd.pth",
        34: f"{_PYTORCH}resnet34-b627a593.pth",
        50: f"{_PYTORCH}resnet50-11ad3fa6.pth",
    }),
    "ssl4eo-moco": Published(_L1C, **_REFLECTANCE, urls={  # type: ignore[arg-type]
        18: f"{_HUB}resnet18_sentinel2_all_moco/resolve/5b8cddc9a14f3844350b7f40b85bcd32aed75918/"
            "resnet18_sentinel2_all_moco-59bfdff9.pth",
        50: f"{_HUB}resnet50_sentinel2_all_moco/resolve/da4f3c9dbe09272eb902f3b37f46635fa4726879/"
            "resnet50_sentinel2_all_moco-df8b932e.pth",
    }),
    "ssl4eo-dino": Published(_L1C, **_REFLECTANCE, urls={  # type: ignore[arg-type]
        50: f"{_HUB}resnet50_sentinel2_all_dino/resolve/d7f14bf5530d70ac69d763e58e77e44dbecfec7c/"
            "resnet50_sentinel2_all_dino-d6c330e9.pth",
    }),
    "ssl4eo-moco-rgb": Published(_RGB, "reflectance", (0.0,) * 3, (1.0,) * 3, urls={
        18: f"{_HUB}resnet18_sentinel2_rgb_moco/resolve/e1c032e7785fd0625224cdb6699aa138bb304eec/"
            "resnet18_sentinel2_rgb_moco-e3a335e3.pth",
        50: f"{_HUB}resnet50_sentinel2_rgb_moco/resolve/efd9723b59a88e9dc1420dc1e96afb25b0630a3c/"
            "resnet50_sentinel2_rgb_moco-2b57ba8b.pth",
    }),
    "ssl4eo-moco-s1": Published(_S1, **_DECIBELS, urls={  # type: ignore[arg-type]
        50: f"{_HUB}resnet50_sentinel1_all_moco/resolve/e79862c667853c10a709bdd77ea8ffbad0e0f1cf/"
            "resnet50_sentinel1_all_moco-906e4356.pth",
    }),
    "seco": Published(_RGB, "reflectance", *_seco(), urls={
        18: f"{_HUB}resnet18_sentinel2_rgb_seco/resolve/f8dcee692cf7142163b55a5c197d981fe0e717a0/"
            "resnet18_sentinel2_rgb_seco-cefca942.pth",
        50: f"{_HUB}resnet50_sentinel2_rgb_seco/resolve/fbd07b02a8edb8fc1035f7957160deed4321c145/"
            "resnet50_sentinel2_rgb_seco-018bf397.pth",
    }),
    "decur-s2": Published(_L1C, **_REFLECTANCE, urls={  # type: ignore[arg-type]
        50: f"{_HUB}decur/resolve/eba7ae5945d482a4319be046d34b552db5dd9950/"
            "rn50_ssl4eo-s12_ms_decur_ep100-fc6b09ff.pth",
    }),
    "decur-s1": Published(_S1, **_DECIBELS, urls={  # type: ignore[arg-type]
        50: f"{_HUB}decur/resolve/9328eeb90c686a88b30f8526ed757b4bc0f12027/"
            "rn50_ssl4eo-s12_sar_decur_ep100-f0e69ba2.pth",
    }),
}  # fmt: skip
"""Published weights by name."""

_CONTAINERS = ("state_dict", "model", "teacher", "model_state_dict", "student")
"""Keys of weights in files of training code, in order of preference."""
_AVERAGES = ("encoder_k", "momentum", "target", "ema")
"""Words in the names of second copies of a trained encoder."""
_SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Layers of a ResNet stored as a sequence, as in SeCo."""


class Weights(NamedTuple):
    """One ResNet in a file: its state under the names of `bengelib.resnet`, and what it was trained on."""

    state: dict[str, Tensor]
    facts: Published


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a file of weights, without running any code in it.

    Objects other than tensors, numbers and text (settings, callbacks of Lightning) are read as empty.

    Raises:
        CheckpointError: it is not a file of weights.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        try:
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        except ValueError:  # from before torch 1.6
            foreign = []
        with torch.serialization.safe_globals([(_Nothing, name) for name in foreign]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, SafetensorError, KeyError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a readable file of weights ({reason}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a dict of weights")
    return content


class _Nothing(OrderedDict[Any, Any]):
    """Replacement of all objects in a file that are not weights: a plain dict, which torch fills without code."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def find_resnets(content: Mapping[str, Any], path: Path, kind: str | None) -> list[Weights]:
    """The ResNets in a file: one, or for DeCUR one per sensor.

    Raises:
        CheckpointError: there is none, or their training data are unknown.
    """
    tensors = content
    if not any(isinstance(value, Tensor) for value in content.values()):
        inside = [key for key in _CONTAINERS if isinstance(content.get(key), dict)]
        tensors = content[inside[0]] if inside else {}
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    found = []
    for prefix, is_sequence in _prefixes(tensors):
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if is_sequence:
            split = [(name.partition("."), value) for name, value in state.items()]
            state = {f"{_SEQUENCE[head]}.{rest}": value for (head, _, rest), value in split if head in _SEQUENCE}
        facts = _recognise(state, prefix, is_sequence, path, kind)
        if facts is not None:
            found.append(Weights(state, facts))
    if not found:
        raise CheckpointError(
            f"{path} holds no ResNet{f' of {kind}' if kind else ''}: its first weights are {list(tensors)[:3]}. "
            "Expected names such as conv1.weight and layer1.0.conv1.weight, with any prefix"
        )
    return found


def _prefixes(tensors: Mapping[str, Tensor]) -> list[tuple[str, bool]]:
    """The prefix of the names of each ResNet, and whether it is stored as a sequence."""
    first = [
        (name[: -len(end)], end == "0.weight")
        for name, value in tensors.items()
        for end in ("conv1.weight", "0.weight")
        if value.ndim == 4 and value.shape[-1] == 7 and (name == end or name.endswith(f".{end}"))
    ]
    return [each for each in first if not any(word in each[0] for word in _AVERAGES)] or first


def _recognise(
    state: Mapping[str, Tensor], prefix: str, is_sequence: bool, path: Path, kind: str | None
) -> Published | None:
    """The published weights that a ResNet is, by `kind`, its channels, the layout of the file, or its name.

    Raises:
        CheckpointError: three channels, or an unknown number of channels, without any other indication.
    """
    count = state["conv1.weight"].shape[1]
    if kind is not None:
        return PUBLISHED[kind] if len(PUBLISHED[kind].bands) == count else None
    if count in (13, 2):
        return PUBLISHED["ssl4eo-moco" if count == 13 else "ssl4eo-moco-s1"]
    name = path.name.casefold()
    if count == 3:
        classifier = state.get("fc.weight")
        if is_sequence or "seco" in name:
            return PUBLISHED["seco"]
        if classifier is not None and len(classifier) == 1000:
            return PUBLISHED["imagenet"]
        if "encoder_q" in prefix or "moco" in name:
            return PUBLISHED["ssl4eo-moco-rgb"]
    raise CheckpointError(
        f"{path} holds a ResNet of {count} channels, and nothing in it says which bands they are; give kind=, one of "
        f"{[each for each, facts in PUBLISHED.items() if len(facts.bands) == count] or list(PUBLISHED)}"
    )


def fetch_weights(name: str, depth: int) -> Path:
    """The file of published weights in torch's cache, downloaded if necessary.

    Raises:
        ArgumentError: there are no weights of that depth.
        DownloadError: they cannot be downloaded.
        ChecksumError: the cached file is another one.
    """
    urls = PUBLISHED[name].urls or {}
    if depth not in urls:
        raise ArgumentError(f"{name} was published for ResNets of {list(urls)} layers; the encoder has {depth}")
    url = urls[depth]
    file = url.rpartition("/")[2]
    path = absolute(torch.hub.get_dir()) / "checkpoints" / file
    digits = file.rpartition("-")[2].partition(".")[0]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with redirect_stdout(StringIO()):
                torch.hub.download_url_to_file(url, str(path), digits, progress=False)
        except (OSError, RuntimeError) as error:
            raise DownloadError(
                f"cannot download {name} ({error or type(error).__name__}). Fetch {url} on a machine with internet "
                f"access and put it into {path.parent}, or give its path to load_pretrained"
            ) from error
    check_hash(path, digits)
    return path


def check_hash(path: Path, digits: str | None) -> None:
    """Refuse a file whose SHA-256 does not begin with the digits.

    Raises:
        ChecksumError: naming both.
    """
    if not digits:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if len(digits) < 8 or not found.startswith(digits.casefold()):
        raise ChecksumError(
            f"{path} has the SHA-256 {found}, not {digits}{'...' if len(digits) < 64 else ''}: it is damaged, or "
            "another file. Remove it and download it again"
        )
