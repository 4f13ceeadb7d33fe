"""Every compiled loop on tensors of many sizes: ``python sanitized_loops.py optimizers|activations|means``.

It is run with a compiler that plants checks of memory and arithmetic; these end the process at the
first fault. Each tensor is an allocation of its own, or lies in the middle of one.
"""

import itertools
import sys
import warnings

import torch
from torch.nn import Parameter

import dlnotes.activations
from dlnotes.activations import ACTIVATIONS
from dlnotes.models.fasttext import mean_vectors
from dlnotes.nn import ngram_means
from dlnotes.optim import OPTIMIZERS, _kernel, _native
from dlnotes.oracles.optimizers import ORACLES

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
BLOCK = _kernel.BLOCK
SIZES = [0, 1, 3, 43, 257, BLOCK - 1, 2 * BLOCK + 5]


def parameter(x, requires_grad=True):
    p = Parameter(x, requires_grad)
    p.grad = torch.full_like(x, 0.25)
    return p


def views(dtype):
    """Tensors in the middle of others, at the ends of others, in shared memory."""
    whole = torch.ones(1000, dtype=dtype)
    rows = torch.ones(10, 7, dtype=dtype)
    shared = torch.ones(300, dtype=dtype).share_memory_()
    return [
        whole[3:46],
        whole[46:47],
        whole[-5:],
        whole[1000:],
        rows[2:4],
        rows[:, 3],  # not contiguous: left to the plain step
        shared,
        torch.ones((), dtype=dtype),
        torch.ones(0, 5, dtype=dtype),
    ]


def surgery(optimizer, params):
    """Change sizes and places between two steps, states included."""
    for p in params:
        n = p.numel()
        if p.dim() != 1 or n < 2:
            continue
        states = [x for x in optimizer.state[p].values() if x.dim()]
        for length in (n // 2, n + 3, 1, 0, n):
            exact = {"dtype": p.dtype}
            if length <= n:  # a view of the old memory, up to its end
                p.data = p.detach().new_ones(n)[n - length :]
            else:
                p.data = torch.ones(length, **exact)
            p.grad = torch.full_like(p, 0.25)
            if length % 2:  # a state that does not fit is an error, not a crash
                try:
                    optimizer.step()
                except RuntimeError:
                    pass
                else:
                    assert not states or length == n
            for name, x in optimizer.state[p].items():
                if x.dim():
                    optimizer.state[p][name] = torch.zeros(length, **exact)
            optimizer.step()


def sparse(shape, n, dtype):
    """A parameter with a gradient of n rows, the first and the last one among them."""
    p = Parameter(torch.ones(shape, dtype=dtype))
    index = torch.randint(shape[0], (1, n))
    if n > 1:
        index[0, :2] = torch.tensor([shape[0] - 1, 0])
    values = torch.ones(n, *shape[1:], dtype=dtype)
    p.grad = torch.sparse_coo_tensor(index, values, shape, check_invariants=True)
    return p


def optimizers():
    steps = 0
    for name, dtype in itertools.product(OPTIMIZERS, DTYPES):
        rule, grid = OPTIMIZERS[name], ORACLES[name].grid
        for decay, maximize in ((0.0, False), (0.1, True)):
            hyper = {**grid[0], "weight_decay": decay, "maximize": maximize}
            for threads in (1, 2):
                torch.set_num_threads(threads)
                params = [parameter(torch.ones(n, dtype=dtype)) for n in SIZES]
                params += map(parameter, views(dtype))
                optimizer = rule(params, **hyper)
                for _ in range(3):
                    optimizer.step()
                    steps += 1
                shapes = [(43,), (1, 1), (300, 10), (5, 3, 700)]
                rows = [sparse(s, n, dtype) for s in shapes for n in (0, 1, 2, 4000)]
                optimizer = rule(rows, **hyper)
                optimizer.step()
                optimizer.step()
                few = [parameter(torch.ones(n, dtype=dtype)) for n in (43, BLOCK + 2)]
                optimizer = rule(few, **hyper)
                optimizer.step()
                surgery(optimizer, few)
                tied = torch.ones(99, dtype=dtype)
                optimizer = rule([parameter(tied[:50]), parameter(tied[49:])], **hyper)
                optimizer.step()
    mixed = [parameter(torch.ones(n, dtype=d)) for n in (1, 43, BLOCK) for d in DTYPES]
    for name in OPTIMIZERS:
        OPTIMIZERS[name](mixed, **ORACLES[name].grid[0]).step()
    assert not isinstance(_native.load(), Exception), _native.load()
    failed = [k for k in _kernel._built.values() if not isinstance(k, _kernel.Kernel)]
    assert not failed, failed
    assert len(_kernel._built) >= 2 * len(OPTIMIZERS) * len(DTYPES)
    return f"{steps} steps, {len(_kernel._built)} kernels"


def activations():
    count = 0
    modules = [*ACTIVATIONS.values()]
    for module, dtype, n, threads in itertools.product(
        modules, (*DTYPES,), [0, 1, 3, 43, 257, 1001, 2 * BLOCK + 5], (1, 2)
    ):
        torch.set_num_threads(threads)
        f = module().to(dtype)
        x = torch.linspace(-9, 9, n, dtype=torch.float64).to(dtype)
        middle = torch.zeros(n + 7, dtype=dtype)[3 : n + 3].copy_(x)
        extremes = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 6e4, -6e4])
        for values in (x, middle, extremes.to(dtype), x.reshape(-1, 1).expand(-1, 2).mT):
            with torch.no_grad():
                f(values)
            leaf = values.detach().requires_grad_()
            y = f(leaf)
            if y.requires_grad:
                y.sum().backward()
            count += 1
    for gate, dtype, n, dim, threads in itertools.product(
        (dlnotes.activations.glu, dlnotes.activations.swiglu),
        DTYPES,
        (7, 8, 43),
        (0, 1),
        (1, 7),
    ):
        torch.set_num_threads(threads)
        memory = torch.randn(3 + 4 * 2 * n, dtype=torch.float64).to(dtype)
        x = memory[3:].view(4, 2 * n).requires_grad_()  # to the end of its memory
        y = gate(x, dim)
        for g in (torch.ones_like(y), torch.randn(2 * y.numel()).to(dtype)[1::2].view_as(y)):
            y.backward(g, retain_graph=True)
        y.backward(torch.ones((*y.shape[:-1], y.shape[-1] + 1), dtype=dtype)[..., 1:])
        count += 1
    maxout = dlnotes.activations.Maxout(5, 4, 3)
    maxout(torch.ones(7, 5)).sum().backward()
    return f"{count} activations"


def means():
    count = 0
    for dtype, threads, n, ngrams in itertools.product(DTYPES[:2], (1, 2), (1, 10, 43), (1, 2, 5)):
        torch.set_num_threads(threads)
        for b, t in ((1, 1), (5, 2), (300, 41), (2, 3000)):
            weight = torch.nn.EmbeddingBag(200, n, mode="sum", sparse=True, dtype=dtype)
            tokens = torch.randint(0, 120, (b, t))
            which = ngram_means.Ngrams(ngrams, 120, 80)
            for given in (tokens, torch.zeros_like(tokens)):
                found = ngram_means.mean_vectors(weight, given, which, mean_vectors)
                assert found is not None
                found.sum().backward()
            for wrong in (120 + 80, -1, 1 << 62):
                tokens[-1, -1] = wrong
                assert ngram_means.mean_vectors(weight, tokens, which, mean_vectors) is None
            count += 1
    return f"{count} batches"


if __name__ == "__main__":
    warnings.simplefilter("error")  # a loop that is not compiled is said in a warning
    print({"optimizers": optimizers, "activations": activations, "means": means}[sys.argv[1]]())
