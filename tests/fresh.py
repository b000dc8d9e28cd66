"""A run in this process, as if it were the process's first."""

from mmengine.utils import ManagerMixin


def forget_earlier_runs() -> None:
    """Give the next run loggers and visualizers of its own, as a process has."""
    managers = [ManagerMixin]
    for manager in managers:
        managers += manager.__subclasses__()
        getattr(manager, "_instance_dict", {}).clear()
