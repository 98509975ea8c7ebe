"""The program inside the image: chat, battery, models, doctor."""

__version__ = "0.2.0"
