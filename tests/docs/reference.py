"""docs/reference.md and public.txt: the public names, their signatures and what their docstrings say, read
off the source. `python -m tests.docs.reference` rewrites both."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import secagg
from tests.docs.pages import rewritten

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference.md"
LIST = Path(__file__).with_name("public.txt")
CHANGELOG = ROOT / "CHANGELOG.md"
PACKAGES = ("secagg", "transport", "fl", "secagg_flower")
WIDTH = 96

T = TypeVar("T", ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

MODULES: Mapping[str, tuple[str, ...] | None] = {
    "secagg": None,  # what it exports
    "secagg.aio": ("drive", "take_part", "Closed", "Receive", "Send"),
    "secagg.tickets": ("begin", "begin_jointly", "step", "done", "end", "Record", "InMemory"),
    "secagg.checkpoint": ("save", "restore"),
    "secagg.session": ("Contribute", "Once"),
    "secagg.specs": ("Vector", "Vectors", "Spec", "Noise"),
    "secagg.policy": ("Adversary", "GraphChoice", "Ending", "Likening"),
    "secagg.parallel": ("Executor",),
    "secagg.crypto": ("Rng",),
    "secagg.alike": ("Likeness",),
    "secagg.record": ("Recorder",),
    "transport": None,
    "transport.journal": ("Tickets",),
    "transport.processes": ("LocalProcesses", "lay_out_keys"),
    "fl": None,
    "fl.preflight": ("inspector",),
    "fl.training.local": ("Tap",),
    "secagg_flower": None,
}
"""Module -> its public names. Types stand here where signatures of the others name them."""

NEEDS = {"secagg_flower": "flwr"}
"""What is not installed everywhere: where it is not, what page and list say of such a module stands."""

INSIDE = {
    *("batches", "check_contributions", "check_policy", "check_roster", "every_round", "graph", "keys"),
    *("check_blank", "check_names", "check_noise", "check_number", "check_steps", "check_trust"),
    *("largest_code", "levels", "of_codes", "plan", "ring_bits", "signed", "signed_by", "zeros"),
    *("check_groups", "of_parts", "sums"),
    "CKKS.aggregate",
}
"""Members that the packages call on one another, and that nobody else is promised."""

MADE_BY = {"Cohort": "serve", "Peer": "join", "Relay": "join_as_relay"}
"""Classes that nobody makes himself, and what gives one."""


@dataclass(frozen=True)
class Member:
    """A public name, or a member of a class. head: what stands before its parameters, if it takes any, and
    tail behind. named: what its docstring explains.
    """

    name: str
    head: str
    tail: str = ""
    parameters: tuple[str, ...] | None = None
    doc: str = ""
    named: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        inside = "" if self.parameters is None else f"({', '.join(self.parameters)})"
        return f"{self.head}{inside}{self.tail}"

    @property
    def shown(self) -> str:
        """As a line of code, or one for each parameter."""
        if len(self.line) <= WIDTH or not self.parameters:
            return self.line
        return "\n".join((f"{self.head}(", *(f"    {each}," for each in self.parameters), f"){self.tail}"))


@dataclass(frozen=True)
class Entry:
    """A public name. fields: of a class, each a line of code."""

    name: str
    itself: Member
    fields: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()

    @property
    def lines(self) -> Iterator[str]:
        """What is promised, a line each."""
        module = self.name.rpartition(".")[0]
        keyword = "class " if self.itself.line.startswith("class ") else ""
        yield f"{keyword}{module}.{self.itself.line.removeprefix(keyword)}"
        yield from (f"{self.name}.{each}" for each in self.fields)
        yield from (f"{self.name}.{member.line}" for member in self.members)


# From the source


@cache
def _body(module: str) -> Sequence[ast.stmt]:
    return ast.parse(inspect.getsource(sys.modules[module])).body


def entries(module: str) -> list[Entry]:
    home = importlib.import_module(module)
    names = MODULES[module] or home.__all__
    return [_entry(f"{module}.{name}", getattr(home, name)) for name in sorted(names, key=str.lower)]


def _entry(name: str, found: object) -> Entry:
    module, _, local = name.rpartition(".")
    if inspect.isclass(found):
        return _class(name, found, _definition(found.__module__, local, ast.ClassDef))
    if inspect.isfunction(found):
        if inspect.iscoroutinefunction(found):
            return Entry(name, _function(_definition(found.__module__, local, ast.AsyncFunctionDef)))
        return Entry(name, _function(_definition(found.__module__, local, ast.FunctionDef)))
    return Entry(name, _alias(module, local))


def _definition(module: str, local: str, kind: type[T]) -> T:
    (node,) = (each for each in _body(module) if isinstance(each, kind) and each.name == local)
    return node


def _alias(module: str, local: str) -> Member:
    """Of a type, and the string behind it."""
    for node, following in itertools.pairwise((*_body(module), ast.Pass())):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == local:
                match following:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        doc = inspect.cleandoc(text)
                    case _:
                        doc = ""
                return Member(local, local, f" = {_code(value)}", doc=doc)
    raise LookupError(f"{local} is not defined in {module}")


def _code(node: ast.AST) -> str:
    """In the quotes of the house."""
    code = ast.unparse(node)
    return code if '"' in code else code.replace("'", '"')


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool = False) -> Member:
    """bound: of a class, whose first argument nobody gives."""
    doc, given = ast.get_docstring(node) or "", node.args
    returns = _code(node.returns) if node.returns is not None else "None"
    returns = f"Awaitable[{returns}]" if isinstance(node, ast.AsyncFunctionDef) else returns
    if "property" in map(ast.unparse, node.decorator_list):
        return Member(node.name, node.name, f": {returns}", doc=doc)
    first = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(first) - len(given.defaults)) + given.defaults
    places = [_parameter(*each) for each in zip(first, defaults, strict=True)]
    if given.posonlyargs:
        places.insert(len(given.posonlyargs), "/")
    if given.vararg:
        places.append(f"*{_parameter(given.vararg)}")
    elif given.kwonlyargs:
        places.append("*")
    places += [_parameter(*each) for each in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    if given.kwarg:
        places.append(f"**{_parameter(given.kwarg)}")
    every = (*first[bound:], given.vararg, *given.kwonlyargs, given.kwarg)
    named = tuple(each.arg for each in every if each is not None)
    return Member(node.name, node.name, f" -> {returns}", tuple(places[bound:]), doc, named)


def _parameter(argument: ast.arg, default: ast.expr | None = None) -> str:
    kind = "" if argument.annotation is None else f": {_code(argument.annotation)}"
    return f"{argument.arg}{kind}" + ("" if default is None else f" = {_code(default)}")


def _class(name: str, found: type, node: ast.ClassDef) -> Entry:
    """Its own members and its bases', but for what a protocol says of all such classes at once."""
    said = _said_by_a_protocol(found)
    fields: dict[str, str] = {}
    members: dict[str, Member] = {}
    init: Member | None = None
    for base in reversed(list(filter(_is_ours, found.__mro__))):
        for each in _definition(base.__module__, base.__name__, ast.ClassDef).body:
            match each:
                case ast.AnnAssign(target=ast.Name(id=local)) if _is_field(each):
                    fields[local] = _field(each, base.__module__)
                case ast.FunctionDef(name="__init__"):
                    init = _function(each, bound=True)
                    fields |= _attributes(each)
                case ast.FunctionDef(name=local) if not local.startswith("_") and local not in said:
                    inside = {local, f"{base.__name__}.{local}"} & INSIDE
                    if not inside and (base is found or not said):  # what the schemes share is theirs
                        members[local] = _function(each, bound=True)
                        if not members[local].doc and _is_elsewheres(found, local):
                            del members[local]
    head, takes, named = f"class {node.name}", None, tuple(fields)
    doc = _with_bases(found, ast.get_docstring(node) or "", named)
    if issubclass(found, Exception):
        takes = (found.__base__.__name__,)
    elif init is not None and node.name not in MADE_BY:
        takes, named = init.parameters, (*named, *init.named)
        doc = "\n\n".join(filter(None, (doc, init.doc)))
    return Entry(
        name,
        Member(node.name, head, "", takes or None, doc, named),
        tuple(line for local, line in fields.items() if local not in members),
        tuple(member for local, member in sorted(members.items()) if local not in fields),
    )


def _with_bases(found: type, doc: str, named: Sequence[str]) -> str:
    """A class's docstring, and what its bases' say of the fields that it has of them and says nothing of."""
    for base in found.__mro__[1:]:
        for text in inspect.cleandoc(base.__doc__ or "").split("\n\n") if _is_ours(base) else ():
            for names, what in _items(text, named)[1]:
                if not any(re.search(rf"\b{name}\b", doc) for name in names.split(", ")):
                    doc += f"\n\n{names}: {what}"
    return doc


def _is_elsewheres(found: type, local: str) -> bool:
    """Whether a base of another package has it, and says what it is."""
    return any(local in vars(base) for base in found.__mro__ if not _is_ours(base))


def _is_ours(base: type) -> bool:
    return base.__module__.partition(".")[0] in PACKAGES


def _attributes(init: ast.FunctionDef) -> dict[str, str]:
    """What a new object has that all may look at, with its type where that is said."""
    kinds = {each.arg: each.annotation for each in (*init.args.args, *init.args.kwonlyargs)}
    found = {}
    for node in ast.walk(init):
        match node:
            case ast.AnnAssign(target=ast.Attribute(attr=local), annotation=annotation):
                kinds[local] = annotation
            case ast.Attribute(value=ast.Name(id="self"), attr=local, ctx=ast.Store()):
                if not local.startswith("_") and local != "args":
                    found[local] = node.lineno
    named = ((local, kinds.get(local)) for local in sorted(found, key=lambda local: (found[local], local)))
    return {local: local if kind is None else f"{local}: {_code(kind)}" for local, kind in named}


def _said_by_a_protocol(found: type) -> set[str]:
    for protocol in (secagg.Scheme, secagg.ServerSession, secagg.ClientSession):
        names = {local for local in vars(protocol) if not local.startswith("_")}
        if found is not protocol and all(hasattr(found, local) for local in names):
            return names
    return set()


def _is_field(node: ast.AnnAssign) -> bool:
    name, kind = _code(node.target), _code(node.annotation)
    return not name.startswith("_") and not kind.startswith("ClassVar")


def _without_limits(annotation: ast.expr, module: str) -> str:
    """A type, where a private name stands for one and its range, which the docstring says."""

    class Plainly(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            for each in _body(module) if node.id.startswith("_") else ():
                match each:
                    case ast.Assign(
                        targets=[ast.Name(id=node.id)],
                        value=ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *_])),
                    ):
                        return kind
            return node

    return _code(Plainly().visit(annotation))


def _field(node: ast.AnnAssign, module: str) -> str:
    line = f"{_code(node.target)}: {_without_limits(node.annotation, module)}"
    match node.value:
        case None:
            return line
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            default = {each.arg: _code(each.value) for each in keywords}
            made = f"{default['default_factory']}()" if "default_factory" in default else None
            value = default.get("default", made)
            return line if value is None else f"{line} = {value}"
    return f"{line} = {_code(node.value)}"


# The page


def blocks() -> dict[str, str]:
    """Name -> block of the page, one a module: an index, then each of its names."""
    made = {}
    for module in MODULES:
        if is_here(module):
            found = entries(module)
            made[module.replace(".", "_")] = "\n\n".join((_index(found), *map(_shown, found)))
        else:
            (stands,) = re.findall(
                rf"<!-- begin {module} -->\n(.*?)\n<!-- end", PAGE.read_text(encoding="utf-8"), re.DOTALL
            )
            made[module] = stands
    return made


def is_here(module: str) -> bool:
    return module not in NEEDS or importlib.util.find_spec(NEEDS[module]) is not None


def _index(found: Iterable[Entry]) -> str:
    links = (f"[`{each.itself.name}`](#{each.name.replace('.', '').lower()})" for each in found)
    return " ".join(links)


def _shown(entry: Entry) -> str:
    itself = entry.itself
    made = f"  # {MADE_BY[itself.name]} gives one" if itself.name in MADE_BY else ""
    code = "\n".join((f"{itself.shown}{made}", *(f"    {each}" for each in entry.fields)))
    parts = [f"### {entry.name}", f"```python\n{code}\n```", explained(itself)]
    for member in entry.members:
        named = replace(member, head=f"{itself.name}.{member.head}")
        parts += [f"```python\n{named.shown}\n```", explained(member)]
    return "\n\n".join(part for part in parts if part)


def explained(member: Member) -> str:
    """A docstring as Markdown: what it says of parameters as a list, headings of paragraphs in bold."""
    return "\n\n".join(_paragraph(text, member.named) for text in member.doc.split("\n\n") if text)


def _paragraph(text: str, names: Sequence[str]) -> str:
    flat = re.sub(r"[*<](?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\\g<0>", " ".join(text.split()))
    flat = re.sub(r"^(Raises|Security|Source|Returns|Guarantees):", r"**\1:**", flat)
    first, items = _items(flat, names)
    listed = "\n".join(f"- {_named(who)}: {what}" for who, what in items)
    return "\n\n".join(filter(None, (first, listed)))


def _items(text: str, names: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """What a paragraph says before it comes to these names, and (names, what is said of them)."""
    flat, name = " ".join(text.split()), "|".join(map(re.escape, names))
    if not names:
        return flat, []
    first, *rest = re.split(rf"(?:^|(?<=[.;:)] ))((?:{name})(?:, (?:{name}))*): ", flat)
    return first.strip(), [(who, what.strip()) for who, what in zip(rest[::2], rest[1::2], strict=True)]


def _named(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


# The list


def promised() -> str:
    """Every public name and signature, a line each."""
    listed = LIST.read_text(encoding="utf-8").splitlines()
    lines: list[str] = []
    for module in MODULES:
        if is_here(module):
            lines += (line for entry in entries(module) for line in entry.lines)
        else:
            lines += (line for line in listed if line.removeprefix("class ").startswith(f"{module}."))
    return "".join(f"{line}\n" for line in lines)


def marked(names: str, changelog: str) -> str:
    """The list as a file: which CHANGELOG.md it was made with, and the names."""
    return f"# sha256 of CHANGELOG.md then: {hashlib.sha256(changelog.encode()).hexdigest()}\n{names}"


def updated(old: str, names: str, changelog: str) -> str:
    """The list with these names in the place of its own.

    Raises: SystemExit where they differ, and CHANGELOG.md is what it was when they last did.
    """
    head, _, listed = old.partition("\n")
    if listed == names:
        return old
    new = marked(names, changelog)
    if new.startswith(f"{head}\n"):
        raise SystemExit(f"public names change: say so in CHANGELOG.md first\n{difference(listed, names)}")
    return new


def difference(old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


if __name__ == "__main__":
    before = LIST.read_text(encoding="utf-8") if LIST.exists() else ""
    LIST.write_text(updated(before, promised(), CHANGELOG.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), blocks()), encoding="utf-8")
