"""The commands of `python -m bengelib`: `commands` for encoders, `supervised` and `maps`, `bench*` for measurements."""
