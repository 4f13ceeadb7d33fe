"""torch's own OptimizerInfo machinery drives our rules through torch's own kinds of checks."""

# ruff: noqa: PT009, PT027 (torch's TestCase compares nested tensors, and pytest's assert does not)

import copy
import inspect

import pytest
import torch
from torch.nn import Parameter

pytest.importorskip("expecttest", reason="torch's test helpers need expecttest")

from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import (
    OptimizerInfo,
    OptimizerInput,
    _get_optim_inputs_including_global_cliquey_kwargs,
    get_error_inputs_for_all_optims,
    optims,
)
from torch.testing._internal.common_utils import TestCase

from dlnotes.optim import OPTIMIZERS

if "supports_fused_on" not in inspect.signature(OptimizerInfo).parameters:
    pytest.skip("this torch's OptimizerInfo is an older one", allow_module_level=True)

# What each rule is tried with beside the options that all of them share.
OWN = {
    "gradient-descent": [],
    "momentum": [{"beta": 0.5}],
    "nesterov": [{"beta": 0.5}],
    "rmsprop": [{"beta": 0.99}, {"eps": 1e-3}],
    "adagrad": [{"eps": 1e-3}],
    "adadelta": [{"rho": 0.8}],
    "adam": [{"betas": (0.8, 0.99)}, {"eps": 1e-3}],
    "adamw": [{"betas": (0.8, 0.99)}, {"eps": 1e-3}],
    "amsgrad": [{"betas": (0.8, 0.99)}, {"eps": 1e-3}],
    "nadam": [{"betas": (0.8, 0.99)}, {"eps": 1e-3}, {"momentum_decay": 0.1}],
    "radam": [{"betas": (0.8, 0.99)}, {"eps": 1e-3}],
    "adamax": [{"betas": (0.8, 0.99)}, {"eps": 1e-3}],
    "lion": [{"betas": (0.8, 0.9)}],
}


def inputs(name):
    shared = [
        {},
        {"lr": 0.01},
        {"lr": torch.tensor(0.01)},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
    ]

    def listed(device, dtype=None):
        return [OptimizerInput(params=None, kwargs=k, desc=str(k)) for k in (*shared, *OWN[name])]

    return listed


INFOS = [
    OptimizerInfo(
        rule,
        optim_inputs_func=inputs(name),
        supported_impls=("differentiable", "fused"),
        supports_fused_on=("cpu",),
        supports_sparse=True,
    )
    for name, rule in OPTIMIZERS.items()
]


def configurations(device, dtype, info, skip=()):
    for config in _get_optim_inputs_including_global_cliquey_kwargs(device, dtype, info, skip):
        yield config.desc, config.kwargs


class TestOptimizers(TestCase):
    def problem(self, device, dtype):
        torch.manual_seed(0)
        weight = Parameter(torch.randn(6, 4, device=device, dtype=dtype))
        bias = Parameter(torch.randn(6, device=device, dtype=dtype))
        x = torch.randn(4, device=device, dtype=dtype)
        return [weight, bias], lambda: (weight.mv(x) + bias).pow(2).sum()

    def run_steps(self, optimizer, closure, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            closure().backward()
            optimizer.step()

    @optims(INFOS)
    def test_goes_the_right_way(self, device, dtype, optim_info):
        for desc, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            params, closure = self.problem(device, dtype)
            optimizer = optim_info.optim_cls(params, **kwargs)
            first = closure().item()
            self.run_steps(optimizer, closure, 20)
            if kwargs.get("maximize"):
                self.assertGreater(closure().item(), first, desc)
            else:
                self.assertLess(closure().item(), first, desc)

    @optims(INFOS)
    def test_goes_the_right_way_with_schedulers(self, device, dtype, optim_info):
        for schedulers in optim_info.scheduler_inputs:
            params, closure = self.problem(device, dtype)
            optimizer = optim_info.optim_cls(params, lr=0.01)
            schedulers = [make(optimizer) for make in schedulers]
            first = closure().item()
            for _ in range(20):
                self.run_steps(optimizer, closure, 1)
                for scheduler in schedulers:
                    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                        scheduler.step(closure().detach())
                    else:
                        scheduler.step()
            self.assertLess(closure().item(), first)

    @optims(INFOS, dtypes=[torch.float64])
    def test_implementations_agree(self, device, dtype, optim_info):
        for config in optim_info.optim_inputs_func(device):
            results = []
            for fused in (True, False, None):
                params, closure = self.problem(device, dtype)
                optimizer = optim_info.optim_cls(params, **config.kwargs, fused=fused)
                self.run_steps(optimizer, closure, 7)
                results.append((params, optimizer.state_dict()["state"]))
            self.assertEqual(results[0], results[1], rtol=1e-12, atol=1e-14)
            self.assertEqual(results[0], results[2], rtol=0, atol=0)

    @optims(INFOS, dtypes=[torch.complex64])
    def test_complex_2d(self, device, dtype, optim_info):
        for desc, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            if kwargs["fused"]:
                continue  # the kernel takes real tensors; None and False take complex ones
            torch.manual_seed(1)
            z = Parameter(torch.randn(10, 5, device=device, dtype=dtype))
            xy = Parameter(torch.view_as_real(z.detach()).clone())
            a = optim_info.optim_cls([z], **copy.deepcopy(kwargs))
            b = optim_info.optim_cls([xy], **copy.deepcopy(kwargs))
            for _ in range(3):
                a.zero_grad()
                b.zero_grad()
                z.abs().pow(2).sum().backward()
                torch.view_as_complex(xy).abs().pow(2).sum().backward()
                self.assertEqual(torch.view_as_real(z.grad), xy.grad)
                a.step()
                b.step()
                self.assertEqual(torch.view_as_real(z), xy, msg=desc)

    @optims(INFOS)
    def test_step_is_noop_when_params_have_no_grad(self, device, dtype, optim_info):
        for _, kwargs in configurations(device, dtype, optim_info):
            params, _ = self.problem(device, dtype)
            before = copy.deepcopy(params)
            optimizer = optim_info.optim_cls(params, **kwargs)
            optimizer.step()
            self.assertEqual(params, before, rtol=0, atol=0)

    @optims(INFOS)
    def test_step_is_noop_for_zero_grads(self, device, dtype, optim_info):
        for _, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            if kwargs.get("weight_decay") or optim_info.name == "AdamW":
                continue
            params, _ = self.problem(device, dtype)
            before = copy.deepcopy(params)
            optimizer = optim_info.optim_cls(params, **kwargs)
            for p in params:
                p.grad = torch.zeros_like(p)
            optimizer.step()
            self.assertEqual(params, before, rtol=0, atol=0)

    @optims(INFOS)
    def test_state_dict_deterministic(self, device, dtype, optim_info):
        for _, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            params, closure = self.problem(device, dtype)
            optimizer = optim_info.optim_cls(params, **copy.deepcopy(kwargs))
            self.run_steps(optimizer, closure, 3)
            saved = copy.deepcopy(optimizer.state_dict())
            frozen = [p.detach().clone() for p in params]
            again, closure_again = self.problem(device, dtype)
            with torch.no_grad():
                for p, q in zip(again, frozen, strict=True):
                    p.copy_(q)
            other = optim_info.optim_cls(again, **copy.deepcopy(kwargs))
            other.load_state_dict(saved)
            self.run_steps(optimizer, closure, 3)
            self.run_steps(other, closure_again, 3)
            self.assertEqual(again, params, rtol=0, atol=0)
            self.assertEqual(other.state_dict(), optimizer.state_dict(), rtol=0, atol=0)

    @optims(INFOS)
    def test_can_load_older_state_dict(self, device, dtype, optim_info):
        for _, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            params, closure = self.problem(device, dtype)
            optimizer = optim_info.optim_cls(params, **kwargs)
            self.run_steps(optimizer, closure, 3)
            saved = copy.deepcopy(optimizer.state_dict())
            for flag in ("fused", "differentiable", "maximize"):
                for group in saved["param_groups"]:
                    group.pop(flag)
            optimizer.load_state_dict(saved)
            self.run_steps(optimizer, closure, 1)
            self.assertEqual(
                {k: optimizer.param_groups[0][k] for k in ("fused", "differentiable", "maximize")},
                {k: optimizer.defaults[k] for k in ("fused", "differentiable", "maximize")},
            )

    @optims(INFOS)
    def test_deepcopy_copies_all_public_attrs(self, device, dtype, optim_info):
        for _, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            params, closure = self.problem(device, dtype)
            optimizer = optim_info.optim_cls(params, **kwargs)
            self.run_steps(optimizer, closure, 2)
            copied = copy.deepcopy(optimizer)

            def public(o):
                return {k for k in o.__dict__ if not k.startswith("_")}

            self.assertEqual(public(copied), public(optimizer))
            self.assertEqual(copied.state_dict(), optimizer.state_dict())

    @optims(INFOS)
    def test_grads_are_never_inplaced_into(self, device, dtype, optim_info):
        for _, kwargs in configurations(device, dtype, optim_info, skip=("differentiable",)):
            params, closure = self.problem(device, dtype)
            optimizer = optim_info.optim_cls(params, **kwargs)
            closure().backward()
            saved = [p.grad.clone() for p in params]
            optimizer.step()
            self.assertEqual([p.grad for p in params], saved, rtol=0, atol=0)

    @optims(INFOS)
    def test_errors(self, device, dtype, optim_info):
        ours = {
            "a param group cannot have duplicate parameters": (ValueError, "parameter twice"),
            "Tensor lr must be 1-element": (ValueError, "lr must be"),
        }
        checked = 0
        for error in get_error_inputs_for_all_optims(device, dtype):
            given = error.optimizer_error_input
            raised, message = ours.get(given.desc, (error.error_type, error.error_regex))
            params = given.params or [Parameter(torch.ones(1))]
            with self.assertRaisesRegex(raised, message):
                optim_info.optim_cls(params, **given.kwargs)
            checked += 1
        self.assertGreaterEqual(checked, 3)


instantiate_device_type_tests(TestOptimizers, globals(), only_for="cpu")
