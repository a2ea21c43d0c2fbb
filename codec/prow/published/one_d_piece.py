"""One-D-Piece S-256, B-256 and L-256: a 256 x 256 px picture as 256 tokens of 12 bits, of which any prefix decodes.

The tokenizer of Miwa et al., "One-D-Piece: Image Tokenizer Meets Quality-Controllable Compression" (arXiv 2501.10064),
which is TiTok (Yu et al., arXiv 2406.07550) trained with tail drop. This is plain torch for their published weights:

    model = load("model.safetensors")
    indices = model.encode(images)            # [B, 3, 256, 256] in [0, 1] -> [B, 256]
    pictures = model.decode(indices[:, :32])  # after any prefix

Quirks of the published code that its weights were trained with, and that are repeated here:

- The encoder's tokens [B, N, W] are read as [B, W, N], without a transpose, before the last projection.
- A shortcut of the pixel decoder is applied to its block's output, not to its input.
- The pixel decoder is fed with a mean of its codebook's vectors, weighted with a softmax, not with one of them.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, ModelError

SIDE = 256  # px
PATCH = 16  # px
GRID = SIDE // PATCH
TOKENS = 256
CODES = 4096
CODE_DIM = 12  # numbers in a vector of the codebook
PIXEL_CODES = 1024
PIXEL_DIM = 256
GROUPS = 32  # of a GroupNorm
UPS = ((1, 1), (1, 2), (2, 2), (2, 4), (4, 4))  # channels out of and into the levels, finest first, in `channels`
BATCH = 8  # pictures at once


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of one of the models: width, layers and heads of both transformers; channels of the pixel decoder at full
    resolution, a multiple of 32 (128 in all that are published)."""

    name: str
    width: int
    layers: int
    heads: int
    channels: int = 128


CONFIGS = {
    config.name: config
    for config in (
        Config("one-d-piece-s-256", 512, 8, 8),
        Config("one-d-piece-b-256", 768, 12, 12),
        Config("one-d-piece-l-256", 1024, 24, 16),
    )
}


# -- transformers ------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention of all with all; parameters named as those of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] -> [B, N, W]."""
        batch, length, width = x.shape
        joint = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = joint.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """What encoder and decoder have in common: a class token, patches and latent tokens, in one sequence."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.class_embedding = nn.Parameter(torch.empty(1, width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + GRID**2, width))
        self.latent_token_positional_embedding = nn.Parameter(torch.empty(TOKENS, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))

    def run(self, patches: Tensor, latents: Tensor) -> Tensor:
        """Patches [B, 256, W] and latent tokens [B, n, W] -> float32 [B, 1 + 256 + n, W]: a class token before them."""
        first = self.class_embedding.expand(len(patches), 1, -1)
        grid = torch.cat([first, patches], 1) + self.positional_embedding
        latents = latents + self.latent_token_positional_embedding[: latents.shape[1]]
        x = self.ln_pre(torch.cat([grid, latents], 1))
        x = x.to(self.transformer[0].ln_1.weight.dtype)  # type: ignore[union-attr] - a Block
        for block in self.transformer:
            x = block(x)
        return x.float()


class Encoder(Transformer):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.patch_embed = nn.Conv2d(3, config.width, PATCH, PATCH)
        self.conv_out = nn.Conv2d(config.width, CODE_DIM, 1)

    def forward(self, images: Tensor, latents: Tensor) -> Tensor:
        """Images [B, 3, 256, 256], latent tokens [256, W] -> [B, 256, 12]."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = self.run(patches, latents.expand(len(images), -1, -1))
        x = self.ln_post(x[:, 1 + GRID**2 :])
        x = x.reshape(len(images), -1, TOKENS, 1)  # not a transpose: the published weights want it so
        return self.conv_out(x)[..., 0].transpose(1, 2)


class Decoder(Transformer):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width = config.width
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_embed = nn.Linear(CODE_DIM, width)
        self.ffn = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.Tanh(), nn.Conv2d(2 * width, PIXEL_CODES, 1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors of the codebook [B, n, 12] -> logits of the pixel decoder's codes [B, 1024, 16, 16]."""
        patches = self.mask_token.expand(len(vectors), GRID**2, -1)
        x = self.ln_post(self.run(patches, self.decoder_embed(vectors))[:, 1 : 1 + GRID**2])
        return self.ffn(x.transpose(1, 2).unflatten(2, (GRID, GRID)))


# -- pixel decoder: the MaskGIT VQGAN's ----------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before), nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm2, self.conv2 = _norm(after), nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.nin_shortcut = nn.Conv2d(after, after, 1, bias=False) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.nin_shortcut is None else self.nin_shortcut(y))  # of y: a quirk of the published code


class UpBlock(nn.Module):
    """Two residual blocks, then twice the size, except at full resolution."""

    def __init__(self, before: int, after: int, grows: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList([ResidualBlock(before, after), ResidualBlock(after, after)])
        self.upsample_conv = nn.Conv2d(after, after, 3, padding=1) if grows else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return x if self.upsample_conv is None else self.upsample_conv(F.interpolate(x, scale_factor=2.0))


class PixelDecoder(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        most = UPS[-1][1] * channels
        self.conv_in = nn.Conv2d(PIXEL_DIM, most, 3, padding=1)
        self.mid = nn.ModuleList([ResidualBlock(most, most), ResidualBlock(most, most)])
        ups = [UpBlock(before * channels, after * channels, level > 0) for level, (after, before) in enumerate(UPS)]
        self.up = nn.ModuleList(ups)
        self.norm_out, self.conv_out = _norm(channels), nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 256, 16, 16] -> pixels [B, 3, 256, 256], about 0 to 1."""
        x = self.conv_in(x)
        for block in (*self.mid, *reversed(self.up)):
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class Codebook(nn.Module):
    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)


# -- the whole -----------------------------------------------------------------------------------------------------


class OneDPiece(nn.Module):
    """A One-D-Piece model; new ones have no meaningful weights (`load`)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.latent_tokens = nn.Parameter(torch.empty(TOKENS, config.width))
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize, self.pixel_quantize = Codebook(CODES, CODE_DIM), Codebook(PIXEL_CODES, PIXEL_DIM)
        self.pixel_decoder = PixelDecoder(config.channels)

    @property
    def device(self) -> torch.device:
        return self.latent_tokens.device

    @torch.inference_mode()
    def latents(self, images: Tensor) -> Tensor:
        """Images [B, 3, 256, 256] in [0, 1] -> what is quantised, float32 [B, 256, 12]. Raises InputError."""
        _check_images(images)
        parts = images.split(BATCH)
        return torch.cat([self.encoder(part.to(self.device, torch.float32), self.latent_tokens) for part in parts])

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Images as tokens.

        Args:
            images: [B, 3, 256, 256], RGB in [0, 1].

        Returns:
            int64 [B, 256], 0 to 4095: the codes nearest to the latents, both of length 1.

        Raises:
            InputError: another shape, type or range.
        """
        return (F.normalize(self.latents(images), dim=-1) @ self._codes().T).argmax(-1)

    @torch.inference_mode()
    def decode(self, indices: Tensor, *, clamp: bool = True) -> Tensor:
        """Any prefix of the tokens as images.

        Args:
            indices: integers [B, n], n from 1 to 256, each 0 to 4095.
            clamp: whether to clamp pixels to [0, 1].

        Returns:
            float32 [B, 3, 256, 256].

        Raises:
            InputError: another shape, type or range.
        """
        _check_indices(indices)
        pixels = torch.cat([self._decode(part.to(self.device)) for part in indices.split(BATCH)])
        return pixels.clamp(0, 1) if clamp else pixels

    def _decode(self, indices: Tensor) -> Tensor:
        weights = self.decoder(F.embedding(indices, self._codes())).softmax(1)
        return self.pixel_decoder(torch.einsum("bchw,cd->bdhw", weights, self.pixel_quantize.embedding.weight))

    def _codes(self) -> Tensor:
        """[4096, 12], of length 1."""
        return F.normalize(self.quantize.embedding.weight, dim=-1)


class OneDPieceTokenizer:
    """A One-D-Piece model as `prow.ordered.OrderedTokenizer`."""

    tile, tokens, alphabet = SIDE, TOKENS, CODES

    def __init__(self, model: OneDPiece) -> None:
        self.model = model

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """RGB uint8 [B, 256, 256, 3] -> int64 [B, 256]."""
        images = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 255
        return self.model.encode(images).cpu().numpy()

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """[B, n] -> RGB uint8 [B, 256, 256, 3]."""
        pixels = self.model.decode(torch.from_numpy(np.ascontiguousarray(tokens, np.int64)))
        return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise InputError(f"images of {_kind(images)} came, wanted a tensor of floats in [0, 1]")
    if images.ndim != 4 or not len(images) or images.shape[1:] != (3, SIDE, SIDE):
        raise InputError(f"images {list(images.shape)} came, wanted [B, 3, {SIDE}, {SIDE}], B at least 1")
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise InputError(f"images from {low:g} to {high:g} came, wanted values from 0 to 1")


def _check_indices(indices: Tensor) -> None:
    if not isinstance(indices, Tensor) or indices.dtype not in (torch.int64, torch.int32):
        raise InputError(f"indices of {_kind(indices)} came, wanted a tensor of int64 or int32")
    if indices.ndim != 2 or not len(indices) or not 1 <= indices.shape[1] <= TOKENS:
        raise InputError(f"indices {list(indices.shape)} came, wanted [B, n], B at least 1 and n from 1 to {TOKENS}")
    low, high = (int(value) for value in indices.aminmax())
    if low < 0 or high >= CODES:
        raise InputError(f"indices from {low} to {high} came, wanted 0 to {CODES - 1}")


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


# -- loading -------------------------------------------------------------------------------------------------------


def load(path: str | Path, *, config: Config | None = None, device: str = "cpu", bf16: bool = False) -> OneDPiece:
    """A model from published weights. On a CPU they are mapped, not read: pages come when they are first used.

    Args:
        path: model.safetensors, or a PyTorch file of the same tensors, such as pytorch_model.bin. No code in it runs.
        config: sizes of the model; by default the published one that has as many layers and as wide ones.
        device: where it runs. bf16: both transformers in bfloat16: half their memory, and a few indices differ.

    Raises:
        ModelError: no such file, not a checkpoint, not one of One-D-Piece, or tensors missing, extra or misshapen, each
            of which is named.
    """
    path = Path(path)
    tensors = _read(path)
    config = config or _recognise(tensors, path.name)
    with torch.device("meta"):
        model = OneDPiece(config)
    _check_tensors(tensors, model.state_dict(), f"{path.name} is not {config.name}")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    if bf16:
        model.encoder.transformer.bfloat16()
        model.decoder.transformer.bfloat16()
    return model.requires_grad_(False).eval().to(device)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, of either kind. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path} came, wanted a file of weights (model.safetensors or pytorch_model.bin)")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise ModelError(f"{path.name} does not hold tensors by name, as a checkpoint of One-D-Piece does")
    return dict(tensors)


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)  # which maps it
    except SafetensorError as error:
        raise ModelError(f"{path.name} is no whole safetensors file: {error}") from None


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    import zipfile

    try:  # files of PyTorch before 1.6 are no zip archives, and cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{path.name} holds more than tensors, which is not read: it could run code ({reason})"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"{path.name} is no whole PyTorch file: {reason}") from None


def _recognise(tensors: Mapping[str, Tensor], name: str) -> Config:
    """Which of the published models this is. Raises ModelError."""
    latents = tensors.get("latent_tokens")
    if latents is None or latents.ndim != 2:
        raise ModelError(f"{name} has no latent_tokens [{TOKENS}, W]: it is no checkpoint of One-D-Piece")
    count, width = latents.shape
    if count != TOKENS:
        raise ModelError(
            f"{name} has {count} latent tokens, One-D-Piece has {TOKENS}: this is perhaps a checkpoint of TiTok, which "
            "does not decode from a prefix"
        )
    for config in CONFIGS.values():
        if config.width == width:
            return config
    raise ModelError(f"{name} is {width} wide, wanted one of {_widths()}")


def _widths() -> str:
    return ", ".join(f"{config.width} ({config.name})" for config in CONFIGS.values())


def _check_tensors(came: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raises ModelError that names all that is missing, extra or misshapen, or holds no floats."""
    wrong = [f"{name} is missing" for name in wanted if name not in came]
    wrong += [f"{name} is extra" for name in came if name not in wanted]
    for name in came.keys() & wanted.keys():
        tensor, shape = came[name], list(wanted[name].shape)
        if list(tensor.shape) != shape:
            wrong.append(f"{name} is {list(tensor.shape)}, wanted {shape}")
        elif not tensor.is_floating_point():
            wrong.append(f"{name} is {tensor.dtype}, wanted floats")
    if wrong:
        raise ModelError(f"{what}: {'; '.join(sorted(wrong))}")
