"""torchvision's names of the tensors in a vision transformer, and timm's.

    class_token                                             cls_token
    conv_proj.weight                                        patch_embed.proj.weight
    encoder.pos_embedding                                   pos_embed
    encoder.layers.encoder_layer_0.ln_1.weight              blocks.0.norm1.weight
    encoder.layers.encoder_layer_0.self_attention.in_proj_weight    blocks.0.attn.qkv.weight
    encoder.layers.encoder_layer_0.mlp.0.weight             blocks.0.mlp.fc1.weight
    encoder.ln.weight                                       norm.weight
    heads.head.weight                                       head.weight

Both libraries compute the same of them: queries, keys and values lie in this order in both.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from torch import Tensor

_RULES = (
    (r"class_token$", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.head\.", "head."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)


def is_torchvisions(names: Iterable[str]) -> bool:
    """Whether the names are those of torchvision's `VisionTransformer`, below whatever prefix.

    Example:
        >>> from da.networks.transformer_names import is_torchvisions
        >>> is_torchvisions(["cls_token"]), is_torchvisions(["model.encoder.pos_embedding"])
        (False, True)
    """
    return any(re.search(r"(^|\.)encoder\.pos_embedding$", name) for name in names)


def timms_names(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Give a state dict of torchvision's `VisionTransformer` the names of timm's.

    Args:
        state: Name -> tensor, below any prefix, which stays.

    Returns:
        The same tensors, by timm's names.

    Example:
        >>> import torch
        >>> from da.networks.transformer_names import timms_names
        >>> list(timms_names({"encoder.layers.encoder_layer_3.ln_1.bias": torch.zeros(1)}))
        ['blocks.3.norm1.bias']
    """
    named = OrderedDict()
    for name, tensor in state.items():
        for old, new in _RULES:
            name = re.sub(old, new, name)
        named[name] = tensor
    return named
