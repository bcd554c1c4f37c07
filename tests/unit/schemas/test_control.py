import json

import pytest
from pydantic import ValidationError

from schemas.control import COMMAND, Drain, Info, Pause, Ping, Reload, Resume


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"command": "ping", "command_id": "a"}, Ping(command="ping", command_id="a")),
        ({"command": "info", "command_id": "a"}, Info(command="info", command_id="a")),
        ({"command": "pause", "command_id": "a"}, Pause(command="pause", command_id="a")),
        ({"command": "resume", "command_id": "a"}, Resume(command="resume", command_id="a")),
        ({"command": "drain", "command_id": "a"}, Drain(command="drain", command_id="a")),
        ({"command": "reload", "command_id": "a"}, Reload(command="reload", command_id="a", expect=None)),
        (
            {"command": "reload", "command_id": "a", "expect": "12"},
            Reload(command="reload", command_id="a", expect="12"),
        ),
    ],
)
def test_commands_are_read_by_their_name(body, command):
    """Each command is the model of its name."""
    assert COMMAND.validate_json(json.dumps(body)) == command


@pytest.mark.parametrize(
    "body",
    [
        {"command": "reload", "command_id": "a", "url": "http://evil/model.onnx"},
        {"command": "reload", "command_id": "a", "path": "/tmp/model.onnx"},
        {"command": "reload", "command_id": "a", "model": "models:/other/1"},
        {"command": "reload", "command_id": "a", "expect": "../../etc/passwd"},
        {"command": "reload", "command_id": "a", "expect": "http://evil/"},
        {"command": "reload", "command_id": "a", "expect": "1\n"},
        {"command": "exec", "command_id": "a"},
        {"command": "ping"},
        {"command": "ping", "command_id": ""},
        {"command": "ping", "command_id": "a/b"},
        {"command": "ping", "command_id": "a" * 129},
        {"command_id": "a"},
        [],
        "ping",
    ],
)
def test_commands_name_actions_never_locations(body):
    """No command takes a URL, a path or another model; nothing unknown is let through."""
    with pytest.raises(ValidationError):
        COMMAND.validate_json(json.dumps(body))
