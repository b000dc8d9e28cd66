"""Published sizes of the backbones, for `mmrev.studies.model_table`."""

from mmrev.studies.model_table import Published, conv_linear, linear, norm_linear

REVCOL = "arXiv 2212.11696, tables 1 and 2"
REVCOL_V2 = "arXiv 2309.01005, table 3, as quoted by others"
SWIN = "microsoft/Swin-Transformer @f82860b, its parameters and flops()"
SWIN_COUNTED = "microsoft/Swin-Transformer @f82860b, Swin-MoE counted by running it"
NFNET = "google-deepmind/deepmind-research @f5de0ed, nfnets/README.md"
NFNET_COUNTED = "google-deepmind/deepmind-research @f5de0ed, counted by running it"
VANILLANET = "huawei-noah/VanillaNet @6aaf731, README.md"


def _revcol(arch: str, *figures, classifier=None) -> Published:
    name = f"RevCol-{ {'xlarge': 'XL'}.get(arch, arch[0].upper()) }"
    config = {"type": "mmrev.RevCol", "arch": arch}
    return Published(name, config, *figures, REVCOL, classifier)


def _swin(arch: str, window: int, *figures) -> Published:
    name = f"Swin-V2-{arch[0].upper()} w{window}"
    config = {"type": "mmrev.SwinTransformerV2", "arch": arch, "window_size": window}
    return Published(name, config, *figures, SWIN, norm_linear)


def _swin_moe(experts: int, params: str) -> Published:
    name = f"Swin-V2-S w12, {experts} experts"
    config = {"type": "mmrev.SwinTransformerV2", "arch": "small", "window_size": 12}
    config["moe"] = {"num_experts": experts}
    # Of a map that its experts do not divide, its formula counts no spare rows.
    return Published(name, config, 192, params, None, SWIN_COUNTED, norm_linear)


def _nfnet(arch: str, *figures, source=NFNET) -> Published:
    config = {"type": "mmrev.NFNet", "arch": arch}
    return Published(f"NFNet-{arch}", config, *figures, source, conv_linear)


def _vanillanet(arch: str, *figures) -> Published:
    config = {"type": "mmrev.VanillaNet", "arch": arch, "deploy": True}
    return Published(f"VanillaNet-{arch}", config, 224, *figures, VANILLANET, linear)


ROWS = [
    _revcol("tiny", 224, "30", "4.5"),
    _revcol("small", 224, "60", "9.0"),
    _revcol("base", 224, "138", "16.6"),
    _revcol("large", 224, "273", "39", classifier=norm_linear),
    _revcol("xlarge", 224, "834", None, classifier=norm_linear),
    _revcol("huge", 640, None, "2537"),  # params are printed as 2.1B, cut off
    Published(
        "RevColV2-B",
        {"type": "mmrev.RevColV2", "arch": "base"},
        224,
        "88",
        None,
        REVCOL_V2,
    ),
    _swin("tiny", 8, 256, "28.35", "5.93"),
    _swin("tiny", 16, 256, "28.35", "6.61"),
    _swin("small", 8, 256, "49.73", "11.51"),
    _swin("small", 16, 256, "49.73", "12.65"),
    _swin("base", 8, 256, "87.92", "20.29"),
    _swin("base", 16, 256, "87.92", "21.80"),
    _swin("base", 24, 384, "87.92", "54.75"),
    _swin("large", 16, 256, "196.74", "47.49"),
    _swin("large", 24, 384, "196.74", "115.42"),
    _swin_moe(8, "157.26"),
    _swin_moe(16, "280.15"),
    _swin_moe(32, "525.92"),
    _nfnet("F0", 256, "71.5", "12.38"),
    _nfnet("F1", 320, "132.6", "35.54"),
    _nfnet("F2", 352, "193.8", "62.59"),
    _nfnet("F3", 416, "254.9", "114.76"),
    _nfnet("F4", 512, "316.1", "215.24"),
    _nfnet("F5", 544, "377.2", "289.76"),
    _nfnet("F6", 576, "438.4", "377.28"),
    _nfnet("F7", 608, "499.50", "478.78", source=NFNET_COUNTED),
    _nfnet("F3+", 416, "423.42", "177.99", source=NFNET_COUNTED),
    _nfnet("F4+", 512, "524.95", "333.39", source=NFNET_COUNTED),
    _nfnet("F7+", 608, "829.55", "740.16", source=NFNET_COUNTED),
    _vanillanet("5", "15.5", "5.2"),
    _vanillanet("6", "32.5", "6.0"),
    _vanillanet("7", "32.8", "6.9"),
    _vanillanet("8", "37.1", "7.7"),
    _vanillanet("9", "41.4", "8.6"),
    _vanillanet("10", "45.7", "9.4"),
    _vanillanet("11", "50.0", "10.3"),
    _vanillanet("12", "54.3", "11.1"),
    _vanillanet("13", "58.6", "11.9"),
]
