import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.support.graphs import LINEAR, Shape, contract, graph, mel_input
from worker.errors import ModelRejected
from worker.serving.contract import ModelContract
from worker.serving.session import OnnxSession, SessionOptions


def session_of(path, shape=LINEAR):
    """A session of a shape."""
    onnx.save(graph(shape), path / "model.onnx")
    return OnnxSession(path / "model.onnx", SessionOptions())


def check(path, shape, **changes):
    """Compare a shape with the plain contract, changed."""
    session_of(path, shape).check(ModelContract.model_validate(contract(**changes)))


def feed(batch=2, level=-20.0):
    """Tensors for `LINEAR`."""
    return {"mel": np.full((batch, 3, 8, 4), level, np.float32), "mask": np.ones((batch, 3), bool)}


def test_a_run_answers_the_named_outputs(tmp_path):
    """Outputs come by name, in the order asked, computed from the feed."""
    outputs = session_of(tmp_path).run(("uncertainty", "position"), feed())
    assert list(outputs) == ["uncertainty", "position"]
    np.testing.assert_allclose(outputs["position"], [[44.98, 7.56]] * 2, rtol=1e-6)
    np.testing.assert_allclose(outputs["uncertainty"], [[0.01, 0.02]] * 2)


def test_a_failing_run_is_a_runtime_error_in_one_line(tmp_path):
    """What the runtime says is one line of limited length, and the session goes on."""
    session = session_of(tmp_path, Shape(fails_above=0.0))
    with pytest.raises(RuntimeError, match="the model failed: ") as caught:
        session.run(("position",), feed(level=1.0))
    assert len(str(caught.value)) < 450
    assert "\n" not in str(caught.value)
    assert session.run(("position",), feed(level=-1.0))["position"].shape == (2, 2)


@pytest.mark.parametrize("bytes_", [b"", b"not a model", b"\x08\x08" * 100])
def test_a_file_that_is_no_model_is_rejected(tmp_path, bytes_):
    """Garbage is a rejected version, not a crash."""
    (tmp_path / "model.onnx").write_bytes(bytes_)
    with pytest.raises(ModelRejected, match="onnxruntime cannot load the model"):
        OnnxSession(tmp_path / "model.onnx", SessionOptions())


def test_a_missing_provider_is_rejected_by_name(tmp_path):
    """A worker configured for a device it has not got says so."""
    onnx.save(graph(), tmp_path / "model.onnx")
    with pytest.raises(ModelRejected, match=r"has no \['NoSuchProvider'\]"):
        OnnxSession(tmp_path / "model.onnx", SessionOptions(providers=("NoSuchProvider", "CPUExecutionProvider")))


@pytest.mark.parametrize(
    "shape",
    [
        LINEAR,
        Shape(mel_shape=("n", "r", "m", "f")),
        Shape(uncertainty=(1.0,)),
    ],
)
def test_a_fitting_graph_passes(tmp_path, shape):
    """Dynamic axes fit any size; what is only known when it runs is not refused beforehand."""
    check(tmp_path, shape)


@pytest.mark.parametrize(
    ("shape", "changes", "said"),
    [
        (Shape(mel="spectrogram"), {}, r"takes \['mask', 'spectrogram'\], the contract feeds \['mask', 'mel'\]"),
        (Shape(mask=""), {}, r"takes \['mel'\]"),
        (
            Shape(mel_type=TensorProto.DOUBLE),
            {},
            r"'mel' is tensor\(double\) in the graph, float32 in the contract",
        ),
        (Shape(mel_type=TensorProto.FLOAT16), {}, r"tensor\(float16\)"),
        (Shape(mel_shape=("batch", 3, 32)), {}, "has the shape"),
        (Shape(mel_shape=(1, 3, 8, 4)), {}, "fixed batch of 1: export it with a dynamic batch axis"),
        (Shape(mel_shape=("batch", 5, 8, 4)), {}, "axis receiver is 5 in the graph, 3 in the contract"),
        (Shape(mel_shape=("batch", 3, 16, 4)), {}, "axis mel is 16 in the graph, 8 in the contract"),
        (Shape(mel_shape=("batch", 3, 8, 9)), {}, "axis frame is 9 in the graph, 4 in the contract"),
        (LINEAR, {"uncertainty": {"output": "sigma", "kind": "sigma"}}, "no output 'sigma'; it has"),
        (LINEAR, {"position": contract()["position"] | {"output": "p"}}, "no output 'p'"),
        (LINEAR, {"confidence": {"output": "sure"}}, "no output 'sure'"),
        (LINEAR, {"uncertainty": {"output": "uncertainty", "kind": "cholesky"}}, "has 2 components; cholesky has 3"),
        (Shape(uncertainty=(1, 2, 3)), {}, "has 3 components; sigma has 1 or 2"),
    ],
)
def test_a_graph_that_differs_is_rejected_with_both_sides(tmp_path, shape, changes, said):
    """The refusal names the input or output, what the graph has and what the contract says."""
    with pytest.raises(ModelRejected, match=said):
        check(tmp_path, shape, **changes)


def test_sizes_of_samples_and_columns_are_compared(tmp_path):
    """The other features' axes are checked by their own figures."""
    shape = Shape(mel_shape=("batch", 3, 2, 100), mask="")
    iq = {"feature": "iq", "axes": ["batch", "receiver", "iq", "sample"], "length": 100}
    check(tmp_path, shape, inputs={"mel": iq})
    with pytest.raises(ModelRejected, match="axis sample is 100 in the graph, 64 in the contract"):
        check(tmp_path, shape, inputs={"mel": iq | {"length": 64}})
    columns = {"feature": "receiver_features", "axes": ["batch", "receiver", "column"], "columns": [{"name": "lat"}]}
    with pytest.raises(ModelRejected, match="axis column is 6 in the graph, 1 in the contract"):
        check(tmp_path, Shape(mel_shape=("batch", 3, 6), mask=""), inputs={"mel": columns})


def test_open_frames_fit_any_number(tmp_path):
    """A contract without a number of frames leaves it to the graph."""
    check(
        tmp_path,
        Shape(mel_shape=("batch", 3, 8, "frames"), mask=""),
        inputs={"mel": mel_input(frames=None)},
    )


def test_metadata_is_read(tmp_path):
    """The file's own metadata is at hand for the contract."""
    model = graph()
    onnx.helper.set_model_props(model, {"heimdall.contract": "{}", "other": "x"})
    onnx.save(model, tmp_path / "model.onnx")
    session = OnnxSession(tmp_path / "model.onnx", SessionOptions(intra_op_threads=2))
    assert session.metadata == {"heimdall.contract": "{}", "other": "x"}
