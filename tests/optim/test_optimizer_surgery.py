"""Tensors that are cut, grown, replaced, retyped and shared between two steps, beside torch's own.

Two worlds have the same history, one with our rule and one with torch's default optimizer. All their
tensors lie inside of larger buffers; what no tensor of ours covers must stay as it was, bit for bit.
"""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS, GradientDescent, _kernel, _native
from dlnotes.oracles.optimizers import ORACLES

ROOM, MARGIN = 96, 32
NAMES = {  # ours → torch's, where both start at zero and mean the same
    "gradient-descent": {},
    "momentum": {"V": "momentum_buffer"},
    "nesterov": {"V": "momentum_buffer"},
    "rmsprop": {"S": "square_avg"},
    "adadelta": {"G": "square_avg", "D": "acc_delta"},
    "adam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "adamw": {"m": "exp_avg", "v": "exp_avg_sq"},
}


class World:
    """Parameters in guarded buffers and an optimizer."""

    def __init__(self, make, names, sizes, dtype):
        self.buffers = []
        self.rounded = False
        self.names = names
        self.params = [Parameter(self.place(torch.linspace(0.5, 2, n, dtype=dtype))) for n in sizes]
        self.optimizer = make(self.params)

    def place(self, values):
        """The values inside of a new buffer, contiguous."""
        n = values.numel()
        buffer = torch.full((n + ROOM + 2 * MARGIN,), 7.0, dtype=values.dtype)
        self.buffers.append(buffer)
        inside = buffer[MARGIN : MARGIN + n].view(values.shape)
        return inside.copy_(values)

    def states(self, p):
        state = self.optimizer.state.get(p, {})
        return {name: state[name] for name in self.names if state.get(name) is not None}

    def set_states(self, p, change):
        for name, x in self.states(p).items():
            self.optimizer.state[p][name] = change(x)

    def written(self):
        tensors = [*self.params]
        for p in self.params:
            tensors += [x for x in self.optimizer.state.get(p, {}).values() if torch.is_tensor(x)]
        return tensors


def grown(x, n):
    """Longer at the same address: the numbers behind it in the buffer belong to it now."""
    return x.as_strided((n,), (1,), x.storage_offset())


# Each takes a world, the number of a parameter and a number drawn; both worlds get the same.


def shorter(world, k, n):
    p = world.params[k]
    p.data = p.data.reshape(-1)[: max(1, n % max(1, p.numel()))]
    world.set_states(p, lambda x: x.reshape(-1)[: p.numel()])


def shorter_with_new_state(world, k, n):
    p = world.params[k]
    p.data = p.data.reshape(-1)[: max(1, n % max(1, p.numel()))]
    world.set_states(p, lambda x: world.place(x.reshape(-1)[: p.numel()]))


def longer_at_the_same_address(world, k, n):
    p = world.params[k]
    if p.dim() == 1 and p.is_contiguous() and p.storage_offset() == MARGIN:
        size = p.numel() + n % ROOM
        if size + 2 * MARGIN <= p.data.untyped_storage().nbytes() // p.element_size():
            p.data = grown(p.data, size)
            world.set_states(p, lambda x: world.place(torch.cat([x, x.new_zeros(size)])[:size]))


def middle(world, k, n):
    p = world.params[k]
    if p.dim() == 1 and p.numel() > 2:
        p.data = p.data[1:-1]
        world.set_states(p, lambda x: x[1:-1])


def replaced(world, k, n):
    p = world.params[k]
    p.data = world.place(p.data + 1)


def states_replaced(world, k, n):
    world.set_states(world.params[k], lambda x: world.place(x))


def states_with_gaps(world, k, n):
    world.set_states(world.params[k], lambda x: world.place(torch.stack([x, x], -1))[..., 0])


def with_gaps(world, k, n):
    p = world.params[k]
    p.data = world.place(torch.stack([p.data, p.data], -1))[..., 0]


def two_dimensional(world, k, n):
    p = world.params[k]
    if p.numel() % 2 == 0 and p.dim() == 1:
        p.data = p.data.reshape(2, -1)
        world.set_states(p, lambda x: x.reshape(2, -1))


def transposed(world, k, n):
    p = world.params[k]
    if p.dim() == 2:
        p.data = p.data.t()
        world.set_states(p, lambda x: x.t())


def retyped(world, k, n):
    p = world.params[k]
    if world.optimizer.param_groups[0]["weight_decay"]:
        return  # g + λθ may cancel, and Adam makes a step of full size of what float32 leaves
    world.rounded = True
    dtype = torch.float32 if p.dtype is torch.float64 else torch.float64
    p.data = world.place(p.data.to(dtype))
    world.set_states(p, lambda x: world.place(x.to(dtype)))


def set_to_another_storage(world, k, n):
    p = world.params[k]
    with torch.no_grad():
        p.set_(world.place(p.data * 2))


def storage_grown(world, k, n):
    storage = world.params[k].data.untyped_storage()
    storage.resize_(storage.nbytes() + 64)


def shares_all(world, k, n):
    p, q = world.params[k], world.params[(k + 1) % len(world.params)]
    if p is not q and p.shape == q.shape and p.dtype == q.dtype:
        p.data = q.data


def shares_a_part(world, k, n):
    """The second half of one is the first half of the other."""
    p, q = world.params[k], world.params[(k + 1) % len(world.params)]
    if p is not q and p.dtype == q.dtype and p.dim() == q.dim() == 1 and p.is_contiguous():
        n = q.numel()
        if (
            p.storage_offset() + p.numel() // 2 + n
            < p.data.untyped_storage().nbytes() // 8 - MARGIN
        ):
            q.data = p.data.as_strided((n,), (1,), p.storage_offset() + p.numel() // 2)


def shares_states(world, k, n):
    p, q = world.params[k], world.params[(k + 1) % len(world.params)]
    theirs = world.states(q)
    for name, x in world.states(p).items():
        if p is not q and name in theirs and theirs[name].shape == x.shape:
            world.optimizer.state[p][name] = theirs[name]


def swapped(world, k, n):
    p = world.params[k]
    other = Parameter(world.place(p.data / 2))
    torch.utils.swap_tensors(p, other)


def state_forgotten(world, k, n):
    world.optimizer.state.pop(world.params[k], None)


def saved_and_loaded(world, k, n):
    world.optimizer.load_state_dict(copy.deepcopy(world.optimizer.state_dict()))
    for p in world.params:  # whether states share memory afterwards is no promise of ours
        world.set_states(p, torch.clone)


def parameter_exchanged(world, k, n):
    old, new = world.params[k], Parameter(world.place(world.params[k].data + 0.5))
    world.params[k] = new
    for group in world.optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    if old in world.optimizer.state:
        world.optimizer.state[new] = world.optimizer.state.pop(old)


def added_to_a_new_group(world, k, n):
    if len(world.params) < 6:
        world.params.append(Parameter(world.place(torch.linspace(1, 2, 5, dtype=torch.float64))))
        world.optimizer.add_param_group({"params": [world.params[-1]]})


SURGERY = [
    f
    for f in list(globals().values())
    if getattr(f, "__code__", None) and f.__code__.co_varnames[:3] == ("world", "k", "n")
]


def plain(world, p, g):
    p.grad = g


def in_a_buffer(world, p, g):
    p.grad = world.place(g)


def negative(world, p, g):
    p.grad = torch._neg_view(world.place(-g))


def strided(world, p, g):
    p.grad = world.place(torch.stack([g, g], -1))[..., 0]


def expanded(world, p, g):
    p.grad = g.flatten()[:1].sum().expand(g.shape)


def none(world, p, g):
    p.grad = None


def lazily_cloned(world, p, g):
    p.grad = torch._lazy_clone(g) if hasattr(torch, "_lazy_clone") else g


GRADIENTS = [
    plain,
    plain,
    plain,
    in_a_buffer,
    negative,
    strided,
    expanded,
    none,
    lazily_cloned,
]


def covered(world, buffer):
    """Which bytes of a buffer belong to a tensor that a step may write."""
    start = buffer.data_ptr()
    mask = torch.zeros(buffer.numel() * buffer.element_size(), dtype=torch.bool)
    storage = buffer.untyped_storage().data_ptr()
    for x in world.written():
        if x.layout is torch.strided and x.untyped_storage().data_ptr() == storage and x.numel():
            places = torch.zeros(
                buffer.untyped_storage().nbytes() // x.element_size(), dtype=torch.bool
            )
            places.as_strided(x.shape, x.stride(), x.storage_offset()).fill_(True)
            bytes_ = places.repeat_interleave(x.element_size())
            offset = start - storage
            mask |= bytes_[offset : offset + len(mask)]
    return mask


def as_bytes(buffer):
    return buffer.view(torch.uint8).clone()


def step_guarded(world):
    """A step that may write to its tensors alone; the error, if there is one."""
    before = [as_bytes(b) for b in world.buffers]
    error = None
    try:
        world.optimizer.step()
    except RuntimeError as raised:
        error = raised
    for buffer, old in zip(world.buffers, before, strict=True):
        changed = as_bytes(buffer) != old
        assert not (changed & ~covered(world, buffer)).any(), "memory of others was written"
    return error


def check(data, name):
    hyper = {**ORACLES[name].grid[0], "weight_decay": data.draw(st.sampled_from([0.0, 0.1]))}
    sizes = data.draw(st.lists(st.integers(1, 24), min_size=1, max_size=4), label="sizes")
    ours = World(lambda p: ORACLES[name].rule(p, **hyper), list(NAMES[name]), sizes, torch.float64)
    theirs = World(
        lambda p: ORACLES[name].torch(p, **ORACLES[name].mapped(**hyper), foreach=False),
        list(NAMES[name].values()),
        sizes,
        torch.float64,
    )
    scale = 1 - hyper["beta"] if name in ("momentum", "nesterov") else 1.0
    for step in range(data.draw(st.integers(1, 6), label="steps")):
        for k in range(len(ours.params)):
            operations = data.draw(
                st.lists(st.sampled_from(SURGERY), max_size=2), label=f"{step}, {k}"
            )
            for operation in operations:
                n = data.draw(st.integers(0, ROOM), label="n")
                for world in (ours, theirs):
                    operation(world, k, n)
        gradients = [data.draw(st.sampled_from(GRADIENTS), label="gradient") for _ in ours.params]
        for world in (ours, theirs):
            for k, (p, gradient) in enumerate(zip(world.params, gradients, strict=True)):
                g = torch.linspace(-1, 1, p.numel(), dtype=torch.float64) + 0.1 * k + 0.3
                p.grad = None
                gradient(world, p, (g.view(p.shape) * (step + 1)).to(p.dtype))
        raised = [step_guarded(world) for world in (ours, theirs)]
        if raised[1] is not None:
            return  # torch has no result to compare with; ours has not crashed and wrote nowhere else
        assert raised[0] is None, raised[0]
        for p, q in zip(ours.params, theirs.params, strict=True):
            tight = 2e-4 if ours.rounded else 1e-9
            torch.testing.assert_close(p.detach(), q.detach(), rtol=tight, atol=tight * 1e-2)
            for x, y in zip(ours.states(p).values(), theirs.states(q).values(), strict=False):
                torch.testing.assert_close(x, scale * y, rtol=tight, atol=tight * 1e-2)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_surgery_between_steps_equals_torchs_default_step(name, data):
    check(data, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_much_surgery_between_steps_equals_torchs_default_step(name, data):
    check(data, name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruning_in_place(name):
    """A large parameter that is cut to a few of its rows, as pruning does it."""
    whole = torch.ones(8192, 256)
    p = Parameter(whole)
    optimizer = OPTIMIZERS[name]([p])
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    p.data = p.data[:64]
    p.grad = torch.ones(64, 256)
    before = whole.clone()
    if optimizer.accumulators:
        with pytest.raises(RuntimeError, match=r"\(64, 256\) has the shape \(8192, 256\)"):
            optimizer.step()
        assert torch.equal(whole, before)
        for state in (optimizer.state[p],):
            state.update({key: x[:64] for key, x in state.items() if x.dim()})
    optimizer.step()
    assert torch.equal(whole[64:], before[64:])
    assert (whole[:64] != before[:64]).all()


def test_a_shorter_view_of_a_buffer_and_a_longer_one():
    buffer = torch.ones(1000)
    p = Parameter(buffer[:600])
    optimizer = GradientDescent([p], lr=0.5)
    for n in (600, 600, 10, 800):
        p.data = buffer[:n]
        p.grad = torch.ones(n)
        before = buffer.clone()
        optimizer.step()
        assert torch.equal(buffer[:n], before[:n] - 0.5)
        assert torch.equal(buffer[n:], before[n:])


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("n", [1, 3, 16_384, 16_385, 70_000])
def test_ties_of_any_size_are_updated_in_turn(n, fused):
    storage = torch.ones(n)
    ties = [Parameter(storage), Parameter(storage), Parameter(torch.ones(3))]
    for p in ties:
        p.grad = torch.ones_like(p)
    GradientDescent(ties, lr=0.125, fused=fused).step()
    assert torch.equal(storage, torch.full((n,), 0.75))


def test_a_gradient_in_another_parameters_memory_is_read_after_that_ones_step():
    """torch's default goes through the parameters in their order."""
    for n in (3, 70_000):
        results = []
        for optimizer in (
            lambda p: GradientDescent(p, lr=0.5),
            lambda p: torch.optim.SGD(p, lr=0.5),
        ):
            a, b, c = (Parameter(torch.ones(n)) for _ in range(3))
            a.grad, b.grad, c.grad = torch.ones(n), a.data, torch.ones(n)
            optimizer([a, b, c]).step()
            results.append((a.detach(), b.detach(), c.detach()))
        assert torch.equal(results[0][1], torch.full((n,), 0.75))
        assert all(map(torch.equal, *results))


def stepped_natively(*params):
    """The indices of the parameters that the native step leaves to the plain one."""
    kernels = {}

    def build(dtype):
        hyper = {"lr": 0.5, "weight_decay": 0.0}
        return kernels.setdefault(dtype, _kernel.build(GradientDescent, dtype, False, hyper))

    library, hyper = _native.load(), {"lr": 0.5, "weight_decay": 0.0}
    if isinstance(library, Exception):
        pytest.skip(f"no native step on this machine: {library}")
    return _native.step(library, [list(params)], False, build, hyper, False)


def with_gradient(values, gradient=None):
    p = Parameter(values)
    p.grad = torch.ones_like(p) if gradient is None else gradient
    return p


def test_what_the_native_step_leaves():
    """The first parameter is as it should be, and is always taken."""
    memory = torch.ones(8)
    freed = torch.ones(100)[90:]
    short = with_gradient(torch.ones(100)[90:])
    short.data.untyped_storage().resize_(95 * 4)
    gone = with_gradient(freed, torch.ones(10))
    freed.untyped_storage().resize_(0)
    # Two bytes beside where a float may begin: alignments of allocations are larger than that.
    askew = torch.frombuffer(bytearray(42), dtype=torch.uint8, offset=2).numpy()
    cases = {
        "the same memory": [with_gradient(memory), with_gradient(memory)],
        "a part of it": [with_gradient(memory[:5]), with_gradient(memory[4:])],
        "a gradient in another parameter": [
            with_gradient(memory),
            with_gradient(torch.ones(8), memory),
        ],
        "its own gradient": [with_gradient(memory, memory)],
        "gaps": [with_gradient(torch.ones(8)[::2])],
        "gaps that hold another": [with_gradient(memory[::2]), with_gradient(memory[1:2])],
        "another size": [with_gradient(torch.ones(3).double())],
        "a storage that is too small": [short],
        "a storage without memory": [gone],
        "an address that is no multiple of 4": [
            with_gradient(torch.frombuffer(askew, dtype=torch.float32)[:5])
        ],
    }
    cases["another size"][0].grad.data = torch.ones(2).double()
    for what, others in cases.items():
        first = with_gradient(torch.ones(3))
        assert stepped_natively(first, *others) == [k + 1 for k in range(len(others))], what
        assert torch.equal(first, torch.full((3,), 0.5)), what
    apart = [with_gradient(memory[:4]), with_gradient(memory[4:])]
    assert stepped_natively(*apart) == []
    shared = torch.ones(3)
    assert stepped_natively(*(with_gradient(torch.ones(3), shared) for _ in range(2))) == []
