"""The application behind ``tools/``: configs, runs, what a terminal shows of them."""
