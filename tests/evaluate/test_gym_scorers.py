"""Scorers that evaluate text run inside the sandbox only: the list is held against the installed package's sources."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import math
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from innerloop.evaluate.verify import gym

pytestmark = pytest.mark.model  # reads a hundred modules

# sympy as a whole: its functions take text where they want a formula, and then evaluate it
_MODULES = frozenset(
    (
        *("sympy", "pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "subprocess", "importlib"),
        *("runpy", "code", "codeop", "ctypes", "pty", "multiprocessing", "concurrent", "asyncio", "socket"),
    )
)
_BUILTINS = frozenset(
    (
        *("eval", "exec", "compile", "__import__", "getattr", "setattr", "delattr", "globals", "vars"),
        *("input", "breakpoint", "open"),
    )
)
_OF_OS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile", "kill", "remove", "unlink")
_NAMES = frozenset(("parse_expr", "sympify", "lambdify", "parse_latex", "import_module", "unsafe_load", "literal_eval"))


def evaluating() -> dict[str, set[str]]:
    """Family → what its scorer can reach that evaluates text, imports by name, or starts something."""
    found = {}
    for family, (dataset, _) in sorted(DATASETS.items()):
        sinks = reachable(dataset, "score_answer")
        if sinks:
            found[family] = sinks
    return found


def reachable(owner: type, method: str) -> set[str]:
    """The dangerous things among all that the method may call, in this class and its package."""
    sinks: set[str] = set()
    waiting: list[tuple[Any, type | None]] = [(getattr(owner, method), owner)]
    done: set[Any] = set()
    while waiting:
        function, of = waiting.pop()
        function = inspect.unwrap(getattr(function, "__func__", function))
        if (function, of) in done or not isinstance(function, FunctionType) or _made(function):
            continue
        done.add((function, of))
        for target, name in _mentioned(function, of):
            if target is _UNKNOWN:
                if name in _NAMES:
                    sinks.add(name)
                waiting += [(other, cls) for other, cls in _methods().get(name, ())]
            elif _dangerous(target):
                sinks.add(f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', name)}")
            elif isinstance(target, type) and target.__module__.startswith("reasoning_gym"):
                waiting += [(other, target) for other in vars(target).values() if isinstance(other, FunctionType)]
            elif (getattr(target, "__module__", "") or "").startswith(("reasoning_gym", "innerloop")):
                waiting.append((target, of if name.startswith("self.") else None))
    return sinks


_UNKNOWN = object()


def _mentioned(function: FunctionType, owner: type | None) -> Iterator[tuple[Any, str]]:
    """Every name and attribute in a function's text with what it stands for, as far as that can be told."""
    tree = _text_of(function)
    scope = {**vars(builtins), **function.__globals__, **_imported(tree, function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in scope:
            yield scope[node.id], node.id
        elif isinstance(node, ast.Attribute):
            yield _attribute(node, scope, owner)


def _attribute(node: ast.Attribute, scope: dict[str, Any], owner: type | None) -> tuple[Any, str]:
    inner = node.value
    if isinstance(inner, ast.Name) and inner.id in ("self", "cls"):
        if owner is not None and hasattr(owner, node.attr):
            return inspect.getattr_static(owner, node.attr), f"self.{node.attr}"
        return _UNKNOWN, node.attr
    base = _UNKNOWN
    if isinstance(inner, ast.Name):
        base = scope.get(inner.id, _UNKNOWN)
    elif isinstance(inner, ast.Attribute):
        base = _attribute(inner, scope, owner)[0]
    if isinstance(base, ModuleType | type) and hasattr(base, node.attr):
        return getattr(base, node.attr), node.attr
    return _UNKNOWN, node.attr


def _imported(tree: ast.AST, function: FunctionType) -> dict[str, Any]:
    """What is imported within the function."""
    package = function.__globals__.get("__package__")
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(a.asname or a.name).partition(".")[0]: importlib.import_module(a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module("." * node.level + (node.module or ""), package)
            names |= {a.asname or a.name: getattr(module, a.name) for a in node.names}
    return names


def _dangerous(target: Any) -> bool:
    if isinstance(target, ModuleType):
        return target.__name__.partition(".")[0] in _MODULES
    name, module = getattr(target, "__name__", ""), getattr(target, "__module__", None) or type(target).__module__
    if module == "builtins":
        return name in _BUILTINS
    if module in ("os", "posix", "nt"):
        return name.startswith(_OF_OS)
    return module.partition(".")[0] in _MODULES or (name in _NAMES and not module.startswith("reasoning_gym"))


@lru_cache
def _methods() -> dict[str, list[tuple[FunctionType, type]]]:
    """All methods of the package by name: what ``something.name`` may be."""
    found = defaultdict(list)
    for info in pkgutil.walk_packages(reasoning_gym.__path__, "reasoning_gym."):
        if ".contrib." in info.name and info.name.rpartition(".")[2] in ("BF-it", "Interpreter"):
            continue  # programs, which parse their arguments
        try:
            module = importlib.import_module(info.name)
        except Exception:  # noqa: BLE001  # what cannot be imported is not called either
            continue
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                for name, function in vars(cls).items():
                    if isinstance(function, FunctionType) and not name.startswith("__"):
                        found[name].append((function, cls))
    return found


@cache
def _text_of(function: FunctionType) -> ast.AST:
    """The function in its file; by line, because a docstring may be indented less than it."""
    line = function.__code__.co_firstlineno
    for node in ast.walk(_file(function.__code__.co_filename)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            if first == line and getattr(node, "name", "<lambda>") == function.__code__.co_name:
                return node
    raise LookupError(f"{function.__qualname__} is not in its file")


@lru_cache
def _file(name: str) -> ast.Module:
    return ast.parse(Path(name).read_text(encoding="utf-8"))


def _made(function: FunctionType) -> bool:
    """Whether a function has no text: dataclasses write theirs themselves."""
    return function.__code__.co_filename.startswith("<")


def test_every_scorer_that_can_evaluate_text_is_known():
    found = evaluating()
    del found["composite"]  # made of others; no verifier can be of this family
    assert found.keys() == gym.EVALUATING | gym._EXACT.keys()
    assert all(gym.evaluates(f"gym:{family}") for family in gym.EVALUATING)


def test_the_scorers_of_this_version_were_read():
    """Where this fails: the test above has to pass with the new version, then its number is added."""
    assert gym._version() in gym.SCORERS_READ


def test_a_version_that_nobody_read_is_scored_inside_only(monkeypatch):
    assert not gym.evaluates("gym:gcd")
    monkeypatch.setattr(gym, "_version", lambda: "99.0")
    assert gym.evaluates("gym:gcd")
    assert not gym.evaluates("gym:n_queens"), "its scorer is never called"


def _helper(text):
    return eval(text)


class _Base:
    def score_answer(self, answer, entry):
        return self._score(answer) if entry else 0.0


class _Direct(_Base):
    def _score(self, answer):
        return float(answer)


class _ByHelper(_Base):
    def _score(self, answer):
        return _helper(answer)


class _AsValue(_Base):
    def _score(self, answer):
        return sum(map(eval, answer))


class _ByName(_Base):
    def _score(self, answer):
        from sympy import sympify as read

        return read(answer)


class _ByAttribute(_Base):
    def _score(self, answer):
        return getattr(math, answer)()


class _Patterns(_Base):
    def _score(self, answer):
        return math.sqrt(len(re.compile("a").findall(answer)))


@pytest.mark.parametrize(
    ("dataset", "sinks"),
    [
        (_Direct, set()),
        (_Patterns, set()),
        (_ByHelper, {"builtins.eval"}),
        (_AsValue, {"builtins.eval"}),
        (_ByName, {"sympy.core.sympify.sympify"}),
        (_ByAttribute, {"builtins.getattr"}),
    ],
)
def test_evaluation_is_found_directly_and_through_helpers(dataset, sinks, monkeypatch):
    monkeypatch.setattr(_helper, "__module__", "reasoning_gym.helper")
    for cls in (_Base, dataset):
        for function in vars(cls).values():
            if callable(function):
                monkeypatch.setattr(function, "__module__", "reasoning_gym.scorer")
    assert reachable(dataset, "score_answer") == sinks
