"""What the memory modes cost, and whether their gradients are those of plain autograd.

`arguments` is what is asked for, `networks` what is measured, `figures` measures it,
`reports` prints tables, `plot` draws.
"""
