"""Hugging Face encoders as networks: texts -> tokens x (n, 2, length) -> Outputs(features (n, width), logits (n, classes)).

    x = tokenise(texts, encoder)                    ids x[:, 0] and mask x[:, 1], by the encoder's own tokenizer
    network = text_network(encoder, classes=2)      backbone: the encoder, mean over a text's tokens; a linear head
    network = lora(network, rank=8)                 or da.model.finetune.frozen(network), or as it is: full fine-tuning

An encoder is a folder that holds config.json, model.safetensors and the tokenizer's files, or a name on the Hugging Face Hub. A name is
looked up in the local cache; the Hub itself is asked where `download=True` says so, and nowhere else. Weights are never made up: a folder
that lacks some is an error, and `pretrained=False` is how random ones are asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from da.networks.network import Network

_FILES = (
    "*.json",
    "*.txt",
    "*.model",
    "*.safetensors",
)  # of a repository on the Hub: no pickles, no copies in other formats
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.bpe")


class Encoder(nn.Module):
    """Tokens x (b, 2, length) int64, ids and mask, to (b, width): the mean of the last layer's states over a text's own tokens.

    Columns that are padding in every text of the batch are cut before the encoder sees them. TypeError, ValueError for another x.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def states(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (b, l, width) of the last layer, ids (b, l) and mask (b, l), l the number of tokens of the longest text."""
        if x.dtype != torch.int64:
            raise TypeError(
                f"x must hold token ids and mask in int64, as `tokenise` makes them; got {x.dtype}: see `da.networks.text_encoders.tokens`"
            )
        if x.ndim != 3 or x.shape[1] != 2:
            raise ValueError(
                f"x must be tokens (b, 2, length), as `tokenise` makes them; got shape {tuple(x.shape)}"
            )
        ids, mask = x[:, :, : int(x[:, 1].sum(1).max())].unbind(
            1
        )  # (b, l) each; a text's tokens stand first
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state, ids, mask

    def forward(self, x: Tensor) -> Tensor:
        hidden, _, mask = self.states(x)  # (b, l, width)
        own = mask.unsqueeze(2).to(hidden.dtype)  # (b, l, 1)
        return (hidden * own).sum(1) / own.sum(1)


def tokens(x: Tensor, generator: torch.Generator) -> Tensor:
    """The transform of tokens: x as it is, in int64. `da.data.transforms.identity` would make floats of it."""
    return x


def tokenise(
    texts: Sequence[str], encoder: str | Path, *, max_length: int = 256, download: bool = False
) -> Tensor:
    """Texts as x (n, 2, length) int64 by the encoder's own tokenizer: token ids x[:, 0], and x[:, 1] 1 on tokens and 0 on padding.

    length is that of the longest text, at most max_length tokens with the special ones; longer texts lose their end, padding stands on
    the right. `encoder` and `download` as for `text_network`, whose errors it raises too; also ValueError for no texts, for a text
    without a token and for more tokens than the encoder has positions, TypeError for what is not a text.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(
            f"texts must be a sequence of strings; got {type(texts).__name__} with {sorted({type(t).__name__ for t in texts})}"
        )
    if len(texts) == 0:
        raise ValueError("texts must hold at least one text; got none")
    folder = find_encoder(encoder, download=download)
    tokenizer = load_tokenizer(folder)
    most = min(
        tokenizer.model_max_length,
        getattr(_config(folder), "max_position_embeddings", None) or tokenizer.model_max_length,
    )
    if max_length > most:
        raise ValueError(
            f"max_length must be at most {most}, the positions of {encoder}; got {max_length}"
        )
    return apply_tokenizer(tokenizer, texts, max_length=max_length)


def apply_tokenizer(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> Tensor:
    """`tokenise` with a tokenizer of transformers at hand. Raises ValueError where a text has no token, or no room for one."""
    if max_length <= tokenizer.num_special_tokens_to_add():
        raise ValueError(
            f"max_length must leave room for a token beside {tokenizer.num_special_tokens_to_add()} special ones; got {max_length}"
        )
    made = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    empty = (made["attention_mask"].sum(1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"texts must have at least one token each; text {empty[0]} has none: {texts[empty[0]][:50]!r}"
        )
    return torch.stack([made["input_ids"], made["attention_mask"]], dim=1)  # (n, 2, length)


def text_network(
    encoder: str | Path, classes: int, *, pretrained: bool = True, download: bool = False
) -> Network:
    """The encoder and a new linear head on the mean of its last layer's states (no pooler, no bottleneck).

    Args:
        encoder: a folder, or a name on the Hugging Face Hub whose files are in its cache.
        classes: logits of the head.
        pretrained: False asks for the same architecture with random weights, which learn as fast as the head.
        download: fetch into the cache what it lacks of a name.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: no such folder, a name that is not in the cache (or cannot be fetched), or no config.json or weights in it.
        ValueError: what is there cannot be read, lacks weights of the architecture, or is no encoder.
    """
    folder = find_encoder(encoder, download=download)
    model = _load_model(folder) if pretrained else _random_model(folder)
    if hasattr(model, "pooler"):
        model.pooler = None  # its output is not used, and many files lack its weights
    return Network(
        Encoder(model.float()),
        nn.Identity(),
        nn.Linear(model.config.hidden_size, classes),
        pretrained=pretrained,
    )


def lora(
    network: Network,
    *,
    rank: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    target_modules: Sequence[str] | None = None,
) -> Network:
    """A copy of a text network whose encoder is frozen but for adapters of low rank (Hu et al., ICLR 2022); adapters and head learn.

    A chosen layer W x becomes W x + (alpha / rank) B A dropout(x), A (rank, inputs) drawn at random and B (outputs, rank) zero, so that
    the copy starts at exactly the network's outputs. Nothing in it counts as pretrained: adapters learn at the head's rate.

    Args:
        rank: of B A, at least 1.
        alpha: scale of what is added, times the rank; a number > 0.
        dropout: probability with which an adapter's inputs are dropped in training, in [0, 1).
        target_modules: names of the linear layers that are adapted; None: query and value projections, as the paper, where peft knows
            what they are called in this architecture.

    Raises ImportError where peft is not installed, TypeError for a network without an `Encoder`, ValueError for values out of range and
    for layers that the encoder does not have.
    """
    if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"rank must be at least 1, alpha positive and dropout in [0, 1); got {rank}, {alpha} and {dropout}"
        )
    own = copy.deepcopy(network)
    model = _encoder(own).model
    peft = extra("peft")
    wanted = None if target_modules is None else list(target_modules)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=wanted)
    try:
        peft.inject_adapter_in_model(config, model.requires_grad_(False))
    except ValueError as error:
        raise ValueError(
            f"target_modules: {wanted or 'none given'} cannot be adapted in {type(model).__name__}: {error}"
        ) from error
    own.head.requires_grad_(True)
    own.pretrained = False
    return own


def find_encoder(encoder: str | Path, *, download: bool = False) -> Path:
    """The folder of `encoder`: itself, or where the Hugging Face cache keeps that name. Raises as `text_network`."""
    path = Path(encoder).expanduser()
    if not path.is_dir():
        if (
            isinstance(encoder, Path)
            or encoder.startswith((".", "/", "~"))
            or not 0 <= encoder.count("/") <= 1
        ):
            raise FileNotFoundError(
                f"encoder: no folder {encoder}; give one with config.json, weights and tokenizer, or a name on the Hub"
            )
        path = _cached(encoder, download=download)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"encoder: no config.json in {path}; give the folder that `save_pretrained` wrote"
        )
    return path


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises FileNotFoundError where there is none, ValueError for one that is broken or cannot pad."""
    if not any(path for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        raise FileNotFoundError(
            f"encoder: no tokenizer in {folder}; save the encoder's own there: tokenizer.save_pretrained(folder)"
        )
    with _reading(folder):
        tokenizer = extra("transformers").AutoTokenizer.from_pretrained(folder)
    known = getattr(_config(folder), "vocab_size", len(tokenizer))
    if len(tokenizer) > known:
        raise ValueError(
            f"encoder: the tokenizer in {folder} has {len(tokenizer)} tokens, the encoder {known}: they are no pair"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"encoder: the tokenizer in {folder} has no padding token, which texts of different lengths need"
        )
    return tokenizer


def _cached(name: str, *, download: bool) -> Path:
    hub = extra("huggingface_hub")
    try:
        return Path(
            hub.snapshot_download(name, allow_patterns=list(_FILES), local_files_only=not download)
        )
    except Exception as error:  # no such name, no network, a gate: the hub's own classes, all of them said in their message
        how = (
            f"could not be fetched ({' '.join(str(error).split())})"
            if download
            else "is not in the cache of the Hugging Face Hub either"
        )
        more = (
            "give the folder of an encoder"
            if download
            else "ask for it with --download (download=True), or give a folder"
        )
        raise FileNotFoundError(f"encoder: {name!r} is no folder here and {how}; {more}") from error


def _config(folder: Path) -> Any:
    with _reading(folder):
        return extra("transformers").AutoConfig.from_pretrained(folder)


def _load_model(folder: Path) -> Any:
    if not any(path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)):
        raise FileNotFoundError(
            f"encoder: no weights (model.safetensors) in {folder}; random ones are asked for with pretrained=False"
        )
    config = _encoder_config(folder)
    with _reading(folder):
        model, report = extra("transformers").AutoModel.from_pretrained(
            folder, config=config, output_loading_info=True
        )
    made_up = sorted(
        key
        for key in {*report["missing_keys"], *map(str, report["mismatched_keys"])}
        if "pooler" not in key
    )
    if made_up:
        raise ValueError(
            f"encoder: the weights in {folder} lack {len(made_up)} of {type(model).__name__}, such as {made_up[0]}"
        )
    return model


def _random_model(folder: Path) -> Any:
    config = _encoder_config(folder)
    with _reading(folder):
        return extra("transformers").AutoModel.from_config(config)


def _encoder_config(folder: Path) -> Any:
    config = _config(folder)
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "hidden_size"):
        raise ValueError(
            f"encoder: {folder} holds a {config.model_type}, which is no encoder of texts such as BERT"
        )
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers shows neither progress nor warnings: what they warn of is an error here."""
    logging = extra("transformers").utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Quietly, and whatever a broken folder makes transformers raise becomes one ValueError that names it."""
    try:
        with quiet():
            yield
    except ImportError:
        raise
    except Exception as error:
        detail = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"encoder: {folder} cannot be read: {detail[0][:200]}") from error


def _encoder(network: Network) -> Encoder:
    if not isinstance(network.backbone, Encoder):
        raise TypeError(
            f"network must be made by text_network; its backbone is a {type(network.backbone).__name__}"
        )
    return network.backbone


def extra(name: str) -> Any:
    """A package of the [text] extra. Raises ImportError that says how to install it."""
    import da._torchvision  # noqa: F401  transformers imports torchvision, which this makes load everywhere

    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{name} is not installed, which texts need; run: pip install -e ".[text]" ({error})'
        ) from error
