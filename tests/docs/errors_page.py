"""The tables of docs/errors.md: what the code raises on purpose, read off its `raise` statements, and what to
do about it, from remedies.toml. `python -m tests.docs.errors_page` rewrites them."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fl.cli import EXIT_CODES
from fl.cli.flags import FLAGS
from secagg import SecAggError
from tests.docs.pages import rewritten, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
REMEDIES = Path(__file__).with_name("remedies.toml")
PACKAGES = ("secagg", "transport", "fl", "secagg_flower")
REASON = "reason"


@dataclass(frozen=True)
class Site:
    """One message at one place. kind: its class. text: the message, its placeholders in braces, what is not
    always there in brackets."""

    path: str
    kind: str
    text: str


class Code:
    """Source files and what they raise. files: path -> source."""

    def __init__(self, files: Mapping[str, str]) -> None:
        trees = {path: ast.parse(source) for path, source in files.items()}
        self._path = {node: path for path, tree in trees.items() for node in ast.walk(tree)}
        self._parent = {child: node for node in self._path for child in ast.iter_child_nodes(node)}
        self.classes = {node.name: node for node in self._path if isinstance(node, ast.ClassDef)}
        self._functions: dict[str, list[ast.FunctionDef]] = {}
        for node in self._path:
            if isinstance(node, ast.FunctionDef):
                self._functions.setdefault(node.name, []).append(node)

    @classmethod
    def of_the_packages(cls) -> Code:
        paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
        return cls({path.relative_to(ROOT).as_posix(): path.read_text() for path in paths})

    def raised(self) -> Iterator[tuple[ast.Call, str]]:
        """Every exception that a `raise` makes, and its class."""
        for node in self._path:
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield node.exc, ast.unparse(node.exc.func).rpartition(".")[2]

    def without_words(self) -> set[str]:
        """What is raised with no words of its own: another's are passed on, or there are none."""
        made = [(by, what) for call, kind in self.raised() for by, what in self._made(call, kind)]
        silent = {ast.unparse(by) for by, what in made if what is None or not self._texts(what)}
        named = (node.exc for node in self._path if isinstance(node, ast.Raise) and node.exc is not None)
        return silent | {ast.unparse(exc) for exc in named if not isinstance(exc, ast.Call)}

    def sites(self) -> list[Site]:
        """All that reaches somebody: errors, what `explain` makes of them, and why a client is lost."""
        found = []
        for call, kind in self.raised():
            if kind == "SessionOverError":  # not an error to anybody: the reason in a Contribution
                found += [replace(site, kind=REASON) for site in self.said(call, kind)]
            elif not kind.startswith("_"):  # whoever catches a private one says its text
                found += self.said(call, kind)
        for node in self._path:
            match node:
                case ast.Call(func=ast.Attribute(attr="lose"), args=[_, why]):
                    found += self._sites(node, REASON, why)
                case ast.FunctionDef(name="explain"):
                    found += [
                        site for value in _returned(node) for site in self._sites(value, "explain", value)
                    ]
        found = [site for site in found if "".join(pieces(site.text)).strip()]
        return sorted(set(found), key=lambda site: (site.path, site.text))

    def _sites(self, at: ast.expr, kind: str, message: ast.expr | None) -> list[Site]:
        texts = self._texts(message) if message is not None else []
        return [Site(self._path[at], kind, text) for text in texts]

    def said(self, call: ast.Call, kind: str) -> list[Site]:
        """With which messages this exception can be made; none where it only passes on another's."""
        return [site for by, what in self._made(call, kind) for site in self._sites(by, kind, what)]

    def _made(self, call: ast.Call, kind: str) -> list[tuple[ast.Call, ast.expr | None]]:
        """(by whom, the message): by the call itself, or by those of the helper that it stands in."""
        return self._passed_on(call, self._message(call, kind))

    def _passed_on(self, call: ast.Call, message: ast.expr | None) -> list[tuple[ast.Call, ast.expr | None]]:
        function = self._function_around(call)
        takes = [name for name in _parameters(function) if name not in ("self", "cls")] if function else []
        if not isinstance(message, ast.Name) or message.id not in takes:
            return [(call, message)]
        callers = self._calls(function)
        at = takes.index(message.id)
        return [made for caller in callers for made in self._passed_on(caller, caller.args[at])]

    def _message(self, call: ast.Call, kind: str) -> ast.expr | None:
        """The expression that is the message: the argument of that name, or what the class says by itself."""
        for init in self.classes[kind].body if kind in self.classes else ():
            if isinstance(init, ast.FunctionDef) and init.name == "__init__":
                if "message" in _parameters(init):
                    return call.args[_parameters(init).index("message") - 1]
                for node in ast.walk(init):
                    match node:  # in the place of a base class's
                        case ast.Assign(
                            targets=[ast.Attribute(attr="args")], value=ast.Tuple(elts=[message])
                        ):
                            return message
                calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
                return next(c.args[0] for c in calls if ast.unparse(c.func) == "super().__init__")
        return call.args[0] if call.args else None

    def _function_around(self, node: ast.AST) -> ast.FunctionDef | None:
        while (node := self._parent.get(node)) is not None:  # type: ignore[assignment]
            if isinstance(node, ast.FunctionDef):
                return node
        return None

    def _calls(self, function: ast.FunctionDef) -> Iterator[ast.Call]:
        """Of a method by anybody with as many arguments; of a function by name, in its own file alone where
        others have one of that name."""
        method = isinstance(self._parent[function], ast.ClassDef)
        takes = len([name for name in _parameters(function) if name not in ("self", "cls")])
        only = len(self._functions[function.name]) == 1
        for node in self._path:
            match node:
                case ast.Call(func=ast.Attribute(attr=function.name), args=args) if method:
                    if len(args) == takes:
                        yield node
                case ast.Call(func=ast.Name(id=function.name)):
                    if only or self._path[node] == self._path[function]:
                        yield node

    def _texts(self, expression: ast.expr) -> list[str]:
        """What the expression can say; nothing where it only passes on what it was given."""
        match expression:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return ["".join(chosen) for chosen in itertools.product(*map(self._part, parts))]
            case ast.IfExp(body=first, orelse=second):
                both = self._texts(first), self._texts(second)
                return both[0] + both[1] if all(both) else []
            case ast.Tuple(elts=[*_, last]) | ast.Subscript(value=last):
                return self._texts(last)
            case ast.Call(func=ast.Name(id=name)) if len(self._functions.get(name, ())) == 1:
                return [text for value in _returned(self._functions[name][0]) for text in self._texts(value)]
            case ast.Name():
                resolved = self._resolved(expression)
                return resolved if isinstance(resolved, list) else self._texts(resolved) if resolved else []
        return []

    def _part(self, part: ast.expr) -> list[str]:
        """Of an f-string."""
        if not isinstance(part, ast.FormattedValue):
            return self._texts(part)
        match part.value:
            case ast.Call(func=ast.Name(id="counted"), args=[count, ast.Constant(value=noun), *plural]):
                nouns = plural[0].value if plural and isinstance(plural[0], ast.Constant) else f"{noun}s"
                return [f"{{{_readable(count)}}} {nouns}"]
        value = self._constant(part.value)
        if value is not None:
            spec = part.format_spec.values[0].value if part.format_spec else ""
            return [format(value, spec)]
        texts = self._texts(part.value)
        if "" in texts:
            return ["".join(f"[{text}]" for text in texts if text)]
        if isinstance(part.value, ast.Name) and isinstance(self._resolved(part.value), ast.IfExp):
            texts = texts[:1]
        return texts or [f"{{{_readable(part.value)}}}"]

    def _resolved(self, name: ast.Name) -> ast.expr | list[str] | None:
        """What the name stands for: the one value assigned to it in its function, or the texts of the private
        exception that it was caught as."""
        function = self._function_around(name)
        assigned: list[ast.expr] = []
        for node in ast.walk(function) if function is not None else ():
            match node:
                case ast.Assign(targets=[ast.Name(id=name.id)], value=value):
                    assigned.append(value)
                case ast.NamedExpr(target=ast.Name(id=name.id), value=value):
                    assigned.append(value)
                case ast.ExceptHandler(type=ast.Name(id=kind), name=name.id) if kind.startswith("_"):
                    caught = [call for call, raised in self.raised() if raised == kind]
                    return [site.text for call in caught for site in self.said(call, kind)]
        return assigned[0] if len(assigned) == 1 else None

    def _literal(self, path: str, name: str) -> typing.Any:
        """What stands behind the name in the module itself; None where that is no literal."""
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=id), value=ast.Constant(value=value)) if id == name:
                    return value
                case ast.Assign(targets=[ast.Name(id=id)], value=ast.Constant(value=value)) if id == name:
                    return value
        return None

    def _constant(self, expression: ast.expr) -> typing.Any:
        """The value of a constant of the module, or of several joined; None for anything else."""
        match expression:
            case ast.Name(id=name) if name.lstrip("_")[:1].isupper():
                module = (
                    self._path[expression].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                )
                try:
                    return getattr(importlib.import_module(module), name, None)
                except SecAggError:  # of an extra that is not installed here
                    return self._literal(self._path[expression], name)
            case ast.BinOp(left=inner, op=ast.FloorDiv(), right=ast.Constant(value=int(unit))):
                value = self._constant(inner)
                return value and value // unit
            case ast.Call(func=ast.Name(id="get_args"), args=[inner]):
                return typing.get_args(self._constant(inner))
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str(comma)), attr="join"), args=[inner]
            ):
                values = self._constant(inner)
                return values and comma.join(values)
        return None


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]


def _returned(function: ast.FunctionDef) -> list[ast.expr]:
    return [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]


def _readable(expression: ast.expr) -> str:
    """A placeholder's name: the expression, less what does not interest whom the message reaches."""
    match expression:
        case ast.Attribute(attr="__name__"):
            return "class"
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.lstrip("_").lower() if len(name) > 1 else name
        case ast.IfExp(body=first, orelse=second):
            return f"{_readable(first)} or {_readable(second)}"
        case ast.Subscript(value=inner) | ast.UnaryOp(operand=inner):
            return _readable(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="upper"), args=[]):
            return _readable(inner)
        case ast.Call(func=ast.Attribute() | ast.Name(id="sorted" | "str" | "map"), args=[*_, inner]):
            return _readable(inner)
        case ast.Call(func=ast.Name(id=name), args=[_, _]):
            return name.lstrip("_")
    return re.sub(r"\bself\.|\b_", "", ast.unparse(expression))


def pieces(text: str) -> list[str]:
    """A message without its placeholders: what is said literally, in order."""
    return re.split(r"\{\w[^{}]*\}|[\[\]]", text)


# The page: a table of the classes, and one of each class's messages.


def remedies() -> dict[str, dict[str, str]]:
    """class -> message -> what to do where the message does not say it; `again`: whether to try again."""
    return tomllib.loads(REMEDIES.read_text())


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def classes(code: Code) -> str:
    rows = []
    for kind, remedy in remedies().items():
        if "again" in remedy:
            meaning = " ".join((ast.get_docstring(code.classes[kind]) or "").split("\n\n")[0].split())
            rows.append((f"`{kind}`", str(exit_code(code, kind)), meaning, remedy["again"]))
    return table(("class", "exit code", "what it means", "again?"), rows)


def exit_code(code: Code, kind: str) -> int:
    """As `fl.cli.explain` has it: that of the nearest base class."""
    while kind not in EXIT_CODES:
        kind = ast.unparse(code.classes[kind].bases[0])
    return EXIT_CODES[kind]


def messages(sites: Iterable[Site], remedy: Mapping[str, str]) -> str:
    """Each once, with all modules that say it: by module, then by the alphabet, so that code may move."""
    modules: dict[str, dict[str, None]] = {}
    for site in sites:
        module = site.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        modules.setdefault(site.text, {})[f"`{module}`"] = None
    rows = ((_code(text), remedy.get(text, ""), ", ".join(said)) for text, said in modules.items())
    return table(("message", "what to do", "said in"), rows)


def blocks(code: Code) -> dict[str, str]:
    """Name -> block of the page: the classes, of each its messages, and what the command line makes of it."""
    kinds: dict[str, list[Site]] = {}
    for site in code.sites():
        kinds.setdefault(site.kind, []).append(site)
    of_each = {kind: messages(sites, remedies().get(kind, {})) for kind, sites in kinds.items()}
    flags = table(("a message says", "the command line"), ((_code(a), _code(b)) for a, b in FLAGS.items()))
    return {"classes": classes(code), "flags": flags, **of_each}


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(), blocks(Code.of_the_packages())))
