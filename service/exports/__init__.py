"""What a study hands over: the exported file, its model card, its requirements, and a script that trains without Thawline."""
