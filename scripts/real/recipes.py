"""The recipes of src/docs/recipes.md: a heading a program, below it the files that a user writes."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "src/docs/recipes.md"


def read(heading):
    """The files of one recipe by their names; `halley.toml` is the configuration."""
    page = PAGE.read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    if not found:
        raise LookupError(f"{PAGE.name} has no recipe {heading}")
    blocks = re.findall(r"^`([^`\n]+)`[^\n]*:\n\n```\w*\n(.*?)^```", found[1], re.M | re.S)
    return dict(blocks)


def ports(config):
    """The ports that a configuration listens on."""
    return re.findall(r"tcp://[\d.]+:(\d+)", config)
