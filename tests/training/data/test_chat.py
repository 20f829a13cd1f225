"""A conversation becomes one text by a template; parts without text are counted, and another shape is named."""

from typing import Any

import pytest

from swarm.errors import BadConfig
from swarm.training.data.chat import (
    Chat,
    chat_text,
    check_template,
    field_of,
    is_chat,
    program_for,
)

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


def test_parts_of_text_may_have_no_type_or_that_of_an_answer() -> None:
    """In Parquet every part has every field, and null for what it does not say."""
    content = [{"type": None, "text": "a"}, {"type": "output_text", "text": "b"}, None]
    found = chat_text([{"role": "user", "content": content, "tool_calls": None}], "plain", "")
    assert found == Chat("user: a\nb\n", ("text",))


def test_the_field_that_is_meant_is_the_conversation_or_the_longest_text() -> None:
    assert field_of({"id": "a long name", "talk": MESSAGES}) == "talk"
    assert field_of({"id": "7f", "body": "a text", "n": 3}) == "body"
    assert field_of({"n": 3}) == field_of({"x" * 41: "a"}) == field_of({}) == ""


def test_other_forms_of_conversations_have_a_program_that_makes_messages() -> None:
    """One field of a pair would be half of a conversation."""
    share = {"id": "1", "talk": [{"from": "human", "value": "hi"}]}
    messages = '{messages: [.["talk"][] | {role: .from, content: .value}]}'
    assert program_for(share) == messages
    both = program_for({"instruction": "a", "input": "b", "output": "c"})
    assert '.instruction + "\\n" + (.input // "")' in both
    assert both.endswith('{role: "assistant", content: .output}]}')
    assert "input" not in program_for({"prompt": "a", "completion": "b"})
    others: tuple[dict[str, Any], ...] = (
        {},
        {"prompt": "a"},
        {"prompt": "a", "completion": []},
        {"talk": [3]},
        {"talk": []},
    )
    for other in others:
        assert program_for(other) == ""
    assert program_for({"x" * 41: share["talk"]}) == ""
