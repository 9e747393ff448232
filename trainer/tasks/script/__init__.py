"""Any program as a training run: it gets parameters, prints metrics, and keeps its own checkpoints. See docs/scripts.md."""
