"""Tokenizes texts once, and keeps the tokens without padding in the cache."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from torch import Tensor

from trainer.cache import Cache, CacheKey
from trainer.data.text.near_duplicates import Texts
from trainer.files import UnfitFile, read_regular
from trainer.models import UnfitModel
from trainer.sequences import starts_of
from trainer.tasks.text.data import TokenCounts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VERSION = 1  # raise it when tokens differ; part of the cache key
FILE = "tokenizer.json"
MOST_FILE_BYTES = 256 * 2**20
BATCH = 1_000  # texts tokenized at a time
KEPT = 4  # data sets or lengths kept by this process
NEEDS = 'texts need the packages of the extra text: pip install "thawline[text]"'


@dataclass(frozen=True, slots=True, eq=False)
class FastTokenizer:
    """A tokenizer of the package tokenizers, without padding."""

    digest: str  # SHA-256 of its description
    library: str  # version of the package
    _tokenizer: "Tokenizer"
    _filler: int  # token of a text that has none, such as an empty one for a tokenizer without special tokens

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The tokenizer in a model's folder, from tokenizer.json or, by the package transformers, from the files of a slow tokenizer.

        Raises UnfitModel.
        """
        try:
            import tokenizers
        except ImportError:
            raise UnfitModel(NEEDS) from None
        try:
            found = tokenizers.Tokenizer.from_buffer(read_regular(folder / FILE, MOST_FILE_BYTES))
        except FileNotFoundError:
            found = _converted(folder)
        except UnfitFile as error:
            raise UnfitModel(f"{folder / FILE} cannot be used: {error.strerror}") from None
        except OSError as error:
            raise UnfitModel(f"{folder / FILE} cannot be read: {error.strerror}") from None
        except Exception as error:  # the package raises plain exceptions
            raise UnfitModel(f"{folder / FILE} is no tokenizer that the package tokenizers can read: {error}") from None
        return cls.from_tokenizer(found)

    @classmethod
    def from_tokenizer(cls, tokenizer: "Tokenizer") -> Self:
        """From a tokenizer of the package tokenizers, which must not be changed any more."""
        import tokenizers

        tokenizer.no_padding()
        tokenizer.no_truncation()
        special = [found for name in ("</s>", "<eos>", "<|endoftext|>", "[SEP]") if (found := tokenizer.token_to_id(name)) is not None]
        digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        return cls(digest, tokenizers.__version__, tokenizer, special[0] if special else 0)

    @property
    def size(self) -> int:
        """The number of rows that an embedding of the tokens needs: the highest token, plus 1."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, texts: Sequence[Texts], max_length: int | None) -> Iterator[tuple[list[int], list[int], bool]]:
        """For each text or pair its tokens, their segments, and whether it was cut to `max_length` tokens. None: nothing is cut.

        Special tokens and the segments of a pair are those of the tokenizer's template. Of a pair, the longer text is cut first. Raises
        UnfitModel if `max_length` leaves no token of the texts.
        """
        if max_length is None:
            self._tokenizer.no_truncation()
        else:
            if max_length <= (special := self._tokenizer.num_special_tokens_to_add(any(second is not None for _, second in texts))):
                raise UnfitModel(f"max_length {max_length} leaves no token of the texts besides {special} special tokens; raise it")
            self._tokenizer.enable_truncation(max_length)
        for first in range(0, len(texts), BATCH):
            batch = [text if second is None else (text, second) for text, second in texts[first : first + BATCH]]
            for found in self._tokenizer.encode_batch(batch):
                ids = found.ids
                yield (ids, found.type_ids, bool(found.overflowing)) if ids else ([self._filler], [0], False)


def _converted(folder: Path) -> "Tokenizer":
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise UnfitModel(NEEDS) from None
    try:
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        backend: Tokenizer = found.backend_tokenizer
    except Exception as error:  # the package raises exceptions of many kinds
        text = f"{folder} has no {FILE}, and transformers reads no fast tokenizer from it: {error}"
        raise UnfitModel(f"{text}; save it with save_pretrained of a fast tokenizer") from None
    return backend


def token_lengths(texts: Sequence[Texts], tokenizer: FastTokenizer) -> list[int]:
    """The number of tokens of each text, special ones included, if none is cut."""
    return [len(ids) for ids, _, _ in tokenizer.encode(texts, None)]


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of N texts, one text after the other, without padding."""

    values: Tensor  # int32 [sum of lengths, 2]: token and segment
    lengths: Tensor  # int64 [N]
    truncated: Tensor  # bool [N]: whether the text was cut
    max_length: int

    @property
    def starts(self) -> Tensor:
        """The position of each text's first token in `values`, int64 [N]."""
        return starts_of(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens."""
        return self.values.nbytes

    @property
    def counts(self) -> TokenCounts:
        """Numbers for messages."""
        return TokenCounts(
            max_length=self.max_length,
            texts=len(self.lengths),
            truncated=int(self.truncated.sum()),
            tokens=len(self.values),
            longest=int(self.lengths.max()) if len(self.lengths) else 0,
        )


_kept: OrderedDict[str, Tokens] = OrderedDict()


def tokenize(
    texts: Sequence[Texts], tokenizer: FastTokenizer, max_length: int, cache: Cache
) -> tuple[Tokens, Literal["decoded", "cached"]]:
    """The tokens of the texts: kept by this process, found in the cache, or computed and stored in it. Raises UnfitModel."""
    key = key_of(texts, tokenizer, max_length)
    if (known := _kept.get(key.digest)) is not None:
        _kept.move_to_end(key.digest)
        cache.find(key)  # marks the entry as used
        return known, "cached"
    while len(_kept) >= KEPT:
        _kept.popitem(last=False)
    found, count = cache.find(key), len(texts)
    table = _stored(_computed(texts, tokenizer, max_length), key, cache) if found is None else found
    tokens = Tokens(table[count:], table[:count, 0].long(), table[:count, 1].bool(), max_length)
    _kept[key.digest] = tokens
    return tokens, "decoded" if found is None else "cached"


def key_of(texts: Sequence[Texts], tokenizer: FastTokenizer, max_length: int) -> CacheKey:
    """The cache key: the texts, the tokenizer and the length."""
    contents = hashlib.sha256()
    for pair in texts:
        for text in pair:
            encoded = b"" if text is None else text.encode()
            contents.update(f"{'-' if text is None else len(encoded)}:".encode() + encoded)
    return CacheKey(
        "tokens",
        {
            "texts": contents.hexdigest(),
            "tokenizer": tokenizer.digest,
            "library": [tokenizer.library, VERSION],
            "max_length": max_length,
        },
    )


def _computed(texts: Sequence[Texts], tokenizer: FastTokenizer, max_length: int) -> Tensor:
    """int32 [N + sum of lengths, 2]: first the length of each text and whether it was cut, then its tokens and segments."""
    heads, parts = np.empty((len(texts), 2), dtype=np.int32), list[np.ndarray[tuple[int, int], np.dtype[np.int32]]]()
    for row, (ids, segments, cut) in enumerate(tokenizer.encode(texts, max_length)):
        heads[row] = len(ids), cut
        parts.append(np.array((ids, segments), dtype=np.int32).T)
    return torch.from_numpy(np.concatenate((heads, *parts)))


def _stored(table: Tensor, key: CacheKey, cache: Cache) -> Tensor:
    """The table, mapped from the cache if it fits."""
    if (draft := cache.begin(key, table.shape, table.dtype)) is None:
        return table
    with draft:
        draft.tensor.copy_(table)
        return draft.commit()
