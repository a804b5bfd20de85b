"""What serves the repository and not the user of the package: running the labs, cleaning notebooks, rewriting links."""
