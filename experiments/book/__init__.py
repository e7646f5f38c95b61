"""What `run` is made of: `plan` reads book.toml, `measure` makes results, `tables` tells them."""
