"""What a page or a picture calls a row: the name of the method instead of the word of a flag.

Tables for a terminal keep the rows' own names, because those are typed.
"""

from __future__ import annotations

NAMES = {
    "lame": "AdaBN, LAME",
    "none": "source only",
    "aad": "AaD",
    "adabn": "AdaBN",
    "adamatch": "AdaMatch",
    "adda": "ADDA",
    "afn": "AFN",
    "alpha_bn": "alpha-BN",
    "atdoc": "ATDOC",
    "bbse": "BBSE",
    "bbse_adjusted": "BBSE, adjusted",
    "bda": "BDA",
    "bi_tuning": "Bi-Tuning",
    "bnm": "BNM",
    "bsp": "BSP",
    "bss": "BSS",
    "by_batch": "batch statistics",
    "cdac": "CDAC",
    "cdan": "CDAN",
    "cdan_e": "CDAN+E",
    "cdan_mcc": "CDAN + MCC",
    "cdan_mcc_sdat": "CDAN + MCC, SDAT",
    "clustering": "neighbourhood clustering",
    "cmd": "CMD",
    "cotta": "CoTTA",
    "co_tuning": "Co-Tuning",
    "coral": "CORAL",
    "coral_map": "CORAL map",
    "daln": "DALN",
    "cowa": "CoWA",
    "dance": "DANCE",
    "dann": "DANN",
    "dann_els": "DANN, ELS",
    "dare_gram": "DARE-GRAM",
    "deepjdot": "DeepJDOT",
    "delta": "DELTA",
    "deyo": "DeYO",
    "dsan": "DSAN",
    "easytl": "EasyTL",
    "eata": "EATA",
    "energy": "energy distance",
    "entropy": "entropy minimisation",
    "few": "S+T",
    "fixmatch": "FixMatch",
    "frechet": "Fréchet distance",
    "full": "full fine-tuning",
    "gfk": "GFK",
    "homm": "HoMM",
    "iwan": "IWAN",
    "jan": "JAN",
    "jda": "JDA",
    "jda_logistic": "JDA + logistic regression",
    "jgsa": "JGSA",
    "kliep": "KLIEP",
    "kmm": "KMM",
    "l2_sp": "L2-SP",
    "linear_monge": "linear Monge map",
    "lwf": "LwF",
    "logistic": "logistic regression",
    "lora": "LoRA",
    "lp_ft": "LP-FT",
    "m3sda": "M3SDA",
    "mcc": "MCC",
    "mcd": "MCD",
    "mdd": "MDD",
    "mean_teacher": "Mean Teacher",
    "memo": "MEMO",
    "meda": "MEDA",
    "meda_logistic": "MEDA + logistic regression",
    "mic": "MIC",
    "mlls": "MLLS",
    "mlls_adjusted": "MLLS, adjusted",
    "mme": "MME",
    "mmd": "MMD (DAN)",
    "nn": "1-NN",
    "note": "NOTE",
    "nrc": "NRC",
    "osbp": "OSBP",
    "ot": "optimal transport",
    "ovanet": "OVANet",
    "pada": "PADA",
    "pca": "PCA",
    "pcgrad": "PCGrad",
    "pseudo_labels": "pseudo-labels",
    "rotta": "RoTTA",
    "rsd": "RSD",
    "rulsif": "RuLSIF",
    "sa": "SA",
    "sar": "SAR",
    "sa_logistic": "SA + logistic regression",
    "shot": "SHOT",
    "shot_plus": "SHOT, then FixMatch",
    "sinkhorn": "Sinkhorn divergence",
    "sliced": "sliced Wasserstein",
    "stoch_norm": "StochNorm",
    "svd": "SVD",
    "svm": "SVM",
    "t3a": "AdaBN, T3A",
    "tca": "TCA",
    "tca_logistic": "TCA + logistic regression",
    "tent": "Tent",
    "tent_alarm": "Tent, alarm",
    "tent_guarded": "Tent, guarded",
    "tjm": "TJM",
    "ulsif": "uLSIF",
    "wdgrl": "WDGRL",
}


def display_name(row: str) -> str:
    """Say what a page or a picture calls a row.

    Args:
        row: The row's own name, as records and flags have it.

    Returns:
        The method's name; a row that has none keeps its own.

    Example:
        >>> from da.records import display_name
        >>> display_name("cdan_e"), display_name("mine")
        ('CDAN+E', 'mine')
    """
    if not isinstance(row, str):
        raise TypeError(f"row must be text; got {row!r}")
    return NAMES.get(row, row)
