"""A study that is resumed takes the images that it finds, whatever its trials were trained on."""

SCENARIO = "tests/chaos/test_f20_reopening.py -k 'sqlite and images_change'"


def plant() -> None:
    from trainer.configuration import DatasetInfo

    DatasetInfo.differences_from = lambda self, other: []  # type: ignore[method-assign]
