"""Parts that only the labs need: checks of exercises (`checks*`), studies (`studies`), reports (`report`)."""
