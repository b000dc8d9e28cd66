"""What a backbone's features are like: what they show, where they look, how large.

`states` runs a backbone state by state, `collect` measures, `report` is what is found,
`plot` draws it; `run` does all of that for a config.
"""
