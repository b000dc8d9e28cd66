"""Every config: short, built at full size, fed with its data, and trained one step."""

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import data_layouts
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    EVALUATOR,
    HOOKS,
    LOOPS,
    MODELS,
    PARAM_SCHEDULERS,
    VISUALIZERS,
)
from mmengine.runner import Runner
from resolved import CONFIGS, resolve, use_scope
from shrink import inner_model, on_meta, shrink

from mmrev.leaderboard.tracks import FROZEN
from mmrev.models.stitching import StitchedBackbone
from mmrev.runs.check import check_heads, check_queries
from mmrev.wrappers import plain_settings

ROOT = Path(__file__).parents[1]
LEAVES = sorted(p for p in CONFIGS.glob("*/*.py") if p.parent.name != "_base_")
STANDARD = [p for p in LEAVES if p.parent.name != "demo"]  # demo makes its own data
FAMILIES = sorted({p.parent for p in STANDARD})
METAFILES = {family: family / "metafile.yml" for family in FAMILIES}
MODELS_LISTED = [
    model
    for metafile in METAFILES.values()
    for model in yaml.safe_load(metafile.read_text())["Models"]
]
PARAMETERS = {
    ROOT / model["Config"]: model["Metadata"]["Parameters"] for model in MODELS_LISTED
}
RUNNER_KEYS = {
    "auto_scale_lr",
    "custom_hooks",
    "custom_imports",
    "data_preprocessor",
    "default_hooks",
    "default_scope",
    "env_cfg",
    "expected_results",
    "launcher",
    "load_from",
    "log_level",
    "log_processor",
    "model",
    "optim_wrapper",
    "param_scheduler",
    "randomness",
    "resume",
    "sync_bn",
    "test_cfg",
    "test_dataloader",
    "test_evaluator",
    "track",
    "train_cfg",
    "train_dataloader",
    "tta_model",
    "tta_pipeline",
    "val_cfg",
    "val_dataloader",
    "val_evaluator",
    "vis_backends",
    "visualizer",
    "work_dir",
}


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def pair_of(path: Path) -> tuple[str, ...]:
    """Family, or that in reverse, and head: one training step per pair is run."""
    model = resolve(path).model
    inner = inner_model(model)
    head = inner.get("decode_head", {}).get("type", "")
    reverse = inner.backbone.get("memory") == "reverse"
    frozen = inner.backbone.type == FROZEN
    family = path.parent.name + " in reverse" * reverse + " frozen" * frozen
    return family, model.type, inner.type, head


def one_per_pair(paths: list[Path]) -> list[Path]:
    return list({pair_of(path): path for path in reversed(paths)}.values())


def one_per_head(paths: list[Path]) -> list:
    """Of the pairs one for each head, and slowly the others: no backbone matters."""
    pairs = one_per_pair(paths)
    chosen = {pair_of(path)[1:]: path for path in reversed(pairs)}.values()
    others = [pytest.param(p, marks=pytest.mark.slow) for p in pairs if p not in chosen]
    return [*chosen, *others]


def with_every_kind_of_anchors(paths: list[Path]) -> list:
    """One per pair, and slowly one for each further set of a stitched backbone."""
    chosen = one_per_pair(paths)
    sets = {}
    for path in paths:
        anchors = inner_model(resolve(path).model).backbone.get("anchors", [])
        sets.setdefault(tuple(anchor.type for anchor in anchors), path)
    others = [path for path in sets.values() if path not in chosen]
    return [*chosen, *(pytest.param(path, marks=pytest.mark.slow) for path in others)]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    data_layouts.make_all(root)
    return root


@pytest.fixture(scope="module")
def read_loaders() -> set[str]:
    return set()


@pytest.fixture(autouse=True)
def in_data_root(data_root, monkeypatch):
    """The configs read data/ below the working directory, as a user's run does."""
    monkeypatch.chdir(data_root)


def build_model(cfg: Config) -> torch.nn.Module:
    """As mmengine's Runner: the data preprocessor may stand beside the model."""
    if "data_preprocessor" in cfg:
        cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
    return MODELS.build(cfg.model)


def of_splits(cfg: Config, part: str) -> list:
    """A part of the splits that there are: pretraining is neither validated nor tested.

    Args:
        cfg: of a leaf.
        part: 'dataloader' or 'evaluator'.
    """
    found = [cfg.get(f"{split}_{part}") for split in ("train", "val", "test")]
    return [one for one in found if one is not None]


def without_amp(optim_wrapper: dict) -> dict:
    """mmengine's AmpOptimWrapper refuses to be built without a GPU."""
    if torch.cuda.is_available() or optim_wrapper.get("type") != "AmpOptimWrapper":
        return optim_wrapper
    kept = {k: v for k, v in optim_wrapper.items() if k not in ("loss_scale", "dtype")}
    return {**kept, "type": "OptimWrapper"}


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaf_is_short_and_says_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 25
    docstring = ast.get_docstring(ast.parse(text))
    assert f"configs/{name_of(path)}.py" in docstring
    assert "Hardware:" in docstring
    assert "Expected:" in docstring


def test_every_name_in_a_config_is_used():
    """A misspelt top-level key merges silently; it is then read by nobody."""
    stored, read = {}, set()
    for path in sorted(CONFIGS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.add(node.id)
            elif isinstance(node, ast.Attribute):
                read.add(node.attr)  # _base_.name
        for statement in ast.parse(path.read_text()).body:
            for target in getattr(statement, "targets", []):
                for node in ast.walk(target):
                    if isinstance(node, ast.Name) and node.id != "_base_":
                        stored[node.id] = path
    unused = {k: str(v) for k, v in stored.items() if k not in read | RUNNER_KEYS}
    assert not unused


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_builds_at_full_size(path, tmp_path):
    """Model, its classes, optimizer, loop, schedules and hooks, of real settings."""
    cfg = resolve(path)
    use_scope(cfg.default_scope)
    with on_meta():
        model = build_model(cfg)
    check_queries(model)
    if cfg.default_scope != "mmpretrain":  # whose labels are numbers of folders
        for _, settings in plain_settings(cfg.train_dataloader.dataset, "dataset"):
            with DATASETS.switch_scope_and_registry(None) as registry:
                kind = registry.get(settings.type)
            metainfo = kind._load_metainfo(settings.get("metainfo"))
            check_heads(model, SimpleNamespace(metainfo=metainfo), "train")
    if path in PARAMETERS:
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[path]

    optimizer = build_optim_wrapper(model, without_amp(cfg.optim_wrapper)).optimizer
    decay = {
        id(p): group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    names = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {id(p) for p in names.values()} <= decay.keys()
    assert all(decay[id(p)] == 0 for n, p in names.items() if ".gains." in n)

    if clip_grad := cfg.optim_wrapper.get("clip_grad"):
        inspect.signature(torch.nn.utils.clip_grad_norm_).bind([], **clip_grad)
    loop = dict(cfg.train_cfg)
    loop.pop("_scope_", None)
    by_epoch = loop.pop("by_epoch", False)  # mmpretrain's short form
    name = loop.pop("type", "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop")
    inspect.signature(LOOPS.get(name)).bind(None, None, **loop)
    schedulers = cfg.param_scheduler  # one, or a list
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        scheduler.pop("convert_to_iter_based", None)  # wants the epoch's length
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))
    visualizer = dict(cfg.visualizer, name=path.stem, save_dir=str(tmp_path))
    VISUALIZERS.build(visualizer)  # hooks take the newest one
    for hook in [*cfg.default_hooks.values(), *cfg.get("custom_hooks", [])]:
        HOOKS.build(hook)


@pytest.mark.parametrize("path", STANDARD, ids=name_of)
def test_batch_size_is_that_of_the_name(path):
    gpus, images = map(int, re.search(r"_(\d+)xb(\d+)", path.name).groups())
    cfg = resolve(path)
    assert cfg.train_dataloader.batch_size == images
    assert cfg.auto_scale_lr.base_batch_size == gpus * images


@pytest.mark.parametrize("path", STANDARD, ids=name_of)
def test_reads_the_standard_layout(path, read_loaders):
    """Loaders over generated data in the standard folders, real pipelines."""
    cfg = resolve(path)
    use_scope(cfg.default_scope)
    for loader in of_splits(cfg, "dataloader"):
        if repr(loader) in read_loaders:
            continue  # most configs of a task share it to the letter
        dataset = Runner.build_dataloader(loader).dataset
        assert 3 <= len(dataset) <= 4
        assert torch.is_tensor(dataset[0]["inputs"])
        read_loaders.add(repr(loader))
    for evaluator in of_splits(cfg, "evaluator"):
        EVALUATOR.build(dict(type="Evaluator", metrics=evaluator))


@pytest.mark.parametrize("path", one_per_head(STANDARD), ids=name_of)
def test_batch_of_the_real_pipeline(path):
    """One full-size batch through loader and data preprocessor."""
    cfg = resolve(path)
    use_scope(cfg.default_scope)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    small = shrink(cfg)
    full = inner_model(cfg.model)
    if "data_preprocessor" in full:  # else it stands beside the model, not shrunk
        inner_model(small.model).data_preprocessor = full.data_preprocessor
    batch = build_model(small).data_preprocessor(batch, training=True)
    assert batch["inputs"].shape[:2] == (2, 3)
    assert batch["inputs"].dtype == torch.float32
    assert batch["inputs"].abs().max() < 4  # normalised
    assert len(batch["data_samples"]) == 2


def choose_a_stitch(model: torch.nn.Module) -> set[str]:
    """Take a route that crosses, if stitched; the parameters that it leaves out."""
    for prefix, module in model.named_modules():
        if not isinstance(module, StitchedBackbone):
            continue
        module.set_stitch(len(module.routes) - 1)
        assert module.routes[module.stitch].crossings
        used = {id(p) for p in module.parameters_of(module.stitch)}
        if module.pyramid is not None:  # it makes every level, whoever reads it
            for index in set(range(4)) - set(module.out_indices):
                used -= {id(p) for p in module.pyramid.levels[index].parameters()}
        return {
            f"{prefix}.{n}" for n, p in module.named_parameters() if id(p) not in used
        }
    return set()


@pytest.mark.parametrize("path", with_every_kind_of_anchors(STANDARD), ids=name_of)
def test_trains_a_step_and_predicts(path):
    torch.manual_seed(0)
    cfg = shrink(resolve(path))
    use_scope(cfg.default_scope)
    cfg.train_dataloader.batch_size = 2
    model = build_model(cfg)
    model.init_weights()
    for parameter in model.parameters():
        if not parameter.any():  # a branch that starts at 0 gives no gradient
            torch.nn.init.normal_(parameter, std=0.02)
    model.train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    unused = choose_a_stitch(model)

    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    with optim_wrapper.optim_context(model):
        losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    loss, _ = model.parse_losses(losses)
    assert torch.isfinite(loss)
    loss.backward()
    backbone = {n: p for n, p in model.named_parameters() if "backbone." in n}
    missing = {
        name
        for name, p in backbone.items()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    }
    assert missing == {n for n in unused if backbone[n].requires_grad}
    before = {name: p.detach().clone() for name, p in backbone.items()}
    optim_wrapper.step()
    moved = any(not torch.equal(before[n], p) for n, p in backbone.items())
    assert moved == (inner_model(cfg.model).backbone.type != FROZEN)

    if "val_dataloader" not in cfg:
        return
    model.eval()
    batch = next(iter(Runner.build_dataloader(cfg.val_dataloader)))
    with torch.no_grad():
        predictions = model.val_step(batch)
    assert len(predictions) == len(batch["inputs"])
    found = set(predictions[0].keys())
    assert found & {"pred_instances", "pred_sem_seg", "pred_score"}


@pytest.mark.parametrize("path", one_per_head(STANDARD), ids=name_of)
def test_augmented_test(path):
    """DINO and every segmentor; mmdet merges no masks, and classifiers have none."""
    cfg = shrink(resolve(path))
    expected = "dino" in path.name or "ade20k" in path.name
    assert ("tta_model" in cfg) == expected
    if not expected:
        return
    use_scope(cfg.default_scope)
    for resize in cfg.tta_pipeline[-1].transforms[0]:
        if "scale" in resize:
            resize.scale = (96, 64)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    model = build_model(
        Config(
            dict(
                model=dict(cfg.tta_model, module=cfg.model),
                default_scope=cfg.default_scope,
            )
        )
    ).eval()
    batch = next(iter(Runner.build_dataloader(cfg.test_dataloader)))
    with torch.no_grad():
        merged = model.test_step(batch)
    assert len(merged) == cfg.test_dataloader.batch_size
    assert set(merged[0].keys()) & {"pred_instances", "pred_sem_seg"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_metafile_lists_every_leaf(family):
    metafile = yaml.safe_load(METAFILES[family].read_text())
    listed = [model["Config"] for model in metafile["Models"]]
    leaves = [f"configs/{name_of(p)}.py" for p in STANDARD if p.parent == family]
    assert sorted(listed) == sorted(leaves)
    collections = {collection["Name"] for collection in metafile["Collections"]}
    for model in metafile["Models"]:
        assert model["Name"] == Path(model["Config"]).stem
        assert model["In Collection"] in collections
    assert (ROOT / metafile["Collections"][0]["README"]).is_file()


def test_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    expected = [path.relative_to(ROOT).as_posix() for path in METAFILES.values()]
    assert sorted(index["Import"]) == sorted(expected)


@pytest.mark.parametrize("model", MODELS_LISTED, ids=lambda model: model["Name"])
def test_results_are_labelled_and_in_the_docstring(model):
    docstring = ast.get_docstring(ast.parse((ROOT / model["Config"]).read_text()))
    expected = docstring.partition("Expected:")[2]
    if not model.get("Results"):
        assert expected.split("\n")[0].strip(" .") == "not run"
    for result in model.get("Results", []):
        assert result["Status"] == "published"
        assert "published" in expected
        for value in result["Metrics"].values():
            assert re.search(rf"\b{re.escape(str(value))}\b", expected)
