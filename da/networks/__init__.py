"""Networks: input -> Outputs(features, logits).

Here are small networks, backbones of torchvision and timm, text encoders, batch statistics for two
domains, and the parts of adversaries.
"""

from da.networks.adversary import MultilinearMap, discriminator, reverse_gradient
from da.networks.averages import average_networks
from da.networks.backbones import backbone, input_settings, source_classifier
from da.networks.cosine import cosine_head
from da.networks.encoder_from_texts import new_encoder, save_encoder
from da.networks.inputs import InputSettings
from da.networks.low_rank import lora
from da.networks.network import Network, Outputs, bottleneck
from da.networks.parts import Frozen
from da.networks.small import lenet, mlp, temporal_cnn
from da.networks.statistics import DomainBatchNorm, split_statistics, use_statistics
from da.networks.text_encoders import text_network, tokenise
from da.networks.weights import describe_weights, load_weights

__all__ = [
    "DomainBatchNorm",
    "Frozen",
    "InputSettings",
    "MultilinearMap",
    "Network",
    "Outputs",
    "average_networks",
    "backbone",
    "bottleneck",
    "cosine_head",
    "describe_weights",
    "discriminator",
    "input_settings",
    "lenet",
    "load_weights",
    "lora",
    "mlp",
    "new_encoder",
    "reverse_gradient",
    "save_encoder",
    "source_classifier",
    "split_statistics",
    "temporal_cnn",
    "text_network",
    "tokenise",
    "use_statistics",
]
