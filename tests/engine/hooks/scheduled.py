"""A training of few steps, for hooks that follow a schedule."""

import warnings

import torch
from mmengine.runner import Runner

LENGTH = 4  # iterations an epoch


class Ones(torch.utils.data.Dataset):
    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        return {"inputs": torch.ones(2)}


def train(work_dir, model, hook, *, epochs=None, iters=None, hooks=(), **settings):
    """The runner, after the training; a checkpoint an epoch, or every LENGTH steps."""
    data = torch.utils.data.DataLoader(Ones())
    default_hooks = {
        "checkpoint": {
            "type": "CheckpointHook",
            "interval": 1 if epochs else LENGTH,
            "by_epoch": bool(epochs),
        },
        **settings.pop("default_hooks", {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = Runner(
            model=model,
            work_dir=str(work_dir),
            train_dataloader=data,
            train_cfg={"by_epoch": True, "max_epochs": epochs}
            if epochs
            else {"by_epoch": False, "max_iters": iters},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
            custom_hooks=[hook, *hooks],
            default_hooks=default_hooks,
            default_scope="mmengine",
            experiment_name=f"scheduled-{work_dir.name}-{id(model)}",
            **settings,
        )
        runner.train()
    return runner
