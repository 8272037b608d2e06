"""MuLaP: learn a music-audio encoder from tracks and the sentences about them."""

__version__ = "0.1.0"
