"""Parameters and inputs as functions of their names, and the goldens made with them.

A golden needs no stored weights this way: test and origin fill the same numbers in.
"""

import json
import math
import zlib
from pathlib import Path

import torch

PRIME = 65521


def load_golden(name: str) -> dict:
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text())


def noise(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Exact integer arithmetic: the same in [-1, 1) on every machine."""
    k = torch.arange(math.prod(shape), dtype=torch.int64) * 7919
    k = (k + zlib.crc32(name.encode())) % PRIME
    return ((k * k % PRIME).double() / PRIME * 2 - 1).reshape(shape)


def parameter(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A parameter of the reference, by its name there."""
    value = noise(name, shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf.startswith("alpha"):
        value = 0.5 + 0.3 * value
    elif leaf == "gamma":
        value = 0.3 + 0.1 * value
    elif leaf == "bias":
        value = 0.1 * value
    elif len(shape) == 1:
        value = 1 + 0.2 * value
    else:
        value = value * (3 / math.prod(shape[1:])) ** 0.5
    return value.float()


def image(shape: tuple[int, ...]) -> torch.Tensor:
    return (noise("input", shape) * 2).float()


def revcol_shapes(
    channels, depths, num_columns, top_to_bottom=False, kernel_size=3
) -> dict[str, tuple[int, ...]]:
    """The official names and shapes of a RevCol backbone."""
    shapes = {}

    def affine(name, *shape):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]

    affine("stem.0", channels[0], 3, 4, 4)
    affine("stem.1", channels[0])
    for column in range(num_columns):
        for level, width in enumerate(channels):
            shapes[f"subnet{column}.alpha{level}"] = (1, width, 1, 1)
            name = f"subnet{column}.level{level}"
            if level:
                affine(f"{name}.fusion.down.0", width, channels[level - 1], 2, 2)
                affine(f"{name}.fusion.down.1", width)
            ups = {"up": level + 1} if column and level < 3 else {}
            if column and level == 0 and top_to_bottom:
                ups["up2"] = 3
            for up, source in ups.items():
                rescale = f"{name}.fusion.{up}.channel_reschedule"
                affine(f"{rescale}.0", width, channels[source])
                affine(f"{rescale}.1", width)
            for block in range(depths[level]):
                part = f"{name}.blocks.{block}"
                affine(f"{part}.dwconv", width, 1, kernel_size, kernel_size)
                affine(f"{part}.norm", width)
                affine(f"{part}.pwconv1", 4 * width, width)
                affine(f"{part}.pwconv2", width, 4 * width)
                shapes[f"{part}.gamma"] = (width,)
    return shapes


def swin_v2_shapes(
    embed_dims, depths, num_heads, window_size, image_side
) -> dict[str, tuple[int, ...]]:
    """The official names and shapes of a Swin-V2 without its head.

    Args:
        embed_dims: channels of stage 1.
        depths: blocks a stage.
        num_heads: heads a stage.
        window_size: side of the windows, which shrink to the map.
        image_side: pixels.
    """
    shapes = {}

    def affine(name, *shape):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]

    affine("patch_embed.proj", embed_dims, 3, 4, 4)
    affine("patch_embed.norm", embed_dims)
    for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        width, map_side = embed_dims * 2**stage, image_side // 4 // 2**stage
        side = min(window_size, map_side)
        count, tokens = map_side // side, side**2
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            if block % 2 and count > 1:
                shapes[f"{name}.attn_mask"] = (count**2, tokens, tokens)
            affine(f"{name}.norm1", width)
            shapes[f"{name}.attn.logit_scale"] = (heads, 1, 1)
            shapes[f"{name}.attn.q_bias"] = (width,)
            shapes[f"{name}.attn.v_bias"] = (width,)
            table = (1, 2 * side - 1, 2 * side - 1, 2)
            shapes[f"{name}.attn.relative_coords_table"] = table
            shapes[f"{name}.attn.relative_position_index"] = (tokens, tokens)
            affine(f"{name}.attn.cpb_mlp.0", 512, 2)
            shapes[f"{name}.attn.cpb_mlp.2.weight"] = (heads, 512)
            shapes[f"{name}.attn.qkv.weight"] = (3 * width, width)
            affine(f"{name}.attn.proj", width, width)
            affine(f"{name}.norm2", width)
            affine(f"{name}.mlp.fc1", 4 * width, width)
            affine(f"{name}.mlp.fc2", width, 4 * width)
        if stage < 3:
            merge = f"layers.{stage}.downsample"
            shapes[f"{merge}.reduction.weight"] = (2 * width, 4 * width)
            affine(f"{merge}.norm", 2 * width)
    affine("norm", width)
    return shapes
