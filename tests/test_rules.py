"""Every numbered rule has a test, every citation a rule, and docs/rules.md says which."""

import subprocess
import sys

import pytest

from scripts.rules import (
    ROOT,
    TABLE,
    Rule,
    all_citations,
    all_rules,
    citations_in,
    faults,
    rules_in,
    table,
)

README = """# A package
* **G1** The first rule. It MUST hold
  on two lines.
* **G2a** The second one.
* a decision

| id | threat | defence |
|---|---|---|
| S1 | a flood | bounds |
"""
TESTS = """
import pytest

pytestmark = [pytest.mark.rule("S1"), pytest.mark.e2e]

@pytest.mark.rule("G1", "G2a")
def test_one() -> None: ...

@pytest.mark.rule("G1")
class TestMany:
    @pytest.mark.rule("S1")
    async def test_two(self) -> None: ...
"""


def test_the_rules_and_the_tests_of_this_repository_are_tied() -> None:
    assert faults(all_rules(), all_citations()) == []


def test_the_table_is_up_to_date() -> None:
    text = TABLE.read_text("utf-8")
    assert text == table(all_rules(), all_citations()), "run scripts/rules.py --write"


def test_rules_are_list_items_and_table_rows() -> None:
    found = rules_in("x/README.md", README)
    assert [rule.name for rule in found] == ["G1", "G2a", "S1"]
    assert found[0].text == "The first rule. It MUST hold on two lines."
    assert found[2].text == "a flood | bounds"


def test_functions_classes_and_modules_cite_rules() -> None:
    found = [(one.test, one.rule) for one in citations_in("tests/test_x.py", TESTS)]
    assert found == [
        ("test_one", "S1"),
        ("test_one", "G1"),
        ("test_one", "G2a"),
        ("TestMany::test_two", "S1"),
        ("TestMany::test_two", "G1"),
    ]


def test_a_citation_is_a_literal_on_a_test() -> None:
    for wrong in (
        "@pytest.mark.rule(NAME)\ndef test_one(): ...",
        '@pytest.mark.rule("G1")\ndef helper(): ...',
    ):
        with pytest.raises(ValueError, match=r"rule|cites"):
            citations_in("tests/test_x.py", wrong)


def test_each_fault_is_named() -> None:
    rules, cited = rules_in("x/README.md", README), citations_in("tests/test_x.py", TESTS)
    assert faults(rules, cited) == []
    assert faults([*rules, Rule("G1", "again", "y/README.md")], cited) == ["G1 is used 2 times"]
    assert faults([*rules, Rule("G3", "new", "y")], cited) == ["G3 of y has no test"]
    gone = faults(rules[:1] + rules[2:], cited)
    assert gone == ["tests/test_x.py::test_one cites G2a, which is gone"]


def test_the_script_answers_like_this_test() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "rules.py")], check=False, capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, b"")
