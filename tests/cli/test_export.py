"""`mulap export`: a folder that all commands take, or one line of error."""

from click.testing import CliRunner
from tiny import write_joint_model

from mulap.cli import main


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_model_is_copied_with_its_graphs(tmp_path):
    folder = write_joint_model(tmp_path / "model")
    result = call("export", folder, tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = ["audio", "project", "text", "match", "words"]
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        str(tmp_path / "out" / f"{name}.onnx") for name in names
    ]
    assert lines[0].endswith(" kB")
    copied = {path.name for path in folder.iterdir() if path.suffix != ".py"}
    assert copied <= {path.name for path in (tmp_path / "out").iterdir()}
    again = call("export", folder, tmp_path / "out")
    assert again.exit_code == 1
    assert "is there already. Give another folder, or delete it." in again.stderr


def test_what_is_no_model_of_ours_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "wav2vec2"}')
    for model, reason in [("other", "has no musicnn"), ("nowhere", "there is no config.json")]:
        result = call("export", tmp_path / model, tmp_path / "out")
        assert result.exit_code == 1
        assert reason in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]
