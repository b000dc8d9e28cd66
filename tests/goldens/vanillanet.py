"""The official names and shapes of a VanillaNet, huawei-noah/VanillaNet @6aaf731."""

from itertools import pairwise


def vanillanet_shapes(
    channels: list[int], act_num: int = 3, form: str = "training", num_classes: int = 0
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in one of the two forms, ``num_batches_tracked`` left out.

    Args:
        channels: of the stem and of every block.
        act_num: reach of the activations.
        form: 'training' or 'deploy'.
        num_classes: of the classifier; 0 leaves it out.
    """
    shapes = {}

    def affine(name, *shape):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]

    def norm(name, width):
        affine(name, width)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (width,)

    def conv_norm(name, *shape):
        affine(f"{name}.0", *shape)
        norm(f"{name}.1", shape[0])

    def act(name, width):
        kernel = (width, 1, 2 * act_num + 1, 2 * act_num + 1)
        if form == "deploy":
            affine(name, *kernel)
        else:
            shapes[f"{name}.weight"] = kernel
            norm(f"{name}.bn", width)

    stem, last = channels[0], channels[-1]
    if form == "deploy":
        affine("stem.0", stem, 3, 4, 4)
        act("stem.1", stem)
    else:
        conv_norm("stem1", stem, 3, 4, 4)
        conv_norm("stem2", stem, stem, 1, 1)
        act("stem2.2", stem)
    for index, (inside, outside) in enumerate(pairwise(channels)):
        name = f"stages.{index}"
        if form == "deploy":
            affine(f"{name}.conv", outside, inside, 1, 1)
        else:
            conv_norm(f"{name}.conv1", inside, inside, 1, 1)
            conv_norm(f"{name}.conv2", outside, inside, 1, 1)
        act(f"{name}.act", outside)
    if num_classes and form == "deploy":
        affine("cls.2", num_classes, last, 1, 1)
    elif num_classes:
        affine("cls1.2", num_classes, last, 1, 1)
        norm("cls1.3", num_classes)
        affine("cls2.0", num_classes, num_classes, 1, 1)
    return shapes
