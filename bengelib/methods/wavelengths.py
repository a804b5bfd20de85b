"""Filters generated from the wavelengths of the bands, so that one encoder reads any optical sensor.

After DOFA (Xiong et al. 2024, arXiv:2403.15356): a small transformer maps the wavelengths of all bands of an image to
the filters of the first layer, k x k weights for each band, and a bias. The order of bands has no effect if their
wavelengths are permuted alike. Unlike in DOFA, images are not padded with zeros, and the layer normalisation of the
following network removes the effect of the number of bands on the sum.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number, whole_number
from bengelib.errors import ArgumentError, BandError
from bengelib.inputs import Missing
from bengelib.methods.convnext import ConvNeXt, ConvNeXtEncoder
from bengelib.modalities import InputSpec, as_modalities

RGB_WAVELENGTHS: dict[str, float] = {"R": 665.0, "G": 560.0, "B": 492.0}
"""Centre wavelengths in nanometres of a true-colour image of Sentinel-2's B04, B03 and B02."""

S1_PLACEHOLDERS: dict[str, float] = {"VV": 3500.0, "VH": 4000.0}
"""Placeholders, not physics: numbers by which a network can distinguish Sentinel-1's polarisations from optical bands.

The radar has a wavelength of 5.5 cm, for both. These values are Clay's; DOFA has 3750 for both, so it cannot
distinguish them, and later 5405, which is the frequency in megahertz. Pass them explicitly, to show the intention.
"""

_SCALE = 0.01
"""Scale of the generated filters, as in DOFA's code."""


class FilterGenerator(nn.Module):
    """Generator of filters from wavelengths.

    The sines and cosines of each wavelength pass through a residual perceptron and, together with learned tokens, one
    layer of a transformer; a linear layer maps the token of a band to its weights, another one a separate token to the
    bias. `FilterGenerator(768, 16, length=128, tokens=128, hidden=2048)` is that of DOFA's base model, with 26,104,064
    parameters.
    """

    def __init__(
        self, dim: int, kernel: int, length: int = 64, tokens: int = 16, hidden: int = 128, heads: int = 4
    ) -> None:
        """Build the generator with random weights.

        Args:
            dim: number of filters, that is of output channels.
            kernel: pixels along a side of a filter.
            length: length of a token, a multiple of 2 and of `heads`.
            tokens: number of learned tokens besides those of the bands.
            hidden: width of the transformer's perceptron.
            heads: number of attention heads.

        Raises:
            ArgumentError: numbers that are not whole, or a `length` that is not a multiple of 2 and of `heads`.
        """
        super().__init__()
        sizes = {"dim": dim, "kernel": kernel, "length": length, "tokens": tokens, "hidden": hidden, "heads": heads}
        for name, value in sizes.items():
            whole_number(name, value)
        if length % 2 or length % heads:
            raise ArgumentError(f"length={length} must be a multiple of 2 and of heads={heads}")
        self.dim, self.kernel, self.length = dim, kernel, length
        self.residual = nn.Sequential(nn.Linear(length, length), nn.ReLU(), nn.Linear(length, length), nn.ReLU())
        self.tokens = nn.Parameter(0.02 * torch.randn(tokens, length))
        self.bias_token = nn.Parameter(0.02 * torch.randn(1, length))
        self.transformer = nn.TransformerEncoderLayer(
            length, heads, hidden, dropout=0.0, activation="gelu", batch_first=True
        )
        self.to_weights = nn.Linear(length, kernel * kernel * dim)
        self.to_bias = nn.Linear(length, dim)

    def forward(self, wavelengths: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (dim, C, kernel, kernel) and bias (dim,) for the C bands of wavelengths (C,) in nanometres."""
        code = sines_of(wavelengths.to(self.tokens.dtype), self.length)  # (C, length)
        bands = code + self.residual(code)
        read = self.transformer(torch.cat([self.tokens, bands, self.bias_token])[None])[0]  # (tokens + C + 1, length)
        weights = self.to_weights(read[len(self.tokens) : -1] + bands)  # (C, kernel * kernel * dim)
        filters = weights.view(-1, self.kernel, self.kernel, self.dim).permute(3, 0, 1, 2)
        bias: Tensor = self.to_bias(read[-1])
        return _SCALE * filters, _SCALE * bias


def sines_of(values: Tensor, length: int) -> Tensor:
    """Sines and cosines of values (C,) at frequencies from 1 to nearly 1 / 10,000, (C, length)."""
    steps = torch.arange(length // 2, device=values.device).to(values.dtype)
    angles = values[:, None] * torch.exp(-math.log(10_000) * steps / (length // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def wavelengths_of(inputs: InputSpec, wavelengths: Mapping[str, float] | None = None) -> Tensor:
    """The wavelength in nanometres of every band of `inputs`, in order, (C,) float32.

    Args:
        inputs: modalities by key, as in `bengelib.fusion`, with or without `wavelengths`.
        wavelengths: of bands by name; they take precedence over those of the modality.

    Raises:
        BandError: a band has no wavelength.
        ArgumentError: a modality has wavelengths for another number of bands, or one is not in nanometres: numbers
            below 100 are probably in micrometres.
    """
    found = []
    for key, modality in as_modalities(inputs).items():
        if modality.wavelengths and len(modality.wavelengths) != len(modality.bands):
            counts = f"{len(modality.wavelengths)} wavelengths for {len(modality.bands)} bands"
            raise ArgumentError(f"{key!r} has {counts}; give one per band")
        known = {**dict(zip(modality.bands, modality.wavelengths, strict=False)), **(wavelengths or {})}
        for band in modality.bands:
            if band not in known:
                placeholder = band in S1_PLACEHOLDERS
                fix = "S1_PLACEHOLDERS, which are not physics" if placeholder else f"{{{band!r}: nanometres}}"
                raise BandError(f"no wavelength for band {band!r} of {key!r}; give wavelengths={fix}")
            found.append(real_number(f"wavelength of {band!r}", known[band], least=100))
    return torch.tensor(found, dtype=torch.float32)


class WavelengthEncoder(ConvNeXtEncoder):
    """A ConvNeXt V2 whose first filters are generated from the wavelengths of its bands.

    `WavelengthEncoder({"s2": RGB_BANDS}, shared=encoder)` shares all weights with `encoder` but reads other bands.

    Attributes:
        generator: generator of the filters.
    """

    wavelengths: Tensor
    generator: FilterGenerator

    def __init__(
        self,
        inputs: InputSpec,
        wavelengths: Mapping[str, float] | None = None,
        size: str = "atto",
        stem: int = 3,
        missing: Missing = "error",
        shared: "WavelengthEncoder | None" = None,
        generator: FilterGenerator | None = None,
    ) -> None:
        """Build the encoder, with random weights unless `shared`.

        Args:
            inputs: images, as in `bengelib.fusion`.
            wavelengths: see `wavelengths_of`.
            size: see `ConvNeXt`.
            stem: see `ConvNeXt`.
            missing: see `InputNorm`.
            shared: an encoder to share all weights with; `size`, `stem` and `generator` are then taken from it.
            generator: a generator to replace the default one.

        Raises:
            BandError: a band has no wavelength; see also `ConvNeXtEncoder`.
            ArgumentError: the filters of the generator have another shape than the network needs.
        """
        net = ConvNeXt(None, size, stem) if shared is None else shared.net
        super().__init__(inputs, missing=missing, net=net)
        self.register_buffer("wavelengths", wavelengths_of(self.inputs, wavelengths))
        dim, stem = net.channels[0], net.stem_size
        generator = generator if shared is None else shared.generator
        self.generator = generator or FilterGenerator(dim, stem)
        if (self.generator.dim, self.generator.kernel) != (dim, stem):
            raise ArgumentError(
                f"the generator makes {self.generator.dim} filters of {self.generator.kernel} pixels; the network "
                f"needs {dim} of {stem}"
            )

    def filters(self) -> tuple[Tensor, Tensor]:
        """Weights and bias of the first layer for the bands of this encoder."""
        filters: tuple[Tensor, Tensor] = self.generator(self.wavelengths)
        return filters
