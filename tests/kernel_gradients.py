"""Compares the gradients of the package's models with those in 64 bits; `test_convolution.py` runs it.

    python -m tests.kernel_gradients [WIDTH ...]

prints, for each model (with ResNets of these widths) and memory layout, the largest relative error of the gradient of
any of its weights. Rounding alone gives 1e-6 to 1e-4, and on a rare batch several per cent (0.12 was seen), where a
rectifier changes sides in a channel that few pixels decide. A wrong kernel writes where it should not, so its error
may be of any size and differ from batch to batch. Hence a model has to be right on two of three batches, and an error
that no rectifier explains is wrong at once.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.bands import CLIMATE_ZONE_SYMBOLS, LAND_COVER_NAMES, S1_BANDS, S2_BANDS
from bengelib.convolution import channels_last
from bengelib.data.images import image_modality
from bengelib.fusion import DecisionFusion, EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.heads import ClassificationHead, Network, RegressionHead, SegmentationHead
from bengelib.mae import MaskedAutoencoder, Reconstruction, ViTEncoder
from bengelib.resnet import ResNetEncoder
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.tasks import Classification, Regression, Segmentation
from bengelib.transforms import Batch
from bengelib.transforms import statistics as band_statistics

LIMIT, NEVER_ROUNDING = 0.02, 0.5
"""Relative errors: above the first a batch counts as wrong, above the second a kernel, whatever other batches say."""

SIZE, BATCH = 32, 8  # pixels along a side, samples
SMALL, USUAL = 0.0625, 0.5  # widths of the ResNets: 4 and 32 channels in the first layer
PAIR = {"s2": S2_BANDS, "s1": S1_BANDS}
ZONE = Classification("climate_zone", CLIMATE_ZONE_SYMBOLS)
COVER = Segmentation("land_cover", LAND_COVER_NAMES)
SEASON = Regression("season", 0.3)
Loss = Callable[[nn.Module, Batch], Tensor]


def make_batch(seed: int) -> Batch:
    """Random images of the brightness of ben-ge, and labels."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    batch: Batch = {"image": draw(BATCH, 3, SIZE, SIZE).sigmoid(), "season": draw(BATCH).sigmoid()}
    for key, bands in PAIR.items():
        mean, std = band_statistics(key, bands)
        batch[key] = mean.view(-1, 1, 1) + std.view(-1, 1, 1) * draw(BATCH, len(bands), SIZE, SIZE)
    batch["climate_zone"] = torch.arange(BATCH) % len(CLIMATE_ZONE_SYMBOLS)
    batch["land_cover"] = torch.randint(len(LAND_COVER_NAMES), (BATCH, SIZE, SIZE), generator=random)
    return batch


def with_views(batch: Batch) -> Batch:
    """The batch, and a mirrored one, as two views."""
    mirrored = {key: value.flip(-1) if value.ndim == 4 else value for key, value in batch.items()}
    return {"view_1": batch, "view_2": mirrored}  # type: ignore[dict-item]


def models(widths: Sequence[float]) -> Iterator[tuple[str, nn.Module, Loss]]:
    """Each encoder, decoder and method of the package, by name, and how its loss is computed.

    Args:
        widths: of the ResNets; other kernels compute narrow layers than wide ones.
    """

    def classified(model: nn.Module, batch: Batch) -> Tensor:
        return ZONE.loss(model(batch), batch)

    def joined(model: nn.Module, batch: Batch) -> Tensor:
        outputs = model(batch)
        return sum((task.loss(outputs, batch) for task in (ZONE, COVER, SEASON)), torch.zeros(()))

    def contrasted(method: str) -> Loss:
        return lambda model, batch: Contrast(method).loss(model(with_views(batch)), batch)  # type: ignore[arg-type]

    def described(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch)[:, : len(CLIMATE_ZONE_SYMBOLS)], batch["climate_zone"] % 4)

    def network(encoder: nn.Module) -> nn.Module:
        return Network(encoder, {"climate_zone": ClassificationHead(encoder.feature_dim, CLIMATE_ZONE_SYMBOLS)})

    for width in dict.fromkeys((*widths, 0.125, 0.25, USUAL)):
        yield f"early fusion, width {width:g}", network(EarlyFusion(PAIR, width=width)), classified
    for width in widths:
        inputs = {**PAIR, "season": ()}
        yield f"late fusion, width {width:g}", network(LateFusion(PAIR, width=width)), classified
        yield f"FiLM, width {width:g}", network(FiLMFusion(inputs, width=width)), classified
        for how in ("concat", "sum", "gate"):
            encoder = FeatureFusion(PAIR, width=width, stage=2, how=how)
            yield f"feature fusion ({how}), width {width:g}", network(encoder), classified
        heads = {
            "climate_zone": ClassificationHead(round(512 * width), CLIMATE_ZONE_SYMBOLS),
            "land_cover": SegmentationHead(EarlyFusion(PAIR, width=width).channels, LAND_COVER_NAMES),
            "season": RegressionHead(round(512 * width), 0.5, 0.3),
        }
        yield f"U-Net and heads, width {width:g}", Network(EarlyFusion(PAIR, width=width), heads), joined
        yield f"images, width {width:g}", EarlyFusion({"image": image_modality()}, width=width), described
        for method in ("simclr", "barlow", "vicreg", "agreement"):
            encoder = EarlyFusion({"s2": S2_BANDS}, width=width)
            yield f"{method}, width {width:g}", SiameseNetwork(encoder, 32), contrasted(method)
        pair = [EarlyFusion({key: bands}, width=width) for key, bands in PAIR.items()]
        siamese = SiameseNetwork(pair[0], 32, encoder_2=pair[1])
        yield f"cross-modal, width {width:g}", siamese, contrasted("cross-modal")
    alone = {key: network(EarlyFusion({key: bands}, width=SMALL)) for key, bands in PAIR.items()}
    yield "decision fusion", DecisionFusion(alone), classified
    yield "ResNet-50, one band", _FirstBand(ResNetEncoder(1, 50, SMALL)), described
    yield "vision transformer", ViTEncoder(PAIR, dim=32, depth=2), described
    autoencoder = MaskedAutoencoder(ViTEncoder(PAIR, dim=32, depth=2))
    yield "masked autoencoder", autoencoder, lambda model, batch: Reconstruction().loss(model(batch), batch)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 16, 1, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 1, stride=2))
    yield "somebody else's layers", _FirstBand(nn.Sequential(plain, nn.AdaptiveAvgPool2d(1), nn.Flatten())), described
    again = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 16, 1, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3))
    with channels_last(again):
        pass
    pooled = nn.Sequential(again, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    yield "such layers after the block", _FirstBand(pooled), described


class _FirstBand(nn.Module):
    """An encoder of the first band of Sentinel-2, roughly normalised."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Batch) -> Tensor:
        return self.encoder(20 * batch["s2"][:, :1])  # type: ignore[no-any-return]


def gradients(model: nn.Module, loss: Loss, batch: Batch) -> dict[str, Tensor]:
    """The gradient of every weight, in 64 bits."""
    torch.manual_seed(0)  # of what a masked autoencoder hides
    loss(model, batch).backward()
    return {name: weight.grad.double() for name, weight in model.named_parameters() if weight.grad is not None}


def largest_error(found: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Of any weight: the norm of the error over the norm of the gradient, or a thousandth of that of all."""
    least = 1e-3 * float(torch.stack([value.norm() for value in right.values()]).norm())
    errors = [float((found[name] - value).norm()) / max(float(value.norm()), least) for name, value in right.items()]
    return _largest(errors)


def _largest(errors: Iterable[float]) -> float:
    """Their maximum; infinity if one of them is no number, which `max` may pass over."""
    return max(math.inf if math.isnan(error) else error for error in errors)


def converted(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """A batch whose numbers, but for class indices, are changed."""
    return {key: change(value) if value.is_floating_point() else value for key, value in batch.items()}


def errors_of(model: nn.Module, loss: Loss, batch: Batch) -> dict[str, float]:
    """The largest error in the ordinary layout, in channels last, and with images in channels last as well."""
    right = gradients(copy.deepcopy(model).double(), loss, converted(batch, Tensor.double))
    errors = {"ordinary": largest_error(gradients(copy.deepcopy(model), loss, batch), right)}
    turned = converted(batch, lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x)
    for layout, given in (("channels last", batch), ("images too", turned)):
        last = copy.deepcopy(model)
        with channels_last(last):
            errors[layout] = largest_error(gradients(last, loss, given), right)
    return errors


def is_right(errors: Iterable[float]) -> bool:
    """Whether a kernel is right that had these `errors` on three batches; looks at no more of them than it has to."""
    right = wrong = 0
    for error in errors:
        if error <= LIMIT:
            right += 1
        else:
            wrong += 1
        if right == 2:
            return True
        if wrong == 2 or not error <= NEVER_ROUNDING:
            return False
    return False


def main(widths: Sequence[float]) -> int:
    """Print a line for each model of these widths; returns 1 if one of them is wrong."""
    wrong, batches = [], [make_batch(seed) for seed in range(3)]

    def shown(name: str, errors: dict[str, float]) -> float:
        print(f"{name:38}", *(f"{layout} {error:.1e}" for layout, error in errors.items()), flush=True)
        return _largest(errors.values())

    torch.manual_seed(0)
    for name, model, loss in models(widths):
        if not is_right(shown(name, errors_of(model, loss, batch)) for batch in batches):
            wrong.append(name)
    print("wrong:", ", ".join(wrong) or "none")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main([float(word) for word in sys.argv[1:]] or [SMALL, USUAL]))
