"""What can be seen of data and weights without torch, before a study is accepted."""
