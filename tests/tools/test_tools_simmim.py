"""SimMIM by tools/train.py, what starts from it, and mistakes of configs."""

import pytest
import tiny_configs
import torch

from mmrev.checkpoints import load_checkpoint_file

pytestmark = [pytest.mark.slow, pytest.mark.ci]


@pytest.fixture(scope="module")
def config(project):
    return tiny_configs.write_simmim(project / "simmim.py")


@pytest.fixture(scope="module")
def pretrained(config, train, project):
    train(config, "--work-dir", project / "work_dirs/simmim")
    return project / "work_dirs/simmim/iter_4.pth"


def test_a_dense_training_starts_from_it(pretrained, run, tmp_path):
    """Of a step that changes nothing; the norms of levels 0 to 2 are new."""
    before = load_checkpoint_file(pretrained)["state_dict"]
    assert {"backbone.mask_token", "neck.decoder.0.weight"} <= before.keys()
    start = {"type": "Pretrained", "checkpoint": str(pretrained)}
    options = [f"model.backbone.init_cfg={start}", "train_cfg.max_iters=1"]
    options += ["optim_wrapper.optimizer.lr=0.0"]
    result = run("train", "seg.py", "--work-dir", tmp_path, "--cfg-options", *options)
    assert result.status == 0, result.err
    after = load_checkpoint_file(tmp_path / "iter_1.pth")["state_dict"]
    keys = {key for key in after if key.startswith("backbone.")}
    new = {key for key in keys if key.startswith("backbone.norms.")}
    assert keys - new <= before.keys()
    for key in (keys - new) | {"backbone.norms.3.weight"}:
        assert torch.equal(after[key], before[key]), key


def test_it_continues_to_the_same_weights(pretrained, config, run, tmp_path):
    places = ("--work-dir", tmp_path)
    steps = ("--cfg-options", "train_cfg.max_iters=2")
    assert run("train", config, *places, *steps).status == 0
    assert run("train", config, *places, "--resume").status == 0
    found = load_checkpoint_file(tmp_path / "iter_4.pth")["state_dict"]
    expected = load_checkpoint_file(pretrained)["state_dict"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


MASK = "train_dataloader.dataset.pipeline.2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["model.backbone.backbone={'_delete_': True, 'type': 'mmrev.VanillaNet'}"],
            "MaskedBackbone: expected a backbone without BatchNorm",
        ),
        (
            [f"{MASK}.mask_patch_size=24"],
            "mask_patch_size must divide input_size=64, got 24. Choose one of 1, 2, 4",
        ),
        (
            [f"{MASK}.input_size=160"],
            "MaskedBackbone: expected a mask whose sides divide, or are divided by, "
            "those of the stem's map, 16 x 16, got 40 x 40.",
        ),
        (
            ["model.head.patch_size=8"],
            "SimMIMHead: expected a prediction and a mask of the images' 64 x 64 "
            "pixels, got a prediction of 64 x 64 and a mask of 16 x 16 cells of 8",
        ),
        (["model.head.target_window=46"], "an odd number from 3 on, got 46"),
    ],
)
def test_mistakes_are_one_line(options, message, config, run, tmp_path):
    result = run("train", config, "--work-dir", tmp_path, "--cfg-options", *options)
    assert result.status == 1
    assert message in result.err and result.err.count("\n") == 1


def test_nothing_to_test(pretrained, config, run):
    result = run("test", config, pretrained)
    assert result.status == 1 and "no test_dataloader; nothing to test" in result.err
