"""Trains a small BERT with random weights, by the Trainer of Transformers: which of two tokens is more frequent?"""

import os

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import thawline
from thawline import callbacks

params = {"lr": 0.001, "layers": 1, "epochs": 6} | thawline.params()
seed = int(os.environ.get("THAW_SEED", 0))
tokens = torch.randint(0, 2, (700, 9), generator=torch.Generator().manual_seed(0))
examples = [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, (tokens.sum(dim=1) > 4).long(), strict=True)]
torch.manual_seed(seed)
config = BertConfig(
    vocab_size=2,
    hidden_size=16,
    num_hidden_layers=params["layers"],
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
)
trainer = Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(
        output_dir=os.environ.get("THAW_OUT", "output"),
        num_train_epochs=params["epochs"],
        learning_rate=params["lr"],
        per_device_train_batch_size=50,
        per_device_eval_batch_size=200,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    ),
    train_dataset=examples[:500],
    eval_dataset=examples[500:],
    compute_metrics=lambda given: {"accuracy": (given.predictions.argmax(axis=1) == given.label_ids).mean()},
    callbacks=[callbacks.transformers()],
)
trainer.train()
print("trained", round(trainer.state.epoch), "epochs")
