"""What only the labs need: checks of exercises (`checks*`), studies (`studies`, `results`), reports (`report`)."""
