"""What is read from an ONNX file agrees with what the onnx package says, and no bytes can do worse than a refusal."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support.families import FAMILIES, family
from worker.commands.onnx_file import DTYPES, read_onnx
from worker.commands.protobuf import fields, signed

DEMO = Path(__file__).parents[3] / "examples/models/torino.onnx"


def said(value):
    """Name, type and shape of an input or output, by the onnx package."""
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value or dim.dim_param or None for dim in kind.shape.dim)
    return value.name, DTYPES[kind.elem_type], shape


def read(value):
    """The same by our reading."""
    return value.name, value.dtype, value.shape


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_is_read_as_the_onnx_package_reads_it(tmp_path, name):
    """Inputs, outputs, opset and version of every family."""
    model = family(name).graph
    onnx.save(model, tmp_path / "m.onnx")
    file = read_onnx(tmp_path / "m.onnx")
    assert [read(tensor) for tensor in file.inputs] == [said(value) for value in model.graph.input]
    assert [read(tensor) for tensor in file.outputs] == [said(value) for value in model.graph.output]
    assert (file.opset, file.ir_version, file.external) == (14, 8, [])


def test_metadata_and_producer_are_read():
    """The demo model carries its contract inside."""
    file = read_onnx(DEMO)
    assert file.producer == "pytorch"
    assert file.metadata["heimdall.contract"].startswith("{")


def test_weights_are_no_inputs(tmp_path):
    """Old exports list their weights among the inputs."""
    model = family("localization_net").graph
    old = onnx.ModelProto()
    old.CopyFrom(model)
    for weight in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))
    onnx.save(old, tmp_path / "m.onnx")
    assert [tensor.name for tensor in read_onnx(tmp_path / "m.onnx").inputs] == ["mel_spectrogram"]


def external(name):
    """A tensor that lies in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, "secrets.bin")
    tensor.ClearField("raw_data")
    return tensor


def in_a_constant():
    """Nodes that hold the tensor as an attribute."""
    return [helper.make_node("Constant", [], ["y"], value=external("hidden"))], []


def in_an_inner_graph():
    """Nodes that hold the tensor among the weights of a branch."""
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    branch = helper.make_graph([helper.make_node("Identity", ["hidden"], ["y"])], "b", [], [out], [external("hidden")])
    return [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)], []


def among_the_weights():
    """A graph whose own weight it is."""
    return [helper.make_node("Identity", ["hidden"], ["y"])], [external("hidden")]


@pytest.mark.parametrize("hidden", [in_a_constant, in_an_inner_graph, among_the_weights])
def test_external_data_is_found_wherever_it_hides(tmp_path, hidden):
    """In weights, constants and branches."""
    nodes, weights = hidden()
    inputs = [helper.make_tensor_value_info("x", TensorProto.BOOL, [])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert set(read_onnx(tmp_path / "m.onnx").external) == {("hidden", "secrets.bin")}


def test_external_data_in_a_function_is_found(tmp_path):
    """Functions of the model have nodes of their own."""
    function = helper.make_function("own", "f", [], ["y"], in_a_constant()[0], [helper.make_opsetid("", 17)])
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    graph = helper.make_graph([helper.make_node("f", [], ["y"], domain="own")], "g", [], outputs)
    model = helper.make_model(graph, functions=[function], opset_imports=[helper.make_opsetid("own", 1)])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    file = read_onnx(tmp_path / "m.onnx")
    assert file.external == [("hidden", "secrets.bin")]
    assert file.opset is None


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_reading_or_a_refusal(content):
    """No message takes longer than its bytes, and none raises anything but ValueError."""
    try:
        for field in fields(memoryview(content)):
            assert len(field.content) <= len(content)
    except ValueError:
        pass


@given(st.integers(0, 20_000), st.integers(0, 255))
def test_a_damaged_model_is_read_or_refused(place, byte):
    """One changed byte anywhere in the structure."""
    whole = bytearray(family("slot_net").graph.SerializeToString())
    whole[place % len(whole)] = byte
    path = Path("/dev/shm") / "heimdall-damaged.onnx"
    path.write_bytes(whole)
    try:
        read_onnx(path)
    except ValueError:
        pass
    finally:
        path.unlink()


def test_a_negative_number_is_read_as_one():
    """Dimensions are signed."""
    assert signed((1 << 64) - 1) == -1
    assert signed(7) == 7
