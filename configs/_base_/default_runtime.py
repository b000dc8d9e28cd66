"""What every config adds to the runtime settings of its mmdet or mmseg base.

The base brings ``default_scope``, hooks, visualizer, log processor and ``env_cfg``
(cuDNN, start method, NCCL). mmengine refuses two bases that set the same key, so this
file only sets keys of its own; the bases beside it apply them.
"""

checkpointing = dict(type="mmrev.AtomicCheckpointHook", max_keep_ckpts=2)
# With batch_size=1, the bases' own, it changes nothing; see configs/README.md.
one_size = dict(batch_sampler=dict(type="mmrev.SameSizeBatchSampler"))
