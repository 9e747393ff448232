"""Classifies digits with Keras 3, on the backend that KERAS_BACKEND names. An interrupted trial resumes after its last whole epoch."""

import os
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

import thawline
from thawline import callbacks

params = {"lr": 0.001, "units": 64, "dropout": 0.2, "optimizer": "adam", "epochs": 12} | thawline.params()
folder = thawline.checkpoint_dir()
keras.utils.set_random_seed(int(os.environ.get("THAW_SEED", 0)))

images, labels = load_digits(return_X_y=True)
images = images.astype("float32") / 16
train, validation, test = np.split(np.random.default_rng(0).permutation(len(images)), [1000, 1400])
scored = test if os.environ.get("THAW_PHASE") == "confirm" else validation


class Checkpoint(keras.callbacks.Callback):
    """Saves model and optimizer after each epoch but the last. The file is renamed when it is complete."""

    def on_epoch_end(self, epoch, logs=None):
        if folder and epoch + 1 < params["epochs"]:
            self.model.save(folder / "new.keras")
            os.replace(folder / "new.keras", folder / "checkpoint.keras")


epochs_done = 0
if folder and (folder / "checkpoint.keras").exists():
    model = keras.models.load_model(folder / "checkpoint.keras")
    epochs_done = int(model.optimizer.iterations) // -(-len(train) // 32)
    print("resumed after epoch", epochs_done)
else:
    hidden = keras.layers.Dense(params["units"], activation="relu")
    model = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dropout(params["dropout"]), keras.layers.Dense(10)])
    optimizer = keras.optimizers.get({"class_name": params["optimizer"], "config": {"learning_rate": params["lr"]}})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
history = model.fit(
    images[train],
    labels[train],
    batch_size=32,
    epochs=params["epochs"],
    initial_epoch=epochs_done,
    validation_data=(images[scored], labels[scored]),
    callbacks=[callbacks.keras(), Checkpoint()],
    verbose=2,
)
model.save(Path(os.environ.get("THAW_OUT", ".")) / "model.keras")
print("trained", len(history.epoch), "epochs with", keras.backend.backend())
