"""From a decoder's spikes to an image: a linear layer, a weighted sum over time, then tanh.

membrane    w_t = 0.8^(T-1-t), the membrane of a neuron that never fires (FSVAE); the weights do not sum to 1
mean        w_t = 1 / T, the mean over time, as the TCJA paper describes its generator
tcja        TCJA's channel-wise branch on the output currents y_t = layer(x_t), of an image with C channels:

                z[t, c] = mean over (h, w) of y_t[c]     f = sigmoid(B)     image = tanh(sum over t of f[t, c] y_t[c])

            B = CLA(z) with kernel 1: T^2 weights and T products a channel. This is "FSVAE_TJCA" in the code of Qiu et
            al., "When Spiking Neural Networks Meet Temporal Attention Image Decoding and Adaptive Spiking Neuron" (ICLR
            2023 Tiny Papers, github.com/bollossom/ICLR_TINY_SNN), which shares an author with TCJA-SNN: the likely
            place of TCJA in that paper's generator. No spike is gated.
tcja-both   f = sigmoid(A * B), with the temporal branch A (k_time = 4, or T if that is less), too: the block of the
            TCJA paper. The code above makes this second convolution and never uses it

Of event frames, which are a stream, not one image but T are read out, by T weights each:

frames      frame_t = tanh(sum over s of w[t, s] layer(x_s)), with w (T, T) learnt, the unit matrix at first. It sums
            over all s, since neurons fire late: what belongs into the first frame may need spikes of later steps
"""

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..registry import READOUTS, register_readout
from .attention import CLA, TCJA, Gate
from .neurons import weighted_sum
from .normalisation import channels_last, channels_third

DECAY = 0.8


@register_readout("membrane")
def membrane(time_steps: int) -> Tensor:
    return DECAY ** torch.arange(time_steps - 1, -1, -1).float()


@register_readout("mean")
def mean(time_steps: int) -> Tensor:
    return torch.full((time_steps,), 1 / time_steps)


@register_readout("tcja")
def tcja(time_steps: int, channels: int) -> Gate:
    return CLA(time_steps, channels, k_channel=1)


@register_readout("tcja-both")
def tcja_both(time_steps: int, channels: int) -> Gate:
    return TCJA(time_steps, channels, k_time=min(4, time_steps), k_channel=1)


@register_readout("frames")
def frames(time_steps: int) -> Tensor:
    return torch.eye(time_steps)


def make_readout(kind: str, time_steps: int, channels: int) -> "Readout | GatedReadout | FrameReadout":
    """The registered readout of this name, for images with C = `channels`."""
    if _is_gated(kind):
        return GatedReadout(kind, time_steps, channels)
    return (FrameReadout if makes_frames(kind) else Readout)(kind, time_steps)


def makes_frames(kind: str) -> bool:
    """Whether a registered readout gives a frame for each time step, and not one image."""
    return not _is_gated(kind) and _weights(kind, 2).dim() == 2


def _is_gated(kind: str) -> bool:
    return "channels" in inspect.signature(READOUTS[kind]).parameters


def readout_weights(kind: str, time_steps: int) -> Tensor:
    """Time weights of a registered readout: w (T,) of one image, or (T, T), a row for each of T frames. With t in place
    of T: those that read out the first t steps."""
    w = _weights(kind, time_steps)
    if w.shape not in ((time_steps,), (time_steps, time_steps)):
        wanted = f"({time_steps},), or ({time_steps}, {time_steps}) for frames"
        raise UserError(f"readout {kind!r} gives weights of shape {tuple(w.shape)}, wanted {wanted}")
    return w.float()


def _weights(kind: str, time_steps: int) -> Tensor:
    given = READOUTS[kind](time_steps)
    try:
        w = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"readout {kind!r} gives a {type(given).__name__}; wanted a tensor of weights") from None
    if w.is_complex() or not (w.is_meta or w.isfinite().all()):
        raise UserError(f"readout {kind!r} gives weights that are not all finite numbers")
    return w


class _WeightedSum(torch.autograd.Function):
    """sum over t of w_t x_t. Its gradient is a broadcast product, which is faster than autograd's matrix product."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return weighted_sum(x, w)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (w,) = ctx.saved_tensors
        w = w.to(grad.dtype).view(-1, *[1] * grad.dim())
        return w * grad.contiguous(), None  # laid out as the spikes are


class Readout(nn.Module):
    """tanh(sum over t of w_t layer(x_t)). The `layer` is linear, so it runs once, on the sum over t of w_t x_t."""

    def __init__(self, kind: str, time_steps: int):
        super().__init__()
        self.kind = kind
        self.register_buffer("weights", readout_weights(kind, time_steps), persistent=False)

    def forward(self, x: Tensor, layer: nn.ConvTranspose2d, gate: Gate | None = None) -> Tensor:
        """Spikes x (T, N, C, H, W) -> images (N, C', H, W) in (-1, 1), float32. With a gate, gate(x) is read out."""
        return self._read(x, self.weights, layer, gate)

    def of_sum(self, total: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """As `forward`, from the spikes' sum over time, (N, C, H, W), weighted by `weights`."""
        return self._image(total, self.weights, layer)

    def prefixes(self, x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """Images read out after the first 1, 2, ... T steps: (T, N, C', H, W). The last one is that of `forward`."""
        times = range(1, len(x) + 1)
        return torch.stack([self._read(x[:t], readout_weights(self.kind, t).to(x.device), layer) for t in times])

    @classmethod
    def _read(cls, x: Tensor, w: Tensor, layer: nn.ConvTranspose2d, gate: Gate | None = None) -> Tensor:
        total = gate.weighted_sum(x, w) if gate else _WeightedSum.apply(channels_last(x), w)  # (N, P, C)
        return cls._image(channels_third(total[None], x.shape[1:])[0], w, layer)

    @staticmethod
    def _image(total: Tensor, w: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        y = layer(total)
        return torch.tanh(y.float() + (w.sum() - 1) * layer.bias.float().view(-1, 1, 1))


class GatedReadout(nn.Module):
    """tanh(sum over t of f[t] layer(x_t)), with a gate f (T, N, C') computed from the mean currents of the C' channels.

    The `layer` is linear, so neither its currents nor their means are needed step by step: the means are products of
    the spikes with one image per channel, and the layer runs once per channel, on the sum over t of f[t, c] x_t.
    """

    def __init__(self, kind: str, time_steps: int, channels: int):
        super().__init__()
        self.kind, self.gate = kind, READOUTS[kind](time_steps, channels)
        if not isinstance(self.gate, Gate):
            raise UserError(
                f"readout {kind!r} takes channels and gives a {type(self.gate).__name__}; wanted an nn.Gate"
            )

    def forward(self, x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """Spikes x (T, N, C, H, W) -> images (N, C', H, W) in (-1, 1), float32."""
        return self._read(x, self.gates(x, layer), layer)

    def gates(self, x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """f (T, N, C') for spikes x (T, N, C, H, W)."""
        return self.gate.gate(mean_currents(x, layer))

    def prefixes(self, x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """Images read out after the first 1, 2, ... T steps: (T, N, C', H, W). The last one is that of `forward`.

        A gate depends on all steps. After t of them, those to come count as silent: their currents are 0.
        """
        z, images = mean_currents(x, layer), []
        for t in range(1, len(x) + 1):
            f = self.gate.gate(F.pad(z[:t], (0, 0, 0, 0, 0, len(x) - t)))[:t]
            images.append(self._read(x[:t], f, layer))
        return torch.stack(images)

    @staticmethod
    def _read(x: Tensor, f: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        totals = torch.einsum("tnk,tnpc->knpc", f.to(x.dtype), channels_last(x))  # one sum over time per channel
        sums, w = channels_third(totals, x.shape[1:]), layer.weight.unbind(1)
        y = torch.cat(
            [F.conv_transpose2d(s, v[:, None], padding=layer.padding) for s, v in zip(sums, w, strict=True)], 1
        )
        return torch.tanh(y.float() + (f.float().sum(0) * layer.bias.float())[..., None, None])


class FrameReadout(nn.Module):
    """tanh(sum over s of w[t, s] layer(x_s)) for every t. The weights w (T, T) are learnt."""

    def __init__(self, kind: str, time_steps: int):
        super().__init__()
        self.kind, self.weights = kind, nn.Parameter(readout_weights(kind, time_steps))

    def forward(self, x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
        """Spikes x (T, N, C, H, W) -> frames (T, N, C', H, W) in (-1, 1), float32."""
        y = layer(x.flatten(0, 1)).float().unflatten(0, x.shape[:2])
        return torch.tanh(torch.einsum("ts,snchw->tnchw", self.weights.float(), y))

    prefixes = forward  # its images over time are the frames


def mean_currents(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """The mean over pixels of layer(x_t), (T, N, C'), for spikes x (T, N, C, H, W) and a layer of stride 1.

    It is linear in x_t, so it is the product of x_t with an image: the layer's transpose of 1 / (H W) everywhere.
    """
    c, sides = layer.out_channels, x.shape[-2:]
    ones = torch.eye(c, device=x.device, dtype=layer.weight.dtype)[:, :, None, None].expand(c, c, *sides)
    m = F.conv2d(ones / sides.numel(), layer.weight, padding=layer.padding)  # (C', C, H, W)
    return F.linear(channels_last(x).flatten(2), m.permute(0, 2, 3, 1).flatten(1), layer.bias)
