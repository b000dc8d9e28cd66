"""Make a full-size config small enough for one step in a second on a CPU.

Only sizes change: number of columns, layers, queries, widths, points, image sides.
Types, losses, pipelines, optimizer constructor and settings stay the config's own.
"""

from mmengine.config import Config, ConfigDict

CHANNELS = [16, 32, 64, 128]

BACKBONES = {
    "mmrev.RevCol": lambda old: dict(
        old,
        arch=dict(
            channels=CHANNELS,
            depths=[1, 1, 1, 1],
            num_columns=4,
            top_to_bottom=old["arch"] == "huge",
        ),
        drop_path_rate=0.0,
    ),
    "mmrev.NFNet": lambda old: dict(
        old,
        arch=dict(channels=CHANNELS, depths=[1, 1, 1, 1], group_width=8),
        drop_path_rate=0.0,
        skip_gain_init_value=1.0,
    ),
    "mmrev.SwinTransformerV2": lambda old: dict(
        old,
        arch=dict(embed_dims=CHANNELS[0], depths=[2, 1, 2, 1], num_heads=[1, 1, 2, 2]),
        drop_path_rate=0.0,
    ),
    "mmrev.VanillaNet": lambda old: dict(
        old, arch=dict(channels=[16, *CHANNELS], strides=[1, 2, 2, 2])
    ),
    "mmrev.ReduceNet": lambda old: dict(
        old,
        arch=dict(channels=CHANNELS, depths=[1, 1, 1, 1], expansion=2),
        drop_path_rate=0.0,
    ),
}
"""For each backbone type of the suite: its smallest form, with CHANNELS."""

MODEL_SIZES = dict(
    num_queries=20,
    num_dn_queries=5,
    num_layers=1,
    feedforward_channels=64,
    fc_out_channels=32,
    conv_out_channels=32,
    nms_pre=64,
    max_per_img=16,
)
IMAGE_SIDES = dict(scale=64, crop_size=(64, 64), size=(64, 64), stride=(48, 48))
LOADER = dict(num_workers=0, persistent_workers=False)


def shrink(cfg: Config) -> Config:
    """Return a small copy of ``cfg`` that needs neither weights nor a GPU."""
    cfg = Config(cfg.to_dict())
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(LOADER)
        _replace(loader, IMAGE_SIDES)
    for amp_only in ("loss_scale", "dtype", "use_fp16"):
        cfg.optim_wrapper.pop(amp_only, None)
    wrapper = cfg.optim_wrapper.get("type", "OptimWrapper")
    for precision in ("Amp", "BFloat16"):
        wrapper = wrapper.replace(f"{precision}Optim", "Optim")
    cfg.optim_wrapper.type = wrapper
    _replace(cfg.model, MODEL_SIZES)

    model = inner_model(cfg.model)
    _replace(model.get("data_preprocessor") or {}, IMAGE_SIDES)
    _replace(model.get("test_cfg") or {}, IMAGE_SIDES)
    model.backbone = BACKBONES[model.backbone.type](model.backbone)
    model.backbone.init_cfg = None
    kept = [CHANNELS[i] for i in model.backbone.get("out_indices", range(4))]
    for part in ("neck", "decode_head"):
        if "in_channels" in (model.get(part) or {}):
            single = isinstance(model[part].in_channels, int)
            model[part].in_channels = kept[-1] if single else kept
    if "auxiliary_head" in model:
        model.auxiliary_head.in_channels = kept[model.auxiliary_head.in_index]
    if model.type == "ImageClassifier":
        doubles = (model.get("neck") or {}).get("type") == "mmrev.NFNetPooling"
        model.head.in_channels = kept[-1] * (2 if doubles else 1)
    if "num_points" in model.get("decode_head", {}).get("train_cfg", {}):
        model.decode_head.train_cfg.num_points = 64
    return cfg


def inner_model(model: ConfigDict) -> ConfigDict:
    """The model that owns the backbone: ``model``, or what a wrapper in it wraps."""
    return model if "backbone" in model else inner_model(model.model)


def _replace(node, sizes: dict) -> None:
    """Set the keys of ``sizes`` wherever they occur below ``node``."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in sizes and value is not None:
                # A resize to (long, short) keeps its form; one to a side keeps its.
                pair = key == "scale" and not isinstance(value, int)
                node[key] = (128, 64) if pair else sizes[key]
            elif key == "scales" and sizes is IMAGE_SIDES:
                pair = not isinstance(value[0], int)
                node[key] = [(128, 64), (128, 80)] if pair else [64, 80]
            else:
                _replace(value, sizes)
    elif isinstance(node, list | tuple):
        for value in node:
            _replace(value, sizes)
