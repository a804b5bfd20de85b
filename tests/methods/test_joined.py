import pytest
import torch

from bengelib.bands import S2_BANDS
from bengelib.engine import seed_everything
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.fusion import EarlyFusion
from bengelib.heads import ClassificationHead, Network, SegmentationHead
from bengelib.methods.convnext import ConvNeXtEncoder
from bengelib.methods.joined import JoinedEncoders
from bengelib.methods.location import LocationEncoder
from bengelib.tasks import Classification
from tests.test_fusion import make_batch
from tests.training import fit_with


def joined(dropout=0.0):
    seed_everything(0)
    encoders = {
        "image": ConvNeXtEncoder({"s2": S2_BANDS}, stem=1),
        "radar": EarlyFusion({"s1": ("VV", "VH")}, width=0.125),
        "place": LocationEncoder(5, hidden=16, feature_dim=16),
    }
    return JoinedEncoders(encoders, dropout).eval()


def test_features_stand_side_by_side():
    model, batch = joined(), make_batch()
    parts = [encoder(batch) for encoder in model.encoders.values()]
    assert model.feature_dim == 320 + 64 + 16
    assert torch.equal(model(batch), torch.cat(parts, dim=1))
    assert {key: modality.bands for key, modality in model.inputs.items()} == {
        "s2": S2_BANDS, "s1": ("VV", "VH"), "lonlat": ("lon", "lat")
    }  # fmt: skip


def test_every_head_reads_them():
    model = joined()
    heads = {
        "climate_zone": ClassificationHead(model.feature_dim, ["a", "b"]),
        "land_cover": SegmentationHead(model.channels, ["x", "y", "z"]),
    }
    outputs = Network(model, heads).eval()(make_batch())
    assert outputs["climate_zone"].shape == (2, 2) and outputs["land_cover"].shape == (2, 3, 32, 32)
    maps, features = model.pyramid(make_batch())
    assert len(maps) == 5 and torch.equal(features, model(make_batch()))


def test_a_missing_modality_is_an_error_without_dropout():
    batch = make_batch()
    with pytest.raises(MissingModalityError, match=r"\['place'\]"):
        joined()({key: value for key, value in batch.items() if key != "lonlat"})
    with pytest.raises(MissingModalityError, match=r"\['radar'\]"):
        joined()({**batch, "s1_available": torch.tensor([True, False])})


def test_with_dropout_the_rest_goes_on():
    """The features of what is missing are 0, whatever stands in its place, and a mask says so."""
    model, batch = joined(0.3), make_batch()
    assert model.feature_dim == 403
    full = model(batch)
    assert full[:, 400:].tolist() == [[1, 1, 1], [1, 1, 1]]
    batch["lonlat"][1] = torch.nan
    batch["lonlat_available"] = torch.tensor([True, False])
    del batch["s1"]
    features = model(batch)
    assert features.isfinite().all() and features[:, 400:].tolist() == [[1, 0, 1], [1, 0, 0]]
    torch.testing.assert_close(features[:, :320], full[:, :320])
    torch.testing.assert_close(features[0, 384:400], full[0, 384:400])
    assert (features[:, 320:384] == 0).all() and (features[1, 384:400] == 0).all()
    maps, again = model.pyramid(batch)
    assert torch.equal(again, features) and all(each.isfinite().all() for each in maps)


def test_a_sample_without_anything_is_an_error():
    batch = {**make_batch(), **{f"{key}_available": torch.tensor([True, False]) for key in ("s2", "s1", "lonlat")}}
    with pytest.raises(MissingModalityError, match="sample 1 of the batch has none"):
        joined(0.3)(batch)
    with pytest.raises(MissingModalityError, match="only"):
        joined(0.3)({"dem": torch.zeros(2, 1, 8, 8)})
    del batch["s2"], batch["lonlat_available"]
    with pytest.raises(MissingModalityError, match="gives the maps"):
        joined(0.3).pyramid(batch)


def test_dropout_leaves_at_least_one_in():
    model, batch = joined(0.9).train(), make_batch()
    masks = torch.cat([model._available(batch) for _ in range(50)])
    assert masks.any(dim=1).all() and 0.7 < float(masks.float().mean()) < 0.95  # 0.1 + 0.9 ** 3, the share of all gone
    assert model.eval()._available(batch).all()


def test_they_train():
    batch = make_batch()
    samples = [
        {key: batch[key][place] for key in ("s2", "s1", "lonlat")} | {"climate_zone": torch.tensor(place)}
        for place in (0, 1, 0, 1)
    ]
    model = joined(0.1)
    network = Network(model, {"climate_zone": ClassificationHead(model.feature_dim, ["a", "b"])})
    before = [parameter.detach().clone() for parameter in network.parameters()]
    history = fit_with(
        network, [Classification("climate_zone", ["a", "b"])], samples, epochs=8, lr=1e-4, progress=False
    )
    assert history.rows[-1]["train/loss"] < history.rows[0]["train/loss"]
    assert all(not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_encoders_that_do_not_fit_are_refused():
    with pytest.raises(BandError, match="no encoder"):
        JoinedEncoders({})
    with pytest.raises(BandError, match="different bands or units of s1"):
        JoinedEncoders({name: EarlyFusion({"s1": (name,)}, width=0.125) for name in ("VV", "VH")})
    with pytest.raises(ArgumentError, match="two encoders"):
        JoinedEncoders({"place": LocationEncoder(2)}, dropout=0.1)
    with pytest.raises(BandError, match=r"none of the encoders \['place'\] gives maps"):
        _ = JoinedEncoders({"place": LocationEncoder(2)}).channels
