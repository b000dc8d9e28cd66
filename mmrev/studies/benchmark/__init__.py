"""One way to measure any config or backbone, and to compare it within one run.

`arguments` says what can be asked for, `subjects` builds what is measured, `plain` is
RevCol's reference, `measuring` measures, `report` keeps and prints, `plot` draws.
"""
