"""A conversation becomes one text by a template; parts without text are counted, and another shape is named."""

from typing import Any

import pytest

from swarm.errors import BadConfig
from swarm.training.data.chat import Chat, chat_text, check_template, is_chat

MESSAGES: list[Any] = [
    {"role": "system", "content": "Be {kind}."},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, "b"]},
    {"role": "assistant", "content": None, "tool_calls": [{}]},
    {"role": "assistant", "content": "yes"},
]


@pytest.mark.rule("T13e")
def test_messages_follow_their_roles() -> None:
    found = chat_text(MESSAGES, "plain", "a line 1")
    text = "system: Be {kind}.\n\nuser: a\nb\n\nassistant: yes\n"
    assert found == Chat(text, ("image_url", "tool_calls"))
    chatml = "<|im_start|>user\nhi<|im_end|>\n"
    assert chat_text([{"role": "user", "content": "hi"}], "chatml", "").text == chatml
    assert chat_text([{"role": "user", "content": ""}], "chatml", "").text == ""
    assert chat_text([], "plain", "") == Chat("", ())


@pytest.mark.rule("T13e")
@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("hi", "is not an object"),
        ({"content": "hi"}, "has no role"),
        ({"role": 3, "content": "hi"}, "has no role"),
        ({"role": "x" * 65, "content": "hi"}, "has no role"),
        ({"role": "user", "content": 3}, "no text, nor a list"),
        ({"role": "user", "content": {"text": "hi"}}, "no text, nor a list"),
    ],
)
def test_a_message_of_another_shape_is_named(message: object, cause: str) -> None:
    with pytest.raises(BadConfig, match=f"a.jsonl line 3, message 2.*{cause}") as caught:
        chat_text([MESSAGES[0], message], "plain", "a.jsonl line 3")
    assert caught.value.hint


def test_parts_of_any_type_are_counted_within_bounds() -> None:
    content = [{"type": "x" * 1000}, {"type": ["y"]}, {"type": "text", "text": 3}, 7]
    found = chat_text([{"role": "user", "content": content}], "plain", "")
    assert found == Chat("", ("x" * 40, "['y']", "text", "text"))


def test_what_is_a_conversation_and_which_templates_there_are() -> None:
    assert is_chat(MESSAGES)
    assert is_chat([{"content": "no role"}, MESSAGES[0]]), "so that the first is named"
    assert not is_chat(["a"])
    assert not is_chat("a")
    assert not is_chat([{"from": "human"}])
    check_template("chatml")
    with pytest.raises(BadConfig, match="there are chatml, plain"):
        check_template("{x}")
