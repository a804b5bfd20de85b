"""What `python -m bengelib` does, command by command: `commands` for encoders, `bench*` for measurements."""
