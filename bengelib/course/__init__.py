"""What only the labs need: the checks of their exercises (`checks*`), and their studies (`studies`, `results`)."""
