"""Stands for a tool that reads one YAML file and writes a log of its own: fits a polynomial by gradient descent."""

import sys

import numpy as np
import yaml

with open(sys.argv[1]) as file:
    config = yaml.safe_load(file)
model, training = config["model"], config["training"]
random = np.random.default_rng(training["seed"])
x = random.uniform(-1, 1, 200)
y = np.sin(3 * x) + 0.1 * random.normal(size=200)
features = np.polynomial.legendre.legvander(x, model["degree"])
weights, velocity = np.zeros(features.shape[1]), np.zeros(features.shape[1])
print("run", config["run"])
for step in range(1, training["steps"] + 1):
    for _ in range(10):
        gradient = 2 * features[:150].T @ (features[:150] @ weights - y[:150]) / 150
        velocity = training["optimizer"]["momentum"] * velocity - training["optimizer"]["lr"] * gradient
        weights += velocity
    loss = np.mean((features[150:] @ weights - y[150:]) ** 2)
    print(f"step {step:3d} | validation loss {loss:.5f}", flush=True)
