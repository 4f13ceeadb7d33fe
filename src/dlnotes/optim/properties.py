"""The properties that every rule must have, and a function that tests a rule for them."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils._python_dispatch import TorchDispatchMode

from dlnotes.errors import UserError
from dlnotes.kernel import run_in_thread
from dlnotes.optim import _kernel
from dlnotes.optim._arguments import OPTIONS
from dlnotes.optim._outside import found_outside, short
from dlnotes.optim._rule import UpdateRule, _number

STEPS = 4
DECAY = 0.1


class RuleError(UserError):
    """A rule lacks a property that ``UpdateRule`` relies on; the message names it."""


def check_rule(rule: type[UpdateRule], **hyper: Any) -> tuple[str, ...]:
    """Test a rule in every way in which an optimizer is used.

    =================  =======================================================================
    property           what is tested
    =================  =======================================================================
    arguments alone    ``rule`` reads and sets no number or container outside of its arguments
    accumulators       as many arguments and results as there are names, of the parameter's shape
                       and dtype; arguments with these names are in this order
    pure               the same arguments give the same results, and none of them is changed
    elementwise        a part of a tensor is updated as it is in the whole, whatever its shape
    finite             finite arguments give finite results, also a gradient of 0, a parameter of
                       0 and each of the first hundred steps
    maximize           ascent is descent of the negative gradient
    NaN                a NaN in the gradient shows in the parameter or in an accumulator, and
                       one in the parameter stays
    one is many        one optimizer for all parameters equals one per parameter
    C loop             the compiled step equals the plain one
    dtypes             float64 keeps all its digits, float32 agrees with it to its own precision;
                       float16 and bfloat16 are rounded once
    resume             a training that is saved and loaded continues bit for bit
    copies             so does a deep copy and, of a class that can be imported, a pickled one
    groups             a group of parameters uses its own learning rate, also one that a scheduler
                       sets later
    sparse rows        the rows of a sparse gradient change as in a dense one, the others do not
    differentiable     derivatives through a step equal central differences
    vmap               a batch of parameters, or of learning rates, gives what a loop gives
    weight decay       all of this with a weight decay
    =================  =======================================================================

    A rule that is not elementwise is tested on matrices; one that refuses them cannot be checked.
    *C loop* is left out where a rule does not compile; *groups* where it has no ``lr``;
    *elementwise* and *vmap* where it is not elementwise, and a sparse gradient then counts as a
    dense one. *weight decay* is for rules with their own ``decay``, if they are tested without one.

    What a rule reads outside is found in its bytecode and that of the functions that it calls:
    global and closed-over names, and attributes of modules and classes. The standard library, torch
    and NumPy are not searched. Of their functions, those of ``os``, ``time``, ``datetime`` and
    ``random`` count as reading something outside, and so do ``torch.get_…``,
    ``torch.is_…_enabled`` and ``torch.initial_seed``; others, such as ``sys.getrecursionlimit``,
    are not noticed. Of the built-in functions, ``globals``, ``eval``, ``exec``, ``open`` and
    ``input`` are refused.

    Args:
        rule: A subclass of ``UpdateRule``.
        hyper: Hyper-parameters to test it with; those without a default must be given.
            ``maximize``, ``differentiable`` and ``fused`` are tested in any case.

    Returns:
        The names of the properties that were tested; the rule has all of them.

    Raises:
        RuleError: The rule lacks one of them.
        UserError: It is not a rule, it cannot be made with these hyper-parameters, no gradient
            changes its parameter, or it is not elementwise and refuses matrices.
    """
    if not (isinstance(rule, type) and issubclass(rule, UpdateRule)) or rule is UpdateRule:
        raise UserError(f"rule must be a subclass of UpdateRule, got {short(rule)}")
    for name in OPTIONS:
        if name in hyper:
            raise UserError(f"{name} must be left out, as it is tried anyway, got {hyper[name]!r}")
    return run_in_thread(_check, rule, hyper)


def _check(rule: type[UpdateRule], hyper: dict[str, Any]) -> tuple[str, ...]:
    """``check_rule``, where no mode or default device of the caller is active."""
    try:
        optimizer = _made(rule, hyper)
    except Exception as error:  # a constructor may raise anything
        raise UserError(f"{rule.__name__} cannot be made with {hyper}: {_said(error)}") from None
    trial = _Trial(rule, hyper, optimizer)
    if trial.numbers.get("lr") == 0:
        raise UserError("lr must not be 0: a rule that moves nothing shows nothing, got lr=0")
    try:
        _made(rule, hyper, fused=None)
    except TypeError as error:
        raise UserError(
            f"{rule.__name__} must take maximize, differentiable and fused, too, and pass them to "
            f"UpdateRule.__init__: {_said(error)}"
        ) from None
    tried = []
    for name, holds in trial.properties():
        try:
            with torch.random.fork_rng(devices=[]):
                holds()
        except _Fails as reason:
            raise RuleError(f"{rule.__name__} fails {name!r}: {reason}") from None
        except UserError:
            raise
        except Exception as error:  # a rule may raise anything
            said = f"{type(error).__name__}: {_said(error)}"
            if not trial.elementwise and (shape := trial.refused_shape()):
                raise UserError(
                    f"{rule.__name__} cannot be checked: it is not elementwise, matrices are "
                    f"tried, and one of shape {shape} gives {said}"
                ) from error
            raise RuleError(f"{rule.__name__} fails {name!r}: {said}") from error
        tried.append(name)
    return tuple(tried)


def _made(rule: type[UpdateRule], hyper: dict[str, Any], **options: Any) -> UpdateRule:
    return rule([Parameter(torch.ones(3, 4, dtype=torch.float32))], **hyper, **options)


def _said(error: Exception) -> str:
    """The first line of a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Fails(Exception):  # noqa: N818 (it never leaves this file)
    """Why a property does not hold."""


class _Trial:
    """A rule, and the properties to try it for."""

    def __init__(
        self, rule: type[UpdateRule], hyper: dict[str, Any], optimizer: UpdateRule
    ) -> None:
        self.rule, self.hyper = rule, hyper
        group = optimizer.param_groups[0]
        self.numbers = {name: _number(group[name]) for name in rule.kernel_names()}
        self.elementwise = _kernel.is_elementwise(rule, self.numbers)
        self.shapes: list[tuple[int, ...]] = [
            (3, 4),
            (5, 2),
            (6, 6),
        ]  # a rule that is not elementwise may want matrices
        if self.elementwise:
            self.shapes += [(), (0,), (7,), (40, 30)]

    def properties(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """The names, and functions that raise where one does not hold."""
        yield "arguments alone", self.depends_on_its_arguments_alone
        yield "accumulators", self.declares_its_accumulators
        yield "pure", self.is_pure
        if self.elementwise:
            yield "elementwise", self.is_elementwise
        yield "finite", self.stays_finite
        yield "maximize", self.maximizes
        yield "NaN", self.shows_nan
        yield "one is many", self.one_is_many
        if isinstance(_kernel.build(self.rule, torch.float32, False, self.numbers), _kernel.Kernel):
            yield "C loop", self.compiled_is_plain
        yield "dtypes", self.takes_every_dtype
        yield "resume", self.resumes
        yield "copies", self.copies_go_on
        if isinstance(self.numbers.get("lr"), (int, float)):
            yield "groups", self.moves_by_groups
        yield "sparse rows", self.takes_sparse_gradients
        yield "differentiable", self.is_differentiable
        if self.elementwise:
            yield "vmap", self.maps
        decays = self.rule.decay is not UpdateRule.decay and self.numbers["weight_decay"] == 0
        if decays and "weight_decay" in self.rule._keyword_names():
            yield "weight decay", self.decays

    # What is tried --------------------------------------------------------------------------------

    def depends_on_its_arguments_alone(self) -> None:
        functions: list[Any] = [self.rule.rule, self.rule.decay]
        if cast("Any", self.rule.update).__func__ is not cast("Any", UpdateRule.update).__func__:
            functions.append(self.rule.update)
        for function in functions:
            for complaint in found_outside(function, ("theta", "g", *self.rule.accumulators)):
                raise _Fails(complaint)

    def declares_its_accumulators(self) -> None:
        names = ("theta", *self.rule.accumulators)
        expected = ["theta", "g", *names[1:]]
        parameters = inspect.signature(self.rule.rule).parameters.values()
        takes = [
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        anything = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if len(takes) != 1 + len(names) and not anything:
            hint = "; is it a @staticmethod?" if takes[:1] == ["self"] else ""
            if len(takes) > 1 + len(names) and not hint:
                hint = f"; write * before {takes[1 + len(names)]} if it is a hyper-parameter"
            raise _Fails(
                f"rule takes {', '.join(takes) or 'nothing'}, and must take "
                f"{', '.join(expected)}{hint}"
            )
        if any(x in expected and x != y for x, y in zip(takes, expected, strict=False)):
            raise _Fails(
                f"rule takes {', '.join(takes)}, and must take {', '.join(expected)}, in this order"
            )
        theta, g = (self.gradient((6, 4), torch.float64, seed) for seed in (0, 1))
        results = self.update(
            theta.clone(), g, *(torch.zeros_like(theta) for _ in self.rule.accumulators)
        )
        if isinstance(cast("Any", results[0]), list):
            raise _Fails(f"rule returns a list, and must return a tuple: {', '.join(names)}")
        if len(results) != len(names):
            raise _Fails(
                f"rule returns {len(results)} tensors, and must return {len(names)}: "
                f"{', '.join(names)}"
            )
        for name, x in zip(names, results, strict=True):
            if not isinstance(x, Tensor) or x.shape != (6, 4):
                got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise _Fails(f"the new {name} of a parameter of shape (6, 4) is {got}")
            if x.dtype != torch.float64:
                raise _Fails(f"the new {name} of a parameter in torch.float64 is {x.dtype}")
        if not self.moves():
            given = "".join(f" with {k}={short(x)}" for k, x in self.numbers.items() if k == "lr")
            raise UserError(
                f"{self.rule.__name__} moves no element of the parameter{given}, with gradients "
                f"from 1 to {10 ** (STEPS - 1)}: a rule that moves nothing shows nothing"
            )

    def moves(self) -> bool:
        """Whether one of several steps, with larger and larger gradients, changes the parameter."""
        theta, *carried = self.carried((6, 4), torch.float64, 0)
        for i in range(STEPS):
            g = 10**i * self.gradient((6, 4), torch.float64, i)
            new, *carried = self.update(theta.clone(), g, *carried, t=i + 1.0)
            if not _same(new, theta):
                return True
        return False

    def refused_shape(self) -> tuple[int, ...] | None:
        """A shape of a parameter that a step raises at, of those that are tried."""
        for shape in ((6, 4), (2, 3), *self.shapes):
            try:
                self.update(*self.arguments(shape, torch.float64))
            except Exception:  # a rule may raise anything
                return shape
        return None

    def is_pure(self) -> None:
        hyper = repr(self.numbers)
        names = ("theta", "g", *self.rule.accumulators)
        for t in (1.0, 3.0):
            arguments = self.arguments((6, 4), torch.float64)
            before = [(x.clone(), x._version) for x in arguments]
            first, second = self.update(*arguments, t=t), self.update(*arguments, t=t)
            for name, x, (old, version) in zip(names, arguments, before, strict=True):
                if not _same(x, old) or x._version != version:
                    raise _Fails(
                        f"rule changes its argument {name} in place; it must return new ones"
                    )
            third = self.update(*(x.clone() for x in arguments), t=t)
            for again in (second, third):
                _equal(again, first, "two calls with the same arguments give different results")
        if repr(self.numbers) != hyper:
            raise _Fails("rule changes a hyper-parameter, and must leave it as it is")

    def stays_finite(self) -> None:
        names = ("theta", *self.rule.accumulators)
        last = 100 if "t" in self.rule.hyper_names() else STEPS
        for dtype in (torch.float64, torch.float32):
            theta, *carried = self.carried((6, 4), dtype, 0)
            for t in range(1, last + 1):
                g = self.gradient((6, 4), dtype, t)
                cases = (
                    ("a gradient", theta, g),
                    ("a gradient of 0", theta, g * 0),
                    ("a parameter of 0", theta * 0, g),
                    ("a parameter of 0 with a gradient of 0", theta * 0, g * 0),
                )
                after = []
                for what, start, gradient in cases:
                    results = self.update(start, gradient, *carried, t=float(t))
                    after.append(results[1:])
                    for name, x in zip(names, results, strict=True):
                        if not x.isfinite().all():
                            raise _Fails(
                                f"in {dtype} {what} gives NaN or infinity in {name} at step {t}; "
                                "is there a division by 0, or a number too large?"
                            )
                carried = list(after[0])

    def maximizes(self) -> None:
        theta, g, *accumulators = self.arguments((6, 4), torch.float64)
        up = self.update(theta, g, *accumulators, maximize=True)
        _equal(up, self.update(theta, -g, *accumulators), "ascent is not descent of −g")

    def shows_nan(self) -> None:
        theta, g, *accumulators = self.arguments((6, 4), torch.float64)
        broken = g.clone()
        broken[2, 1] = torch.nan
        results = self.update(theta, broken, *accumulators)
        if not any(x[2, 1].isnan() for x in results):
            raise _Fails("a NaN in the gradient leaves no trace")
        broken = theta.clone()
        broken[2, 1] = torch.nan
        if not self.update(broken, g, *accumulators)[0][2, 1].isnan():
            raise _Fails("a NaN in the parameter becomes a number")

    def is_elementwise(self) -> None:
        said = "a part of a tensor is not updated as in the whole; set elementwise = False"
        try:
            self.update(*self.arguments((0,), torch.float64))
        except Exception as error:  # a rule may raise anything
            raise _Fails(
                f"a tensor without elements gives {type(error).__name__}: {_said(error)}; where "
                "an element depends on others, set elementwise = False"
            ) from None
        for shape in ((24,), (6, 4), (150, 3), (2, 3, 4), (70_000,)):
            arguments = self.arguments(shape, torch.float64)
            whole = self.update(*arguments)
            for part in _parts(shape):
                pieces, expected = ([part(x) for x in xs] for xs in (arguments, whole))
                _close(self.update(*pieces), expected, 1e-12, said)

    def one_is_many(self) -> None:
        together, apart = self.parameters(), self.parameters()
        self.train(together, [self.made(together)])
        self.train(apart, [self.made([p]) for p in apart])
        _close(together, apart, 1e-5, "parameters of one optimizer move differently from one each")

    def compiled_is_plain(self) -> None:
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            ours, plain = self.parameters(dtype), self.parameters(dtype)
            self.train(ours, [self.made(ours)])
            self.train(plain, [self.made(plain, fused=False)])
            digits = 16 * torch.finfo(dtype).eps
            _close(ours, plain, digits, f"in {dtype} the compiled step is not the plain one")

    def takes_every_dtype(self) -> None:
        arguments = self.arguments((6, 4), torch.float64)
        with _Narrowing() as narrowing:
            results = self.update(*arguments)
        if narrowing.found is not None:
            raise _Fails(f"in torch.float64 a tensor is rounded to {narrowing.found}")
        for dtype in (torch.float32, torch.float64):
            with _default_dtype(dtype):
                again = self.update(*arguments)
            _equal(
                again,
                results,
                "in torch.float64 the results depend on torch's default dtype; numbers are exact, "
                "and a tensor like torch.tensor(0.1) needs dtype=theta.dtype",
            )
        wide, single = self.parameters(torch.float64), self.parameters(torch.float32)
        for params in (wide, single):
            self.train(params, [self.made(params, fused=False)], steps=1)
        _close(single, wide, 1e-4, "a step in float32 is not the step in float64")
        for dtype in (torch.float16, torch.bfloat16):
            arguments = self.arguments((6, 4), dtype)
            p, g, *accumulators = arguments
            truth = [x.to(dtype) for x in self.update(*(x.float() for x in arguments))]
            param = Parameter(p.clone())
            param.grad = g
            optimizer = self.made([param])
            state = dict(zip(self.rule.accumulators, accumulators, strict=True))
            if "t" in self.rule.hyper_names():
                state["step"] = torch.tensor(2.0)
            if state:
                optimizer.state[param] = {k: x.clone() for k, x in state.items()}
            optimizer.step()
            kept = [param, *(optimizer.state[param][k] for k in self.rule.accumulators)]
            digits = 1.5 * torch.finfo(dtype).eps
            _close(kept, truth, digits, f"a step in {dtype} is not the one in float32, rounded")

    def resumes(self) -> None:
        def saved_and_loaded(params: list[Parameter], optimizer: UpdateRule) -> UpdateRule:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            again = self.made(params)
            again.load_state_dict(torch.load(file, weights_only=True))
            return again

        self.goes_on(saved_and_loaded, "a training that is loaded from state_dict goes on")

    def copies_go_on(self) -> None:
        def deep(params: list[Parameter], optimizer: UpdateRule) -> UpdateRule:
            params[:], again = copy.deepcopy((params, optimizer))
            return again

        def pickled(params: list[Parameter], optimizer: UpdateRule) -> UpdateRule:
            params[:], again = pickle.loads(pickle.dumps((params, optimizer)))
            return cast("UpdateRule", again)

        self.goes_on(deep, "a deep copy goes on")
        if getattr(sys.modules.get(self.rule.__module__), self.rule.__name__, None) is self.rule:
            self.goes_on(pickled, "a pickled optimizer goes on")

    def goes_on(
        self, replaced: Callable[[list[Parameter], UpdateRule], UpdateRule], what: str
    ) -> None:
        through, stopped = self.parameters(), self.parameters()
        self.train(through, [self.made(through)], steps=2 * STEPS)
        optimizer = self.made(stopped)
        self.train(stopped, [optimizer])
        optimizer = replaced(stopped, optimizer)
        self.train(stopped, [optimizer], first=STEPS)
        said = f"{what} differently; is all that it carries on in accumulators?"
        _equal(stopped, through, said)

    def moves_by_groups(self) -> None:
        grouped, alone = self.parameters(), self.parameters()
        halves, lr = (slice(0, None, 2), slice(1, None, 2)), self.numbers["lr"]

        def one_each(lr: float) -> list[UpdateRule]:
            rates = zip(halves, (lr, lr / 2), strict=True)
            return [self.rule(alone[half], **{**self.hyper, "lr": rate}) for half, rate in rates]

        groups = [{"params": grouped[halves[0]]}, {"params": grouped[halves[1]], "lr": lr / 2}]
        together = self.rule(groups, **{**self.hyper, "lr": lr})
        scheduler = ExponentialLR(together, gamma=0.5)
        self.train(grouped, [together])
        before = one_each(lr)
        self.train(alone, before)
        _close(grouped, alone, 1e-5, "a group does not move with its own lr")
        scheduler.step()
        self.train(grouped, [together], first=STEPS)
        after = one_each(lr / 2)
        for old, new in zip(before, after, strict=True):
            new.state.update(old.state)
        self.train(alone, after, first=STEPS)
        _close(grouped, alone, 1e-5, "a group does not move with the lr that a scheduler sets")

    def takes_sparse_gradients(self) -> None:
        rows = [0, 2, 5]
        start = self.arguments((6, 4), torch.float64)[0]
        ours, dense = Parameter(start.clone()), Parameter(start.clone())
        optimizers = self.made([ours]), self.made([dense])
        for step in range(STEPS):
            values = self.gradient((6, 4), torch.float64, step)[rows]
            dense.grad = torch.zeros_like(dense).index_copy_(0, torch.tensor(rows), values)
            index = torch.tensor([rows])
            ours.grad = torch.sparse_coo_tensor(index, values, (6, 4), check_invariants=True)
            for optimizer in optimizers:
                optimizer.step()
        taken = rows if self.elementwise else list(range(6))
        _close([ours[taken]], [dense[taken]], 1e-10, "a sparse gradient moves its rows differently")
        if self.elementwise:
            _equal([ours[[1, 3, 4]]], [start[[1, 3, 4]]], "rows without a gradient move")

    def is_differentiable(self) -> None:
        start, *zeros = self.carried((2, 3), torch.float64, 0)
        gradients = [self.gradient((2, 3), torch.float64, i) for i in range(STEPS)]

        def trained(theta: Tensor, *gradients: Tensor) -> Tensor:
            # Through accumulators that can occur, as steps leave them.
            carried = zeros
            for i, g in enumerate(gradients):
                theta, *carried = self.update(theta, g, *carried, t=i + 1.0)
            return theta

        arguments = [x.requires_grad_() for x in (start, *gradients)]
        end = trained(*arguments)
        if not end.requires_grad:
            raise _Fails("the new parameter does not depend on the arguments for autograd")
        size = max(1.0, float(end.detach().abs().max()))  # differences are rounded to its digits
        fine = torch.autograd.gradcheck(trained, arguments, raise_exception=False, atol=1e-4 * size)
        if not fine:
            raise _Fails("derivatives through a step differ from central differences")

    def maps(self) -> None:
        batch = [torch.stack(xs) for xs in zip(*map(self.drawn, range(3)), strict=True)]
        mapped = torch.func.vmap(self.update)(*batch)
        looped = [self.update(*xs) for xs in zip(*batch, strict=True)]
        stacked = [torch.stack(xs) for xs in zip(*looped, strict=True)]
        _close(mapped, stacked, 1e-12, "a batch of parameters under vmap differs from a loop")
        if "lr" not in self.numbers:
            return
        rates = self.numbers["lr"] * torch.tensor([0.5, 1, 2], dtype=torch.float64)
        one = self.drawn(0)
        mapped = torch.func.vmap(lambda lr: self.update(*one, lr=lr))(rates)
        looped = [self.update(*one, lr=lr) for lr in rates.tolist()]
        stacked = [torch.stack(xs) for xs in zip(*looped, strict=True)]
        _close(mapped, stacked, 1e-12, "a batch of learning rates under vmap differs from a loop")

    def decays(self) -> None:
        hyper = {**self.hyper, "weight_decay": DECAY}
        trial = _Trial(self.rule, hyper, _made(self.rule, hyper))
        for name, holds in trial.properties():
            try:
                holds()
            except _Fails as reason:
                raise _Fails(f"with weight_decay={DECAY}, {name!r}: {reason}") from None

    # With what ------------------------------------------------------------------------------------

    def made(self, params: list[Parameter], **options: Any) -> UpdateRule:
        return self.rule(params, **self.hyper, **options)

    def update(
        self, *tensors: Tensor, maximize: bool = False, t: float = 3.0, **changed: Any
    ) -> tuple[Tensor, ...]:
        hyper: dict[str, Any] = {**self.numbers, "maximize": maximize, **changed}
        if "t" in self.rule.hyper_names():
            hyper["t"] = t
        return cast("Any", self.rule).update(*tensors, **hyper)  # type: ignore[no-any-return]

    def drawn(self, seed: int) -> list[Tensor]:
        return self.arguments((5,), torch.float64, seed)

    def arguments(self, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
        """θ, g and accumulators as an earlier step leaves them, so that they can occur."""
        theta, *zeros = self.carried(shape, torch.float64, seed)
        g = self.gradient(shape, torch.float64, seed)
        before = self.gradient(shape, torch.float64, seed + 100)
        carried = self.update(theta, before, *zeros)[1:]
        return [x.detach().to(dtype) for x in (theta, g, *carried)]

    def carried(self, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> list[Tensor]:
        """θ and accumulators before the first step."""
        generator = torch.Generator("cpu").manual_seed(seed)
        theta = (torch.randn(shape, generator=generator, dtype=torch.float64) + 2).to(dtype)
        return [theta, *(torch.zeros_like(theta) for _ in self.rule.accumulators)]

    def gradient(self, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
        generator = torch.Generator("cpu").manual_seed(1000 + seed)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (drawn + 0.5 * drawn.sign()).to(dtype)  # away from 0, where a sign has no slope

    def parameters(self, dtype: torch.dtype = torch.float32) -> list[Parameter]:
        generator = torch.Generator("cpu").manual_seed(7)
        values = (torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes)
        return [Parameter((x + 2).to(dtype)) for x in values]

    def train(
        self,
        params: list[Parameter],
        optimizers: list[UpdateRule],
        first: int = 0,
        steps: int = STEPS,
    ) -> None:
        for step in range(first, first + steps):
            for i, p in enumerate(params):
                p.grad = self.gradient(tuple(p.shape), p.dtype, 10 * step + i)
            for optimizer in optimizers:
                optimizer.step()


class _Narrowing(TorchDispatchMode):
    """Records the dtype in which digits of a float64 tensor are lost."""

    found: torch.dtype | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what is copied to another dtype."""
        result = func(*args, **(kwargs or {}))
        copied = {"aten::_to_copy": 0, "aten::copy_": 1}.get(func._schema.name)
        source = None if copied is None else args[copied]
        if isinstance(source, Tensor) and source.dtype is torch.float64:
            kept = torch.equal(result.double(), source.expand(result.shape))
            self.found = self.found if kept else result.dtype
        return result


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _parts(shape: tuple[int, ...]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Ways to take a part of a tensor or to reorder its elements."""
    yield methodcaller("reshape", -1)
    for dim, size in enumerate(shape):
        yield methodcaller("narrow", dim, 0, 1)
        yield methodcaller("narrow", dim, size // 4, (size + 1) // 2)
        yield methodcaller("flip", dim)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN where the other is NaN."""
    nan = a.isnan()
    if a.dtype != b.dtype or not torch.equal(nan, b.isnan()):
        return False
    return torch.equal(a.masked_fill(nan, 0), b.masked_fill(nan, 0))


def _equal(found: Any, expected: Any, what: str) -> None:
    for x, y in zip(found, expected, strict=True):
        if not _same(x.detach(), y.detach()):
            raise _Fails(what)


def _close(found: Any, expected: Any, digits: float, what: str) -> None:
    """Raise unless the numbers agree to this precision, relative to a tensor's largest element."""
    for x, y in zip(found, expected, strict=True):
        least = torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps
        a, b = x.detach().double(), y.detach().double()
        if a.shape != b.shape:
            raise _Fails(what)
        same = (a == b) | (a.isnan() & b.isnan())  # covers infinities, whose difference is NaN
        distance = (a - b).abs().masked_fill(same, 0)
        size = b.abs().masked_fill(~b.isfinite(), 0)
        if a.numel() and not (distance.max() <= digits * size.max() + least):
            raise _Fails(what)
