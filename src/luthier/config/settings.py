"""The settings of a run: one frozen tree, strict, with a docstring under each field.

The docstrings are the help text, the JSON schema and the reference in the docs. A value of
`None` means that Luthier chooses; what it chose is written back to the run's `config.yaml`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
NotNegativeFloat = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """What every section has in common: frozen, unknown keys refused, docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class DataSettings(Section):
    """Where the rows come from and how they are read."""

    path: str | None = None
    """A file, folder or glob of JSONL, JSON, CSV, TSV, Parquet or text (`.gz` and `.zst` too), or `hub:<data set id>`."""
    test: str | None = None
    """The user's own test file; rows that overlap with it are taken out of training."""
    validation: str | None = None
    """The user's own validation file."""
    general: str | None = None
    """General rows of any format by which forgetting is measured: one half is held out for it, the other can be replayed (`train.replay`). `sample` is the small one that ships with the starter and its default, `none` measures nothing and is that of other models."""
    format: str | None = None
    """The row format, by the name of a file in `data/formats/`; found from the rows when absent."""
    input: str | None = None
    """The column that holds the input text."""
    output: tuple[str, ...] | None = None
    """The columns that hold the answer; several become one JSON object."""
    group: str | None = None
    """The column whose equal values keep rows on one side of the split (a customer, a document)."""
    system: str | None = None
    """A system prompt put before every conversation that has none."""
    encoding: str | None = None
    """The text encoding; UTF-8 and UTF-16 are found by themselves, others must be declared."""
    delimiter: str | None = None
    """The delimiter of CSV files; found from the first lines when absent."""
    max_bad_share: Share = 0.05
    """The run refuses when more than this share of the rows cannot be used."""


class SplitSettings(Section):
    """How rows are dealt into training, validation and test."""

    test_share: Share = 0.10
    """The share of rows held out for the sealed test, when there is no test file."""
    test_rows: NotNegative = 1000
    """The most rows held out for the test."""
    validation_share: Share = 0.05
    """The share of rows held out for validation, when there is no validation file."""
    validation_rows: NotNegative = 500
    """The most rows held out for validation."""
    near_duplicate: Share = 0.8
    """Rows whose questions have at least this Jaccard similarity of word and character shingles share a side; 1 keeps only exact duplicates together."""


class CheckLimits(Section):
    """The least health of each dimension: the share of rows that nothing worse than a hint touches. Below one of them `luthier check` ends with exit code 3."""

    valid: Share = 0.98
    """Rows that can be used as they are: shape, roles, encoding, whole answers."""
    consistent: Share = 0.90
    """Rows that no other row contradicts, in answers that are written alike."""
    unique: Share = 0.85
    """Rows that are no copy of another."""
    varied: Share = 0.80
    """Rows that are neither one of a crowd nor alone."""
    private: Share = 0.99
    """Rows without personal data and secrets."""
    leak_free: Share = 0.99
    """Rows that stand on one side of the split only."""
    fits: Share = 0.95
    """Rows that fit the context of the model."""


class CheckSettings(Section):
    """Which checks look at the data before training."""

    skip: tuple[str, ...] = ()
    """Names of checks in `data/checks/` that are left out."""
    benchmarks: tuple[str, ...] = ()
    """Files of public benchmarks, whose questions must not be trained."""
    presidio: str | None = None
    """An installed spaCy model, or its folder, with which presidio looks for names of people and places in a sample of the rows; needs `luthier[private]`."""
    limits: CheckLimits = CheckLimits()
    """The least health of each dimension."""


class LlamaInit(Section):
    """The shape of a Llama model that starts from random weights."""

    tokenizer: str
    """A folder with the tokenizer and its `chat_template.jinja`."""
    hidden_size: Positive = 256
    """The width of the hidden states."""
    intermediate_size: Positive = 704
    """The inner width of the feed-forward layers."""
    num_hidden_layers: Positive = 8
    """The number of layers."""
    num_attention_heads: Positive = 4
    """The number of query heads."""
    num_key_value_heads: Positive = 2
    """The number of key and value heads."""
    max_position_embeddings: Positive = 2048
    """The longest context in tokens."""
    rope_theta: PositiveFloat = 10000.0
    """The base of the rotary position frequencies."""
    tie_word_embeddings: bool = True
    """Whether the output layer shares the weights of the input embeddings."""


class ModelSettings(Section):
    """Which model is tuned."""

    name: str = "starter"
    """A hub id, a local folder, or `starter`, the small model that ships with Luthier."""
    revision: str | None = None
    """The commit of the hub repository; written back once resolved."""
    init: LlamaInit | None = None
    """Start from random weights of this shape instead of `name`."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """The type that the model computes in; bfloat16 where the machine is faster in it."""
    enable_thinking: bool | None = None
    """Passed to the chat template, in training and serving alike; absent leaves the template's own default."""


class LoraSettings(Section):
    """The added low-rank layers (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Positive | None = None
    """The rank of the update."""
    alpha: PositiveFloat | None = None
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Dropout before the added layers."""
    targets: tuple[str, ...] = ("all-linear",)
    """The layers to adapt, by name; `all-linear` takes every linear layer but the output layer."""


class TrainSettings(Section):
    """How the model is trained."""

    objective: str = "sft"
    """The objective, by the name of a file in `train/objectives/`: `sft` trains the assistant's turns, `text` every token."""
    method: Literal["full", "lora"] | None = None
    """Train every weight (full) or added low-rank layers (lora)."""
    lora: LoraSettings = LoraSettings()
    """The settings of the LoRA method."""
    swaps: NotNegativeFloat = 0.0
    """For extraction: so many more rows made of each training row, in which copied values give way to those of other rows, in question and answer alike (Dai and Adel 2020, arXiv 2010.11683); they count as rows of an epoch."""
    retrieved: NotNegative = 0
    """So many passages, as the arms `retrieval` find them (in `compare.knowledge`, or else in training rows of other clusters), stand before the question of each training row, for a model that `tuned_retrieval` asks (Zhang et al. 2024, arXiv 2403.10131)."""
    lr: PositiveFloat | None = None
    """The highest learning rate."""
    lr_multiplier: PositiveFloat | None = None
    """The chosen learning rate times this; a `train.lr` of your own is taken as it is."""
    epochs: PositiveFloat | None = None
    """How often every training row is seen."""
    steps: Positive | None = None
    """The number of optimizer steps; overrides epochs."""
    batch_tokens: Positive | None = None
    """How many tokens of rows one optimizer step takes, over all micro-batches."""
    batch_rows: Positive | None = None
    """How many rows of mean length one optimizer step takes, where `batch_tokens` is absent."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of each step's tokens that are general rows (`data.general`), replayed so that the model forgets less."""
    micro_tokens: Positive | None = None
    """How many tokens, padding included, go through the model at once; bounds the memory."""
    max_length: Positive | None = None
    """The longest sequence in tokens; at most the model's context."""
    truncate: Literal["drop", "start", "end"] = "drop"
    """What happens to a row that is longer: drop it, cut its start (the answer stays whole), or cut its end."""
    layout: Literal["padded", "packed", "tree", "cached_tree"] | None = None
    """Rows of a micro-batch side by side, padded to the longest; one behind another with attention inside each; or as a tree in which what they begin with in common is computed once, by attention along the tree or through the model's own cache."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101); `adamw8bit` keeps its two averages in a byte each (Dettmers et al. 2021, arXiv 2110.02861), for a quarter of their memory."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """The course of the learning rate after the warm-up; wsd holds it and falls to zero in the last part (Hu et al. 2024, arXiv 2404.06395)."""
    warmup: Share = 0.03
    """The share of the steps in which the learning rate rises from zero."""
    decay: Share = 0.2
    """The share of the steps in which a wsd schedule falls."""
    final_lr: Share = 0.0
    """The learning rate at the end as a share of the highest."""
    weight_decay: NotNegativeFloat = 0.0
    """Decoupled weight decay, on matrices only."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.99)
    """The decay rates of AdamW's averages."""
    clip: NotNegativeFloat = 1.0
    """The gradient is scaled down to this norm; 0 turns clipping off."""
    gradient_checkpointing: bool | None = None
    """Compute activations again in the backward pass to save memory; where absent, the plan does it when the training would not fit otherwise."""
    compile: bool | None = None
    """Compile the layers with torch.compile; where absent, the plan does it for a training of more than about 40 minutes on a CPU, if a trial shows the same gradients and no loss of speed."""
    validate_every: Positive | None = None
    """Steps between two validations."""
    patience: NotNegative = 6
    """Stop after this many validations that were not better, as `weights` says; 0 never stops early."""
    weights: Literal["answers", "loss", "last"] | None = None
    """Which weights serve: those that answer most validation rows to the letter, those of the best validation loss, or the last; loss for free text and answers for all else when absent."""
    checkpoint_seconds: PositiveFloat = 300.0
    """The longest time between two checkpoints; at most a tenth of the run lies between them."""
    checkpoint_epochs: bool | None = None
    """Write a checkpoint at the end of every epoch too."""
    keep: Annotated[int, Field(ge=2)] = 2
    """How many checkpoints stay on disk."""
    warm_from: str | None = None
    """A checkpoint folder whose weights and optimizer state a new run continues from."""


class GenerateSettings(Section):
    """How answers are decoded, the same for every arm."""

    max_new_tokens: Positive | None = None
    """The answer budget; 1.25 times the longest training answer when absent."""
    temperature: NotNegativeFloat = 0.0
    """0 decodes greedily; above it answers are sampled."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the smallest set of tokens with this much probability."""
    batch_size: Positive | None = None
    """How many prompts are decoded at once, at most; long ones are fewer, so that they fit."""
    constrain: str | None = None
    """What answers are held to: `labels` (an answer of the training rows), `json` (any object), `spans` (JSON like the training answers, its texts copied from the question), `pattern:REGEX`, or the path of a JSON schema."""
    decode: Literal["generate", "score"] = "generate"
    """Write answers token by token, or answer with the most probable answer of the training rows, found by scoring."""


class EndpointSettings(Section):
    """The model behind an OpenAI-compatible address that the arm `endpoint` asks."""

    url: str | None = None
    """Its address up to `/v1`, such as `http://localhost:8000/v1`; the questions of the rows are sent there."""
    model: str | None = None
    """The name by which the server knows the model."""
    key_variable: str = "LUTHIER_ENDPOINT_KEY"
    """The environment variable that holds the key, where one is needed; the key itself is written nowhere."""
    requests: Positive = 10_000
    """The most requests that one command sends, attempts that failed included."""
    at_once: Positive = 4
    """How many requests wait for an answer at the same time."""
    timeout: PositiveFloat = 120.0
    """How many seconds one request may take."""
    retries: NotNegative = 5
    """How often a request is tried again when the server is busy or away, later each time."""

    @property
    def section(self) -> str:
        """What these settings are called."""
        return "compare.endpoint"


class CompareSettings(Section):
    """What is measured on the sealed test."""

    arms: tuple[str, ...] = ("classical", "zero_shot", "tuned")
    """The arms, by the names of files in `verdict/arms/`."""
    prompts: tuple[str, ...] = ()
    """Files with system prompts that the arms `prompt` and `endpoint` try beside those written from the data."""
    knowledge: str | None = None
    """A text file or a folder of text and Markdown files from which the retrieval arms take passages."""
    dense: str | None = None
    """A sentence-transformers model that searches by meaning beside the search by words; needs `luthier[dense]`."""
    examples: Positive = 16
    """The most examples that stand before a question."""
    added_tokens: Positive = 512
    """The most tokens of examples, passages or lists of labels that are added to a prompt."""
    choosing_rows: NotNegative = 200
    """The most validation rows on which an arm chooses between its ways of asking; 0 takes the first."""
    choosing_calls: NotNegative = 400
    """The budget of each arm for choosing, in answers to validation rows; the same for all arms."""
    endpoint: EndpointSettings = EndpointSettings()
    """The model behind an address."""
    grader: str | None = None
    """The grader, by the name of a file in `graders/`, with settings as in `number:tolerance=0.01`; chosen by looking at the answers when absent."""
    folds: NotNegative | None = None
    """Into how many folds of clusters all rows are dealt, so that each is answered by a model that never saw it: as many trainings more. 0 holds a test part out instead; 5 below 1,500 rows without a test file when absent."""
    seeds: Positive = 1
    """Under how many seeds the training is repeated, for what the recipe gains beside what these weights gain."""
    also: tuple[str, ...] = ()
    """Further graders, named in the same way, whose scores stand beside the first one's; no outcome follows from them."""
    resamples: Positive = 2000
    """Bootstrap resamples of clusters behind every interval."""
    margin: Share = 0.01
    """The smallest difference in score that is worth its price; smaller ones count as none."""
    price: str | None = None
    """A YAML file with prices per million tokens or per hour, for what each arm costs; see docs/verdict.md."""
    latency_rows: NotNegative = 10
    """How many test questions each model is asked once more, one by one, to measure its latency."""
    train_rows: NotNegative = 200
    """How many training rows the tuned model answers too, for the gap between learned and memorized."""
    held_rows: NotNegative = 50
    """Where `generate.constrain` holds answers to a form: how many validation rows every arm answers with and without it, for what that does to score and validity."""


class ExportSettings(Section):
    """What the package holds."""

    format: Literal["adapter", "merged"] | None = None
    """The adapter alone, or whole merged weights; adapter for lora and merged for full when absent."""


class Settings(Section):
    """Everything that a run depends on."""

    version: Literal[1] = Field(default=1, alias="schema")
    """The version of this tree."""
    seed: NotNegative = 0
    """All randomness of the run is counted from this number."""
    threads: Positive | None = None
    """How many cores the run uses; all of them when absent."""
    data: DataSettings = DataSettings()
    """Where the rows come from."""
    split: SplitSettings = SplitSettings()
    """How rows are dealt into parts."""
    check: CheckSettings = CheckSettings()
    """Which checks run."""
    model: ModelSettings = ModelSettings()
    """Which model is tuned."""
    train: TrainSettings = TrainSettings()
    """How it is trained."""
    generate: GenerateSettings = GenerateSettings()
    """How answers are decoded."""
    compare: CompareSettings = CompareSettings()
    """What is measured."""
    export: ExportSettings = ExportSettings()
    """What the package holds."""
