"""Every arm's prompt differs from the plain one in what the arm promises, and in nothing else."""

import json

import numpy as np
import pytest
from arm_material import PAIRS, material, question

from luthier.core.errors import DataError, SettingsError
from luthier.core.parts import load
from luthier.core.types import Message
from luthier.verdict import retrieval, written_prompts
from luthier.verdict.arms import endpoint, few_shot, prompt, tuned, zero_shot
from luthier.verdict.asking import Candidate, Material, with_turns
from luthier.verdict.written_prompts import inferred_schema

ROOM = 512
RIVER = question("Which river runs through Budapest?", "the Danube", system="Be brief.")


def asked(arm: str, name: str, made: Material, room: int = ROOM, of=RIVER) -> tuple[Message, ...]:
    """What the candidate `name` of an arm gives to the model."""
    candidates: list[Candidate] = load("luthier.verdict.arms", arm, "Arm")().candidates(made)
    found = [one for one in candidates if one.name == name]
    assert found, [one.name for one in candidates]
    return found[0].ask(of, room)


@pytest.mark.parametrize("arm", [zero_shot, tuned])
def test_plain_arms_ask_the_rows_as_they_stand(arm):
    (candidate,) = arm.Arm().candidates(material())
    assert candidate.ask(RIVER, ROOM) == RIVER.messages


def test_nearest_examples_are_the_most_alike_and_the_most_alike_stands_last():
    messages = asked("few_shot", "nearest 4", material())
    assert messages[0] == Message("system", "Be brief.") and messages[-1] == RIVER.messages[-1]
    shown = [one.content for one in messages[1:-1]]
    assert shown[-4:] in ([*PAIRS[0], *PAIRS[1]], [*PAIRS[1], *PAIRS[0]])
    assert asked("few_shot", "nearest 1", material())[1:3] in [
        (Message("user", text), Message("assistant", answer)) for text, answer in PAIRS[:2]
    ]


def test_the_nearest_change_with_the_question_and_fixed_ones_do_not():
    mountain = question("How high is the mountain Mont Blanc?")
    made = material()
    assert asked("few_shot", "nearest 1", made)[1:3] != asked("few_shot", "nearest 1", made, of=mountain)[:2]
    assert asked("few_shot", "fixed 1", made)[1:3] == asked("few_shot", "fixed 1", made, of=mountain)[:2]


def test_diverse_examples_show_every_label_before_any_twice():
    pairs = [
        (f"the {colour} thing number {n}", colour) for n in range(20) for colour in ("red", "blue", "green", "grey")
    ]
    shown = asked("few_shot", "diverse 4", material(pairs), of=question("the pink thing"))
    assert sorted(one.content for one in shown if one.role == "assistant") == ["blue", "green", "grey", "red"]


def test_examples_keep_to_the_tokens_and_the_number_that_the_settings_allow():
    pairs = [(f"word {n} " * 10, f"answer {n}") for n in range(30)]
    for candidate in few_shot.Arm().candidates(material(pairs, examples=6, added_tokens=100)):
        messages = candidate.ask(question("word 1"), ROOM)
        told = " ".join(one.content for one in messages[:-1])
        assert len(messages) - 1 <= 12 and len(told.split()) <= 100
    tight = asked("few_shot", "nearest 1", material(), room=9)
    assert tight == RIVER.messages, "an example that does not fit is left out"
    names = [one.name for one in few_shot.Arm().candidates(material())]
    assert names == [
        "fixed 1",
        "fixed 4",
        "fixed 5",
        "diverse 1",
        "diverse 4",
        "diverse 5",
        "nearest 1",
        "nearest 4",
        "nearest 5",
    ]


def test_orders_that_show_no_more_examples_are_proposed_once():
    pairs = [(f"word {n} " * 10, f"answer {n}") for n in range(30)]
    names = [one.name for one in few_shot.Arm().candidates(material(pairs, added_tokens=70))]
    assert names[:4] == ["fixed 1", "fixed 2", "diverse 1", "diverse 2"]


def test_no_example_to_show_is_an_error():
    with pytest.raises(DataError, match="few_shot has no example"):
        few_shot.Arm().candidates(material([("a question", "")]))


def test_the_users_prompts_and_written_ones_replace_the_system_prompt():
    labels = [(f"question {n}", ("tea", "coffee")[n % 2]) for n in range(20)]
    made = material(labels, prompts={"mine.txt": "Say what they drink."})
    (head, *rest) = asked("prompt", "mine.txt", made)
    assert head == Message("system", "Say what they drink.") and tuple(rest) == RIVER.messages[1:]
    written = asked("prompt", "written: task, details and rules", made)
    assert "coffee, tea" in written[0].content and "exactly" in written[0].content
    assert prompt.Arm().candidates(made)[0].name == "mine.txt"


def test_a_template_without_system_messages_gets_the_prompt_before_the_first_turn():
    made = material(prompts={"mine.txt": "Answer in Latin."}, system_role=False)
    (only,) = asked("prompt", "mine.txt", made)
    assert only == Message("user", "Answer in Latin.\n\nWhich river runs through Budapest?")


def test_rows_with_prompts_of_their_own_are_tried_under_them_too():
    from arm_material import row

    from luthier.verdict.asking import Sources
    from luthier.verdict.questions import questions

    pool = tuple(questions([row(1, "a b c", "d", system="House rules.")]))
    made = material()
    with_own = Material(lambda: Sources(pool), made.settings, "exact", made.count_tokens)
    assert "as the rows stand" in [one.name for one in prompt.Arm().candidates(with_own)]
    assert "as the rows stand" not in [one.name for one in prompt.Arm().candidates(made)]


def test_written_prompts_name_the_schema_of_json_answers():
    pairs = [
        (f"play song {n}", json.dumps({"intent": ("play", "stop")[n % 2], "slots": {"name": f"song {n}"}, "n": n}))
        for n in range(40)
    ]
    text = asked("prompt", "written: task and details", material(pairs))[0].content
    assert '"enum": ["play", "stop"]' in text and '"name"' in text and "song 3" not in text
    schema = inferred_schema([json.loads(answer) for _, answer in pairs])
    assert schema["required"] == ["intent", "slots", "n"]
    assert schema["properties"]["n"] == {"type": "integer"}  # type: ignore[index]
    short = asked("prompt", "written: task and details", material(pairs, added_tokens=30))[0].content
    assert '"intent": "string"' in short and "enum" not in short


def test_written_prompts_follow_the_kind_of_answer():
    numbers = written_prompts.candidates(material([("1+1?", "so #### 2")] * 3, grader="number"))[-1]
    assert "####" in numbers.ask(RIVER, ROOM)[0].content
    prose = written_prompts.candidates(material([("tell", "one two three four"), ("me", "five six seven eight")]))[-1]
    assert "about 4 words" in prose.ask(RIVER, ROOM)[0].content


def test_a_planted_fact_reaches_the_prompt_and_only_where_it_belongs():
    made = material(knowledge={"facts.md": "# Budapest\nThe river is called Duna here.\n\n# Oslo\nThe fjord is deep."})
    told = asked("retrieval", "1 passage from the knowledge", made)[-1].content
    assert "Duna" in told and "fjord" not in told and told.endswith("Question: Which river runs through Budapest?")
    assert asked("tuned_retrieval", "1 passage from the knowledge", made)[-1].content == told
    assert "fjord" in asked("retrieval", "1 passage from the knowledge", made, of=question("Oslo?"))[-1].content
    nothing = question("Zzz")
    assert asked("retrieval", "1 passage from the knowledge", made, of=nothing) == nothing.messages


def test_retrieval_takes_solved_rows_knowledge_and_both():
    made = material(knowledge={"facts.md": "Budapest lies at a river.\n\n" + "x " * 600})
    rows = asked("retrieval", "3 passages from the training rows", made)[-1].content
    assert "Which river runs through Vienna?\nAnswer: the Danube" in rows and "Budapest lies" not in rows
    both = asked("retrieval", "8 passages from both", made)[-1].content
    assert "Answer: the Danube" in both and "Budapest lies" in both
    assert {one.name.split("from ")[1] for one in retrieval.candidates(material())} == {"the training rows"}


def test_passages_keep_to_the_room():
    made = material(knowledge={"facts.md": "\n\n".join(f"Budapest fact {n} " + "filler " * 90 for n in range(9))})
    told = asked("retrieval", "8 passages from the knowledge", made, room=250)[-1].content
    assert told.count("Budapest fact") == 2
    assert asked("retrieval", "8 passages from the knowledge", made, room=5) == RIVER.messages


def test_ranks_are_fused_as_cormack_has_it():
    assert retrieval.fused([[1, 2, 3], [3, 1, 4]]) == [1, 3, 2, 4]
    assert retrieval.fused([[5, 6]]) == [5, 6]


def test_meaning_finds_what_shares_no_word():
    def embed(texts):
        """Two directions: animals and machines."""
        known = {"hound": (1, 0), "puppy": (1, 0), "engine": (0, 1)}
        found = [next((known[word] for word in text.split() if word in known), (0, 0)) for text in texts]
        return np.array(found, dtype=float)

    passages = ["an engine", "a puppy"]
    assert retrieval.Index(passages).search("hound") == []
    assert retrieval.Index(passages, embed).search("hound")[0] == 1


def test_dense_vectors_without_their_package_are_refused_by_name():
    pytest.importorskip("numpy")
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        with pytest.raises(SettingsError, match=r"compare\.dense.*luthier\[dense\]"):
            retrieval.candidates(material(dense="some/model"))


def test_the_endpoint_is_asked_in_all_ways():
    made = material(prompts={"mine.txt": "Be kind."}, knowledge={"facts.md": "Budapest"})
    names = [one.name for one in endpoint.Arm().candidates(made)]
    assert names[:2] == ["mine.txt", "as the rows stand"]
    assert {"nearest 5", "3 passages from the knowledge", "written: task"} <= set(names)


def test_examples_stand_behind_the_system_prompt_of_a_longer_conversation():
    pair = material().examples[:1]
    shown = with_turns(RIVER, pair)
    assert [one.role for one in shown] == ["system", "user", "assistant", "user"]
