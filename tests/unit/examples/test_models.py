"""The committed models: contract, golden vectors, and accuracy on a few fresh scenes."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from examples.evaluate_model import MODELS, coverage, locate
from examples.features import FeaturePath
from examples.mmse import errors_m
from examples.model_file import INPUTS, OUTPUTS, read_contract
from examples.network import NETWORKS, Network
from examples.scenes import fresh_draws, fresh_scenes
from worker.serving.contract import ModelContract
from worker.serving.loading import file_digest, load_version
from worker.serving.model import VersionRecord
from worker.serving.session import SessionOptions

pytestmark = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def model_path(network: Network) -> Path:
    """The committed file."""
    return MODELS / f"{network.name}.onnx"


def test_contract_names_the_networks_receivers(network: Network) -> None:
    """It validates, its slots are the network's receivers, and it says that its data are simulated."""
    contract = ModelContract.model_validate(read_contract(model_path(network)))
    assert [slot.id for slot in contract.receivers.slots] == [site.id for site in network.sites]
    assert contract.level == "dbm"
    assert (contract.position.origin.latitude, contract.position.origin.longitude) == network.origin
    assert contract.card["data"] == "simulated"
    assert contract.card["evaluation"]["scenes"] == 2_000


def test_a_worker_takes_the_model(network: Network, tmp_path: Path) -> None:
    """Digest, contract, graph and golden vectors pass the checks of serving, through worker.dsp."""
    (tmp_path / "model.onnx").write_bytes(model_path(network).read_bytes())
    digest = file_digest(tmp_path / "model.onnx")
    record = VersionRecord(network.name, "1", "production", digest, "", None, 0)
    version = load_version(tmp_path, record, SessionOptions(), max_batch_size=2)
    assert len(version.contract.golden) == 3


def test_a_row_does_not_depend_on_its_batch(network: Network) -> None:
    """Alone or among others, with receivers absent, the fix is the same to a metre."""
    path = model_path(network)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tensors = FeaturePath(ModelContract.model_validate(read_contract(path)))(fresh_scenes(network, 6, 3))
    together = session.run(OUTPUTS, tensors)
    alone = session.run(OUTPUTS, {name: tensors[name][4:5] for name in INPUTS})
    for many, one in zip(together, alone, strict=True):
        assert np.allclose(many[4], one[0], atol=1e-3)


def test_accuracy_holds_on_fresh_scenes(network: Network) -> None:
    """A sample of what the card says: near the bound, and honest about its errors (simulated)."""
    errors = locate(model_path(network), network, 200, 77)
    bound_m = errors_m(network, fresh_draws(network, 200, 77)[0])
    # Wide limits: a median of 200 has a standard error of 8 %, a coverage of 90 % one of 2 %.
    assert np.median(errors.distance_m) <= 1.3 * np.median(bound_m)
    assert 0.83 < coverage(errors, 0.9) < 0.97


def test_card_says_simulated_and_its_licence(network: Network) -> None:
    """A figure without its origin would be taken for a measurement."""
    card = model_path(network).with_suffix(".card.md").read_text("utf-8")
    assert "Accuracy (simulated)" in card
    assert "Apache-2.0" in card
    assert ("alone cannot do better" in card) == (network.name == "northwest")
