"""Who may know whom: the rules hold, and what breaks them is found.

The import rules stand in pyproject.toml for import-linter. Here a copy of the tree gets one forbidden import
after the other, and each must be named. What no import shows (who makes a permit, who decides) is read from
the source itself.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "agent").rglob("*.py"), *(ROOT / "hal").rglob("*.py")])
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]

FORBIDDEN = [
    # net: no camera, no key, no archive, nothing that decides
    ("agent.streaming", "hal.picamera2_camera"),
    ("agent.streaming", "hal.usb_camera"),
    ("agent.link", "hal.synthetic_camera"),
    ("agent.console", "hal.replay_camera"),
    ("agent.link", "hal.detect"),
    ("agent.streaming", "agent.archive.ring"),
    ("agent.streaming", "agent.gate"),
    ("agent.console", "agent.owners"),
    ("agent.link", "agent.device_keys"),
    ("agent.console", "agent.ledger.keeper"),
    ("agent.console", "agent.ledger.log"),
    ("agent.streaming", "agent.media.share"),
    ("agent.link", "agent.sharing"),
    ("agent.net", "agent.core"),
    # core: no network
    ("agent.gate", "aiohttp"),
    ("agent.sharing", "agent.link.mqtt"),
    ("agent.archive", "agent.streaming.sessions"),
    ("agent.media", "aiortc"),
    ("agent.core", "agent.net"),
    ("agent.owners", "agent.serving"),
    ("agent.witnessing", "agent.link.witness_post"),
    # core's own order
    ("agent.media", "agent.gate"),
    ("agent.archive", "agent.ledger.keeper"),
    ("agent.ledger.log", "agent.gate"),
    ("agent.permit", "agent.gate"),
    ("agent.consent", "agent.sealing"),
    # pure
    ("agent.consent", "time"),
    ("agent.consent", "os"),
    ("agent.consent", "socket"),
    ("agent.consent", "asyncio"),
    ("agent.consent", "random"),
    ("agent.ledger.state", "secrets"),
    # one file each
    ("agent.media", "picamera2"),
    ("hal.usb_camera", "libcamera"),
    ("agent.console", "aiortc"),
    ("agent.ledger", "aiomqtt"),
    # outside
    ("hal", "agent.errors"),
    ("agent.cli", "agent.gate"),
    ("agent.agency", "agent.ledger.keeper"),
    ("agent.agency", "agent.archive.ring"),
    ("agent.net", "agent.cli.main"),
    ("agent.core", "agent.witness.store"),
    ("agent.link", "agent.witnessing"),
    ("agent.witness", "agent.gate"),
]
COMMON = {
    "arguments",
    "config",
    "consent",
    "errors",
    "operations",
    "parcel",
    "seam",
    "sealing",
    "ledger",
    "zones",
}
TOOLS = {"agency", "cli", "witness", "supervisor", "local_client"}


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("lint-imports")),
            "--config",
            str(tree / "pyproject.toml"),
            "--no-cache",
        ],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("agent", "hal"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def break_rule(tree: Path, importer: str, imported: str) -> str:
    """Add the import; the name of the module it stands in now."""
    path = tree / importer.replace(".", "/")
    if path.is_dir():
        module = f"{importer}.breaks_{imported.replace('.', '_')}"
        (path / f"{module.rpartition('.')[2]}.py").write_text(f"import {imported}\n", encoding="utf-8")
        return module
    with path.with_suffix(".py").open("a", encoding="utf-8") as file:
        file.write(f"\nimport {imported}\n")
    return importer


def test_tree_as_it_is_keeps_every_rule(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_import_that_breaks_a_rule_is_found(tree: Path) -> None:
    broken = [(break_rule(tree, importer, imported), imported) for importer, imported in FORBIDDEN]
    result = lint(tree)
    assert result.returncode == 1, result.stdout + result.stderr
    said = " ".join(result.stdout.split())
    missing = [
        f"{module} -> {imported}"
        for module, imported in broken
        if f"{module} -> {imported} " not in said and f"{module} -> {imported.split('.')[0]} " not in said
    ]
    assert not missing


def test_every_module_of_the_processes_stands_on_a_side() -> None:
    rule = {contract["name"]: contract for contract in CONTRACTS}
    net = rule["net holds no camera, no key of the device, no archive, no gate"]
    core = rule["core has no network"]

    def top(names: list[str]) -> set[str]:
        return {name.split(".")[1] for name in names if name.startswith("agent.")}

    modules = [path for path in (ROOT / "agent").iterdir() if path.suffix == ".py" or path.is_dir()]
    found = {path.stem for path in modules} - {"__init__", "__pycache__"}
    sides = top(core["source_modules"]) | top(net["source_modules"]) | COMMON | TOOLS
    assert found <= sides, f"placed on no side: {sorted(found - sides)}"
    assert top(core["source_modules"]) <= top(net["forbidden_modules"])
    assert top(net["source_modules"]) <= top(core["forbidden_modules"])


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def callers(name: str) -> set[str]:
    """Files in which something called ``name`` is called, not as a method of ours."""
    found = set()
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.Call):
                function = node.func
                called = function.id if isinstance(function, ast.Name) else None
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    called = function.attr if function.value.id in {"decision", "permit", "permits"} else None
                if called == name:
                    found.add(str(path.relative_to(ROOT)))
    return found


def test_permits_are_made_in_the_gate_alone() -> None:
    assert callers("Permit") == {"agent/gate.py"}


def test_decisions_are_made_in_the_gate_alone() -> None:
    # An owner's own program foretells with the same function; it stands outside both processes.
    for name in ("decide", "explain"):
        inside = {path for path in callers(name) if not path.startswith("agent/cli/")}
        assert inside == {"agent/gate.py"}


def test_nothing_rests_on_assert() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in nodes(path)
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_consent_reads_nothing_and_says_nothing() -> None:
    forbidden = {"asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess"}
    forbidden |= {"sys", "threading", "time"}
    pure = [path for path in SOURCES if path.parent.name == "consent"]
    assert len(pure) > 10
    for path in [*pure, *(ROOT / "agent" / "ledger" / f"{name}.py" for name in ("entry", "merkle", "state"))]:
        for node in nodes(path):
            if isinstance(node, ast.Import):
                assert not forbidden & {alias.name.split(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in forbidden, path
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "print", "input", "exec", "eval"}, path
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"now", "utcnow", "today"}, path
