"""What docs/embedding.md quotes of examples/: what stands between `# begin PART` and `# end PART`, which is
what a user adds to code of his own. `python -m tests.docs.embedding` writes it into the page."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.docs.pages import rewritten

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "embedding.md"
MARKED = re.compile(r"^ *# begin (\w+)\n(.*?)^ *# end \1$", re.MULTILINE | re.DOTALL)
LOOP = "anybodys_loop"  # its two lines stand far apart: all that say the name are quoted


def parts(stem: str, source: str) -> dict[str, str]:
    """Of an example: part -> its lines, in one piece or several, as at the margin."""
    if stem == LOOP:
        lines = (line.strip() for line in source.splitlines() if "secagg" in line)
        return {"loop": "\n\n".join(lines)}
    found: dict[str, str] = {}
    for part, lines in MARKED.findall(source):
        piece = textwrap.dedent(lines).strip()
        found[part] = f"{found[part]}\n\n{piece}" if part in found else piece
    marks = re.findall(r"^ *# (?:begin|end) ", source, re.MULTILINE)
    if len(marks) != 2 * len(MARKED.findall(source)):
        raise LookupError(f"{stem}: of {len(marks)} marks not all are pairs")
    return found


def counted(lines: str) -> int:
    """Of code: neither empty lines nor those of comments."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines.splitlines())


def marked() -> dict[str, dict[str, str]]:
    """Example, as a path of the project -> part -> its lines; of those that have any."""
    paths = sorted((ROOT / "examples").rglob("*.py"))
    found = {
        path.relative_to(ROOT).as_posix(): parts(path.stem, path.read_text(encoding="utf-8"))
        for path in paths
    }
    return {name: each for name, each in found.items() if each}


def blocks() -> dict[str, str]:
    return {
        f"{Path(name).stem}_{part}": f"```python\n{lines}\n```"
        for name, each in marked().items()
        for part, lines in each.items()
    }


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), blocks()), encoding="utf-8")
