"""Phases of a step, and weights that are shared while they are measured."""

import torch
from torch import nn

from mmrev.measure.memory import peak_memory
from mmrev.measure.phases import phases, shared_weights

WIDTH, DEPTH, BATCH = 32, 4, 8


def network() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)))


def step_of(model, batch=BATCH):
    images = torch.ones(batch, WIDTH)
    return lambda: model(images).sum().backward()


def test_a_phase_for_every_call_and_gradient():
    model = network()
    found = phases(step_of(model), model)
    names = [phase.name for phase in found]
    assert names[:3] == ["", "before ", "before 0"]
    assert names.count("gradient") == 2 * DEPTH
    weights = 4 * DEPTH * (WIDTH + 1) * WIDTH
    assert [found[0].gradients, found[-1].gradients] == [0, weights]
    output = 4 * BATCH * WIDTH
    after = [phase.peak for phase in found if phase.name.startswith("after ")]
    assert after[:DEPTH] == [output * (layer + 1) for layer in range(DEPTH - 1)] + [
        after[DEPTH - 1]
    ]


def test_peaks_are_those_of_the_step_without_its_gradients():
    model = network()
    step = step_of(model, 512)  # what is computed outweighs the gradients
    found = phases(step, model)
    assert all(parameter.grad is None for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    assert max(phase.peak for phase in found) == peak_memory(step)


def test_hooks_are_gone_afterwards():
    model = network()
    phases(step_of(model), model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_alike_parameters_share_memory_and_no_gradient():
    with shared_weights():
        model = network()
        tied = nn.Linear(WIDTH, WIDTH)
        tied.weight = model[0].weight
    assert len({parameter.data_ptr() for parameter in model.parameters()}) == 2
    assert len(list(model.parameters())) == 2 * DEPTH
    assert tied.weight is model[0].weight
    step_of(model)()
    gradients = [layer.weight.grad for layer in model]
    assert len({gradient.data_ptr() for gradient in gradients}) == DEPTH
    assert len({p.data_ptr() for p in network().parameters()}) == 2 * DEPTH


def test_only_the_first_of_alike_parameters_is_drawn():
    with shared_weights():
        model = network()
        drawn = model[0].weight.detach().clone()
        nn.init.trunc_normal_(model[1].weight)
        assert torch.equal(model[1].weight, drawn)
        nn.init.trunc_normal_(model[0].weight)
        assert not torch.equal(model[1].weight, drawn)
        assert not model[1].weight.requires_grad_(False).requires_grad
