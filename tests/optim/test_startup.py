"""What the first optimizer of a process costs."""

import functools
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dlnotes.optim import Adam, Muon, _rule


def test_no_optimizer_loads_torchs_compiler():
    program = """
import sys
import torch
from dlnotes.optim import Adam
p = torch.nn.Parameter(torch.zeros(3))
optimizer = Adam([p])
p.grad = torch.ones(3)
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
print("torch._dynamo" in sys.modules, p.grad)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False None\n"), done.stderr


@pytest.fixture
def loaded(request, monkeypatch):
    """What the rules see of `sys.modules`: whether torch's compiler is loaded.

    The module itself stays where it is: torch 2.3 cannot import it a second time.
    """
    modules = {"torch._dynamo": torch} if request.param else {}
    monkeypatch.setattr(_rule, "sys", SimpleNamespace(modules=modules))


@pytest.mark.parametrize("loaded", [True, False], indirect=True)
@pytest.mark.usefixtures("loaded")
def test_the_methods_are_torchs_with_the_compiler_or_without():
    p, q = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = Muon([p])
    optimizer.register_state_dict_post_hook(lambda _, state: state.update(seen=True))
    optimizer.add_param_group({"params": [q], "lr": 0.5})
    assert [group["lr"] for group in optimizer.param_groups] == [optimizer.defaults["lr"], 0.5]
    assert optimizer.state_dict()["seen"]
    p.grad = torch.ones(2, 2)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [[0, 0], [0, 0]]
    optimizer.zero_grad()
    assert p.grad is None


def test_a_method_of_a_class_between_is_called():
    class Counting(torch.optim.Optimizer):
        calls = 0

        def zero_grad(self, set_to_none=True):
            self.calls += 1
            super().zero_grad(set_to_none)

    class Both(Adam, Counting):
        pass

    optimizer = Both([torch.nn.Parameter(torch.ones(1))])
    optimizer.zero_grad()
    assert optimizer.calls == 1


@pytest.mark.parametrize("loaded", [False], indirect=True)
@pytest.mark.usefixtures("loaded")
def test_a_decorated_method_of_a_class_between_keeps_its_decorator():
    calls = []

    def noted(method):
        @functools.wraps(method)
        def wrapper(*args, **kwargs):
            calls.append(method.__name__)
            return method(*args, **kwargs)

        return wrapper

    class Noted(torch.optim.Optimizer):
        zero_grad = noted(torch.optim.Optimizer.zero_grad)

    class Both(Adam, Noted):
        pass

    Both([torch.nn.Parameter(torch.ones(1))]).zero_grad()
    assert calls == ["zero_grad"]
