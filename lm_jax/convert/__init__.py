"""Published models as runs of this library, and its runs for other people's tools."""

from lm_jax.convert.export import export_run
from lm_jax.convert.importing import import_run

__all__ = ["export_run", "import_run"]
