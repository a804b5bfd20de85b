import math

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from bengelib.bands import S2_BANDS
from bengelib.data.images import image_modality
from bengelib.engine import evaluate, seed_everything
from bengelib.errors import BandError, MissingModalityError
from bengelib.heads import ClassificationHead, Network
from bengelib.mae import (
    MaskedAutoencoder,
    Reconstruction,
    ViTEncoder,
    masked_loss,
    patchify,
    positions,
    random_mask,
    take,
    unpatchify,
)
from bengelib.modalities import as_modalities
from bengelib.tasks import Classification
from bengelib.views import Views
from tests.training import fit_with

INPUTS = {"s2": ("B04", "B08"), "s1": ("VV",)}


def small(inputs=INPUTS, ratio=0.75, **options):
    seed_everything(0)
    return MaskedAutoencoder(ViTEncoder(inputs, dim=16, depth=1, heads=2, **options), ratio, dim=8, heads=2)


def batch_of(count=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "s2": 0.2 + 0.1 * torch.randn(count, 2, size, size, generator=generator),
        "s1": -12 + 5 * torch.randn(count, 1, size, size, generator=generator),
    }


class Ramps(Dataset):
    """Images that are easy to continue: a slope in a direction of its own, the same in all bands."""

    def __init__(self, count=32, size=32, seed=0):
        random = np.random.default_rng(seed)
        angle = random.uniform(0, 2 * math.pi, (count, 1, 1))
        place = np.linspace(-1, 1, size)
        slope = np.cos(angle) * place[:, None] + np.sin(angle) * place
        self.images = torch.from_numpy(slope[:, None]).float()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return {"s2": (0.2 + 0.1 * image).expand(2, -1, -1), "s1": -12 + 5 * image, "patch_id": f"patch {index}"}


# -------------------------------------------------------------------------------------------------------------- patches


def test_patches_are_squares_row_by_row():
    image = torch.arange(2 * 3 * 8 * 12).view(2, 3, 8, 12)
    tokens = patchify(image, 4)
    assert tokens.shape == (2, 6, 48)
    square = tokens[1, 4].view(4, 4, 3).permute(2, 0, 1)
    assert torch.equal(square, image[1, :, 4:8, 4:8])
    assert torch.equal(unpatchify(tokens, 4, rows=2), image)
    channels_last = image.contiguous(memory_format=torch.channels_last)
    assert torch.equal(patchify(channels_last, 4), tokens)


def test_images_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"30 x 32 pixels.* to 24"):
        patchify(torch.zeros(1, 1, 30, 32), 8)
    with pytest.raises(ValueError, match="patches of 8"):
        small()(batch_of(size=20))


def test_every_place_has_its_code():
    codes = positions(5, 7, 16)
    assert codes.shape == (35, 16)
    distance = torch.cdist(codes, codes) + 10 * torch.eye(35)
    assert distance.min() > 0.1
    assert torch.equal(codes[7 * 2 + 3, :8], codes[7 * 2 + 6, :8])  # the same row
    assert torch.equal(codes[7 * 2 + 3, 8:], codes[7 * 4 + 3, 8:])  # the same column
    assert torch.equal(positions(3, 4, 16), codes.view(5, 7, 16)[:3, :4].reshape(12, 16))  # of any grid


# ---------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(("number", "ratio", "visible"), [(64, 0.75, 16), (64, 0.5, 32), (10, 0.33, 7), (4, 0.6, 2)])
def test_masks_hide_the_share_that_was_asked_for(number, ratio, visible):
    kept, restore = random_mask(50, number, ratio)
    assert kept.shape == (50, visible) and restore.shape == (50, number)
    hidden = restore >= visible
    assert (hidden.sum(dim=1) == number - visible).all()
    assert not hidden.gather(1, kept).any()
    assert (restore.sort(dim=1).values == torch.arange(number)).all()
    assert len({tuple(row) for row in kept.sort(dim=1).values.tolist()}) > 1  # another choice for each sample


def test_all_places_are_hidden_equally_often():
    _, restore = random_mask(8000, 16, 0.75, torch.Generator().manual_seed(0))
    share = (restore >= 4).float().mean(dim=0)
    assert (share - 0.75).abs().max() < 0.025  # standard deviation 0.005


def test_restoring_undoes_the_shuffle():
    tokens = torch.randn(6, 20, 3)
    kept, restore = random_mask(6, 20, 0.6)
    hidden = torch.full((6, 12, 3), math.nan)
    back = take(torch.cat([take(tokens, kept), hidden], dim=1), restore)
    seen = ~torch.isnan(back)
    assert torch.equal(back[seen], tokens[seen])
    assert (seen.all(dim=2).sum(dim=1) == 8).all() and (seen.all(dim=2) == (restore < 8)).all()


@pytest.mark.parametrize("ratio", [0, 1, -0.5, 1.5, math.nan])
def test_ratios_that_hide_nothing_or_everything_are_refused(ratio):
    with pytest.raises(ValueError, match="above 0 to below 1"):
        small(ratio=ratio)
    with pytest.raises(ValueError, match="above 0 to below 1"):
        random_mask(2, 16, ratio)


def test_too_few_patches_are_refused():
    with pytest.raises(ValueError, match="4 patches"):
        small(ratio=0.95)(batch_of(size=16))


# ----------------------------------------------------------------------------------------------------------------- loss


def test_loss_is_that_of_a_naive_loop():
    generator = torch.Generator().manual_seed(0)
    answer, pixels = (torch.randn(3, 5, 7, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).float()
    errors = []
    for sample in range(3):
        for patch in range(5):
            if mask[sample, patch]:
                truth = pixels[sample, patch].double().numpy()
                scaled = (truth - truth.mean()) / math.sqrt(truth.var() + 1e-6)
                errors.append(((answer[sample, patch].double().numpy() - scaled) ** 2).mean())
    assert float(masked_loss(answer, pixels, mask)) == pytest.approx(np.mean(errors), rel=1e-5)


def test_visible_patches_do_not_count():
    answer, pixels, mask = torch.randn(2, 6, 4), torch.randn(2, 6, 4), torch.zeros(2, 6)
    mask[:, 2:4] = 1
    loss = masked_loss(answer, pixels, mask)
    visible = mask == 0
    answer[visible], pixels[visible] = 1e6, -1e6
    assert torch.equal(masked_loss(answer, pixels, mask), loss)
    answer[0, 2] += 1
    assert not torch.equal(masked_loss(answer, pixels, mask), loss)


def test_sanity_values():
    pixels = 100 + 7 * torch.randn(4, 9, 50)
    assert float(masked_loss(torch.zeros(4, 9, 50), pixels, torch.ones(4, 9))) == pytest.approx(1, abs=1e-4)
    even = torch.full((4, 9, 50), 3.0)  # no spread to scale by
    assert float(masked_loss(torch.zeros(4, 9, 50), even, torch.ones(4, 9))) == pytest.approx(0, abs=1e-6)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="nothing to reconstruct"):
        masked_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(B, N, P\)"):
        masked_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.ones(2, 3))


# -------------------------------------------------------------------------------------------------------------- network


def test_network_answers_for_every_patch():
    model = small()
    outputs = model(batch_of())
    assert outputs["reconstruction"].shape == outputs["pixels"].shape == (4, 16, 8 * 8 * 3)
    assert outputs["mask"].shape == (4, 16) and (outputs["mask"].sum(dim=1) == 12).all()
    assert outputs["features"].shape == (4, 16)
    assert torch.equal(outputs["pixels"], patchify(model.encoder.read.stack(batch_of()), 8))
    assert model.inputs == as_modalities(INPUTS) and model.feature_dim == 16


def test_hidden_patches_are_not_seen():
    """What is hidden may change without a change of the answer; what is visible may not."""
    model, batch = small().eval(), batch_of()
    with torch.no_grad():
        before = model(batch)
        hidden = unpatchify(before["mask"][..., None].expand(-1, -1, 64), 8, 4)  # (B, 1, H, W)
        noise = torch.randn(4, 1, 32, 32)
        changed = model({key: value + hidden * noise for key, value in batch.items()})
        torch.testing.assert_close(changed["reconstruction"], before["reconstruction"], rtol=1e-3, atol=1e-4)
        changed = model({key: value + (1 - hidden) * noise for key, value in batch.items()})
    assert (changed["reconstruction"] - before["reconstruction"]).abs().max() > 1e-2


def test_masks_are_new_in_training_and_repeat_otherwise():
    model = small()
    assert not torch.equal(model(batch_of())["mask"], model(batch_of())["mask"])
    model.eval()
    assert torch.equal(model(batch_of())["mask"], model(batch_of())["mask"])


def test_features_are_those_of_the_encoder_for_images_of_any_size():
    model = small().eval()
    torch.testing.assert_close(model.features(batch_of()), model.encoder(batch_of()), rtol=1e-4, atol=1e-5)
    assert model.features(batch_of(size=48)).shape == (4, 16)
    permuted = {key: value.flip(-1) for key, value in batch_of().items()}
    assert (model.features(permuted) - model.features(batch_of())).abs().max() > 1e-3


def test_reconstruction_can_be_drawn():
    model, batch = small().eval(), batch_of()
    drawn = model.reconstruct(batch)
    assert list(drawn) == ["original", "masked", "reconstruction"]
    for key in INPUTS:
        torch.testing.assert_close(drawn["original"][key], batch[key], rtol=1e-4, atol=1e-5)
        hidden = torch.isnan(drawn["masked"][key])
        assert float(hidden.float().mean()) == 0.75
        torch.testing.assert_close(drawn["masked"][key][~hidden], batch[key][~hidden], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(drawn["reconstruction"][key][~hidden], batch[key][~hidden], rtol=1e-4, atol=1e-5)
        assert torch.isfinite(drawn["reconstruction"][key]).all()
        assert (drawn["reconstruction"][key] - batch[key])[hidden].abs().max() > 0.01


def test_loss_falls_on_a_small_batch_and_painting_beats_the_mean():
    model = small(INPUTS)
    options = {"epochs": 60, "batch_size": 16, "lr": 5e-3, "precision": "no", "progress": False}
    history = fit_with(model, [Reconstruction()], Ramps(), **options).frame()
    assert history["train/loss"].iloc[0] > 1 > 0.6 > history["train/loss"].iloc[-1]
    figures = evaluate(model, [Reconstruction()], Ramps(20, seed=1), batch_size=8, precision="no")
    assert figures["reconstruction/error"] == pytest.approx(figures["loss"]) and figures["loss"] < 0.7


def test_it_trains_on_views_and_is_watched():
    views = Views(16)
    model = small()
    history = fit_with(model, [Reconstruction()], Ramps(12), Ramps(6), epochs=1, batch_size=6, augment=views,
                  precision="no", progress=False).frame()  # fmt: skip
    assert {"val/reconstruction/error", "train/reconstruction/rank"} <= set(history.columns)


def test_the_encoder_goes_on_with_a_head():
    encoder = small().encoder
    network = Network(encoder, {"kind": ClassificationHead(encoder.feature_dim, ("a", "b"))})
    assert network.inputs == as_modalities(INPUTS)
    loss = Classification("kind", ("a", "b")).loss(network(batch_of()), {"kind": torch.tensor([0, 1, 0, 1])})
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_other_pictures_are_read_with_their_own_statistics():
    model = small({"image": image_modality((0.3, 0.4, 0.5), (0.1, 0.2, 0.3), ("red", "green", "blue"))})
    image = torch.rand(3, 3, 16, 16)
    drawn = model.eval().reconstruct({"image": image})
    torch.testing.assert_close(drawn["original"]["image"], image)
    assert model.features({"image": image}).shape == (3, 16)
    with pytest.raises(MissingModalityError, match="'image'"):
        model({"s2": image})
    with pytest.raises(BandError, match="2 channels"):
        model({"image": image[:, :2]})


@pytest.mark.parametrize("inputs", [{}, {"season": ()}, {"image": ("red",)}], ids=str)
def test_what_is_no_image_is_refused(inputs):
    with pytest.raises(BandError, match=r"not images|empty|no statistics"):
        ViTEncoder(inputs)


@pytest.mark.parametrize("options", [{"dim": 10}, {"dim": 16, "heads": 3}, {"depth": 0}], ids=str)
def test_sizes_that_do_not_divide_are_refused(options):
    with pytest.raises(ValueError, match=r"multiple of 4|depth=0"):
        ViTEncoder({"s2": S2_BANDS}, **options)


def test_other_models_do_not_fit_the_task():
    with pytest.raises(MissingModalityError, match="MaskedAutoencoder"):
        Reconstruction().loss({"kind": torch.zeros(2)}, {})


def test_size_is_that_of_the_lab():
    """Patch 8 on 64 pixels: 64 tokens; small enough for two CPU cores."""
    encoder = ViTEncoder({"s2": S2_BANDS})
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 1_000_000
    assert encoder({"s2": torch.zeros(2, 12, 64, 64)}).shape == (2, 128)
