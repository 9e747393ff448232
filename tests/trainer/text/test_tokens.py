"""How texts become tokens, how they are stored without padding, and how batches of similar lengths are made."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from tests.trainer.text.conftest import Write, needed
from trainer.cache import Cache
from trainer.data.text import tokens as kept
from trainer.data.text.dataset import TextDataset, find
from trainer.data.text.examples import TextExamples, load
from trainer.data.text.near_duplicates import Texts
from trainer.data.text.tokens import FastTokenizer, key_of, tokenize
from trainer.models import UnfitModel
from trainer.order import bucketed, shuffled
from trainer.tasks.base import Examples, Ragged
from trainer.tasks.text.data import TextData, TokenCounts
from trainer.tasks.text_regression.spec import TextRegressionInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CPU = torch.device("cpu")
VOCABULARY = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "a": 4, "b": 5, "c": 6}


@pytest.fixture(autouse=True)
def _each_test_is_a_process_of_its_own() -> None:
    kept._kept.clear()


def plain() -> "Tokenizer":
    """Splits at white space; has no special tokens."""
    library = needed("tokenizers")
    found: Tokenizer = library.Tokenizer(library.models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    found.pre_tokenizer = library.pre_tokenizers.Whitespace()
    return found


def bert() -> "Tokenizer":
    """The same with BERT's template; with padding and truncation, as some files have."""
    library, found = needed("tokenizers"), plain()
    found.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    found.enable_padding(length=20)
    found.enable_truncation(3)
    return found


def encoded(tokenizer: "Tokenizer", *texts: Texts, max_length: int | None = None) -> list[tuple[list[int], list[int], bool]]:
    return list(FastTokenizer.from_tokenizer(tokenizer).encode(texts, max_length))


def test_special_tokens_and_pairs_follow_the_template_of_the_tokenizer() -> None:
    assert encoded(bert(), ("a b", None), ("a", "b c")) == [([1, 4, 5, 2], [0] * 4, False), ([1, 4, 2, 5, 6, 2], [0, 0, 0, 1, 1, 1], False)]
    assert encoded(plain(), ("a b", None), ("a", "b x")) == [([4, 5], [0, 0], False), ([4, 5, 3], [0, 1, 1], False)]


PAIRS = [("where is my card", "it is lost"), ("a b c d e f g h i j k l", "it is"), ("", "a"), ("a", "")]
JOINTS = {"RobertaTokenizer": ["</s>", "</s>"], "GPT2Tokenizer": [], "BertTokenizer": ["[SEP]"]}


@pytest.mark.parametrize("kind", JOINTS)
def test_pairs_are_those_of_the_library(kind: str, tmp_path: Path) -> None:
    library, pieces, joint = needed("transformers"), needed("tokenizers"), JOINTS[kind]
    byte_level = kind != "BertTokenizer"
    trained = pieces.ByteLevelBPETokenizer() if byte_level else pieces.BertWordPieceTokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"] if byte_level else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator([" ".join(pair) for pair in PAIRS], vocab_size=300, min_frequency=1, special_tokens=special)
    trained.save_model(str(tmp_path))
    getattr(library, kind).from_pretrained(tmp_path).save_pretrained(tmp_path / "saved")
    wanted, found = library.AutoTokenizer.from_pretrained(tmp_path / "saved"), FastTokenizer.of(tmp_path / "saved")
    columns = [list(column) for column in zip(*PAIRS, strict=True)]  # alone, the library takes a pair with an empty text for one text
    whole = [len(ids) for ids in wanted(*columns)["input_ids"]]
    for most in (None, 9):
        ours, theirs = [*found.encode(PAIRS, most)], wanted(*columns, truncation=most is not None, max_length=most)
        assert [ids for ids, _, _ in ours] == theirs["input_ids"]
        assert "token_type_ids" not in theirs or [segments for _, segments, _ in ours] == theirs["token_type_ids"]
        assert [cut for _, _, cut in ours] == [most is not None and length > most for length in whole]
    first, second = (wanted(text, add_special_tokens=False)["input_ids"] for text in PAIRS[0])
    ids, _, _ = next(found.encode(PAIRS[:1], None))
    start = next(place for place in range(len(ids)) if ids[place : place + len(first)] == first)
    assert ids[start + len(first) :][: len(joint) + len(second)] == wanted.convert_tokens_to_ids(joint) + second


def test_long_texts_are_cut_and_counted() -> None:
    found = encoded(bert(), ("a b c a b c", None), ("a b", None), ("a a a a", "b"), ("a", "b b b b"), max_length=5)
    assert found == [
        ([1, 4, 5, 6, 2], [0] * 5, True), ([1, 4, 5, 2], [0] * 4, False),
        ([1, 4, 2, 5, 2], [0, 0, 0, 1, 1], True), ([1, 4, 2, 5, 2], [0, 0, 0, 1, 1], True),
    ]  # fmt: skip
    with pytest.raises(UnfitModel, match="max_length 2 leaves no token of the texts besides 2 special tokens; raise it"):
        encoded(bert(), ("a", None), max_length=2)


def test_a_text_without_tokens_has_one() -> None:
    assert encoded(plain(), ("", None), ("a", None), max_length=4) == [([2], [0], False), ([4], [0], False)]


def test_texts_of_several_calls_are_in_order() -> None:
    texts = [(" ".join(["a"] * (1 + number % 7)), None) for number in range(2_500)]
    assert [len(ids) for ids, _, _ in encoded(plain(), *texts)] == [1 + number % 7 for number in range(2_500)]


def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path: Path) -> None:
    needed("tokenizers")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UnfitModel, match="is no tokenizer that the package tokenizers can read"):
        FastTokenizer.of(tmp_path)
    plain().save(str(tmp_path / "tokenizer.json"))
    found = FastTokenizer.of(tmp_path)
    assert found.size == 7 and found.digest == FastTokenizer.from_tokenizer(plain()).digest
    assert FastTokenizer.from_tokenizer(bert()).digest != found.digest


TEXTS: list[Texts] = [("a b c", None), ("a", None), ("b b b b b b", None), ("c c", "a")]


def test_tokens_are_stored_without_padding_and_found_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, cache = FastTokenizer.from_tokenizer(bert()), Cache(tmp_path, 10**8)
    first, origin = tokenize(TEXTS, tokenizer, 6, cache)
    assert (origin, first.values.shape, first.values.dtype) == ("decoded", (20, 2), torch.int32)
    assert first.lengths.tolist() == [5, 3, 6, 6] and first.truncated.tolist() == [False, False, True, False]
    assert first.counts == TokenCounts(max_length=6, texts=4, truncated=1, tokens=20, longest=6)
    assert tokenize(TEXTS, tokenizer, 6, cache) == (first, "cached")
    kept._kept.clear()

    def refuse(*_: object) -> Tensor:
        raise AssertionError("texts were tokenized once more")

    monkeypatch.setattr(kept, "_computed", refuse)
    again, origin = tokenize(TEXTS, FastTokenizer.from_tokenizer(bert()), 6, Cache(tmp_path, 10**8))
    assert origin == "cached" and torch.equal(again.values, first.values) and torch.equal(again.lengths, first.lengths)
    assert torch.equal(again.truncated, first.truncated)


def test_the_key_names_texts_tokenizer_and_length() -> None:
    tokenizer, other = FastTokenizer.from_tokenizer(bert()), FastTokenizer.from_tokenizer(plain())
    keys = [
        key_of(TEXTS, tokenizer, 6), key_of(TEXTS, tokenizer, 7), key_of(TEXTS, other, 6), key_of(TEXTS[:3], tokenizer, 6),
        key_of([("a", "b")], tokenizer, 6), key_of([("a", None), ("b", None)], tokenizer, 6), key_of([("ab", None)], tokenizer, 6),
        key_of([("a", "")], tokenizer, 6), key_of([("a", None)], tokenizer, 6),
    ]  # fmt: skip
    assert len({key.digest for key in keys}) == len(keys)


def test_no_room_in_the_cache_keeps_tokens_in_memory() -> None:
    tokens, origin = tokenize(TEXTS, FastTokenizer.from_tokenizer(bert()), 6, Cache.none())
    assert origin == "decoded" and len(tokens.values) == 20


@pytest.mark.parametrize(
    ("truncated", "note"),
    [(0, None), (120, "max_length 64 cuts 12 % of the texts (120 of 1,000)."), (3, "max_length 64 cuts 3 of 1,000 texts.")],
)
def test_the_share_of_cut_texts_is_a_note(truncated: int, note: str | None) -> None:
    counts = TokenCounts(max_length=64, texts=1_000, truncated=truncated, tokens=9_000, longest=64)
    info = TextRegressionInfo(rows={}, tokens=counts, numbers={}, fingerprint="", split="", weights_sha256=None)
    assert counts.note == note and list(info.notes) == ([note] if note else [])


def rows(write: Write, count: int = 40) -> TextDataset:
    lines = [
        f"{' '.join('abc'[(number + place) % 3] for place in range(1 + number % 9))} {number},{'xy'[number % 2]}" for number in range(count)
    ]
    return find(TextData(path=str(write("rows.csv", "text,label", *lines)), near_duplicates=False))


def test_a_batch_is_padded_to_its_longest_text(write: Write) -> None:
    dataset, tokenizer = rows(write), FastTokenizer.from_tokenizer(bert())
    examples = load(dataset, tokenizer, 8, CPU, Cache.none())
    expected: Examples = examples
    assert isinstance(expected, Ragged) and examples.stored_bytes == examples.tokens.values.nbytes
    assert (examples.augmented, examples.views, examples.origin) == (False, 0, "decoded")
    assert examples.keys.tolist() == [int(content.sha256[:15], 16) for content in dataset.contents]
    chosen = torch.tensor([7, 3, 3, 30])
    batch = examples.take(chosen, None)
    alone = list(tokenizer.encode([dataset.texts[row] for row in chosen.tolist()], 8))
    assert batch.values.dtype == torch.int32 and batch.values.shape == (4, max(len(ids) for ids, _, _ in alone), 2)
    assert batch.lengths.tolist() == examples.lengths[chosen].tolist() == [len(ids) for ids, _, _ in alone]
    for values, length, (ids, segments, _) in zip(batch.values, batch.lengths.tolist(), alone, strict=True):
        assert values[:length].tolist() == [list(pair) for pair in zip(ids, segments, strict=True)]
        assert values[length:].tolist() == [[ids[-1], segments[-1]]] * (len(values) - length), "padding is a token of the vocabulary"


def test_announced_batches_are_the_same(write: Write) -> None:
    examples = load(rows(write), FastTokenizer.from_tokenizer(bert()), 8, CPU, Cache.none())
    batches = list(torch.split(torch.arange(40), 16))
    before = [examples.take(batch, 0).values for batch in batches]
    examples.expect(batches)
    assert all(torch.equal(examples.take(batch, 1).values, values) for batch, values in zip(batches, before, strict=True))


@pytest.mark.gpu
def test_batches_are_gathered_on_the_device(write: Write) -> None:
    dataset, tokenizer, device = rows(write), FastTokenizer.from_tokenizer(bert()), torch.device("cuda")
    here, there = load(dataset, tokenizer, 8, CPU, Cache.none()), load(dataset, tokenizer, 8, device, Cache.none())
    streamed = TextExamples(here.tokens, here.keys, "decoded", device, here.tokens)  # as where the device has no room
    batches = list(torch.split(torch.randperm(40), 12))
    there.expect(batches)
    for batch in batches:
        expected = here.take(batch, None)
        for examples in (there, streamed):
            found = examples.take(batch, None)
            assert found.values.device.type == found.lengths.device.type == "cuda"
            assert torch.equal(found.values.cpu(), expected.values) and torch.equal(found.lengths.cpu(), expected.lengths)


def padding(batches: list[Tensor], lengths: Tensor) -> float:
    """The share of padding in the batches."""
    return 1 - sum(float(lengths[batch].sum()) for batch in batches) / sum(int(lengths[batch].max()) * len(batch) for batch in batches)


def drawn_lengths(count: int) -> Tensor:
    return (torch.randn(count, generator=torch.Generator().manual_seed(0)).exp() * 12).long().clamp(1, 128)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 400, 401, 4_003])
def test_buckets_are_a_permutation_in_whole_batches(count: int) -> None:
    training, lengths = torch.arange(1_000, 1_000 + count), drawn_lengths(1_000 + count)
    batches = bucketed(training, lengths, 8, 3, 1)
    assert sorted(int(row) for batch in batches for row in batch) == training.tolist()
    assert [len(batch) for batch in batches] == [8] * (count // 8) + ([count % 8] if count % 8 else [])
    assert all(torch.equal(one, other) for one, other in zip(batches, bucketed(training, lengths, 8, 3, 1), strict=True))


def test_buckets_differ_by_epoch_and_seed_and_keep_repeated_rows() -> None:
    training, lengths = torch.arange(400), drawn_lengths(400)
    first = torch.cat(bucketed(training, lengths, 8, 0, 1))
    assert not torch.equal(torch.cat(bucketed(training, lengths, 8, 0, 2)), first)
    assert not torch.equal(torch.cat(bucketed(training, lengths, 8, 1, 1)), first)
    repeated = training.repeat_interleave(2)
    assert torch.equal(torch.cat(bucketed(repeated, lengths, 8, 0, 1)).sort().values, repeated)


def test_buckets_need_a_fraction_of_the_padding() -> None:
    training, lengths = torch.arange(4_000), drawn_lengths(4_000)
    plainly = padding(list(torch.split(shuffled(training, 0, 1), 16)), lengths)
    for epoch in range(1, 6):
        assert padding(bucketed(training, lengths, 16, 0, epoch), lengths) < 0.2 * plainly


def test_batches_of_all_lengths_come_at_all_times_and_members_of_a_batch_change() -> None:
    training, lengths = torch.arange(4_000), drawn_lengths(4_000)
    epochs = [bucketed(training, lengths, 16, 0, epoch) for epoch in range(1, 41)]
    means = torch.tensor([[float(lengths[batch].float().mean()) for batch in batches] for batches in epochs])  # [E, 250]
    by_place = means.mean(0)
    assert float((by_place - means.mean()).abs().max()) < 5 * float(means.std()) / 40**0.5, "a place in the epoch has no length of its own"
    together = sum(int(1 in batch) for batches in epochs for batch in batches if 0 in batch)
    assert together < 10, "rows 0 and 1 meet rarely"
    last = [set(bucketed(torch.arange(403), lengths, 8, 0, epoch)[-1].tolist()) for epoch in range(1, 200)]
    lasting = torch.tensor([float(lengths[row]) for some in last for row in some]).mean()
    assert abs(float(lasting - lengths[:403].float().mean())) < 3, "the short last batch has no length of its own"


def test_a_real_tokenizer_and_real_texts(minilm: Path, shared_data: Path, tmp_path: Path) -> None:
    tokenizer = FastTokenizer.of(minilm)
    assert tokenizer.size == 30_522
    (ids, segments, cut), (pair, pair_segments, _) = tokenizer.encode([("Where is my card?", None), ("Where?", "Here.")], 128)
    assert (ids, segments, cut) == ([101, 2073, 2003, 2026, 4003, 1029, 102], [0] * 7, False)
    assert (pair, pair_segments) == ([101, 2073, 1029, 102, 2182, 1012, 102], [0, 0, 0, 0, 1, 1, 1])
    dataset = find(TextData(path=str(shared_data / "text" / "banking77" / "train.csv")))
    examples = load(dataset, tokenizer, 32, CPU, Cache(tmp_path, 10**9))
    assert examples.tokens.counts == TokenCounts(max_length=32, texts=10_003, truncated=701, tokens=154_323, longest=32)
    training = torch.tensor(dataset.rows("train"))
    assert padding(bucketed(training, examples.lengths, 32, 0, 1), examples.lengths) < 0.03
