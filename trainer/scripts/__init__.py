"""Runs training scripts of users as trials: what a script is given, what is read from it, and the life of its processes. No torch."""
