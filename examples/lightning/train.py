"""Fits a function of two numbers with Lightning."""

import os

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import thawline
from thawline import callbacks


class Regression(pl.LightningModule):
    def __init__(self, lr: float, width: int) -> None:
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.mse_loss(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


params = {"lr": 0.01, "width": 16, "epochs": 8} | thawline.params()
pl.seed_everything(int(os.environ.get("THAW_SEED", 0)), verbose=False)
x = torch.rand(600, 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
data = TensorDataset(x, torch.sin(x[:, :1] * x[:, 1:]))
train, validation = torch.utils.data.random_split(data, [500, 100], torch.Generator().manual_seed(0))
trainer = pl.Trainer(
    max_epochs=params["epochs"],
    callbacks=[callbacks.lightning()],
    default_root_dir=os.environ.get("THAW_OUT"),
    accelerator="cpu",
    enable_progress_bar=False,
    logger=False,
)
trainer.fit(Regression(params["lr"], params["width"]), DataLoader(train, 25, shuffle=True), DataLoader(validation, 100))
print("trained", trainer.current_epoch, "epochs")
