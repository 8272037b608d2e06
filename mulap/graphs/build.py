"""Writes ONNX graphs whose weights stay where they are, in a model's safetensors.

    graph = Graph(folder, ("mulap.", ""))
    y = graph.MatMul("x", graph.weight("projection.weight"))    # an operator of ONNX is a method

An .onnx file holds the operators and small tables. A weight is a place in `model.safetensors`
beside it, so that a folder holds each number once. Half precision becomes float32 when a graph is
loaded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mulap.encoders.onnx_embedder import GRAPHS_VERSION
from mulap.encoders.weights import Stored, find_tensors

OPSET, IR_VERSION = 20, 10
FLOAT, DOUBLE, INT64, BOOL = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.BOOL,
)
_TYPES = {
    "F64": TensorProto.DOUBLE,
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
}
METADATA = "mulap"


class Graph:
    """A graph that grows by calls; each returns the names of its outputs.

    Args:
        folder: of the model; its weights have to be there already.
        prefixes: where the weights' names may hang in; the first that fits a name counts.
    """

    def __init__(self, folder: Path, prefixes: Sequence[str] = ("",)) -> None:
        self._places = find_tensors(folder)
        self._prefixes = prefixes
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._tables: dict[Any, str] = {}  # each once
        self._floats: dict[str, str] = {}  # of a weight, its name as float32

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        """Return what adds a node: values or names of the inputs, attributes by name."""
        if not operator[:1].isupper():
            raise AttributeError(operator)

        def add(*inputs: Any, num_outputs: int = 1, **attributes: Any) -> Any:
            names = [each if isinstance(each, str) else self.table(each) for each in inputs]
            outputs = [f"{operator}{len(self._nodes)}.{i}" for i in range(num_outputs)]
            self._nodes.append(helper.make_node(operator, names, outputs, **attributes))
            return outputs[0] if num_outputs == 1 else outputs

        return add

    def table(self, values: Any) -> str:
        """Store a small array in the graph; return its name. Whole numbers are int64."""
        array = np.array(values, order="C")
        if array.dtype.kind in "iu":
            array = array.astype(np.int64)
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._tables:
            name = self._tables[key] = f"t{len(self._tensors)}"
            self._tensors[name] = numpy_helper.from_array(array, name)
        return self._tables[key]

    def has(self, weight: str) -> bool:
        """Whether the model has a weight of this name."""
        return any(prefix + weight in self._places for prefix in self._prefixes)

    def shape(self, weight: str) -> tuple[int, ...]:
        """Return the shape of a weight."""
        return self._places[self._full_name(weight)].shape

    def weight(self, weight: str, as_stored: bool = False) -> str:
        """Return the name of a weight.

        Args:
            weight: its name in the model, without the prefix.
            as_stored: leave half precision as it is.
        """
        name = self._full_name(weight)
        if name not in self._tensors:
            self._tensors[name] = _external(name, self._places[name])
        if as_stored or self._tensors[name].data_type == FLOAT:
            return name
        if name not in self._floats:
            self._floats[name] = self.Cast(name, to=FLOAT)
        return self._floats[name]

    def save(
        self,
        path: Path,
        inputs: Mapping[str, tuple[int, Sequence[Any]]],
        outputs: Mapping[str, tuple[str, Sequence[Any]]],
        metadata: Mapping[str, Any],
        doc: str,
    ) -> None:
        """Write the graph.

        Args:
            path: the .onnx file, beside the weights.
            inputs: name -> type and shape; a dimension that varies has a name.
            outputs: name -> the value's name in the graph, and its shape; float32.
            metadata: JSON that `mulap.encoders.onnx_embedder` reads.
            doc: what the graph does.
        """
        for name, (value, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info(name, *each) for name, each in inputs.items()],
            [
                helper.make_tensor_value_info(name, FLOAT, shape)
                for name, (_, shape) in outputs.items()
            ],
            list(self._tensors.values()),
            doc_string=doc,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "mulap"
        helper.set_model_props(
            model, {METADATA: json.dumps({"version": GRAPHS_VERSION, **metadata})}
        )
        path.write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path))

    def _full_name(self, weight: str) -> str:
        for prefix in self._prefixes:
            if prefix + weight in self._places:
                return prefix + weight
        raise ValueError(f"the weights lack {weight}, which config.json asks for. Copy them again.")


def _external(name: str, place: Stored) -> onnx.TensorProto:
    if place.kind not in _TYPES:
        raise ValueError(f"{name}: has type {place.kind}, which no graph holds. Use float32.")
    tensor = TensorProto()
    tensor.name, tensor.data_type = name, _TYPES[place.kind]
    tensor.dims.extend(place.shape)
    tensor.data_location = TensorProto.EXTERNAL
    where = {"location": place.path.name, "offset": place.offset, "length": place.length}
    for key, value in where.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor
