"""The micro teacher and base: what they read (`textbook`), how they are built (`build`), the result."""
