"""Turns off the bars and notices of training libraries: progress is shown by the harness."""


def quiet() -> None:
    """Call before a stage uses transformers, datasets or TRL."""
    import warnings

    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module="trl|transformers|torch")
