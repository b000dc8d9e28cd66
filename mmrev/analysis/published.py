"""Published sizes of the backbones, for `mmrev.analysis.model_table`."""

from mmrev.analysis.model_table import Published, norm_linear

REVCOL = "arXiv 2212.11696, tables 1 and 2"
SWIN = "github.com/microsoft/Swin-Transformer @f82860b, MODELHUB.md"


def _revcol(arch: str, *figures, classifier=None) -> Published:
    name = f"RevCol-{ {'xlarge': 'XL'}.get(arch, arch[0].upper()) }"
    config = {"type": "mmrev.RevCol", "arch": arch}
    return Published(name, config, *figures, REVCOL, classifier)


ROWS = [
    _revcol("tiny", 224, "30", "4.5"),
    _revcol("small", 224, "60", "9.0"),
    _revcol("base", 224, "138", "16.6"),
    _revcol("large", 224, "273", "39", classifier=norm_linear),
    _revcol("xlarge", 224, "834", None, classifier=norm_linear),
    _revcol("huge", 640, None, "2537"),  # params are printed as 2.1B, cut off
]
