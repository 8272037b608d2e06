"""Settings: every name and type is checked at the door, in one line."""

import dataclasses

import pytest
import yaml

from mulap.configs import FOLDER
from mulap.training.pretrain.settings import PretrainSettings, load_settings, settings_to_dict

CONFIGS = FOLDER / "pretrain"


def load(tmp_path, text: str, overrides=(), **others: str) -> PretrainSettings:
    for name, content in {"run": text, **others}.items():
        (tmp_path / f"{name}.yaml").write_text(content, encoding="utf-8")
    return load_settings(tmp_path / "run.yaml", list(overrides))


def fails(tmp_path, text: str, match: str, overrides=(), **others: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        load(tmp_path, text, overrides, **others)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_the_paper(tmp_path):
    settings = load(tmp_path, "")
    assert settings == PretrainSettings()
    assert (settings.training.batch_size, settings.training.learning_rate) == (512, 1e-4)
    assert (settings.model.layout, settings.model.global_token) == ("paper", "unmasked")
    assert (settings.objectives.mam_target, settings.objectives.mismatch) == ("original", "keep")
    assert settings.objectives.weights() == {"mlm": 0.1, "mam": 4.0, "atm": 2.0}


@pytest.mark.parametrize(
    "name", ["paper", "official", "small", "warm", "scratch", "tiny", "contrastive"]
)
def test_every_config_that_comes_with_mulap_loads(name):
    settings = load_settings(CONFIGS / f"{name}.yaml")
    dataclasses.asdict(settings)
    text = (CONFIGS / f"{name}.yaml").read_text()
    if name != "paper":
        assert "extends:" in text


def test_the_official_config_switches_every_deviation_of_the_authors_code_by_name():
    official = load_settings(CONFIGS / "official.yaml")
    assert official.model.layout == "official"
    assert official.model.global_token == "all_detached"
    assert official.model.atm_head == "pooler"
    assert official.model.db_reference == "batch"
    assert official.masking.atm_negatives == "dataset"
    assert official.objectives.mam_target == "zeros"
    assert official.objectives.mismatch == "drop_mlm"
    assert official.training.weight_decay == 0.0
    paper = load_settings(CONFIGS / "paper.yaml")
    assert paper.objectives == PretrainSettings().objectives
    assert paper.masking == PretrainSettings().masking
    assert paper.training.weight_decay > 0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("training: {lerning_rate: 1}", "unknown .*. Did you mean 'training.learning_rate'"),
        ("trainig: {seed: 1}", "unknown setting 'trainig'. Did you mean 'training'?"),
        ("model: {zzz: 1}", "unknown setting 'model.zzz'. Give one of .*text, num_text_layers"),
        ("modle:", "unknown setting 'modle'. Did you mean 'model'?"),
        ("training: {seed: one}", "'training.seed' is 'one'. Give a whole number"),
        ("training: {seed: true}", "'training.seed' is True. Give a whole number"),
        ("training: {seed: 1.5}", r"'training.seed' is 1.5. Give a whole number"),
        ("training: {seed: null}", "'training.seed' is None. Give a whole number"),
        ("training: {learning_rate: fast}", "'training.learning_rate' is 'fast'. Give a number"),
        ("training: {learning_rate: true}", "'training.learning_rate' is True. Give a number"),
        ("data: {cache_features: 1}", "'data.cache_features' is 1. Give true or false"),
        ("model: {layout: papre}", "'model.layout' is 'papre'. Choose one of paper, official"),
        ("model: {layout: [paper]}", "'model.layout' is .*. Choose one of paper, official"),
        ("training: {report_to: tensorboard}", "Give a list, such as"),
        ("training: {report_to: [1]}", r"'training.report_to\[1\]' is 1. Give text"),
        ("data: {group_column: 3}", "'data.group_column' is 3. Give text"),
        ("training: 3", "'training' is 3. Give it keys and values"),
        ("training: []", r"'training' is \[\]. Give it keys and values"),
        ("[1, 2]", "holds no sections. Write `training:`"),
        ("training: {seed: 1", "is not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_the_remedy(tmp_path, text, match):
    fails(tmp_path, text, match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("objectives: {contrastive: 1}", "set model.has_contrastive_head to true"),
        ("objectives: {mlm: 0, mam: 0, atm: 0}", "no objective has a weight"),
        (
            "{objectives: {mlm: 0}, training: {best_by: loss/mlm}}",
            "best_by is loss/mlm, an objective without a weight: choose loss",
        ),
        ("training: {micro_batch_size: 0}", "'training.micro_batch_size' is 0: give 1 up"),
        (
            "training: {best_by: atm/pair_accuracy, retrieval_pool: 1}",
            "needs pairs: raise training.retrieval_pool",
        ),
        (
            "{objectives: {atm: 0}, training: {best_by: atm/pair_accuracy}}",
            "best_by is atm/pair_accuracy, of the matching head, which objectives.atm = 0",
        ),
        (
            "{objectives: {atm: 0}, training: {best_by: retrieval/atm/R@10}}",
            "best_by is retrieval/atm/R@10, of the matching head",
        ),
        (
            "{masking: {atm_probability: 0}, training: {best_by: atm/accuracy}}",
            "of the matching head, which .* masking.atm_probability = 0 leave untrained",
        ),
        (
            "training: {best_by: retrieval/contrastive/R@1}",
            "best_by is retrieval/contrastive/R@1, .* without a weight: choose loss",
        ),
        (
            "training: {best_by: loss/contrastive}",
            "best_by is loss/contrastive, an objective without a weight: choose loss",
        ),
        (
            "training: {best_by: retrieval/atm/R@1, retrieval_pool: 0}",
            "needs pairs: raise training.retrieval_pool",
        ),
        ("masking: {atm_draws: 0}", "'masking.atm_draws' is 0: give 1 up"),
        ("training: {num_epochs: -1}", "'training.num_epochs' is -1: give 1 up"),
    ],
)
def test_values_that_no_run_could_use_are_refused_before_anything_is_decoded(tmp_path, text, match):
    fails(tmp_path, text, match)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml: cannot be read .*. Name a YAML file"):
        load_settings(tmp_path / "nowhere.yaml")
    fails(tmp_path, "extends: nowhere.yaml", "nowhere.yaml: cannot be read")


def test_bytes_that_are_not_utf_8_are_one_clear_error(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"training: \xff\xfe")
    with pytest.raises(ValueError, match="is not valid YAML"):
        load_settings(tmp_path / "run.yaml")


def test_a_chain_of_files_is_laid_over_one_another_key_by_key(tmp_path):
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "a.yaml").write_text(
        "training: {seed: 1, batch_size: 8, num_epochs: 3}\nmodel: {text: none}"
    )
    settings = load(
        tmp_path,
        "extends: middle.yaml\ntraining: {seed: 3}\ndata: {crop: random}",
        middle="extends: bases/a.yaml\ntraining: {seed: 2, batch_size: 16}",
    )
    assert settings.training.seed == 3
    assert settings.training.batch_size == 16
    assert settings.training.num_epochs == 3
    assert (settings.model.text, settings.data.crop) == ("none", "random")


def test_a_heading_with_nothing_under_it_changes_nothing(tmp_path):
    settings = load(tmp_path, "extends: base.yaml\ntraining:", base="training: {seed: 5}")
    assert settings.training.seed == 5
    assert load(tmp_path, "training:", ["training.seed=4"]).training.seed == 4


def test_files_that_extend_each_other_are_one_clear_error(tmp_path):
    fails(tmp_path, "extends: run.yaml", "run.yaml: extends itself. Remove one `extends:`")
    fails(tmp_path, "extends: other.yaml", "extends itself", other="extends: run.yaml")


def test_overrides_come_last_and_are_checked_too(tmp_path):
    text = "training: {seed: 1, report_to: []}"
    settings = load(
        tmp_path,
        text,
        ["training.seed=7", "training.learning_rate=1e-3", "model.text=none",
         "training.report_to=[tensorboard]", "data.group_column=null"],
    )  # fmt: skip
    assert settings.training.seed == 7
    assert settings.training.learning_rate == 0.001
    assert settings.model.text == "none"
    assert settings.training.report_to == ["tensorboard"]
    fails(tmp_path, text, "Did you mean 'training.seed'?", ["training.sed=7"])
    fails(tmp_path, text, "'training.seed' is 'x'. Give a whole number", ["training.seed=x"])
    for override in ("seed=1", "training.seed", "training=3", ""):
        fails(tmp_path, text, "is not a setting. Write section.key=value", [override])
    fails(tmp_path, text, "is not valid YAML", ["training.seed=[1"])
    fails(tmp_path, "training: 3", "is not a setting", ["training.seed=1"])


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    settings = load(tmp_path, "training: {learning_rate: 1e-4, max_grad_norm: 2}")
    assert settings.training.learning_rate == 1e-4
    assert settings.training.max_grad_norm == 2.0
    assert isinstance(settings.training.max_grad_norm, float)


def test_settings_survive_being_written_and_read(tmp_path):
    settings = load_settings(CONFIGS / "official.yaml", ["training.seed=9"])
    text = yaml.safe_dump(settings_to_dict(settings))
    assert load(tmp_path, text) == settings


def test_every_folder_of_the_package_is_a_package_E46():
    package = CONFIGS.parents[1]
    folders = {path.parent for path in package.rglob("*.py")}
    assert len(folders) > 4
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("seconds", ["-1", "0", "2.9", "601"])
def test_a_crop_that_no_model_could_take_is_refused_by_the_setting_s_name(tmp_path, seconds):
    path = tmp_path / "settings.yaml"
    path.write_text(f"data: {{crop_seconds: {seconds}}}")
    with pytest.raises(ValueError, match="data.crop_seconds is .*: give 3, one segment, to 600"):
        load_settings(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "training: {seed: 2026-99-99}"])
def test_yaml_that_no_parser_can_take_is_one_clear_error(tmp_path, text):
    fails(tmp_path, text, "run.yaml: is not valid YAML")
