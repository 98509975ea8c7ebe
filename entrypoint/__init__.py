"""The program inside the image: chat, battery, models, doctor."""

__version__ = "0.1.0"
