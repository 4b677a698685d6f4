"""The options of the trainer: data, towers, negatives, optimizers, and when it evaluates, saves and stops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scrollpast.config.base_model import Section

Sharding = Literal["table_wise", "row_wise", "column_wise", "table_row_wise", "table_column_wise"]
"""Allowed cuts of a table. TorchRec has two more: ``data_parallel`` drops the fused optimizer without a message, and
``grid_shard`` returns wrong values where a bag is averaged."""

Placement = Literal["device", "managed", "cached"]

DrawCorrection = Literal["none", "pool", "uniform", "popularity"]
"""Corrections of draws from the user's own negatives."""

PositiveRate = Annotated[float, Field(gt=0)]
Width = Annotated[int, Field(ge=1, le=16_384)]


class TrainingData(Section):
    """How published days become batches; the library's `DataOptions` says more of each."""

    batch_size: int = Field(1024, ge=1)
    """Anchors of a batch of one rank."""
    explicit_boost: float = Field(1.0, ge=0)
    """A hide or report is drawn as a hard negative as if its weight were this many times as large."""
    max_history: int = Field(64, ge=0)
    """Past positives of an anchor at most, the latest."""
    shuffle: bool = True
    """Read shards, blocks and anchors in an order of (seed, epoch)."""
    num_lanes: int | None = Field(None, ge=1)
    """Places of the data read at once; null = 8 for most batches. Ranks that divide it get the same batches."""
    block_records: int = Field(8192, ge=1)
    """Records decoded at once, and shuffled among themselves."""
    cache_bytes: int = Field(1 << 29, ge=0)
    """Decoded blocks that one rank keeps from epoch to epoch."""
    num_workers: int = Field(1, ge=0)
    """Threads that read ahead."""
    prefetch_batches: int = Field(4, ge=1)
    """Batches that every thread reads ahead."""
    verify: bool = True
    """Check the CRCs and digests of what is read."""


class ShardingOptions(Section):
    """How the planner may place the tables."""

    types: list[Sharding] = ["table_wise", "row_wise"]
    """What it chooses from. Column-wise parts each keep an Adagrad state of their own: other numbers than uncut,
    and a checkpoint that only column-wise tables read."""
    tables: dict[str, list[Sharding]] = {}
    """Other choices for single tables, by name: user, history, ad, user_<feature>, ad_<feature>."""
    placement: dict[str, Placement] = {}
    """Of single tables, where ranks have GPUs: ``device``, the default; ``managed``, in the machine's memory and read
    over the bus; ``cached``, there as well, with the rows that are used most on the device."""
    cache_share: float = Field(0.2, gt=0, le=1)
    """Rows of a cached table that the device holds."""
    memory_gib: float | None = Field(None, gt=0)
    """Memory of one rank that tables may take; null = what the device has, or its share of this machine's."""


class Model(Section):
    """The two towers."""

    embedding_dim: int = Field(64, ge=4, le=1024, multiple_of=4)
    """Length of a row of every table."""
    output_dim: int = Field(64, ge=1, le=4096)
    """Length of the embedding of a user and of an ad."""
    user_layers: list[Width] = [128]
    """Widths of the hidden layers."""
    ad_layers: list[Width] = [128]
    """Widths of the hidden layers of the ad tower."""
    temperature: float = Field(0.07, gt=0, le=10)
    """What cosines are divided by; where it is learned, what it begins with."""
    is_temperature_learned: bool = False
    """Learn the temperature."""
    compile: bool = False
    """Compile the layers of the towers (torch.compile) when training begins."""
    sharding: ShardingOptions = ShardingOptions()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the towers' arithmetic; auto = bfloat16 on a GPU that has it."""
    logits_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What embeddings are rounded to where they are multiplied with those of shared candidates; auto = bfloat16 on a
    GPU that has it. Sums, softmax and loss are in float32 in any case."""


class Schedule(Section):
    """A factor of the weight: ``initial`` before ``start_step``, 1 from ``ramp_steps`` later on."""

    initial: float = Field(1.0, ge=0)
    """Factor of the weight before the ramp; 0 = the source takes no part."""
    start_step: int = Field(0, ge=0)
    """First step of the ramp."""
    ramp_steps: int = Field(0, ge=0)
    """Steps in which the factor goes to 1."""


class SourceOptions(Section):
    """One source of negatives."""

    enabled: bool = True
    """Use this source."""
    weight: float = Field(1.0, gt=0)
    """What a candidate counts in the softmax."""
    schedule: Schedule = Schedule()


class InBatch(SourceOptions):
    """The positives of other anchors."""

    across_ranks: bool = True
    """Those of all ranks, with a gradient that goes back to them; else only the rank's own."""
    log_q: bool = True
    """Correct by the share of the ad among positives; n is the number of anchors of other users."""
    is_same_user_masked: bool = True
    """Leave out positives of the same user."""
    is_same_request_masked: bool = True
    """Leave out positives of the same request."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Random(SourceOptions):
    """Ads of the catalogue, the same for all anchors of a step."""

    weight: float = Field(0.01, gt=0)
    count: int = Field(256, ge=1)
    """Draws in a step, for all ranks together."""
    alpha: float = Field(0.0, ge=0, le=2)
    """Drawn by popularity to the power of this; 0 = uniform."""
    tail_floor: float = Field(0.0, ge=0, le=1)
    """This share of the draws is uniform whatever ``alpha`` is: no ad's chance is below it × uniform."""
    log_q: bool = True
    """Correct by the probability of the draw."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Hard(SourceOptions):
    """Ads that the anchor's user was served and scrolled past."""

    weight: float = Field(0.01, gt=0)
    count: int = Field(2, ge=1, le=1024)
    """Draws for an anchor, from the user's record."""
    sample_by_weight: bool = True
    """By the records' weights; else each of the user's negatives is as likely as any other."""
    log_q: DrawCorrection = "uniform"
    """none: a draw counts once. pool: the sum over all of the user's negatives is estimated. uniform: draws are
    taken as if from the catalogue, so that a weight means the same whatever its size. popularity: from the
    catalogue by popularity, so that popular ads are not pushed for being shown much."""
    is_weighted: bool = True
    """A draw counts as much as it is surely a negative."""
    is_same_request_masked: bool = False
    """Leave out ads of the same request as the positive."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Neighbour(SourceOptions):
    """Ads near the positive, as mined into the records."""

    enabled: bool = False
    """Use this source."""
    weight: float = Field(0.01, gt=0)
    count: int = Field(2, ge=1, le=1024)
    """Draws for an anchor, from the user's record."""
    log_q: DrawCorrection = "uniform"
    """As of hard negatives."""
    is_weighted: bool = True
    """Multiply a draw's logit weight by the record's weight."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Negatives(Section):
    """The sources of negatives that share one softmax."""

    in_batch: InBatch = InBatch()
    random: Random = Random()
    hard: Hard = Hard()
    neighbour: Neighbour = Neighbour()
    others: dict[str, SourceOptions] = {}
    """Sources that a module registered (`scrollpast.training.loss.sources.registry.register`), by name."""
    positive_log_q: Literal["exact", "sampled"] = "exact"
    """The positive's own correction: none, as it is there with certainty; or that of an in-batch draw."""

    @model_validator(mode="after")
    def _one_at_least(self) -> Negatives:
        if not any(
            source.enabled
            for source in (self.in_batch, self.random, self.hard, self.neighbour, *self.others.values())
        ):
            raise ValueError("must enable at least one source of negatives, got none")
        if self.positive_log_q == "sampled" and not (self.in_batch.enabled and self.in_batch.log_q):
            raise ValueError("must enable in_batch with log_q for positive_log_q 'sampled', got it without")
        return self


class Optimizer(Section):
    table_learning_rate: float = Field(0.05, gt=0)
    """Of row-wise Adagrad, which updates the tables during the backward pass."""
    table_learning_rates: dict[str, PositiveRate] = {}
    """Other rates for single tables, by name, such as a lower one for ``user`` where users have few positives."""
    table_epsilon: float = Field(0.02, gt=0)
    """Row-wise Adagrad divides by the root of a row's mean squared gradients plus this / anchors of a step: a
    gradient that is small beside one anchor's moves a row little, rather than by a whole learning rate."""
    dense_learning_rate: float = Field(0.001, gt=0)
    """Of Adam, for everything else."""
    warmup_steps: int = Field(100, ge=0)
    """Steps in which Adam's rate rises to its value."""
    max_gradient_norm: float | None = Field(1.0, gt=0)
    """The dense gradient is scaled down to this norm; null = never."""


class Checkpoints(Section):
    every_steps: int = Field(1000, ge=1)
    """Steps between checkpoints."""
    keep_last: int = Field(2, ge=1)
    """Checkpoints that stay beside the best one."""
    asynchronous: bool = True
    """Write in the background, from a copy."""


class EvaluationOptions(Section):
    days: list[str] = []
    """Published days later than those trained on; evaluated while training if there are any."""
    every_steps: int = Field(1000, ge=1)
    """Steps between evaluations."""
    max_users: int | None = Field(10_000, ge=1)
    """Users of an evaluation while training, chosen by a seeded hash; null = all."""
    metric: Literal["recall@10", "recall@50", "recall@100", "ndcg@100", "auc"] = "recall@100"
    """What tells the best checkpoint, and when to stop."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a better one; null = never."""


class Training(Section):
    days: list[str] = []
    """Published days to train on, overridden by DAY on the command line."""
    vocabulary: str | None = None
    """Vocabulary's folder; null = the one that the days' manifests name."""
    path: str | None = None
    """Folder of the run: checkpoints, scalars, metrics. Overridden by --out."""
    start_from: str | None = None
    """Checkpoint whose weights to begin with; its vocabulary may be an older one that this one extends."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of the first weights, the order and the draws."""
    epochs: int = Field(1, ge=1)
    """Passes over all anchors."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many steps, if the epochs are not over before."""
    log_every_steps: int = Field(50, ge=1)
    """Steps between logged means."""
    pipeline: Literal["auto", "plain", "sparse_dist"] = "auto"
    """sparse_dist overlaps the exchange of ids with the step before (TorchRec); auto = on a GPU."""
    data: TrainingData = TrainingData()
    model: Model = Model()
    negatives: Negatives = Negatives()
    optimizer: Optimizer = Optimizer()
    checkpoints: Checkpoints = Checkpoints()
    evaluation: EvaluationOptions = EvaluationOptions()
