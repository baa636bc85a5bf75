"""What a model file says of other activations, layers of several kinds, and what is around them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import LAYERED, RELATIONS, load_header, save_parts, untrained

from streamrnn.model.activations import ACTIVATIONS, FAR, find_activation, say_activation
from streamrnn.model.cells import CELLS, find_cell
from streamrnn.model.inspect import describe_model, format_description
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.model.settings import ModelError, tensor_shapes


def layered(**changes) -> Model:
    return untrained(hidden=7, **LAYERED | changes)


def test_all_of_it_goes_through_a_file(tmp_path):
    model = layered()
    write_model(model, tmp_path / "m")
    read = read_model(tmp_path / "m")
    assert read.fingerprint == model.fingerprint and read.settings() == model.settings()
    assert {key: model.settings()[key] for key in LAYERED} == LAYERED
    assert [cell.title for cell in read.cells_of_layers] == [
        "lstm (relu, gates hard_sigmoid)",
        "gru",
        "gru (softsign, gates hard_sigmoid(0.16666667, 0.5))",
        "lstm (output elu(0.5))",
    ]
    for name, array in model.tensors().items():
        np.testing.assert_array_equal(read.tensors()[name], array)


def test_the_shapes_of_its_tensors():
    shapes = tensor_shapes(layered().settings())
    assert [shapes[f"weight_ih_l{k}"] for k in range(4)] == [(28, 7), (21, 5), (21, 7), (28, 7)]
    assert [shapes[f"weight_hh_l{k}"] for k in range(4)] == [(28, 7), (21, 7), (21, 7), (28, 7)]
    dense = {"between.0.0": (18, 7), "between.0.1": (5, 18), "between.2.0": (7, 7), "after.0": (3, 7)}
    assert {name: shapes[f"{name}.weight"] for name in dense} == dense
    assert [name for name in shapes if name.startswith("between.1")] == []


def test_what_is_the_default_is_not_in_a_file(tmp_path):
    write_model(untrained(), tmp_path / "m")
    header, _ = load_header(tmp_path / "m")
    for key in (*set(LAYERED) - {"cell", "layers"}, "recurrent_activation", "output_activation"):
        assert f'"{key}"' not in header["__metadata__"]["model"]


MIXED = {"cell": "mixed", "cells": [{"cell": "lstm"}, {"cell": "gru"}]}


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"recurrent_activation": "softmax"}, '"recurrent_activation": "softmax" is for dense layers only'),
        ({"recurrent_activation": None}, '"recurrent_activation": expected activation "linear" or'),
        (
            {"activation": "elu(1, 2)"},
            '"activation": expected finite numbers as in elu(alpha), found \'elu(1',
        ),
        ({"activation": "elu(inf)"}, '"activation": expected finite numbers as in elu(alpha)'),
        ({"activation": "elu(x)"}, '"activation": expected finite numbers as in elu(alpha)'),
        ({"activation": "tanh(1)"}, '"activation": expected no numbers behind it'),
        ({"activation": "tanh()"}, '"activation": expected activation "linear" or'),
        ({"activation": "clip(1, -1)"}, "\"activation\": 'clip(1, -1)': clip(low, high) is none with these"),
        (
            {"after": [{"units": 5, "activation": "layer_norm(0)"}]},
            "\"after\"[0]: 'layer_norm(0)': layer_norm(",
        ),
        ({"cell": "slstm", "activation": "relu"}, 'is for the cell "lstm" or "gru" or "rnn" only, not'),
        ({"cell": "rnn", "recurrent_activation": "tanh"}, 'is for the cell "lstm" or "gru" only, not'),
        ({"cell": "gru", "output_activation": "relu"}, 'is for the cell "lstm" only, not'),
        ({"cells": [{"cell": "lstm"}]}, '"cells": expected none where "cell" is not "mixed"; remove it'),
        ({"cell": "mixed"}, '"cells": expected a list of 2 {"cell", "activation", '),
        (MIXED | {"cells": [{"cell": "lstm"}] * 3}, '"cells": expected a list of 2'),
        (MIXED | {"cells": [{"cell": "lstm"}, {}]}, '"cells"[1]: expected {"cell", "activation", '),
        (MIXED | {"cells": [{"cell": "lstm"}, {"cell": "mixed"}]}, '"cells"[1]: "cell": expected "lstm" or'),
        (
            MIXED | {"cells": [{"cell": "rnn", "reset": "before"}, {"cell": "lstm"}]},
            '"cells"[0]: "reset": "bef',
        ),
        (MIXED | {"activation": "relu"}, '"activation": where "cell" is "mixed" it stands in "cells"'),
        (
            {"between": [[], []]},
            '"between": expected a list of 1 lists of {"units", "activation"}, one behind',
        ),
        ({"between": {}}, '"between": expected a list of 1 lists'),
        ({"between": [[{"units": 3}]]}, '"between"[0][0]: expected {"units", "activation"}'),
        ({"between": [[{"units": 3, "activation": "tanh"}]]}, "between.0.0.weight: missing, of shape (3, 5)"),
        ({"skips": 3}, '"skips": expected a list of up to 1024 pairs [from, to]'),
        ({"skips": [[1, 2]] * 1025}, '"skips": expected a list of up to 1024 pairs [from, to]'),
        ({"skips": [[1]]}, '"skips"[0]: expected [from, to], found [1]'),
        ({"skips": [[1, True]]}, '"skips"[0]: expected [from, to], found [1, True]'),
        ({"skips": [[1, 2], [1, 2]]}, '"skips"[1]: [1, 2] is there already; remove it'),
        (
            {"skips": [[2, 2]]},
            '"skips"[0]: expected a list of up to 1024 pairs [from, to], from a layer or 0',
        ),
        ({"skips": [[0, 1]]}, '"skips"[0]: expected a list of up to'),
        ({"activation": "elu(1_0)"}, '"activation": expected finite numbers as in elu(alpha)'),
        (
            {"after": [{"units": 5, "activation": "layer_norm(1e-60)"}]},
            "layer_norm(epsilon) is none with these",
        ),
        ({"skips": [[1, 4]]}, '"skips"[0]: expected a list of up to'),
        ({"skips": [[0, 2]]}, '"skips"[0]: [0, 2] adds 3 values to 5; they must be as many'),
        (
            RELATIONS["encoder-decoder"] | {"skips": [[1, 3]]},
            '"skips": expected [] for the relation "encoder',
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, fragment):
    model = untrained(layers=2)
    with pytest.raises(ModelError) as caught:
        read_model(save_parts(tmp_path / "m", model.settings() | changes, model.tensors()))
    assert fragment in str(caught.value)
    assert len(str(caught.value)) < 1200


def test_a_list_between_that_does_not_fit_is_refused_where_a_model_is_made():
    with pytest.raises(ModelError, match=re.escape('"between": expected a list of 3 lists')):
        replace(layered(), between=layered().between[:1])


def test_any_of_it_is_a_shape_of_its_own():
    """No state of one goes on in another."""
    changes = (
        {"skips": [[0, 4]]},
        {"between": [[], [], []]},
        {"cells": [{"cell": "lstm"}] * 4},
        {"cell": "gru", "cells": []},
    )
    for change in changes:
        assert layered(**change).shape() != layered().shape()
    assert layered(seed=3).shape() == layered().shape()


@pytest.mark.parametrize(
    ("row", "like"),
    [
        (find_cell("lstm"), {"recurrent_activation": "hard_sigmoid"}),
        (find_cell("gru"), {"recurrent_activation": "hard_sigmoid"}),
        (find_cell("gru", reset="before"), {"activation": "scaled_tanh"}),
        (find_cell("rnn"), {"activation": "scaled_tanh"}),
        (find_cell("rnn", "relu"), {"activation": "leaky_relu"}),
    ],
)
def test_the_rows_of_the_table_follow_from_their_activations(row, like):
    """What is derived for other activations is what the table says for those of its rows."""
    derived = find_cell(row.name, **{"activation": row.activation, "reset": row.reset} | like)
    assert derived not in CELLS
    assert derived._replace(**{key: getattr(row, key) for key in like}) == row


def test_what_bounds_a_state_that_activations_leave_open():
    assert find_cell("lstm", "relu").states[0].bound == np.inf
    assert find_cell("lstm", "relu").saturates_at == FAR
    assert find_cell("lstm", "relu", output_activation="sigmoid").states[0].bound < 1.00001
    assert find_cell("lstm", output_activation="scaled_tanh(3, 0.5)").states[0].bound == pytest.approx(3)
    assert find_cell("lstm", output_activation="scaled_tanh(3, 0.5)").saturates_at == 15.8
    assert find_cell("gru", recurrent_activation="tanh").states[0].bound == np.inf
    assert find_cell("gru", "clip(-2, 1)").states[0].bound == pytest.approx(2)


def test_an_activation_is_said_by_its_name_where_its_numbers_are_the_usual_ones():
    assert say_activation("hard_sigmoid", 0.2, 0.5) == "hard_sigmoid"
    assert say_activation("hard_sigmoid", 1 / 6, 0.5) == "hard_sigmoid(0.16666667, 0.5)"
    assert say_activation("tanh") == "tanh"
    given = find_activation("hard_sigmoid(0.16666667, 0.5)")
    assert np.float32(given.alpha) == np.float32(1 / 6) and given.beta == 0.5
    with pytest.raises(ValueError, match="expected finite numbers as in elu"):
        say_activation("elu", np.inf)


def test_every_activation_is_in_the_readme_with_its_numbers():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for kind in ACTIVATIONS:
        numbers = ", ".join(
            np.format_float_positional(np.float32(usual), trim="-") for _, usual in kind.numbers
        )
        assert f"`{kind.name}({numbers})`" in readme if numbers else f"`{kind.name}`" in readme


def test_inspect_tells_the_layers_and_what_is_around_them():
    table = format_description(describe_model(layered(), "m"))
    lines = [" ".join(line.split()) for line in table.splitlines()]
    for line in (
        "network mixed, 4 x 7 hidden units",
        "layers lstm (relu, gates hard_sigmoid), gru with reset before, gru (softsign, gates "
        "hard_sigmoid(0.16666667, 0.5)), lstm (output elu(0.5))",
        "dense before 20 gelu, 7 layer_norm(0.001)",
        "dense behind layer 1 18 silu, 5 softmax",
        "dense behind layer 3 7 leaky_relu(0.3)",
        "dense after 3 log_softmax",
        "skip what goes into layer 1 is added to what goes into layer 4",
        "skip what layer 3 gives is added to what the last layer gives",
        f"state {(2 + 1 + 1 + 2) * 7 * 4} bytes per stream",
    ):
        assert line in lines
    one = format_description(
        describe_model(untrained(activation="relu", recurrent_activation="clip(0, 1)"), "m")
    )
    assert "lstm (relu, gates clip(0, 1)), 1 x 5 hidden units" in one
