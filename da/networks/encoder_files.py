"""Files of Hugging Face encoders: where they lie, and how they are read.

An encoder is a folder with config.json, model.safetensors and the tokenizer's files, or a name on
the Hugging Face Hub. A name is looked up in the local cache. The Hub itself is asked only if
`download=True`. Weights are never made up: a folder that lacks some is an error. Random weights
come from `random_model` alone.

An encoder is a file of numbers: code that a folder brings along is never run, nor is it asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from da.networks.extras import extra

# What is fetched from a repository on the Hub: no pickles, and no copies in other formats.
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.bpe")
_WEIGHTS = ("*.safetensors", "*.bin")


def find_encoder(encoder: str | Path, *, download: bool = False) -> Path:
    """Find the folder of an encoder, here or in the cache of the Hugging Face Hub.

    Args:
        encoder: A folder, or a name on the Hub.
        download: Whether files that the cache lacks are fetched from the Hub. Default False.

    Returns:
        The folder, which holds a config.json.

    Raises:
        FileNotFoundError: There is no such folder, the name is not in the cache or cannot be
            fetched, or the folder has no config.json.
        ImportError: A name was given and huggingface_hub is not installed.
    """
    path = Path(encoder).expanduser()
    if not path.is_dir():
        if isinstance(encoder, Path) or not _may_be_a_name(encoder):
            raise FileNotFoundError(
                f"encoder: no folder {encoder}; give one with config.json, weights and tokenizer, "
                "or a name on the Hub"
            )
        path = _cached(encoder, download=download)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"encoder: no config.json in {path}; give the folder that `save_pretrained` wrote"
        )
    return path


def load_tokenizer(folder: Path) -> Any:
    """Read the tokenizer in a folder, and check that it fits the encoder there.

    Args:
        folder: Folder of an encoder.

    Returns:
        A tokenizer of transformers.

    Raises:
        FileNotFoundError: The folder holds no tokenizer.
        ValueError: The tokenizer cannot be read, has more tokens than the encoder, or has no
            padding token.
    """
    if not _has_any(folder, _VOCABULARIES):
        raise FileNotFoundError(
            f"encoder: no tokenizer in {folder}; save the encoder's own there: "
            "tokenizer.save_pretrained(folder)"
        )
    with _reading(folder):
        tokenizer = extra("transformers").AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
    known = getattr(load_config(folder), "vocab_size", len(tokenizer))
    if len(tokenizer) > known:
        raise ValueError(
            f"encoder: tokenizer and encoder in {folder} do not match: {len(tokenizer)} tokens, "
            f"vocab_size {known}; save the encoder's own tokenizer there"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"encoder: the tokenizer in {folder} has no padding token, which texts of different "
            "lengths need; set tokenizer.pad_token and save it"
        )
    return tokenizer


def load_config(folder: Path) -> Any:
    """The configuration in a folder, as transformers reads it."""
    with _reading(folder):
        return extra("transformers").AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_model(folder: Path) -> Any:
    """Read the encoder in a folder with its weights.

    Args:
        folder: Folder of an encoder.

    Returns:
        A model of transformers.

    Raises:
        FileNotFoundError: The folder holds no weights.
        ValueError: The files cannot be read, lack weights, or are not those of a text encoder.
    """
    if not _has_any(folder, _WEIGHTS):
        raise FileNotFoundError(
            f"encoder: no weights (model.safetensors) in {folder}; pass pretrained=False for "
            "random ones"
        )
    config = _encoder_config(folder)
    with _reading(folder):
        model, report = extra("transformers").AutoModel.from_pretrained(
            folder, config=config, output_loading_info=True, trust_remote_code=False
        )
    reported = {*report["missing_keys"], *map(str, report["mismatched_keys"])}
    made_up = sorted(key for key in reported if "pooler" not in key)
    if made_up:
        raise ValueError(
            f"encoder: the weights in {folder} lack {len(made_up)} of {type(model).__name__}, "
            f"such as {made_up[0]}; give a folder with all weights"
        )
    return model


def random_model(folder: Path) -> Any:
    """The architecture that a folder's config.json describes, with random weights."""
    config = _encoder_config(folder)
    with _reading(folder):
        return extra("transformers").AutoModel.from_config(config, trust_remote_code=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the context, transformers shows neither progress nor warnings.

    Whatever it warns of is an error in this library.
    """
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


def _has_any(folder: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a file in `folder` matches one of the patterns."""
    return any(path for pattern in patterns for path in folder.glob(pattern))


def _may_be_a_name(encoder: str) -> bool:
    """Whether a string has the form of a name on the Hub: `name` or `owner/name`."""
    return not encoder.startswith((".", "/", "~")) and encoder.count("/") <= 1


def _cached(name: str, *, download: bool) -> Path:
    """The folder of a name in the Hub's cache."""
    hub = extra("huggingface_hub")
    try:
        return Path(
            hub.snapshot_download(name, allow_patterns=list(_FILES), local_files_only=not download)
        )
    except Exception as error:
        # No such name, no connection, no permission: the hub has a class of its own for each.
        if download:
            how = f"could not be fetched ({' '.join(str(error).split())})"
            more = "give the folder of an encoder"
        else:
            how = "is not in the cache of the Hugging Face Hub either"
            more = "ask for it with --download (download=True), or give a folder"
        raise FileNotFoundError(f"encoder: {name!r} is no folder here and {how}; {more}") from error


def _encoder_config(folder: Path) -> Any:
    """The configuration in a folder, checked to be that of a text encoder."""
    config = load_config(folder)
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "hidden_size"):
        raise ValueError(
            f"encoder: {folder} holds a {config.model_type}, which is no encoder of texts; give "
            "one such as BERT"
        )
    return config


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Inside the context, transformers is quiet, and any of its errors becomes one ValueError."""
    try:
        with quiet():
            yield
    except ImportError:
        raise
    except Exception as error:
        detail = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"encoder: {folder} cannot be read: {detail[0][:200]}") from error
