import pytest
import torch

from bengelib.bands import S2_BANDS
from bengelib.clouds import CLOUD_REFLECTANCE, paint_clouds


def make_batch(count=6):
    return {"s2": torch.full((count, 12, 120, 120), 0.1), "s1": torch.zeros(count, 2, 120, 120)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloudy(batch):
    """Pixels more than half cloud, (B, H, W)."""
    return batch["s2"][:, S2_BANDS.index("B02")] > 0.5 * (0.1 + 0.85 * CLOUD_REFLECTANCE["B02"])


@pytest.mark.parametrize("cover", [0.1, 0.25, 0.5, 0.9])
def test_the_share_asked_for_is_covered(cover):
    share = cloudy(paint_clouds(make_batch(), cover, seeded())).float().mean(dim=(1, 2))
    assert share.tolist() == pytest.approx([cover] * 6, abs=0.03)


def test_nothing_and_everything():
    batch = make_batch()
    assert torch.equal(paint_clouds(batch, 0, seeded())["s2"], batch["s2"])
    full = paint_clouds(batch, 1, seeded())["s2"]
    assert (full.flatten(2).std(dim=2) < 1e-6).all() and (full[:, S2_BANDS.index("B02")] > 0.5).all()


def test_shadows_are_darker_than_the_ground_and_radar_is_untouched():
    batch = make_batch()
    painted = paint_clouds(batch, 0.3, seeded())
    assert painted["s2"].min() == pytest.approx(0.035, abs=0.005)
    assert painted["s1"] is batch["s1"] and (batch["s2"] == 0.1).all()


def test_a_larger_cover_grows_out_of_a_smaller_one():
    small, large = (cloudy(paint_clouds(make_batch(), cover, seeded(1))) for cover in (0.2, 0.6))
    assert (small & ~large).float().mean() < 0.01


def test_clouds_repeat_and_differ():
    one, again, other = (paint_clouds(make_batch(), 0.4, seeded(seed))["s2"] for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="0 to 1"):
        paint_clouds(make_batch(), 1.2, seeded())
    with pytest.raises(ValueError, match="12 bands"):
        paint_clouds(make_batch(), 0.2, seeded(), ("B02", "B03"))


def test_a_shadow_falls_beside_its_cloud_and_not_on_the_other_edge():
    painted = paint_clouds(make_batch(40), 0.2, seeded(2))["s2"][:, 0]
    dark = painted < 0.06
    under = cloudy({"s2": paint_clouds(make_batch(40), 0.2, seeded(2))["s2"]})
    lit = under.roll((9, 14), dims=(1, 2)) & ~under
    lit[:, :9], lit[:, :, :14] = False, False  # nothing above or left of the picture throws a shadow into it
    assert dark.any() and not (dark & ~lit).float().mean() > 0.01
    assert not dark[:, :9].any() and not dark[:, :, :14].any()
