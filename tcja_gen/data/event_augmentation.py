"""Augmentation of event frames in training, after NDA (Li et al., ECCV 2022), and mixup.

NDA, with its authors' ranges: every recording is mirrored with probability 1/2, then moved in one of four ways, all
equally likely: roll, rotation, shear or cutout. A move is the same for all T frames and both polarities. Each pixel
takes the count of the nearest pixel, so counts stay whole numbers: mirroring and rolling keep every event, the other
moves lose some. As in the published code, what a roll moves out of the frame comes in on the other side.

All random numbers come from the generator, at once for the whole batch of all processes, and as many for every choice
of kinds. With a generator made from (seed, step), a batch is a function of these two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError

MOVES = ("roll", "rotation", "shear", "cutout")  # one of those asked for is drawn for each recording
KINDS = ("flip", *MOVES)
ROLL = 5  # pixels in each direction, at every size
ROTATION = math.radians(15)
SHEAR = math.radians(8.6)  # of the columns against the rows
CUTOUT = 8 / 48  # longest side of the square, as part of the shorter side of the frame


def parse_kinds(text: str) -> tuple[str, ...]:
    """Kinds of "flip,roll", of "nda" (all) or of "" (none); ValueError for an unknown one."""
    kinds = KINDS if text == "nda" else tuple(kind.strip() for kind in text.split(",") if kind.strip())
    _check_kinds(kinds)
    return kinds


def augment(
    frames: Tensor, generator: torch.Generator, kinds: Sequence[str] = KINDS, *, rank: int = 0, world: int = 1
) -> Tensor:
    """Mirror and move event frames `(N, T, 2, H, W)`, float; a new tensor of the same shape on the same device.

    generator: on the CPU; as many numbers are drawn from it whatever the kinds are
    kinds: of `KINDS`; each recording is flipped or not, and gets one of the others
    rank, world: `frames` are every `world`-th of a batch, from `rank` on, as in `Batches`

    ValueError for an unknown kind, or frames that are not float `(N, T, 2, H, W)`.
    """
    _check_kinds(kinds)
    _check(frames)
    u = torch.rand(len(frames) * world, 5, generator=generator)[rank::world].to(frames.device)  # (N, 5) in [0, 1)
    if "flip" in kinds:
        frames = torch.where(_wide(u[:, 0] < 0.5), frames.flip(-1), frames)
    moves = [kind for kind in MOVES if kind in kinds]
    drawn = (u[:, 1] * len(moves)).long()  # (N,)
    moved = frames.clone()
    for number, kind in enumerate(moves):
        chosen = (drawn == number).nonzero().flatten()
        if len(chosen):
            moved[chosen] = _MOVE[kind](frames[chosen], u[chosen, 2:])
    return moved


def mixup(frames: Tensor, targets: Tensor, generator: torch.Generator, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
    """Blend each recording and its target with another of the batch: λ · own + (1 - λ) · other's.

    frames: float `(N, ...)`, event frames or images of the whole batch, from which the partners are taken
    targets: float `(N, classes)`, each summing to 1
    alpha: λ, one for the batch, follows Beta(alpha, alpha); near 0 batches are hardly blended, at 1 λ is uniform

    ValueError if targets are no float `(N, classes)`, or alpha is not positive.
    """
    if targets.ndim != 2 or len(targets) != len(frames) or not targets.is_floating_point():
        found = f"{targets.dtype} {tuple(targets.shape)}"
        raise UserError(f"targets are {found}, wanted float ({len(frames)}, classes): use one_hot(labels).float()")
    if alpha <= 0:
        raise UserError(f"alpha {alpha} of mixup is not positive: take 0.5, or leave mixup out")
    seed = int(torch.randint(2**62, (), generator=generator))  # torch draws no beta from a generator, numpy does
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    partner = torch.randperm(len(frames), generator=generator)
    frames = frames * share + frames[partner.to(frames.device)] * (1 - share)
    return frames, targets * share + targets[partner.to(targets.device)] * (1 - share)


def _roll(frames: Tensor, u: Tensor) -> Tensor:
    """Move by whole pixels down and right; what leaves the frame comes in on the other side. u `(n, 3)` in [0, 1)."""
    n, steps, channels, height, width = frames.shape
    by = (u[:, :2] * (2 * ROLL + 1)).long() - ROLL  # (n, 2)
    rows = (torch.arange(height, device=u.device) - by[:, :1]) % height  # (n, H)
    columns = (torch.arange(width, device=u.device) - by[:, 1:]) % width  # (n, W)
    recording = torch.arange(n, device=u.device)[:, None, None]
    planes = frames.flatten(1, 2).permute(0, 2, 3, 1)  # (n, H, W, T·2)
    moved = planes[recording, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).reshape(n, steps, channels, height, width)


def _rotate(frames: Tensor, u: Tensor) -> Tensor:
    """Turn about the middle; the corners are filled with black."""
    angle = (2 * u[:, 0] - 1) * ROTATION
    cos, sin = angle.cos(), angle.sin()
    return _affine(frames, torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2))


def _shear(frames: Tensor, u: Tensor) -> Tensor:
    """Slant: a row moves to the side by its distance from the middle row times the tangent."""
    slant = ((2 * u[:, 0] - 1) * SHEAR).tan()
    one, zero = torch.ones_like(slant), torch.zeros_like(slant)
    return _affine(frames, torch.stack([one, slant, zero, one], dim=1).view(-1, 2, 2))


def _affine(frames: Tensor, matrix: Tensor) -> Tensor:
    """Take each pixel's counts from `matrix` `(n, 2, 2)` times its (x, y) from the middle, in pixels."""
    height, width = frames.shape[-2:]
    sides = torch.tensor([width, height], device=frames.device, dtype=matrix.dtype)
    theta = F.pad(matrix * sides / sides[:, None], (0, 1))  # torch counts in half sides; (n, 2, 3)
    planes = frames.flatten(1, 2)  # (n, T·2, H, W)
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False).to(frames.dtype)
    return F.grid_sample(planes, grid, mode="nearest", align_corners=False).view_as(frames)


def _cut_out(frames: Tensor, u: Tensor) -> Tensor:
    """Empty a square anywhere in the frame; at the border it is cut off."""
    height, width = frames.shape[-2:]
    longest = max(1, round(CUTOUT * min(height, width)))
    side = 1 + (u[:, :1] * longest).long()  # (n, 1) of 1 ... longest
    top, left = (u[:, 1:2] * height).long() - side // 2, (u[:, 2:3] * width).long() - side // 2
    rows, columns = torch.arange(height, device=u.device), torch.arange(width, device=u.device)
    in_rows = (rows >= top) & (rows < top + side)  # (n, H)
    in_columns = (columns >= left) & (columns < left + side)  # (n, W)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return frames.masked_fill(hole[:, None, None], 0)


_MOVE = {"roll": _roll, "rotation": _rotate, "shear": _shear, "cutout": _cut_out}


def _wide(chosen: Tensor) -> Tensor:
    return chosen[:, None, None, None, None]


def _check_kinds(kinds: Sequence[str]) -> None:
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"unknown augmentation {unknown[0]!r}: take some of {', '.join(KINDS)}")


def _check(frames: Tensor) -> None:
    if frames.ndim != 5 or frames.shape[2] != 2 or not frames.is_floating_point():
        raise UserError(f"frames are {frames.dtype} {tuple(frames.shape)}, wanted float (N, T, 2, H, W)")
