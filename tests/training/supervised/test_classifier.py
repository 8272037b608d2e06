"""Backbone and classifier in one: dropout where it belongs, and only whole models are loaded."""

import shutil

import pytest
import torch
from safetensors.torch import save_file
from toy_task import weights

from mulap.training.supervised.classifier import Classifier, load_classifier

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("change", ["missing", "unknown", "other shape"])
def test_a_model_that_is_not_whole_is_not_loaded_E35(straight, tmp_path, change):
    report, _ = straight
    shutil.copytree(report.best, tmp_path / "best")
    tensors = weights(report.best)
    if change == "missing":
        del tensors["classifier.hidden.bias"]
    elif change == "unknown":
        tensors["mulbert.extra"] = torch.zeros(1)
    else:
        tensors["classifier.output.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "best" / "model.safetensors")
    with pytest.raises(ValueError, match="its weights do not fit config.json"):
        load_classifier(tmp_path / "best")


def test_dropout_touches_the_input_and_the_hidden_layer_but_no_output_E37():
    torch.manual_seed(0)
    for hidden_size in (0, 4):
        classifier = Classifier(8, hidden_size, 50, dropout=0.9).train()
        with torch.no_grad():
            classifier.output.bias.fill_(100.0)
            outputs = classifier(torch.randn(20, 8))
        assert (outputs > 50).all()
        classifier.eval()
        features = torch.randn(3, 8)
        assert torch.equal(classifier(features), classifier(features))


@torch.no_grad()
def test_dropout_is_on_the_input_and_after_the_relu_E37():
    torch.manual_seed(0)
    features = torch.ones(10, 64)
    linear = Classifier(64, 0, 1, dropout=0.5).train()
    linear.output.weight.fill_(1.0)
    assert linear(features).std() > 1.0
    classifier = Classifier(64, 64, 1, dropout=0.5).train()
    classifier.output.weight.fill_(1.0)
    classifier.hidden.weight.fill_(0.0)  # the input cannot matter
    classifier.hidden.bias.fill_(1.0)
    assert classifier(features).std() > 1.0
