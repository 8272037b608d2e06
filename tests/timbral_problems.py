"""Blocks and inputs for the timbral front end, and how two ways to run it are compared."""

import copy

import torch
from hypothesis import strategies as st
from torch import nn


class Block(nn.Module):
    def __init__(self, num_channels, height, num_taps=7, bias=True, **norm):
        super().__init__()
        padding = (0, num_taps // 2)
        self.conv = nn.Conv2d(1, num_channels, (height, num_taps), padding=padding, bias=bias)
        self.bn = nn.BatchNorm2d(num_channels, **norm)
        nn.init.normal_(self.bn.weight)  # of either sign
        nn.init.normal_(self.bn.bias, 0.5)


def make(num_segments, num_bands, num_frames, blocks, dtype=torch.double):
    generator = torch.Generator().manual_seed(num_frames)
    x_hat = torch.randn((num_segments, num_bands, num_frames), generator=generator, dtype=dtype)
    return x_hat + 0.3, nn.ModuleList(blocks).to(dtype)


def run(function, x_hat, blocks, scale=1.3, shift=-0.7):
    """Outputs, gradients and buffers of one forward and backward pass on a copy of the blocks."""
    blocks = copy.deepcopy(blocks)
    scale, shift = (
        torch.tensor(value, dtype=x_hat.dtype, device=x_hat.device, requires_grad=True)
        for value in (scale, shift)
    )
    outputs = function(x_hat, scale, shift, blocks)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(y.shape, generator=generator).to(y) for y in outputs]
    sum((y * d).sum() for y, d in zip(outputs, directions, strict=True)).backward()
    results = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
    results |= {"scale": scale.grad, "shift": shift.grad}
    results |= {f"gradient of {name}": p.grad for name, p in blocks.named_parameters()}
    return results | dict(blocks.named_buffers())


def assert_equal(actual, expected, rtol=1e-8, atol=1e-9):
    assert actual.keys() == expected.keys()
    for name in expected:
        if name.endswith("conv.bias"):  # rounding noise in the plain version
            assert torch.equal(actual[name], torch.zeros_like(actual[name])), name
            continue
        tolerance = atol + rtol * float(expected[name].abs().max())
        difference = float((actual[name].double().cpu() - expected[name].double()).abs().max())
        assert difference <= tolerance, f"{name}: {difference} > {tolerance}"


@st.composite
def problems(draw):
    num_bands = draw(st.integers(1, 13))
    heights = draw(st.lists(st.integers(1, num_bands), min_size=1, max_size=3))
    num_taps = draw(st.sampled_from([1, 3, 5, 7, 9, 15]))
    num_channels = draw(st.integers(1, 4))
    sizes = draw(st.integers(1, 3)), num_bands, draw(st.integers(2, 40))
    torch.manual_seed(draw(st.integers(0, 99)))
    bias = draw(st.booleans())
    return make(*sizes, [Block(num_channels, height, num_taps, bias) for height in heights])
