"""The errors that `bengelib` raises. Each message says what was given, what was expected and how to fix it."""


class BengeError(Exception):
    """Base of every error that `bengelib` raises on purpose."""


class DatasetNotFoundError(BengeError, FileNotFoundError):
    """A dataset folder, its meta CSV, or a dataset name does not exist."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class MissingModalityError(BengeError, LookupError):
    """A requested modality or target is not in the dataset."""


class SplitError(BengeError, ValueError):
    """An unknown split, or a split file that is missing, has duplicates, or belongs to other data."""


class BandError(BengeError, ValueError):
    """A band, modality, target or class name that does not exist, or bands that do not match."""


class TableError(BengeError, ValueError):
    """A CSV or JSON file of the dataset is malformed: columns missing, ids repeated, values unreadable."""


class RasterError(BengeError, ValueError):
    """A raster file is missing, truncated, or of the wrong shape, type or content."""


class DescriptionError(BengeError, ValueError):
    """A `dataset.toml` is malformed or contradicts the files that it describes."""


class CheckpointError(BengeError, ValueError):
    """A checkpoint does not match the model, the bands or the statistics that it is loaded for."""


class NonFiniteLossError(BengeError, FloatingPointError):
    """The loss became NaN or infinite."""


class ChecksumError(BengeError, ValueError):
    """The checksum of a downloaded or packed file is wrong."""


class DownloadError(BengeError, OSError):
    """A download failed; the message gives the address for a manual download."""


class DiskSpaceError(BengeError, OSError):
    """The disk is full, or has too little space for the data to be written."""


class DiskError(BengeError, OSError):
    """A file cannot be read or written: the disk is read-only, permissions are missing, or it is unsupported."""


class SettingsError(BengeError, ValueError):
    """Impossible settings of a simulation, or a destination that already holds something else."""


class ExerciseError(BengeError, AssertionError):
    """An exercise is not solved, in strict mode: see `bengelib.course.checks`."""


class ArgumentError(BengeError, ValueError):
    """An argument of the wrong kind: a mask instead of indices, per cent instead of a fraction, a non-integer."""


class DataWarning(UserWarning):
    """Something about the data looks wrong, but they are used nevertheless; see the message."""
