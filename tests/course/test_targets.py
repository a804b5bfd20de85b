import numpy as np
import torch
from torch import nn

from bengelib.course.targets import MAIN_SCORES, answers, pixel_counts
from bengelib.metrics import mean_iou


class Told(nn.Module):
    """Answers with what the batch holds: maps as they are but for one class, zones one too high, seasons doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.outputs = {"s2": ("B02",)}, {"land_cover": (), "climate_zone": (), "season": ()}

    def forward(self, batch):
        maps = torch.where(batch["land_cover"] == 2, 3, batch["land_cover"])
        return {
            "land_cover": nn.functional.one_hot(maps, 11).movedim(-1, 1).float(),
            "climate_zone": nn.functional.one_hot(batch["climate_zone"] + 1, 12).float(),
            "season": 2 * batch["season"],
        }


def samples():
    random = np.random.default_rng(0)
    return [
        {
            "s2": torch.rand(1, 4, 4),
            "land_cover": torch.from_numpy(random.integers(0, 4, (4, 4))),
            "climate_zone": torch.tensor(index),
            "season": torch.tensor(index / 10),
            "patch_id": str(index),
        }
        for index in range(5)
    ]


def test_scores_read_confusions_of_maps_and_classes_of_zones():
    data = samples()
    found = answers(Told(), data, batch_size=2, precision="no")
    assert found["land_cover"].shape == (5, 11, 11)
    assert (found["land_cover"].sum(axis=2) == pixel_counts(data)).all()
    assert found["land_cover"][:, 2, 3].sum() == pixel_counts(data)[:, 2].sum() > 0
    assert found["climate_zone"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(found["season"], [0, 0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    once = np.ones((1, 5))
    score = MAIN_SCORES["land_cover"].score(found["land_cover"], pixel_counts(data), once)
    np.testing.assert_allclose(score, mean_iou(found["land_cover"].sum(axis=0)[None]))


def test_pixels_without_a_label_are_not_counted():
    unknown = {"land_cover": torch.full((4, 4), 255)}
    assert pixel_counts([unknown]).tolist() == [[0] * 11]


def test_scores_are_named_in_words():
    assert MAIN_SCORES["season"].title == "season, MAE" and MAIN_SCORES["corine"].title == "19 labels, mAP"
