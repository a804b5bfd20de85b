"""How hard a ben-ge tree is to learn from: the models of the calibration table. Slow; see `tests.calibration`."""

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from bengelib.bands import LAND_COVER, S1, S2
from bengelib.data.splits import FOLDS, mgrs_tile, tile_fold, unit_hash
from bengelib.resnet import ResNetEncoder
from tests.calibration import Row, Tree

PIXELS_PER_PATCH = 40


def upsample(band: np.ndarray) -> np.ndarray:
    """Any band to 120 pixels a side by repetition."""
    factor = 120 // len(band)
    return band.repeat(factor, 0).repeat(factor, 1)


def sample_pixels(tree: Tree, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random pixels: (n, 14) features (S2 then S1), (n,) WorldCover codes, (n,) folds of their tiles."""
    rng = np.random.default_rng(seed)
    features, labels, folds = [], [], []
    for row in tree.meta:
        at = rng.integers(0, 120, (2, PIXELS_PER_PATCH))
        features.append(np.stack([upsample(tree.band(row, name))[at[0], at[1]] for name in (*S2, *S1)], 1))
        labels.append(tree.land_cover(row)[at[0], at[1]])
        folds.append(np.full(PIXELS_PER_PATCH, tile_fold(mgrs_tile(row["patch_id_s1"]))))
    return np.concatenate(features).astype(np.float64), np.concatenate(labels), np.concatenate(folds)


def measure_logistic_regression(tree: Tree, seed: int = 0) -> list[Row]:
    """Land cover per pixel, mean macro-F1 over the classes present in the test fold, five blocked folds."""
    features, labels, folds = sample_pixels(tree, seed)
    chosen = {"S2": slice(0, 12), "S1": slice(12, 14), "S1+S2": slice(0, 14)}
    scores = {}
    for name, columns in chosen.items():
        values = []
        for fold in range(FOLDS):
            scaler = StandardScaler().fit(features[folds != fold][:, columns])
            model = LogisticRegression(max_iter=1000)
            model.fit(scaler.transform(features[folds != fold][:, columns]), labels[folds != fold])
            truth = labels[folds == fold]
            predicted = model.predict(scaler.transform(features[folds == fold][:, columns]))
            present = [cover.code for cover in LAND_COVER if (truth == cover.code).sum() >= 5]
            values.append(f1_score(truth, predicted, labels=present, average="macro", zero_division=0))
        scores[name] = float(np.mean(values))
    return [
        Row("land cover per pixel, logistic regression S2", scores["S2"], 0.40, 0.85),
        Row("the same, S1", scores["S1"], 0.0, scores["S2"] - 0.05),
        Row("the same, S1 and S2", scores["S1+S2"], max(scores["S1"], scores["S2"]), 1.0),
    ]


class Classifier(nn.Module):
    """ResNet-18 of half width."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(channels, 18, 0.5)
        self.head = nn.Linear(self.encoder.feature_dim, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(image))


class UNet(nn.Module):
    """A U-Net decoder on the feature maps of a half-width ResNet-18, and a shallow path for the full resolution."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(channels, 18, 0.5)
        self.shallow = block(channels, 16)
        deep, *skips = self.encoder.channels[::-1]
        outputs = (128, 64, 32, 32)
        self.up = nn.ModuleList()
        for skip, output in zip(skips, outputs, strict=True):
            self.up.append(block(deep + skip, output))
            deep = output
        self.head = nn.Sequential(block(deep + 16, 24), nn.Conv2d(24, classes, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        *skips, x = self.encoder.pyramid(image)
        for step, skip in zip(self.up, skips[::-1], strict=True):
            x = step(torch.cat([nn.functional.interpolate(x, size=skip.shape[-2:]), skip], 1))
        return self.head(torch.cat([nn.functional.interpolate(x, size=image.shape[-2:]), self.shallow(image)], 1))


def block(before: int, after: int) -> nn.Sequential:
    """One convolution, normalised."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def load_images(tree: Tree, names: tuple[str, ...]) -> torch.Tensor:
    """(N, C, 120, 120) float16, standardised with the dataset's own statistics."""
    images = torch.empty(len(tree.meta), len(names), 120, 120, dtype=torch.float16)
    for i, row in enumerate(tree.meta):
        for j, name in enumerate(names):
            mean, std = (S2[name].mean * 1e4, S2[name].std * 1e4) if name in S2 else S1[name]
            images[i, j] = torch.from_numpy((upsample(tree.band(row, name)).astype(np.float32) - mean) / std)
    return images


def augment(batch: torch.Tensor, crop: int, generator: torch.Generator) -> torch.Tensor:
    """One random crop and flip for the whole batch."""
    size = batch.shape[-1]
    top, left = (int(torch.randint(size - crop + 1, (1,), generator=generator)) for _ in range(2))
    batch = batch[..., top : top + crop, left : left + crop]
    flips = [dim for dim in (-1, -2) if torch.rand(1, generator=generator) < 0.5]
    return batch.flip(flips) if flips else batch


def train_classifier(
    images: torch.Tensor, labels: torch.Tensor, train: np.ndarray, test: np.ndarray, epochs: int, seed: int = 0
) -> float:
    """Accuracy on `test` after training on 64-pixel crops with AdamW and a one-cycle learning rate."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Classifier(images.shape[1], int(labels.max()) + 1)
    steps = epochs * -(-len(train) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    indices = torch.from_numpy(train)
    model.train()
    for _ in range(epochs):
        for part in indices[torch.randperm(len(indices), generator=generator)].split(32):
            if len(part) == 1:
                schedule.step()
                continue
            loss = nn.functional.cross_entropy(model(augment(images[part].float(), 64, generator)), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        predicted = torch.cat([model(images[part].float()).argmax(1) for part in torch.from_numpy(test).split(64)])
    return float((predicted == labels[torch.from_numpy(test)]).float().mean())


def measure_climate_zone(tree: Tree, epochs: int = 20, random_folds: int = 2) -> list[Row]:
    """Climate zone from S2 with a half-width ResNet-18, in folds of patches by hash and in folds of whole tiles.

    Both leave out a fifth of the patches, so that the two differ only in what is left out.
    """
    images = load_images(tree, tuple(S2))
    zones = sorted({int(row["climatezone"]) for row in tree.meta})
    labels = torch.tensor([zones.index(int(row["climatezone"])) for row in tree.meta])
    hashed = np.array([int(FOLDS * unit_hash(row["patch_id"])) for row in tree.meta])
    blocks = np.array([tile_fold(mgrs_tile(row["patch_id_s1"])) for row in tree.meta])

    def accuracies(fold_of: np.ndarray, folds: int) -> list[float]:
        return [
            train_classifier(images, labels, np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold), epochs)
            for fold in range(folds)
        ]

    majority = float((labels == labels.mode().values).float().mean())
    random, blocked = accuracies(hashed, random_folds), accuracies(blocks, FOLDS)
    print("climate zone: majority", round(majority, 3), "random", np.round(random, 3), "blocked", np.round(blocked, 3))
    return [
        Row("climate zone from S2, ResNet-18, random folds", float(np.mean(random)), majority + 0.15, 0.92),
        # Only shown: folds scatter by as much as the two means differ, and other rounding is like another seed.
        Row("the same, blocked", float(np.mean(blocked)), 0.0, 1.0),
    ]


def measure_sim_to_real(tree: Tree, real: Path, epochs: int = 8, sensors: tuple[str, ...] = ("S2", "S1")) -> list[Row]:
    """Train land cover on the simulated tree alone; find the lake of a real Finnish patch.

    The reference is B08 below 500 DN in the real patch.
    """
    rows = []
    patch = next((real / "sentinel-2").glob("*_69_24")).name
    patch_s1 = next((real / "sentinel-1").glob("*_69_24")).name
    lookup = torch.full((256,), 255)
    for i, cover in enumerate(LAND_COVER):
        lookup[cover.code] = i
    labels = torch.stack([lookup[torch.from_numpy(tree.land_cover(row).astype(np.int64))] for row in tree.meta])
    from tests.calibration import read

    truth = read(real / "sentinel-2" / patch / f"{patch}_B08.tif") < 500
    for sensor in sensors:
        names, goal = {"S2": (tuple(S2), 0.6), "S1": (tuple(S1), 0.5)}[sensor]
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        images = load_images(tree, names)
        model = UNet(len(names), len(LAND_COVER))
        steps = epochs * -(-len(images) // 16)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        model.train()
        for _ in range(epochs):
            for part in torch.randperm(len(images), generator=generator).split(16):
                both = torch.cat([images[part].float(), labels[part][:, None].float()], 1)
                both = augment(both, 64, generator)
                target = both[:, -1].long()
                loss = nn.functional.cross_entropy(model(both[:, :-1]), target, ignore_index=255)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        model.eval()
        bands = []
        for name in names:
            folder, prefix = ("sentinel-2", patch) if name in S2 else ("sentinel-1", patch_s1)
            mean, std = (S2[name].mean * 1e4, S2[name].std * 1e4) if name in S2 else S1[name]
            band = upsample(read(real / folder / prefix / f"{prefix}_{name}.tif")).astype(np.float32)
            bands.append(torch.from_numpy((band - mean) / std))
        with torch.inference_mode():
            found = model(torch.stack(bands)[None]).argmax(1)[0].numpy() == 7
        overlap = float((found & truth).sum() / (found | truth).sum())
        rows.append(Row(f"real lake found by a U-Net trained on simulated {sensor}, IoU", overlap, goal, 1.0))
    return rows
