"""What is written about the repository is true of it: pages, tree, configs, limits, names.

Nearly everything is read from the files; nothing here trains.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import soundfile as sf
import yaml
from tiny import RATE, tone

import mulap
from mulap.benchmark.config import load_config
from mulap.training.pretrain.settings import load_settings
from mulap.training.supervised.settings import load_supervised_settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mulap"
# Not ours, made by tools, or made by running something: only asked where git cannot be.
NOT_TRACKED = {".git", ".venv", "__pycache__", "build", "dist", "tour", "out"}
LARGEST_FILE = 2**20
LARGE_FILES = {
    "mulap/weights/mulap-small/model.safetensors",
    "mulap/weights/musicnn-msd/model.safetensors",
    "mulap/weights/musicnn-mtt/model.safetensors",
    "tests/golden/musicnn.npz",
}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_CONFIG_LINES = 400, 80, 30


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file of the repository; without git, every file that no tool made."""
    asked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if asked.returncode == 0 and asked.stdout:
        names = asked.stdout.split("\0")
    else:
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        names = [
            path.as_posix()
            for path in paths
            if not any(
                part in NOT_TRACKED or part.endswith(("_cache", ".egg-info", ".hypothesis"))
                for part in path.parts
            )
        ]
    return tuple(sorted(ROOT / name for name in names if name and (ROOT / name).is_file()))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules(*folders: str) -> list[Path]:
    folders = folders or ("mulap",)
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py" and name_of(path).startswith(tuple(f"{each}/" for each in folders))
    ]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.expr) -> str:
    """`torch.nn.init` of the expression that says so; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_tree(text: str) -> set[str]:
    """Names of a tree drawn by indentation of two spaces; folders end in a slash."""
    names, folders = set(), []
    for line in text.splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        if not re.fullmatch(r"[\w./-]*[./][\w./-]*", name):
            continue  # the second line of a description
        del folders[depth:]
        names.add("".join(folders) + name)
        folders.append(name)
    return names


def test_a_tree_is_read_by_its_indentation():
    drawn = "mulap/\n  audio.py    decodes\n  data/      reads\n    tars.py\n  files.py\n"
    assert read_tree(drawn) == {
        "mulap/",
        "mulap/audio.py",
        "mulap/data/",
        "mulap/data/tars.py",
        "mulap/files.py",
    }


def test_the_layout_page_is_the_tree_of_the_package():
    page = read("docs/layout.md")
    blocks = re.findall(r"^```\w*\n(mulap/.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert blocks, (
        "docs/layout.md has no fenced block that begins with `mulap/`: draw the tree there"
    )
    drawn = read_tree(blocks[0])
    python = {path for path in modules() if not path.name.startswith("__")}
    folders = {path.parent for path in modules()} | {PACKAGE / "weights"}
    wanted = {name_of(path) for path in python} | {f"{name_of(folder)}/" for folder in folders}
    assert sorted(wanted - drawn) == [], "missing in docs/layout.md"
    gone = [name for name in drawn if not (ROOT / name).exists()]
    assert gone == [], "in docs/layout.md, but nowhere else"


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sf.write("song.mp3", tone(0, 7.0), RATE)
    blocks = re.findall(r"^```python\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {}  # a page's blocks follow each other
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_generated_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_docs.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


CONFIGS = sorted(
    path
    for path in [*(PACKAGE / "configs").rglob("*.yaml"), *(ROOT / "runs").glob("*.yaml")]
    if path.parent.name != "accelerate"  # Accelerate's own format: tests/training/test_processes.py
)
# folder of configs -> the command that reads them, and how it does
READERS = {
    "pretrain": ("pretrain", load_settings),
    "supervised": ("pretrain-supervised", load_supervised_settings),
    "benchmark": ("benchmark", load_config),
    "runs": ("benchmark", load_config),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_config_loads_is_short_and_names_the_command_that_uses_it(path):
    command, load = READERS[path.parent.name]
    load(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    settings = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert 0 < len(settings) < MAX_CONFIG_LINES
    name = path.stem if path.is_relative_to(PACKAGE) else name_of(path)
    assert any(f"mulap {command} {name} " in line for line in comments)
    assert yaml.safe_load("\n".join(lines))


def test_help_of_every_command_needs_no_torch():
    code = """if True:
        import json, sys
        from click.testing import CliRunner
        from mulap.cli import main

        def walk(group, words=()):
            yield words
            for name, command in getattr(group, "commands", {}).items():
                yield from walk(command, (*words, name))

        calls = [[*words, "--help"] for words in walk(main)]
        codes = [CliRunner().invoke(main, call).exit_code for call in calls]
        print(json.dumps([codes, sorted(set(name.partition(".")[0] for name in sys.modules))]))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    codes, imported = json.loads(done.stdout)
    assert set(codes) == {0}
    assert len(codes) >= 8
    heavy = {"torch", "transformers", "numpy", "av", "soundfile", "pyarrow", "numba", "yaml"}
    assert heavy & set(imported) == set()


def test_python_m_mulap_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "mulap", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == mulap.__version__


def test_files_and_functions_are_short():
    too_long = []
    for path in modules():
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        too_long += [f"{name_of(path)}: {num_lines}"] if num_lines > MAX_FILE_LINES else []
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if num_lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{name_of(path)}: {node.name} {num_lines}")
    assert too_long == []


def test_public_functions_of_data_and_tasks_take_paths_as_text_too():
    """A str where a Path was wanted ended in an AttributeError."""
    found = []
    for path in modules():
        if path.parent.name not in ("data", "tasks"):
            continue
        tree = parse(path)
        classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]
        for node in [*tree.body, *(m for c in classes for m in c.body)]:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                given = [*node.args.args, *node.args.kwonlyargs]
                kinds = " ".join(ast.unparse(arg.annotation) for arg in given if arg.annotation)
                found += [f"{name_of(path)}: {node.name}"] if re.search(r"\bPath\b", kinds) else []
    assert found == []


def test_every_python_file_says_what_it_is():
    silent = [
        name_of(path)
        for path in tracked_files()
        if path.suffix == ".py" and not ast.get_docstring(parse(path))
    ]
    assert silent == []


# In two halves, so that this file does not hold what it looks for.
HOSTS = ["py" + "pi.org", "python" + "hosted", "download.py" + "torch", "registry.np" + "mjs"]
PLACES = ["/wo" + "rk/", "/ro" + "ot/"]


def test_no_file_names_a_path_of_one_machine_or_a_registry_s_host():
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        if "\0" in text:
            continue  # weights and arrays
        for each in HOSTS:
            found += [f"{name_of(path)}: {each}"] if each in text else []
        for each in PLACES:
            # "artwork/x" is no absolute path.
            is_there = re.search(rf"(?<![\w.}}]){re.escape(each)}", text)
            found += [f"{name_of(path)}: {each}"] if is_there else []
    assert found == []


def test_large_files_are_weights_and_golden_data_only():
    large = {name_of(path) for path in tracked_files() if path.stat().st_size > LARGEST_FILE}
    assert large <= LARGE_FILES


PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def pickle_uses(tree: ast.Module) -> list[str]:
    """Every import or call by which a module may load a pickle."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.partition(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.partition(".")[0] in PICKLES else []
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            found += [name] if name in ("torch.load", "torch.save") else []
            for keyword in node.keywords:
                if (
                    keyword.arg == "allow_pickle"
                    and getattr(keyword.value, "value", 1) is not False
                ):
                    found.append(f"{name}(allow_pickle)")
    return found


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from joblib import load", "torch.load(f)", "np.load(f, allow_pickle=True)"],
)
def test_a_pickle_is_seen(line):
    assert pickle_uses(ast.parse(line))


def test_no_pickle_is_loaded():
    assert {name_of(path): uses for path in modules() if (uses := pickle_uses(parse(path)))} == {}


ONE_SYSTEM = {"fcntl", "grp", "msvcrt", "posix", "pty", "pwd", "resource", "termios", "winreg"}


def test_no_module_needs_one_operating_system():
    found = {}
    for path in modules():
        names = set()
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
        if used := names & ONE_SYSTEM:
            found[name_of(path)] = used
    assert found == {}


# What draws from, or sets, a random state that all code shares.
TORCH_DRAWS = re.compile(
    r"torch\.(rand|randn|randint|randperm|rand_like|randn_like|randint_like|normal|bernoulli|"
    r"multinomial|manual_seed|seed)"
)
NUMPY_DRAWS = re.compile(r"(np|numpy)\.random\.(?!(default_rng|Generator|SeedSequence|PCG64)$)\w+")


def global_draws(tree: ast.Module) -> list[str]:
    """Every use of a global random state in a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += ["random" for alias in node.names if alias.name == "random"]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module for _ in node.names if node.module in ("random", "numpy.random")]
        elif isinstance(node, ast.Attribute) and NUMPY_DRAWS.fullmatch(dotted(node)):
            found.append(dotted(node))
        elif isinstance(node, ast.Call):
            name, keywords = dotted(node.func), {keyword.arg for keyword in node.keywords}
            if TORCH_DRAWS.fullmatch(name) and "generator" not in keywords:
                found.append(name)
            if name.endswith(".default_rng") and not node.args and not node.keywords:
                found.append(f"{name}() without a seed")
    return found


@pytest.mark.parametrize(
    "line",
    [
        "import random",
        "from random import shuffle",
        "x = torch.rand(3)",
        "torch.manual_seed(0)",
        "np.random.shuffle(x)",
        "np.random.default_rng()",
    ],
)
def test_a_global_draw_is_seen(line):
    assert global_draws(ast.parse(line))


@pytest.mark.parametrize(
    "line", ["torch.rand(3, generator=g)", "np.random.default_rng([1, 2])", "g.random(3)"]
)
def test_a_draw_from_a_generator_of_one_s_own_is_allowed(line):
    assert not global_draws(ast.parse(line))


def test_data_and_objectives_never_touch_the_global_random_state():
    paths = modules("mulap/data", "mulap/objectives")
    assert len(paths) > 10
    assert {name_of(path): draws for path in paths if (draws := global_draws(parse(path)))} == {}


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]


def test_the_readme_names_every_extra():
    unnamed = [
        extra
        for extra in PROJECT["optional-dependencies"]
        if not re.search(rf"[\[`,]{extra}[\]`,]", read("README.md"))
    ]
    assert unnamed == []


def test_one_version_everywhere():
    (latest, *_) = re.findall(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), re.MULTILINE)
    citation = yaml.safe_load(read("CITATION.cff"))
    assert latest == PROJECT["version"] == citation["version"] == mulap.__version__


def test_the_licence_is_the_same_everywhere():
    assert PROJECT["license"] == yaml.safe_load(read("CITATION.cff"))["license"]
    assert "Apache License" in read("LICENSE")


def test_links_between_the_pages_lead_somewhere():
    broken = []
    for page in (path for path in tracked_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{name_of(page)}: {target}")
    assert broken == []


def test_every_page_is_on_the_map_of_the_documentation():
    pages = {path.name for path in tracked_files() if path.parent == ROOT / "docs"}
    linked = set(re.findall(r"\]\(([\w.-]+\.(?:md|ipynb))\)", read("docs/index.md")))
    assert pages - {"index.md"} <= linked


def test_make_targets_that_the_documentation_names_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "docs/index.md"):
        named = set(re.findall(r"`make ([a-z]+)", read(page)))
        assert named <= targets, page


@cache
def find_tests(file: str) -> frozenset[str]:
    if not (ROOT / file).is_file():
        return frozenset()
    tree = parse(ROOT / file)
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    )


def test_tests_that_the_table_of_differences_names_exist():
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", read("docs/differences.md"))
    assert named
    assert [f"{file}::{name}" for file, name in named if name not in find_tests(file)] == []


def test_every_grave_difference_has_a_test_that_guards_it():
    rows = re.findall(r"^\| (\d+ ★+) \|(.*)", read("docs/differences.md"), re.MULTILINE)
    assert len(rows) > 30
    assert [item for item, row in rows if "★★" in item and "`tests/" not in row] == []
