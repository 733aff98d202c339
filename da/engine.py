"""Lightning Fabric, from either of the two packages that ship it."""

try:
    from lightning_fabric import Fabric
except ImportError:  # the larger `lightning` package
    from lightning.fabric import Fabric  # type: ignore[no-redef]

__all__ = ["Fabric"]
