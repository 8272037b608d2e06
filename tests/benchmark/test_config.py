"""A benchmark's file: what it may say, where its paths lead, and how it is refused."""

import pytest
import yaml

from mulap.benchmark.config import load_config, resolve_backbone
from mulap.configs import FOLDER

CONFIGS = FOLDER / "benchmark"
GTZAN = {"name": "gtzan", "data": "data/gtzan"}
OWN = {"name": "folder", "data": "labels.csv", "label": "genre"}


def write(folder, **sections):
    values = {"tasks": [GTZAN], "backbones": ["random"]} | sections
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_what_is_not_said_has_the_papers_values(tmp_path):
    config = load_config(write(tmp_path))
    assert (config.probe.protocol, config.probe.seeds, config.supervised.seeds) == ("paper", 3, 1)
    assert config.cache is None
    assert config.supervised.checkpoints is None


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    config = load_config(
        write(
            tmp_path,
            tasks=[GTZAN, OWN],
            backbones=["mel", {"name": "./best", "label": "ours"}],
            cache="features",
            supervised={"checkpoints": "trained"},
        )
    )
    assert [task.data for task in config.tasks] == [
        tmp_path / "data/gtzan",
        tmp_path / "labels.csv",
    ]
    assert [(b.name, b.label, b.source) for b in config.backbones] == [
        ("mel", "mel", "mel"),
        ("./best", "ours", str(tmp_path / "best")),
    ]
    assert (config.cache, config.supervised.checkpoints) == (
        tmp_path / "features",
        tmp_path / "trained",
    )


def test_one_encoder_in_both_spaces_is_two_backbones(tmp_path):
    named = {"name": "small", "source": "./best", "space": "joint", "label": "ours"}
    config = load_config(
        write(tmp_path, backbones=["mulap-small", {"name": "mulap-small", "space": "joint"}, named])
    )
    assert [(b.name, b.label, b.source, b.space) for b in config.backbones] == [
        ("mulap-small", "mulap-small", "mulap-small", "backbone"),
        ("mulap-small:joint", "mulap-small:joint", "mulap-small", "joint"),
        ("small:joint", "ours", str(tmp_path / "best"), "joint"),
    ]


def test_the_columns_of_a_table_are_passed_on(tmp_path):
    entry = OWN | {"fold": "package", "group": "artist", "kind": "class", "title": "Mine"}
    (task,) = load_config(write(tmp_path, tasks=[entry])).tasks
    assert task.columns == {
        "label": "genre",
        "fold": "package",
        "group": "artist",
        "kind": "class",
        "title": "Mine",
    }
    assert str(task) == "Mine"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"task": [GTZAN]}, "unknown setting 'task'. Did you mean 'tasks'"),
        ({"probe": {"seed": 3}}, "unknown setting 'probe.seed'. Did you mean 'probe.seeds'"),
        ({"probe": {"protocol": "papre"}}, "no protocol 'papre'. Did you mean paper"),
        ({"probe": {"seeds": 0}}, "probe: seeds is 0: too few. Give 1 or more"),
        ({"probe": {"seeds": True}}, "'probe.seeds' is True. Give a whole number"),
        ({"probe": "paper"}, "'probe' is 'paper'. Give it keys"),
        ({"tasks": []}, "'tasks' is empty. Add one, such as - {name"),
        ({"tasks": ["gtzan"]}, r"'tasks\[1\]' is 'gtzan'. Give it keys"),
        ({"tasks": [{"name": "gtzen", "data": "x"}]}, "no task 'gtzen'. Did you mean gtzan"),
        ({"tasks": [{"name": "gtzan"}]}, r"'tasks\[1\].data' is missing. Add it"),
        ({"tasks": [OWN, OWN | {"label": ""}]}, r"tasks\[2\]: has no 'label'. Name the column"),
        ({"tasks": GTZAN}, "'tasks' is {.*. Give a list"),
        ({"tasks": [GTZAN | {"split": "full"}]}, "gtzan has no split 'full'. Give filtered"),
        ({"tasks": [GTZAN | {"label": "x"}]}, "'label' works only with name: folder"),
        ({"tasks": [OWN | {"folds": "x"}]}, "unknown setting 'tasks.*folds'. Did you mean .*fold'"),
        ({"tasks": [GTZAN, GTZAN]}, "the task gtzan .filtered. occurs twice"),
        ({"tasks": [OWN | {"label": 3}]}, r"'tasks\[1\].label' is 3. Give text"),
        ({"tasks": [OWN | {"label": ["genre", 3]}]}, r"'tasks\[1\].label\[2\]' is 3. Give text"),
        ({"tasks": [OWN | {"title": 7}]}, r"'tasks\[1\].title' is 7. Give text"),
        ({"tasks": [OWN, OWN]}, "occurs twice. Give one another split or title"),
        ({"backbones": []}, "'backbones' is empty. Add one, such as - random"),
        ({"backbones": [{"name": "mel", "lable": "x"}]}, r"Did you mean 'backbones\[1\].label'"),
        ({"backbones": [{"name": ""}]}, r"backbones\[1\]: a backbone has no name"),
        ({"backbones": [3]}, r"'backbones\[1\]' is 3. Give it keys"),
        ({"backbones": ["mel", "mel"]}, "two backbones have the name 'mel'"),
        ({"backbones": ["mel", {"name": "random", "label": "mel"}]}, "have the label 'mel'"),
        ({"supervised": {"setting": "x"}}, "Did you mean 'supervised.settings'"),
        ({"supervised": {"settings": "none.yaml"}}, "none.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_its_place(tmp_path, sections, message):
    path = write(tmp_path, **sections)
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("tasks: [", "not valid YAML"), ("- a", "Give it")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="none.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_only_what_has_a_slash_is_a_path(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "random").mkdir()
    names = {
        "random": "random",
        "./random": f"{tmp_path}/random",
        "/elsewhere/best": "/elsewhere/best",
        "hf:org/name": "hf:org/name",
        "hf:model": f"hf:{tmp_path}/model",
        "hear:module": "hear:module",
        "hear:module:weights": "hear:module:weights",
        "hear:module:out/weights.pt": f"hear:module:{tmp_path}/out/weights.pt",
    }
    assert {name: resolve_backbone(name, tmp_path) for name in names} == names


def test_the_home_folder_is_found_wherever_a_path_may_stand(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "model").mkdir(parents=True)
    (home / "own.yaml").write_text("training: {num_epochs: 7}")
    monkeypatch.setenv("HOME", str(home))
    config = load_config(
        write(
            tmp_path,
            tasks=[{"name": "gtzan", "data": "~/data"}],
            backbones=["~/best", "hf:~/model", "hear:module:~/weights.pt"],
            cache="~/cache",
            supervised={"settings": "~/own.yaml", "checkpoints": "~/trained"},
        )
    )
    assert config.tasks[0].data == home / "data"
    assert [backbone.source for backbone in config.backbones] == [
        f"{home}/best",
        f"hf:{home}/model",
        f"hear:module:{home}/weights.pt",
    ]
    assert (config.cache, config.supervised.checkpoints) == (home / "cache", home / "trained")
    assert config.supervised.load().training.num_epochs == 7
    (tmp_path / "more.yaml").write_text("extends: ~/own.yaml\ntraining: {batch_size: 3}")
    more = (
        load_config(write(tmp_path, supervised={"settings": "more.yaml"}))
        .supervised.load()
        .training
    )
    assert (more.num_epochs, more.batch_size) == (7, 3)


def test_a_path_may_be_text(tmp_path):
    assert load_config(str(write(tmp_path))) == load_config(write(tmp_path))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configs_that_come_with_it_load_and_name_their_command(path):
    config = load_config(path)
    assert len(config.backbones) > 3
    assert f"mulap benchmark {path.stem} " in path.read_text(encoding="utf-8")
