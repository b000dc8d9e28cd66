"""A run that was killed at any step and resumed: bit for bit the uninterrupted one."""

import random
import warnings
from types import SimpleNamespace
from typing import ClassVar

import mmdet.datasets  # noqa: F401  registers its samplers
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn

from mmrev.checkpoints.checksums import checksum_file
from mmrev.checkpoints.runs import read_checkpoint
from mmrev.datasets.batches import seeded
from mmrev.engine.hooks.checkpoint import accumulated
from mmrev.errors import UserError

IMAGES, BATCH, EPOCHS = 8, 2, 3
EPOCH = IMAGES // BATCH
STEPS = EPOCHS * EPOCH


@DATASETS.register_module()
class Numbers(BaseDataset):
    """Images of two aspect ratios and three classes, augmented by all generators."""

    METAINFO: ClassVar = {"classes": ("a", "b", "c")}

    def __init__(self):
        super().__init__(serialize_data=False)  # which collects garbage, for a second

    def load_data_list(self):
        return [
            {"number": i, "width": 2 + i % 5 % 2, "height": 3, "label": i % 7 % 3}
            for i in range(IMAGES)
        ]

    def get_cat_ids(self, idx):
        return [self.get_data_info(idx)["label"]]

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        noise = random.random() + np.random.rand() + torch.rand(3)
        return {"inputs": noise + info["number"], "number": info["number"]}


@DATASETS.register_module()
class TwoOfNumbers(ConcatDataset):
    def __init__(self):
        super().__init__([Numbers(), Numbers()])


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1)
        )
        self.seen = []

    def forward(self, inputs, number, mode="loss"):
        self.seen += [int(one) for one in number]
        scale = random.random() + np.random.rand()
        return {"loss": scale * self.layers(torch.stack(inputs)).square().mean()}


LOOPS = {
    "epochs": {"by_epoch": True, "max_epochs": EPOCHS},
    "iterations": {"by_epoch": False, "max_iters": STEPS},
}
SCHEDULES = [
    {"type": "MultiStepLR", "milestones": [1, 2], "by_epoch": True},
    {"type": "PolyLR", "end": STEPS, "by_epoch": False},
]


def train(
    work_dir,
    loop="epochs",
    steps=None,
    accumulate=1,
    checkpoint=None,
    optimizer=None,
    hooks=(),
    schedules=None,
    **loader,
):
    """The model after training, and the runner; `steps` to resume after so many."""
    torch.manual_seed(0)
    model = Toy()
    loader.setdefault("sampler", {"type": "DefaultSampler", "shuffle": True})
    loader.setdefault("dataset", {"type": "Numbers"})
    saving = {"by_epoch": False, "interval": 1, **(checkpoint or {})}
    folder = work_dir
    if steps:
        folder = work_dir / "resumed"
        saving.update(interval=10 * STEPS, save_last=False)
    wrapper = {
        "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
        "accumulative_counts": accumulate,
        **(optimizer or {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = Runner(
            model=model,
            work_dir=str(folder),
            train_dataloader={"batch_size": BATCH, "num_workers": 0, **loader},
            train_cfg=LOOPS[loop],
            optim_wrapper=wrapper,
            cfg={"optim_wrapper": wrapper},
            param_scheduler=schedules or SCHEDULES,
            custom_hooks=[{"type": "mmrev.ExactResumeHook"}, *hooks],
            default_hooks={
                "checkpoint": {"type": "mmrev.AtomicCheckpointHook", **saving},
                "logger": {"type": "LoggerHook", "interval": 1},
            },
            default_scope="mmengine",
            randomness={"seed": 3},
            log_level="WARNING",
            experiment_name=f"exact-{id(model)}",
            load_from=str(work_dir / f"iter_{steps}.pth") if steps else None,
            resume=bool(steps),
        )
        runner.train()
    # Left to a later collection of garbage, each worker takes 5 s to end.
    if (workers := runner.train_dataloader._iterator) is not None:
        workers._shutdown_workers()
    return model, runner


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same(found, expected):
    for (name, one), other in zip(
        found.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


ASPECT = {"type": "mmdet.AspectRatioBatchSampler"}
COPIES = {"type": "mmrev.RepeatedAugmentationBatchSampler", "num_repeats": 2}
INFINITE = {"type": "InfiniteSampler", "shuffle": True}
SIZES = {"type": "mmdet.CustomSampleSizeSampler", "dataset_size": [3, 5]}


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        (range(1, STEPS + 1), {}),
        ((2, 3, 5, 8), {"accumulate": 3}),
        ((3, 4), {"num_workers": 2, "persistent_workers": True}),
        ((3, 4, 6), {"batch_sampler": ASPECT}),
        ((3, 9), {"batch_sampler": COPIES, "loop": "iterations"}),
        ((3, 8), {"sampler": {"type": "mmdet.ClassAwareSampler"}}),
        ((4, 9), {"sampler": SIZES, "dataset": {"type": "TwoOfNumbers"}}),
        ((1, 4, 7, 12), {"loop": "iterations", "sampler": INFINITE}),
        ((5,), {"loop": "iterations", "num_workers": 1, "sampler": INFINITE}),
        (
            (5, 8),
            {"loop": "iterations", "sampler": INFINITE, "batch_sampler": ASPECT},
        ),
        ((3, 4, 9), {"loop": "iterations"}),  # whose sampler ends with each pass
        ((6,), {"loop": "iterations", "num_workers": 1, "batch_sampler": ASPECT}),
    ],
    ids=lambda value: "-".join(map(str, value)) or "plain",
)
def test_resumed_run_is_the_uninterrupted_one(tmp_path, steps, settings):
    whole, _ = train(tmp_path, **settings)
    assert len(whole.seen) == STEPS * BATCH
    for step in steps:
        resumed, runner = train(tmp_path, steps=step, **settings)
        assert runner.iter == STEPS
        assert resumed.seen == whole.seen[step * BATCH :], step
        assert_same(resumed, whole)


def test_a_schedule_with_a_method_is_saved_without_it(tmp_path):
    """As it is, another process would not read the checkpoint."""
    one = {"type": "OneCycleLR", "eta_max": 0.1, "total_steps": STEPS}
    settings = {"schedules": [{**one, "by_epoch": False}]}
    whole, _ = train(tmp_path, **settings)
    (state,) = read_checkpoint(tmp_path / "iter_4.pth")["param_schedulers"]
    assert state["last_step"] == 4 and "anneal_func" not in state
    resumed, _ = train(tmp_path, steps=4, **settings)
    assert_same(resumed, whole)


@pytest.mark.parametrize("step", [3, 4])
def test_each_image_is_drawn_once_an_epoch(tmp_path, step):
    """And only the images that follow are loaded."""
    loaded = []

    def prepare(self, idx, original=Numbers.prepare_data):
        loaded.append(idx)
        return original(self, idx)

    train(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Numbers, "prepare_data", prepare)
        model, _ = train(tmp_path, steps=step)
    assert loaded == model.seen
    rest = [model.seen[-IMAGES:], model.seen[-2 * IMAGES : -IMAGES]]
    assert all(sorted(epoch) == list(range(IMAGES)) for epoch in rest)
    first = model.seen[: -2 * IMAGES]
    assert len(set(first)) == len(first) == IMAGES - step * BATCH


def test_batches_keep_their_numbers_in_the_log(tmp_path):
    train(tmp_path)
    seen = []

    class Watch:
        def __init__(self, runner):
            runner.call_hook = self.note(runner.call_hook)

        def note(self, call):
            def called(name, **arguments):
                if name == "before_train_iter":
                    seen.append(arguments["batch_idx"])
                call(name, **arguments)

            return called

    build = Runner.build_train_loop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Runner,
            "build_train_loop",
            lambda self, loop: (Watch(self), build(self, loop))[1],
        )
        train(tmp_path, steps=7)
    assert seen == [3, 0, 1, 2, 3]


def test_other_batches_start_the_epoch_anew(tmp_path, monkeypatch):
    train(tmp_path)
    warned = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: warned.append(text))
    model, runner = train(tmp_path, steps=6, batch_size=3)
    assert len(model.seen) == 2 * IMAGES and runner.iter == 6 + 2 * 3
    assert "after 2 of an epoch's 4 batches, but now an epoch has 3" in warned[0]
    # A checkpoint of an epoch's end goes on with the next one, whatever its length.
    checkpoint = {"by_epoch": True, "filename_tmpl": "iter_{}.pth"}
    train(tmp_path, checkpoint=checkpoint)
    model, _ = train(tmp_path, steps=1, checkpoint=checkpoint, batch_size=3)
    assert len(model.seen) == 2 * IMAGES and len(warned) == 1


def test_a_checkpoint_without_its_place(tmp_path):
    whole, _ = train(tmp_path)
    for name in ("iter_4.pth", "iter_7.pth"):
        saved = torch.load(tmp_path / name, weights_only=False)
        del saved["meta"]["batches_done"]
        torch.save(saved, tmp_path / name)
        checksum_file(tmp_path / name).unlink()
    for step in (4, 7):
        resumed, _ = train(tmp_path, steps=step)
        assert_same(resumed, whole)


def shares(rank, work_dir, step):
    torch.set_num_threads(1)
    return [train(work_dir, steps=steps)[0].seen for steps in (None, step)]


def test_processes_share_an_epoch_to_its_end(tmp_path, process_pair):
    """Of 8 images each has 4 an epoch, in 2 batches."""
    results = process_pair.run(shares, tmp_path, 3)
    saved = torch.load(tmp_path / "iter_3.pth", weights_only=False)
    assert saved["meta"]["processes"] == 2
    for whole, resumed in results:
        assert resumed == whole[3 * BATCH :] and len(whole) == EPOCHS * IMAGES // 2
    first, second = (resumed[-IMAGES // 2 :] for _, resumed in results)
    assert sorted(first + second) == list(range(IMAGES))


def gradients(rank):
    """Of an accumulated batch: of both processes, of one, of none."""
    model = nn.ParameterDict({name: torch.ones(2) for name in "abc"})
    model["a"].grad = torch.full((2,), 1.0 + 2 * rank)
    model["b"].grad = torch.full((2,), 3.0) if rank else None
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters()), accumulative_counts=2)
    wrapper._inner_count = 1
    return accumulated(SimpleNamespace(model=model, optim_wrapper=wrapper))


def test_gradients_that_wait_are_the_mean_of_the_processes(process_pair):
    for found in process_pair.run(gradients):
        assert {name: value.tolist() for name, value in found.items()} == {
            "a": [2.0, 2.0],
            "b": [1.5, 1.5],
        }


def test_numbers_do_not_depend_on_the_workers(tmp_path):
    alone, _ = train(tmp_path / "0")
    helped, _ = train(tmp_path / "2", num_workers=2)
    assert_same(alone, helped)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"paramwise_cfg": {"custom_keys": {"layers.0": {"lr_mult": 0.5}}}},
            r"groups of parameters: 1 there, 6 here\): "
            r"optim_wrapper\.paramwise_cfg was None, is \{'custom_keys': .*\}; "
            r"resume with the settings of then, or start anew .* load_from=/",
        ),
        (
            {"optimizer": {"type": "Adam", "lr": 0.01}},
            r"Adam has no dampening, momentum, nesterov\): .*"
            r"optim_wrapper\.optimizer\.type was 'SGD', is 'Adam'",
        ),
    ],
)
def test_another_optimizer_is_not_resumed(tmp_path, settings, message):
    train(tmp_path, checkpoint={"interval": 99, "save_begin": 0, "by_epoch": True})
    (saved,) = tmp_path.glob("*.pth")
    saved.rename(tmp_path / "iter_1.pth")
    hooks = [{"type": "mmrev.StrictCheckpointHook"}]
    with pytest.raises(UserError, match=message):
        train(tmp_path, steps=1, optimizer=settings, hooks=hooks)


def test_seeding_leaves_the_generators_as_they_were():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    drawn = []
    for _ in range(2):
        with seeded(5):
            drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert drawn[0] == drawn[1] != expected
    assert (random.random(), np.random.rand(), torch.rand(())) == expected
