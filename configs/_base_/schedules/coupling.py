"""Ordinary weights are fine-tuned to blocks whose states can be found again.

From b = .02 on a state costs a third of its bytes, and less as b grows.
"""

coupled = dict(coupling="dual", memory="reverse")
coupling = dict(
    type="mmrev.CouplingHook", start=(0.98, 0.02), to=(0.5, 0.5), by_epoch=False
)
