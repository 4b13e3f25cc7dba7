"""The house rules: imports go up only, few modules at the top, names that can be found."""

from __future__ import annotations

import ast
from importlib import import_module

import rooms


def test_imports_go_up_only():
    assert rooms.upward_imports() == []


def test_no_modules_import_each_other():
    assert rooms.circles() == []


def test_an_upward_import_and_a_circle_are_found(monkeypatch):
    wrong = {"flow": {"training.trainer"}, "training.trainer": {"flow"}}
    monkeypatch.setattr(rooms, "graph", lambda: wrong)
    assert rooms.upward_imports() == ["flow imports training.trainer"]
    assert rooms.circles() == [["flow", "training.trainer"]]


def test_few_modules_look_others_up_by_name_and_find_them():
    """So may call what is above: the methods of a flow, names in settings, and public names."""
    found = rooms.lookups()
    assert set(found) == {"", "utils.registry"}
    for path in {path for paths in found.values() for path in paths}:
        module, _, attribute = path.partition(":")
        assert hasattr(import_module(module), attribute or "__name__"), path


def test_every_room_has_its_place_and_few_are_modules_at_the_top():
    names = {name for name in rooms.modules() if name}
    top = {name for name in names if "." not in name and not (rooms.SOURCE / name).is_dir()}
    assert {rooms.room_of(name) for name in names} - {"__main__"} <= set(rooms.RANK)
    assert len(top) <= 15


def test_benchmarks_import_from_each_other_what_is_there():
    files = sorted(rooms.SOURCE.parents[1].joinpath("benchmarks").glob("*.py"))
    trees = {file.stem: ast.parse(file.read_text()) for file in files}
    missing = [
        f"{name} imports {alias.name} of {node.module}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in trees
        for alias in node.names
        if alias.name not in _names(trees[node.module])
    ]
    assert missing == []


def _names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines or imports."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        else:
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found
