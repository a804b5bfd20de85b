"""The drawing of a shared encoder with a U-Net's decoder and two heads."""

from bengelib.plot.networks import draw_shared_encoder


def test_one_encoder_serves_a_map_and_two_heads():
    words = [text.get_text().replace("\n", " ") for text in draw_shared_encoder().axes[0].texts]
    assert {"shared encoder", "decoder of the U-Net", "land cover", "climate zone", "season"} <= set(words)
    assert words.count("head") == 2
