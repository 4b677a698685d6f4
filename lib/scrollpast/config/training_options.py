"""The options of the trainer: data, towers, negatives, optimizers, and when it evaluates, saves and stops."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    """Reading, shuffling and drawing: how published days become batches."""

    batch_size: int = Field(1024, ge=1)
    """Anchors (positives) of a batch of one rank."""
    explicit_boost: float = Field(1.0, ge=0)
    """Factor of the weight by which a hide or report is drawn as a hard negative; 0 = never drawn."""
    max_history: int = Field(64, ge=0)
    """Most ads of an anchor's history that the user tower reads, the latest ones; 0 = none."""
    read_user_history: bool = True
    """Let an anchor's history begin with the user's history before the log, where days were mined with
    ``mining.user_history``; false = past positives only."""
    max_passed: int = Field(0, ge=0)
    """Most served ads that the user passed over before the anchor and that the user tower reads, the latest ones; 0 =
    none, and no table for them."""
    merge_repeats: bool = False
    """Make one anchor of all positives of a user and an ad in a record, the first of them, and take repeats out of
    histories; false = every positive is an anchor."""
    history_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an anchor's history that the user tower does not read in a step, chosen anew in every epoch. A larger
    share keeps the tower from remembering whole lists, and leaves it less to read."""
    mask_history: bool = False
    """Leave out the ads of an anchor's history among its negatives, like known positives."""
    kind_weights: dict[str, PositiveRate] = {}
    """Factor of the weight of anchors by kind of engagement, such as ``conversion: 3``; kinds that are not named have
    1. A merged anchor has the largest factor of its positives."""
    shuffle: bool = True
    """Read shards, blocks and the anchors of a block in an order of (seed, epoch); false = as they lie in the files."""
    num_lanes: int | None = Field(None, ge=1)
    """Places of the data that all ranks together read at once; null = chosen, 8 for most batches. Numbers of ranks that
    divide it get the same batches. More lanes mix the data better and need more memory."""
    block_records: int = Field(8192, ge=1)
    """Records decoded at once, whose anchors are shuffled among themselves. A larger value mixes better and needs more
    memory."""
    cache_bytes: int = Field(1 << 29, ge=0)
    """Bytes of decoded blocks that one rank keeps from epoch to epoch, 0 = none; days that fit are decoded once."""
    num_workers: int = Field(1, ge=0)
    """Threads that read ahead, at most one a lane of the rank; 0 = the caller's own."""
    prefetch_batches: int = Field(4, ge=1)
    """Batches that every thread reads ahead. A larger value evens out slow storage and needs more memory."""
    verify: bool = True
    """Check the CRCs and digests of what is read."""


class ShardingOptions(Section):
    """Placement of the tables on ranks and in memory."""

    types: list[Sharding] = ["table_wise", "row_wise"]
    """Cuts that the planner chooses from. Column-wise parts each keep an Adagrad state of their own: other numbers than
    uncut, and a checkpoint that only column-wise tables read."""
    tables: dict[str, list[Sharding]] = {}
    """Other cuts for single tables, such as ``user: [row_wise]``; tables: user, history, ad, user_<feature>,
    ad_<feature>."""
    placement: dict[str, Placement] = {}
    """Memory of single tables where ranks have GPUs, such as ``user: cached``. device: the GPU's, the default. managed:
    the machine's, read over the bus. cached: the machine's, with the most used rows on the GPU."""
    cache_share: float = Field(0.2, gt=0, le=1)
    """Share of a cached table's rows that the GPU holds. A larger value is faster and takes more GPU memory."""
    memory_gib: float | None = Field(None, gt=0)
    """Memory of one rank for its tables, in GiB; null = what the device has, or the rank's share of this machine's."""


class Model(Section):
    """The two towers."""

    embedding_dim: int = Field(64, ge=4, le=1024, multiple_of=4)
    """Length of a row of every embedding table, a multiple of 4."""
    output_dim: int = Field(64, ge=1, le=4096)
    """Length of the embedding of a user and of an ad."""
    user_layers: list[Width] = [128]
    """Widths of the hidden layers of the user tower; [] = a linear tower."""
    ad_layers: list[Width] = [128]
    """Widths of the hidden layers of the ad tower; [] = a linear tower."""
    temperature: float = Field(0.07, gt=0, le=10)
    """Divisor of the cosines; the initial value where it is learned. A smaller value puts more of the gradient on the
    hardest negatives."""
    read_list_features: bool = False
    """Let the user tower also read the features of the ads in its lists, such as the categories of the history; tables
    ``history_<feature>`` and ``passed_<feature>``."""
    residual: bool = False
    """Add a weighted sum of the rows that a tower reads to the output of its layers, with learned weights, and begin
    with the same rows in the tables of lists as in those of ads. An ad like those of the history then scores high from
    the first step (FISM, Kabbur et al., KDD 2013). Needs an ``output_dim`` equal to ``embedding_dim``."""
    ad_row_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the ads of a step whose own row is replaced by the row of unknown ads, so that the tower learns to
    embed an ad by its features. A larger value favours new ads over known ones."""
    min_ad_positives: int = Field(0, ge=0)
    """Ads with fewer positives in the vocabulary are embedded by their features alone; 0 = every ad has its own row."""
    is_temperature_learned: bool = False
    """Let the optimizer change the temperature."""
    compile: bool = False
    """Compile the layers of the towers (torch.compile) when training begins."""
    sharding: ShardingOptions = ShardingOptions()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the towers' arithmetic; auto = bfloat16 on a GPU that has it."""
    logits_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the embeddings in the products with shared candidates; auto = bfloat16 on a GPU that has it. Sums,
    softmax and loss are in float32 in any case."""

    @model_validator(mode="after")
    def _same_dimensions(self) -> Model:
        if self.residual and self.output_dim != self.embedding_dim:
            raise ValueError(
                f"must have output_dim {self.embedding_dim}, the embedding_dim, for residual, got {self.output_dim}"
            )
        return self


class Schedule(Section):
    """Factor of the weight over the steps: ``initial`` before ``start_step``, 1 from ``ramp_steps`` later on."""

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
    """Weight of a candidate in the softmax's sum. A larger value gives the source a larger part of the gradient."""
    schedule: Schedule = Schedule()


class InBatch(SourceOptions):
    """In-batch negatives: the positives of other anchors."""

    across_ranks: bool = True
    """Take those of all ranks, with a gradient that goes back to them; false = only the rank's own."""
    log_q: bool = True
    """Correct by the share of the ad among all positives; n is the number of anchors of other users."""
    log_q_strength: float = Field(1.0, ge=0, le=1)
    """Exponent of an ad's share in the correction: 1 = the share, 0 = the same chance for every ad. A smaller value
    takes popularity out of the score: popular ads are pushed down for being drawn often."""
    is_same_user_masked: bool = True
    """Leave out positives of the same user."""
    is_same_request_masked: bool = True
    """Leave out positives of the same request."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Random(SourceOptions):
    """Random negatives: ads of the catalogue, the same for all anchors of a step."""

    weight: float = Field(0.01, gt=0)
    count: int = Field(256, ge=1)
    """Draws of a step, for all ranks together."""
    alpha: float = Field(0.0, ge=0, le=2)
    """Exponent of popularity in the draw; 0 = uniform, 1 = by popularity."""
    tail_floor: float = Field(0.0, ge=0, le=1)
    """Share of the draws that is uniform whatever ``alpha`` is: no ad's chance is below this times the uniform one."""
    log_q: bool = True
    """Correct by the probability of the draw."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Hard(SourceOptions):
    """Hard negatives: ads that the anchor's user was served and scrolled past."""

    weight: float = Field(0.01, gt=0)
    count: int = Field(2, ge=1, le=1024)
    """Draws for an anchor, from the user's record."""
    sample_by_weight: bool = True
    """Draw by the records' weights; false = each negative of the user is as likely as any other."""
    log_q: DrawCorrection = "uniform"
    """Correction of the draws. none: a draw counts once. pool: for the sum over all of the user's negatives. uniform:
    as if drawn from the catalogue, so that a weight means the same whatever the catalogue's size. popularity: as if
    drawn by popularity, so that popular ads are not pushed for being shown much."""
    is_weighted: bool = True
    """Multiply a draw's logit weight by the record's weight, its certainty of being a negative."""
    is_same_request_masked: bool = False
    """Leave out ads of the same request as the positive."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Neighbour(SourceOptions):
    """Nearest-neighbour negatives: ads near the user, as mined into the records."""

    enabled: bool = False
    """Use this source."""
    weight: float = Field(0.01, gt=0)
    count: int = Field(2, ge=1, le=1024)
    """Draws for an anchor, from the user's record."""
    log_q: DrawCorrection = "uniform"
    """Correction of the draws, as of ``hard.log_q``."""
    is_weighted: bool = True
    """Multiply a draw's logit weight by the record's weight."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class Negatives(Section):
    """Sources of negatives. All share one softmax; the log and the curves show each source's part of the gradient.
    ``log_q`` corrects by the probability of the draw, so that the sum over candidates estimates a sum over all ads
    (in_batch, random) or over all negatives of the user (hard, neighbour).
    """

    in_batch: InBatch = InBatch()
    random: Random = Random()
    hard: Hard = Hard()
    neighbour: Neighbour = Neighbour()
    others: dict[str, dict[str, Any]] = {}
    """Options by name of the sources that a module registered
    (`scrollpast.training.loss.sources.registry.SOURCES`)."""
    positive_log_q: Literal["exact", "sampled"] = "exact"
    """Correction of the positive's own logit. exact: none, as it is in the sum with certainty. sampled: that of an
    in-batch draw."""

    @model_validator(mode="after")
    def _one_at_least(self) -> Negatives:
        named = (self.in_batch, self.random, self.hard, self.neighbour)
        others = self.others.values()
        if not any(
            (*(source.enabled for source in named), *(given.get("enabled", True) for given in others))
        ):
            raise ValueError("must enable at least one source of negatives, got none")
        if self.positive_log_q == "sampled" and not (self.in_batch.enabled and self.in_batch.log_q):
            raise ValueError("must enable in_batch with log_q for positive_log_q 'sampled', got it without")
        return self


class TermOptions(Section):
    """One term of the loss."""

    weight: float = Field(1.0, ge=0)
    """Factor of the term in the loss; 0 = off. A larger weight gives the term more of the gradient."""


class ServedTermOptions(TermOptions):
    """Softmax of the positive against the user's own served negatives alone, with a temperature of its own."""

    weight: float = Field(0.0, ge=0)
    """Factor of the term in the loss; 0 = off. A larger weight raises AUC and at some point lowers recall."""
    temperature: float = Field(0.3, gt=0, le=10)
    """Divisor of cosines in this term. A smaller temperature moves the hardest negatives most."""
    count: int = Field(4, ge=1, le=1024)
    """Draws for an anchor, from the user's record; they are the first draws of ``negatives.hard``."""
    is_weighted: bool = True
    """Multiply the candidate's logit weight by the record's weight of the negative."""
    mask_known_positives: bool = True
    """Leave out known positives of the user."""


class ExposureTermOptions(TermOptions):
    """Softmax of the positive against the served negatives of all anchors of the batch, as often as ads are served."""

    weight: float = Field(0.0, ge=0)
    """Factor of the term in the loss; 0 = off. A larger weight ranks ads by engagement per exposure."""
    temperature: float = Field(0.3, gt=0, le=10)
    """Divisor of cosines in this term."""
    count: int = Field(4, ge=1, le=1024)
    """Draws for an anchor, from the user's record; they are the first draws of ``negatives.hard``."""


class HistoryTermOptions(TermOptions):
    """Softmax of ads of the history that the user tower does not read in the step; needs ``data.history_dropout``."""

    weight: float = Field(0.0, ge=0)
    """Factor of the term in the loss; 0 = off. A larger weight trusts long histories more than few positives."""
    count: int = Field(4, ge=1, le=64)
    """Hidden ads of the history that are targets of an anchor. A larger count takes more time."""
    log_q_strength: float = Field(1.0, ge=0, le=1)
    """As of ``negatives.in_batch``: 1 = correct by the share of the ad among all positives, 0 = no popularity in the
    score."""
    temperature: float | None = Field(None, gt=0, le=10)
    """Divisor of cosines in this term; null = the model's."""


class LossOptions(Section):
    """The terms of the loss; the loss is their weighted sum."""

    softmax: TermOptions = TermOptions()
    """Softmax of the positive against the candidates of all sources in ``training.negatives``."""
    served: ServedTermOptions = ServedTermOptions()
    exposure: ExposureTermOptions = ExposureTermOptions()
    history: HistoryTermOptions = HistoryTermOptions()
    others: dict[str, dict[str, Any]] = {}
    """Options by name of the terms that a module registered (`scrollpast.training.loss.terms.registry.TERMS`)."""


class Optimizer(Section):
    """Row-wise Adagrad for the embedding tables, Adam for everything else."""

    table_learning_rate: float = Field(0.05, gt=0)
    """Learning rate of row-wise Adagrad, which updates the tables during the backward pass."""
    table_learning_rates: dict[str, PositiveRate] = {}
    """Other learning rates for single tables, such as ``user: 0.005`` where users have few positives."""
    table_epsilon: float = Field(0.02, gt=0)
    """Row-wise Adagrad divides by the root of a row's mean squared gradients plus this / anchors of a step. A larger
    value moves rows with small gradients less."""
    dense_learning_rate: float = Field(0.001, gt=0)
    """Learning rate of Adam, for everything but the tables."""
    warmup_steps: int = Field(100, ge=0)
    """Steps in which Adam's learning rate rises to its value."""
    max_gradient_norm: float | None = Field(1.0, gt=0)
    """Norm to which the dense gradient is scaled down; null = never."""


class Checkpoints(Section):
    """Checkpoints of a run."""

    every_steps: int = Field(1000, ge=1)
    """Steps between two checkpoints."""
    keep_last: int = Field(2, ge=1)
    """Latest checkpoints kept besides the best one."""
    asynchronous: bool = True
    """Write in the background, from a copy."""


class EvaluationOptions(Section):
    """Evaluation while training."""

    days: list[str] = []
    """Published days to evaluate on, later than the training days; [] = no evaluation while training."""
    every_steps: int = Field(1000, ge=1)
    """Steps between two evaluations."""
    max_users: int | None = Field(10_000, ge=1)
    """Users of an evaluation, chosen by a seeded hash; null = all."""
    metric: str = "recall@100"
    """Metric that chooses the best checkpoint and the end of training."""
    exposure_clip: float = Field(0.9, ge=0, le=1)
    """Quantile over the targets at which their weights by inverse exposure are cut, in exposure-weighted metrics; 1 =
    never cut. A larger value follows rarely shown ads more closely and widens intervals."""
    patience: int | None = Field(None, ge=1)
    """Evaluations without a better one after which training stops; null = never."""


class Training(Section):
    """The trainer."""

    days: list[str] = []
    """Published days to train on, such as s3://training/negatives/ds=2026-11-20. Overridden by DAY on the command line.
    """
    vocabulary: str | None = None
    """Folder of the vocabulary; null = the one that the days' manifests name."""
    path: str | None = None
    """Folder of the run: checkpoints, scalars, metrics. Overridden by --out."""
    start_from: str | None = None
    """Checkpoint to take the first weights from; its vocabulary may be an older one that this run's extends."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the first weights, the order of the anchors and every draw."""
    epochs: int = Field(1, ge=1)
    """Passes over all anchors."""
    max_steps: int | None = Field(None, ge=1)
    """Most steps, if the epochs are not over before; null = no limit."""
    log_every_steps: int = Field(50, ge=1)
    """Steps between two logged means."""
    pipeline: Literal["auto", "plain", "sparse_dist"] = "auto"
    """Order of the work of a step. sparse_dist overlaps the exchange of ids with the step before (TorchRec); plain does
    not. auto = sparse_dist on a GPU."""
    data: TrainingData = TrainingData()
    model: Model = Model()
    negatives: Negatives = Negatives()
    loss: LossOptions = LossOptions()
    optimizer: Optimizer = Optimizer()
    checkpoints: Checkpoints = Checkpoints()
    evaluation: EvaluationOptions = EvaluationOptions()

    @model_validator(mode="after")
    def _history_is_hidden(self) -> Training:
        if self.loss.history.weight and not (self.data.history_dropout and self.data.merge_repeats):
            raise ValueError(
                "must have data.history_dropout above 0 and data.merge_repeats for loss.history, got "
                f"{self.data.history_dropout} and {str(self.data.merge_repeats).lower()}"
            )
        return self
