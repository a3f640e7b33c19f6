"""The limits of the house style that a machine can keep; each test names every place that crosses one."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "luthier"
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}
# The outermost box of the command line, and the server's request boundary; later a tracker's log.
MAY_CATCH_EVERYTHING = {"cli/main.py", "server/guards.py"}
# A part is of any type, by what its folder's contract says.
MAY_SAY_ANY = {"core/parts.py"}
NO_NAMES = {"utils", "util", "common", "helpers", "misc", "manager", "base"}
UNSAFE = ("trust_remote_code=True", "import pickle", "pickle.load", "shell=True", "os.system(", "torch.load(")


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield f"{name}:{node.lineno} {node.name}", node


def test_a_file_holds_one_idea_and_says_which():
    assert [name for name in TREES if len((ROOT / name).read_text(encoding="utf-8").splitlines()) > 500] == []
    assert [name for name in TREES if Path(name).stem in NO_NAMES] == []
    assert [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)] == []


def test_functions_are_short_and_take_few_arguments():
    assert [where for where, node in functions() if (node.end_lineno or 0) - node.lineno >= 60] == []
    assert [where for where, node in functions() if len(_arguments(node)) > _most_arguments(where)] == []


def test_public_functions_and_classes_say_what_they_do():
    silent = []
    for name, tree in TREES.items():
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                silent.append(f"{name}:{node.lineno} {node.name}")
    assert silent == []


def test_errors_are_caught_by_their_narrow_type():
    broad = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node) and name not in MAY_CATCH_EVERYTHING
    ]
    assert broad == []


def test_every_argument_has_a_type_and_none_is_any():
    faults = []
    for where, node in functions():
        hints = {argument.arg: argument.annotation for argument in _arguments(node)} | {"return": node.returns}
        if where.split(":")[0] in MAY_SAY_ANY or "ctx" in hints:  # torch fixes what an autograd function takes
            continue
        faults += [f"{where}({name}) has no type" for name, hint in hints.items() if hint is None]
        faults += [f"{where}({name}) is Any" for name, hint in hints.items() if hint is not None and _says_any(hint)]
    assert faults == []


def test_comments_are_ascii_and_nothing_unsafe_is_called():
    for name in TREES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert all(line.isascii() for line in text.splitlines() if line.lstrip().startswith("#")), name
        assert [unsafe for unsafe in UNSAFE if unsafe in text] == [], name


def _most_arguments(where: str) -> int:
    """A command's arguments are its options, which are given by name; `luthier compare` has most."""
    return 17 if where.startswith("cli/") else 12


def _arguments(node: ast.FunctionDef) -> list[ast.arg]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in arguments if argument.arg not in ("self", "cls")]


def _catches_everything(node: ast.ExceptHandler) -> bool:
    return node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))


def _says_any(hint: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(hint))
