"""A CIPA file and what the reference computes with it, both written anew from the published description."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_model import write_model
from torch import Tensor


def cipa_shapes(width, encoder_depths, decoder_depths, grid, states=16, decoder_states=4, gate_width=96):
    """Names and shapes of the reference's weights, for any size."""
    shapes = {}

    def add(prefix, **tensors):
        shapes.update({f"{prefix}.{name.replace('__', '.')}": shape for name, shape in tensors.items()})

    def norm(prefix, size, running=False):
        add(prefix, weight=(size,), bias=(size,))
        if running:
            add(prefix, running_mean=(size,), running_var=(size,), num_batches_tracked=())

    def scan(prefix, model, n, directions=4):
        inner, rank = 2 * model, math.ceil(model / 16)
        add(
            prefix,
            x_proj_weight=(directions, rank + 2 * n, inner),
            dt_projs_weight=(directions, inner, rank),
            dt_projs_bias=(directions, inner),
            A_logs=(directions * inner, n),
            Ds=(directions * inner,),
            in_proj__weight=(2 * inner, model),
            out_proj__weight=(model, inner),
        )
        if directions == 4:
            add(prefix, conv2d__weight=(inner, 1, 3, 3), conv2d__bias=(inner,))
        norm(f"{prefix}.out_norm", inner)

    def conv(prefix, n_in, n_out, size=3):
        add(prefix, weight=(n_out, n_in, size, size), bias=(n_out,))

    encoder = "backbone.vssm"
    conv(f"{encoder}.patch_embed.0", 3, width, 4)
    norm(f"{encoder}.patch_embed.2", width)
    for i, depth in enumerate(encoder_depths):
        c, pixels = width * 2**i, (grid // 2**i) ** 2
        for j in range(depth):
            norm(f"{encoder}.layers.{i}.blocks.{j}.norm", c)
            scan(f"{encoder}.layers.{i}.blocks.{j}.op", c, states)
        norm(f"{encoder}.outnorm{i}", c)
        if i < 3:
            norm(f"{encoder}.layers.{i}.downsample.norm", 4 * c)
            add(f"{encoder}.layers.{i}.downsample", reduction__weight=(2 * c, 4 * c))
        mlp = f"backbone.cross_mamba.{i}.channel_weights.mlp"
        norm(f"{mlp}.0", pixels)
        add(mlp, **{"1__weight": (gate_width, pixels), "1__bias": (gate_width,)})
        scan(f"{mlp}.3", gate_width, 16, directions=1)
        norm(f"{mlp}.4", gate_width)
        add(mlp, **{"5__weight": (1, gate_width), "5__bias": (1,)})
        region = f"backbone.channel_attn_mamba.{i}"
        norm(f"{region}.inner_norm1", 16 * c)
        norm(f"{region}.outer_norm1", c)
        scan(f"{region}.inner_attn", c, states)
        scan(f"{region}.outer_attn", c, states)
        stems = {"inner": [c, c // 4, c], "outer": [c, c // 16, c // 8, c // 4, c]}
        for name, widths in stems.items():
            for j in range(len(widths) - 1):
                conv(f"backbone.region_patch.{i}.{name}_convs.{3 * j}", widths[j], widths[j + 1])
                norm(f"backbone.region_patch.{i}.{name}_convs.{3 * j + 1}", widths[j + 1], running=True)
    head = "decode_head"
    add(f"{head}.layers_up.0", expand__weight=(16 * width, 8 * width))
    norm(f"{head}.layers_up.0.norm", 4 * width)
    for i, depth in enumerate(decoder_depths, start=1):
        c = width * 2 ** (3 - i)
        for j in range(depth):
            block = f"{head}.layers_up.{i}.blocks.{j}"
            add(block, scale1=(c,), scale2=(c,))
            norm(f"{block}.norm1", c)
            norm(f"{block}.norm2", c)
            scan(f"{block}.op", c, decoder_states)
            conv(f"{block}.conv_blk.cab.0", c, c // 3)
            conv(f"{block}.conv_blk.cab.2", c // 3, c)
            attention = f"{block}.conv_blk.cab.3.fc"
            add(attention, **{"0__weight": (c // 30, c, 1, 1), "2__weight": (c, c // 30, 1, 1)})
        if i < 3:
            add(f"{head}.layers_up.{i}.upsample", linear__weight=(c // 2, c))
            norm(f"{head}.layers_up.{i}.upsample.norm", c // 2)
    norm(f"{head}.norm_up", width)
    add(f"{head}.up", linear1__weight=(width, width), linear2__weight=(width, width))
    norm(f"{head}.up.norm", width)
    add(head, output__weight=(1, width, 1, 1))
    return shapes


def fill(shapes, seed=0):
    """Weights of a sensible size, none at a special value."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        noise, name = torch.randn(shape, generator=generator), key.rsplit(".", 1)[-1]
        if name == "num_batches_tracked":
            state[key] = torch.tensor(7)
        elif name == "A_logs":
            state[key] = torch.arange(1, shape[1] + 1).log() + 0.05 * noise
        elif name == "dt_projs_bias":
            state[key] = -3 + 0.5 * noise
        elif name == "running_var":
            state[key] = 1 + 0.1 * noise.abs()
        elif name in ("bias", "running_mean"):
            state[key] = 0.1 * noise
        elif len(shape) == 1:
            state[key] = 1 + 0.1 * noise
        else:
            state[key] = noise / math.sqrt(shape[-1] if len(shape) == 3 else math.prod(shape[1:]))
    return state


class Reference:
    """What the reference computes, step by step in float64: no fusing, no folding, no other layout."""

    def __init__(self, state):
        self.w = {key: value.double() for key, value in state.items()}

    def __call__(self, ct: Tensor, pet: Tensor) -> Tensor:
        """CT and PET (B, 3, H, W) of the size that the weights are for -> (B, H, W) logits."""
        a_maps, p_maps = self.encode(ct), self.encode(pet)
        fused = []
        for i, (a, p) in enumerate(zip(a_maps, p_maps, strict=True)):
            fused.append(a + p + self.interact(i, *self.rectify(i, a, p)))
        return self.decode(fused)

    def norm(self, key, x):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{key}.weight"], self.w[f"{key}.bias"])

    def lin(self, key, x):
        return F.linear(x, self.w[f"{key}.weight"], self.w.get(f"{key}.bias"))

    def conv(self, key, x, **options):  # on (B, C, H, W)
        return F.conv2d(x, self.w[f"{key}.weight"], self.w.get(f"{key}.bias"), **options)

    def depth(self, prefix):
        return len({key[len(prefix) :].split(".")[0] for key in self.w if key.startswith(prefix)})

    def scan(self, key, k, u):
        """Selective scan number k of a module over (B, L, d)."""
        d = u.shape[-1]
        A = -self.w[f"{key}.A_logs"][k * d : (k + 1) * d].exp()  # (d, N)
        D = self.w[f"{key}.Ds"][k * d : (k + 1) * d]
        rank, n = self.w[f"{key}.dt_projs_weight"].shape[-1], A.shape[-1]
        step, B, C = (u @ self.w[f"{key}.x_proj_weight"][k].T).split((rank, n, n), dim=-1)
        delta = F.softplus(step @ self.w[f"{key}.dt_projs_weight"][k].T + self.w[f"{key}.dt_projs_bias"][k])
        state, outputs = u.new_zeros(u.shape[0], d, n), []
        for t in range(u.shape[1]):
            drive = (delta[:, t] * u[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
            state = (delta[:, t].unsqueeze(-1) * A).exp() * state + drive
            outputs.append((state * C[:, t].unsqueeze(1)).sum(-1) + D * u[:, t])
        return torch.stack(outputs, dim=1)

    def ss2d(self, key, x):  # (B, H, W, C)
        B, H, W, _ = x.shape
        x, z = self.lin(f"{key}.in_proj", x).chunk(2, dim=-1)
        d = x.shape[-1]
        x = F.silu(self.conv(f"{key}.conv2d", x.permute(0, 3, 1, 2), padding=1, groups=d)).permute(0, 2, 3, 1)
        rows, columns = x.reshape(B, H * W, d), x.transpose(1, 2).reshape(B, W * H, d)
        y = self.scan(key, 0, rows) + self.scan(key, 2, rows.flip(1)).flip(1)
        across = self.scan(key, 1, columns) + self.scan(key, 3, columns.flip(1)).flip(1)
        y = y.view(B, H, W, d) + across.view(B, W, H, d).transpose(1, 2)
        return self.lin(f"{key}.out_proj", self.norm(f"{key}.out_norm", y) * F.silu(z))

    def encode(self, image):
        key = "backbone.vssm"
        x = self.conv(f"{key}.patch_embed.0", image.double(), stride=4).permute(0, 2, 3, 1)
        x, maps = self.norm(f"{key}.patch_embed.2", x), []
        for i in range(4):
            for j in range(self.depth(f"{key}.layers.{i}.blocks.")):
                block = f"{key}.layers.{i}.blocks.{j}"
                x = x + self.ss2d(f"{block}.op", self.norm(f"{block}.norm", x))
            maps.append(self.norm(f"{key}.outnorm{i}", x))
            if i < 3:
                parts = (x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2])
                x = self.norm(f"{key}.layers.{i}.downsample.norm", torch.cat(parts, dim=-1))
                x = self.lin(f"{key}.layers.{i}.downsample.reduction", x)
        return maps

    def rectify(self, i, a, b):
        key = f"backbone.cross_mamba.{i}.channel_weights.mlp"
        x = torch.cat([m.permute(0, 3, 1, 2).flatten(2) for m in (a, b)], dim=1)  # (B, 2C, HW)
        x = F.gelu(self.lin(f"{key}.1", self.norm(f"{key}.0", x)))
        u, z = F.silu(self.lin(f"{key}.3.in_proj", x)).chunk(2, dim=-1)
        x = self.lin(f"{key}.3.out_proj", self.norm(f"{key}.3.out_norm", self.scan(f"{key}.3", 0, u)) * z)
        gate = torch.sigmoid(self.lin(f"{key}.5", self.norm(f"{key}.4", x)))[:, None, :, 0].unsqueeze(1)
        gate_a, gate_b = gate.chunk(2, dim=-1)
        return a + gate_a * a, b + gate_b * b

    def interact(self, i, ct, pet):
        B, H, W, C = ct.shape
        inner, outer = ct.permute(0, 3, 1, 2), pet.permute(0, 3, 1, 2)
        for name, strides in (("inner", (1, 1)), ("outer", (1, 2, 2, 1))):
            x = inner if name == "inner" else outer
            for j, stride in enumerate(strides):
                key = f"backbone.region_patch.{i}.{name}_convs"
                x = self.conv(f"{key}.{3 * j}", x, stride=stride, padding=1)
                bn = f"{key}.{3 * j + 1}"
                moments = self.w[f"{bn}.running_mean"], self.w[f"{bn}.running_var"]
                x = F.relu(F.batch_norm(x, *moments, self.w[f"{bn}.weight"], self.w[f"{bn}.bias"]))
            inner, outer = (x, outer) if name == "inner" else (inner, x)
        key = f"backbone.channel_attn_mamba.{i}"
        outer = outer.permute(0, 2, 3, 1)
        outer = outer + self.ss2d(f"{key}.outer_attn", self.norm(f"{key}.outer_norm1", outer))
        result = torch.zeros_like(ct)
        for row in range(H // 4):
            for column in range(W // 4):
                rows, columns = slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4)
                window = inner[:, :, rows, columns].permute(0, 2, 3, 1)  # (B, 4, 4, C)
                normed = self.norm(f"{key}.inner_norm1", window.reshape(B, 16 * C)).view(B, 4, 4, C)
                window = window + self.ss2d(f"{key}.inner_attn", normed)
                result[:, rows, columns] = window + outer[:, row, column, None, None]
        return result

    def decode(self, fused):
        key = "decode_head"
        x = self.lin(f"{key}.layers_up.0.expand", fused[3])
        B, H, W, C = x.shape
        y = x.new_zeros(B, 2 * H, 2 * W, C // 4)
        for p in (0, 1):
            for q in (0, 1):
                y[:, p::2, q::2] = x[..., (p * 2 + q) * (C // 4) : (p * 2 + q + 1) * (C // 4)]
        y = self.norm(f"{key}.layers_up.0.norm", y)
        for i in (1, 2, 3):
            y = y + fused[3 - i]
            for j in range(self.depth(f"{key}.layers_up.{i}.blocks.")):
                y = self.channel_aware_block(f"{key}.layers_up.{i}.blocks.{j}", y)
            if i < 3:
                y = self.twice(self.lin(f"{key}.layers_up.{i}.upsample.linear", y))
                y = self.norm(f"{key}.layers_up.{i}.upsample.norm", y)
        y = self.twice(self.lin(f"{key}.up.linear1", self.norm(f"{key}.norm_up", y)))
        y = self.norm(f"{key}.up.norm", self.twice(self.lin(f"{key}.up.linear2", y)))
        return self.conv(f"{key}.output", y.permute(0, 3, 1, 2))[:, 0]

    def channel_aware_block(self, key, y):
        x = y * self.w[f"{key}.scale1"] + self.ss2d(f"{key}.op", self.norm(f"{key}.norm1", y))
        v = self.norm(f"{key}.norm2", x).permute(0, 3, 1, 2)
        v = F.gelu(self.conv(f"{key}.conv_blk.cab.0", v, padding=1))
        v = self.conv(f"{key}.conv_blk.cab.2", v, padding=1)
        fc = f"{key}.conv_blk.cab.3.fc"
        excited = sum(
            self.conv(f"{fc}.2", F.silu(self.conv(f"{fc}.0", descriptor)))
            for descriptor in (v.mean((2, 3), keepdim=True), v.amax((2, 3), keepdim=True))
        )
        return (v * torch.sigmoid(excited)).permute(0, 2, 3, 1) + x * self.w[f"{key}.scale2"]

    @staticmethod
    def twice(x):
        x = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear", align_corners=False)
        return x.permute(0, 2, 3, 1)


# a size with every part, for 128x128 images: the coarsest map is one window
MINIATURE = {
    "width": 32,
    "encoder_depths": (1, 1, 2, 1),
    "decoder_depths": (2, 1, 1),
    "states": 3,
    "decoder_states": 2,
    "gate_width": 8,
    "grid": 32,
}


@pytest.fixture(scope="session")
def miniature_cipa():
    """State dict of a miniature CIPA network, in float64."""
    return {key: value.double() for key, value in fill(cipa_shapes(**MINIATURE)).items()}


@pytest.fixture(scope="session")
def reference():
    """The reference's computation for a state dict: `reference(state)(ct, pet)`."""
    return Reference


@pytest.fixture(scope="session")
def tiny_cipa_shapes():
    return cipa_shapes(96, (2, 2, 9, 2), (4, 4, 4), 128)


@pytest.fixture(scope="session")
def tiny_cipa(tiny_cipa_shapes):
    return fill(tiny_cipa_shapes)


@pytest.fixture(scope="session")
def tiny_vmamba(tiny_cipa):
    """State dict of an ImageNet encoder of the tiny size, newer key names."""
    prefix = "backbone.vssm."
    state = {k[len(prefix) :]: v for k, v in tiny_cipa.items() if k.startswith(prefix) and "outnorm" not in k}
    return state | {
        "classifier.norm.weight": torch.ones(768),
        "classifier.head.weight": torch.ones(1000, 768),
    }


@pytest.fixture
def model(tmp_path):
    """The folder of a trained model in which nothing is wrong."""
    return write_model(tmp_path / "model")
