"""Write a conversation of JSON, a list of messages with a role and a content, as one text.

Core: pure functions of JSON values.

The text of each message follows its role by the template that was chosen. A content that is a list of parts
gives the text of its parts of text; pictures, calls of tools and other parts are counted, not written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from swarm.errors import BadConfig

FIELD = "messages"
"""Field of a line in which a conversation is looked for where there is no text."""
TEMPLATES: Mapping[str, str] = {
    "plain": "{role}: {content}\n\n",
    "chatml": "<|im_start|>{role}\n{content}<|im_end|>\n",
}
"""Form of each message; a role and a content are put in as they are."""
ROLE_CHARS_MAX = 64
_SHAPE = 'messages are written [{"role": "user", "content": "..."}]'
_KIND_CHARS_MAX = 40
_KINDS_OF_TEXT = frozenset({"text", "input_text", "output_text"})
_NAME_CHARS_MAX = 40
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
)
"""Fields that together are a conversation: one of them alone would be half of it."""


@dataclass(frozen=True, slots=True)
class Chat:
    """The text of a conversation, and what was left out of it."""

    text: str
    parts: tuple[str, ...]
    """The type of each part without text."""


def check_template(name: str) -> None:
    """Raise ``BadConfig`` unless a template of this name is declared."""
    if name not in TEMPLATES:
        raise BadConfig(
            f"there is no template {name[:40]!r}; there are {', '.join(sorted(TEMPLATES))}",
            hint="--template plain",
        )


def is_chat(value: object) -> TypeGuard[list[object]]:
    """Return True if a value is a list in which a role is named: no list of anything, but a conversation."""
    return isinstance(value, list) and any(isinstance(one, dict) and "role" in one for one in value)


def chat_text(messages: list[object], template: str, where: str) -> Chat:
    """Return the text of a conversation; raise ``BadConfig`` naming the message that is none.

    A message without any text is left out; of such alone comes the text "".
    """
    form, written, parts = TEMPLATES[template], list[str](), list[str]()
    for number, message in enumerate(messages, 1):
        place = f"{where}, message {number}"
        if not isinstance(message, dict):
            raise BadConfig(f"{place} is not an object", hint=_SHAPE)
        role = message.get("role")
        if not isinstance(role, str) or not 0 < len(role) <= ROLE_CHARS_MAX:
            raise BadConfig(f"{place} has no role of 1 to {ROLE_CHARS_MAX} characters", hint=_SHAPE)
        content = _content(message.get("content"), place, parts)
        if message.get("tool_calls"):
            parts.append("tool_calls")
        if content:
            written.append(form.format(role=role, content=content))
    return Chat("".join(written).rstrip("\n") + "\n" if written else "", tuple(parts))


def _content(content: object, place: str, parts: list[str]) -> str:
    """Return the text of a content; the types of parts without text are added to ``parts``."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadConfig(f"{place} has a content that is no text, nor a list of parts", hint=_SHAPE)
    texts = list[str]()
    for part in content:
        kind = (part.get("type") or "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if str(kind) in _KINDS_OF_TEXT and isinstance(text, str):
            texts.append(text)
        else:
            parts.append(str(kind)[:_KIND_CHARS_MAX])
    return "\n".join(texts)


def field_of(found: Mapping[str, object]) -> str:
    """Return the field that most likely holds the text: the first conversation, else the longest text."""
    chats = [name for name, value in found.items() if is_chat(value)]
    texts = {name: len(value) for name, value in found.items() if isinstance(value, str)}
    name = chats[0] if chats else max(texts, key=lambda one: texts[one], default="")
    return name if len(name) <= _NAME_CHARS_MAX else ""


def program_for(found: Mapping[str, object]) -> str:
    """Return the program of jq that makes ``messages`` of an object in another known form; "" for any other."""
    for name, value in found.items():
        first = value[0] if isinstance(value, list) and value else None
        if (
            isinstance(first, dict)
            and {"from", "value"} <= set(first)
            and len(name) <= _NAME_CHARS_MAX
        ):
            return f"{{messages: [.[{json.dumps(name)}][] | {{role: .from, content: .value}}]}}"
    for asked, told in _PAIRS:
        if isinstance(found.get(asked), str) and isinstance(found.get(told), str):
            more = ' + "\\n" + (.input // "")' if isinstance(found.get("input"), str) else ""
            user = f'{{role: "user", content: (.{asked}{more})}}'
            return f'{{messages: [{user}, {{role: "assistant", content: .{told}}}]}}'
    return ""
