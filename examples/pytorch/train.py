"""Separates two spirals with PyTorch. An ordinary script: options on the command line, metrics on standard output."""

import argparse
import math

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--hidden", type=int, default=32)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(args.seed)

angle = torch.rand(1200) * 2 * math.pi
label = torch.arange(1200) % 2
radius = angle / 6 + 0.02 * torch.randn(1200)
x = torch.stack([radius * torch.cos(angle + math.pi * label), radius * torch.sin(angle + math.pi * label)], dim=1)
train_x, train_y, test_x, test_y = x[:1000], label[:1000], x[1000:], label[1000:]

model = nn.Sequential(nn.Linear(2, args.hidden), nn.Tanh(), nn.Linear(args.hidden, args.hidden), nn.Tanh(), nn.Linear(args.hidden, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
for epoch in range(1, args.epochs + 1):
    for batch in torch.randperm(1000).split(20):
        loss = nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_x).argmax(dim=1) == test_y).float().mean().item()
    print(f"epoch={epoch} loss={loss.item():.4f} accuracy={accuracy:.4f}")
