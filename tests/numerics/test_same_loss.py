"""The loss and its gradients: the same however the rows are cut and laid, and the same as transformers' own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_tree_families import as_trees, one_by_one
from tiny_training import live_lora, policy_of, random_store, resolved, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import luthier.starter
from luthier.core.types import Conversation, Message, Rendered, Row
from luthier.data.loader import Batch, SequenceStore, micro_batches, padded
from luthier.data.render import Renderer
from luthier.models.adapters import train_all
from luthier.train.objectives.sft import Objective
from luthier.train.optim import MasterAdamW
from luthier.train.policy import Policy, answered, bend_of, mode

STARTER = Path(luthier.starter.__file__).parent / "model"
Gradients = dict[str, torch.Tensor]
DIALOGUES = [
    [("user", "play some jazz"), ("assistant", '{"intent": "PlayMusic", "slots": {"genre": "jazz"}}')],
    [("system", "Answer in one word."), ("user", "Is snow white?"), ("assistant", "Yes")],
    [
        ("user", "Hello"),
        ("assistant", "Good day."),
        ("user", "And now?"),
        ("assistant", "We part, with a long farewell."),
    ],
    [("user", "a " * 60 + "?"), ("assistant", "b " * 30)],
    [("user", "Zählen Sie: eins, zwei"), ("assistant", "drei 🎻")],
]


def ours(policy: Policy, store: SequenceStore, micro_tokens: int) -> tuple[float, Gradients]:
    """The mean loss and its gradients as the training loop makes them, accumulated over micro-batches."""
    objective, settings = Objective(), resolved()
    batches = list(micro_batches(store, np.arange(len(store)), micro_tokens, layout_of(policy)))
    trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    optimizer = MasterAdamW(trained, settings)
    count, total = sum(objective.count(batch) for batch in batches), 0.0
    with mode(policy.model, training=True):
        for batch in batches:
            loss = objective.loss(policy, batch)
            (loss / count).backward()
            optimizer.accumulate()
            total += loss.item()
    gradients = {name: master.grad for name, master in optimizer.masters.items()}
    return total / count, {name: gradient for name, gradient in gradients.items() if gradient is not None}


def layout_of(policy: Policy) -> str:
    return "packed" if policy.stock.config._attn_implementation == "luthier_packed" else "padded"


def stock_loss(model: torch.nn.Module, stock: PreTrainedModel, store: SequenceStore) -> tuple[float, int, Gradients]:
    """transformers' own loss with -100 masks and eager attention, one row at a time; its mean times its count, added up."""
    stock.set_attn_implementation("eager")
    total, count = torch.zeros(()), 0
    for index in range(len(store)):
        tokens = torch.from_numpy(store.tokens(index).astype(np.int64))[None]
        labels = torch.where(torch.from_numpy(store.weights(index) > 0)[None], tokens, -100)
        number = int((labels[:, 1:] != -100).sum())
        total = total + stock(input_ids=tokens, labels=labels).loss * number
        count += number
    (total / count).backward()
    return total.item() / count, count, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def stock_batch_loss(model: torch.nn.Module, stock: PreTrainedModel, batch: Batch) -> tuple[float, Gradients]:
    """transformers' own loss on one padded batch with its attention mask."""
    stock.set_attn_implementation("sdpa")
    tokens = torch.from_numpy(batch.tokens_BL)
    mask = torch.arange(tokens.shape[1])[None] < torch.tensor(batch.lengths)[:, None]
    labels = torch.full_like(tokens, -100).flatten()
    labels[torch.from_numpy(batch.index_T) + 1] = torch.from_numpy(batch.target_T)
    loss = stock(input_ids=tokens, attention_mask=mask.long(), labels=labels.view_as(tokens)).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def assert_same(one: Gradients, other: Gradients, bound: float = 1e-5) -> None:
    assert set(one) == set(other)
    for name, gradient in one.items():
        size = torch.linalg.vector_norm(other[name])
        assert torch.linalg.vector_norm(gradient - other[name]) <= bound * size, name
    assert sum(float(torch.linalg.vector_norm(gradient)) for gradient in one.values()) > 0


def policy_for(method: str, layout: str, vocab_size: int = 512) -> Policy:
    policy = policy_of(tiny_model(vocab_size=vocab_size), resolved(method=method, layout=layout))
    live_lora(policy.model)
    return policy


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(STARTER)


@pytest.fixture(scope="module")
def rendered(tokenizer) -> SequenceStore:
    """Conversations through the starter's own chat template."""
    renderer = Renderer(tokenizer, max_length=512)
    rows = [
        Row(
            f"r{number}", "rows.jsonl", number, number, Conversation(tuple(Message(role, text) for role, text in turns))
        )
        for number, turns in enumerate(DIALOGUES, start=1)
    ]
    return SequenceStore([sequence for row in rows for sequence in renderer.render(row, "sft")])


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_accumulated_is_whole(method, layout):
    store = random_store(16)
    whole_loss, whole = ours(policy_for(method, layout), store, 100_000)
    for micro_tokens in (1, 60, 200):
        loss, gradients = ours(policy_for(method, layout), store, micro_tokens)
        assert loss == pytest.approx(whole_loss, rel=1e-6)
        assert_same(gradients, whole)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_packed_is_padded_is_one_row_at_a_time_with_stock_eager_attention(method):
    store = random_store(16)
    alone = policy_for(method, "padded")
    stock_value, _, truth = stock_loss(alone.model, alone.stock, store)
    for layout in ("packed", "padded"):
        loss, gradients = ours(policy_for(method, layout), store, 150)
        assert loss == pytest.approx(stock_value, rel=1e-5)
        assert_same(gradients, truth)


def test_the_log_probability_of_every_token_is_the_stock_models(rendered, tokenizer):
    policy = policy_for("full", "packed", len(tokenizer))
    stock = tiny_model(vocab_size=len(tokenizer))
    stock.set_attn_implementation("eager")
    (batch,) = micro_batches(rendered, np.arange(len(rendered)), 100_000, "packed")
    by_length = [rendered.rows.index(row) for row in batch.rows]
    truth = []
    for index in by_length:
        single = padded(rendered, [index])
        with torch.no_grad():
            logits = stock(input_ids=torch.from_numpy(single.tokens_BL)).logits[0].float()
        truth.append(torch.log_softmax(logits, -1)[single.index_T, single.target_T])
    torch.testing.assert_close(policy.logp(batch), torch.cat(truth), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_loss_count_and_gradients_are_transformers_own(rendered, tokenizer, method, layout):
    policy, truth = policy_for(method, layout, len(tokenizer)), policy_for(method, "padded", len(tokenizer))
    loss, gradients = ours(policy, rendered, 120)
    stock_value, count, stock_gradients = stock_loss(truth.model, truth.stock, rendered)
    assert rendered.num_trained == count
    assert loss == pytest.approx(stock_value, rel=1e-5)
    assert_same(gradients, stock_gradients)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_and_gradients_are_transformers_own_on_one_padded_batch(rendered, tokenizer, method):
    policy, truth = policy_for(method, "packed", len(tokenizer)), policy_for(method, "padded", len(tokenizer))
    loss, gradients = ours(policy, rendered, 100_000)
    stock_value, stock_gradients = stock_batch_loss(truth.model, truth.stock, padded(rendered, range(len(rendered))))
    assert loss == pytest.approx(stock_value, rel=1e-5)
    assert_same(gradients, stock_gradients)


def test_what_is_trained_is_the_answers_and_their_ends(rendered, tokenizer):
    for index, turns in enumerate(DIALOGUES):
        tokens, weights = rendered.tokens(index), rendered.weights(index)
        answers = "".join(text + tokenizer.eos_token for role, text in turns if role == "assistant")
        assert tokenizer.decode(tokens[weights > 0], skip_special_tokens=False) == answers


@pytest.mark.parametrize("layout", ["packed", "padded", "tree", "cached_tree"])
def test_answered_to_the_letter_is_what_greedy_decoding_writes(layout):
    policy = policy_for("full", "padded" if layout == "padded" else "packed")
    writer = policy_for("full", "padded").stock
    rng = np.random.default_rng(3)
    prompts = [[1, 2, 3, *rng.integers(4, 90, 1 + n % 4)] for n in range(10)]
    sequences, right = [], []
    for number, prompt in enumerate(prompts):
        answer = greedy(writer, prompt, 5)
        right.append(number % 3 != 0)
        if not right[-1]:
            answer[number % 5] = (answer[number % 5] + 1) % 90
        weights = [0.0] * len(prompt) + [1.0] * 5
        tokens = np.array([*prompt, *answer], dtype=np.int32)
        sequences.append(Rendered(str(number), tokens, np.array(weights, dtype=np.float32)))
    store = SequenceStore(sequences)
    found = {}
    for batch in micro_batches(store, np.arange(len(store)), 40, layout):
        found |= dict(zip(batch.rows, answered(batch, policy.scores(batch).greedy_T), strict=True))
    assert [found[str(number)] for number in range(10)] == right


def greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def other_head(kind: str) -> PreTrainedModel:
    """A model whose logits are not those that the fused head knows: multiplied by the model, or with a bias."""
    if kind == "bias":
        model = tiny_model(vocab_size=96)
        model.lm_head = torch.nn.Linear(64, 96)
        return model
    shape = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model("cohere", **shape, num_key_value_heads=2, logit_scale=0.3, initializer_range=0.3)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", ["bias", "scale"])
def test_logits_that_the_head_does_not_know_are_made_by_the_model_itself(kind):
    store = random_store(6, longest=20, vocab_size=96)
    alone = other_head(kind)
    stock_value, _, truth = stock_loss(alone, alone, store)
    policy = Policy(train_all(other_head(kind)))
    assert bend_of(policy.stock) is None
    loss, gradients = ours(policy, store, 100)
    assert loss == pytest.approx(stock_value, rel=1e-5)
    assert_same(gradients, truth)
    for layout in ("tree", "cached_tree") if kind == "bias" else ():
        shared = random_store(5, longest=20, vocab_size=96, shared=40)
        value, alone_gradients = one_by_one(alone, shared)
        policy.stock.set_attn_implementation("eager")
        loss, gradients = as_trees(policy, shared, layout)
        assert loss == pytest.approx(value, rel=1e-5)
        assert_same(gradients, alone_gradients, bound=1e-4)
    policy.stock.set_attn_implementation("sdpa")
    (batch,) = micro_batches(store, np.arange(6), 1000, "padded")
    assert policy.prove(batch)["head_max_difference"] < 1e-5
    with torch.no_grad():
        torch.testing.assert_close(policy.target_logp(batch), policy.logp(batch))
