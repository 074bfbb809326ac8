"""What the library says of its arguments, as the command line says it: of the flags that give them."""

from __future__ import annotations

import re
from collections.abc import Mapping

FLAGS: Mapping[str, str] = {
    'Policy(adversary="semi-honest")': "--semi-honest",
    'Policy(schemes=frozenset({"NAME"}))': "--allow NAME",
    "batch, in its policy": "--batch",
    "smallest_cohort, in its policy": "--smallest-cohort",
    "one_cut, in its policy": "--one-cut",
    "(batch=)": "(--batch)",
    "(bind=)": "(--bind)",
    "(cohort=)": "(without --sample)",
    "(cut=)": "(without --sample)",
    "(groups=)": "(--groups)",
    "(groups=NAME)": "(--groups NAME)",
    "(local_steps=)": "(--local-steps)",
    "(m_g=NAME)": "(--group-m-min NAME)",
    "(roster=)": "(--roster)",
    "(state=)": "(--state)",
    "m_g NAME is impossible": "--group-m-min NAME is impossible",
    "new=True": "--new",
    'readers="NAME"': "--key-readers NAME",
    "replace=True": "--force",
    "small_cohort=True": "--small-cohort",
    "smallest_group=NAME": "--smallest-group NAME",
    "unsafe_groups=True": "--unsafe-groups",
    "public_weights=True": "--public-weights",
}
"""An argument, as texts of `secagg` and `transport` write it -> the flag, as their reader types it. NAME: any
one word. What has no value is known by its brackets, for somebody's folder may be called state=1.
"""

_PATTERNS = [
    (re.compile(re.escape(argument).replace("NAME", r"([\w-]+)")), flag.replace("NAME", r"\1"))
    for argument, flag in FLAGS.items()
]


def in_flags(text: str) -> str:
    """The text with flags where the library names arguments."""
    for argument, flag in _PATTERNS:
        text = argument.sub(flag, text)
    return text
