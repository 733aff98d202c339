"""Tables of what is measured in seconds and megabytes, and of collapse."""

from __future__ import annotations

from statistics import median

from made.csv_tables import by, grid, milliseconds, read


def mmd_cpu() -> str:
    """Time of the squared MMD on one CPU thread, as a multiple of three matrix products."""
    rows = read("bench_mmd_cpu")
    peers = ["da auto", "autograd Gram", "torch.cdist", "geomloss", "POT"]
    lines = []
    for (n, d), found in by(rows, "n", "d").items():
        times = {row["contestant"]: row for row in found if row["ratio"]}
        if not times:
            continue
        ours = times["da auto"]
        errors = [f"{float(ours[key]):.0e}" for key in ("value_error", "gradient_error")]
        ratios = [f"{float(times[peer]['ratio']):.2f}" for peer in peers]
        lines.append([f"{n} x {d}", *ratios, *errors])
    head = ["rows x columns", "`mmd2`", *peers[1:], "error of the value", "of the gradient"]
    return grid(head, lines)


def mmd_memory() -> str:
    """Peak memory of the squared MMD beyond its inputs, in a fresh process each."""
    rows = [row for row in read("bench_mmd_cpu") if row["extra_mb"]]
    peers = ["da auto", "da gram", "autograd Gram", "torch.cdist", "geomloss", "POT"]
    lines = []
    for (n, d), found in by(rows, "n", "d").items():
        megabytes = {row["contestant"]: float(row["extra_mb"]) for row in found}
        lines.append([f"{n} x {d}", *(f"{megabytes[peer]:,.0f}" for peer in peers)])
    return grid(["rows x columns", "`mmd2`", '`mmd2(backend="gram")`', *peers[2:]], lines)


def mmd_cuda() -> str:
    """Milliseconds of the squared MMD on a GPU."""
    peers = ["da auto", "da triton", "da stream", "da gram", "autograd Gram", "torch.cdist"]
    lines = []
    rows = read("bench_mmd_cuda")
    for (precision, n, d), found in by(rows, "precision", "n", "d").items():
        times = {row["contestant"]: row for row in found}
        cells = [milliseconds(times[peer]) for peer in peers]
        if any(cells):
            lines.append([precision, f"{n} x {d}", *cells])
    backends = [f"`{peer[3:]}`" for peer in peers[:4]]
    return grid(["precision", "rows x columns", *backends, *peers[4:]], lines)


def mmd_cuda_errors() -> str:
    """Relative error of the gradient on a GPU, the largest over all sizes."""
    peers = ["da triton", "da stream", "da gram", "autograd Gram", "torch.cdist"]
    lines = []
    for (precision,), found in by(read("bench_mmd_cuda"), "precision").items():
        errors = [
            max(
                float(row["gradient_error"])
                for row in found
                if row["contestant"] == peer and row["gradient_error"]
            )
            for peer in peers
        ]
        lines.append([precision, *(f"{error:.0e}" for error in errors)])
    return grid(["precision", *(f"`{peer[3:]}`" for peer in peers[:3]), *peers[3:]], lines)


def collapse() -> str:
    """Lowest accuracy on the target over four batch sizes, for each loss and place of the norm."""
    lines = []
    for (network, norm, loss), found in by(
        read("bench_collapse_cpu"), "network", "batch_norm", "loss"
    ).items():
        lowest = min(found, key=lambda row: float(row["accuracy"]))
        spread = f"{float(lowest['spread']):.2g}"
        percent = f"{100 * float(lowest['accuracy']):.1f}"
        lines.append([network, norm, f"`{loss}`", percent, lowest["batch"], spread])
    head = ["network", "batch normalisation", "loss", "lowest accuracy, percent", "at batch"]
    return grid([*head, "spread of the features there"], lines)


def resnet50_step() -> str:
    """A training step of DAN with a ResNet-50 on a GPU."""
    lines = []
    for row in read("bench_resnet50_step_cuda"):
        rate, memory = row["images_per_second"], row["peak_mb"]
        interval = f"{float(row['low']):.1f} to {float(row['high']):.1f}" if row["low"] else ""
        lines.append(
            [
                row["variant"],
                f"{float(row['ms']):.1f}",
                interval,
                f"{float(rate):,.0f}" if rate else "",
                f"{int(memory):,}" if memory else "",
            ]
        )
    head = ["variant", "milliseconds", "lowest to highest", "images a second", "peak memory, MB"]
    return grid(head, lines)


def shallow() -> str:
    """Processor seconds of shallow methods on one CPU thread."""
    lines = []
    rows = read("bench_shallow_cpu")
    for (method, problem, who), found in by(rows, "method", "problem", "contestant").items():
        seconds = [float(row["process_seconds"]) for row in found if row["process_seconds"]]
        memory = [float(row["extra_mb"]) for row in found if row["extra_mb"]]
        reached = [float(row["reached"]) for row in found if row["reached"]]
        left_out = [row["note"] for row in found if row["note"].startswith("left out")]
        lines.append(
            [
                method,
                problem.replace("x", " x ").replace("+", " + "),
                who,
                f"{median(seconds):.3g}" if seconds else left_out[0].removeprefix("left out: "),
                str(len(seconds)) if seconds else "",
                f"{memory[0]:.0f}" if memory else "",
                f"{reached[0]:.2g}" if reached else "",
            ]
        )
    head = ["method", "rows x columns", "code", "processor seconds", "rounds"]
    return grid([*head, "memory, MB", "reached"], lines)


def shallow_size() -> str:
    """Time and memory of shallow methods at size, beside that of the products they need."""
    lines = []
    for (method, rows), found in by(read("bench_shallow_size_cpu"), "method", "rows").items():
        both = by(found, "contestant")
        seconds = {
            who: median(float(row["process_seconds"]) for row in own)
            for (who,), own in both.items()
        }
        if set(seconds) != {"da", "floor"}:
            continue
        memory = median(float(row["extra_mb"]) for row in both["da",])
        load = [float(row["load"]) for row in found]
        lines.append(
            [
                method,
                f"{int(rows):,} + {int(rows):,} x {found[0]['columns']}",
                f"{seconds['da']:.2f}",
                f"{seconds['floor']:.2f}",
                f"{seconds['da'] / seconds['floor']:.1f}",
                f"{memory:,.0f}",
                f"{min(load):.0f} to {max(load):.0f}",
            ]
        )
    head = ["method", "rows x columns", "processor seconds", "of its products", "ratio"]
    return grid([*head, "memory, MB", "load"], lines)


def step_costs() -> str:
    """Time of a training step of every method as a multiple of source-only with a second pass."""
    rows = read("bench_step_methods_cpu")
    ratios = {
        key: median(float(row["ms"]) / float(row["reference_ms"]) for row in found)
        for key, found in by(rows, "network", "method").items()
    }
    methods = sorted(
        {method for _, method in ratios}, key=lambda method: ratios["squeezenet", method]
    )
    lines = [
        [f"`{method}`", *(f"{ratios[network, method]:.2f}" for network in ("squeezenet", "lenet"))]
        for method in methods
    ]
    return grid(["row", "SqueezeNet 1.1", "LeNet of the digits"], lines)


def stacked() -> str:
    """Processor seconds of a head on cached features, trained with others and one by one."""
    lines = []
    for (method,), found in by(read("bench_stacked_cpu"), "method").items():
        names = ("stacked_processor", "alone_processor", "products_processor")
        together, alone, products = (median(float(row[name]) for row in found) for name in names)
        ratios = [alone / together, alone / products]
        cells = [f"{x:.2f}" for x in (together, alone, products)]
        lines.append([f"`{method}`", *cells, *(f"{ratio:.1f}" for ratio in ratios)])
    head = ["method", "together, seconds", "one by one, seconds", "products alone, seconds"]
    return grid([*head, "one by one / together", "one by one / products alone"], lines)
