"""Writes the API reference: a page for each module that has public names, from their docstrings."""

import ast
import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
NAMESPACES = (
    "estimator_lib.feature_column",
    "estimator_lib.heads",
    "estimator_lib.optimizers",
    "estimator_lib.inputs",
    "estimator_lib.losses",
    "estimator_lib.metrics",
    "estimator_lib.variables",
    "estimator_lib.export",
    "estimator_lib.evaluation",
    "estimator_lib.core.config",
    "estimator_lib.core.errors",
    "transforms",
    "pipelines.running",
)
# Their classes are tuples that `__new__` makes, whose parameters griffe does not see.
MADE_BY_NEW = ("estimator_lib.specs", "estimator_lib.training.warm_start")
_UNCHECKED = """
    options:
      docstring_options: {warn_unknown_params: false, warn_missing_types: false}
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages to the navigation."""
    pages = [{page: f"api/{page}.md"} for page in ("estimator_lib", *NAMESPACES)]
    config.nav.append({"API": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages themselves."""
    texts = {"estimator_lib": "\n\n".join(["# estimator_lib", *_top_names()])}
    texts |= {name: f"::: {name}\n    options: {{heading_level: 1}}" for name in NAMESPACES}
    for page, text in texts.items():
        files.append(File.generated(config, f"api/{page}.md", content=text + "\n"))
    return files


def _top_names() -> list[str]:
    """The names that `estimator_lib` loads when they are first used, by where they are defined."""
    tree = ast.parse((ROOT / "estimator_lib" / "__init__.py").read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES"
    )
    return [
        f"::: {module}.{name}{_UNCHECKED if module in MADE_BY_NEW else ''}"
        for module, names in ast.literal_eval(table).items()
        if module not in NAMESPACES
        for name in names
    ]
