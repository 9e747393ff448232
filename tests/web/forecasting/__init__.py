"""A task for tests of the pages: none of its metrics is a share, and the pages have no module for it."""
