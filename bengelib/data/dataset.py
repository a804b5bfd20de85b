"""`BENGE`: a ben-ge dataset of GeoTIFF, CSV and JSON files as a PyTorch dataset of dicts of named tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bengelib.arguments import as_index, as_indices
from bengelib.data.consistency import check_tree
from bengelib.data.index import PatchIndex
from bengelib.data.patches import PatchDataset
from bengelib.data.rasters import (
    RASTER_KEYS,
    absent_hint,
    absent_patches,
    modality_folder,
    off_table,
    read_patch,
    tree_folders,
)
from bengelib.data.tables import TABLE_KEYS, read_meta, read_table
from bengelib.errors import MissingModalityError, RasterError


class BENGE(PatchDataset):
    """Patches of ben-ge, each a dict of the requested modalities and targets, and its `patch_id`.

    | key | shape, type, unit |
    |---|---|
    | `s2` | (len(s2_bands), 120, 120) float32, surface reflectance (DN / 10000, not clipped) |
    | `s1` | (len(s1_bands), 120, 120) float32, dB |
    | `dem` | (1, 120, 120) float32, metres |
    | `weather` | (5,) float32 in the order and units of `bands.WEATHER` |
    | `season` | () float32 in [0, 1] |
    | `lonlat` | (2,) float32, degrees |
    | `climate_zone` | () int64, index into `bands.CLIMATE_ZONES` |
    | `land_cover` | (120, 120) int64, index into `bands.LAND_COVER`, 255 where there is no label |
    | `land_cover_fractions`, `land_cover_top` | (11,) float32, () int64 |
    | `corine` | (19,) float32 of 0 and 1, in the order of `bands.CORINE_19` |

    Rasters are read one sample at a time. With `on_error="raise"`, a patch without a file or value is an error when the
    dataset is opened, and a damaged raster when it is read; `"skip"` reads all rasters of the split once, when opened,
    and leaves such patches out.

    Data: Mommert et al. 2023 (arXiv:2307.01741).
    """

    def read_stored(self, index: int) -> dict[str, np.ndarray]:
        """The stored rasters of one patch, not decoded; see `bengelib.data.rasters` for keys and shapes."""
        index = as_index(index, len(self))
        ((patch_id, patch_id_s1),) = self.index.pairs(self._rows[[index]])
        return read_patch(self._folders, patch_id, patch_id_s1, self.s2_bands, self.s1_bands, self._wanted)

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several stored patches as a batch; see `PatchDataset.read_batch`."""
        places = as_indices(indices, len(self)).tolist()
        stored = [self.read_stored(place) for place in places]
        batch: dict[str, Any] = {
            name: torch.from_numpy(np.stack([patch[name] for patch in stored]))
            for name in (stored[0] if stored else ())
        }
        for key, values in self._tables.items():
            batch[key] = values[places]
        batch["patch_id"] = [self.patch_ids[place] for place in places]
        return batch

    @property
    def meta(self) -> pd.DataFrame:
        """The rows of the meta table of the used patches."""
        return self._meta.iloc[self._rows]

    def _values(self) -> dict[str, Tensor]:
        return {key: torch.from_numpy(self.table(key)) for key in self.keys if key in TABLE_KEYS}

    def _open_tables(self) -> None:
        self.folder = self.root
        self._meta = read_meta(self.root)
        check_tree(self.root, self._meta)
        self.index = PatchIndex(self.root, self.root.name, self._meta)
        self._wanted = {key: modality_folder(self.root, key) for key in self.keys if key in RASTER_KEYS}
        self._folders = tree_folders(self.root)

    def _problems(self, chosen: np.ndarray, on_error: str) -> dict[str, dict[str, str]]:
        meta = self._meta.iloc[chosen]
        return self._check_files(meta) if on_error == "raise" else self._try_patches(meta)

    def _strangers(self) -> list[tuple[str, str]]:
        return off_table(self.root, self.index.names(), self.index.names(key="ids_s1"))

    def _read_table(self, key: str) -> np.ndarray:
        return read_table(self.root, self.meta, key, self.acquisition)

    def _check_files(self, meta: pd.DataFrame) -> dict[str, dict[str, str]]:
        """Check that each patch has its entry in the folder of each raster modality.

        Raises:
            MissingModalityError: a patch has none.
        """
        for key, folder in self._wanted.items():
            ids = list(meta["patch_id_s1"] if key == "s1" else meta.index)
            absent = absent_patches(folder, key, ids)
            if absent:
                raise MissingModalityError(
                    f"{len(absent)} of {len(ids)} patches have no {key!r} in {folder}, the first being "
                    f'{ids[absent[0]]}. {absent_hint(folder, key, ids[absent[0]])} Or give on_error="skip" to leave '
                    "them out."
                )
        return {}

    def _try_patches(self, meta: pd.DataFrame) -> dict[str, dict[str, str]]:
        """Read all rasters and table values of a split; return, by key, the patches that fail and why."""
        problems: dict[str, dict[str, str]] = {key: {} for key in self.keys}
        for key in self.keys:
            if key in TABLE_KEYS:
                read_table(self.root, meta, key, self.acquisition, problems[key])
        for patch_id, patch_id_s1 in zip(meta.index, meta["patch_id_s1"], strict=True):
            for key in self._wanted:
                try:
                    read_patch(self._folders, patch_id, patch_id_s1, self.s2_bands, self.s1_bands, (key,))
                except RasterError as error:
                    problems[key][patch_id] = str(error)
        return problems
