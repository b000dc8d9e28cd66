"""The official names and shapes of SN-Net @c2dcf30 and SN-Netv2 @dd17607."""

from itertools import pairwise

RESNETS = {18: ([2, 2, 2, 2], 1), 50: ([3, 4, 6, 3], 4)}


class Shapes(dict):
    """Names and shapes, grown part by part."""

    def affine(self, name: str, *shape: int) -> None:
        self[f"{name}.weight"] = shape
        self[f"{name}.bias"] = shape[:1]

    def batch_norm(self, name: str, width: int) -> None:
        self.affine(name, width)
        self[f"{name}.running_mean"] = self[f"{name}.running_var"] = (width,)
        self[f"{name}.num_batches_tracked"] = ()

    def block(self, name: str, dims: int, fc1: str, fc2: str, norm: str) -> None:
        self.affine(f"{name}.{norm}1", dims)
        self.affine(f"{name}.{norm}2", dims)
        self.affine(f"{name}.attn.qkv", 3 * dims, dims)
        self.affine(f"{name}.attn.proj", dims, dims)
        self.affine(f"{name}.{fc1}", 4 * dims, dims)
        self.affine(f"{name}.{fc2}", dims, 4 * dims)

    def vit(self, name, dims, depth, side, classes, kind) -> None:
        """Kind: 'deit', 'deit3', or 'mae', as SN-Netv2's segmentors call DeiT III."""
        patches = (side // 16) ** 2
        self[f"{name}.cls_token"] = (1, 1, dims)
        self[f"{name}.pos_embed"] = (1, patches + (kind == "deit"), dims)
        if kind == "mae":
            self.affine(f"{name}.patch_embed.projection", dims, 3, 16, 16)
        else:
            self.affine(f"{name}.patch_embed.proj", dims, 3, 16, 16)
            self.affine(f"{name}.norm", dims)
            self.affine(f"{name}.head", classes, dims)
        for index in range(depth):
            if kind == "mae":
                block = f"{name}.layers.{index}"
                self.block(block, dims, "ffn.layers.0.0", "ffn.layers.1", "ln")
                distances = (2 * (side // 16) - 1) ** 2 + 3
                table = f"{block}.attn.relative_position"
                self[f"{table}_bias_table"] = (distances, dims // 64)
                self[f"{table}_index"] = (patches + 1, patches + 1)
            else:
                block = f"{name}.blocks.{index}"
                self.block(block, dims, "mlp.fc1", "mlp.fc2", "norm")
            if kind != "deit":
                self[f"{block}.gamma_1"] = self[f"{block}.gamma_2"] = (dims,)

    def swin(self, name, dims, depths, heads, window, side, classes) -> None:
        self.affine(f"{name}.patch_embed.proj", dims, 3, 4, 4)
        self.affine(f"{name}.patch_embed.norm", dims)
        for stage, depth in enumerate(depths):
            width, map_side = dims * 2**stage, side // 4 // 2**stage
            tokens = min(window, map_side) ** 2
            for index in range(depth):
                block = f"{name}.layers.{stage}.blocks.{index}"
                self.block(block, width, "mlp.fc1", "mlp.fc2", "norm")
                table = f"{block}.attn.relative_position"
                self[f"{table}_bias_table"] = ((2 * window - 1) ** 2, heads[stage])
                self[f"{table}_index"] = (tokens, tokens)
                if index % 2 and map_side > window:
                    mask = ((map_side // window) ** 2, tokens, tokens)
                    self[f"{block}.attn_mask"] = mask
            if stage < 3:
                merge = f"{name}.layers.{stage}.downsample"
                self[f"{merge}.reduction.weight"] = (2 * width, 4 * width)
                self.affine(f"{merge}.norm", 4 * width)
        self.affine(f"{name}.norm", 8 * dims)
        self.affine(f"{name}.head", classes, 8 * dims)

    def resnet(self, name, depth, classes) -> None:
        depths, expansion = RESNETS[depth]
        self[f"{name}.conv1.weight"] = (64, 3, 7, 7)
        self.batch_norm(f"{name}.bn1", 64)
        inside = 64
        for stage, count in enumerate(depths):
            width = 64 * 2**stage
            outside = width * expansion
            kernels = [(width, 1), (width, 3), (outside, 1)]
            kernels = kernels if expansion > 1 else [(width, 3), (width, 3)]
            for index in range(count):
                block = f"{name}.layer{stage + 1}.{index}"
                channels = [inside, *(out for out, _ in kernels)]
                for conv, ((fed, out), (_, kernel)) in enumerate(
                    zip(pairwise(channels), kernels, strict=True), 1
                ):
                    self[f"{block}.conv{conv}.weight"] = (out, fed, kernel, kernel)
                    self.batch_norm(f"{block}.bn{conv}", out)
                if index == 0 and (stage or inside != outside):
                    self[f"{block}.downsample.0.weight"] = (outside, inside, 1, 1)
                    self.batch_norm(f"{block}.downsample.1", outside)
                inside = outside
        self.affine(f"{name}.fc", classes, inside)

    def stitches(self, name, count, front, end, rank=0, kernel=()) -> None:
        for index in range(count):
            transform = f"{name}.{index}.transform"
            self.affine(transform, end, front, *kernel)
            if rank:
                self[f"{transform}.lora_A"] = (rank, front)
                self[f"{transform}.lora_B"] = (end, rank)


def deit(dims, side, classes=5) -> Shapes:
    shapes = Shapes()
    for anchor, width in enumerate(dims):
        shapes.vit(f"anchors.{anchor}", width, 12, side, classes, "deit")
    for pair, widths in enumerate(pairwise(dims)):
        shapes.stitches(f"stitch_layers.{pair}", 11, *widths)
    return shapes


def swin(dims, window, side, classes=5) -> Shapes:
    shapes = Shapes()
    heads = [[3, 6, 12, 24], [3, 6, 12, 24], [4, 8, 16, 32]]
    for anchor, (width, depth) in enumerate(zip(dims, (6, 18, 18), strict=True)):
        name, depths = f"anchors.{anchor}", [2, 2, depth, 2]
        shapes.swin(name, width, depths, heads[anchor], window, side, classes)
    for stage, counts in enumerate([(1, 1), (1, 1), (6, 17)]):
        for pair, widths in enumerate(pairwise(dims)):
            scaled = (width * 2**stage for width in widths)
            shapes.stitches(f"stitch_layers.{stage}.{pair}", counts[pair], *scaled)
    return shapes


def resnet(classes=5) -> Shapes:
    shapes = Shapes()
    shapes.resnet("anchors.0", 18, classes)
    shapes.resnet("anchors.1", 50, classes)
    for stage, widths in enumerate([(128, 512), (256, 1024)]):
        shapes.stitches(f"stitch_layers.{stage}.0", 2, *widths, kernel=(1, 1))
    return shapes


def resnet_swin(dims, heads, window, side, classes=5) -> Shapes:
    shapes = Shapes()
    shapes.resnet("anchors.0", 18, classes)
    shapes.swin("anchors.1", dims, [2, 2, 6, 2], heads, window, side, classes)
    shapes.stitches("stitch_layers.0.0", 1, 128, 2 * dims, kernel=(1, 1))
    shapes.stitches("stitch_layers.1.0", 2, 256, 4 * dims, kernel=(1, 1))
    return shapes


def snnetv2(dims, side, rank, kind="deit3", classes=5) -> Shapes:
    shapes = Shapes()
    for anchor, (width, depth) in enumerate(zip(dims, (12, 24), strict=True)):
        shapes.vit(f"anchors.{anchor}", width, depth, side, classes, kind)
    shapes.stitches("stitch_layers.0", 12, *dims, rank)
    shapes.stitches("stitch_layers.1", 11, *reversed(dims), rank)
    return shapes
