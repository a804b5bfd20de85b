"""The simulator: synthetic patches in the layout of ben-ge. `simulate` writes a dataset, `patch` one patch of it."""
