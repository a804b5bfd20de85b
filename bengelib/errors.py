"""The errors that `bengelib` raises: each says what was given, what was expected and how to fix it."""


class BengeError(Exception):
    """Base of every error that `bengelib` raises on purpose."""


class DatasetNotFoundError(BengeError, FileNotFoundError):
    """A dataset folder, its meta CSV, or a dataset name is not there."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class MissingModalityError(BengeError, LookupError):
    """A modality or a target was asked for that the tree does not hold."""


class SplitError(BengeError, ValueError):
    """An unknown split, or a split file that is missing, repeated or foreign."""


class BandError(BengeError, ValueError):
    """A band, modality, target or class name that does not exist, or bands that do not match."""


class TableError(BengeError, ValueError):
    """A CSV or JSON file of the tree is malformed: columns missing, ids repeated, values unreadable."""


class RasterError(BengeError, ValueError):
    """A raster file is missing, truncated, or of the wrong shape, type or content."""


class DescriptionError(BengeError, ValueError):
    """A `dataset.toml` is malformed, or says something that the files beside it contradict."""


class CheckpointError(BengeError, ValueError):
    """A checkpoint does not fit the model, the bands or the statistics that it is loaded for."""


class NonFiniteLossError(BengeError, FloatingPointError):
    """The loss became NaN or infinite."""


class ChecksumError(BengeError, ValueError):
    """A downloaded or packed file is not the one that was published or written."""


class DownloadError(BengeError, OSError):
    """Something could not be downloaded; the message gives the address for doing it by hand."""


class DiskSpaceError(BengeError, OSError):
    """The disk is full, or has too little room for what is about to be written."""


class DiskError(BengeError, OSError):
    """The disk refuses what has to be read or written: it is read-only, lacks rights, or cannot do it."""


class SettingsError(BengeError, ValueError):
    """A simulation was asked for with impossible settings, or where something else already lies."""


class ExerciseError(BengeError, AssertionError):
    """An exercise is not solved, where that must not be passed over: see `bengelib.course.checks`."""


class ArgumentError(BengeError, ValueError):
    """An argument is of another kind than is meant: a mask for indices, per cent for a share, a part of a number."""


class DataWarning(UserWarning):
    """Data that are used although something about them looks wrong: see the message."""
